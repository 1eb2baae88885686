"""sshconvert: MXNet checkpoints to ONNX and OpenVINO IR, without MXNet. Files in, files out; no network."""

__version__ = "0.1.0"
