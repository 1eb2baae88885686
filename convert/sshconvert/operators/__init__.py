"""MXNet operators: attributes, shapes, cost and ONNX nodes. Each operator is one class, each topic one module.

The rules come from the parameter structures under `src/operator` of MXNet 1.9.1. Layouts are NC followed by the spatial
axes. Costs count operations for each element of the output, as Open Model Zoo's model cards do.
"""
