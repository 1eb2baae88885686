"""The interface of a runtime, which computes the outputs of an artifact, and the functions that runtimes share.

A new runtime is a registered subclass of `Runtime` in a module beside this one or in an extension
(`sshconvert.registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from sshconvert.arrays import Array, Floats, Images
from sshconvert.contract import Declaration
from sshconvert.errors import ArtifactError, DetectionError, NonfiniteError
from sshconvert.formats.base import has_suffix
from sshconvert.formats.registry import FORMATS
from sshconvert.libraries import is_installed
from sshconvert.messages import printable
from sshconvert.models.spec import ModelSpec
from sshconvert.schema import one_line
from sshconvert.tasks.inside import plain_outputs
from sshconvert.threads import usable_cores

Outputs = dict[str, Floats]

# What a run takes: images, uint8 [N, H, W, 3] BGR, or for a network that takes no image its inputs by name.
Feed = Images | Mapping[str, Array]

LONGEST_REASON: Final = 300

# The types of the values between layers, by OpenVINO's names. They are independent of the stored weights' type.
F32, BF16 = INFERENCE_PRECISIONS = ("f32", "bf16")

# Computes the outputs for prepared images without keeping them.
Inference = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    """Where and how a runtime computes.

    Args:
        device: a device of the runtime.
        threads: the number of threads; 0 lets the runtime choose.
        allow_nonfinite: let MXNet load a checkpoint with NaN or infinities. Artifacts are not checked for them.
        throughput: compute several images at a time (`Runtime.parallel`) if many images finish sooner that way,
            although each takes longer.
        images: the number of images to come; 0 if it is unknown.
        inference_precision: one of INFERENCE_PRECISIONS.
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
    """A loaded model. `run` takes raw images and feeds them in the form that the model declares, or takes tensors.

    Results of post-processing inside are given in the plain form (`sshconvert.tasks.inside`), whatever the file's is.
    """

    key: ClassVar[str]  # its name in options
    name: ClassVar[str]  # its name in messages and reports
    module: ClassVar[str]  # the library to import
    formats: ClassVar[tuple[str, ...]]  # the keys of the formats that it loads; it is the usual runtime of the first
    inference_precisions: ClassVar[tuple[str, ...]] = (F32,)  # the types that it can compute in on request
    # For the model card: the import, and the statement that computes `outputs` from `data`, with {path},
    # {name} and {outputs}.
    usage: ClassVar[tuple[str, ...]] = ()
    needs_sandbox: ClassVar[bool] = True  # whether it loads untrusted files, in the sandbox if there is one

    version: str
    settings: Settings
    declaration: Declaration
    parallel: int = 1  # the number of threads that call `run` at once for the best throughput
    inference_precision: str = F32  # the type that it reports to compute in; "" if it reports none

    @classmethod
    def is_available(cls) -> bool:
        return is_installed(cls.module)

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        return tuple(FORMATS[key].suffix for key in cls.formats)

    @classmethod
    def loads(cls, path: Path) -> bool:
        """Return whether the file has one of these suffixes."""
        return any(has_suffix(path, suffix) for suffix in cls.suffixes())

    @classmethod
    @abstractmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        """Load a file. Raises RuntimeUnavailableError (missing library or device) and ArtifactError (bad file)."""

    @abstractmethod
    def run(self, feed: Feed) -> Outputs:
        """Compute the outputs, by name in the model's order.

        Raises ArtifactError if the model does not take images of this number or size, or these tensors.
        """

    @abstractmethod
    def layers(self, feed: Feed) -> Outputs:
        """Compute all named tensors of the network, in the order of computation. This needs a lot of memory."""

    def behind(self, tensors: Mapping[str, Array], feed: Feed) -> Outputs:
        """Compute the outputs from inner `tensors`, in place of those that the network computes, by the file's nodes.

        The result leaves out outputs among the `tensors`. The nodes may read the input too, such as its size, so `feed`
        is an input of the same size. Raises ArtifactError if the file computes no tensor of a name, or does not take
        these.
        """
        raise ArtifactError(f"{self.name} cannot run a part of a file; choose another --runtime")

    def tensors(self, feed: Feed, names: Collection[str]) -> Outputs:
        """Compute the outputs and the inner tensors of these names, which the runtime may fuse less than in `run`.

        Integers stay integers. Raises ArtifactError if the file computes no tensor of a name.
        """
        raise ArtifactError(f"{self.name} shows no inner tensors; choose another --runtime")

    @abstractmethod
    def inferences(self, feed: Feed) -> list[Inference]:
        """Return the computations for measurements, one for each thread that gives the best throughput.

        The inputs are prepared here, so a call measures only the runtime. A call raises what `run` raises.
        """

    @classmethod
    def default_requests(cls, threads: int) -> int:
        """Return the number of concurrent computations for the best throughput; 0 lets the library choose."""
        return threads or usable_cores()

    def __str__(self) -> str:
        precision = f" in {self.inference_precision}" if self.inference_precision not in ("", F32) else ""
        return f"{self.name} {self.version}{precision}"


def prepared(feed: Feed, declaration: Declaration, name: str) -> dict[str, Array]:
    """Return the inputs by name. `name` is that of the image."""
    return {name: prepare(feed, declaration)} if isinstance(feed, np.ndarray) else dict(feed)


def shown(feed: Feed) -> str:
    """Return the shape of the images, or of each tensor, for a message."""
    if isinstance(feed, np.ndarray):
        return str(feed.shape)
    return ", ".join(f"{one_line(name)} {array.dtype} {array.shape}" for name, array in feed.items())


def prepare(images: Images, declaration: Declaration) -> Array:
    """Return the images in the declared form: float32 or uint8, [N, 3, H, W] or [N, H, W, 3]."""
    pixels: Array = images if declaration.color_order == "BGR" else images[..., ::-1]
    if any(declaration.mean_values):
        pixels = pixels - np.array(declaration.mean_values, np.float32)
    if declaration.input_layout != "NHWC":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels, declaration.input_type)  # one copy for both the type and the layout


def plain(outputs: Mapping[str, Array], declaration: Declaration, path: Path) -> Outputs:
    """Return the outputs of a file with post-processing inside in the plain form. Raises ArtifactError."""
    if declaration.faces is None:
        return dict(outputs)
    try:
        return plain_outputs(outputs, declaration.faces.form)
    except DetectionError as error:
        raise ArtifactError(f"{path}: {error}; convert again") from None


def missing_tensor(path: Path, names: Iterable[str]) -> ArtifactError:
    """Return the error for a file that computes no tensor of these names."""
    return ArtifactError(f"{path}: computes no tensor {one_line(', '.join(sorted(names)))}; convert again")


def reason(error: BaseException) -> str:
    """Return a runtime's message as one line of limited length."""
    line = printable(" ".join(str(error).split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def check_finite(outputs: Mapping[str, Array]) -> None:
    """Raise NonfiniteError for the first output that holds NaN or infinity, which decoding would drop silently."""
    for name, values in outputs.items():
        if count := np.count_nonzero(~np.isfinite(values)):
            raise NonfiniteError(
                f"the output {one_line(name)} holds NaN or infinity ({count} of {values.size} values); check the model "
                "with `sshtool verify`"
            )
