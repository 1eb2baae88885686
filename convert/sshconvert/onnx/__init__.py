"""ONNX: the model in memory and its file (`model`), and the construction of nodes and constants (`builder`)."""
