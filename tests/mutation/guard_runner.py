"""Runs tests against copies of the project in which one guard is switched off.

First every test file runs once, whole, under coverage: that says which tests come to which line, what each costs, and
how much of the readers they cover. Then for each guard only the tests run that saw it refuse, the cheapest first, and
only then all others that come by.

A test that gives little time or memory may fail under coverage and pass without: that is no failure. Where it comes to
is not known then, nor where a process came to that was killed, or had no memory left to say so. So last come the tests
that were not seen there.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import guard_probe
from guard_finder import Guard

# A guard that is off may let a file ask for anything. Tests make files of 16 GB that are all hole.
_LIMITS: Final = {resource.RLIMIT_AS: 8 << 30, resource.RLIMIT_FSIZE: 17 << 30}
# A test has these seconds, and as many times what it took under coverage: then it hangs.
GRACE: Final = 120
PATIENCE: Final = 10
WHOLE_FILE: Final = 1800
# How many tests run first, and the seconds that all others may take together.
FIRST: Final = 25
BUDGET: Final = 120

_IGNORED: Final = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "artifacts")
_COVERAGE: Final = """\
[run]
branch = True
parallel = True
core = ctrace
context = ${GUARD_CONTEXT-}
data_file = {folder}/coverage
include =
    {includes}
patch = _exit
disable_warnings = no-data-collected, module-not-measured, module-not-imported, couldnt-parse, no-ctracer
"""
_COMBINE: Final = """\
[run]
branch = True
data_file = {folder}/combined
[paths]
all =
    {copies}
[report]
partial_also = sys.version_info
"""
# Python runs this when it starts: so the processes that the tests start are measured too.
_MEASURE: Final = "import coverage\ncoverage.process_startup()\n"


@dataclass(frozen=True)
class Project:
    """A checkout: its folder, and those inside it that Python imports from."""

    root: Path
    sources: tuple[str, ...]


@dataclass
class Survey:
    """What the tests do while every guard is on."""

    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # files, and why
    unmeasured: list[str] = field(default_factory=list)  # tests that pass, yet not under coverage
    seen: dict[str, dict[int, set[str]]] = field(default_factory=dict)  # module, line, tests
    branches: dict[str, tuple[int, int]] = field(default_factory=dict)  # module: covered, of

    def at(self, module: str, lines: Iterable[int]) -> list[str]:
        """Tests that come to one of the lines, the cheapest first."""
        there = self.seen.get(module, {})
        tests = {test for line in lines for test in there.get(line, ())}
        return sorted(tests & self.seconds.keys(), key=lambda test: (self.seconds[test], test))


@dataclass(frozen=True)
class Verdict:
    """What the tests say to a guard that is off. `by` is the test that noticed; `broken`: they could not be run."""

    caught: bool
    by: str = ""
    broken: bool = False


@contextlib.contextmanager
def bench(project: Project, jobs: int) -> Iterator[Bench]:
    """Copies of a project, one for each job, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="guards-") as name:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copy = Path(name) / str(number) / project.root.name
            shutil.copytree(project.root, copy, ignore=_IGNORED)
            beside = project.root.parent / "shared"
            if beside.is_dir():  # real data, which some tests read
                (copy.parent / "shared").symlink_to(beside)
            subprocess.run([sys.executable, "-m", "compileall", "-q", *project.sources], cwd=copy, check=True)
            copies.put(copy)
        yield Bench(project, jobs, Path(name), copies)


@dataclass(frozen=True)
class Bench:
    """Where tests run: `copies` of the project that nobody uses now, and a folder for what is measured."""

    project: Project
    jobs: int
    folder: Path
    copies: queue.Queue[Path]

    def survey(self, modules: Sequence[str], tests: Sequence[str]) -> Survey:
        """Run the test files, each by itself, under coverage."""
        with ThreadPoolExecutor(self.jobs) as pool:
            outcomes = list(pool.map(lambda file: self._measure(file, modules), tests))
        result = Survey()
        for log, _ in outcomes:
            _read_log(log, result)
        self._run_again(result)
        self._read_coverage([folder for _, folder in outcomes], result)
        return result

    def check(
        self, tasks: Sequence[tuple[str, Guard]], tests: Mapping[str, Sequence[str]], found: Survey
    ) -> Iterator[tuple[str, Guard, Verdict]]:
        """Switch off each guard of `tasks` (module, guard), and give what the module's `tests` say to it."""

        def run(task: tuple[str, Guard]) -> Verdict:
            module, guard = task
            with self._copy() as copy, _switched_off(copy / module, guard):
                for chosen in _choose(module, guard, tests[module], found):
                    verdict = self._verdict(copy, chosen, found)
                    if verdict.caught or verdict.broken:
                        return verdict
            return Verdict(caught=False)

        with ThreadPoolExecutor(self.jobs) as pool:
            for task, verdict in zip(tasks, pool.map(run, tasks), strict=True):
                yield (*task, verdict)

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        copy = self.copies.get()
        try:
            yield copy
        finally:
            self.copies.put(copy)

    def _measure(self, file: str, modules: Sequence[str]) -> tuple[list[dict[str, Any]], Path]:
        with self._copy() as copy:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            includes = "\n    ".join(str(copy / module) for module in modules)
            rules = _COVERAGE.replace("{folder}", str(folder)).replace("{includes}", includes)
            (folder / "coveragerc").write_text(rules, encoding="utf-8")
            (folder / "sitecustomize.py").write_text(_MEASURE, encoding="utf-8")
            more = {"COVERAGE_PROCESS_START": str(folder / "coveragerc"), "PYTHONDONTWRITEBYTECODE": ""}
            log, code = _pytest(self.project, copy, [file], None, WHOLE_FILE, stop=False, front=folder, more=more)
            if code not in (0, 1, 5):
                log.append({"broken": file, "why": f"pytest ends with {code}: {_last_line(copy)}"})
            return log, folder

    def _run_again(self, result: Survey) -> None:
        """Run what failed once more, without coverage, which takes memory and time of the tests."""
        if not result.failed:
            return
        files = list(dict.fromkeys(test.split("::")[0] for test in result.failed))
        with self._copy() as copy:
            log, _ = _pytest(self.project, copy, files, result.failed, WHOLE_FILE, stop=False)
        plain = Survey()
        _read_log(log, plain)
        result.unmeasured = [test for test in result.failed if test in plain.seconds]
        result.failed = [test for test in result.failed if test not in plain.seconds]
        result.seconds |= plain.seconds

    def _verdict(self, copy: Path, chosen: Sequence[str], found: Survey) -> Verdict:
        files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
        limit = GRACE + PATIENCE * sum(found.seconds[test] for test in chosen)
        log, code = _pytest(self.project, copy, files, chosen, limit, stop=True)
        if code is None or code < 0:
            last = next((entry["start"] for entry in reversed(log) if "start" in entry), "")
            return Verdict(caught=True, by=f"{last} ({'hangs' if code is None else 'dies'})")
        failed = [entry["test"] for entry in log if entry.get("outcome") == "failed"]
        if failed:
            return Verdict(caught=True, by=failed[0])
        broken = code not in (0, 5)
        return Verdict(caught=False, by=f"pytest ends with {code}: {_last_line(copy)}" if broken else "", broken=broken)

    def _read_coverage(self, folders: Iterable[Path], result: Survey) -> None:
        """Bring the measurements of all processes and copies together."""
        home, *others = list(self.copies.queue)  # they are alike
        (self.folder / "combine").write_text(
            _COMBINE.replace("{folder}", str(self.folder)).replace(
                "{copies}", "\n    ".join(map(str, (home, *others)))
            ),
            encoding="utf-8",
        )
        parts = [str(path) for folder in folders for path in folder.glob("coverage.*")]
        report = self.folder / "report.json"
        if not parts:
            return
        for command in (["combine", *parts], ["json", "--show-contexts", "-o", str(report)]):
            rules = f"--rcfile={self.folder / 'combine'}"
            subprocess.run(
                [sys.executable, "-m", "coverage", *command[:1], rules, "-q", *command[1:]], cwd=home, check=True
            )
        for module, content in json.loads(report.read_text(encoding="utf-8"))["files"].items():
            result.seen[module] = {
                int(line): {context.split("|")[-1] for context in contexts}
                for line, contexts in content["contexts"].items()
            }
            result.branches[module] = (content["summary"]["covered_branches"], content["summary"]["num_branches"])


def _choose(module: str, guard: Guard, files: Sequence[str], found: Survey) -> list[list[str]]:
    """The tests for a guard: first some that saw it refuse, then all others that may notice, within a budget."""
    mapped = {test for test in found.seconds if test.split("::")[0] in files}
    around = found.at(module, guard.around)
    refused = found.at(module, guard.lines)
    by_it = set(refused) & set(around) or set(refused)
    unseen = sorted(mapped, key=lambda test: (found.seconds[test], test))
    ordered = [*(test for test in refused if test in by_it), *around, *found.unmeasured, *unseen]
    ordered = [test for test in dict.fromkeys(ordered) if test in mapped]
    rest, spent = [], 0.0
    for test in ordered[FIRST:]:
        spent += found.seconds[test]
        if spent < BUDGET or test in by_it or test in found.unmeasured:
            rest.append(test)
    return [chosen for chosen in (ordered[:FIRST], rest) if chosen]


def _pytest(
    project: Project,
    copy: Path,
    files: Sequence[str],
    tests: Sequence[str] | None,
    seconds: float,
    *,
    stop: bool,
    front: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, Any]], int | None]:
    """Run tests of a copy; with `stop`, until one fails. Gives what `guard_probe` logged, and the exit code.

    That is None if they took longer than these seconds.
    """
    with tempfile.TemporaryDirectory(dir=copy.parent) as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps({"tests": tests}), encoding="utf-8")
        path = [*([str(front)] if front else []), *(str(copy / source) for source in project.sources)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*path, str(Path(__file__).parent)]),
            "PYTHONDONTWRITEBYTECODE": "1",  # two versions of a module may be of one size and second
            "TMPDIR": str(folder),
            guard_probe.PLAN: str(folder / "plan.json"),
            guard_probe.LOG: str(folder / "log"),
            guard_probe.CONTEXT: "",
            **(more or {}),
        }
        options = [
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
            "-p",
            "guard_probe",
            f"--basetemp={folder / 'tests'}",
            f"--rootdir={copy}",
            *(["-x"] if stop else []),
        ]
        with (copy.parent / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *files],
                cwd=copy,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        for limit, most in _LIMITS.items():
            resource.prlimit(process.pid, limit, (most, most))
        code = _wait(process, seconds)
        log = folder / "log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        return [json.loads(line) for line in lines], code


def _last_line(copy: Path) -> str:
    """The end of what pytest had to say."""
    return (copy.parent / "output").read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code; None for a process that had to be stopped. What it started and left behind is stopped too."""
    end = time.monotonic() + seconds
    ended = None
    while ended is None and time.monotonic() < end:
        time.sleep(0.05)
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    os.killpg(process.pid, signal.SIGKILL)  # it was not waited for yet, so that the number is still its own
    code = process.wait()
    return code if ended else None


@contextlib.contextmanager
def _switched_off(path: Path, guard: Guard) -> Iterator[None]:
    source = path.read_text(encoding="utf-8")
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        stale.unlink()
    path.write_text(guard.switched_off(source), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")


def _read_log(log: Sequence[Mapping[str, Any]], result: Survey) -> None:
    for entry in log:
        if "broken" in entry:
            result.broken.append(f"{entry['broken']}: {entry['why']}")
        elif "test" in entry:
            test = entry["test"]
            if entry["outcome"] == "failed" and test not in result.failed:
                result.failed.append(test)
            result.seconds[test] = result.seconds.get(test, 0) + (
                entry["seconds"] if entry["when"] != "teardown" else 0
            )
    skipped = {entry["test"] for entry in log if entry.get("outcome") == "skipped"}
    for test in {*skipped, *result.failed}:
        result.seconds.pop(test, None)
