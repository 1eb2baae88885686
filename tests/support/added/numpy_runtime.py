"""A made-up runtime: a convolution, a pooling and two heads in NumPy, of the weights in an .npz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sshconvert.arrays import Array
from sshconvert.formats.registry import FORMATS
from sshconvert.models.spec import ModelSpec
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings, prepared
from sshtool.runtimes.registry import RUNTIMES


@RUNTIMES.register("numpy")
class NumPy(Runtime):
    key = "numpy"
    name = "NumPy"
    module = "numpy"
    formats = ("npz",)

    def __init__(self, path: Path, settings: Settings) -> None:
        self.version, self.settings = np.__version__, settings
        self.declaration = FORMATS["npz"].read_contract(path).declaration(path)
        with np.load(path, allow_pickle=False) as archive:
            self._weights = {name: archive[name] for name in archive.files if name != "contract"}

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(path, settings)

    def run(self, feed: Feed) -> Outputs:
        names = ("prob", "box")
        layers = self.layers(feed)
        return {name: layers[name] for name in names}

    def layers(self, feed: Feed) -> Outputs:
        data = prepared(feed, self.declaration, "data")["data"] - self._weights["data_mean"]
        body = np.maximum(self._convolution("body", np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))), 0)
        count, channels, height, width = body.shape
        cells = body[:, :, : height // 16 * 16, : width // 16 * 16]
        pooled = cells.reshape(count, channels, height // 16, 16, width // 16, 16).max(axis=(3, 5))
        score = self._convolution("score", pooled)
        powers = np.exp(score - score.max(axis=1, keepdims=True))
        return {"prob": powers / powers.sum(axis=1, keepdims=True), "box": self._convolution("box", pooled)}

    def inferences(self, feed: Feed) -> list[Inference]:
        return [lambda: self.run(feed)]

    def _convolution(self, name: str, values: Array) -> Array:
        weight, bias = self._weights[f"{name}_weight"], self._weights[f"{name}_bias"]
        sliding: Any = np.lib.stride_tricks.sliding_window_view  # numpy 1 types only one axis
        windows = sliding(values, weight.shape[2:], axis=(2, 3))
        result: Array = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + bias[:, None, None]
        return result
