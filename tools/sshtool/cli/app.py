"""The command line. Only this package reads options, prints, catches errors and exits.

Each verb imports heavy libraries itself: `sshtool --help` answers at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from sshtool.cli.bench import Bench
from sshtool.cli.check import Check
from sshtool.cli.convert import Convert
from sshtool.cli.demo_dataset import DemoDataset
from sshtool.cli.detect import Detect
from sshtool.cli.download import Download
from sshtool.cli.evaluate import Evaluate
from sshtool.cli.info import Info
from sshtool.cli.package import Package
from sshtool.cli.reference import Reference
from sshtool.cli.run import Run
from sshtool.cli.verbs import Verb, add
from sshtool.cli.verify import Verify

VERBS: Final[dict[str, type[Verb]]] = {  # in the order of the help
    "download": Download,
    "convert": Convert,
    "info": Info,
    "run": Run,
    "verify": Verify,
    "reference": Reference,
    "package": Package,
    "check": Check,
    "detect": Detect,
    "evaluate": Evaluate,
    "bench": Bench,
    "demo-dataset": DemoDataset,
}


class _Program(TyperGroup):
    """Reports wrong usage as every other error: in one line, or in one JSON document."""

    _json = False

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **extra: Any) -> Any:
        self._json = "--json" in args  # the options are not parsed yet
        with self._one_line_errors():
            return super().make_context(info_name, args, *arguments, **extra)

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
    add_completion=False,
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


for _name, _verb in VERBS.items():
    add(app, _name, _verb)
