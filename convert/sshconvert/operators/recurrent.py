"""Recurrent layers over sequences [time, batch, features]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sshconvert.arrays import Array
from sshconvert.graph import Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator, need
from sshconvert.operators.joining import finish_vector
from sshconvert.operators.registry import register
from sshconvert.operators.unary import sigmoid

if TYPE_CHECKING:
    from sshconvert.onnx.builder import NodeBuilder

# For each mode: MXNet's gates, by the names of ONNX's documentation, and ONNX's order of them.
GATES: Final = {
    "lstm": ("ifco", "iofc"),
    "gru": ("rzh", "zrh"),
    "rnn_tanh": ("i", "i"),
    "rnn_relu": ("i", "i"),
}
ONNX: Final = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


@dataclass(frozen=True)
class _Cell:
    """The parameters of one layer in one direction. The first axis holds the gates, in MXNet's order."""

    input_weight: Array  # [gates * size, features]
    state_weight: Array  # [gates * size, size]
    input_bias: Array  # [gates * size]
    state_bias: Array  # [gates * size]


@register
@dataclass(frozen=True)
class RNN(Operator):
    """Stacked layers of LSTM, GRU or plain recurrence, in one direction or both.

    The outputs are [time, batch, directions * size], and with `state_outputs` the last states
    [layers * directions, batch, size]. `parameters` is one vector: the input weights and state weights of each layer
    and direction, then their input and state biases (the layout of cuDNN).
    """

    name = "RNN"
    inputs = ("data", "parameters", "state", "state_cell")  # the last one of LSTM only
    restrictions = "The parameters are constants."

    mode: str
    size: int
    layers: int
    bidirectional: bool
    state_outputs: bool

    @classmethod
    def read(cls, attributes: Attributes) -> RNN:
        attributes.without_effect("p")  # dropout
        attributes.never("use_sequence_length")  # MXNet computes it on GPUs only
        attributes.never("lstm_state_clip_nan")
        for name in ("projection_size", "lstm_state_clip_min", "lstm_state_clip_max"):
            attributes.choice(name, ("None",), "None")
        return cls(
            attributes.choice("mode", tuple(GATES)),
            attributes.integer("state_size", least=1),
            attributes.integer("num_layers", least=1, most=100),
            attributes.boolean("bidirectional", default=False),
            attributes.boolean("state_outputs", default=False),
        )

    def input_count(self) -> int:
        return 4 if self.mode == "lstm" else 3

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def rows(self) -> int:
        """The first axis of a cell's weights."""
        return len(GATES[self.mode][0]) * self.size

    def output_names(self) -> tuple[str, ...]:
        if not self.state_outputs:
            return ("output",)
        return ("output", "state", *(("state_cell",) if self.mode == "lstm" else ()))

    def parameter_shapes(self, data: Shape) -> tuple[Shape, ...]:
        need(len(data) == 3, f"{data} is not [time, batch, features]")
        weights = sum(self.rows * (features + self.size) for features in self._features(data[2]))
        biases = self.layers * 2 * self.rows
        state = self._state_shape(data)
        return (((weights + biases) * self.directions,), state, state)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        time, batch, _ = inputs[0]
        state = self._state_shape(inputs[0])
        return ((time, batch, self.directions * self.size), *(state for _ in self.output_names()[1:]))

    def flops(self, *inputs: Shape) -> float:
        products = sum(2 * self.rows * (features + self.size) for features in self._features(inputs[0][2]))
        return products / self.size

    def _features(self, features: int) -> list[int]:
        """Return the number of input features of each layer."""
        return [features, *[self.directions * self.size] * (self.layers - 1)]

    def _state_shape(self, data: Shape) -> Shape:
        return (self.layers * self.directions, data[1], self.size)

    def _cells(self, parameters: Array, features: int) -> list[list[_Cell]]:
        """Split the vector of parameters into the cells of each layer and direction."""
        position = 0

        def take(*shape: int) -> Array:
            nonlocal position
            start, position = position, position + int(np.prod(shape))
            return parameters[start:position].reshape(shape)

        sizes = [count for count in self._features(features) for _ in range(self.directions)]
        weights = [(take(self.rows, count), take(self.rows, self.size)) for count in sizes]
        cells = [_Cell(*pair, take(self.rows), take(self.rows)) for pair in weights]
        return [cells[start : start + self.directions] for start in range(0, len(cells), self.directions)]

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        data, parameters, *states = inputs
        final: list[list[Array]] = [[] for _ in states]
        for layer, cells in enumerate(self._cells(parameters, data.shape[2])):
            outputs = []
            for direction, cell in enumerate(cells):
                first = [state[layer * self.directions + direction] for state in states]
                steps = data[::-1] if direction else data
                sequence, last = self._run(cell, steps, first)
                outputs.append(sequence[::-1] if direction else sequence)
                for collected, state in zip(final, last, strict=True):
                    collected.append(state)
            data = np.concatenate(outputs, axis=2)
        return (data, *(np.stack(state) for state in final))[: len(self.output_names())]

    def _run(self, cell: _Cell, steps: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Return the states after each step, and the last states."""
        projected = steps @ cell.input_weight.T + cell.input_bias
        states, outputs = list(states), []
        for step in projected:
            states = self._step(step, states[0] @ cell.state_weight.T + cell.state_bias, states)
            outputs.append(states[0])
        return np.stack(outputs), states

    def _step(self, step: Array, recurrent: Array, states: Sequence[Array]) -> list[Array]:
        if self.mode == "lstm":
            entering, forget, candidate, leaving = np.split(step + recurrent, 4, axis=1)
            cell = sigmoid(forget) * states[1] + sigmoid(entering) * np.tanh(candidate)
            return [sigmoid(leaving) * np.tanh(cell), cell]
        if self.mode == "gru":
            reset, update, candidate = np.split(step, 3, axis=1)
            reset_state, update_state, candidate_state = np.split(recurrent, 3, axis=1)
            share = sigmoid(update + update_state)
            hidden = np.tanh(candidate + sigmoid(reset + reset_state) * candidate_state)
            return [share * states[0] + (1 - share) * hidden]
        return [np.tanh(step + recurrent) if self.mode == "rnn_tanh" else np.maximum(step + recurrent, 0)]

    def emit(self, build: NodeBuilder) -> None:
        parameters = build.values.get(build.inputs[1])
        need(parameters is not None, "its parameters are not constant")
        assert parameters is not None
        states = [self._state(build, number) for number in range(2, len(build.inputs))]
        data = build.inputs[0]
        final: list[list[str]] = [[] for _ in states]
        for layer, cells in enumerate(self._cells(parameters, build.input_shapes[0][2])):
            first = [next(state) for state in states]
            data, last = self._emit_layer(build, layer, data, cells, first)
            for collected, tensor in zip(final, last, strict=True):
                collected.append(tensor)
        build.output(build.outputs[0], "Identity", [data])
        for name, tensors in zip(build.outputs[1:], final, strict=False):
            if len(tensors) > 1 or self.directions > 1:
                build.output(name, "Concat", tensors, axis=0)
            else:  # OpenVINO 2026.4 computes scalar arithmetic of this one state in a wrong shape
                twice = build.node("twice", "Concat", tensors * 2, axis=0)
                zero, one = build.integers("zero", (0,)), build.integers("one", (1,))
                build.output(name, "Slice", [twice, zero, one, zero])

    def _state(self, build: NodeBuilder, number: int) -> Iterator[str]:
        """Yield the first state of each layer, "" for zeros, which are ONNX's default."""
        value = build.values.get(build.inputs[number])
        for layer in range(self.layers):
            if value is not None and not value.any():
                yield ""
            elif self.layers == 1:
                yield build.inputs[number]
            else:
                ends = [build.integers("state_part", [self.directions * end]) for end in (layer, layer + 1)]
                axis = build.integers("state_axis", [0])
                yield build.node("first_state", "Slice", [build.inputs[number], *ends, axis])

    def _emit_layer(
        self, build: NodeBuilder, layer: int, data: str, cells: Sequence[_Cell], states: Sequence[str]
    ) -> tuple[str, list[str]]:
        """Emit a layer. Return its output [time, batch, directions * size], and its last states."""
        weights = [
            build.floats(f"layer{layer}_{role}", np.stack([self._in_onnx_order(array) for array in arrays]))
            for role, arrays in (
                ("weight", [cell.input_weight for cell in cells]),
                ("recurrence", [cell.state_weight for cell in cells]),
            )
        ]
        biases = [
            np.concatenate([self._in_onnx_order(cell.input_bias), self._in_onnx_order(cell.state_bias)])
            for cell in cells
        ]
        attributes: dict[str, Any] = {"hidden_size": self.size}
        attributes["direction"] = "bidirectional" if self.bidirectional else "forward"
        if self.mode == "gru":
            attributes["linear_before_reset"] = 1
        if self.mode == "rnn_relu":
            attributes["activations"] = ["Relu"] * self.directions
        operands = [data, *weights, build.floats(f"layer{layer}_bias", np.stack(biases)), "", *states]
        while not operands[-1]:
            operands.pop()
        outputs = build.split(f"layer{layer}", ONNX[self.mode], operands, 1 + len(states), **attributes)
        # [time, directions, batch, size] to [time, batch, directions * size]
        if self.directions == 1:
            return build.node(f"layer{layer}_output", "Squeeze", [outputs[0], build.integers("axis", [1])]), outputs[1:]
        turned = build.node(f"layer{layer}_turned", "Transpose", [outputs[0]], perm=(0, 2, 1, 3))
        shape = build.integers("joined", (0, 0, self.directions * self.size))
        return build.node(f"layer{layer}_output", "Reshape", [turned, shape]), outputs[1:]

    def _in_onnx_order(self, array: Array) -> Array:
        """Reorder the gates of a cell's array from MXNet's order."""
        mxnet, onnx = GATES[self.mode]
        parts = np.split(array, len(mxnet))
        return np.concatenate([parts[mxnet.index(gate)] for gate in onnx])


@register
@dataclass(frozen=True)
class RnnParamConcat(Operator):
    """The vector of an RNN's parameters, from vectors of its parts."""

    name = "_rnn_param_concat"
    inputs = ()

    count: int

    @classmethod
    def read(cls, attributes: Attributes) -> RnnParamConcat:
        attributes.integer("dim", 0, least=0, most=0)
        return cls(attributes.integer("num_args", least=1))

    def input_count(self) -> int:
        return self.count

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        need(all(len(shape) == 1 for shape in inputs), "the inputs are not vectors")
        return ((sum(shape[0] for shape in inputs),),)

    def evaluate(self, *inputs: Array) -> tuple[Array, ...]:
        return (np.concatenate(inputs),)

    def emit(self, build: NodeBuilder) -> None:
        finish_vector(build)
