from __future__ import annotations

import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len
from rich.table import Table

from sshtool.bench.measuring import LATENCY, THROUGHPUT
from sshtool.report.bench import _columns as bench_columns
from sshtool.report.terminal import console, table

LONG: Final = "a-very-long-folder-of-mine/that-is-too-long-to-type-twice"
ALIKE: Final = (
    *(f"{LONG}-{letter}/ssh-mxnet.onnx" for letter in "ab"),
    *(f"{LONG}/ssh-mxnet-{number}.xml" for number in (1, 11, 2)),
    *(f"rpn_cls_prob_reshape_stride{stride}" for stride in (32, 16, 8)),
    *(f"日本語の名前、日本語の名前、日本語の名前{number}" for number in (1, 2)),
    "short",
)


# The heads of the verbs' tables, how many columns tell rows apart, and where names stand.
HEADS: Final[dict[str, tuple[Sequence[str], int]]] = {
    "bench, latency": (bench_columns(LATENCY), 1),
    "bench, throughput": (bench_columns(THROUGHPUT), 1),
    "check": (["check", "file", "what is wrong"], 2),
    "convert": (["path", "format", "precision", ">MB"], 1),
    "detect": (["image", ">size", ">found", ">best score", "picture"], 1),
    "evaluate": (
        ["artifact", *itertools.chain(*([f">{name} %", f">{name} vs FP32"] for name in ("easy", "medium", "hard")))],
        1,
    ),
    "info": (["ssh-mxnet", "SSH: Single Stage Headless face detector, VGG16, MXNet"], 2),
    "package": (["file", "role", ">MB", "SHA-256"], 1),
    "self-test": (["planted fault", "artifact", "verdict", "caught by", ">times the limit", "what it said"], 2),
    "verify": (["largest / mean difference", *(f">{name}" for name in ALIKE)], 1),
}


def check_fits(renderable: Any, width: int) -> list[Table]:
    """Draw it, and require that it is no wider than that and shows every character of its cells. Returns its tables."""
    stream = io.StringIO()
    made = console(file=stream, width=width, force_terminal=True, color_system=None)
    made.print(renderable)
    written = stream.getvalue()
    assert all(cell_len(line.rstrip()) <= width for line in written.split("\n")), written
    tables = [item for item in renderable.__rich_console__(made, made.options) if isinstance(item, Table)]
    texts = [str(column.header) + "".join(map(str, column.cells)) for item in tables for column in item.columns]
    texts.append(str(tables[0].title or ""))
    shown = Counter(re.sub(r"[\s─]", "", written))
    assert shown == Counter(re.sub(r"[\s─]", "", "".join(texts))), written
    return tables


@pytest.mark.parametrize("width", [12, 60, 80, 120])
@pytest.mark.parametrize(("heads", "keys"), HEADS.values(), ids=HEADS)
def test_rows_and_columns_of_every_table_differ(heads: Sequence[str], keys: int, width: int) -> None:
    figures = [f"{number}.25e-07 / {number}.5e-08" for number in range(len(heads) - 1)]
    rows = [["checksums", name, *figures[1:]] if keys == 2 else [name, *figures] for name in ALIKE]
    tables = check_fits(table(heads, rows, title="a title", keys=keys), width)
    names = [head.removeprefix(">") for head in heads]
    said = [[str(column.header) for column in item.columns] for item in tables]
    assert len(set(itertools.chain(*said))) == len(set(names))
    assert sum(len(head) - keys for head in said) + keys == max(len(names), keys)
    for item in tables:
        columns = [list(map(str, column.cells)) for column in item.columns]
        assert len(set(zip(*columns[:keys], strict=True))) == len(ALIKE)
        for column in columns[keys:]:
            assert set(column) <= set(figures)


@given(
    st.lists(st.text("ab/.…é日", min_size=1, max_size=60), min_size=2, max_size=8, unique=True),
    st.integers(1, 5),
    st.integers(10, 90),
)
def test_texts_that_differ_are_never_shown_alike(names: list[str], figures: int, width: int) -> None:
    heads = ["name", *(f">{name}" for name in names[:figures])]
    for item in check_fits(table(heads, [[name, *(["1.5"] * (len(heads) - 1))] for name in names]), width):
        assert len(set(map(str, item.columns[0].cells))) == len(names)
        headers = {str(column.header) for column in item.columns}
        assert len(headers) == len(item.columns)


def test_names_are_shortened_before_columns_go_below_and_nothing_is_lost() -> None:
    rows = [[name, "1", "2"] for name in ALIKE if name.startswith("rpn")]
    wide, narrow, least = (check_fits(table(["output", ">a", ">b"], rows), width) for width in (120, 25, 22))
    assert [len(wide), len(narrow), len(least)] == [1, 1, 1]
    assert str(wide[0].columns[0].header) == "output"
    assert list(map(str, wide[0].columns[0].cells)) == [row[0] for row in rows]
    assert [str(cell)[-3:] for cell in narrow[0].columns[0].cells] == ["e32", "e16", "de8"]
    assert all("…" in str(cell) for cell in narrow[0].columns[0].cells)
    many = [[f"{row[0]}", *("12345678" for _ in range(9))] for row in rows]
    assert len(check_fits(table(["output", *(f">{letter}" for letter in "abcdefghi")], many), 60)) > 1


def test_heads_that_only_differ_in_the_middle_keep_no_name_from_being_shortened() -> None:
    heads = ["output", *(f">{name}" for name in ALIKE[:2])]
    (made,) = check_fits(table(heads, [[name, "1", "2"] for name in ALIKE if name.startswith("rpn")]), 48)
    assert all("…" in str(cell) for cell in made.columns[0].cells)
    assert [str(column.header) for column in made.columns[1:]] == list(ALIKE[:2])
    check_fits(table(["name", "what"], [["a" * 100_000, "b"], ["c", "d " * 10_000]]), 80)
