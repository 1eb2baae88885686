"""The rounding that an OpenVINO IR declares: constants in FP16 or INT8 that operations expand, and FakeQuantize."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.operators.registry import weighted_operations
from sshconvert.rounded.places import Places
from sshconvert.rounding import Half, Levels, Place, Rounding, Rule

FAKE_QUANTIZE: Final = "FakeQuantize"
_HALF: Final = "f16"
_INTEGERS: Final = ("i8", "u8")
_ROUNDED: Final = (_HALF, *_INTEGERS, "bf16", "i4", "u4", "f8e4m3", "f8e5m2", "nf4")
_SMALL: Final = 64  # float16 has fractions of a thirty-second below
_NEAR: Final = 1e-3  # of a level: how far float32 moves a zero point, which is an integer


@dataclass(frozen=True)
class _Stored:
    """A constant: its numbers, and (numbers - `zero_point`) * `scale`, what they mean, in the shape of the reader."""

    numbers: Array
    kind: str
    scale: Array
    zero_point: Array

    @property
    def values(self) -> Array:
        return np.asarray((self.numbers.astype(np.float64) - self.zero_point) * self.scale)

    def combined(self, operand: Array, *, subtract: bool) -> _Stored:
        """Return the constant minus an operand, or multiplied by it."""
        if subtract:
            return replace(self, zero_point=self.zero_point + operand / self.scale)
        return replace(self, scale=self.scale * operand)

    def reshaped(self, shape: tuple[int, ...]) -> _Stored:
        full = self.numbers.shape
        scale, zero = (
            array if array.size == 1 else np.broadcast_to(array, full).reshape(shape)
            for array in (self.scale, self.zero_point)
        )
        return replace(self, numbers=self.numbers.reshape(shape), scale=scale, zero_point=zero)


def read_rounding(model: Any, places: Places) -> Rounding:
    """Return the rounding of an `openvino.Model`. Raises PrecisionError if a rounded tensor is none of the network's.

    OpenVINO multiplies the factors of normalisations into weights before it rounds them, and gives the sum the name of
    the normalisation.
    """
    return _Reader(model, places).rounding()


class _Reader:
    def __init__(self, model: Any, places: Places) -> None:
        self.places = places
        self.operations = model.get_ordered_ops()
        self.explained: set[str] = set()  # names of constants

    def rounding(self) -> Rounding:
        rules: dict[Place, Rule] = {}
        weighted = weighted_operations()
        for operation in self.operations:
            if operation.get_type_name() in weighted:
                rules |= self.weights(operation)
            elif operation.get_type_name() == FAKE_QUANTIZE:
                rules |= self.between(operation)
        for operation in self.operations:
            kind = operation.get_type_name() == "Constant" and operation.get_element_type().get_type_name()
            name = operation.get_friendly_name()
            if kind in _ROUNDED and name not in self.explained and not (kind == _HALF and _is_exact(operation.data)):
                raise self.places.fail(name, f"{kind} numbers that are no weights of the network")
        return Rounding(rules)

    def weights(self, operation: Any) -> Iterator[tuple[Place, Rule]]:
        """Yield the rule of an operation whose weights are rounded."""
        stored = self.stored(operation.input_value(1).get_node())
        if stored is None or stored.kind not in _ROUNDED:
            return
        number = self.weighted(operation)
        place = self.places.weight_place(number)
        if stored.kind == _HALF:
            fit = self.places.fit(number, stored.numbers.astype(np.float64))
            is_plain = fit.factor is None
            yield place, Half() if is_plain else Half(fit.factor, fit.own(stored.numbers))
        elif stored.kind in _INTEGERS:
            yield place, self.places.levels(number, stored.numbers, stored.scale, stored.zero_point)
        else:
            raise self.places.fail(place[0], f"weights in {stored.kind}")

    def weighted(self, operation: Any) -> int:
        number = self.node_behind(operation)
        weighted = None if number is None else self.places.weighted(number)
        if weighted is None:
            raise self.places.fail(operation.get_friendly_name(), "a layer that is none of the network's")
        return weighted

    def node_behind(self, operation: Any) -> int | None:
        """Return the network's node that an operation is a part of: the first whose name its result gets."""
        while (number := self.places.node(_names(operation))) is None:
            readers = operation.output(0).get_target_inputs()
            if len(readers) != 1:
                return None
            operation = next(iter(readers)).get_node()
        return number

    def stored(self, node: Any) -> _Stored | None:
        """Return the constant that operations expand to the output of `node`, None if it is not constant."""
        kind = node.get_type_name()
        if kind == "Constant":
            self.explained.add(node.get_friendly_name())
            return _Stored(np.asarray(node.data), _type(node), np.ones(()), np.zeros(()))
        if kind not in ("Convert", "Reshape", "Subtract", "Multiply"):
            return None
        stored = self.stored(node.input_value(0).get_node())
        if stored is None or kind == "Convert":
            return stored
        if kind == "Reshape":
            return stored.reshaped(tuple(node.get_output_shape(0)))
        operand = self.stored(node.input_value(1).get_node())
        return None if operand is None else stored.combined(operand.values, subtract=kind == "Subtract")

    def between(self, operation: Any) -> Iterator[tuple[Place, Rule]]:
        """Yield the rules of a tensor between layers."""
        name = operation.get_friendly_name()
        limits = [self.stored(operation.input_value(port).get_node()) for port in (1, 2)]
        low, high = (np.asarray(0 if limit is None else limit.numbers, np.float64) for limit in limits)
        if low.size != 1 or high.size != 1 or operation.input_value(0).get_node().get_type_name() == "Constant":
            raise self.places.fail(name, "levels of weights or of each channel")
        largest = int(operation.get_attributes()["levels"]) - 1
        scale = (high - low).reshape(()) / largest
        self.places.check_scale(name, scale)
        zero = -low.reshape(()) / scale
        if abs(zero - np.rint(zero)) < _NEAR:
            zero = np.rint(zero)
        rule = Levels(
            scale=scale,
            zero_point=zero,
            least=0,
            largest=largest,
            tensor=min(operation.output(0).get_names(), default=""),
        )
        source = _names(operation.input_value(0).get_node())
        weighted = weighted_operations()
        for reader in operation.output(0).get_target_inputs():
            node = reader.get_node()
            number = self.weighted(node) if node.get_type_name() in weighted else self.node_behind(node)
            if number is None:
                raise self.places.fail(node.get_friendly_name(), "a layer that is none of the network's")
            for place in self.places.input_places(number, source):
                yield place, rule


def _is_exact(numbers: Array) -> bool:
    """Return whether numbers are small integers, which float16 holds: the constants of operators, not weights."""
    return bool((np.rint(numbers) == numbers).all() and (abs(numbers) <= _SMALL).all())


def _type(node: Any) -> str:
    return str(node.get_element_type().get_type_name())


def _names(operation: Any) -> list[str]:
    """Return the names of an operation and of its result, which OpenVINO keeps when it fuses operations."""
    return [operation.get_friendly_name(), *sorted(operation.output(0).get_names())]
