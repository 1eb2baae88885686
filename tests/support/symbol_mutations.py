"""Seeded mutations of symbols, of their bytes and of their structure; and the process that tries them under limits.

`python symbol_mutations.py FIRST COUNT` tries so many of them, and `python symbol_mutations.py FILE...` tries files,
each with as much memory as its size allows: three times the file and 64 MB. It prints as JSON what came of them.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import pytest

from dialects import VERSIONS, in_dialect
from fuzzing import SLOWEST
from random_graphs import random_graph, with_odd_names
from sshtool.demo.symbol import ssh_vgg16_symbol
from symbol_check import check

Json: TypeAlias = Any  # whatever `json.loads` can give

EXTRA_MEMORY: Final = 64 << 20  # bytes

TOKENS: Final = (
    *(b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"[[[[[[[[[[[[[[[[", b"]]]]", b'{"a":', b"null", b"true"),
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0.5", b"9" * 20, b"9" * 5000, b"4294967296", b"1e5", b"-0"),
    *(b"\x00", b"\n", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b"\xc3", b"\xf0\x9f\x98\x80"),
)
INTEGERS: Final = (-(2**63), -1, 0, 1, 2, 3, 157, 158, 255, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 10**18)
TEXTS: Final = (
    *(
        "",
        "(",
        "()",
        "(3, 3)",
        "(3,)",
        "(1, 1, 1)",
        "(0, 0)",
        "(-1, -1)",
        "(-2, -1)",
        "(-4, -2, -2, -2)",
        "(0, -3, -2)",
    ),
    *("(2147483647, 2147483647)", "(99999999999999999999,1)", f"({'1, ' * 40})", "2147483647", "2147483648", "-1", "0"),
    *(
        "9" * 30,
        "9" * 5000,
        "nan",
        "inf",
        "1e999",
        "True",
        "None",
        "full",
        "avg",
        "instance",
        "NHWC",
        "\n",
        "\0",
        "\ud800",
    ),
    *(
        "null",
        "data",
        "Convolution",
        "Concat",
        "Crop",
        "Reshape",
        "Pooling",
        "UpSampling",
        "BatchNorm",
        "_Plus",
        "é" * 300,
    ),
)
KEYS: Final = (
    "op",
    "name",
    "inputs",
    "attrs",
    "attr",
    "param",
    "control_deps",
    "kernel",
    "shape",
    "num_args",
    "lr_mult",
)


def seeds() -> list[bytes]:
    """The SSH network and ten random ones, in every dialect."""
    graphs = [random_graph(seed) for seed in range(10)]
    graphs = [with_odd_names(graph, seed) if seed % 3 == 0 else graph for seed, graph in enumerate(graphs)]
    documents = [json.loads(ssh_vgg16_symbol()), *(graph.document for graph in graphs)]
    return [
        json.dumps(in_dialect(document, version), indent=indent).encode()
        for document in documents
        for version, indent in zip(VERSIONS.values(), (None, 2, None, 2, None), strict=True)
    ]


def mutated(seed: int, originals: list[bytes]) -> bytes:
    random = Random(seed)  # noqa: S311  # no secret
    raw = random.choice(originals)
    if random.random() < 0.5:
        document = json.loads(raw)
        for _ in range(random.randint(1, 3)):
            _change_structure(document, random)
        return json.dumps(document).encode()
    changed = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        _change_bytes(changed, random, originals)
    return bytes(changed)


def _change_bytes(raw: bytearray, random: Random, originals: list[bytes]) -> None:
    at = random.randrange(len(raw) + 1)
    to = min(len(raw), at + random.choice((1, 1, 2, 8, 100, 5000)))
    kind = random.randrange(7)
    if kind == 0 and at < len(raw):
        raw[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        raw[at:at] = random.choice(TOKENS)
    elif kind == 2:
        raw[at:to] = random.choice(TOKENS)
    elif kind == 3:
        del raw[at:to]
    elif kind == 4:
        raw[at:at] = raw[at:to]
    elif kind == 5:
        del raw[at:]
    else:
        other = random.choice(originals)
        start = random.randrange(len(other))
        raw[at:to] = other[start : start + to - at]


def _change_structure(document: Json, random: Random) -> None:
    places = _places(document)
    attributes = [(holder, key) for holder, key in places if isinstance(holder[key], str) and "op" not in holder]
    if attributes and random.random() < 0.5:  # what gets furthest
        holder, key = random.choice(attributes)
        holder[key] = random.choice((*TEXTS, holder[key] + "0"))
    elif places:
        holder, key = random.choice(places)
        other, place = random.choice(places)
        _change_value(holder, key, other[place], random)


def _change_value(holder: Json, key: Any, other: Json, random: Random) -> None:
    kind = random.randrange(7)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(random.randint(0, len(holder)), copy.deepcopy(holder[key]))
    elif kind == 1:
        holder[random.choice(KEYS)] = copy.deepcopy(holder[key])
    elif kind == 2:
        holder[key] = copy.deepcopy(other)
    elif kind == 3:
        holder[key] = random.choice((None, True, 0.5, [], {}, [0, 0], [[0, 0, 0]], float("inf"), float("nan")))
    elif isinstance(holder[key], int):
        holder[key] = random.choice((*INTEGERS, holder[key] + 1, holder[key] - 1))
    elif isinstance(holder[key], str):
        holder[key] = random.choice((*TEXTS, holder[key] + "x", holder[key][1:]))
    elif isinstance(holder[key], list):
        random.shuffle(holder[key])


def _places(value: Json) -> list[tuple[Json, Any]]:
    """Each value inside, as what holds it and its key or number there."""
    found = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return found


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * resource.getpagesize()


LINUX_ONLY: Final = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is limited by what Linux says is in use"
)


def try_in_little_memory(*arguments: str | Path) -> dict[str, int]:
    """How often each verdict was given, in a process whose memory is limited."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["slowest"] < SLOWEST
    verdicts: dict[str, int] = report["verdicts"]
    return verdicts


def symbols(arguments: list[str]) -> Iterator[tuple[str, bytes]]:
    if not arguments[0].isdigit():
        yield from ((name, Path(name).read_bytes()) for name in arguments)
        return
    originals = seeds()
    first, count = map(int, arguments)
    yield from ((f"mutation {seed}", mutated(seed, originals)) for seed in range(first, first + count))


def main(arguments: list[str]) -> None:
    check(seeds()[0])  # so that everything is imported
    verdicts: Counter[str] = Counter()
    slowest = 0.0
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    for name, raw in symbols(arguments):
        most = _address_space() + 2 * len(raw) + EXTRA_MEMORY  # the file itself is in memory already
        resource.setrlimit(resource.RLIMIT_AS, (most, unlimited[1]))
        begin = time.process_time()  # of the processor, because others work beside this
        try:
            verdicts[check(raw)] += 1
        except BaseException as error:
            raise AssertionError(name) from error
        finally:
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
        slowest = max(slowest, time.process_time() - begin)
    print(json.dumps({"verdicts": verdicts, "slowest": slowest}))  # noqa: T201  # the answer


if __name__ == "__main__":
    main(sys.argv[1:])
