"""The worker process: it loads one candidate and measures it on request. Its memory and threads are the candidate's."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.arrays import Array, Images
from sshconvert.checkpoint import CheckpointFiles, open_checkpoint
from sshconvert.contract import Declaration
from sshconvert.errors import UsageError
from sshconvert.models.spec import ModelSpec
from sshtool.bench.measuring import LATENCY, Dose, measure_latency, measure_throughput
from sshtool.demo.scenes import draw_scene
from sshtool.limits import MOST_PIXELS
from sshtool.parity.samples import NORMAL, draw_sample
from sshtool.runtimes.base import Feed, Inference, Runtime, Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.mxnet import Mxnet
from sshtool.sandbox.child import Answer

KILOBYTE: Final = 1024


@dataclass(frozen=True)
class Work:
    """What to load, and how. `size` is N, H and W of the images; 0 leaves a size to the file, or else the model.

    With a `symbol`, `path` are the parameters of a checkpoint that MXNet runs.
    """

    path: str
    model: Mapping[str, Any]  # as JSON
    runtime: str
    mode: str
    settings: Settings
    size: tuple[int, int, int] = (0, 0, 0)
    symbol: str = ""


@dataclass(frozen=True)
class Loaded:
    """The loaded candidate. `input_shape` is N, C, H, W; `requests` inferences run in parallel."""

    runtime: str
    inference_precision: str
    precision: str
    weights: str
    input_shape: tuple[int, ...]
    requests: int
    load_seconds: float
    first_seconds: float


class Service:
    """Answers the parent: the first message is a Work to load, every other one a Dose to measure."""

    def __init__(self) -> None:
        self._candidate: _Candidate | None = None

    def __call__(self, body: dict[str, Any], _: tuple[Array, ...]) -> Answer:
        if self._candidate is None:
            self._candidate = _Candidate(Work(**body | {"settings": Settings(**body["settings"])}))
            return asdict(self._candidate.loaded), []
        return {"turn": asdict(self._candidate.measure(Dose(**body))), "peak_bytes": peak_bytes()}, []


class _Candidate:
    """A loaded file with its images in place. The first computation is done."""

    def __init__(self, work: Work) -> None:
        model = ModelSpec.model_validate(work.model)
        start = time.perf_counter()
        runtime = _load(work, model)
        load_seconds = time.perf_counter() - start
        declaration = runtime.declaration
        self._mode = work.mode
        feed, shape = _feed(work, declaration, model)
        self._inferences: list[Inference] = runtime.inferences(feed)
        start = time.perf_counter()
        self._inferences[0]()
        self.loaded = Loaded(
            runtime=str(runtime),
            inference_precision=runtime.inference_precision,
            precision=declaration.precision,
            weights=declaration.weights,
            input_shape=shape,
            requests=len(self._inferences),
            load_seconds=load_seconds,
            first_seconds=time.perf_counter() - start,
        )

    def measure(self, dose: Dose) -> Any:
        if self._mode == LATENCY:
            return measure_latency(self._inferences[0], dose)
        return measure_throughput(self._inferences, dose)


def _load(work: Work, model: ModelSpec) -> Runtime:
    if not work.symbol:
        return load(Path(work.path), model, work.settings, key=work.runtime)
    files = CheckpointFiles(Path(work.symbol), Path(work.path))
    checkpoint = open_checkpoint(files, model, allow_nonfinite=work.settings.allow_nonfinite)
    return Mxnet(checkpoint, work.settings)


def _feed(work: Work, declaration: Declaration, model: ModelSpec) -> tuple[Feed, tuple[int, ...]]:
    """The images to compute, or tensors of the model's shapes, and the input's shape."""
    if declaration.tensors:
        sample = draw_sample(f"{NORMAL}0", model)
        return sample.feed, sample.shape
    batch, height, width = _shape(work, declaration, model)
    # Drawn scenes hold faces, so that post-processing inside the model has work to do.
    images: Images = np.repeat(draw_scene(0, height, width).image[None], batch, axis=0)
    return images, (batch, images.shape[3], height, width)


def _shape(work: Work, declaration: Declaration, model: ModelSpec) -> tuple[int, int, int]:
    """N, H and W of the images. Precedence: the file's fixed size, then the options, then the model."""
    fixed = (declaration.input_shape[0], *declaration.input_shape[2:])
    options = ("--batch", "--input-shape", "--input-shape")
    for option, declared, requested in zip(options, fixed, work.size, strict=True):
        if declared and requested and declared != requested:
            size = "x".join("any" if side is None else str(side) for side in declaration.input_shape)
            raise UsageError(f"{option}: {work.path} takes {size} only; leave the option out, or convert for that size")
    height, width = model.image_shape[2:]
    batch, height, width = (
        declared or requested or default
        for declared, requested, default in zip(fixed, work.size, (1, height, width), strict=True)
    )
    if batch * height * width > MOST_PIXELS:
        raise UsageError(f"--input-shape: {batch}x3x{height}x{width} has more than {MOST_PIXELS} pixels; give less")
    return batch, height, width


def peak_bytes() -> int | None:
    """The peak memory of this process, None if the system does not report it.

    `getrusage` comes second: on Linux its figure includes the memory of the parent at the time of the fork.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * KILOBYTE for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    peak = None
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KILOBYTE)
    return peak
