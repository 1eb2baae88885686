"""Models are data: one TOML file here for each, read into a `Model`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

import pydantic

from sshconvert.errors import ModelError
from sshconvert.schema import Strict, one_line, parse_toml, problems

# Ten times what a description has. Long dotted keys take the parser quadratic time.
LARGEST_TOML: Final = 24 << 10

Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w([\w.-]*\w)?$", max_length=100)]
TensorName = Annotated[str, pydantic.StringConstraints(pattern=r"^\w[\w./-]*$", max_length=100)]
Url = Annotated[str, pydantic.StringConstraints(pattern=r"^https://[^\s/]+/\S*$")]
Positive = Annotated[int, pydantic.Field(gt=0)]
Dimension = Annotated[int, pydantic.Field(gt=0, le=1 << 14)]
Colour = Annotated[float, pydantic.Field(ge=0, le=255)]
Share = Annotated[float, pydantic.Field(gt=0, lt=1)]
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


class Head(Strict):
    """One stride: its two output tensors and its anchors' scales, in the order of the channels."""

    stride: Dimension
    scales: tuple[Dimension, ...] = pydantic.Field(min_length=1)
    scores: TensorName
    deltas: TensorName


class Detection(Strict):
    """How the outputs become boxes."""

    base_size: Dimension
    score_threshold: Share
    iou_threshold: Share
    candidates_per_stride: Positive
    heads: tuple[Head, ...] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _are_different(self) -> Detection:
        names = [name for head in self.heads for name in (head.scores, head.deltas)]
        if len(set(names)) < len(names):
            raise ValueError("two outputs have the same name")
        return self


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


class Model(Strict):
    """One model, as its TOML file describes it."""

    name: FileName
    title: str
    homepage: str
    paper: str
    files: Files
    archive: Archive
    sources: tuple[Source, ...]
    input: Input
    detection: Detection
    published: Published
    demo: Demo
    licence: Licence

    @property
    def output_names(self) -> tuple[str, ...]:
        """The six bare names, in the model card's order."""
        return tuple(name for head in self.detection.heads for name in (head.scores, head.deltas))


def model_names() -> tuple[str, ...]:
    """Names of all the models there are."""
    return tuple(
        sorted(path.name.removesuffix(".toml") for path in files(__name__).iterdir() if path.name.endswith(".toml"))
    )


@cache
def load_model(name: str) -> Model:
    """The model of that name. Raises ModelError for an unknown name or a file that does not follow the schema."""
    if name not in model_names():
        raise ModelError(f"{name}: no such model; there is {', '.join(model_names())}")
    text = files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return parse_model(text, source=f"{name}.toml")


def parse_model(text: str, *, source: str) -> Model:
    """Parse a model's TOML. `source` names it in messages. Raises ModelError with every problem."""
    if len(text) > LARGEST_TOML:
        raise ModelError(f"{source}: more than {LARGEST_TOML} characters; shorten it")
    try:
        return Model.model_validate(parse_toml(text))
    except pydantic.ValidationError as error:
        raise ModelError(f"{source}: {problems(error)}; correct it") from None
    except ValueError as error:  # TOMLDecodeError, and what Python says of a number with thousands of digits
        raise ModelError(f"{source}: not valid TOML ({one_line(error)}); correct it") from None
