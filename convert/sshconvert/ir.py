"""Creating OpenVINO IR from an ONNX file with the `openvino` package."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sshconvert.libraries import import_openvino
from sshconvert.model_api import MODEL_INFO
from sshconvert.operators.registry import weighted_operations
from sshconvert.passes.fp16 import SMALLEST_HALVED

# The part of the IR that holds the contract. Model API, and applications like it, read another one (`model_api`).
CONTRACT: Final = "sshtool"

# Some versions of OpenVINO copy the ONNX file's metadata here, with a precision that is not the IR's.
FRAMEWORK: Final = "framework"

# The position of a constant in the .bin, as the .xml states it.
_CONSTANT: Final = re.compile(rb'offset="(\d+)" size="(\d+)"')


def read_info(path: Path, part: str) -> dict[str, str]:
    """Return the entries of a part of `rt_info` of an IR whose .xml has been screened."""
    info = ET.parse(path).find(f"rt_info/{part}")  # noqa: S314  # screened
    return {entry.tag: entry.get("value", "") for entry in ([] if info is None else info)}


class IntermediateRepresentation:
    """An ONNX file as an optimised OpenVINO model. Save it in FP32 first, then compress it and save it in FP16."""

    def __init__(self, onnx_path: Path, *, name: str, layout: str = "NCHW") -> None:
        """Read an ONNX file and apply the optimisations of OpenVINO's own model conversion.

        The inputs declare `layout` unless it is empty. An operation has its name in the ONNX file or a name derived
        from its reader, so the same file always gives the same IR.
        """
        self._openvino = import_openvino()
        # The module is private, but it is the only access to the optimisations; `convert_model` uses it too.
        from openvino._offline_transformations import apply_moc_transformations

        self._model = self._openvino.Core().read_model(str(onnx_path))
        apply_moc_transformations(self._model, cf=False, smart_reshape=True)
        self._model.set_friendly_name(name)
        for parameter in self._model.get_parameters() if layout else ():
            parameter.set_layout(self._openvino.Layout(layout))
        if self._model.has_rt_info(FRAMEWORK):
            del self._model.rt_info[FRAMEWORK]
        self._name_constants()

    def save(
        self, path: Path, contract: Mapping[str, str], model_info: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Write `path` (.xml) and the .bin beside it, with these entries of `rt_info`. Raises OSError.

        OpenVINO reports no error for a full disk, so this method checks the ends of the files.
        """
        for part, entries in ((CONTRACT, contract), (MODEL_INFO, model_info)):
            for key, value in entries.items():
                self._model.set_rt_info(value, [part, key])
        try:
            self._openvino.save_model(self._model, str(path), compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(f"OpenVINO: {' '.join(str(error).split())}") from error
        _check_whole(path)

    def compress_to_fp16(self) -> None:
        """Store the large weights of convolutions as float16, each with a node that decompresses it.

        OpenVINO's own compression rounds every constant, even the mean (116.779 to 116.75). This method keeps the same
        constants exact as `sshconvert.passes.fp16`.
        """
        from openvino._offline_transformations import compress_model_transformation

        exact = self._exact_constants()
        compress_model_transformation(self._model)
        for name, (consumer, port, constant) in exact.items():
            constant.set_friendly_name(name)
            consumer.input(port).replace_source_output(constant.output(0))
        self._name_constants()

    def _exact_constants(self) -> dict[str, tuple[Any, int, Any]]:
        """Return the constants to keep by name: the reader of each, the number of its input, and the constant."""
        constants = {}
        weighted_names = weighted_operations()
        for operation in self._model.get_ops():
            weighted = operation.get_type_name() in weighted_names
            for port, source in enumerate(operation.input_values()):
                constant = source.get_node()
                if constant.get_type_name() != "Constant":  # other sources may have no shape yet
                    continue
                if not (weighted and math.prod(source.get_shape()) >= SMALLEST_HALVED):
                    constants[constant.get_friendly_name()] = (operation, port, constant)
        return constants

    def _name_constants(self) -> None:
        """Replace names with a counter of the process, such as `Multiply_6906`, by names that all runs share.

        A fused operation takes the name of its tensor, a folded constant a name from its reader. Readers come first,
        because the reader of a constant may be a constant itself.
        """
        for node in self._model.get_ops():
            if re.fullmatch(r"[A-Z][A-Za-z]*_\d+", node.get_friendly_name()):
                names = {name for output in node.outputs() for name in output.get_names()}
                node.set_friendly_name(min(names, default=node.get_friendly_name()))
        for operation in reversed(self._model.get_ordered_ops()):
            for port, source in enumerate(operation.input_values()):
                if not source.get_names():
                    node = source.get_node()
                    node.set_friendly_name(f"{operation.get_friendly_name()}/{node.get_type_name()}_{port}")


def _check_whole(path: Path) -> None:
    """Raise OSError unless the .xml closes its root and the .bin holds every constant of the .xml."""
    text = path.read_bytes()
    ends = [int(offset) + int(size) for offset, size in _CONSTANT.findall(text)]
    if not text.rstrip().endswith(b"</net>") or path.with_suffix(".bin").stat().st_size < max(ends, default=0):
        raise OSError("OpenVINO wrote only a part")
