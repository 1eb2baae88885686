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
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from sshconvert.contract import Declaration
from sshconvert.errors import NonfiniteError
from sshconvert.formats.registry import FORMATS
from sshconvert.libraries import is_installed
from sshconvert.messages import printable
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line

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
    # For the model card: the import, and the statement that makes `outputs` of `data`, with {path} and {name} in it.
    usage: ClassVar[tuple[str, ...]] = ()
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
    """Raises NonfiniteError, which names the first output that holds NaN or infinity: they would count as no result."""
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            number = np.count_nonzero(~np.isfinite(values))
            raise NonfiniteError(
                f"the output {one_line(name)} holds NaN or infinity ({number} of {values.size} values); `sshtool "
                "verify` says whether the model is whole"
            )
