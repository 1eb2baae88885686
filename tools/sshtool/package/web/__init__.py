"""The page of the layout `web`: it detects in a picture, in the browser, with ONNX Runtime Web."""
