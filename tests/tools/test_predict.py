"""`sshtool predict`: classes and embeddings of image files, beside the runtime's own outputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert.errors import DetectionError, UsageError
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.cli.predict import render
from sshtool.framing import central
from sshtool.images import Resize, fit
from sshtool.prediction import Classified, Embedded, PredictOptions, as_json, predict, read_labels
from sshtool.report.schema import shipped_schema
from sshtool.report.terminal import console
from sshtool.results.outcomes import NotRead
from sshtool.workspace import Workspace
from tiny_predictors import CLASSES, SIZE, pictures, predictor_workspace

pytestmark = pytest.mark.independent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images."""
    path = tmp_path_factory.mktemp("images")
    for number, image in enumerate(pictures(4)):
        Image.fromarray(image[..., ::-1]).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return predictor_workspace(tmp_path_factory.mktemp("classifier"), "classifier")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return predictor_workspace(
        tmp_path_factory.mktemp("embedder"), "embedder", Options(("onnx",), dynamic=Dynamic.BATCH)
    )


def outputs(workspace: Workspace, image: Any) -> Any:
    """The artifact's own output for an image, uint8 [H, W, 3], BGR."""
    session = onnxruntime.InferenceSession(str(workspace.converted()[0]), providers=["CPUExecutionProvider"])
    (array,) = session.run(None, {"data": image.transpose(2, 0, 1)[None].astype(np.float32)})
    return array[0]


def test_the_best_classes_are_those_of_the_cropped_image(classifier: Workspace, folder: Path) -> None:
    result = predict(classifier, [folder])
    assert (
        len({tuple(one.number for one in item.classes) for item in result.images if isinstance(item, Classified)}) > 1
    )
    for item, image in zip(result.images, pictures(4), strict=True):
        assert isinstance(item, Classified)
        assert (item.height, item.width) == image.shape[:2]
        expected = outputs(classifier, central(image, SIZE, SIZE, 0.875))
        best = np.argsort(-expected)[:3]
        assert [one.number for one in item.classes] == best.tolist()
        np.testing.assert_allclose([one.score for one in item.classes], expected[best], atol=1e-6)


def test_the_vectors_have_length_one_and_pairs_their_cosine(embedder: Workspace, folder: Path) -> None:
    result = predict(embedder, [folder], PredictOptions(pairs=True))
    vectors = []
    for item, image in zip(result.images, pictures(4), strict=True):
        assert isinstance(item, Embedded)
        expected = outputs(embedder, fit(image, SIZE, SIZE, Resize.STRETCH, (0, 0, 0))[0]).astype(np.float64)
        assert item.length == pytest.approx(np.linalg.norm(expected), rel=1e-5)
        np.testing.assert_allclose(item.vector, expected / np.linalg.norm(expected), atol=1e-5)
        vectors.append(np.array(item.vector))
    assert [pair.images for pair in result.pairs] == [
        (folder / "0.png", folder / "1.png"),
        (folder / "2.png", folder / "3.png"),
    ]
    assert result.pairs[0].cosine == pytest.approx(vectors[0] @ vectors[1])
    assert result.pairs[1].cosine == pytest.approx(vectors[2] @ vectors[3])


def test_two_images_are_a_pair_and_three_are_none(embedder: Workspace, folder: Path) -> None:
    assert len(predict(embedder, [folder / "0.png", folder / "1.png"]).pairs) == 1
    assert predict(embedder, [folder / "0.png", folder / "1.png", folder / "2.png"]).pairs == ()


def test_labels_name_the_classes(classifier: Workspace, folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "synset.txt"
    labels.write_text(
        "".join(f"n0000000{number} name {number}, other\n" for number in range(CLASSES)), encoding="utf-8"
    )
    assert read_labels(labels)[2] == "name 2, other"
    (item,) = predict(classifier, [folder / "0.png"], PredictOptions(labels=labels, top=CLASSES)).images
    assert isinstance(item, Classified)
    assert sorted(one.label for one in item.classes) == [f"name {number}, other" for number in range(CLASSES)]
    assert all(one.label == f"name {one.number}, other" for one in item.classes)
    labels.write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(DetectionError, match="6 classes, and there are 2 labels"):
        predict(classifier, [folder / "0.png"], PredictOptions(labels=labels))


def test_an_unreadable_image_is_an_outcome_and_its_pair_has_no_cosine(
    embedder: Workspace, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    result = predict(embedder, [tmp_path / "broken.png", folder / "0.png"])
    assert isinstance(result.images[0], NotRead)
    assert isinstance(result.images[1], Embedded)
    assert result.pairs[0].cosine is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(PredictOptions(pairs=True), "gives classes", id="pairs of a classifier"),
        pytest.param(PredictOptions(labels=Path("nowhere.txt")), "nowhere.txt cannot be read", id="no labels"),
    ],
)
def test_options_of_another_task_are_refused(
    options: PredictOptions, message: str, classifier: Workspace, folder: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        predict(classifier, [folder], options)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_task_is_sent_to_its_verb(embedder: Workspace, folder: Path, tmp_path: Path) -> None:
    detector = Workspace(load_model("ssh-mxnet"), tmp_path)
    with pytest.raises(UsageError, match=r"^ssh-mxnet: has the task anchor_detection.*use sshtool detect$"):
        predict(detector, [folder])
    with pytest.raises(UsageError, match="3 different images are no pairs"):
        predict(embedder, [folder / f"{number}.png" for number in range(3)], PredictOptions(pairs=True))
    with pytest.raises(UsageError, match="which have no classes"):
        predict(embedder, [folder], PredictOptions(top=2))


def test_what_a_person_and_a_program_read(
    classifier: Workspace, embedder: Workspace, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    validator = jsonschema.Draft202012Validator(json.loads(shipped_schema("predict")))
    for workspace, more in ((classifier, ("--top", "2")), (embedder, ("--pairs",))):
        model = workspace.folder.parent / f"{workspace.model.name}.toml"
        place = ("--model", model, "-o", workspace.folder)
        images = (folder / "0.png", folder / "1.png", folder / "2.png", tmp_path / "broken.png")
        done = sshtool("predict", *images, *place, *more, "--json", "--quiet", code=1)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        for document in documents:
            validator.validate(document)
        assert [Path(item["image"]).name for item in documents if "image" in item] == [path.name for path in images]
        assert sum("pair" in item for item in documents) == (2 if "--pairs" in more else 0)
        expected = predict(workspace, images[:1], PredictOptions(top=2 if "--top" in more else None)).images[0]
        assert documents[0].items() >= json.loads(json.dumps(as_json(expected), default=str)).items()
    stream = io.StringIO()
    console(file=stream, width=400).print(render(predict(embedder, images[:2]), True))
    table = stream.getvalue()
    assert all(word in table for word in ("dimensions", "cosine", "0.png", "1.png"))
