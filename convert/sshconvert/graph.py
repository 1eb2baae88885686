"""The graph that everything else reads: nodes in order, each fed by earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLE: Final = "null"

Shape = tuple[int, ...]

# A shape in a model file: numbers, and names of the dimensions that every run may choose ("" for one that follows).
Dimensions = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """Output number `output` of node number `node`."""

    node: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One operator, or a variable (a network input or a parameter), with MXNet's string attributes."""

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[Entry, ...] = ()

    @property
    def is_variable(self) -> bool:
        return self.operator == VARIABLE


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as MXNet 1.9 understands it, whichever version wrote it. Inputs of a node always come before it.

    `source` says where it was read from, for messages; it takes no part in comparisons.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Entry, ...]
    source: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (self.nodes, self.outputs) == (other.nodes, other.outputs)

    __hash__ = None  # type: ignore[assignment]  # nodes hold mappings, and nobody needs graphs as keys

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of all inputs and parameters, in the graph's order."""
        return tuple(node.name for node in self.nodes if node.is_variable)
