"""The models that ship, by their descriptions: real networks give MXNet's outputs under the models' own names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import zoo
from command_line import sshtool
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.cutting import cut
from sshconvert.errors import CheckpointError, ModelError, UnsupportedGraphError
from sshconvert.models.registry import dump_model, load_model, model_names, parse_model
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import write_params
from sshconvert.network import read_symbol, resolve
from sshconvert.options import Layout, Options
from sshtool.demo.network import write_demo
from sshtool.parity.samples import draw_sample
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet

# The network of each model in the zoo, whose weights are trained or seeded.
NETWORKS: Final = {
    "face-recognition-mobilefacenet-arcface": "mobilefacenet-y1",
    "face-recognition-resnet100-arcface": "arcface-r100-ii",
    "mobilefacedet-v1-mxnet": "mobilefacedet-v1-mxnet",
    "mtcnn-det1": "mtcnn-det1-v0.8",
    "mtcnn-det3": "mtcnn-det3-v0.8",
    "mtcnn-det4": "mtcnn-det4-v0.8",
    "octave-densenet-121-0.125": "octave-densenet-121-0.125",
    "octave-resnet-101-0.125": "octave-resnet-101-0.125",
    "octave-resnet-26-0.25": "octave-resnet-26-0.25",
    "octave-resnet-50-0.125": "octave-resnet-50-0.125",
    "octave-resnext-50-0.25": "octave-resnext-50-0.25",
    "retinaface-mnet25": "retinaface-mnet25",
    "retinaface-resnet50": "retinaface-r50",
}
QUICK: Final = ("face-recognition-mobilefacenet-arcface", "mobilefacedet-v1-mxnet", "mtcnn-det3")
CLOSE: Final = 2e-5  # of the range of an output
AMPLIFIED: Final = {"retinaface-resnet50": 5e-4}  # its seeded logits reach 700, and a softmax magnifies their rounding


def real_checkpoint(model: ModelSpec, data: Path, folder: Path) -> Checkpoint:
    """The files of a zoo's network under the names that the model gives them."""
    network = next(item for item in zoo.read_zoo(data / "zoo") if item.name == NETWORKS[model.name])
    resolved = resolve(cut(read_symbol(network.symbol), model.tensors), model.input_shapes)
    shapes = resolved.parameters(model.input_shapes)
    arrays = zoo.parameters(network, shapes, sorted(resolved.auxiliaries()))
    symbol, params = model.file_names
    shutil.copyfile(network.symbol, folder / symbol)
    write_params(folder / params, arrays)
    return open_checkpoint(folder, model)


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in NETWORKS]
)
def test_a_real_network_gives_mxnets_outputs_under_the_models_names(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    model = load_model(name)
    checkpoint = real_checkpoint(model, shared_data, tmp_path)
    feed = draw_sample("scene-0" if model.takes_image else "normal-0", model, *_size(model)).feed
    expected = Mxnet(checkpoint).run(feed)
    assert tuple(expected) == model.output_names
    close = AMPLIFIED.get(name, CLOSE)
    for artifact in convert(checkpoint, tmp_path / "out", Options(("onnx", "openvino"))):
        actual = load(artifact.path, model).run(feed)
        assert tuple(actual) == model.output_names
        for output, values in expected.items():
            assert np.abs(actual[output] - values).max() <= close * max(float(np.ptp(values)), 1e-6), (
                artifact.path,
                output,
            )


def _size(model: ModelSpec) -> tuple[int, ...]:
    return model.image_shape[2:] if model.takes_image else ()


def test_the_output_pre_fc1_of_arcface_holds_the_values_of_fc1(shared_data: Path, mxnet: Any, tmp_path: Path) -> None:
    """As in Open Model Zoo's converted model. The network's own `pre_fc1` is another tensor, before the BatchNorm."""
    model = load_model("face-recognition-mobilefacenet-arcface")
    checkpoint = real_checkpoint(model, shared_data, tmp_path)
    feed = draw_sample("scene-0", model, 112, 112).feed
    runtime = Mxnet(checkpoint)
    whole = mxnet.sym.load(str(checkpoint.symbol_path)).get_internals()
    tensors = runtime._run(mxnet.sym.Group([whole["fc1_output"], whole["pre_fc1_output"]]), feed)
    (values,) = runtime.run(feed).values()
    assert np.abs(values - tensors[0]).max() <= CLOSE * np.ptp(values)  # MXNet fuses layers unless one is an output
    assert np.abs(values - tensors[1]).max() > 0.01 * np.ptp(values)
    assert np.abs(runtime.layers(feed)["pre_fc1"] - values).max() <= CLOSE * np.ptp(values)
    assert "fc1" not in runtime.layers(feed)
    (artifact,) = convert(checkpoint, tmp_path / "out", Options(("onnx",)))
    layers = load(artifact.path, model).layers(feed)
    assert np.abs(layers["pre_fc1"] - values).max() <= CLOSE * np.ptp(values)


@pytest.mark.independent
def test_a_channels_last_network_gives_the_same_in_both_layouts(shared_data: Path, tmp_path: Path) -> None:
    model = load_model("mobilefacedet-v1-mxnet")
    checkpoint = real_checkpoint(model, shared_data, tmp_path)
    feed = draw_sample("scene-0", model, 256, 256).feed
    answers = []
    for layout in Layout:
        (artifact,) = convert(checkpoint, tmp_path / layout.value, Options(("openvino",), layout=layout))
        runtime = load(artifact.path, model)
        assert runtime.declaration.input_layout == layout.value
        answers.append(runtime.run(feed))
    for output in model.output_names:
        assert np.abs(answers[0][output] - answers[1][output]).max() <= CLOSE * np.ptp(answers[0][output])


def _renamed(outputs: str, names: str) -> ModelSpec:
    text = dump_model(load_model("mtcnn-det2")).decode().replace('name = "mtcnn-det2"', 'name = "mine"')
    text = text.replace('["conv5_2", "prob1"]', names)
    return parse_model(f"{text}outputs = {{ {outputs} }}\n".encode(), source="mine.toml")


@pytest.mark.independent
@pytest.mark.parametrize(
    ("outputs", "names", "message"),
    [
        ('other = "conv1"', '["prob1"]', "outputs: the task has no output other"),
        ('a = "prob1"', '["a", "prob1"]', "outputs: two outputs are the same tensor"),
        ('a = "prob1_output"', '["a", "prob1"]', "outputs: two outputs are the same tensor"),
    ],
)
def test_renames_that_contradict_the_task_are_refused(outputs: str, names: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _renamed(outputs, names)


@pytest.mark.independent
@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ('a = "nowhere"', UnsupportedGraphError, "no operator computes nowhere"),
        ('conv1_weight = "prob1"', CheckpointError, "conv1_weight: inputs or parameters have these names"),
        ('data = "prob1"', CheckpointError, "data: inputs or parameters have these names"),
    ],
)
def test_renames_that_do_not_fit_the_network_are_refused(
    outputs: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    write_demo(tmp_path, load_model("mtcnn-det2"))
    model = _renamed(outputs, f'["{outputs.split(maxsplit=1)[0]}"]')
    with pytest.raises(error, match=message):
        open_checkpoint(tmp_path, model)


def test_models_of_which_something_was_verified_have_a_network_in_the_zoo() -> None:
    verified = {name for name in model_names() if not load_model(name).verified.startswith("nothing")}
    assert verified == NETWORKS.keys() | {"ssh-mxnet"}


@pytest.mark.independent
def test_info_tells_a_demo_that_stands_in_from_the_published_network(tmp_path: Path) -> None:
    outputs = {}
    for name in ("mobilefacedet-v1-mxnet", "face-recognition-mobilefacenet-arcface"):
        (tmp_path / name).mkdir()
        write_demo(tmp_path / name, load_model(name))
        outputs[name] = sshtool("info", "--model", name, "--checkpoint", tmp_path / name, "-o", tmp_path).stdout
    stands_in, same = outputs.values()
    assert "stands in" in stands_in
    assert "stands in" not in same
