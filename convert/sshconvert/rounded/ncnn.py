"""The rounding that an ncnn network declares: weights in float16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.rounded.places import Places
from sshconvert.rounding import Half, Place, Rounding, Rule
from sshconvert.validation.ncnn import NcnnNetwork

# How far stored weights may be from those of their layer, on average and relative to them: more than float16 rounds,
# and far less than the weights of two layers differ.
NEAR: Final = 2.0**-8

_WIDTH: Final = 2  # bytes of float16


def read_rounding(network: NcnnNetwork, weights: Path, places: Places) -> Rounding:
    """Return the rounding. Raises PrecisionError if rounded weights are none of the network's.

    pnnx numbers layers, so each is found by its weights: the next layer with weights, or any other that they fit.
    """
    data = weights.read_bytes()
    left = [number for number in places.nodes.values() if places.weighted(number) == number]
    rules: dict[Place, Rule] = {}
    for item in network.weights:
        if item.width != _WIDTH:
            continue
        stored = np.frombuffer(data, "<f2", item.number, item.place)
        number, rule = next(_fitting(stored, left, places), (-1, Half()))
        if number < 0:
            raise places.fail(item.layer.name, "weights that are none of the network's")
        left.remove(number)
        rules[places.weight_place(number)] = rule
    return Rounding(rules)


def _fitting(stored: Array, left: list[int], places: Places) -> Iterator[tuple[int, Rule]]:
    """Yield the nodes whose weights these are, with the rule."""
    for number in left:
        inputs = places.network.graph.nodes[number].inputs[places.weight_place(number)[1] :]
        weight = places.constant(inputs[0]) if inputs else np.empty(0)  # UpSampling has some in one of its modes
        if weight.size != stored.size:
            continue
        fit = places.fit(number, stored.astype(np.float64).reshape(weight.shape))
        own = fit.own(stored).astype(np.float64)
        products = weight if fit.factor is None else weight * fit.factor
        if np.abs(products - own).sum() <= NEAR * np.abs(products).sum():
            yield number, Half(fit.factor, fit.own(stored))
