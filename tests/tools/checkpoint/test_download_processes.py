"""Downloads as users start them: several at once, killed in the middle, over TLS, through a proxy, at a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import pytest

from command_line import sshtool
from server import FAULTS, Server
from sshconvert.checkpoint import Checkpoint, read_record
from sshconvert.errors import DownloadError
from sshconvert.models.registry import load_model
from sshconvert.models.spec import PinnedFile
from sshtool.checkpoint.archive import pack
from sshtool.checkpoint.cache import Entry
from sshtool.checkpoint.fetch import fetch
from sshtool.checkpoint.sources import DownloadSource, parse_source
from sshtool.checkpoint.web import TransferLimits

pytestmark = pytest.mark.independent

MODEL: Final = load_model("ssh-mxnet")
BODY: Final = random.Random(5).randbytes(500_009)  # noqa: S311  # it only has to be the same in each run


def pin(body: bytes) -> PinnedFile:
    return PinnedFile(name=MODEL.archive.name, size=len(body), sha256=hashlib.sha256(body).hexdigest())


ARCHIVE: Final = pin(BODY)
LIMITS: Final = TransferLimits(attempts=2, first_wait=0.01, connect=10, read=20, total=60)

# The program itself, which pins another archive: nobody has the real one.
PROGRAM: Final = """
import json, sys
from sshconvert.models.spec import PinnedFile
from sshconvert.models import registry
pinned, original = PinnedFile(**json.loads(sys.argv.pop(1))), registry.load_model
model = original("ssh-mxnet")
checkpoint = model.checkpoint.model_copy(update={"archive": pinned})
registry.load_model = lambda _: model.model_copy(update={"checkpoint": checkpoint})
sys.argv[0] = "sshtool"
import sshtool.__main__
"""

# One of several that download the same: gets a cache folder on each line of its input, and answers with a line.
WORKER: Final = """
import json, sys
from pathlib import Path
from sshconvert.models.spec import PinnedFile
from sshtool.checkpoint.fetch import fetch
from sshtool.checkpoint.sources import DownloadSource
archive = PinnedFile(**json.loads(sys.argv[1]))
for line in sys.stdin:
    url, cache = json.loads(line)
    said = []
    try:
        fetched = fetch(archive, [DownloadSource(url, url=url)], Path(cache), say=said.append)
        answer = {"path": str(fetched.path), "cached": fetched.cached, "said": said}
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no mirror, no config file, no cache but the test's."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("SSHTOOL_SOURCES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(BODY) as running:
        yield running


def command(archive: PinnedFile, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, archive.model_dump_json(), *map(str, arguments)]


def start(*arguments: str | Path, archive: PinnedFile = ARCHIVE) -> subprocess.Popen[str]:
    return subprocess.Popen(command(archive, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: str | Path, archive: PinnedFile = ARCHIVE, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command(archive, *arguments), capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def wait_for(condition: Any, what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


class Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, ARCHIVE.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def begin(self, url: str, cache: Path) -> None:
        stdin = self._process.stdin
        assert stdin
        stdin.write(json.dumps([url, str(cache)]) + "\n")
        stdin.flush()

    def end(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def kill(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes
            pass


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Worker()) for _ in range(8)]


def all_at_once(workers: list[Worker], server: Server, cache: Path) -> None:
    """One round: all succeed, one of them downloads, and nothing is left but the archive."""
    before = len(server.requests)
    for worker in workers:
        worker.begin(f"{server.url}/pause%20mid-body/ssh.zip", cache)
    answers = [worker.end() for worker in workers]
    assert not [answer["error"] for answer in answers if "error" in answer]
    assert len(server.requests) - before == 1
    assert sorted(answer["cached"] for answer in answers) == [False] + [True] * (len(workers) - 1)
    waited = [answer for answer in answers if answer["cached"]]
    assert all("waiting for another sshtool" in answer["said"][0] for answer in waited if answer["said"])
    entry = Entry(cache, ARCHIVE)
    assert {answer["path"] for answer in answers} == {str(entry.path)}
    assert entry.path.read_bytes() == BODY
    assert {path.name for path in entry.folder.iterdir()} == {ARCHIVE.name, ".lock", ".source.json"}


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_of_several_at_once_one_downloads_and_all_succeed(
    workers: list[Worker], server: Server, count: int, rounds: int, tmp_path: Path
) -> None:
    for number in range(rounds):
        all_at_once(workers[:count], server, tmp_path / str(number))
    assert server.whole_downloads == rounds


def test_who_waits_goes_on_where_a_killed_process_ended(server: Server, tmp_path: Path) -> None:
    url, entry = f"{server.url}/stall%20mid-body%20once/ssh.zip", Entry(tmp_path, ARCHIVE)
    with Worker() as first, Worker() as second:
        first.begin(url, tmp_path)
        wait_for(entry.part_size, "the first bytes")
        second.begin(url, tmp_path)
        time.sleep(0.5)  # while the first one holds the lock, the second one asks nobody
        there = entry.part_size()  # by now the server has stalled
        assert len(server.requests) == 1
        first.kill()
        answer = second.end()
    assert answer["said"][0].startswith("waiting for another sshtool")
    assert not answer["cached"]
    assert [request.offset for request in server.requests] == [None, there]
    assert entry.path.read_bytes() == BODY


def test_who_holds_the_lock_too_long_is_named(tmp_path: Path) -> None:
    entry = Entry(tmp_path, ARCHIVE)
    with (
        entry.locked(lambda _: None, 1),
        pytest.raises(
            DownloadError, match=r"\.lock: another sshtool has held it for 0 s; end that one, or use another"
        ),
        Entry(tmp_path, ARCHIVE).locked(lambda _: None, 0.1),
    ):
        pass


def test_a_download_that_is_interrupted_goes_on_in_the_next_run(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/stall%20mid-body%20once/ssh.zip"
    process = start("download", "--source", url, "--cache-dir", tmp_path / "mine", "-o", tmp_path / "out")
    entry = Entry(tmp_path / "mine", ARCHIVE)
    wait_for(entry.part_size, "the first bytes")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr.endswith("sshtool download: interrupted; nothing was left half done\n")
    assert not (tmp_path / "out").exists()
    # The archive is no checkpoint, which is found out only when it is complete.
    result = run("download", "--source", url, "--cache-dir", tmp_path / "mine", "-o", tmp_path / "out", code=1)
    assert "archive" in result.stderr
    assert server.requests[1].offset


@pytest.fixture(scope="module")
def demo_zip(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "demo.zip"
    pack(demo_checkpoint.params_path.parent, MODEL, path)
    return path.read_bytes()


def test_two_programs_at_once_both_make_the_checkpoint(demo_zip: bytes, tmp_path: Path) -> None:
    """And a third one, later and offline, makes it from the cache."""
    with Server(demo_zip) as server:
        url = f"http://anna:hidden@127.0.0.1:{server.port}/pause%20mid-body/ssh.zip?key=hidden"
        options = ("--source", url, "-o", tmp_path, "--json", "--progress-format", "json")
        running = [start("download", *options, archive=pin(demo_zip)) for _ in range(2)]
        ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
        assert [code for _, _, code in ended] == [0, 0], ended
        assert server.whole_downloads == len(server.requests) == 1
    shown = f"http://127.0.0.1:{server.port}/pause%20mid-body/ssh.zip?…"
    results = [json.loads(stdout)["result"] for stdout, _, _ in ended]
    assert sorted((item["cached"], item["source"]) for item in results) == [(False, shown), (True, shown)]
    assert all(item["weights"] == f"sha256:{pin(demo_zip).sha256}" for item in results)
    assert "hidden" not in str(ended)
    folder = tmp_path / "checkpoints" / MODEL.name
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.json",
        MODEL.checkpoint.params,
        MODEL.checkpoint.symbol,
    }
    record = read_record(folder)
    assert record
    assert (record.source, record.verified) == (shown, True)
    reports = [[json.loads(line) for line in stderr.splitlines()] for _, stderr, _ in ended]
    downloading, waiting = sorted(reports, key=len, reverse=True)
    assert [event["$type"] for event in waiting] == [
        "model_download_begin", "model_postprocessing_begin", "model_postprocessing_end", "model_download_end",
    ]  # fmt: skip
    file = {"model": MODEL.name, "model_file": MODEL.archive.name}
    assert downloading[0] == {"$type": "model_download_begin", "model": MODEL.name, "num_files": 1}
    assert downloading[1] == {"$type": "model_file_download_begin", **file, "size": len(demo_zip)}
    *progress, last = downloading[2:-3]
    assert {event["$type"] for event in progress} == {"model_file_download_progress"}
    assert progress[-1] == {"$type": "model_file_download_progress", **file, "size": len(demo_zip)}
    assert last == {"$type": "model_file_download_end", **file, "successful": True}
    assert downloading[-1] == {"$type": "model_download_end", "model": MODEL.name, "successful": True}

    result = run("download", "--offline", "-o", tmp_path / "again", archive=pin(demo_zip))
    line = result.stdout.splitlines()[1]
    assert line.startswith(f"from {shown} ")
    assert "cache" in line


def test_events_take_the_place_of_the_result_on_stdout(server: Server, tmp_path: Path) -> None:
    options = ("--source", f"{server.url}/404/", "--offline", "--progress-format", "json", "-o", tmp_path)
    result = run("download", *options, code=1)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events == [
        {"$type": "model_download_begin", "model": MODEL.name, "num_files": 1},
        {"$type": "model_download_end", "model": MODEL.name, "successful": False},
    ]
    assert result.stderr.count("\n") == 1
    assert run("download", *options, "--quiet", code=1).stdout == ""


def test_progress_is_lines_where_there_is_no_terminal(server: Server, tmp_path: Path) -> None:
    result = run("download", "--source", f"{server.url}/500%20once/", "-o", tmp_path, code=1)
    lines = result.stderr.splitlines()
    assert re.fullmatch(r"downloading ssh-model-final\.zip from http://\S+", lines[0])
    assert re.fullmatch(r"http://\S+: HTTP 500 Internal Server Error; trying again in 1 s", lines[1])
    assert lines[2] == "unpacking and reading it"
    assert "\x1b" not in result.stderr


def test_progress_is_a_bar_at_a_terminal(server: Server, tmp_path: Path) -> None:
    terminal, inside = pytest.importorskip("pty").openpty()
    arguments = command(ARCHIVE, "download", "--source", f"{server.url}/pause%20mid-body/", "-o", tmp_path)
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=inside, env=environment)
    os.close(inside)
    shown = _all_of(terminal)
    assert process.wait(timeout=30) == 1
    assert "ssh-model-final.zip" in shown
    assert re.search(r"\d+/500\.0 kB", shown), shown
    assert "Traceback" not in shown
    assert shown.count("\x1b[?25h") >= shown.count("\x1b[?25l") > 0  # the cursor is there again


def _all_of(terminal: int) -> str:
    parts: list[bytes] = []
    with suppress(OSError), open(terminal, "rb", buffering=0) as stream:  # it has no path
        while part := stream.read(65536):
            parts.append(part)
    return b"".join(parts).decode()


def test_upstreams_dead_link_is_tried_last_and_explained(server: Server, tmp_path: Path) -> None:
    """Through a proxy, which refuses: nothing but this machine is contacted. The mirror is asked without it."""
    environment = os.environ | {"HTTPS_PROXY": server.url, "HTTP_PROXY": server.url}
    result = subprocess.run(
        [sys.executable, "-m", "sshtool", "download", "-q", "--source", f"{server.url}/410/", "-o", str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    asked = [(request.method, request.path) for request in server.requests]
    assert asked[0] == ("GET", f"/410/{MODEL.archive.name}")
    assert set(asked[1:]) == {("CONNECT", "www.dropbox.com:443")}
    order = (
        f"sshtool download: {MODEL.archive.name}: no source gives it: {server.url}/410/{MODEL.archive.name}: "
        f"HTTP 410 Gone; {MODEL.checkpoint.sources[0].url}: upstream's link, dead since May 2021: cannot be "
        "reached through the proxy (403 Forbidden)"
    )
    assert result.stderr.startswith(order)
    assert "--demo" in result.stderr


@pytest.mark.parametrize("proxy", ["socks4://anna:hidden@127.0.0.1:9", "gopher://anna:hidden@127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(DownloadError, match="the proxy that the environment names") as caught:
        fetch(ARCHIVE, [DownloadSource("https://mirror.test", url="https://mirror.test")], tmp_path, limits=LIMITS)
    assert "hidden" not in str(caught.value)


def test_the_environment_and_the_config_file_name_mirrors(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config" / "sshtool" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'sources = ["{server.url}/three/"]\ncache_dir = "near"\n')
    monkeypatch.setenv("SSHTOOL_SOURCES", f"{server.url}/410/")
    result = run("download", "--source", f"{server.url}/404/", "-o", tmp_path / "out", code=1)
    assert "archive" in result.stderr
    assert [request.path.split("/")[1] for request in server.requests] == ["404", "410", "three"]
    assert (config.parent / "near" / ARCHIVE.digest / ARCHIVE.name).exists()
    config.write_text("mirrors = 1")
    assert "config.toml: mirrors: Extra inputs" in run("download", "-o", tmp_path / "out", code=1).stderr


USAGE: Final = {
    "demo and source": (("--demo", "--source", "x"), "--demo and --source"),
    "unverified": (("--allow-unverified",), "--allow-unverified is for --from-archive"),
    "format": (("--progress-format", "xml"), "--progress-format: xml"),
    "http": (("--source", "http://mirror.test/"), "only for this machine"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_wrong_usage_ends_in_2(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = sshtool("download", *arguments, "-o", tmp_path / "out", "--quiet", code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_run_downloads_what_is_missing_and_uses_what_is_there(server: Server, tmp_path: Path) -> None:
    assert "no source gives it" in run("run", "--offline", "-o", tmp_path, code=1).stderr
    folder = tmp_path / "checkpoints" / MODEL.name
    folder.mkdir(parents=True)
    for name in (MODEL.checkpoint.symbol, MODEL.checkpoint.params):
        (folder / name).write_text("no checkpoint")
    assert "not valid JSON" in run("run", "--offline", "-o", tmp_path, code=1).stderr
    assert "HTTP 404" in _with_proxy(server, "run", "--source", f"{server.url}/404/", "-o", tmp_path)


def _with_proxy(server: Server, *arguments: str | Path) -> str:
    """Whatever is asked for elsewhere ends here. Returns what a run that fails says."""
    result = subprocess.run(
        [sys.executable, "-m", "sshtool", *map(str, arguments)],
        env=os.environ | {"HTTPS_PROXY": server.url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    return result.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl, which makes the certificate, is missing")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=sshtool test", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", folder / "key.pem", "-out", folder / "certificate.pem",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    path = folder / "both.pem"
    path.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return path


@pytest.fixture
def tls_server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves https; its certificate is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("certificate.pem")))
    with Server(BODY, context) as running:
        yield running


def from_server(server: Server, fault: str) -> DownloadSource:
    return parse_source(f"{server.url}/{fault.replace(' ', '%20')}/ssh.zip", ARCHIVE.name, place="--source")


@pytest.mark.parametrize("fault", ["honest", "reset mid-body once", "short body once", "307", "5 redirects"])
def test_https_works_and_resumes(tls_server: Server, fault: str, tmp_path: Path) -> None:
    assert fetch(ARCHIVE, [from_server(tls_server, fault)], tmp_path, limits=LIMITS).path.read_bytes() == BODY


TLS_FAULTS: Final = {
    "stall in headers": (replace(LIMITS, read=0.3), "stopped sending, 2 times"),
    "stall mid-body": (replace(LIMITS, read=0.3), "stopped sending, 2 times"),
    "trickle headers": (replace(LIMITS, total=0.7), "took too long in all"),
    "trickle body": (replace(LIMITS, total=0.7), "took too long in all"),
    "redirect to http elsewhere": (LIMITS, "only https may be followed"),
}


@pytest.mark.parametrize(("fault", "limits", "cause"), [(name, *rest) for name, rest in TLS_FAULTS.items()])
def test_faults_are_found_under_tls_too(
    tls_server: Server, fault: str, limits: TransferLimits, cause: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    with pytest.raises(DownloadError, match=cause):
        fetch(ARCHIVE, [from_server(tls_server, fault)], tmp_path, limits=limits)
    assert time.monotonic() - began < 10


def test_https_may_not_lead_to_http_not_even_to_this_machine(
    tls_server: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "down", lambda exchange: exchange.redirect(f"{server.url}/honest/ssh.zip"))
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*/honest/ssh.zip"):
        fetch(ARCHIVE, [from_server(tls_server, "down")], tmp_path, limits=LIMITS)
    assert server.requests == []


def test_http_on_this_machine_may_lead_to_https(
    tls_server: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "up", lambda exchange: exchange.redirect(f"{tls_server.url}/honest/ssh.zip"))
    assert fetch(ARCHIVE, [from_server(server, "up")], tmp_path, limits=LIMITS).path.read_bytes() == BODY


def test_a_certificate_that_nobody_vouches_for_is_final(
    tls_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DownloadError, match=r"its certificate is not trusted \(.+\); give a mirror"):
        fetch(ARCHIVE, [from_server(tls_server, "honest")], tmp_path, limits=LIMITS)


def test_https_where_there_is_none_is_an_error(server: Server, tmp_path: Path) -> None:
    source = parse_source(server.url.replace("http:", "https:") + "/x", ARCHIVE.name, place="--source")
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*(SSL|EOF).*\), 2 times"):
        fetch(ARCHIVE, [source], tmp_path, limits=LIMITS)


def test_certificates_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(DownloadError, match=r"SSL_CERT_FILE.*SSL_CERT_DIR"):
        fetch(ARCHIVE, [DownloadSource("https://mirror.test", url="https://mirror.test")], tmp_path, limits=LIMITS)
