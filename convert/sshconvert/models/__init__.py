"""Models are data: one TOML file here for each, read into a `Model`."""

from __future__ import annotations

import sys
from functools import cache
from importlib.resources import files
from typing import Annotated

import pydantic

from sshconvert.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[\w][\w.-]*$")]
Positive = Annotated[int, pydantic.Field(gt=0)]


class Files(_Strict):
    """Names of the checkpoint's two files, in a folder or an archive."""

    symbol: FileName
    params: FileName


class Archive(_Strict):
    """Upstream's archive, pinned."""

    name: FileName
    size: Positive
    sha256: Sha256


class Source(_Strict):
    """Where the archive was or is published."""

    url: str
    dead_since: str | None = None


class Input(_Strict):
    """The original network's input: float32 NCHW, RGB minus `mean` (R, G, B)."""

    name: str
    shape: tuple[Positive, Positive, Positive, Positive]
    mean: tuple[float, float, float]

    @property
    def mean_pixel(self) -> tuple[int, int, int]:
        """The mean as a colour of an image, B, G, R: of it, the subtraction leaves next to nothing."""
        red, green, blue = self.mean
        return round(blue), round(green), round(red)


class Head(_Strict):
    """One stride: its two output tensors and its anchors' scales, in the order of the channels."""

    stride: Positive
    scales: tuple[Positive, ...]
    scores: str
    deltas: str


class Detection(_Strict):
    """How the outputs become boxes."""

    base_size: Positive
    score_threshold: float
    iou_threshold: float
    candidates_per_stride: Positive
    heads: tuple[Head, ...]


class Published(_Strict):
    """Published figures. Accuracies are on the validation set of WIDER FACE, those of its own evaluation by setting."""

    gflops: float
    mparams: float
    map_percent: float
    wider_percent: dict[str, float]


class Demo(_Strict):
    """How to tell the demo checkpoint, which is the same bytes everywhere, from a trained one."""

    params_sha256: Sha256


class Licence(_Strict):
    code: str
    weights: str
    note: str


class Model(_Strict):
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
    try:
        return Model.model_validate(tomllib.loads(text), strict=False)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{source}: not valid TOML ({error}); correct it") from None
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ModelError(f"{source}: {problems}; correct it") from None
