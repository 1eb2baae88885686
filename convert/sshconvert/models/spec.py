"""The description of a model: the schema of its TOML file. Texts are optional and empty by default."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pydantic

from sshconvert.digest import Algorithm
from sshconvert.errors import ModelError
from sshconvert.models.protocols import OmzRules, WiderRules
from sshconvert.schema import Dimension, Positive, Strict, TensorName
from sshconvert.tasks.base import Task
from sshconvert.tasks.registry import parse_task

Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sha384 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{96}$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w([\w.-]*\w)?$", max_length=100)]
FolderName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w([\w.-]*\w)?(/\w([\w.-]*\w)?)*$", max_length=200)]
ModelName = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$", max_length=100)
]
Url = Annotated[str, pydantic.StringConstraints(pattern=r"^https://[^\s/]+/\S*$")]
Layout = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z]{1,8}$")]
Colour = Annotated[float, pydantic.Field(ge=0, le=255)]
Figure = Annotated[float, pydantic.Field(gt=0)]


class PinnedFile(Strict):
    """A file with its size and one hash, SHA-256 or SHA-384."""

    name: FileName
    size: Positive
    sha256: Sha256 | None = None
    sha384: Sha384 | None = None

    @pydantic.model_validator(mode="after")
    def _has_one_hash(self) -> Self:
        if (self.sha256 is None) == (self.sha384 is None):
            raise ValueError("give sha256 or sha384")
        return self

    @property
    def algorithm(self) -> Algorithm:
        return "sha256" if self.sha256 else "sha384"

    @property
    def digest(self) -> str:
        """The hash in hexadecimal."""
        return self.sha256 or self.sha384 or ""


class SourceSpec(Strict):
    """A URL of a file, which worked until `dead_since`."""

    url: Url
    dead_since: str = ""


class LooseFile(PinnedFile):
    """One of the checkpoint's two files, and its URLs."""

    sources: tuple[SourceSpec, ...] = ()


class CheckpointSpec(Strict):
    """The checkpoint's two files, and their origin: an archive of both, or each file by itself.

    `folder` is the folder inside the archive in which both files lie; "" stands for the root, or one enclosing folder
    of any name. `sources` are the URLs of the archive.

    If the description names no files, it is a folder's only pair of `NAME-symbol.json` and `NAME-0000.params`.
    """

    symbol: FileName = ""
    params: FileName = ""
    archive: PinnedFile | None = None
    folder: FolderName | Literal[""] = ""
    sources: tuple[SourceSpec, ...] = ()
    files: tuple[LooseFile, ...] = ()

    @pydantic.model_validator(mode="after")
    def _names_are_a_pair(self) -> CheckpointSpec:
        if bool(self.symbol) != bool(self.params) or ((self.archive or self.files) and not self.symbol):
            raise ValueError("name both symbol and params")
        if self.symbol and self.symbol.casefold() == self.params.casefold():
            raise ValueError("symbol and params have the same name")
        return self

    @pydantic.model_validator(mode="after")
    def _has_one_origin(self) -> CheckpointSpec:
        if self.files and (self.archive or self.sources):
            raise ValueError("give an archive with its sources, or files with theirs")
        if self.files and [file.name for file in self.files] != [self.symbol, self.params]:
            raise ValueError(f"files: expected {self.symbol} and {self.params}")
        if self.folder and not self.archive:
            raise ValueError("folder: it is a folder of the archive; name the archive")
        return self

    @property
    def all_sources(self) -> tuple[SourceSpec, ...]:
        """The sources of the archive, or of the two files."""
        return (*self.sources, *(source for file in self.files for source in file.sources))


class ImageSpec(Strict):
    """The image of the original network: (pixel - mean) * scale, or (pixel - mean) / std, of pixels 0-255.

    `color` is the order of the channels, including those of `mean` and `std`.
    """

    color: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[Colour, Colour, Colour] = (0, 0, 0)
    scale: Figure | None = None
    std: tuple[Figure, Figure, Figure] | None = None

    @pydantic.model_validator(mode="after")
    def _has_one_divisor(self) -> ImageSpec:
        if self.scale is not None and self.std is not None:
            raise ValueError("give scale or std, not both")
        return self

    @property
    def divisors(self) -> tuple[float, float, float]:
        """The divisor of each channel after the subtraction."""
        return self.std or (1 / (self.scale or 1),) * 3

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The mean as a pixel, B, G, R. Padding of this colour is almost zero after the subtraction."""
        first, second, third = map(round, self.mean[:: -1 if self.color == "rgb" else 1])
        return first, second, third

    def prepared(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Convert images [..., 3], BGR, to the original network's images, with the channels last."""
        channels = images[..., ::-1] if self.color == "rgb" else images
        centred = channels.astype(np.float32) - np.array(self.mean, np.float32)
        return np.asarray(centred / np.array(self.divisors, np.float32), np.float32)


class InputSpec(Strict):
    """An input of the original network. `layout` has a letter for each dimension: NCHW or NHWC for an image."""

    name: TensorName
    shape: tuple[Dimension, ...] = pydantic.Field(min_length=1, max_length=8)
    dtype: Literal["float32", "int32", "int64", "uint8"] = "float32"
    layout: Layout = ""
    image: ImageSpec | None = None

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @property
    def is_channels_last(self) -> bool:
        """Whether the input is an image whose last dimension are the channels."""
        return self.image is not None and self.layout == "NHWC"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image as [N, C, H, W], whatever its layout."""
        if not self.is_channels_last:
            return self.shape
        batch, height, width, channels = self.shape
        return batch, channels, height, width

    def laid_out(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape [N, C, H, W] in the input's layout."""
        batch, channels, height, width = image_shape
        return (batch, height, width, channels) if self.is_channels_last else image_shape

    @pydantic.model_validator(mode="after")
    def _fits(self) -> InputSpec:
        if self.image and (len(self.shape) != 4 or self.layout not in ("", "NCHW", "NHWC") or self.image_shape[1] != 3):
            raise ValueError("an image's shape is [N, 3, H, W], or [N, H, W, 3] with the layout NHWC")
        if self.image and self.dtype != "float32":
            raise ValueError("an image's dtype is float32")
        if self.layout and len(self.layout) != len(self.shape):
            raise ValueError("layout has one letter for each dimension of shape")
        return self


class Published(Strict):
    """Published figures.

    `gflops` and `mparams` count the original network, or with the rule "folded" the converted one
    (`sshconvert.cost`). `map_percent` and `wider_percent`, by its setting, are on WIDER FACE's validation set.
    `accuracy_percent` are other accuracies by their name, such as "ImageNet top-1".
    """

    gflops: Figure | None = None
    mparams: Figure | None = None
    rule: Literal["original", "folded"] = "original"
    map_percent: Figure | None = None
    wider_percent: dict[str, Figure] = pydantic.Field(default_factory=dict)
    accuracy_percent: dict[str, Figure] = pydantic.Field(default_factory=dict)


class DemoSpec(Strict):
    """The hash of the demo's parameters, which have the same bytes on every machine."""

    params_sha256: Sha256


class Licence(Strict):
    """Licences of the code and of the weights, an SPDX identifier for both, and a note."""

    spdx: str = ""
    code: str = ""
    weights: str = ""
    note: str = ""


class ModelSpec(Strict):
    """A model.

    `outputs` are MXNet's tensors, with or without the suffix `_output`, by the names of the task's outputs that differ
    from them. A tensor may lie inside the network, whose remaining nodes then fall away. `verified` says what sshtool's
    developers compared with MXNet, and on which weights.
    """

    name: ModelName
    title: str = ""
    summary: str = ""
    homepage: str = ""
    paper: str = ""
    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    verified: str = ""
    checkpoint: CheckpointSpec = CheckpointSpec()
    inputs: tuple[InputSpec, ...] = pydantic.Field(min_length=1)
    task: Annotated[pydantic.SerializeAsAny[Task], pydantic.BeforeValidator(parse_task)]
    outputs: dict[TensorName, TensorName] = pydantic.Field(default_factory=dict)
    published: Published = Published()
    omz: OmzRules = OmzRules()
    wider: WiderRules = WiderRules()
    demo: DemoSpec | None = None
    licence: Licence = Licence()

    @pydantic.model_validator(mode="after")
    def _inputs_differ(self) -> ModelSpec:
        if len({item.name for item in self.inputs}) < len(self.inputs):
            raise ValueError("two inputs have the same name")
        return self

    @pydantic.model_validator(mode="after")
    def _renames_fit(self) -> ModelSpec:
        if unknown := self.outputs.keys() - set(self.output_names):
            raise ValueError(f"outputs: the task has no output {', '.join(sorted(unknown))}")
        if len(set(self.output_names)) < len(self.output_names):
            raise ValueError("two outputs have the same name")
        if len({name.removesuffix("_output") for name in self.tensors}) < len(self.tensors):
            raise ValueError("outputs: two outputs are the same tensor")
        return self

    def described(self) -> dict[str, Any]:
        """Return the description as JSON's types without defaults, for `model_validate`."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return fields | {"task": {"kind": self.task.kind, **fields["task"]}}

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input, by name."""
        return {item.name: item.shape for item in self.inputs}

    @property
    def input_dtypes(self) -> dict[str, np.dtype[Any]]:
        """The type of each input, by name."""
        return {item.name: item.numpy for item in self.inputs}

    @property
    def takes_image(self) -> bool:
        """Whether the only input is an image. Other inputs are fed as they are, without preprocessing."""
        return len(self.inputs) == 1 and self.inputs[0].image is not None

    @property
    def image_input(self) -> InputSpec:
        """The only input, an image. Raises ModelError for a network with other inputs."""
        if not self.takes_image:
            raise ModelError(
                f"{self.name}: takes {', '.join(self.input_shapes)}, and this needs a network whose one input is an "
                "image; describe it as `image` if it is one"
            )
        return self.inputs[0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the only input, an image, as [N, C, H, W]. Raises ModelError as `image_input`."""
        return self.image_input.image_shape

    @property
    def image(self) -> ImageSpec:
        """The image of the only input. Raises ModelError for a network with other inputs."""
        image = self.image_input.image
        assert image is not None  # by `image_input`
        return image

    @property
    def file_names(self) -> tuple[str, str]:
        """Names of symbol and params, by default after the model."""
        checkpoint = self.checkpoint
        return checkpoint.symbol or f"{self.name}-symbol.json", checkpoint.params or f"{self.name}-0000.params"

    @property
    def archive(self) -> PinnedFile:
        """Upstream's archive of the checkpoint. Raises ModelError if the description lacks it."""
        if self.checkpoint.archive is None:
            raise ModelError(
                f"{self.name}: its description names no archive; give the checkpoint's folder with --checkpoint"
            )
        return self.checkpoint.archive

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the network's order."""
        return self.task.outputs()

    @property
    def tensors(self) -> tuple[str, ...]:
        """MXNet's name of each output."""
        return tuple(self.outputs.get(name, name) for name in self.output_names)
