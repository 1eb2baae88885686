"""Convolution and deconvolution."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, graph_of, lone, node, variable
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.errors import ShapeError
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve

ON_GPUS: Final = "MXNet computes it on GPUs only"


def convolution(inputs: int = 3, **attributes: str) -> Graph:
    return lone("Convolution", inputs, **({"kernel": "(3, 3)", "num_filter": "4"} | attributes))


def deconvolution(inputs: int = 2, **attributes: str) -> Graph:
    return lone("Deconvolution", inputs, **({"kernel": "(4, 4)", "num_filter": "4"} | attributes))


def gpu_case(name: str, operator: str, data: Shape, **attributes: Any) -> Any:
    return pytest.param(Case(operator, {"data": data}, attributes, mxnet_differs=ON_GPUS), id=f"{operator} {name}")


def fits(case: Case) -> bool:
    """Whether each window of a convolution fits, and a deconvolution leaves something."""
    of, sizes = case.attributes, case.inputs["data"][2:]
    kernel, stride, pad = of["kernel"], of["stride"], of["pad"]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, of["dilate"], strict=True)]
    if case.operator == "Deconvolution":
        lengths = zip(sizes, spans, stride, pad, strict=True)
        return all(step * (size - 1) + span - 2 * pad > 0 for size, span, step, pad in lengths)
    return all(size + 2 * pad >= span for size, span, pad in zip(sizes, spans, pad, strict=True))


@st.composite
def random_filters(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(("Convolution", "Deconvolution")))
    axes = draw(st.integers(1, 3))

    def numbers(least: int, most: int) -> Shape:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    groups = draw(st.sampled_from((1, 1, 2, 3)))
    channels, filters = (groups * draw(st.integers(1, 3)) for _ in range(2))
    attributes: dict[str, Any] = {"kernel": numbers(1, 4), "stride": numbers(1, 3), "pad": numbers(0, 2)}
    attributes |= {"num_filter": filters, "num_group": groups, "no_bias": draw(st.booleans())}
    if name == "Convolution" or axes < 3:
        attributes["dilate"] = numbers(1, 3)
    else:
        attributes["dilate"] = (1,) * axes  # MXNet has no dilated deconvolution of volumes
    if name == "Deconvolution":
        attributes["adj"] = tuple(draw(st.integers(0, step - 1)) for step in attributes["stride"])
    return Case(name, {"data": (draw(st.integers(1, 2)), channels, *numbers(2, 7))}, attributes)


class TestConvolution(OperatorSuite):
    cases = (
        suite_case("3x3", "Convolution", IMAGE, kernel=(3, 3), num_filter=6),
        suite_case("1x1 without bias", "Convolution", IMAGE, kernel=(1, 1), num_filter=3, no_bias=True),
        suite_case("strided", "Convolution", IMAGE, kernel=(3, 2), stride=(2, 3), num_filter=2),
        suite_case("padded", "Convolution", IMAGE, kernel=(3, 3), pad=(1, 2), num_filter=2),
        suite_case("dilated", "Convolution", IMAGE, kernel=(3, 2), dilate=(2, 3), num_filter=2),
        suite_case("in two groups", "Convolution", IMAGE, kernel=(3, 3), num_filter=6, num_group=2),
        suite_case(
            "by channel", "Convolution", IMAGE, kernel=(3, 3), num_filter=4, num_group=4, no_bias=True, pad=(1, 1)
        ),
        suite_case(
            "with everything",
            "Convolution",
            IMAGE,
            kernel=(2, 3),
            stride=(1, 2),
            dilate=(3, 1),
            pad=(2, 1),
            num_filter=4,
            num_group=2,
            layout="NCHW",
            workspace=512,
            cudnn_tune="off",
            cudnn_off=True,
        ),
        suite_case("1-D", "Convolution", (2, 4, 9), kernel=(3,), stride=(2,), pad=(1,), num_filter=2),
        suite_case("1-D dilated groups", "Convolution", (2, 4, 9), kernel=(3,), dilate=(2,), num_group=2, num_filter=2),
        suite_case(
            "3-D", "Convolution", (1, 2, 5, 4, 6), kernel=(3, 2, 1), stride=(2, 1, 1), pad=(1, 0, 2), num_filter=2
        ),
        suite_case("doubling", "Deconvolution", IMAGE, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=3),
        suite_case(
            "doubling by channel",
            "Deconvolution",
            IMAGE,
            kernel=(4, 4),
            stride=(2, 2),
            pad=(1, 1),
            num_filter=4,
            num_group=4,
        ),
        suite_case("in two groups", "Deconvolution", IMAGE, kernel=(3, 2), num_filter=6, num_group=2),
        suite_case("with bias", "Deconvolution", IMAGE, kernel=(3, 3), num_filter=2, no_bias=False),
        suite_case("strided unevenly", "Deconvolution", IMAGE, kernel=(2, 5), stride=(3, 1), pad=(0, 2), num_filter=2),
        suite_case(
            "adjusted", "Deconvolution", IMAGE, kernel=(3, 3), stride=(2, 3), pad=(1, 1), adj=(1, 2), num_filter=2
        ),
        suite_case("dilated", "Deconvolution", IMAGE, kernel=(3, 3), dilate=(2, 2), stride=(2, 2), num_filter=2),
        suite_case("no target", "Deconvolution", IMAGE, kernel=(2, 2), target_shape=(0, 0), num_filter=2),
        suite_case("1-D", "Deconvolution", (2, 4, 9), kernel=(4,), stride=(2,), pad=(1,), num_filter=2),
        suite_case("1-D with a target", "Deconvolution", (2, 4, 9), kernel=(4,), stride=(2,), adj=(1,), num_filter=2),
        suite_case(
            "3-D", "Deconvolution", (1, 2, 3, 4, 3), kernel=(3, 2, 2), stride=(2, 2, 1), pad=(1, 0, 1), num_filter=2
        ),
        suite_case("empty attributes", "Convolution", IMAGE, kernel=(3, 3), stride=(), dilate=(), pad=(), num_filter=2),
        suite_case(
            "3-D in groups", "Convolution", (1, 4, 5, 4, 6), kernel=(1, 3, 3), layout="NCDHW", num_group=2, num_filter=6
        ),
        suite_case(
            "of old networks", "Convolution_v1", IMAGE, kernel=(3, 3), dilate=(2, 2), num_filter=2, workspace=256
        ),
        suite_case("by another name", "_npx_convolution", IMAGE, kernel=(3, 3), num_filter=2),
        *(
            gpu_case(
                f"to {target}", "Deconvolution", IMAGE, kernel=(3, 4), stride=(2, 2), num_filter=2, target_shape=target
            )
            for target in ((18, 16), (17, 17), (16, 15), (19, 18))
        ),
        gpu_case(
            "to (16,)", "Deconvolution", (2, 4, 9), kernel=(3,), stride=(2,), num_filter=2, target_shape=(16,), adj=(5,)
        ),
        gpu_case(
            "NHWC", "Convolution", (2, 9, 8, 4), kernel=(3, 2), pad=(1, 0), stride=(2, 1), num_filter=6, layout="NHWC"
        ),
        gpu_case(
            "NHWC in groups", "Convolution", (2, 9, 8, 4), kernel=(3, 3), num_filter=6, num_group=2, layout="NHWC"
        ),
        gpu_case("NDHWC", "Convolution", (1, 5, 4, 6, 2), kernel=(3, 2, 1), num_filter=2, layout="NDHWC"),
        gpu_case(
            "NHWC",
            "Deconvolution",
            (2, 5, 4, 6),
            kernel=(3, 2),
            stride=(2, 2),
            num_filter=4,
            num_group=2,
            layout="NHWC",
        ),
        gpu_case(
            "NHWC with bias", "Deconvolution", (2, 5, 4, 6), kernel=(3, 2), num_filter=3, no_bias=False, layout="NHWC"
        ),
    )
    unsupported = (
        pytest.param(convolution(kernel="None"), "attribute kernel is missing", id="no kernel"),
        pytest.param(convolution(num_filter="None"), "attribute num_filter is missing", id="no num_filter"),
        pytest.param(convolution(num_filter="0"), "attribute num_filter='0'", id="no filters"),
        pytest.param(convolution(kernel="(3, 0)"), "attribute kernel='(3, 0)'", id="kernel of 0"),
        pytest.param(convolution(stride="(1, 0)"), "attribute stride='(1, 0)'", id="stride of 0"),
        pytest.param(convolution(dilate="(0, 1)"), "attribute dilate='(0, 1)'", id="dilate of 0"),
        pytest.param(convolution(pad="(-1, 0)"), "attribute pad='(-1, 0)'", id="pad of -1"),
        pytest.param(
            convolution(stride="(2,)"), "attribute stride='(2,)' is not supported: expected 2", id="one stride"
        ),
        pytest.param(convolution(num_group="0"), "attribute num_group='0'", id="no groups"),
        pytest.param(convolution(no_bias="maybe"), "attribute no_bias='maybe'", id="no_bias maybe"),
        pytest.param(convolution(act_type="relu"), "attribute act_type='relu' is not known", id="fused activation"),
        pytest.param(convolution(inputs=2), "2 inputs, expected 3", id="convolution without its bias"),
        pytest.param(convolution(no_bias="True"), "3 inputs, expected 2", id="convolution with a bias too many"),
        pytest.param(deconvolution(no_bias="False"), "2 inputs, expected 3", id="deconvolution without its bias"),
        pytest.param(deconvolution(adj="(1,)"), "attribute adj='(1,)'", id="one adj"),
        pytest.param(convolution(layout="CHWN"), "attribute layout='CHWN' is not supported", id="CHWN"),
        pytest.param(convolution(layout="NWC"), "attribute layout='NWC' is not supported", id="NWC"),
        pytest.param(deconvolution(target_shape="(20,)"), "attribute target_shape='(20,)'", id="one target size"),
    )
    misshapen = (
        pytest.param(convolution(kernel="(9, 9)"), DATA, "a window of 9 does not fit into 8 padded by 0", id="kernel"),
        pytest.param(convolution(dilate="(4, 4)"), DATA, "a window of 9 does not fit into 8", id="dilated kernel"),
        pytest.param(convolution(num_group="3"), DATA, "3 groups", id="groups"),
        pytest.param(deconvolution(num_group="3"), DATA, "3 groups", id="groups of a deconvolution"),
        pytest.param(
            convolution(num_group="3", num_filter="6"),
            DATA,
            "4 channels and 6 filters do not divide",
            id="channels alone",
        ),
        pytest.param(
            convolution(num_group="4", num_filter="6"),
            DATA,
            "4 channels and 6 filters do not divide",
            id="filters alone",
        ),
        pytest.param(convolution(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D kernel"),
        pytest.param(deconvolution(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D deconvolution"),
        pytest.param(convolution(), DATA | {"in1": (4, 4, 3, 4)}, "in1 has shape (4, 4, 3, 4), expected", id="weight"),
        pytest.param(deconvolution(kernel="(1, 1)", pad="(4, 4)"), DATA, "the padding (4, 4)", id="pad"),
        pytest.param(deconvolution(adj="(1, 0)"), DATA, "adj", id="adj as large as the stride"),
        pytest.param(deconvolution(target_shape="(12, 11)"), DATA, "the target shape (12, 11) is larger", id="target"),
        pytest.param(deconvolution(target_shape="(9, 0)"), DATA, "removes all", id="no target width"),
    )
    random = random_filters().filter(fits)


COSTS: Final = [
    pytest.param(convolution(), 4 * 6 * 6 * (2 * 4 * 9 + 1), id="convolution"),
    pytest.param(convolution(inputs=2, no_bias="True"), 4 * 6 * 6 * 2 * 4 * 9, id="convolution without bias"),
    pytest.param(convolution(num_group="2"), 4 * 6 * 6 * (2 * 2 * 9 + 1), id="grouped convolution"),
    pytest.param(
        deconvolution(stride="(2, 2)", pad="(1, 1)", num_group="4"), 4 * 16 * 16 * 2 * 16 / 4, id="deconvolution"
    ),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


def test_weights_that_two_layers_share_must_fit_both() -> None:
    layers = (
        variable("data"),
        variable("weight"),
        node("Convolution", "first", (0, 1), kernel="(1, 1)", num_filter="4", no_bias="True"),
    )
    fits = node("Convolution", "second", (2, 1), kernel="(1, 1)", num_filter="4", no_bias="True")
    misfit = node("Convolution", "second", (2, 1), kernel="(3, 3)", num_filter="4", no_bias="True")

    assert resolve(graph_of(*layers, fits), DATA).parameters(DATA) == {"weight": (4, 4, 1, 1)}
    with pytest.raises(ShapeError, match=r"second.*4, 4, 1, 1"):
        resolve(graph_of(*layers, misfit), DATA)
