"""The cache of archives in a folder where another user could put something: no link is followed, nothing that is no
file is opened, and what is unpacked is what was verified.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sshconvert.checkpoint import Checkpoint
from sshconvert.errors import ArchiveError, DownloadError, OutputError
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec, PinnedFile
from sshtool.checkpoint.archive import pack
from sshtool.checkpoint.cache import Entry, Origin
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.checkpoint.fetch import Fetched, fetch
from sshtool.checkpoint.sources import DownloadSource
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
BODY: Final = random.Random(6).randbytes(100_001)  # noqa: S311  # it only has to be the same in each run
ARCHIVE: Final = PinnedFile(name="ssh.zip", size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
NAMES: Final = ("ssh.zip", ".part", ".source.json", ".lock")
ORIGIN: Final = Origin(source="mirror", validator='"1"')


@pytest.fixture
def mirror(tmp_path: Path) -> DownloadSource:
    path = tmp_path / "mirror.zip"
    path.write_bytes(BODY)
    return DownloadSource("mirror", path=path)


def get(cache: Path, source: DownloadSource) -> Fetched:
    return fetch(ARCHIVE, [source], cache)


PRECIOUS: Final[dict[str, bytes]] = {  # what a link leads to, so that each reader and writer is tempted
    "precious": b"precious",
    "the archive": BODY,
    "half of it": BODY[:50_000],
    "a description": ORIGIN.model_dump_json().encode(),
    "empty": b"",
}


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def link_to_nowhere(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("nowhere"))


def link_to_folder(path: Path, target: Path) -> None:
    target.with_name("folder").mkdir(exist_ok=True)
    path.symlink_to(target.with_name("folder"))


def link_to_pipe(path: Path, target: Path) -> None:
    if not target.with_name("pipe").exists():
        os.mkfifo(target.with_name("pipe"))
    path.symlink_to(target.with_name("pipe"))


def link_to_device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path, _: Path) -> None:
    path.symlink_to(path.name)


PLANTS: Final[tuple[Callable[[Path, Path], None], ...]] = (
    pipe, folder, link, hard_link, link_to_nowhere, link_to_folder, link_to_pipe, link_to_device, link_to_itself,
)  # fmt: skip


def test_these_are_all_the_names_that_the_cache_uses(mirror: DownloadSource, tmp_path: Path) -> None:
    get(tmp_path / "cache", mirror)
    entry = Entry(tmp_path / "cache", ARCHIVE)
    with entry.begin("mirror"):
        assert {path.name for path in entry.folder.iterdir()} == set(NAMES)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_what_was_planted_in_the_cache_is_refused_or_replaced(
    name: str, plant: Callable[[Path, Path], None], mirror: DownloadSource, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number, (what, content) in enumerate(PRECIOUS.items()):
        target = outside / what
        target.write_bytes(content)
        entry = Entry(tmp_path / f"cache-{number}", ARCHIVE)
        entry.folder.mkdir(0o700, parents=True)
        if name != ".source.json":
            entry._origin.write_text(ORIGIN.model_dump_json())
        plant(entry.folder / name, target)
        before = set(outside.iterdir())
        try:
            fetched = get(entry.cache, mirror)
        except (DownloadError, OutputError) as error:
            assert str(entry.folder) in str(error)  # noqa: PT017  # only some are refused
            assert "--cache-dir" in str(error)  # noqa: PT017
            assert plant is folder or name == ".lock", what
        else:
            assert fetched.cached == (plant is hard_link and what == "the archive" and name == "ssh.zip")
            assert fetched.path.read_bytes() == BODY
            assert not fetched.path.is_symlink()
        assert target.read_bytes() == content
        assert set(outside.iterdir()) == before


@pytest.mark.parametrize("plant", [link, hard_link], ids=lambda plant: plant.__name__)
def test_the_part_of_another_is_not_gone_on_with(plant: Callable[[Path, Path], None], tmp_path: Path) -> None:
    entry = Entry(tmp_path / "cache", ARCHIVE)
    entry.folder.mkdir(parents=True)
    entry._origin.write_text(ORIGIN.model_dump_json())
    entry._part.write_bytes(BODY[:50_000])
    assert entry.resumable("mirror") == (50_000, '"1"')
    for size in (50_000, len(BODY)):
        entry._part.unlink()
        (tmp_path / "outside").unlink(missing_ok=True)
        (tmp_path / "outside").write_bytes(BODY[:size])
        plant(entry._part, tmp_path / "outside")
        assert entry.resumable("mirror") == (0, "")
        assert not entry.finish()
    entry._part.unlink()
    link(entry._part, tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic"), entry.resume():  # if it comes after the look
        pass


@pytest.mark.parametrize("plant", [pipe, folder, link, hard_link, link_to_nowhere], ids=lambda plant: plant.__name__)
def test_a_lock_that_is_none_is_refused_by_every_version_of_filelock(
    plant: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    """Older ones would empty what a link leads to."""
    entry = Entry(tmp_path / "cache", ARCHIVE)
    entry.folder.mkdir(parents=True)
    entry._require_lock_file()
    (tmp_path / "outside").write_bytes(b"precious")
    plant(entry._lock, tmp_path / "outside")
    with pytest.raises(OutputError, match="--cache-dir"):
        entry._require_lock_file()


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such modes")
@pytest.mark.parametrize(
    ("mode", "of_cache", "trusted"),
    [
        (0o700, True, True),
        (0o755, True, True),
        (0o775, True, True),  # the user's own group
        (0o777, True, False),
        (0o702, True, False),
        (0o1777, True, True),  # as /tmp
        (0o700, False, True),
        (0o755, False, True),
        (0o775, False, True),
        (0o777, False, False),
        (0o702, False, False),
        (0o1777, False, False),
    ],
)
def test_a_folder_that_others_can_write_is_not_trusted(
    mode: int, of_cache: bool, trusted: bool, mirror: DownloadSource, tmp_path: Path
) -> None:
    entry = Entry(tmp_path / "cache", ARCHIVE)
    entry.folder.mkdir(0o700, parents=True)
    (entry.folder / ARCHIVE.name).write_bytes(BODY)
    (entry.cache if of_cache else entry.folder).chmod(mode)
    if trusted:
        assert get(entry.cache, mirror).cached
    else:
        with pytest.raises(DownloadError, match="--cache-dir"):
            get(entry.cache, mirror)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["cache", "folder"])
def test_a_folder_of_another_user_or_group_is_not_trusted(which: str, mirror: DownloadSource, tmp_path: Path) -> None:
    entry = Entry(tmp_path / "cache", ARCHIVE)
    entry.folder.mkdir(0o700, parents=True)
    (entry.folder / ARCHIVE.name).write_bytes(BODY)
    path = {"cache": entry.cache, "folder": entry.folder}[which]
    os.chown(path, 12345, -1)
    with pytest.raises(DownloadError, match="belongs to another user"):
        get(entry.cache, mirror)
    os.chown(path, 0, 12345)
    assert get(entry.cache, mirror).cached
    path.chmod(0o770)
    with pytest.raises(DownloadError, match="can be written by others"):
        get(entry.cache, mirror)


def test_an_entry_that_is_a_link_is_not_trusted(mirror: DownloadSource, tmp_path: Path) -> None:
    entry = Entry(tmp_path / "cache", ARCHIVE)
    entry.cache.mkdir()
    (tmp_path / "outside").mkdir()
    entry.folder.symlink_to(tmp_path / "outside")
    with pytest.raises(DownloadError, match="is a link"):
        get(entry.cache, mirror)
    with pytest.raises(DownloadError, match="is a link"), entry.locked(lambda _: None, 0):  # if it comes after the look
        pass
    assert not list((tmp_path / "outside").iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "cache-2")
    (tmp_path / "cache-2").mkdir()
    assert get(tmp_path / "link", mirror).path.read_bytes() == BODY  # the user's own


def test_what_the_cache_makes_nobody_else_can_write(mirror: DownloadSource, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        get(tmp_path / "cache", mirror)
    finally:
        os.umask(before)
    assert get(tmp_path / "cache", mirror).cached


@pytest.fixture
def pinned(demo_checkpoint: Checkpoint, tmp_path: Path) -> ModelSpec:
    """The model with an archive that is to be had: the demo's, which lies in `tmp_path`."""
    path = tmp_path / MODEL.archive.name
    pack(demo_checkpoint.params_path.parent, MODEL, path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    pin = MODEL.archive.model_copy(update={"size": path.stat().st_size, "sha256": sha256})
    return MODEL.model_copy(update={"checkpoint": MODEL.checkpoint.model_copy(update={"archive": pin})})


@pytest.mark.parametrize("exchange", ["another file", "a link", "a pipe", "nothing"])
def test_an_archive_that_is_exchanged_after_it_was_verified_is_not_unpacked(
    exchange: str, pinned: ModelSpec, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    other = tmp_path / "other.zip"
    folder = tmp_path / "other"
    folder.mkdir()
    for name in (MODEL.checkpoint.symbol, MODEL.checkpoint.params):
        content = (demo_checkpoint.params_path.parent / name).read_bytes()
        (folder / name).write_bytes(content + b" " if name == MODEL.checkpoint.symbol else content)
    pack(folder, MODEL, other)
    path = Entry(tmp_path / "cache", pinned.archive).path

    def progress(step: str) -> None:
        if step.startswith("unpacking"):
            path.rename(tmp_path / "original.zip")
            if exchange == "another file":
                other.rename(path)
            elif exchange == "a link":  # to the right one: by then it may lead elsewhere
                path.symlink_to(tmp_path / "original.zip")
            elif exchange == "a pipe":
                os.mkfifo(path)

    options = DownloadOptions(sources=(str(tmp_path / MODEL.archive.name),), cache_dir=tmp_path / "cache")
    with pytest.raises(ArchiveError, match=MODEL.archive.name):
        download(Workspace(pinned, tmp_path / "out"), options, progress=progress)
    assert not list((tmp_path / "out").rglob("*.params"))
