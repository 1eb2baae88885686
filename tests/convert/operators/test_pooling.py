"""Pooling."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import strategies as st

from one_node import DATA, IMAGE, export_zeros, lone, pooling
from operator_suite import Case, OperatorSuite, suite_case
from sshconvert.errors import ShapeError
from sshconvert.export import export
from sshconvert.graph import Graph, Shape
from sshconvert.network import resolve
from sshconvert.onnx.model import OnnxModel

KINDS: Final = ("max", "avg", "sum", "lp")


def kind_cases(name: str, data: Shape, **attributes: Any) -> list[Any]:
    """A case for each kind of pooling."""
    powers = {"lp": {"p_value": 2}}
    return [
        suite_case(f"{kind} {name}", "Pooling", data, pool_type=kind, **attributes, **powers.get(kind, {}))
        for kind in KINDS
    ]


def holds_data(case: Case) -> bool:
    """Whether the windows fit, and each of them holds data."""
    of, sizes = case.attributes, case.inputs["data"][2:]
    for size, kernel, stride, pad in zip(sizes, of["kernel"], of["stride"], of["pad"], strict=True):
        room = size + 2 * pad - kernel
        windows = (-(-room // stride) if of["pooling_convention"] == "full" else room // stride) + 1
        if room < 0 or pad >= kernel or (windows - 1) * stride - pad >= size:
            return False
    return True


@st.composite
def random_pooling(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(("Pooling", "Pooling", "Pooling", "Pooling_v1")))
    axes = draw(st.integers(1, 3)) if name == "Pooling" else 2

    def numbers(least: int, most: int) -> Shape:
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    kind = draw(st.sampled_from(KINDS if name == "Pooling" else KINDS[:3]))
    attributes: dict[str, Any] = {"kernel": numbers(1, 4), "stride": numbers(1, 3), "pad": numbers(0, 2)}
    attributes |= {"pool_type": kind, "pooling_convention": draw(st.sampled_from(("valid", "full")))}
    if name == "Pooling":
        attributes |= {"count_include_pad": draw(st.sampled_from((None, True, False)))}
    if kind == "lp":
        attributes["p_value"] = draw(st.integers(1, 3))
    return Case(name, {"data": (draw(st.integers(1, 2)), 2, *numbers(2, 8))}, attributes)


class TestPooling(OperatorSuite):
    cases = (
        suite_case("max", "Pooling", IMAGE, kernel=(2, 2), stride=(2, 2), pool_type="max"),
        suite_case("by default", "Pooling", IMAGE, kernel=(3, 2)),
        suite_case("max padded", "Pooling", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"),
        suite_case(
            "max padded valid", "Pooling", (1, 1, 8, 8), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"
        ),
        suite_case(
            "max valid overhang", "Pooling", (1, 1, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="valid"
        ),
        suite_case(
            "max full overhang", "Pooling", (1, 1, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"
        ),
        suite_case(
            "max full one row", "Pooling", (1, 2, 9, 8), kernel=(2, 2), stride=(2, 2), pooling_convention="full"
        ),
        suite_case("max full exact", "Pooling", (1, 2, 9, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
        suite_case(
            "max full padded",
            "Pooling",
            (1, 2, 8, 10),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pooling_convention="full",
        ),
        suite_case("avg", "Pooling", IMAGE, kernel=(2, 3), stride=(2, 1), pool_type="avg"),
        suite_case("avg padded", "Pooling", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
        suite_case(
            "avg pad left over", "Pooling", (1, 2, 8, 8), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"
        ),
        suite_case(
            "avg full exact",
            "Pooling",
            (1, 2, 9, 9),
            kernel=(3, 3),
            stride=(2, 2),
            pool_type="avg",
            pooling_convention="full",
        ),
        suite_case(
            "avg full exact padded",
            "Pooling",
            (1, 2, 9, 9),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pool_type="avg",
            pooling_convention="full",
        ),
        suite_case(
            "avg counting data only",
            "Pooling",
            IMAGE,
            kernel=(3, 3),
            pad=(1, 1),
            pool_type="avg",
            count_include_pad=False,
        ),
        suite_case(
            "avg counting padding", "Pooling", IMAGE, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=True
        ),
        suite_case("global max", "Pooling", IMAGE, global_pool=True, pool_type="max"),
        suite_case("global avg", "Pooling", IMAGE, global_pool=True, pool_type="avg"),
        suite_case(
            "global ignores its window",
            "Pooling",
            IMAGE,
            global_pool=True,
            pool_type="avg",
            kernel=(3, 3),
            pad=(1, 1),
            stride=(2, 2),
            pooling_convention="full",
        ),
        suite_case(
            "avg full",
            "Pooling",
            (1, 2, 8, 7),
            kernel=(3, 3),
            stride=(2, 2),
            pool_type="avg",
            pooling_convention="full",
        ),
        suite_case("full by one", "Pooling", (1, 2, 8, 7), kernel=(3, 3), pad=(1, 1), pooling_convention="full"),
        suite_case("1-D", "Pooling", (2, 3, 9), kernel=(3,), stride=(2,), pad=(1,), pool_type="max"),
        suite_case(
            "1-D full", "Pooling", (2, 3, 9), kernel=(2,), stride=(2,), pool_type="max", pooling_convention="full"
        ),
        suite_case("3-D avg", "Pooling", (1, 2, 5, 4, 6), kernel=(3, 2, 2), stride=(2, 1, 2), pool_type="avg"),
        *kind_cases("padded", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
        *kind_cases("1-D", (2, 3, 9), kernel=(3,), stride=(2,), pad=(1,)),
        *kind_cases("3-D", (1, 2, 5, 4, 6), kernel=(3, 2, 2), stride=(2, 1, 2), pad=(1, 0, 1), layout="NCDHW"),
        *kind_cases("crossing the edge", (1, 2, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
        *kind_cases(
            "crossing the padding", (1, 2, 9, 7), kernel=(3, 3), stride=(3, 2), pad=(1, 1), pooling_convention="full"
        ),
        *kind_cases("of all", IMAGE, global_pool=True),
        *kind_cases("of a volume", (1, 2, 3, 4, 5), global_pool=True, layout="NCDHW"),
        *kind_cases("NHWC", (2, 9, 8, 4), kernel=(3, 2), stride=(2, 1), layout="NHWC"),
        *kind_cases("NWC", (2, 9, 4), kernel=(3,), stride=(2,), layout="NWC"),
        *kind_cases("NDHWC", (1, 5, 4, 6, 2), kernel=(3, 2, 1), layout="NDHWC"),
        *kind_cases("of all NHWC", (2, 9, 8, 4), global_pool=True, layout="NHWC"),
        *(
            suite_case(f"power {p} of single elements", "Pooling", IMAGE, kernel=(1, 1), pool_type="lp", p_value=p)
            for p in (1, 2, 3)
        ),
        *(
            suite_case(f"power {p}", "Pooling", IMAGE, kernel=(3, 2), pool_type="lp", p_value=p, pad=(1, 1))
            for p in (1, 2, 3)
        ),
        *(
            suite_case(f"global power {p}", "Pooling", IMAGE, global_pool=True, pool_type="lp", p_value=p)
            for p in (1, 3)
        ),
        suite_case(
            "avg crossing the padding, data only",
            "Pooling",
            (1, 2, 9, 7),
            kernel=(3, 3),
            stride=(3, 2),
            pad=(1, 1),
            pool_type="avg",
            pooling_convention="full",
            count_include_pad=False,
        ),
        suite_case("p_value without lp", "Pooling", IMAGE, kernel=(2, 2), p_value=7),
        *(
            pytest.param(
                Case(
                    "Pooling",
                    {"data": (2, 3, 8)},
                    {
                        "kernel": (3,),
                        "stride": (stride,),
                        "pool_type": kind,
                        "pooling_convention": "same",
                        "p_value": 2,
                    },
                    mxnet_differs="MXNet reads numbers for three axes, and oneDNN refuses them",
                ),
                id=f"Pooling same {kind} {stride}",
            )
            for kind in KINDS
            for stride in (1, 2)
        ),
        suite_case("max padded", "Pooling_v1", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
        pytest.param(
            Case(
                "Pooling_v1",
                {"data": IMAGE},
                {"kernel": (3, 3), "pad": (1, 1)},
                values=lambda shapes, random: {name: -random.uniform(1, 2, shape) for name, shape in shapes.items()},
            ),
            id="Pooling_v1 max padded, less than the padding",
        ),
        suite_case("max full", "Pooling_v1", (1, 2, 8, 7), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
        suite_case(
            "max full padded",
            "Pooling_v1",
            (1, 2, 8, 7),
            kernel=(3, 3),
            stride=(2, 2),
            pad=(1, 1),
            pooling_convention="full",
        ),
        suite_case(
            "avg full",
            "Pooling_v1",
            (1, 2, 8, 7),
            kernel=(3, 3),
            stride=(2, 2),
            pool_type="avg",
            pooling_convention="full",
        ),
        suite_case("avg padded", "Pooling_v1", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
        suite_case("sum padded", "Pooling_v1", IMAGE, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="sum"),
        suite_case("global", "Pooling_v1", IMAGE, global_pool=True, kernel=(2, 2), pad=(1, 1), pool_type="avg"),
        suite_case("by another name", "_npx_pooling", IMAGE, kernel=(2, 2)),
    )
    unsupported = (
        pytest.param(pooling(pool_type="median"), "attribute pool_type='median'", id="median pooling"),
        pytest.param(pooling(pool_type="lp"), "attribute p_value is missing", id="Lp pooling without its power"),
        pytest.param(
            pooling(pool_type="lp", p_value="4"), "attribute p_value='4'", id="Lp pooling of the fourth power"
        ),
        pytest.param(pooling(pooling_convention="same", pad="(1, 1)"), "attribute pad is not", id="same with padding"),
        pytest.param(pooling(kernel="None"), "attribute kernel is missing", id="pooling without kernel"),
        pytest.param(pooling(layout="CHWN"), "attribute layout='CHWN'", id="pooling in CHWN"),
        pytest.param(
            lone("Pooling_v1", 1, kernel="(2, 2)", pool_type="lp"), "attribute pool_type='lp'", id="old Lp pooling"
        ),
    )
    misshapen = (
        pytest.param(pooling(kernel="(9, 2)"), DATA, "a window of 9 does not fit into 8", id="pooling window"),
        pytest.param(pooling(kernel="(3,)"), DATA, "a 1-dimensional kernel", id="1-D pooling"),
        pytest.param(lone("Pooling", 1, global_pool="True"), {"data": (4,)}, "(4,) has no", id="pooling of a vector"),
        pytest.param(pooling(), {"data": (1, 4)}, "(1, 4) has no spatial axes", id="pooling of 2-D data"),
        pytest.param(pooling(), {"image": (1, 4, 8, 8)}, "the shape of data is not known", id="no shape for the input"),
        pytest.param(pooling(pooling_convention="same"), DATA, "one spatial axis", id="same pooling of an image"),
        pytest.param(
            lone("Pooling_v1", 1, kernel="(2,)"), {"data": (1, 4, 8)}, "two spatial axes", id="old pooling in 1-D"
        ),
    )
    random = random_pooling().filter(holds_data)


COSTS: Final = [
    pytest.param(pooling(stride="(2, 2)"), 4 * 4 * 4 * 4, id="pooling"),
    pytest.param(pooling(global_pool="True"), 4 * 64, id="global pooling"),
]


# Of data [1, 4, 8, 8]: elements of the output times operations for each element.
@pytest.mark.parametrize(("graph", "operations"), COSTS)
def test_the_cost_follows_the_rules_of_the_model_card(graph: Graph, operations: float) -> None:
    assert resolve(graph, DATA).flops() == operations


HANGING: Final = {"kernel": "(3, 3)", "stride": "(2, 2)", "pooling_convention": "full"}


UNEXPORTABLE: Final = [
    pytest.param(
        pooling(kernel="(1, 1)", stride="(4, 4)", pooling_convention="full"), "node (Pooling)", id="window past the end"
    ),
    pytest.param(
        pooling(stride="(2, 2)", pad="(1, 1)", pooling_convention="full"), "node (Pooling)", id="window in the padding"
    ),
    pytest.param(pooling(pad="(2, 2)"), "node (Pooling)", id="padding as wide as the window"),
]


@pytest.mark.parametrize(("graph", "problem"), UNEXPORTABLE)
def test_a_pooling_that_onnx_cannot_express_is_refused_by_name(graph: Graph, problem: str) -> None:
    with pytest.raises(ShapeError) as caught:
        export_zeros(graph, {"data": (1, 1, 6, 7)})

    assert str(caught.value).startswith("model-symbol.json: ")
    assert problem in str(caught.value)


def export_free(graph: Graph) -> OnnxModel:
    """With batch, height and width free."""
    network, larger = resolve(graph, DATA), resolve(graph, {"data": (2, 4, 15, 19)})
    return export(network, {}, {"data": ("n", 4, "h", "w")}, name="test", larger=larger)


NEVER_FREE: Final = [
    pytest.param(pooling(**HANGING, pad="(1, 1)"), id="padded pooling"),
    pytest.param(pooling(**HANGING | {"stride": "(4, 4)"}), id="gaps"),
]


@pytest.mark.parametrize("graph", NEVER_FREE)
def test_what_onnx_cannot_express_at_a_free_size_is_refused_by_name(graph: Graph) -> None:
    with pytest.raises(ShapeError, match=r"^model-symbol\.json: node \(.*needs a fixed size"):
        export_free(graph)


def test_a_pooling_that_rounds_up_says_so() -> None:
    (pool,) = export_zeros(pooling(**HANGING), DATA).nodes

    assert pool.op_type == "MaxPool"
    assert {each.name: each.i for each in pool.attribute}["ceil_mode"] == 1
