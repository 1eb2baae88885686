"""One source on the web: the requests, what their answers mean, and when to ask again."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Self

import httpx

from sshconvert import __version__
from sshconvert.messages import shown
from sshconvert.schema import one_line
from sshtool.checkpoint.cache import Entry, Writer, WrongBytesError
from sshtool.checkpoint.sources import LOOPBACK, Source, SourceFailedError, is_loopback, may_ask, shown_url

# A later attempt may do better. 404, 403, 410 and the like are final.
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Limits:
    """Times in seconds. `attempts` and `total` are for one source; `longest_wait` is between two attempts."""

    attempts: int = 4
    first_wait: float = 1.0
    longest_wait: float = 30.0
    connect: float = 10.0
    read: float = 30.0
    total: float = 3600.0
    redirects: int = 5


def download(
    source: Source,
    entry: Entry,
    limits: Limits,
    say: Callable[[str], None],
    received: Callable[[int], None],
) -> None:
    """Get the archive from `source` and place it in the cache. `received` is told how many bytes of it are there.

    Raises SourceFailedError when the source cannot give it, after as many attempts as `limits` allow. What has come
    until then stays in the cache for the next run.
    """
    end = time.monotonic() + limits.total
    context = _tls_context()
    for attempt in range(1, limits.attempts + 1):
        try:
            with _Deadline(end) as deadline, _client(context) as client:
                _Attempt(client, source, entry, limits, deadline).run(received)
        except SourceFailedError as failure:
            error = failure
        else:
            return
        wait = limits.first_wait * 2 ** (attempt - 1) if error.wait is None else error.wait
        if not error.again:
            raise error
        if attempt == limits.attempts:
            raise SourceFailedError(f"{error}, {attempt} times" if attempt > 1 else str(error))
        if wait > limits.longest_wait or time.monotonic() + wait >= end:
            raise SourceFailedError(f"{error}, and it would take {_rounded(wait)} s until the next attempt")
        say(f"{source.shown}: {error}; trying again" + (f" in {_rounded(wait)} s" if wait else ""))
        time.sleep(wait)


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.1g}"


@dataclass(frozen=True)
class _Attempt:
    """One attempt to get the archive. Raises SourceFailedError."""

    client: httpx.Client
    source: Source
    entry: Entry
    limits: Limits
    deadline: _Deadline

    def run(self, received: Callable[[int], None]) -> None:
        offset, validator = self.entry.resumable(self.source.shown)
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with _translated(self.deadline), self._answer(headers) as answer:
            with self._accept(answer, offset, validator) as writer:
                received(writer.size)
                for block in answer.iter_raw():
                    self.deadline.check()  # blocks that arrive after the connection was shut are not written
                    writer.write(block)
                    received(writer.size)
            self.deadline.check()
            try:
                self.entry.place(writer)
            except WrongBytesError as error:
                # Too short: the next attempt goes on. Other bytes: an old part may be at fault.
                short = writer.size < self.entry.archive.size
                raise SourceFailedError(str(error), again=short or offset > 0, wait=None if short else 0) from None

    @contextmanager
    def _answer(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The first answer that is no redirect. Each hop is checked before a socket is opened for it."""
        url, limits = _joined(httpx.URL(), self.source.url), self.limits
        # Plain HTTP is for mirrors that the user named so. No other host may redirect to this machine.
        loopback = url.scheme == "http" and is_loopback(url.host)
        timeout = httpx.Timeout(connect=limits.connect, read=limits.read, write=limits.read, pool=limits.connect)
        extensions = {"trace": self.deadline.trace}
        for _ in range(limits.redirects + 1):
            if not may_ask(url.scheme, url.host, loopback=loopback):
                raise SourceFailedError(f"leads to {_shown(url)}, and only https may be followed")
            request = self.client.build_request("GET", url, headers=headers, timeout=timeout, extensions=extensions)
            try:
                answer = self.client.send(request, stream=True)
            except _Moved as moved:
                url = _joined(url, moved.location)
                continue
            with closing(answer):
                yield answer
            return
        raise SourceFailedError(f"redirects more than {limits.redirects} times, last to {_shown(url)}")

    @contextmanager
    def _accept(self, answer: httpx.Response, offset: int, validator: str) -> Iterator[Writer]:
        """The writer for the answer's body. Raises SourceFailedError for an answer to another question."""
        encoding = answer.headers.get("Content-Encoding", "identity")
        if answer.status_code in (200, 206) and encoding.lower() != "identity":
            raise SourceFailedError(f"sends it with Content-Encoding {shown(encoding)}, though none was asked for")
        if answer.status_code == 200:
            _check_length(answer, self.entry)
            with self.entry.begin(self.source.shown, _validator(answer)) as writer:
                yield writer
        elif answer.status_code == 206 and offset:
            _check_range(answer, self.entry, offset, validator)
            with self.entry.resume() as writer:
                yield writer
        elif answer.status_code == 416 and offset:
            self.entry.discard()
            raise SourceFailedError("refuses to go on in the middle", again=True, wait=0)
        else:
            raise _refusal(answer)


def _check_length(answer: httpx.Response, entry: Entry) -> None:
    """An answer that says that it is something else is refused before it is read."""
    length, size = answer.headers.get("Content-Length"), entry.archive.size
    if length == str(size):
        return
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise SourceFailedError(f"answers with a page ({kind}) in place of the archive")
    if length is not None:
        raise SourceFailedError(f"has a file of {shown(length)} bytes there, expected {size}")


def _check_range(answer: httpx.Response, entry: Entry, offset: int, validator: str) -> None:
    """It must go on exactly where the part ends, and in the same file."""
    size = entry.archive.size
    text = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", text.strip(), re.ASCII)
    if not match or int(match[1]) != offset or match[3] not in ("*", str(size)):
        found = f"Content-Range {shown(text)}" if text else "no Content-Range"
        raise SourceFailedError(f"was asked for bytes {offset}-{size - 1}/{size} and answers with {found}")
    name = "ETag" if validator.startswith('"') else "Last-Modified"
    if answer.headers.get(name, validator) != validator:
        entry.discard()
        raise SourceFailedError("goes on with another version of the file", again=True, wait=0)


def _refusal(answer: httpx.Response) -> SourceFailedError:
    code = answer.status_code
    name = next((status.phrase for status in HTTPStatus if status == code), "")
    return SourceFailedError(
        f"HTTP {code} {name}".strip(), again=code in PASSING, wait=_retry_after(answer) if code in PASSING else None
    )


def _retry_after(answer: httpx.Response) -> float | None:
    """How long the server asks to wait: seconds or a date (RFC 9110, 10.2.3). None if it does not, or unreadably."""
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        return min(float(text), 1e9)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _validator(answer: httpx.Response) -> str:
    """What If-Range may carry: a strong ETag, or the date. A weak ETag promises nothing about bytes."""
    etag: str = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else str(answer.headers.get("Last-Modified", ""))


class _Moved(Exception):  # noqa: N818  # it is none
    """An answer was a redirect."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


def _raise_moved(answer: httpx.Response) -> None:
    """Left alone, httpx prepares the next request even if it does not follow, and stumbles over what is no URL."""
    if answer.status_code in REDIRECTS:
        if "Location" not in answer.headers:
            raise SourceFailedError(f"HTTP {answer.status_code} without a Location")
        raise _Moved(answer.headers["Location"])


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError):  # the message may quote what is secret in it
        raise SourceFailedError("leads to a URL that cannot be read") from None


def _tls_context() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError:
        raise SourceFailedError(
            "cannot be asked: the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read"
        ) from None


@contextmanager
def _client(context: ssl.SSLContext) -> Iterator[httpx.Client]:
    """Proxies are taken from the environment, except for this machine itself. A .netrc is not read. The body has to
    come as it is: it is counted and hashed.
    """
    direct: dict[str, httpx.BaseTransport | None] = {
        f"all://[{host}]" if ":" in host else f"all://{host}": None for host in LOOPBACK
    }
    headers = {"User-Agent": f"sshtool/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    try:
        client = httpx.Client(verify=context, headers=headers, mounts=direct, event_hooks={"response": [_raise_moved]})
    except (ImportError, ValueError, httpx.InvalidURL):  # their messages may quote the proxy's password
        raise SourceFailedError(
            "cannot be asked: the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, and NO_PROXY "
            "for none) is not an http one, or malformed"
        ) from None
    with client:
        yield client


@contextmanager
def _translated(deadline: _Deadline) -> Iterator[None]:
    """Failures on the way as SourceFailedError."""
    try:
        yield
    except httpx.HTTPError as error:
        deadline.check()
        raise _failure(error) from None
    except UnicodeError:  # of the source, of where it leads, or of the proxy
        raise SourceFailedError("leads to a host whose name cannot be one") from None


def _failure(error: httpx.HTTPError) -> SourceFailedError:
    if _has_cause(error, ssl.SSLCertVerificationError):
        return SourceFailedError(f"its certificate is not trusted ({_short(error)})")
    if isinstance(error, httpx.ConnectTimeout):
        return SourceFailedError("does not take the connection in time", again=True)
    if isinstance(error, httpx.TimeoutException):
        return SourceFailedError("stopped sending", again=True)
    if isinstance(error, httpx.ConnectError):
        return SourceFailedError(f"cannot be reached ({_short(error)})", again=True)
    if isinstance(error, httpx.ProxyError):
        # It begins with the proxy's status.
        final = str(error).startswith("4")
        return SourceFailedError(f"cannot be reached through the proxy ({_short(error)})", again=not final)
    return SourceFailedError(f"broke off ({_short(error)})", again=True)


def _short(error: Exception) -> str:
    """The message, of which a server may have written a part."""
    return one_line(error) or type(error).__name__


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None


def _shown(url: httpx.URL) -> str:
    return shown_url(str(url)) if url.host else f"{url.scheme}:…"


class _Deadline:
    """Shuts the connection at `end`, from a thread.

    httpx limits each read, and has no limit for a whole transfer. While it parses headers, and skips answers such as
    100 Continue, no code of this module runs. A server that sends a byte within each read's limit would hold the
    program there for weeks. The trace of httpx names the connections to shut.
    """

    def __init__(self, end: float) -> None:
        self._end = end
        self._over = False
        self._stream: Any = None
        self._timer = threading.Timer(max(0.0, end - time.monotonic()), self._shut)
        self._timer.daemon = True

    def trace(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = info["return_value"]
            if self._over:
                self._shut()

    def check(self) -> None:
        """Raises SourceFailedError when the time is over."""
        if self._over or time.monotonic() >= self._end:
            raise SourceFailedError("took too long in all")

    def _shut(self) -> None:
        self._over = True
        with suppress(OSError, AttributeError, TypeError):  # not connected yet, or not any more
            # The plain socket's method: TLS's own would let the reader go on without decrypting.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
