"""MLServer serves the files of a package with the runtime of `mlserver/`, which is not its own.

It has none for ONNX or IR, so a package could only name a class that the server lacks: there is no layout for it. The
settings here name the files of the layout `triton`, whose folders and names the Open Inference Protocol shares.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from environments import HERE
from served_models import (
    FIXED_IR,
    FIXED_ONNX,
    FREE_IR,
    FREE_ONNX,
    NAMES,
    free_ports,
    is_there,
    local,
    packaged,
    photos,
    same,
    tensors,
)
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint

pytestmark = pytest.mark.long  # there is no layout that it could break

START_SECONDS: Final = 120
DATATYPES: Final = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32"}
TYPES: Final = {datatype: name for name, datatype in DATATYPES.items()}


@pytest.fixture(scope="module")
def repository(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(plain_checkpoint, tmp_path_factory.mktemp("mlserver"), "triton") / "model_repository"


@pytest.fixture(scope="module")
def server(
    environment: Callable[..., Path], repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server with a model for each file."""
    python = environment("mlserver")
    folder = tmp_path_factory.mktemp("server")
    http, grpc, metrics = free_ports(3)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "metrics_endpoint": None}))
    for name in NAMES:
        (file,) = (path for path in (repository / name / "1").iterdir() if path.suffix in (".onnx", ".xml"))
        model = {"name": name, "implementation": "package_runtime.PackagedFile", "parameters": {"uri": str(file)}}
        (folder / name).mkdir()
        (folder / name / "model-settings.json").write_text(json.dumps(model))
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [python.parent / "mlserver", "start", folder],
            env={**os.environ, "PYTHONPATH": str(HERE / "mlserver")},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not is_there(f"http://127.0.0.1:{http}/v2/health/ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{http}/v2/models"
    finally:
        process.terminate()
        process.wait()


def infer(url: str, name: str, data: Array) -> dict[str, Array]:
    """Ask in JSON, which holds every float32 exactly."""
    tensor = {
        "name": "data",
        "shape": data.shape,
        "datatype": DATATYPES[data.dtype.name],
        "data": data.ravel().tolist(),
    }
    request = urllib.request.Request(  # noqa: S310  # the server of the test
        f"{url}/{name}/infer", json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310  # as above
        document: Any = json.load(response)
    return {
        item["name"]: np.array(item["data"], TYPES[item["datatype"]]).reshape(item["shape"])
        for item in document["outputs"]
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_model_answers_as_it_does_here(name: str, server: str, repository: Path) -> None:
    for data in [photos(1), photos(2, 64, 160)] if name in (FREE_ONNX, FREE_IR) else [tensors(1)]:
        own = local(repository, name, data)
        assert np.ptp(next(iter(own.values())))
        assert same(infer(server, name, data), own)


@pytest.mark.parametrize(("name", "message"), [(FIXED_ONNX, "Got: 2 Expected: 1"), (FIXED_IR, "are incompatible")])
def test_a_batch_that_the_file_does_not_take_is_refused(name: str, message: str, server: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        infer(server, name, tensors(2))
    with refusal.value as response:
        assert message in response.read().decode()
