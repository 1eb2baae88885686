"""Results in the form of OpenVINO's Model API: the plain form's numbers, and what the files say to Model API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import pytest

from head_tensors import RULES, heads_of
from sshconvert.contract import declared
from sshconvert.errors import ArtifactError, DetectionError, UsageError
from sshconvert.graph import Dimensions
from sshconvert.model_api import model_info, onnx_entries, padding, split_entries
from sshconvert.models.registry import load_model
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Dynamic, Options, Postprocessing
from sshconvert.passes.postprocessing import AppendPostprocessing
from sshconvert.tasks.inside import Inside, OutputForm, in_form, plain_outputs
from sshtool.cli.options import Conversion
from sshtool.images import fit_as_model_api
from tiny_predictors import write_predictor

pytestmark = pytest.mark.independent

SSH: Final = load_model("ssh-mxnet")
INSIDE: Final = Postprocessing(form=OutputForm.MODEL_API)
OUTPUTS: Final = {"boxes": (1, 9, 5), "labels": (1, 9)}
IMAGES: Final = (2, 64, 96)  # their number, height and width


def network(**heads: Dimensions) -> OnnxModel:
    inputs: dict[str, Dimensions] = {"data": (IMAGES[0], 3, *IMAGES[1:])}
    for head in RULES.heads:
        cells = (IMAGES[1] // head.stride, IMAGES[2] // head.stride)
        heads[head.scores] = (IMAGES[0], 2 * len(head.sizes), *cells)
        heads[head.boxes] = (IMAGES[0], 4 * len(head.sizes), *cells)
    return OnnxModel("heads", (), {}, inputs | heads, heads)


def outputs_of(model: OnnxModel, path: Path, heads: Any) -> dict[str, Any]:
    model.write(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of the image, whose values nothing reads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fed = {"data": np.zeros((IMAGES[0], 3, *IMAGES[1:]), np.float32), **heads}
    names = [output.name for output in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {item.name: fed[item.name] for item in session.get_inputs()}), strict=True)
    )


@pytest.mark.parametrize("keep", [False, True], ids=["results alone", "with heads"])
def test_the_form_holds_the_plain_forms_numbers(keep: bool, tmp_path: Path) -> None:
    heads = heads_of("dense", IMAGES, 1)
    made = {}
    for form in OutputForm:
        options = Postprocessing(keep_heads=keep, form=form, top_k=50)
        model = AppendPostprocessing("data", RULES, options).apply(network())
        used = {name for node in model.nodes for name in node.input} | {*model.outputs}
        assert all({*node.output} & used for node in model.nodes)
        assert {*model.initializers} <= used
        made[form] = outputs_of(model, tmp_path / f"{form}.onnx", heads)
    plain, other = made[OutputForm.PLAIN], made[OutputForm.MODEL_API]
    assert other["boxes"].shape == (2, 50, 5)
    assert other["labels"].dtype == np.int32
    assert [*other][:2] == ["boxes", "labels"]
    restored = plain_outputs(other, OutputForm.MODEL_API)
    assert [*restored] == [*plain]
    assert plain["count"].min() > 0
    for name, values in plain.items():
        np.testing.assert_array_equal(restored[name], values)
        assert restored[name].dtype == values.dtype


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.ones((1, 2), np.int32)}, "labels, int32, is not int32 and 0"),
        ({"labels": np.zeros((1, 2), np.int64)}, "labels, int64, is not int32"),
        ({"labels": np.zeros((1, 3), np.int32)}, r"boxes \(1, 2, 5\) and labels \(1, 3\)"),
        ({"boxes": np.zeros((1, 2, 4), np.float32)}, r"boxes \(1, 2, 4\)"),
    ],
    ids=["another label", "long labels", "a label too many", "no scores"],
)
def test_outputs_in_no_form_are_refused(changed: dict[str, Any], message: str) -> None:
    right = {"boxes": np.zeros((1, 2, 5), np.float32), "labels": np.zeros((1, 2), np.int32)}
    assert plain_outputs(right, OutputForm.MODEL_API)["count"].tolist() == [0]
    with pytest.raises(DetectionError, match=message):
        plain_outputs(right | changed, OutputForm.MODEL_API)


def test_a_network_with_labels_of_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match="--output-form: the network already has a tensor named labels"):
        AppendPostprocessing("data", RULES, INSIDE).apply(network(labels=(2, 4)))


def test_the_form_is_in_the_metadata() -> None:
    said = {"postprocessing_inside": "boxes labels", "score_threshold": "0.05", "iou_threshold": "0.3", "top_k": "9"}
    assert declared(Path("a"), said, [1, 3, 64, 64]).faces == Inside(0.05, 0.3, 9)
    declaration = declared(Path("a"), said | {"output_form": "model-api"}, [1, 3, 64, 64])
    assert declaration.faces == Inside(0.05, 0.3, 9, OutputForm.MODEL_API)
    assert declaration.options("onnx", "FP32", SSH).postprocessing == Postprocessing(
        0.05, 0.3, 9, False, OutputForm.MODEL_API
    )
    with pytest.raises(ArtifactError, match="a: its metadata say output_form 'other', expected plain or model-api"):
        declared(Path("a"), said | {"output_form": "other"}, [1, 3, 64, 64])
    assert in_form(("boxes", "scores", "count", "landmarks"), OutputForm.MODEL_API) == ("boxes", "labels", "landmarks")


def test_a_detector_tells_model_api_the_letterbox_the_label_and_the_threshold() -> None:
    info = model_info(SSH, Options(postprocessing=replace(INSIDE, score_threshold=0.4)), OUTPUTS)
    assert info == {
        "model_type": "ssd",
        "resize_type": "fit_to_window_letterbox",
        "pad_value": "115",
        "confidence_threshold": "0.4",
        "iou_threshold": "0.3",
        "labels": "face",
        "reverse_input_channels": "False",
    }
    assert padding(load_model("retinaface-mnet25")) == 0
    original = model_info(SSH, Options(preprocessing=False, postprocessing=INSIDE), OUTPUTS)
    assert (original["reverse_input_channels"], original["mean_values"]) == ("True", "123.68 116.779 103.939")
    assert split_entries({"model": "x", **onnx_entries(info)}) == ({"model": "x"}, info)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(postprocessing=Postprocessing()),
        Options(postprocessing=INSIDE, dynamic=Dynamic.BATCH),
        Options(postprocessing=INSIDE, dynamic=Dynamic.SIZE),
        Options(postprocessing=INSIDE, input_shape=(2, 3, 640, 640)),
    ],
    ids=["heads", "plain form", "any batch", "any size", "two images"],
)
def test_a_file_that_model_api_has_no_wrapper_for_says_nothing_to_it(options: Options) -> None:
    assert model_info(SSH, options, OUTPUTS) == {}


def test_a_classifier_of_one_row_is_model_apis_and_an_embedder_is_not(tmp_path: Path) -> None:
    classifier = load_model(str(write_predictor(tmp_path, "classifier")))
    names = ("big cat", "dog, hot", "a;b", "4", "5", "6")
    named = classifier.model_copy(update={"task": classifier.task.model_copy(update={"labels": names})})
    info = model_info(named, Options(), {"softmax": (1, 6)})
    assert info["model_type"] == "Classification"
    assert info["labels"] == "big_cat dog_hot a_b 4 5 6"
    assert info["topk"] == "3"
    assert "labels" not in model_info(classifier, Options(), {"softmax": (1, 6)})
    assert model_info(classifier, Options(), {"softmax": (1, 6, 1, 1)}) == {}
    assert model_info(classifier, Options(), {"softmax": (1, 6), "body": (1, 6)}) == {}
    embedder = load_model(str(write_predictor(tmp_path, "embedder")))
    assert model_info(embedder, Options(), {"fc1": (1, 6)}) == {}


def test_an_image_lies_in_the_middle_as_model_api_puts_it() -> None:
    pixels, placement = fit_as_model_api(np.full((30, 100, 3), 200, np.uint8), 64, 64, 7)
    rows = np.flatnonzero((pixels == 200).all(axis=(1, 2)))
    assert (rows[0], len(rows)) == (22, 19)  # 0.64 times 30 rows; (64 - 19) // 2 above them
    assert (np.delete(pixels, rows, axis=0) == 7).all()
    assert (placement.top, placement.left, placement.scale_x, placement.scale_y) == (22, 0, 0.64, 0.64)
    assert fit_as_model_api(np.zeros((100, 30, 3), np.uint8), 64, 64, 7)[1].left == 22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"postprocess": True, "dynamic": "batch"}, "Model API feeds one image of a fixed size"),
        ({"postprocess": True, "batch": 2}, "Model API feeds one image of a fixed size"),
        ({}, "give --postprocess too"),
        ({"postprocess": True, "output_form": "omz"}, "--output-form: omz is not one of plain, model-api"),
    ],
    ids=["any batch", "two images", "no results", "an unknown form"],
)
def test_options_that_contradict_the_form_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Conversion(**{"output_form": "model-api", **options}).options(SSH)
