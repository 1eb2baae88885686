"""Nothing reaches for a network: the kernel kills whoever opens an internet socket, and the main job survives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from project import ROOT
from socket_guard import HAS_GUARD, guarded
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Options

pytestmark = pytest.mark.skipif(
    not HAS_GUARD,
    reason="the guard is a filter of the Linux kernel for x86_64 and aarch64",
)


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_the_guard_kills_whoever_opens_a_socket(family: str) -> None:
    assert guarded(f"import socket; socket.socket(socket.{family})").returncode == -signal.SIGSYS


def test_the_guard_of_connections_kills_a_process_that_connects() -> None:
    code = "import socket; one = socket.socket(); print('alive', flush=True); one.connect(('127.0.0.1', 9))"
    process = guarded(code, connections=True)
    assert (process.returncode, process.stdout) == (-signal.SIGSYS, "alive\n")


def test_the_guard_lets_everything_else_live() -> None:
    assert guarded("import socket; socket.socketpair(); print('alive')").stdout == "alive\n"


def test_converting_to_every_format_opens_no_socket(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    code = "import runpy; sys.argv[0] = 'sshtool'; runpy.run_module('sshtool', run_name='__main__')"
    arguments = ["convert", "--checkpoint", str(plain_checkpoint.params_path), "--output-dir", str(tmp_path)]
    result = guarded(code, *arguments, "--precision", "FP32,FP16", "--input-shape", "1,3,64,64")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "ssh-mxnet" / "FP16" / "ssh-mxnet.bin").exists()


# Sources on the web and in a file: what --offline leaves out, and what is taken.
FETCH = """
from pathlib import Path
from typing import Final
from sshconvert.errors import DownloadError
from sshconvert.models.spec import PinnedFile
from sshtool.checkpoint.fetch import fetch
from sshtool.checkpoint.sources import DownloadSource
import hashlib
path, cache, offline = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "offline"
archive = PinnedFile(name="ssh.zip", size=5, sha256=hashlib.sha256(b"right").hexdigest())
web = DownloadSource("http://127.0.0.1:9/", url="http://127.0.0.1:9/")
sources = [web, DownloadSource(str(path), path=path)] if path.exists() else [web]
try:
    print(fetch(archive, sources, cache, offline=offline).cached)
except DownloadError as error:
    print(error)
"""


def test_offline_takes_files_and_the_cache_and_opens_no_socket(tmp_path: Path) -> None:
    file, cache = tmp_path / "ssh.zip", tmp_path / "cache"
    nothing = guarded(FETCH, str(file), str(cache), "offline")
    assert "1 on the web not tried (--offline)" in nothing.stdout, nothing.stderr
    file.write_bytes(b"right")
    assert guarded(FETCH, str(file), str(cache), "offline").stdout == "False\n"
    file.unlink()
    assert guarded(FETCH, str(file), str(cache), "offline").stdout == "True\n"
    assert guarded(FETCH, str(file), str(tmp_path / "empty"), "online").returncode == -signal.SIGSYS


@pytest.mark.parametrize("verb", ["download", "run"])
def test_the_program_opens_no_socket_offline_and_says_what_to_do(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    code = "import runpy; sys.argv[0] = 'sshtool'; runpy.run_module('sshtool', run_name='__main__')"
    result = guarded(code, verb, "--offline", "--source", "https://mirror.test/", "--output-dir", str(tmp_path))
    assert result.returncode == 1, result.stderr
    assert "--offline" in result.stderr
    assert "--from-archive" in result.stderr


def test_openvinos_telemetry_is_never_imported() -> None:
    code = (
        "from sshconvert.libraries import import_openvino\nimport_openvino()\nprint(sys.modules['openvino_telemetry'])"
    )
    assert guarded(code).stdout == "None\n"


def talkative(home: Path) -> dict[str, str]:
    """An environment in which nothing tells libraries not to report."""
    silencing = ("CI", "NNCF_CI", "NNCF_DEV", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in silencing}
    return environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


# NNCF 3.4 expects a newer OpenVINO than the legacy environment has, and cannot be imported there.
with_nncf: Final = pytest.mark.skipif(
    os.environ.get("SSHTOOL_TEST_ENVIRONMENT") == "legacy", reason="NNCF does not work with OpenVINO 2024.6"
)


@pytest.mark.long
@with_nncf
def test_quantizing_opens_no_socket_and_stores_nothing_to_report(demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = "import runpy; sys.argv[0] = 'sshtool'; runpy.run_module('sshtool', run_name='__main__')"
    arguments = ["convert", "--checkpoint", str(demo_checkpoint.params_path), "--output-dir", str(tmp_path / "out")]
    result = guarded(code, *arguments, "--precision", "INT8", "--input-shape", "1,3,64,64", environment=talkative(home))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "ssh-mxnet" / "INT8" / "ssh-mxnet.bin").exists()
    assert list(home.rglob("*")) == []


@with_nncf
def test_nncfs_telemetry_is_a_stub_whatever_was_imported_before(tmp_path: Path) -> None:
    code = (
        "import openvino_telemetry\n"
        "from sshconvert.nncf import import_nncf; import_nncf()\n"
        "from nncf.telemetry import wrapper; print(isinstance(wrapper.telemetry, wrapper.NNCFTelemetry))"
    )
    result = guarded(code, environment=talkative(tmp_path))
    assert result.stdout == "False\n", result.stderr


@with_nncf
def test_an_nncf_that_somebody_imported_with_its_telemetry_is_refused(tmp_path: Path) -> None:
    code = (
        "import nncf.telemetry.wrapper as wrapper\n"
        "assert isinstance(wrapper.telemetry, wrapper.NNCFTelemetry)\n"
        "from sshconvert.nncf import import_nncf; import_nncf()"
    )
    result = guarded(code, environment=talkative(tmp_path))
    assert "was imported before with its telemetry on" in result.stderr


def test_a_session_of_onnx_runtime_collects_nothing_to_report(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Its reports leave seconds later, but what they are made of, a number for this machine, is stored at once."""
    convert(plain_checkpoint, tmp_path, Options(formats=("onnx",), input_shape=(1, 3, 64, 64)))
    home = tmp_path / "home"
    home.mkdir()
    code = "from pathlib import Path; from sshtool.runtimes.onnxruntime import OnnxRuntime; OnnxRuntime(Path({!r}))"
    subprocess.run(
        [sys.executable, "-c", code.format(str(tmp_path / "ssh-mxnet" / "FP32" / "ssh-mxnet.onnx"))],
        env=talkative(home),
        check=True,
    )
    assert list(home.rglob("*")) == []


def test_the_package_goes_to_the_runtimes_by_their_doors_only() -> None:
    doors = {f"convert/sshconvert/{name}.py" for name in ("libraries", "nncf")}
    sources = [path for folder in ("convert", "tools") for path in (ROOT / folder).rglob("*.py")]
    importers = {
        str(path.relative_to(ROOT))
        for path in sources
        if re.search(
            r"^\s*(import|from) (onnxruntime|openvino|nncf)\b(?!\._)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert importers == doors
