"""Thousands of mutations of symbols: each is converted or refused by name, soon, and in little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from fuzzing import run_fuzzer
from symbol_check import check
from symbol_mutations import LINUX_ONLY, seeds, try_in_little_memory

DOSE: Final = 2_500
FULL_DOSE: Final = 50_000


@LINUX_ONLY
@pytest.mark.parametrize(
    ("first", "count"),
    [
        pytest.param(0, DOSE, id=str(DOSE)),
        pytest.param(DOSE, FULL_DOSE - DOSE, id=f"up to {FULL_DOSE}", marks=pytest.mark.long),
    ],
)
def test_a_mutated_symbol_is_converted_or_refused_by_name_soon_and_in_little_memory(first: int, count: int) -> None:
    verdicts = try_in_little_memory(str(first), str(count))
    print(verdicts)  # noqa: T201  # what a run is for

    assert sum(verdicts.values()) == count
    assert set(verdicts) == {"converted", "SymbolError", "UnsupportedGraphError", "ShapeError"}


def test_the_symbols_that_are_mutated_are_sound() -> None:
    assert [check(raw) for raw in seeds()].count("converted") >= 20


@pytest.mark.long
def test_a_minute_of_fuzzing_finds_nothing(tmp_path: Path) -> None:
    tried = run_fuzzer("symbol", (raw for raw in seeds() if len(raw) < 8192), tmp_path, largest=8192)
    print(tried)  # noqa: T201  # as above

    assert tried > 1000
