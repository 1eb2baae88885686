"""A network to ONNX: `export` emits the nodes, passes change the model, `OnnxModel.write` streams it to a file."""
