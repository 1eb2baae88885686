"""Damaged `.params` files, the same ones each time, and what the reader makes of them in a process with little memory.

`python tests/support/params_mutations.py try FIRST LAST` tries those with these numbers; `… read FILE BYTES` reads a
file. Both print what happened as JSON.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

from params_files import MAGICS, seeds
from sshconvert.errors import ParamsError
from sshconvert.mxnet.params import parse_params, read_params

# Above what the process has when it begins, and above three times the file.
MEMORY: Final = 64 << 20

BOUNDARIES: Final = (0, 1, 2, 3, 32, 33, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


@cache
def originals() -> tuple[bytes, ...]:
    """The small seeds: in a file of 60 KB hardly any damage would meet a field."""
    return tuple(raw for raw in seeds().values() if len(raw) < 1000)


def mutation(number: int) -> bytes:
    """Damaged file number so-and-so: one to four changes to a good one."""
    dice = random.Random(number)  # noqa: S311  # repeatable, not secret
    raw = bytearray(dice.choice(originals()))
    for _ in range(dice.choice((1, 1, 1, 2, 2, 4))):
        dice.choice(CHANGES)(raw, dice)
    return bytes(raw)


def _flip_a_bit(raw: bytearray, dice: random.Random) -> None:
    if raw:
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)


def _set_a_byte(raw: bytearray, dice: random.Random) -> None:
    if raw:
        raw[dice.randrange(len(raw))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def _set_a_field(raw: bytearray, dice: random.Random) -> None:
    """All integers lie at multiples of four, but for what follows a name or an array of bytes."""
    width = dice.choice((4, 8))
    if len(raw) >= width:
        start = dice.randrange(len(raw) - width + 1)
        value = dice.choice((*BOUNDARIES, *MAGICS.values(), len(raw), dice.randrange(256)))
        raw[start - start % 4 : start - start % 4 + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def _add_to_a_field(raw: bytearray, dice: random.Random) -> None:
    if len(raw) >= 4:
        start = dice.randrange(len(raw) - 3) & ~3
        value = int.from_bytes(raw[start : start + 4], "little") + dice.choice((-2, -1, 1, 2, 4))
        raw[start : start + 4] = (value % 2**32).to_bytes(4, "little")


def _cut_off(raw: bytearray, dice: random.Random) -> None:
    del raw[dice.randrange(len(raw) + 1) :]


def _cut_out(raw: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(raw) + 1)
    del raw[start : start + dice.choice((1, 4, 8, 20))]


def _repeat(raw: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(raw) + 1)
    raw[start:start] = raw[start : start + dice.choice((1, 4, 8, 44))] * dice.choice((1, 1, 30))


def _insert(raw: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(raw) + 1)
    raw[start:start] = dice.randbytes(dice.choice((1, 4, 8)))


def _exchange(raw: bytearray, dice: random.Random) -> None:
    size = dice.choice((4, 8))
    if len(raw) >= size:
        one, other = (dice.randrange(len(raw) - size + 1) for _ in range(2))
        raw[one : one + size], raw[other : other + size] = raw[other : other + size], raw[one : one + size]


def _splice(raw: bytearray, dice: random.Random) -> None:
    other = dice.choice(originals())
    raw[dice.randrange(len(raw) + 1) :] = other[dice.randrange(len(other)) :]


CHANGES: Final = (
    _flip_a_bit,
    _set_a_byte,
    _set_a_field,
    _set_a_field,
    _add_to_a_field,
    _cut_off,
    _cut_out,
    _repeat,
    _insert,
    _exchange,
    _splice,
)


def judge(raw: bytes) -> str:
    """What is found wrong with a file, in words without its numbers; "" if it is accepted.

    Whatever else the reader raises is raised, and so is AssertionError for a message without a place inside the file.
    """
    try:
        arrays = parse_params(raw, source="file")
    except ParamsError as error:
        message = str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) < len(raw)
        return ""
    parts = re.fullmatch(r"file: offset (\d+): expected (.+), found .+; get the file again .+", message)
    assert parts, message
    assert int(parts[1]) <= len(raw), message
    return re.sub(r"\(.*\)|\b\d+\b", "#", parts[2])


def limit_memory(more: int) -> None:
    """From now on, this process gets no more than so many bytes more of address space."""
    import resource

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def try_mutations(first: int, last: int) -> dict[str, Any]:
    """The reader's verdicts on the damaged files with these numbers, and the seconds that the slowest took."""
    limit_memory(MEMORY + 3 * max(map(len, originals())))
    verdicts: Counter[str] = Counter()
    slowest = 0.0
    for number in range(first, last):
        raw = mutation(number)
        start = time.perf_counter()
        verdicts[judge(raw)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    return {"verdicts": dict(verdicts.most_common()), "slowest": slowest}


def read(path: Path, memory: int) -> dict[str, Any]:
    """How many arrays are read from a file, or the error, with 64 MB and so much memory more."""
    limit_memory(MEMORY + memory)
    try:
        return {"read": len(read_params(path))}
    except ParamsError as error:
        return {"error": str(error)}


def main(verb: str, *arguments: str) -> None:
    result = try_mutations(*map(int, arguments)) if verb == "try" else read(Path(arguments[0]), int(arguments[1]))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
