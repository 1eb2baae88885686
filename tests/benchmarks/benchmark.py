"""What sshtool costs beside its peers, side by side in one run:

    python tests/benchmarks/benchmark.py [--cache-dir DIR] [--section NAME ...] [--json]

makes the peers' environment (`peers`; kept in DIR, or made anew each time), the demo checkpoint and its artifacts, and
prints a table for each section. CPU seconds and peak memory are those of whole processes (of one run, where a model is
loaded once and run often); everything runs several times, interleaved with its peers after a run that does not count,
and the median counts. Compare ratios, which are to the first line: the seconds are those of one machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import peers

ROOT: Final = Path(__file__).parents[2]
COST: Final = ROOT / "tests" / "support" / "command_cost.py"
WORKER: Final = Path(__file__).with_name("worker.py")
MODEL: Final = "ssh-mxnet"
PACKAGES: Final = ("numpy", "onnx", "openvino", "onnxruntime", "typer")
BARE_APP: Final = """
import typer
app = typer.Typer()
@app.command()
def one(name: str) -> None: ...
@app.command()
def two(name: str) -> None: ...
app()
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU, seconds by the clock, and peak memory in MB (0 where only time was taken)."""

    cpu: float
    wall: float
    memory: float = 0


Run = Callable[[], Cost]
Table = Mapping[str, Mapping[str, Any]]


def interleave(runs: Mapping[str, Run], rounds: int) -> Table:
    """The medians of each, with their ratios to the first."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            cost = run()
            if number:
                costs[name].append(cost)
    rows = {name: {part: _median(found, part) for part in ("cpu", "wall", "memory")} for name, found in costs.items()}
    base = next(iter(rows.values()))
    ratios = {"cpu_ratio": "cpu", "wall_ratio": "wall", "memory_ratio": "memory"}
    return {
        name: row | {ratio: row[part] / base[part] if base[part] else None for ratio, part in ratios.items()}
        for name, row in rows.items()
    }


def _median(costs: Sequence[Cost], part: str) -> float:
    return float(statistics.median(getattr(cost, part) for cost in costs))


def process(command: Sequence[str | Path], environment: Mapping[str, str]) -> Run:
    def run() -> Cost:
        result = subprocess.run(
            [sys.executable, COST, *command], env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode:
            sys.exit(result.stderr)
        return Cost(**json.loads(result.stdout))

    return run


def call(function: Callable[[], object]) -> Run:
    def run() -> Cost:
        cpu, start = time.process_time(), time.perf_counter()
        function()
        return Cost(time.process_time() - cpu, time.perf_counter() - start)

    return run


@contextmanager
def worker(python: str | Path, kind: str, path: Path, environment: Mapping[str, str]) -> Iterator[Run]:
    command = [str(python), str(WORKER), kind, str(path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, env=environment) as child:
        assert child.stdin
        assert child.stdout
        if not child.stdout.readline():
            sys.exit(f"{' '.join(command)}: failed; run it to see why")

        def run() -> Cost:
            assert child.stdin
            assert child.stdout
            child.stdin.write("\n")
            child.stdin.flush()
            return Cost(**json.loads(child.stdout.readline()))

        yield run
        child.stdin.close()


class Bench:
    """A folder with the demo checkpoint, its artifacts, and what else is measured."""

    def __init__(self, folder: Path, cache: Path, python: str, rounds: int) -> None:
        self.folder, self.cache, self.python, self.rounds = folder, cache, python, rounds
        self.checkpoint = folder / "checkpoints" / MODEL
        # Compiled once, as what pip installs is.
        paths = os.pathsep.join([str(ROOT / "convert"), str(ROOT / "tools")])
        ours = {"PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": str(cache / "pycache")}
        self.environment = {**peers.environment(), **ours}
        self.precisions: list[str] = []

    @cached_property
    def programs(self) -> Path:
        return peers.make_environment(self.cache / "peers", self.python)

    def make(self) -> None:
        """The checkpoint, and an artifact of every precision that there is."""
        self.sshtool("download", "--demo")
        for precision in ("FP32", "FP16", "INT8"):
            if self.sshtool("convert", "--precision", precision, may_fail=precision == "INT8"):
                self.precisions.append(precision)

    def sshtool(self, *arguments: str, may_fail: bool = False) -> bool:
        command = [sys.executable, "-m", "sshtool", *arguments, "--quiet", "--output-dir", str(self.folder)]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if result.returncode and not may_fail:
            sys.exit(result.stderr)
        return not result.returncode

    def artifact(self, precision: str, suffix: str) -> Path:
        return self.folder / MODEL / precision / f"{MODEL}{suffix}"

    def conversion(self) -> Table:
        out, copied = self.folder / "out", self.folder / "copied"
        copied.mkdir()
        four = [self.artifact(kind, suffix) for kind in ("FP32", "FP16") for suffix in (".onnx", ".xml", ".bin")]
        copies = " && ".join(f"cp {path} {copied / path.parent.name}{path.suffix}" for path in four)
        program = (sys.executable, "-m", "sshtool", "convert", "--quiet")
        ours = (*program, "--checkpoint", self.checkpoint, "--output-dir", out)
        runs = {
            "mo 2023.3: IR FP32": self.mo(),
            "sshtool: ONNX and IR, FP32 and FP16": process([*ours, "--precision", "FP32,FP16"], self.environment),
            "sshtool: IR FP32": process([*ours, "--format", "openvino"], self.environment),
            "cp of the bytes of the four": process(["sh", "-c", copies], self.environment),
        }
        return interleave(runs, self.rounds)

    def exporter(self) -> Table:
        error = peers.exporter_error(self.programs, self.checkpoint, self.folder / "exported.onnx")
        return {"MXNet 1.9.1: ONNX FP32": {"result": error or "made a file"}}

    def files(self) -> Table:
        if not (self.folder / "mo").exists():
            self.mo()()
        rows = {"mo 2023.3: IR FP32": [self.folder / "mo" / f"{MODEL}{suffix}" for suffix in (".xml", ".bin")]}
        rows["checkpoint"] = [self.checkpoint / name for name in ("sshb-symbol.json", "sshb-0000.params")]
        for precision in self.precisions:
            rows[f"ONNX {precision}"] = [self.artifact(precision, ".onnx")]
            rows[f"IR {precision}"] = [self.artifact(precision, suffix) for suffix in (".xml", ".bin")]
        sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in rows.items()}
        base = next(iter(sizes.values()))
        return {name: {"megabytes": size / 1e6, "size_ratio": size / base} for name, size in sizes.items()}

    def mo(self) -> Run:
        arguments = peers.mo_arguments(self.checkpoint, self.folder / "mo")
        return process([self.programs / "mo", *arguments], peers.environment())

    def start_up(self) -> Table:
        bare = self.folder / "bare.py"
        bare.write_text(BARE_APP, encoding="utf-8")
        runs = {
            "mo 2023.3 --help": process([self.programs / "mo", "--help"], peers.environment()),
            "bare Typer app of two commands --help": process([sys.executable, bare, "--help"], self.environment),
            "sshtool --help": process([sys.executable, "-m", "sshtool", "--help"], self.environment),
        }
        return interleave(runs, max(self.rounds, 11))

    def inference(self) -> Table:
        """One image of 640x640."""
        names = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}
        chosen = [(name, precision, suffix) for suffix, name in names.items() for precision in self.precisions]
        with ExitStack() as stack:
            mxnet = worker(self.programs / "python", "mxnet", self.checkpoint, peers.environment())
            runs = {"MXNet 1.9.1 FP32": stack.enter_context(mxnet)}
            for name, precision, suffix in chosen:
                path = self.artifact(precision, suffix)
                if path.exists():
                    ours = worker(sys.executable, "artifact", path, self.environment)
                    runs[f"{name} {precision}"] = stack.enter_context(ours)
            return interleave(runs, self.rounds)

    def post_processing(self) -> Table:
        """Of the heads of one drawn scene, 640x640; `postprocessing.py` has more kinds."""
        from postprocessing import SIZE, check, scene_heads
        from postprocessing_peer import detect_plainly
        from sshconvert.models.registry import load_model
        from sshconvert.tasks.anchor_detection import AnchorDetection

        rules = load_model(MODEL).task
        assert isinstance(rules, AnchorDetection)
        heads = scene_heads(self.artifact("FP32", ".xml"))[0]
        check(heads)
        runs = {
            "plain NumPy, by upstream's rules": call(partial(detect_plainly, heads, SIZE, rules)),
            "sshconvert.tasks.anchor_detection": call(partial(rules.decode, heads, SIZE)),
        }
        return interleave(runs, 10 * self.rounds)


SECTIONS: Final[Mapping[str, Callable[[Bench], Table]]] = {
    "conversion": Bench.conversion,
    "exporter": Bench.exporter,
    "files": Bench.files,
    "start-up": Bench.start_up,
    "inference": Bench.inference,
    "post-processing": Bench.post_processing,
}


def circumstances() -> dict[str, str]:
    """Date, versions and processor."""
    found = {"date": dt.datetime.now(dt.UTC).date().isoformat(), "cpu": processor()}
    found |= {"cores": str(os.cpu_count()), "python": platform.python_version(), "peers": ", ".join(peers.REQUIREMENTS)}
    return found | {package: version(package) for package in PACKAGES}


def processor() -> str:
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout.splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model name")), platform.machine())


def show(title: str, rows: Table) -> None:
    from rich.console import Console

    from sshtool.report.terminal import table

    columns = list(next(iter(rows.values())))
    cells = [[name, *(_cell(row[column]) for column in columns)] for name, row in rows.items()]
    heads = ["what", *(f">{column.replace('_', ' ')}" for column in columns)]
    Console(width=160).print(table(heads, cells, title=title, plain=True))


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value or "")


def find_python() -> str:
    """Python 3.10, the last for which all peers have wheels."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which("python3.10"), *map(str, sorted(versions.glob("3.10.*/bin/python")))]
    return next((path for path in reversed(found) if path), "python3.10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache-dir", type=Path, help="where the peers' environment is kept; by default it is not")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one; repeatable")
    parser.add_argument("--python", default=find_python(), help="Python 3.10 for the peers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "convert"), str(ROOT / "tools")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = (options.cache_dir or folder / "cache").resolve()
        cache.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, cache, options.python, options.rounds)
        bench.make()
        found = circumstances()
        tables = {title: SECTIONS[title](bench) for title in options.section or SECTIONS}
    if options.json:
        sys.stdout.write(json.dumps({"circumstances": found, "sections": tables}, indent=2) + "\n")
        return
    sys.stdout.write("".join(f"{key}: {value}\n" for key, value in found.items()))
    for title, rows in tables.items():
        show(title, rows)


if __name__ == "__main__":
    main()
