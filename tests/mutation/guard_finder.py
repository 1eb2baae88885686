"""Finds the guards of a module in its syntax tree, and writes the module with one of them switched off.

A guard is what makes a reader refuse: an `if` whose body refuses, each part of it that is enough to refuse; an entry
of a collection of problems; an `except` clause, for each error that it names; a `raise` that stands for "otherwise"; a
constraint of pydantic; a limit. The tree says where it stands, the text is changed there and nowhere else.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

# What a loosened constraint of pydantic says instead.
_LOOSE: Final[Mapping[str, str]] = {
    "extra": "'ignore'",
    "strict": "False",
    "allow_inf_nan": "True",
    **dict.fromkeys(
        ("pattern", "gt", "ge", "lt", "le", "min_length", "max_length", "max_digits", "multiple_of"), "None"
    ),
}
_CONSTRAINED: Final = {
    "ConfigDict", "Field", "StringConstraints", "Interval", "Len", "model_validate", "model_validate_json",
}  # fmt: skip

# Names of constants that limit something from above and from below.
_UPPER: Final = re.compile(
    r"(^|_)(MAX|MOST|LARGEST|LONGEST|NEWEST|DEEPEST|SMALL|LIMIT|PER|TIMEOUT|DEADLINE|SECONDS|ATTEMPTS|RETRIES|REDIRECTS)(_|$)"
)
_LOWER: Final = re.compile(r"(^|_)(MIN|LEAST|SMALLEST|FEWEST|OLDEST)(_|$)")
ENORMOUS: Final = 100  # times the limit: enough to be no limit, and little enough to be allocated once

_PROBLEMS: Final = re.compile(r"(^|_)problems$")
_LISTED: Final = re.compile(r"(^|_)(problems|unknown|missing)$")
_CHECKING: Final = re.compile(r"^_?(check|require|refuse|compare)(_|$)")
_REFUSING_CALLS: Final = {"fail", "_wrong"}

Edit = tuple[int, int, str]  # from this byte of the source to that one stands this instead
Part = tuple[str, tuple[Edit, ...]]  # of a condition: its text, and how to switch it off
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Guard:
    """One guard: the function it stands in, its own text, and how to switch it off.

    `lines` run only where it refuses, as far as the tree can tell; `around` are those of its own statement.
    """

    place: str
    kind: str
    text: str
    line: int
    lines: frozenset[int]
    around: frozenset[int]
    edits: tuple[Edit, ...]

    @property
    def name(self) -> str:
        return f"{self.place or 'module'}: {self.text}"

    def switched_off(self, source: str) -> str:
        """The module's source without this guard."""
        raw = source.encode()
        for start, end, text in sorted(self.edits, reverse=True):
            raw = raw[:start] + text.encode() + raw[end:]
        return raw.decode()


def find_guards(source: str) -> list[Guard]:
    """All guards of a module, in its order, each with a name of its own."""
    found: dict[tuple[Edit, ...], Guard] = {}
    for guard in _Finder(source).guards():
        earlier = found.get(guard.edits)
        found[guard.edits] = replace(earlier, lines=earlier.lines | guard.lines) if earlier else guard
    counts: Counter[str] = Counter()
    guards = []
    for guard in sorted(found.values(), key=lambda item: (item.line, item.edits[0][0])):
        counts[guard.name] += 1
        number = counts[guard.name]
        guards.append(guard if number == 1 else replace(guard, text=f"{guard.text} #{number}"))
    return guards


class _Finder:
    def __init__(self, source: str) -> None:
        self.raw = source.encode()
        self.starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tree = ast.parse(source)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        functions = [node for node in ast.walk(self.tree) if isinstance(node, Function)]
        self.functions = {function.name: function for function in functions}
        self.never_return = {
            function.name for function in functions if _is_name(function.returns, "NoReturn")
        } | _REFUSING_CALLS

    def guards(self) -> Iterator[Guard]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.If):
                yield from self.conditions(node)
            elif isinstance(node, ast.ExceptHandler):
                yield from self.handler(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                yield from self.assignment(node)
            elif isinstance(node, ast.Raise | ast.Expr):
                yield from self.otherwise(node)
                yield from self.check(node)
            elif isinstance(node, ast.Return):
                yield from self.predicate(node)
            elif isinstance(node, ast.Call) and _called(node) in _CONSTRAINED:
                yield from self.constraints(node)

    def conditions(self, node: ast.If) -> Iterator[Guard]:
        """`if x or y: raise`: x, and y."""
        if any(self.refuses(statement) for statement in node.body):
            for text, edits in self.parts(node.test, True, node):
                yield self.guard("if", text, edits, _lines(node.body), _lines([node.test]))

    def handler(self, node: ast.ExceptHandler) -> Iterator[Guard]:
        """`except (A, B)`: A, and B. Without it, the error comes through as it is."""
        if node.type is None:
            return
        several = isinstance(node.type, ast.Tuple)
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        for kind in kinds:
            edit = self.edit(kind, "*()" if several else "()")
            yield self.guard("except", f"except {ast.unparse(kind)}", (edit,), _lines(node.body), _lines([kind]))

    def assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[Guard]:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        holder = self.parents[node]
        if isinstance(target, ast.Name) and node.value is not None:
            yield from self.problems(node, target.id, node.value)
            if isinstance(holder, ast.ClassDef) and holder.name.endswith("Limits"):
                yield from self.limit(target.id, node.value, _UPPER)
            elif isinstance(holder, ast.Module) and target.id.isupper():
                direction = next((rule for rule in (_LOWER, _UPPER) if rule.search(target.id)), None)
                yield from self.limit(target.id, node.value, direction) if direction else ()
        if isinstance(node, ast.AnnAssign) and isinstance(holder, ast.ClassDef) and _is_model(holder):
            for part in ast.walk(node.annotation):
                if isinstance(part, ast.Subscript) and _is_name(part.value, "Literal"):
                    edit = self.edit(part, "object")
                    yield self.guard("pydantic", ast.unparse(node), (edit,), self.validation(), frozenset())

    def problems(self, node: ast.stmt, name: str, value: ast.expr) -> Iterator[Guard]:
        """`problems = {"is too long": x or y}`: x, and y; `problems += [… for … in … if …]`: all of it."""
        if _PROBLEMS.search(name) and isinstance(value, ast.Dict):
            for entry in value.values:
                for text, edits in self.parts(entry, True, node):
                    yield self.guard("problem", text, edits, self.told(node, name), _lines([entry]))
        elif self.is_list_of_problems(node, name, value):
            edit = self.edit(value, "[]")
            yield self.guard("problem", ast.unparse(node), (edit,), self.told(node, name), _lines([node]))

    def otherwise(self, node: ast.Raise | ast.Expr) -> Iterator[Guard]:
        """What refuses when nothing before it did: at the end of a function, or behind `else`."""
        function = self.function(node)
        if not self.refuses(node) or function is None:
            return
        if isinstance(node, ast.Raise) and function.name in self.never_return:
            return  # this is the means of the other guards
        parent = self.parents[node]
        if (isinstance(parent, ast.If) and node in parent.body) or isinstance(parent, ast.ExceptHandler):
            return
        text = ast.unparse(node)
        yield self.guard("otherwise", text[:77], (self.edit(node, "pass"),), _lines([node]), _lines([node]))

    def check(self, node: ast.stmt) -> Iterator[Guard]:
        """`check(x)`: a function that gives nothing back, and may refuse. Of `need(x and y)`: x, and y."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not self.refuses(node):
            name = _called(node.value)
            function = self.functions.get(name) if _is_own(node.value) else None
            lines = self.refusals(function) if function and _is_none(function.returns) else frozenset()
            if lines and function and node.value.args and _demands_its_first(function):
                for text, edits in self.parts(node.value.args[0], False, node):
                    yield self.guard("check", text, edits, lines, _lines([node]))
            elif lines or _CHECKING.search(name):
                yield self.guard("check", ast.unparse(node), (self.edit(node, "pass"),), lines, _lines([node]))

    def predicate(self, node: ast.Return) -> Iterator[Guard]:
        """`return x and y`, of a function that says yes or no: x, and y."""
        function = self.function(node)
        if node.value is not None and function and _is_name(function.returns, "bool"):
            parts = self.parts(node.value, False, node)
            for text, edits in parts if len(parts) > 1 else []:
                yield self.guard("predicate", text, edits, frozenset(), _lines([node]))

    def refusals(self, function: Function) -> frozenset[int]:
        """Lines of a function that refuse, or that call a function of this module that does."""
        called = [
            self.functions[_called(node)]
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
            and _is_own(node)
            and _called(node) in self.functions.keys() - self.never_return
        ]
        return _lines(
            node
            for holder in (function, *called)
            for node in ast.walk(holder)
            if isinstance(node, ast.stmt) and not isinstance(node, ast.Return) and self.refuses(node)
        )

    def constraints(self, node: ast.Call) -> Iterator[Guard]:
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg in _LOOSE:
                edit = self.edit(keyword.value, _LOOSE[keyword.arg])
                yield self.guard("pydantic", ast.unparse(keyword), (edit,), self.validation(), frozenset())

    def limit(self, name: str, value: ast.expr, direction: re.Pattern[str]) -> Iterator[Guard]:
        if not all(isinstance(part, _NUMERIC) for part in ast.walk(value)):
            return
        loads = [node for node in ast.walk(self.tree) if _is_load(node, name)]
        around = _lines(self.statement(node) for node in loads)
        guarded = frozenset(
            line
            for node in loads
            if isinstance(test := self.statement(node), ast.If) and any(self.refuses(item) for item in test.body)
            for line in _lines(test.body)
        )
        edit = self.edit(value, "0" if direction is _LOWER else f"({self.text(value)}) * {ENORMOUS}")
        yield self.guard("limit", f"{name} = {ast.unparse(value)}", (edit,), guarded, around)

    def parts(self, node: ast.expr, positive: bool, user: ast.AST, seen: tuple[ast.AST, ...] = ()) -> list[Part]:
        """The parts of a condition of which each is enough to make it true (or false, if not `positive`)."""
        if isinstance(node, ast.BoolOp):
            inner = [self.parts(value, positive, user, seen) for value in node.values]
            if isinstance(node.op, ast.Or) is not positive:  # all have to hold: the one whose parts are several
                inner = [several for several in inner if len(several) > 1]
            flat = [part for several in inner for part in several]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            flat = self.parts(node.operand, not positive, user, seen)
        elif isinstance(node, ast.Compare):
            flat = self.comparison(node, positive)
        elif isinstance(node, ast.Call):
            flat = self.call(node, positive, user, seen)
        elif isinstance(node, ast.Name) and (value := self.assigned(node, user)) and value not in seen:
            flat = self.parts(value, positive, user, (*seen, value))
        else:
            flat = []
        return flat if len(flat) > 1 else [self.whole(node, positive)]

    def whole(self, node: ast.expr, positive: bool) -> Part:
        """A condition that is evaluated as ever, and then does not count."""
        off = f"(({self.text(node)}) and False)" if positive else f"(({self.text(node)}) or True)"
        refused = node if positive else _negated(node)
        return ast.unparse(refused), (self.edit(node, off),)

    def comparison(self, node: ast.Compare, positive: bool) -> list[Part]:
        """`not low <= x <= high`: each end of it; `(a, b) != (c, d)`: each pair."""
        left, right = node.left, node.comparators[0]
        if len(node.ops) == 2 and not positive:
            upper = self.text(right, node.comparators[1])
            lower = self.text(left, right)
            return [(f"not {lower}", (self.edit(node, upper),)), (f"not {upper}", (self.edit(node, lower),))]
        equal = isinstance(node.ops[0], ast.NotEq if positive else ast.Eq) and len(node.ops) == 1
        if equal and isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple) and len(left.elts) == len(right.elts):
            return [
                (f"{self.text(own)} != {self.text(other)}", (self.edit(own, "0"), self.edit(other, "0")))
                for own, other in zip(left.elts, right.elts, strict=True)
            ]
        return []

    def call(self, node: ast.Call, positive: bool, user: ast.AST, seen: tuple[ast.AST, ...]) -> list[Part]:
        """`any(x or y for …)`, `bool(x or y)`, and functions of this module that return such a condition."""
        name = _called(node)
        if name in ("any", "all", "bool") and len(node.args) == 1:
            if name == "bool":
                return self.parts(node.args[0], positive, user, seen)
            if isinstance(node.args[0], ast.GeneratorExp) and (name == "any") is positive:
                return self.parts(node.args[0].elt, positive, user, seen)
        function = self.functions.get(name)
        if function and _is_name(function.returns, "bool") and function not in seen:
            last = function.body[-1]
            returns = [item for item in ast.walk(function) if isinstance(item, ast.Return)]
            if isinstance(last, ast.Return) and last.value and len(returns) == 1:
                inner = self.parts(last.value, positive, function, (*seen, function))
                return [self.whole(node, positive), *inner] if len(inner) > 1 else []
        return []

    def assigned(self, name: ast.Name, user: ast.AST) -> ast.expr | None:
        """What a name of the same function stands for, where it is given once."""
        function = self.function(user)
        assignments = [
            node
            for node in ast.walk(function or self.tree)
            if isinstance(node, ast.Assign | ast.AugAssign | ast.NamedExpr | ast.For | ast.AnnAssign)
            and any(
                _is_name(target, name.id)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            )
        ]
        only = assignments[0] if len(assignments) == 1 else None
        return only.value if isinstance(only, ast.Assign) and isinstance(only.value, ast.BoolOp | ast.Compare) else None

    def refuses(self, statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Raise):
            return True
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.List) and statement.value.elts:
            return _is_name(statement.targets[0], "found")  # problems of one node
        call = statement.value if isinstance(statement, ast.Expr | ast.Return) else None
        if not isinstance(call, ast.Call):
            return False
        if isinstance(statement, ast.Return) and _called(call).endswith("Error"):
            return True
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("append", "extend"):
            return bool(_PROBLEMS.search(ast.unparse(call.func.value).rpartition(".")[2]))
        return _called(call) in self.never_return

    def is_list_of_problems(self, node: ast.stmt, name: str, value: ast.expr) -> bool:
        """Whether a list is one that somebody refuses for, apart from `if name:`, which is a guard itself."""
        is_list = isinstance(value, ast.ListComp) or (isinstance(value, ast.List) and bool(value.elts))
        if isinstance(node, ast.AugAssign):
            return is_list and bool(_PROBLEMS.search(name))
        function = self.function(node)
        return is_list and function is not None and bool(_LISTED.search(name)) and not self.told(node, name)

    def told(self, node: ast.AST, name: str) -> frozenset[int]:
        """Lines that refuse because of the name: of this function, or of one that is given it."""
        function = self.function(node)
        lines: set[int] = set()
        for item in ast.walk(function) if function else ():
            if isinstance(item, ast.If) and any(_is_name(part, name) for part in ast.walk(item.test)):
                lines |= _lines(statement for statement in item.body if self.refuses(statement))
            elif isinstance(item, ast.Call) and any(_is_name(argument, name) for argument in item.args):
                called = self.functions.get(_called(item))
                refusals = [part for part in ast.walk(called) if isinstance(part, ast.Raise)] if called else []
                lines |= _lines(refusals)
        return frozenset(lines)

    def validation(self) -> frozenset[int]:
        """Lines that say what pydantic found."""
        handlers = [node for node in ast.walk(self.tree) if isinstance(node, ast.ExceptHandler) and node.type]
        return _lines(
            statement
            for handler in handlers
            if re.search(r"ValidationError|ValueError", ast.unparse(handler.type or handler))
            for statement in handler.body
        )

    def function(self, node: ast.AST) -> Function | None:
        while not isinstance(node, Function):
            if node not in self.parents:
                return None
            node = self.parents[node]
        return node

    def statement(self, node: ast.AST) -> ast.AST:
        """The innermost statement around an expression."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def place(self, line: int) -> str:
        """The dotted name of the innermost function or class around a line."""
        holders = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, Function | ast.ClassDef) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        return ".".join(node.name for node in sorted(holders, key=lambda node: node.lineno))

    def guard(
        self, kind: str, text: str, edits: tuple[Edit, ...], lines: frozenset[int], around: frozenset[int]
    ) -> Guard:
        line = next(number for number, start in enumerate(self.starts) if start > edits[0][0])
        return Guard(self.place(line), kind, " ".join(text.split()), line, lines, around, edits)

    def text(self, first: ast.expr, last: ast.expr | None = None) -> str:
        start, end = self.span(first)[0], self.span(last or first)[1]
        return self.raw[start:end].decode()

    def edit(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        return (*self.span(node), text)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[end_line - 1] + end_column


_NUMERIC: Final = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)


def _is_name(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_load(node: ast.AST, name: str) -> bool:
    found = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
    return found == name and isinstance(node.ctx, ast.Load)  # type: ignore[attr-defined]  # both have one


def _is_model(node: ast.ClassDef) -> bool:
    return bool(node.bases) and not node.decorator_list


def _is_none(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _negated(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    return ast.UnaryOp(ast.Not(), node)


def _called(node: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2]


def _is_own(node: ast.Call) -> bool:
    """Whether it may be a function of this module: `f()`, `self.f()`, or the check of some other object."""
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return node.func.value.id == "self" or bool(_CHECKING.search(node.func.attr))
    return isinstance(node.func, ast.Name)


def _demands_its_first(function: Function) -> bool:
    """Whether a function does nothing but refuse unless its first argument is true."""
    first = function.body[-1]
    return (
        isinstance(first, ast.If)
        and isinstance(first.test, ast.UnaryOp)
        and bool(function.args.args)
        and _is_name(first.test.operand, function.args.args[0].arg)
    )


def _lines(nodes: Iterable[ast.AST] | Sequence[ast.AST]) -> frozenset[int]:
    lines: set[int] = set()
    for node in nodes:
        first = getattr(node, "lineno", None)
        if first is not None:
            lines |= set(range(first, (getattr(node, "end_lineno", None) or first) + 1))
    return frozenset(lines)
