"""The tests of the tests, tested: guards are found, switched off, and noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

import guards
from guard_finder import error_names, find_guards

ERRORS: Final = frozenset({"E"})

TOY: Final = """
from sshconvert.errors import ToyError

LONGEST = 3

def read(text):
    if not text:
        raise ToyError("empty")
    if len(text) > LONGEST or text.isspace() or text == "no":
        raise ToyError("too long, blank or no")
    if text == "again":
        raise ToyError("too long, and so never here")
    return text
"""

TOY_TESTS: Final = """
import pytest
from sshconvert.errors import ToyError
from sshconvert.toy import read

@pytest.mark.parametrize("text", ["", "long", "no"])
def test_read(text):
    with pytest.raises(ToyError):
        read(text)

def test_good():
    assert read("yes") == "yes"
"""


@pytest.mark.long
def test_a_guard_without_a_test_and_an_excuse_without_a_need_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    files = {
        "convert/sshconvert/__init__.py": "",
        "convert/sshconvert/errors.py": "class ToyError(Exception): pass\n",
        "convert/sshconvert/toy.py": TOY,
        "tests/convert/test_toy.py": TOY_TESTS,
        "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    excuses = ("read: text == 'again'", "read: text == 'no'")
    states = guards.run(tmp_path, guards.modules(tmp_path), {f"toy.py {excuse}": "a reason" for excuse in excuses}, 1)
    assert {name.partition(": ")[2]: state for name, state in states.items()} == {
        "LONGEST = 3": "caught",
        "not text": "caught",
        "len(text) > LONGEST": "caught",
        "text.isspace()": "NOT caught",
        "text == 'no'": "STALE",
        "text == 'again'": "excused",
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("if a and b: raise E", ["a and b"], id="all that has to hold is one guard"),
        pytest.param("if a or not (b and c): raise E(1)", ["a", "not b", "not c"], id="each part that is enough"),
        pytest.param("if not 0 < a <= 9: raise E", ["not 0 < a", "not a <= 9"], id="both ends of a range"),
        pytest.param("if a > MOST: raise E", ["MOST = 9", "a > MOST"], id="a bound"),
        pytest.param("if a: self.stop('a')", ["a"], id="a function that never returns"),
        pytest.param("if a:\n        return a\n    raise E", ["raise E"], id="behind the last return"),
        pytest.param("if a:\n        return a\n    else:\n        raise E", ["raise E"], id="otherwise"),
        pytest.param("try: a()\n    except (B, C): raise E", ["except (B, C)"], id="an error in place of another"),
        pytest.param("Field(ge=0, title='a')", ["ge=0"], id="a constraint of pydantic"),
        pytest.param("if a: raise KeyError", [], id="an error of another"),
        pytest.param("if a: return b", [], id="a condition that refuses nothing"),
    ],
)
def test_guards_are_found_in_the_syntax_tree(source: str, expected: list[str]) -> None:
    module = (
        f"from pydantic import Field\nMOST = 9\ndef stop(a) -> NoReturn: raise E\ndef read(a, b, c, d):\n    {source}\n"
    )
    found = find_guards(module, ERRORS)
    assert [guard.text for guard in found] == expected
    for guard in found:
        off = guard.switched_off(module)
        compile(off, "module", "exec")
        assert off != module


def test_a_guard_that_is_off_no_longer_refuses_and_the_others_do() -> None:
    source = "def read(a):\n    if a < 0 or not 1 <= a <= 9:\n        raise ValueError\n    return a\n"
    accepted = {}
    for guard in find_guards(source, frozenset({"ValueError"})):
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
def test_every_guard_of_the_project_can_be_switched_off_and_has_tests() -> None:
    found = guards.modules()
    for module, switches in found.items():
        source = (guards.ROOT / module).read_text(encoding="utf-8")
        for guard in switches:
            compile(guard.switched_off(source), module, "exec")
        assert guards.files_that_test(module), module
    names = {guards.key(module, guard) for module, switches in found.items() for guard in switches}
    assert guards.EXCUSES.keys() <= names


@pytest.mark.long
def test_each_guard_that_is_switched_off_makes_a_test_fail() -> None:
    pytest.importorskip("coverage")
    states = guards.run(guards.ROOT, guards.modules(), guards.EXCUSES, jobs=2)
    assert {name: state for name, state in states.items() if state not in ("caught", "excused")} == {}


def test_errors_are_those_of_the_project_and_what_derives_from_them(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("class A(Exception): pass\n", encoding="utf-8")
    (tmp_path / "b.py").write_text("class B(errors.A): pass\nclass C(B): pass\nclass D(Exception): pass\n")
    assert error_names(tmp_path.glob("*.py")) == {"A", "B", "C", "ValueError"}
