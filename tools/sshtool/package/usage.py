"""Examples of the model card: complete programs that the tests run on the packaged files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import detection_task
from sshconvert.tasks.inside import OutputForm
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


_OPEN_TENSOR: Final = """\
import numpy as np
{import_}

data = np.zeros({shape}, np.{dtype})  # in place of your own, as the original takes it
{run}
"""

_WRAPPED: Final = """\
import numpy as np
from model_api.models import Model
from PIL import Image

image = np.asarray(Image.open("{image}").convert("RGB"))[..., ::-1]  # BGR, of any size
print(Model.create_model("{path}", device="CPU")(image))
"""


def examples(model: ModelSpec, models: Iterable[PackagedModel]) -> list[tuple[str, str]]:
    """The titles and programs of the model card: for the first file of each format, and for the decoding.

    A file that takes prepared images or several tensors has no example, nor has a runtime without `Runtime.usage`.
    """
    first: dict[str, PackagedModel] = {}
    for item in models:
        first.setdefault(item.format, item)
    runtimes = {runtime.formats[0]: runtime for runtime in RUNTIMES.values() if runtime.formats and runtime.usage}
    programs = [
        (runtimes[form].name, _run(model, item, *runtimes[form].usage))
        for form, item in first.items()
        if form in runtimes and (_takes_images(item) or _takes_one_tensor(item))
    ]
    item = next(iter(first.values()))
    if item.postprocessing is not None and item.postprocessing.form is OutputForm.MODEL_API:
        path = first.get("openvino", item).path  # Model API needs a further package for ONNX
        wrapped = ("Model API", _WRAPPED.format(image=IMAGE, path=path).rstrip())
        decoding = detection_task(model.name, model.task).usage_inside(OutputForm.MODEL_API)
        return [*programs, *([decoding] if programs else []), wrapped]
    usual = model.task.usage(inside=item.postprocessing is not None)
    return [*programs, usual] if programs and usual else programs


def _takes_images(item: PackagedModel) -> bool:
    return bool(item.input_layout) and not any(item.mean_values) and item.input.dtype in ("float32", "uint8")


def _takes_one_tensor(item: PackagedModel) -> bool:
    return not item.input_layout and not item.other_inputs


def _call(item: PackagedModel, run: str) -> str:
    outputs = json.dumps([output.name for output in item.outputs])
    return run.format(path=item.path, name=json.dumps(item.input.name), outputs=outputs)


def _run(model: ModelSpec, item: PackagedModel, import_: str, run: str) -> str:
    if _takes_one_tensor(item):
        shape = tuple(max(size, 1) for size in item.input.shape)
        call = _call(item, run)
        return _OPEN_TENSOR.format(import_=import_, shape=shape, dtype=item.input.dtype, run=call).rstrip()
    sizes = dict(zip(item.input_layout, item.input.shape, strict=True))
    _, _, own_height, own_width = model.image_shape
    return _OPEN.format(
        import_=import_,
        image=IMAGE,
        width=sizes["W"] if sizes["W"] > 0 else own_width,
        height=sizes["H"] if sizes["H"] > 0 else own_height,
        channels="[..., ::-1]" if item.color_order == "BGR" else "",
        color=item.color_order,
        transpose="" if item.input_layout == "NHWC" else ".transpose(0, 3, 1, 2)",
        dtype=item.input.dtype,
        run=_call(item, run),
    ).rstrip()
