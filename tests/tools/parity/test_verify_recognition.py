"""The verification of embedders and classifiers: their results in reports, and the faults that it catches."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from command_line import sshtool
from sshconvert.checkpoint import open_checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshtool.candidates import Candidate
from sshtool.demo.scenes import draw_portrait
from sshtool.parity.reference import LiveReference
from sshtool.parity.selftest import Verdict, self_test
from sshtool.parity.verify import VerifyReport, verify
from sshtool.report.comparison import comparison_table
from sshtool.report.html import render_html
from sshtool.report.junit import render_junit
from sshtool.report.markdown import render_markdown
from sshtool.report.terminal import console
from sshtool.runtimes.loading import load
from sshtool.workspace import Workspace
from tiny_predictors import predictor_workspace

CHECKS: Final = {
    "classifier": ("top-1", "top-k", "scores"),
    "logits": ("top-1", "top-k", "scores"),
    "embedder": ("embeddings",),
}
BOTH: Final = Options(("onnx", "openvino"), (Precision.FP32, Precision.FP16))
# Real trained weights beside the repository: the input, the task, and the file of its weights.
REAL: Final = {
    "mobilefacenet-y1": ("[1, 3, 112, 112], image = {}", 'kind = "embedding", output = "fc1", size = 128'),
    "mobileface-identification-v1": ("[1, 1, 112, 112]", 'kind = "embedding", output = "OUTPUT", size = 256'),
    "insightface-gender-age": ("[1, 3, 112, 112], image = {}", 'kind = "tensors", names = ["fc1"]'),
}


def candidates(workspace: Workspace) -> list[Candidate]:
    return [Candidate(path, path.parent.name) for path in workspace.converted()]


def verified(workspace: Workspace) -> VerifyReport:
    """FP16 and both formats against FP32 in ONNX Runtime."""
    paths = candidates(workspace)
    live = LiveReference(load(paths[0].path, workspace.model), workspace.model)
    return verify(workspace.model, live, paths)


@pytest.mark.independent
@pytest.mark.parametrize("name", ["classifier", "embedder", pytest.param("logits", marks=pytest.mark.long)])
def test_every_report_has_the_results_of_the_task(name: str, tmp_path: Path) -> None:
    report = verified(predictor_workspace(tmp_path, name, BOTH))
    assert report.failures == ()
    assert [tuple(artifact.figures) for artifact in report.artifacts] == [CHECKS[name]] * 4
    assert all(sample.words for sample in report.samples)
    texts = {
        "page": render_html(report, {}),
        "Markdown": render_markdown(report),
        "JUnit": render_junit(report),
    }
    stream = tmp_path / "table.txt"
    with stream.open("w", encoding="utf-8") as file:
        console(file=file, width=400).print(comparison_table(report, plain=True))
    texts["table"] = stream.read_text("utf-8")
    for place, text in texts.items():
        for check in CHECKS[name]:
            assert check in text.replace("\\", ""), (place, check)
        assert "detections matched" not in text, place
        assert "show the boxes" not in text, place
    cases = {case.get("name") for case in ET.fromstring(texts["JUnit"]).iter("testcase")}  # noqa: S314  # our own
    assert {*CHECKS[name]} <= cases
    assert "corners" not in cases


@pytest.mark.independent
@pytest.mark.parametrize("name", ["classifier", "embedder", pytest.param("logits", marks=pytest.mark.long)])
def test_every_fault_of_the_task_is_caught_in_both_formats(name: str, tmp_path: Path) -> None:
    workspace = predictor_workspace(tmp_path, name, Options(("onnx", "openvino")))
    paths = candidates(workspace)
    live = LiveReference(load(paths[0].path, workspace.model), workspace.model)
    faults = workspace.model.task.faults()
    planted = self_test(workspace.model, live, paths, faults=faults)
    assert planted.passed
    assert {(item.fault, item.verdict) for item in planted.faults} == {(item.name, Verdict.CAUGHT) for item in faults}
    assert len(planted.faults) == 2 * len(faults)


@pytest.mark.independent
def test_a_failed_check_is_marked_in_every_report(tmp_path: Path) -> None:
    """An artifact whose classes are shifted by one."""
    workspace = predictor_workspace(tmp_path, "classifier")
    (path,) = workspace.converted()
    live = LiveReference(load(path, workspace.model), workspace.model)
    shifted = tmp_path / "FP32" / path.name
    shifted.parent.mkdir()
    shutil.copyfile(path, shifted)
    from sshconvert.editing.onnx import EditableOnnx

    copy = EditableOnnx(shifted)
    workspace.model.task.faults()[0].plant(copy)  # type: ignore[misc]  # the first fault has one
    copy.save()
    report = verify(workspace.model, live, [Candidate(shifted, "FP32")])
    assert not report.passed
    assert {"tensor", "top-1", "scores"} <= {failure.check for failure in report.failures}
    assert "❌ 0 of" in render_markdown(report)
    failed = [
        case.get("name")
        for case in ET.fromstring(render_junit(report)).iter("testcase")  # noqa: S314  # our own
        if case.find("failure") is not None
    ]
    assert {"top-1", "scores"} <= set(failed)


def real(folder: Path, shared_data: Path, name: str) -> Path:
    """Write a real checkpoint and its description, whose path is returned."""
    zoo = shared_data / "zoo"
    shutil.copyfile(zoo / "symbols" / f"{name}.json", folder / "real-symbol.json")
    shutil.copyfile(zoo / "params" / f"{name}.params", folder / "real-0000.params")
    nodes = json.loads((zoo / "symbols" / f"{name}.json").read_text("utf-8"))["nodes"]
    data, task = REAL[name]
    task = task.replace("OUTPUT", nodes[-1]["name"])
    if nodes[-1]["op"] == "L2Normalization":
        task += ", normalized = true"
    path = folder / "real.toml"
    path.write_text(f'name = "real"\ninputs = [{{ name = "data", shape = {data} }}]\ntask = {{ {task} }}\n', "utf-8")
    return path


@pytest.mark.long
@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("name", REAL)
def test_real_weights_agree_with_mxnet_and_every_fault_is_caught(name: str, shared_data: Path, tmp_path: Path) -> None:
    place = ("--model", real(tmp_path, shared_data, name), "-o", tmp_path / "out")
    sshtool("convert", *place, "--checkpoint", tmp_path, "--precision", "FP32,FP16")
    done = sshtool("verify", *place, "--checkpoint", tmp_path, "--self-test", "--json")
    result = json.loads(done.stdout)["result"]
    assert len(result["report"]["artifacts"]) == 4
    assert result["self_test"]["passed"]
    assert "missed" not in {item["verdict"] for item in result["self_test"]["faults"]}


@pytest.mark.independent
def test_a_real_embedding_has_the_cosine_of_its_formats(shared_data: Path, tmp_path: Path) -> None:
    """Both formats and precisions of a real MobileFaceNet give almost the same vector."""
    model = load_model(str(real(tmp_path, shared_data, "mobilefacenet-y1")))
    artifacts = convert(open_checkpoint(tmp_path, model), tmp_path / "out", BOTH)
    images = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3)).astype(np.uint8)
    vectors = [model.task.decode(load(item.path, model).run(images), (112, 112))[0] for item in artifacts]
    assert min(vectors[0].cosine(other) for other in vectors) > 0.9999
    assert vectors[0].length > 1


@pytest.mark.long
@pytest.mark.independent
@pytest.mark.parametrize("name", ["face-recognition-mobilefacenet-arcface", "octave-resnet-26-0.25"])
def test_int8_keeps_the_quality_of_its_task_and_every_verb_takes_the_demo(name: str, tmp_path: Path) -> None:
    place = ("--model", name, "-o", tmp_path)
    sshtool("download", "--demo", *place)
    sshtool("convert", *place, "--precision", "FP32,INT8", "--max-drop", "3")
    described = json.loads(sshtool("info", *place, "--json").stdout)
    assert ("mean cosine" if "arcface" in name else "top-1 agreement") in json.dumps(described)
    options = ("--runs", "1", "--rounds", "1", "--mode", "latency", "--json")
    assert len(json.loads(sshtool("bench", *place, *options).stdout)["result"]["candidates"]) >= 4
    drawn = json.loads(sshtool("demo-dataset", *place, "--images", "40", "--json").stdout)["result"]["dataset"]
    evaluated = json.loads(sshtool("evaluate", *place, "--dataset", drawn, "--json").stdout)["result"]
    for artifact in evaluated["artifacts"]:
        assert artifact["measures"][0]["share"] > 0.6
        assert abs(artifact["measures"][0]["change"] or 0) <= 0.1


@pytest.mark.long
@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("name", ["face-recognition-mobilefacenet-arcface", "octave-resnet-26-0.25"])
def test_the_package_of_a_demo_is_checked_and_the_code_of_its_card_runs(name: str, tmp_path: Path) -> None:
    made = json.loads(sshtool("run", "--demo", "--model", name, "-o", tmp_path, "--json").stdout)["result"]
    package = Path(made["package"])
    checked = json.loads(sshtool("check", package, "--json").stdout)["result"]
    assert checked["verdict"] == "passed"
    assert {"declarations", "answers"} <= set(checked["checks"])
    card = (package / "README.md").read_text("utf-8")
    assert "a program made them from a seed" in card
    assert "| results | largest difference |" in card
    assert not {"boxes", "detector"} & set(card.partition("## Outputs")[0].replace(",", " ").split())
    *runs, decoding = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(runs) == 2
    Image.fromarray(draw_portrait(1, 2)[..., ::-1]).save(package / "photo.jpg")
    task = load_model(name).task
    for run in runs:
        code = f"{run}\n{decoding}"
        done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True)
        numbers = [float(word) for word in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", done.stdout)]
        if task.kind == "embedding":
            assert np.linalg.norm(numbers) == pytest.approx(1, abs=1e-4)
        else:
            scores = numbers[1::2]
            assert len(scores) == 5
            assert scores == sorted(scores, reverse=True)
