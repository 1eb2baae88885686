"""The tests of the tests, tested: guards are found and switched off, and nobody forgets to name a new reader."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

import pytest

import guards
from guard_finder import find_guards
from guard_runner import Project

TOY: Final = """
LONGEST = 3

def read(text):
    if not text:
        raise ValueError("empty")
    if len(text) > LONGEST or text.isspace() or text == "no" or text == "sly":
        raise ValueError("too long, blank, no or sly")
    if text == "again":
        raise ValueError("too long, and so never here")
    return text
"""

TOY_TESTS: Final = """
import sys

import pytest, toy

@pytest.mark.parametrize("text", ["", "long", "no"])
def test_read(text):
    with pytest.raises(ValueError):
        toy.read(text)

def test_that_fails_while_it_is_watched():
    assert sys.gettrace() is None
    with pytest.raises(ValueError):
        toy.read("sly")

def test_good():
    assert toy.read("yes") == "yes"
"""


@pytest.mark.long
def test_a_guard_without_a_test_and_an_excuse_without_a_need_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    (tmp_path / "toy" / "source").mkdir(parents=True)
    (tmp_path / "toy" / "tests").mkdir()
    (tmp_path / "toy" / "source" / "toy.py").write_text(TOY, encoding="utf-8")
    (tmp_path / "toy" / "tests" / "test_toy.py").write_text(TOY_TESTS, encoding="utf-8")
    module, excuses = "source/toy.py", ("read: text == 'again'", "read: text == 'no'", "read: text == 'never'")
    rows, found = guards.run(
        Project(tmp_path / "toy", ("source",)),
        {module: ["tests/test_toy.py"]},
        {f"{module} {excuse}": "for a reason" for excuse in excuses},
    )
    assert {row.guard: row.state for row in rows} == {
        "module: LONGEST = 3": "caught",
        "read: not text": "caught",
        "read: len(text) > LONGEST": "caught",
        "read: text.isspace()": "NOT caught",
        "read: text == 'no'": "STALE",
        "read: text == 'sly'": "caught",
        "read: text == 'again'": "excused",
        "read: text == 'never'": "STALE",
    }
    details = {row.guard: row.detail for row in rows}
    assert details["read: not text"] == "tests/test_toy.py::test_read[]"
    assert details["read: text == 'again'"] == "for a reason"
    assert details["read: text == 'sly'"] == "tests/test_toy.py::test_that_fails_while_it_is_watched"
    assert found.branches == {module: (5, 6)}
    assert [row.guard for row in rows if row.is_wrong] == [
        "read: text == 'never'", "read: text.isspace()", "read: text == 'no'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("if a and b: raise E", ["a and b"], id="all that has to hold is one guard"),
        pytest.param("if a or not (b and c): raise E", ["a", "not b", "not c"], id="each part that is enough is one"),
        pytest.param("if not 0 < a <= 9: raise E", ["not 0 < a", "not a <= 9"], id="both ends of a range"),
        pytest.param("if (a, b) != (c, d): raise E", ["a != c", "b != d"], id="each pair"),
        pytest.param("if any(x < 0 or x > 9 for x in a): raise E", ["x < 0", "x > 9"], id="parts inside any"),
        pytest.param("ok = a and b\n    if not ok: raise E", ["not a", "not b"], id="a condition with a name"),
        pytest.param(
            "if not _fine(a): raise E", ["not _fine(a)", "not a > 0", "not a < 9"], id="a condition elsewhere"
        ),
        pytest.param("if a: problems.append('a')", ["a"], id="a problem that is collected"),
        pytest.param("if a: self.fail('a')", ["a"], id="a function that never returns"),
        pytest.param("if a:\n        return a\n    raise E", ["raise E"], id="what is left"),
        pytest.param("if a:\n        return a\n    else:\n        raise E", ["raise E"], id="otherwise"),
        pytest.param("try: a()\n    except (B, C): raise E", ["except B", "except C"], id="each error that is caught"),
        pytest.param("problems = {'x': a or b, 'y': c}", ["a", "b", "c"], id="a table of problems"),
        pytest.param("problems += [x for x in a if x]", ["problems += [x for x in a if x]"], id="a list of problems"),
        pytest.param("check(a)", ["check(a)"], id="the call of a check"),
        pytest.param("_need(a and b < 1)", ["not a", "not b < 1", "not x"], id="what a function demands"),
        pytest.param("ConfigDict(extra='forbid')", ["extra='forbid'"], id="a constraint of pydantic"),
        pytest.param("if a: return b", [], id="a condition that refuses nothing"),
    ],
)
def test_guards_are_found_in_the_syntax_tree(source: str, expected: list[str]) -> None:
    module = f"def read(a, b, c, d):\n    {source}\n"
    if "_fine" in source:
        module += "def _fine(a) -> bool:\n    return a > 0 and a < 9\n"
    if "_need" in source:
        module += "def _need(x) -> None:\n    if not x: raise E\n"
    found = find_guards(module)
    assert [guard.text for guard in found if "_fine" in source or guard.kind != "predicate"] == expected
    for guard in found:
        off = guard.switched_off(module)
        compile(off, "module", "exec")
        assert off != module


def test_a_guard_that_is_off_no_longer_refuses_and_the_others_do() -> None:
    source = textwrap.dedent("""
        def read(a):
            if a < 0 or not 1 <= a <= 9:
                raise ValueError
            return a
    """)
    accepted = {}
    for guard in find_guards(source):
        module: dict[str, object] = {}
        exec(guard.switched_off(source), module)  # noqa: S102  # the module with one guard less
        accepted[guard.text] = [number for number in (-1, 0, 5, 10) if _accepts(module["read"], number)]
    assert accepted == {"a < 0": [5], "not 1 <= a": [0, 5], "not a <= 9": [5, 10]}


def _accepts(read: object, number: int) -> bool:
    assert callable(read)
    try:
        read(number)
    except ValueError:
        return False
    return True


@pytest.mark.long
def test_every_module_of_the_table_has_guards_that_can_be_switched_off_and_tests() -> None:
    for module, tests in guards.MODULES.items():
        source = (guards.PROJECT.root / module).read_text(encoding="utf-8")
        found = find_guards(source)
        assert found, module
        assert len({guard.name for guard in found}) == len(found), module
        for guard in found:
            compile(guard.switched_off(source), module, "exec")
        missing = {*tests} - {path.stem for path in guards.paths_of(tests)}
        assert not missing, module


def test_every_module_that_reads_or_writes_is_in_the_table() -> None:
    there = set(guards.readers(guards.PROJECT))
    unknown = there - guards.MODULES.keys() - guards.NO_READERS.keys()
    assert not unknown, "name them in guards.MODULES with their tests, or in guards.NO_READERS with a reason"
    assert guards.NO_READERS.keys() <= there - guards.MODULES.keys()


@pytest.mark.long
def test_every_excuse_names_a_guard_of_the_table_and_gives_a_reason() -> None:
    found = guards.guards_of(guards.PROJECT, guards.MODULES)
    assert not guards.gone(guards.MODULES, found, guards.EXCUSES)
    assert all(any(name.startswith(f"{module} ") for module in guards.MODULES) for name in guards.EXCUSES)
    assert all(guards.EXCUSES.values())


@pytest.mark.long
def test_each_guard_that_is_switched_off_makes_a_test_fail() -> None:
    pytest.importorskip("coverage")
    rows, found = guards.run(guards.PROJECT, guards.test_files([]), guards.EXCUSES, jobs=2)
    assert [row for row in rows if row.is_wrong] == []
    low = {module: pair for module, pair in found.branches.items() if pair[0] < guards.LEAST_COVERED * pair[1]}
    assert low == {}
