"""The registry of operators, and the table that the README shows of it."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path

import pytest

from operator_suite import OperatorSuite
from operator_table import PLACE, README, supported, table
from sshconvert.operators.base import Operator
from sshconvert.operators.registry import OPERATORS


@cache
def compared(test: Path) -> set[type[Operator]]:
    """The operators in the cases of a test module, in lists named `CASES` or in suites."""
    members = runpy.run_path(str(test))
    lists = [value for name, value in members.items() if name.endswith("CASES")]
    suites = [kind for kind in members.values() if isinstance(kind, type) and issubclass(kind, OperatorSuite)]
    cases = [case for cases in (*lists, *(suite.cases for suite in suites)) for case in cases]
    return {OPERATORS[case.values[0].operator] for case in cases}


@pytest.mark.parametrize("kind", supported(), ids=lambda kind: kind.name)
def test_an_operator_is_compared_with_mxnet_in_the_test_of_its_module(kind: type[Operator]) -> None:
    test = Path(__file__).with_name(f"test_{kind.__module__.rpartition('.')[2]}.py")

    assert kind in compared(test)


def test_the_readme_shows_the_table_of_the_classes() -> None:
    shown = PLACE.search(README.read_text("utf-8"))

    assert shown is not None
    assert shown[0] == table(), "python tests/support/operator_table.py writes it anew"
