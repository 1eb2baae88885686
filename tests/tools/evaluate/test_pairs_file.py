"""Files of image pairs: pickles that are read without unpickling."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings, strategies as st

from sshconvert.errors import DatasetError
from sshtool.demo.recognition_dataset import pickled_pairs
from sshtool.evaluate import pairs_file
from sshtool.evaluate.pairs_file import read_pairs

pytestmark = pytest.mark.independent

IMAGES: Final = [bytes([number]) * (number + 1) * 100 for number in range(8)]
SAME: Final = [True, False, False, True]


def written(folder: Path, data: bytes) -> Path:
    path = folder / "lfw.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pickled_pairs(IMAGES, SAME), id="as Python 2 wrote it"),
        *(pytest.param(pickle.dumps((IMAGES, SAME), protocol), id=f"protocol {protocol}") for protocol in (3, 4, 5)),
        pytest.param(pickletools.optimize(pickle.dumps((IMAGES, SAME), 4)), id="without the memo"),
        pytest.param(pickle.dumps(([b""] * 2, [True]), 4), id="one object twice"),
    ],
)
def test_the_images_and_the_answers_are_those_of_a_real_unpickling(data: bytes, tmp_path: Path) -> None:
    images, same = pickle.loads(data, encoding="bytes")  # noqa: S301  # this test's own bytes
    found = read_pairs(written(tmp_path, data))
    assert [found.read(number) for number in range(len(found.images))] == images
    assert list(found.same) == same


def test_a_large_file_comes_in_parts_of_a_thousand(tmp_path: Path) -> None:
    images, same = [struct.pack("<I", number) for number in range(5002)], [number % 3 == 0 for number in range(2501)]
    found = read_pairs(written(tmp_path, pickle.dumps((images, same), 4)))
    assert [found.read(number) for number in (0, 999, 1000, 5001)] == [images[n] for n in (0, 999, 1000, 5001)]
    assert list(found.same) == same


class Evil:
    """What a pickle can do to its reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for content in (Evil(trap), ([Evil(trap)], [True]), (IMAGES, [Evil(trap)])):
        for protocol in range(6):
            with pytest.raises(DatasetError, match="is no pickle of images and booleans"):
                read_pairs(written(tmp_path, pickle.dumps(content, protocol)))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is no pickle", id="an empty file"),
        pytest.param(b"\x89PNG\r\n", "is no pickle", id="a picture"),
        pytest.param(pickle.dumps((IMAGES, SAME), 4)[:-40], "is no pickle", id="cut off"),
        pytest.param(pickle.dumps((IMAGES, SAME), 4) + b"\0", "bytes follow its end", id="more behind it"),
        pytest.param(pickle.dumps((IMAGES[:-1], SAME), 4), "holds 7 images and 4 booleans", id="an image too few"),
        pytest.param(pickle.dumps(([], []), 4), "holds 0 images", id="nothing"),
        pytest.param(pickle.dumps(IMAGES, 4), "it is no pair", id="one list"),
        pytest.param(pickle.dumps((SAME, IMAGES), 4), "is not a list of strings and one of booleans", id="exchanged"),
        pytest.param(pickle.dumps((IMAGES, [1, 0, 0, 1]), 4), "the opcode BININT1", id="numbers"),
        pytest.param(pickle.dumps((IMAGES, [None] * 4), 4), "the opcode NONE", id="nothing as an answer"),
        pytest.param(pickle.dumps(({"a": 1}, SAME), 4), "the opcode EMPTY_DICT", id="a mapping"),
        pytest.param(pickle.dumps((["text"] * 8, SAME), 4), "the opcode SHORT_BINUNICODE", id="text"),
        pytest.param(b"\x80\x02]a.", "appends to something", id="an append to nothing"),
        pytest.param(b"\x80\x02]]a.", "holds something else", id="a list in a list"),
        pytest.param(b"\x80\x02]q\0h\0a.", "repeats something else", id="a list in itself"),
        pytest.param(b"\x80\x02q\0.", "keeps what is not there", id="a memo of nothing"),
        pytest.param(b"\x80\x04e.", "takes more from its stack", id="no mark"),
        pytest.param(b"\x80\x02T\xff\xff\xff\x7fabc.", "claims a string of 2147483647 bytes", id="a long claim"),
        pytest.param(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x3fabc.", "claims a string of", id="a longer claim"),
        pytest.param(b"\x80\x02T\xff\xff\xff\xffabc.", "is no pickle", id="a negative claim"),
        pytest.param(b"S'" + b"a" * 100_000 + b"'\n.", "is no pickle", id="a long line"),
    ],
)
def test_anything_else_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_pairs(written(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "lfw.bin") in str(caught.value)


def test_the_numbers_of_images_and_opcodes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, pickle.dumps((IMAGES, SAME), 4))
    monkeypatch.setattr(pairs_file, "MOST_IMAGES", 7)
    with pytest.raises(DatasetError, match="more than 7 images"):
        read_pairs(path)
    monkeypatch.setattr(pairs_file, "MOST_OPCODES", 12)
    with pytest.raises(DatasetError, match="more than 12 opcodes"):
        read_pairs(path)
    monkeypatch.setattr(pairs_file, "LARGEST_FILE", 100)
    with pytest.raises(DatasetError, match="more than any file of pairs"):
        read_pairs(path)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    found = read_pairs(written(tmp_path, pickle.dumps((IMAGES, SAME), 4)))
    found.path.write_bytes(b"short")
    with pytest.raises(DatasetError, match="was changed meanwhile"):
        found.read(3)
    with pytest.raises(DatasetError, match=r"nowhere\.bin: cannot be read"):
        read_pairs(tmp_path / "nowhere.bin")


@settings(deadline=None)  # a loaded machine is slow
@given(noise=st.binary(max_size=200), protocol=st.integers(0, 5), data=st.data())
def test_no_damage_gives_another_error(
    noise: bytes, protocol: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Damaged bytes are read as a pickle of pairs, or refused as what they are."""
    whole = bytearray(pickle.dumps((IMAGES[:2], SAME[:1]), protocol))
    place = data.draw(st.integers(0, len(whole)))
    whole[place : place + len(noise)] = noise
    path = tmp_path_factory.mktemp("damaged") / "lfw.bin"
    path.write_bytes(bytes(whole))
    try:
        found = read_pairs(path)
    except DatasetError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert len(found.images) == 2 * len(found.same)
