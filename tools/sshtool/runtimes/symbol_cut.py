"""Cutting symbol JSON before MXNet loads it. MXNet refuses a whole symbol for one operator that it lacks, as Custom."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any


def cut_symbol(text: str, outputs: Sequence[str]) -> str:
    """Return symbol JSON that computes `outputs` alone: names of tensors without the suffix `_output`.

    Raises ValueError if a node of that name is missing. `sshconvert.cutting` is not used: the reference is independent.
    """
    document: dict[str, Any] = json.loads(text)
    nodes: list[dict[str, Any]] = document["nodes"]
    numbers = {node["name"]: number for number, node in reversed(list(enumerate(nodes)))}
    heads = [_head(name, numbers) for name in outputs]
    needed: set[int] = set()
    pending = [number for number, _ in heads]
    while pending:
        number = pending.pop()
        if number not in needed:
            needed.add(number)
            pending += (entry[0] for entry in nodes[number]["inputs"])
    moved = {old: new for new, old in enumerate(sorted(needed))}
    kept = [
        {**nodes[old], "inputs": [[moved[entry[0]], *entry[1:]] for entry in nodes[old]["inputs"]]} for old in moved
    ]
    for node in kept:
        node.pop("control_deps", None)
    variables = [number for number, node in enumerate(kept) if node["op"] == "null"]
    rest = {key: value for key, value in document.items() if key != "node_row_ptr"}
    tail = [0] if len(document["heads"][0]) > 2 else []  # the version of an entry, which 0.8 does not write
    return json.dumps(
        rest | {"nodes": kept, "arg_nodes": variables, "heads": [[moved[number], out, *tail] for number, out in heads]}
    )


def _head(name: str, numbers: dict[str, int]) -> tuple[int, int]:
    """Return the node and the number of an output."""
    if name in numbers:
        return numbers[name], 0
    match = re.fullmatch(r"(.+)_output(\d+)", name)
    if match is None or match[1] not in numbers:
        raise ValueError(f"no node computes {name}")
    return numbers[match[1]], int(match[2])
