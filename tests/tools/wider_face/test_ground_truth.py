from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sshconvert.errors import DatasetError, OutputError, RuntimeUnavailableError
from sshtool.wider_face import annotations as annotation_text, ground_truth, matfile
from sshtool.wider_face.annotations import Annotation, read_annotations
from sshtool.wider_face.ground_truth import ImageTruth, read_ground_truth, write_ground_truth

scipy_io: Any = pytest.importorskip("scipy.io")

NAMES = ("event_list", "file_list", "face_bbx_list")

TEXT = """0--Parade/0_Parade_marchingband_1_849.jpg
1
449 330 122 149 0 0 0 0 0 0
0--Parade/0_Parade_Parade_0_452.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/1_Handshaking_Handshaking_1_35.jpg
2
10 20 30 40 2 1 0 1 2 1
5 6 0 -2 0 0 0 0 0 0
"""


def read(folder: Path, text: str | bytes) -> tuple[Annotation, ...]:
    path = folder / "wider_face_val_bbx_gt.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_annotations(path)


# --- the annotation text ---


def test_an_annotation_text_is_read_line_by_line(tmp_path: Path) -> None:
    one, none, two = read(tmp_path, TEXT)
    assert one.image == "0--Parade/0_Parade_marchingband_1_849.jpg"
    assert one.boxes.tolist() == [[449, 330, 122, 149]]
    assert one.boxes.dtype == np.float64
    assert none.boxes.shape == (0, 4)
    assert none.flags.shape == (0, 6)
    assert two.boxes.tolist() == [[10, 20, 30, 40], [5, 6, 0, -2]]
    assert two.flags.tolist() == [[2, 1, 0, 1, 2, 1], [0] * 6]
    assert two.invalid.tolist() == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(TEXT.replace("\n", " \t \n"), id="trailing blanks"),
        pytest.param("\n" + TEXT.replace("\n", "\n\n") + "\n\n", id="blank lines"),
        pytest.param("\ufeff" + TEXT, id="byte order mark"),
        pytest.param(TEXT.rstrip(), id="no last line end"),
        pytest.param(TEXT.replace("0 0 0 0 0 0 0 0 0 0\n1--", "1--"), id="no line of zeros"),
        pytest.param(TEXT.replace("0 0 0 0 0 0 0 0 0 0\n1--", "0 0 0 0\n1--"), id="a short line of zeros"),
        pytest.param(TEXT.replace("449 330 122 149 0 0 0 0 0 0", "449 330 122 149"), id="no flags"),
        pytest.param(TEXT.replace("5 6 0 -2 0 0 0 0 0 0", "5.0 6 0 -2.0 0 0"), id="some flags, fractions"),
    ],
)
def test_what_is_meant_is_read(text: str, tmp_path: Path) -> None:
    expected = read(tmp_path, TEXT)
    for found, one in zip(read(tmp_path, text), expected, strict=True):
        assert found.image == one.image
        np.testing.assert_array_equal(found.boxes, one.boxes)
        np.testing.assert_array_equal(found.flags, one.flags)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("a/b.jpg\n", 1, "number of faces .* ends", id="ends after a path"),
        pytest.param("a/b.jpg\n2\n1 2 3 4\n", 3, "face 2 of 2", id="ends in faces"),
        pytest.param("a/b.jpg\nx\n", 2, r"100000.*'x'", id="no number"),
        pytest.param("a/b.jpg\n-1\n", 2, "number of faces", id="a negative number"),
        pytest.param("a/b.jpg\n1000000000\n", 2, "number of faces", id="a huge number"),
        pytest.param("a/b.jpg\n100001\n", 2, "number of faces", id="a number too large by one"),
        pytest.param("a/b.jpg\n" + "9" * 5000 + "\n", 2, "number of faces", id="a number of 5000 digits"),
        pytest.param("a/b.jpg\n\u0663\n", 2, "number of faces", id="digits of another script"),
        pytest.param("a/b.jpg\n1\n1 2 3\n", 3, "x y w h .*'1 2 3'", id="three fields"),
        pytest.param("a/b.jpg\n1\n1 2 3 4 0 0 0 0 0 0 0\n", 3, "x y w h", id="eleven fields"),
        pytest.param("a/b.jpg\n1\n1 2 x 4\n", 3, "x y w h", id="not a number"),
        pytest.param("a/b.jpg\n1\n1 2 nan 4\n", 3, "x y w h", id="NaN"),
        pytest.param("a/b.jpg\n1\n1 2 inf 4\n", 3, "x y w h", id="infinity"),
        pytest.param("a/b.jpg\n1\n1 2 3 4e9\n", 3, "1000000", id="a huge box"),
        pytest.param("a/b.jpg\n1\n1 2 3 4 -1\n", 3, "flags 0-9 expected", id="a negative flag"),
        pytest.param("a/b.jpg\n1\n1 2 3 4 0.5\n", 3, "flags 0-9 expected", id="half a flag"),
        pytest.param("a/b.jpg\n1\n1 2 3 4\n5 6 7 8\n", 4, "path .*'5 6 7 8'", id="too many faces"),
        pytest.param("a/b.jpg\n0\n1 2 3 4\n", 3, "path of an image", id="no faces, and one"),
        pytest.param("b.jpg\n0\n", 1, "not an event's", id="no folder"),
        pytest.param("a/b/c.jpg\n0\n", 1, "not an event's", id="two folders"),
        pytest.param("../b.jpg\n0\n", 1, "not an event's", id="a folder above"),
        pytest.param("/b.jpg\n0\n", 1, "not an event's", id="an absolute path"),
        pytest.param("a\\..\\b/c.jpg\n0\n", 1, "has characters", id="backslashes"),
        pytest.param("c:/b.jpg\n0\n", 1, "has characters", id="a drive"),
        pytest.param("a/\x00b.jpg\n0\n", 1, "has characters", id="a zero byte"),
        pytest.param("a/b.jpg\n0\na/b.jpg\n0\n", 3, r"a/b\.jpg .*twice", id="an image twice"),
        pytest.param("a" * 100_000, 1, "65536", id="an endless line"),
    ],
)
def test_a_malformed_line_is_named(text: str, line: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"wider_face_val_bbx_gt\.txt: line {line}: .*{message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    ["".join(f"a/{number:x}\n0\n" for number in range(500_000)), "a/b\n9000\n" + "1 2 3 4\n" * 9000],
    ids=["images", "faces"],
)
def test_a_text_of_too_many_images_or_faces_is_refused_before_it_fills_memory(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_text, "MOST_IMAGES", 1000)  # of what is allowed in all, to save time
    monkeypatch.setattr(annotation_text, "MOST_FACES_IN_ALL", 2000)
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"1000.*2000"):
            read_annotations(tmp_path / "a.txt")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_what_is_no_annotation_text_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no images"):
        read(tmp_path, "\n \n")
    with pytest.raises(DatasetError, match=r"UTF.*8"):
        read(tmp_path, b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"no\.txt"):
        read_annotations(tmp_path / "no.txt")
    with pytest.raises(DatasetError, match=tmp_path.name):
        read_annotations(tmp_path)
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DatasetError, match="67108864"):
        read_annotations(tmp_path / "large.txt")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file that nobody can read")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, cannot_be_read in (("a.txt", read_annotations), ("a.mat", lambda path: matfile.read_cells(path, NAMES))):
        (tmp_path / name).symlink_to("/proc/self/mem")
        with pytest.raises(DatasetError, match=rf"{name}: cannot be read \("):
            cannot_be_read(tmp_path / name)


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, "x" * 100_000)
    assert len(str(caught.value)) < 500


# --- the official .mat files ---


def drawn() -> list[ImageTruth]:
    """Three images of two events: two faces, none, and the line of zeros that WIDER FACE has for none."""
    boxes: list[list[list[int]]] = [[[1, 2, 30, 40], [5, 6, 70, 0]], [], [[0, 0, 0, 0]]]
    counts = [{"easy": [0], "medium": [0, 1], "hard": [1]}, {}, {}]
    names = ("0--Parade/0_Parade_1.jpg", "0--Parade/0_Parade_2.jpg", "10--People/10_People_1.jpg")
    images = []
    for name, rows, counted in zip(names, boxes, counts, strict=True):
        array = np.array(rows, np.float64).reshape(-1, 4)
        masks = {}
        for setting in ("easy", "medium", "hard"):
            masks[setting] = np.isin(np.arange(len(array)), counted.get(setting, []))
        images.append(ImageTruth(name, array, array, masks))
    return images


def assert_same(found: ImageTruth, expected: ImageTruth) -> None:
    assert found.image == expected.image
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.annotated, expected.annotated)
    assert list(found.counted) == list(expected.counted)
    for setting, counted in expected.counted.items():
        assert found.counted[setting].tolist() == counted.tolist()


def test_ground_truth_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = write_ground_truth(tmp_path / "ground_truth", drawn())
    assert [path.name for path in paths] == list(ground_truth.MAT_FILES)
    found = read_ground_truth(tmp_path)
    assert found.settings == ("easy", "medium", "hard")
    assert found.sources == paths
    for image, expected in zip(found.images, drawn(), strict=True):
        assert_same(image, expected)


def test_the_files_have_the_official_structure(tmp_path: Path) -> None:
    write_ground_truth(tmp_path, drawn())
    faces = scipy_io.loadmat(tmp_path / "wider_face_val.mat")
    assert faces["event_list"].shape == faces["file_list"].shape == faces["face_bbx_list"].shape == (2, 1)
    assert faces["event_list"][1, 0].tolist() == ["10--People"]
    assert faces["file_list"][0, 0].shape == (2, 1)
    assert faces["file_list"][0, 0][0, 0].tolist() == ["0_Parade_1"]
    assert faces["face_bbx_list"][0, 0][0, 0].dtype == np.int32
    assert faces["face_bbx_list"][0, 0][0, 0].tolist() == [[1, 2, 30, 40], [5, 6, 70, 0]]
    assert scipy_io.loadmat(tmp_path / "wider_medium_val.mat")["gt_list"][0, 0][0, 0].tolist() == [[1], [2]]


def test_the_same_images_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_ground_truth(tmp_path / "1", drawn())
    monkeypatch.setattr("time.asctime", lambda *_: "another day")
    second = write_ground_truth(tmp_path / "2", drawn())
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_images_that_the_files_cannot_hold_are_refused(tmp_path: Path) -> None:
    image = drawn()[0]
    fraction = ImageTruth(image.image, image.boxes, image.boxes + 0.5, image.counted)
    without = ImageTruth(image.image, image.boxes, image.boxes, {"all": image.counted["easy"]})
    for other in (fraction, without):
        with pytest.raises(DatasetError, match="easy, medium, hard"):
            write_ground_truth(tmp_path, [other])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_ground_truth(tmp_path / "file", drawn())


def test_the_real_ground_truth_is_read(shared_data: Path) -> None:
    found = read_ground_truth(shared_data / "wider")
    assert len(found.images) == 3226
    assert sum(len(image.boxes) for image in found.images) == 39708
    counts = {name: sum(int(image.counted[name].sum()) for image in found.images) for name in found.settings}
    assert counts == {"easy": 7211, "medium": 13319, "hard": 31958}
    assert found.images[0].image == "0--Parade/0_Parade_marchingband_1_465.jpg"
    assert np.flatnonzero(found.images[0].counted["hard"]).tolist() == [30, 31, 124]


def test_the_real_ground_truth_survives_being_written(shared_data: Path, tmp_path: Path) -> None:
    found = read_ground_truth(shared_data / "wider")
    write_ground_truth(tmp_path, found.images)
    assert read_ground_truth(tmp_path).digest == found.digest


# --- a data set's folder ---


def write_text(folder: Path, images: list[ImageTruth], name: str = "wider_face_val_bbx_gt.txt") -> Path:
    lines = []
    for image in images:
        rows = [" ".join(f"{value:g}" for value in row) + " 0 0 0 0 0 0" for row in image.annotated.tolist()]
        lines += [image.image, str(len(rows)), *rows]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("mats", ["ground_truth", "eval_tools/ground_truth", "wider_face_split", "."])
@pytest.mark.parametrize("text", ["wider_face_split", "."])
def test_the_layout_of_wider_face_is_found(mats: str, text: str, tmp_path: Path) -> None:
    write_ground_truth(tmp_path / mats, drawn())
    write_text(tmp_path / text, drawn())
    found = read_ground_truth(tmp_path)
    assert len(found.sources) == 5
    for image, expected in zip(found.images, drawn(), strict=True):
        assert_same(image, expected)


def test_each_protocol_has_the_boxes_of_its_own_source(tmp_path: Path) -> None:
    write_ground_truth(tmp_path, drawn())
    other = [
        ImageTruth(image.image.replace(".jpg", ".png"), image.boxes + 1, image.boxes, image.counted)
        for image in reversed(drawn())
    ]
    write_text(tmp_path, other)
    found = read_ground_truth(tmp_path).images[0]
    assert found.image == "0--Parade/0_Parade_1.png"  # the text knows the extension
    assert found.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 70, 0]]
    assert found.annotated.tolist() == [[2, 3, 31, 41], [6, 7, 71, 1]]


def test_the_text_alone_counts_every_valid_face_with_an_extent(tmp_path: Path) -> None:
    (tmp_path / "wider_face_split").mkdir()
    read(tmp_path / "wider_face_split", TEXT + "2--X/1.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n")
    found = read_ground_truth(tmp_path)
    assert found.settings == ("all",)
    assert [image.counted["all"].tolist() for image in found.images] == [[True], [], [False, False], [True]]


def test_the_text_of_the_validation_set_is_taken(tmp_path: Path) -> None:
    write_text(tmp_path, drawn()[:1], "wider_face_train_bbx_gt.txt")
    assert len(read_ground_truth(tmp_path).images) == 1
    write_text(tmp_path, drawn())
    assert len(read_ground_truth(tmp_path).images) == 3
    (tmp_path / "wider_face_val_bbx_gt.txt").rename(tmp_path / "wider_face_mine_bbx_gt.txt")
    with pytest.raises(DatasetError, match=r"wider_face_mine_bbx_gt\.txt.*wider_face_train_bbx_gt\.txt"):
        read_ground_truth(tmp_path)


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"wider_face_split/wider_face_val_bbx_gt\.txt"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("keep", [slice(2), slice(1, 3)], ids=["first", "last"])
def test_text_and_ground_truth_of_different_images_are_refused(keep: slice, tmp_path: Path) -> None:
    write_ground_truth(tmp_path, drawn())
    write_text(tmp_path, drawn()[keep])
    with pytest.raises(DatasetError, match=r"wider_face_val_bbx_gt\.txt"):
        read_ground_truth(tmp_path)


def test_a_text_with_an_image_under_two_extensions_is_refused(tmp_path: Path) -> None:
    write_ground_truth(tmp_path, drawn())
    first = drawn()[0]
    twin = ImageTruth(first.image.replace(".jpg", ".png"), first.boxes, first.boxes, first.counted)
    write_text(tmp_path, [*drawn(), twin])
    with pytest.raises(DatasetError, match=r"one image .* once"):
        read_ground_truth(tmp_path)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    write_ground_truth(tmp_path, drawn())
    (tmp_path / "wider_hard_val.mat").unlink()
    with pytest.raises(DatasetError, match=r"wider_hard_val\.mat"):
        read_ground_truth(tmp_path)


def test_a_setting_of_other_images_is_refused(tmp_path: Path) -> None:
    write_ground_truth(tmp_path / "one", drawn())
    write_ground_truth(tmp_path / "other", drawn()[:2])
    (tmp_path / "other" / "wider_easy_val.mat").replace(tmp_path / "one" / "wider_easy_val.mat")
    with pytest.raises(DatasetError, match=r"wider_easy_val\.mat.*wider_face_val\.mat"):
        read_ground_truth(tmp_path / "one")


def test_the_digest_tells_ground_truths_apart(tmp_path: Path) -> None:
    digests = []
    for number in range(4):
        images = drawn()
        if number == 1:
            images[0].boxes[0, 0] += 1
        elif number == 2:
            images[0].counted["easy"][1] = True
        elif number == 3:
            images[0] = ImageTruth("0--Parade/0_Parade_9.jpg", images[0].boxes, images[0].boxes, images[0].counted)
        write_ground_truth(tmp_path / str(number), images)
        digests.append(read_ground_truth(tmp_path / str(number)).digest)
    assert len(set(digests)) == 4


def test_without_scipy_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ground_truth(tmp_path, drawn())
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(RuntimeUnavailableError, match=r"^SciPy: .*pip install .*scipy>="):
        matfile.load_variables(tmp_path / "wider_face_val.mat")  # in a process of its own otherwise
    with pytest.raises(RuntimeUnavailableError, match=r"^SciPy: .*pip install .*scipy>="):
        write_ground_truth(tmp_path, drawn())
    for path in tmp_path.glob("*.mat"):
        path.unlink()
    write_text(tmp_path, drawn())
    assert read_ground_truth(tmp_path).settings == ("all",)


# --- malformed and hostile .mat files ---


def cells(*values: Any) -> npt.NDArray[Any]:
    column = np.empty((len(values), 1), object)
    for number, value in enumerate(values):
        column[number, 0] = value
    return column


def write_mats(folder: Path, **changes: Any) -> None:
    """Valid files of one image, but for `changes` of their variables; None leaves one out."""
    variables = {
        "event_list": cells("0--Parade"),
        "file_list": cells(cells("1")),
        "face_bbx_list": cells(cells(np.array([[1, 2, 3, 4]], np.int32))),
        "gt_list": cells(cells(np.array([[1]], np.uint8))),
    } | changes
    for name in ground_truth.MAT_FILES:
        scipy_io.savemat(folder / name, {key: value for key, value in variables.items() if value is not None})


def test_the_files_of_one_image_are_read(tmp_path: Path) -> None:
    write_mats(tmp_path)
    assert read_ground_truth(tmp_path).images[0].counted["easy"].tolist() == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"event_list": None}, "event_list", id="no events"),
        pytest.param({"gt_list": None}, "gt_list", id="no numbers"),
        pytest.param({"file_list": np.ones((1, 1))}, "file_list", id="names that are an array"),
        pytest.param({"event_list": cells(np.ones((1, 1)))}, "not a text", id="an event that is a number"),
        pytest.param({"event_list": cells(), "file_list": cells()}, "holds no images", id="no event at all"),
        pytest.param({"event_list": cells("a", "b")}, "2 events, and file_list has 1", id="more events than lists"),
        pytest.param({"file_list": cells("1")}, "file_list", id="names without an inner list"),
        pytest.param({"file_list": cells(cells("1", "2"))}, "other images than file_list", id="more names"),
        pytest.param(
            {"face_bbx_list": cells(cells(*[np.ones((1, 4))] * 2)), "file_list": cells(cells("1", "1"))},
            "twice",
            id="a name twice",
        ),
        pytest.param({"event_list": cells(".."), "file_list": cells(cells("x"))}, "not an event's", id="above"),
        pytest.param({"file_list": cells(cells("../x"))}, "not an event's", id="a name with a folder"),
        pytest.param({"face_bbx_list": cells(cells(np.ones((1, 5))))}, "four finite", id="five columns"),
        pytest.param({"face_bbx_list": cells(cells(np.full((1, 4), np.nan)))}, "four finite", id="NaN"),
        pytest.param({"face_bbx_list": cells(cells(np.full((1, 4), 1e9)))}, "four finite", id="huge"),
        pytest.param({"face_bbx_list": cells(cells("text"))}, "boxes expected", id="boxes that are text"),
        pytest.param({"gt_list": cells(cells(np.array([[2]])))}, "from 1 to 1", id="no such face"),
        pytest.param({"gt_list": cells(cells(np.array([[0]])))}, "from 1 to 1", id="counted from 0"),
        pytest.param({"gt_list": cells(cells(np.array([[1], [1]])))}, "different numbers from 1", id="a number twice"),
        pytest.param({"gt_list": cells(cells(np.array([[1.5]])))}, "from 1 to 1", id="half a number"),
        pytest.param({"gt_list": cells(cells(np.array([[np.nan]])))}, "different numbers from 1", id="NaN as a number"),
        pytest.param({"gt_list": cells(cells("text"))}, "numbers of faces", id="numbers that are text"),
        pytest.param({"gt_list": cells(cells(np.array([[1j]])))}, "numbers of faces", id="complex numbers"),
        pytest.param({"gt_list": cells(cells({"a": 1}))}, "numbers of faces", id="a struct"),
        pytest.param({"gt_list": cells(cells(cells(cells("x"))))}, "numbers of faces", id="deeper cells"),
    ],
)
def test_malformed_ground_truth_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_mats(tmp_path, **changes)
    with pytest.raises(DatasetError, match=rf"wider_\w+_val\.mat: .*{message}.*; (get it again|name)"):
        read_ground_truth(tmp_path)


def test_too_many_faces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mats(tmp_path, face_bbx_list=cells(cells(np.ones((100_001, 4)))))
    with pytest.raises(DatasetError, match="1: more than 100000 faces"):
        read_ground_truth(tmp_path)
    monkeypatch.setattr(ground_truth, "MOST_FACES_IN_ALL", 1)
    write_mats(tmp_path, face_bbx_list=cells(cells(np.ones((2, 4)))))
    with pytest.raises(DatasetError, match="1 in all"):
        read_ground_truth(tmp_path)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, dimensions: tuple[int, ...], content: bytes, name: bytes = b"event_list") -> bytes:
    return element(
        14,
        element(6, struct.pack("<II", kind, 0))
        + element(5, struct.pack(f"<{len(dimensions)}i", *dimensions))
        + element(1, name)
        + content,
    )


def nested(depth: int) -> bytes:
    """A cell in a cell in a cell."""
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, b"")
    parts, size = [matrix(6, (0, 0), element(9, b""), b"")], 0
    for _ in range(depth):
        size += len(parts[-1])
        parts.append(struct.pack("<II", 14, len(head) + size) + head)
    return matrix(1, (1, 1), b"".join(reversed(parts)))


def one_cell(kind: int, dimensions: tuple[int, int], values: bytes) -> bytes:
    """A cell with an array of text or doubles."""
    return matrix(1, (1, 1), matrix(kind, dimensions, element(4 if kind == 4 else 9, values), b""))


def bomb() -> bytes:
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    return struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(200), id="version 7.3"),
        pytest.param(HEADER + struct.pack("<II", 14, 4_000_000_000), id="cut off"),
        pytest.param(HEADER + element(9, bytes(8)), id="no variable"),
        pytest.param(HEADER + matrix(1, (2**31 - 1, 1), b""), id="2e9 cells"),
        pytest.param(HEADER + matrix(1, (-1, 1), b""), id="negative dimensions"),
        pytest.param(HEADER + matrix(1, (1,) * 30, b""), id="30 dimensions"),
        pytest.param(HEADER + one_cell(6, (2**30, 1), bytes(8)), id="1e9 numbers"),
        pytest.param(HEADER + one_cell(6, (1, 1), bytes(8) * 1000), id="more numbers"),
        pytest.param(HEADER + nested(3000), id="nested deeper than Python's stack"),
        pytest.param(HEADER + nested(100_000), id="nested deeper than the process's stack"),
        pytest.param(HEADER + matrix(1, (0, 0), b"") * 2, id="a variable twice"),
        pytest.param(HEADER + bomb(), id="a bomb"),
        pytest.param(HEADER + struct.pack("<II", 15, 8) + b"no zlib!", id="not packed"),
    ],
)
def test_a_hostile_mat_file_is_refused_at_no_cost(data: bytes, tmp_path: Path) -> None:
    """SciPy crashes at one of them."""
    (tmp_path / "wider_face_val.mat").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"wider_face_val\.mat"):
            read_ground_truth(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


def test_a_mat_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    write_mats(tmp_path)
    os.truncate(tmp_path / "wider_face_val.mat", (16 << 20) + 1)
    with pytest.raises(DatasetError, match="16777216"):
        read_ground_truth(tmp_path)


def test_a_big_endian_file_is_read(tmp_path: Path) -> None:
    def big(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    def array(kind: int, dimensions: tuple[int, int], content: bytes, name: bytes = b"") -> bytes:
        head = big(6, struct.pack(">II", kind, 0)) + big(5, struct.pack(">2i", *dimensions)) + big(1, name)
        return big(14, head + content)

    text = array(4, (1, 2), big(4, "ab".encode("utf-16-be")))
    path = tmp_path / "x.mat"
    path.write_bytes(HEADER[:-4] + struct.pack(">H", 0x0100) + b"MI" + array(1, (1, 1), text, b"event_list"))
    assert matfile.read_cells(path, ["event_list"])["event_list"] == ["ab"]


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_give_named_errors_or_ground_truth(seed: int, tmp_path: Path) -> None:
    """Bytes exchanged and files cut off, packed and unpacked."""
    random: Any = np.random.RandomState(seed)
    stream = io.BytesIO()
    write_ground_truth(tmp_path, drawn())
    faces = {key: value for key, value in scipy_io.loadmat(tmp_path / "wider_face_val.mat").items() if key in NAMES}
    scipy_io.savemat(stream, faces, do_compression=bool(seed % 2))
    for _ in range(60):
        data = bytearray(stream.getvalue())
        for place in random.randint(len(data), size=random.randint(1, 4)):
            data[place] = random.randint(256)
        (tmp_path / "wider_face_val.mat").write_bytes(data[: random.choice([len(data), random.randint(len(data))])])
        try:
            assert len(read_ground_truth(tmp_path).images) == 3
        except DatasetError as error:
            assert "wider_" in str(error)  # noqa: PT017  # either will do
