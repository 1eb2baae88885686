"""Validation of a converted model before a runtime loads it: runtimes trust a file, and open others that it names.

An allow-list of structure, operators and attributes accepts the files that sshtool writes, and those that common
optimisers make of them. Sizes have to be in proportion to the input. This rejects files that make a runtime crash, run
for ever, allocate too much, print, or read other files. It is no proof: `sshtool.sandbox` limits the runtime as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from sshconvert.errors import ArtifactError
from sshconvert.recognition import IR, ONNX, mistaken
from sshconvert.schema import one_line
from sshconvert.validation import ir, ir_sizes, onnx as onnx_file

if TYPE_CHECKING:
    import onnx


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse and check an .onnx file.

    It has one input of four dimensions. The weights have the sizes that they claim, and are inside or in the one file
    beside it that a large model has.

    Raises ArtifactError.
    """
    try:
        return onnx_file.parse(path)
    except (OSError, ValueError) as error:
        raise _refused(path, error, ONNX) from None


def check_ir(path: Path) -> None:
    """Check an OpenVINO IR: the .xml refers to nothing but the .bin beside it, which holds all its constants.

    Raises ArtifactError.
    """
    try:
        ir.check(path)
    except expat.ExpatError as error:
        raise _refused(path, ValueError(f"is not well-formed XML ({one_line(error)})"), IR) from None
    except (OSError, ValueError) as error:
        raise _refused(path, error, IR) from None


def check_ir_sizes(path: Path, model: Any) -> None:
    """Check how much the `openvino.Model` of a file computes. Raises ArtifactError."""
    try:
        ir_sizes.check(model)
    except ValueError as error:
        raise _refused(path, error, IR) from None


def _refused(path: Path, error: OSError | ValueError, wanted: str) -> ArtifactError:
    if what := mistaken(path, wanted):
        return ArtifactError(f"{path}: is {what}, and not {wanted}; give what `sshtool convert` wrote")
    reason = error.strerror if isinstance(error, OSError) else error
    return ArtifactError(f"{path}: {one_line(reason)}; convert again")
