"""What a converted model's file says of itself, read without a runtime."""

from __future__ import annotations

from pathlib import Path

from sshconvert.formats.openvino import read_model_info
from sshtool.model_validation import check_ir, read_onnx


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an .onnx file or of an IR's .xml. Raises ArtifactError if it is no honest one."""
    if path.suffix.lower() == ".onnx":
        return {entry.key: entry.value for entry in read_onnx(path).metadata_props}
    check_ir(path)
    return read_model_info(path)
