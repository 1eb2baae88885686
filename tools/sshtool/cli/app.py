"""The command line. Only this package reads options, prints, catches errors and exits.

The program imports the module of the requested verb alone, and the verb imports heavy libraries itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from sshtool.cli.verbs import Verb, add, without_values

VERBS: Final = (  # in the order of the help
    "download",
    "convert",
    "info",
    "run",
    "verify",
    "reference",
    "package",
    "check",
    "detect",
    "predict",
    "evaluate",
    "bench",
    "demo-dataset",
    "models",
)


class _Commands(Mapping[str, Any]):
    """The verbs' commands. Each is made, and its module imported, when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in VERBS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


def verb_type(name: str) -> type[Verb]:
    """The class of a verb: for `demo-dataset`, for example, `DemoDataset` of the module `demo_dataset`."""
    module = import_module(f"sshtool.cli.{name.replace('-', '_')}")
    kind: type[Verb] = vars(module)[name.title().replace("-", "")]
    return kind


@cache
def _command(name: str) -> Any:
    only = typer.Typer(add_completion=False)
    add(only, name, verb_type(name))
    return typer.main.get_command(only)


class _Program(TyperGroup):
    """Has the verbs as its commands, and reports wrong usage as every other error: in one line, or in one document."""

    _json = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands()})

    def get_params(self, ctx: Any) -> list[Any]:
        return without_values(super().get_params(ctx))

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **extra: Any) -> Any:
        self._json = "--json" in args  # the options are not parsed yet
        with self._one_line_errors():
            return super().make_context(info_name, args, *arguments, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from sshtool.cli.hints import hint

        hinted = "" if args[0] in VERBS else hint(args[0])
        if hinted:
            ctx.fail(hinted)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with self._one_line_errors():
            return super().invoke(ctx)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            describe = getattr(error, "format_message", None)  # only Typer's errors have it
            if describe is None or type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
                raise
            _report_usage(describe(), getattr(error, "ctx", None), json=self._json)


def _report_usage(message: str, context: Any, *, json: bool) -> None:
    from sshconvert.errors import UsageError
    from sshtool.cli.session import Session

    verb = context.info_name if context and context.parent else ""
    with Session(verb, json=json and bool(verb), quiet=True, debug=False, lines=True):
        raise UsageError(f"{message.rstrip('.')}; see {f'sshtool {verb}'.strip()} --help")


app = typer.Typer(
    cls=_Program,
    name="sshtool",
    help="Move MXNet networks such as ssh-mxnet to ONNX and OpenVINO, and prove that they compute the same.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    # Open Model Zoo's options have underscores.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


def _print_version(requested: bool) -> None:
    if requested:
        from sshconvert import __version__

        typer.echo(f"sshtool {__version__}")  # noqa: TID251  # before there is a Session
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
