"""The sources of an archive or a loose file: the user's first, then the model's, and those known to be dead last."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from sshconvert.errors import ConfigError, UsageError
from sshconvert.models.spec import SourceSpec
from sshconvert.reading import is_folder
from sshtool.config import Config, user_path

VARIABLE: Final = "SSHTOOL_SOURCES"
LONGEST: Final = 8000  # characters of a URL with its signatures

# Plain HTTP is safe only here. Names that resolve here (an entry in the hosts file, 127.1) do not count.
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class SourceFailedError(Exception):
    """The cause of a source's failure, as a clause. `again` allows another attempt, after `wait` seconds if given."""

    def __init__(self, cause: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(cause)
        self.again, self.wait = again, wait


@dataclass(frozen=True)
class DownloadSource:
    """A URL, or the path of a file. Messages and records use `shown`, which omits user, password and query."""

    shown: str
    url: str = ""
    path: Path | None = None
    dead_since: str = ""

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.name if self.path is not None else unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def needs_network(self) -> bool:
        return self.path is None


def find_sources(
    name: str, published: Iterable[SourceSpec], given: Iterable[str], config: Config, config_folder: Path
) -> tuple[DownloadSource, ...]:
    """List the distinct sources of the file `name` in the order of attempts.

    The order is `given` (the command line), the environment variable SSHTOOL_SOURCES (separated by spaces), the config
    file, the model's description (`published`). Raises UsageError or ConfigError for an unusable source.
    """
    users = [parse_source(text, name, place="--source") for text in given]
    users += [parse_source(text, name, place=VARIABLE) for text in os.environ.get(VARIABLE, "").split()]
    try:
        users += [parse_source(text, name, place="sources", base=config_folder) for text in config.sources]
    except UsageError as error:
        raise ConfigError(f"{config_folder / 'config.toml'}: {error}") from None
    own = [DownloadSource(item.url, url=item.url, dead_since=item.dead_since) for item in published]
    return tuple(dict.fromkeys(users + sorted(own, key=lambda source: bool(source.dead_since))))


def parse_source(text: str, archive_name: str, *, place: str, base: Path = Path()) -> DownloadSource:
    """Read one mirror: an https URL (http on this machine only), a file: URL, or a path, relative to `base`.

    A URL that ends in / and the path of a folder mean `archive_name` inside it. Raises UsageError, whose message does
    not repeat an unreadable source: it may contain a password.
    """
    if not text or not text.isprintable():
        raise UsageError(f"{place}: a source is empty or has control characters in it; give a URL or a path")
    if len(text) > LONGEST:
        raise UsageError(f"{place}: a source is longer than {LONGEST} characters; give a URL or a path")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # urlsplit parses it on access
    except ValueError:
        raise UsageError(f"{place}: a source is not a URL that can be read; correct it") from None
    if parts.scheme in ("http", "https"):
        return _web_source(parts, archive_name, place)
    if parts.scheme == "file":
        path = _path_of(parts, place)
    elif "://" in text:
        raise UsageError(f"{place}: {parts.scheme}:// is not supported; give an https URL, a file: URL or a path")
    else:
        path = user_path(text, base)
    if is_folder(path):
        path /= archive_name
    return DownloadSource(str(path), path=path)


def may_ask(scheme: str, host: str, *, loopback: bool) -> bool:
    """Whether a request may go to a URL: over https, or over http to this machine if the user chose it (`loopback`)."""
    return bool(host) and (scheme == "https" or (scheme == "http" and loopback and is_loopback(host)))


def is_loopback(host: str) -> bool:
    return host in LOOPBACK


def shown_url(url: str) -> str:
    """The URL without user, password, query and fragment, which may be secret."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}{parts.path}" + ("?…" if parts.query else "")


def _web_source(parts: SplitResult, archive_name: str, place: str) -> DownloadSource:
    if parts.path.endswith("/") and not parts.query:
        parts = parts._replace(path=parts.path + archive_name)
    url = parts.geturl()
    if not parts.hostname:
        raise UsageError(f"{place}: a source has no host; give the whole URL")
    if not may_ask(parts.scheme, parts.hostname, loopback=True):
        raise UsageError(
            f"{place}: {shown_url(url)}: http is only for this machine itself ({', '.join(LOOPBACK)}); use https"
        )
    return DownloadSource(shown_url(url), url=url)


def _path_of(parts: SplitResult, place: str) -> Path:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(f"{place}: a file: URL leads to another machine; write file:///path/of/the/archive")
    path = unquote(parts.path)
    if "\0" in path:
        raise UsageError(f"{place}: a file: URL has control characters in it; correct it")
    # file:///C:/folder on Windows.
    return Path(path[1:] if os.name == "nt" and path[2:3] == ":" else path)
