"""A second model, with rules of its own: nothing of the first one's gets in."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import onnx
import pytest
from typer.testing import CliRunner

from detections import anchor_task
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ModelError, UsageError
from sshconvert.models import registry
from sshconvert.models.registry import load_model, parse_model
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Options, Postprocessing
from sshconvert.tasks.detection import THRESHOLD
from sshtool.cli.app import app
from sshtool.demo import checkpoint as demo
from sshtool.demo.symbol import ssh_vgg16_symbol
from sshtool.detector import Detector
from sshtool.package.manifest import PackagedModel, Tensor
from sshtool.package.rebuild import options_of

# Each line of the description that is another.
OTHER: Final = {
    'name = "ssh-mxnet"': 'name = "other"',
    "shape = [1, 3, 640, 640]": "shape = [1, 3, 96, 128]",
    "score_threshold = 0.05": "score_threshold = 0.6",
    "iou_threshold = 0.3": "iou_threshold = 0.7",
}


def changed(lines: dict[str, str]) -> str:
    text = resources.files("sshconvert.models").joinpath("ssh-mxnet.toml").read_text(encoding="utf-8")
    for old, new in lines.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelSpec:
    """It is registered, beside the first and a third, which is another network."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "ssh-mxnet.toml").write_text(changed({}), encoding="utf-8")
    (folder / "other.toml").write_text(changed(OTHER), encoding="utf-8")
    third = {'name = "ssh-mxnet"': 'name = "third"', "rpn_bbox_pred_stride8": "face_rpn_bbox_pred_stride8"}
    (folder / "third.toml").write_text(changed(third), encoding="utf-8")
    monkeypatch.setattr(registry, "files", lambda _: folder)
    return load_model("other")


def called(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("options", "thresholds"), [((), ("0.6", "0.7")), (("--score-threshold", "0.05"), ("0.05", "0.7"))]
)
def test_thresholds_that_are_not_given_are_the_models_own(
    options: tuple[str, ...], thresholds: tuple[str, str], demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    code, said = called(
        *("convert", "--model", "other", "--checkpoint", demo_checkpoint.params_path.parent, "-o", tmp_path),
        *("--format", "onnx", "--postprocess", *options),
    )
    assert code == 0, said
    model = onnx.load(tmp_path / "other" / "FP32" / "other.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["score_threshold"], metadata["iou_threshold"]) == thresholds
    assert [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 96, 128]


def test_thresholds_need_postprocessing_whatever_they_are(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    for option, value in (("--score-threshold", "0.05"), ("--iou-threshold", "0.3")):
        arguments = ("--checkpoint", demo_checkpoint.params_path.parent, "-o", tmp_path, option, value)
        assert called("convert", *arguments)[0] == 2


def test_detect_takes_no_score_that_the_model_drops(
    other: ModelSpec, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"0\.6.*1"):
        anchor_task(other).for_display(0.5)
    assert anchor_task(other).for_display(None).score_threshold == 0.6
    first = load_model("ssh-mxnet")
    assert anchor_task(first).for_display(None).score_threshold == THRESHOLD
    made = convert(
        replace(demo_checkpoint, model=other),
        tmp_path,
        Options(input_shape=(1, 3, 64, 64), postprocessing=Postprocessing()),
    )
    assert Detector(made[0].path, other).task.score_threshold == 0.6


@pytest.mark.usefixtures("other")
def test_ssh_is_the_demo_of_its_own_network_alone(tmp_path: Path) -> None:
    """Another model gets a small network of its task."""
    code, said = called("download", "--demo", "--model", "third", "-o", tmp_path / "out")
    assert code == 0, said
    (symbol,) = (tmp_path / "out").rglob("*-symbol.json")
    assert symbol.read_text("utf-8") != ssh_vgg16_symbol()
    with pytest.raises(ModelError):
        demo.write_checkpoint(tmp_path, load_model("third"))


def test_info_says_at_which_size_a_figure_was_published(
    other: ModelSpec, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    assert other.image_input.shape == (1, 3, 96, 128)
    code, said = called("info", "--model", "other", "--checkpoint", demo_checkpoint.params_path.parent, "-o", tmp_path)
    assert code == 0, said
    assert "at 1x3x96x128" in said


def test_what_is_rebuilt_has_the_models_own_size_and_outputs() -> None:
    model = parse_model(changed(OTHER).encode(), source="other.toml")

    def packaged(*outputs: str) -> PackagedModel:
        fields: Any = {
            "path": "FP32/other.onnx",
            "format": "onnx",
            "precision": "FP32",
            "input_layout": "NCHW",
            "color_order": "BGR",
            "mean_values": (0.0, 0.0, 0.0),
            "input": Tensor.model_construct(name="data", dtype="float32", shape=(-1, 3, -1, -1)),
            "outputs": tuple(Tensor.model_construct(name=name, dtype="float32", shape=(-1,)) for name in outputs),
            "postprocessing": Postprocessing(0.6, 0.7, 1000),
        }
        return PackagedModel.model_construct(**fields)

    made = options_of(packaged("boxes", "scores", "count"), model)
    assert (made.input_shape, made.dynamic) == ((1, 3, 96, 128), Dynamic.ALL)
    assert made.postprocessing is not None
    assert not made.postprocessing.keep_heads
    kept = options_of(packaged("boxes", "scores", "count", *model.output_names), model)
    assert kept.postprocessing is not None
    assert kept.postprocessing.keep_heads
