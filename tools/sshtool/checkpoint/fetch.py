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
            if not entry.is_good():  # the process that we waited for may have done the work
                return _fetch_anew(entry, sources, usable, limits, say, report)
    origin = entry.origin()
    return Fetched(entry.path, origin.source if origin else str(entry.path), cached=True)


def _fetch_anew(
    entry: Entry,
    sources: Sequence[Source],
    usable: Sequence[Source],
    limits: Limits | None,
    say: Callable[[str], None],
    report: Report,
) -> Fetched:
    archive = entry.archive
    entry.remove_damaged()
    entry.require_space()
    meter = _Meter(archive, report)
    successful = False
    report("model_file_download_begin", model_file=archive.name, size=archive.size)
    try:
        source = _first_that_works(entry, sources, usable, limits, say, meter)
        successful = True
    finally:
        report("model_file_download_end", model_file=archive.name, successful=successful)
    return Fetched(entry.path, source, cached=False)


def _first_that_works(
    entry: Entry,
    sources: Sequence[Source],
    usable: Sequence[Source],
    limits: Limits | None,
    say: Callable[[str], None],
    meter: _Meter,
) -> str:
    """Place the archive; return which source it is from, or was when an earlier process got the last byte of it."""
    origin = entry.origin()
    if origin and entry.finish():
        return origin.source
    failures: list[str] = []
    for source in usable:
        say(f"downloading {entry.archive.name} from {source.shown}")
        try:
            _get(source, entry, limits, say, meter)
        except SourceFailedError as error:
            note = f"upstream's link, dead since {source.dead_since}: " if source.dead_since else ""
            failures.append(f"{source.shown}: {note}{error}")
            if len(failures) < len(usable):
                say(failures[-1])
        else:
            return source.shown
    raise DownloadError(_nothing_worked(entry.archive, failures, sources))


def _get(source: Source, entry: Entry, limits: Limits | None, say: Callable[[str], None], meter: _Meter) -> None:
    """Place the archive from one source. Raises SourceFailedError if it does not give it."""
    if source.path is not None:
        from sshtool.checkpoint import local

        local.copy(source, source.path, entry, meter)
    else:
        from sshtool.checkpoint import web

        web.download(source, entry, limits or web.Limits(), say, meter)


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


class _Meter:
    """Reports how far the download is, now and then, and at the end."""

    def __init__(self, archive: PinnedFile, report: Report) -> None:
        self._archive, self._report = archive, report
        self._last = 0.0

    def __call__(self, size: int) -> None:
        now = time.monotonic()
        if size == self._archive.size or now - self._last >= INTERVAL:
            self._last = now
            self._report("model_file_download_progress", model_file=self._archive.name, size=size)
