"""`sshtool detect` on a Dask cluster beside one process: `python tests/benchmarks/cluster.py`.

Small images (PNG of 48x48 pixels) to a file of JSON lines, by a detector of 32x32 pixels with an eighth of the
channels, so that what surrounds the inference counts most. The cluster has as many workers of one thread as this
machine has cores, and with --kills that many of them are killed on the way. The file has to have the same bytes. Memory
is the peak of a process's resident set: of the client, and of the largest worker with its model's process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from scaled_checkpoint import write_random_checkpoint  # as above

SIDE: Final = 48
SHAPE: Final = "1,3,32,32"
SAMPLING: Final = 0.5  # seconds

# A child's peak begins with what its parent has, which is little in a process of its own.
MEASURED: Final = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
CLUSTER: Final = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@dataclass
class Run:
    """One run: its seconds by the clock, the client's CPU seconds, and peaks of memory in MB."""

    wall: float
    cpu: float
    client: int
    workers: int
    killed: int = 0


@dataclass
class Watch:
    """Looks at the memory of the processes below one, and kills some of the workers."""

    root: int
    kills: int = 0
    peak: int = 0
    killed: list[int] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self, period: float) -> None:
        next_kill = time.monotonic() + period
        while not self.done.wait(SAMPLING):
            processes = dict(descendants(self.root))
            workers = [number for number, text in processes.items() if "spawn_main" in text]
            for worker in workers:
                own = [worker, *(number for number, _ in descendants(worker))]
                self.peak = max(self.peak, sum(map(resident, own)))
            if len(self.killed) < self.kills and time.monotonic() > next_kill and workers:
                self.killed.append(workers[len(self.killed) % len(workers)])
                os.kill(self.killed[-1], signal.SIGKILL)
                next_kill += period


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """The processes below one, and their command lines."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        for number, above, *text in rows:
            if int(above) == parent:
                waiting.append(int(number))
                yield int(number), " ".join(text)


def resident(process: int) -> int:
    """The resident set in MB; 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except (OSError, IndexError):
        return 0


def draw(folder: Path, images: int) -> None:
    from PIL import Image

    from sshtool.demo.scenes import draw_scene

    scenes = [draw_scene(seed, SIDE, SIDE).image[..., ::-1] for seed in range(50)]
    for number in range(images):
        pixels = np.roll(scenes[number % 50], number // 50, axis=(number % 2))
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number:07}.png")


def measured(command: Sequence[str], folder: Path) -> tuple[float, float, int]:
    """Seconds by the clock, CPU seconds of the process and its children, and its peak in MB."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    cpu, peak = map(float, result.stdout.split())
    return time.perf_counter() - start, cpu, int(peak) >> 10


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a cluster, and the number of its process."""
    script = folder / "cluster.py"
    script.write_text(CLUSTER)
    command = [sys.executable, str(script), str(workers)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


def on_cluster(program: list[str], detect: list[str], folder: Path, workers: int, kills: int, period: float) -> Run:
    with cluster(workers, folder) as (address, process):
        watch = Watch(process, kills)
        thread = threading.Thread(target=watch.run, args=(period,))
        thread.start()
        try:
            wall, cpu, client = measured([*program, *detect, "--scheduler", address], folder)
        finally:
            watch.done.set()
            thread.join()
    return Run(wall, cpu, client, watch.peak, len(watch.killed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    program = [sys.executable, "-m", "sshtool"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        draw(folder / "photos", options.images)
        (folder / "checkpoint").mkdir()
        write_random_checkpoint(folder / "checkpoint")
        small = ["--checkpoint", "checkpoint", "--input-shape", SHAPE, "--precision", "FP32", "--format", "onnx"]
        measured([*program, "convert", *small, "--quiet"], folder)
        detect = ["detect", "photos", "--save-results", "jsonl", "--quiet"]
        results = folder / "artifacts" / "ssh-mxnet" / "detections" / "detections.jsonl"
        wall, cpu, peak = measured([*program, *detect], folder)
        one = Run(wall, cpu, peak, 0)
        expected = results.read_bytes()
        rows = [("one process", one)]
        for kills in (0, options.kills):
            results.unlink()
            period = 0.8 * one.wall / (kills + 1)
            run = on_cluster(program, detect, folder, options.workers, kills, period)
            if results.read_bytes() != expected:
                raise RuntimeError("the cluster's file has other bytes")
            rows.append((f"{options.workers} workers, {run.killed} killed", run))
    print(f"{options.images} images, {len(expected.splitlines())} lines, the same bytes")  # noqa: T201  # a script
    for title, run in rows:
        print(  # noqa: T201  # as above
            f"{title:24} {options.images / run.wall:6.0f} images/s, {one.wall / run.wall:5.2f} of one process, client "
            f"{run.client} MB and {run.cpu:.0f} s of CPU, worker {run.workers} MB"
        )


if __name__ == "__main__":
    main()
