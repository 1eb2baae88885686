"""Fetching an archive: from the cache, or from the first source that serves the pinned bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sshconvert.errors import DownloadError
from sshconvert.models.spec import PinnedFile
from sshconvert.reading import open_regular
from sshtool.checkpoint.cache import BLOCK, Entry
from sshtool.checkpoint.sources import DownloadSource, SourceFailedError

if TYPE_CHECKING:
    from sshtool.checkpoint.web import TransferLimits

WAYS_OUT: Final = (
    "give a mirror (--source URL) or an archive that you have (--from-archive FILE), make the demo checkpoint "
    "(--demo), or convert files that you have unpacked (sshtool convert --checkpoint FOLDER)"
)
PATIENCE: Final = 2 * 3600.0  # seconds to wait for another process that downloads
INTERVAL: Final = 0.1  # seconds between reports of progress


class Report(Protocol):
    """Receives the events of Open Model Zoo's downloader: the event's type, and its members by name."""

    def __call__(self, event: str, /, **members: str | int) -> None: ...


def no_report(event: str, /, **members: str | int) -> None:
    """Ignore the event."""


@dataclass(frozen=True)
class Fetched:
    """The verified archive and its source. `cached` means that no download was needed."""

    path: Path
    source: str
    cached: bool


def fetch(
    archive: PinnedFile,
    sources: Sequence[DownloadSource],
    cache: Path,
    *,
    offline: bool = False,
    limits: TransferLimits | None = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report = no_report,
) -> Fetched:
    """Return the verified archive from the cache, after a download if it is missing. `offline` skips the web.

    Raises:
        DownloadError: No source serves the archive (the message gives each cause), or other users may write the cache.
        OutputError: The cache cannot store it.

    """
    entry = Entry(cache, archive)
    entry.require_trusted()
    if not entry.is_good():
        usable = [source for source in sources if not (offline and source.needs_network)]
        if not usable:
            raise DownloadError(_nothing_worked(archive, [], sources))
        with entry.locked(say, PATIENCE):
            if not entry.is_good():  # another process may have completed the download
                return _Fetch(entry, sources, usable, limits, say, report).run()
    origin = entry.origin()
    return Fetched(entry.path, origin.source if origin else str(entry.path), cached=True)


@dataclass
class _Fetch:
    """A download into a locked entry of the cache."""

    entry: Entry
    sources: Sequence[DownloadSource]
    usable: Sequence[DownloadSource]
    limits: TransferLimits | None
    say: Callable[[str], None]
    report: Report
    _reported: float = 0.0

    def run(self) -> Fetched:
        archive = self.entry.archive
        self.entry.path.unlink(missing_ok=True)
        self.entry.require_space()
        successful = False
        self.report("model_file_download_begin", model_file=archive.name, size=archive.size)
        try:
            source = self._first_that_works()
            successful = True
        finally:
            self.report("model_file_download_end", model_file=archive.name, successful=successful)
        return Fetched(self.entry.path, source, cached=False)

    def _first_that_works(self) -> str:
        """Place the archive and return its source, which may be that of a part that an earlier process completed."""
        origin = self.entry.origin()
        if origin and self.entry.finish():
            return origin.source
        failures: list[str] = []
        for source in self.usable:
            self.say(f"downloading {self.entry.archive.name} from {source.shown}")
            try:
                self._get(source)
            except SourceFailedError as error:
                note = f"upstream's link, dead since {source.dead_since}: " if source.dead_since else ""
                failures.append(f"{source.shown}: {note}{error}")
                if len(failures) < len(self.usable):
                    self.say(failures[-1])
            else:
                return source.shown
        raise DownloadError(_nothing_worked(self.entry.archive, failures, self.sources))

    def _get(self, source: DownloadSource) -> None:
        """Place the archive from one source. Raises SourceFailedError."""
        if source.path is not None:
            self._copy(source, source.path)
        else:
            from sshtool.checkpoint import web

            web.download(source, self.entry, self.limits or web.TransferLimits(), self.say, self._received)

    def _copy(self, source: DownloadSource, path: Path) -> None:
        """Copy the archive into the cache, so that later steps unpack the verified bytes."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _unreadable(error) from None
        if size != self.entry.archive.size:
            raise SourceFailedError(f"has {size} bytes, expected {self.entry.archive.size}")
        with self.entry.begin(source.shown) as writer:
            for block in _blocks(path):
                writer.write(block)
                self._received(writer.size)
        self.entry.place(writer)

    def _received(self, size: int) -> None:
        """Report the received bytes every `INTERVAL` seconds and at the end."""
        now, archive = time.monotonic(), self.entry.archive
        if size == archive.size or now - self._reported >= INTERVAL:
            self._reported = now
            self.report("model_file_download_progress", model_file=archive.name, size=size)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> SourceFailedError:
    return SourceFailedError(f"cannot be read ({error.strerror or error})")


def _nothing_worked(archive: PinnedFile, failures: Sequence[str], sources: Sequence[DownloadSource]) -> str:
    """The cause at each source, and the remedies, in one line."""
    untried = len(sources) - len(failures)
    causes = list(failures)
    if untried:
        causes.append(f"{untried} on the web not tried (--offline)")
    dead = [source for source in sources if source.dead_since]
    if untried and dead:
        causes.append(f"upstream's own, {dead[0].shown}, is dead since {dead[0].dead_since}")
    return f"{archive.name}: no source gives it: {'; '.join(causes) or 'there is none'}; {WAYS_OUT}"
