"""Runtimes that compute the output tensors, behind one small interface.

To add one: a module here with a subclass of `Runtime`, and its test. Nothing else has to know of it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from sshconvert.contract import Declaration
from sshconvert.errors import ArtifactError, DetectionError, NonfiniteError, UsageError
from sshconvert.formats.registry import FORMATS, main_file
from sshconvert.libraries import is_installed
from sshconvert.messages import printable
from sshconvert.models.spec import ModelSpec
from sshconvert.reading import is_file
from sshconvert.schema import one_line
from sshconvert.tasks.postprocessing import OUTPUTS as FACES
from sshtool.sandbox import confined

Images = npt.NDArray[np.uint8]
Outputs = dict[str, npt.NDArray[np.float32]]

LONGEST_REASON: Final = 300

# What to compute in, by OpenVINO's names. Files are stored as they are stored; this is up to the runtime.
F32, BF16 = INFERENCE_PRECISIONS = ("f32", "bf16")

# Computes the outputs for images that are in place already, and keeps none of them.
Inference = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    """Where and how a runtime computes. `threads` 0 leaves the number to the runtime.

    `allow_nonfinite` lets MXNet load a checkpoint with NaN or infinities; artifacts are not looked at.

    With `throughput` it works on several images at a time where that finishes many images sooner, though each of them
    later: `Runtime.parallel` says how many. If there will be only so many `images` (0: not known), it prepares for no
    more. With `requests`, it is as many as that, and they share the threads.

    `inference_precision` is one of INFERENCE_PRECISIONS: a shorter type for what is computed between layers.
    """

    device: str = "CPU"
    threads: int = 0
    allow_nonfinite: bool = False
    throughput: bool = False
    images: int = 0
    inference_precision: str = F32
    requests: int = 0


class Runtime(ABC):
    """A loaded model. `run` takes images as they are and feeds what the model declares that it wants."""

    key: ClassVar[str]  # its name in options
    name: ClassVar[str]  # its name for people
    module: ClassVar[str]  # of the library that it needs
    formats: ClassVar[tuple[str, ...]]  # keys of those that it loads; of the first, it is the usual runtime
    inference_precisions: ClassVar[tuple[str, ...]] = (F32,)  # that it can be asked for
    reads_strangers: ClassVar[bool] = True  # its files run in the sandbox, where there is one

    version: str
    settings: Settings
    declaration: Declaration
    parallel: int = 1  # as many threads may call `run` at once, and are worth it
    inference_precision: str = F32  # what it computes in, by its own word; "" where it does not say

    @classmethod
    def is_here(cls) -> bool:
        """Whether its library is installed."""
        return is_installed(cls.module)

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        """Those of the files that it loads."""
        return tuple(FORMATS[key].suffix for key in cls.formats)

    @classmethod
    def loads(cls, path: Path) -> bool:
        """Whether a file is named as one that it loads."""
        return path.suffix.lower() in cls.suffixes()

    @classmethod
    @abstractmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        """Load a file. Raises RuntimeUnavailableError (library or device not here) and ArtifactError (bad file)."""

    @abstractmethod
    def run(self, images: Images) -> Outputs:
        """Compute the outputs, by bare name in the model's order, for uint8 [N, H, W, 3] BGR images.

        Raises ArtifactError if the model cannot take images of that number or size.
        """

    @abstractmethod
    def layers(self, images: Images) -> Outputs:
        """As `run`, but every tensor inside that has a name, in the order of computation. Takes a lot of memory."""

    @abstractmethod
    def inferences(self, images: Images) -> list[Inference]:
        """For measurements: as many computations of those images as are worth doing at once, each in its own thread.

        The images are prepared here, once, so that a call is the runtime's own work and nothing else. Each may raise
        what `run` raises.
        """

    @classmethod
    def default_requests(cls, threads: int) -> int:
        """How many to compute at once where many images are to be done soon; 0 leaves it to the library."""
        return threads or usable_cores()

    def __str__(self) -> str:
        shorter = f" in {self.inference_precision}" if self.inference_precision not in ("", F32) else ""
        return f"{self.name} {self.version}{shorter}"


def usable_cores() -> int:
    """Of this machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(images: Images, declaration: Declaration) -> npt.NDArray[Any]:
    """What a model with that declaration takes: float32 or uint8, [N, 3, H, W] or [N, H, W, 3]."""
    pixels: npt.NDArray[Any] = images if declaration.color_order == "BGR" else images[..., ::-1]
    if any(declaration.mean_values):
        pixels = pixels - np.array(declaration.mean_values, np.float32)
    # The other type and the other order in one go.
    ordered = pixels if declaration.input_layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(ordered, declaration.input_type)


def reason(error: BaseException) -> str:
    """What a runtime says, in one line, and not more of it than a person reads."""
    line = printable(" ".join(str(error).split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def check_finite(outputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises NonfiniteError, which names the first output that holds NaN or infinity: they would count as no face."""
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            number = np.count_nonzero(~np.isfinite(values))
            raise NonfiniteError(
                f"the output {one_line(name)} holds NaN or infinity ({number} of {values.size} values); `sshtool "
                "verify` says whether the model is whole"
            )


def faces_in(outputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """The faces that a file with post-processing inside has found in each image: float32 [K, 5], x1, y1, x2, y2, score.

    Raises DetectionError if the outputs are others.
    """
    boxes, scores, counts = (outputs.get(name, np.zeros(0)) for name in FACES)
    fits = boxes.ndim == 3 and boxes.shape[2] == 4 and scores.shape == boxes.shape[:2]
    fits = fits and counts.shape == boxes.shape[:1] and counts.dtype.kind in "iu"
    if not fits or ((counts < 0) | (counts > scores.shape[1])).any():
        raise DetectionError(f"the outputs are not {', '.join(FACES)}: [N, K, 4], [N, K] and [N], 0 to K")
    rows = np.concatenate([boxes, scores[..., None]], axis=2)
    return [row[:count] for row, count in zip(rows, counts.tolist(), strict=True)]


@cache
def runtimes() -> Mapping[str, type[Runtime]]:
    """All runtimes there are, by key: the subclasses of `Runtime` in the modules of this package."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    kinds = [kind for kind in Runtime.__subclasses__() if "key" in vars(kind)]
    return {kind.key: kind for kind in sorted(kinds, key=lambda kind: kind.key)}


def load(path: Path, model: ModelSpec, settings: Settings = Settings(), *, key: str = "") -> Runtime:  # frozen
    """Load a file with the runtime of that key, or with the usual one for its suffix.

    Raises UsageError if there is none or it cannot be asked for that precision, and what `Runtime.load` raises.
    """
    kind = usual_runtime(path, key)
    wanted = settings.inference_precision
    if wanted not in kind.inference_precisions:
        raise UsageError(
            f"--inference-precision: {path} is for {kind.name}, which cannot be asked for {wanted}; leave it out, or "
            f"load a file with --runtime {' or '.join(able_of(wanted))}"
        )
    if not is_file(path):
        raise ArtifactError(f"{path}: is not there; `sshtool convert` makes it")
    limits = confined()
    if limits is None or not kind.reads_strangers:
        return kind.load(path, model, settings)
    from sshtool.sandbox.runtimes import load as load_in_sandbox

    return load_in_sandbox(kind, path, model, settings, limits)


def able_of(precision: str) -> list[str]:
    """The keys of the runtimes that can be asked for that precision."""
    return [key for key, kind in runtimes().items() if precision in kind.inference_precisions]


def usual_runtime(path: Path, key: str = "") -> type[Runtime]:
    """The runtime of that key, or the usual one for the file's suffix, of those that are installed if one of them loads
    it. Raises UsageError if there is none.
    """
    known = runtimes()
    if key and key not in known:
        raise UsageError(f"--runtime: {key} is not one of {', '.join(known)}")
    able = [kind for kind in known.values() if kind.loads(path) and key in ("", kind.key)]
    if not able:
        raise UsageError(f"{path}: {_why_not(path, key)}")
    return min(
        [kind for kind in able if kind.is_here()] or able, key=lambda kind: kind.suffixes().index(path.suffix.lower())
    )


def _why_not(path: Path, key: str) -> str:
    """Why a file is none that the runtime of that key loads, or any at all, and what to give instead."""
    if main := main_file(path):
        return f"cannot be loaded alone: give {main}, which refers to it"
    if path.name.endswith("-symbol.json"):
        return "is a part of a checkpoint: give what `sshtool convert` made of it"
    kinds = [kind for kind in runtimes().values() if key in ("", kind.key)]
    loadable = " or ".join(sorted({item for kind in kinds for item in kind.suffixes()}))
    name = kinds[0].name if key else "a runtime"
    return f"is no file that {name} loads; give one that ends in {loadable}"


def native_formats() -> tuple[str, ...]:
    """The keys of the formats, first those whose usual runtime is installed."""
    installed = {key for kind in runtimes().values() if kind.is_here() for key in kind.formats[:1]}
    return tuple(sorted(FORMATS, key=lambda key: key not in installed))
