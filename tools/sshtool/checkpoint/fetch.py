"""Getting an archive: from the cache, or from the first source that gives exactly the one that is pinned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sshconvert.errors import DownloadError
from sshconvert.models.spec import PinnedFile
from sshtool.checkpoint.cache import Entry
from sshtool.checkpoint.sources import Source, SourceFailedError

if TYPE_CHECKING:
    from sshtool.checkpoint.web import Limits

WAYS_OUT: Final = (
    "give a mirror (--source URL) or an archive that you have (--from-archive FILE), make the demo checkpoint "
    "(--demo), or convert files that you have unpacked (sshtool convert --checkpoint FOLDER)"
)
# A process that waits for another one's download gives up after this many seconds.
PATIENCE: Final = 2 * 3600.0
# Between two reports of progress, in seconds.
INTERVAL: Final = 0.1


class Report(Protocol):
    """Told what happens, in Open Model Zoo's words: the event's type, and its members by name."""

    def __call__(self, event: str, /, **members: str | int) -> None: ...


def no_report(event: str, /, **members: str | int) -> None:
    """For who does not want to know."""


@dataclass(frozen=True)
class Fetched:
    """The archive, verified, and where it comes from. `cached`: it was there already."""

    path: Path
    source: str
    cached: bool


def fetch(
    archive: PinnedFile,
    sources: Sequence[Source],
    cache: Path,
    *,
    offline: bool = False,
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report = no_report,
) -> Fetched:
    """Get the archive into the cache, if it is not there, and verify it. `offline`: only from this machine.

    Raises DownloadError if no source gives it, with what was wrong at each, or if others can write into the cache, and
    OutputError if it cannot be stored.
    """
    entry = Entry(cache, archive)
    entry.require_trusted()
    if not entry.is_good():
        usable = [source for source in sources if not (offline and source.needs_network)]
        if not usable:
            raise DownloadError(_nothing_worked(archive, [], sources))
        with entry.locked(say, PATIENCE):
            if not entry.is_good():  # another process may have downloaded it meanwhile
                return _Fetch(entry, sources, usable, limits, say, report).run()
    origin = entry.origin()
    return Fetched(entry.path, origin.source if origin else str(entry.path), cached=True)


@dataclass
class _Fetch:
    """A download into an entry of the cache, which this process has locked."""

    entry: Entry
    sources: Sequence[Source]
    usable: Sequence[Source]
    limits: Limits | None
    say: Callable[[str], None]
    report: Report
    _reported: float = 0.0

    def run(self) -> Fetched:
        archive = self.entry.archive
        self.entry.remove_damaged()
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
        """Place the archive, and return its source: for a part that an earlier process completed, that one's."""
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

    def _get(self, source: Source) -> None:
        """Place the archive from one source. Raises SourceFailedError if the source does not give it."""
        if source.path is not None:
            from sshtool.checkpoint import local

            local.copy(source, source.path, self.entry, self._received)
        else:
            from sshtool.checkpoint import web

            web.download(source, self.entry, self.limits or web.Limits(), self.say, self._received)

    def _received(self, size: int) -> None:
        """Report how much of the archive has arrived, now and then and at the end."""
        now, archive = time.monotonic(), self.entry.archive
        if size == archive.size or now - self._reported >= INTERVAL:
            self._reported = now
            self.report("model_file_download_progress", model_file=archive.name, size=size)


def _nothing_worked(archive: PinnedFile, failures: Sequence[str], sources: Sequence[Source]) -> str:
    """One line: what was wrong at each source, and the ways out."""
    untried = len(sources) - len(failures)
    causes = list(failures)
    if untried:
        causes.append(f"{untried} on the web not tried (--offline)")
    dead = [source for source in sources if source.dead_since]
    if untried and dead:
        causes.append(f"upstream's own, {dead[0].shown}, is dead since {dead[0].dead_since}")
    return f"{archive.name}: no source gives it: {'; '.join(causes) or 'there is none'}; {WAYS_OUT}"
