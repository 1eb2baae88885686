from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sshconvert.errors import EvaluationError, OutputError, UsageError
from sshtool.evaluate.predictions import (
    NONE,
    Predictions,
    from_corners,
    prediction_file,
    read_predictions,
    unmatched_files,
    write_predictions,
)
from sshtool.evaluate.records import ImageRecord, Judgement, in_order
from sshtool.evaluate.score import SAVED_OMZ, finish, judge_image, score_predictions
from sshtool.wider_face.ground_truth import GroundTruth, ImageTruth

IMAGE = "0--Parade/0_Parade_1.jpg"

TEXT = "0_Parade_1\n2\n10 20 30 40 0.5\n-1.5 2 3 4 1e-3\n"


def put(folder: Path, text: str | bytes, image: str = IMAGE) -> Path:
    path = prediction_file(folder, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- the text format ---


def test_predictions_are_read(tmp_path: Path) -> None:
    put(tmp_path, TEXT)
    found = read_predictions(tmp_path, IMAGE)
    assert found.boxes.tolist() == [[10, 20, 30, 40], [-1.5, 2, 3, 4]]
    assert found.scores.tolist() == [0.5, 0.001]
    assert found.boxes.dtype == found.scores.dtype == np.float64


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(TEXT.replace("\n", " \n").replace(" 20", "\t20"), id="blanks and tabs"),
        pytest.param(TEXT + "\n\n", id="blank lines at the end"),
        pytest.param(TEXT.rstrip(), id="no last line end"),
        pytest.param("\ufeff" + TEXT, id="byte order mark"),
        pytest.param(TEXT.replace("0_Parade_1", "0--Parade/0_Parade_1.jpg"), id="a path for a name"),
        pytest.param(TEXT.replace("0_Parade_1\n", "\n"), id="no name"),
    ],
)
def test_what_is_meant_is_read(text: str, tmp_path: Path) -> None:
    put(tmp_path, text)
    found = read_predictions(tmp_path, IMAGE)
    assert found.boxes.tolist() == [[10, 20, 30, 40], [-1.5, 2, 3, 4]]


def test_a_file_may_hold_no_predictions(tmp_path: Path) -> None:
    put(tmp_path, "0_Parade_1\n0\n")
    assert read_predictions(tmp_path, IMAGE).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 2: ", id="empty"),
        pytest.param("name\n", "line 2: ", id="no number"),
        pytest.param("name\nx\n", "line 2: ", id="a number that is none"),
        pytest.param("name\n" + "9" * 5000, "line 2: ", id="5000 digits"),
        pytest.param("name\n2\n1 2 3 4 0.5\n", "says 2 predictions, 1 found", id="too few"),
        pytest.param("name\n0\n1 2 3 4 0.5\n", "says 0 predictions, 1 found", id="too many"),
        pytest.param("name\n-1\n", "line 2: ", id="negative"),
        pytest.param("name\n100001\n", "line 2: ", id="more than any network finds"),
        pytest.param("name\n1\n" + "1 2 3 4 1\n" * 200_000, "says 1 predictions, 200000 found", id="many more"),
        pytest.param("name\n1\n" + "1" * 100_000, "line 3: .*65536", id="an endless line"),
        pytest.param("name\n1\n1 2 3 4\n", "prediction 1: .*'1 2 3 4'", id="four fields"),
        pytest.param("name\n1\n1 2 3 4 5 6\n", "prediction 1: x y w h score expected", id="six fields"),
        pytest.param("name\n2\n1 2 3 4 1\n1 2 3 4 x\n", "prediction 2: x y w h score expected", id="not a number"),
        pytest.param("name\n1\n1 2 3 4 nan\n", "prediction 1", id="NaN"),
        pytest.param("name\n1\n1 inf 3 4 1\n", "prediction 1", id="infinity"),
        pytest.param("name\n1\n1 2 3 1e39 1\n", "prediction 1", id="beyond float32"),
        pytest.param(b"name\n1\n\xff\n", "UTF-8", id="no text"),
    ],
)
def test_a_malformed_file_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    put(tmp_path, text)
    with pytest.raises(EvaluationError, match=rf"0_Parade_1\.txt: .*{message}"):
        read_predictions(tmp_path, IMAGE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"0_Parade_1\.txt"):
        read_predictions(tmp_path, IMAGE)
    prediction_file(tmp_path, IMAGE).mkdir(parents=True)
    with pytest.raises(EvaluationError, match=r"0_Parade_1\.txt"):
        read_predictions(tmp_path, IMAGE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = prediction_file(tmp_path, IMAGE)
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(EvaluationError, match=path.name):
        read_predictions(tmp_path, IMAGE)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file that nobody can read")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = prediction_file(tmp_path, IMAGE)
    path.parent.mkdir()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(EvaluationError, match=r"\.txt: cannot be read \(.*; change its permissions"):
        read_predictions(tmp_path, IMAGE)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, TEXT)
    os.truncate(prediction_file(tmp_path, IMAGE), (32 << 20) + 1)
    with pytest.raises(EvaluationError, match="33554432"):
        read_predictions(tmp_path, IMAGE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_survive_being_written_to_the_last_bit(dtype: type, tmp_path: Path) -> None:
    random: Any = np.random.RandomState(0)
    values = (random.standard_normal((500, 5)) * 10.0 ** random.randint(-30, 30, (500, 5))).astype(dtype)
    written = Predictions(values[:, :4].astype(np.float64), values[:, 4].astype(np.float64))
    path = write_predictions(tmp_path, IMAGE, written)
    found = read_predictions(tmp_path, IMAGE)
    np.testing.assert_array_equal(found.boxes.astype(dtype), values[:, :4])
    np.testing.assert_array_equal(found.boxes, written.boxes)
    np.testing.assert_array_equal(found.scores, written.scores)  # in their order, too
    assert path.read_bytes() == write_predictions(tmp_path / "again", IMAGE, found).read_bytes()


def test_the_text_is_the_official_one(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, IMAGE, from_corners(np.array([[1, 2, 11, 22.5]]), np.array([0.25])))
    assert path == tmp_path / "0--Parade" / "0_Parade_1.txt"
    assert path.read_bytes() == b"0_Parade_1\n1\n1.0 2.0 10.0 20.5 0.25\n"
    assert write_predictions(tmp_path, IMAGE, NONE).read_bytes() == b"0_Parade_1\n0\n"
    assert [item.name for item in path.parent.iterdir()] == ["0_Parade_1.txt"]


def test_a_name_with_dots_keeps_them(tmp_path: Path) -> None:
    assert prediction_file(tmp_path, "a/b.c.jpg") == tmp_path / "a" / "b.c.txt"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "0--Parade").touch()
    with pytest.raises(OutputError, match=r"0--Parade"):
        write_predictions(tmp_path, IMAGE, NONE)


def test_files_of_no_image_are_found(tmp_path: Path) -> None:
    for image in (IMAGE, "0--Parade/other.jpg", "1--X/a.jpg"):
        put(tmp_path, TEXT, image)
    (tmp_path / "readme.txt").touch()
    assert unmatched_files(tmp_path, [IMAGE, "2--Y/b.jpg"]) == ["0--Parade/other.txt", "1--X/a.txt"]


# --- scoring a folder ---

FACE = [100.0, 100.0, 80.0, 80.0]


def ground_truth(count: int = 3) -> GroundTruth:
    boxes = np.array([FACE])
    images = tuple(
        ImageTruth(f"0--Parade/0_Parade_{number}.jpg", boxes, boxes, {"easy": np.array([True])})
        for number in range(count)
    )
    return GroundTruth(images, ("easy",), "digest", ())


def test_a_folder_is_scored_by_both_protocols(tmp_path: Path) -> None:
    truth = ground_truth()
    for number, image in enumerate(truth.images):
        rows = f"100 100 80 80 0.{9 - number}\n500 500 9 9 0.1"
        put(tmp_path, f"name\n2\n{rows}\n", image.image)
    for protocol, setting in (("omz", "mAP"), ("wider", "easy")):
        result = score_predictions(truth, tmp_path, protocol)
        assert [(curve.setting, curve.average_precision) for curve in result.curves] == [(setting, 1.0)]
        assert (result.protocol, result.images, result.predictions, result.failures) == (protocol, 3, 6, ())
    assert score_predictions(truth, tmp_path, "omz").notes == (SAVED_OMZ,)
    assert score_predictions(truth, tmp_path, "wider").notes == ()


@pytest.mark.parametrize("protocol", ["omz", "wider"])
def test_missing_and_unreadable_files_count_as_no_prediction_and_are_reported(protocol: str, tmp_path: Path) -> None:
    truth = ground_truth()
    put(tmp_path, "name\n2\n100 100 80 80 0.9\n500 500 9 9 0.1\n", truth.images[0].image)
    put(tmp_path, "name\n1\n100 100 80 80 high\n", truth.images[2].image)
    result = score_predictions(truth, tmp_path, protocol)
    assert result.curves[0].average_precision == pytest.approx(1 / 3)
    assert [image for image, _ in result.failures] == [truth.images[1].image, truth.images[2].image]
    assert Path(truth.images[1].image).stem in result.failures[0][1]
    assert "prediction 1: x y w h score expected" in result.failures[1][1]


def test_predictions_for_unknown_images_are_reported(tmp_path: Path) -> None:
    truth = ground_truth(1)
    put(tmp_path, TEXT, truth.images[0].image)
    put(tmp_path, TEXT, "9--Other/1.jpg")
    notes = score_predictions(truth, tmp_path, "wider").notes
    assert notes[-1] == "1 files of predictions belong to no image of the dataset, such as 9--Other/1.txt."


def test_a_folder_without_predictions_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "results", TEXT, "0--Parade/0_Parade_0.jpg")
    with pytest.raises(EvaluationError, match=r"3.*0_Parade_0\.txt"):
        score_predictions(ground_truth(), tmp_path, "wider")


def test_an_unknown_protocol_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'coco' .*omz, wider"):
        score_predictions(ground_truth(), tmp_path, "coco")


@pytest.mark.parametrize("protocol", ["omz", "wider"])
def test_saved_predictions_give_the_figure_of_the_run(protocol: str, tmp_path: Path) -> None:
    random: Any = np.random.RandomState(3)
    truth = ground_truth(20)
    records = []
    for index, image in enumerate(truth.images):
        corners = (np.array([100, 100, 180, 180]) + random.standard_normal((30, 4)) * 12).astype(np.float32)
        found = from_corners(corners / np.array([0.7, 0.3, 0.7, 0.3]), random.choice([0.25, 0.5, 0.999], 30))
        write_predictions(tmp_path, image.image, found)
        records.append(judge_image(index, image, {protocol: found}))
    single, saved = finish(records, protocol), score_predictions(truth, tmp_path, protocol)
    assert repr(single.curves) == repr(saved.curves)
    np.testing.assert_array_equal(single.curves[0].precision, saved.curves[0].precision)


# --- records ---


def record(index: int = 3) -> ImageRecord:
    scores = np.array([0.1, 1 / 3, 5e-324])
    judgement = Judgement(scores, {"easy": "TDF", "hard": "NTF"}, {"easy": 1, "hard": 2})
    return ImageRecord(index, IMAGE, {"wider": judgement}, failure="")


def test_records_are_put_into_the_order_of_the_data_set() -> None:
    assert [one.index for one in in_order([record(5), record(0), record(2)])] == [0, 2, 5]


def test_a_record_that_comes_twice_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"twice \(as number 1\)"):
        in_order([record(0), record(1), record(1)])
