"""Storing a checkpoint: the demo, the content of the user's archive, or a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import DEMO, open_checkpoint, write_record
from sshconvert.errors import ArchiveError, UsageError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.recognition import ZIP, mistaken
from sshtool.checkpoint.archive import Archive, is_archive, open_archive, pack
from sshtool.checkpoint.cache import Entry
from sshtool.checkpoint.fetch import Fetched, Report, fetch, no_report
from sshtool.checkpoint.sources import find_sources
from sshtool.config import config_path, read_config, user_path
from sshtool.demo import checkpoint as demo
from sshtool.progress import silent
from sshtool.workspace import Workspace

DEMO_ARCHIVE: Final = "ssh-model-demo.zip"


@dataclass(frozen=True)
class DownloadOptions:
    """The origin of the checkpoint: the demo, the user's archive, or a download.

    `sources` precede the mirrors of the environment and the config file. Without `cache_dir`, the config file's folder
    or else the platform's cache applies. `allow_unverified` accepts a user's archive that is not upstream's,
    `allow_nonfinite` accepts weights that are NaN or infinite.
    """

    demo: bool = False
    from_archive: Path | None = None
    sources: tuple[str, ...] = ()
    offline: bool = False
    cache_dir: Path | None = None
    allow_unverified: bool = False
    allow_nonfinite: bool = False


@dataclass(frozen=True)
class DownloadResult:
    """The stored checkpoint. `weights` is "demo", or "sha256:" and the archive's hash.

    `source` is the archive's source without user, password and query; with `cached`, the source of the download.
    """

    model: str
    weights: str
    verified: bool
    source: str
    cached: bool
    files: tuple[Path, ...]


def download(
    workspace: Workspace,
    options: DownloadOptions = DownloadOptions(),
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] = silent,
    report: Report = no_report,
) -> DownloadResult:
    """Store a complete, convertible checkpoint in the workspace's checkpoint folder. `report` receives each step.

    Raises:
        DownloadError: No source serves the archive.
        ArchiveError: The user's archive is not the pinned one or cannot be unpacked.
        SSHToolError: The errors of reading the checkpoint.

    """
    from_web = not options.demo and options.from_archive is None
    successful = False
    report("model_download_begin", num_files=int(from_web))
    try:
        if from_web and options.allow_unverified:
            raise UsageError(
                "--allow-unverified is for --from-archive: a source has to send the pinned archive; get the file "
                "yourself, and give it with --from-archive"
            )
        step = _Download(workspace, options, dry_run, progress, report)
        if options.demo:
            result = step.demo()
        elif options.from_archive is not None:
            result = step.unpack(options.from_archive)
        else:
            result = step.fetch()
        successful = True
        return result
    finally:
        report("model_download_end", successful=successful)


@dataclass(frozen=True)
class _Download:
    workspace: Workspace
    options: DownloadOptions
    dry_run: bool
    progress: Callable[[str], None]
    report: Report

    def demo(self) -> DownloadResult:
        model, folder = self.workspace.model, self.workspace.checkpoint
        demo.check_model(model)
        archive = folder / DEMO_ARCHIVE
        if not self.dry_run:
            with staging_folder(folder.parent) as staging:
                self.progress("making the demo checkpoint")
                demo.write_checkpoint(staging, model)
                self.progress("packing it as upstream's archive was packed")
                packed = staging / archive.name
                pack(staging, model, packed)
                with self._unpacking(), open_archive(packed) as opened:
                    self._store(opened, DEMO, archive.name, with_archive=True)
        return self._result(DEMO, Fetched(archive, archive.name, cached=False), archive)

    def unpack(self, archive: Path) -> DownloadResult:
        """Unpack the user's archive."""
        if not is_archive(archive):
            actual = mistaken(archive, ZIP)
            problem = f"is not a zip archive but {actual}" if actual else "is not a zip archive"
            raise ArchiveError(f"{archive}: {problem}; give the path of the model's archive")
        self.progress("verifying the archive")
        with open_archive(archive) as opened:
            size, sha256 = opened.size, opened.sha256()
            pinned = self.workspace.model.checkpoint.archive
            verified = pinned is not None and (size, sha256) == (pinned.size, pinned.sha256)
            if not verified and not self.options.allow_unverified:
                expected = f" ({pinned.size} bytes, SHA-256 {pinned.sha256})" if pinned else ", of which none is known"
                raise ArchiveError(
                    f"{archive}: is not upstream's archive{expected}: it has {size} bytes, SHA-256 {sha256}; use "
                    "--allow-unverified if you trust it"
                )
            weights = f"sha256:{sha256}"
            if not self.dry_run:
                with self._unpacking():
                    self._store(opened, weights, archive.name, verified=verified)
        return self._result(weights, Fetched(archive, archive.name, cached=False), verified=verified)

    def fetch(self) -> DownloadResult:
        """Unpack the pinned archive from the cache or from a source."""
        path = config_path()
        config = read_config(path)
        sources = find_sources(self.workspace.model, self.options.sources, config, path.parent)
        pinned = self.workspace.model.archive
        configured = user_path(config.cache_dir, path.parent) if config.cache_dir else None
        cache = self.options.cache_dir or configured or default_cache()
        weights = f"sha256:{pinned.sha256}"
        if self.dry_run:
            shown = sources[0].shown if sources else ""
            return self._result(weights, Fetched(Entry(cache, pinned).path, shown, cached=False))
        fetched = fetch(pinned, sources, cache, offline=self.options.offline, say=self.progress, report=self.report)
        with self._unpacking(), open_archive(fetched.path, follow=False) as opened:
            if (opened.size, opened.sha256()) != (pinned.size, pinned.sha256):
                raise ArchiveError(f"{fetched.path}: was exchanged after it was verified; run it again")
            self._store(opened, weights, fetched.source)
        return self._result(weights, fetched)

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        self.progress("unpacking and reading it")
        self.report("model_postprocessing_begin")
        try:
            yield
        finally:
            self.report("model_postprocessing_end")

    def _store(
        self, archive: Archive, weights: str, source: str, *, verified: bool = True, with_archive: bool = False
    ) -> None:
        """Unpack beside the target and read the result: a bad archive leaves the old checkpoint unchanged.

        Replaces the folder in one step and keeps its other files. `with_archive` also moves the archive into it.
        """
        model, folder = self.workspace.model, self.workspace.checkpoint
        folder = folder.resolve() if folder.is_symlink() else folder
        with staging_folder(folder.parent) as staging:
            new = staging / folder.name
            new.mkdir()
            archive.unpack(model, new)
            open_checkpoint(new, model, allow_nonfinite=self.options.allow_nonfinite)
            write_record(new, model, weights=weights, source=source, verified=verified)
            if with_archive:
                archive.path.replace(new / archive.path.name)
            replace_folder(new, folder)

    def _result(self, weights: str, fetched: Fetched, *more: Path, verified: bool = True) -> DownloadResult:
        model, folder = self.workspace.model, self.workspace.checkpoint
        files = tuple(folder / name for name in (*model.file_names, "checkpoint.json"))
        return DownloadResult(model.name, weights, verified, fetched.source, fetched.cached, files + more)


def default_cache() -> Path:
    """The platform's cache folder: on Linux `~/.cache/sshtool`."""
    import platformdirs

    return platformdirs.user_cache_path("sshtool", appauthor=False)
