"""Names that no file can have, in every option that takes a path: one line, and nothing is written."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image as pillow  # noqa: N813  # as in sshtool.images
from typer.models import ArgumentInfo
from typer.testing import CliRunner

from project import ROOT
from small_model import write_small_models
from sshconvert.checkpoint import Checkpoint
from sshconvert.models.registry import load_model
from sshtool.cli.app import VERBS, app
from verb_commands import verb_commands

pytestmark = pytest.mark.independent

NAMES: Final = {
    "a name of 300 bytes": "x" * 300,
    "a path of 5000 bytes": "/".join(["y" * 200] * 25),
    "letters of two bytes": "\u00e4" * 200,
    "a folder of 300 bytes": "x" * 300 + "/a",
    "a zero byte": "a\0b",
    "half a letter": "a\ud800",
}
TEXTS: Final = ("images", "source")  # options of text that are paths


@dataclass(frozen=True)
class PathOption:
    """An option, or the argument, of a verb that takes a path."""

    verb: str
    name: str
    is_argument: bool

    def __str__(self) -> str:
        return f"{self.verb} {self.name}"


def path_options() -> Iterator[PathOption]:
    for command in verb_commands():
        assert command.callback is not None
        verb = command.name or command.callback.__name__.replace("_", "-")
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
            kind, *info = typing.get_args(hint) or (None,)
            if _takes_path(kind) or (name in TEXTS and kind is not int):
                yield PathOption(verb, f"--{name.replace('_', '-')}", isinstance(info[0], ArgumentInfo))


def _takes_path(kind: Any) -> bool:
    return kind is Path or any(_takes_path(part) for part in typing.get_args(kind))


OPTIONS: Final = list(path_options())


@pytest.fixture(scope="module")
def workspace(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    write_small_models(folder, load_model("ssh-mxnet"))
    (folder / "checkpoint").symlink_to(plain_checkpoint.params_path.parent)
    (folder / "images").mkdir()
    pillow.new("RGB", (64, 64)).save(folder / "images" / "a.png")
    assert CliRunner().invoke(app, ["demo-dataset", "--images", "1", "-o", str(folder)]).exit_code == 0
    return folder


def others(option: PathOption) -> list[str]:
    """What else the verb needs, so that it comes to this option."""
    model, checkpoint = ["--artifact", "small.onnx"], ["--checkpoint", "checkpoint"]
    data = ["--dataset", "datasets/wider-demo"]
    small = ["--input-shape", "1,3,64,64", "--format", "onnx"]
    source = ["--source", "small.onnx"] if option.name == "--cache-dir" else []
    given: dict[str, list[str]] = {
        "download": ["--demo"] if option.name == "--output-dir" else ["--offline", *source],
        "convert": [*checkpoint, *small],
        "run": ["--offline", *small, *source],
        "package": [*model, "--allow-unverified"],
        "detect": [*model, "images/a.png", "--save-images"],
        "predict": [*model, "images/a.png"],
        "evaluate": data if option.name in ("--merge", "--predictions") else [*model, *data],
        "demo-dataset": ["--images", "1"],
    }
    words = given.get(option.verb, [])
    if option.name == "--calibration-data":
        words = [*checkpoint, *small, "--precision", "INT8"]
    if option.is_argument:
        words = [word for word in words if not word.endswith(".png")]
    if option.name in words:
        place = words.index(option.name)
        words = words[:place] + words[place + 2 :]
    return words if option.verb == "check" or option.name == "--output-dir" else [*words, "--output-dir", "out"]


def check_name(option: PathOption, name: str, workspace: Path) -> None:
    words: Sequence[str] = (name,) if option.is_argument else (option.name, name)
    if option.verb == "check" and not option.is_argument:
        words = ("checkpoint", *words)
    before = {path.name for path in workspace.iterdir()}
    result = CliRunner().invoke(app, [option.verb, *others(option), *words])
    assert isinstance(result.exception, SystemExit), (result.output, result.exception)
    assert result.exit_code in ((1, 2, 3) if option.verb == "check" else (1, 2)), result.output
    assert "fault in sshtool" not in result.output
    assert not {path.name for path in workspace.rglob(".sshtool-*")}
    assert {path.name for path in workspace.iterdir()} - before <= {"out"}


def test_every_verb_takes_paths() -> None:
    verbs = {option.verb for option in OPTIONS}
    assert verbs == set(VERBS) - {"models"}  # which takes nothing
    assert len(OPTIONS) > 45


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_name_that_no_file_can_have_is_one_line(
    option: PathOption, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    check_name(option, NAMES["a name of 300 bytes"], workspace)


@pytest.mark.long
@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("name", list(NAMES.values())[1:], ids=list(NAMES)[1:])
def test_other_names_that_no_file_can_have_are_one_line(
    name: str, option: PathOption, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    check_name(option, name, workspace)


def test_whether_something_is_there_is_asked_in_one_way() -> None:
    """Python's own ways raise an error for a name that is too long, which ones depends on its version."""
    own = (".exists()", ".is_file()", ".is_dir()")
    for path in (path for part in ("convert", "tools") for path in (ROOT / part).rglob("*.py")):
        text = path.read_text(encoding="utf-8").replace("entry.is_file()", "")  # that of `os.scandir` does not raise
        assert not any(way in text for way in own), path
