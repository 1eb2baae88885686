"""Downloads from a server that does everything wrong, from files, and from the cache."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from server import DATE, ETAG, FAULTS, Server
from sshconvert.errors import ConfigError, DownloadError, OutputError, UsageError
from sshconvert.models.registry import load_model
from sshconvert.models.spec import PinnedFile
from sshtool.checkpoint import web
from sshtool.checkpoint.cache import Entry, Origin
from sshtool.checkpoint.fetch import Fetched, fetch
from sshtool.checkpoint.sources import (
    LOOPBACK,
    DownloadSource,
    SourceFailedError,
    find_sources,
    may_ask,
    parse_source,
    shown_url,
)
from sshtool.checkpoint.web import TransferLimits
from sshtool.config import Config, read_config
from sshtool.report.terminal import console
from sshtool.report.transfer import Lines

pytestmark = pytest.mark.independent

MODEL: Final = load_model("ssh-mxnet")
BODY: Final = random.Random(4).randbytes(200_003)  # noqa: S311  # it only has to be the same in each run
ARCHIVE: Final = PinnedFile(name="ssh.zip", size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
HALF: Final = 120_000

# A healthy server is given time, also on a machine that is busy. Where silence is the fault, little of it is awaited.
PATIENT: Final = TransferLimits(attempts=3, first_wait=0.01, longest_wait=1.0, connect=10, read=10, total=60)
HASTY: Final = replace(PATIENT, attempts=2, read=0.3)
SHORT: Final = replace(PATIENT, total=1.0)
SHORTER: Final = replace(PATIENT, total=0.4)  # where no healthy server is asked afterwards
NOW: Final = replace(PATIENT, attempts=1, connect=1.0)
LIMITS: Final = {
    "stall in headers": HASTY,
    "stall in headers once": replace(HASTY, read=1.0),
    "stall mid-body": HASTY,
    "stall mid-body once": replace(HASTY, read=1.0),
    "trickle body": SHORT,
    "trickle headers": SHORT,
    "continue without end": SHORT,
}
SLOW: Final = LIMITS.keys() - {"stall mid-body"}

SUCCEEDS: Final = ""
REFUSED: Final = "and only https may be followed"
UNREADABLE: Final = "leads to a URL that cannot be read"
BROKE: Final = r"broke off \(.+\), 3 times"
PAGE: Final = r"answers with a page \(text/html\) in place of the archive"
ELSEWHERE: Final = rf"was asked for bytes {HALF}-200002/200003 and answers with "


@dataclass(frozen=True)
class Verdict:
    """What comes of a fault: nothing, or what the error says of the cause. `resumed`: when there is a part already."""

    fresh: str = SUCCEEDS
    resumed: str | None = None

    def of(self, *, resumed: bool) -> str:
        return self.fresh if self.resumed is None or not resumed else self.resumed


VERDICTS: Final[dict[str, Verdict]] = {
    "honest": Verdict(),
    "400": Verdict("HTTP 400 Bad Request"),
    "401": Verdict("HTTP 401 Unauthorized"),
    "403": Verdict("HTTP 403 Forbidden"),
    "404": Verdict("HTTP 404 Not Found"),
    "410": Verdict("HTTP 410 Gone"),
    "501": Verdict("HTTP 501 Not Implemented"),
    "999": Verdict("HTTP 999"),
    "204": Verdict("HTTP 204 No Content"),
    "101": Verdict(BROKE),
    "304": Verdict("HTTP 304 Not Modified"),
    "408 once": Verdict(),
    "429 for a moment": Verdict(),
    "429 until a date that has passed": Verdict(),
    "429 without a time that can be read": Verdict(),
    "429 for an hour": Verdict("HTTP 429 Too Many Requests, and it would take 3600 s"),
    "503 until in an hour": Verdict("HTTP 503 Service Unavailable, and it would take 3[56]"),
    "429 for five seconds": Verdict("HTTP 429 Too Many Requests, and it would take 5 s"),
    "429 for a century": Verdict("HTTP 429 Too Many Requests, and it would take 1000000000 s"),
    "500 once": Verdict(),
    "500": Verdict("HTTP 500 Internal Server Error, 3 times"),
    "502 once": Verdict(),
    "503 once": Verdict(),
    "503": Verdict("HTTP 503 Service Unavailable, 3 times"),
    "504": Verdict("HTTP 504 Gateway Timeout, 3 times"),
    "hang up once": Verdict(),
    "hang up": Verdict(BROKE),
    "reset before headers once": Verdict(),
    "reset before headers": Verdict(BROKE),
    "reset mid-body once": Verdict(),
    "stall in headers once": Verdict(),
    "stall in headers": Verdict("stopped sending, 2 times"),
    "stall mid-body once": Verdict(),
    "stall mid-body": Verdict("stopped sending, 2 times"),
    "pause mid-body": Verdict(),
    "trickle body": Verdict("took too long in all"),
    "trickle headers": Verdict("took too long in all"),
    "short body once": Verdict(),
    "nothing after the headers": Verdict(BROKE),
    "truncated file": Verdict("has a file of '200002' bytes there, expected 200003"),
    "longer file": Verdict("has a file of '200004' bytes there, expected 200003"),
    "empty file": Verdict("has a file of '0' bytes there"),
    "more than it says": Verdict(),
    "no length": Verdict(),
    "no length, longer": Verdict(r"sends more than the 200003 bytes of ssh\.zip"),
    "no length, shorter": Verdict("ended after 66667 of 200003 bytes, 3 times"),
    "length is no number": Verdict(BROKE),
    "length is negative": Verdict(BROKE),
    "length is astronomic": Verdict(BROKE),
    "two lengths": Verdict(BROKE),
    "wrong bytes": Verdict(f"sent 200003 bytes with SHA-256 [0-9a-f]{{64}}, expected {ARCHIVE.sha256}"),
    "page": Verdict(PAGE),
    "page without length": Verdict(PAGE),
    "gzip": Verdict("sends it with Content-Encoding 'gzip', though none was asked for"),
    "gzip in name only": Verdict("sends it with Content-Encoding 'gzip', though none was asked for"),
    "identity": Verdict(),
    "301": Verdict(),
    "302": Verdict(),
    "303": Verdict(),
    "307": Verdict(),
    "308": Verdict(),
    "300": Verdict("HTTP 300 Multiple Choices"),
    "redirect loop": Verdict("redirects more than 5 times"),
    **{f"{number} redirects": Verdict() for number in range(6)},
    "6 redirects": Verdict("redirects more than 5 times"),
    "redirect without Location": Verdict("HTTP 302 without a Location"),
    "redirect to http elsewhere": Verdict(rf"leads to http://192\.0\.2\.1/ssh\.zip\?…, {REFUSED}"),
    "redirect to an old spelling of loopback": Verdict(REFUSED),
    "redirect to a number": Verdict(REFUSED),
    "redirect to 0.0.0.0": Verdict(REFUSED),
    "redirect to a file": Verdict(REFUSED),
    "redirect to ftp": Verdict(REFUSED),
    "redirect to data": Verdict(REFUSED),
    "redirect to nonsense": Verdict(UNREADABLE),
    "redirect to no port": Verdict(UNREADABLE),
    "redirect to no host": Verdict(REFUSED),
    "redirect to a closed port": Verdict(r"cannot be reached \(.+\), 3 times"),
    "206 to everybody": Verdict("HTTP 206 Partial Content", ELSEWHERE + "Content-Range 'bytes 0-"),
    "206 one byte late": Verdict(resumed=ELSEWHERE + f"Content-Range 'bytes {HALF + 1}-"),
    "206 from zero": Verdict(resumed=ELSEWHERE + "Content-Range 'bytes 0-"),
    "206 without Content-Range": Verdict(resumed=ELSEWHERE + "no Content-Range"),
    "206 with another total": Verdict(resumed=ELSEWHERE + f"Content-Range 'bytes {HALF}-200002/77'"),
    "206 without a total": Verdict(),
    "206 in words": Verdict(resumed=ELSEWHERE + "Content-Range 'bytes from here on'"),
    "206 in another unit": Verdict(resumed=ELSEWHERE + "Content-Range 'lines 1-2/3'"),
    "206 in several parts": Verdict(resumed=ELSEWHERE + "no Content-Range"),
    "206 compressed": Verdict(resumed="sends it with Content-Encoding 'gzip'"),
    "206 longer than the file": Verdict(resumed="sends more than the 200003 bytes"),
    "206 with half of it once": Verdict(),
    "416 to a range": Verdict(),
    "416": Verdict("HTTP 416"),
    "ETag changed": Verdict(),
    "ETag changed and If-Range not known": Verdict(),
    "weak ETag": Verdict(),
    "ETag that no header may hold": Verdict(),
    "only a date": Verdict(),
    "ranges not known": Verdict(),
    "chunked": Verdict(),
    "chunked, no size": Verdict(BROKE),
    "chunked, cut off once": Verdict(),
    "chunked, cut off": Verdict(BROKE),
    "chunked, longer": Verdict("sends more than the 200003 bytes"),
    "chunked, shorter": Verdict("ended after 99 of 200003 bytes, 3 times"),
    "chunked, one chunk of an exabyte": Verdict("sends more than the 200003 bytes"),
    "garbage": Verdict(BROKE),
    "HTTP 0.9": Verdict(BROKE),
    "HTTP 3.0": Verdict("ended after 0 of 200003 bytes, 3 times"),
    "status is no number": Verdict(BROKE),
    "header without a name": Verdict(BROKE),
    "header with a zero byte": Verdict(BROKE),
    "huge header": Verdict(BROKE),
    "headers without end": Verdict(BROKE),
    "continue, then the answer": Verdict(),
    "hints, then the answer": Verdict(),
    "continue without end": Verdict("took too long in all"),
}


def cases(*, fail: bool, without_repeats: bool = False) -> list[Any]:
    """Each fault that fails or not, without a part of the archive (fresh) and with one (resumed).

    Repeats are the faults that take time but one, and resumed ones with the verdict of the fresh one.
    """
    made = []
    for fault, verdict in VERDICTS.items():
        for resumed in (False, True):
            if bool(verdict.of(resumed=resumed)) is fail:
                repeats = fault in SLOW or (resumed and verdict.resumed is None)
                marks = [pytest.mark.long] if without_repeats and repeats else []
                made.append(
                    pytest.param(fault, resumed, id=f"{fault}, {'resumed' if resumed else 'fresh'}", marks=marks)
                )
    return made


CONTACTED: Final[list[Any]] = []


def _note_other_machines(event: str, arguments: tuple[Any, ...]) -> None:
    """Who is looked up or connected to, unless it is this machine."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in LOOPBACK:
        CONTACTED.append(host)


sys.addaudithook(_note_other_machines)


@pytest.fixture(autouse=True)
def _nobody_else_is_contacted() -> Iterator[None]:
    CONTACTED.clear()
    yield
    assert CONTACTED == []


@pytest.fixture(autouse=True)
def _nothing_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no mirror, no config file, no cache but the test's."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("SSHTOOL_SOURCES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(BODY) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One whose requests are only this test's."""
    with Server(BODY) as running:
        yield running


def at(server: Server, fault: str = "honest", query: str = "") -> DownloadSource:
    return parse_source(f"{server.url}/{fault.replace(' ', '%20')}/ssh.zip{query}", ARCHIVE.name, place="--source")


def entry_in(cache: Path) -> Entry:
    return Entry(cache, ARCHIVE)


def put_part(cache: Path, source: DownloadSource, data: bytes = BODY[:HALF], validator: str = ETAG) -> Entry:
    """What an earlier run left behind."""
    entry = entry_in(cache)
    entry.folder.mkdir(parents=True)
    entry._origin.write_text(Origin(source=source.shown, validator=validator).model_dump_json())
    entry._part.write_bytes(data)
    return entry


def get(cache: Path, *sources: DownloadSource, limits: TransferLimits = PATIENT, **options: Any) -> Fetched:
    return fetch(ARCHIVE, sources, cache, limits=limits, **options)


def leftovers(cache: Path) -> set[str]:
    """What is in the archive's folder beside what belongs there."""
    return {path.name for path in entry_in(cache).folder.iterdir()} - {"ssh.zip", ".lock", ".source.json"}


def test_every_fault_of_the_server_has_a_verdict() -> None:
    assert set(VERDICTS) - {"honest"} == set(FAULTS)
    assert len(VERDICTS) >= 24


@pytest.mark.parametrize(("fault", "resumed"), cases(fail=False))
def test_a_fault_that_can_be_survived_is(server: Server, fault: str, resumed: bool, tmp_path: Path) -> None:
    source = at(server, fault, f"?{resumed}")
    if resumed:
        put_part(tmp_path, source)
    fetched = get(tmp_path, source, limits=LIMITS.get(fault, PATIENT))
    assert fetched == Fetched(entry_in(tmp_path).path, source.shown, cached=False)
    assert fetched.path.read_bytes() == BODY
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize(("fault", "resumed"), cases(fail=True))
def test_a_fault_that_cannot_be_survived_is_one_named_error(
    server: Server, fault: str, resumed: bool, tmp_path: Path
) -> None:
    source = at(server, fault, f"?{resumed}")
    if resumed:
        put_part(tmp_path, source)
    limits = LIMITS.get(fault, PATIENT)
    began = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        get(tmp_path, source, limits=SHORTER if limits == SHORT else limits)
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert message.startswith(f"ssh.zip: no source gives it: {source.shown}: ")
    assert re.search(VERDICTS[fault].of(resumed=resumed), message), message
    assert "--source URL" in message
    assert "--from-archive FILE" in message
    assert "--demo" in message
    assert "\n" not in message
    assert len(message) < 700
    assert not entry_in(tmp_path).path.exists()


@pytest.mark.parametrize(("fault", "resumed"), cases(fail=True, without_repeats=True))
def test_the_next_source_is_asked_when_one_fails(server: Server, fault: str, resumed: bool, tmp_path: Path) -> None:
    source, mirror = at(server, fault, f"?{resumed}"), at(server, "mirror")
    if resumed:
        put_part(tmp_path, source)
    said: list[str] = []
    fetched = get(tmp_path, source, mirror, limits=LIMITS.get(fault, PATIENT), say=said.append)
    assert (fetched.source, fetched.path.read_bytes()) == (mirror.shown, BODY)
    assert re.search(VERDICTS[fault].of(resumed=resumed), "\n".join(said)), said
    assert leftovers(tmp_path) == set()


def test_a_resumed_download_asks_for_the_rest_and_nothing_else(own_server: Server, tmp_path: Path) -> None:
    source = at(own_server)
    put_part(tmp_path, source)
    assert get(tmp_path, source).path.read_bytes() == BODY
    (request,) = own_server.requests
    assert (request.headers["range"], request.headers["if-range"]) == (f"bytes={HALF}-", ETAG)
    assert request.headers["accept-encoding"] == "identity"


def test_a_date_serves_where_there_is_no_strong_etag(own_server: Server, tmp_path: Path) -> None:
    source = at(own_server)
    put_part(tmp_path, source, validator=DATE)
    get(tmp_path, source)
    assert own_server.requests[0].headers["if-range"] == DATE


@pytest.mark.parametrize(
    ("source", "validator", "data"),
    [
        pytest.param("https://elsewhere.test/ssh.zip", ETAG, BODY[:HALF], id="from another source"),
        pytest.param("", "", BODY[:HALF], id="without a validator"),
        pytest.param("", ETAG, b"", id="empty"),
        pytest.param("", ETAG, BODY + b"more", id="longer than the archive"),
        pytest.param("", ETAG, bytes(len(BODY)), id="as long as the archive, and wrong"),
    ],
)
def test_a_part_that_is_of_no_use_is_not_gone_on_with(
    own_server: Server, source: str, validator: str, data: bytes, tmp_path: Path
) -> None:
    mirror = at(own_server)
    put_part(tmp_path, DownloadSource(source or mirror.shown), data, validator)
    assert get(tmp_path, mirror).path.read_bytes() == BODY
    assert [request.offset for request in own_server.requests] == [None]
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"{",
        b"[1]",
        b'{"source": 7}',
        b'{"source": "x", "more": 1}',
        b'{"source": "x", "validator": "a\\r\\nb"}',
        b'{"source": "x", "validator": "%s"}' % (b"a" * 1001),
        b'{"source": "x"}' + b" " * 65536,
        b"\xff\xfe",
    ],
    ids=["nothing", "cut", "a list", "a number", "another key", "a header more", "a long header", "long", "bytes"],
)
def test_a_description_of_a_part_that_is_none_is_not_read(origin: bytes, tmp_path: Path) -> None:
    entry = put_part(tmp_path, DownloadSource("x"))
    entry._origin.write_bytes(origin)
    assert entry.origin() is None


@pytest.mark.parametrize("origin", [b"", b"{", b"[1]", b'{"source": 7}', b'{"source": "x", "more": 1}', b"\xff\xfe"])
def test_a_part_whose_description_is_damaged_is_not_gone_on_with(
    own_server: Server, origin: bytes, tmp_path: Path
) -> None:
    put_part(tmp_path, at(own_server))._origin.write_bytes(origin)
    assert get(tmp_path, at(own_server)).path.read_bytes() == BODY
    assert [request.offset for request in own_server.requests] == [None]


def test_a_damaged_part_is_found_out_and_fetched_anew(own_server: Server, tmp_path: Path) -> None:
    source = at(own_server)
    put_part(tmp_path, source, bytes(HALF))
    assert get(tmp_path, source).path.read_bytes() == BODY
    assert [request.offset for request in own_server.requests] == [HALF, None]


def test_the_rest_of_another_version_is_not_even_read(own_server: Server, tmp_path: Path) -> None:
    source = at(own_server, "ETag changed and If-Range not known")
    put_part(tmp_path, source)
    said: list[str] = []
    get(tmp_path, source, say=said.append)
    assert [request.offset for request in own_server.requests] == [HALF, None]
    assert said[-1].endswith("goes on with another version of the file; trying again")


@pytest.mark.parametrize(("fault", "validator"), [("honest", ETAG), ("only a date", DATE), ("weak ETag", "")])
def test_only_what_is_sure_to_change_with_the_bytes_is_kept_as_validator(
    server: Server, fault: str, validator: str, tmp_path: Path
) -> None:
    get(tmp_path, at(server, fault))
    assert entry_in(tmp_path).origin() == Origin(source=at(server, fault).shown, validator=validator)


def test_an_old_part_is_never_described_as_one_of_the_new_source(server: Server, tmp_path: Path) -> None:
    """Whatever happens in between, and wherever: here, the description cannot be written."""
    entry = put_part(tmp_path, at(server))
    entry._origin.unlink()
    entry._origin.mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        get(tmp_path, at(server, "5 redirects"))
    assert entry.part_size() == 0


def test_a_part_that_is_complete_needs_nobody(tmp_path: Path, own_server: Server) -> None:
    put_part(tmp_path, at(own_server), BODY)
    assert get(tmp_path, at(own_server)) == Fetched(entry_in(tmp_path).path, at(own_server).shown, cached=False)
    assert own_server.requests == []


def test_a_source_that_gives_nothing_leaves_the_part_of_another_alone(server: Server, tmp_path: Path) -> None:
    entry = put_part(tmp_path, at(server))
    with pytest.raises(DownloadError):
        get(tmp_path, at(server, "404"), at(server, "truncated file"), at(server, "page"))
    assert entry.resumable(at(server).shown) == (HALF, ETAG)


def test_what_came_before_a_failure_is_kept_for_the_next_run(own_server: Server, tmp_path: Path) -> None:
    source = at(own_server, "reset mid-body once")
    with pytest.raises(DownloadError):
        get(tmp_path, source, limits=replace(PATIENT, attempts=1))
    assert get(tmp_path, source).path.read_bytes() == BODY
    first, second = own_server.requests
    assert first.offset is None
    assert second.offset is not None
    assert second.offset > 0


def test_what_is_whole_and_is_not_the_archive_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="with SHA-256"):
        get(tmp_path, at(server, "wrong bytes"))
    assert leftovers(tmp_path) == set()


def test_waits_between_attempts_double_and_retry_after_overrules_them(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"HTTP.*503"):
        get(tmp_path, at(server, "503"), limits=replace(PATIENT, attempts=4, first_wait=0.1), say=said.append)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
    waits = [match[1] for line in said if (match := re.search(r"trying again in (\S+) s", line))]
    assert waits == ["0.1", "0.2", "0.4"]


def test_the_cache_is_verified_before_each_use_and_a_damaged_file_is_replaced(
    own_server: Server, tmp_path: Path
) -> None:
    source = at(own_server)
    path = get(tmp_path, source).path
    assert get(tmp_path, source) == Fetched(path, source.shown, cached=True)
    assert len(own_server.requests) == 1
    for damage in (BODY[:-1] + b"x", BODY[:-1], b"", BODY + b"x"):
        path.write_bytes(damage)
        assert not get(tmp_path, source).cached
        assert path.read_bytes() == BODY
    assert len(own_server.requests) == 5
    entry_in(tmp_path)._origin.unlink()
    assert get(tmp_path, source).source == str(path)


def test_the_rate_is_of_what_came_in_this_run() -> None:
    stream = io.StringIO()
    lines = Lines(console(file=stream, width=200))
    lines.show("model_file_download_begin", {"size": 10_000_000})
    sizes = (4_000_000, 5_000_000, 7_000_000, 0, 2_500_000)  # resumed at 4 MB, and begun again later
    for number, size in enumerate(sizes):
        lines._line(size, now=10.0 * number)
    lines._line(sizes[-1] + 1, now=41.0)  # too soon for another line
    assert stream.getvalue().splitlines() == [
        "5.0 of 10.0 MB, 0.10 MB/s, 50 s remaining",
        "7.0 of 10.0 MB, 0.15 MB/s, 20 s remaining",
        "2.5 of 10.0 MB, 0.25 MB/s, 30 s remaining",
    ]


def test_no_source_at_all_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no source"):
        get(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_asked(own_server: Server, tmp_path: Path) -> None:
    huge = PinnedFile(name="ssh.zip", size=1 << 60, sha256="0" * 64)
    with pytest.raises(OutputError, match=f"{1 << 60} bytes of ssh.zip .* [0-9]+; free"):
        fetch(huge, [at(own_server)], tmp_path, limits=PATIENT)
    assert own_server.requests == []


def test_a_cache_that_cannot_be_made_is_one_named_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="--cache-dir"):
        get(tmp_path / "file", at(server))


FILES: Final = {
    "the right file": (BODY, SUCCEEDS),
    "too short": (BODY[:-1], "has 200002 bytes, expected 200003"),
    "too long": (BODY + b"x", "has 200004 bytes, expected 200003"),
    "empty": (b"", "has 0 bytes"),
    "wrong bytes": (bytes(len(BODY)), "sent 200003 bytes with SHA-256"),
    "missing": (None, "cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize("form", ["a path", "a folder", "a file: URL", "a folder's file: URL"])
@pytest.mark.parametrize(("data", "cause"), FILES.values(), ids=FILES)
def test_a_file_or_folder_is_a_mirror_and_is_verified_too(
    form: str, data: bytes | None, cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "a mirror%20" / "ssh.zip"
    path.parent.mkdir()
    if data is not None:
        path.write_bytes(data)
    place = path.parent if "folder" in form else path
    source = parse_source(place.as_uri() if "URL" in form else str(place), ARCHIVE.name, place="--source")
    if cause:
        with pytest.raises(DownloadError, match=re.escape(f"{path}: {cause}")):
            get(tmp_path / "cache", source)
        assert not entry_in(tmp_path / "cache").path.exists()
    else:
        fetched = get(tmp_path / "cache", source, offline=True)
        assert (fetched.source, fetched.path.read_bytes()) == (str(path), BODY)
        assert path.read_bytes() == BODY


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/full", "/proc/self/mem", "a pipe"])
def test_a_special_file_is_no_mirror(special: str, tmp_path: Path) -> None:
    path = Path(special)
    if special == "a pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(DownloadError, match=r"0.*200003"):
        get(tmp_path / "cache", DownloadSource(str(path), path=path))


SOURCES: Final = {
    "empty": ("", "control characters"),
    "line break": ("https://mirror.test/a\nb", "control characters"),
    "longer than any": ("https://mirror.test/" + "a" * 8000, "8000"),
    "ftp": ("ftp://mirror.test/ssh.zip", "ftp://"),
    "http": ("http://mirror.test/ssh.zip", "http://mirror.test/ssh.zip: http"),
    "http, address": ("http://192.0.2.1/", "only for this machine"),
    "http, nearly localhost": ("http://localhost.mirror.test/", "only for this machine"),
    "http, localhost as the user": ("http://localhost@mirror.test/", "http://mirror.test/ssh.zip: http is only"),
    "http, old spelling": ("http://127.1/", "only for this machine"),
    "no host": ("https:///ssh.zip", "has no host"),
    "port": ("https://user:hidden/x@mirror.test/", "not a URL"),
    "bracket": ("https://[::1/ssh.zip", "not a URL"),
    "file elsewhere": ("file://mirror.test/ssh.zip", "another machine"),
    "file, relative": ("file:ssh.zip", "another machine"),
    "file, zero": ("file:///a%00b", "control characters"),
}


@pytest.mark.parametrize(("text", "message"), SOURCES.values(), ids=SOURCES)
def test_what_can_never_be_a_source_is_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text, ARCHIVE.name, place="--source")
    assert str(caught.value).startswith("--source: ")
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_http_is_for_this_machine(host: str) -> None:
    source = parse_source(f"http://{host}:8080/mirror/", ARCHIVE.name, place="--source")
    assert source.url == source.shown == f"http://{host}:8080/mirror/ssh.zip"


def test_messages_and_records_hold_no_secrets(own_server: Server, tmp_path: Path) -> None:
    text = f"http://anna:hidden@127.0.0.1:{own_server.port}/404/ssh.zip?key=hidden#hidden"
    source = parse_source(text, ARCHIVE.name, place="--source")
    said: list[str] = []
    with pytest.raises(DownloadError) as caught:
        get(tmp_path, source, say=said.append)
    assert own_server.requests[0].headers["authorization"].startswith("Basic ")
    assert own_server.requests[0].path == "/404/ssh.zip?key=hidden"
    working = parse_source(text.replace("404", "honest"), ARCHIVE.name, place="--source")
    fetched = get(tmp_path, working, say=said.append)
    told = " ".join([str(caught.value), *said, fetched.source, entry_in(tmp_path)._origin.read_text()])
    assert f"http://127.0.0.1:{own_server.port}/honest/ssh.zip?…" in told
    assert "anna" not in told
    assert "hidden" not in told


def test_a_password_stays_with_its_server(own_server: Server, server: Server, tmp_path: Path) -> None:
    """A redirect to another place takes neither the user's name nor the password along."""
    seen = len(server.requests)
    FAULTS["away"] = lambda exchange: exchange.redirect(f"{server.url}/honest/ssh.zip")
    try:
        text = f"http://anna:hidden@127.0.0.1:{own_server.port}/away/ssh.zip"
        get(tmp_path, parse_source(text, ARCHIVE.name, place="--source"))
    finally:
        del FAULTS["away"]
    assert "authorization" in own_server.requests[0].headers
    assert "authorization" not in server.requests[seen].headers


def test_a_netrc_is_not_read(own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login anna password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    get(tmp_path / "cache", at(own_server))
    assert "authorization" not in own_server.requests[0].headers


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://anna:hidden@mirror.test:8/d?key=hidden#part", "https://mirror.test:8/d?…"),
        ("https://anna@[::1]:8/d#part", "https://[::1]:8/d"),
        ("https://mirror.test/@scope/d", "https://mirror.test/@scope/d"),
    ],
)
def test_a_shown_url_has_neither_user_nor_query(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_sources_are_tried_in_order_each_once_and_dead_ones_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("SSHTOOL_SOURCES", "https://two.test/a  https://one.test/ \n https://three.test/?x")
    config = Config(sources=("folder", "https://four.test/a"))
    upstream = MODEL.checkpoint.sources[0]
    alive = upstream.model_copy(update={"url": "https://five.test/a", "dead_since": ""})
    model = MODEL.model_copy(update={"checkpoint": MODEL.checkpoint.model_copy(update={"sources": (upstream, alive)})})
    found = find_sources(model.archive.name, model.checkpoint.sources, ["https://one.test/"], config, tmp_path)
    name = model.archive.name
    assert [source.shown for source in found] == [
        f"https://one.test/{name}",
        "https://two.test/a",
        "https://three.test/?…",
        str(tmp_path / "folder" / name),
        "https://four.test/a",
        "https://five.test/a",
        upstream.url,
    ]
    assert [source.dead_since for source in found] == [""] * 6 + ["May 2021"]


CONFIGS: Final = {
    "no TOML": ("sources = [", "not valid TOML"),
    "unknown key": ('mirrors = ["https://a.test/"]', "mirrors: "),
    "one source": ('sources = "https://a.test/"', "sources: "),
    "number": ("sources = [1]", "sources.0: "),
    "cache_dir": ("cache_dir = 1", "cache_dir: "),
    "cache_dir of two lines": ('cache_dir = "a\\nb"', "cache_dir: "),
    "deep": ("a = " + "[" * 20_000, "nested too deeply"),
    "a long dotted key": ("a" + ".a" * 10_000 + " = 1", "line 1 has"),
    "long dotted keys": (f"\n{'.'.join('a' * 202)} = 1\n" * 50, "line 2 has"),
    "a long dotted key in a value": ("a = [{ b" + ".b" * 10_000 + " = 1 }]", "line 1 has"),
    "a long dotted table": ("[a" + ".a" * 10_000 + "]", "line 1 has"),
    "a dotted key of strange line ends": ('"\u2028".' * 4000 + "a = 1", "line 1 has"),
    "digits": ("sources = " + "1" * 5000, "not valid TOML"),
    "bytes": (b"\xff\xfe", "not valid TOML"),
    "long": (b"#" * (24 << 10) + b"#", "24576"),
}


@pytest.mark.parametrize(("text", "message"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_cannot_be_read_is_one_named_error(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "correct " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Mon, 23 Nov 2026 23:00:00 -0000", id="a date without a zone"),
        pytest.param("Mon, 1 Nov 99999999999999999999 00:00:00 GMT", id="a year that no number holds"),
        pytest.param("soon", id="a word"),
    ],
)
def test_a_time_to_wait_that_cannot_be_read_is_none(text: str) -> None:
    assert web._retry_after(httpx.Response(503, headers={"Retry-After": text})) is None


@pytest.mark.parametrize("proxy", ["socks5://anna:hidden@proxy.test:1", "odd://anna:hidden@proxy.test"])
def test_a_proxy_that_is_none_is_named_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SourceFailedError, match="the proxy that the environment names") as caught:
        web._client(web._tls_context()).__enter__()
    assert "hidden" not in str(caught.value)


BROKEN: Final = (
    "http://[::1", "http://[", "http://a:b", "http://a\tb", "http://a\nb", "http://127.0.0.1:1\r\nX: y", "\udcff",
    "http://[v1.x]", "http://[::ffff:1.2.3.4.5]", "http://\u0661.0.0.1:1", "http://127.0.0.1:1/\x01",
    f"http://{'x' * 70_000}", "http://xn--zzzzzz", "http://a..b", f"http://{'a' * 300}", "http://anna:hidden@[", "http://anna:hidden@a:b",
)  # fmt: skip


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "no_proxy"])
def test_a_variable_for_proxies_that_makes_no_sense_is_one_named_error(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if variable == "no_proxy":
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    url = "https://[::1]:1/ssh.zip" if variable == "http_proxy" else "https://[::2]/ssh.zip"
    for value in BROKEN:
        monkeypatch.setenv(variable, value)
        with pytest.raises(DownloadError, match=r"ssh\.zip") as caught:
            get(tmp_path, DownloadSource("mirror", url=url), limits=NOW)
        assert "hidden" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    CONTACTED.clear()  # some are fine, and say that no proxy is needed for another host


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "xn--zzzzzz", ".", "\u0661", "[v1.x]"])
def test_a_host_whose_name_cannot_be_one_is_one_named_error(host: str, tmp_path: Path) -> None:
    url = f"https://{host}/ssh.zip"
    with pytest.raises(DownloadError, match="no source gives it") as caught:
        get(tmp_path, DownloadSource("https://host.test", url=url), limits=NOW)
    assert "\n" not in str(caught.value)


def test_certificates_that_are_not_there_are_named_by_their_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(SourceFailedError, match="SSL_CERT_FILE or SSL_CERT_DIR"):
        web._tls_context()


def test_a_certificate_that_nobody_signed_is_not_asked_again() -> None:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert not web._failure(error).again
    assert "not trusted" in str(web._failure(error))
    assert str(web._failure(httpx.ConnectTimeout(""))) == "does not take the connection in time"
    assert str(web._failure(httpx.ReadTimeout(""))) == "stopped sending"


def test_a_proxy_that_refuses_is_not_asked_again_and_one_that_fails_is() -> None:
    assert not web._failure(httpx.ProxyError("407 Proxy Authentication Required")).again
    assert web._failure(httpx.ProxyError("502 Bad Gateway")).again
    assert str(web._failure(httpx.ProxyError("502 Bad"))) == "cannot be reached through the proxy (502 Bad)"


def test_the_usual_limits_end_any_download_within_hours() -> None:
    usual = TransferLimits()
    assert usual.attempts <= 10
    assert usual.first_wait <= usual.longest_wait <= 60
    assert usual.connect <= usual.read <= 120
    assert usual.total <= 6 * 3600


def test_an_attempt_for_which_no_time_is_left_is_not_waited_for(own_server: Server, tmp_path: Path) -> None:
    limits = TransferLimits(attempts=3, first_wait=8, longest_wait=10, connect=10, read=10, total=4)
    with pytest.raises(DownloadError, match=r"8 s until"):
        get(tmp_path, at(own_server, "500"), limits=limits)
    assert len(own_server.requests) == 1


def test_http_is_asked_on_this_machine_only_and_only_if_the_user_named_it_so() -> None:
    assert may_ask("https", "mirror.test", loopback=False)
    assert may_ask("http", "127.0.0.1", loopback=True)
    assert not may_ask("http", "127.0.0.1", loopback=False)  # a mirror elsewhere that leads here
    assert not may_ask("http", "mirror.test", loopback=True)
    assert not may_ask("https", "", loopback=True)


def test_a_config_may_be_missing_and_must_be_a_file(tmp_path: Path) -> None:
    assert read_config(tmp_path / "config.toml") == Config()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)


def test_a_config_says_which_of_its_sources_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml"):
        find_sources(MODEL.archive.name, MODEL.checkpoint.sources, [], Config(sources=("http://a.test/",)), tmp_path)


def test_a_reader_of_the_progress_who_has_had_enough_is_no_fault_of_the_cache(server: Server, tmp_path: Path) -> None:
    def report(_event: str, /, **_members: str | int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        get(tmp_path, at(server), report=report)


def test_progress_is_told_in_open_model_zoos_words(server: Server, tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    get(tmp_path, at(server), report=lambda event, /, **members: events.append((event, members)))
    assert events[0] == ("model_file_download_begin", {"model_file": "ssh.zip", "size": len(BODY)})
    assert events[-1] == ("model_file_download_end", {"model_file": "ssh.zip", "successful": True})
    assert events[-2] == ("model_file_download_progress", {"model_file": "ssh.zip", "size": len(BODY)})
    with pytest.raises(DownloadError):
        get(tmp_path / "x", at(server, "404"), report=lambda event, /, **members: events.append((event, members)))
    assert events[-1] == ("model_file_download_end", {"model_file": "ssh.zip", "successful": False})
