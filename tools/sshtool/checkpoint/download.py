"""Storing a checkpoint: the demo, the content of the user's archive, or a download of the archive or both files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import DEMO, open_checkpoint, write_record
from sshconvert.digest import SHOWN, Algorithm
from sshconvert.errors import ArchiveError, UsageError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.models.spec import LooseFile, PinnedFile, SourceSpec
from sshconvert.recognition import ZIP, mistaken
from sshtool.checkpoint.archive import Archive, is_archive, open_archive, pack
from sshtool.checkpoint.cache import Entry
from sshtool.checkpoint.fetch import Fetched, Report, fetch, no_report
from sshtool.checkpoint.sources import find_sources
from sshtool.config import config_path, read_config, user_path
from sshtool.demo.network import check_demo, write_demo
from sshtool.progress import silent
from sshtool.workspace import Workspace

DEMO_MODEL: Final = "ssh-mxnet"
DEMO_ARCHIVE: Final = "ssh-model-demo.zip"  # of that model, after upstream's archive


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
    """The stored checkpoint. `weights` is "demo", "sha256:" and the archive's hash, or "params-sha256:" and that of a
    loose file.

    A dry run does not have the file, and gives the hash in the description. `source` is the archive's source, or those
    of both files, without user, password and query; with `cached`, the source of the download.
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
    report("model_download_begin", num_files=(len(workspace.model.checkpoint.files) or 1) * from_web)
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
        check_demo(model)
        archive = folder / (DEMO_ARCHIVE if model.name == DEMO_MODEL else f"{model.name}-demo.zip")
        if not self.dry_run:
            with staging_folder(folder.parent) as staging:
                self.progress("making the demo checkpoint")
                write_demo(staging, model)
                self.progress("packing it as upstream's archive was packed")
                packed = staging / archive.name
                pack(staging, model, packed)
                with self._unpacking(), open_archive(packed) as opened:
                    self._store(partial(opened.unpack, model), DEMO, archive.name, archive=packed)
        return self._result(DEMO, Fetched(archive, archive.name, cached=False), archive)

    def unpack(self, archive: Path) -> DownloadResult:
        """Unpack the user's archive."""
        if not is_archive(archive):
            actual = mistaken(archive, ZIP)
            problem = f"is not a zip or tar archive but {actual}" if actual else "is not a zip or tar archive"
            raise ArchiveError(f"{archive}: {problem}; give the path of the model's archive")
        self.progress("verifying the archive")
        with open_archive(archive) as opened:
            pinned = self.workspace.model.checkpoint.archive
            verified = pinned is not None and opened.is_pinned(pinned)
            if not verified and not self.options.allow_unverified:
                algorithm: Algorithm = pinned.algorithm if pinned else "sha256"
                name = SHOWN[algorithm]
                expected = f" ({pinned.size} bytes, {name} {pinned.digest})" if pinned else ", of which none is known"
                raise ArchiveError(
                    f"{archive}: is not upstream's archive{expected}: it has {opened.size} bytes, {name} "
                    f"{opened.digest(algorithm)}; use --allow-unverified if you trust it"
                )
            weights = f"sha256:{opened.digest()}"
            if not self.dry_run:
                with self._unpacking():
                    self._store(partial(opened.unpack, self.workspace.model), weights, archive.name, verified=verified)
        return self._result(weights, Fetched(archive, archive.name, cached=False), verified=verified)

    def fetch(self) -> DownloadResult:
        """Store the pinned archive's content, or both pinned files, from the cache or from a source."""
        model = self.workspace.model
        if model.checkpoint.files:
            return self._fetch_files(model.checkpoint.files)
        pinned = model.archive
        fetched = self._fetched(pinned, model.checkpoint.sources)
        if self.dry_run:
            return self._result(f"{pinned.algorithm}:{pinned.digest}", fetched)
        with self._unpacking(), _unchanged(fetched.path, pinned) as opened:
            weights = f"sha256:{opened.digest()}"
            self._store(partial(opened.unpack, model), weights, fetched.source)
        return self._result(weights, fetched)

    def _fetch_files(self, files: Sequence[LooseFile]) -> DownloadResult:
        fetched = [self._fetched(file, file.sources, [other.name for other in files]) for file in files]
        sources = ", ".join(dict.fromkeys(item.source for item in fetched if item.source))
        summary = Fetched(fetched[-1].path, sources, cached=all(item.cached for item in fetched))
        params = files[-1]
        if self.dry_run:
            return self._result(f"params-{params.algorithm}:{params.digest}", summary)

        def fill(folder: Path) -> None:
            for file, item in zip(files, fetched, strict=True):
                with _unchanged(item.path, file) as opened:
                    opened.copy(folder / file.name)

        with self._unpacking(), _unchanged(fetched[-1].path, params) as opened:
            weights = f"params-sha256:{opened.digest()}"
            self._store(fill, weights, sources)
        return self._result(weights, summary)

    def _fetched(self, pinned: PinnedFile, published: Sequence[SourceSpec], names: Sequence[str] = ()) -> Fetched:
        """Fetch an archive, or one of the files `names`. A dry run only names the first source."""
        path = config_path()
        config = read_config(path)
        sources = find_sources(pinned.name, published, self.options.sources, config, path.parent)
        others = {name for name in names if name != pinned.name}
        sources = tuple(source for source in sources if source.file_name not in others)
        configured = user_path(config.cache_dir, path.parent) if config.cache_dir else None
        cache = self.options.cache_dir or configured or default_cache()
        if self.dry_run:
            shown = sources[0].shown if sources else ""
            return Fetched(Entry(cache, pinned).path, shown, cached=False)
        return fetch(pinned, sources, cache, offline=self.options.offline, say=self.progress, report=self.report)

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        self.progress("unpacking and reading it")
        self.report("model_postprocessing_begin")
        try:
            yield
        finally:
            self.report("model_postprocessing_end")

    def _store(
        self,
        fill: Callable[[Path], None],
        weights: str,
        source: str,
        *,
        verified: bool = True,
        archive: Path | None = None,
    ) -> None:
        """Let `fill` put the files beside the target, and read them: bad files leave the old checkpoint unchanged.

        Replaces the folder in one step and keeps its other files. Also moves `archive` into it.
        """
        model, folder = self.workspace.model, self.workspace.checkpoint
        folder = folder.resolve() if folder.is_symlink() else folder
        with staging_folder(folder.parent) as staging:
            new = staging / folder.name
            new.mkdir()
            fill(new)
            open_checkpoint(new, model, allow_nonfinite=self.options.allow_nonfinite)
            write_record(new, model, weights=weights, source=source, verified=verified)
            if archive:
                archive.replace(new / archive.name)
            replace_folder(new, folder)

    def _result(self, weights: str, fetched: Fetched, *more: Path, verified: bool = True) -> DownloadResult:
        model, folder = self.workspace.model, self.workspace.checkpoint
        files = tuple(folder / name for name in (*model.file_names, "checkpoint.json"))
        return DownloadResult(model.name, weights, verified, fetched.source, fetched.cached, files + more)


@contextmanager
def _unchanged(path: Path, pinned: PinnedFile) -> Iterator[Archive]:
    """Open a file of the cache. Raises ArchiveError unless it is still the pinned one."""
    with open_archive(path, follow=False) as opened:
        if not opened.is_pinned(pinned):
            raise ArchiveError(f"{path}: was exchanged after it was verified; run it again")
        yield opened


def default_cache() -> Path:
    """The platform's cache folder: on Linux `~/.cache/sshtool`."""
    import platformdirs

    return platformdirs.user_cache_path("sshtool", appauthor=False)
