"""Edits that plant a fault in a copy of an artifact, the same for every format.

(De)convolutions have the original network's names in every format. Weights, biases and the mean are float32 here,
however the file stores them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, Generic, TypeVar

import numpy as np

from sshconvert.arrays import Array, Floats
from sshconvert.errors import SSHToolError

Constant = TypeVar("Constant")

# The end of a slice of negative steps that includes the first row.
ALL_BEFORE: Final = -(2**31)


class Arithmetic(Enum):
    """How to combine a tensor with a constant: the operator in ONNX and in an IR."""

    ADD = ("Add", "Add")
    MULTIPLY = ("Mul", "Multiply")
    LESSER = ("Min", "Minimum")
    GREATER = ("Max", "Maximum")


class NotThereError(SSHToolError):
    """An artifact lacks the subject of an edit."""


class EditableModel(ABC, Generic[Constant]):
    """An artifact opened for edits. `save` writes the file if an edit changed it.

    Every method raises NotThereError if the artifact lacks its subject.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = False

    @property
    @abstractmethod
    def convolutions(self) -> tuple[str, ...]:
        """Names of all convolutions and deconvolutions, in the order of computation."""

    @property
    @abstractmethod
    def deconvolutions(self) -> tuple[str, ...]:
        """Names of the deconvolutions."""

    @abstractmethod
    def convolution_behind(self, output: str) -> str:
        """Return the convolution that computes an output or an inner tensor, followed by reshapes and softmax alone."""

    @abstractmethod
    def shift(self, deconvolution: str, pixels: int) -> None:
        """Move the crop of a deconvolution's result by a number of pixels to the lower right."""

    @abstractmethod
    def round_pooling_up(self) -> None:
        """Round the output size of every pooling up, so that an odd input gets a last, incomplete window."""

    @abstractmethod
    def set_softmax_axis(self, axis: int) -> None:
        """Normalise over an axis in every softmax."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""

    @abstractmethod
    def rename_outputs(self, names: Mapping[str, str]) -> None:
        """Rename outputs. Their order and values stay."""

    @abstractmethod
    def reorder_outputs(self, names: Sequence[str]) -> None:
        """Change the order of the outputs."""

    def output_shape(self, output: str) -> tuple[int, ...]:
        """Return the shape of an output. Raises NotThereError if it is not fixed."""
        shape = self._dimensions(output)
        if min(shape, default=1) < 1:
            raise NotThereError(f"the shape of {output} is not fixed")
        return shape

    def batch(self, output: str) -> int | None:
        """Return the first dimension of an output, the number of images; None if it is free."""
        first, *_ = self._dimensions(output)
        return first if first > 0 else None

    @abstractmethod
    def combine(self, tensor: str, by: Arithmetic, values: Array) -> None:
        """Combine a tensor with a constant of its own type that does not change its shape.

        All readers of an inner tensor read the result. An output changes alone, not what the file computes from it.
        """

    @abstractmethod
    def take(self, output: str, numbers: Sequence[int], axis: int) -> None:
        """Replace the rows of an output along an axis by the rows with these numbers, as many as before."""

    @abstractmethod
    def reverse(self, output: str) -> None:
        """Reverse the order of an output's images, however many there are."""

    @abstractmethod
    def cast(self, output: str, dtype: type) -> None:
        """Convert an output to int64 or float32."""

    @abstractmethod
    def declared(self, key: str) -> str:
        """Return the value of a metadata key, "" if it is missing."""

    @abstractmethod
    def declare(self, key: str, value: str) -> None:
        """Set the value of a metadata key."""

    def weight(self, convolution: str) -> Floats:
        return self._read(self._weight(convolution)).astype(np.float32)

    def set_weight(self, convolution: str, values: Floats) -> None:
        self._set(self._weight(convolution), values)

    def filters(self, convolution: str) -> Floats:
        """Return the weights as they act, float32 [C, K]: a row for each output channel.

        The levels of INT8 are multiplied by their scale. A deconvolution has no such rows.
        """
        if convolution in self.deconvolutions:
            raise NotThereError(f"{convolution} is a deconvolution, which has no row of weights for an output channel")
        weight, scale = self.weight(convolution), self._scale(convolution)
        rows = weight.reshape(math.prod(weight.shape[: self._filter_axes(convolution)]), -1)
        return rows if scale is None else rows * self._read(scale).astype(np.float32).reshape(-1, 1)

    def scale_filter(self, convolution: str, number: int, factor: float) -> None:
        """Multiply the weights of an output channel by a factor: the scale of its levels in INT8."""
        scale = self._scale(convolution)
        if scale is None:
            rows = self.filters(convolution)
            rows[number] *= np.float32(factor)
            self.set_weight(convolution, rows)
            return
        values = self._read(scale).astype(np.float32).ravel()
        if values.size == 1:
            raise NotThereError(f"all filters of {convolution} share one scale")
        values[number] *= np.float32(factor)
        self._set(scale, values)

    def bias(self, convolution: str) -> Floats | None:
        """Return a number for each output channel, or None if the file stores no bias: an IR omits zeros."""
        constant = self._bias(convolution)
        return None if constant is None else self._read(constant).astype(np.float32).ravel()

    def set_bias(self, convolution: str, values: Floats) -> None:
        constant = self._bias(convolution)
        if constant is None:
            raise NotThereError(f"{convolution} has no bias")
        self._set(constant, values)

    def mean(self) -> Floats:
        """Return the mean that the file subtracts, in the order of the input's channels."""
        constant, sign = self._mean()
        return np.asarray(self._read(constant).astype(np.float32).ravel() * np.float32(sign))

    def set_mean(self, values: Floats) -> None:
        constant, sign = self._mean()
        self._set(constant, values * np.float32(sign))

    def save(self) -> None:
        if self.changed:
            self._write()

    def cut_off(self) -> None:
        """Cut the file that holds the weights in half, at once. No other edit can follow."""
        holder = self._weights_path
        with holder.open("r+b") as file:
            file.truncate(holder.stat().st_size // 2)

    @property
    def _weights_path(self) -> Path:
        return self.path

    def _set(self, constant: Constant, values: Floats) -> None:
        stored = self._read(constant)
        if stored.dtype.kind == "i":  # INT8 weights are multiples of their scale
            if not np.isfinite(values).all():
                raise NotThereError("the file stores integers, which cannot hold NaN or infinity")
            values = np.clip(values, -128, 127)
        rounded = values.astype(stored.dtype).reshape(stored.shape)
        if not np.array_equal(rounded, stored):
            self.changed = True
            self._replace(constant, rounded)

    @abstractmethod
    def _dimensions(self, output: str) -> tuple[int, ...]:
        """Return the shape of an output, with numbers below 1 for free dimensions."""

    @abstractmethod
    def _weight(self, convolution: str) -> Constant: ...

    @abstractmethod
    def _filter_axes(self, convolution: str) -> int:
        """Return the number of leading axes of the stored weights that count the output channels."""

    @abstractmethod
    def _scale(self, convolution: str) -> Constant | None:
        """Return the scale of INT8 weights, one number or one for each output channel; None for other weights."""

    @abstractmethod
    def _bias(self, convolution: str) -> Constant | None: ...

    @abstractmethod
    def _mean(self) -> tuple[Constant, int]:
        """Return the constant of the mean, and -1 if the file adds it, else 1."""

    @abstractmethod
    def _read(self, constant: Constant) -> Array:
        """Return the values in the file's type."""

    @abstractmethod
    def _replace(self, constant: Constant, values: Array) -> None:
        """Replace the values of a constant by others of the same type and shape."""

    @abstractmethod
    def _write(self) -> None: ...
