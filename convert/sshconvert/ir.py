"""ONNX to OpenVINO IR, through the living `openvino` package."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sshconvert.libraries import import_openvino
from sshconvert.passes.fp16 import SMALLEST_HALVED

# Model API, and what is built on it, reads the contract from this part of the IR.
MODEL_INFO: Final = "model_info"

# Where some versions copy the metadata of the ONNX file, whose precision is not that of the IR.
FRAMEWORK: Final = "framework"

# In the .xml, where a constant lies in the .bin.
_CONSTANT: Final = re.compile(rb'offset="(\d+)" size="(\d+)"')

# Operations whose weights FP16 compresses, if they are large.
WEIGHTED: Final = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


def read_model_info(path: Path) -> dict[str, str]:
    """The metadata of an IR whose .xml has been screened."""
    info = ET.parse(path).find(f"rt_info/{MODEL_INFO}")  # noqa: S314  # screened
    return {entry.tag: entry.get("value", "") for entry in ([] if info is None else info)}


class IntermediateRepresentation:
    """An ONNX file as an optimised OpenVINO model, ready to be saved in FP32 and then, if wanted, in FP16."""

    def __init__(self, onnx_path: Path, *, name: str, layout: str = "NCHW") -> None:
        """Read an ONNX file and apply what OpenVINO's own model conversion applies after reading.

        `layout` is declared for the input. Names of operations are those of the
        ONNX file, or derived from the operation that they feed, so that the same file always gives the same IR.
        """
        self._openvino = import_openvino()
        # Private by name, but the only door to the optimisations: `convert_model` goes through it too.
        from openvino._offline_transformations import apply_moc_transformations

        self._model = self._openvino.Core().read_model(str(onnx_path))
        apply_moc_transformations(self._model, cf=False, smart_reshape=True)
        self._model.set_friendly_name(name)
        for parameter in self._model.get_parameters():
            parameter.set_layout(self._openvino.Layout(layout))
        if self._model.has_rt_info(FRAMEWORK):
            del self._model.rt_info[FRAMEWORK]
        self._name_constants()

    def save(self, path: Path, info: Mapping[str, str]) -> None:
        """Write `path` (.xml) and the .bin beside it, with `info` as `rt_info/model_info`.

        Raises OSError if they cannot be written, or were not written to their end, whatever OpenVINO says.
        """
        for key, value in info.items():
            self._model.set_rt_info(value, [MODEL_INFO, key])
        try:
            self._openvino.save_model(self._model, str(path), compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(f"OpenVINO: {' '.join(str(error).split())}") from error
        _check_whole(path)

    def compress_to_fp16(self) -> None:
        """Store the large weights of convolutions as float16, to be decompressed where they are used.

        OpenVINO's own compression rounds every constant, the mean too (116.779 to 116.75); this keeps exact what
        `sshconvert.passes.fp16` keeps.
        """
        from openvino._offline_transformations import compress_model_transformation

        exact = self._exact_constants()
        compress_model_transformation(self._model)
        for name, (consumer, port, constant) in exact.items():
            constant.set_friendly_name(name)
            consumer.input(port).replace_source_output(constant.output(0))
        self._name_constants()

    def _exact_constants(self) -> dict[str, tuple[Any, int, Any]]:
        """By name: the operation that reads the constant, the number of its input, and the constant."""
        found = {}
        for operation in self._model.get_ops():
            weighted = operation.get_type_name() in WEIGHTED
            for port, source in enumerate(operation.input_values()):
                constant = source.get_node()
                if constant.get_type_name() != "Constant":  # others may have no shape yet
                    continue
                if not (weighted and math.prod(source.get_shape()) >= SMALLEST_HALVED):
                    found[constant.get_friendly_name()] = (operation, port, constant)
        return found

    def _name_constants(self) -> None:
        """Name what OpenVINO folded after its reader: its own names count up in the process, so no two runs agree.

        What it put in the place of others has their tensor's name, and is called that. From the end on, because what is
        named after its reader may itself be read from.
        """
        for node in self._model.get_ops():
            if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
                names = {name for output in node.outputs() for name in output.get_names()}
                node.set_friendly_name(min(names, default=node.get_friendly_name()))
        for operation in reversed(self._model.get_ordered_ops()):
            for port, source in enumerate(operation.input_values()):
                if not source.get_names():
                    node = source.get_node()
                    node.set_friendly_name(f"{operation.get_friendly_name()}/{node.get_type_name()}_{port}")


def _check_whole(path: Path) -> None:
    """Hold the two files to one another: the .xml closes its root, and the .bin holds all that the .xml refers to."""
    text = path.read_bytes()
    ends = [int(offset) + int(size) for offset, size in _CONSTANT.findall(text)]
    if not text.rstrip().endswith(b"</net>") or path.with_suffix(".bin").stat().st_size < max(ends, default=0):
        raise OSError("OpenVINO wrote only a part")
