"""Strategies of hypothesis for shapes and axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sshconvert.graph import Shape


def shapes(least: int = 1, most: int = 5, largest: int = 5) -> SearchStrategy[Shape]:
    """Shapes of `least` to `most` dimensions."""
    return st.lists(st.integers(1, largest), min_size=least, max_size=most).map(tuple)


SHAPES: Final = shapes()


def axes_of(shape: Sequence[int]) -> SearchStrategy[int]:
    """An axis of a shape, counted from the front or from the back."""
    return st.integers(-len(shape), len(shape) - 1)
