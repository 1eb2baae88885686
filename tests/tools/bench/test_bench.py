"""`sshtool bench`. No test says how long something may take: a machine may be as slow as it likes."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np
import onnx
import pytest
from rich.console import Console

from command_line import sshtool
from pages import DARK, LIGHT, Browser, Reader
from small_model import SIZE, small_onnx, write_small_models
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError, RuntimeUnavailableError, SSHToolError, UsageError
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options, Postprocessing, Precision
from sshtool.bench import run
from sshtool.bench.benchmark import BenchOptions, bench
from sshtool.bench.figures import BenchResult, Spread, measured, speeds, spread
from sshtool.bench.measuring import Dose, Turn, measure_latency, measure_throughput, rate
from sshtool.bench.process import Worker
from sshtool.bench.run import BenchCandidate, Doses, Feed, measure
from sshtool.bench.worker import Loaded, Work
from sshtool.cli.bench import render
from sshtool.report.bench import bench_tables, remarks, render_bench
from sshtool.report.schema import shipped_schema
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.registry import RUNTIMES
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
QUICK: Final = BenchOptions(runs=3, rounds=2)
LOADED: Final = Loaded("Test 1", "f32", "FP32", "demo", (1, 3, SIZE, SIZE), 2, 0.5, 0.1)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with small.onnx and .xml in the places of converted artifacts, FP32 and FP16."""
    folder = tmp_path_factory.mktemp("small")
    write_small_models(folder, MODEL)
    for precision in ("FP32", "FP16"):
        place = folder / MODEL.name / precision
        place.mkdir(parents=True)
        for suffix in (".onnx", ".xml", ".bin"):
            shutil.copy(folder / f"small{suffix}", place / f"{MODEL.name}{suffix}")
    return folder


@pytest.fixture(scope="module")
def result(small: Path) -> BenchResult:
    return bench(Workspace(MODEL, small), QUICK)


def artifact(folder: Path, suffix: str = ".xml", precision: str = "FP32") -> Path:
    return folder / MODEL.name / precision / f"{MODEL.name}{suffix}"


def work(path: Path, mode: str = "latency", **changes: Any) -> Work:
    return replace(Work(str(path), MODEL.described(), "", mode, Settings()), **changes)


def dynamic_model(folder: Path) -> Path:
    """The small model for any size."""
    model = small_onnx(MODEL)
    for value in (*model.graph.input, *model.graph.output):
        for number, size in enumerate(value.type.tensor_type.shape.dim):
            if number != 1:
                size.dim_param = f"{value.name}_{number}"
    onnx.save(model, folder / "dynamic.onnx")
    return folder / "dynamic.onnx"


def turn(*seconds: float, per_second: float = 0.0) -> Turn:
    return Turn(seconds, per_second or len(seconds) / sum(seconds), 2 * sum(seconds), sum(seconds))


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], Spread(1, 3, 3, 3, 3, 3)),
        ([4.0, 2.0], Spread(2, 2, 2.5, 3, 3.5, 4)),
        ([5.0, 1.0, 3.0, 2.0, 4.0], Spread(5, 1, 2, 3, 4, 5)),
    ],
    ids=["one", "two", "five"],
)
def test_a_spread_is_the_quartiles_as_numpy_has_them(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected
    quartiles = np.percentile(values, [25, 50, 75])
    np.testing.assert_allclose([expected.lower, expected.median, expected.upper], quartiles)


def test_speed_is_the_median_of_ratios_within_rounds() -> None:
    """In the second round the machine is ten times as slow, which says nothing about who is faster."""
    baseline = [turn(0.2, 0.2, 0.4), turn(2.0, 2.0), turn(0.2)]
    other = [turn(0.1), turn(1.0, 1.0, 5.0), turn(0.05)]
    found = measured("latency", LOADED, other, None, speeds("latency", LOADED, baseline))
    assert found.speed is not None
    assert (found.speed.least, found.speed.median, found.speed.most) == (2.0, 2.0, 4.0)
    assert found.seconds.count == 5
    assert found.seconds.median == 1.0
    assert found.cpu_seconds == pytest.approx(2 * 7.15 / 5)
    assert found.cores == pytest.approx(2.0)


def test_throughput_counts_images_and_latency_is_by_the_image() -> None:
    batch = replace(LOADED, input_shape=(8, 3, SIZE, SIZE))
    turns = [turn(1.0, 1.0, per_second=1.5), turn(1.0, per_second=2.5)]
    found = measured("throughput", batch, turns, 7, speeds("throughput", LOADED, turns))
    assert found.images_per_second.median == 8 * 2.0
    assert found.speed is not None
    assert found.speed.median == 8.0
    assert (found.requests, found.peak_bytes) == (2, 7)
    assert speeds("latency", batch, turns) == [8.0, 8.0]
    assert measured("latency", batch, turns, None, None).requests == 1


def test_a_rate_is_that_of_the_time_in_which_all_streams_were_at_work() -> None:
    whole = [(0.0, 1.0), (1.0, 2.0)]
    assert rate([whole], 0.0) == 1.0
    assert rate([whole, whole], 0.0) == 2.0
    # The second is half done when the first stops, and the rest of it, done alone, counts for nothing.
    assert rate([whole, [(0.0, 1.0), (1.0, 3.0)]], 0.0) == (2 + 1.5) / 2
    # Nor does one that only began then.
    assert rate([whole, [(0.0, 2.0), (2.0, 9.0)]], 0.0) == 1.5


@pytest.mark.parametrize(
    ("doses", "expected"),
    [
        (Doses(10, 0, 4), [Dose(2.5)] * 4),
        (Doses(10, 7, 3), [Dose(0, 3), Dose(0, 2), Dose(0, 2)]),
        (Doses(10, 2, 5), [Dose(0, 1), Dose(0, 1)]),
    ],
    ids=["seconds", "runs", "fewer runs than rounds"],
)
def test_rounds_share_what_is_to_be_measured(doses: Doses, expected: list[Dose]) -> None:
    assert doses.of_turns() == expected
    assert sum(dose.runs for dose in expected) == doses.runs


# --- measuring -------------------------------------------------------------------------------------------------------


class Counted:
    """A computation that takes next to no time."""

    def __init__(self, fails_at: int = 0) -> None:
        self.calls, self._fails_at = 0, fails_at

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self._fails_at:
            raise ArtifactError("it does not work any more")


def test_the_first_computation_of_a_turn_is_not_counted() -> None:
    infer = Counted()
    found = measure_latency(infer, Dose(0, 5))
    assert (infer.calls, len(found.seconds)) == (6, 5)
    assert sum(found.seconds) <= found.wall_seconds
    assert found.rate == pytest.approx(5 / found.wall_seconds)


def test_a_duration_ends_a_turn_but_not_before_one_computation() -> None:
    assert len(measure_latency(Counted(), Dose(0)).seconds) == 1
    found = measure_latency(Counted(), Dose(0.05))
    assert found.wall_seconds >= 0.05
    assert len(found.seconds) > 1


def test_all_streams_compute_and_share_the_runs() -> None:
    streams = [Counted() for _ in range(3)]
    found = measure_throughput(streams, Dose(0, 7))
    assert [stream.calls for stream in streams] == [4, 4, 4]  # 7 are 3 for each, after one that does not count
    assert len(found.seconds) == 9
    assert found.rate > 0


@pytest.mark.parametrize("moment", [1, 2, 3], ids=["first", "second", "third"])
def test_a_stream_that_fails_ends_the_turn_with_its_error(moment: int) -> None:
    with pytest.raises(ArtifactError, match="does not work any more"):
        measure_throughput([Counted(), Counted(moment), Counted()], Dose(0, 9))


@pytest.mark.parametrize("throughput", [False, True], ids=["latency", "throughput"])
@pytest.mark.parametrize("name", ["small.onnx", "small.xml", "small.onnx with openvino"])
def test_every_runtime_computes_as_often_as_it_is_called(name: str, throughput: bool, small: Path) -> None:
    path, _, key = name.partition(" with ")
    settings = Settings(threads=2, throughput=throughput, requests=3 if throughput else 0)
    runtime = load(small / path, MODEL, settings, key=key)
    images = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    inferences = runtime.inferences(images)
    assert len(inferences) == (3 if throughput else 1)
    assert len(measure_throughput(inferences, Dose(0, 6)).seconds) == 6
    with pytest.raises(ArtifactError, match=r"1, 32, 32, 3"):
        runtime.inferences(images[:, :32, :32])[0]()


@pytest.mark.usefixtures("mxnet")
def test_mxnet_computes_one_at_a_time(plain_checkpoint: Checkpoint) -> None:
    runtime = load(plain_checkpoint.params_path, MODEL, Settings(throughput=True, requests=4))
    inferences = runtime.inferences(np.zeros((1, 32, 32, 3), np.uint8))
    assert len(inferences) == 1
    assert len(measure_throughput(inferences, Dose(0, 2)).seconds) == 2


def test_who_decides_how_many_to_compute_at_once() -> None:
    """OpenVINO knows best; ONNX Runtime gets one stream for each thread; MXNet and ncnn have one."""
    assert {key: kind.default_requests(6) for key, kind in RUNTIMES.items()} == {
        "mxnet": 1, "ncnn": 1, "onnxruntime": 6, "openvino": 0,
    }  # fmt: skip


# --- processes -------------------------------------------------------------------------------------------------------


def test_a_worker_says_what_it_loaded_and_measures_in_a_process_of_its_own(small: Path) -> None:
    with Worker(work(small / "small.xml", "throughput", settings=Settings(throughput=True, requests=2))) as worker:
        assert worker.process_id != os.getpid()
        loaded = worker.loaded
        assert loaded.runtime.startswith("OpenVINO")
        assert (loaded.precision, loaded.weights, loaded.inference_precision) == ("FP32", "demo", "f32")
        assert (loaded.input_shape, loaded.requests) == ((1, 3, SIZE, SIZE), 2)
        found = worker.measure(Dose(0, 4))
        assert len(found.seconds) == 4
        assert found.cpu_seconds > 0
        assert worker.peak_bytes is not None
        assert worker.peak_bytes > 20e6
    with pytest.raises(ProcessLookupError):
        os.kill(worker.process_id, 0)


def test_memory_is_that_of_the_worker_and_not_of_who_started_it(small: Path) -> None:
    ballast = np.ones(150_000_000, np.uint8)
    with Worker(work(small / "small.onnx")) as worker:
        worker.measure(Dose(0, 1))
    assert worker.peak_bytes is not None
    assert worker.peak_bytes < 300e6
    assert ballast.sum() == len(ballast)


BROKEN: Final = {
    "no model": (b"nonsense", ArtifactError, "is no"),
    "no file": (None, ArtifactError, "a.onnx"),
}


@pytest.mark.parametrize(("content", "kind", "message"), BROKEN.values(), ids=BROKEN)
def test_an_error_of_the_worker_is_raised_as_what_it_is(
    content: bytes | None, kind: type[SSHToolError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=message):
        Worker(work(path))


def test_a_worker_that_dies_is_one_line(small: Path) -> None:
    with Worker(work(small / "small.onnx")) as worker:
        os.kill(worker.process_id, signal.SIGSEGV)
        with pytest.raises(ArtifactError, match=r"small\.onnx.*signal 11"):
            worker.measure(Dose(0, 1))
    with Worker(work(small / "small.onnx")) as worker:
        os.kill(worker.process_id, signal.SIGKILL)
        with pytest.raises(ArtifactError, match=r"signal 9 .*memory"):
            worker.measure(Dose(0, 1))


def test_an_error_that_nobody_expects_is_told_too(small: Path) -> None:
    with Worker(work(small / "small.onnx")) as worker, pytest.raises(RuntimeError, match="TypeError"):
        worker.ask("x.onnx", {"seconds": "long", "runs": 0})  # what `measure` never asks


def test_a_module_in_the_current_folder_is_not_taken_for_a_library(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "numpy", "sshtool"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    Worker(work(small / "small.onnx")).close()


# --- the verb --------------------------------------------------------------------------------------------------------


def test_every_artifact_is_measured_in_both_modes(result: BenchResult, small: Path) -> None:
    labels = ["onnx FP32", "openvino FP32", "onnx FP16", "openvino FP16"]
    assert [item.label for item in result.candidates] == labels
    assert result.baseline == "openvino FP32"
    assert (result.runs, result.rounds, result.duration) == (3, 2, 0.0)
    for item in result.candidates:
        for found in (item.latency, item.throughput):
            assert found is not None
            assert [len(turn.seconds) for turn in found.turns] in ([2, 1], [2, 2])
            values = [value for turn in found.turns for value in turn.seconds]
            assert found.seconds.count == len(values)
            assert found.seconds.median == statistics.median(values)
            assert found.images_per_second.median == statistics.median(turn.rate for turn in found.turns)
            assert found.cpu_seconds == pytest.approx(sum(turn.cpu_seconds for turn in found.turns) / len(values))
            assert found.peak_bytes is not None
            if item.label == result.baseline:
                assert found.speed == Spread(2, 1.0, 1.0, 1.0, 1.0, 1.0)
        assert item.bytes == sum((small / MODEL.name / item.label[-4:] / name).stat().st_size for name in item.files)


def test_candidates_take_turns_and_each_round_begins_with_another(result: BenchResult) -> None:
    labels = [item.label for item in result.candidates]
    order = [(turn.mode, turn.round, turn.label) for turn in result.order]
    assert order == [
        (mode, number, label)
        for mode in ("latency", "throughput")
        for number, first in ((1, 0), (2, 1))
        for label in labels[first:] + labels[:first]
    ]


def test_the_speeds_are_those_of_the_recorded_turns(result: BenchResult) -> None:
    by_label = {item.label: item for item in result.candidates}
    baseline = by_label["openvino FP32"].latency
    other = by_label["onnx FP16"].latency
    assert baseline is not None
    assert other is not None
    assert other.speed is not None
    ratios = [
        statistics.median(its.seconds) / statistics.median(mine.seconds)
        for mine, its in zip(other.turns, baseline.turns, strict=True)
    ]
    assert other.speed.median == pytest.approx(statistics.median(ratios))


@pytest.mark.parametrize(
    ("given", "label"), [("ONNX fp16", "onnx FP16"), ("{}", "onnx FP32")], ids=["by label", "by file"]
)
def test_the_baseline_can_be_chosen(given: str, label: str, small: Path) -> None:
    paths = (artifact(small, ".onnx"), artifact(small, ".onnx", "FP16"))
    options = replace(QUICK, artifacts=paths, baseline=given.format(paths[0]), modes=("latency",))
    result = bench(Workspace(MODEL, small), options)
    assert result.baseline == label
    assert all(item.throughput is None for item in result.candidates)


def test_a_file_is_measured_with_each_runtime_that_was_named(small: Path) -> None:
    options = replace(QUICK, artifacts=(artifact(small, ".onnx"), artifact(small)), modes=("throughput",))
    result = bench(Workspace(MODEL, small), replace(options, runtimes=("openvino", "onnxruntime")))
    assert [(item.label, item.runtime.split()[0]) for item in result.candidates] == [
        ("onnx FP32 (openvino)", "OpenVINO"),
        ("onnx FP32 (onnxruntime)", "ONNX"),
        ("openvino FP32 (openvino)", "OpenVINO"),
    ]
    assert result.baseline == "openvino FP32 (openvino)"


@pytest.mark.long
def test_a_dynamic_file_with_faces_is_fed_what_the_user_says(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = Options(("onnx",), (Precision.FP16,), dynamic=Dynamic.ALL, postprocessing=Postprocessing(0.05, 0.3))
    path = convert(plain_checkpoint, tmp_path, options)[0].path
    wanted = BenchOptions(artifacts=(path,), runs=1, rounds=1, input_shape=(1, 3, 64, 96), batch=2)
    for key in ("onnxruntime", "openvino"):
        item = bench(Workspace(MODEL, tmp_path), replace(wanted, runtimes=(key,))).candidates[0]
        assert item.input_shape == (2, 3, 64, 96)
        assert item.latency is not None
        assert item.throughput is not None
        assert item.throughput.images_per_second.median == pytest.approx(2 * item.throughput.turns[0].rate)


def test_a_dynamic_file_is_fed_the_models_own_size_if_nobody_says_otherwise(tmp_path: Path) -> None:
    with Worker(work(dynamic_model(tmp_path))) as worker:
        assert worker.loaded.input_shape == (1, 3, 640, 640)


@pytest.mark.usefixtures("mxnet")
def test_mxnet_is_measured_beside_the_artifacts(plain_checkpoint: Checkpoint, small: Path) -> None:
    options = replace(QUICK, checkpoint=plain_checkpoint.params_path.parent, input_shape=(1, 3, SIZE, SIZE))
    result = bench(Workspace(MODEL, small), replace(options, runtimes=("openvino", "mxnet"), modes=("latency",)))
    assert [item.label for item in result.candidates][-1] == "mxnet FP32"
    assert result.candidates[-1].runtime == "MXNet 1.9.1"


def test_mxnet_that_nobody_asked_for_and_that_is_not_here_is_left_out(
    small: Path, plain_checkpoint: Checkpoint
) -> None:
    """A runtime that cannot be imported stands for it where it can."""
    optional = BenchCandidate("mxnet FP32", plain_checkpoint.params_path, "mxnet", "f32", optional=True)
    other = BenchCandidate("onnx FP32", artifact(small, ".onnx"), "", "f32")
    feed, doses = Feed(Settings(device="TOASTER")), Doses(0, 1, 1)
    found = measure("latency", MODEL, [optional], feed, doses)
    assert [item.label for item in found.left_out] == ["mxnet FP32"]
    assert found.order == ()
    with pytest.raises(RuntimeUnavailableError, match="TOASTER"):
        measure("latency", MODEL, [optional, other], feed, doses)


WRONG: Final[dict[str, tuple[BenchOptions, str]]] = {
    "a runtime": (BenchOptions(runtimes=("tensorflow",)), "--runtime: tensorflow"),
    "both doses": (BenchOptions(duration=1, runs=1), "--duration and --runs contradict"),
    "negative": (BenchOptions(duration=-1), "--duration: -1 is not above 0"),
    "no number": (BenchOptions(duration=math.nan), "--duration: nan"),
    "for ever": (BenchOptions(duration=1e9), "--duration: 1e.09"),
    "threads": (BenchOptions(settings=Settings(threads=2000)), "--threads: 2000 is more than"),
    "requests": (BenchOptions(settings=Settings(requests=2000)), "--requests: 2000 is more than"),
    "too small": (BenchOptions(input_shape=(1, 3, 31, 64)), "--input-shape: 1,3,31,64 is not"),
    "channels": (BenchOptions(input_shape=(1, 4, 64, 64)), "--input-shape: 1,4,64,64 is not"),
    "two batches": (BenchOptions(input_shape=(2, 3, 64, 64), batch=4), "--batch: 4 contradicts --input-shape"),
    "no file": (BenchOptions(artifacts=(Path("nowhere.onnx"),)), "nowhere.onnx"),
    "baseline": (BenchOptions(baseline="caffe"), "--baseline: caffe .*onnx FP32, openvino"),
    "a fixed size": (BenchOptions(input_shape=(1, 3, 96, 96)), "--input-shape: .* takes 1x3x64x64 only"),
    "a fixed batch": (BenchOptions(batch=2), "--batch: .* takes 1x3x64x64 only"),
    "bf16 for all": (
        BenchOptions(runtimes=("onnxruntime",), inference_precisions=("bf16",)),
        "--inference-precision: .*bf16; give --runtime openvino",
    ),
    "a checkpoint for nothing": (
        BenchOptions(runtimes=("openvino",), checkpoint=Path("checkpoint")),
        "--checkpoint is for MXNet",
    ),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_a_wrong_usage(options: BenchOptions, message: str, small: Path) -> None:
    with pytest.raises(UsageError, match=message):
        bench(Workspace(MODEL, small), replace(options, runs=options.runs or (0 if options.duration else 1)))


def test_a_device_that_is_not_here_is_said_once_by_each_runtime(small: Path) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        bench(Workspace(MODEL, small), replace(QUICK, settings=Settings(device="TOASTER")))
    assert str(caught.value).count("TOASTER") == 2


def test_files_and_runtimes_that_do_not_fit_are_a_wrong_usage(small: Path) -> None:
    with pytest.raises(UsageError, match="ONNX"):
        bench(Workspace(MODEL, small), replace(QUICK, artifacts=(artifact(small),), runtimes=("onnxruntime",)))
    with pytest.raises(UsageError, match="MXNet"):
        bench(Workspace(MODEL, small), replace(QUICK, artifacts=(artifact(small),), runtimes=("mxnet",)))
    one = replace(QUICK, artifacts=(artifact(small, ".onnx"), artifact(small)), inference_precisions=("bf16",))
    with pytest.raises(UsageError, match=r"--inference-precision.*ONNX"):
        bench(Workspace(MODEL, small), one)


def test_where_nothing_was_converted_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifacts"):
        bench(Workspace(MODEL, tmp_path), QUICK)
    assert list(tmp_path.iterdir()) == []


def test_more_pixels_than_anybody_has_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    path = dynamic_model(tmp_path)
    with pytest.raises(UsageError, match=r"--input-shape.*1000x3x4096x4096"):
        bench(Workspace(MODEL, tmp_path), replace(QUICK, artifacts=(path,), input_shape=(1000, 3, 4096, 4096)))


# --- what a person and a program see ---------------------------------------------------------------------------------


def text_of(result: BenchResult) -> str:
    console = Console(width=400, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115  # closed below
    try:
        console.print(render(result, plain=True))
        return console.export_text()
    finally:
        console.file.close()


def test_the_tables_have_a_row_for_each_candidate(result: BenchResult) -> None:
    tables = bench_tables(result)
    assert [item.mode for item in tables] == ["latency", "throughput"]
    for item in tables:
        assert [row[0] for row in item.rows] == [found.label for found in result.candidates]
        assert all(len(row) == len(item.columns) for row in item.rows)
        baseline = next(row for row in item.rows if row[0] == result.baseline)
        assert baseline[item.columns.index(">speed")] == "1.00x"
    text = text_of(result)
    assert "openvino FP32" in text
    assert result.environment["processor"] in text


def test_remarks_say_what_a_reader_must_know(result: BenchResult) -> None:
    first, second, third, *others = result.candidates
    changed = replace(
        result,
        load_before=3.0,
        candidates=(
            replace(first, input_shape=(1, 3, 96, 128)),
            second,
            replace(third, input_shape=(4, 3, SIZE, SIZE)),
            *others,
        ),
    )
    said = "\n".join(remarks(changed))
    assert f"onnx FP32 took images of 128x96, the baseline of {SIZE}x{SIZE}: it has no ratio." in said
    assert "onnx FP16 computes 4 images at once, the baseline 1" in said
    assert "not idle" in said
    assert "not idle" not in "\n".join(remarks(replace(result, load_before=0.1)))


def test_candidates_of_another_size_have_no_ratio(small: Path, tmp_path: Path) -> None:
    other = small_onnx(MODEL)
    for size in other.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_value = 96
    for output in other.graph.output:
        for size in output.type.tensor_type.shape.dim[2:]:
            size.dim_value = size.dim_value * 96 // SIZE
    onnx.save(other, tmp_path / "other.onnx")
    options = replace(QUICK, artifacts=(artifact(small, ".onnx"), tmp_path / "other.onnx"), modes=("latency",))
    found = bench(Workspace(MODEL, tmp_path), options).candidates[1].latency
    assert found is not None
    assert found.speed is None


def test_json_is_one_document_that_follows_the_schema(small: Path, tmp_path: Path) -> None:
    page = tmp_path / "bench.html"
    made = sshtool(
        "bench", "-o", small, "--artifact", artifact(small), "--runs", "2", "--rounds", "1", "--threads", "1",
        "--json", "--html", page,
    )  # fmt: skip
    document = json.loads(made.stdout)
    assert (document["verb"], document["ok"]) == ("bench", True)
    validator = jsonschema.Draft202012Validator(json.loads(shipped_schema("bench")))
    validator.validate(document["result"])
    assert document["result"]["written"] == [str(page)]
    assert "measuring throughput" in made.stderr
    document["result"]["candidates"][0]["latency"]["seconds"].pop("median")
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document["result"])


def test_the_page_shows_a_bar_and_a_row_for_each_candidate(result: BenchResult) -> None:
    page = render_bench(
        replace(result, candidates=(replace(result.candidates[0], label="<b>"), *result.candidates[1:]))
    )
    reader = Reader(page)
    assert reader.count("rect", "bar") == 2 * len(result.candidates)
    assert reader.count("rect", "baseline") == 2
    assert reader.count("table") == 2
    assert reader.count("b") == 0
    assert "//" not in page
    for width in map(float, (attributes["width"] for tag, attributes in reader.tags if tag == "rect")):
        assert 0 < width <= 632
    assert render_bench(result) == render_bench(result)


def test_the_page_is_drawn_by_a_browser_that_finds_nothing_wrong(result: BenchResult, browser: Browser) -> None:
    page = render_bench(result)
    assert browser.complaints(page) == []
    for scheme, bar in ((LIGHT, (0x2F, 0x6F, 0x9F)), (DARK, (0x6B, 0xB3, 0xE6))):
        pixels = browser.screenshot(page, scheme, width=1000, height=2000)
        assert (np.abs(pixels - np.array(bar, np.int16)).max(axis=-1) <= 8).sum() > 500
    assert browser.screenshot(page, LIGHT, width=360, height=1000).shape[1] == 360


def test_the_command_line_names_the_option_that_is_wrong(small: Path) -> None:
    cases = {
        ("--mode", "fast"): "--mode: fast is not one of latency, throughput, both",
        ("--runtime", "tvm"): "--runtime: tvm is not one of mxnet, ncnn, onnxruntime, openvino",
        ("--runs", "1", "--duration", "1"): "--duration and --runs contradict",
    }
    for arguments, message in cases.items():
        made = sshtool("bench", "-o", small, *arguments, "--quiet", code=2)
        assert message in made.stderr
        assert made.stderr.count("\n") == 1


def children_of(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in found.split()]


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_it_soon_and_its_workers_with_it(number: int, code: int, small: Path) -> None:
    command = [sys.executable, "-m", "sshtool", "bench", "-o", str(small), "--artifact", str(artifact(small))]
    process = subprocess.Popen(
        [*command, "--duration", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        while "measuring" not in process.stderr.readline():
            pass
        workers = children_of(process.pid)
        assert workers
        os.killpg(process.pid, number)  # as a terminal does it
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stdout) == (code, "")
    assert stderr.count("\n") == 1
    assert "nothing was left half done" in stderr
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_worker_ends_when_who_started_it_is_gone(small: Path) -> None:
    script = (
        "import os, sys\n"
        "from sshconvert.models.registry import load_model\n"
        "from sshtool.bench.process import Worker\n"
        "from sshtool.bench.worker import Work\n"
        "from sshtool.runtimes.base import Settings\n"
        "model = load_model('ssh-mxnet').described()\n"
        "worker = Worker(Work(sys.argv[1], model, '', 'latency', Settings()))\n"
        "print(worker.process_id, flush=True)\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", script, str(small / "small.onnx")]
    number = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    wait_for(lambda: not is_running(number))


def is_running(process: int) -> bool:
    """Also of one that has ended and that nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_results_are_plain_data(result: BenchResult) -> None:
    assert json.loads(json.dumps(asdict(result), default=str, allow_nan=False))["bench_version"] == 1
