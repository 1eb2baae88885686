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
    decoding = model.task.usage(inside=next(iter(first.values())).postprocessing is not None)
    return [*made, decoding] if made and decoding else made


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
