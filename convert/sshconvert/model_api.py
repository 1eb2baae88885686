"""What OpenVINO's Model API and DL Streamer read from a file, so that they need no configuration.

Model API makes one of its wrappers from the entries of `rt_info/model_info` in an IR, or from metadata of ONNX whose
keys begin with `model_info`. Only a file that one of its wrappers serves has such entries:

- `SSD`: detections in Model API's form (`sshconvert.tasks.inside`). It keeps the proportions of an image, centres it
  in the input, and multiplies boxes back, without a half pixel: x = (x_input - left) / scale. It rounds them, and clips
  them to the image's width and height. Boxes are those of the plain form: corner pixels stay included.
- `Classification`: one output [1, classes]. It crops the centre of an image to the input's proportions. A softmax
  turns logits into probabilities.

Both take one BGR image of any size, uint8, and resize it to the file's size, so the file takes one image of a fixed
size. Embeddings have no wrapper. DL Streamer reads the same entries, `SSD` in lower case only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sshconvert.models.spec import ModelSpec
from sshconvert.options import Dynamic, Options
from sshconvert.tasks.classification import Classification
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.inside import OutputForm

MODEL_INFO: Final = "model_info"

# What separates labels: spaces in Model API, the others in DL Streamer.
_SEPARATORS: Final = re.compile(r"[\s,;]+")


def model_info(model: ModelSpec, options: Options, outputs: Mapping[str, Sequence[int | str]]) -> dict[str, str]:
    """Return the entries of an artifact with `outputs`, shapes by name; none if Model API has no wrapper for it."""
    if not model.takes_image or not takes_one_image(model, options):
        return {}
    inside, task = options.postprocessing, model.task
    if inside is not None and inside.form is OutputForm.MODEL_API:
        detection = inside.task(model)
        assert isinstance(detection, DetectionTask)  # no other task has outputs in this form
        own = _detection(model, detection)
    elif inside is None and isinstance(task, Classification) and _is_row(outputs, task.output):
        own = _classification(task, int(outputs[task.output][1]))
    else:
        return {}
    return {**own, **_image(model, options)}


def _is_row(outputs: Mapping[str, Sequence[int | str]], output: str) -> bool:
    """Whether the only output is [1, classes]."""
    return [*outputs] == [output] and len(outputs[output]) == 2


def takes_one_image(model: ModelSpec, options: Options) -> bool:
    """Whether artifacts take one image of a fixed size."""
    images, *_ = options.input_shape or model.image_shape
    return images == 1 and options.dynamic is Dynamic.NOTHING


def onnx_entries(info: Mapping[str, str]) -> dict[str, str]:
    """Return the entries as Model API reads them from ONNX."""
    return {f"{MODEL_INFO} {key}": value for key, value in info.items()}


def split_entries(metadata: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the metadata of an ONNX file without what Model API reads, and that by its own keys."""
    prefix = f"{MODEL_INFO} "
    own = {key: value for key, value in metadata.items() if not key.startswith(prefix)}
    return own, {key.removeprefix(prefix): value for key, value in metadata.items() if key not in own}


def padding(model: ModelSpec) -> int:
    """Return the value of the pixels beside an image: the grey nearest to the mean, which becomes almost zero."""
    return round(sum(model.image.mean) / len(model.image.mean))


def _detection(model: ModelSpec, task: DetectionTask) -> dict[str, str]:
    return {
        "model_type": "ssd",
        "resize_type": "fit_to_window_letterbox",
        "pad_value": str(padding(model)),
        "confidence_threshold": str(task.score_threshold),
        "iou_threshold": str(task.iou_threshold),
        "labels": _labels(task.labels),
    }


def _classification(task: Classification, classes: int) -> dict[str, str]:
    labels = {"labels": _labels(task.labels)} if len(task.labels) == classes else {}
    return {
        "model_type": "Classification",
        "resize_type": "crop",
        "topk": str(min(task.top_k, classes)),
        **labels,
    }


def _image(model: ModelSpec, options: Options) -> dict[str, str]:
    """Return what remains to be done with the image."""
    color = options.color.value if options.preprocessing else model.image.color
    mean = {} if options.preprocessing else {"mean_values": " ".join(f"{value:g}" for value in model.image.mean)}
    return {"reverse_input_channels": str(color == "rgb"), **(mean if any(model.image.mean) else {})}


def _labels(labels: tuple[str, ...]) -> str:
    return " ".join(_SEPARATORS.sub("_", label) for label in labels)
