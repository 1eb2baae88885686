"""The files of the page: its own, which lie beside this module, and `models.json`, which describes the models to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any, Final

from sshconvert.checkpoint import DEMO
from sshconvert.contract import Contract
from sshconvert.errors import UsageError
from sshconvert.models.spec import ModelSpec
from sshconvert.tasks.detection import THRESHOLD, DetectionTask, detection_task
from sshconvert.tasks.inside import OutputForm
from sshtool.demo.network import detects_faces
from sshtool.package.manifest import PackagedModel
from sshtool.package.web.runtime import RUNTIME

FOLDER: Final = "web"
MODELS: Final = "models"  # below FOLDER
FILES: Final = ("index.html", "style.css", "app.js", "detector.js", "resampling.js")

# Bytes of a model. In WebAssembly on one core, the 267 GFLOPs of VGG16 at 640x640 take 9 seconds; its weights have
# 40 MB in FP16.
LARGEST: Final = 40_000_000


def page_files(models: Sequence[PackagedModel], spec: ModelSpec) -> dict[str, bytes]:
    """Return the files of the page by path in the package.

    Raises UsageError for a model that the page cannot run: it takes ONNX with the post-processing inside, and one image
    of a fixed size.
    """
    task = detection_task(spec.name, spec.task)
    description: dict[str, Any] = {
        "title": spec.title or spec.name,
        "note": _note(models, spec),
        "noun": task.noun,
        "runtime": RUNTIME.version,
        "models": [_entry(model, spec, task) for model in models],
    }
    own = {name: resources(__package__).joinpath(name).read_bytes() for name in FILES}
    own["models.json"] = (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()
    return {f"{FOLDER}/{name}": data for name, data in own.items()}


def _entry(model: PackagedModel, spec: ModelSpec, task: DetectionTask) -> Mapping[str, Any]:
    """What the page needs to know about a model. Colours are R, G, B; other members as in the manifest."""
    if model.format != "onnx":
        raise UsageError(f"--layout web: {model.label} does not run in a browser; choose ONNX files with --artifact")
    if model.postprocessing is None or model.postprocessing.form is not OutputForm.PLAIN:
        raise UsageError(
            f"--layout web: {model.label} gives no {task.noun}s in the form that the page reads; convert with "
            f"--postprocess and --output-form {OutputForm.PLAIN.value}"
        )
    sizes = dict(zip(model.input_layout, model.input.shape, strict=True))
    if sizes["N"] not in (1, -1) or sizes["H"] < 1 or sizes["W"] < 1:
        raise UsageError(
            f"--layout web: {model.label} takes {list(model.input.shape)}, the page gives one image of a fixed size; "
            "convert without --batch and with --dynamic batch at most"
        )
    return {
        "label": model.precision,
        "path": model.path.removeprefix(f"{FOLDER}/"),
        "input": model.input.name,
        "dtype": model.input.dtype,
        "layout": model.input_layout,
        "width": sizes["W"],
        "height": sizes["H"],
        "order": model.color_order,
        "mean": list(model.mean_values),
        "padding": list(reversed(spec.image.mean_pixel)),
        "last_pixel": task.last_pixel,
        "attributes": list(task.columns.attributes),
        "least": model.postprocessing.score_threshold,
        "shown": max(model.postprocessing.score_threshold, THRESHOLD),
    }


def _note(models: Sequence[PackagedModel], spec: ModelSpec) -> str:
    if {Contract(model.options).weights for model in models} != {DEMO}:
        return ""
    return f"The weights are a demo's{': they find drawn faces, not real ones' if detects_faces(spec) else ''}."
