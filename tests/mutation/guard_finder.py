"""Finds the guards of a module in its syntax tree, and writes the module with one of them switched off.

A guard is one of these:

- a condition of an `if` that raises one of the project's errors: each part that is enough to raise;
- an `except` clause that raises one of them;
- a `raise` of one of them that stands elsewhere, such as behind the last `return`;
- a bound: a number that a module names and such a condition compares with, or a constraint of pydantic.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

# pydantic turns this one, raised by a validator, into an error of the project.
OTHERS: Final = frozenset({"ValueError"})
# Constraints of pydantic, and what loosens them.
CONSTRAINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of", "pattern"), "None"),
    "extra": "'ignore'",
    "strict": "False",
    "allow_inf_nan": "True",
}
ENORMOUS: Final = 100  # times an upper bound: enough to be none, and little enough to be allocated once

Edit = tuple[int, int, str]  # replaces these bytes of the source
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Guard:
    """`lines` run only when it refuses, if there are any; otherwise they are those of the guard itself."""

    function: str
    text: str
    line: int
    lines: frozenset[int]
    edit: Edit

    @property
    def name(self) -> str:
        return f"{self.function or 'module'}: {self.text}"

    def switched_off(self, source: str) -> str:
        raw, (start, end, text) = source.encode(), self.edit
        return (raw[:start] + text.encode() + raw[end:]).decode()


def error_names(paths: Iterable[Path]) -> frozenset[str]:
    """The classes of sshconvert.errors, those that derive from them anywhere in `paths`, and ValueError."""
    classes: dict[str, set[str]] = {}
    names = set(OTHERS)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, set()).update(map(_name, node.bases))
                names |= {node.name} if path.name == "errors.py" else set()
    while more := {name for name, bases in classes.items() if bases & names} - names:
        names |= more
    return frozenset(names)


def find_guards(source: str, errors: frozenset[str]) -> list[Guard]:
    """All guards of a module, in its order, each with a name of its own."""
    guards: dict[Edit, Guard] = {}
    for guard in _Finder(source, errors).guards():
        guards.setdefault(guard.edit, guard)
    counts: Counter[str] = Counter()
    numbered = []
    for guard in sorted(guards.values(), key=lambda item: item.edit[:2]):
        counts[guard.name] += 1
        number = counts[guard.name]
        numbered.append(guard if number == 1 else replace(guard, text=f"{guard.text} #{number}"))
    return numbered


class _Finder:
    def __init__(self, source: str, errors: frozenset[str]) -> None:
        self.errors, self.tree = errors, ast.parse(source)
        self.starts = [0]
        for line in source.encode().splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.raw = source.encode()
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.never_return = {
            node.name
            for node in ast.walk(self.tree)
            if isinstance(node, Function) and _name(node.returns) == "NoReturn"
        }
        self.constraining = {
            alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module == "pydantic"
            for alias in node.names
        }
        self.numbers = {
            _name(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]): node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_number(node.value)
        }

    def guards(self) -> Iterator[Guard]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If) and (lines := self.refusals(node.body)):
                yield from self.parts(node.test, True, lines)
            elif isinstance(node, ast.ExceptHandler) and node.type and (lines := self.refusals(node.body)):
                yield self.guard(f"except {ast.unparse(node.type)}", node.type, "()", lines)
            elif isinstance(node, ast.stmt) and self.refuses(node) and not self.belongs_to_another(node):
                yield self.guard(ast.unparse(node)[:77], node, "pass", _lines([node]))
            elif isinstance(node, ast.Call) and _name(node) in self.constraining:
                for keyword in node.keywords:
                    if keyword.arg is not None and keyword.arg in CONSTRAINTS:
                        yield self.guard(ast.unparse(keyword), keyword.value, CONSTRAINTS[keyword.arg], frozenset())

    def refuses(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Raise):
            return _name(node.exc) in self.errors
        return (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) in self.never_return
        )

    def refusals(self, body: Iterable[ast.stmt]) -> frozenset[int]:
        return _lines(node for node in body if self.refuses(node))

    def belongs_to_another(self, node: ast.stmt) -> bool:
        """A condition or an `except` clause guards it, or it is how a function that never returns refuses."""
        parent = self.parents[node]
        guarded = isinstance(parent, ast.ExceptHandler) or (isinstance(parent, ast.If) and node in parent.body)
        function = self.function(node)
        return guarded or function is None or function.name in self.never_return

    def parts(self, node: ast.expr, positive: bool, lines: frozenset[int]) -> Iterator[Guard]:
        """The parts of a condition of which each is enough to make it true, or false if not `positive`."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield from self.parts(node.operand, not positive, lines)
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) is positive:
            for value in node.values:
                yield from self.parts(value, positive, lines)
        else:
            refused = node if positive else ast.UnaryOp(ast.Not(), node)
            off = f"(({self.text(node)}) {'and False' if positive else 'or True'})"
            if isinstance(node, ast.Compare) and len(node.ops) == 2 and not positive:
                ends = (node.left, node.comparators[0]), (node.comparators[0], node.comparators[1])
                for dropped, kept in (ends, ends[::-1]):
                    yield self.guard(f"not {self.text(*dropped)}", node, f"({self.text(*kept)})", lines)
            else:
                yield self.guard(ast.unparse(refused), node, off, lines)
            for compare in ast.walk(node):
                if isinstance(compare, ast.Compare):
                    yield from self.bounds(compare, lines)

    def bounds(self, node: ast.Compare, lines: frozenset[int]) -> Iterator[Guard]:
        for name in (part for part in (node.left, *node.comparators) if isinstance(part, ast.Name)):
            value = self.numbers.get(name.id)
            if value is not None:
                off = f"({self.text(value)}) * {ENORMOUS}"
                yield self.guard(f"{name.id} = {ast.unparse(value)}", value, off, lines)

    def guard(self, text: str, node: ast.expr | ast.stmt, off: str, lines: frozenset[int]) -> Guard:
        function = self.function(node)
        holders = [function.name] if function else []
        parent = self.parents[function] if function else self.parents[node]
        while not isinstance(parent, ast.Module):
            holders += [parent.name] if isinstance(parent, ast.ClassDef | Function) else []
            parent = self.parents[parent]
        return Guard(".".join(reversed(holders)), text, node.lineno, lines or _lines([node]), (*self.span(node), off))

    def function(self, node: ast.AST) -> Function | None:
        while not isinstance(node, ast.Module):
            node = self.parents[node]
            if isinstance(node, Function):
                return node
        return None

    def span(self, first: ast.expr | ast.stmt, last: ast.expr | ast.stmt | None = None) -> tuple[int, int]:
        last = last or first
        assert last.end_lineno is not None
        assert last.end_col_offset is not None
        return self.starts[first.lineno - 1] + first.col_offset, self.starts[last.end_lineno - 1] + last.end_col_offset

    def text(self, first: ast.expr, last: ast.expr | None = None) -> str:
        start, end = self.span(first, last)
        return self.raw[start:end].decode()


def _name(node: ast.AST | None) -> str:
    """The last part of a name, an attribute or what is called."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_number(node: ast.expr) -> bool:
    parts = ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop
    return all(
        isinstance(part, parts) and isinstance(getattr(part, "value", 0), int | float) for part in ast.walk(node)
    ) and not (isinstance(node, ast.Constant) and isinstance(node.value, bool))


def _lines(nodes: Iterable[ast.AST]) -> frozenset[int]:
    """The lines of these statements and expressions."""
    return frozenset(
        line
        for node in nodes
        if isinstance(node, ast.stmt | ast.expr)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    )
