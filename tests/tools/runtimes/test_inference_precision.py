"""--inference-precision: what is computed in, beside what a file is stored in.

Whether bf16 can be had depends on the processor: what needs it is skipped on others, and what happens on others is
shown anywhere by a variable that hides the better part of a processor from OpenVINO's kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from command_line import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Declaration
from sshconvert.convert import convert
from sshconvert.errors import EvaluationError, RuntimeUnavailableError, UsageError
from sshconvert.libraries import import_openvino
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.tolerances import PROFILES
from sshtool.bench.benchmark import BenchOptions, bench
from sshtool.candidates import Candidate, find_candidates, left_out, usual_artifact
from sshtool.demo.dataset import write_dataset
from sshtool.demo.scenes import draw_scene
from sshtool.evaluate.evaluation import EvaluateOptions, evaluate
from sshtool.parity.reference import Answer, LiveReference, Reference
from sshtool.parity.verification import VerifyOptions, verify_artifacts
from sshtool.parity.verify import Rules, SampleComparison, _Judge, _profile_name, verify
from sshtool.picture import save_picture
from sshtool.progress import silent
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.openvino import OpenVino
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = 96
BF16: Final = Settings(inference_precision="bf16")
SCENE: Final = draw_scene(7, SIZE, SIZE).image[None]
CAPABLE: Final = "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

needs_bf16 = pytest.mark.skipif(not CAPABLE, reason="this processor has no bf16")


@pytest.fixture(scope="module")
def folder(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with all four artifacts of the demo."""
    folder = tmp_path_factory.mktemp("artifacts")
    convert(
        demo_checkpoint, folder, Options(precisions=(Precision.FP32, Precision.FP16), input_shape=(1, 3, SIZE, SIZE))
    )
    return folder


def artifact(folder: Path, suffix: str = ".xml", precision: str = "FP32") -> Path:
    return folder / MODEL.name / precision / f"{MODEL.name}{suffix}"


def verifying(settings: Settings, **options: Any) -> VerifyOptions:
    return VerifyOptions(rules=Rules(settings=settings), **options)


# --- the runtime -----------------------------------------------------------------------------------------------------


def test_it_is_f32_unless_somebody_asks_for_less(folder: Path) -> None:
    for suffix in (".onnx", ".xml"):
        runtime = load(artifact(folder, suffix), MODEL)
        assert runtime.inference_precision == "f32"
        assert str(runtime) == f"{runtime.name} {runtime.version}"
        if isinstance(runtime, OpenVino):
            assert runtime._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


@needs_bf16
@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_openvino_computes_in_bf16_and_says_so(suffix: str, folder: Path) -> None:
    path = artifact(folder, suffix)
    runtime = load(path, MODEL, BF16, key="openvino")
    assert runtime.inference_precision == "bf16"
    assert str(runtime).endswith(" in bf16")
    expected, found = load(path, MODEL).run(SCENE), runtime.run(SCENE)
    limit = PROFILES["BF16"].tensors
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=limit.atol, rtol=limit.rtol)
    assert max(float(np.abs(found[name] - values).max()) for name, values in expected.items()) > 1e-4


@pytest.mark.skipif(CAPABLE, reason="this processor has bf16")
def test_a_processor_without_bf16_is_told_apart(folder: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"bf16.*--inference-precision"):
        load(artifact(folder), MODEL, BF16)


def limited_to(instructions: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


def test_kernels_without_bf16_are_one_line_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", SCENE[0], np.zeros((0, 5), np.float32))
    options = ("--artifact", str(artifact(folder)), "--inference-precision", "bf16", "--quiet")
    made = limited_to("AVX2", "-m", "sshtool", "detect", str(tmp_path / "a.png"), *options)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.count("\n") == 1
    assert f"{artifact(folder)}: OpenVINO on CPU cannot" in made.stderr
    assert "--inference-precision" in made.stderr


def test_a_hint_that_openvino_takes_and_does_not_follow_is_noticed(folder: Path) -> None:
    """Asked for f16 where there is none, it computes in something else without a word."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sshconvert.errors import RuntimeUnavailableError\n"
        "from sshtool.runtimes.base import Settings\n"
        "from sshtool.runtimes.openvino import OpenVino\n"
        "try:\n"
        "    OpenVino(Path(sys.argv[1]), Settings(inference_precision='f16'))\n"
        "except RuntimeUnavailableError as error:\n"
        "    print(error)\n"
    )
    made = limited_to("AVX512_CORE", "-c", script, str(artifact(folder)))
    assert made.returncode == 0, made.stderr
    assert "OpenVINO on CPU cannot compute in f16: it would use " in made.stdout


def test_a_device_that_stands_for_others_does_not_say_what_it_computes_in(folder: Path) -> None:
    assert load(artifact(folder), MODEL, Settings(device="HETERO:CPU")).inference_precision == ""
    with pytest.raises(RuntimeUnavailableError, match=r"HETERO.*bf16"):
        load(artifact(folder), MODEL, replace(BF16, device="HETERO:CPU"))


def test_runtimes_without_the_hint_refuse_it(folder: Path, demo_checkpoint: Checkpoint) -> None:
    for path, name in ((artifact(folder, ".onnx"), "ONNX Runtime"), (demo_checkpoint.params_path, "MXNet")):
        with pytest.raises(UsageError, match=f"--inference-precision: {path} is for {name}.*--runtime openvino"):
            load(path, MODEL, BF16)


# --- which artifacts -------------------------------------------------------------------------------------------------


def test_detect_takes_a_file_that_can_be_computed_so(folder: Path) -> None:
    assert usual_artifact(Workspace(MODEL, folder)) == artifact(folder, ".onnx")
    assert usual_artifact(Workspace(MODEL, folder), "", "bf16") == artifact(folder)
    assert usual_artifact(Workspace(MODEL, folder), "openvino", "bf16") == artifact(folder)


def test_verify_takes_the_artifacts_that_can_and_says_which_cannot(folder: Path) -> None:
    found = find_candidates(Workspace(MODEL, folder), inference_precision="bf16")
    assert [item.path for item in found] == [artifact(folder), artifact(folder, precision="FP16")]
    (note,) = left_out(Workspace(MODEL, folder), (), inference_precision="bf16")
    assert all(str(artifact(folder, ".onnx", precision)) in note for precision in ("FP32", "FP16"))
    assert "bf16" in note
    assert "left out" in note
    assert len(find_candidates(Workspace(MODEL, folder), runtime="openvino", inference_precision="bf16")) == 4
    assert left_out(Workspace(MODEL, folder), (), runtime="openvino", inference_precision="bf16") == ()
    assert left_out(Workspace(MODEL, folder), ()) == ()


def test_where_no_artifact_can_it_is_a_wrong_usage(tmp_path: Path) -> None:
    path = artifact(tmp_path, ".onnx")
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UsageError, match=r"--inference-precision.*--runtime"):
        find_candidates(Workspace(MODEL, tmp_path), inference_precision="bf16")


# --- results ---------------------------------------------------------------------------------------------------------


class Unused(Reference):
    """Has no answers, where none are asked for."""

    def answers(self, *size: int) -> list[Answer]:
        raise NotImplementedError

    def other_size(self) -> Answer | None:
        raise NotImplementedError


class Computing(OpenVino):
    """Says what it declares and computes in, and nothing else."""

    def __init__(self, stored: str, computed: str) -> None:
        self.declaration = Declaration(precision=stored)
        self.inference_precision = computed


@pytest.mark.parametrize(
    ("candidate", "stored", "computed", "expected"),
    [
        (Candidate(Path(), "FP32"), "FP32", "f32", "FP32"),
        (Candidate(Path(), "FP32"), "FP32", "bf16", "BF16"),
        (Candidate(Path(), "FP16"), "FP16", "bf16", "BF16"),
        (Candidate(Path(), "INT8"), "INT8", "bf16", "INT8"),
        (Candidate(Path()), "FP16", "f32", "FP16"),
        (Candidate(Path()), "", "bf16", "BF16"),
        (Candidate(Path(), "FP32", forced_profile="FP16"), "FP32", "bf16", "FP16"),
    ],
)
def test_the_coarser_of_stored_and_computed_decides_what_is_allowed(
    candidate: Candidate, stored: str, computed: str, expected: str
) -> None:
    assert _profile_name(candidate, Computing(stored, computed)) == expected


def test_a_profile_that_is_asked_for_overrules_the_place(folder: Path) -> None:
    """And the file still says that it is what its place says."""
    reference = LiveReference(load(artifact(folder, ".onnx"), MODEL), MODEL, scenes=1)
    candidates = find_candidates(Workspace(MODEL, folder), (artifact(folder),), profile="FP16")
    report = verify(MODEL, reference, candidates)
    assert report.artifacts[0].profile.name == "FP16"
    assert not report.failures


@pytest.mark.parametrize(("profile", "sample", "failures"), [
    ("BF16", "noise", 0), ("BF16", "scene-0", 2), ("FP16", "noise", 2),
])  # fmt: skip
def test_bf16_is_not_blamed_for_the_order_of_equal_scores_in_noise(profile: str, sample: str, failures: int) -> None:
    lost = DetectionComparison(matched=1, missing=((0.0, 0.0, 9.0, 9.0, 1.0),), largest_corner=50.0)
    judge = _Judge("a", MODEL, Unused(), Rules(), lambda *_: None, silent)
    judge.judge_results([SampleComparison(sample, (sample,), (), (lost,))], PROFILES[profile])
    assert [failure.check for failure in judge.failures] == ["detections", "corners"][:failures]


def test_the_self_test_is_for_f32(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--self-test.*bf16"):
        verify_artifacts(Workspace(MODEL, folder), verifying(BF16, self_test=True))


@needs_bf16
def test_verify_holds_bf16_to_its_own_profile(folder: Path) -> None:
    rules = Rules(settings=BF16)
    reference = LiveReference(load(artifact(folder, ".onnx"), MODEL), MODEL, scenes=1)
    report = verify(MODEL, reference, [Candidate(artifact(folder), "FP32")], rules)
    (found,) = report.artifacts
    assert (found.profile.name, found.inference_precision) == ("BF16", "bf16")
    assert found.runtime.endswith("in bf16")
    assert found.settings.inference_precision == "bf16"
    assert not report.failures
    assert any("noise" in note for note in report.notes)
    # The same would not pass for what its place says.
    strict = verify(MODEL, reference, [Candidate(artifact(folder), "FP32", forced_profile="FP32")], rules)
    assert [failure for failure in strict.failures if failure.check == "tensor"]


@needs_bf16
def test_detect_says_what_it_computed_in(folder: Path, tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", SCENE[0], np.zeros((0, 5), np.float32))
    made = sshtool("detect", tmp_path / "a.png", "-o", folder, "--inference-precision", "bf16", "--json")
    assert json.loads(made.stdout)["inference_precision"] == "bf16"
    assert "in bf16" in sshtool("detect", tmp_path / "a.png", "-o", folder, "--inference-precision", "BF16").stdout


@needs_bf16
def test_evaluate_says_what_it_computed_in_and_does_not_mix(folder: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", images=2, seed=1)
    options = EvaluateOptions(dataset=tmp_path / "data", settings=BF16)
    result = evaluate(Workspace(MODEL, folder), options)
    assert [(item.artifact, item.inference_precision) for item in result.artifacts] == [
        ("openvino FP32", "bf16"),
        ("openvino FP16", "bf16"),
    ]
    assert any("bf16" in note and "left out" in note for note in result.notes)
    again = replace(options, settings=Settings(), artifacts=(artifact(folder),), resume=True)
    with pytest.raises(EvaluationError, match="bf16"):
        evaluate(Workspace(MODEL, folder), again)


@needs_bf16
def test_bench_compares_precisions_of_one_file(folder: Path) -> None:
    options = BenchOptions(
        artifacts=(artifact(folder), artifact(folder, ".onnx")),
        inference_precisions=("f32", "bf16"),
        modes=("latency",),
        runs=1,
        rounds=1,
    )
    result = bench(Workspace(MODEL, folder), options)
    assert [(item.label, item.inference_precision) for item in result.candidates] == [
        ("openvino FP32", "f32"),
        ("openvino FP32 in bf16", "bf16"),
        ("onnx FP32", "f32"),
    ]
    assert [item.label for item in result.left_out] == ["onnx FP32 in bf16"]


@pytest.mark.parametrize("verb", ["detect", "verify", "evaluate", "bench"])
def test_an_unknown_precision_is_a_wrong_usage(verb: str, tmp_path: Path) -> None:
    image = ["a.png"] if verb == "detect" else []
    made = sshtool(verb, *image, "--inference-precision", "fp8", "-o", tmp_path, "--quiet", code=2)
    assert "--inference-precision: fp8" in made.stderr
    assert made.stderr.count("\n") == 1
