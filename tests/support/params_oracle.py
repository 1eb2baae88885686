"""Damaged `.params` files read by MXNet and by us.

`python tests/support/params_oracle.py FIRST LAST FOLDER` prints as JSON how many
each accepts, and the numbers of those that both accept as different arrays.

MXNet dies of some of them. So it reads them in copies of this process, which imports MXNet once; what kills one is
counted as a crash, and the next copy goes on behind it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from params_files import MAGICS, accepted, content
from params_mutations import limit_memory, mutation
from sshtool.runtimes.mxnet import import_mxnet

BOTH, ONLY_WE, ONLY_MXNET, NEITHER, DIFFERENT, CRASH = "both", "only we", "only MXNet", "neither", "different", "crash"

# MXNet allocates what a file asks for before it looks whether that much is there.
MEMORY: Final = 256 << 20
# A copy of this process lives for so many files, so that what MXNet leaks or spoils does not add up.
FILES: Final = 1000


def compare(mxnet: Any, number: int, path: Path) -> str:
    raw = mutation(number)
    ours = accepted(raw)
    path.write_bytes(raw)
    theirs = _theirs(mxnet, raw, path)
    if ours is None or theirs is None:
        return NEITHER if ours is theirs else ONLY_WE if theirs is None else ONLY_MXNET
    return BOTH if content(ours) == content(theirs) else DIFFERENT


def _theirs(mxnet: Any, raw: bytes, path: Path) -> dict[str, np.ndarray[Any, Any]] | None:
    """What MXNet reads, None if it reports an error. V3 needs NumPy's shapes: 2 turns them on for all."""
    mxnet.util.set_np_shape(2 if MAGICS["V3"].to_bytes(4, "little") in raw else 0)
    try:
        loaded = mxnet.nd.load(str(path))
        pairs = loaded.items() if isinstance(loaded, dict) else ((f"#{i}", item) for i, item in enumerate(loaded))
        return {name: array.asnumpy() for name, array in pairs}
    except Exception:  # noqa: BLE001  # its readers raise many kinds
        return None


def copy_of_this_process(mxnet: Any, first: int, last: int, path: Path) -> list[str]:
    """The verdicts of a copy from `first` on, until `last` or until it dies."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MXNet's last words
        limit_memory(MEMORY)
        for number in range(first, last):
            os.write(sender, f"{compare(mxnet, number, path)}\n".encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, encoding="ascii") as pipe:
        verdicts = pipe.read().splitlines()
    os.waitpid(child, 0)
    return verdicts


def main(first: int, last: int, folder: Path) -> None:
    mxnet = import_mxnet()
    counts: Counter[str] = Counter()
    different: list[int] = []
    number = first
    while number < last:
        end = min(number + FILES, last)
        verdicts = copy_of_this_process(mxnet, number, end, folder / "oracle.params")
        verdicts += [CRASH] * (len(verdicts) < end - number)
        different += [number + index for index, verdict in enumerate(verdicts) if verdict == DIFFERENT]
        counts.update(verdicts)
        number += len(verdicts)
    sys.stdout.write(json.dumps({"counts": counts, "different": different}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
