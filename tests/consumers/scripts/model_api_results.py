"""Run Model API on images: IMAGES FILE..., where IMAGES is an .npz of images, uint8 [H, W, 3] in BGR, by name.

Prints for each file the wrapper and its result for each image, or the error with which Model API refuses the file.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model
from model_api.models.model import WrapperError


def answer(path: str, images: dict[str, Any]) -> dict[str, Any]:
    # The library's own choice is bf16 on processors with AMX.
    hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    adapter = OpenvinoAdapter(create_core(), path, device="CPU", plugin_config=hint, max_num_requests=1)
    try:
        model = Model.create_model(adapter)
    except WrapperError as error:
        return {"error": str(error)}
    return {"wrapper": model.__model__, "results": {name: as_plain(model(image)) for name, image in images.items()}}


def as_plain(result: Any) -> list[Any]:
    """Give boxes with score, label and its name, or the classes: number, name and score."""
    if hasattr(result, "top_labels"):
        return [[int(item.id), item.name, float(item.confidence)] for item in result.top_labels]
    columns = (*result.bboxes.T.tolist(), result.scores.tolist(), result.labels.tolist(), result.label_names)
    return [list(row) for row in zip(*columns, strict=True)]


def main(images: str, *paths: str) -> list[dict[str, Any]]:
    with np.load(images) as arrays:
        return [answer(path, dict(arrays)) for path in paths]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201  # the answer
