"""The wheel in environments of its own: what the base installation does, what it lacks, and the installers."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from guides import BLOCKS, TOOLS
from project import ROOT

pytestmark = [pytest.mark.consumer, pytest.mark.independent]

SHAPE: Final = ("--input-shape", "1,3,64,64")
LACKS: Final = {
    ("run", "--demo"): "Pillow, Jinja, PyYAML",
    ("detect", "missing.png"): "Pillow",
    ("predict", "missing.png"): "Pillow",
    ("evaluate", "--dataset", "missing"): "Pillow",
    ("package", "--allow-unverified"): "Pillow, Jinja, PyYAML",
    ("demo-dataset",): "Pillow",
    ("convert", "--precision", "INT8"): "NNCF, ONNX Runtime",
    ("verify", "--runtime", "onnxruntime"): "ONNX Runtime",
    ("bench", "--runtime", "onnxruntime"): "ONNX Runtime",
}


def call(
    *command: str | Path, folder: Path | None = None, code: int = 0, variables: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Give what a command prints; of this environment, nothing but the interpreter is within its reach."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=kept | dict(variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, (command, result.stdout[-2000:], result.stderr[-2000:])
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, ROOT)
    return next(folder.glob("sshtool-*.whl"))


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of the lock without its hashes, which no wheel of a checkout could have."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    path = tmp_path_factory.mktemp("pins") / "pins.txt"
    path.write_text("".join(f"{line[:-2]}\n" for line in lines if line.endswith(" \\") and line[0].isalpha()))
    return path


@pytest.fixture(scope="module")
def base(wheel: Path, pins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the wheel in an environment with nothing else."""
    folder = tmp_path_factory.mktemp("base")
    call(sys.executable, "-m", "venv", folder)
    call(folder / "bin" / "pip", "install", "--quiet", "--no-compile", "--constraint", pins, wheel)
    return folder / "bin" / "sshtool"


@pytest.fixture(scope="module")
def artifacts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    call(base, "download", "--demo", "-o", folder)
    call(base, "convert", *SHAPE, "--precision", "FP32,FP16", "-o", folder)
    return folder


def test_the_base_installation_downloads_converts_informs_and_checks(base: Path, artifacts: Path) -> None:
    written = {path.suffix for path in (artifacts / "ssh-mxnet" / "FP16").iterdir()}
    assert written == {".bin", ".onnx", ".xml"}
    assert "licence of the weights" in call(base, "info", "-o", artifacts)[0]
    call(sys.executable, "-m", "sshtool", "package", "--allow-unverified", "-o", artifacts)
    (package,) = (artifacts / "releases").iterdir()
    assert "no reference pack to compare them with the original" in "".join(call(base, "check", package, code=3))


@pytest.mark.parametrize("verb", LACKS, ids=" ".join)
def test_a_verb_says_in_one_line_what_the_base_installation_lacks(
    verb: tuple[str, ...], base: Path, artifacts: Path
) -> None:
    before = sorted(artifacts.rglob("*"))
    _, err = call(base, *verb, "-o", artifacts, folder=artifacts, code=1)
    *progress, line = err.splitlines()
    assert progress == [] or verb[0] == "bench"
    assert f" {LACKS[verb]}: cannot be imported" in line
    assert f"{base.with_name('python')}" in line
    assert " -m pip install " in line
    assert sorted(artifacts.rglob("*")) == before


def test_uvx_runs_the_checkout(environment: Callable[..., Path], pins: Path, tmp_path: Path) -> None:
    """As `tools/README.md` says it."""
    uvx = environment("installers").with_name("uvx")
    options = ("--no-python-downloads", "--python", sys.executable, "--constraints", pins, "--from", ROOT)
    call(uvx, *options, "sshtool", "download", "--demo", "-o", tmp_path)
    call(uvx, *options, "sshtool", "convert", *SHAPE, "-o", tmp_path)
    assert (tmp_path / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx").exists()


@pytest.mark.long
@pytest.mark.parametrize("source", ["checkout", "wheel"])
def test_uvx_and_pipx_run_everything(
    source: str, environment: Callable[..., Path], wheel: Path, pins: Path, tmp_path: Path
) -> None:
    """The commands of the guide, with this Python and the pinned versions."""
    tools = environment("installers").parent
    package = f"{ROOT if source == 'checkout' else wheel}[run]"
    commands = [shlex.split(line) for line in BLOCKS[f"{TOOLS}#installation"].text.splitlines()]
    assert [words[0] for words in commands] == ["uvx", "pipx"]
    homes = {"PIPX_HOME": str(tmp_path / "pipx"), "PIP_CONSTRAINT": str(pins), "UV_CONSTRAINT": str(pins)}
    for name, *words in commands:
        given = [package if word == ".[run]" else word for word in words]
        place = given.index("sshtool")
        given[place:place] = ["--python", sys.executable]
        out, _ = call(tools / name, *given, "-o", tmp_path / name, variables=homes)
        assert "passed: the same detector" in out
