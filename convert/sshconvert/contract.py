"""The contract of an artifact: metadata that a conversion writes and a reader parses.

This is the only module that knows the keys. ONNX files store them as `metadata_props`, OpenVINO IR as
`rt_info/sshtool`. What Model API reads beside them is that of `sshconvert.model_api`.

| key | value |
|---|---|
| `model`, `weights`, `tool` | the model, the checkpoint (`Checkpoint.weights`) and this program |
| `precision` | how the weights are stored |
| `input_layout`, `color_order`, `mean_values` | the caller's image: dimensions, channels, and the subtracted mean |
| `inputs` | `tensors` if the inputs are no image: the caller feeds what the original takes, by name |
| `preprocessing_inside` | the steps before the original's first layer, in words |
| `postprocessing_inside`, `score_threshold`, `iou_threshold`, `top_k` | post-processing inside: outputs and limits |
| `output_form` | `model-api` if those outputs are not in the plain form |
| `strides`, `landmarks`, `attributes` | the task's own entries (`Task.metadata`) |
| `license_code`, `license_weights`, `license_note` | the licences |
| the keys in `QUANTIZATION` | the record of an INT8 file |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pydantic

from sshconvert import __version__
from sshconvert.checkpoint import DEMO
from sshconvert.errors import ArtifactError
from sshconvert.models.spec import ModelSpec
from sshconvert.numerals import LARGEST_WHOLE, number, whole_number
from sshconvert.onnx.model import OnnxModel
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.schema import one_line
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.inside import Inside, OutputForm, in_form

DEMO_LICENCE: Final = "MIT, made by sshtool, not the trained detector"
FREE: Final = -1  # a size that every run may choose

# The positions of N, C, H and W in each layout.
AXES: Final = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}
INPUT_TYPES: Final = ("float32", "uint8")
TENSOR_TYPES: Final = ("float32", "int32", "int64", "uint8")  # of inputs that are no image
CHANNELS: Final = 3
MOST_PIXELS: Final = 1 << 24  # of an input
MOST_ELEMENTS: Final = CHANNELS * MOST_PIXELS  # of an input that is no image
LARGEST_MEAN: Final = 1e6

# The keys of a quantization, in the order in which `info` shows them.
CALIBRATION: Final = "calibration"  # the images of the measurement, in words
CALIBRATION_IMAGES: Final = "calibration_images"  # names and hashes of image files
PRESET: Final = "preset"
QUANTIZED_BY: Final = "quantized_by"
IN_FLOAT: Final = "layers_in_float"
DROP: Final = "drop"  # the measured loss of accuracy
QUANTIZATION: Final = (CALIBRATION, CALIBRATION_IMAGES, PRESET, QUANTIZED_BY, IN_FLOAT, DROP)

# Keys that the faults of the self-test and packages use.
COLOR_ORDER: Final = "color_order"
MEAN_VALUES: Final = "mean_values"
WEIGHTS: Final = "weights"
SCORE_THRESHOLD: Final = "score_threshold"
IOU_THRESHOLD: Final = "iou_threshold"
TOP_K: Final = "top_k"
TOOL: Final = "tool"

_INPUTS: Final = "inputs"
_TENSORS: Final = "tensors"
_LAYOUT: Final = "input_layout"
_PRECISION: Final = "precision"
_POSTPROCESSING: Final = "postprocessing_inside"
_OUTPUT_FORM: Final = "output_form"
_NO_MEAN: Final = "0 0 0"
_GREY: Final = (128.0, 128.0, 128.0)


@dataclass(frozen=True)
class Tensor:
    """An input or output as the file declares it. Every run may choose a dimension of size FREE."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Declaration:
    """The checked part of a contract. Without metadata, an artifact takes raw BGR.

    `input_shape` is N, C, H, W in every layout; None marks a free dimension. The caller feeds `input_type` ("float32"
    or "uint8"), with the channels in `color_order` minus `mean_values`, in that order.

    If the inputs are no image, `tensors` lists them. `input_shape` and `input_type` are those of the first, and the
    members about images are empty.
    """

    input_shape: tuple[int | None, ...] = (None, CHANNELS, None, None)
    input_layout: str = "NCHW"
    input_type: str = "float32"
    color_order: str = "BGR"
    mean_values: tuple[float, ...] = (0.0, 0.0, 0.0)
    precision: str = ""
    weights: str = ""
    faces: Inside | None = None  # the key of published reports
    tensors: tuple[Tensor, ...] = ()

    def image_size(self, model: ModelSpec) -> tuple[int, int]:
        """Return the height and width to feed: the declared ones, or the model's own for free dimensions."""
        _, _, own_height, own_width = model.image_shape
        _, _, height, width = self.input_shape
        return height or own_height, width or own_width

    def sample_size(self, model: ModelSpec) -> tuple[int, ...]:
        """Return `image_size`, or () for tensors, which have the model's own shapes."""
        return () if self.tensors else self.image_size(model)

    @property
    def batch(self) -> int | None:
        """The number of images of a run, None if every run may choose it. Tensors that are no image are one sample."""
        return 1 if self.tensors else self.input_shape[0]

    def options(self, form: str, precision: str, model: ModelSpec, *, keep_heads: bool = False) -> Options:
        """Return the options of a conversion that writes such an artifact. Raises ValueError if no conversion does."""
        if self.tensors:
            return Options((form,), (Precision(precision),), dynamic=self._dynamic)
        free = [size is None for size in self.input_shape]
        freed = {(False, False): Dynamic.NOTHING, (True, False): Dynamic.BATCH, (False, True): Dynamic.SIZE}
        batch, channels, height, width = self.input_shape
        _, _, own_height, own_width = model.image_shape
        inside = self.faces
        return Options(
            (form,),
            (Precision(precision),),
            (batch or 1, channels or CHANNELS, height or own_height, width or own_width),
            preprocessing=not any(self.mean_values),
            dynamic=freed.get((free[0], free[2]), Dynamic.ALL),
            layout=Layout(self.input_layout),
            input_type=InputType.UINT8 if self.input_type == "uint8" else InputType.FLOAT32,
            color=Color(self.color_order.lower()),
            postprocessing=Postprocessing(
                inside.score_threshold, inside.iou_threshold, inside.top_k, keep_heads, inside.form
            )
            if inside
            else None,
        )

    @property
    def _dynamic(self) -> Dynamic:
        """Which dimensions of tensors are free."""
        batch = any(tensor.shape[0] == FREE for tensor in self.tensors)
        size = any(FREE in tensor.shape[1:] for tensor in self.tensors)
        both = {(False, False): Dynamic.NOTHING, (True, False): Dynamic.BATCH, (False, True): Dynamic.SIZE}
        return both.get((batch, size), Dynamic.ALL)


@dataclass(frozen=True)
class Contract:
    """The metadata and tensors of an artifact.

    `metadata` are the entries by key, `model_info` those for Model API (`sshconvert.model_api`). `inputs` and `outputs`
    are in the file's order. If the file is `batched`, the first dimensions of all of them are one free dimension. Only
    ONNX says so: IR has no names for dimensions.
    """

    metadata: Mapping[str, str]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    model_info: Mapping[str, str] = field(default_factory=dict)
    batched: bool = False

    @classmethod
    def of(
        cls,
        model: ModelSpec,
        weights: str,
        options: Options,
        precision: str,
        quantization: Mapping[str, str] = MappingProxyType({}),
    ) -> Contract:
        """Return the contract of a new artifact. It has no timestamp, so equal conversions write equal bytes.

        `weights` is `Checkpoint.weights`. `quantization` is the record of an INT8 artifact, by the keys of
        `QUANTIZATION`.
        """
        entries = {
            **_postprocessing(model, options.postprocessing),
            "model": model.name,
            WEIGHTS: weights,
            **(_image(model, options) if model.takes_image else {_INPUTS: _TENSORS}),
            **model.task.metadata(),
            "license_code": model.licence.code,
            "license_weights": licence_of(model, weights),
            "license_note": model.licence.note,
            TOOL: f"sshtool {__version__}",
        }
        stated = {key: text for key, text in entries.items() if text}
        return cls({**stated, **quantization, _PRECISION: precision})

    def declaring(self, model: OnnxModel, model_info: Mapping[str, str] = MappingProxyType({})) -> Contract:
        """Return the contract with the tensors of its model, and with what Model API reads."""
        inputs, outputs = (
            tuple(
                Tensor(
                    name,
                    np.dtype(model.types.get(name, np.float32)).name,
                    tuple(size if isinstance(size, int) else FREE for size in shape),
                )
                for name, shape in tensors.items()
            )
            for tensors in (model.inputs, model.outputs)
        )
        return replace(self, inputs=inputs, outputs=outputs, model_info=model_info)

    @classmethod
    def from_plain(cls, value: Any) -> Contract:
        """Return the contract from the value of `to_plain`. Raises ValueError for any other value."""
        return _CONTRACT.validate_python(value)

    def to_plain(self) -> Any:
        """Return the contract as JSON's types."""
        return _CONTRACT.dump_python(self, mode="json")

    @property
    def layout(self) -> str:
        """The order of the image's dimensions, "" if the inputs are tensors."""
        return "" if _INPUTS in self.metadata else self.metadata.get(_LAYOUT, "NCHW")

    @property
    def weights(self) -> str:
        """`Checkpoint.weights`, "" if the metadata lack it."""
        return self.metadata.get(WEIGHTS, "")

    @property
    def precision(self) -> str:
        """The precision of the weights, "" if the metadata lack it."""
        return self.metadata.get(_PRECISION, "")

    @property
    def quantization(self) -> dict[str, str]:
        """The record of an INT8 file."""
        return {key: self.metadata[key] for key in QUANTIZATION if key in self.metadata}

    def declaration(self, path: Path) -> Declaration:
        """Parse the metadata and the inputs. `path` names the file in messages. Raises ArtifactError."""
        return declaration_of(path, self.metadata, self.inputs)


_CONTRACT: Final = pydantic.TypeAdapter(Contract)


def licence_of(model: ModelSpec, weights: str) -> str:
    """Return the licence of the weights, which differs for the demo."""
    return DEMO_LICENCE if weights == DEMO else model.licence.weights


def _image(model: ModelSpec, options: Options) -> dict[str, str]:
    """Return the entries about an image."""
    mean = " ".join(f"{value:g}" for value in model.image.mean)
    divisors = " ".join(f"{value:g}" for value in model.image.divisors)
    steps = {
        f"channels reversed to {model.image.color.upper()}": options.color.value != model.image.color,
        f"mean {mean} subtracted": any(model.image.mean),
        f"divided by {divisors}": set(model.image.divisors) != {1},
    }
    return {
        "preprocessing_inside": ", ".join(
            step for step, is_taken in steps.items() if is_taken and options.preprocessing
        )
        or "none",
        _LAYOUT: options.layout.value,
        COLOR_ORDER: _color_order(model, options),
        MEAN_VALUES: _NO_MEAN if options.preprocessing else mean,
    }


def _color_order(model: ModelSpec, options: Options) -> str:
    """Return the order of the caller's channels."""
    return (options.color.value if options.preprocessing else model.image.color).upper()


def other_color(declared: str) -> str:
    """Return the opposite of the declared order of channels."""
    return "BGR" if declared == "RGB" else "RGB"


def other_mean(declared: str, model: ModelSpec) -> str:
    """Return the mean that the file does not declare: none if it declares one, else the model's, or that of grey."""
    mean = model.image.mean if any(model.image.mean) else _GREY
    return " ".join(map(str, mean)) if declared in ("", _NO_MEAN) else _NO_MEAN


def declaration_of(path: Path, metadata: Mapping[str, Any], inputs: Sequence[Tensor]) -> Declaration:
    """Parse the metadata of an artifact with these inputs. `path` names the file in messages. Raises ArtifactError."""
    if metadata.get(_INPUTS, ""):
        return _declared_tensors(path, metadata, inputs)
    if len(inputs) != 1:
        raise ArtifactError(f"{path}: it has {len(inputs)} inputs, expected one image; convert again")
    return declared(path, metadata, _sizes(inputs[0]), inputs[0].dtype)


def declared(path: Path, metadata: Mapping[str, Any], shape: Sequence[Any], input_type: str = "float32") -> Declaration:
    """Parse the metadata of an artifact whose input is an image of this shape, in the file's layout, and this type.

    `path` names the file in messages. Raises ArtifactError for invalid metadata.
    """
    layout = str(metadata.get(_LAYOUT, "NCHW"))
    color_order = str(metadata.get(COLOR_ORDER, "BGR"))
    mean_values = str(metadata.get(MEAN_VALUES, _NO_MEAN))
    try:
        means = tuple(number(value) for value in mean_values.split())
    except ValueError:
        means = ()
    known = color_order in ("BGR", "RGB")
    if not known or len(means) != CHANNELS or not all(abs(mean) <= LARGEST_MEAN for mean in means):
        raise ArtifactError(
            f"{path}: its metadata say {COLOR_ORDER} {one_line(color_order)!r} and {MEAN_VALUES} "
            f"{one_line(mean_values)!r}, expected BGR or RGB and three numbers; convert again"
        )
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
    if len(sizes) != len(layout) or layout not in AXES:
        raise ArtifactError(
            f"{path}: its input has shape {tuple(shape)} and layout {layout}, expected N, C, H, W or N, H, W, C; "
            "convert again"
        )
    if input_type not in INPUT_TYPES or (input_type == "uint8" and any(means)):
        raise ArtifactError(
            f"{path}: its input is {input_type}, minus {one_line(mean_values)}; "
            "expected float32, or uint8 minus nothing; convert again"
        )
    ordered = tuple(sizes[axis] for axis in AXES[layout])
    if math.prod(size or 1 for size in sizes) > CHANNELS * MOST_PIXELS or ordered[1] not in (CHANNELS, None):
        raise ArtifactError(
            f"{path}: its input has shape {tuple(shape)}, expected 3 channels of a photo; convert again"
        )
    return Declaration(
        input_shape=ordered,
        input_layout=layout,
        input_type=input_type,
        color_order=color_order,
        mean_values=means,
        precision=one_line(metadata.get(_PRECISION, "")),
        weights=one_line(metadata.get(WEIGHTS, "")),
        faces=_inside(path, metadata),
    )


def _declared_tensors(path: Path, metadata: Mapping[str, Any], inputs: Sequence[Tensor]) -> Declaration:
    if metadata[_INPUTS] != _TENSORS:
        raise ArtifactError(
            f"{path}: its metadata say {_INPUTS} {one_line(metadata[_INPUTS])!r}, expected {_TENSORS}; convert again"
        )
    for tensor in inputs:
        if tensor.dtype not in TENSOR_TYPES or math.prod(size or 1 for size in _sizes(tensor)) > MOST_ELEMENTS:
            raise ArtifactError(
                f"{path}: its input {one_line(tensor.name)} is {one_line(tensor.dtype)} {tensor.shape}, expected "
                f"{', '.join(TENSOR_TYPES)} and at most {MOST_ELEMENTS} elements; convert again"
            )
    return Declaration(
        input_shape=_sizes(inputs[0]),
        input_layout="",
        input_type=inputs[0].dtype,
        color_order="",
        mean_values=(),
        precision=one_line(metadata.get(_PRECISION, "")),
        weights=one_line(metadata.get(WEIGHTS, "")),
        tensors=tuple(inputs),
    )


def _sizes(tensor: Tensor) -> tuple[int | None, ...]:
    """Return the shape with None for free dimensions."""
    return tuple(size if size > 0 else None for size in tensor.shape)


def _inside(path: Path, metadata: Mapping[str, Any]) -> Inside | None:
    if not metadata.get(_POSTPROCESSING):
        return None
    top_k = _positive(path, metadata, TOP_K, whole_number, LARGEST_WHOLE)
    score, iou = (_positive(path, metadata, key, number, 1) for key in (SCORE_THRESHOLD, IOU_THRESHOLD))
    form = metadata.get(_OUTPUT_FORM, OutputForm.PLAIN.value)
    if form not in list(OutputForm):
        raise ArtifactError(
            f"{path}: its metadata say {_OUTPUT_FORM} {one_line(form)!r}, expected {' or '.join(OutputForm)}; "
            "convert again"
        )
    return Inside(score, iou, int(top_k), OutputForm(form))


def _positive(path: Path, metadata: Mapping[str, Any], key: str, read: Callable[[str], float], largest: float) -> float:
    """Return a number above 0. Raises ArtifactError for any other value."""
    text = str(metadata.get(key, ""))
    try:
        value = read(text)
    except ValueError:
        value = 0
    if not 0 < value <= largest:
        raise ArtifactError(
            f"{path}: its metadata say {key} {one_line(text)!r}, expected a number above 0 and at most {largest}; "
            "convert again"
        )
    return value


def _postprocessing(model: ModelSpec, options: Postprocessing | None) -> dict[str, str]:
    if options is None:
        return {}
    task = detection_task(model.name, options.task(model))
    return {
        _POSTPROCESSING: " ".join(in_form(task.inside_outputs, options.form)),
        _OUTPUT_FORM: "" if options.form is OutputForm.PLAIN else options.form.value,
        SCORE_THRESHOLD: str(task.score_threshold),
        IOU_THRESHOLD: str(task.iou_threshold),
        TOP_K: str(options.top_k),
    }
