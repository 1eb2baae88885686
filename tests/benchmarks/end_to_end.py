"""`sshtool detect` beside OpenVINO's `benchmark_app` on the same IR: `python tests/benchmarks/end_to_end.py`.

JPEG files of 1024x768 to detections as JSON, with reading, decoding, resizing and post-processing, against bare
inference on data that lies in memory. Whole processes, which take turns; each runs with few and with many images, and
the difference counts: so starting, loading and compiling are left out on both sides. The ratio is that of throughputs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from postprocessing import MODEL, make_demo

FEW: Final = 8
WIDTH, HEIGHT = 1024, 768


@dataclass(frozen=True)
class Run:
    """One process: how many images, its CPU seconds, and its seconds by the clock."""

    images: int
    cpu: float
    wall: float


@dataclass(frozen=True)
class PerImage:
    """Seconds for each image beyond the first few."""

    cpu: float
    wall: float


def draw_jpegs(folder: Path, count: int) -> list[Path]:
    from PIL import Image

    from sshtool.demo.scenes import draw_scene

    paths = [folder / f"{seed:04}.jpg" for seed in range(count)]
    for seed, path in enumerate(paths):
        image = draw_scene(seed, HEIGHT, WIDTH).image[..., ::-1]
        Image.fromarray(image.copy()).save(path, quality=90)
    return paths


def run(command: Sequence[str]) -> tuple[str, float, float]:
    """What it printed, its CPU seconds, and its seconds by the clock."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}\n{text}")
    return text, usage.ru_utime + usage.ru_stime, wall


def detect(artifact: Path, images: Sequence[Path]) -> Run:
    command = [sys.executable, "-m", "sshtool", "detect", *map(str, images), "--artifact", str(artifact)]
    text, cpu, wall = run([*command, "--json", "--quiet"])
    if text.count('"detections"') != len(images):
        raise RuntimeError(f"not every image was done:\n{text}")
    return Run(len(images), cpu, wall)


def benchmark_app(program: str, artifact: Path, count: int) -> Run:
    command = [program, "-m", str(artifact), "-d", "CPU", "-api", "async", "-hint", "throughput"]
    text, cpu, wall = run([*command, "-infer_precision", "f32", "-niter", str(count)])
    done = re.search(r"Count:\s+(\d+) iterations", text)
    if done is None:
        raise RuntimeError(f"{program} does not say how many images it did:\n{text}")
    return Run(int(done[1]), cpu, wall)


def per_image(few: Run, many: Run) -> PerImage:
    images = many.images - few.images
    return PerImage((many.cpu - few.cpu) / images, (many.wall - few.wall) / images)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, help="an .xml file with a batch of 1; the demo's FP32 if not given")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    program = shutil.which("benchmark_app", path=str(Path(sys.executable).parent)) or "benchmark_app"
    parser.add_argument("--benchmark-app", default=program)
    options = parser.parse_args()
    ours: list[PerImage] = []
    theirs: list[PerImage] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = options.artifact or make_demo(folder)
        images = draw_jpegs(folder, options.images)
        for number in range(1, options.rounds + 1):
            ours.append(per_image(detect(artifact, images[:FEW]), detect(artifact, images)))
            app = [benchmark_app(options.benchmark_app, artifact, count) for count in (FEW, options.images)]
            theirs.append(per_image(*app))
            show(f"round {number}", ours[-1], theirs[-1])
    medians = [
        PerImage(statistics.median(item.cpu for item in items), statistics.median(item.wall for item in items))
        for items in (ours, theirs)
    ]
    show(f"median, {MODEL}", *medians)


def show(title: str, ours: PerImage, theirs: PerImage) -> None:
    print(  # noqa: T201  # that is what it is for
        f"{title}: seconds an image by CPU {ours.cpu:.3f} to {theirs.cpu:.3f}, by the clock {ours.wall:.3f} to "
        f"{theirs.wall:.3f}; ratio of throughputs by CPU {theirs.cpu / ours.cpu:.3f}, by the clock "
        f"{theirs.wall / ours.wall:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
