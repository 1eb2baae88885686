"""What consumers make of the files in a folder: `others.py FOLDER` prints rows of consumer, version and cells by kind.

The folder holds `KIND.onnx` and its input `KIND.npy`. A cell is the largest difference to ONNX Runtime's answer of the
unchanged file without optimisation, a number, or the reason why the consumer refuses the file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

KINDS: Final = ("fixed", "dynamic", "post-processed", "INT8")

Answers = Mapping[str, Any]
Consumer = Callable[[Path, Any], Answers]

# What is left of the consumers' messages.
REASONS: Final = {
    r"Can't create layer .* of type \"(\w+)\"": r"it has no \1",
    r"parseShape|matrix_transform.cpp.*broadcast": "sizes that are computed from the input's",
    r"findCommonShape": "sizes that are computed from the input's",
    r"Incomplete symbolic shape inference|^AssertionError: ?$": "a computed `K` of TopK",
    r"Expected \w+_dequantized to be an initializer": "it is quantized already",
}


def onnxruntime(model: Any, image: Any, level: str = "DISABLE_ALL") -> Answers:
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, f"ORT_{level}")
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def at_level(level: str) -> Consumer:
    return lambda path, image: onnxruntime(path, image, level)


def opencv(path: Path, image: Any) -> Answers:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))
    names = list(network.getUnconnectedOutLayersNames())
    network.setInput(image)
    return dict(zip(names, network.forward(names), strict=True))


def onnxsim(path: Path, image: Any) -> Answers:
    import onnx
    import onnxsim as simplifier

    simplified, is_right = simplifier.simplify(onnx.load(path))
    assert is_right
    return onnxruntime(simplified, image)


def onnxslim(path: Path, image: Any) -> Answers:
    import onnx
    import onnxslim as slimmer

    return onnxruntime(slimmer.slim(onnx.load(path)), image)


def onnxoptimizer(path: Path, image: Any) -> Answers:
    import onnx
    import onnxoptimizer as optimizer

    return onnxruntime(optimizer.optimize(onnx.load(path), optimizer.get_fuse_and_elimination_passes()), image)


def version_converter(path: Path, image: Any) -> Answers:
    import onnx
    import onnx.version_converter

    return onnxruntime(onnx.version_converter.convert_version(onnx.load(path), 21), image)


def onnx_ir(path: Path, image: Any) -> Answers:
    import onnx_ir as ir
    from onnx_ir.passes import common

    passes = ir.passes.Sequential(
        common.ShapeInferencePass(),
        common.LiftConstantsToInitializersPass(),
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
        common.CheckerPass(),
    )
    return onnxruntime(ir.to_proto(passes(ir.load(path)).model), image)


def symbolic(path: Path, image: Any) -> Answers:
    import onnx
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    return onnxruntime(SymbolicShapeInference.infer_shapes(onnx.load(path), auto_merge=True), image)


def quantizer(path: Path, image: Any) -> Answers:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / "quantized.onnx"
        quantize_dynamic(str(path), str(quantized), weight_type=QuantType.QUInt8)
        return onnxruntime(quantized, image)


def tract(path: Path, image: Any) -> Answers:
    import tract as engine

    model = engine.onnx().load(path)
    names = [model.output_name(number) for number in range(model.output_count())]
    answers = model.into_model().into_runnable().run([image])
    return dict(zip(names, (answer.to_numpy() for answer in answers), strict=True))


def openvino(model: Any, image: Any) -> Answers:
    import openvino as runtime

    compiled = runtime.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {min(port.names): np.array(value) for port, value in compiled(image).items()}


def ovc(path: Path, image: Any) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.xml"
        program = Path(sys.executable).parent / "ovc"
        command = [str(program), str(path), "--output_model", str(target), "--compress_to_fp16", "False"]
        subprocess.run(command, check=True, capture_output=True)
        return openvino(target, image)


def reshape(path: Path, image: Any) -> Answers:
    import openvino as runtime

    model = runtime.Core().read_model(path)
    model.reshape(list(image.shape))
    return openvino(model, image)


CONSUMERS: Final[Mapping[str, tuple[str, Consumer]]] = {
    "OpenCV's dnn": ("opencv-python-headless", opencv),
    "tract": ("tract", tract),
    "OpenVINO's `ovc`": ("openvino", ovc),
    "OpenVINO's `reshape`": ("openvino", reshape),
    "onnxsim": ("onnxsim", onnxsim),
    "onnxslim": ("onnxslim", onnxslim),
    "onnxoptimizer": ("onnxoptimizer", onnxoptimizer),
    "`onnx.version_converter`": ("onnx", version_converter),
    "onnx-ir's passes": ("onnx-ir", onnx_ir),
    "ONNX Runtime, basic": ("onnxruntime", at_level("ENABLE_BASIC")),
    "ONNX Runtime, extended": ("onnxruntime", at_level("ENABLE_EXTENDED")),
    "ONNX Runtime, layout": ("onnxruntime", at_level("ENABLE_LAYOUT")),
    "ONNX Runtime, all": ("onnxruntime", at_level("ENABLE_ALL")),
    "its symbolic shape inference": ("onnxruntime", symbolic),
    "its `quantize_dynamic`": ("onnxruntime", quantizer),
}


def difference(expected: Answers, answers: Answers) -> float | str:
    if expected.keys() != answers.keys():
        return f"other outputs: {', '.join(sorted(answers))}"
    largest = 0.0
    for name, right in expected.items():
        if right.shape != np.shape(answers[name]):
            return f"{name} has another shape"
        distance = np.abs(np.asarray(right, np.float64) - np.asarray(answers[name], np.float64))
        largest = max(largest, float(distance.max(initial=0)))
    return largest


def cell(folder: Path, kind: str, consumer: Consumer) -> float | str:
    path, image = folder / f"{kind}.onnx", np.load(folder / f"{kind}.npy")
    try:
        answers = consumer(path, image)
    except Exception as error:  # noqa: BLE001  # the consumers raise classes of their own
        message = " ".join(f"{type(error).__name__}: {error}".split())
        matches = ((re.search(pattern, message), text) for pattern, text in REASONS.items())
        return next((match.expand(text) for match, text in matches if match), message[:300])
    return difference(onnxruntime(path, image), answers)


def cells(folder: Path, consumer: Consumer) -> list[float | str]:
    """The cells of a consumer, each computed in a process of its own, which a consumer may end."""
    made: list[float | str] = []
    for kind in KINDS:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.write(writer, json.dumps(cell(folder, kind, consumer)).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:  # noqa: PTH123  # a descriptor
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        made.append(json.loads(answer) if answer else f"it ends with signal {os.WTERMSIG(status)}")
    return made


def main(folder: Path, names: list[str]) -> None:
    rows = []
    for name, (package, consumer) in CONSUMERS.items():
        if not names or name in names:
            rows.append([name, version(package), *cells(folder, consumer)])
    print(json.dumps(rows))  # noqa: T201  # the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
