"""The completion that the program installs, in real shells: the Tab key at a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

pty = pytest.importorskip("pty", reason="Windows has no terminals of this kind")

pytestmark = pytest.mark.independent

PROGRAMS: Final = Path(sys.executable).parent
SECONDS: Final = 30.0
PROMPT: Final = "ready> "
BELL: Final = "\a"

# What is typed before the Tab key, and what stands on the line behind it.
COMPLETIONS: Final = {
    "a verb": ("sshtool conv", "sshtool convert "),
    "an option": ("sshtool convert --prec", "sshtool convert --precision "),
    "a choice behind another": ("sshtool convert -p FP32,I", "sshtool convert -p FP32,INT8 "),
}
MORE: Final = {
    "a rare option": ("sshtool run --calib", "sshtool run --calibration-data "),
    "a choice": ("sshtool package --layout hug", "sshtool package --layout huggingface "),
    "a runtime": ("sshtool detect a.jpg -r onnx", "sshtool detect a.jpg -r onnxruntime "),
    "a file": ("sshtool info a-fi", "sshtool info a-file.onnx "),
}


def environment(home: Path) -> dict[str, str]:
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return {
        "HOME": str(home),
        "PATH": path,
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": str(home / ".config"),
    }


def install(shell: str, home: Path) -> None:
    """Run `sshtool --install-completion` in the shell, which it recognises as the one that started it."""
    command = [shell, "-c", "sshtool --install-completion; true"]
    result = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=True)
    assert f"{shell} completion installed" in result.stdout, result


def line_after_tab(shell: list[str], home: Path, typed: str, expected: str) -> str:
    """What the terminal shows of the line after the Tab key: up to the expected line, or until the time is over."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(home)
        os.execvpe(shell[0], shell, environment(home))  # noqa: S606  # the shell is the program
    try:
        text = _read_until(terminal, PROMPT)
        os.write(terminal, f"{typed}\t".encode())
        if shell[0] == "zsh":  # the first Tab of a session loads Typer's function, and only rings the bell
            _read_until(terminal, BELL)
            os.write(terminal, b"\t")
            return typed + _read_until(terminal, expected.removeprefix(typed))
        text = _read_until(terminal, expected)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    return text


def _read_until(terminal: int, expected: str) -> str:
    text, end = "", time.monotonic() + SECONDS
    while expected not in text and expected not in text.replace(BELL, "") and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):
                text += os.read(terminal, 4096).decode(errors="replace")
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|.\x08", "", text)
    return text.replace(BELL, "")


def test_bash_completes(tmp_path: Path) -> None:
    install("bash", tmp_path)
    with (tmp_path / ".bashrc").open("a", encoding="utf-8") as file:
        file.write(f"\nPS1='{PROMPT}'\n")
    typed, expected = COMPLETIONS["a choice behind another"]
    assert expected in line_after_tab(["bash", "--noprofile", "-i"], tmp_path, typed, expected)


@pytest.mark.long
@pytest.mark.parametrize("case", COMPLETIONS | MORE)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes(shell: str, case: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    install(shell, tmp_path)
    (tmp_path / "a-file.onnx").touch()
    typed, expected = (COMPLETIONS | MORE)[case]
    if shell == "fish":
        command = ["fish", "-c", f"complete -C '{typed}'"]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True
        )
        words = [line.partition("\t")[0] for line in result.stdout.splitlines()]
        assert expected.split()[-1] in words
        return
    with (tmp_path / f".{shell}rc").open("a", encoding="utf-8") as file:
        file.write(f"\nPS1='{PROMPT}'\n")
    interactive = ["bash", "--noprofile", "-i"] if shell == "bash" else ["zsh", "-i"]
    assert expected in line_after_tab(interactive, tmp_path, typed, expected)


def test_the_script_is_shown_for_other_places() -> None:
    command = ["bash", "-c", "sshtool --show-completion; true"]
    result = subprocess.run(command, env=environment(Path("/")), capture_output=True, text=True, check=True)
    assert "complete -o default" in result.stdout
