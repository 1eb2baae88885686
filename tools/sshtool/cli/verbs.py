"""Verbs as dataclasses: the fields are the options, the docstring is the help, `run` does the work.

    @dataclass(frozen=True)
    class Info(Verb):
        '''Describe a checkpoint.'''

        place: Place = field(default_factory=Place)      # a dataclass; the verb has its options too
        scenes: Annotated[int, Option("Number of scenes.", min=2)] = 2
        artifact: Annotated[tuple[Path, ...], Option("A converted model, repeatable.")] = ()

`add` declares one Typer parameter for each option: `--artifact` for `artifact`.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from sshtool.cli.options import Option, Output

if TYPE_CHECKING:
    from sshtool.cli.session import Session

Options = TypeVar("Options")

# Options that take several values: `--atol 1e-5 NAME:1e-4`, as other comparison tools write it.
MANY_VALUES: Final = ("--atol", "--rtol", "--merge")

# The options for files that people give without one, and what each takes.
FILES: Final = {"--params": "FILE", "--checkpoint": "FOLDER", "--artifact": "FILE", "--dataset": "FOLDER"}

# What stands for an option's value in the help.
_METAVARS: Final[dict[Any, str]] = {bool: "", str: "TEXT", int: "N", float: "X", Path: "PATH"}


class Verb(ABC):
    """A verb of the command line. Subclasses are frozen dataclasses with a field `output`."""

    output: Output

    def session(self, name: str) -> Session:
        """The session that prints the verb's result and reports its errors."""
        return self.output.session(name)

    @abstractmethod
    def run(self, session: Session) -> None:
        """Run the verb, and finish the session with its result."""


def add(app: typer.Typer, name: str, verb_type: type[Verb]) -> None:
    """Add `verb_type` to the application as the command `name`."""

    def command(**values: Any) -> None:
        verb = _build(verb_type, values)
        with verb.session(name) as session:
            verb.run(session)

    parameters = [*_parameters(verb_type, None), _HELP_ALL]
    command.__name__ = name.replace("-", "_")
    command.__doc__ = verb_type.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # `inspect.signature` reads it
    app.command(name, cls=_Command)(command)


def without_values(parameters: list[Any]) -> list[Any]:
    """Leave out the word for a value behind the flags that Typer itself adds."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    """Accepts several values after one of MANY_VALUES, and completes the rare options too."""

    def get_params(self, ctx: Any) -> list[Any]:
        return without_values(super().get_params(ctx))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        with _unhidden(self):
            return super().shell_complete(ctx, incomplete)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        repeated: list[str] = []
        current = ""
        for position, arg in enumerate(args):
            if arg.startswith("-"):
                current = arg if arg in MANY_VALUES else ""
            elif current and args[position - 1] != current:
                repeated.append(current)
            repeated.append(arg)
        try:
            return super().parse_args(ctx, repeated)
        except Exception as error:
            if "unexpected extra argument" in getattr(error, "message", ""):
                _name_options(error, self.params)
            raise


def _name_options(error: Any, parameters: list[Any]) -> None:
    """Say which options take the file that stands where the verb takes none."""
    known = {name for parameter in parameters for name in parameter.opts}
    if options := [f"{option} {name}" for option, name in FILES.items() if option in known]:
        error.message = f"{error.message.rstrip('.')}: give it as {' or '.join(options)}"


def _parameters(options_type: type[Any], defaults: object) -> Iterator[Parameter]:
    """The options of a dataclass and of its nested dataclasses. Defaults come from the instance `defaults`, or from the
    class if it is None.
    """
    for item, hint in _options(options_type):
        default = _default(item) if defaults is None else getattr(defaults, item.name)
        if isinstance(hint, type):
            yield from _parameters(hint, default)
            continue
        value_type, info = get_args(hint)
        if get_origin(value_type) is tuple:  # a list to Typer
            value_type = list[get_args(value_type)[0]]  # type: ignore[misc]  # at run time
            default = list(default) if isinstance(default, tuple) else default
        if isinstance(info, Option):
            kind = next(known for known in (value_type, *get_args(value_type)) if known in _METAVARS)
            info = _typer_option(info, item.name, info.panel or getattr(options_type, "PANEL", None), kind)
        yield Parameter(item.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[value_type, info])


@cache
def _typer_option(option: Option, field: str, panel: str | None, kind: Any) -> Any:
    return typer.Option(
        option_name(field),
        *filter(None, [option.short]),
        help=option.text,
        min=option.min,
        max=option.max,
        metavar="|".join(option.choices) or _METAVARS[kind],
        hidden=option.rare,
        rich_help_panel=panel,
        autocompletion=_completion(option.choices) if option.choices else None,
    )


def option_name(field: str) -> str:
    """The option of a field: `--output-dir` for `output_dir`."""
    return f"--{field.replace('_', '-')}"


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete the last of the values that commas separate, in the case that was typed."""

    def complete(incomplete: str) -> list[str]:
        before, _, last = incomplete.rpartition(",")
        given = before.casefold().split(",")
        return [
            incomplete + choice[len(last) :]
            for choice in choices
            if choice.casefold().startswith(last.casefold()) and choice.casefold() not in given
        ]

    return complete


def _show_all_options(context: typer.Context, requested: bool) -> None:
    if requested:
        with _unhidden(context.command):
            typer.echo(context.get_help())  # noqa: TID251  # before there is a Session
        raise typer.Exit


@contextlib.contextmanager
def _unhidden(command: Any) -> Iterator[None]:
    """Show the rare options of a command, which the next `--help` of this process hides again."""
    hidden = [parameter for parameter in command.params if getattr(parameter, "hidden", False)]
    for parameter in hidden:
        parameter.hidden = False
    try:
        yield
    finally:
        for parameter in hidden:
            parameter.hidden = True


_HELP_ALL: Final = Parameter(
    "help_all",
    Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--help-all",
            metavar="",
            is_eager=True,
            expose_value=False,
            callback=_show_all_options,
            help="Show all options and exit.",
        ),
    ],
)


def _build(options_type: type[Options], values: Mapping[str, Any]) -> Options:
    """Build the dataclass and its nested dataclasses from Typer's values."""
    arguments: dict[str, Any] = {}
    for item, hint in _options(options_type):
        value = _build(hint, values) if isinstance(hint, type) else values[item.name]
        arguments[item.name] = tuple(value) if isinstance(value, list) else value
    return options_type(**arguments)


def _options(options_type: type[Any]) -> list[tuple[Field[Any], Any]]:
    """The fields of a dataclass with their types: an Annotated type, or a nested dataclass."""
    hints = get_type_hints(options_type, include_extras=True)
    return [(item, hints[item.name]) for item in fields(options_type)]


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return Parameter.empty if item.default is MISSING else item.default
