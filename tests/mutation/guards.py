"""Tests of the tests: switches off each guard of the project in turn, and requires that a test fails.

    python tests/mutation/guards.py [--module NAME] [--guard TEXT] [--list] [--jobs 2]

`guard_finder` says what a guard is. The tests of a module are those in the folder that mirrors its package, or the
nearest one above it, and all that import it. Each of their files runs once under coverage, which says which tests come
to which line. Then, in a copy of the project with one guard off, the tests that come to its lines run first, and all
others of the module after them.

A guard that no test can notice needs a reason in `EXCUSES`; a reason that is not needed is an error too: exit code 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from guard_finder import Guard, error_names, find_guards

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("convert", "tools")
PATIENCE: Final = 900  # seconds for the tests of one module; then one of them hangs
# A guard that is off may let a file ask for anything. Tests make files of 16 GB that are all hole.
LIMITS: Final = {resource.RLIMIT_AS: 8 << 30, resource.RLIMIT_FSIZE: 17 << 30}
IGNORED: Final = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "artifacts")

# The value of PYTHONDONTWRITEBYTECODE that the tests obey: two versions of a module may be of the same size and second.
MUTANTS: Final = "mutants"

# The name of a file and a guard in it, such as "files.py output_errors: except OSError", and why no test can notice.
EXCUSES: Final[Mapping[str, str]] = {}

Seen: TypeAlias = Mapping[str, Mapping[int, set[str]]]  # module, line, tests


def modules(root: Path = ROOT, parts: Sequence[str] = ()) -> dict[str, list[Guard]]:
    """The guards of each module whose path contains one of the parts, or of all."""
    paths = [path for source in SOURCES for path in sorted((root / source).rglob("*.py"))]
    errors = error_names(paths)
    found = {str(path.relative_to(root)): find_guards(path.read_text(encoding="utf-8"), errors) for path in paths}
    return {name: guards for name, guards in found.items() if guards and (not parts or any(p in name for p in parts))}


def files_that_test(module: str, root: Path = ROOT) -> list[str]:
    """Test files of the mirrored folder, and those that import the module."""
    source, _, *inside = Path(module).with_suffix("").parts
    dotted = ".".join(Path(module).with_suffix("").parts[1:]).removesuffix(".__init__")
    mirrored = root.joinpath("tests", source, *inside[:-1])
    while not mirrored.is_dir():
        mirrored = mirrored.parent
    files = [path for path in sorted(root.rglob("tests/**/test_*.py")) if path.parent.name != "mutation"]
    return [str(path.relative_to(root)) for path in files if path.parent == mirrored or dotted in _imports(path)]


@cache
def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@contextmanager
def copies(root: Path, count: int) -> Iterator[queue.Queue[Path]]:
    """Copies of the project, with the real data beside each."""
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        free: queue.Queue[Path] = queue.Queue()
        for number in range(count):
            copy = Path(folder) / str(number) / root.name
            shutil.copytree(root, copy, ignore=IGNORED)
            if (shared := root.parent / "shared").is_dir():
                (copy.parent / "shared").symlink_to(shared)
            free.put(copy)
        yield free


def run_tests(copy: Path, tests: Sequence[str], *front: str) -> tuple[bool, str]:
    """Whether these tests pass, and the last line that pytest prints."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(copy / source) for source in SOURCES),
        "PYTHONDONTWRITEBYTECODE": MUTANTS,
    }
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", f"--rootdir={copy}"]
    command = [sys.executable, *front, "-m", "pytest", *options, *tests]
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    for limit, most in LIMITS.items():
        resource.prlimit(process.pid, limit, (most, most))
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False, "hangs"
    return process.returncode in (0, 5), output.decode(errors="replace").strip().rpartition("\n")[2]


def survey(copy: Path, test: str) -> Seen:
    """Which tests of a file come to which line, by module."""
    rules, report = copy / "coveragerc", copy / "coverage.json"
    rules.write_text(f"[run]\ndynamic_context = test_function\nsource = {','.join(SOURCES)}\n", encoding="utf-8")
    passed, last = run_tests(copy, [test], "-m", "coverage", "run", f"--rcfile={rules}")
    if not passed:
        sys.exit(f"{test}: a test fails although no guard is off: {last}")
    command = [sys.executable, "-m", "coverage", "json", f"--rcfile={rules}", "-q", "--show-contexts", "-o"]
    subprocess.run([*command, str(report)], cwd=copy, check=True)
    seen: dict[str, dict[int, set[str]]] = defaultdict(dict)
    for module, content in json.loads(report.read_bytes())["files"].items():
        for line, contexts in content["contexts"].items():
            names = {f"{test}::{context.rpartition('.')[2]}" for context in contexts if context}
            if names:
                seen[module][int(line)] = names
    return seen


def check(copy: Path, module: str, guard: Guard, tests: Sequence[str], surveys: Sequence[Seen]) -> str:
    """The last line of the tests that notice that the guard is off; "" if none does."""
    path = copy / module
    source = path.read_text(encoding="utf-8")
    path.write_text(guard.switched_off(source), encoding="utf-8")
    try:
        lines = [seen[module] for seen in surveys if module in seen]
        near = sorted({test for reached in lines for line in guard.lines for test in reached.get(line, ())})
        for chosen in (near, tests):
            passed, last = run_tests(copy, chosen) if chosen else (True, "")
            if not passed:
                return last
    finally:
        path.write_text(source, encoding="utf-8")
    return ""


def run(root: Path, found: Mapping[str, Sequence[Guard]], excuses: Mapping[str, str], jobs: int) -> dict[str, str]:
    """What became of each guard: caught, excused, STALE (excused, yet caught) or NOT caught."""
    states: dict[str, str] = {}
    surveys: dict[str, Seen] = {}
    with copies(root, jobs) as free, ThreadPoolExecutor(jobs) as pool:
        for module, guards in found.items():
            tests = files_that_test(module, root)
            copy = free.get()
            surveys.update({test: survey(copy, test) for test in tests if test not in surveys})
            free.put(copy)

            def judge(guard: Guard, module: str = module, tests: Sequence[str] = tests) -> str:
                copy = free.get()
                try:
                    by = check(copy, module, guard, tests, [*surveys.values()])
                finally:
                    free.put(copy)
                excused = key(module, guard) in excuses
                return ("STALE" if excused else "caught") if by else ("excused" if excused else "NOT caught")

            for guard, state in zip(guards, pool.map(judge, guards), strict=True):
                states[f"{module} {guard.name}"] = state
                print(f"{state:10} {module}:{guard.line} {guard.name}", flush=True)  # noqa: T201  # the result
    return states


def key(module: str, guard: Guard) -> str:
    return f"{Path(module).name} {guard.name}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", default=[], help="only modules whose path contains this")
    parser.add_argument("--guard", default="", help="only guards whose name contains this")
    parser.add_argument("--list", action="store_true", help="name the guards, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time (default: 2)")
    options = parser.parse_args()
    found = {
        module: [guard for guard in guards if options.guard in guard.name]
        for module, guards in modules(parts=options.module).items()
    }
    if options.list:
        for module, guards in found.items():
            print(*(f"{module}:{guard.line} {guard.name}" for guard in guards), sep="\n")  # noqa: T201  # the result
        return 0
    states = run(ROOT, found, EXCUSES, options.jobs)
    return int(bool({"STALE", "NOT caught"} & set(states.values())))


if __name__ == "__main__":
    raise SystemExit(main())
