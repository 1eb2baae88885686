"""Verbs as dataclasses: the fields are the options, the docstring is the help, and `run` does the work.

    @dataclass(frozen=True)
    class Info(Verb):
        '''Show what a checkpoint is.'''

        place: Place = field(default_factory=Place)      # a dataclass: its fields are options of the verb, too
        scenes: Annotated[int, Option("How many scenes.", min=2)] = 2
        artifact: Annotated[tuple[Path, ...], Option("A converted model, repeatable.")] = ()

`add` gives Typer one parameter for each option: `--artifact` for `artifact`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from sshtool.cli.options import Option, Output

if TYPE_CHECKING:
    from sshtool.cli.session import Session

Options = TypeVar("Options")

# Options that several values may follow: `--atol 1e-5 NAME:1e-4`, as users of other comparers write it.
MANY_VALUES: Final = ("--atol", "--rtol", "--merge")


class Verb(ABC):
    """A verb of the command line. Subclasses are frozen dataclasses with a field `output`."""

    output: Output

    def session(self, name: str) -> Session:
        """The session that prints the verb's result and reports its errors."""
        return self.output.session(name)

    @abstractmethod
    def run(self, session: Session) -> None:
        """Do what the options say, and finish the session with the result."""


def add(app: typer.Typer, name: str, kind: type[Verb]) -> None:
    """Make `kind` the command `name` of the application."""

    def command(**given: Any) -> None:
        verb = _made(kind, given)
        with verb.session(name) as session:
            verb.run(session)

    parameters = list(_parameters(kind, None))
    command.__name__ = name.replace("-", "_")
    command.__doc__ = kind.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # `inspect.signature` reads it
    app.command(name, cls=_Command)(command)


class _Command(TyperCommand):
    """Lets several values follow one of MANY_VALUES."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        repeated: list[str] = []
        current = ""
        for position, arg in enumerate(args):
            if arg.startswith("-"):
                current = arg if arg in MANY_VALUES else ""
            elif current and args[position - 1] != current:
                repeated.append(current)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)


def _parameters(kind: type[Any], defaults: object) -> Iterator[Parameter]:
    """The options of a dataclass and of the dataclasses in it. Defaults are those of the instance `defaults`, or, if it
    is None, those of the class.
    """
    for item, hint in _options(kind):
        default = _default(item) if defaults is None else getattr(defaults, item.name)
        if isinstance(hint, type):
            yield from _parameters(hint, default)
            continue
        of, info = get_args(hint)
        if get_origin(of) is tuple:  # a list to Typer
            of = list[get_args(of)[0]]  # type: ignore[misc]  # at run time
            default = list(default) if isinstance(default, tuple) else default
        said = _typers(info, item.name) if isinstance(info, Option) else info
        yield Parameter(item.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[of, said])


@cache
def _typers(option: Option, field: str) -> Any:
    name = f"--{field.replace('_', '-')}"
    return typer.Option(name, *filter(None, [option.short]), help=option.text, min=option.min, max=option.max)


def _made(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The dataclass with the values that Typer gives."""
    values: dict[str, Any] = {}
    for item, hint in _options(kind):
        value = _made(hint, given) if isinstance(hint, type) else given[item.name]
        values[item.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _options(kind: type[Any]) -> list[tuple[Field[Any], Any]]:
    """The fields of a dataclass with their types: an Annotated type, or a dataclass with options of its own."""
    hints = get_type_hints(kind, include_extras=True)
    return [(item, hints[item.name]) for item in fields(kind)]


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return Parameter.empty if item.default is MISSING else item.default
