"""`sshtool.Detector`, the detector that other programs import."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError, ImageError, ModelError
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool import Detector, DetectorOptions, ImageDetections

pytest.importorskip("onnxruntime")
pillow = pytest.importorskip("PIL.Image")
ALL = DetectorOptions(threshold=0.05)
SHOWN = 3  # detections; random weights give hundreds


@pytest.fixture(scope="module")
def onnx_file(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(("onnx",), input_shape=(2, 3, 64, 96))
    return convert(plain_checkpoint, tmp_path_factory.mktemp("library"), options)[0].path


@pytest.fixture(scope="module")
def detector(onnx_file: Path) -> Detector:
    return Detector(onnx_file, options=ALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(7)
    for number in range(5):
        pixels = random.integers(0, 256, (40 + 9 * number, 90, 3), np.uint8)
        pillow.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def same(one: ImageDetections, other: ImageDetections) -> bool:
    return all(
        np.array_equal(ours, theirs)
        for ours, theirs in ((one.boxes, other.boxes), (one.scores, other.scores), (one.image, other.image))
    )


def test_a_path_an_array_and_pillows_image_give_the_same_detections(detector: Detector, photos: list[Path]) -> None:
    detections = detector.detect(photos[0])
    assert len(detections) > SHOWN
    assert detections.boxes.shape == (len(detections), 4)
    assert (np.diff(detections.scores) <= 0).all()
    with pillow.open(photos[0]) as picture:
        assert same(detector.detect(picture), detections)
    assert same(detector.detect(str(photos[0])), detections)
    assert same(detector.detect(detections.image), detections)


def test_many_images_come_in_order_from_an_iterable_without_end(detector: Detector, photos: list[Path]) -> None:
    def endless() -> Iterator[Path]:
        while True:
            yield from photos

    one_by_one = [detector.detect(photo) for photo in photos]
    results = detector.detect_all(endless())
    assert all(same(next(results), one_by_one[number % len(photos)]) for number in range(12))
    results.close()
    assert same(detector.detect(photos[1]), one_by_one[1])  # ending one computation ends no other


def test_threads_share_a_detector(detector: Detector, photos: list[Path]) -> None:
    one_by_one = [detector.detect(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: [*detector.detect_all(photos)], range(4)))
    assert all(same(ours, right) for result in results for ours, right in zip(result, one_by_one, strict=True))


def test_another_process_loads_the_file_again(detector: Detector, photos: list[Path]) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert same(pool.submit(detector.detect, photos[0]).result(), detector.detect(photos[0]))


def test_the_model_is_the_one_that_the_file_names(
    plain_checkpoint: Checkpoint, onnx_file: Path, photos: list[Path], tmp_path: Path
) -> None:
    by_name = Detector(onnx_file, "ssh-mxnet", ALL)
    assert same(by_name.detect(photos[0]), Detector(str(onnx_file), options=ALL).detect(photos[0]))
    with pytest.raises(ModelError, match="no such model"):
        Detector(onnx_file, "ssh-mxnot")
    own = replace(plain_checkpoint, model=plain_checkpoint.model.model_copy(update={"name": "own\u202e"}))
    path = convert(own, tmp_path, Options(("onnx",), input_shape=(1, 3, 64, 64), dynamic=Dynamic.NOTHING))[0].path
    with pytest.raises(ArtifactError, match="which does not ship"):
        Detector(path)
    Detector(path, load_model("ssh-mxnet"))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1]],
        None,
        Path("absent.jpg"),
    ],
    ids=["grey", "float", "empty", "list", "none", "absent"],
)
def test_what_is_no_image_is_refused_in_one_line(detector: Detector, image: Any) -> None:
    for detect in (detector.detect, lambda given: next(detector.detect_all([given]))):
        with pytest.raises(ImageError) as raised:
            detect(image)
        assert "\n" not in str(raised.value)


def test_a_notebook_shows_the_picture_and_escaped_labels(detector: Detector, photos: list[Path]) -> None:
    detections = detector.detect(photos[0])
    page = replace(detections, labels=("<b>",) * len(detections))._repr_html_()
    assert page.startswith(f'<figure><img alt="{len(detections)} detections" src="data:image/png;base64,')
    assert "<td>&lt;b&gt;</td>" in page
    assert "<b>" not in page
    assert page.count("<tr>") == len(detections) + 1


def test_a_picture_is_saved(detector: Detector, photos: list[Path], tmp_path: Path) -> None:
    detector.detect(photos[2]).save_picture(tmp_path / "boxes.png")
    with pillow.open(tmp_path / "boxes.png") as picture:
        assert picture.size == (90, 58)


def test_the_result_is_frozen_and_the_names_are_imported_at_their_first_use(
    detector: Detector, photos: list[Path]
) -> None:
    detections = detector.detect(photos[0])
    with pytest.raises(AttributeError):
        detections.boxes = detections.boxes  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError, match="Detectors"):
        _ = sshtool.Detectors  # as above
    restored: Callable[..., Any] = pickle.loads(pickle.dumps(detections))  # noqa: S301  # our own
    assert isinstance(restored, ImageDetections)
