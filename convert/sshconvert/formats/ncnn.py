"""ncnn: a .param with the layers, a .bin with the weights, and a .json with the contract."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from sshconvert.arrays import Array
from sshconvert.contract import FREE, Contract, Tensor
from sshconvert.errors import ArtifactError, FormatError, PrecisionError
from sshconvert.files import replace_files
from sshconvert.formats.base import ExportedNetwork, Format, Structure
from sshconvert.formats.registry import FORMATS
from sshconvert.libraries import NCNN, PNNX, import_openvino, importing, require
from sshconvert.network import Network
from sshconvert.onnx.builder import Builder
from sshconvert.onnx.model import OnnxModel, weights_path
from sshconvert.options import Dynamic, InputType, Layout, Options, Precision
from sshconvert.reading import is_file, is_there, read_small
from sshconvert.rounded.places import Places
from sshconvert.rounding import Rounding
from sshconvert.schema import one_line

if TYPE_CHECKING:
    from sshconvert.validation.ncnn import NcnnWeights

LARGEST_CONTRACT: Final = 16 << 20  # bytes
CONVERSION_SECONDS: Final = 1800
THREADS: Final = 2  # of the check

# How far ncnn's outputs for one input may be from OpenVINO's, relative to the largest value of an output. Right layers
# differ by 1e-5, and wrong ones by more than this.
TOLERANCE: Final = 1e-3

# What the process of `_answers_apart` runs, with its files and this process's `sys.path` as arguments.
_ANSWERING: Final = """\
import sys
from pathlib import Path
sys.path[:] = sys.argv[4:]
from sshconvert.formats.ncnn import answer
answer(*map(Path, sys.argv[1:4]))
"""

_NAME: Final = re.compile(r"[\x21-\x7e]{1,200}")  # ncnn reads 255 characters
_ANOTHER: Final = "write ONNX or OpenVINO IR"


@FORMATS.register("ncnn")
class Ncnn(Format):
    """pnnx converts the ONNX file. The blobs of the inputs and outputs have the names of the contract."""

    key = "ncnn"
    suffix = ".ncnn.param"
    companion_suffixes = (".ncnn.bin", ".ncnn.json")
    is_text = True
    text_companions = (".ncnn.json",)

    @classmethod
    def require(cls) -> None:
        require(NCNN, PNNX)

    @classmethod
    def accept(cls, options: Options) -> None:
        refused = {
            "a dynamic size": options.dynamic is not Dynamic.NOTHING,
            "INT8 weights": Precision.INT8 in options.precisions,
            "post-processing inside": options.postprocessing is not None,
            "a uint8 input": options.input_type is InputType.UINT8,
            "the layout NHWC": options.layout is Layout.NHWC,
            "a batch": options.input_shape is not None and options.input_shape[0] != 1,
        }
        for option in (option for option, is_wanted in refused.items() if is_wanted):
            raise FormatError(f"ncnn: the format has no form for {option}; omit the option, or {_ANOTHER}")

    @classmethod
    def write(cls, network: ExportedNetwork, contracts: Mapping[Path, Contract]) -> None:
        from sshconvert.validation import check_ncnn  # a conversion reads no file of a stranger

        checked = _checked(network, next(iter(contracts.values())))
        stored = check_ncnn(checked).weights
        weights = cls.companions(checked)[0].read_bytes()
        for path, contract in contracts.items():
            network.progress(f"writing ncnn {contract.precision}")
            folder = network.staging / f"ncnn-{contract.precision}"
            folder.mkdir()
            parts = [folder / path.name, *cls.companions(folder / path.name)]
            parts[0].write_bytes(checked.read_bytes())
            is_half = contract.precision == Precision.FP16.value
            parts[1].write_bytes(_halved(weights, stored) if is_half else weights)
            parts[2].write_text(_described(contract), encoding="utf-8")
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_files(parts, [path, *cls.companions(path)], network.staging)

    @classmethod
    def screen(cls, path: Path) -> None:
        cls.read_contract(path)

    @classmethod
    def read_contract(cls, path: Path) -> Contract:
        from sshconvert.validation import check_ncnn  # a conversion reads no file of a stranger

        network = check_ncnn(path)
        contract = _read_contract(cls.companions(path)[1], path)
        for tensors, blobs in ((contract.inputs, network.inputs), (contract.outputs, network.outputs)):
            sizes = {tensor.name: math.prod(tensor.shape) for tensor in tensors}
            if sizes != {blob: math.prod(shape) for blob, shape in blobs.items()} or len(sizes) != len(tensors):
                raise ArtifactError(
                    f"{path}: its blobs {one_line(', '.join(blobs))} are not those that "
                    f"{cls.companions(path)[1].name} declares; convert again"
                )
        return contract

    @classmethod
    def read_structure(cls, path: Path) -> Structure:
        from sshconvert.validation import check_ncnn

        network = check_ncnn(path)
        counts = Counter(layer.kind for layer in network.layers if layer.kind != "Input")
        return Structure(dict(sorted(counts.items())), sum(item.number for item in network.weights) / 1e6)

    @classmethod
    def read_rounding(cls, path: Path, network: Network, parameters: Mapping[str, Array]) -> Rounding:
        from sshconvert.rounded.ncnn import read_rounding
        from sshconvert.validation import check_ncnn

        weights = cls.companions(path)[0]
        return read_rounding(check_ncnn(path), weights, Places(network, parameters, path))


def _read_contract(path: Path, main: Path) -> Contract:
    try:
        return Contract.from_plain(json.loads(read_small(path, LARGEST_CONTRACT)))
    except OSError as error:
        raise ArtifactError(
            f"{main}: its contract {path.name} cannot be read ({error.strerror}); convert again"
        ) from None
    except (ValueError, RecursionError):
        raise ArtifactError(f"{main}: its contract {path.name} is damaged; convert again") from None


def _checked(network: ExportedNetwork, contract: Contract) -> Path:
    """Return the .param in float32 of a converted and checked network, in the staging folder."""
    _check_tensors(contract)
    network.progress("converting to ncnn")
    folder = network.staging / "pnnx"
    folder.mkdir()
    source = network.path
    (model, *_) = network.models.values()
    if (changed := _without_permutations(model)) is not model:
        source = folder / "changed.onnx"
        changed.write(source)
    _convert(source, folder)
    target = folder / f"checked{Ncnn.suffix}"
    weights, description = Ncnn.companions(target)
    target.write_text(_named((folder / "model.ncnn.param").read_text("utf-8"), contract), encoding="ascii")
    (folder / "model.ncnn.bin").rename(weights)
    description.write_text(_described(contract), encoding="utf-8")
    try:
        Ncnn.screen(target)
    except ArtifactError as error:
        reason = str(error).removeprefix(f"{target}: ").removesuffix("; convert again")
        raise FormatError(f"ncnn: pnnx cannot express the network ({reason}); {_ANOTHER}") from None
    network.progress("checking ncnn")
    _check_answers(network.path, target, contract)
    return target


def _without_permutations(model: OnnxModel) -> OnnxModel:
    """Return the model with parts and their concatenation in place of each Gather that permutes an axis.

    pnnx takes a Gather for the choice of a single index.
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}
    for node in model.nodes:
        order = model.initializers.get(node.input[1]) if node.op_type == "Gather" else None
        if order is None or order.ndim != 1 or sorted(order.tolist()) != list(range(order.size)):
            nodes.append(node)
            continue
        (axis,) = (attribute.i for attribute in node.attribute)
        build = Builder.of(model, f"{node.output[0]}_")
        sizes = build.integers("sizes", [1] * order.size)
        parts = build.split("part", "Split", [node.input[0], sizes], order.size, axis=axis)
        build.output(node.output[0], "Concat", [parts[index] for index in order], axis=axis)
        nodes += build.nodes
        constants |= build.constants
    if not constants:
        return model
    return replace(model, nodes=tuple(nodes), initializers={**model.initializers, **constants})


def _described(contract: Contract) -> str:
    return json.dumps(contract.to_plain(), indent=1) + "\n"


def _halved(weights: bytes, stored: Iterable[NcnnWeights]) -> bytes:
    """Return a .bin whose marked weights are rounded to float16, half to even. pnnx itself cuts the last bits off.

    Raises PrecisionError for weights beyond float16.
    """
    from sshconvert.validation.ncnn import FLOAT16

    pieces = []
    for item in stored:
        values = np.frombuffer(weights, "<f4", item.number, item.place)
        if item.marked:
            with np.errstate(over="ignore"):
                half = values.astype("<f2")
            if not np.isfinite(half).all():
                raise PrecisionError(
                    f"ncnn: the weights of {item.layer.name} are beyond float16; convert to FP32, or {_ANOTHER}"
                )
            padding = bytes(-half.nbytes % 4)  # ncnn aligns them
            pieces += [struct.pack("<I", FLOAT16), half.tobytes(), padding]
        else:
            pieces.append(values.tobytes())
    return b"".join(pieces)


def _check_tensors(contract: Contract) -> None:
    """Raise FormatError for tensors that a network of ncnn cannot take or return."""
    for tensor in (*contract.inputs, *contract.outputs):
        if FREE in tensor.shape or 0 in tensor.shape:
            raise FormatError(f"ncnn: {tensor.name} has shape {tensor.shape}, which is not fixed; {_ANOTHER}")
        if not _NAME.fullmatch(tensor.name):
            raise FormatError(f"ncnn: {one_line(tensor.name)!r} is no name of a blob; rename the tensor, or {_ANOTHER}")
    for tensor in contract.inputs:
        if tensor.dtype != "float32" or tensor.shape[0] != 1 or not 2 <= len(tensor.shape) <= 5:
            raise FormatError(
                f"ncnn: the input {tensor.name} is {tensor.dtype} of shape {tensor.shape}, and ncnn takes float32 "
                f"tensors of one sample; {_ANOTHER}"
            )


def _convert(source: Path, folder: Path) -> None:
    """Run pnnx, which writes a dozen files beside its input. It opens no connection."""
    if is_there(weights_path(source)):
        raise FormatError(f"ncnn: pnnx reads no weights beyond 2 GB; {_ANOTHER}")
    shutil.copyfile(source, folder / "model.onnx")
    command = [_pnnx(), "model.onnx", "fp16=0"]
    try:
        result = subprocess.run(  # noqa: S603  # the package's program on a file of this conversion
            command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=CONVERSION_SECONDS, check=False
        )
        lines = (result.stderr or result.stdout).decode("utf-8", "replace").strip().splitlines()
        reason = one_line(f"it ended with {result.returncode}: {lines[-1].strip() if lines else ''}"[:200])
        is_done = result.returncode == 0 and is_file(folder / "model.ncnn.bin")
    except subprocess.TimeoutExpired:
        is_done, reason = False, f"took more than {CONVERSION_SECONDS} s"
    if not is_done:
        raise FormatError(f"ncnn: pnnx cannot convert the network ({reason}); {_ANOTHER}")


def _pnnx() -> str:
    """Return the program in the package. Importing the package would import PyTorch, which ONNX does not need."""
    spec = importlib.util.find_spec(PNNX.module)
    assert spec
    assert spec.origin
    return str(Path(spec.origin).with_name("pnnx.exe" if os.name == "nt" else "pnnx"))


def _named(text: str, contract: Contract) -> str:
    """Return pnnx's .param with the contract's names and the shapes of the inputs. pnnx calls them in0 and out0."""
    names = {f"in{number}": tensor.name for number, tensor in enumerate(contract.inputs)}
    names |= {f"out{number}": tensor.name for number, tensor in enumerate(contract.outputs)}
    taken = set(names.values())
    shapes = {tensor.name: tensor.shape[1:] for tensor in contract.inputs}
    lines = text.splitlines()
    for place, line in enumerate(lines[2:], 2):
        kind, name, reads, writes, *rest = line.split()
        count = int(reads) + int(writes)
        blobs = [names.get(blob, f"inner_{blob}" if blob in taken else blob) for blob in rest[:count]]
        if kind == "Input":
            name, rest = blobs[0], [*rest[:count], *_shape(shapes[blobs[0]])]
        lines[place] = " ".join([f"{kind:<24} {name:<24} {reads} {writes}", *blobs, *rest[count:]])
    return "\n".join(lines) + "\n"


def _shape(shape: tuple[int, ...]) -> list[str]:
    """Return the parameters of an Input: 0 is the width, 1 the height, 11 the depth, 2 the channels."""
    keys = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(shape)]
    return [f"{key}={size}" for key, size in sorted(zip(keys, shape, strict=True))]


def _check_answers(source: Path, written: Path, contract: Contract) -> None:
    """Compare ncnn's answers for one input with OpenVINO's answers of the ONNX file. Raises FormatError."""
    inputs = {tensor.name: _sample(tensor) for tensor in contract.inputs}
    names = [tensor.name for tensor in contract.outputs]
    compiled = import_openvino().Core().compile_model(source, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(inputs)
    expected = {name: results[name] for name in names}
    outputs = _answers_apart(written, inputs)
    for name in names:
        largest = float(np.max(np.abs(expected[name]))) or 1.0
        difference = float(np.max(np.abs(outputs[name] - expected[name]))) / largest
        if not difference <= TOLERANCE:
            raise FormatError(
                f"ncnn: pnnx's network computes another {name}, {difference:.1g} of its largest value away; {_ANOTHER}"
            )


def _answers_apart(written: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return ncnn's outputs, computed by another process: on some networks ncnn crashes. Raises FormatError."""
    given, answers = written.with_name("inputs.npz"), written.with_name("answers.npz")
    np.savez(given, *inputs.values())
    command = [sys.executable, "-c", _ANSWERING, str(written), str(given), str(answers), *sys.path]
    try:
        result = subprocess.run(  # noqa: S603  # this same program
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CONVERSION_SECONDS, check=False
        )
        reason = f"it ended with {result.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"it took more than {CONVERSION_SECONDS} s"
    if not is_file(answers):
        raise FormatError(f"ncnn: ncnn cannot compute pnnx's network ({reason}); {_ANOTHER}")
    return dict(zip((tensor.name for tensor in Ncnn.read_contract(written).outputs), _arrays(answers), strict=True))


def answer(written: Path, given: Path, answers: Path) -> None:
    """Write ncnn's outputs for the inputs of a file. Raises ArtifactError."""
    contract = Ncnn.read_contract(written)
    inputs = dict(zip((tensor.name for tensor in contract.inputs), _arrays(given), strict=True))
    outputs = {tensor.name: tensor.shape for tensor in contract.outputs}
    values = infer(open_net(written, threads=THREADS), inputs, outputs, written)
    part = answers.with_name("part.npz")
    np.savez(part, *values.values())
    part.replace(answers)  # complete, or absent


def _arrays(path: Path) -> list[Array]:
    """Return the arrays of a file by `numpy.savez`, in their order."""
    with np.load(path, allow_pickle=False) as stored:
        return [stored[key] for key in stored.files]


def _sample(tensor: Tensor) -> Array:
    """Return seeded values from 0 to 255, which networks without an image take as well."""
    return np.random.default_rng(0).integers(0, 256, tensor.shape).astype(np.float32)


def open_net(path: Path, *, threads: int) -> Any:
    """Return the `ncnn.Net` of a checked file. It computes in float32. Raises ArtifactError."""
    with importing(NCNN):
        import ncnn
    net = ncnn.Net()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "vulkan_compute"):
        setattr(net.opt, f"use_{option}", False)
    net.opt.num_threads = threads
    weights, _ = Ncnn.companions(path)
    try:
        is_loaded = net.load_param(str(path)) == 0 and net.load_model(str(weights)) == 0
    except UnicodeError:  # the name has bytes that are no text
        is_loaded = False
    if not is_loaded:
        raise ArtifactError(f"{path}: ncnn cannot load it; convert again")
    return net


def infer(
    net: Any, inputs: Mapping[str, Array], outputs: Mapping[str, tuple[int, ...] | None], path: Path
) -> dict[str, Array]:
    """Return blobs by name, with these shapes; None stands for ncnn's own, behind a batch of 1.

    `inputs` are float32 with a batch of 1. Raises ArtifactError.
    """
    import ncnn

    extractor = net.create_extractor()
    extractor.set_light_mode(all(outputs.values()))  # it frees blobs that the next layer has read
    for name, array in inputs.items():
        # A copy, because layers compute in place, and would write into the caller's array, or behind it.
        extractor.input(name, ncnn.Mat(np.ascontiguousarray(array[0], np.float32)).clone())
    values = {}
    for name, shape in outputs.items():
        status, blob = extractor.extract(name)
        array = np.array(blob)
        if status or (shape and array.size != math.prod(shape)):
            raise ArtifactError(f"{path}: ncnn cannot compute {one_line(name)}; convert again")
        values[name] = array.reshape(shape or (1, *array.shape))
    return values
