"""Runs jobs over and over, and stops them at chosen moments.

    python tests/support/crash_trials.py INPUTS WORK DOSES

`INPUTS` is what `make_inputs` made. `DOSES` is a JSON object: for each job and each way of stopping it, how many
moments, spread over all that there are (-1: every one). It imports everything once and forks for each trial, and
prints a JSON line for each: what stopped the child, what each target was then, and what a second run made of it.

The ways: `event`, SIGKILL before the n-th operation on the file system; `size`, death (by the signal of the limit) when
a file grows beyond n bytes, in Python or in native code; `time`, SIGKILL from outside after a part of the time that
the job takes; `limit`, no file may grow beyond n bytes; `full`, the disk has room for n bytes more; `read-only`, the
disk is; `interrupt`, `interrupt again` and `terminate`, a signal before the n-th operation, and again before each that
follows. Disks take the right to mount some: `UNSHARED` gives it, where it works.

A new verb that writes is another entry in `JOBS`.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from scaled_checkpoint import write_random_checkpoint
from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert, plan
from sshconvert.digest import file_sha256
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshtool.checkpoint.archive import pack
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = 64
SHAPE: Final = f"1,3,{SIZE},{SIZE}"
BOTH: Final = (Precision.FP32, Precision.FP16)
SEEDS: Final = {"old": 1, "new": 2}

# In a name space of its own, a process may mount.
UNSHARED: Final = ("unshare", "--map-root-user", "--mount")
ROOM: Final = 256 << 20

# Operations of which Python tells its audit hooks, before each.
WATCHED: Final = frozenset(
    {"fcntl.flock", "open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
)
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# So many kills after a rename, unless every operation gets one.
MOST_AFTER: Final = 4

HIDDEN: Final = ".sshtool-"
# Ways whose moments are sizes in bytes.
SIZES: Final = ("size", "limit", "full", "read-only")

NOTES: Final = "notes.txt"  # of the user, in a folder that is replaced as a whole


@dataclass(frozen=True)
class Job:
    """Something that writes. `do(inputs, out, "old" or "new")` writes one version or the other of the targets.

    Each group of targets is all of one version, or absent: a folder (`folder`, or a name that ends in a slash) with all
    that is in it, or files, the first being the one by which the others are found.
    """

    do: Callable[[Path, Path, str], None]
    targets: Sequence[Sequence[str]]
    folder: str = ""


def make_inputs(folder: Path) -> None:
    """Two checkpoints of a slim network, their archives and artifacts, an image, a report and answers of each."""
    from PIL import Image

    from sshtool.candidates import Candidate
    from sshtool.demo.scenes import draw_scene
    from sshtool.parity.reference import LiveReference
    from sshtool.parity.verification import VerifyResult
    from sshtool.parity.verify import verify
    from sshtool.runtimes.loading import load

    (folder / "images").mkdir()
    for number in range(2):
        Image.fromarray(draw_scene(number, SIZE, SIZE).image).save(folder / "images" / f"{number}.png")
    for version, seed in SEEDS.items():
        checkpoint = folder / version
        checkpoint.mkdir()
        write_random_checkpoint(checkpoint, seed=seed)
        pack(checkpoint, MODEL, folder / f"{version}.zip")
        options = Options(("onnx",), (Precision.FP32,), (1, 3, SIZE, SIZE))
        path = convert(open_checkpoint(checkpoint, MODEL), folder / f"{version}-artifacts", options)[0].path
        reference = LiveReference(load(path, MODEL), MODEL, scenes=1)
        result = VerifyResult(verify(MODEL, reference, [Candidate(path, "FP32")]))
        answers = list(reference.answers(SIZE, SIZE))[:1]
        (folder / f"{version}.pickle").write_bytes(pickle.dumps((result, answers)))


def _sshtool(*arguments: str | Path) -> None:
    from sshtool.main import main

    sys.argv = ["sshtool", *map(str, arguments)]
    main()


def _download_demo(inputs: Path, out: Path, version: str) -> None:
    if version == "old":
        _download(inputs, out, version)
    else:
        _sshtool("download", "--demo", "--quiet", "-o", out)


def _download(inputs: Path, out: Path, version: str) -> None:
    archive = inputs / f"{version}.zip"
    _sshtool("download", "--from-archive", archive, "--allow-unverified", "--quiet", "-o", out)


def _download_pinned(inputs: Path, out: Path, version: str) -> None:
    """By way of the cache. The archive that upstream published is not to be had, so others are pinned."""
    from sshconvert.models import registry

    path = inputs / f"{version}.zip"
    pinned = MODEL.archive.model_copy(update={"size": path.stat().st_size, "sha256": file_sha256(path)})
    checkpoint = MODEL.checkpoint.model_copy(update={"archive": pinned})
    vars(registry)["load_model"] = lambda _: MODEL.model_copy(update={"checkpoint": checkpoint})
    cache = Path(tempfile.gettempdir()) / "cache"
    _sshtool("download", "--source", path, "--cache-dir", cache, "--quiet", "-o", out)


def _convert(inputs: Path, out: Path, version: str) -> None:
    source = ("--checkpoint", inputs / version, "--input-shape", SHAPE)
    _sshtool("convert", *source, "--precision", "FP32,FP16", "--quiet", "-o", out)


def _unpack_and_convert(inputs: Path, out: Path, version: str) -> None:
    source = ("--checkpoint", inputs / f"{version}.zip", "--input-shape", SHAPE)
    _sshtool("convert", *source, "--format", "onnx", "--quiet", "-o", out)


def _detect(inputs: Path, out: Path, version: str) -> None:
    artifact = inputs / f"{version}-artifacts" / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    options = ("--artifact", artifact, "--threads", "1", "--threshold", "0.05", "--save-images")
    _sshtool("detect", inputs / "images", *options, "--quiet", "-o", out)


def _write_reports(inputs: Path, out: Path, version: str) -> None:
    """The end of `sshtool verify`."""
    from sshtool.parity.reference import Reference
    from sshtool.report.verification import ReportFiles

    result, answers = pickle.loads((inputs / f"{version}.pickle").read_bytes())  # noqa: S301  # of `make_inputs`
    reference: Any = type("Answers", (Reference,), {"answers": lambda *_: answers, "other_size": lambda _: None})
    files = ReportFiles(html=out / "a.html", junit=out / "a.xml", markdown=out / "deep" / "a.md")
    _as_verb("verify", lambda: files.write(result, reference.__new__(reference)))


def _package(inputs: Path, out: Path, version: str) -> None:
    artifact = inputs / f"{version}-artifacts" / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    _sshtool("package", "--artifact", artifact, "--allow-unverified", "--archive", "zip", "--quiet", "-o", out)


def _write_pack(inputs: Path, out: Path, version: str) -> None:
    """The end of `sshtool reference`."""
    from sshtool.parity.pack import write_pack

    _, answers = pickle.loads((inputs / f"{version}.pickle").read_bytes())  # noqa: S301  # as above
    checkpoint = open_checkpoint(inputs / version, MODEL)
    _as_verb("reference", lambda: write_pack(out / "pack.npz", checkpoint, "MXNet", answers))


def _as_verb(name: str, act: Callable[[], object]) -> None:
    """Run a part of a verb as the command line runs the whole: MXNet, which that needs, is not everywhere."""
    import typer

    from sshtool import main
    from sshtool.cli import app as cli, session

    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def verb() -> None:
        with session.Session(name, json=False, quiet=True, debug=False):
            act()

    sys.argv = ["sshtool"]
    original, cli.app = cli.app, app
    try:
        main.main()
    finally:
        cli.app = original


def _artifacts(*kinds: str) -> list[list[str]]:
    planned = plan(MODEL.name, Path(), Options(kinds, BOTH))
    return [[str(file) for file in artifact.files] for artifact in planned]


_CHECKPOINT: Final = str(Workspace(MODEL, Path()).checkpoint)

JOBS: Final[Mapping[str, Job]] = {
    "download --demo": Job(_download_demo, (), folder=_CHECKPOINT),
    "download": Job(_download_pinned, (), folder=_CHECKPOINT),
    "download --from-archive": Job(_download, (), folder=_CHECKPOINT),
    "convert": Job(_convert, _artifacts("onnx", "openvino")),
    "convert an archive": Job(_unpack_and_convert, _artifacts("onnx")[:1]),
    "detect --save-images": Job(_detect, [[f"{MODEL.name}/detections/{number}.png"] for number in range(2)]),
    "verify": Job(_write_reports, [["a.html"], ["a.xml"], ["deep/a.md"]]),
    "reference": Job(_write_pack, [["pack.npz"]]),
    "package": Job(_package, [[f"releases/{MODEL.name}-flat/"], [f"releases/{MODEL.name}-flat.zip"]]),
}


@dataclass(frozen=True)
class Stop:
    """How and when a child is stopped. `at` counts operations, bytes or seconds."""

    way: str
    at: float


class Workshop:
    """One job, its two versions, and the trials."""

    def __init__(self, inputs: Path, work: Path, job: Job) -> None:
        work.mkdir()
        self.inputs, self.work, self.job = inputs, work, job
        self.out, self.temporary = work / "out", work / "temporary"
        self.old = self._make("old", None)
        if job.folder:
            (self.out / job.folder / NOTES).write_text("mine", encoding="utf-8")
            self.old = self._snapshot()
        shutil.copytree(self.out, work / "old")
        start = time.monotonic()
        self.new = self._make("new", Stop("count", 0))
        self.seconds = time.monotonic() - start
        self.events = (work / "events").read_text().splitlines()
        self.fresh = {name: data for name, data in self.new.items() if not name.endswith(NOTES)}
        assert not job.folder or f"{job.folder}/{NOTES}" in self.new
        self.largest = max(map(len, self.new.values()))
        same = {name for name, data in self.old.items() if self.new.get(name) == data}
        assert all(name.endswith((NOTES, ".md", ".txt")) for name in same), same  # text that says nothing of weights

    def stops(self, way: str, dose: int) -> Iterator[Stop]:
        """Moments for one way of stopping, spread evenly over all that there are."""
        if way == "time":
            yield from (Stop(way, self.seconds * (number + 0.5) / dose) for number in range(dose))
        elif way in SIZES:
            last = self.largest if way != "full" else sum(map(len, self.new.values()))
            yield from (Stop(way, at) for at in _spread(range(last), dose))
        else:
            # Most can go wrong just after something came into its place, or went from there.
            every = range(1, len(self.events) + 1)
            after = [at + 1 for at, event in zip(every, self.events, strict=True) if _moves_a_target(event)]
            chosen = (*_spread(after, MOST_AFTER if way == "event" else dose - dose // 2), *_spread(every, dose // 2))
            yield from (Stop(way, at) for at in (every if dose < 0 else chosen))

    def trial(self, stop: Stop, *, fresh: bool) -> dict[str, Any]:
        """Stop a run that replaces the old version (or nothing, if `fresh`), look, and run it again."""
        with self._disk(stop):
            return self._trial(stop, fresh=fresh)

    def _trial(self, stop: Stop, *, fresh: bool) -> dict[str, Any]:
        self._reset(None if fresh else self.work / "old")
        self._fill(stop)
        status = self._child("new", stop)
        before = {} if fresh else self.old
        new = self.fresh if fresh else self.new
        found = {
            "way": stop.way,
            "at": stop.at,
            "event": self.events[int(stop.at) - 1] if stop.way not in (*SIZES, "time") else "",
            "fresh": fresh,
            "status": status,
            "stderr": self.stderr,
            "outcomes": self._outcomes(before, new),
            "left": self._left(),
        }
        self._fill(None)
        again = self._child("new", None)
        same = self._snapshot() == new
        return found | {"again": again, "same": same, "left_again": self._left()}

    def _make(self, version: str, stop: Stop | None) -> dict[str, bytes]:
        self._reset(self.work / "old" if version == "new" else None)
        status = self._child(version, stop)
        assert status == 0, self.stderr
        assert not self._left()
        return self._snapshot()

    def _reset(self, before: Path | None) -> None:
        for folder in (self.out, self.temporary):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if before is not None:
            shutil.copytree(before, self.out, dirs_exist_ok=True)

    @contextmanager
    def _disk(self, stop: Stop) -> Iterator[None]:
        """A disk for the output, if the trial needs one."""
        if stop.way not in ("full", "read-only"):
            yield
            return
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self.out)], check=True)
        yield
        subprocess.run(["umount", str(self.out)], check=True)

    def _fill(self, stop: Stop | None) -> None:
        """Take away room or permission, or (without a stop) give them back."""
        if stop is None:
            option = f"rw,size={ROOM}"
        elif stop.way == "full":
            there = os.statvfs(self.out)
            used = (there.f_blocks - there.f_bfree) * there.f_frsize
            option = f"size={max(1, used + int(stop.at))}"  # 0 would be no limit
        else:
            option = "ro"
        if self.out.is_mount() and (stop is None or stop.way in ("full", "read-only")):
            subprocess.run(["mount", "-o", f"remount,{option}", str(self.out)], check=True)

    def _snapshot(self) -> dict[str, bytes]:
        files = (path for path in sorted(self.out.rglob("*")) if path.is_file() and HIDDEN not in str(path))
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}

    def _left(self) -> list[str]:
        return [str(path) for folder in (self.out, self.temporary) for path in folder.rglob(f"{HIDDEN}*")]

    def _outcomes(self, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> list[str]:
        there = self._snapshot()
        if self.job.folder:
            whole = _outcome(sorted({*there, *old, *new}), there, old, new)
            return [whole if (self.out / self.job.folder).exists() else "absent"]
        return [_outcome_of(group, there, old, new) for group in self.job.targets]

    def _child(self, version: str, stop: Stop | None) -> int:
        """Do the job in a child. Returns its exit code, or the negative number of the signal that ended it."""
        reader, writer = os.pipe()  # not a file: its size would be limited too
        pid = os.fork()
        if pid == 0:
            self._be_child(version, stop, writer)
        os.close(writer)
        if stop is not None and stop.way == "time":
            time.sleep(stop.at)
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(reader, encoding="utf-8") as stderr:
            self.stderr = stderr.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _be_child(self, version: str, stop: Stop | None, stderr: int) -> NoReturn:
        code = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(stderr, 2)
            tempfile.tempdir = str(self.temporary)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if stop is not None:
                self._arm(stop)
            self.job.do(self.inputs, self.out, version)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _arm(self, stop: Stop) -> None:
        if stop.way in ("size", "limit"):
            # Python ignores this signal, and gets an error instead.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if stop.way == "size" else signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(stop.at), int(stop.at)))
        elif stop.way not in ("time", "full", "read-only"):
            sys.addaudithook(Hook(stop, self.work))


class Hook:
    """Counts operations on the file system, and stops the process before the one that was chosen."""

    def __init__(self, stop: Stop, work: Path) -> None:
        self.stop, self.folder, self.count = stop, str(work), 0
        self.log = os.open(work / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WATCHED or (event == "open" and not self._writes(arguments)):
            return
        self.count += 1
        if self.stop.way == "count":
            paths = map(str, arguments[: 2 if event == "os.rename" else 1])
            os.write(self.log, f"{' '.join((event, *paths))}\n".replace(self.folder, "").encode())
        elif self.stop.way == "event" and self.count == self.stop.at:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.count == self.stop.at or ("again" in self.stop.way and self.count > self.stop.at):
            os.kill(os.getpid(), signal.SIGTERM if self.stop.way == "terminate" else signal.SIGINT)

    def _writes(self, arguments: tuple[Any, ...]) -> bool:
        path, _, flags = arguments
        return str(path).startswith(self.folder) and bool(flags & WRITING)


def _moves_a_target(event: str) -> bool:
    name, *paths = event.split()
    return name == "os.rename" and not all(HIDDEN in path for path in paths)


def _spread(moments: Sequence[int], dose: int) -> list[int]:
    """So many of the moments, evenly, with the first and the last."""
    count = min(dose, len(moments))
    return [moments[number * (len(moments) - 1) // max(1, count - 1)] for number in range(count)]


Files: TypeAlias = Mapping[str, bytes]


def _outcome_of(group: Sequence[str], there: Files, old: Files, new: Files) -> str:
    if not group[0].endswith("/"):
        return _absent(group, there, old, new) or _outcome(group, there, old, new)
    inside = sorted(name for name in {*there, *old, *new} if name.startswith(group[0]))
    return _outcome(inside, there, old, new) if there.keys() & set(inside) else "absent"


def _outcome(group: Sequence[str], there: Files, old: Files, new: Files) -> str:
    for name, version in (("old", old), ("new", new)):
        if version and all(there.get(file) == version.get(file) for file in group):
            return name
    return "MIXED"


def _absent(group: Sequence[str], there: Files, old: Files, new: Files) -> str:
    """A set of files is absent without the first of them; of the others each may be there, if it is whole."""
    whole = all(there[file] in (old.get(file), new.get(file)) for file in group if file in there)
    return "absent" if whole and group[0] not in there else ""


def main() -> None:
    inputs, work, doses = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs in its background ignore it
    _import_everything()
    number = 0
    for name, dose in doses.items():
        workshop = Workshop(inputs, work / name, JOBS[name])
        for stop in (stop for way, count in dose.items() for stop in workshop.stops(way, count)):
            number += 1
            result = workshop.trial(stop, fresh=number % 4 == 0)
            sys.stdout.write(json.dumps({"job": name, **result}) + "\n")
        shutil.rmtree(work / name)


def _import_everything() -> None:
    """So that no trial has to. Nothing here may start a thread: it would not be there in the children."""
    import sshconvert.formats.openvino
    import sshconvert.libraries

    sshconvert.libraries.import_openvino()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, threads


if __name__ == "__main__":
    main()
