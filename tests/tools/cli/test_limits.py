"""Every number that the command line takes has two ends, and whatever is asked for is answered at once, or done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshconvert.validation import check_ir, read_onnx
from sshtool import limits, selection
from sshtool.cli.app import app
from sshtool.runtimes.loading import load
from sshtool.selection import select_images
from verb_commands import verb_commands

MODEL: Final = load_model("ssh-mxnet")
ARABIC_ONE: Final = "\N{ARABIC-INDIC DIGIT ONE}"
NUMBERS: Final = ("0", "-1", "1000000", "1000000000000", "100000000000000000000", "nan", "inf", ARABIC_ONE)
# For an option that an earlier verb has too: it is read alike, but what is asked for may be another thing.
AGAIN: Final = ("0", "1000000")
# Numbers that are text, because they have several parts.
TEXTS: Final[dict[str, str]] = {
    "--input-shape": "{0},3,{0},{0}",
    "--shard": "{0}/{0}",
    "--atol": "{0}",
    "--rtol": "rpn_bbox_pred_stride8:{0}",
}
# What a verb needs beside the option, so that it ends where the option would begin to matter.
BESIDE: Final[dict[str, tuple[str, ...]]] = {
    "detect": ("nowhere.jpg",),
    "predict": ("nowhere.jpg",),
    "run": ("--offline",),
    "download": ("--offline",),
    "demo-dataset": ("--dry-run",),
    "check": ("nowhere",),
}
MOST_SECONDS: Final = 10
MOST_LINES: Final = 8  # of an error, with the frame that Typer draws around it


def options() -> Iterator[tuple[str, str, type, OptionInfo]]:
    """Every option: verb, name, type, and what Typer was told."""
    for command in verb_commands():
        callback: Any = command.callback
        for name, hint in get_type_hints(callback, include_extras=True).items():
            if get_origin(hint) is Annotated:
                kind, info = get_args(hint)
                if isinstance(info, OptionInfo):
                    yield callback.__name__.replace("_", "-"), f"--{name.replace('_', '-')}", kind, info


def is_number(kind: Any) -> bool:
    return bool({int, float} & {kind, *get_args(kind)})


def test_every_number_has_both_ends() -> None:
    numbers = [(verb, name, info.min, info.max) for verb, name, kind, info in options() if is_number(kind)]
    assert len(numbers) > 20
    assert not [item for item in numbers if item[2] is None or item[3] is None]


@pytest.mark.parametrize("verb", sorted({verb for verb, *_ in options()}))
def test_any_number_is_answered_at_once_or_done(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = {id(info) for other, _, _, info in options() if other < verb}
    for _, name, kind, info in (item for item in options() if item[0] == verb):
        if not (is_number(kind) or name in TEXTS):
            continue
        for number in AGAIN if id(info) in earlier else NUMBERS:
            given = TEXTS.get(name, "{0}").format(number)
            out = () if verb == "check" else ("-o", str(tmp_path / "out"))
            start = time.monotonic()
            result = CliRunner().invoke(app, [verb, *BESIDE.get(verb, ()), *out, f"{name}={given}"])
            what = (verb, name, given, result.output)
            assert result.exit_code in (0, 1, 2), what
            assert isinstance(result.exception, SystemExit | None), what
            assert "fault in sshtool" not in result.output, what
            assert len(result.output.splitlines()) <= MOST_LINES or not result.exit_code, what
            assert time.monotonic() - start < MOST_SECONDS, what
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [
    ("verify", "--threads", "99999999999999999999"),
    ("detect", "nowhere.jpg", "--threads", str(limits.MOST_THREADS + 1)),
    ("evaluate", "--threads", str(limits.MOST_THREADS)),  # more than this machine has any use for
    ("bench", "--requests", "1000000"),
    ("verify", "--scenes", "1000000000000"),
    ("convert", "--batch", "1000000000"),
    ("convert", "--batch", "1024"),  # of 640x640
    ("convert", "--input-shape", "1,3,16384,16384"),
    ("convert", "--input-shape", f"{ARABIC_ONE},3,64,64"),
    ("convert", "--postprocess", "--score-threshold", "nan"),
    ("detect", "nowhere.jpg", "--threshold", "nan"),
    ("convert", "--max-drop", "inf"),
    ("verify", "--atol", "nan"),
    ("verify", "--rtol", "-1"),
    ("reference", "--input-shape", "1,3,2048,2048"),  # MXNet would take it, a pack not
    ("evaluate", "--shard", f"{ARABIC_ONE}/{ARABIC_ONE}"),
    ("verify", *["--artifact", "a.onnx"] * (limits.MOST_NAMED + 1)),
])  # fmt: skip
def test_what_is_beyond_the_limits_is_a_usage_error(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert CliRunner().invoke(app, arguments).exit_code == UsageError.exit_code


def test_what_is_within_the_limits_can_be_loaded_again(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Conversion takes the same time at any size; it is what a file claims that screening looks at."""
    side = int(limits.MOST_PIXELS**0.5)
    limits.check_shape("--input-shape", (1, 3, side, side))
    with pytest.raises(UsageError):
        limits.check_shape("--input-shape", (1, 3, side, side + 1))
    for artifact in convert(plain_checkpoint, tmp_path, Options(input_shape=(1, 3, side, side))):
        (read_onnx if artifact.path.suffix == ".onnx" else check_ir)(artifact.path)
        assert all(path.is_file() for path in artifact_files(artifact.path))
    assert load(tmp_path / MODEL.name / "FP32" / f"{MODEL.name}.onnx", MODEL).declaration.input_shape[2:] == (
        side,
        side,
    )


def test_more_images_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()
    for given in (str(tmp_path), f"{tmp_path}/*.jpg"):
        with pytest.raises(UsageError, match="more than 3"):
            select_images([given])
    assert len(select_images([tmp_path / "1.jpg", tmp_path / "2.jpg"])) == 2
