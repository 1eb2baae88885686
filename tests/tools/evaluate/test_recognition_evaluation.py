"""LFW's pairs and ImageNet's top-k: the protocols beside plain second implementations, and known answers."""

from __future__ import annotations

import io
import json
import pickle
import statistics
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert.errors import DatasetError, ModelError, UsageError
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.cli.evaluate import render_recognition
from sshtool.demo.recognition_dataset import draw_recognition_dataset, same_person
from sshtool.evaluate import imagenet, lfw
from sshtool.evaluate.recognition import RecognitionOptions, evaluate_recognition
from sshtool.framing import central
from sshtool.report.terminal import console
from sshtool.workspace import Workspace
from tiny_predictors import SIZE, pictures, predictor_workspace

pytestmark = pytest.mark.independent

PAIRS: Final = 40


def plain_accuracy(vectors: list[list[float]], same: list[bool]) -> float:
    """The six rules for one list of numbers after the other, in the accuracy checker's order."""
    unit = [[value / (sum(one * one for one in vector) + 1e-6) ** 0.5 for value in vector] for vector in vectors]
    distance = [
        (1 - sum(a * b for a, b in zip(unit[2 * k], unit[2 * k + 1], strict=True))) / 2 for k in range(len(same))
    ]
    results: list[float] = []
    for subset in range(10):
        low, high = subset * len(same) // 10, (subset + 1) * len(same) // 10
        threshold = statistics.median(distance[:low] + distance[high:])
        right = [(distance[k] < threshold) == same[k] for k in range(low, high)]
        results.append(sum(right) / len(right))
    return sum(results) / 10


def images_of(path: Path) -> tuple[list[Any], list[bool]]:
    """The images of a drawn file, BGR, and the answers."""
    encoded, same = pickle.loads(path.read_bytes(), encoding="bytes")  # noqa: S301  # written by this test
    return [np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))[..., ::-1] for one in encoded], same


@pytest.mark.parametrize("count", [10, 11, 37, 100])
def test_the_accuracy_of_pairs_is_that_of_a_plain_second_implementation(count: int) -> None:
    random = np.random.default_rng(count)
    same = random.random(count) < 0.5
    first = random.standard_normal((count, 8))
    second = np.where(
        same[:, None], first + 0.8 * random.standard_normal((count, 8)), random.standard_normal((count, 8))
    )
    vectors = np.stack([first, second], axis=1).reshape(-1, 8)
    unit = lfw.normalised(vectors)
    found = lfw.accuracy(lfw.distances(unit[::2], unit[1::2]), same)
    assert found == pytest.approx(plain_accuracy(vectors.tolist(), same.tolist()), abs=1e-12)
    assert 0.5 < found < 1


def test_pairs_with_a_known_answer() -> None:
    same = np.arange(20) % 2 == 0
    assert lfw.accuracy(np.where(same, 0.1, 0.4), same) == 1.0
    assert lfw.accuracy(np.where(same, 0.4, 0.1), same) == 0.0
    # The median of equal distances is not below itself: every pair counts as different.
    assert lfw.accuracy(np.full(20, 0.3), same) == 0.5
    wrong = np.where(same, 0.1, 0.4)
    wrong[:2] = [0.4, 0.1]  # both pairs of the first subset
    assert lfw.accuracy(wrong, same) == pytest.approx(0.9)
    unknown = np.where(same, 0.1, 0.4)
    unknown[4:6] = np.nan  # both pairs of the third subset
    assert lfw.accuracy(unknown, same) == pytest.approx(0.9)
    with pytest.raises(DatasetError, match="9 pairs cannot be divided"):
        lfw.accuracy(np.zeros(9), np.zeros(9, bool))


def test_ranks_with_a_known_answer() -> None:
    assert imagenet.accuracies([0, 4, 5, None]) == {1: 0.25, 5: 0.5}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return predictor_workspace(
        tmp_path_factory.mktemp("embedder"), "embedder", Options(("onnx",), dynamic=Dynamic.BATCH)
    )


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return predictor_workspace(tmp_path_factory.mktemp("classifier"), "classifier", Options(("onnx", "openvino")))


def outputs(workspace: Workspace, images: list[Any]) -> list[Any]:
    """The artifact's own outputs for images of its size, BGR."""
    path = next(path for path in workspace.converted() if path.suffix == ".onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = [image.transpose(2, 0, 1)[None].astype(np.float32) for image in images]
    return [session.run(None, {"data": feed})[0][0] for feed in feeds]


def test_an_embedder_on_drawn_pairs(embedder: Workspace, tmp_path: Path) -> None:
    """Drawn faces of the network's own size, so that no resizing comes between both implementations."""
    from sshtool.demo.recognition_dataset import _jpeg, pickled_pairs  # the writer, for another size
    from sshtool.demo.scenes import draw_portrait

    same = [same_person(number) for number in range(PAIRS)]
    faces = [
        draw_portrait(number // 2 if same[number // 2] else 900 + number, number, SIZE) for number in range(2 * PAIRS)
    ]
    (tmp_path / "lfw.bin").write_bytes(pickled_pairs([_jpeg(face) for face in faces], same))
    result = evaluate_recognition(embedder, RecognitionOptions(tmp_path / "lfw.bin"))
    images, expected_same = images_of(tmp_path / "lfw.bin")
    assert expected_same == same
    expected = plain_accuracy([one.astype(float).tolist() for one in outputs(embedder, images)], same)
    (measure,) = result.artifacts[0].measures
    assert (result.protocol, measure.name, result.pairs) == ("LFW pairs", "LFW", PAIRS)
    assert measure.share == pytest.approx(expected, abs=1e-12)
    first = evaluate_recognition(embedder, RecognitionOptions(tmp_path, limit=30))
    assert first.pairs == 15
    assert "not the published protocol" in first.notes[0]


def test_a_classifier_on_drawn_images(classifier: Workspace, tmp_path: Path) -> None:
    drawn = draw_recognition_dataset(tmp_path, classifier.model, images=12, seed=3)
    listed = [line.split() for line in (drawn.dataset / "val.txt").read_text("utf-8").splitlines()]
    images = [np.asarray(Image.open(drawn.dataset / "images" / name))[..., ::-1] for name, _ in listed]
    scores = outputs(classifier, [central(image, SIZE, SIZE, 0.875) for image in images])
    # The labels that the network would give, except for one: 11 of 12 are right.
    labels = [int(one.argmax()) for one in scores]
    labels[4] = int(np.argsort(-scores[4])[3])
    text = "".join(f"{name} {label}\n" for (name, _), label in zip(listed, labels, strict=True))
    (drawn.dataset / "val.txt").write_text(text, encoding="utf-8")
    result = evaluate_recognition(classifier, RecognitionOptions(drawn.dataset))
    for artifact in result.artifacts:
        assert {one.name: one.share for one in artifact.measures} == {"ImageNet top-1": 11 / 12, "ImageNet top-5": 1.0}
    assert [artifact.artifact for artifact in result.artifacts] == ["onnx FP32", "openvino FP32"]
    assert [one.change for one in result.artifacts[1].measures] == [0, 0]


def test_an_unreadable_image_is_a_wrong_answer_and_named(classifier: Workspace, tmp_path: Path) -> None:
    for number, image in enumerate(pictures(3)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    names = ["0.png", "1.png", "broken.png", "2.png"]
    (tmp_path / "val.txt").write_text("".join(f"{name} 0\n" for name in names), encoding="utf-8")
    result = evaluate_recognition(classifier, RecognitionOptions(tmp_path))
    assert [item.image for item in result.not_evaluated] == ["broken.png"]
    top_5 = result.artifacts[0].measures[1].share
    assert top_5 in (0, 0.25, 0.5, 0.75)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="no line"),
        pytest.param("a.png", "line 1 is 'a.png', expected an image and the number", id="no class"),
        pytest.param("a.png -1", "line 1 is", id="a negative class"),
        pytest.param("a.png 1\nb.png one", "line 2 is", id="a word for a class"),
        pytest.param("../a.png 1", "leads out of the folder", id="another folder"),
        pytest.param("/etc/a.png 1", "leads out of the folder", id="an absolute path"),
        pytest.param("a.png 1", "is in none of its folders", id="no image"),
        pytest.param("a.png 1 2", "line 1 is", id="three words"),
    ],
)
def test_a_list_that_is_none_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message) as caught:
        imagenet.read_list(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_that_the_model_lacks_is_refused(classifier: Workspace, tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "val.txt").write_text("a.png 6\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="has the class 6, and the model has 6"):
        evaluate_recognition(classifier, RecognitionOptions(tmp_path))
    with pytest.raises(UsageError, match=r"--dataset: name a folder with val\.txt"):
        evaluate_recognition(classifier, RecognitionOptions())


def test_a_seed_draws_the_same_bytes_and_only_its_own_tasks(
    classifier: Workspace, embedder: Workspace, tmp_path: Path
) -> None:
    one, other = (draw_recognition_dataset(tmp_path / name, embedder.model, images=20, seed=1) for name in "ab")
    assert (one.dataset / "lfw.bin").read_bytes() == (other.dataset / "lfw.bin").read_bytes()
    images, same = images_of(one.dataset / "lfw.bin")
    assert {image.shape for image in images} == {(112, 112, 3)}
    assert same == [True, False] * 5
    difference = [float(np.abs(images[2 * k].astype(int) - images[2 * k + 1]).mean()) for k in range(10)]
    assert max(difference[::2]) < min(difference[1::2]) + 40
    assert min(difference) > 1
    for images_number, message in ((18, "are not 10 pairs"), (21, "are not 10 pairs"), (0, "is not between")):
        with pytest.raises(UsageError, match=message):
            draw_recognition_dataset(tmp_path, embedder.model, images=images_number, seed=0)
    with pytest.raises(ModelError, match="no drawn data set for the task anchor_detection"):
        draw_recognition_dataset(tmp_path, load_model("ssh-mxnet"), images=20, seed=0)
    again = draw_recognition_dataset(tmp_path / "a", classifier.model, images=4, seed=1)
    assert (again.classes, again.images) == (6, 4)


def test_evaluate_chooses_by_the_task(classifier: Workspace, tmp_path: Path) -> None:
    model = classifier.folder.parent / "classifier.toml"
    place = ("--model", model, "-o", classifier.folder)
    drawn = sshtool("demo-dataset", "--model", model, "-o", tmp_path, "--images", "7", "--json")
    dataset = json.loads(drawn.stdout)["result"]["dataset"]
    done = json.loads(sshtool("evaluate", *place, "--dataset", dataset, "--json").stdout)["result"]
    assert (done["protocol"], done["images"], done["published"]) == ("ImageNet", 7, {})
    stream = io.StringIO()
    rendered = render_recognition(evaluate_recognition(classifier, RecognitionOptions(Path(dataset))), True)
    console(file=stream, width=400).print(rendered)
    table = stream.getvalue()
    assert all(word in table for word in ("ImageNet top-1 %", "onnx FP32", "shorter side to 37"))
    refused = sshtool("evaluate", *place, "--dataset", dataset, "--pyramid", "--protocol", "wider", code=2)
    assert "--protocol, --pyramid: for detectors only, and classifier is none" in refused.stderr
    assert refused.stderr.count("\n") == 1
