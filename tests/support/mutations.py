"""Files that were damaged at random, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

Mutation = Callable[[random.Random, bytearray], None]

# Values at which counts, sizes and offsets go wrong.
EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)


def mutants(seeds: Sequence[bytes], count: int, *, seed: int = 0) -> Iterator[bytes]:
    """That many damaged copies of the seeds, each by one to four mutations."""
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            chance.choice(_MUTATIONS)(chance, data)
        yield bytes(data)


def _place(chance: random.Random, data: bytearray, length: int = 1) -> int:
    """Anywhere, but in large files mostly near the ends, where headers and directories are."""
    last = max(0, len(data) - length)
    place = chance.randint(0, last)
    near = min(last, 300)
    return chance.choice((place, chance.randint(0, near), last - chance.randint(0, near)))


def _flip_bit(chance: random.Random, data: bytearray) -> None:
    if data:
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _set_byte(chance: random.Random, data: bytearray) -> None:
    if data:
        data[_place(chance, data)] = chance.randrange(256)


def _set_number(chance: random.Random, data: bytearray) -> None:
    size = chance.choice((1, 2, 4, 8))
    place = _place(chance, data, size)
    data[place : place + size] = (chance.choice(EDGES) % 256**size).to_bytes(size, "little")


def _add_to_number(chance: random.Random, data: bytearray) -> None:
    size = chance.choice((1, 2, 4))
    place = _place(chance, data, size)
    number = int.from_bytes(data[place : place + size], "little") + chance.choice((-16, -1, 1, 16))
    data[place : place + size] = (number % 256**size).to_bytes(size, "little")


def _cut_out(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    del data[place : place + chance.choice((1, 2, 4, 8, 50))]


def _insert(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    data[place:place] = chance.randbytes(chance.choice((1, 2, 4, 8, 50)))


def _repeat(chance: random.Random, data: bytearray) -> None:
    place, length = _place(chance, data), chance.choice((1, 4, 16, 46, 200))
    target = _place(chance, data)
    data[target:target] = data[place : place + length]


def _move(chance: random.Random, data: bytearray) -> None:
    place, length = _place(chance, data), chance.choice((1, 4, 16, 46, 200))
    piece = data[place : place + length]
    del data[place : place + length]
    target = _place(chance, data)
    data[target:target] = piece


def _truncate(chance: random.Random, data: bytearray) -> None:
    del data[_place(chance, data) :]


def _clear(chance: random.Random, data: bytearray) -> None:
    place = _place(chance, data)
    end = min(len(data), place + chance.choice((1, 4, 30, 300)))
    data[place:end] = bytes(end - place)


_MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip_bit,
    _flip_bit,
    _set_byte,
    _set_number,
    _set_number,
    _add_to_number,
    _cut_out,
    _insert,
    _repeat,
    _move,
    _truncate,
    _clear,
)
