"""Validation of a converted model before a runtime loads it. Runtimes trust a file, and open others that it names.

An allow-list of structure, operators and attributes accepts the files of sshtool and of common optimisers. Tensor sizes
must be in proportion to the input. The validation rejects files that make a runtime crash, hang, allocate too much,
print, or read other files. It cannot find all such files: `sshtool.sandbox` limits the runtime as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from sshconvert.errors import ArtifactError
from sshconvert.recognition import IR, NCNN, ONNX, mistaken
from sshconvert.schema import one_line
from sshconvert.validation import ir, ir_sizes, ncnn, onnx as onnx_file

if TYPE_CHECKING:
    import onnx


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse and check an .onnx file: its operators, the sizes of its tensors and its weights.

    The weights are in the file, or in the one weights file beside it. Raises ArtifactError.
    """
    try:
        return onnx_file.parse(path)
    except (OSError, ValueError) as error:
        raise _refused(path, error, ONNX) from None


def check_ir(path: Path) -> None:
    """Check an OpenVINO IR, whose .xml refers only to the .bin beside it. Raises ArtifactError."""
    try:
        ir.check(path)
    except expat.ExpatError as error:
        raise _refused(path, ValueError(f"is not well-formed XML ({one_line(error)})"), IR) from None
    except (OSError, ValueError) as error:
        raise _refused(path, error, IR) from None


def check_ir_sizes(path: Path, model: Any) -> None:
    """Check the tensor sizes and the work of a file's `openvino.Model`. Raises ArtifactError."""
    try:
        ir_sizes.check(model)
    except ValueError as error:
        raise _refused(path, error, IR) from None


def check_ncnn(path: Path) -> ncnn.NcnnNetwork:
    """Check an ncnn network, whose .param has a .bin with exactly its weights beside it. Raises ArtifactError."""
    try:
        return ncnn.read(path)
    except (OSError, ValueError) as error:
        raise _refused(path, error, NCNN) from None


def _refused(path: Path, error: OSError | ValueError, expected: str) -> ArtifactError:
    if actual := mistaken(path, expected):
        return ArtifactError(f"{path}: is {actual}, and not {expected}; give a file of `sshtool convert`")
    reason = error.strerror if isinstance(error, OSError) else error
    return ArtifactError(f"{path}: {one_line(reason)}; convert again")
