"""A package of small models for a server, and their answers in this process."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from scaled_checkpoint import MODEL
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.options import Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshtool.package.build import PackageOptions, package
from sshtool.workspace import Workspace

FORMATS: Final = ("onnx", "openvino")
FIXED: Final = Options(FORMATS, (Precision.FP32,), (1, 3, 96, 128))
FREE: Final = Options(
    FORMATS,
    (Precision.FP16,),
    dynamic=Dynamic.ALL,
    layout=Layout.NHWC,
    input_type=InputType.UINT8,
    postprocessing=Postprocessing(keep_heads=True),
)
NAMES: Final = tuple(f"{MODEL.name}-{precision}-{form}" for precision in ("fp16", "fp32") for form in FORMATS)
FREE_ONNX, FREE_IR, FIXED_ONNX, FIXED_IR = NAMES


def packaged(checkpoint: Checkpoint, folder: Path, layout: str) -> Path:
    """Convert to all of NAMES, and package them in that layout."""
    for options in (FIXED, FREE):
        convert(checkpoint, folder, options)
    return package(Workspace(MODEL, folder), PackageOptions(layout=layout, allow_unverified=True)).folder


def photos(count: int, height: int = 96, width: int = 128) -> Array:
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8)


def tensors(count: int) -> Array:
    return np.ascontiguousarray(photos(count).transpose(0, 3, 1, 2), np.float32)


def local(repository: Path, name: str, data: Array) -> dict[str, Array]:
    """The answers of the same file in this process."""
    import onnxruntime
    import openvino

    if name.endswith("onnx"):
        session = onnxruntime.InferenceSession(
            repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"data": data}), strict=True))
    compiled = openvino.Core().compile_model(repository / name / "1" / "model.xml", "CPU")
    result = compiled({"data": data})
    return {port.any_name: result[port] for port in compiled.outputs}


def same(served: Mapping[str, Array], own: Mapping[str, Array]) -> bool:
    """Equal bit for bit. Besides the batch, Triton gives each output a dimension, if only of size 1."""
    return served.keys() == own.keys() and all(
        (served[name].shape == own[name].shape or served[name].shape == (*own[name].shape, 1))
        and served[name].dtype == own[name].dtype
        and served[name].tobytes() == own[name].tobytes()
        for name in own
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  # the server of the test
            return bool(response.status == 200)
    except OSError:
        return False
