"""ONNX: one file, and a second one with the weights of a model beyond the limit of a protobuf message."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Contract, Tensor
from sshconvert.editable import EditableModel, NotThereError
from sshconvert.formats.base import ExportedNetwork, Format, Structure
from sshconvert.formats.registry import FORMATS
from sshconvert.model_api import split_entries
from sshconvert.network import Network
from sshconvert.onnx.model import weights_path
from sshconvert.reading import is_there
from sshconvert.rounded.places import Places
from sshconvert.rounding import Rounding

# Types of constants that are sizes and positions, not weights.
_COUNTS: Final = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


@FORMATS.register("onnx")
class Onnx(Format):
    """The weights are float32, float16 or int8 initializers; the contract is `metadata_props`."""

    key = "onnx"
    suffix = ".onnx"
    is_editable = True

    @classmethod
    def companions(cls, path: Path) -> tuple[Path, ...]:
        weights = weights_path(path)
        return (weights,) if is_there(weights) else ()

    @classmethod
    def main_of(cls, path: Path) -> Path | None:
        main = path.with_suffix("")
        return main if path == weights_path(main) and main.suffix.lower() == cls.suffix else None

    @classmethod
    def write(cls, network: ExportedNetwork, contracts: Mapping[Path, Contract]) -> None:
        for path, contract in contracts.items():
            if contract.precision == network.precision:
                network.keep(path)
            else:
                network.progress(f"writing ONNX {contract.precision}")
                network.models[contract.precision].write(path)

    @classmethod
    def screen(cls, path: Path) -> None:
        _screened(path)

    @classmethod
    def read_contract(cls, path: Path) -> Contract:
        model = _screened(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        outputs = model.graph.output
        firsts = {_first_name(value) for value in (*inputs, *outputs)}
        metadata, model_info = _metadata(model)
        return Contract(
            metadata,
            tuple(map(_tensor, inputs)),
            tuple(map(_tensor, outputs)),
            model_info,
            batched=len(firsts) == 1 and "" not in firsts,  # equal names mean equal sizes
        )

    @classmethod
    def read_metadata(cls, path: Path) -> Mapping[str, str]:
        return _metadata(_screened(path))[0]

    @classmethod
    def read_structure(cls, path: Path) -> Structure:
        graph = _screened(path).graph
        counts = Counter(node.op_type for node in graph.node)
        weights = sum(math.prod(item.dims) for item in graph.initializer if item.data_type not in _COUNTS)
        return Structure(dict(sorted(counts.items())), weights / 1e6)

    @classmethod
    def is_quantized(cls, path: Path) -> bool:
        return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in _screened(path).graph.node)

    @classmethod
    def read_rounding(cls, path: Path, network: Network, parameters: Mapping[str, Array]) -> Rounding:
        from sshconvert.rounded.onnx import read_rounding

        return read_rounding(_screened(path), Places(network, parameters, path))

    @classmethod
    def edit(cls, path: Path) -> EditableModel[Any]:
        if cls.companions(path):
            raise NotThereError(f"{path}: cannot be edited, its weights are in {weights_path(path).name}")
        from sshconvert.editing.onnx import EditableOnnx

        return EditableOnnx(path)


def _metadata(model: onnx.ModelProto) -> tuple[dict[str, str], dict[str, str]]:
    """Return the entries of the contract, and those of Model API."""
    return split_entries({entry.key: entry.value for entry in model.metadata_props})


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else FREE for size in kind.shape.dim)
    return Tensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)


def _first_name(value: onnx.ValueInfoProto) -> str:
    """Return the name of the first dimension, "" if it has a size or no name."""
    dimensions = value.type.tensor_type.shape.dim
    return dimensions[0].dim_param if dimensions else ""


def _screened(path: Path) -> onnx.ModelProto:
    from sshconvert.validation import read_onnx  # a conversion reads no file of a stranger

    return read_onnx(path)
