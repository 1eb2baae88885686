"""One step of `exporters.py` in a process of its own: `python exporters_worker.py KIND ARGUMENT…`.

Works in the peers' environment too, so it imports nothing of ours. Arrays go through .npz files; outputs are numbered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Shapes = dict[str, tuple[int, ...]]


def shapes(symbol: str, given: str) -> None:
    """Print the shapes of the network's variables as JSON: `arguments` and `auxiliaries`."""
    network = _load_symbol(symbol)
    arguments, _, auxiliaries = network.infer_shape(**_read_shapes(given))
    if arguments is None:
        sys.exit("MXNet infers no shapes")
    names = {"arguments": network.list_arguments(), "auxiliaries": network.list_auxiliary_states()}
    found = {"arguments": arguments, "auxiliaries": auxiliaries}
    sys.stdout.write(json.dumps({kind: dict(zip(names[kind], found[kind])) for kind in names}))  # noqa: B905  # Python 3.9


def answers(symbol: str, params: str, inputs: str, labels: str, output: str) -> None:
    """Write MXNet's outputs, in the network's order. Labels are zeros, of the shapes given or inferred."""
    import mxnet

    network = _load_symbol(symbol)
    with np.load(inputs) as data:
        given = {name: mxnet.nd.array(data[name]) for name in data.files}
    arrays = {name.partition(":")[2]: array for name, array in mxnet.nd.load(params).items()}
    known = {name: array.shape for name, array in given.items()} | _read_shapes(labels)
    argument_shapes, _, _ = network.infer_shape(**known)
    arguments = {}
    for name, shape in zip(network.list_arguments(), argument_shapes):  # noqa: B905  # Python 3.9
        value = given.get(name, arrays.get(name))
        arguments[name] = mxnet.nd.zeros(shape) if value is None else value
    auxiliaries = {name: arrays[name] for name in network.list_auxiliary_states()}
    executor = network.bind(mxnet.cpu(), arguments, aux_states=auxiliaries, grad_req="null")
    _write(output, [array.asnumpy() for array in executor.forward(is_train=False)])


def mx2onnx(symbol: str, params: str, given: str, output: str) -> None:
    import mxnet

    mxnet.onnx.export_model(symbol, params, list(_read_shapes(given).values()), np.float32, output)


def run_onnx(model: str, inputs: str, output: str) -> None:
    """Write ONNX Runtime's outputs, in the model's order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}
    with np.load(inputs) as data:
        _write(output, session.run(None, {name: data[name] for name in data.files if name in wanted}))


def run_openvino(model: str, inputs: str, output: str) -> None:
    """Write OpenVINO's outputs, in the model's order."""
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    )
    with np.load(inputs) as data:
        found = compiled({name: data[name] for name in data.files})
    _write(output, [found[port] for port in compiled.outputs])


def _load_symbol(path: str) -> Any:
    import mxnet

    return mxnet.sym.load(path)


def _read_shapes(text: str) -> Shapes:
    return {name: tuple(shape) for name, shape in json.loads(text).items()}


def _write(path: str, arrays: list[Any]) -> None:
    np.savez(path, **{f"{number:03}": array for number, array in enumerate(arrays)})


KINDS: dict[str, Callable[..., None]] = {
    "shapes": shapes,
    "answers": answers,
    "mx2onnx": mx2onnx,
    "onnx": run_onnx,
    "openvino": run_openvino,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](*sys.argv[2:])
