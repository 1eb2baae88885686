"""The description of a model: what one TOML file says of a network."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from sshconvert.schema import Dimension, Positive, Strict, TensorName
from sshconvert.tasks.anchor_detection import AnchorDetection

Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w([\w.-]*\w)?$", max_length=100)]
Url = Annotated[str, pydantic.StringConstraints(pattern=r"^https://[^\s/]+/\S*$")]
Colour = Annotated[float, pydantic.Field(ge=0, le=255)]
Figure = Annotated[float, pydantic.Field(gt=0)]


class Files(Strict):
    """Names of the checkpoint's two files, in a folder or an archive."""

    symbol: FileName
    params: FileName

    @pydantic.model_validator(mode="after")
    def _are_two(self) -> Files:
        if self.symbol.casefold() == self.params.casefold():
            raise ValueError("both files have the same name")
        return self


class Archive(Strict):
    """Upstream's archive, pinned."""

    name: FileName
    size: Positive
    sha256: Sha256


class Source(Strict):
    """Where the archive was or is published."""

    url: Url
    dead_since: str | None = None


class Input(Strict):
    """The original network's input: float32 NCHW, RGB minus `mean` (R, G, B)."""

    name: TensorName
    shape: tuple[Dimension, Literal[3], Dimension, Dimension]
    mean: tuple[Colour, Colour, Colour]

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The mean as a colour of an image, B, G, R: of it, the subtraction leaves next to nothing."""
        red, green, blue = self.mean
        return round(blue), round(green), round(red)


class Published(Strict):
    """Published figures. Accuracies are on the validation set of WIDER FACE, those of its own evaluation by setting."""

    gflops: Figure
    mparams: Figure
    map_percent: Figure
    wider_percent: dict[str, Figure]


class Demo(Strict):
    """How to tell the demo checkpoint, which is the same bytes everywhere, from a trained one."""

    params_sha256: Sha256


class Licence(Strict):
    code: str
    weights: str
    note: str


class ModelSpec(Strict):
    """One model, as its TOML file describes it."""

    name: FileName
    title: str
    homepage: str
    paper: str
    files: Files
    archive: Archive
    sources: tuple[Source, ...]
    input: Input
    task: AnchorDetection
    published: Published
    demo: Demo
    licence: Licence

    @property
    def output_names(self) -> tuple[str, ...]:
        """The bare names, in the network's order."""
        return self.task.outputs()
