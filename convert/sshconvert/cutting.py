"""Cutting a graph down to the nodes that its outputs need at inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sshconvert.errors import UnsupportedGraphError
from sshconvert.graph import Entry, Graph, Node
from sshconvert.messages import listed
from sshconvert.network import tensor_name
from sshconvert.operators.refused import LOSSES
from sshconvert.operators.registry import OPERATORS

SUFFIX: Final = "_output"
MOST_SUGGESTED: Final = 8  # outputs in a message


def cut(graph: Graph, outputs: Sequence[str] = (), names: Sequence[str] = ()) -> Graph:
    """Return the graph that computes `outputs`, or the graph's own outputs if there are none. `names` are their names.

    An output is any tensor of an operator by MXNet's name, with or without the suffix `_output`. Inputs without effect
    at inference, such as the labels of loss heads, disappear, and all nodes that no output needs.

    Raises UnsupportedGraphError for names of no such tensor, and for outputs that compute a loss. The message names the
    tensors before the loss.
    """
    chosen = find_tensors(graph, outputs) if outputs else graph.outputs
    inputs = [_effective_inputs(node) for node in graph.nodes]
    needed: set[int] = set()
    pending = [entry.node for entry in chosen]
    while pending:
        number = pending.pop()
        if number not in needed:
            needed.add(number)
            pending += (entry.node for entry in inputs[number])
    numbers = {old: new for new, old in enumerate(sorted(needed))}

    def moved(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(Entry(numbers[entry.node], entry.output) for entry in entries)

    nodes = tuple(replace(graph.nodes[old], inputs=moved(inputs[old])) for old in numbers)
    network = Graph(nodes, moved(chosen), graph.source, tuple(names))
    _refuse_losses(network)
    return network


def _refuse_losses(graph: Graph) -> None:
    losses = [node for node in graph.nodes if node.operator in LOSSES]
    if not losses:
        return
    first, *others = losses
    kinds = Counter(f"{loss.operator}, {LOSSES[loss.operator]}" for loss in losses)
    raise UnsupportedGraphError(
        f"{graph.source}: {first.name}{f' and {len(others)} more' if others else ''} "
        f"({listed([f'{count} {kind}' for kind, count in kinds.items()])}) serve training; choose outputs before them "
        f"with --outputs, such as {','.join(before_losses(graph)[:MOST_SUGGESTED])}"
    )


def before_losses(graph: Graph) -> list[str]:
    """Return the tensors that depend on no loss and no label, and that a loss, a label's reader or no node reads.

    By MXNet's convention, the name of a label contains "label".
    """
    trained: list[bool] = []
    for node in graph.nodes:
        is_label = node.is_variable and "label" in node.name
        reads_trained = any(trained[entry.node] for entry in _effective_inputs(node))
        trained.append(is_label or node.operator in LOSSES or reads_trained)
    reads = [
        entry for node, is_trained in zip(graph.nodes, trained, strict=True) if is_trained for entry in node.inputs
    ]
    return [
        tensor_name(graph.nodes[entry.node], entry.output)
        for entry in dict.fromkeys([*reads, *graph.outputs])
        if not trained[entry.node] and not graph.nodes[entry.node].is_variable
    ]


def find_tensors(graph: Graph, names: Sequence[str]) -> tuple[Entry, ...]:
    """Return the tensors of operators with these names. Raises UnsupportedGraphError if there is none."""
    entries = dict(_tensors(graph))
    found = [entries.get(name) or entries.get(name.removesuffix(SUFFIX)) for name in names]
    missing = [name for name, entry in zip(names, found, strict=True) if entry is None]
    if missing:
        raise UnsupportedGraphError(
            f"{graph.source}: no operator computes {listed(missing, ', ')}; its outputs are "
            f"{listed([tensor_name(graph.nodes[entry.node], entry.output) for entry in graph.outputs], ', ')}"
        )
    return tuple(entry for entry in found if entry)


def _tensors(graph: Graph) -> Iterator[tuple[str, Entry]]:
    """Yield the tensors of operators that are outputs or have readers, and the first output of every operator."""
    reads = {entry for node in graph.nodes for entry in node.inputs} | set(graph.outputs)
    firsts = {Entry(number) for number in range(len(graph.nodes))}
    for entry in sorted(reads | firsts, key=lambda entry: (entry.node, entry.output), reverse=True):
        node = graph.nodes[entry.node]
        if not node.is_variable:
            yield tensor_name(node, entry.output), entry


def _effective_inputs(node: Node) -> tuple[Entry, ...]:
    kind = OPERATORS.get(node.operator)
    if kind is None or not kind.ignored:
        return node.inputs
    effective = len(kind.inputs) - len(kind.ignored)  # the ignored inputs are the last
    return node.inputs[:effective]
