"""OpenVINO Model Server's documentation and schema against the package `--layout ovms`.

No package index has the server itself. OpenVINO, which it computes with, stands in where a setting acts on a model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np
import pytest

from scaled_checkpoint import MODEL
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import InputType, Layout, Options, Precision
from sshtool.package.build import PackageOptions, package
from sshtool.workspace import Workspace

FORMATS: Final = ("onnx", "openvino")
SIZE: Final = (1, 3, 64, 96)

# What the server requires of `config.json`: the part about models of the schema in its source (`src/schema.cpp`) and of
# "Model Server Parameters" in its documentation. It refuses every other key.
TEXT: Final = {"type": "string"}
COUNT: Final = {"type": "integer", "minimum": 0}
SWITCH: Final = {"type": "boolean"}
BY_TENSOR: Final = {"oneOf": [{"type": "object", "additionalProperties": TEXT}, TEXT]}
ENTRY: Final = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("name", "base_path", "graph_path", "subconfig", "target_device"), TEXT),
        **dict.fromkeys(("nireq", "max_sequence_number"), COUNT),
        **dict.fromkeys(("allow_cache", "stateful", "idle_sequence_cleanup", "low_latency_transformation"), SWITCH),
        **dict.fromkeys(("shape", "layout"), BY_TENSOR),
        **{key: {"type": "object"} for key in ("model_version_policy", "plugin_config", "custom_loader_options")},
        "batch_size": {"type": ["integer", "string"], "minimum": 0},
    },
}
LISTS: Final = ("custom_loader", "pipeline", "mediapipe", "custom_node_library")
SCHEMA: Final = {
    "type": "object",
    "required": ["model_config_list"],
    "additionalProperties": False,
    "properties": {
        "model_config_list": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["config"],
                "additionalProperties": False,
                "properties": {"config": ENTRY},
            },
        },
        **{f"{key}_config_list": {"type": "array"} for key in LISTS},
        "monitoring": {"type": "object"},
    },
}


@pytest.fixture(scope="module")
def models(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `models`: FP32 takes [N, C, H, W], FP16 takes [N, H, W, C]."""
    folder = tmp_path_factory.mktemp("ovms")
    convert(plain_checkpoint, folder, Options(FORMATS, (Precision.FP32,), SIZE))
    options = Options(FORMATS, (Precision.FP16,), SIZE, layout=Layout.NHWC, input_type=InputType.UINT8)
    convert(plain_checkpoint, folder, options)
    made = package(Workspace(MODEL, folder), PackageOptions(layout="ovms", allow_unverified=True))
    return made.folder / "models"


def entries(models: Path) -> dict[str, dict[str, Any]]:
    document = json.loads((models / "config.json").read_bytes())
    return {item["config"]["name"]: item["config"] for item in document["model_config_list"]}


def test_the_configuration_follows_the_servers_schema(models: Path) -> None:
    document = json.loads((models / "config.json").read_bytes())
    jsonschema.validate(document, SCHEMA)
    first = document["model_config_list"][0]["config"]
    spoiled = ({"base_path": None}, {"layout": ["NHWC"]}, {"batch_size": -1}, {"max_batch_size": 8})
    for change in spoiled:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"model_config_list": [{"config": first | change}]}, SCHEMA)


def test_each_model_lies_where_the_server_looks(models: Path) -> None:
    """In a folder with a positive number, the files of one model, with any name."""
    for name, entry in entries(models).items():
        place = models / Path(entry["base_path"]).relative_to("/models")
        assert place.name == name
        assert [path.name for path in place.iterdir()] == ["1"]
        suffixes = sorted(path.suffix for path in (place / "1").iterdir())
        assert suffixes in ([".onnx"], [".bin", ".xml"])
    assert len(entries(models)) == 4


def test_only_onnx_needs_to_be_told_its_layout(models: Path) -> None:
    """The server takes the layout of the file where the configuration has none."""
    import openvino

    for name, entry in entries(models).items():
        (path,) = (path for path in (models / name / "1").iterdir() if path.suffix != ".bin")
        stated = openvino.Core().read_model(path).get_parameters()[0].layout
        is_last = "fp16" in name
        if path.suffix == ".onnx":
            assert stated.empty
            assert entry.get("layout") == ("NHWC" if is_last else None)
        else:
            assert stated == openvino.Layout("NHWC" if is_last else "NCHW")
            assert "layout" not in entry


def test_the_stated_layout_changes_no_answer(models: Path) -> None:
    """A layout without a colon names the dimensions, for the client and the model alike; the server adds no step."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    (path,) = (models / f"{MODEL.name}-fp16-onnx" / "1").iterdir()
    core = openvino.Core()
    photo = np.random.default_rng(2).integers(0, 256, (1, *SIZE[2:], 3), np.uint8)
    answers = []
    for layout in (None, entries(models)[f"{MODEL.name}-fp16-onnx"]["layout"]):
        model = core.read_model(path)
        if layout:
            steps = PrePostProcessor(model)
            steps.input().tensor().set_layout(openvino.Layout(layout))
            steps.input().model().set_layout(openvino.Layout(layout))
            model = steps.build()
        compiled = core.compile_model(model, "CPU")
        answers.append(list(compiled({0: photo}).values()))
    assert np.ptp(answers[0][0])
    for plain, told in zip(*answers, strict=True):
        np.testing.assert_array_equal(plain, told)
