"""Cell arrays in MATLAB's .mat files (version 5), as WIDER FACE's ground truth comes in, read and written by SciPy.

SciPy trusts a file: it allocates what a header says, and follows nested cells until the stack is gone. So the file is
checked first, element by element: everything announced is there, nothing is nested more deeply than cells of cells of
arrays. Layout of an element: a tag of two int32 (type, size in bytes), then its data, padded to 8 bytes; up to four
bytes of data may lie in the tag itself, whose first int32 then holds the size in its upper half. A matrix (type 14) is
an element of elements: its flags (the class in the lowest byte), its dimensions, its name, then its data, or the
matrices in its cells. A compressed element (type 15) holds another one.
"""

from __future__ import annotations

import errno
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import DatasetError
from sshconvert.files import staged
from sshconvert.libraries import SCIPY, importing
from sshconvert.reading import is_file, read_small
from sshconvert.schema import one_line

# The real files have 0.4 MB, 3 MB unpacked.
LARGEST_FILE: Final = 16 << 20
# The real ones have 3226 cells in each of up to three variables. Each is an object, however little is in it.
MOST_CELLS: Final = 100_000

HEADER: Final = 128
_TEXT: Final = 116
_VERSION: Final = 0x0100
_MATRIX: Final = 14
_COMPRESSED: Final = 15
_CELL: Final = 1
_CHAR: Final = 4
_NUMERIC: Final = range(6, 16)
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_COMPLEX: Final = 0x0800
_DEEPEST: Final = 2


class _MalformedError(Exception):
    """What is wrong with a file, without its name."""


def read_cells(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Read the variables `names` of a .mat file: object arrays, as SciPy gives them. In a cell there is an array: of
    cells or numbers with two dimensions, or of text.

    Raises DatasetError if the file is missing, malformed, or lacks one of `names` as a cell array;
    RuntimeUnavailableError without SciPy.
    """
    with importing(SCIPY):
        from scipy.io import loadmat
    data = _read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = loadmat(io.BytesIO(_checked(data, names)), variable_names=list(names))
    except _MalformedError as error:
        raise DatasetError(
            f"{path}: is no .mat file of version 5, or damaged: {one_line(error)}; get it again"
        ) from None
    except Exception as error:  # noqa: BLE001  # SciPy names a dozen kinds, and promises none
        raise DatasetError(f"{path}: cannot be read by SciPy ({one_line(error)}); get it again") from None
    for name in names:
        if not (isinstance(found.get(name), np.ndarray) and found[name].dtype == object):
            raise DatasetError(f"{path}: has no cell array {name}; name the ground truth of WIDER FACE")
    return {name: found[name] for name in names}


def write_cells(path: Path, variables: Mapping[str, Array]) -> None:
    """Write variables as a compressed .mat file, whole or not at all; the same ones give the same bytes.

    Raises OutputError if it cannot be written, RuntimeUnavailableError without SciPy.
    """
    with importing(SCIPY):
        from scipy.io import savemat
    data = io.BytesIO()
    savemat(data, dict(variables), do_compression=True)
    text = b"MATLAB 5.0 MAT-file".ljust(_TEXT)  # without the date
    with staged(path) as part:
        part.write_bytes(text + data.getvalue()[_TEXT:])


def _read(path: Path) -> bytes:
    try:
        return read_small(path, LARGEST_FILE)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise DatasetError(
                f"{path}: has more than {LARGEST_FILE} bytes; it is no ground truth of WIDER FACE"
            ) from None
        if not is_file(path):
            raise DatasetError(f"{path}: is not there; name a data set in the layout of WIDER FACE") from None
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None


def _checked(data: bytes, names: Sequence[str]) -> bytes:
    """The same file with nothing but the variables `names`, unpacked, each of which has been checked."""
    order = {b"IM": "<", b"MI": ">"}.get(data[HEADER - 2 : HEADER])
    if order is None or struct.unpack_from(f"{order}H", data, HEADER - 4)[0] != _VERSION:
        raise _MalformedError("its header is another")
    kept = [data[:_TEXT] + bytes(8) + data[HEADER - 4 : HEADER]]  # without MATLAB's subsystem data
    left, seen, cells = LARGEST_FILE, set(), 0
    for kind, body in _elements(data[HEADER:], order):
        if kind == _COMPRESSED:
            unpacked = _unpacked(body, left)
            left -= len(unpacked)
            kind, body = next(_elements(unpacked, order), (0, b""))  # noqa: PLW2901  # the one inside it
        if kind != _MATRIX:
            raise _MalformedError(f"a variable expected, found an element of type {kind}")
        name = _name(body, order)
        if name in seen:
            raise _MalformedError(f"{name!r} is there twice")
        seen.add(name)
        if name in names:
            cells += _check_matrix(body, order, 0)
            if cells > MOST_CELLS:
                raise _MalformedError(f"it has more than {MOST_CELLS} cells")
            kept += [struct.pack(f"{order}II", _MATRIX, len(body)), body, bytes(-len(body) % 8)]
    return b"".join(kept)


def _unpacked(body: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(body, most)
    except zlib.error as error:
        raise _MalformedError(f"a variable cannot be unpacked ({one_line(error)})") from None
    if unpacker.unconsumed_tail:
        raise _MalformedError(f"it has more than {LARGEST_FILE} bytes when unpacked")
    return data


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and data of each element, one after the other."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise _MalformedError("an element is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise _MalformedError("a small element of more than four bytes")
        if size > len(data) - start:
            raise _MalformedError(f"an element of {size} bytes, where {len(data) - start} are left")
        yield kind, data[start : start + size]
        at = start + size
        if kind != _COMPRESSED:  # the only one that is not padded
            at += -at % 8 if start % 8 == 0 else 4 - size


def _name(body: bytes, order: str) -> str:
    return _head(list(islice(_elements(body, order), 3)), order)[2]


def _head(parts: list[tuple[int, bytes]], order: str) -> tuple[int, tuple[int, ...], str]:
    """Flags, dimensions and name of a matrix."""
    if [kind for kind, _ in parts[:2]] != [6, 5] or len(parts) < 3 or len(parts[0][1]) != 8 or parts[2][0] != 1:
        raise _MalformedError("a matrix does not begin with its flags, dimensions and name")
    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    dimensions = struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1][: len(parts[1][1]) // 4 * 4])
    if len(dimensions) != 2 or min(dimensions) < 0:
        raise _MalformedError(f"a matrix of dimensions {dimensions}, expected two")
    return flags, dimensions, parts[2][1].decode("latin-1")


def _check_matrix(body: bytes, order: str, depth: int) -> int:
    """How many matrices it is, with those in its cells."""
    if not body and depth:
        return 1  # MATLAB's empty cell
    content = _elements(body, order)
    flags, dimensions, _ = _head(list(islice(content, 3)), order)
    kind, count = flags & 0xFF, math.prod(dimensions)
    if kind == _CELL:
        return 1 + _check_cells(content, count, order, depth)
    if kind == _CHAR or (kind in _NUMERIC and not flags & _COMPLEX):
        values = [len(data) // _SIZES[type_] if type_ in _SIZES else -1 for type_, data in islice(content, 2)]
        if len(values) != 1 or values[0] < count or (kind != _CHAR and values[0] != count):
            raise _MalformedError(f"an array announces {count} values and has others")
        return 1
    raise _MalformedError(f"a matrix of class {kind}, expected a cell, text or real numbers")


def _check_cells(content: Iterator[tuple[int, bytes]], count: int, order: str, depth: int) -> int:
    if depth == _DEEPEST:
        raise _MalformedError("its cells are nested too deeply")
    number = matrices = 0
    for number, (type_, data) in enumerate(content, 1):
        if number > count:
            raise _MalformedError(f"a cell array announces {count} cells and has more")
        if type_ != _MATRIX:
            raise _MalformedError(f"a cell of type {type_}")
        matrices += _check_matrix(data, order, depth + 1)
        if matrices > MOST_CELLS:
            raise _MalformedError(f"it has more than {MOST_CELLS} cells")
    if number < count:
        raise _MalformedError(f"a cell array announces {count} cells and has {number}")
    return matrices
