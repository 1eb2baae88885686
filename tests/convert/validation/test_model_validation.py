"""What is let near a runtime: what sshtool writes, and what optimisers make of it; and nothing that does harm."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import onnx
import pytest

import hostile_graphs
import hostile_ir
from limited_process import timed
from scaled_checkpoint import write_scaled_checkpoint
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError
from sshconvert.export import export
from sshconvert.libraries import import_onnxruntime, import_openvino
from sshconvert.mxnet.params import read_params
from sshconvert.network import read_symbol, resolve
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.validation import check_ir, check_ir_sizes, read_onnx
from sshtool.runtimes.loading import load

MODEL: Final = hostile_graphs.MODEL
TRIALS: Final = 100


def assert_refused(form: str, kinds: Sequence[str], seed: int, folder: Path) -> None:
    path = folder / f"evil.{form}"
    if form == "onnx":
        path.write_bytes(hostile_graphs.with_harm(kinds, seed).SerializeToString())
    else:
        hostile_ir.write(path, kinds, seed)
    with timed((kinds, seed)), pytest.raises(ArtifactError, match=r"evil\.") as caught:
        read_onnx(path) if form == "onnx" else load(path, MODEL)
    assert "\n" not in str(caught.value)


HARMS: Final = {"onnx": tuple(hostile_graphs.HARMS), "xml": tuple(hostile_ir.HARMS)}


@pytest.mark.parametrize(("form", "kind"), [(form, kind) for form, kinds in HARMS.items() for kind in kinds])
def test_each_kind_of_harm_is_refused(form: str, kind: str, tmp_path: Path) -> None:
    for seed in range(3):
        assert_refused(form, [kind], seed, tmp_path)


@pytest.mark.parametrize("form", HARMS)
def test_harm_in_combination_is_refused(form: str, tmp_path: Path) -> None:
    combine(form, TRIALS if form == "onnx" else TRIALS // 5, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("form", HARMS)
def test_harm_in_many_combinations_is_refused(form: str, tmp_path: Path) -> None:
    combine(form, 3000, tmp_path)


def combine(form: str, count: int, folder: Path) -> None:
    chance = random.Random(5)  # noqa: S311  # repeatable, not secret
    for seed in range(count):
        assert_refused(form, chance.choices(HARMS[form], k=chance.randrange(2, 5)), seed, folder)


def test_the_models_without_harm_pass(tmp_path: Path) -> None:
    onnx.save(hostile_graphs.with_harm([], 0), tmp_path / "good.onnx")
    hostile_ir.write(tmp_path / "good.xml", [], 0)
    for name in ("good.onnx", "good.xml"):
        assert load(tmp_path / name, MODEL).declaration.input_shape == (1, 3, 64, 64)


# --- what honest programs write ---------------------------------------------------------------------------------------

SHAPE: Final = (1, 3, 64, 96)
BOTH: Final = ("onnx", "openvino")
HALVES: Final = (Precision.FP32, Precision.FP16)
FRAMES: Final = Options(BOTH, HALVES, SHAPE, layout=Layout.NHWC, input_type=InputType.UINT8, color=Color.RGB)
MADE: Final = {
    "plain": Options(BOTH, HALVES, SHAPE),
    "the original's input": Options(BOTH, HALVES, SHAPE, preprocessing=False, color=Color.RGB),
    "frames of any size with faces": replace(
        FRAMES, dynamic=Dynamic.ALL, postprocessing=Postprocessing(0.05, 0.3, 1000, keep_heads=True)
    ),
    "any batch with faces": Options(
        BOTH, HALVES, SHAPE, dynamic=Dynamic.BATCH, postprocessing=Postprocessing(0.05, 0.3, 10)
    ),
    "any size": Options(BOTH, HALVES, (2, 3, 64, 96), dynamic=Dynamic.SIZE),
    "faces of a large image": Options(BOTH, HALVES, (2, 3, 480, 736), postprocessing=Postprocessing(0.05, 0.3, 1000)),
}


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("slim")
    write_scaled_checkpoint(folder, Fraction(1, 8))
    return open_checkpoint(folder, MODEL)


@pytest.mark.parametrize("options", MADE.values(), ids=MADE)
def test_what_sshtool_writes_passes_and_so_does_what_optimisers_make_of_it(
    options: Options, slim: Checkpoint, tmp_path: Path
) -> None:
    for artifact in convert(slim, tmp_path, options):
        if artifact.path.suffix == ".onnx":
            optimise_onnx(artifact.path)
        else:
            optimise_ir(artifact.path)


def optimise_onnx(path: Path) -> None:
    """What the optimiser is told to write for one kind of processor alone is not let through."""
    read_onnx(path)
    runtime, openvino = import_onnxruntime(), import_openvino()
    for level in ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"):
        settings = runtime.SessionOptions()
        settings.log_severity_level = 4
        settings.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
        settings.optimized_model_filepath = str(path.with_name(f"{level}.onnx"))
        runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        assert {"Conv", "FusedConv"} & {node.op_type for node in read_onnx(path.with_name(f"{level}.onnx")).graph.node}
    openvino.save_model(openvino.convert_model(path), path.with_name("converted.xml"))
    check_whole_ir(path.with_name("converted.xml"))


def optimise_ir(path: Path) -> None:
    openvino = import_openvino()
    check_whole_ir(path)
    openvino.save_model(openvino.Core().read_model(path), path.with_name("again.xml"))
    check_whole_ir(path.with_name("again.xml"))


def check_whole_ir(path: Path) -> None:
    check_ir(path)
    check_ir_sizes(path, import_openvino().Core().read_model(path))


def test_the_real_retinaface_passes(shared_data: Path, tmp_path: Path) -> None:
    folder, inputs = shared_data / "retinaface-16and32", {"data": (1, 3, 640, 640)}
    network = resolve(read_symbol(folder / "16and32-symbol.json"), inputs)
    arrays = read_params(folder / "16and32-0000.params")
    parameters = {name.partition(":")[2]: array for name, array in arrays.items()}
    path = tmp_path / "retinaface.onnx"
    export(network, parameters, inputs, name="retinaface").write(path)
    optimise_onnx(path)


def test_an_operator_set_that_is_not_known_yet_is_refused(tmp_path: Path) -> None:
    model = hostile_graphs.with_harm([], 0)
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(ArtifactError, match="operator set"):
        read_onnx(tmp_path / "new.onnx")


def test_a_field_that_is_not_known_yet_is_refused(tmp_path: Path) -> None:
    data = hostile_graphs.with_harm([], 0).SerializeToString()
    (tmp_path / "new.onnx").write_bytes(data + b"\xa2\x06\x01a")  # field 100, of one byte
    with pytest.raises(ArtifactError, match="unknown"):
        read_onnx(tmp_path / "new.onnx")
