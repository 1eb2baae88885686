"""What is written beside its target and renamed over it; the folders in which that happens, and who removes them."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sshconvert import files
from sshconvert.errors import OutputError
from sshconvert.files import replace_files, replace_folder, scratch_folder, staged, staging_folder


def write(target: Path, text: str = "new") -> None:
    with staged(target) as part:
        part.write_text(text, encoding="utf-8")


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(files.PREFIX)]


@contextmanager
def another_process_staging_in(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has staged `a.txt` in `folder`, until it is killed."""
    script = (
        "import pathlib, sys, time\n"
        "from sshconvert.files import staged\n"
        "with staged(pathlib.Path(sys.argv[1]) / 'a.txt') as part:\n"
        "    part.write_text('theirs')\n"
        "    print('staged', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_staging_folder_of_a_living_process_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    with another_process_staging_in(tmp_path) as process:
        (theirs,) = hidden(tmp_path)
        write(tmp_path / "b.txt")
        assert hidden(tmp_path) == [theirs]
        assert (theirs / "a.txt").read_text() == "theirs"
        process.kill()
        process.wait()
        assert theirs.is_dir()
        write(tmp_path / "b.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_a_living_process_can_still_finish_after_another_has_staged_there(tmp_path: Path) -> None:
    with another_process_staging_in(tmp_path) as process:
        write(tmp_path / "b.txt")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
    assert (tmp_path / "a.txt").read_text() == "theirs"
    assert hidden(tmp_path) == []


def test_this_process_may_stage_in_one_place_twice_at_once(tmp_path: Path) -> None:
    with staged(tmp_path / "a.txt") as outer:
        outer.write_text("a")
        write(tmp_path / "b.txt")
        write(tmp_path / "a.txt", "replaced in between")
    assert (tmp_path / "a.txt").read_text() == "a"
    assert hidden(tmp_path) == []


def test_a_folder_without_a_lock_was_left_by_someone_who_is_dead(tmp_path: Path) -> None:
    (tmp_path / f"{files.PREFIX}old" / "deep").mkdir(parents=True)
    write(tmp_path / "a.txt")
    assert hidden(tmp_path) == []


def test_only_folders_are_taken_for_leftovers(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    link, file = tmp_path / "out" / f"{files.PREFIX}link", tmp_path / "out" / f"{files.PREFIX}file"
    link.symlink_to(elsewhere)
    file.touch()
    write(tmp_path / "out" / "a.txt")
    assert link.is_symlink()
    assert elsewhere.is_dir()
    assert file.is_file()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make another user's files")
def test_leftovers_of_another_user_are_not_touched(tmp_path: Path) -> None:
    theirs = tmp_path / f"{files.PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    write(tmp_path / "a.txt")
    assert theirs.is_dir()


def test_an_exception_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), staged(target) as part:  # noqa: PT012  # what is in the block is the subject
            part.write_text("half")
            raise error
    assert target.read_text() == "old"
    assert hidden(tmp_path) == []


def test_scratch_folders_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"{files.PREFIX}old").mkdir()
    with scratch_folder() as folder:
        (folder / "a").touch()
        assert hidden(tmp_path) == [folder]
    assert hidden(tmp_path) == []


def in_place_of_a_folder(folder: Path) -> Path:
    (folder / "a.txt").mkdir()
    return folder / "a.txt"


def in_place_of_a_link_to_a_folder(folder: Path) -> Path:
    (folder / "there").mkdir()
    (folder / "a.txt").symlink_to(folder / "there")
    return folder / "a.txt"


def in_place_of_a_link_to_a_device(folder: Path) -> Path:
    (folder / "a.txt").symlink_to(os.devnull)
    return folder / "a.txt"


def in_place_of_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.txt")
    return folder / "a.txt"


def under_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "a.txt"


def deep_under_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "deep" / "a.txt"


def with_a_name_too_long(folder: Path) -> Path:
    return folder / ("a" * 300)


def under_a_link_that_leads_in_circles(folder: Path) -> Path:
    (folder / "circle").symlink_to("circle")
    return folder / "circle" / "a.txt"


BAD_TARGETS: list[tuple[Callable[[Path], Path], str]] = [
    (in_place_of_a_folder, "not a file"),
    (in_place_of_a_link_to_a_folder, "not a file"),
    (in_place_of_a_link_to_a_device, "not a file"),
    (in_place_of_a_pipe, "not a file"),
    (under_a_file, "name another folder"),
    (deep_under_a_file, "name another folder"),
    (with_a_name_too_long, "shorter name"),
    (under_a_link_that_leads_in_circles, "name another folder"),
]


@pytest.mark.parametrize(("make", "message"), BAD_TARGETS, ids=[make.__name__ for make, _ in BAD_TARGETS])
def test_a_target_that_cannot_be_is_refused_in_one_line(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    target = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message) as raised:
        write(target)
    assert str(raised.value).startswith(f"{target}: cannot be written (")
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("elsewhere", ["there", "dangling"])
def test_a_symbolic_link_is_replaced_and_not_followed(elsewhere: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    (tmp_path / "a.txt").symlink_to(tmp_path / elsewhere)
    write(tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "there").read_text() == "kept"
    assert not (tmp_path / "dangling").exists()


def test_a_link_to_a_folder_is_followed_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    write(tmp_path / "link" / "a.txt")
    assert (tmp_path / "there" / "a.txt").read_text() == "new"


def test_what_was_staged_has_the_usual_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write(tmp_path / "a.txt")
    finally:
        os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_no_permission_to_write_into_a_folder_is_one_line(tmp_path: Path) -> None:
    """As root, in a process that has given up root's power over permissions."""
    (tmp_path / "out").mkdir(mode=0o555)
    command = [sys.executable, "-c", f"from test_staging import *; write(Path({str(tmp_path / 'out' / 'a.txt')!r}))"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and setpriv is not here to change that")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = result.stderr.splitlines()[-1]
    assert "out/a.txt: cannot be written (Permission denied); change its permissions or name another folder" in last
    assert hidden(tmp_path) == []


# Files that belong together.


def pair(folder: Path, text: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / "a.xml", folder / "a.bin"]
    for path in paths:
        path.write_text(f"{text} {path.suffix}")
    return paths


def test_files_are_replaced_together(tmp_path: Path) -> None:
    targets = pair(tmp_path / "out", "old")
    with staging_folder(tmp_path) as staging:
        replace_files(pair(staging / "new", "new"), targets, staging)
    assert [path.read_text() for path in targets] == ["new .xml", "new .bin"]


@pytest.mark.parametrize("there", [(), (0,), (1,), (0, 1)], ids=str)
def test_files_that_cannot_all_be_replaced_stay_as_they_were(there: tuple[int, ...], tmp_path: Path) -> None:
    targets = pair(tmp_path / "out", "old")
    for number in {0, 1} - set(there):
        targets[number].unlink()
    before = contents(tmp_path)
    with staging_folder(tmp_path) as staging:
        new = pair(staging / "new", "new")
        new[1].unlink()
        with pytest.raises(FileNotFoundError):
            replace_files(new, targets, staging)
    assert contents(tmp_path) == before


WRITER = """
import sys
from pathlib import Path
from sshconvert.files import replace_files, replace_folder, staging_folder
out, name = Path(sys.argv[1]), sys.argv[2]
for number in range(80):
    with staging_folder(out.parent) as staging:
        new = [staging / "a.xml", staging / "a.bin"]
        folder = staging / "folder"
        folder.mkdir()
        for path in (*new, folder / "a", folder / "b"):
            path.write_text(f"{name} {number}")
        replace_files(new, [out / "a.xml", out / "a.bin"], staging)
        replace_folder(folder, out.parent / "folder")
"""


def test_processes_that_replace_the_same_files_at_once_do_not_mix_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(out), str(number)]) for number in range(4)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        texts = []
        for name in ("a.xml", "a.bin", "a.xml"):
            with suppress(FileNotFoundError):
                texts.append((out / name).read_text())
        if len(texts) == 3 and texts[0] == texts[2]:  # nothing was replaced in between
            seen += 1
            assert texts[1] == texts[0]
    assert seen
    assert [writer.returncode for writer in writers] == [0] * 4
    assert len(set(contents(out).values())) == 1
    assert len(set(contents(tmp_path / "folder").values())) == 1
    assert hidden(tmp_path) == []


# Folders.


def folder_with(path: Path, **contents: str) -> Path:
    path.mkdir(parents=True)
    for name, text in contents.items():
        (path / name).write_text(text)
    return path


def contents(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_a_folder_is_replaced_and_what_is_not_the_programs_is_carried_over(tmp_path: Path) -> None:
    target = folder_with(tmp_path / "out", symbol="old", params="old", notes="mine")
    folder_with(target / "deep" / "er", more="mine too")
    (target / "link").symlink_to("nowhere")
    notes = (target / "notes").stat()
    with staging_folder(tmp_path) as staging:
        replace_folder(folder_with(staging / "out", symbol="new", params="new"), target)
    assert contents(target) == {"symbol": "new", "params": "new", "notes": "mine", "deep/er/more": "mine too"}
    assert (target / "link").is_symlink()
    assert (target / "notes").stat().st_mtime_ns == notes.st_mtime_ns
    assert hidden(tmp_path) == []


def test_a_folder_goes_where_there_was_none(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as staging:
        replace_folder(folder_with(staging / "out", symbol="new"), tmp_path / "out")
    assert contents(tmp_path) == {"out/symbol": "new"}


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with staging_folder(tmp_path) as staging, pytest.raises(OutputError, match="out: "):
        replace_folder(folder_with(staging / "out", symbol="new"), tmp_path / "out")
    assert contents(tmp_path) == {"out": "a file"}


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path: Path) -> None:
    target = folder_with(tmp_path / "out", symbol="old")
    with staging_folder(tmp_path) as staging, pytest.raises(FileNotFoundError):
        replace_folder(staging / "nothing", target)
    assert contents(tmp_path) == {"out/symbol": "old"}


def test_a_folder_moved_away_by_a_process_that_died_then_is_put_back(tmp_path: Path) -> None:
    """Killed between the two renames: the old folder, and what the user had in it, lies in a hidden one."""
    folder_with(tmp_path / f"{files.PREFIX}dead" / files.OLD / "out", symbol="old", notes="mine")
    write(tmp_path / "a.txt")
    assert contents(tmp_path) == {"out/symbol": "old", "out/notes": "mine", "a.txt": "new"}


def test_errors_name_the_place_and_not_the_hidden_folder_in_it(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as staging, pytest.raises(OutputError) as raised, staged(staging / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(raised.value) == (
        f"{tmp_path}: a.txt: cannot be written (No space left on device); free space there or name another folder"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_no_room_for_temporary_files_is_told_from_what_cannot_be_read(number: int) -> None:
    place = tempfile.gettempdir()
    with (
        pytest.raises(OutputError, match=rf"^{place}: a\.txt: cannot be written") as raised,
        scratch_folder() as folder,
    ):
        raise OSError(number, os.strerror(number), str(folder / "a.txt"))
    assert ("TMPDIR" in str(raised.value)) == (number != errno.EFBIG)
    with pytest.raises(OutputError, match=rf"^{place}: .*TMPDIR"), scratch_folder():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OutputError, match=rf"^{place}: a\.txt: .*TMPDIR"),
        scratch_folder() as folder,
        staged(folder / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(PermissionError), scratch_folder():
        raise PermissionError(errno.EACCES, "not ours")


def test_a_process_that_is_killed_lets_go_of_its_lock(tmp_path: Path) -> None:
    with another_process_staging_in(tmp_path) as process:
        (theirs,) = hidden(tmp_path)
        with pytest.raises(OSError, match="lock"):
            files._lock(theirs)
        process.send_signal(signal.SIGKILL)
        process.wait()
        files._lock(theirs).release()


def test_a_pipe_that_nobody_reads_is_no_fault_of_the_target(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), staged(tmp_path / "a.txt"):
        raise BrokenPipeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_one_of_the_files_leaves_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b" / "mine").mkdir(parents=True)
    with staging_folder(tmp_path) as staging:
        for name in "ab":
            (staging / name).write_text("new")
        with pytest.raises(OutputError, match="b: cannot be written"):
            replace_files([staging / "a", staging / "b"], [tmp_path / "a", tmp_path / "b"], staging)
    assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "b" / "mine").is_dir()


def test_a_staging_folder_that_another_process_took_for_dead_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may look at the folder after that is made and before it is locked: then it holds the lock, and removes it."""
    taken: dict[Path, FileLock] = {}
    lock = files._lock

    def late(folder: Path) -> Any:
        if not taken:
            taken[folder] = FileLock(folder / files.LOCK)
            taken[folder].acquire()
        return lock(folder)

    monkeypatch.setattr(files, "_lock", late)
    with staging_folder(tmp_path) as folder:
        (other,) = taken
        assert folder != other
        (folder / "file").write_text("whole")
    taken[other].release()
    assert list(tmp_path.iterdir()) == []


def test_a_staging_folder_that_another_process_has_just_removed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[Path] = []
    make = files._make

    def removed(folder: Path) -> bool:
        made = make(folder)
        if not gone:
            gone.append(folder)
            shutil.rmtree(folder)
        return made

    monkeypatch.setattr(files, "_make", removed)
    with staging_folder(tmp_path) as folder:
        assert folder != gone[0]
        (folder / "file").write_text("whole")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("turns", [30, pytest.param(300, marks=pytest.mark.long)])
def test_threads_stage_files_in_one_folder_at_once(turns: int, tmp_path: Path) -> None:
    def write(number: int) -> None:
        for turn in range(turns):
            with staged(tmp_path / f"{number}-{turn}") as part:
                part.write_bytes(b"x")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert len(list(tmp_path.iterdir())) == 8 * turns
