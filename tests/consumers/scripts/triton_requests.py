"""Send requests to a Triton server over HTTP and gRPC.

    triton_requests.py HTTP_ADDRESS GRPC_ADDRESS FOLDER

`FOLDER/requests.json` lists requests as {"model": NAME, "file": FILE.npz, "copies": NUMBER}. The copies of a request go
out at the same time, each with one image of the file's arrays, if there are several. The answers lie beside it as
NUMBER-PROTOCOL-COPY.npz. The document printed has the metadata, configuration and statistics of each ready model,
and for each request the errors by protocol.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def client_of(protocol: str, addresses: dict[str, str]) -> tuple[Any, Any]:
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    return module, module.InferenceServerClient(addresses[protocol])


def send(protocol: str, addresses: dict[str, str], model: str, arrays: dict[str, Any], target: Path) -> str:
    """Write the outputs to `target`, and give the server's error, "" if there is none."""
    module, client = client_of(protocol, addresses)
    inputs = []
    for name, array in arrays.items():
        inputs.append(module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    try:
        result = client.infer(model, inputs)
    except InferenceServerException as error:
        return str(error)
    response = result.get_response()
    outputs = response["outputs"] if protocol == "http" else response.outputs
    names = [output["name"] if protocol == "http" else output.name for output in outputs]
    np.savez(target, **{name: result.as_numpy(name) for name in names})
    return ""


def main() -> None:
    addresses = {"http": sys.argv[1], "grpc": sys.argv[2]}
    folder = Path(sys.argv[3])
    requests = json.loads((folder / "requests.json").read_bytes())
    errors: list[dict[str, list[str]]] = []
    for number, request in enumerate(requests):
        with np.load(folder / request["file"]) as file:
            arrays = dict(file)
        copies = request.get("copies", 1)
        parts = [
            arrays if copies == 1 else {name: array[copy : copy + 1] for name, array in arrays.items()}
            for copy in range(copies)
        ]
        errors.append({})
        for protocol in addresses:
            places = [folder / f"{number}-{protocol}-{copy}.npz" for copy in range(copies)]
            with ThreadPoolExecutor(copies) as pool:
                tasks = [
                    pool.submit(send, protocol, addresses, request["model"], part, place)
                    for part, place in zip(parts, places, strict=True)
                ]
                errors[-1][protocol] = [message for task in tasks if (message := task.result())]
    _, client = client_of("http", addresses)
    models = {
        item["name"]: {
            "metadata": client.get_model_metadata(item["name"]),
            "config": client.get_model_config(item["name"]),
            "statistics": client.get_inference_statistics(item["name"])["model_stats"][0],
        }
        for item in client.get_model_repository_index()
        if item["state"] == "READY"
    }
    print(json.dumps({"models": models, "errors": errors}))  # noqa: T201  # a script


main()
