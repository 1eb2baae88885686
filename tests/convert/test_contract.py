from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from sshconvert.contract import FREE, Contract, Tensor
from sshconvert.models.registry import load_model
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision

MODEL: Final = load_model("ssh-mxnet")
SHAPES: Final = {
    Dynamic.NOTHING: (2, 3, 64, 96),
    Dynamic.BATCH: (FREE, 3, 64, 96),
    Dynamic.SIZE: (2, 3, FREE, FREE),
    Dynamic.ALL: (FREE, 3, FREE, FREE),
}


@pytest.mark.parametrize("dynamic", Dynamic)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as it is"),
        pytest.param({"color": Color.RGB, "input_type": InputType.UINT8, "layout": Layout.NHWC}, id="a camera's frame"),
        pytest.param({"preprocessing": False, "color": Color.RGB}, id="without preprocessing"),
        pytest.param({"postprocessing": Postprocessing(0.25, 0.5, 7, keep_heads=True)}, id="with faces"),
    ],
)
def test_the_options_of_a_conversion_can_be_read_from_its_contract(changes: dict[str, Any], dynamic: Dynamic) -> None:
    options = Options(("onnx",), (Precision.FP16,), (2, 3, 64, 96), dynamic=dynamic, **changes)
    written = Contract.of(MODEL, "demo", options, "FP16")
    axes = [SHAPES[dynamic]["NCHW".index(axis)] for axis in options.layout.value]
    dtype = "uint8" if options.input_type is InputType.UINT8 else "float32"
    read = Contract(json.loads(json.dumps(written.metadata)), (Tensor("data", dtype, tuple(axes)),))
    declaration = read.declaration(Path("a.onnx"))
    again = declaration.options("onnx", declaration.precision, MODEL, keep_heads=bool(options.postprocessing))
    assert Contract.of(MODEL, declaration.weights, again, "FP16") == written
    assert (again.layout, again.input_type, again.dynamic, again.postprocessing) == (
        options.layout,
        options.input_type,
        dynamic,
        options.postprocessing,
    )


def test_a_contract_survives_json() -> None:
    contract = Contract.of(MODEL, "demo", Options(), "FP32")
    assert Contract.from_plain(json.loads(json.dumps(contract.to_plain()))) == contract
    with pytest.raises(ValueError, match="metadata"):
        Contract.from_plain({"inputs": []})
