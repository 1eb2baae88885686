"""The `.params` reader on damaged and hostile files: one named error, at once, or the same arrays as MXNet reads.

Files with one thing wrong each are in `test_params.py`, files that change while they are read in `test_snapshot.py`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

import params_mutations
from command_line import json_of
from fuzzing import run_fuzzer
from params_files import VERSIONS, accepted, container, content, floats, one, record, seeds
from sshconvert.errors import ParamsError
from sshconvert.mxnet.params import (
    MAX_ARRAYS,
    MAX_NAME,
    parse_params,
    write_params,
)

Mxnet: TypeAlias = Any

SEEDS: Final = seeds()

# Doses: of every run of the tests, and of the long one.
MUTATIONS: Final = 10_000
MUTATIONS_FOR_MXNET: Final = 2_000
ALL_MUTATIONS: Final = 200_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel limits a process's memory on Linux only")


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_read_whole_and_refused_at_every_prefix(name: str) -> None:
    whole = SEEDS[name]
    assert accepted(whole)

    assert [size for size in range(len(whole)) if accepted(memoryview(whole)[:size]) is not None] == []


@dataclass(frozen=True)
class Field:
    """An integer of a file of one array of two elements, and what becomes of it with twelve values in that place.

    `verdicts`: the offset of the error and what is expected there, or None and why it is accepted; and the values, `v`
    being the one that the file has.
    """

    name: str
    file: str
    offset: int
    width: int
    verdicts: tuple[tuple[int | None, str, str], ...]


SAME: Final = "the same array"
OTHER: Final = "another: a size becomes the device, all behind it moves, and that is a good file of two doubles"
# fmt: off
FIELDS: Final = (
    Field("file magic", "V2", 0, 8, (
        (0, "magic 0x112", "0 1 2 v-1 v+1 2^31-1 2^31 2^32-1 2^32 2^63-1 2^63 2^64-1"),
    )),
    Field("reserved", "V2", 8, 8, (
        (None, SAME, "0"),
        (8, "a reserved field of 0", "1 2 v-1 v+1 2^31-1 2^31 2^32-1 2^32 2^63-1 2^63 2^64-1"),
    )),
    Field("arrays", "V2", 16, 8, (
        (24, "at most 7 names", "0 v-1"),
        (None, SAME, "1"),
        (72, "positive dimensions for array 1", "2 v+1"),
        (16, "at most 3 arrays", "2^31-1 2^31 2^32-1 2^32 2^63-1 2^63 2^64-1"),
    )),
    Field("V0 ndim", "V0", 24, 4, (
        (24, "1 to 32 dimensions", "0 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (52, "at most 2 names", "1 v-1"),
        (None, SAME, "2"),
        (40, "a device type", "v+1"),
        (28, "128 bytes of the shape", "32"),
    )),
    Field("V0 dim 0", "V0", 28, 4, (
        (24, "positive dimensions", "0"),
        (52, "at most 2 names", "1 v-1"),
        (None, SAME, "2"),
        (60, "at most 1 names", "v+1"),
        (48, "bytes of data", "32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("V0 dim 1", "V0", 32, 4, (
        (24, "positive dimensions", "0 v-1"),
        (None, SAME, "1"),
        (64, "at most 0 names", "2 v+1"),
        (48, "bytes of data", "32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("V1 magic", "V1", 24, 4, (
        (24, "1 to 32 dimensions", "0 v-1 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (60, "at most 2 names", "1"),
        (36, "a device type", "2"),
        (28, "dense storage (0)", "v+1"),
        (28, "128 bytes of the shape", "32"),
    )),
    Field("V1 ndim", "V1", 28, 4, (
        (24, "1 to 32 dimensions", "0 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (None, OTHER, "1 v-1"),
        (None, SAME, "2"),
        (56, "a device type", "v+1"),
        (32, "256 bytes of the shape", "32"),
    )),
    Field("V1 dim 0", "V1", 32, 8, (
        (24, "positive dimensions", "0 2^63 2^64-1"),
        (64, "at most 2 names", "1 v-1"),
        (None, SAME, "2"),
        (72, "at most 1 names", "v+1"),
        (60, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V1 dim 1", "V1", 40, 8, (
        (24, "positive dimensions", "0 v-1 2^63 2^64-1"),
        (None, SAME, "1"),
        (76, "at most 0 names", "2 v+1"),
        (60, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V2 magic", "V2", 24, 4, (
        (24, "1 to 32 dimensions", "0 v-1 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (24, "positive dimensions", "1 2"),
        (None, f"{SAME}: V3 differs from V2 only in what is refused anyway", "v+1"),
        (28, "128 bytes of the shape", "32"),
    )),
    Field("V2 storage", "V2", 28, 4, (
        (None, SAME, "0"),
        (28, "dense storage (0)", "1 2 v-1 v+1 32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("V2 ndim", "V2", 32, 4, (
        (24, "1 to 32 dimensions", "0 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (None, OTHER, "1 v-1"),
        (None, SAME, "2"),
        (60, "a device type", "v+1"),
        (36, "256 bytes of the shape", "32"),
    )),
    Field("V2 dim 0", "V2", 36, 8, (
        (24, "positive dimensions", "0 2^63 2^64-1"),
        (68, "at most 2 names", "1 v-1"),
        (None, SAME, "2"),
        (76, "at most 1 names", "v+1"),
        (64, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V2 dim 1", "V2", 44, 8, (
        (24, "positive dimensions", "0 v-1 2^63 2^64-1"),
        (None, SAME, "1"),
        (80, "at most 0 names", "2 v+1"),
        (64, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V3 magic", "V3", 24, 4, (
        (24, "1 to 32 dimensions", "0 v+1 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (24, "positive dimensions", "1 2"),
        (None, f"{SAME}: V2 differs from V3 only in what is refused anyway", "v-1"),
        (28, "128 bytes of the shape", "32"),
    )),
    Field("V3 storage", "V3", 28, 4, (
        (None, SAME, "0"),
        (28, "dense storage (0)", "1 2 v-1 v+1 32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("V3 ndim", "V3", 32, 4, (
        (56, "1 names, one", "0"),
        (None, OTHER, "1 v-1"),
        (None, SAME, "2"),
        (60, "a device type", "v+1"),
        (36, "256 bytes of the shape", "32"),
        (24, "0 to 32 dimensions", "33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("V3 dim 0", "V3", 36, 8, (
        (24, "positive dimensions", "0 2^63 2^64-1"),
        (68, "at most 2 names", "1 v-1"),
        (None, SAME, "2"),
        (76, "at most 1 names", "v+1"),
        (64, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V3 dim 1", "V3", 44, 8, (
        (24, "positive dimensions", "0 v-1 2^63 2^64-1"),
        (None, SAME, "1"),
        (80, "at most 0 names", "2 v+1"),
        (64, "bytes of data", "2^31-1 2^31 2^32-1 2^32 2^63-1"),
    )),
    Field("V3 scalar ndim", "V3 scalar", 32, 4, (
        (None, SAME, "0"),
        (44, "a device type", "1 v+1"),
        (64, "bytes of data", "2"),
        (24, "0 to 32 dimensions", "v-1 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (36, "256 bytes of the shape", "32"),
    )),
    Field("device type", "V2", 52, 4, (
        (52, "a device type", "0 v-1 32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
        (None, SAME, "1"),
        (None, f"{SAME}: where it was saved does not matter", "2 v+1"),
    )),
    Field("device id", "V2", 56, 4, (
        (None, SAME, "0"),
        (None, f"{SAME}: where it was saved does not matter", "1 2 v-1 v+1 32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("type flag", "V2", 60, 4, (
        (None, SAME, "0"),
        (80, "at most 0 names", "1 v+1"),
        (68, "at most 2 names", "2"),
        (60, "a type flag from 0 to 12", "v-1 32 33 2^16 2^31-1 2^31 2^32-2 2^32-1"),
    )),
    Field("names", "V2", 72, 8, (
        (72, "1 names, one", "0 v-1"),
        (None, SAME, "1"),
        (72, "at most 1 names", "2 v+1 2^31-1 2^31 2^32-1 2^32 2^63-1 2^63 2^64-1"),
    )),
    Field("length", "V2", 80, 8, (
        (80, "a new name", "0"),
        (89, "the end of the file", "1"),
        (90, "the end of the file", "2"),
        (92, "the end of the file", "v-1"),
        (80, "at most 5 bytes", "v+1 2^31-1 2^31 2^32-1 2^32 2^63-1 2^63 2^64-1"),
    )),
)
# fmt: on
FILES: Final = {
    **{version: one(record(version, (2, 1), floats(1, 2))) for version in VERSIONS},
    "V3 scalar": one(record("V3", (), floats(1))),
}


def value_of(text: str, before: int, width: int) -> int:
    """`2^31-1`, or `v+1`; what is negative or too large wraps, as it does in the file."""
    base, sign, more = text.replace("-", " - ").replace("+", " + ").partition(" ")
    number = before if base == "v" else 2 ** int(base[2:]) if base.startswith("2^") else int(base)
    return (number + int((sign + more).replace(" ", "") or 0)) % (1 << 8 * width)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_integer_has_its_verdict_at_twelve_boundary_values(field: Field) -> None:
    whole = FILES[field.file]
    end = field.offset + field.width
    before = int.from_bytes(whole[field.offset : end], "little")
    assert sum(len(values.split()) for _, _, values in field.verdicts) == 12

    for offset, expected, values in field.verdicts:
        for text in values.split():
            value = value_of(text, before, field.width)
            raw = whole[: field.offset] + value.to_bytes(field.width, "little") + whole[end:]
            if offset is not None:
                with pytest.raises(ParamsError) as caught:
                    parse_params(raw, source="file")
                message = str(caught.value)
                assert message.startswith(f"file: offset {offset}: expected "), text
                assert expected in message.partition(", found ")[0], text
            elif expected == OTHER:
                assert parse_params(raw)["arg:a"].dtype == np.float64
            else:
                assert content(parse_params(raw)) == content(parse_params(whole)), text


@pytest.mark.parametrize(
    ("file", "integers"),
    [
        ("V0", {*range(24, 36)}),
        ("V1", {*range(24, 48)}),
        ("V2", {*range(64), *range(72, 88)}),
        ("V3", {*range(24, 52)}),
    ],
    ids=VERSIONS,
)
def test_the_table_leaves_no_integer_out(file: str, integers: set[int]) -> None:
    """Of V2 all but the data and the name; of the others, what they have in V2's place."""
    fields = [field for field in FIELDS if field.file == file]

    assert {position for field in fields for position in range(field.offset, field.offset + field.width)} == integers


def try_mutations(count: int, seconds: int) -> None:
    found = json_of("params_mutations.py", "try", 0, count, seconds=seconds)

    verdicts = found["verdicts"]
    assert sum(verdicts.values()) == count
    assert found["slowest"] < 2
    # The damage gets everywhere: many files are good all the same, and many rules refuse the others.
    assert count / 50 < verdicts[""] < count / 5
    assert len(verdicts) > 25


@linux
def test_damaged_files_are_refused_by_name_or_read_at_once_and_in_little_memory() -> None:
    try_mutations(MUTATIONS, 120)


@linux
@pytest.mark.long
def test_many_more_damaged_files_are_refused_by_name_or_read() -> None:
    try_mutations(ALL_MUTATIONS, 1200)


def ask_mxnet(count: int, folder: Path, seconds: int) -> None:
    found = json_of("params_oracle.py", 0, count, folder, seconds=seconds)

    assert found["different"] == []
    assert sum(found["counts"].values()) == count
    assert found["counts"]["both"] > count / 25


@pytest.mark.usefixtures("mxnet")
def test_damaged_files_that_mxnet_accepts_too_hold_the_same_arrays_for_it(tmp_path: Path) -> None:
    ask_mxnet(MUTATIONS_FOR_MXNET, tmp_path, 300)


@pytest.mark.long
@pytest.mark.usefixtures("mxnet")
def test_many_more_damaged_files_hold_the_same_arrays_for_mxnet(tmp_path: Path) -> None:
    ask_mxnet(ALL_MUTATIONS, tmp_path, 3600)


@pytest.mark.long
def test_a_minute_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    small = [raw for raw in SEEDS.values() if len(raw) < 1000]

    assert run_fuzzer("params", small, tmp_path) > 100_000


def test_a_mutation_is_the_same_every_time() -> None:
    digest = hashlib.sha256(b"".join(map(params_mutations.mutation, range(1000)))).hexdigest()

    assert digest == hashlib.sha256(b"".join(map(params_mutations.mutation, range(1000)))).hexdigest()
    assert len({params_mutations.mutation(number) for number in range(1000)}) > 900


def widest() -> bytes:
    """As many arrays as there may be, with the names that take the most memory for their bytes."""
    names = [f"{number:05}\N{GRINNING FACE}".ljust(MAX_NAME - 3, "a").encode() for number in range(MAX_ARRAYS)]
    return container([record("V0", (1,), b"\x01", flag=3)] * MAX_ARRAYS, names)


def one_large() -> bytes:
    return one(record("V2", (40 << 20,), bytes(40 << 20), flag=3))


@linux
@pytest.mark.parametrize(("make", "arrays"), [(widest, MAX_ARRAYS), (one_large, 1)], ids=["widest", "one large"])
def test_what_is_read_takes_no_more_memory_than_three_times_the_file(
    tmp_path: Path, make: Callable[[], bytes], arrays: int
) -> None:
    path = tmp_path / "model-0000.params"
    path.write_bytes(make())

    assert json_of("params_mutations.py", "read", path, 3 * path.stat().st_size) == {"read": arrays}


def test_more_arrays_than_any_checkpoint_has_are_refused(tmp_path: Path) -> None:
    few = {f"arg:{number}": np.ones(1, np.uint8) for number in range(16385)}
    raw = container([record("V0", (1,), b"\x01", flag=3)] * len(few), [name.encode() for name in few])

    with pytest.raises(ParamsError, match=r"16.*16384"):
        parse_params(raw)
    with pytest.raises(ParamsError, match="16385"):
        write_params(tmp_path / "a.params", few)
