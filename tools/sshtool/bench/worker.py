"""A process of its own for each candidate, so that its memory and its threads are its own: it computes when told to."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sshconvert.arrays import Array, Images
from sshconvert.contract import Declaration
from sshconvert.errors import UsageError
from sshconvert.models.spec import ModelSpec
from sshtool.bench.measuring import LATENCY, Dose, measure_latency, measure_throughput
from sshtool.demo.scenes import draw_scene
from sshtool.limits import MOST_PIXELS
from sshtool.runtimes.base import Inference, Settings
from sshtool.runtimes.loading import load
from sshtool.sandbox.child import Answer

KILOBYTE: Final = 1024


@dataclass(frozen=True)
class Work:
    """What to load, and how. `size` is N, H and W of the images, 0 where the file, or else the model, decides."""

    path: str
    model: Mapping[str, Any]  # as JSON
    runtime: str
    mode: str
    settings: Settings
    size: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Loaded:
    """What was loaded, and what a computation of it is. `input_shape` is N, C, H, W; `requests` run at once."""

    runtime: str
    inference_precision: str
    precision: str
    weights: str
    input_shape: tuple[int, ...]
    requests: int
    load_seconds: float
    first_seconds: float


class Service:
    """What the process does: first it is told with Work what to load, then with Dose how much to measure."""

    def __init__(self) -> None:
        self._candidate: _Candidate | None = None

    def __call__(self, body: dict[str, Any], _: tuple[Array, ...]) -> Answer:
        if self._candidate is None:
            self._candidate = _Candidate(_work(body))
            return asdict(self._candidate.loaded), []
        return {"turn": asdict(self._candidate.measure(Dose(**body))), "peak_bytes": peak_bytes()}, []


def _work(body: dict[str, Any]) -> Work:
    return Work(**body | {"settings": Settings(**body["settings"])})


class _Candidate:
    """A loaded file with its images in place, warm."""

    def __init__(self, work: Work) -> None:
        model = ModelSpec.model_validate(work.model)
        start = time.perf_counter()
        runtime = load(Path(work.path), model, work.settings, key=work.runtime)
        took = time.perf_counter() - start
        declaration = runtime.declaration
        self._mode = work.mode
        images = _images(_shape(work, declaration, model))
        self._inferences: list[Inference] = runtime.inferences(images)
        start = time.perf_counter()
        self._inferences[0]()
        self.loaded = Loaded(
            runtime=str(runtime),
            inference_precision=runtime.inference_precision,
            precision=declaration.precision,
            weights=declaration.weights,
            input_shape=(images.shape[0], images.shape[3], *images.shape[1:3]),
            requests=len(self._inferences),
            load_seconds=took,
            first_seconds=time.perf_counter() - start,
        )

    def measure(self, dose: Dose) -> Any:
        if self._mode == LATENCY:
            return measure_latency(self._inferences[0], dose)
        return measure_throughput(self._inferences, dose)


def _shape(work: Work, declaration: Declaration, model: ModelSpec) -> tuple[int, int, int]:
    """N, H and W to feed: what the file declares; where it declares nothing, what the user or else the model says."""
    fixed = (declaration.input_shape[0], *declaration.input_shape[2:])
    options = ("--batch", "--input-shape", "--input-shape")
    for option, declared, wanted in zip(options, fixed, work.size, strict=True):
        if declared and wanted and declared != wanted:
            size = "x".join("any" if side is None else str(side) for side in declaration.input_shape)
            raise UsageError(f"{option}: {work.path} takes {size} only; leave the option out, or convert for that size")
    height, width = model.image_input.shape[2:]
    batch, height, width = (
        declared or wanted or usual
        for declared, wanted, usual in zip(fixed, work.size, (1, height, width), strict=True)
    )
    if batch * height * width > MOST_PIXELS:
        raise UsageError(f"--input-shape: {batch}x3x{height}x{width} has more than {MOST_PIXELS} pixels; give less")
    return batch, height, width


def _images(shape: tuple[int, int, int]) -> Images:
    """Drawn scenes: post-processing inside the model has something to find in them."""
    import numpy as np

    batch, height, width = shape
    scene: Images = draw_scene(0, height, width).image
    return np.repeat(scene[None], batch, axis=0)


def peak_bytes() -> int | None:
    """The most memory that this process ever held, None where the system does not say.

    The kernel's accounting of children begins with the memory of the parent, so that is not asked.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * KILOBYTE for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else KILOBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
