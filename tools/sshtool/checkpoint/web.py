"""A source on the web: its requests, the meaning of the responses, and retries."""

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
from sshtool.checkpoint.sources import LOOPBACK, DownloadSource, SourceFailedError, is_loopback, may_ask, shown_url

# Transient failures. Others, such as 403, 404 and 410, are final.
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class TransferLimits:
    """Bounds for one source; times in seconds. `longest_wait` is between two attempts."""

    attempts: int = 4
    first_wait: float = 1.0
    longest_wait: float = 30.0
    connect: float = 10.0
    read: float = 30.0
    total: float = 3600.0
    redirects: int = 5


def download(
    source: DownloadSource,
    entry: Entry,
    limits: TransferLimits,
    say: Callable[[str], None],
    received: Callable[[int], None],
) -> None:
    """Download the archive into the cache. `received` takes the number of bytes so far.

    Raises SourceFailedError after the attempts that `limits` allow. The received bytes stay in the cache for the next
    run.
    """
    end = time.monotonic() + limits.total
    context = _tls_context()
    for attempt in range(1, limits.attempts + 1):
        try:
            with _Deadline(end) as deadline, _client(context) as client:
                _Attempt(client, source, entry, limits, deadline).run(received)
                return
        except SourceFailedError as error:
            if not error.again:
                raise
            if attempt == limits.attempts:
                raise SourceFailedError(f"{error}, {attempt} times" if attempt > 1 else str(error)) from None
            wait = limits.first_wait * 2 ** (attempt - 1) if error.wait is None else error.wait
            if wait > limits.longest_wait or time.monotonic() + wait >= end:
                cause = f"{error}, and it would take {_rounded(wait)} s until the next attempt"
                raise SourceFailedError(cause) from None
            say(f"{source.shown}: {error}; trying again" + (f" in {_rounded(wait)} s" if wait else ""))
        time.sleep(wait)


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 1 else f"{seconds:.1g}"


@dataclass(frozen=True)
class _Attempt:
    """One attempt to download the archive. Raises SourceFailedError."""

    client: httpx.Client
    source: DownloadSource
    entry: Entry
    limits: TransferLimits
    deadline: _Deadline

    def run(self, received: Callable[[int], None]) -> None:
        offset, validator = self.entry.resumable(self.source.shown)
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        with _translated(self.deadline), self._response(headers) as response:
            with self._accept(response, offset, validator) as writer:
                received(writer.size)
                for block in response.iter_raw():
                    self.deadline.check()  # do not write blocks that arrive after the deadline
                    writer.write(block)
                    received(writer.size)
            self.deadline.check()
            try:
                self.entry.place(writer)
            except WrongBytesError as error:
                # A short part is resumed. Wrong bytes may come from an old part: try once more without it.
                short = writer.size < self.entry.archive.size
                raise SourceFailedError(str(error), again=short or offset > 0, wait=None if short else 0) from None

    @contextmanager
    def _response(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Follow redirects to the first other response. Checks each URL before opening a connection to it."""
        url, limits = _joined(httpx.URL(), self.source.url), self.limits
        # Plain HTTP is for mirrors that the user gave. No other host may redirect to this machine.
        loopback = url.scheme == "http" and is_loopback(url.host)
        timeout = httpx.Timeout(connect=limits.connect, read=limits.read, write=limits.read, pool=limits.connect)
        extensions = {"trace": self.deadline.trace}
        for _ in range(limits.redirects + 1):
            if not may_ask(url.scheme, url.host, loopback=loopback):
                raise SourceFailedError(f"leads to {_shown(url)}, and only https may be followed")
            request = self.client.build_request("GET", url, headers=headers, timeout=timeout, extensions=extensions)
            try:
                response = self.client.send(request, stream=True)
            except _Moved as moved:
                url = _joined(url, str(moved))
                continue
            with closing(response):
                yield response
            return
        raise SourceFailedError(f"redirects more than {limits.redirects} times, last to {_shown(url)}")

    @contextmanager
    def _accept(self, response: httpx.Response, offset: int, validator: str) -> Iterator[Writer]:
        """The writer for the response's body. Raises SourceFailedError if the response does not fit the request."""
        encoding = response.headers.get("Content-Encoding", "identity")
        if response.status_code in (200, 206) and encoding.lower() != "identity":
            raise SourceFailedError(f"sends it with Content-Encoding {shown(encoding)}, though none was asked for")
        if response.status_code == 200:
            _check_length(response, self.entry)
            with self.entry.begin(self.source.shown, _validator(response)) as writer:
                yield writer
        elif response.status_code == 206 and offset:
            _check_range(response, self.entry, offset, validator)
            with self.entry.resume() as writer:
                yield writer
        elif response.status_code == 416 and offset:
            self.entry.discard()
            raise SourceFailedError("refuses to go on in the middle", again=True, wait=0)
        else:
            raise _refusal(response)


def _check_length(response: httpx.Response, entry: Entry) -> None:
    """Reject a response whose headers declare another file, before reading its body."""
    length, size = response.headers.get("Content-Length"), entry.archive.size
    if length == str(size):
        return
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in ("text/html", "application/xhtml+xml"):
        raise SourceFailedError(f"answers with a page ({media_type}) in place of the archive")
    if length is not None:
        raise SourceFailedError(f"has a file of {shown(length)} bytes there, expected {size}")


def _check_range(response: httpx.Response, entry: Entry, offset: int, validator: str) -> None:
    """Require that the response continues the same file at the end of the part."""
    size = entry.archive.size
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", text.strip(), re.ASCII)
    if not match or int(match[1]) != offset or match[3] not in ("*", str(size)):
        actual = f"Content-Range {shown(text)}" if text else "no Content-Range"
        raise SourceFailedError(f"was asked for bytes {offset}-{size - 1}/{size} and answers with {actual}")
    name = "ETag" if validator.startswith('"') else "Last-Modified"
    if response.headers.get(name, validator) != validator:
        entry.discard()
        raise SourceFailedError("goes on with another version of the file", again=True, wait=0)


def _refusal(response: httpx.Response) -> SourceFailedError:
    code = response.status_code
    name = next((status.phrase for status in HTTPStatus if status == code), "")
    wait = _retry_after(response) if code in PASSING else None
    return SourceFailedError(f"HTTP {code} {name}".strip(), again=code in PASSING, wait=wait)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait by the Retry-After header: seconds or a date (RFC 9110, 10.2.3). None if absent or malformed."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        return min(float(text), 1e9)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _validator(response: httpx.Response) -> str:
    """The value for If-Range: a strong ETag, or else the date. A weak ETag does not identify bytes."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


class _Moved(Exception):  # noqa: N818  # control flow, not an error
    """The response is a redirect, to the URL in the message."""


def _raise_moved(response: httpx.Response) -> None:
    """Leave the response before httpx prepares the next request, which fails for a malformed URL."""
    if response.status_code in REDIRECTS:
        if "Location" not in response.headers:
            raise SourceFailedError(f"HTTP {response.status_code} without a Location")
        raise _Moved(response.headers["Location"])


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError):  # the message may quote a secret of the URL
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
    """A client that uses the environment's proxies, except for this machine, ignores .netrc and asks for raw bytes."""
    direct: dict[str, httpx.BaseTransport | None] = {
        f"all://[{host}]" if ":" in host else f"all://{host}": None for host in LOOPBACK
    }
    headers = {"User-Agent": f"sshtool/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    try:
        client = httpx.Client(verify=context, headers=headers, mounts=direct, event_hooks={"response": [_raise_moved]})
    except (ImportError, ValueError, httpx.InvalidURL):  # their messages may quote the proxy's password
        raise SourceFailedError(
            "cannot be asked: the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, and NO_PROXY "
            "for none) is not an http one, or is malformed"
        ) from None
    with client:
        yield client


@contextmanager
def _translated(deadline: _Deadline) -> Iterator[None]:
    """Turn failures of the connection into SourceFailedError."""
    try:
        yield
    except httpx.HTTPError as error:
        deadline.check()
        raise _failure(error) from None
    except UnicodeError:  # in the name of the source, a redirect, or the proxy
        raise SourceFailedError("leads to a host with an invalid name") from None


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
        # The message begins with the proxy's status.
        final = str(error).startswith("4")
        return SourceFailedError(f"cannot be reached through the proxy ({_short(error)})", again=not final)
    return SourceFailedError(f"broke off ({_short(error)})", again=True)


def _short(error: Exception) -> str:
    """The message in one printable line: a server may have written a part."""
    return one_line(error) or type(error).__name__


def _has_cause(error: BaseException | None, cause: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, cause):
        error = error.__cause__ or error.__context__
    return error is not None


def _shown(url: httpx.URL) -> str:
    return shown_url(str(url)) if url.host else f"{url.scheme}:…"


class _Deadline:
    """Shuts the connection at `end`, from a thread.

    httpx limits each read but not the transfer. While it parses headers and skips responses such as 100 Continue, no
    code of this module runs, so a server that sends a byte per read could keep the program there for weeks. The trace
    of httpx gives the connections to shut.
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
        """Raises SourceFailedError after the deadline."""
        if self._over or time.monotonic() >= self._end:
            raise SourceFailedError("took too long in all")

    def _shut(self) -> None:
        self._over = True
        with suppress(OSError, AttributeError, TypeError):  # not connected
            # The plain socket's method: after TLS's own, the reader would continue without decrypting.
            socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
