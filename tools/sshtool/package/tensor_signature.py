"""What a converted model declares: its tensors, how to feed it, and the options that it was made with; and what a
manifest has to say of such a model.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import onnx
import pydantic

from sshconvert.contract import FREE, Contract, Tensor
from sshconvert.errors import ArtifactError
from sshconvert.formats.openvino import read_model_info
from sshconvert.libraries import import_openvino
from sshconvert.schema import one_line, problems
from sshtool.model_validation import check_ir, read_onnx
from sshtool.package.layouts import Layout
from sshtool.package.manifest import PackagedModel, Thresholds
from sshtool.runtimes import reason
from sshtool.sandbox import confined, shared_child
from sshtool.sandbox.runtimes import SERVICE

_ROUNDING = ("QuantizeLinear", "DequantizeLinear", "FakeQuantize")
DEFAULT_PRECISION = "FP32"  # of a file that says nothing
_NAMES = {"f32": "float32", "u8": "uint8", "i32": "int32"}


_CONTRACT: Final = pydantic.TypeAdapter(Contract)


def read_contract(path: Path) -> Contract:
    """Read an .onnx or .xml file, in the sandbox if there is one. Raises ArtifactError."""
    limits = confined()
    if limits is None:
        return _read(path)
    return _CONTRACT.validate_python(shared_child(SERVICE, limits).call(f"{__name__}:plain", path))


def plain(path: Path) -> Any:
    """As `read_contract`, as something that JSON holds."""
    return _CONTRACT.dump_python(_read(path), mode="json")


def _read(path: Path) -> Contract:
    try:
        contract = _of_onnx(path) if path.suffix == ".onnx" else _of_ir(path)
        contract.declaration(path)
    except (IndexError, KeyError, ValueError, TypeError) as error:  # tensors without names, or of unknown types
        raise ArtifactError(f"{path}: its inputs or outputs make no sense ({one_line(error)}); convert again") from None
    return contract


def is_quantized(path: Path) -> bool:
    """Whether a file that `read_contract` has read rounds the values between layers, as INT8 does and nothing else."""
    if path.suffix == ".onnx":
        return any(node.op_type in _ROUNDING for node in read_onnx(path).graph.node)
    layers = ET.parse(path).iterfind("layers/layer")  # noqa: S314  # it has been checked
    return any(layer.get("type") in _ROUNDING for layer in layers)


def packaged_model(path: Path, contract: Contract, model: str, layout: Layout, *, verified: bool) -> PackagedModel:
    """What the manifest of a package in that layout says of the converted model whose main file is `path`.

    Raises ArtifactError where the file says of itself what no manifest can say.
    """
    declaration = contract.declaration(path)
    form = "onnx" if path.suffix == ".onnx" else "openvino"
    precision = declaration.precision or DEFAULT_PRECISION
    main = layout.main_file(model, form, precision)
    inside = declaration.faces
    try:
        return PackagedModel.model_validate(
            {
                "label": f"{form} {precision}",
                "format": form,
                "precision": precision,
                "path": main,
                "files": (main,) if form == "onnx" else (main, layout.companion(main)),
                "input": asdict(contract.inputs[0]),
                "outputs": tuple(map(asdict, contract.outputs)),
                "input_layout": declaration.input_layout,
                "color_order": declaration.color_order,
                "mean_values": declaration.mean_values,
                "postprocessing": Thresholds(**asdict(inside)) if inside else None,
                "options": dict(sorted(contract.metadata.items())),
                "verified": verified,
            }
        )
    except pydantic.ValidationError as error:
        raise ArtifactError(f"{path}: no package can hold it ({problems(error)}); convert again") from None


def _of_onnx(path: Path) -> Contract:
    model = read_onnx(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_value(value) for value in model.graph.input if value.name not in weights)
    return Contract(
        {entry.key: entry.value for entry in model.metadata_props}, inputs, tuple(map(_value, model.graph.output))
    )


def _value(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else FREE for size in kind.shape.dim)
    return Tensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)


def _of_ir(path: Path) -> Contract:
    check_ir(path)
    try:
        model = import_openvino().Core().read_model(path)  # as a path: its name need not be text
    except RuntimeError as error:
        raise ArtifactError(f"{path}: OpenVINO cannot read it ({reason(error)}); convert again") from None
    return Contract(read_model_info(path), tuple(map(_port, model.inputs)), tuple(map(_port, model.outputs)))


def _port(port: Any) -> Tensor:
    kind = port.element_type.get_type_name()
    shape = tuple(size.get_length() if size.is_static else FREE for size in port.partial_shape)
    return Tensor(port.any_name, _NAMES.get(kind, kind), shape)
