"""Checkpoints of any size: the real network with more channels, or fewer.

    python tests/support/wide_checkpoint.py FOLDER WIDTH

makes one whose layers have WIDTH (such as 2 or 11/2) times the channels, and WIDTH squared times the bytes: 79 MB at 1.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.models.registry import load_model
from sshconvert.mxnet.params import write_params
from sshconvert.mxnet.symbol import parse_symbol
from sshconvert.network import resolve
from sshtool.demo.symbol import ssh_vgg16_symbol

MODEL: Final = load_model("ssh-mxnet")


def wide_symbol(width: Fraction) -> str:
    """All layers but the heads', whose channels are what the detector decodes."""
    document = json.loads(ssh_vgg16_symbol())
    for node in document["nodes"]:
        attributes = node.get("attrs", {})
        for name in {"num_filter", "num_group"} & set(attributes) if not node["name"].startswith("rpn_") else ():
            attributes[name] = str(int(attributes[name]) * width)
    return json.dumps(document)


def write_wide_checkpoint(folder: Path, width: Fraction) -> None:
    text = wide_symbol(width)
    inputs = MODEL.input_shapes
    shapes = resolve(parse_symbol(text), inputs).parameters(inputs)
    random: Any = np.random.RandomState(0)
    (folder / MODEL.checkpoint.symbol).write_text(text, encoding="utf-8")
    write_params(
        folder / MODEL.checkpoint.params, {f"arg:{name}": _values(random, shape) for name, shape in shapes.items()}
    )


def _values(random: Any, shape: Shape) -> Array:
    """Which neither vanish nor explode from layer to layer; the same for every output channel, so that they take no
    memory here.
    """
    one = random.standard_normal((1, *shape[1:])) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
    return np.broadcast_to(one.astype(np.float32), shape)


if __name__ == "__main__":
    write_wide_checkpoint(Path(sys.argv[1]), Fraction(sys.argv[2]))
    sys.stdout.write("true")
