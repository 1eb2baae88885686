"""Files that change while they are read, that are no files, or that are too large: an error, and never a mixture."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from command_line import json_of
from params_files import floats, one, record, seeds
from sshconvert import digest, snapshot
from sshconvert.errors import ParamsError
from sshconvert.mxnet.params import MAX_BYTES, read_params, write_params
from sshconvert.snapshot import BLOCK, PATIENCE, take_snapshot

SMALL: Final = seeds()["V2"]
ONLINE: Final = Path("/sys/devices/system/cpu/online")  # a few bytes, and 4096 of them as its size

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel limits a process's memory on Linux only")


def large_file(folder: Path) -> Path:
    """A file that is read in four parts, last changed long ago."""
    path = folder / "model-0000.params"
    values = np.arange(3.5 * BLOCK / 4, dtype=np.float32)
    path.write_bytes(one(record("V2", values.shape, values.tobytes())))
    os.utime(path, (1e9, 1e9))
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def truncate_and_put_the_clock_back(path: Path) -> None:
    status = path.stat()
    truncate(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\x00")


def rewrite(path: Path) -> None:
    """Other contents of the same size, in the same file."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def cut_off_and_write_again(path: Path) -> None:
    """What `cp` and most programs do: at one moment, the file is empty."""
    path.write_bytes(path.read_bytes())


CHANGES: Final = [truncate, truncate_and_put_the_clock_back, empty, grow, rewrite, cut_off_and_write_again]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_between_its_size_and_its_bytes_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = large_file(tmp_path)

    with pytest.raises(ParamsError, match=r"model-0000.params.*changed"):
        take_snapshot(path, ParamsError, limit=MAX_BYTES, check=lambda _: change(path))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", [1, 2, 4], ids=["after the first part", "in the middle", "after the last part"])
def test_a_file_that_changes_while_its_bytes_are_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], part: int
) -> None:
    path = large_file(tmp_path)
    parts: list[int] = []

    class Meddler:
        """The hash, which is told of each part once it is read, and that really changes the file then."""

        def __init__(self) -> None:
            self.digest = hashlib.sha256()

        def update(self, data: memoryview) -> None:
            self.digest.update(data)
            parts.append(len(data))
            if len(parts) == part:
                change(path)

        def hexdigest(self) -> str:
            return self.digest.hexdigest()

    class Hashes:
        @staticmethod
        def new(_algorithm: str) -> Meddler:
            return Meddler()

    monkeypatch.setattr(digest, "hashlib", Hashes)
    with pytest.raises(ParamsError, match=r"model-0000.params.*changed"):
        read_params(path)
    assert len(parts) >= part


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(tmp_path: Path) -> None:
    path = large_file(tmp_path)
    before = path.read_bytes()

    def replace(_: bytes) -> None:
        write_params(path, {"arg:b": np.ones(3, np.float32)})

    taken = take_snapshot(path, ParamsError, limit=MAX_BYTES, check=replace)

    assert taken.data == before
    assert taken.sha256 == hashlib.sha256(before).hexdigest()
    assert list(read_params(path)) == ["arg:b"]


@pytest.mark.parametrize("change", CHANGES)
def test_what_becomes_of_a_file_after_it_was_read_does_not_matter(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = large_file(tmp_path)
    values = read_params(path)["arg:a"]

    change(path)

    assert values.sum(dtype=np.float64) == values.size * (values.size - 1) / 2


def test_a_file_that_is_written_all_the_time_is_never_read_as_a_mixture(tmp_path: Path) -> None:
    """A thread writes ones over twos and twos over ones; the reader gets either, or an error."""
    path = tmp_path / "model-0000.params"
    files = [one(record("V2", (BLOCK,), np.full(BLOCK, value, "<f4").tobytes())) for value in (1, 2)]
    path.write_bytes(files[0])
    done = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not done.is_set():
                for raw in files:
                    file.seek(0)
                    file.write(raw)
                    time.sleep(0.001)
                done.wait(0.1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = {mixture(path) for _ in range(10)}
    finally:
        done.set()
        thread.join()

    assert seen <= {"changed while it was read", (1.0,), (2.0,)}


def mixture(path: Path) -> object:
    try:
        return tuple(np.unique(read_params(path)["arg:a"]).tolist())
    except ParamsError as error:
        return str(error).partition(": ")[2].partition(";")[0]


def test_a_file_that_was_changed_just_now_is_read_a_moment_later(tmp_path: Path) -> None:
    path = tmp_path / "model-0000.params"
    path.write_bytes(SMALL)
    start = time.time()

    assert list(read_params(path)) == ["arg:a", "arg:b"]
    assert time.time() - start < 2

    os.utime(path, (start + 1000, start + 1000))  # a clock that is wrong is not waited for
    assert list(read_params(path)) == ["arg:a", "arg:b"]


def test_a_file_that_is_written_again_and_again_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large_file(tmp_path)
    waits: list[float] = []

    class Clock:
        """It is always the moment at which the file was written last."""

        @staticmethod
        def time() -> float:
            return path.stat().st_mtime

        @staticmethod
        def sleep(seconds: float) -> None:
            waits.append(seconds)
            os.utime(path)

    os.utime(path)
    monkeypatch.setattr(snapshot, "time", Clock)
    with pytest.raises(ParamsError, match="changed while"):
        read_params(path)
    assert len(waits) == PATIENCE


def test_an_error_of_the_disk_is_named(tmp_path: Path) -> None:
    path = large_file(tmp_path)

    def fail(_: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(ParamsError, match=r"model-0000.params.*Input/output error"):
        take_snapshot(path, ParamsError, limit=MAX_BYTES, check=fail)


@linux
def test_a_file_with_more_in_it_than_its_size_is_refused() -> None:
    path = Path("/proc/self/status")
    assert path.stat().st_size == 0

    with pytest.raises(ParamsError, match="/proc/self/status: changed while"):
        take_snapshot(path, ParamsError, limit=MAX_BYTES)


@pytest.mark.skipif(not ONLINE.is_file(), reason="the kernel shows no files of its own here")
def test_a_file_with_less_in_it_than_its_size_is_refused() -> None:
    assert len(ONLINE.read_bytes()) < ONLINE.stat().st_size

    with pytest.raises(ParamsError, match=f"{ONLINE}: changed while"):
        take_snapshot(ONLINE, ParamsError, limit=MAX_BYTES)


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    path = tmp_path / "model-0000.params"
    path.write_bytes(SMALL)

    assert take_snapshot(path, ParamsError, limit=len(SMALL)).data == SMALL
    with pytest.raises(ParamsError, match=f"model-0000.params: the file: is larger than {len(SMALL) - 1} bytes"):
        take_snapshot(path, ParamsError, limit=len(SMALL) - 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.params"
    os.mkfifo(path)

    with pytest.raises(ParamsError, match=r"pipe.params"):
        read_params(path)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="there is no /dev/zero here")
def test_an_endless_device_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"/dev/zero: cannot be read"):
        read_params(Path("/dev/zero"))


def read_in_little_memory(path: Path) -> str:
    """The error of reading a file in a process that gets 64 MB for it."""
    return str(json_of("params_mutations.py", "read", path, 0)["error"])


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file with a hole: as large as it says, without taking the place."""
    with path.open("wb") as file:
        file.write(head)
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"no file of {size} bytes here: {error.strerror}")
    return path


@linux
def test_a_huge_file_that_is_something_else_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    path = sparse(tmp_path / "film.params", MAX_BYTES - 1)

    assert "film.params: offset 0: expected magic 0x112, found 0x0" in read_in_little_memory(path)


@linux
def test_a_file_beyond_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    path = sparse(tmp_path / "huge.params", (16 << 30) + 1, one(record("V2", (2,), floats(1, 2))))

    assert f"huge.params: the file: is larger than {16 << 30} bytes" in read_in_little_memory(path)


@linux
def test_a_file_larger_than_the_memory_is_refused(tmp_path: Path) -> None:
    path = sparse(tmp_path / "large.params", 1 << 30, one(record("V2", (2,), floats(1, 2))))

    assert f"there is no memory for its {1 << 30} bytes" in read_in_little_memory(path)
