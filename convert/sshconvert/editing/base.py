"""Small edits in a copy of an artifact, the same for ONNX and for IR: what planting a fault takes, and no more.

(De)convolutions have the original network's names in both. Weights, biases and the mean are float32 here, whatever
they are stored as.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from sshconvert.arrays import Array, Floats
from sshconvert.errors import SSHToolError

Constant = TypeVar("Constant")


class Arithmetic(Enum):
    """What an output can be combined with a constant by: the operator in ONNX and in an IR."""

    ADD = ("Add", "Add")
    MULTIPLY = ("Mul", "Multiply")
    LESSER = ("Min", "Minimum")


class NotThereError(SSHToolError):
    """An artifact does not have what an edit is about."""


class EditableModel(ABC, Generic[Constant]):
    """An artifact opened for edits. `save` writes them, unless nothing became different: then the file stays as it is.

    Every method raises NotThereError if the artifact does not have what it asks for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = False

    @property
    @abstractmethod
    def convolutions(self) -> tuple[str, ...]:
        """Names of all convolutions and deconvolutions, each after those that it computes with."""

    @property
    @abstractmethod
    def deconvolutions(self) -> tuple[str, ...]:
        """Names of the deconvolutions."""

    @abstractmethod
    def convolution_behind(self, output: str) -> str:
        """The name of the convolution that an output is made from, with nothing but reshapes and softmax between."""

    @abstractmethod
    def shift(self, deconvolution: str, pixels: int) -> None:
        """Crop a deconvolution's result that much further to the lower right."""

    @abstractmethod
    def round_pooling_up(self) -> None:
        """Let every pooling make a last, incomplete window where its input is odd."""

    @abstractmethod
    def set_softmax_axis(self, axis: int) -> None:
        """Normalise over that axis in every softmax."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""

    @abstractmethod
    def rename_outputs(self, names: Mapping[str, str]) -> None:
        """Give outputs other names. Their order and all that they are made of stay."""

    @abstractmethod
    def reorder_outputs(self, names: Sequence[str]) -> None:
        """Put all the outputs into that order."""

    @abstractmethod
    def output_shape(self, output: str) -> tuple[int, ...]:
        """The shape of an output. It has to be fixed."""

    @abstractmethod
    def combine(self, output: str, by: Arithmetic, values: Array) -> None:
        """Let an output be combined with a constant of its own type, which does not change its shape."""

    @abstractmethod
    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        """Let an output have other rows along an axis, as many as before: those with these numbers."""

    @abstractmethod
    def cast(self, output: str, dtype: type) -> None:
        """Let an output be int64 or float32."""

    @abstractmethod
    def declared(self, key: str) -> str:
        """What the metadata say, "" for nothing."""

    @abstractmethod
    def declare(self, key: str, value: str) -> None:
        """Let the metadata say something else."""

    def weight(self, convolution: str) -> Floats:
        return self._read(self._weight(convolution)).astype(np.float32)

    def set_weight(self, convolution: str, values: Floats) -> None:
        self._set(self._weight(convolution), values)

    def bias(self, convolution: str) -> Floats | None:
        """One number for each output channel; None where none is stored, as for zeros in an IR."""
        constant = self._bias(convolution)
        return None if constant is None else self._read(constant).astype(np.float32).ravel()

    def set_bias(self, convolution: str, values: Floats) -> None:
        constant = self._bias(convolution)
        if constant is None:
            raise NotThereError(f"{convolution} has no bias")
        self._set(constant, values)

    def mean(self) -> Floats:
        """What is subtracted from the input's channels, in their order."""
        constant, sign = self._mean()
        return np.asarray(self._read(constant).astype(np.float32).ravel() * np.float32(sign))

    def set_mean(self, values: Floats) -> None:
        constant, sign = self._mean()
        self._set(constant, values * np.float32(sign))

    def save(self) -> None:
        if self.changed:
            self._write()

    def cut_off(self) -> None:
        """Leave only the first half of the file that holds the weights. At once: there is nothing to edit any more."""
        holder = self._weights_path
        with holder.open("r+b") as file:
            file.truncate(holder.stat().st_size // 2)

    @property
    def _weights_path(self) -> Path:
        return self.path

    def _set(self, constant: Constant, values: Floats) -> None:
        stored = self._read(constant)
        if stored.dtype.kind == "i":  # INT8: the weights in steps of their scale
            if not np.isfinite(values).all():
                raise NotThereError("the file stores integers, none of which is not finite")
            values = np.clip(values, -128, 127)
        rounded = values.astype(stored.dtype).reshape(stored.shape)
        if not np.array_equal(rounded, stored):
            self.changed = True
            self._replace(constant, rounded)

    @abstractmethod
    def _weight(self, convolution: str) -> Constant: ...

    @abstractmethod
    def _bias(self, convolution: str) -> Constant | None: ...

    @abstractmethod
    def _mean(self) -> tuple[Constant, int]:
        """The constant, and its sign: -1 if it is added."""

    @abstractmethod
    def _read(self, constant: Constant) -> Array:
        """The values in the type in which they are stored."""

    @abstractmethod
    def _replace(self, constant: Constant, values: Array) -> None:
        """Put values of the same type and shape in the place of a constant's."""

    @abstractmethod
    def _write(self) -> None: ...


def fixed_shape(output: str, shape: Sequence[int]) -> tuple[int, ...]:
    if min(shape, default=1) < 1:
        raise NotThereError(f"the shape of {output} is not fixed")
    return tuple(shape)
