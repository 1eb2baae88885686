"""Run Model API on images: FILE IMAGES, an .npz with an image, uint8 [H, W, 3] in BGR, by name.

Prints the wrapper's name and its result for each image.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model


def main(path: Path, images: Path) -> dict[str, Any]:
    # The library's own choice is bf16 on processors with AMX.
    hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    adapter = OpenvinoAdapter(create_core(), str(path), device="CPU", plugin_config=hint)
    model = Model.create_model(adapter)
    with np.load(images) as arrays:
        results = {name: as_plain(model(image)) for name, image in arrays.items()}
    return {"wrapper": model.__model__, "results": results}


def as_plain(result: Any) -> list[Any]:
    """Give boxes with score, label and its name, or the classes: number, name and score."""
    if hasattr(result, "top_labels"):
        return [[int(item.id), item.name, float(item.confidence)] for item in result.top_labels]
    columns = (*result.bboxes.T.tolist(), result.scores.tolist(), result.labels.tolist(), result.label_names)
    return [list(row) for row in zip(*columns, strict=True)]


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))  # noqa: T201  # the answer
