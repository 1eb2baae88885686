"""Checkpoints of the real network with more channels, or fewer.

    python tests/support/scaled_checkpoint.py FOLDER WIDTH

writes one whose layers have WIDTH (such as 2 or 11/2) times the channels, and so WIDTH² times the 79 MB of parameters.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.models.registry import load_model
from sshconvert.mxnet.params import write_params
from sshconvert.network import parse_symbol, resolve
from sshtool.demo.symbol import ssh_vgg16_symbol

MODEL: Final = load_model("ssh-mxnet")
SLIM: Final = Fraction(1, 8)

# Scores spread from 0 to 1, and deltas stay below 1, as in the trained network.
HEADS: Final = {"rpn_cls": 0.02, "rpn_bbo": 0.002}


def write_checkpoint(folder: Path, text: str, arrays: Mapping[str, Array]) -> None:
    (folder / MODEL.checkpoint.symbol).write_text(text, encoding="utf-8")
    write_params(folder / MODEL.checkpoint.params, {f"arg:{name}": array for name, array in arrays.items()})


def write_random_checkpoint(folder: Path, *, width: Fraction = SLIM, seed: int = 3, bias: float = 0.1) -> None:
    """Dense random weights that neither vanish nor explode from layer to layer. `seed` changes the symbol file too."""
    text = scaled_symbol(width, indent=seed)
    random: Any = np.random.RandomState(seed)
    arrays = {}
    for name, shape in parameter_shapes(text).items():
        spread = HEADS.get(name[:7], 1.0) * (2 / math.prod(shape[1:])) ** 0.5 if len(shape) > 1 else bias
        arrays[name] = (random.standard_normal(shape) * spread).astype(np.float32)
    write_checkpoint(folder, text, arrays)


def write_scaled_checkpoint(folder: Path, width: Fraction) -> None:
    """The same values for every output channel, so that they take no memory here."""
    text = scaled_symbol(width)
    random: Any = np.random.RandomState(0)
    arrays = {}
    for name, shape in parameter_shapes(text).items():
        one = random.standard_normal((1, *shape[1:])) * (2 / max(1, math.prod(shape[1:]))) ** 0.5
        arrays[name] = np.broadcast_to(one.astype(np.float32), shape)
    write_checkpoint(folder, text, arrays)


def scaled_symbol(width: Fraction, indent: int | None = None) -> str:
    """Scales all layers but the heads, whose channels the detector decodes."""
    document = json.loads(ssh_vgg16_symbol())
    for node in document["nodes"]:
        attributes = node.get("attrs", {})
        for name in {"num_filter", "num_group"} & set(attributes) if not node["name"].startswith("rpn_") else ():
            attributes[name] = str(int(attributes[name]) * width)
    return json.dumps(document, indent=indent)


def parameter_shapes(text: str) -> Mapping[str, Shape]:
    inputs = MODEL.input_shapes
    return resolve(parse_symbol(text), inputs).parameters(inputs)


if __name__ == "__main__":
    write_scaled_checkpoint(Path(sys.argv[1]), Fraction(sys.argv[2]))
    sys.stdout.write("true")
