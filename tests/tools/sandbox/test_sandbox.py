"""Models in a process of their own: the same answers, limits on memory and time, and no process that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image as pillow  # noqa: N813  # as in sshtool.images

from command_line import sshtool
from small_model import SIZE, small_onnx, write_small_models
from sshconvert.errors import ArtifactError, NonfiniteError
from sshconvert.models.registry import load_model
from sshtool import sandbox
from sshtool.demo.dataset import write_dataset
from sshtool.detector import Detector
from sshtool.evaluate.evaluation import EvaluateOptions, evaluate
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.sandboxed import SandboxedRuntime
from sshtool.sandbox import Child, Limits
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
SERVICE: Final = "sandbox_service:make"
GIGABYTE: Final = sandbox.GIGABYTE
PATIENCE: Final = 60.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone limits the data of a process")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(SERVICE, Limits()) as made:
        yield made


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- the process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "uint8", "int32", "float64", "bool"])
def test_arrays_come_back_to_the_bit(kind: str, child: Child) -> None:
    random = np.random.default_rng(0)
    arrays = [(random.random(shape) * 99).astype(kind) for shape in ((), (0, 3), (7,), (2, 3, 301, 401))]
    found = child.ask("a", {"do": "echo"}, [*arrays, arrays[3].transpose(0, 2, 3, 1)]).arrays
    for one, other in zip([*arrays, arrays[3].transpose(0, 2, 3, 1)], found, strict=True):
        assert other.dtype == one.dtype
        np.testing.assert_array_equal(one, other)


def test_each_of_many_questions_at_once_gets_its_own_answer(child: Child) -> None:
    def ask(number: int) -> int:
        array = np.full((number * 1000 + 1,), number)
        answer = child.ask("a", {"do": "sleep", "seconds": number % 3 / 100}, [array])
        np.testing.assert_array_equal(answer.arrays[0], array)
        return number

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(100))) == list(range(100))


def test_what_a_library_prints_gets_nowhere(child: Child, capfd: pytest.CaptureFixture[str]) -> None:
    assert child.ask("a", {"do": "print"}).body["echo"] == {"do": "print"}
    assert capfd.readouterr() == ("", "")


def test_an_unexpected_error_is_told_too(child: Child) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: an unexpected error"):
        child.ask("a", {"do": "fail"})


@linux
def test_memory_beyond_the_limit_is_refused_and_the_limit_named() -> None:
    with Child(SERVICE, Limits(GIGABYTE)) as child:
        assert child.ask("a.onnx", {"do": "allocate", "bytes": GIGABYTE // 4}).body == {"sum": 1}
        with pytest.raises(ArtifactError, match=r"1 GB \(--memory-limit\)"):
            child.ask("a.onnx", {"do": "allocate", "bytes": 2 * GIGABYTE})
        assert child.is_alive


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"do": "crash", "signal": signal.SIGSEGV}, r"a\.onnx: .*signal 11 \(SIGSEGV\)"),
        ({"do": "crash", "signal": signal.SIGKILL}, r"a\.onnx: .*signal 9 \(SIGKILL\).*memory"),
        ({"do": "leave"}, r"a\.onnx: .*exit code 7"),
    ],
)
def test_a_process_that_dies_is_one_line_for_all_that_wait(body: dict[str, Any], message: str) -> None:
    with Child(SERVICE, Limits()) as child, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(child.ask, "a.onnx", {"do": "sleep", "seconds": PATIENCE}) for _ in range(2)]
        with pytest.raises(ArtifactError, match=message):
            child.ask("a.onnx", body)
        for one in waiting:
            with pytest.raises(ArtifactError, match=message):
                one.result()
        with pytest.raises(ArtifactError, match=message):  # nor does it answer later
            child.ask("a.onnx", {"do": "echo"})


@pytest.mark.parametrize("how", ["sleep", "compute"])
def test_a_process_that_is_silent_is_stopped(how: str) -> None:
    with Child(SERVICE, Limits(seconds=PATIENCE)) as child:
        child.ask("a.onnx", {"do": "echo"})
        child.limits = Limits(seconds=0.3)
        with pytest.raises(ArtifactError, match=r"a\.onnx.*--time-limit"):
            child.ask("a.onnx", {"do": how, "seconds": 2 * PATIENCE})
        wait_for(lambda: not is_running(child.process_id))


def test_a_closed_child_leaves_no_thread() -> None:
    """A thread that still reads a pipe when Python ends would crash the program."""

    class Slow(Child):
        def _listen(self) -> None:
            super()._listen()
            time.sleep(0.5)

    before = set(threading.enumerate())
    with Slow(SERVICE, Limits()) as child:
        child.ask("a", {"do": "echo"})
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_answers_to_others_are_no_silence() -> None:
    with Child(SERVICE, Limits(seconds=PATIENCE)) as child, ThreadPoolExecutor(1) as pool:
        child.ask("a.onnx", {"do": "echo"})
        child.limits = Limits(seconds=2.0)
        slow = pool.submit(child.ask, "a.onnx", {"do": "sleep", "seconds": 3.0})
        while not slow.done():
            child.ask("a.onnx", {"do": "sleep", "seconds": 0.1})
        assert slow.result().body["echo"]["do"] == "sleep"


@linux
def test_a_process_ends_with_the_one_that_started_it_whatever_it_does() -> None:
    script = (
        "import sys, threading\n"
        "from sshtool.sandbox import Child, Limits\n"
        "child = Child('sandbox_service:make', Limits())\n"
        "child.ask('a', {'do': 'echo'})\n"
        "print(child.process_id, flush=True)\n"
        "child.ask('a', {'do': 'compute', 'seconds': 600})\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        time.sleep(0.2)  # for the question to arrive
        parent.kill()
    wait_for(lambda: not is_running(number))


# --- models in it -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_small_models(folder, MODEL)
    return folder


@pytest.fixture
def confined(monkeypatch: pytest.MonkeyPatch) -> Limits:
    limits = Limits(GIGABYTE)
    monkeypatch.setattr(sandbox, "_confined", [limits])
    return limits


def images(number: int = 1, size: int = SIZE) -> Any:
    return np.random.default_rng(number).integers(0, 256, (number, size, size, 3), np.uint8)


@pytest.mark.parametrize(("name", "key"), [("small.onnx", ""), ("small.onnx", "openvino"), ("small.xml", "")])
def test_a_model_answers_in_the_sandbox_as_it_does_outside(
    name: str, key: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(throughput=True, threads=2)
    outside = load(small / name, MODEL, settings, key=key)
    monkeypatch.setattr(sandbox, "_confined", [Limits()])
    inside = load(small / name, MODEL, settings, key=key)
    assert isinstance(inside, SandboxedRuntime)
    assert (inside.declaration, inside.version, str(inside)) == (outside.declaration, outside.version, str(outside))
    assert (inside.parallel, inside.inference_precision) == (outside.parallel, outside.inference_precision)
    for what in ("run", "layers"):
        one, other = getattr(outside, what)(images()), getattr(inside, what)(images())
        assert list(one) == list(other)
        for name_, values in one.items():
            np.testing.assert_array_equal(values, other[name_])


@pytest.mark.usefixtures("confined")
def test_errors_are_what_they_are_outside(small: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match=r"bad\.onnx: "):
        load(tmp_path / "bad.onnx", MODEL)
    runtime = load(small / "small.onnx", MODEL)
    with pytest.raises(ArtifactError, match="cannot run it"):
        runtime.run(images(1, 32))
    assert runtime.run(images())


@linux
@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize("key", ["onnxruntime", "openvino"])
def test_a_model_that_takes_too_much_is_an_error_and_the_next_one_runs(key: str, small: Path, tmp_path: Path) -> None:
    model = small_onnx(MODEL)
    for value in (model.graph.input[0], *model.graph.output):
        for size in value.type.tensor_type.shape.dim[2:]:
            size.Clear()
    onnx.save(model, tmp_path / "free.onnx")
    runtime = load(tmp_path / "free.onnx", MODEL, key=key)
    with pytest.raises(ArtifactError, match=r"free\.onnx: .*--memory-limit"):
        runtime.run(np.zeros((1, 8192, 8192, 3), np.uint8))
    assert load(small / "small.onnx", MODEL, key=key).run(images())


@pytest.mark.usefixtures("confined")
def test_what_is_not_needed_any_more_is_dropped(small: Path) -> None:
    first = load(small / "small.onnx", MODEL)
    assert isinstance(first, SandboxedRuntime)
    child, number = first._child, first._id  # nothing else tells
    del first
    second = load(small / "small.onnx", MODEL)
    second.run(images())
    with pytest.raises(RuntimeError, match="KeyError"):
        child.ask("a", {"do": "run", "id": number}, [images()])


def test_the_program_runs_models_in_the_sandbox_with_the_limits_it_is_given(small: Path, tmp_path: Path) -> None:
    pillow.fromarray(images()[0]).save(tmp_path / "a.png")
    artifact = ["--artifact", str(small / "small.onnx"), "-o", str(tmp_path / "out")]
    assert sshtool("detect", tmp_path / "a.png", *artifact, "--threshold", "0.9").stdout
    result = sshtool("detect", tmp_path / "a.png", *artifact, "--time-limit", "0.001", code=2)
    assert "--time-limit" in result.stderr


# --- outputs that are no numbers --------------------------------------------------------------------------------------


def with_factor(value: float) -> onnx.ModelProto:
    """The deltas of stride 8, times the image's mean over itself, and that: NaN for a black image."""
    model = small_onnx(MODEL)
    head = next(node for node in model.graph.node if node.output[0] == "rpn_bbox_pred_stride8")
    head.output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), "value"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["data"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "mean"], ["one"]),
            helper.make_node("Mul", ["one", "value"], ["factor"]),
            helper.make_node("Add", ["raw", "factor"], ["rpn_bbox_pred_stride8"]),
        ]
    )
    return model


def test_detect_names_the_output_that_is_no_number_and_does_the_other_images(tmp_path: Path) -> None:
    onnx.save(with_factor(0.0), tmp_path / "nan.onnx")
    for number, level in enumerate((200, 0, 100)):
        pillow.new("RGB", (SIZE, SIZE), (level,) * 3).save(tmp_path / f"{number}.png")
    made = sshtool("detect", tmp_path, "--artifact", tmp_path / "nan.onnx", "--json", "-o", tmp_path / "out", code=1)
    lines = [json.loads(line) for line in made.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["error"]["type"] == "NonfiniteError"
    assert "rpn_bbox_pred_stride8" in lines[1]["error"]["message"]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_infinity_is_no_number_either(value: float, tmp_path: Path) -> None:
    onnx.save(with_factor(value), tmp_path / "inf.onnx")
    with pytest.raises(NonfiniteError, match=r"inf\.onnx: .*rpn_bbox_pred_stride8"):
        Detector(tmp_path / "inf.onnx", MODEL).find([images()[0]])


@pytest.mark.parametrize("value", [3e38, -3e38, 1e30])
def test_huge_numbers_are_boxes_without_a_word(value: float, tmp_path: Path) -> None:
    onnx.save(with_factor(value), tmp_path / "huge.onnx")
    detector = Detector(tmp_path / "huge.onnx", MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = detector.find([images()[0]])
    assert np.isfinite(found.boxes).all()


def test_evaluate_counts_an_image_of_which_the_outputs_are_no_numbers_as_failed(tmp_path: Path) -> None:
    write_dataset(tmp_path, images=2, seed=0)
    first, *_ = sorted(tmp_path.rglob("*.jpg"))
    pillow.new("RGB", (1024, 768)).save(first, quality=100)
    onnx.save(with_factor(0.0), tmp_path / "nan.onnx")
    options = EvaluateOptions(tmp_path, (tmp_path / "nan.onnx",), protocols=("omz",))
    result = evaluate(Workspace(MODEL, tmp_path / "out"), options)
    (failed,) = result.not_evaluated
    assert "rpn_bbox_pred_stride8" in failed.reason
    assert result.images == 2
