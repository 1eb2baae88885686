"""The `.params` format of MXNet: named arrays, read as views of the file's bytes.

All fields are little-endian::

    file     = u64 0x112 | u64 reserved = 0 | u64 N | N x record | u64 K | K x (u64 length, bytes)

    V0       = u32 ndim | ndim x u32 | tail | data                          (MXNet <= 0.10, no magic)
    V1       = u32 F993FAC8 | shape | tail | data                           (0.11)
    V2       = u32 F993FAC9 | i32 storage | shape | tail | data             (>= 0.12)
    V3       = u32 F993FACA | i32 storage | shape | tail | data             (>= 1.5 with NumPy shapes)

    shape    = i32 ndim | ndim x i64
    tail     = i32 device type | i32 device id | i32 type flag

Storage 0 is dense. The reader refuses sparse arrays, and arrays without a shape (ndim 0 before V3, -1 in V3), whose
records end before the tail.

The rules are those of MXNet's `src/ndarray/ndarray.cc` (`NDArray::Load`, `NDArray::LegacyLoad`). Unlike MXNet, the
reader compares every count with the remaining bytes before it uses the count. Its limits are far above the needs of any
checkpoint, and bound the memory that a hostile file takes by the size of the file.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import ParamsError
from sshconvert.files import staged
from sshconvert.messages import without_surrogates
from sshconvert.recognition import EMPTY, PARAMS, recognised
from sshconvert.snapshot import Snapshot, take_snapshot

LIST_MAGIC: Final = 0x112
V1_MAGIC: Final = 0xF993FAC8
V2_MAGIC: Final = 0xF993FAC9
V3_MAGIC: Final = 0xF993FACA
MAX_BYTES: Final = 16 << 30
MAX_ARRAYS: Final = 1 << 14
MAX_NDIM: Final = 32
MAX_NAME: Final = 1 << 10  # bytes
DENSE: Final = 0
CPU: Final = 1
DEVICE_TYPES: Final = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}

TYPE_FLAGS: Final[Mapping[int, np.dtype[Any]]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
    7: np.dtype("?"),
    8: np.dtype("<i2"),
    9: np.dtype("<u2"),
    10: np.dtype("<u4"),
    11: np.dtype("<u8"),
    12: np.dtype(ml_dtypes.bfloat16),
}

# The fewest bytes of a record (V0: ndim, one dimension, tail, one element) and of a name (its length).
_SMALLEST_RECORD: Final = 21
_SMALLEST_NAME: Final = 8

# Unicode's control characters and line separators, which would end a string or a line of a message.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read_params(path: Path) -> dict[str, Array]:
    """Read the arrays of a `.params` file, in the file's order, by their full names (`arg:…` or `aux:…`).

    The arrays are read-only views of a copy of the file's bytes. Raises ParamsError, which names the file, the offset,
    and the expected and the actual value.
    """
    return parse_params(snapshot_params(path).data, source=str(path))


def snapshot_params(path: Path) -> Snapshot:
    """Read the bytes of a `.params` file, with their hash.

    Raises ParamsError if the file cannot be read, changes meanwhile, or begins like another kind of file.
    """
    return take_snapshot(path, ParamsError, limit=MAX_BYTES, check=lambda head: _Reader(head, str(path)).header())


def parse_params(raw: bytes | memoryview, *, source: str = "params") -> dict[str, Array]:
    """Parse the bytes of a `.params` file as `read_params` does. `source` names them in messages."""
    return _Reader(raw, source).read()


class _Reader:
    """A cursor over the file's bytes that checks each field before it is used."""

    def __init__(self, raw: bytes | memoryview, source: str) -> None:
        self.buffer = memoryview(raw)
        self.source = source
        self.offset = 0
        self.size = len(self.buffer)

    def read(self) -> dict[str, Array]:
        self.header()
        count = self.count("arrays", _SMALLEST_RECORD)
        arrays = [self.record(index) for index in range(count)]
        names = self.names(count)
        if self.offset != self.size:
            raise self.error("the end of the file", f"{self.size - self.offset} more bytes")
        return dict(zip(names, arrays, strict=True))

    def header(self) -> None:
        description = recognised(self.buffer)
        if description not in ("", EMPTY, PARAMS):
            raise self.error(f"magic {LIST_MAGIC:#x}", f"{description}; this is no MXNet .params file", at=0)
        magic, reserved = self.take("<QQ", "the file header")
        if magic != LIST_MAGIC:
            raise self.error(f"magic {LIST_MAGIC:#x}", f"{magic:#x}; this is no MXNet .params file", at=0)
        if reserved != 0:
            raise self.error("a reserved field of 0", str(reserved), at=8)

    def record(self, index: int) -> Array:
        start = self.offset
        (magic,) = self.take("<I", f"the header of array {index}")
        if magic in (V2_MAGIC, V3_MAGIC):
            (storage,) = self.take("<i", f"the storage type of array {index}")
            if storage != DENSE:
                raise self.error(f"dense storage (0) for array {index}", str(storage), at=start + 4)
        if magic in (V1_MAGIC, V2_MAGIC, V3_MAGIC):
            (ndim,) = self.take("<i", f"the number of dimensions of array {index}")
            dimension = "q"
        else:
            ndim, dimension = magic, "I"
        lowest = 0 if magic == V3_MAGIC else 1
        if not lowest <= ndim <= MAX_NDIM:
            raise self.error(
                f"{lowest} to {MAX_NDIM} dimensions or a known magic for array {index}",
                f"{ndim} ({magic:#x})",
                at=start,
            )
        shape = self.take(f"<{ndim}{dimension}", f"the shape of array {index}")
        if any(size <= 0 for size in shape):
            raise self.error(f"positive dimensions for array {index}", str(shape), at=start)
        return self.data(index, shape)

    def data(self, index: int, shape: tuple[int, ...]) -> Array:
        start = self.offset
        device, _, flag = self.take("<iii", f"the device and type of array {index}")
        if device not in DEVICE_TYPES:
            raise self.error(f"a device type of {sorted(DEVICE_TYPES)} for array {index}", str(device), at=start)
        dtype = TYPE_FLAGS.get(flag)
        if dtype is None:
            raise self.error(f"a type flag from 0 to {max(TYPE_FLAGS)} for array {index}", str(flag), at=start + 8)
        elements = math.prod(shape)
        needed, left = elements * dtype.itemsize, self.size - self.offset
        if needed > left:
            raise self.error(f"{needed} bytes of data for array {index} {shape} {dtype.name}", f"{left} bytes")
        array = np.frombuffer(self.buffer, dtype, elements, self.offset).reshape(shape)
        self.offset += needed
        return array

    def names(self, arrays: int) -> list[str]:
        start = self.offset
        count = self.count("names", _SMALLEST_NAME)
        if count != arrays:
            raise self.error(f"{arrays} names, one for each array", str(count), at=start)
        names: dict[str, None] = {}
        for index in range(count):
            start = self.offset
            name = self.name(index)
            if not name or name in names:
                raise self.error(f"a new name for array {index}", f"{name!r}, empty or given already", at=start)
            names[name] = None
        return list(names)

    def name(self, index: int) -> str:
        start = self.offset
        (length,) = self.take("<Q", f"the length of name {index}")
        most = min(MAX_NAME, self.size - self.offset)
        if length > most:
            raise self.error(f"at most {most} bytes of name {index}", str(length), at=start)
        start = self.offset
        (raw,) = self.take(f"<{length}s", f"name {index}")
        try:
            name = str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self.error(f"UTF-8 in name {index}", repr(raw[:40]), at=start) from None
        if _CONTROL.search(name):
            raise self.error(f"a name {index} without control characters", ascii(name[:40]), at=start)
        return name

    def count(self, items: str, smallest: int) -> int:
        start = self.offset
        (count,) = self.take("<Q", f"the number of {items}")
        left = self.size - self.offset
        most = min(MAX_ARRAYS, left // smallest)
        if count > most:
            raise self.error(f"at most {most} {items} in the {left} bytes left", str(count), at=start)
        return int(count)

    def take(self, layout: str, field: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        if size > self.size - self.offset:
            raise self.error(f"{size} bytes of {field}", f"{self.size - self.offset} bytes, then the end of the file")
        fields = struct.unpack_from(layout, self.buffer, self.offset)
        self.offset += size
        return fields

    def error(self, expected: str, actual: str, *, at: int | None = None) -> ParamsError:
        offset = self.offset if at is None else at
        return ParamsError(
            f"{self.source}: offset {offset}: expected {expected}, found {actual}; get the file again or export it anew"
        )


def write_params(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under their full names (`arg:…`, `aux:…`) as V2, with the bytes that MXNet 0.12 to 1.9 write.

    Raises ParamsError for an array that the format or `read_params` does not support, and OutputError.
    """
    flags = {dtype: flag for flag, dtype in TYPE_FLAGS.items()}
    if len(arrays) > MAX_ARRAYS:
        raise ParamsError(f"{path}: {len(arrays)} arrays cannot be stored; give at most {MAX_ARRAYS}")
    for name, array in arrays.items():
        is_storable = array.dtype.newbyteorder("<") in flags and 1 <= array.ndim <= MAX_NDIM and array.size > 0
        is_text = without_surrogates(name) == name and not _CONTROL.search(name)
        if not is_storable or not is_text or not 1 <= len(name.encode()) <= MAX_NAME:
            raise ParamsError(
                f"{path}: {name!r} ({array.dtype}, shape {array.shape}) cannot be stored; give it a name of 1 to "
                f"{MAX_NAME} bytes without control characters, at least one dimension, no dimension of 0 and a type of "
                "the format"
            )
    with staged(path) as part, part.open("wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
        for array in arrays.values():
            dtype = array.dtype.newbyteorder("<")
            shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
            file.write(struct.pack("<Ii", V2_MAGIC, DENSE) + shape + struct.pack("<iii", CPU, 0, flags[dtype]))
            file.write(np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data)
        file.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            raw = name.encode()
            file.write(struct.pack("<Q", len(raw)) + raw)
