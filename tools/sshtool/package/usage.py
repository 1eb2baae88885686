"""Examples for the model card: complete programs, which the tests run against the packaged files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sshconvert.models.spec import ModelSpec
from sshtool.package.manifest import PackagedModel
from sshtool.runtimes.registry import RUNTIMES

IMAGE: Final = "photo.jpg"

_OPEN: Final = """\
import numpy as np
from PIL import Image
{import_}

image = Image.open("{image}").convert("RGB").resize(({width}, {height}))
pixels = np.asarray(image)[None]{channels}  # [1, {height}, {width}, 3], {color}
data = np.ascontiguousarray(pixels{transpose}, np.{dtype})
{run}
"""

_FACES: Final = """\
boxes, scores, count = (output[0] for output in outputs[:3])
faces = np.column_stack([boxes, scores])[:count]  # x1, y1, x2, y2, score
print(faces)
"""

_HEADS: Final = """\
found = []  # x1, y1, x2, y2, score
for scores, deltas, stride, scales in zip(outputs[0::2], outputs[1::2], {strides}, {scales}):
    for number, size in enumerate({base} * np.array(scales)):
        dx, dy, dw, dh = deltas[0, 4 * number : 4 * number + 4]
        y, x = np.indices(dx.shape) * stride + {centre}
        x, y, w, h = x + dx * size, y + dy * size, np.exp(dw) * size - 1, np.exp(dh) * size - 1
        face = scores[0, len(scales) + number]
        found.append(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2, face], 2)[face >= 0.5])
found = np.concatenate(found)
faces = []
for box in found[np.argsort(-found[:, 4])]:
    better = np.array([box, *faces])
    sizes = np.minimum(better[:, 2:4], box[2:4]) - np.maximum(better[:, :2], box[:2]) + 1
    common = np.prod(np.maximum(sizes, 0), 1)  # with itself first, so its own area
    areas = np.prod(better[:, 2:4] - better[:, :2] + 1, 1)
    if (common[1:] < {overlap} * (areas[0] + areas[1:] - common[1:])).all():
        faces.append(box)
print(np.array(faces))
"""


def examples(model: ModelSpec, models: Iterable[PackagedModel]) -> list[tuple[str, str]]:
    """A title and the lines for the first file of each format, with its usual runtime, and for the decoding.

    Files that take something else than images have no example, nor do runtimes without `Runtime.usage`.
    """
    first: dict[str, PackagedModel] = {}
    for item in models:
        first.setdefault(item.format, item)
    usual = {kind.formats[0]: kind for kind in RUNTIMES.values() if kind.formats and kind.usage}
    made = [
        (usual[form].name, _run(model, item, *usual[form].usage))
        for form, item in first.items()
        if form in usual and _takes_images(item)
    ]
    inside = next(iter(first.values())).postprocessing
    return [*made, ("From the outputs to faces", (_FACES if inside else _decoding(model)).rstrip())] if made else []


def _takes_images(item: PackagedModel) -> bool:
    return not any(item.mean_values) and item.input.dtype in ("float32", "uint8")


def _run(model: ModelSpec, item: PackagedModel, import_: str, run: str) -> str:
    sizes = dict(zip(item.input_layout, item.input.shape, strict=True))
    _, _, own_height, own_width = model.image_input.shape
    return _OPEN.format(
        import_=import_,
        image=IMAGE,
        width=sizes["W"] if sizes["W"] > 0 else own_width,
        height=sizes["H"] if sizes["H"] > 0 else own_height,
        channels="[..., ::-1]" if item.color_order == "BGR" else "",
        color=item.color_order,
        transpose="" if item.input_layout == "NHWC" else ".transpose(0, 3, 1, 2)",
        dtype=item.input.dtype,
        run=run.format(path=item.path, name=json.dumps(item.input.name)),
    ).rstrip()


def _decoding(model: ModelSpec) -> str:
    rules = model.task
    return _HEADS.format(
        strides=tuple(head.stride for head in rules.heads),
        scales=tuple(head.scales for head in rules.heads),
        base=rules.heads[0].base_size,
        centre=(rules.heads[0].base_size - 1) / 2,
        overlap=rules.iou_threshold,
    )
