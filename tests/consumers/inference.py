"""Runs ONNX files in ONNX Runtime's three homes: Python, Node and the browser."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from environments import NODE
from live_pages import live_page, served
from sshconvert.arrays import Array

RUNTIME_FILES: Final = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
SCRIPT: Final = """(async () => {
    const [ort, {infer}] = await Promise.all([import("./ort.wasm.bundle.min.mjs"), import("./infer.js")]);
    ort.env.wasm.numThreads = 1;
    return infer(ort, "./model.onnx", await (await fetch("./inputs.json")).json());
})()"""

Tensors = Mapping[str, Array]


def in_python(model: Path, inputs: Tensors) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def in_node(modules: Path, model: Path, inputs: Tensors) -> dict[str, Array]:
    command = ["node", str(NODE / "infer_in_node.mjs"), str(modules), str(model)]
    result = subprocess.run(command, input=_encoded(inputs), capture_output=True, text=True, check=True, timeout=300)
    return _decoded(json.loads(result.stdout))


def in_browser(program: str, modules: Path, model: Path, inputs: Tensors, folder: Path) -> dict[str, Array]:
    """Run in headless Chromium, in WebAssembly. The empty `folder` is served."""
    for name in RUNTIME_FILES:
        (folder / name).symlink_to(modules / "onnxruntime-web" / "dist" / name)
    (folder / "infer.js").symlink_to(NODE / "infer.js")
    (folder / "model.onnx").symlink_to(model)
    (folder / "inputs.json").write_text(_encoded(inputs))
    (folder / "index.html").write_text("<!doctype html><title>Inference</title>")
    with served(folder) as url, live_page(program, folder, url) as page:
        page.wait("document.title === 'Inference'")
        return _decoded(page.evaluate(SCRIPT))


def _encoded(tensors: Tensors) -> str:
    return json.dumps(
        {
            name: [array.dtype.name, array.shape, base64.b64encode(array.tobytes()).decode()]
            for name, array in tensors.items()
        }
    )


def _decoded(tensors: Mapping[str, Any]) -> dict[str, Array]:
    return {
        name: np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
        for name, (dtype, shape, data) in tensors.items()
    }


def largest_difference(actual: Tensors, expected: Tensors) -> float:
    """The largest difference of an element, relative to the largest magnitude of its output."""
    assert [*actual] == [*expected]
    largest = 0.0
    for name, values in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (values.dtype, values.shape), name
        differences = np.abs(actual[name].astype(np.float64) - values)
        largest = max(largest, float(differences.max(initial=0) / max(np.abs(values).max(initial=0), 1e-30)))
    return largest
