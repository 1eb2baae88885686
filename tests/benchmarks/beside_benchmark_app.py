"""`sshtool bench` beside OpenVINO's own benchmark_app: `python tests/benchmarks/beside_benchmark_app.py`.

On an idle machine, both have to agree within 5 % on latency (one request) and on throughput (as many requests as the
hint THROUGHPUT gives). They take turns, with the same file, precision, number of requests and seconds; each figure is a
median over the rounds, and each ratio one of turns side by side. Without --artifact, the demo is converted for it.

CPU of benchmark_app for a computation is that of its whole process, less that of one that computes once. Where other
programs compute too, its ratio says more than that of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SSHTOOL = (sys.executable, "-m", "sshtool")
MODEL = "ssh-mxnet"
ALLOWED = 0.05


@dataclass(frozen=True)
class Figures:
    """One run: milliseconds (median), images a second, CPU seconds of a computation, requests at once."""

    latency: float
    rate: float
    cpu: float
    requests: int


def by_sshtool(path: Path, mode: str, options: argparse.Namespace, requests: int) -> Figures:
    command = [*SSHTOOL, "bench", "--artifact", str(path), "--runtime", "openvino", "--mode", mode, "--json", "--quiet"]
    command += ["--duration", str(options.duration), "--rounds", "1", "--requests", str(requests)]
    command += ["--inference-precision", options.precision]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["result"]
    found: dict[str, Any] = result["candidates"][0][mode]
    latency, rate = found["seconds"]["median"] * 1e3, found["images_per_second"]["median"]
    return Figures(latency, rate, found["cpu_seconds"], found["requests"])


def by_benchmark_app(path: Path, mode: str, options: argparse.Namespace, program: str) -> Figures:
    command = [program, "-m", str(path), "-d", "CPU", "-infer_precision", options.precision]
    command += ["-api", "sync", "-hint", "latency"] if mode == "latency" else ["-api", "async", "-hint", "throughput"]
    output, cpu = _run([*command, "-t", str(options.duration)])
    once, start = _run([*command, "-niter", "1"])
    unit = 1e-3 if " us" in _figure(output, r"Median: +(.*)") else 1.0
    runs = int(_figure(output, r"Count: +(\d+)"))
    requests = int(_figure(output, r"OPTIMAL_NUMBER_OF_INFER_REQUESTS: (\d+)")) if mode != "latency" else 1
    return Figures(
        latency=float(_figure(output, r"Median: +([\d.]+)")) * unit,
        rate=float(_figure(output, r"Throughput: +([\d.]+)")),
        cpu=(cpu - start) / (runs - int(_figure(once, r"Count: +(\d+)"))),
        requests=requests,
    )


def _run(command: list[str]) -> tuple[str, float]:
    """What it prints, and its CPU seconds."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise SystemExit(text)
    return text, usage.ru_utime + usage.ru_stime


def _figure(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"benchmark_app printed nothing like {pattern}:\n{text}")
    return found.group(1)


def compare(path: Path, mode: str, options: argparse.Namespace, program: str) -> float:
    """Print one mode's figures and ratios. Returns that of the clock."""
    runs: list[tuple[Figures, Figures]] = []
    for number in range(options.rounds):
        if number % 2:  # so that neither always comes after the other
            mine = by_sshtool(path, mode, options, 0)
            its = by_benchmark_app(path, mode, options, program)
        else:
            its = by_benchmark_app(path, mode, options, program)
            mine = by_sshtool(path, mode, options, 0)
        if mine.requests != its.requests:
            raise SystemExit(f"{mode}: sshtool ran {mine.requests} requests at once, benchmark_app {its.requests}")
        runs.append((its, mine))
    key = "latency" if mode == "latency" else "rate"
    unit = "ms" if mode == "latency" else "images/s"
    theirs, ours = ([statistics.median(getattr(run[side], key) for run in runs)] for side in (0, 1))
    ratios: list[float] = [getattr(mine, key) / getattr(its, key) for its, mine in runs]
    cpu = [mine.cpu / its.cpu for its, mine in runs]
    ratio = statistics.median(ratios)
    say(
        f"{mode}, {runs[0][0].requests} at once: benchmark_app {theirs[0]:.4g} {unit}, sshtool {ours[0]:.4g} {unit}, "
        f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), of CPU {statistics.median(cpu):.3f} "
        f"({min(cpu):.3f} to {max(cpu):.3f})"
    )
    return ratio


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, action="append", help="an .xml; repeatable")
    parser.add_argument("--duration", type=int, default=10, help="seconds of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="f32", help="what to compute in")
    options = parser.parse_args()
    program = shutil.which("benchmark_app", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise SystemExit("benchmark_app is not here; it comes with openvino")
    with tempfile.TemporaryDirectory() as name:
        paths: list[Path] = options.artifact or [Path(name) / MODEL / "FP32" / f"{MODEL}.xml"]
        if not options.artifact:
            for verb in (["download", "--demo"], ["convert", "--format", "openvino"]):
                subprocess.run([*SSHTOOL, *verb, "--quiet", "-o", name], check=True, stdout=subprocess.DEVNULL)
        ratios = []
        for path in paths:
            say(str(path))
            ratios += [compare(path, mode, options, program) for mode in ("latency", "throughput")]
    if any(abs(ratio - 1) > ALLOWED for ratio in ratios):
        raise SystemExit(f"they differ by more than {ALLOWED:.0%}")


if __name__ == "__main__":
    main()
