"""Symbol JSON as MXNet of another version would have written it."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from sshconvert.graph import Graph
from sshconvert.mxnet.symbol import HIDDEN_KEYS

Document: TypeAlias = dict[str, Any]

VERSIONS: Final = {"0.8": None, "0.9": 900, "0.12": 1200, "1.0": 10000, "1.9": 10901}


def in_dialect(document: Document, version: int | None) -> Document:
    """A document as MXNet of `version` (None: 0.8) would have written it."""
    nodes = [_node_in_dialect(node, version) for node in document["nodes"]]
    top: Document = {"nodes": nodes, "arg_nodes": document["arg_nodes"]}
    if version is None:
        return top | {"heads": [head[:2] for head in document["heads"]]}
    attributes = {"mxnet_version": ["int", version]}
    return top | {"node_row_ptr": document["node_row_ptr"], "heads": document["heads"], "attrs": attributes}


def _node_in_dialect(node: Document, version: int | None) -> Document:
    plain: Document = {"op": node["op"], "name": node["name"]}
    attributes = node.get("attrs", {})
    if version is not None:
        field = {"attr" if version < 10000 else "attrs": attributes} if attributes else {}
        return plain | field | {"inputs": node["inputs"]}
    user = {key: value for key, value in attributes.items() if node["op"] == "null" or key.startswith("__")}
    shown = {key.strip("_") if key.strip("_") in HIDDEN_KEYS else key: value for key, value in user.items()}
    return {
        "op": plain["op"],
        "param": {key: value for key, value in attributes.items() if key not in user},
        "name": plain["name"],
        "inputs": [entry[:2] for entry in node["inputs"]],
        "backward_source_id": -1,
        **({"attr": shown} if shown else {}),
    }


def written(graph: Graph) -> Document:
    """The graph as MXNet 1.9 would have written it. A node has as many outputs as are read."""
    entries = [*graph.outputs, *(entry for node in graph.nodes for entry in node.inputs)]
    counts = [1] * len(graph.nodes)
    for entry in entries:
        counts[entry.node] = max(counts[entry.node], entry.output + 1)
    return {
        "nodes": [
            {
                "op": node.operator,
                "name": node.name,
                **({"attrs": dict(node.attributes)} if node.attributes else {}),
                "inputs": [[entry.node, entry.output, 0] for entry in node.inputs],
            }
            for node in graph.nodes
        ],
        "arg_nodes": [number for number, node in enumerate(graph.nodes) if node.is_variable],
        "node_row_ptr": [sum(counts[:number]) for number in range(len(counts) + 1)],
        "heads": [[entry.node, entry.output, 0] for entry in graph.outputs],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
