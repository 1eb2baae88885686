"""Ctrl-C and SIGTERM while nothing of Python's runs, or before the program does; and a stdout that takes nothing.

Signals that come between two operations on the file system are in `test_crashes.py`. All go to processes of their own
session: the tests themselves must not hear of them.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
import typer

from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Options
from sshtool.cli.session import Session
from sshtool.interruption import GRACE, SIGNALS, Interrupted

pytestmark = pytest.mark.independent

# A busy machine takes that much longer to end a process, in seconds, and that long at most to run all of one.
SLOW: Final = 4.0
PATIENCE: Final = 60.0

# Interrupts itself before the n-th import that follows on that of the command line.
INTERRUPTED_IMPORT: Final = """
import os, signal, sys
moment, count, armed = int(sys.argv.pop(1)), 0, False
def hook(event, arguments):
    global count, armed
    if event == "import":
        armed = armed or arguments[0] == "sshtool.cli.app"
        count += armed
        if count == moment:
            count += 1
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
sys.argv[0] = "sshtool"
import sshtool.__main__
"""

COMPUTES: Final = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)'

# Stages a file and then computes, in C and without Python's lock, for longer than anybody waits.
NATIVE: Final = f"""
import hashlib, pathlib, sys, typer
from sshconvert.files import staged
from sshtool import main
from sshtool.cli import app as cli, session
cli.app = typer.Typer(pretty_exceptions_enable=False)
@cli.app.command()
def verb(target: pathlib.Path):
    with session.Session("test", json=False, quiet=True, debug=False):
        with staged(target) as part:
            part.write_text("half")
            print("ready", flush=True)
            {COMPUTES}
main.main()
"""

# The exception is raised where Python swallows it: in a destructor.
SWALLOWED: Final = """
import os, pathlib, signal, sys, time
from sshconvert.files import staged
from sshtool import main
from sshtool.cli import app as cli
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
def verb():
    with staged(pathlib.Path(sys.argv[1])) as part:
        part.write_text("half")
        print("ready", flush=True)
        Last()
        time.sleep(600)
cli.app = verb
main.main()
"""


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process, which has to end."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


def count_imports(tmp_path: Path) -> int:
    report = "import atexit, sys\natexit.register(lambda: sys.stderr.write(f'{count}\\n'))\n"
    process = start("-c", report + INTERRUPTED_IMPORT, "-1", "info", "-o", tmp_path)
    return int(end_of(process)[2].splitlines()[-1])


def check_interrupted_imports(tmp_path: Path, moments: int) -> None:
    total = count_imports(tmp_path)
    assert total > 300
    for number in range(moments):
        moment = 1 + number * (total - 2) // (moments - 1)
        code, stdout, stderr = end_of(start("-c", INTERRUPTED_IMPORT, str(moment), "info", "-o", tmp_path))
        assert code == 130, (moment, stderr)
        assert stderr.splitlines()[-1].endswith("interrupted; nothing was left half done"), (moment, stderr)
        assert "Traceback" not in stderr, (moment, stderr)
        assert stdout == ""


def test_ctrl_c_during_imports_is_one_line(tmp_path: Path) -> None:
    check_interrupted_imports(tmp_path, 5)


@pytest.mark.long
def test_ctrl_c_during_any_import_is_one_line(tmp_path: Path) -> None:
    check_interrupted_imports(tmp_path, 150)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_native_code_computes_takes_effect_soon(number: int, code: int, tmp_path: Path) -> None:
    process = start("-c", NATIVE, tmp_path / "a.txt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    started = time.monotonic()
    for _ in range(3):  # the second and the third do no harm
        process.send_signal(number)
        time.sleep(0.05)
    found, _, stderr = end_of(process)
    assert time.monotonic() - started < GRACE + SLOW
    assert found == code
    assert stderr.count("\n") == 1
    assert "nothing was left half done" in stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_that_python_swallows_ends_the_program_all_the_same(tmp_path: Path) -> None:
    code, _, stderr = end_of(start("-c", SWALLOWED, tmp_path / "a.txt"))
    assert code == 130
    assert stderr.splitlines()[-1] == "sshtool: interrupted; nothing was left half done"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_verb_says_so_in_json(tmp_path: Path) -> None:
    process = start(
        "-c",
        NATIVE.replace("json=False", "json=True").replace(COMPUTES, "import time; time.sleep(600)"),
        tmp_path / "a.txt",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    code, stdout, stderr = end_of(process)
    assert code == 143
    assert json.loads(stdout)["error"] == {
        "type": "interrupted",
        "message": "terminated; nothing was left half done",
    }
    assert stderr == "sshtool test: terminated; nothing was left half done\n"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_that_ends_a_program_lets_it_clean_up(number: signal.Signals, tmp_path: Path) -> None:
    process = start("-c", NATIVE.replace(COMPUTES, "import time; time.sleep(600)"), tmp_path / "a.txt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    code, _, stderr = end_of(process)
    assert code == 128 + number
    assert stderr == f"sshtool test: {SIGNALS[number]}; nothing was left half done\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_process_that_was_started_with_a_signal_ignored_goes_on_ignoring_it(number: int, tmp_path: Path) -> None:
    """As a shell starts what runs in its background, and as `nohup` does."""
    ignore = f"import signal\nsignal.signal({number}, signal.SIG_IGN)\n"
    process = start("-c", ignore + NATIVE.replace("1 << 30", "1 << 20"), tmp_path / "a.txt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert end_of(process)[0] == 0
    assert (tmp_path / "a.txt").read_text() == "half"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_ctrl_c_while_a_runtime_computes_takes_effect_soon(
    kind: str, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """At this size, one call takes longer than the time after which the program is ended."""
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (64, 64)).save(tmp_path / "a.png")
    path = convert(demo_checkpoint, tmp_path, Options((kind,), input_shape=(1, 3, 1280, 1280)))[0].path
    process = start(
        "-m",
        "sshtool",
        "detect",
        tmp_path / "a.png",
        "--artifact",
        path,
        "--threads",
        "1",
        "--save-images",
        "-o",
        tmp_path / "out",
    )
    assert process.stderr is not None
    while "1 of 1" not in process.stderr.readline():
        pass
    time.sleep(1)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = end_of(process)
    assert time.monotonic() - started < GRACE + SLOW
    assert (code, stdout) == (130, "")
    assert stderr == "sshtool: interrupted; nothing was left half done\n"
    assert not list((tmp_path / "out").rglob("*.png"))


COMMANDS: Final = [
    ("info",),
    ("info", "--json"),
    ("download", "--demo", "--dry-run"),
    ("download", "--demo", "--dry-run", "--progress-format", "json"),
    ("--help",),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_stdout_is_one_line(arguments: tuple[str, ...], demo_checkpoint: Checkpoint) -> None:
    with Path("/dev/full").open("w") as full:
        check_stdout(full.fileno(), arguments, demo_checkpoint, "No space left on device")


@pytest.mark.parametrize("arguments", COMMANDS[:-1], ids=" ".join)
def test_a_closed_stdout_is_one_line(arguments: tuple[str, ...], demo_checkpoint: Checkpoint) -> None:
    check_stdout(None, arguments, demo_checkpoint, "it is closed")


def check_stdout(stdout: int | None, arguments: tuple[str, ...], checkpoint: Checkpoint, cause: str) -> None:
    source = ("--checkpoint", str(checkpoint.params_path.parent)) if arguments[0] == "info" else ()
    command = [sys.executable, "-m", "sshtool", *arguments, *source]
    shell = ["sh", "-c", '"$@" >&-', "sh"] if stdout is None else []
    result = subprocess.run([*shell, *command], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert f"standard output: cannot be written ({cause}); send it elsewhere" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_stderr_that_takes_nothing_does_not_stop_a_verb(
    redirection: str, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Its progress is lost, its result and its exit code are not."""
    folder = str(demo_checkpoint.params_path.parent)
    options = ("--format", "onnx", "--input-shape", "1,3,64,64", "-o", str(tmp_path))
    for code, source in ((0, folder), (1, str(tmp_path / "nowhere"))):
        command = [sys.executable, "-m", "sshtool", "convert", "--checkpoint", source, *options]
        shell = ["sh", "-c", f'"$@" {redirection}', "sh"]
        result = subprocess.run([*shell, *command], stdout=subprocess.PIPE, text=True, check=False)
        assert result.returncode == code
        assert ("weights demo" in result.stdout) == (code == 0)


def test_what_is_closed_at_the_start_is_no_file_of_ours(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without a stdout, the first file that is opened would be number 1, and what native code prints would be in it."""
    folder = demo_checkpoint.params_path.parent
    options = ("--checkpoint", str(folder), "--input-shape", "1,3,64,64", "--format", "onnx", "-o", str(tmp_path))
    script = (
        "import os, sys\n"
        "from sshtool import main\n"
        "from sshtool.cli import app as cli\n"
        "app = cli.app\n"
        "def loud():\n    os.write(1, b'noise')\n    os.write(2, b'noise')\n    app()\n"
        "cli.app = loud\n"
        "sys.argv[0] = 'sshtool'\n"
        "main.main()\n"
    )
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, "convert", *options]
    assert subprocess.run(command, check=False).returncode == 1
    assert [path.name for path in (tmp_path / "ssh-mxnet" / "FP32").iterdir()] == ["ssh-mxnet.onnx"]


def test_a_line_that_a_signal_cuts_short_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(io.StringIO):
        """Interrupted once, when all is written and nothing is done yet."""

        done = False

        def flush(self) -> None:
            if not self.done:
                self.done = True
                raise Interrupted(signal.SIGINT)

    stream = Cut()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(typer.Exit) as end, Session("bench", json=False, quiet=False, debug=False) as session:
        session.progress("measuring")
    assert end.value.exit_code == 130
    assert stream.getvalue() == "measuring\nsshtool bench: interrupted; nothing was left half done\n"
