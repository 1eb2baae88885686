"""Checkpoints of a few nodes, written as MXNet writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sshconvert.graph import Shape
from sshconvert.mxnet.params import write_params


def node(operator: str, name: str, *inputs: int, **attributes: object) -> dict[str, Any]:
    texts = {key: str(value) for key, value in attributes.items()}
    return {"op": operator, "name": name, "inputs": [[number, 0, 0] for number in inputs], "attrs": texts}


def write_tiny_checkpoint(
    folder: Path,
    nodes: Sequence[dict[str, Any]],
    outputs: Sequence[int],
    weights: Mapping[str, Shape],
    scale: float = 0.01,
) -> None:
    """Write tiny-symbol.json and tiny-0000.params, with a random weight and a bias for each of `weights`."""
    variables = [number for number, item in enumerate(nodes) if item["op"] == "null"]
    symbol = {"nodes": list(nodes), "arg_nodes": variables, "heads": [[number, 0, 0] for number in outputs]}
    (folder / "tiny-symbol.json").write_text(json.dumps(symbol))
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, shape in weights.items():
        arrays[f"arg:{name}_weight"] = (scale * random.standard_normal(shape)).astype(np.float32)
        arrays[f"arg:{name}_bias"] = (scale * random.standard_normal(shape[0])).astype(np.float32)
    write_params(folder / "tiny-0000.params", arrays)
