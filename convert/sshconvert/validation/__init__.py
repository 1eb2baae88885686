"""A look at a converted model before a runtime gets it: runtimes trust a file, and follow it to others.

What is let through is what sshtool writes and what common optimisers make of it: an allow-list of structure, operators
and attributes, and sizes in proportion to the input. It keeps runtimes from what they would crash on, run for ever
with, allocate for, print about or fetch from elsewhere. It is no proof, so `sshtool.sandbox` runs them apart.
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
    """Parse and check an .onnx file: one input of four dimensions, weights of the sizes that they claim, and inside, or
    in the one file beside it where `sshconvert` puts those of a large model.

    Raises ArtifactError.
    """
    try:
        return onnx_file.parse(path)
    except (OSError, ValueError) as error:
        raise _refused(path, error, ONNX) from None


def check_ir(path: Path) -> None:
    """Check an OpenVINO IR: an .xml that stands alone, and a .bin beside it that has all that it refers to.

    Raises ArtifactError.
    """
    try:
        ir.check(path)
    except expat.ExpatError as error:
        raise _refused(path, ValueError(f"is not well-formed XML ({one_line(error)})"), IR) from None
    except (OSError, ValueError) as error:
        raise _refused(path, error, IR) from None


def check_ir_sizes(path: Path, model: Any) -> None:
    """Check how much an `openvino.Model`, read from that file, computes. Raises ArtifactError."""
    try:
        ir_sizes.check(model)
    except ValueError as error:
        raise _refused(path, error, IR) from None


def _refused(path: Path, error: OSError | ValueError, wanted: str) -> ArtifactError:
    if what := mistaken(path, wanted):
        return ArtifactError(f"{path}: is {what}, and not {wanted}; give what `sshtool convert` wrote")
    reason = error.strerror if isinstance(error, OSError) else error
    return ArtifactError(f"{path}: {one_line(reason)}; convert again")
