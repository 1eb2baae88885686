"""The graph of a network: nodes in topological order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

VARIABLE: Final = "null"

Shape = tuple[int, ...]

# A shape in a model file. Dimensions that every run may choose have names; "" is a dimension that follows from them.
Dimensions = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Output number `output` of node number `node`."""

    node: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """An operator or a variable (a network input or a parameter), with MXNet's string attributes."""

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[Entry, ...] = ()

    @property
    def is_variable(self) -> bool:
        return self.operator == VARIABLE


@dataclass(frozen=True, slots=True)
class Graph:
    """A network with the meaning that MXNet 1.9 gives it. A node follows its inputs.

    `source` names the file in messages. `names` are the names of the outputs if a model renames them; otherwise it is
    empty, and the outputs have MXNet's names.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Entry, ...]
    source: str = field(compare=False)
    names: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of all inputs and parameters, in the graph's order."""
        return tuple(node.name for node in self.nodes if node.is_variable)
