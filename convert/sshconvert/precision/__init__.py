"""Passes that change how precisely weights are stored."""

from typing import Final

# FP16 keeps weights of fewer elements exact, in ONNX and IR alike.
SMALLEST_HALVED: Final = 32768
