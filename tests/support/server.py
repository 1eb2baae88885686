"""A web server on this machine that can do everything wrong: it writes bytes to sockets, and knows no HTTP but its own.

The first folder of a path names the fault: `/reset mid-body/ssh.zip`. What is not in `FAULTS` is served as it should
be. As a proxy it refuses.
"""

from __future__ import annotations

import gzip
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, Self
from urllib.parse import unquote

ETAG: Final = '"v1"'
DATE: Final = "Fri, 07 May 2021 00:00:00 GMT"


@dataclass(frozen=True)
class Request:
    """As it came: the path without its quoting, the names of the headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def offset(self) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else None


class Exchange:
    """One request, and the socket for the answer. `number` counts the requests for this path, from 0."""

    def __init__(self, server: Server, connection: socket.socket, request: Request, number: int) -> None:
        self.server, self.request, self.number = server, request, number
        self.body: bytes = server.files.get(request.path.rpartition("/")[2], server.body)
        self._connection = connection

    @property
    def url(self) -> str:
        return self.server.url

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def head(self, status: str, headers: dict[str, str] | None = None) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self.send("\r\n".join([*lines, "Connection: close", "", ""]).encode())

    def answer(self, status: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.head(status, {"Content-Length": str(len(body))} | (headers or {}))
        self.send(body)

    def redirect(self, location: str, status: str = "302 Found") -> None:
        self.answer(status, {"Location": location})

    def begin(self, etag: str = ETAG) -> bytes:
        """The head of an honest answer; returns the body that belongs to it."""
        offset = self.request.offset
        if offset is None or self.request.headers.get("if-range") != etag:
            self.head("200 OK", {"Content-Length": str(len(self.body)), "ETag": etag})
            return self.body
        self.head(
            "206 Partial Content", {"Content-Length": str(len(self.body) - offset), "ETag": etag} | self.range(offset)
        )
        return self.body[offset:]

    def range(self, offset: int, total: str = "") -> dict[str, str]:
        return {"Content-Range": f"bytes {offset}-{len(self.body) - 1}/{total or len(self.body)}"}

    def serve(self, etag: str = ETAG) -> None:
        self.send(self.begin(etag))

    def partial(self, headers: dict[str, str], body: bytes | None = None) -> None:
        """206 with these headers where a range is asked for, and an honest answer where none is."""
        if self.request.offset is None:
            return self.serve()
        body = self.body[self.request.offset :] if body is None else body
        self.head("206 Partial Content", {"Content-Length": str(len(body)), "ETag": ETAG} | headers)
        return self.send(body)

    def chunked(self, *chunks: bytes) -> None:
        self.head("200 OK", {"Transfer-Encoding": "chunked", "ETag": ETAG})
        for chunk in chunks:
            self.send(chunk)

    def reset(self) -> None:
        """End the connection with RST and not with FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stall(self) -> None:
        """Say nothing until the other side has gone, or the server is told to go on."""
        self._connection.settimeout(0.05)
        while not self.server.go_on.is_set():
            with suppress(TimeoutError):
                if not self._connection.recv(1):
                    return

    def trickle(self, data: bytes) -> None:
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(0.05)


class Server:
    """Listens on 127.0.0.1 as long as its context lasts. `requests` are all that came."""

    def __init__(self, body: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.body: bytes = body
        self.files: dict[str, bytes] = {}  # served under their names, all else is `body`
        self._tls = tls
        self.requests: list[Request] = []
        self.go_on = threading.Event()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    @property
    def whole_downloads(self) -> int:
        return sum(request.offset is None for request in self.requests)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._handle, self._socket.accept()[0])

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), self._wrapped(connection) as wrapped:
            request = _read(wrapped)
            if request is None:
                return
            with self._lock:
                self.requests.append(request)
                number = self._counts[request.path]
                self._counts[request.path] += 1
            exchange = Exchange(self, wrapped, request, number)
            if request.method == "CONNECT":
                exchange.answer("403 Forbidden")
            else:
                FAULTS.get(request.path.split("/")[1], Exchange.serve)(exchange)

    @contextmanager
    def _wrapped(self, connection: socket.socket) -> Iterator[socket.socket]:
        connection.settimeout(20)  # whatever happens, no thread of a test stays
        with connection:
            if self._tls is None:
                yield connection
            else:
                with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                    yield wrapped


def _read(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65536)
        if not block or block[0] == 0x16:  # TLS, where it is not spoken
            return None
        data += block
    first, *rest = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Request(method, unquote(path), headers)


Fault = Callable[[Exchange], None]


def once(fault: Fault) -> Fault:
    """The fault at the first request, and an honest answer at all others."""
    return lambda exchange: Exchange.serve(exchange) if exchange.number else fault(exchange)


def status(line: str, **headers: object) -> Fault:
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return lambda exchange: exchange.answer(line, named, b"no archive here")


def moved(location: str, line: str = "302 Found") -> Fault:
    """A redirect to that place. `{}` in it is the server's own URL."""
    return lambda exchange: exchange.redirect(location.format(exchange.url), line)


def steps(exchange: Exchange) -> None:
    """`/7 redirects/x` leads to `/6 redirects/x`, and so on to `/0 redirects/x`."""
    _, fault, name = exchange.request.path.split("/")
    left = int(fault.split()[0])
    exchange.redirect(f"/{left - 1}%20redirects/{name}") if left else exchange.serve()


def raw(data: bytes) -> Fault:
    return lambda exchange: exchange.send(data)


def after(data: bytes) -> Fault:
    """An honest answer, but this first."""

    def fault(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.serve()

    return fault


def ok(*, etag: str = ETAG, **headers: object) -> Fault:
    """200 with the whole body and these headers, whatever range was asked for."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return lambda exchange: exchange.answer("200 OK", {"ETag": etag} | named, exchange.body)


def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


def hang_up(exchange: Exchange) -> None:
    """End the connection without a word."""


def reset_mid_body(exchange: Exchange) -> None:
    exchange.send(exchange.begin()[:70_000])
    time.sleep(0.02)  # RST would overtake what the other side has not read yet
    exchange.reset()


def short_body(exchange: Exchange) -> None:
    exchange.send(exchange.begin()[:-40_000])


def nothing_after_the_headers(exchange: Exchange) -> None:
    exchange.begin()


def stall_in_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-")
    exchange.stall()


def stall_mid_body(exchange: Exchange) -> None:
    exchange.send(exchange.begin()[:30_000])
    exchange.stall()


def pause_mid_body(exchange: Exchange) -> None:
    body = exchange.begin()
    exchange.send(body[: len(body) // 2])
    time.sleep(0.1)
    exchange.send(body[len(body) // 2 :])


def trickle_body(exchange: Exchange) -> None:
    exchange.trickle(exchange.begin())


def trickle_headers(exchange: Exchange) -> None:
    exchange.trickle(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: no end\r\n" * 10_000)


def continue_without_end(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def headers_without_end(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        exchange.send(b"X-Filler: no end of it\r\n" * 1000)


def close_delimited(change: Callable[[bytes], bytes]) -> Fault:
    """No length, no chunks: the body ends where the connection ends."""

    def fault(exchange: Exchange) -> None:
        exchange.head("200 OK", {"ETag": ETAG})
        exchange.send(change(exchange.body))

    return fault


def wrong_bytes(exchange: Exchange) -> None:
    """Of the right size, wherever it begins."""
    body = exchange.begin()
    exchange.send(body[:-100] + bytes(100))


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def truncated_chunks(exchange: Exchange) -> None:
    exchange.chunked(chunk(exchange.body[:70_000]), b"ffff\r\nnot as much")


def range_from_zero(exchange: Exchange) -> None:
    """206 with everything, also to who did not ask for a part."""
    exchange.answer("206 Partial Content", {"ETag": ETAG} | exchange.range(0), exchange.body)


def half_of_the_range(exchange: Exchange) -> None:
    """Less than was asked for, and it says so."""
    offset = exchange.request.offset
    if offset is None:
        return exchange.serve()
    end = (offset + len(exchange.body)) // 2
    where = {"Content-Range": f"bytes {offset}-{end}/{len(exchange.body)}"}
    return exchange.partial(where, exchange.body[offset : end + 1])


def refuse_ranges(exchange: Exchange) -> None:
    if exchange.request.offset is None:
        exchange.serve()
    else:
        exchange.answer("416 Range Not Satisfiable", {"Content-Range": f"bytes */{len(exchange.body)}"})


def another_version_in_the_middle(exchange: Exchange) -> None:
    """If-Range is not understood: 206 with the tail of a file that has changed."""
    if exchange.request.offset is None:
        exchange.serve('"v2"')
    else:
        exchange.partial({"ETag": '"v2"'} | exchange.range(exchange.request.offset))


def compressed(exchange: Exchange) -> None:
    body = gzip.compress(exchange.body)
    exchange.answer("200 OK", {"Content-Encoding": "gzip", "ETag": ETAG}, body)


def offset_of(exchange: Exchange) -> int:
    return exchange.request.offset or 0


HOUR_AGO: Final = formatdate(time.time() - 3600, usegmt=True)
IN_AN_HOUR: Final = formatdate(time.time() + 3600, usegmt=True)
LONG_HEADERS: Final = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 300_000 + b"\r\n\r\n"

FAULTS: Final[dict[str, Fault]] = {
    # Refusals that are final, and such that may pass.
    "400": status("400 Bad Request"),
    "401": status("401 Unauthorized", WWW_Authenticate='Basic realm="x"'),
    "403": status("403 Forbidden"),
    "404": status("404 Not Found"),
    "410": status("410 Gone"),
    "501": status("501 Not Implemented"),
    "999": status("999 Go away"),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "101": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
    "304": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "408 once": once(status("408 Request Timeout")),
    "429 for a moment": once(status("429 Too Many Requests", Retry_After=0)),
    "429 until a date that has passed": once(status("429 Too Many Requests", Retry_After=HOUR_AGO)),
    "429 without a time that can be read": once(status("429 Too Many Requests", Retry_After="soon")),
    "429 for an hour": status("429 Too Many Requests", Retry_After=3600),
    "503 until in an hour": status("503 Service Unavailable", Retry_After=IN_AN_HOUR),
    "429 for five seconds": status("429 Too Many Requests", Retry_After=5),
    "429 for a century": status("429 Too Many Requests", Retry_After="9" * 40),
    "500 once": once(status("500 Internal Server Error")),
    "500": status("500 Internal Server Error"),
    "502 once": once(status("502 Bad Gateway")),
    "503 once": once(status("503 Service Unavailable")),
    "503": status("503 Service Unavailable"),
    "504": status("504 Gateway Timeout"),
    # The connection.
    "hang up once": once(hang_up),
    "hang up": hang_up,
    "reset before headers once": once(reset_at_once),
    "reset before headers": reset_at_once,
    "reset mid-body once": once(reset_mid_body),
    "stall in headers once": once(stall_in_headers),
    "stall in headers": stall_in_headers,
    "stall mid-body once": once(stall_mid_body),
    "stall mid-body": stall_mid_body,
    "pause mid-body": pause_mid_body,
    "trickle body": trickle_body,
    "trickle headers": trickle_headers,
    # How long the body is, and how long it is said to be.
    "short body once": once(short_body),
    "nothing after the headers": nothing_after_the_headers,
    "truncated file": lambda exchange: exchange.answer("200 OK", {"ETag": ETAG}, exchange.body[:-1]),
    "longer file": lambda exchange: exchange.answer("200 OK", {"ETag": ETAG}, exchange.body + b"x"),
    "empty file": lambda exchange: exchange.answer("200 OK", {"ETag": ETAG}),
    "more than it says": lambda exchange: exchange.send(exchange.begin() + b"more"),
    "no length": close_delimited(lambda body: body),
    "no length, longer": close_delimited(lambda body: body * 3),
    "no length, shorter": close_delimited(lambda body: body[: len(body) // 3]),
    "length is no number": ok(Content_Length="many"),
    "length is negative": ok(Content_Length=-1),
    "length is astronomic": ok(Content_Length="9" * 30),
    "two lengths": lambda exchange: exchange.answer("200 OK", {"content-length": "7"}, exchange.body),
    # What the body is.
    "wrong bytes": wrong_bytes,
    "page": lambda exchange: exchange.answer("200 OK", {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Gone</h1>"),
    "page without length": raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>Gone</h1>"),
    "gzip": compressed,
    "gzip in name only": ok(Content_Encoding="gzip"),
    "identity": ok(Content_Encoding="Identity"),
    # Redirects.
    **{
        line[:3]: moved("/honest/ssh.zip", line)
        for line in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")
    },
    "300": moved("/honest/ssh.zip", "300 Multiple Choices"),
    "redirect loop": moved("/redirect%20loop/ssh.zip"),
    **{f"{number} redirects": steps for number in range(7)},
    "redirect without Location": status("302 Found"),
    "redirect to http elsewhere": moved("http://192.0.2.1/ssh.zip?key=hidden"),
    "redirect to an old spelling of loopback": moved("http://127.1/ssh.zip"),
    "redirect to a number": moved("http://2130706433/ssh.zip"),
    "redirect to 0.0.0.0": moved("http://0.0.0.0/ssh.zip"),
    "redirect to a file": moved("file:///etc/passwd"),
    "redirect to ftp": moved("ftp://127.0.0.1/ssh.zip"),
    "redirect to data": moved("data:application/zip;base64,AAAA"),
    "redirect to nonsense": moved("http://[::1/ssh.zip"),
    "redirect to no port": moved("http://127.0.0.1:port/ssh.zip"),
    "redirect to no host": moved("https:///ssh.zip"),
    "redirect to a closed port": moved("http://127.0.0.1:1/ssh.zip"),
    # Ranges.
    "206 to everybody": range_from_zero,
    "206 one byte late": lambda exchange: exchange.partial(exchange.range(offset_of(exchange) + 1)),
    "206 from zero": lambda exchange: exchange.partial(exchange.range(0), exchange.body),
    "206 without Content-Range": lambda exchange: exchange.partial({}),
    "206 with another total": lambda exchange: exchange.partial(exchange.range(offset_of(exchange), "77")),
    "206 without a total": lambda exchange: exchange.partial(exchange.range(offset_of(exchange), "*")),
    "206 in words": lambda exchange: exchange.partial({"Content-Range": "bytes from here on"}),
    "206 in another unit": lambda exchange: exchange.partial({"Content-Range": "lines 1-2/3"}),
    "206 in several parts": lambda exchange: exchange.partial({"Content-Type": "multipart/byteranges; boundary=x"}),
    "206 compressed": lambda exchange: exchange.partial(
        exchange.range(offset_of(exchange)) | {"Content-Encoding": "gzip"}
    ),
    "206 longer than the file": lambda exchange: exchange.partial(
        exchange.range(offset_of(exchange)), exchange.body[offset_of(exchange) :] + b"more"
    ),
    "206 with half of it once": once(half_of_the_range),
    "416 to a range": refuse_ranges,
    "416": status("416 Range Not Satisfiable"),
    "ETag changed": lambda exchange: exchange.serve('"v2"'),
    "ETag changed and If-Range not known": another_version_in_the_middle,
    "weak ETag": ok(etag='W/"v1"'),
    "ETag that no header may hold": ok(etag='"\x7f\x01"'),
    "only a date": ok(etag="", Last_Modified=DATE),
    "ranges not known": ok(),
    # The grammar.
    "chunked": lambda exchange: exchange.chunked(chunk(exchange.body), chunk(b"")),
    "chunked, no size": lambda exchange: exchange.chunked(b"size\r\n", exchange.body),
    "chunked, cut off once": once(truncated_chunks),
    "chunked, cut off": truncated_chunks,
    "chunked, longer": lambda exchange: exchange.chunked(chunk(exchange.body), chunk(exchange.body), chunk(b"")),
    "chunked, shorter": lambda exchange: exchange.chunked(chunk(exchange.body[:99]), chunk(b"")),
    "chunked, one chunk of an exabyte": lambda exchange: exchange.chunked(b"fffffffffffffff\r\n", exchange.body * 2),
    "garbage": raw(b"\x00\xff\x80 this is no web server\r\n\r\n"),
    "HTTP 0.9": raw(b"<html>It works!</html>"),
    "HTTP 3.0": raw(b"HTTP/3.0 200 OK\r\n\r\n"),
    "status is no number": raw(b"HTTP/1.1 OK 200\r\n\r\n"),
    "header without a name": raw(b"HTTP/1.1 200 OK\r\n: value\r\n\r\n"),
    "header with a zero byte": raw(b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n"),
    "huge header": raw(LONG_HEADERS),
    "headers without end": headers_without_end,
    "continue, then the answer": after(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints, then the answer": after(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "continue without end": continue_without_end,
}
