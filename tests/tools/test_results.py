"""Saving what `detect` finds: pictures of each detection, and formats for all of them."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from command_line import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import OutputError
from sshconvert.options import Options
from sshtool.results.base import RESULTS, Meaning
from sshtool.results.crops import SIZE, TEMPLATE, aligned, save_crop, similarity
from sshtool.results.outcomes import Detected, Detection

pillow = pytest.importorskip("PIL.Image")

MEANING: Final = Meaning(("cat", "dog"), last_pixel=1, attributes=("mask",), points=1)
DOG: Final = Detection((10, 20, 29, 49), 0.75, "dog", ((15.0, 25.5),), {"mask": 0.25})
CAT: Final = Detection((0, 0, 99, 79), 0.5, "cat", ((1.0, 2.0),), {"mask": 0.5})


def image(name: str, *detections: Detection, folder: str = "photos") -> Detected:
    return Detected(Path(folder, name), 100, 80, detections, None, "f32", Path(name).stem)


IMAGES: Final = (image("a,b.jpg", DOG, CAT), image("empty.jpg"), image("c\udcff.jpg", CAT))


def saved(key: str, folder: Path) -> Path:
    path = folder / RESULTS[key].place
    with RESULTS[key].opened(path, MEANING) as write:
        for item in IMAGES:
            write(item)
    return path


def test_json_lines_are_those_of_the_verb(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in saved("jsonl", tmp_path).read_text("utf-8").splitlines()]
    assert [line["image"] for line in lines] == ["photos/a,b.jpg", "photos/empty.jpg", "photos/c\\xff.jpg"]
    assert lines[0]["detections"][0]["box"] == [10, 20, 29, 49]


def test_csv_has_a_row_for_each_detection(tmp_path: Path) -> None:
    with saved("csv", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["photos/a,b.jpg", "photos/a,b.jpg", "photos/c\\xff.jpg"]
    assert rows[0] == {
        "image": "photos/a,b.jpg", "label": "dog", "score": "0.75", "x1": "10", "y1": "20", "x2": "29", "y2": "49",
        "x_landmark1": "15.0", "y_landmark1": "25.5", "mask": "0.25", "frame": "", "time": "",
    }  # fmt: skip


def test_coco_counts_pixels_from_their_corners(tmp_path: Path) -> None:
    document = json.loads(saved("coco", tmp_path).read_text("utf-8"))
    assert [entry["id"] for entry in document["images"]] == [1, 2, 3]
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, second, third = document["annotations"]
    assert first["bbox"] == [10, 20, 20, 30]  # 20 columns and 30 rows of pixels
    assert (first["area"], first["category_id"], first["keypoints"]) == (600, 2, [15.0, 25.5, 2])
    assert second["bbox"] == [0, 0, 100, 80]  # the whole image
    assert (third["image_id"], third["id"]) == (3, 3)


def test_coco_without_images_is_a_document_too(tmp_path: Path) -> None:
    with RESULTS["coco"].opened(tmp_path / "coco.json", MEANING):
        pass
    document = json.loads((tmp_path / "coco.json").read_text("utf-8"))
    assert (document["images"], document["annotations"]) == ([], [])


def test_yolo_is_relative_to_the_image(tmp_path: Path) -> None:
    folder = saved("yolo", tmp_path)
    assert (folder / "classes.txt").read_text("utf-8") == "cat\ndog\n"
    dog, cat = (folder / "labels" / "a,b.txt").read_text("utf-8").splitlines()
    assert dog == "1 0.200000 0.437500 0.200000 0.375000 0.750000"
    assert cat == "0 0.500000 0.500000 1.000000 1.000000 0.500000"
    assert (folder / "labels" / "empty.txt").read_bytes() == b""


def test_wider_is_what_evaluate_reads(tmp_path: Path) -> None:
    from sshtool.evaluate.predictions import read_predictions

    folder = saved("wider", tmp_path)
    predictions = read_predictions(folder, "photos/a,b.jpg")
    assert predictions.boxes.tolist() == [[10, 20, 19, 29], [0, 0, 99, 79]]
    assert predictions.scores.tolist() == [0.75, 0.5]
    assert len(read_predictions(folder, "photos/empty.jpg").scores) == 0


@pytest.mark.parametrize("key", ["jsonl", "csv", "coco"])
def test_no_file_is_left_if_something_fails(key: str, tmp_path: Path) -> None:
    path = tmp_path / RESULTS[key].place
    path.write_text("old")
    with contextlib.suppress(ZeroDivisionError), RESULTS[key].opened(path, MEANING) as write:
        write(IMAGES[0])
        _ = 1 / 0
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path]


def noise(height: int, width: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def test_the_similarity_is_the_one_that_moved_the_points() -> None:
    angle, scale, shift = 0.4, 1.7, np.array([5.0, -3.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATE @ turn.T + shift
    assert np.allclose(similarity(TEMPLATE, moved), np.column_stack([turn, shift]))


def test_a_face_that_lies_as_in_the_template_is_cut_out_as_it_is() -> None:
    pixels = noise(140, 150)
    face = aligned(pixels, TEMPLATE + np.array([20, 11]))
    assert np.array_equal(np.asarray(face)[..., ::-1], pixels[11 : 11 + SIZE, 20 : 20 + SIZE])


def test_the_landmarks_of_a_turned_and_large_face_come_to_those_of_the_template() -> None:
    """Five bright discs at the landmarks of a large turned face lie at the template's landmarks afterwards."""
    turn = 5.3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    landmarks = TEMPLATE @ turn.T + (420, 60)
    rows, columns = np.mgrid[:900, :900]
    pixels = np.zeros((900, 900, 3), np.uint8)
    for x, y in landmarks:
        pixels[(columns - x) ** 2 + (rows - y) ** 2 < 15**2] = 255
    face = np.asarray(aligned(pixels, landmarks)).astype(float)[..., 0]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for x, y in TEMPLATE:
        weights = face * ((columns - x) ** 2 + (rows - y) ** 2 < 6**2)
        centre = (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()
        assert np.allclose(centre, (x, y), atol=0.15)


def test_landmarks_in_one_point_or_outside_give_a_black_face() -> None:
    assert not np.asarray(aligned(noise(50, 50), np.full((5, 2), 20.0))).any()
    assert not np.asarray(aligned(noise(50, 50), TEMPLATE + np.full(2, 5000.0))).any()


def test_a_box_is_cut_out_with_its_margin_inside_the_image(tmp_path: Path) -> None:
    pixels = noise(80, 100)
    for margin, rows, columns in ((0, (20, 50), (10, 30)), (0.5, (5, 65), (0, 45)), (10, (0, 80), (0, 100))):
        save_crop(tmp_path / "crop.png", pixels, DOG, margin=margin, last_pixel=1)
        with pillow.open(tmp_path / "crop.png") as crop:
            assert np.array_equal(np.asarray(crop)[..., ::-1], pixels[slice(*rows), slice(*columns)])


def test_the_verb_saves_all_of_it(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    convert(plain_checkpoint, tmp_path, Options(("onnx",), input_shape=(1, 3, 64, 64)))
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        pillow.fromarray(noise(60, 70)).save(tmp_path / place / "same.png")
    places = (tmp_path / "one", tmp_path / "two", "-o", tmp_path)
    result = sshtool("detect", *places, "--threshold", "0.3", "--save-crops", "--save-results", "csv,yolo", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    folder = tmp_path / "ssh-mxnet" / "detections"
    crops = [Path(crop) for line in lines for crop in line["crops"]]
    assert len(set(crops)) == sum(len(line["detections"]) for line in lines) > 0
    assert set(crops) == set((folder / "crops").iterdir())
    assert {path.name for path in (folder / "yolo" / "labels").iterdir()} == {"same.txt", "same-2.txt"}
    assert len((folder / "detections.csv").read_text().splitlines()) == 1 + len(crops)
    sshtool("detect", *places, "--save-results", "xml", code=2)


def test_results_that_cannot_be_written_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError), RESULTS["yolo"].opened(tmp_path / "taken" / "yolo", MEANING):
        pass
