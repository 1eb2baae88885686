"""Tests of the tests: switches off each guard of the readers and writers in turn, and requires that a test fails.

    python tests/mutation/guards.py [--module NAME] [--guard TEXT] [--list] [--jobs 2] [--json FILE]

Guards are found in the syntax tree (`guard_finder`) and switched off in copies of the project (`guard_runner`). A new
module with guards is named in `MODULES`, with the tests that are meant to notice; one that nothing outside can reach,
in `NO_READERS`. A guard that no test can notice needs a reason in `EXCUSES`; a reason that is no longer needed is an
error, as is a guard that nothing notices: exit code 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guard_finder import Guard, find_guards
from guard_runner import Project, Survey, Verdict, bench

PROJECT: Final = Project(Path(__file__).parents[2], ("convert", "tools"))

# The modules that read what others made, or write files, and the test files that guard them.
MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "convert/sshconvert/reading.py": ("test_hostile_files", "test_archive", "test_cache", "test_checkpoint"),
    "convert/sshconvert/snapshot.py": ("test_snapshot", "test_params_hostile"),
    "convert/sshconvert/schema.py": ("test_hostile_files", "test_checkpoint"),
    "convert/sshconvert/models/registry.py": ("test_hostile_files", "test_checkpoint"),
    "convert/sshconvert/mxnet/params.py": ("test_params", "test_params_hostile", "test_snapshot"),
    "convert/sshconvert/mxnet/symbol.py": ("test_symbol", "test_broken_symbols", "test_random_graphs"),
    "convert/sshconvert/mxnet/attributes.py": ("test_attributes", "test_convolution", "test_network"),
    "convert/sshconvert/operators/windows.py": ("test_convolution", "test_pooling", "test_attributes"),
    "convert/sshconvert/operators/convolution.py": ("test_convolution", "test_broken_symbols"),
    "convert/sshconvert/operators/indexing.py": ("test_indexing",),
    "convert/sshconvert/operators/pooling.py": ("test_pooling", "test_broken_symbols"),
    "convert/sshconvert/operators/shaping.py": ("test_shaping", "test_broken_symbols"),
    "convert/sshconvert/network.py": (
        "test_network",
        "test_convolution",
        "test_shaping",
        "test_broken_symbols",
        "test_random_graphs",
        "test_checkpoint",
    ),
    "convert/sshconvert/checkpoint.py": ("test_checkpoint", "test_finite", "test_hostile_files"),
    "convert/sshconvert/convert.py": ("test_export", "test_cli", "test_shapes", "test_int8"),
    "convert/sshconvert/onnx/model.py": ("test_export",),
    "convert/sshconvert/formats/openvino.py": ("test_openvino_ir",),
    "convert/sshconvert/files.py": ("test_staging", "test_params"),
    "tools/sshtool/archives/zip_layout.py": ("test_archive", "test_pack"),
    "tools/sshtool/archives/zip_check.py": ("test_archive", "test_pack"),
    "tools/sshtool/archives/tar_layout.py": ("test_tar",),
    "tools/sshtool/checkpoint/archive.py": ("test_archive", "test_checkpoint"),
    "tools/sshtool/config.py": ("test_download",),
    "tools/sshtool/checkpoint/sources.py": ("test_download",),
    "tools/sshtool/checkpoint/cache.py": ("test_cache", "test_download", "test_download_processes"),
    "tools/sshtool/checkpoint/local.py": ("test_download",),
    "tools/sshtool/checkpoint/web.py": ("test_download",),
    "tools/sshtool/checkpoint/fetch.py": ("test_download", "test_download_processes"),
    "tools/sshtool/checkpoint/download.py": ("test_cache", "test_download", "test_cli", "test_checkpoint"),
    "tools/sshtool/parity/pack.py": ("test_pack", "test_hostile_files"),
    "tools/sshtool/images.py": ("test_detect", "test_hostile_files"),
    "tools/sshtool/image_claims.py": ("test_hostile_files",),
    "tools/sshtool/wider_face/lines.py": ("test_predictions", "test_ground_truth"),
    "tools/sshtool/evaluate/matching.py": ("test_matching",),
    "convert/sshconvert/validation/ir.py": ("test_hostile_files", "test_model_validation"),
    "convert/sshconvert/validation/ir_sizes.py": ("test_hostile_files", "test_model_validation"),
    "convert/sshconvert/validation/onnx.py": ("test_hostile_files", "test_model_validation"),
    "convert/sshconvert/validation/onnx_sizes.py": ("test_hostile_files", "test_model_validation"),
    "convert/sshconvert/validation/sizes.py": ("test_hostile_files", "test_model_validation"),
    "tools/sshtool/sandbox/__init__.py": ("test_sandbox", "test_bench"),
    "tools/sshtool/sandbox/channel.py": ("test_sandbox",),
    "tools/sshtool/sandbox/child.py": ("test_sandbox",),
    "tools/sshtool/runtimes/sandboxed.py": ("test_sandbox",),
    "tools/sshtool/runtimes/__init__.py": ("test_runtimes", "test_postprocessing", "test_inference_precision"),
    "tools/sshtool/package/manifest.py": ("test_package", "test_check"),
    "tools/sshtool/package/evidence.py": ("test_package",),
    "tools/sshtool/package/packaged_model.py": ("test_package", "test_check"),
    "tools/sshtool/package/unpacking.py": ("test_check", "test_tar"),
    "tools/sshtool/package/check.py": ("test_check",),
    "tools/sshtool/package/contents.py": ("test_check",),
    "tools/sshtool/package/declarations.py": ("test_check",),
    "tools/sshtool/package/names.py": ("test_package", "test_check"),
    "tools/sshtool/package/rebuild.py": ("test_check",),
    "tools/sshtool/package/signing.py": ("test_check",),
    "tools/sshtool/parity/recompute.py": ("test_check",),
    "tools/sshtool/package/bundle.py": ("test_package",),
    "tools/sshtool/package/build.py": ("test_package",),
    "tools/sshtool/wider_face/annotations.py": ("test_ground_truth",),
    "tools/sshtool/wider_face/matfile.py": ("test_ground_truth",),
    "tools/sshtool/wider_face/ground_truth.py": ("test_ground_truth",),
    "tools/sshtool/evaluate/predictions.py": ("test_predictions",),
    "tools/sshtool/evaluate/records.py": ("test_predictions", "test_evaluate_command"),
    "tools/sshtool/evaluate/journal.py": ("test_evaluate_command",),
}

# The share of a reader's branches that its tests have to take.
LEAST_COVERED: Final = 0.95

# Modules that open, parse or write something, and are no readers of what others made.
NO_READERS: Final[Mapping[str, str]] = {
    "tools/sshtool/demo/checkpoint.py": "writes what it made itself",
    "tools/sshtool/bench/worker.py": "is told what to do by its parent, and reads how much memory it takes",
    "tools/sshtool/bench/benchmark.py": "writes reports, through `sshconvert.files`",
    "tools/sshtool/evaluate/evaluation.py": "writes reports, through `sshconvert.files`",
    "tools/sshtool/demo/dataset.py": "writes what it made itself",
    "tools/sshtool/pipeline.py": "as above",
    "tools/sshtool/parity/verification.py": "as above",
    "tools/sshtool/main.py": "opens nothing but the null device",
    "convert/sshconvert/editable.py": "plants faults in copies of artifacts that were loaded before",
    "tools/sshtool/environment.py": "reads what processor this is",
    "tools/sshtool/report/picture.py": "writes pictures, through `sshconvert.files`",
    "tools/sshtool/report/schema.py": "reads and writes its own schemas",
    "tools/sshtool/runtimes/onnxruntime.py": "reads again what `screening` has read",
}

# Guards that no test can notice, and why.
EXCUSES: Final[Mapping[str, str]] = {
    "convert/sshconvert/files.py _make: except OSError": "for file systems on which nothing can be locked",
    "convert/sshconvert/files.py _lock: except NotImplementedError": "as above, as filelock says it",
    "convert/sshconvert/files.py _make: except FileNotFoundError": "for a race inside filelock: see TimeoutError there",
    "convert/sshconvert/files.py _alone_in: except ImportError": "for Windows",
    "convert/sshconvert/files.py _link: except OSError": "for file systems without hard links",
    "convert/sshconvert/files.py _link: except NotImplementedError": "for systems without hard links",
    "tools/sshtool/checkpoint/local.py _blocks: except OSError": "for a file that was measured a moment before",
    "tools/sshtool/checkpoint/web.py _Deadline.check: self._over": "what sets it happens when the time is over too",
    "tools/sshtool/checkpoint/web.py _Deadline.check: time.monotonic() >= self._end": "as before, the other way round",
    "tools/sshtool/checkpoint/download.py _store_archive: size != model.archive.size": "the hash would tell too",
    "tools/sshtool/checkpoint/web.py _joined: except ValueError": "for versions of httpx that raise it",
    "tools/sshtool/checkpoint/web.py _Attempt.run: self.deadline.check() #2": "as the first one",
    "tools/sshtool/checkpoint/web.py _Attempt.run: self.deadline.check()": (
        "the connection is shut by then; what was read before is written only in a race"
    ),
    "tools/sshtool/archives/zip_layout.py module: _LONGEST_COMMENT = 65535": (
        "no zip can say that its comment is longer; what is looked at beyond is refused for what it is"
    ),
    "tools/sshtool/archives/zip_layout.py module: _LONGEST_DESCRIPTOR = 25": (
        "longer ones are refused too, after they have been read; archives are no larger than their file"
    ),
}


@dataclass(frozen=True)
class Row:
    """A guard, and what became of it: caught, excused, NOT caught, or an error in the tables above."""

    module: str
    guard: str
    kind: str
    line: int
    state: str
    detail: str

    @property
    def is_wrong(self) -> bool:
        return self.state not in ("caught", "excused")


def test_files(parts: Sequence[str]) -> dict[str, list[str]]:
    """Modules whose path contains one of the parts, or all of them, with the paths of their tests."""
    chosen = [module for module in MODULES if not parts or any(part in module for part in parts)]
    return {module: [str(path.relative_to(PROJECT.root)) for path in paths_of(MODULES[module])] for module in chosen}


def paths_of(names: Iterable[str]) -> list[Path]:
    """The files of tests with these names; those that are not there are left out."""
    return [path for name in names for path in sorted((PROJECT.root / "tests").rglob(f"{name}.py"))]


def guards_of(project: Project, modules: Iterable[str]) -> list[tuple[str, Guard]]:
    return [
        (module, guard)
        for module in modules
        for guard in find_guards((project.root / module).read_text(encoding="utf-8"))
    ]


def judge(module: str, guard: Guard, verdict: Verdict, excuses: Mapping[str, str]) -> Row:
    """Hold what the tests said against the excuses."""
    excuse = excuses.get(key(module, guard))
    if verdict.broken and guard.kind != "limit":  # without a limit, tests that are made to fit it do not load
        state, detail = "ERROR", verdict.by
    elif (verdict.caught or verdict.broken) and excuse:
        state, detail = "STALE", f"excused, yet caught by {verdict.by}"
    elif verdict.caught or verdict.broken:
        state, detail = "caught", verdict.by
    elif excuse:
        state, detail = "excused", excuse
    else:
        state, detail = "NOT caught", ""
    return Row(module, guard.name, guard.kind, guard.line, state, detail)


def key(module: str, guard: Guard) -> str:
    """How an excuse names a guard; it stays the same when lines move."""
    return f"{module} {guard.name}"


def gone(modules: Iterable[str], guards: Iterable[tuple[str, Guard]], excuses: Mapping[str, str]) -> list[Row]:
    """Excuses for guards of these modules that are not there."""
    there = {key(module, guard) for module, guard in guards}
    return [
        Row(module, name.removeprefix(f"{module} "), "", 0, "STALE", "excused, yet there is no such guard")
        for name in excuses
        for module in modules
        if name.startswith(f"{module} ") and name not in there
    ]


def run(
    project: Project,
    tests: Mapping[str, Sequence[str]],
    excuses: Mapping[str, str],
    *,
    jobs: int = 1,
    only: str = "",
    console: Console | None = None,
) -> tuple[list[Row], Survey]:
    """Check every guard of the modules in `tests`, by those test files. With `only`, those whose name contains it."""
    guards = guards_of(project, tests)
    chosen = [(module, guard) for module, guard in guards if only in guard.name]
    rows = [] if only else gone(tests, guards, excuses)
    files = list(dict.fromkeys(file for listed in tests.values() for file in listed))
    with bench(project, jobs) as at_work:
        found = at_work.survey(list(tests), files)
        for module, guard, verdict in at_work.check(chosen, tests, found):
            row = judge(module, guard, verdict, excuses)
            rows.append(row)
            if console:
                console.print(Text(f"{row.state:10} {module}:{row.line} {row.guard}  {row.detail}"))
    failures = [*found.broken, *found.failed]
    rows += [Row(failure, "", "", 0, "ERROR", "fails although no guard is off") for failure in failures]
    return rows, found


def readers(project: Project) -> list[str]:
    """Modules of the project that open, parse or write something, by what they call."""
    paths = [path for source in project.sources for path in sorted((project.root / source).rglob("*.py"))]
    return [str(path.relative_to(project.root)) for path in paths if _READING & _calls(path)]


_READING: Final = {
    "open", "read_bytes", "read_text", "write_bytes", "write_text", "ZipFile", "loads", "mmap", "frombuffer",
    "model_validate", "model_validate_json", "staged", "staging_folder", "stream", "Client",
}  # fmt: skip


def _calls(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def summary(rows: Sequence[Row], modules: Iterable[str], found: Survey) -> Table:
    """How many guards each module has, what became of them, and how many branches the same tests take."""
    table = Table("module", "guards", "caught", "excused", "NOT caught", "errors", "branches covered")
    for module in [*modules, "all"]:
        here = [row for row in rows if module in (row.module, "all")]
        states = [row.state for row in here]
        numbers = [len(states), *(states.count(state) for state in ("caught", "excused", "NOT caught"))]
        wrong = states.count("STALE") + states.count("ERROR")
        covered, of = found.branches.get(module, (0, 0))
        if module == "all":
            covered, of = (sum(pair[part] for pair in found.branches.values()) for part in (0, 1))
        share = f"{covered}/{of} {covered / of:.1%}" if of else "-"
        table.add_row(module, *map(str, numbers), str(wrong), share)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--module", action="append", default=[], help="only modules whose path contains this; repeatable"
    )
    parser.add_argument("--guard", default="", help="only guards whose name contains this")
    parser.add_argument("--list", action="store_true", help="name the guards, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time (default: 2)")
    parser.add_argument("--json", type=Path, help="write the result to this file as well")
    options = parser.parse_args()
    tests = test_files(options.module)
    console = Console(width=200 if not sys.stdout.isatty() else None, highlight=False, soft_wrap=True)
    if options.list:
        for module, guard in guards_of(PROJECT, tests):
            if options.guard in guard.name:
                console.print(Text(f"{module}:{guard.line} {guard.kind}: {guard.name}"))
        return 0
    rows, found = run(PROJECT, tests, EXCUSES, jobs=options.jobs, only=options.guard, console=console)
    console.print(summary(rows, tests, found))
    for row in rows:
        if row.is_wrong:
            console.print(Text(f"{row.state}: {row.module}:{row.line} {row.guard}  {row.detail}"))
    if options.json:
        document = {"guards": [vars(row) for row in rows], "branches": found.branches}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(row.is_wrong for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
