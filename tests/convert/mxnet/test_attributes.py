"""MXNet's string attributes as numbers, tuples, booleans and choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from sshconvert.mxnet.attributes import Attributes


def given(text: str | None) -> Attributes:
    return Attributes({} if text is None else {"key": text})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("3", 3, id="plain"),
        pytest.param("3L", 3, id="a long integer of Python 2"),
        pytest.param(" +3 ", 3, id="signed and padded"),
        pytest.param("None", 7, id="None"),
        pytest.param(None, 7, id="absent"),
    ],
)
def test_an_integer_is_read(text: str | None, value: int) -> None:
    attributes = given(text)

    assert attributes.integer("key", 7) == value
    assert attributes.finish() == []


@pytest.mark.parametrize("text", ["", "three", "3.0", "-1", "(3,)", "0x3", "3LL", "٣", "2147483648", "9" * 19])
def test_what_is_no_integer_of_that_size_is_a_problem(text: str) -> None:
    attributes = given(text)
    attributes.integer("key", 7)

    assert attributes.finish() == [f"attribute key={text!r} is not supported: expected an integer from 0 to 2147483647"]


def test_an_integer_may_not_be_less_than_the_least() -> None:
    assert given("1").integer("key", least=1) == 1

    attributes = given("0")
    assert attributes.integer("key", least=1) == 1
    assert attributes.finish() == ["attribute key='0' is not supported: expected an integer from 1 to 2147483647"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("(3, 4)", (3, 4), id="tuple"),
        pytest.param("(3L, 4L)", (3, 4), id="long integers of Python 2"),
        pytest.param("[3,4]", (3, 4), id="list"),
        pytest.param("(3,)", (3,), id="one"),
        pytest.param("3", (3,), id="bare"),
        pytest.param(" ( 3 , 4 ) ", (3, 4), id="padded"),
        pytest.param("()", (1, 1), id="empty"),
        pytest.param("[]", (1, 1), id="empty list"),
        pytest.param("None", (1, 1), id="None"),
        pytest.param(None, (1, 1), id="absent"),
    ],
)
def test_a_tuple_is_read(text: str | None, values: tuple[int, ...]) -> None:
    attributes = given(text)

    assert attributes.integers("key", (1, 1)) == values
    assert attributes.finish() == []


@pytest.mark.parametrize(
    "text",
    [
        "(3, x)",
        "(3.0, 3)",
        "(3, 3",
        "(3 3)",
        "((3, 3))",
        "(-1, 3)",
        "(3, None)",
        "(3,, 3)",
        "(,)",
        "3, 3",
        "(2147483648, 1)",
        "(99999999999999999999,1)",
    ],
)
def test_what_is_no_tuple_of_such_integers_is_a_problem(text: str) -> None:
    attributes = given(text)
    attributes.integers("key", (1, 1))

    assert attributes.finish() == [f"attribute key={text!r} is not supported: expected integers from 0 to 2147483647"]


@pytest.mark.parametrize("digits", ["9" * 5000, "(" + "9" * 5000 + ",)", "(" + "1, " * 5000 + ")"])
def test_a_value_that_is_far_too_long_is_a_problem_of_one_short_line(digits: str) -> None:
    for ask in (Attributes.integer, Attributes.integers):
        attributes = given(digits)
        ask(attributes, "key")
        (problem,) = attributes.finish()
        assert problem.startswith("attribute key='")
        assert len(problem) < 200


@pytest.mark.parametrize(("most", "text"), [(3, "(1, 1, 1, 1)"), (32, f"({'1, ' * 33})"), (3, "()"), (3, "[ ]")])
def test_a_required_tuple_has_between_one_number_and_the_most(most: int, text: str) -> None:
    attributes = given(text)
    attributes.integers("key", most=most)

    (problem,) = attributes.finish()
    assert problem.endswith(f"is not supported: expected 1 to {most} integers")


def test_a_tuple_has_no_more_numbers_than_a_tensor_has_dimensions() -> None:
    attributes = given(f"({'1, ' * 33})")
    attributes.integers("key")

    (problem,) = attributes.finish()
    assert problem.endswith("is not supported: expected 1 to 32 integers")


def test_a_tuple_of_another_length_is_a_problem() -> None:
    attributes = given("(3, 3, 3)")
    attributes.integers("key", (1, 1), length=2)

    assert attributes.finish() == ["attribute key='(3, 3, 3)' is not supported: expected 2 integers"]


def test_a_tuple_may_reach_below_zero_where_that_has_a_meaning() -> None:
    attributes = given("(0, -4, -1)")

    assert attributes.integers("key", least=-4) == (0, -4, -1)
    assert attributes.finish() == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("true", True), ("1", True), ("False", False), ("false", False), ("0", False)],
)
def test_a_boolean_is_read_whatever_its_default(text: str, value: bool) -> None:
    for default in (True, False):
        assert given(text).boolean("key", default=default) is value


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("text", [None, "None"])
def test_a_boolean_that_is_not_given_is_its_default(text: str | None, default: bool) -> None:
    assert given(text).boolean("key", default=default) is default


@pytest.mark.parametrize("text", ["yes", "", "2", "(True,)"])
def test_what_is_no_boolean_is_a_problem(text: str) -> None:
    attributes = given(text)
    attributes.boolean("key", default=False)

    assert attributes.finish() == [f"attribute key={text!r} is not supported: expected True or False"]


@pytest.mark.parametrize(("text", "value"), [("1e-05", 1e-5), ("0.001", 1e-3), ("2", 2.0), ("None", 0.5), (None, 0.5)])
def test_a_number_is_read(text: str | None, value: float) -> None:
    attributes = given(text)

    assert attributes.number("key", 0.5) == value
    assert attributes.finish() == []


@pytest.mark.parametrize("text", ["small", "", "nan", "inf", "-1", "1e999", "1e39", "1_0", "0x1", "٣", "1" * 61])
def test_what_is_no_number_that_float32_holds_is_a_problem(text: str) -> None:
    attributes = given(text)
    attributes.number("key", 0.5)

    assert attributes.finish() == [f"attribute key={text!r} is not supported: expected a number of at least 0"]


@pytest.mark.parametrize(("text", "value"), [("a", "a"), ("b", "b"), ("None", "b"), (None, "b")])
def test_a_choice_is_one_of_the_supported_values(text: str | None, value: str) -> None:
    attributes = given(text)

    assert attributes.choice("key", ("a", "b"), "b") == value
    assert attributes.finish() == []


@pytest.mark.parametrize("text", ["c", "A", ""])
def test_a_choice_that_is_not_supported_is_a_problem(text: str) -> None:
    attributes = given(text)
    attributes.choice("key", ("a", "b"), "b")

    assert attributes.finish() == [f"attribute key={text!r} is not supported: expected a or b"]


REQUIRED: Final[list[Callable[[Attributes], object]]] = [
    lambda attributes: attributes.integer("key"),
    lambda attributes: attributes.integers("key"),
    lambda attributes: attributes.choice("key", ("a", "b")),
]


@pytest.mark.parametrize(
    "ask", [pytest.param(ask, id=kind) for ask, kind in zip(REQUIRED, ("i", "t", "c"), strict=True)]
)
@pytest.mark.parametrize("text", [None, "None"])
def test_what_is_required_must_be_there(ask: Callable[[Attributes], object], text: str | None) -> None:
    attributes = given(text)
    ask(attributes)

    assert attributes.finish() == ["attribute key is missing"]


def test_an_attribute_that_nobody_asked_for_is_a_problem() -> None:
    attributes = Attributes({"kernel": "3", "z": "1", "a": "None"})
    attributes.integer("kernel")

    assert attributes.finish() == ["attribute a='None' is not known", "attribute z='1' is not known"]


def test_attributes_without_effect_and_hidden_ones_are_no_problem() -> None:
    attributes = Attributes({"workspace": "512", "__lr_mult__": "2", "__init__": "zero"})
    attributes.without_effect("workspace", "cudnn_tune")

    assert attributes.finish() == []


def test_all_problems_are_collected_in_the_order_of_asking() -> None:
    attributes = Attributes({"a": "x", "b": "(1, y)", "c": "maybe", "d": "wrong", "f": "big", "z": "1"})
    attributes.integer("a", 0)
    attributes.integers("b", ())
    attributes.boolean("c", default=True)
    attributes.choice("d", ("left", "right"), "left")
    attributes.integer("e")
    attributes.number("f", 0.0)

    assert attributes.finish() == [
        "attribute a='x' is not supported: expected an integer from 0 to 2147483647",
        "attribute b='(1, y)' is not supported: expected integers from 0 to 2147483647",
        "attribute c='maybe' is not supported: expected True or False",
        "attribute d='wrong' is not supported: expected left or right",
        "attribute e is missing",
        "attribute f='big' is not supported: expected a number of at least 0",
        "attribute z='1' is not known",
    ]
