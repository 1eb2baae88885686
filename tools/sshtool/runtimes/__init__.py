"""Runtimes that compute the six output tensors, behind one small interface.

To add one: a module here with a subclass of `Runtime`, and its test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]


class Runtime(ABC):
    """A loaded model. `run` takes images as they are and feeds what the model declares that it wants."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the library that computes."""

    @abstractmethod
    def run(self, images: Images) -> Outputs:
        """Compute the outputs, by bare name in the model's order, for uint8 [N, H, W, 3] BGR images."""


def prepare(images: Images, *, color_order: str, mean_values: Sequence[float]) -> npt.NDArray[np.float32]:
    """What a model with that contract takes: float32 [N, 3, H, W], channels in `color_order`, minus `mean_values`."""
    channels = images if color_order == "BGR" else images[..., ::-1]
    return np.ascontiguousarray((channels.astype(np.float32) - np.array(mean_values, np.float32)).transpose(0, 3, 1, 2))


def declared_contract(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `prepare` from an artifact's metadata; a file without them takes raw BGR."""
    mean_values = str(metadata.get("mean_values", "0 0 0"))
    return {
        "color_order": str(metadata.get("color_order", "BGR")),
        "mean_values": tuple(float(value) for value in mean_values.split()),
    }
