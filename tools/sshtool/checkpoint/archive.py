"""Archives of a checkpoint: upstream's zip layout, with the symbol and the parameters at the root."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sshconvert.checkpoint import Checkpoint, file_sha256, open_checkpoint
from sshconvert.errors import ArchiveError
from sshconvert.files import staged
from sshconvert.models import Model
from sshtool.checkpoint.zipcheck import RefusedError, check, stream


@contextlib.contextmanager
def opened(path: Path, model: Model, *, allow_nonfinite: bool = False) -> Iterator[Checkpoint]:
    """Open a folder, a `.params` file, or an archive, which is unpacked for as long as the block lasts.

    Raises what `open_checkpoint` and `unpack` raise.
    """
    if not is_archive(path):
        yield open_checkpoint(path, model, allow_nonfinite=allow_nonfinite)
        return
    with tempfile.TemporaryDirectory(prefix="sshtool-") as folder:
        unpack(path, model, Path(folder))
        checkpoint = open_checkpoint(Path(folder), model, allow_nonfinite=allow_nonfinite)
        yield checkpoint if checkpoint.is_demo else replace(checkpoint, weights=f"sha256:{file_sha256(path)}")


def is_archive(path: Path) -> bool:
    """Whether the path is a zip file, whatever it is called."""
    return path.is_file() and zipfile.is_zipfile(path)


def unpack(path: Path, model: Model, folder: Path) -> None:
    """Put the model's two files, and nothing else of the archive, into `folder`.

    They may lie at the archive's root or inside one enclosing folder. Raises ArchiveError if the archive cannot be
    read, does not hold them exactly once, or has anything in it that an honest archive has not (`zipcheck`).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check(archive)
            for name in (model.files.symbol, model.files.params):
                member = _find(archive, name, path)
                with staged(folder / name) as part, part.open("wb") as target:
                    target.writelines(stream(archive, member))
    except RefusedError as error:
        raise ArchiveError(f"{path}: {error}; get the archive again from whom you trust") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ArchiveError(f"{path}: cannot be unpacked ({error}); get the archive again") from error


def pack(folder: Path, model: Model, path: Path) -> None:
    """Make an archive of the model's two files as upstream did. Same files, same bytes: stored, without times."""
    with staged(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name in (model.files.symbol, model.files.params):
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o644 << 16
            member.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _find(archive: zipfile.ZipFile, name: str, path: Path) -> zipfile.ZipInfo:
    members = [
        info for info in archive.infolist() if info.filename.count("/") <= 1 and info.filename.split("/")[-1] == name
    ]
    if len(members) != 1:
        there = ", ".join(archive.namelist()[:10]) or "nothing"
        raise ArchiveError(f"{path}: expected {name} once, found it {len(members)} times; the archive holds {there}")
    return members[0]
