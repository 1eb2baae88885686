"""Cutting a graph: chosen outputs, labels, and the tensors before losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from one_node import convolution, graph_of, node, variable
from sshconvert.cutting import before_losses, cut
from sshconvert.errors import UnsupportedGraphError
from sshconvert.graph import Entry, Graph
from sshconvert.network import output_names, read_symbol


def chain() -> Graph:
    """A convolution, an activation and a softmax head with a label."""
    nodes = convolution().nodes
    nodes += (node("Activation", "relu", [3], act_type="relu"), variable("softmax_label"))
    nodes += (node("SoftmaxOutput", "softmax", [4, 5]), node("MakeLoss", "loss", [4]))
    return Graph(nodes, (Entry(6),), "model-symbol.json")


def test_labels_disappear_and_numbers_close_up() -> None:
    graph = cut(chain())
    assert graph.variables == ("data", "in1", "in2")
    assert [node.name for node in graph.nodes[3:]] == ["node", "relu", "softmax"]
    assert graph.nodes[-1].inputs == (Entry(4),)
    assert graph.outputs == (Entry(5),)


@pytest.mark.parametrize("name", ["relu", "relu_output"])
def test_any_inner_tensor_can_be_an_output(name: str) -> None:
    graph = cut(chain(), [name, "node"])
    assert output_names(graph) == ("relu", "node")
    assert len(graph.nodes) == 5


@pytest.mark.parametrize("name", ["data", "nothing", "softmax_label", "relu_output1"])
def test_names_of_no_computed_tensor_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedGraphError, match=f"no operator computes {name}.*softmax"):
        cut(chain(), [name])


def test_a_loss_is_refused_with_the_tensors_before_it() -> None:
    with pytest.raises(UnsupportedGraphError, match=r"loss \(1 MakeLoss, a loss\).*--outputs, such as relu"):
        cut(chain(), ["loss"])


def test_tensors_before_a_loss_depend_on_no_label() -> None:
    nodes = [variable("data"), variable("label"), node("elemwise_add", "with_label", [0, 1])]
    nodes += [node("Activation", "relu", [0], act_type="relu"), node("MakeLoss", "loss", [2])]
    graph = graph_of(*nodes, node("Custom", "mining", [3, 4]), outputs=(5,))
    assert before_losses(graph) == ["relu"]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("cnocr-crnn-v1.0", ["softmaxactivation0", "reshape1"]),
        ("mtcnn-head-pnet-train", ["cls_prob", "bbox_pred"]),
        ("mxnet-ssd300-vgg-v0.9.3", ["multibox_anchors", "multibox_cls_pred", "multibox_loc_pred", "cls_prob"]),
    ],
)
def test_real_training_networks_name_their_predictions(name: str, outputs: list[str], shared_data: Path) -> None:
    graph = read_symbol(shared_data / "zoo" / "symbols" / f"{name}.json")
    with pytest.raises(UnsupportedGraphError, match="serve training"):
        cut(graph)
    assert before_losses(graph) == outputs
    assert output_names(cut(graph, outputs)) == tuple(outputs)
