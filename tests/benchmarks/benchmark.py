"""What sshtool costs, each figure beside its peer in one run: `python tests/benchmarks/benchmark.py`.

CPU seconds and peak memory are those of whole processes, as the kernel counts them; every command runs several times,
interleaved with its peer, and the median counts. Compare ratios: the seconds are those of one machine.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 7
SSHTOOL = (sys.executable, "-m", "sshtool")
MODEL = "ssh-mxnet"
BARE_APP = """
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
    """Medians: seconds of CPU, seconds by the clock, and peak memory in MB (0 where only time was taken)."""

    cpu: float
    wall: float
    memory: float


def measure_processes(commands: Mapping[str, Sequence[str]], rounds: int = ROUNDS) -> dict[str, Cost]:
    runs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
            wall = time.perf_counter() - start
            runs[name].append(Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024))
    return medians(runs)


def measure_calls(calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, Cost]:
    runs: dict[str, list[Cost]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            cpu, start = time.process_time(), time.perf_counter()
            call()
            runs[name].append(Cost(time.process_time() - cpu, time.perf_counter() - start, 0))
    return medians(runs)


def medians(runs: Mapping[str, Sequence[Cost]]) -> dict[str, Cost]:
    return {
        name: Cost(*(statistics.median(getattr(cost, part) for cost in costs) for part in ("cpu", "wall", "memory")))
        for name, costs in runs.items()
    }


def show(title: str, costs: Mapping[str, Cost]) -> None:
    from rich.console import Console

    from sshtool.report.terminal import table

    base = next(iter(costs.values()))
    rows = [
        [name, f"{cost.cpu:.3f}", f"{cost.wall:.3f}", f"{cost.memory:.0f}", f"{cost.cpu / base.cpu:.2f}"]
        for name, cost in costs.items()
    ]
    columns = ["what", ">CPU s", ">wall s", ">peak MB", ">CPU ratio"]
    Console(width=120).print(table(columns, rows, title=title, plain=True))


def conversion(folder: Path) -> dict[str, Cost]:
    checkpoint = str(folder / "checkpoints" / MODEL)
    convert = [*SSHTOOL, "convert", "--quiet", "--checkpoint", checkpoint, "--output-dir"]
    files = [str(folder / MODEL / "FP32" / f"{MODEL}{suffix}") for suffix in (".onnx", ".bin", ".xml")]
    (folder / "copied").mkdir()
    commands = {
        "cp of the same bytes": ["cp", *files, str(folder / "copied")],
        "convert to ONNX and IR, FP32": [*convert, str(folder / "out")],
        "convert to ONNX and IR, FP32 and FP16": [*convert, str(folder / "out"), "--precision", "FP32,FP16"],
    }
    return measure_processes(commands)


def start_up(folder: Path) -> dict[str, Cost]:
    bare = folder / "bare.py"
    bare.write_text(BARE_APP, encoding="utf-8")
    commands = {
        "bare two-command Typer app --help": [sys.executable, str(bare), "--help"],
        "sshtool --help": [*SSHTOOL, "--help"],
    }
    return measure_processes(commands, rounds=15)


def inference(folder: Path) -> dict[str, Cost]:
    from sshtool.runtimes.onnxruntime import OnnxRuntime
    from sshtool.scenes import draw_scene

    image = draw_scene(0).image[None]
    calls = {}
    for precision in ("FP32", "FP16"):
        runtime = OnnxRuntime(folder / MODEL / precision / f"{MODEL}.onnx")
        calls[f"ONNX {precision}"] = functools.partial(runtime.run, image)
    measure_calls(calls, rounds=1)
    return measure_calls(calls)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for verb in (["download", "--demo"], ["convert", "--precision", "FP32,FP16"]):
            subprocess.run([*SSHTOOL, *verb, "--quiet", "-o", name], check=True, stdout=subprocess.DEVNULL)
        # Nothing heavy is imported before the processes ran: the kernel counts a parent's memory as its child's.
        costs = {"conversion": conversion(folder), "start-up": start_up(folder)}
        costs["one image, ONNX Runtime"] = inference(folder)
        for title, measured in costs.items():
            show(title, measured)


if __name__ == "__main__":
    main()
