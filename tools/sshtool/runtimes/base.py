"""The interface of a runtime, which computes the outputs of an artifact, and the helpers that runtimes share.

To add a runtime, put a module with a registered subclass of `Runtime` beside this one, or into an extension
(`sshconvert.registry`), and write its test. Nothing else knows runtimes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, Floats, Images
from sshconvert.contract import Declaration
from sshconvert.errors import NonfiniteError
from sshconvert.formats.registry import FORMATS
from sshconvert.libraries import is_installed
from sshconvert.messages import printable
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line

Outputs = dict[str, Floats]

LONGEST_REASON: Final = 300

# The types to compute in, by OpenVINO's names. They do not depend on how the file stores its weights.
F32, BF16 = INFERENCE_PRECISIONS = ("f32", "bf16")

# Computes the outputs for prepared images, and keeps none of them.
Inference = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    """Where and how a runtime computes.

    Args:
        device: a device of the runtime.
        threads: the number of threads; 0 lets the runtime choose.
        allow_nonfinite: let MXNet load a checkpoint with NaN or infinities. Artifacts are not checked for them.
        throughput: compute several images at a time (`Runtime.parallel`) where many images finish sooner that way,
            though each takes longer.
        images: the number of images to come, for which the runtime prepares; 0 if it is unknown.
        inference_precision: one of INFERENCE_PRECISIONS, the type of the values between layers.
        requests: the number of images at a time, which share the threads; 0 lets the runtime choose.

    """

    device: str = "CPU"
    threads: int = 0
    allow_nonfinite: bool = False
    throughput: bool = False
    images: int = 0
    inference_precision: str = F32
    requests: int = 0


class Runtime(ABC):
    """A loaded model. `run` takes raw images and feeds them in the form that the model declares."""

    key: ClassVar[str]  # the name in options
    name: ClassVar[str]  # the name for people
    module: ClassVar[str]  # the library to import
    formats: ClassVar[tuple[str, ...]]  # keys of the formats to load; this is the usual runtime of the first
    inference_precisions: ClassVar[tuple[str, ...]] = (F32,)  # the types that it can compute in on request
    # For the model card: the import, and the statement that makes `outputs` of `data`, with {path} and {name} in it.
    usage: ClassVar[tuple[str, ...]] = ()
    reads_strangers: ClassVar[bool] = True  # whether the sandbox, if there is one, runs its files

    version: str
    settings: Settings
    declaration: Declaration
    parallel: int = 1  # the number of threads that may call `run` at once and that make it faster
    inference_precision: str = F32  # the type that it reports to compute in; "" if it reports none

    @classmethod
    def is_here(cls) -> bool:
        """Whether its library is installed."""
        return is_installed(cls.module)

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        """The suffixes of the files that it loads."""
        return tuple(FORMATS[key].suffix for key in cls.formats)

    @classmethod
    def loads(cls, path: Path) -> bool:
        """Whether a file has one of these suffixes."""
        return path.suffix.lower() in cls.suffixes()

    @classmethod
    @abstractmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        """Load a file. Raises RuntimeUnavailableError (missing library or device) and ArtifactError (bad file)."""

    @abstractmethod
    def run(self, images: Images) -> Outputs:
        """Compute the outputs, by bare name in the model's order, for uint8 [N, H, W, 3] BGR images.

        Raises ArtifactError if the model cannot take images of that number or size.
        """

    @abstractmethod
    def layers(self, images: Images) -> Outputs:
        """As `run`, but all named tensors inside, in the order of computation. This needs a lot of memory."""

    @abstractmethod
    def inferences(self, images: Images) -> list[Inference]:
        """For measurements: the computations that run best at once, each in its own thread.

        This prepares the images once, so that a call is the runtime's own work alone. A call raises what `run` raises.
        """

    @classmethod
    def default_requests(cls, threads: int) -> int:
        """The number of computations at once for the best throughput; 0 lets the library choose."""
        return threads or usable_cores()

    def __str__(self) -> str:
        shorter = f" in {self.inference_precision}" if self.inference_precision not in ("", F32) else ""
        return f"{self.name} {self.version}{shorter}"


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(images: Images, declaration: Declaration) -> Array:
    """Images as a model with this declaration takes them: float32 or uint8, [N, 3, H, W] or [N, H, W, 3]."""
    pixels: Array = images if declaration.color_order == "BGR" else images[..., ::-1]
    if any(declaration.mean_values):
        pixels = pixels - np.array(declaration.mean_values, np.float32)
    # One copy changes both the type and the order.
    ordered = pixels if declaration.input_layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(ordered, declaration.input_type)


def reason(error: BaseException) -> str:
    """A runtime's message in one line of limited length."""
    line = printable(" ".join(str(error).split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def check_finite(outputs: Mapping[str, Array]) -> None:
    """Raises NonfiniteError, which names the first output that holds NaN or infinity: they would count as no result."""
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            number = np.count_nonzero(~np.isfinite(values))
            raise NonfiniteError(
                f"the output {one_line(name)} holds NaN or infinity ({number} of {values.size} values); `sshtool "
                "verify` says whether the model is whole"
            )
