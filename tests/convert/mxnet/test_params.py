"""The `.params` reader and writer, against bytes made by hand and against MXNet itself."""

from __future__ import annotations

import math
import re
import struct
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from params_files import HEADER, KNOWN_TO_MXNET, MAGICS, TYPES, VERSIONS, accepted, container, floats, one, record
from sshconvert.errors import OutputError, ParamsError
from sshconvert.mxnet.params import MAX_NAME, TYPE_FLAGS, parse_params, read_params, write_params

Array: TypeAlias = npt.NDArray[Any]
Mxnet: TypeAlias = Any


def stored(folder: Path, raw: bytes) -> Path:
    path = folder / "model-0000.params"
    path.write_bytes(raw)
    return path


def dtype_named(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_of_every_version_are_read(tmp_path: Path, version: str) -> None:
    path = stored(tmp_path, one(record(version, (2, 3), floats(0, 1, 2, 3, 4, 5.5))))

    arrays = read_params(path)

    assert list(arrays) == ["arg:a"]
    assert arrays["arg:a"].dtype == np.float32
    assert arrays["arg:a"].tolist() == [[0, 1, 2], [3, 4, 5.5]]


@pytest.mark.parametrize("version", VERSIONS)
def test_mxnet_reads_the_hand_made_records_alike(tmp_path: Path, version: str, mxnet: Mxnet) -> None:
    path = stored(tmp_path, one(record(version, (3, 1, 2), floats(0, 1, 2, 3, 4, 5.5))))

    with mxnet.util.np_shape(version == "V3"):
        theirs = {name: array.asnumpy() for name, array in mxnet.nd.load(str(path)).items()}

    ours = read_params(path)
    assert list(ours) == list(theirs)
    np.testing.assert_array_equal(ours["arg:a"], theirs["arg:a"], strict=True)


def test_records_of_different_versions_can_share_a_file(tmp_path: Path) -> None:
    records = [record(version, (number + 1,), floats(*range(number + 1))) for number, version in enumerate(VERSIONS)]
    path = stored(tmp_path, container(records, [version.encode() for version in VERSIONS]))

    arrays = read_params(path)

    assert {name: array.tolist() for name, array in arrays.items()} == {
        "V0": [0],
        "V1": [0, 1],
        "V2": [0, 1, 2],
        "V3": [0, 1, 2, 3],
    }


@pytest.mark.parametrize(("flag", "name", "letter"), [pytest.param(*row, id=row[1]) for row in TYPES])
def test_every_type_flag_is_read_as_its_type(tmp_path: Path, flag: int, name: str, letter: str | None) -> None:
    values = [True, False, True] if name == "bool" else [1, 0, 3]
    raw = struct.pack(f"<3{letter}", *values) if letter else b"\x80\x3f\x00\x00\x40\x40"
    path = stored(tmp_path, one(record("V2", (3,), raw, flag=flag)))

    array = read_params(path)["arg:a"]

    assert array.dtype == dtype_named(name)
    assert array.tolist() == values


def test_the_types_tested_are_all_the_types_there_are() -> None:
    assert {flag: dtype_named(name) for flag, name, _ in TYPES} == dict(TYPE_FLAGS)


def test_a_v3_record_without_dimensions_is_a_scalar(tmp_path: Path) -> None:
    array = read_params(stored(tmp_path, one(record("V3", (), floats(2.5)))))["arg:a"]

    assert array.shape == ()
    assert array[()] == 2.5


@pytest.mark.parametrize("device", [1, 2, 3, 5])
def test_arrays_saved_from_any_device_are_read(tmp_path: Path, device: int) -> None:
    path = stored(tmp_path, one(record("V2", (1,), floats(7), device=device)))

    assert read_params(path)["arg:a"].tolist() == [7]


def test_a_file_without_arrays_is_read_as_such(tmp_path: Path) -> None:
    assert read_params(stored(tmp_path, container([], []))) == {}


def test_names_keep_their_order_and_their_letters(tmp_path: Path) -> None:
    names = ["aux:z", "arg:Größe", "arg:a", "no prefix"]
    records = [record("V2", (1,), floats(number)) for number in range(len(names))]
    path = stored(tmp_path, container(records, [name.encode() for name in names]))

    arrays = read_params(path)

    assert list(arrays) == names
    assert [array.item() for array in arrays.values()] == [0, 1, 2, 3]


def test_thirty_two_dimensions_are_read_and_no_more(tmp_path: Path) -> None:
    path = stored(tmp_path, one(record("V2", (1,) * 32, floats(1))))
    assert read_params(path)["arg:a"].shape == (1,) * 32

    path = stored(tmp_path, one(record("V2", (1,) * 33, floats(1))))
    with pytest.raises(ParamsError, match=r"1.*32"):
        read_params(path)


def owner(array: Array) -> object:
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def test_arrays_are_read_only_views_of_one_buffer(tmp_path: Path) -> None:
    records = [record(version, (2, 2), floats(1, 2, 3, 4)) for version in VERSIONS]
    arrays = read_params(stored(tmp_path, container(records, [version.encode() for version in VERSIONS])))

    owners = {id(owner(array)) for array in arrays.values()}

    assert not any(array.flags.writeable for array in arrays.values())
    assert len(owners) == 1
    with pytest.raises(ValueError, match="read-only"):
        arrays["V2"][0, 0] = 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        arrays["V2"].flags.writeable = True


def test_reading_copies_no_data_but_the_file_itself(tmp_path: Path) -> None:
    path = stored(tmp_path, one(record("V2", (2 * 1024 * 1024,), bytes(8 * 1024 * 1024))))

    tracemalloc.start()
    try:
        arrays = read_params(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert arrays["arg:a"].nbytes == 8 * 1024 * 1024
    assert peak < 9 * 1024 * 1024


def test_arrays_that_start_at_an_odd_offset_are_read(tmp_path: Path) -> None:
    odd = record("V2", (3,), b"\x01\x02\x03", flag=3)
    path = stored(tmp_path, container([odd, record("V2", (2,), floats(1.5, -2.5))], [b"odd", b"arg:a"]))

    array = read_params(path)["arg:a"]

    assert not array.flags.aligned
    assert (array + 1).tolist() == [2.5, -1.5]


PLAIN: Final = record("V2", (2,), floats(1, 2))
NAMES_AT: Final = HEADER + len(PLAIN)


def altered(offset: int, layout: str, value: int) -> bytes:
    """A good file of one V2 array with two elements, with one field of it overwritten."""
    raw = bytearray(one(PLAIN))
    struct.pack_into(layout, raw, offset, value)
    return bytes(raw)


MALFORMED: Final = [
    pytest.param(b"", 0, "16 bytes", "0 bytes", id="empty file"),
    pytest.param(altered(0, "<Q", 0x113), 0, "magic 0x112", "0x113", id="wrong magic"),
    pytest.param(b"PK\x03\x04" + bytes(60), 0, "magic 0x112", ".params", id="a zip file"),
    pytest.param(altered(8, "<Q", 1), 8, "reserved", "1", id="reserved field"),
    pytest.param(altered(16, "<Q", 2), NAMES_AT, "array 1", "(0,)", id="count 2"),
    pytest.param(altered(16, "<Q", 100), 16, "at most", "100", id="count beyond the file"),
    pytest.param(altered(16, "<Q", 2**63), 16, "at most", str(2**63), id="count 2**63"),
    pytest.param(altered(16, "<Q", 2**64 - 1), 16, "at most", str(2**64 - 1), id="count 2**64-1"),
    pytest.param(altered(16, "<Q", 0), 24, "at most 6 names", str(MAGICS["V2"]), id="count 0"),
    pytest.param(altered(24, "<I", 0xF993FACB), 24, "array 0", "0xf993facb", id="V4"),
    pytest.param(altered(24, "<I", 0), 24, "1 to 32 dimensions", "0 (0x0)", id="V0 without dimensions"),
    pytest.param(altered(24, "<I", 33), 24, "1 to 32 dimensions", "33 (0x21)", id="V0 of 33 dimensions"),
    pytest.param(altered(28, "<i", 1), 28, "dense storage (0) for array 0", "1", id="row_sparse"),
    pytest.param(altered(28, "<i", 2), 28, "dense storage (0) for array 0", "2", id="csr"),
    pytest.param(altered(28, "<i", -1), 28, "dense storage (0) for array 0", "-1", id="undefined storage"),
    pytest.param(
        one(record("V3", (2,), floats(1, 2), storage=1)), 28, "dense storage (0) for array 0", "1", id="sparse V3"
    ),
    pytest.param(altered(32, "<i", 0), 24, "1 to 32 dimensions", "0", id="V2 without dimensions"),
    pytest.param(altered(32, "<i", -1), 24, "1 to 32 dimensions", "-1", id="V2 of -1 dimensions"),
    pytest.param(altered(32, "<i", 33), 24, "1 to 32 dimensions", "33", id="33 dimensions"),
    pytest.param(altered(32, "<i", 2**31 - 1), 24, "1 to 32 dimensions", str(2**31 - 1), id="2**31-1 dimensions"),
    pytest.param(altered(32, "<i", 32), 36, "256 bytes", "bytes", id="32 of 1"),
    pytest.param(
        one(struct.pack("<Iii", MAGICS["V3"], 0, -1)),
        24,
        "0 to 32 dimensions",
        "-1",
        id="V3 without a shape",
    ),
    pytest.param(altered(36, "<q", 0), 24, "array 0", "(0,)", id="dimension 0"),
    pytest.param(altered(36, "<q", -1), 24, "array 0", "(-1,)", id="dimension -1"),
    pytest.param(
        one(record("V1", (2, -(2**63)), floats(1, 2))), 24, "positive dimensions", str(-(2**63)), id="dimension -2**63"
    ),
    pytest.param(one(record("V0", (0,), b"")), 24, "array 0", "(0,)", id="V0 dimension 0"),
    pytest.param(altered(36, "<q", 2**62), 56, f"{2**64} bytes", "bytes", id="dimension 2**62"),
    pytest.param(
        one(record("V2", (2**32, 2**32), floats(1, 2))), 64, f"{2**66} bytes of data", "bytes", id="product wraps to 0"
    ),
    pytest.param(
        one(record("V0", (2**31, 2**31, 4), floats(1))), 52, f"{2**66} bytes of data", "bytes", id="V0 product wraps"
    ),
    pytest.param(altered(44, "<i", 0), 44, "[1, 2, 3, 5]", "0", id="device 0"),
    pytest.param(altered(44, "<i", 4), 44, "[1, 2, 3, 5]", "4", id="device 4"),
    pytest.param(altered(44, "<i", -1), 44, "[1, 2, 3, 5]", "-1", id="device -1"),
    pytest.param(altered(52, "<i", 13), 52, "0 to 12", "13", id="type flag 13"),
    pytest.param(altered(52, "<i", -1), 52, "0 to 12", "-1", id="type flag -1"),
    pytest.param(container([PLAIN], []), NAMES_AT, "1 names, one", "0", id="no names"),
    pytest.param(container([PLAIN], [b"a", b"b"]), NAMES_AT, "1 names, one", "2", id="too many names"),
    pytest.param(altered(NAMES_AT, "<Q", 2**63), NAMES_AT, "at most 1 names", str(2**63), id="2**63 names"),
    pytest.param(altered(NAMES_AT + 8, "<Q", 6), NAMES_AT + 8, "5 bytes of name 0", "6", id="name too long"),
    pytest.param(altered(NAMES_AT + 8, "<Q", 2**63), NAMES_AT + 8, "5 bytes of name 0", str(2**63), id="name of 2**63"),
    pytest.param(
        one(PLAIN, b"a" * (MAX_NAME + 1)),
        NAMES_AT + 8,
        "1024 bytes of name 0",
        "1025",
        id="name of 1025",
    ),
    pytest.param(altered(NAMES_AT + 8, "<Q", 4), NAMES_AT + 20, "end of the file", "1 more", id="name too short"),
    pytest.param(
        container([PLAIN, PLAIN], [b"arg:a", b"arg:a"]),
        HEADER + 2 * len(PLAIN) + 21,
        "array 1",
        "'arg:a'",
        id="duplicate name",
    ),
    pytest.param(one(PLAIN, b""), NAMES_AT + 8, "array 0", "'', empty", id="empty name"),
    pytest.param(one(PLAIN, b"arg:\xff"), NAMES_AT + 16, "UTF-8 in name 0", r"b'arg:\xff'", id="name in Latin-1"),
    pytest.param(one(PLAIN, b"arg:a\x00"), NAMES_AT + 16, "0 without control", r"'arg:a\x00'", id="name with NUL"),
    pytest.param(one(PLAIN, b"arg:\n"), NAMES_AT + 16, "0 without control", r"'arg:\n'", id="name of two lines"),
    pytest.param(one(PLAIN, b"\x1b[31m"), NAMES_AT + 16, "0 without control", r"'\x1b[31m'", id="name in colour"),
    pytest.param(one(PLAIN, b"a\x7f"), NAMES_AT + 16, "0 without control", r"'a\x7f'", id="name with a deletion"),
    pytest.param(one(PLAIN, b"a\xc2\x85"), NAMES_AT + 16, "0 without control", r"'a\x85'", id="name with a C1 code"),
    pytest.param(
        one(PLAIN, "a\u2028".encode()), NAMES_AT + 16, "0 without control", r"'a\u2028'", id="name with a separator"
    ),
    pytest.param(one(PLAIN, b"\xed\xa0\x80"), NAMES_AT + 16, "UTF-8 in name 0", r"b'\xed", id="name with a surrogate"),
    pytest.param(one(PLAIN) + b"\x00", NAMES_AT + 21, "end of the file", "1 more bytes", id="one byte more"),
    pytest.param(one(PLAIN) * 2, NAMES_AT + 21, "end of the file", "more bytes", id="two files in one"),
]


@pytest.mark.parametrize(("raw", "offset", "expected", "found"), MALFORMED)
def test_a_malformed_file_is_refused_with_file_offset_expected_and_found(
    tmp_path: Path, raw: bytes, offset: int, expected: str, found: str
) -> None:
    path = stored(tmp_path, raw)

    with pytest.raises(ParamsError) as caught:
        read_params(path)

    message = str(caught.value)
    assert message.startswith(f"{path}: offset {offset}: expected ")
    wanted, _, got = message.partition(", found ")
    assert expected in wanted
    assert found in got


def two_arrays() -> bytes:
    return container(
        [record("V2", (2, 1), floats(1, 2)), record("V0", (3,), b"\x01\x02\x03", flag=3)], [b"arg:a", b"aux:b"]
    )


def test_a_truncated_file_is_refused_at_every_prefix(tmp_path: Path) -> None:
    whole = two_arrays()
    assert list(read_params(stored(tmp_path, whole))) == ["arg:a", "aux:b"]

    for size in range(len(whole)):
        with pytest.raises(ParamsError) as caught:
            parse_params(whole[:size], source="file")
        parts = re.fullmatch(r"file: offset (\d+): expected .+, found .+; .+", str(caught.value))
        assert parts is not None, size
        assert int(parts[1]) <= size


def test_a_damaged_byte_never_gives_anything_but_arrays_or_a_refusal() -> None:
    whole = two_arrays()
    refused = 0
    for offset in range(len(whole)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            arrays = accepted(whole[:offset] + bytes([value]) + whole[offset + 1 :])
            assert arrays is None or len(arrays) == 2
            refused += arrays is None

    assert refused > len(whole)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(altered(16, "<Q", 2**40), id="arrays"),
        pytest.param(altered(32, "<i", 2**31 - 1), id="dimensions"),
        pytest.param(altered(36, "<q", 2**40), id="elements"),
        pytest.param(altered(NAMES_AT, "<Q", 2**40), id="names"),
        pytest.param(altered(NAMES_AT + 8, "<Q", 2**40), id="letters"),
    ],
)
def test_a_huge_count_is_refused_before_anything_is_allocated(tmp_path: Path, raw: bytes) -> None:
    path = stored(tmp_path, raw)

    tracemalloc.start()
    try:
        with pytest.raises(ParamsError):
            read_params(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 256 * 1024


def test_a_file_that_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=re.escape(f"{tmp_path / 'absent.params'}: cannot be read")):
        read_params(tmp_path / "absent.params")
    with pytest.raises(ParamsError, match=re.escape(f"{tmp_path}: cannot be read")):
        read_params(tmp_path)


def sample_arrays(names: Sequence[str]) -> dict[str, Array]:
    random = np.random.default_rng(7)
    arrays: dict[str, Array] = {}
    for number, name in enumerate(names):
        shape = (3, 2, 1)[: number % 3 + 1]
        values = random.uniform(0, 2 if name == "bool" else 100, shape)
        arrays[f"{'arg' if number % 2 else 'aux'}:{name}"] = values.astype(dtype_named(name))
    return arrays


def test_the_writer_makes_the_bytes_of_a_v2_file(tmp_path: Path) -> None:
    arrays = sample_arrays([name for _, name, _ in TYPES])
    records = [
        record("V2", array.shape, array.tobytes(), flag=flag)
        for (flag, _, _), array in zip(TYPES, arrays.values(), strict=True)
    ]

    write_params(tmp_path / "a.params", arrays)

    assert (tmp_path / "a.params").read_bytes() == container(records, [name.encode() for name in arrays])


def test_the_writer_reproduces_a_real_checkpoint_byte_for_byte(tmp_path: Path, shared_data: Path) -> None:
    original = shared_data / "retinaface-16and32" / "16and32-0000.params"

    write_params(tmp_path / "copy.params", read_params(original))

    assert (tmp_path / "copy.params").read_bytes() == original.read_bytes()


def test_the_writer_reproduces_what_mxnet_saves_byte_for_byte(tmp_path: Path, mxnet: Mxnet) -> None:
    arrays = sample_arrays([*KNOWN_TO_MXNET, "bool"])
    theirs = {name: mxnet.nd.array(array, dtype=array.dtype.name) for name, array in arrays.items()}
    mxnet.nd.save(str(tmp_path / "theirs.params"), theirs)

    ours = read_params(tmp_path / "theirs.params")
    write_params(tmp_path / "ours.params", ours)

    assert list(ours) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
    assert (tmp_path / "ours.params").read_bytes() == (tmp_path / "theirs.params").read_bytes()


def test_mxnet_loads_what_the_writer_makes(tmp_path: Path, mxnet: Mxnet) -> None:
    arrays = sample_arrays([*KNOWN_TO_MXNET, "bool"])
    write_params(tmp_path / "ours.params", arrays)

    loaded = mxnet.nd.load(str(tmp_path / "ours.params"))

    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name].asnumpy(), array, strict=True)


LETTERS: Final = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))


@st.composite
def named_arrays(draw: st.DrawFn) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in draw(st.lists(st.text(LETTERS, min_size=1, max_size=12), unique=True, max_size=4)):
        dtype = draw(st.sampled_from(list(TYPE_FLAGS.values())))
        shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        size = math.prod(shape) * dtype.itemsize
        arrays[name] = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)
    return arrays


@given(arrays=named_arrays())
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_is_written_is_read_back_bit_for_bit_in_order(tmp_path: Path, arrays: Mapping[str, Array]) -> None:
    write_params(tmp_path / "a.params", arrays)

    back = read_params(tmp_path / "a.params")

    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


@st.composite
def arrays_of_any_layout(draw: st.DrawFn) -> Array:
    """Any bits (so NaN of any kind), of any type, in either byte order, and not always one after the other."""
    dtype = draw(st.sampled_from(list(TYPE_FLAGS.values())))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    size = int(np.prod(shape)) * dtype.itemsize
    array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)
    if draw(st.booleans()) and dtype.name != "bfloat16":  # which has no other byte order
        array = array.byteswap().view(dtype.newbyteorder(">"))
    layout = draw(st.sampled_from(["as it is", "transposed", "reversed", "every second", "Fortran"]))
    if layout == "every second":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    if layout == "Fortran":
        array = np.asfortranarray(array)
    other: dict[str, Array] = {"transposed": array.T, "reversed": array[::-1]}
    return other.get(layout, array)


@given(array=arrays_of_any_layout())
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bits_in_any_layout_are_read_back_bit_for_bit(tmp_path: Path, array: Array) -> None:
    write_params(tmp_path / "a.params", {"arg:a": array})
    back = parse_params((tmp_path / "a.params").read_bytes())["arg:a"]

    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.shape == array.shape
    assert bits(back) == bits(array)


def bits(array: Array) -> list[Any]:
    """The elements as integers, in the order of the indices, whatever the layout in memory."""
    unsigned: npt.NDArray[Any] = array.view(np.dtype(f"{array.dtype.byteorder}u{array.dtype.itemsize}"))
    return list(unsigned.flatten().tolist())


def test_arrays_in_any_memory_layout_are_written_by_value(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    layouts = {"transposed": values.T, "strided": values[:, ::2, ::-1], "big-endian": values.astype(">f4")}

    write_params(tmp_path / "a.params", layouts)

    for name, array in read_params(tmp_path / "a.params").items():
        np.testing.assert_array_equal(array, layouts[name])
        assert array.dtype == np.dtype("<f4")


def test_a_file_can_be_replaced_while_its_arrays_are_in_use(tmp_path: Path) -> None:
    path = stored(tmp_path, two_arrays())
    arrays = read_params(path)

    write_params(path, {name: arrays[name] for name in reversed(arrays)})

    assert list(read_params(path)) == ["aux:b", "arg:a"]
    assert arrays["arg:a"].tolist() == [[1], [2]]


REFUSED: Final = [
    pytest.param("arg:a", np.float32(1), id="scalar"),
    pytest.param("arg:a", np.zeros((2, 0), np.float32), id="dimension of 0"),
    pytest.param("arg:a", np.zeros(2, np.complex64), id="complex"),
    pytest.param("arg:a", np.array(["text"]), id="text"),
    pytest.param("arg:a", np.array([None]), id="objects"),
    pytest.param("arg:a", np.zeros(2, "datetime64[s]"), id="dates"),
    pytest.param("", np.zeros(2, np.float32), id="no name"),
    pytest.param("arg:\ud800", np.zeros(2, np.float32), id="name that is no text"),
    pytest.param("arg:a\x00", np.zeros(2, np.float32), id="name with NUL"),
    pytest.param("ä" * 513, np.zeros(2, np.float32), id="name of 1026 bytes"),
]


@pytest.mark.parametrize(("name", "array"), REFUSED)
def test_the_writer_leaves_no_file_behind_when_it_refuses(tmp_path: Path, name: str, array: Array) -> None:
    with pytest.raises(ParamsError, match="cannot be stored"):
        write_params(tmp_path / "a.params", {"arg:good": np.ones(3, np.float32), name: np.asarray(array)})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(np.__version__.startswith("1."), reason="NumPy 1 makes no such array")
def test_the_writer_refuses_more_dimensions_than_the_reader(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be stored"):
        write_params(tmp_path / "a.params", {"arg:a": np.ones((1,) * 33, np.float32)})


def test_the_writer_leaves_an_old_file_alone_when_it_refuses(tmp_path: Path) -> None:
    path = stored(tmp_path, two_arrays())

    with pytest.raises(ParamsError, match=re.escape(f"{path}: 'arg:a' (complex64, shape (2,)) cannot be stored")):
        write_params(path, {"arg:a": np.zeros(2, np.complex64)})

    assert path.read_bytes() == two_arrays()
    assert list(tmp_path.iterdir()) == [path]


def test_the_writer_leaves_nothing_behind_when_the_place_is_taken(tmp_path: Path) -> None:
    taken = tmp_path / "a.params"
    taken.mkdir()

    with pytest.raises(OutputError, match="cannot be written"):
        write_params(taken, {"arg:a": np.ones(3, np.float32)})

    assert list(tmp_path.iterdir()) == [taken]
    assert list(taken.iterdir()) == []
