from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import onnx
import pytest
from PIL import Image
from typer.main import get_command

from project import SUPPORT
from small_release import MODEL, Verified, copied, make_workspace
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Options
from sshtool.cli.app import app
from sshtool.package.build import PackageOptions, package
from sshtool.report.terminal import console
from sshtool.workspace import Workspace
from terminal import obeyed, on_a_terminal

VERBS: Final = tuple(sorted(get_command(app).commands))  # type: ignore[attr-defined]  # it is a group

# Clears the screen, begins a line of its own, turns the text around, erases the line: in one name, without a slash.
HOSTILE: Final = "a\x1b[2J\x1b]0;t\x07\nsshtool: passed\r\u202eb\u2028c\x9b1Ad\x7f:x:[red]"
NOT_TEXT: Final = os.fsdecode(b"\xff\x1b[2J")

NATIVE: Final = """
import ctypes, logging, os, subprocess, sys, threading, warnings
import sshtool.cli.app, sshtool.main, sshtool.cli.session

def app():
    libc = ctypes.CDLL(None)
    def speak():
        libc.puts(b"native"), libc.fflush(None), os.write(1, b"native"), os.write(2, b"native")
    threads = [threading.Thread(target=speak) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    subprocess.run("echo child; echo child >&2", shell=True)
    logging.getLogger("library").error("logged")
    warnings.warn("warned")
    print("ours"), print("ours too", file=sys.stderr)

sshtool.cli.app.app = app
sshtool.main.main()
"""


def test_what_libraries_print_reaches_nobody() -> None:
    result = subprocess.run([sys.executable, "-c", NATIVE], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("ours\n", "ours too\n")


# What makes each verb quick, and keeps it off the network; --model and the like are overruled by what comes behind.
QUICK: Final[dict[str, tuple[str, ...]]] = {
    "check": (HOSTILE,),
    "demo-dataset": ("--images", "1", "--dry-run"),
    "detect": (HOSTILE,),
    "predict": (HOSTILE,),
    "download": ("--offline",),
    "run": ("--offline",),
}


def options_of(verb: str) -> Iterator[str]:
    """Each option of a verb that takes a value."""
    for parameter in get_command(app).commands[verb].params:  # type: ignore[attr-defined]  # it is a group
        if parameter.param_type_name == "option" and not parameter.is_flag:
            yield parameter.opts[0]


def option_calls() -> list[list[str]]:
    """Every verb with hostile words as each of its options and as an argument."""
    calls = [[verb, *QUICK.get(verb, ()), option, HOSTILE] for verb in VERBS for option in options_of(verb)]
    calls += [[verb, *QUICK.get(verb, ()), extra] for verb in VERBS for extra in (HOSTILE, f"--{HOSTILE}", "--debug")]
    calls += [[HOSTILE], [f"--{HOSTILE}"]]
    return calls


def file_calls(workspace: Verified, folder: Path) -> list[list[str]]:
    """Verbs on files with hostile names, and with hostile texts in them."""
    place = folder / HOSTILE
    own = copied(workspace, place / "out")
    release = package(Workspace(MODEL, own.folder), PackageOptions()).folder
    unsafe = shutil.copytree(release, place / "unsafe")
    for name in (HOSTILE, NOT_TEXT):
        (unsafe / name).write_bytes(b"")
    with (unsafe / "SHA256SUMS").open("ab") as file:
        file.write(f"{'0' * 64}  {HOSTILE}\n".encode())
    manifest = shutil.copytree(release, place / "manifest") / "manifest.json"
    body = json.loads(manifest.read_bytes())
    body["model"], body["source"]["weights"], body["verification"]["reference"] = HOSTILE, HOSTILE, HOSTILE
    body["models"][0]["label"] = HOSTILE
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(body))
    sums = manifest.with_name("SHA256SUMS")
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(manifest.read_bytes()).hexdigest()))
    artifact = place / f"{HOSTILE}.onnx"
    model = onnx.load(own.onnx)
    for key in ("weights", "input_layout", HOSTILE):
        onnx.helper.set_model_props(model, {item.key: item.value for item in model.metadata_props} | {key: HOSTILE})
        onnx.save(model, place / f"{key[:7]}.onnx")
    model = onnx.load(own.onnx)
    model.graph.node[0].op_type = HOSTILE
    onnx.save(model, artifact)
    images = place / "images"
    images.mkdir()
    for name in (HOSTILE, NOT_TEXT):
        (images / f"{name}.png").write_bytes(b"no image")
        Image.new("RGB", (64, 64)).save(images / f"{name}.jpg")
    record = json.loads(own.record.read_bytes())
    record["result"]["report"]["model"] = HOSTILE
    (place / "record.json").write_text(json.dumps(record))
    out = ("-o", str(own.folder))
    pack = ("--reference", str(own.pack))
    reports = ("--html", f"{place}/r.html", "--junit", f"{place}/r.xml", "--markdown", f"{place}/r.md")
    odd = [str(place / f"{key}.onnx") for key in ("weights", "input_l", HOSTILE[:7], HOSTILE)]
    return [
        ["check", str(release)], ["check", str(unsafe)], ["check", str(manifest.parent)],
        ["verify", *out, *pack, *reports], ["verify", *out, *pack, "--images", str(images)],
        *(["verify", *out, *pack, "--artifact", path] for path in odd),
        ["detect", *out, str(images)], ["detect", *out, str(images), "--save-images", "--dry-run"],
        *(["detect", *out, "--artifact", path, str(images)] for path in odd),
        ["package", *out, "--layout", "ovms"], ["package", *out, "--verification", f"{place}/record.json"],
        *(["package", *out, "--allow-unverified", "--artifact", path] for path in odd),
        ["demo-dataset", "-o", str(place), "--images", "1"], ["info", *out],
        ["evaluate", *out, "--dataset", f"{place}/datasets/wider-demo", "--limit", "1"],
        ["evaluate", *out, "--dataset", str(images)], ["convert", "--checkpoint", str(own.folder), "-o", str(place)],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def calls(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all the calls."""
    folder = tmp_path_factory.mktemp("hostile")
    workspace = make_workspace(folder / "workspace", plain_checkpoint)
    path, on_files = folder / "calls.json", file_calls(workspace, folder)
    path.write_text(json.dumps([*option_calls(), *on_files]))
    path.with_name("files.json").write_text(json.dumps([*([verb, f"--{HOSTILE}"] for verb in VERBS), *on_files]))
    return path


def runner(calls: Path) -> list[str | Path]:
    return [sys.executable, SUPPORT / "many_calls.py", calls]


@pytest.mark.independent
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file has such a name")
def test_nothing_that_verbs_print_is_obeyed_by_a_terminal(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = subprocess.run(runner(calls), capture_output=True, text=True, check=True)
    assert not obeyed(result.stdout)
    assert not obeyed(result.stderr)
    assert "a fault in sshtool" not in result.stderr
    code, written = on_a_terminal(runner(calls.with_name("files.json")))
    assert code == 0
    assert not obeyed(written, by_rich=True)
    lines = written.splitlines()
    forged = (after for before, after in pairwise(lines) if not before.endswith("\\n"))  # a fold behind the escape
    assert not any(line.lstrip().startswith("sshtool: passed") for line in forged)


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\x7f", "\u202e", "\u2028", "\u200b", "\t"])
def test_a_raw_print_would_be_seen(character: str) -> None:
    assert obeyed(f"a{character}b", by_rich=True)
    stream = io.StringIO()
    console(file=stream).print(f"a{character}b")
    assert not obeyed(stream.getvalue())


MXNETS_OWN: Final = re.compile(r"\.cc:\d|\[\d\d:\d\d:\d\d\]|MKLDNN|Loading symbol")


@pytest.fixture(scope="module")
def with_checkpoint(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Calls of the verbs that load MXNet, on small images."""
    folder = tmp_path_factory.mktemp("mxnet")
    checkpoint, size = str(plain_checkpoint.params_path), ("--input-shape", "1,3,64,64")
    out = ("-o", str(folder), "--checkpoint", checkpoint)
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    convert(plain_checkpoint, folder, Options(("onnx",), input_shape=(1, 3, 64, 64)))
    return [
        ["detect", "--runtime", "mxnet", "--artifact", checkpoint, str(folder / "a.png")],
        ["reference", *out, *size],
        ["bench", *out, *size, "--runtime", "mxnet", "--runs", "1", "--rounds", "1", "--mode", "latency"],
        ["verify", *out],
        ["run", *out, *size, "--format", "onnx", "--precision", "FP32"],
    ]


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize(
    ("terminal", "quiet", "verbs"),
    [
        pytest.param(True, True, 2, id="two verbs, quiet on a terminal"),
        pytest.param(True, False, 5, id="on a terminal", marks=pytest.mark.long),
        pytest.param(False, False, 5, id="by pipes", marks=pytest.mark.long),
    ],
)
def test_nothing_of_mxnets_own_is_printed(
    terminal: bool, quiet: bool, verbs: int, with_checkpoint: list[list[str]], tmp_path: Path
) -> None:
    """In one process for all; the first verb loads it, and it says something for each symbol and each image."""
    path = tmp_path / "calls.json"
    path.write_text(json.dumps([[*call, *(["--quiet"] if quiet else [])] for call in with_checkpoint[:verbs]]))
    if terminal:
        code, written = on_a_terminal(runner(path))
    else:
        result = subprocess.run(runner(path), capture_output=True, text=True, check=False)
        code, written = result.returncode, result.stdout + result.stderr
    assert code == 0
    assert written.count("ends: 0") == verbs, written
    assert not MXNETS_OWN.search(written)
