"""Fuzzes the symbol's reader, its operators, shapes and export: `python tests/fuzz/fuzz_symbol.py CORPUS`."""

from __future__ import annotations

from collections.abc import Callable

from fuzzing import fuzz


def load() -> Callable[[bytes], object]:
    from symbol_check import check

    return check


if __name__ == "__main__":
    fuzz(load, "json", "symbol_check")
