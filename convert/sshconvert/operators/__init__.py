"""What each MXNet operator means: attributes, shapes, cost, ONNX form. An operator is one class, a topic one module.

The rules are those of the parameter structures under `src/operator` of MXNet 1.9.1. Layouts are NC followed by the
spatial axes.

Costs are counted for each element of the output, as Open Model Zoo's model cards do: convolution
2 * (Cin / groups) * kernel, plus 1 for a bias; deconvolution the same, divided by the strides; ReLU 2; max pooling
the kernel; elementwise addition 1; softmax 5; moving data 0.
"""
