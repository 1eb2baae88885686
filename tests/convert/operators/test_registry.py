"""The registry of operators, and the table that the README shows of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from operator_table import PLACE, README, supported, table
from sshconvert.operators.base import Operator


@pytest.mark.parametrize("kind", supported(), ids=lambda kind: kind.name)
def test_an_operator_is_compared_with_mxnet_in_the_test_of_its_module(kind: type[Operator]) -> None:
    test = Path(__file__).with_name(f"test_{kind.__module__.rpartition('.')[2]}.py")

    cases = re.split(r"CASES|cases = ", test.read_text("utf-8"), maxsplit=1)[-1]
    assert f'"{kind.name}"' in cases


def test_the_readme_shows_the_table_of_the_classes() -> None:
    shown = PLACE.search(README.read_text("utf-8"))

    assert shown is not None
    assert shown[0] == table(), "python tests/support/operator_table.py writes it anew"
