from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pages import DARK, LIGHT, Browser, Pixels, Reader
from sshconvert.arrays import Images
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import RuntimeUnavailableError
from sshconvert.messages import printable
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshconvert.tasks.comparison import DetectionComparison
from sshconvert.tasks.detection import THRESHOLD
from sshconvert.tasks.tolerances import FACTOR, UNIT, Yardstick
from sshtool.candidates import Candidate
from sshtool.demo.scenes import draw_scene
from sshtool.parity.layers import Divergence
from sshtool.parity.reference import Answer, LiveReference
from sshtool.parity.samples import Sample, draw_sample, sample_names
from sshtool.parity.tensors import TensorComparison
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import FEW_STEPS, ArtifactReport, Failure, SampleComparison, VerifyReport, verify
from sshtool.picture import save_picture
from sshtool.report import histogram, html, summary
from sshtool.report.comparison import comparison_table
from sshtool.report.html import MOST_PICTURED, pictured, render_html
from sshtool.report.junit import TIMES, render_junit
from sshtool.report.markdown import MOST_FAILURES, render_markdown
from sshtool.report.markup import escape
from sshtool.report.overlay import COLOURS, data_uri, pictures
from sshtool.report.schema import shipped_schema
from sshtool.report.terminal import console
from sshtool.runtimes.exact import SINGLE, Exact
from sshtool.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.independent

MODEL = load_model("ssh-mxnet")
SIZE = 160
PAIR = Sample("pair", "two images at once", np.stack([draw_scene(seed, 96, 128).image for seed in (8, 9)]))
SAMPLES = ("scene-0", "noise", "colours")

# A folder's name that would be a script, were it not escaped. The slash makes it two folders.
HOSTILE = "<script>alert(1)</script>"

DIVERGENCE = Divergence("onnx louder", "scene-0", "rpn_cls_score_stride16", "ssh_m2_det_concat_relu", 0.02, 1e-4, 70)


class FewSamples(LiveReference):
    """ONNX Runtime in place of the original, on three samples, and on a pair where there is a model for it."""

    def __init__(self, path: Path, pair: Path) -> None:
        super().__init__(OnnxRuntime(path), MODEL, note="ONNX Runtime stands in for the original")
        self.draws = {name: partial(draw_sample, name, MODEL) for name in SAMPLES}
        self._pair = Answer(PAIR, OnnxRuntime(pair).run(PAIR.images))

    def other_size(self) -> Answer:  # type: ignore[override]  # that of a live reference is cached, which needs no more here
        return self._pair


@dataclass(frozen=True)
class Made:
    """A passing report and one of artifacts with planted faults, with the images of their samples."""

    passing: VerifyReport
    failing: VerifyReport
    images: dict[str, Images]


@pytest.fixture(scope="module")
def made(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("reports")
    good, again = (
        {artifact.path.suffix: artifact.path for artifact in convert(demo_checkpoint, folder / name, options)}
        for name, options in (
            ("good", Options(input_shape=(1, 3, SIZE, SIZE))),
            ("again", Options(input_shape=PAIR.images.transpose(0, 3, 1, 2).shape)),
        )
    )
    reference = FewSamples(good[".onnx"], again[".onnx"])
    passing, failing = (
        verify(MODEL, reference, candidates, convert_again=lambda candidate, _: again[candidate.path.suffix])
        for candidates in (
            [Candidate(path, "FP32") for path in good.values()],
            [
                Candidate(good[".xml"], "FP32"),
                Candidate(edited(good[".onnx"], folder / HOSTILE / "louder" / "ssh.onnx", make_louder)),
                Candidate(edited(good[".onnx"], folder / "without|output" / "ssh.onnx", remove_an_output)),
                Candidate(unreadable(folder / "unreadable" / "ssh.onnx")),
            ],
        )
    )
    images = {name: draw_sample(name, MODEL, SIZE, SIZE).images for name in SAMPLES}
    return Made(passing, failing, {**images, PAIR.name: PAIR.images})


def edited(source: Path, target: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(source)
    edit(model)
    target.parent.mkdir(parents=True)
    onnx.save(model, target)
    return target


def make_louder(model: onnx.ModelProto) -> None:
    """Faces of middle size are seen more readily, small ones less: boxes appear and disappear."""
    for tensor in model.graph.initializer:
        sign = {"rpn_cls_score_stride16_bias": 1, "rpn_cls_score_stride8_bias": -1}.get(tensor.name)
        if sign:
            bias = numpy_helper.to_array(tensor) + np.array([-sign, -sign, sign, sign], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))


def remove_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def unreadable(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    return path


def test_the_planted_faults_make_the_reports_that_the_other_tests_need(made: Made) -> None:
    assert made.passing.passed
    assert [artifact.label for artifact in made.passing.artifacts] == ["onnx FP32", "openvino FP32"]
    assert [column.label for column in summary.columns(made.failing)] == [
        "openvino FP32", "onnx louder", "onnx without|output", "onnx unreadable",
    ]  # fmt: skip
    _, louder, *_ = made.failing.artifacts
    assert min(louder.matched, louder.missing, louder.extra) > 0
    assert all(len(report.samples) == len(SAMPLES) + 1 for report in (made.passing, made.failing))


@pytest.fixture(scope="module")
def judged(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """As `made`, by the distance from the exact result, with rounded weights too. The fault is of one per mille."""
    folder = tmp_path_factory.mktemp("judged")
    options = Options(("onnx",), tuple(map(Precision, ("FP32", "FP16"))), input_shape=(1, 3, 96, 96))
    good = {artifact.precision.value: artifact.path for artifact in convert(plain_checkpoint, folder / "good", options)}
    exact = Exact(plain_checkpoint)
    reference = LiveReference(exact.in_float32(), MODEL, exact=exact, every=True, scenes=1)
    reference.draws = {name: reference.draws[name] for name in ("scene-0", "blocks")}
    passing, failing = (
        verify(MODEL, reference, candidates)
        for candidates in (
            [Candidate(path, name) for name, path in good.items()],
            [Candidate(edited(good["FP32"], folder / "louder" / "ssh.onnx", make_stronger))],
        )
    )
    images = {answer.sample.name: answer.sample.images for answer in reference.answers(96, 96)}
    return Made(passing, failing, images)


def make_stronger(model: onnx.ModelProto) -> None:
    """The filters of one head are a thousandth stronger."""
    (tensor,) = (item for item in model.graph.initializer if item.name == "rpn_bbox_pred_stride8_weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))


# The JSON result


def as_json(report: VerifyReport, *divergences: Divergence) -> Any:
    return json.loads(json.dumps(asdict(VerifyResult(report, divergences)), default=str, allow_nan=False))


def validate(document: Any) -> None:
    schema = json.loads(shipped_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_schema_is_printed_by_one_command() -> None:
    command = [sys.executable, "-m", "sshtool.report.schema"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stdout.decode("utf-8") == shipped_schema()


@pytest.mark.parametrize("name", ["passing", "failing"])
def test_real_results_follow_the_schema(name: str, made: Made) -> None:
    validate(as_json(getattr(made, name), DIVERGENCE))


def test_a_new_key_is_no_new_version(made: Made) -> None:
    document = as_json(made.passing)
    document["report"]["artifacts"][0]["colour"] = "green"
    validate(document)


def plant_type(document: Any) -> None:
    document["report"]["artifacts"][0]["samples"][0]["tensors"][0]["largest"] = "much"


def plant_missing_key(document: Any) -> None:
    del document["report"]["artifacts"][0]["matched"]


def plant_missing_key_with_a_default(document: Any) -> None:
    del document["report"]["failures"][0]["excess"]


def plant_version(document: Any) -> None:
    document["report"]["report_version"] += 1


@pytest.mark.parametrize("plant", [plant_type, plant_missing_key, plant_missing_key_with_a_default, plant_version])
def test_the_schema_refuses_a_planted_change(plant: Callable[[Any], None], made: Made) -> None:
    document = as_json(made.failing)
    plant(document)
    with pytest.raises(jsonschema.ValidationError):
        validate(document)


# JUnit


def suites(report: VerifyReport) -> dict[str, ET.Element]:
    root = ET.fromstring(render_junit(report))  # noqa: S314  # written by the code under test
    assert root.tag == "testsuites"
    for total, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
        assert root.get(total) == str(len(list(root.iter(tag))))
        assert all(suite.get(total) == str(len(list(suite.iter(tag)))) for suite in root)
    assert all(len(case.findall("failure")) <= 1 for case in root.iter("testcase"))
    return {suite.get("name", ""): suite for suite in root}


def failed(suite: ET.Element) -> list[str | None]:
    return [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]


def test_junit_has_a_suite_for_each_artifact_and_a_case_for_each_output_and_check(made: Made) -> None:
    found = suites(made.passing)
    assert list(found) == ["onnx FP32", "openvino FP32"]
    for suite in found.values():
        assert [case.get("name") for case in suite.iter("testcase")] == [
            "load", "declaration", "run", "names", "order",
            *(f"tensor {name}" for name in MODEL.output_names),
            "detections", "excused", "corners", "scores", "faces", "post-processing",
        ]  # fmt: skip
        assert not failed(suite)
        skipped = [case.get("name") for case in suite.iter("testcase") if case.find("skipped") is not None]
        assert skipped == ["faces", "post-processing"], "the files give heads"
        properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
        assert properties["reference"] == made.passing.reference


def test_junit_puts_each_failure_where_it_belongs(made: Made) -> None:
    found = suites(made.failing)
    assert not failed(found["openvino FP32"])
    scores = [f"tensor rpn_cls_prob_reshape_stride{stride}" for stride in (16, 8)]
    assert failed(found["onnx louder"]) == [*scores, "detections", "scores"]
    assert failed(found["onnx without|output"]) == ["names", f"tensor {MODEL.output_names[1]}", "detections"]
    failure = next(found["onnx louder"].iter("failure"))
    assert str(failure.get("message")).endswith(f"(and {len(SAMPLES) - 1} more)")
    assert len(str(failure.text).splitlines()) == len(SAMPLES)


def test_junit_shows_an_artifact_that_could_not_be_loaded_as_a_failed_suite(made: Made) -> None:
    suite = suites(made.failing)["onnx unreadable"]
    assert failed(suite) == ["load"]
    assert len(list(suite.iter("skipped"))) == len(list(suite.iter("testcase"))) - 1


def test_junit_holds_no_character_that_xml_forbids(made: Made) -> None:
    failure = Failure("onnx\x00", "load", "a bell \x07, half a pair \ud800, <markup> & more")
    report = replace(made.failing, artifacts=(), failures=(failure,))
    assert "a bell \\x07, half a pair \\ud800, <markup> & more" in {
        item.get("message") for item in suites(report)["onnx\\x00"].iter("failure")
    }


def test_junit_gives_a_check_that_it_does_not_know_a_case_of_its_own(made: Made) -> None:
    failures = (Failure("onnx FP32", "taste", "bitter"), Failure("onnx FP32", "weights", "others"))
    report = replace(made.passing, passed=False, failures=failures)
    assert failed(suites(report)["onnx FP32"]) == ["declaration", "taste"]


def test_junit_of_nothing_is_a_failure(made: Made) -> None:
    nothing = replace(made.passing, passed=False, artifacts=(), samples=())
    assert failed(suites(nothing)["artifacts"]) == ["artifacts"]


# Markdown


def test_markdown_begins_with_the_verdict(made: Made) -> None:
    assert render_markdown(made.passing).startswith("## ✅ The same detector\n")
    assert render_markdown(made.failing).startswith("## ❌ Not the same detector\n")
    nothing = replace(made.passing, passed=False, artifacts=(), samples=(), notes=())
    assert render_markdown(nothing).startswith("## ❌ Nothing was compared\n")


def cells(line: str) -> list[str]:
    """The cells of a row, whose escaped pipes are text."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("name", ["passing", "failing"])
def test_the_rows_of_every_markdown_table_have_the_cells_of_its_head(name: str, made: Made) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", render_markdown(getattr(made, name)), flags=re.MULTILINE)
    assert len(tables) >= 5
    for table in tables:
        head, *rows = map(cells, table.splitlines())
        assert {len(row) for row in rows} == {len(head)}


def test_markdown_compares_outputs_by_artifact_and_lists_every_failure(made: Made) -> None:
    lines = render_markdown(made.failing).splitlines()
    rows = {row[0].replace("\\", ""): row[1:] for row in map(cells, lines) if row}
    assert rows["Largest difference"] == ["openvino FP32", "onnx louder", "onnx without\\|output", "onnx unreadable"]
    assert rows["verdict"] == ["passed", "❌ failed", "❌ failed", "❌ failed"]
    good, louder, without, missing = rows[MODEL.output_names[1]]
    assert (float(good), float(louder)) < (1e-4, 1e-4)
    assert (without, missing) == ("❌ missing", "❌ not compared")
    assert all(any(escape(failure.message) in line for line in lines) for failure in made.failing.failures)


def test_markdown_leaves_out_what_would_only_hide_the_worst(made: Made) -> None:
    failures = tuple(Failure("onnx", "tensor", f"number {number}!") for number in range(MOST_FAILURES + 7))
    text = render_markdown(replace(made.failing, failures=failures))
    assert f"number {MOST_FAILURES - 1}!" in text
    assert f"number {MOST_FAILURES}!" not in text
    assert "… and 7 more." in text


def test_markdown_escapes_what_means_something() -> None:
    assert escape("a|b `c` <img src=x>\n# *d* \x07") == "a\\|b \\`c\\` &lt;img src=x&gt;\\\\n\\# \\*d\\* \\\\x07"


# The figures that all share


@pytest.mark.parametrize(
    ("tensor", "share"),
    [
        (TensorComparison("a", 1e-2, 0.1, True, largest=5e-3, required_atol=1e-3), 0.5),
        (TensorComparison("a", 1e-2, 0.1, True, largest=5e-2, required_atol=1e-3), 1.0),
        (TensorComparison("a", 1e-2, 0.1, False, largest=5e-2, required_atol=3e-2), 3.0),
        (TensorComparison("a", 0.0, 0.1, True, largest=5e-2, required_atol=0.0), 1.0),
        (TensorComparison("a", 0.0, 0.1, True, largest=0.0, required_atol=0.0), 0.0),
        (TensorComparison("a", 0.0, 0.1, False, largest=1.0, required_atol=1.0), float("inf")),
        (TensorComparison("a", 0.0, 0.1, False, "missing"), None),
    ],
)
def test_the_share_of_the_tolerance_never_contradicts_the_verdict(
    tensor: TensorComparison, share: float | None
) -> None:
    assert summary.share(tensor) == (None if share is None else pytest.approx(share))
    assert (html.step(summary.share(tensor), passed=tensor.passed) <= html.PASSING) is tensor.passed


def test_what_has_no_figures_is_worse_than_any_figure(made: Made) -> None:
    _, _, without, absent = summary.columns(made.failing)
    found = summary.worst(without, MODEL.output_names[1])
    assert found is not None
    assert found.tensor.problem == "missing"
    assert summary.worst(absent, MODEL.output_names[0]) is None


@pytest.mark.parametrize(("factor", "text"), [(1.234, "1.2 times"), (9241.0, "9,200 times"), (1e300, "1e+300 times")])
def test_factors_are_written_to_be_read(factor: float, text: str) -> None:
    assert summary.times(factor) == text


def test_a_histogram_counts_every_element_of_every_sample_once(made: Made) -> None:
    column, output = summary.columns(made.passing)[1], "rpn_bbox_pred_stride8"
    elements = 2 * 4 * ((SIZE // 8) ** 2 * len(SAMPLES) + 2 * (96 // 8) * (128 // 8))
    assert sum(histogram.total(column, output)) == elements
    drawn = next(item for item in histogram.histograms(column, made.passing.outputs) if item.output == output)
    assert f"{elements:,} elements" in drawn.text
    assert not any(bar.beyond for bar in drawn.bars)
    assert all(histogram.TOP - 0.01 <= bar.y < histogram.BOTTOM for bar in drawn.bars)


def test_the_bars_beyond_the_tolerance_are_those_right_of_its_line(made: Made) -> None:
    louder = histogram.histograms(summary.columns(made.failing)[1], made.failing.outputs)
    drawn = next(item for item in louder if item.output == "rpn_cls_prob_reshape_stride16")
    assert drawn.tolerance is not None
    assert {bar.beyond for bar in drawn.bars} == {True, False}
    assert all(bar.beyond == (bar.x >= drawn.tolerance.at) for bar in drawn.bars)


def test_pictures_mark_and_name_what_only_one_side_has(made: Made) -> None:
    sample = made.failing.samples[0]
    columns = [column for column in summary.columns(made.failing) if column.report]
    (picture,) = pictures(sample, made.images[sample.name], columns)
    compared = columns[1].on(sample.name)
    assert compared is not None
    (found,) = compared.detections
    alone = {"missing": found.missing, "extra": found.extra, "near": found.near_threshold}
    assert [item.kind for item in picture.differences] == [kind for kind, boxes in alone.items() for _ in boxes]
    assert [item.mark for item in picture.differences] == [
        str(number) for number in range(1, 1 + sum(map(len, alone.values())))
    ]
    texts = {item.kind: (item.text, item.path.count("L")) for item in picture.differences}
    assert re.match(r"missing in onnx louder: score 0\.\d{4}, from ", texts["missing"][0])
    assert re.match(r"only in onnx louder: score 0\.\d{4}, from ", texts["extra"][0])
    assert (texts["missing"][1], texts["extra"][1]) == (2, 0), "what is missing is crossed out"
    assert [layer.path.count("Z") + layer.faint.count("Z") for layer in picture.layers] == [
        len(sample.detections[0]),
        len(found.found),
        0,
    ]


def test_pictures_show_faintly_what_nobody_is_shown_otherwise(made: Made, tmp_path: Path) -> None:
    column, sample = summary.columns(made.passing)[0], made.passing.samples[0]
    scores = [box[4] for box in sample.detections[0]]
    assert min(scores) < THRESHOLD <= max(scores)
    (picture,) = pictures(sample, None, [column])
    clear = sum(score >= THRESHOLD for score in scores)
    (layer,) = picture.layers
    for boxes, faint in ((picture.original, picture.faint), (layer.path, layer.faint)):
        assert (boxes.count("Z"), faint.count("Z")) == (clear, len(scores) - clear)
    assert [box[4] for box in picture.scores] == scores[:clear]

    image, drawn = made.images[sample.name][0], np.array(sample.detections[0], np.float32)
    for name, least in (("all", 0.0), ("clear", THRESHOLD)):
        save_picture(tmp_path / f"{name}.png", image, drawn, least=least)
    save_picture(tmp_path / "expected.png", image, drawn[:clear])
    shown = {name: (tmp_path / f"{name}.png").read_bytes() for name in ("all", "clear", "expected")}
    assert shown["clear"] == shown["expected"] != shown["all"]


def test_a_page_has_pictures_of_what_failed_and_of_no_more_than_it_can_hold(made: Made) -> None:
    many = tuple(replace(made.passing.samples[0], name=str(number)) for number in range(500))
    report = replace(made.passing, samples=many, failures=(Failure("onnx FP32", "tensor", "", sample="400"),))
    assert pictured(report) == {"400", *map(str, range(MOST_PICTURED - 1))}
    assert f"{500 - MOST_PICTURED} more samples" in render_html(report, {})


def test_pictures_tell_whose_a_box_near_the_threshold_is(made: Made) -> None:
    mine, yours = (10.0, 10.0, 40.0, 40.0, 0.0501), (60.0, 60.0, 90.0, 90.0, 0.0502)
    (artifact, *_), sample = made.passing.artifacts, made.passing.samples[0]
    near = DetectionComparison(near_threshold=(mine, yours), found=(yours,))
    changed = replace(artifact, samples=(replace(artifact.samples[0], detections=(near,)),))
    column = summary.Column(artifact.label, changed, ())
    (picture,) = pictures(replace(sample, detections=((mine,),)), None, [column])
    first, second = (item.text for item in picture.differences)
    assert first.startswith("not in onnx FP32, near the threshold: score 0.0501")
    assert second.startswith("only in onnx FP32, near the threshold: score 0.0502")


# The distance from the exact result


def test_every_report_says_how_far_the_worst_artifact_is_from_the_exact_result(judged: Made) -> None:
    for report, amount in ((judged.passing, "At most"), (judged.failing, "Up to")):
        factor = summary.times(max(artifact.times or 0 for artifact in report.artifacts))
        sentence = summary.distance(report)
        assert f"{factor} as far from the exact result as " in sentence
        assert amount.lower() in sentence.lower()
        words = re.sub(r"\s+", " ", f"{sentence}")
        page = Reader(render_html(report, {}))
        assert words in page.texts
        assert page.texts.index(words) < next(
            number for number, text in enumerate(page.texts) if "compared with" in text
        )
        assert words in render_markdown(report).split("\n\n")[1]
        assert words in " ".join(terminal_text(report).split())
    assert not judged.failing.passed
    assert (judged.failing.artifacts[0].times or 0) > 100 * FACTOR, "the planted fault"
    assert re.search(
        r": [\d,]+ times as far from the exact result as .*, 8 allowed; ", judged.failing.failures[0].message
    )
    assert "|expected|" not in judged.failing.failures[0].message


def terminal_text(report: VerifyReport) -> str:
    stream = io.StringIO()
    console(file=stream, width=300).print(comparison_table(report, plain=True))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("factor", "sentence"),
    [
        (0.4, "Nearer to the exact result than MXNet 1.9.1 itself."),
        (0.999, "At most as far from the exact result as MXNet 1.9.1 itself (8 allowed)."),
        (1.34, "At most 1.3 times as far from the exact result as MXNet 1.9.1 itself (8 allowed)."),
        (12345.0, "Up to 12,000 times as far from the exact result as MXNet 1.9.1 itself (8 allowed)."),
    ],
)
def test_a_distance_is_a_sentence(factor: float, sentence: str, judged: Made) -> None:
    artifact = with_factor(judged.failing.artifacts[0], factor)
    far, near = (
        replace(judged.failing, yardsticks=(Yardstick("MXNet 1.9.1", dict.fromkeys(MODEL.output_names, unit), {}, {}),))
        for unit in (2 * UNIT, UNIT / 2)
    )
    assert summary.distance_of(artifact, far) == sentence
    assert summary.distance_of(replace(artifact, rounded=True), far).startswith("Given the same rounded weights, ")
    assert FEW_STEPS in summary.distance_of(artifact, near), "MXNet itself is nearer than is measured"
    assert summary.distance_of(artifact, replace(far, yardsticks=())) == ""


def with_factor(artifact: ArtifactReport, factor: float) -> ArtifactReport:
    (sample, *_) = artifact.samples
    tensors = tuple(replace(tensor, times=factor) for tensor in sample.tensors)
    return replace(artifact, times=factor, samples=(replace(sample, tensors=tensors),))


def test_without_an_exact_result_the_reports_speak_of_tolerances(made: Made) -> None:
    assert summary.distance(made.passing) == ""
    for text in (render_html(made.passing, {}), render_markdown(made.passing), terminal_text(made.passing)):
        assert "exact result" not in text
    assert "all within the tolerances" in summary.summary(made.passing)


def test_each_output_has_its_distance_in_every_table(judged: Made) -> None:
    output = "rpn_bbox_pred_stride8"
    (column,) = summary.columns(judged.failing)
    factor = summary.farthest(column, output)
    assert factor is not None
    assert factor > 100 * FACTOR
    for text in (render_html(judged.failing, {}), render_markdown(judged.failing), terminal_text(judged.failing)):
        assert summary.times(factor) in text
        assert f"8 times the distance of {SINGLE}" in re.sub("</b>|<small>", " ", text).replace("  ", " ")
    (case,) = (
        item for item in suites(judged.failing)["onnx louder"].iter("testcase") if output in str(item.get("name"))
    )
    assert [item.get("value") for item in case.iter("property") if item.get("name") == TIMES] == [f"{factor:.3g}"]


def test_the_cost_of_the_precision_is_shown_and_never_marked(judged: Made) -> None:
    _, rounded = judged.passing.artifacts
    assert rounded.rounded
    cost = summary.cost_of_output(rounded, "rpn_bbox_pred_stride8")
    largest = max(
        tensor.relative or 0 for item in rounded.cost for tensor in item.tensors if tensor.output[-3:] == "de8"
    )
    assert 0 < float(cost.removesuffix(" %")) / 100 <= largest
    page = render_html(judged.passing, judged.images)
    table = page[page.index('id="cost"') : page.index('id="distribution"')]
    assert cost in table
    assert "onnx FP32" not in table
    assert not re.search("#mark-|step-", table)
    assert cost in render_markdown(judged.passing)
    properties = {item.get("name"): item.get("value") for item in suites(judged.passing)["onnx FP16"].iter("property")}
    assert properties["cost of the precision, rpn_bbox_pred_stride8"] == cost
    assert "cost of the precision" in terminal_text(judged.passing)
    assert "Cost of the precision" not in render_html(judged.failing, {})


def test_a_sample_that_only_the_cost_covers_is_named_so(judged: Made) -> None:
    artifact = judged.passing.artifacts[1]
    alone = replace(judged.passing, artifacts=(replace(artifact, samples=()),))
    covered = artifact.samples[0].sample
    page = render_html(alone, {})
    (column,) = summary.columns(alone)
    cost = column.cost_on(covered)
    assert cost is not None
    assert f"<small>cost of the precision, {summary.cost_of_detections([cost])}</small>" in page
    sample = next(sample for sample in alone.samples if sample.name == covered)
    near = replace(cost, detections=(replace(cost.detections[0], missing=sample.detections[0][:1]),))
    column = replace(column, report=replace(alone.artifacts[0], cost=(near,)))
    (picture,) = pictures(sample, None, [column])
    assert picture.layers[0].text.startswith("cost of the precision: ")
    assert picture.differences == ()
    assert "not in onnx FP16, by the cost of the precision: score" in picture.others[0].text
    nothing = replace(alone, artifacts=(replace(alone.artifacts[0], cost=()),))
    assert "no answer with the same rounded weights" in render_html(nothing, {})


def test_the_cost_counts_apart_what_lies_near_a_tie() -> None:
    box, other = (1.0, 1.0, 9.0, 9.0, 0.9), (2.0, 2.0, 9.0, 9.0, 0.9)
    image = DetectionComparison(matched=7, missing=(box,), extra=(box, other), near_threshold=(box,), open=(box, other))
    items = [SampleComparison("noise", ("noise",), (), (image,))] * 2
    assert summary.cost_of_detections(items) == "14 of 16 matched, 2 missing, 4 extra, 6 near a tie or a threshold"
    assert summary.cost_of_detections([]) == ""
    broken = replace(items[0], detections=(DetectionComparison(problem="no outputs"),))
    assert summary.cost_of_detections([*items, broken]) == "not comparable"


def test_the_levels_of_another_run_are_no_cost(judged: Made) -> None:
    _, rounded = judged.passing.artifacts
    assert summary.costs(replace(rounded, cost=tuple(replace(item, by_levels=True) for item in rounded.cost))) == ()


def test_candidates_are_counted_in_every_report(judged: Made) -> None:
    artifact, *_ = judged.passing.artifacts
    counts = f"{artifact.certain:,} certain, {artifact.excluded:,} excluded, {artifact.undecided:,} open"
    assert min(artifact.certain or 0, artifact.excluded, artifact.undecided) > 0
    for text in (render_html(judged.passing, {}), render_markdown(judged.passing), terminal_text(judged.passing)):
        assert counts in text
    properties = {item.get("name"): item.get("value") for item in suites(judged.passing)["onnx FP32"].iter("property")}
    assert properties["certain candidates"] == str(artifact.certain)


@pytest.mark.parametrize(("decided", "is_weak"), [((1, 2, 4), True), ((2, 2, 4), False), ((0, 0, 0), False)])
def test_a_note_says_when_the_detections_prove_little(
    decided: tuple[int, int, int], is_weak: bool, judged: Made
) -> None:
    certain, excluded, undecided = decided
    (artifact,) = judged.failing.artifacts
    image = DetectionComparison(certain=certain, excluded=excluded, undecided=undecided)
    samples = tuple(replace(item, detections=(image,)) for item in artifact.samples)
    report = replace(judged.failing, artifacts=(replace(artifact, samples=samples),))
    assert any("prove little" in note for note in summary.notes(report)) is is_weak
    assert ("prove little" in render_html(report, {})) is is_weak
    assert ("prove little" in terminal_text(report)) is is_weak
    one = replace(samples[0], detections=(DetectionComparison(certain=9),))
    enough = replace(report, artifacts=(replace(artifact, samples=(one, *samples[1:])),))
    assert not any("prove little" in note for note in summary.notes(enough)), "one sample is enough"


def test_open_detections_are_drawn_apart_and_are_no_differences(judged: Made) -> None:
    column = summary.columns(judged.passing)[0]
    assert column.report is not None
    item = next(item for item in column.report.samples if item.detections[0].open)
    sample = next(sample for sample in judged.passing.samples if sample.name == item.sample)
    (picture,) = pictures(sample, None, [column])
    assert picture.differences == ()
    assert [(other.kind, other.mark) for other in picture.others] == [
        ("open", f"o{number}") for number in range(1, 1 + len(item.detections[0].open))
    ]
    assert {re.split(":", other.text)[0] for other in picture.others} <= {
        f"{where} in onnx FP32, and rounding decides it" for where in ("only", "not")
    }
    page = render_html(judged.passing, {})
    assert 'class="difference show-others show-0"' in page
    assert "open: rounding decides" in page


def test_nothing_that_passes_is_amber(judged: Made) -> None:
    page = render_html(judged.passing, {})
    for scheme in re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for step in range(html.PASSING + 1):
            red, green, blue = (int(colours[f"step-{step}"][place : place + 2], 16) for place in (1, 3, 5))
            assert red <= min(green, blue), "neutral or green"
    assert 'class="bar beyond"' not in page
    assert 'class="bar beyond"' in render_html(judged.failing, {})


def test_every_report_ends_with_what_it_cannot_exclude(judged: Made) -> None:
    assert summary.BEYOND in Reader(render_html(judged.passing, {})).texts
    assert render_markdown(judged.passing).replace("\\", "").rstrip().endswith(summary.BEYOND)


# The HTML page


@pytest.fixture(scope="module", params=["judged", "failing"])
def page(request: pytest.FixtureRequest, made: Made, judged: Made) -> str:
    report, images = (made.failing, made.images) if request.param == "failing" else (judged.passing, judged.images)
    return render_html(report, images, [DIVERGENCE])


def test_the_page_is_well_formed_and_every_reference_in_it_has_a_target(page: str) -> None:
    reader = Reader(page)
    identifiers = reader.values("id")
    assert len(identifiers) == len(set(identifiers))
    fragments = {value.removeprefix("#") for value in reader.values("href") if value.startswith("#")}
    assert fragments <= set(identifiers)
    assert {"pictures", "tolerances", "environment", "mark-pass"} <= fragments


def test_the_page_holds_all_that_it_shows_and_no_script(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in reader.tags}
    assert all(
        value.startswith(("#", "data:image/jpeg;base64,")) for value in reader.values("href") + reader.values("src")
    )
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", page))
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert "default-src 'none'" in page


def test_the_page_can_be_read_without_seeing_it(page: str) -> None:
    reader = Reader(page)
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in reader.tags}
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(attributes.get("scope") for tag, attributes in reader.tags if tag == "th")
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") for tag, attributes in reader.tags if tag == "svg"
    )
    assert all(attributes.get("alt") for tag, attributes in reader.tags if tag == "img")


def luminance(colour: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int, page: str) -> None:
    style = re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))
    grounds = {
        "text": ["page", "ground", "pass-ground", "fail-ground", *(f"step-{step}" for step in range(6))],
        "soft": ["page", "ground"],
        "pass": ["pass-ground", "ground"],
        "fail": ["fail-ground", "ground"],
        "step-6-text": ["step-6"],
        "bar": ["page"],
        "beyond": ["page"],
    }
    for text, found in grounds.items():
        for ground in found:
            dark, light = sorted(luminance(colours[name]) for name in (text, ground))
            needed = 3.0 if text in ("bar", "beyond") else 4.5
            assert (light + 0.05) / (dark + 0.05) >= needed, (text, ground)


def test_the_same_report_is_the_same_page(made: Made) -> None:
    assert render_html(made.failing, made.images) == render_html(made.failing, dict(reversed(made.images.items())))


def test_the_page_shows_every_comparison(made: Made) -> None:
    reader = Reader(render_html(made.passing, made.images))
    assert reader.count("td", "step-6") == reader.count("td", "step-5") == 0
    heat = sum(reader.count("td", f"step-{step}") for step in range(5))
    assert heat == 2 * (len(MODEL.output_names) + 1 + len(SAMPLES) + 1)
    assert reader.count("path", "tolerance") == 2 * len(MODEL.output_names)
    assert reader.count("image") + reader.count("img") == len(SAMPLES) + 2, "the pair is two pictures"
    text = " ".join(reader.texts)
    for artifact in made.passing.artifacts:
        assert all(digest in text for digest in artifact.files.values())
        assert artifact.profile.reason in text
    assert all(f"{sample.name}" in text and sample.purpose in text for sample in made.passing.samples)
    assert all(value in text for value in made.passing.environment.values())


def test_the_page_shows_an_artifact_that_could_not_be_loaded(made: Made) -> None:
    page = render_html(made.failing, made.images)
    assert page.count("not loaded") == len(MODEL.output_names) + 1 + len(SAMPLES) + 1 + 1, "each cell, and the card"
    assert 'id="toggle-2"' in page
    assert 'id="toggle-3"' not in page


def test_the_page_lists_every_failure_and_folds_away_the_many(made: Made) -> None:
    failures = tuple(Failure("onnx", "tensor", f"number {number}!") for number in range(html.MOST_FAILURES + 1))
    reader = Reader(render_html(replace(made.failing, failures=failures), {}))
    assert all(failure.message in reader.texts for failure in failures)
    assert "1 more failure" in reader.texts


def test_a_path_cannot_bring_markup_into_the_page(made: Made) -> None:
    page = render_html(made.failing, made.images)
    assert HOSTILE not in page
    assert HOSTILE in " ".join(Reader(page).texts)


def test_what_no_text_file_can_hold_is_escaped(made: Made) -> None:
    report = replace(made.failing, failures=(Failure("onnx \x00", "load", "half a pair \ud800"),))
    assert "half a pair \\ud800" in render_html(report, {}).encode("utf-8").decode("utf-8")


def test_a_page_shows_nothing_that_cannot_be_seen(made: Made) -> None:
    hostile = "\x1b[2J\udcff\u202e\n<odd>"
    artifact = replace(made.failing.artifacts[0], label=f"onnx {hostile}", path=Path(f"a{hostile}.onnx"))
    failures = tuple(replace(item, message=hostile, artifact=artifact.label) for item in made.failing.failures)
    report = replace(made.failing, artifacts=(artifact,), failures=failures, notes=(hostile,), weights=hostile)
    for text in (render_html(report, made.images), render_markdown(report), render_junit(report)):
        text.encode()
        assert all(printable(line) == line for line in text.split("\n"))
        assert "<odd>" not in text


def test_a_report_of_nothing_is_a_page_that_says_so(made: Made) -> None:
    nothing = replace(made.passing, passed=False, artifacts=(), samples=(), notes=())
    assert "Nothing was compared" in " ".join(Reader(render_html(nothing, {})).texts)


def test_pictures_of_the_usual_size_stay_small() -> None:
    samples = [draw_sample(name, MODEL, 640, 640) for name in sample_names()]
    assert sum(len(data_uri(sample.images[0])) for sample in samples) < 1_500_000


def test_a_large_picture_is_made_smaller() -> None:
    assert len(data_uri(np.zeros((3000, 4000, 3), np.uint8))) < len(data_uri(np.zeros((1100, 1100, 3), np.uint8)))


@pytest.mark.parametrize(("module", "name"), [("jinja2", "Jinja"), ("PIL", "Pillow")])
def test_a_missing_library_is_named_with_the_remedy(
    module: str, name: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailableError, match=rf"^{name}: .*pip install .*{module.replace('PIL', 'pillow')}>="):
        render_html(made.passing, made.images)


# The page in a browser


def count_pixels(pixels: Pixels, colour: str, *, within: int = 8) -> int:
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], np.int16)
    return int((np.abs(pixels - wanted).max(axis=-1) <= within).sum())


def test_chromium_opens_the_page_without_a_complaint_or_a_request(page: str, browser: Browser) -> None:
    assert browser.complaints(page) == []


@pytest.mark.parametrize(
    "fault",
    [
        '<script>console.error("planted")</script>',
        '<img src="http://planted.invalid/picture.png" alt="">',
        '<p style="background: url(http://planted.invalid/picture.png)">',
    ],
)
def test_a_planted_script_or_request_is_refused_by_the_pages_own_policy(
    fault: str, made: Made, browser: Browser
) -> None:
    page = render_html(made.passing, {}).replace("</main>", f"{fault}</main>")
    assert any("Content Security Policy" in line for line in browser.complaints(page))


def test_a_planted_request_is_seen_without_the_policy(browser: Browser) -> None:
    page = '<!DOCTYPE html><img src="http://planted.invalid/picture.png" alt="">'
    assert "http://planted.invalid/picture.png" in browser.complaints(page)


def test_chromium_finds_no_script_in_a_page_with_hostile_names(made: Made, browser: Browser) -> None:
    dom = browser.dom(render_html(made.failing, made.images))
    assert "<script" not in dom
    assert "louder" in dom


GROUNDS = {
    "passing": {LIGHT: "#dff3e6", DARK: "#12331f"},
    "failing": {LIGHT: "#fde4e1", DARK: "#45120e"},
}


@pytest.mark.parametrize("name", GROUNDS)
def test_the_page_is_light_or_dark_and_its_verdict_coloured_as_the_reader_prefers(
    name: str, made: Made, browser: Browser
) -> None:
    page = render_html(getattr(made, name), made.images)
    light, dark = (browser.screenshot(page, scheme, height=1000) for scheme in (LIGHT, DARK))
    assert np.median(light) > 230
    assert np.median(dark) < 60
    for pixels, scheme in ((light, LIGHT), (dark, DARK)):
        mine, other = (GROUNDS[verdict][scheme] for verdict in sorted(GROUNDS, key=lambda verdict: verdict != name))
        assert count_pixels(pixels[:200], mine, within=2) > 50_000
        assert count_pixels(pixels[:200], other, within=2) == 0


def test_boxes_of_every_artifact_lie_on_the_pictures_and_can_be_switched_off(made: Made, browser: Browser) -> None:
    page = pictures_only(render_html(made.passing, made.images))
    shown = browser.screenshot(page, DARK, width=900, height=2500)
    hidden = browser.screenshot(page.replace('id="toggle-1" checked', 'id="toggle-1"'), DARK, width=900, height=2500)
    first, second = COLOURS[:2]
    assert min(count_pixels(shown, first), count_pixels(shown, second), count_pixels(hidden, first)) > 500
    assert count_pixels(hidden, second) < 100, "its swatch is left"


def test_differences_stand_out_in_the_pictures(made: Made, browser: Browser) -> None:
    passing, failing = (
        browser.screenshot(pictures_only(render_html(report, made.images)), LIGHT, width=900, height=2500)
        for report in (made.passing, made.failing)
    )
    for colour in ("#ff3b30", "#ff4dff"):  # missing, extra
        assert count_pixels(passing, colour) < 500, "the legend's"
        assert count_pixels(failing, colour) > 2000


def pictures_only(page: str) -> str:
    """The page without what is before the pictures, and with scenes but no noise, which has every colour there is."""
    start, end = page.index("<nav"), page.index('<h2 id="pictures"')
    kept = page[:start] + "<main>" + page[end:]
    return re.sub(r"<figure>\s*<h3>noise.*?</figure>", "", kept, flags=re.DOTALL)


def narrow_width(page: str, browser: Browser) -> int:
    """How wide the page becomes in a frame of 390 pixels, as a script says that is put into a copy of it."""
    copy = re.sub(r"<meta http-equiv[^>]*>", "", page)
    copy += "<script>onload = () => parent.postMessage(document.documentElement.scrollWidth, '*')</script>"
    (browser.folder / "copy.html").write_text(copy, encoding="utf-8")
    dom = browser.dom(
        '<!DOCTYPE html><title></title><iframe src="copy.html" width="390" height="800"></iframe>'
        "<script>onmessage = event => { document.title = event.data }</script>"
    )
    found = re.search(r"<title>(\d+)</title>", dom)
    assert found, dom
    return int(found[1])


def test_the_page_is_as_narrow_as_a_telephone(page: str, browser: Browser) -> None:
    assert narrow_width(page, browser) == 390


def test_a_page_that_is_too_wide_would_be_seen(browser: Browser) -> None:
    assert narrow_width('<!DOCTYPE html><div style="width: 500px">wide</div>', browser) > 390
