"""`sshtool download`: a complete, described checkpoint in the output folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sshconvert.checkpoint import DEMO, open_checkpoint, write_record
from sshconvert.errors import ArchiveError, UsageError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.models.spec import ModelSpec
from sshconvert.recognition import ZIP, mistaken
from sshtool.checkpoint.archive import Archive, is_archive, open_archive, pack
from sshtool.checkpoint.cache import Entry
from sshtool.checkpoint.fetch import Fetched, Report, fetch, no_report
from sshtool.checkpoint.sources import find_sources
from sshtool.config import config_path, read_config, user_path
from sshtool.demo import checkpoint as demo
from sshtool.workspace import Workspace

if TYPE_CHECKING:
    from sshtool.checkpoint.web import Limits

DEMO_ARCHIVE: Final = "ssh-model-demo.zip"


@dataclass(frozen=True)
class Accept:
    """What the user trusts an archive of their own with: to be another than upstream's, to hold NaN or infinities."""

    unverified: bool = False
    nonfinite: bool = False


@dataclass(frozen=True)
class FetchOptions:
    """Where to look for the archive. `sources` come before the mirrors of the environment and the config file.

    `cache_dir` None is the config file's, or else the platform's place for caches.
    """

    sources: tuple[str, ...] = ()
    offline: bool = False
    cache_dir: Path | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class DownloadResult:
    """Where the checkpoint is, and what its weights are: "demo", or "sha256:" and the archive's hash.

    `source` is where the archive comes from, without user, password and query; with `cached`, where it came from when
    it was downloaded.
    """

    model: str
    weights: str
    verified: bool
    source: str
    cached: bool
    files: tuple[Path, ...]


def download(
    workspace: Workspace,
    *,
    demo_checkpoint: bool = False,
    from_archive: Path | None = None,
    allow_unverified: bool = False,
    allow_nonfinite: bool = False,
    options: FetchOptions = FetchOptions(),
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    report: Report = no_report,
) -> DownloadResult:
    """Make the demo checkpoint, unpack an archive that the user has, or download it; store it in
    the checkpoint folder of the workspace.

    Raises DownloadError if no source gives the archive, ArchiveError if one of the user is not the pinned one (unless
    `allow_unverified`) or cannot be unpacked, and what reading the checkpoint raises: nothing is stored that cannot be
    converted.
    """
    from_web = not demo_checkpoint and from_archive is None
    successful = False
    report("model_download_begin", num_files=int(from_web))
    try:
        if demo_checkpoint:
            result = _store_demo(workspace, dry_run, progress, report)
        elif from_archive is not None:
            accept = Accept(unverified=allow_unverified, nonfinite=allow_nonfinite)
            result = _store_archive(workspace, from_archive, accept, dry_run, progress, report)
        else:
            if allow_unverified:
                raise UsageError(
                    "--allow-unverified is for --from-archive: what a source sends has to be the pinned archive; get "
                    "the file yourself, and give it with --from-archive"
                )
            result = _store_download(workspace, options, allow_nonfinite, dry_run, progress, report)
        successful = True
        return result
    finally:
        report("model_download_end", successful=successful)


def _store_demo(workspace: Workspace, dry_run: bool, progress: Callable[[str], None], report: Report) -> DownloadResult:
    model, folder = workspace.model, workspace.checkpoint
    demo.check_model(model)
    archive = folder / DEMO_ARCHIVE
    if not dry_run:
        with staging_folder(folder.parent) as staging:
            progress("making the demo checkpoint")
            demo.write_checkpoint(staging, model)
            progress("packing it as upstream's archive was packed")
            packed = staging / archive.name
            pack(staging, model, packed)
            progress("unpacking and reading it")
            with _told(report), open_archive(packed) as opened:
                _store(opened, model, folder, weights=DEMO, source=archive.name, verified=True, with_archive=True)
    return _result(model, folder, DEMO, Fetched(archive, archive.name, cached=False), True, (archive,))


def _store_archive(
    workspace: Workspace,
    archive: Path,
    accept: Accept,
    dry_run: bool,
    progress: Callable[[str], None],
    report: Report,
) -> DownloadResult:
    model = workspace.model
    if not is_archive(archive):
        what = mistaken(archive, ZIP)
        found = f"is not a zip archive but {what}" if what else "is not a zip archive"
        raise ArchiveError(f"{archive}: {found}; give the path of the model's archive")
    progress("verifying the archive")
    with open_archive(archive) as opened:
        size, sha256 = opened.size, opened.sha256()
        pinned = model.checkpoint.archive
        verified = pinned is not None and (size, sha256) == (pinned.size, pinned.sha256)
        if not verified and not accept.unverified:
            expected = f" ({pinned.size} bytes, SHA-256 {pinned.sha256})" if pinned else ", of which none is known"
            raise ArchiveError(
                f"{archive}: is not upstream's archive{expected}: it has {size} bytes, SHA-256 {sha256}; use "
                "--allow-unverified if you trust it"
            )
        folder = workspace.checkpoint
        weights = f"sha256:{sha256}"
        if not dry_run:
            progress("unpacking and reading it")
            with _told(report):
                _store(
                    opened,
                    model,
                    folder,
                    weights=weights,
                    source=archive.name,
                    verified=verified,
                    allow_nonfinite=accept.nonfinite,
                )
    return _result(model, folder, weights, Fetched(archive, archive.name, cached=False), verified)


def _store_download(
    workspace: Workspace,
    options: FetchOptions,
    allow_nonfinite: bool,
    dry_run: bool,
    progress: Callable[[str], None],
    report: Report,
) -> DownloadResult:
    model, path = workspace.model, config_path()
    config = read_config(path)
    sources = find_sources(model, options.sources, config, path.parent)
    cache = options.cache_dir or (user_path(config.cache_dir, path.parent) if config.cache_dir else default_cache())
    folder = workspace.checkpoint
    weights = f"sha256:{model.archive.sha256}"
    if dry_run:
        fetched = Fetched(Entry(cache, model.archive).path, sources[0].shown if sources else "", cached=False)
        return _result(model, folder, weights, fetched, True)
    fetched = fetch(
        model.archive,
        sources,
        cache,
        offline=options.offline,
        limits=options.limits,
        say=progress,
        report=report,
    )
    progress("unpacking and reading it")
    with _told(report), open_archive(fetched.path, follow=False) as opened:
        if (opened.size, opened.sha256()) != (model.archive.size, model.archive.sha256):
            raise ArchiveError(f"{fetched.path}: was exchanged after it was verified; run it again")
        _store(
            opened,
            model,
            folder,
            weights=weights,
            source=fetched.source,
            verified=True,
            allow_nonfinite=allow_nonfinite,
        )
    return _result(model, folder, weights, fetched, True)


@contextmanager
def _told(report: Report) -> Iterator[None]:
    report("model_postprocessing_begin")
    try:
        yield
    finally:
        report("model_postprocessing_end")


def default_cache() -> Path:
    """The platform's place for caches: on Linux `~/.cache/sshtool`."""
    import platformdirs

    return platformdirs.user_cache_path("sshtool", appauthor=False)


def _store(
    archive: Archive,
    model: ModelSpec,
    folder: Path,
    *,
    weights: str,
    source: str,
    verified: bool,
    allow_nonfinite: bool = False,
    with_archive: bool = False,
) -> None:
    """Unpack beside the target and read what came out, so that a bad archive leaves the old checkpoint alone.

    The folder is replaced as a whole, `archive` moved into it if so wished; other files that are in it stay there.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    with staging_folder(folder.parent) as staging:
        new = staging / folder.name
        new.mkdir()
        archive.unpack(model, new)
        open_checkpoint(new, model, allow_nonfinite=allow_nonfinite)
        write_record(new, model, weights=weights, source=source, verified=verified)
        if with_archive:
            archive.path.replace(new / archive.path.name)
        replace_folder(new, folder)


def _result(
    model: ModelSpec, folder: Path, weights: str, fetched: Fetched, verified: bool, more: tuple[Path, ...] = ()
) -> DownloadResult:
    files = tuple(folder / name for name in (*model.file_names, "checkpoint.json"))
    return DownloadResult(model.name, weights, verified, fetched.source, fetched.cached, files + more)
