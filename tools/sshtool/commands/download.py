"""`sshtool download`: a complete, described checkpoint in the output folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from sshconvert.checkpoint import DEMO, open_checkpoint, write_record
from sshconvert.errors import ArchiveError, DownloadError
from sshconvert.files import replace_folder, staging_folder
from sshconvert.models import Model, load_model
from sshtool.checkpoint import demo
from sshtool.checkpoint.archive import Archive, is_archive, open_archive, pack

DEMO_ARCHIVE: Final = "ssh-model-demo.zip"


@dataclass(frozen=True)
class DownloadResult:
    """Where the checkpoint is, and what its weights are: "demo", or "sha256:" and the archive's hash."""

    model: str
    weights: str
    verified: bool
    files: tuple[Path, ...]


def checkpoint_folder(output_dir: Path, model: Model) -> Path:
    return output_dir / "checkpoints" / model.name


def download(
    model_name: str,
    output_dir: Path,
    *,
    demo_checkpoint: bool = False,
    from_archive: Path | None = None,
    allow_unverified: bool = False,
    allow_nonfinite: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> DownloadResult:
    """Make the demo checkpoint, or unpack an archive that the user has; store it in `<output_dir>/checkpoints/<model>`.

    Raises DownloadError without either, ArchiveError if the archive is not the pinned one (unless `allow_unverified`)
    or cannot be unpacked, and what reading the checkpoint raises: nothing is stored that cannot be converted.
    """
    model = load_model(model_name)
    if demo_checkpoint:
        return _store_demo(model, output_dir, dry_run, progress)
    if from_archive is not None:
        return _store_archive(model, output_dir, from_archive, allow_unverified, allow_nonfinite, dry_run, progress)
    raise DownloadError(_no_source(model))


def _store_demo(model: Model, output_dir: Path, dry_run: bool, progress: Callable[[str], None]) -> DownloadResult:
    folder = checkpoint_folder(output_dir, model)
    archive = folder / DEMO_ARCHIVE
    if not dry_run:
        with staging_folder(folder.parent) as staging:
            progress("making the demo checkpoint")
            demo.write_checkpoint(staging, model)
            progress("packing it as upstream's archive was packed")
            packed = staging / archive.name
            pack(staging, model, packed)
            progress("unpacking and reading it")
            with open_archive(packed) as source:
                _store(source, model, folder, weights=DEMO, verified=True, with_archive=True)
    return _result(model, folder, DEMO, True, (archive,))


def _store_archive(
    model: Model,
    output_dir: Path,
    archive: Path,
    allow_unverified: bool,
    allow_nonfinite: bool,
    dry_run: bool,
    progress: Callable[[str], None],
) -> DownloadResult:
    if not is_archive(archive):
        raise ArchiveError(f"{archive}: is not a zip archive; give the path of {model.archive.name}")
    progress("verifying the archive")
    with open_archive(archive) as source:
        size, sha256 = source.size, source.sha256()
        verified = (size, sha256) == (model.archive.size, model.archive.sha256)
        if not verified and not allow_unverified:
            raise ArchiveError(
                f"{archive}: is not upstream's archive ({model.archive.size} bytes, SHA-256 {model.archive.sha256}): "
                f"it has {size} bytes, SHA-256 {sha256}; use --allow-unverified if you trust it"
            )
        folder = checkpoint_folder(output_dir, model)
        weights = f"sha256:{sha256}"
        if not dry_run:
            progress("unpacking and reading it")
            _store(source, model, folder, weights=weights, verified=verified, allow_nonfinite=allow_nonfinite)
    return _result(model, folder, weights, verified)


def _store(
    archive: Archive,
    model: Model,
    folder: Path,
    *,
    weights: str,
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
        write_record(new, model, weights=weights, source=archive.path.name, verified=verified)
        if with_archive:
            archive.path.replace(new / archive.path.name)
        replace_folder(new, folder)


def _result(model: Model, folder: Path, weights: str, verified: bool, more: tuple[Path, ...] = ()) -> DownloadResult:
    files = tuple(folder / name for name in (model.files.symbol, model.files.params, "checkpoint.json"))
    return DownloadResult(model.name, weights, verified, files + more)


def _no_source(model: Model) -> str:
    source = model.sources[0]
    return (
        f"{source.url}: upstream's link has been dead since {source.dead_since}; give an archive that you have "
        "(--from-archive FILE), make the demo checkpoint (--demo), or convert files that you have unpacked "
        "(sshtool convert --checkpoint FOLDER)"
    )


def render(result: DownloadResult, plain: bool) -> RenderableType:  # noqa: ARG001  # the signature of all verbs
    """The result as text for a person."""
    note = "" if result.verified else " (not the archive that upstream published)"
    return Text("\n".join([f"{result.model}: weights {result.weights}{note}", *map(str, result.files)]))
