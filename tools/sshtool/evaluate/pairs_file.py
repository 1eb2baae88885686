"""InsightFace's files of image pairs, such as `lfw.bin`, read without unpickling.

The file is a pickle of a pair: the bytes of the encoded images, two for each pair of faces, and a boolean for each
pair, True for the same person. Unpickling runs whatever the file says. This reader follows `pickletools.genops`
instead, and accepts only the opcodes that lists of byte strings and booleans need, of any protocol from 2 on. The
images stay in the file; the result holds their places.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sshconvert.digest import file_sha256
from sshconvert.errors import DatasetError
from sshconvert.reading import open_regular, state
from sshconvert.schema import one_line

LARGEST_FILE: Final = 2 << 30
LARGEST_IMAGE: Final = 8 << 20
MOST_IMAGES: Final = 400_000
LONGEST_LINE: Final = 1 << 10
MOST_OPCODES: Final = 10 * MOST_IMAGES

_BYTES: Final = frozenset({"BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"})
_KEPT: Final = frozenset({"BINPUT", "LONG_BINPUT", "MEMOIZE"})
_REPEATED: Final = frozenset({"BINGET", "LONG_BINGET"})
_BOOLEANS: Final = {"NEWTRUE": True, "NEWFALSE": False}
_WITHOUT_EFFECT: Final = frozenset({"PROTO", "FRAME"})

_MARK: Final = object()


@dataclass(frozen=True)
class Stored:
    """An encoded image in the file: its first byte and its length."""

    offset: int
    length: int


@dataclass(frozen=True)
class PairsFile:
    """The images in their order, of which two and two are a pair, and whether each pair shows one person."""

    path: Path
    images: tuple[Stored, ...]
    same: tuple[bool, ...]
    digest: str

    def read(self, number: int) -> bytes:
        """Read an encoded image. Raises DatasetError if the file has changed."""
        stored = self.images[number]
        try:
            with open_regular(self.path) as file:
                file.seek(stored.offset)
                data = file.read(stored.length)
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be read ({error.strerror})") from None
        if len(data) != stored.length:
            raise DatasetError(f"{self.path}: was changed meanwhile; evaluate again")
        return data


def read_pairs(path: Path) -> PairsFile:
    """Read the places of the images, and which pairs are the same.

    Raises DatasetError if the file cannot be read, is larger than `LARGEST_FILE`, or is anything else than a pickle of
    two lists: bytes of images, and half as many booleans.
    """
    try:
        with open_regular(path) as file:
            if state(file)[0] > LARGEST_FILE:
                raise DatasetError(f"{path}: has more than {LARGEST_FILE >> 30} GiB, more than any file of pairs")
            images, same = _Machine(file).result()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); name InsightFace's lfw.bin") from None
    except ValueError as error:
        raise DatasetError(
            f"{path}: is no pickle of images and booleans ({one_line(error)}); name InsightFace's lfw.bin"
        ) from None
    if len(images) != 2 * len(same) or not same:
        raise DatasetError(f"{path}: holds {len(images)} images and {len(same)} booleans; two images make a pair")
    return PairsFile(path, tuple(images), tuple(same), file_sha256(path))


class _Bounded:
    """A file for `genops` whose reads are bounded, because a pickle may claim any length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        if not 0 <= count <= LARGEST_IMAGE:
            raise ValueError(f"it claims a string of {count} bytes")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline(LONGEST_LINE)

    def tell(self) -> int:
        return self._file.tell()


class _Machine:
    """The part of the pickle machine that lists of strings and booleans need."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bounded: Any = _Bounded(file)  # has all methods that `genops` calls
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._images = 0
        self._builders: Final[dict[str, Callable[[], None]]] = {
            "EMPTY_LIST": lambda: self._stack.append([]),
            "MARK": lambda: self._stack.append(_MARK),
            "APPEND": lambda: self._extend(self._popped(1)),
            "APPENDS": lambda: self._extend(self._popped_to_mark()),
            "TUPLE2": lambda: self._stack.append(tuple(self._popped(2))),
            "TUPLE": lambda: self._stack.append(tuple(self._popped_to_mark())),
        }

    def result(self) -> tuple[list[Stored], list[bool]]:
        """The images and the booleans. Raises ValueError for anything else."""
        for opcode, argument in self._opcodes():
            self._step(opcode, argument)
        if self._file.read(1):
            raise ValueError("bytes follow its end")
        if len(self._stack) != 1 or not isinstance(self._stack[0], tuple) or len(self._stack[0]) != 2:
            raise ValueError("it is no pair")
        images, same = self._stack[0]
        if not _is_list_of(images, Stored) or not _is_list_of(same, bool):
            raise ValueError("its pair is not a list of strings and one of booleans")
        return images, same

    def _opcodes(self) -> Iterator[tuple[str, Any]]:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self._bounded), start=1):
            if number > MOST_OPCODES:
                raise ValueError(f"it has more than {MOST_OPCODES} opcodes")
            if opcode.name == "STOP":
                return
            yield opcode.name, argument

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _BYTES:
            self._push_image(Stored(self._file.tell() - len(argument), len(argument)))
        elif opcode in _BOOLEANS:
            self._stack.append(_BOOLEANS[opcode])
        elif opcode in _KEPT:
            self._keep(len(self._memo) if opcode == "MEMOIZE" else argument)
        elif opcode in _REPEATED:
            self._repeat(argument)
        elif opcode in self._builders:
            self._builders[opcode]()
        elif opcode not in _WITHOUT_EFFECT:
            raise ValueError(f"it has the opcode {opcode}, which lists of strings and booleans do not need")

    def _push_image(self, image: Stored) -> None:
        self._images += 1
        if self._images > MOST_IMAGES:
            raise ValueError(f"it has more than {MOST_IMAGES} images")
        self._stack.append(image)

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count or _MARK in self._stack[-count:]:
            raise ValueError("it takes more from its stack than there is")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _popped_to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                taken = self._stack[place + 1 :]
                del self._stack[place:]
                return taken
        raise ValueError("it takes more from its stack than there is")

    def _extend(self, items: list[Any]) -> None:
        if not self._stack or not isinstance(self._stack[-1], list):
            raise ValueError("it appends to something that is no list")
        if any(not isinstance(item, Stored | bool) for item in items):
            raise ValueError("a list holds something else than strings and booleans")
        self._stack[-1].extend(items)

    def _keep(self, index: int) -> None:
        """Remember the top of the stack, which writers do with every object."""
        if not self._stack or len(self._memo) >= MOST_OPCODES:
            raise ValueError("it keeps what is not there")
        top = self._stack[-1]
        self._memo[index] = top if isinstance(top, Stored | bool) else None

    def _repeat(self, index: int) -> None:
        kept = self._memo.get(index)
        if kept is None:
            raise ValueError("it repeats something else than a string or a boolean")
        if isinstance(kept, Stored):
            self._push_image(kept)
        else:
            self._stack.append(kept)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
