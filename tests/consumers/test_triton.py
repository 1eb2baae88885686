"""NVIDIA's Triton Inference Server serves the package `--layout triton` as it is.

The wheel of PyTriton brings the server and its Python backend. The backends `onnxruntime` and `openvino` are not in it;
those of `triton/` compute with the same runtimes, and as far as batches matter in the same way.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from environments import HERE, LOCKS, run
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

pytestmark = pytest.mark.consumer

CLIENTS: Final = 16
START_SECONDS: Final = 120


@dataclass(frozen=True)
class Server:
    """A running server: its addresses for HTTP and gRPC, the repository of its models and its log."""

    python: Path
    addresses: tuple[str, str]
    repository: Path
    log: Path

    def ask(
        self, requests: Sequence[Mapping[str, Any]], folder: Path
    ) -> tuple[Any, list[dict[str, list[dict[str, Array]]]]]:
        """Send each request over both protocols: {"model", "arrays", "copies"}. Give the document and the answers."""
        plain = []
        for number, request in enumerate(requests):
            np.savez(folder / f"{number}.npz", **request["arrays"])
            plain.append({"model": request["model"], "file": f"{number}.npz", "copies": request.get("copies", 1)})
        (folder / "requests.json").write_text(json.dumps(plain))
        document = run(self.python, "triton_requests", *self.addresses, folder)
        answers = [
            {
                protocol: [
                    _loaded(path)
                    for copy in range(request["copies"])
                    if (path := folder / f"{number}-{protocol}-{copy}.npz").exists()
                ]
                for protocol in ("http", "grpc")
            }
            for number, request in enumerate(plain)
        ]
        return document, answers


def _loaded(path: Path) -> dict[str, Array]:
    with np.load(path) as file:
        return dict(file)


def _backends(folder: Path, packages: Path) -> Path:
    """Lay out the backends as the server wants them: a folder for each, the interpreter beside the Python backend."""
    wheel = packages / "pytriton" / "tritonserver"
    shutil.copytree(HERE / "triton", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "python").mkdir()
    for path in (*(wheel / "backends" / "python").iterdir(), *(wheel / "python_backend_stubs" / "3.12").iterdir()):
        if path.is_file():
            shutil.copy(path, folder / "python")  # a link would lead out of the folder, which the server refuses
    return folder


@contextmanager
def started(python: Path, repository: Path, folder: Path) -> Iterator[Server]:
    """Run the server until all models are loaded or have failed."""
    folder.mkdir()
    script = (
        "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), sysconfig.get_config_var('LIBDIR')]))"
    )
    found = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout
    packages, libraries = map(Path, json.loads(found))
    http, grpc = free_ports(2)
    command = [
        str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={_backends(folder / 'backends', packages)}",
        *(f"--{protocol}-address=127.0.0.1" for protocol in ("http", "grpc")),
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--exit-on-error=false",
    ]
    variables = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{packages.parent / packages.name / 'nvidia_pytriton.libs'}:{libraries}",
        "BACKEND_PACKAGES": str(packages),
    }
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=variables, stdout=stream, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_SECONDS
        while not is_there(f"http://127.0.0.1:{http}/v2/health/live"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield Server(python, (f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"), repository, log)
    finally:
        process.terminate()  # so that it removes its folders
        process.wait(START_SECONDS)


@pytest.fixture(scope="module")
def python(environment: Callable[..., Path]) -> Path:
    return environment("triton")


@pytest.fixture(scope="module")
def repository(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(plain_checkpoint, tmp_path_factory.mktemp("triton"), "triton") / "model_repository"


@pytest.fixture(scope="module")
def server(python: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(python, repository, tmp_path_factory.mktemp("server") / "run") as running:
        yield running


def test_the_server_computes_with_the_runtimes_of_this_environment() -> None:
    lock = (LOCKS / "triton.lock").read_text(encoding="utf-8")
    for name in ("onnxruntime", "openvino"):
        assert f"\n{name}=={importlib.metadata.version(name)} " in lock


def test_every_model_is_ready_and_answers_as_it_does_here(server: Server, tmp_path: Path) -> None:
    assert {path.name for path in server.repository.iterdir()} == set(NAMES)
    requests: list[Mapping[str, Any]] = [
        {"model": name, "arrays": {"data": data}}
        for name in NAMES
        for data in ([photos(1), photos(3), photos(2, 64, 160)] if "fp16" in name else [tensors(1)])
    ]
    document, answers = server.ask(requests, tmp_path)
    assert document["models"].keys() == set(NAMES)  # those that are ready
    for request, answer in zip(requests, answers, strict=True):
        own = local(server.repository, request["model"], request["arrays"]["data"])
        assert all(np.ptp(values) for name, values in own.items() if name != "count")
        assert same(answer["http"][0], own), request["model"]
        assert same(answer["grpc"][0], own), request["model"]
        if "fp16" in request["model"]:
            assert answer["http"][0]["count"].all()  # faces, not padding, are compared


def test_the_server_describes_the_tensors_as_the_files_do(server: Server, tmp_path: Path) -> None:
    import onnxruntime
    import openvino

    document, _ = server.ask([], tmp_path)
    for name, item in document["models"].items():
        place = server.repository / name / "1"
        if name.endswith("onnx"):
            session = onnxruntime.InferenceSession(place / "model.onnx", providers=["CPUExecutionProvider"])
            own = {
                port.name: [size if isinstance(size, int) else -1 for size in port.shape]
                for port in (*session.get_inputs(), *session.get_outputs())
            }
        else:
            model = openvino.Core().read_model(place / "model.xml")
            own = {
                port.any_name: [size.get_length() if size.is_static else -1 for size in port.partial_shape]
                for port in (*model.inputs, *model.outputs)
            }
            # Where all tensors have a layout with N, Triton's own backend would change max_batch_size from 0 to 1.
            assert any(port.node.layout.empty for port in model.outputs)
        batched = item["config"]["max_batch_size"] > 0
        assert batched == (name == FREE_ONNX)
        reported = {port["name"]: port["shape"] for part in ("inputs", "outputs") for port in item["metadata"][part]}
        expected = {key: [*shape, 1] if batched and len(shape) == 1 else shape for key, shape in own.items()}
        assert reported == expected
        groups = item["config"]["instance_group"]
        assert all(group["kind"] == "KIND_CPU" for group in groups)
        assert item["config"]["version_policy"] == {"latest": {"num_versions": 1}}


def test_wrong_batches_types_and_sizes_are_refused(server: Server, tmp_path: Path) -> None:
    wrong = {
        "fixed": (FIXED_ONNX, tensors(2), "unexpected shape for input 'data'"),
        "fixed, IR": (FIXED_IR, tensors(2), "unexpected shape for input 'data'"),
        "too many": (FREE_ONNX, photos(9), "batch-size must be <= 8"),
        "channels": (FREE_ONNX, photos(1)[..., :2], "unexpected shape for input 'data'"),
        "type": (FREE_IR, photos(1).astype(np.float32), "data-type"),
    }
    requests = [{"model": name, "arrays": {"data": data}} for name, data, _ in wrong.values()]
    document, answers = server.ask(requests, tmp_path)
    for errors, answer, (case, (_, _, message)) in zip(document["errors"], answers, wrong.items(), strict=True):
        assert answer == {"http": [], "grpc": []}, case
        assert message in errors["http"][0], case
        assert message in errors["grpc"][0], case


def test_concurrent_clients_share_batches_and_get_their_own_answers(server: Server, tmp_path: Path) -> None:
    images = photos(CLIENTS, 192, 192)
    request = {"model": FREE_ONNX, "arrays": {"data": images}, "copies": CLIENTS}
    document, (answers,) = server.ask([request], tmp_path)
    assert document["errors"] == [{"http": [], "grpc": []}]
    sizes = {int(item["batch_size"]) for item in document["models"][FREE_ONNX]["statistics"]["batch_stats"]}
    assert 3 < max(sizes) <= 8  # the other tests send at most 3 images at once
    own = [local(server.repository, FREE_ONNX, images[copy : copy + 1]) for copy in range(CLIENTS)]
    assert not same(own[0], own[1])
    for protocol in ("http", "grpc"):
        assert all(same(given, expected) for given, expected in zip(answers[protocol], own, strict=True))


def test_a_configuration_that_claims_batches_of_a_fixed_file_is_not_served(
    python: Path, repository: Path, tmp_path: Path
) -> None:
    place = tmp_path / "repository" / FIXED_ONNX
    shutil.copytree(repository / FIXED_ONNX, place)
    text = (place / "config.pbtxt").read_text().replace("max_batch_size: 0", "max_batch_size: 8")
    (place / "config.pbtxt").write_text(text)
    with started(python, place.parent, tmp_path / "run") as running:
        document, answers = running.ask([{"model": FIXED_ONNX, "arrays": {"data": tensors(1)}}], tmp_path)
    assert answers == [{"http": [], "grpc": []}]
    assert all("unexpected shape" in message for item in document["errors"][0].values() for message in item)
