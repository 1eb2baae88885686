"""The help of each verb fits one screen, its choices are what the program takes, and a file alone gets a hint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import typer
from typer.testing import CliRunner

from sshconvert.errors import UsageError
from sshconvert.formats.registry import FORMATS
from sshconvert.options import Color, Dynamic, InputType, Layout, Precision
from sshconvert.tasks.inside import OutputForm
from sshtool.bench.measuring import MODES
from sshtool.cli.app import VERBS, app, verb_type
from sshtool.cli.hints import hint
from sshtool.cli.options import Option
from sshtool.cli.verbs import Verb, _options
from sshtool.evaluate.score import PROTOCOLS
from sshtool.images import Resize
from sshtool.package.layouts import LAYOUTS
from sshtool.results.base import RESULTS
from sshtool.runtimes.base import INFERENCE_PRECISIONS
from sshtool.runtimes.registry import RUNTIMES

pytestmark = pytest.mark.independent

LINES: Final = 50
COLUMNS: Final = 80


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": str(COLUMNS)})
    assert result.exit_code == 0
    return result.output


def options_of(kind: type[Any]) -> dict[str, Option]:
    """The options of a dataclass and of its nested dataclasses, by the field."""
    options: dict[str, Option] = {}
    for item, declared in _options(kind):
        if isinstance(declared, type):
            options |= options_of(declared)
        elif isinstance(get_args(declared)[1], Option):
            options[item.name] = get_args(declared)[1]
    return options


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_fits_one_screen_and_help_all_shows_every_option(verb: str) -> None:
    short, whole = help_of(verb, "--help"), help_of(verb, "--help-all")
    assert len(short.splitlines()) <= LINES
    assert max(map(len, whole.splitlines())) <= COLUMNS
    for field, option in options_of(verb_type(verb)).items():
        name = f" --{field.replace('_', '-')} "
        assert name in whole
        assert (name in short) is not option.rare
    assert help_of(verb, "--help") == short  # `--help-all` leaves nothing behind
    assert "<bool>" not in whole + help_of("--help")


def test_options_stand_in_the_panel_of_their_group() -> None:
    text = help_of("run", "--help-all")
    panels = ["Model", "Network without a description", "Checkpoint", "Artifacts", "With --postprocess", "Output"]
    places = [text.index(f"─ {panel} ─") for panel in panels]
    assert places[3] < text.index("--precision") < places[4] < text.index("--top-k")


KNOWN: Final[dict[str, list[str]]] = {
    "precision": list(Precision),
    "format": list(FORMATS),
    "dynamic": list(Dynamic),
    "input_layout": list(Layout),
    "input_dtype": list(InputType),
    "input_color": list(Color),
    "color": list(Color),
    "output_form": list(OutputForm),
    "runtime": list(RUNTIMES),
    "inference_precision": list(INFERENCE_PRECISIONS),
    "mode": [*MODES, "both"],
    "protocol": [*PROTOCOLS, "both"],
    "resize": list(Resize),
    "layout": list(LAYOUTS),
    "archive": ["zip", "tar.gz"],
    "against": ["exact", "mxnet", "both"],
    "profile": ["FP32", "FP16", "BF16", "INT8"],
    "save_results": list(RESULTS),
    "progress_format": ["text", "json"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_choices_of_the_help_are_those_that_the_program_takes(verb: str) -> None:
    shown = {name: sorted(option.choices) for name, option in options_of(verb_type(verb)).items() if option.choices}
    assert shown == {name: sorted(map(str, KNOWN[name])) for name in shown}


def test_short_names_are_unambiguous_and_mean_the_same_in_every_verb() -> None:
    meanings: dict[str, set[str]] = {}
    for verb in VERBS:
        kind: type[Verb] = verb_type(verb)
        options = options_of(kind)
        shorts = [option.short for option in options.values() if option.short]
        assert len(shorts) == len(set(shorts))
        for name, option in options.items():
            meanings.setdefault(option.short, set()).add(name)
    del meanings[""]
    assert all(len(names) == 1 for names in meanings.values()), meanings
    assert meanings["-p"] == {"precision"}


HINTS: Final = {
    "photo.jpg": "sshtool detect photo.jpg",
    "my photo.PNG": "sshtool detect 'my photo.PNG'",
    "det1-0001.params": "sshtool convert --params det1-0001.params",
    "det1-symbol.json": "sshtool info det1-symbol.json",
    "clip.mp4": "sshtool detect clip.mp4",
    "model.ncnn.param": "sshtool info model.ncnn.param",
    "model.onnx": "sshtool info model.onnx",
    "a/model.xml": "sshtool verify --artifact a/model.xml",
    "release.zip": "sshtool check release.zip",
    "release.tar.gz": "sshtool check release.tar.gz",
    "pack.npz": "sshtool verify --reference pack.npz",
    "own.toml": "sshtool run --model own.toml",
}


@pytest.mark.parametrize("file", HINTS)
def test_a_file_instead_of_a_verb_is_one_line_that_names_the_verb(file: str) -> None:
    result = CliRunner().invoke(app, [file])
    assert result.exit_code == UsageError.exit_code
    assert HINTS[file] in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def test_a_folder_instead_of_a_verb_is_one_line_by_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"manifest.json": "check", "det1-0001.params": "convert --checkpoint", "a.jpg": "detect"}
    for number, (file, command) in enumerate(contents.items()):
        Path(str(number)).mkdir()
        Path(str(number), file).touch()
        result = CliRunner().invoke(app, [str(number)])
        assert result.exit_code == UsageError.exit_code
        assert f"`sshtool {command} {number}`" in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_file_of_no_known_kind_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == UsageError.exit_code
    assert "is a file of no known kind" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("word", ["convrt", ".jpg", "", "nothing"])
def test_what_is_no_file_of_a_known_kind_gets_no_hint(word: str) -> None:
    result = CliRunner().invoke(app, [word])
    assert result.exit_code == UsageError.exit_code
    assert "the verb is missing" not in result.stderr


def test_the_commands_of_the_hints_are_ones_that_the_program_takes() -> None:
    program: Any = typer.main.get_command(app)
    for file in HINTS:
        for command in hint(file).split("`")[1::2]:
            _, verb, *words = shlex.split(command)
            program.commands[verb].make_context(verb, words)
