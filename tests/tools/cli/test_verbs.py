"""A verb is a dataclass: what Typer makes of its fields, and what `run` gets."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sshtool.cli.options import Option, Output
from sshtool.cli.session import Session
from sshtool.cli.verbs import Verb, add


@dataclass(frozen=True)
class Sizes:
    """Options that several verbs share."""

    largest_side: Annotated[int, Option("The largest side.", min=1, max=9)] = 3
    format: Annotated[tuple[str, ...], Option("Formats.")] = ("png",)


def jpeg_sizes() -> Sizes:
    return Sizes(format=("jpg",))


@dataclass(frozen=True)
class Shrink(Verb):
    """Make images smaller."""

    images: Annotated[tuple[Path, ...], typer.Argument(metavar="IMAGE")]
    target: Annotated[Path | None, Option("Where they go.", short="-t")] = None
    sizes: Sizes = field(default_factory=jpeg_sizes)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        assert not session.json
        raise ZeroDivisionError(repr((self.images, self.target, self.sizes)))


def shrinking(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    add(app, "shrink", Shrink)
    add(app, "other", Shrink)
    result = CliRunner().invoke(app, ["shrink", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_options_of_nested_dataclasses_come_as_they_are_written() -> None:
    images, target = (Path("a"), Path("b")), Path("c")
    for arguments, expected in (
        (("a", "b"), (images, None, jpeg_sizes())),
        (("a", "b", "-t", "c", "--largest-side", "5"), (images, target, Sizes(5, ("jpg",)))),
        (("a", "b", "--target", "c", "--format", "x", "--format", "y"), (images, target, Sizes(3, ("x", "y")))),
    ):
        code, text = shrinking(*arguments)
        assert code == 1
        assert repr(expected) in text


def test_help_bounds_and_defaults_are_those_of_the_fields() -> None:
    code, text = shrinking("--help")
    assert code == 0
    for words in ("Make images smaller.", "IMAGE", "--target", "-t", "Where they go.", "[default: jpg]", "--quiet"):
        assert words in text
    assert "--no-quiet" not in text
    assert shrinking("a", "--largest-side", "10")[0] == 2
    assert shrinking()[0] == 2


def test_two_options_of_one_name_are_a_fault_of_the_verb() -> None:
    @dataclass(frozen=True)
    class Twice(Shrink):
        """With a second --format."""

        format: Annotated[str, Option("Another.")] = ""

    with pytest.raises(ValueError, match="format"):
        add(typer.Typer(), "twice", Twice)


def test_the_parameters_are_visible_to_inspection() -> None:
    app = typer.Typer()
    add(app, "shrink", Shrink)
    (command,) = app.registered_commands
    assert command.callback is not None
    assert list(inspect.signature(command.callback).parameters) == [
        *("images", "target", "largest_side", "format", "quiet", "json", "debug", "help_all")
    ]
