"""OpenVINO IR: an .xml with the network, and a .bin beside it with the weights."""

from __future__ import annotations

import contextlib
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Contract, Tensor
from sshconvert.editable import EditableModel
from sshconvert.errors import ArtifactError
from sshconvert.files import replace_files
from sshconvert.formats.base import ExportedNetwork, Format, Structure
from sshconvert.formats.registry import FORMATS
from sshconvert.ir import CONTRACT, IntermediateRepresentation, read_info
from sshconvert.libraries import import_openvino
from sshconvert.model_api import MODEL_INFO
from sshconvert.network import Network
from sshconvert.options import Precision
from sshconvert.rounded.places import Places
from sshconvert.rounding import Rounding
from sshconvert.schema import one_line

_TYPES = {"f32": "float32", "u8": "uint8", "i32": "int32"}

# Types of constants that are sizes and positions, not weights; layers that compute nothing.
_COUNTS: Final = ("i64", "i32", "boolean")
_NO_OPERATORS: Final = ("Parameter", "Const", "Result")


@FORMATS.register("openvino")
class OpenVinoIr(Format):
    """OpenVINO converts the ONNX file. The contract is `rt_info/sshtool`; Model API reads `rt_info/model_info`."""

    key = "openvino"
    suffix = ".xml"
    companion_suffixes = (".bin",)
    is_text = True
    is_editable = True
    reads_file = True

    @classmethod
    def require(cls) -> None:
        import_openvino()

    @classmethod
    def write(cls, network: ExportedNetwork, contracts: Mapping[Path, Contract]) -> None:
        is_float = network.precision == Precision.FP32.value
        onnx_file = network.linked if is_float else network.path
        network.progress("optimising for OpenVINO")
        layout = next(iter(contracts.values())).layout
        ir = IntermediateRepresentation(onnx_file, name=network.name, layout=layout)
        # Compression changes the model in memory, so FP16 comes last.
        for path, contract in sorted(contracts.items(), key=lambda item: item[1].precision == Precision.FP16.value):
            network.progress(f"writing IR {contract.precision}")
            if contract.precision == Precision.FP16.value:
                ir.compress_to_fp16()
            with cls._staged(path, network.staging / contract.precision) as part:
                ir.save(part, cls.entries(contract), contract.model_info)

    @classmethod
    def screen(cls, path: Path) -> None:
        _screen(path)

    @classmethod
    def read_contract(cls, path: Path) -> Contract:
        metadata = cls.read_metadata(path)
        model = _read(path)
        inputs = tuple(_tensor(port, port.get_node().get_friendly_name()) for port in model.inputs)
        return Contract(metadata, inputs, tuple(map(_tensor, model.outputs)), read_info(path, MODEL_INFO))

    @classmethod
    def read_metadata(cls, path: Path) -> Mapping[str, str]:
        _screen(path)
        return read_info(path, CONTRACT)

    @classmethod
    def read_structure(cls, path: Path) -> Structure:
        _screen(path)
        layers = ET.parse(path).findall("layers/layer")  # noqa: S314  # screened
        counts = Counter(layer.get("type", "") for layer in layers)
        constants = [
            data for layer in layers if layer.get("type") == "Const" if (data := layer.find("data")) is not None
        ]
        weights = sum(_elements(data) for data in constants if data.get("element_type") not in _COUNTS)
        operators = {name: count for name, count in sorted(counts.items()) if name not in _NO_OPERATORS}
        return Structure(operators, weights / 1e6)

    @classmethod
    def is_quantized(cls, path: Path) -> bool:
        layers = ET.parse(path).iterfind("layers/layer")  # noqa: S314  # screened
        return any(layer.get("type") == "FakeQuantize" for layer in layers)

    @classmethod
    def read_rounding(cls, path: Path, network: Network, parameters: Mapping[str, Array]) -> Rounding:
        from sshconvert.rounded.openvino import read_rounding

        _screen(path)
        return read_rounding(_read(path), Places(network, parameters, path))

    @classmethod
    def edit(cls, path: Path) -> EditableModel[Any]:
        from sshconvert.editing.openvino import EditableIr

        return EditableIr(path)

    @classmethod
    @contextlib.contextmanager
    def _staged(cls, path: Path, folder: Path) -> Iterator[Path]:
        """Yield a path for the .xml, and move both files into place without ever mixing an old and a new one."""
        folder.mkdir()
        part = folder / path.name
        yield part
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files([part, *cls.companions(part)], [path, *cls.companions(path)], folder.parent)


def _elements(data: ET.Element) -> int:
    """Return the number of elements of a constant of a screened file."""
    return math.prod(int(size) for size in data.get("shape", "").split(",") if size.strip())


def _read(path: Path) -> Any:
    try:
        return import_openvino().Core().read_model(path)  # a path may have bytes that a string cannot
    except RuntimeError as error:
        raise ArtifactError(f"{path}: OpenVINO cannot read it ({one_line(error)}); convert again") from None


def _tensor(port: Any, usual: str = "") -> Tensor:
    """Return an input or output. Of several names, an input has the `usual` one, that of its layer."""
    kind = port.element_type.get_type_name()
    shape = tuple(size.get_length() if size.is_static else FREE for size in port.partial_shape)
    name = usual if usual in port.get_names() else port.any_name
    return Tensor(name, _TYPES.get(kind, kind), shape)


def _screen(path: Path) -> None:
    from sshconvert.validation import check_ir  # a conversion reads no file of a stranger

    check_ir(path)
