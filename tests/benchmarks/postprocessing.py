"""sshtool's post-processing beside the plain NumPy version of upstream's: `python tests/benchmarks/postprocessing.py`.

On the heads of the demo checkpoint for drawn scenes, and on two kinds of crowds, all of 640x640. CPU time of this
process; both take turns, the median counts. Both give the same bits, or this fails.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from head_tensors import RULES, crowd, heads_of
from postprocessing_peer import detect_plainly
from sshconvert.models.registry import load_model

MODEL: Final = "ssh-mxnet"
SIZE: Final = (640, 640)
ROUNDS: Final = 15
SCENES: Final = 5

Heads = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """Medians, in milliseconds, over the samples of a kind; `candidates` are those above the score threshold."""

    name: str
    candidates: float
    faces: float
    ours: float
    plain: float


def measure(name: str, samples: Sequence[Heads], rounds: int = ROUNDS) -> Case:
    ours, plain = [], []
    for heads in samples:
        check(heads)  # and so warmed up
        for _ in range(rounds):
            ours.append(milliseconds(partial(RULES.decode, heads, SIZE)))
            plain.append(milliseconds(partial(detect_plainly, heads, SIZE, RULES)))
    above = [
        sum(int((heads[h.scores][:, 2:] >= RULES.score_threshold).sum()) for h in RULES.heads) for heads in samples
    ]
    faces = [len(RULES.decode(heads, SIZE)[0]) for heads in samples]
    middle = statistics.median
    return Case(name, middle(above), middle(faces), middle(ours), middle(plain))


def milliseconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def check(heads: Heads) -> None:
    (found,), (expected,) = RULES.decode(heads, SIZE), detect_plainly(heads, SIZE, RULES)
    if np.column_stack([found.boxes, found.scores]).tobytes() != expected.tobytes():
        raise AssertionError("the two do not give the same bits")


def scene_heads(artifact: Path) -> list[Heads]:
    """The heads of drawn scenes that the demo checkpoint was not fitted to."""
    from sshtool.demo.scenes import draw_scene
    from sshtool.runtimes.loading import load

    runtime = load(artifact, load_model(MODEL))
    return [runtime.run(draw_scene(seed, *SIZE).image[None]) for seed in range(SCENES)]


def make_demo(folder: Path) -> Path:
    for verb in (["download", "--demo"], ["convert"]):
        command = [sys.executable, "-m", "sshtool", *verb, "--quiet", "-o", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / MODEL / "FP32" / f"{MODEL}.xml"


def show(cases: Sequence[Case]) -> None:
    from rich.console import Console

    from sshtool.report.terminal import table

    rows = [
        [case.name, f"{case.candidates:.0f}", f"{case.faces:.0f}"]
        + [f"{number:.2f}" for number in (case.ours, case.plain, case.plain / case.ours)]
        for case in cases
    ]
    columns = ["640x640 heads", ">candidates", ">faces", ">sshtool ms", ">plain NumPy ms", ">ratio"]
    Console(width=120).print(table(columns, rows, title="post-processing, CPU time", plain=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, help="a converted demo checkpoint of 640x640; made if not given")
    artifact = parser.parse_args().artifact
    with tempfile.TemporaryDirectory() as name:
        scenes = scene_heads(artifact or make_demo(Path(name)))
    show(
        [
            measure("drawn scenes, demo checkpoint", scenes),
            measure("no face at all", [heads_of("nothing", (1, *SIZE), 1)]),
            measure("a crowd of 150 faces", [crowd(seed) for seed in range(3)]),
            measure("noise: everything is a face", [heads_of("dense", (1, *SIZE), seed) for seed in range(3)]),
        ]
    )


if __name__ == "__main__":
    main()
