from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image as pillow  # noqa: N813  # as in sshtool.images
from rich.console import Console

from command_line import sshtool
from detections import SSH, anchor_task
from mutations import mutants
from pages import DARK, LIGHT, Browser, Reader
from sshconvert.arrays import Pixels
from sshconvert.checkpoint import DEMO, Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import (
    ArtifactError,
    DatasetError,
    DetectionError,
    EvaluationError,
    OutputError,
    SSHToolError,
    UsageError,
)
from sshconvert.models.protocols import WiderRules
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options, Postprocessing, Precision
from sshtool.bilinear import resize
from sshtool.cli.evaluate import render
from sshtool.cli.parsing import shard_of
from sshtool.concurrency import THREADS, WAITING, SharedRuntime, overlapped
from sshtool.demo.dataset import write_dataset
from sshtool.demo.scenes import draw_scene
from sshtool.evaluate import evaluation as command, feeding, omz, run
from sshtool.evaluate.evaluation import EvaluateOptions, evaluate
from sshtool.evaluate.feeding import Fitted, Omz, UpstreamScales
from sshtool.evaluate.figures import (
    ArtifactFigures,
    EvaluateResult,
    NotEvaluated,
    ProtocolFigures,
    SettingFigures,
    compared,
)
from sshtool.evaluate.journal import ImageFinding, Journal, read_findings, read_header
from sshtool.evaluate.predictions import NONE, Predictions, read_predictions
from sshtool.evaluate.run import Evaluator, Job
from sshtool.evaluate.score import finish, judge_image
from sshtool.images import Resize, fit, read_image, read_size, reading
from sshtool.meter import PERIOD, Meter
from sshtool.report.evaluation import write_evaluation
from sshtool.report.figures import figure_tables, remarks
from sshtool.runtimes.base import Feed, Outputs
from sshtool.runtimes.loading import load
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.wider_face.ground_truth import read_ground_truth
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = 160  # of the network's input: a sixteenth of the usual work
IMAGES: Final = 6
SEED: Final = 3

# Upstream's test at a tenth of its scale, and the input that the drawn images then need: 4:3 all of them.
SIDES: Final = (120, 160)
TENTH: Final = MODEL.model_copy(update={"wider": WiderRules(shorter_side=SIDES[0], longer_side=SIDES[1])})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "wider"
    write_dataset(folder, images=IMAGES, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def artifacts(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with all four artifacts of a model, at SIZE."""
    folder = tmp_path_factory.mktemp("artifacts")
    convert(checkpoint, folder, Options(precisions=(Precision.FP32, Precision.FP16), input_shape=(1, 3, SIZE, SIZE)))
    return folder


@pytest.fixture(scope="module")
def onnx_file(artifacts: Path) -> Path:
    return artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"


@pytest.fixture(scope="module")
def small(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the input that a tenth of upstream's scale needs."""
    folder = tmp_path_factory.mktemp("small")
    return convert(checkpoint, folder, Options(("onnx",), input_shape=(1, 3, *SIDES)))[0].path


@dataclass(frozen=True)
class Whole:
    """A run of all artifacts by both protocols, with everything that it wrote."""

    result: EvaluateResult
    folder: Path
    predictions: Path
    page: str

    def journal(self, name: str) -> Path:
        return self.folder / MODEL.name / "evaluation" / f"{name}.both.jsonl"


@pytest.fixture(scope="module")
def whole(dataset: Path, artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    options = EvaluateOptions(
        dataset=dataset,
        artifacts=tuple(sorted(artifacts.rglob("*.onnx")) + sorted(artifacts.rglob("*.xml"))),
        protocols=("omz", "wider"),
        resize=Resize.LETTERBOX,
        save_predictions=folder / "predictions",
    )
    result = evaluate(Workspace(MODEL, folder), options, write=partial(write_evaluation, folder / "page.html"))
    return Whole(result, folder, folder / "predictions", (folder / "page.html").read_text(encoding="utf-8"))


def both(dataset: Path, *artifacts: Path, **more: Any) -> EvaluateOptions:
    return EvaluateOptions(dataset, artifacts, ("omz", "wider"), resize=Resize.LETTERBOX, **more)


def printed(result: EvaluateResult) -> str:
    with io.StringIO() as screen:
        Console(width=500, file=screen).print(render(result, True))
        return screen.getvalue()


def figures(result: EvaluateResult) -> dict[str, tuple[ProtocolFigures, ...]]:
    """Everything that is not of the run itself, to the last digit."""
    return {artifact.artifact: artifact.protocols for artifact in result.artifacts}


# --- figures ---------------------------------------------------------------------------------------------------------


def test_every_artifact_has_figures_and_the_change_from_fp32(whole: Whole, checkpoint: Checkpoint) -> None:
    found = {artifact.artifact: artifact for artifact in whole.result.artifacts}
    assert set(found) == {"onnx FP16", "onnx FP32", "openvino FP16", "openvino FP32"}
    assert {name: item.baseline for name, item in found.items()} == {
        "onnx FP16": "onnx FP32", "onnx FP32": "", "openvino FP16": "openvino FP32", "openvino FP32": "",
    }  # fmt: skip
    for artifact in found.values():
        measure, official = artifact.protocols
        assert [item.setting for item in measure.settings] == ["mAP"]
        assert [item.setting for item in official.settings] == ["easy", "medium", "hard"]
        faces = [item.faces for item in official.settings]
        assert faces == sorted(faces)
        least = 0.3 if checkpoint.weights == DEMO else 0  # random weights find faces by chance alone
        assert least < measure.settings[0].average_precision < 1
        assert least < official.settings[0].average_precision <= 1
        assert artifact.weights == checkpoint.weights
        assert artifact.images_per_second is not None
        for protocol in artifact.protocols:
            for setting in protocol.settings:
                assert (setting.change is None) == (artifact.precision == "FP32")
                assert abs(setting.change or 0) < 0.05
    assert (whole.result.published == {}) == (checkpoint.weights == DEMO), "figures are published for trained weights"


def test_the_figures_are_those_of_one_image_after_another(whole: Whole, dataset: Path, onnx_file: Path) -> None:
    """Written out plainly, without threads, journals or the throughput mode: the same to the last bit."""
    runtime, truth = OnnxRuntime(onnx_file), read_ground_truth(dataset)
    records = []
    for number, image in enumerate(truth.images):
        pixels = read_image(dataset / "WIDER_val" / "images" / image.image)
        height, width = pixels.shape[:2]
        scales = (SIZE / width, SIZE / height)
        stretched = runtime.run(resize(pixels, (SIZE, SIZE), scales[1], scales[0])[None])
        fitted, placement = fit(pixels, SIZE, SIZE, Resize.LETTERBOX, MODEL.image.mean_pixel)
        boxes = placement.to_image(MODEL.task.decode(runtime.run(fitted[None]), (SIZE, SIZE))[0])
        found = {"omz": omz.decode(stretched, [scales], SSH)[0], "wider": feeding._predictions(boxes)}
        records.append(judge_image(number, image, found))
    own = next(item for item in whole.result.artifacts if item.artifact == "onnx FP32")
    for protocol in own.protocols:
        expected = {curve.setting: curve.average_precision for curve in finish(records, protocol.protocol).curves}
        assert {item.setting: item.average_precision for item in protocol.settings} == expected


def test_saved_predictions_give_the_figures_of_the_run(whole: Whole, dataset: Path) -> None:
    for artifact in whole.result.artifacts:
        for protocol in artifact.protocols:
            folder = whole.predictions / artifact.artifact.replace(" ", "-") / protocol.protocol
            options = EvaluateOptions(dataset, protocols=(protocol.protocol,), predictions=folder)
            (scored,) = evaluate(Workspace(MODEL, folder), options).artifacts[0].protocols
            assert scored.settings == tuple(replace(item, change=None) for item in protocol.settings)
            assert (scored.predictions, scored.worst) == (protocol.predictions, protocol.worst)


def test_one_kind_of_predictions_goes_to_the_folder_itself(dataset: Path, onnx_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    options = EvaluateOptions(dataset, (onnx_file,), limit=2, save_predictions=folder)
    evaluate(Workspace(MODEL, tmp_path), options)
    names = [image.image for image in read_ground_truth(dataset).images[:2]]
    assert all(len(read_predictions(folder, name).scores) for name in names)
    assert sum(path.is_file() for path in folder.rglob("*")) == 2


def made_figures(precision: str, form: str, average_precision: float) -> ArtifactFigures:
    setting = SettingFigures("mAP", average_precision, 4, ())
    protocol = ProtocolFigures("omz", "stretched", 1, 5, (setting,), (), 0, ())
    return ArtifactFigures(f"{form} {precision}", form, precision, "", "", {}, (protocol,), ())


def test_the_change_is_that_from_the_fp32_artifact_of_the_same_format() -> None:
    artifacts = compared(
        [
            made_figures("FP32", "onnx", 0.75),
            made_figures("FP16", "xml", 0.5),
            made_figures("FP32", "xml", 0.625),
            made_figures("INT8", "onnx", 0.875),
        ]
    )
    assert [item.protocols[0].settings[0].change for item in artifacts] == [None, -0.125, None, 0.125]
    result = EvaluateResult("ssh-mxnet", "", "", 1, 1, (1, 1), artifacts, {}, (), ())
    (table,) = figure_tables(result)
    assert [row[1:3] for row in table.rows] == [("75.00", ""), ("50.00", "-12.50"), ("62.50", ""), ("87.50", "+12.50")]


def test_an_fp32_artifact_of_another_format_will_do_as_the_baseline(whole: Whole) -> None:
    by_name = {artifact.artifact: artifact for artifact in whole.result.artifacts}
    halves, other = compared([by_name["onnx FP16"], by_name["openvino FP32"]])
    assert (halves.baseline, other.baseline) == ("openvino FP32", "")
    (alone,) = compared([replace(by_name["onnx FP16"], baseline="")])
    assert alone.baseline == ""


def test_a_fixed_batch_gives_the_same_figures_and_a_note(
    dataset: Path, onnx_file: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options(("onnx",), input_shape=(2, 3, SIZE, SIZE))
    path = convert(checkpoint, tmp_path, options)[0].path
    pairs, alone = (
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (file,), limit=2)) for file in (path, onnx_file)
    )
    (one,), (other,) = pairs.artifacts[0].protocols, alone.artifacts[0].protocols
    assert one.settings[0].average_precision == pytest.approx(other.settings[0].average_precision, abs=1e-6)
    assert any("batch of 2" in note for note in remarks(pairs))


def test_published_figures_stand_beside_weights_that_may_be_theirs(whole: Whole) -> None:
    trained = tuple(replace(artifact, weights="sha256:0") for artifact in whole.result.artifacts)
    published = command._published(MODEL, trained)
    rounded = {name: {key: round(value, 6) for key, value in item.items()} for name, item in published.items()}
    assert rounded == {"omz": {"mAP": 0.848}, "wider": {"easy": 0.93489, "medium": 0.92281, "hard": 0.84525}}
    tables = figure_tables(replace(whole.result, published=published))
    assert [table.rows[-1] for table in tables] == [
        ("published", "84.80", "", "", "", ""),
        ("published", "93.49", "", "92.28", "", "84.53", "", "", "", ""),
    ]


# --- shards and resuming ---------------------------------------------------------------------------------------------


def test_merged_shards_give_the_figures_of_the_single_run_to_the_last_digit(
    whole: Whole, dataset: Path, artifacts: Path, tmp_path: Path
) -> None:
    files = tuple(sorted((artifacts / MODEL.name / "FP32").glob("*.[ox]*")))
    parts = []
    for which in (2, 1):  # shards end in any order
        folder = tmp_path / str(which)
        part = evaluate(Workspace(MODEL, folder), both(dataset, *files, shard=(which, 2)))
        assert (part.images, part.of_images, part.shard) == (3, 6, (which, 2))
        assert any("of one shard" in note for note in remarks(part))
        parts.append(folder / MODEL.name / "evaluation")
    merged = evaluate(
        Workspace(MODEL, tmp_path),
        EvaluateOptions(dataset, merge=tuple(parts)),
        write=partial(write_evaluation, tmp_path / "page.html"),
    )
    single = figures(whole.result)
    assert figures(merged) == {name: single[name] for name in ("onnx FP32", "openvino FP32")}
    assert (merged.images, merged.of_images, merged.shard) == (6, 6, (1, 1))
    assert "<image" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_journals_are_merged_without_the_images(whole: Whole, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "wider_face_split", tmp_path / "wider" / "wider_face_split")
    shutil.copytree(dataset / "ground_truth", tmp_path / "wider" / "ground_truth")
    options = EvaluateOptions(tmp_path / "wider", merge=(whole.journal("onnx-FP32"),))
    merged = evaluate(Workspace(MODEL, tmp_path), options, write=partial(write_evaluation, tmp_path / "page.html"))
    assert figures(merged) == {"onnx FP32": figures(whole.result)["onnx FP32"]}
    assert merged.digest == whole.result.digest
    assert "<image" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def shard(source: Path, target: Path, which: int, count: int, **changes: Any) -> Path:
    """A journal of a shard, made of a whole one."""
    header = replace(read_header(source), shard=(which, count), **changes)
    with Journal(target, header, resume=False) as made:
        for number, finding in enumerate(read_findings(source)):
            if number % count == which - 1:
                made.append(finding)
    return target


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_disk_that_fills_while_a_journal_is_kept_is_an_error(whole: Whole, tmp_path: Path) -> None:
    source = whole.journal("onnx-FP32")
    (finding, *_) = read_findings(source)
    with Journal(tmp_path / "journal.jsonl", read_header(source), resume=False) as made:
        made._writer._file.close()
        made._writer._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  # the journal closes it
        with pytest.raises(OutputError, match=r"journal\.jsonl"):
            made.append(finding)


MISFITS: Final[dict[str, tuple[Callable[[Path, Path], list[Path]], str]]] = {
    "a shard missing": (
        lambda source, folder: [shard(source, folder / "1", 1, 3), shard(source, folder / "3", 3, 3)],
        "1 of 3 shards",
    ),
    "a shard twice": (
        lambda source, folder: [shard(source, folder / name, 1, 2) for name in "ab"],
        "same shard",
    ),
    "two splits": (
        lambda source, folder: [shard(source, folder / "a", 1, 2), shard(source, folder / "b", 2, 3)],
        "another split",
    ),
    "another dataset": (
        lambda source, folder: [shard(source, folder / "a", 1, 2), shard(source, folder / "b", 2, 2, dataset="0")],
        "its dataset is 0",
    ),
    "another version": (
        lambda source, folder: [shard(source, folder / "a", 1, 2), shard(source, folder / "b", 2, 2, sshtool="0.0.1")],
        "its sshtool is 0.0.1",
    ),
    "other options": (
        lambda source, folder: [
            shard(source, folder / "a", 1, 2),
            shard(source, folder / "b", 2, 2, protocols={"omz": "stretched to 1x1", "wider": "?"}),
        ],
        "its protocols is",
    ),
    "other weights of the same name": (
        lambda source, folder: [
            shard(source, folder / "a", 1, 2),
            shard(source, folder / "b", 2, 2, files={"ssh-mxnet.onnx": "0"}),
        ],
        "its files is",
    ),
    "an unfinished shard": (
        lambda source, folder: [shard(source, folder / "a", 1, 2), cut_lines(shard(source, folder / "b", 2, 2), 2)],
        "4 images of 6",
    ),
    "no journals": (lambda _, folder: [folder], "holds no journals"),
    "not there": (lambda _, folder: [folder / "nowhere.jsonl"], "nowhere.jsonl"),
    "no journal": (lambda *_: [Path(__file__)], "no journal"),
}


def cut_lines(path: Path, count: int) -> Path:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) - count]))
    return path


@pytest.mark.parametrize(("make", "message"), MISFITS.values(), ids=MISFITS)
def test_journals_that_do_not_make_up_one_run_are_refused_by_name(
    make: Callable[[Path, Path], list[Path]], message: str, whole: Whole, dataset: Path, tmp_path: Path
) -> None:
    paths = make(whole.journal("onnx-FP32"), tmp_path)
    with pytest.raises(EvaluationError, match=re.escape(message)):
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, merge=tuple(paths)))


def torn(whole: Whole, folder: Path, keep: Callable[[bytes], bytes]) -> Path:
    """What a killed run of the ONNX FP32 artifact leaves."""
    path = folder / MODEL.name / "evaluation" / "onnx-FP32.both.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(keep(whole.journal("onnx-FP32").read_bytes()))
    return path


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


CUTS: Final[dict[str, tuple[Callable[[bytes], bytes], int]]] = {
    "inside a record": (lambda data: b"".join(lines_of(data)[:5]) + lines_of(data)[5][:1000], 2),
    "before the end of a line": (lambda data: data[:-1], 1),
    "between two records": (lambda data: b"".join(lines_of(data)[:6]), 1),
    "at the end": (lambda data: data, 0),
    "with rubbish behind the end": (lambda data: data + bytes(100_000), 0),
    "inside the header": (lambda data: data[:100], IMAGES),
}


@pytest.mark.parametrize(("keep", "left"), CUTS.values(), ids=CUTS)
def test_a_torn_journal_is_resumed_to_the_same_bytes(
    keep: Callable[[bytes], bytes],
    left: int,
    whole: Whole,
    dataset: Path,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = torn(whole, tmp_path, keep)
    read: list[Path] = []

    def count(path: Path) -> AbstractContextManager[Pixels]:
        read.append(path)
        return reading(path)

    monkeypatch.setattr(run, "reading", count)
    result = evaluate(Workspace(MODEL, tmp_path), both(dataset, onnx_file, resume=True))
    assert path.read_bytes() == whole.journal("onnx-FP32").read_bytes()
    assert len(read) == left
    assert figures(result) == {"onnx FP32": figures(whole.result)["onnx FP32"]}
    assert (result.artifacts[0].images_per_second is None) == (left == 0)


def test_without_resume_a_run_begins_anew(whole: Whole, dataset: Path, onnx_file: Path, tmp_path: Path) -> None:
    path = torn(whole, tmp_path, lambda _: b"anything\n")
    evaluate(Workspace(MODEL, tmp_path), both(dataset, onnx_file, limit=1))
    assert len(list(read_findings(path))) == 1


def relined(data: bytes) -> bytes:
    """Lines of JSON as a journal has them, with digests that say so: what a forger writes."""
    digest, made = "", []
    for line in lines_of(data):
        text = b"{" + line.removeprefix(b"{").rstrip(b"\n")
        if text.startswith(b'{"sha256":'):
            text = b"{" + text[len(b'{"sha256":"",') + 64 :]
        digest = hashlib.sha256(digest.encode() + text).hexdigest()
        made.append(b'{"sha256":"' + digest.encode() + b'",' + text[1:] + b"\n")
    return b"".join(made)


def forged(**changes: Any) -> Callable[[bytes], bytes]:
    """The first finding with other members."""

    def forge(data: bytes) -> bytes:
        header, first, *rest = lines_of(data)
        body = json.loads(first) | changes
        del body["sha256"]
        return relined(b"".join([header, json.dumps(body).encode() + b"\n", *rest]))

    return forge


def packed(boxes: int, scores: int, value: float = 1.0) -> dict[str, str]:
    made = (base64.b64encode(np.full(count, value, "<f8").tobytes()).decode() for count in (4 * boxes, scores))
    return dict(zip(("boxes", "scores"), made, strict=True))


def both_of(protocol: Any) -> dict[str, Any]:
    return {"predictions": {"omz": protocol, "wider": packed(0, 0)}}


FORGERIES: Final[dict[str, tuple[Callable[[bytes], bytes], str]]] = {
    "a bit": (lambda data: data.replace(b'"boxes":"A', b'"boxes":"B', 1), "wrong digest"),
    "a line less": (lambda data: b"".join(lines_of(data)[:2] + lines_of(data)[3:]), "line 3: "),
    "two lines exchanged": (
        lambda data: b"".join([*lines_of(data)[:2], lines_of(data)[3], lines_of(data)[2]]), "line 3: ",
    ),
    "a line twice": (lambda data: b"".join([*lines_of(data)[:2], lines_of(data)[1]]), "line 3: "),
    "a line more": (lambda data: relined(data + lines_of(data)[-1]), "line 8: "),
    "a line less, with its digests": (
        lambda data: relined(b"".join(lines_of(data)[:2] + lines_of(data)[3:])), "line 3: ",
    ),
    "no JSON": (lambda data: relined(lines_of(data)[0] + b"{"), "is not a finding"),
    "nested": (lambda data: relined(lines_of(data)[0] + b'{"a":' + b"[" * 100_000), "is not a finding"),
    "a long line": (lambda data: data + b"x" * 20_000_000, "has more than"),
    "another image": (forged(image="0--Drawn/other.jpg"), "in the dataset"),
    "an image of another folder": (forged(image="../../etc/passwd"), "in the dataset"),
    "a negative number": (forged(index=-1), "is not of the next image"),
    "a number beyond all": (forged(index=10**400), "is not of the next image|is not a finding"),
    "a number that is true": (forged(index=False), "is not a finding"),
    "hits and faces of its own": (
        forged(protocols={"omz": {"faces": {"mAP": 599_994}, "outcomes": {"mAP": "T" * 9}}}), "is not a finding",
    ),
    "another protocol": (forged(predictions={"omz": packed(1, 1)}), "other protocols"),
    "more boxes than scores": (forged(**both_of(packed(2, 1))), "2 boxes and 1 scores"),
    "boxes of three numbers": (
        forged(**both_of({"boxes": base64.b64encode(bytes(24)).decode(), "scores": ""})), "is not a finding",
    ),
    "no base64": (forged(**both_of({"boxes": "*", "scores": ""})), "is not a finding"),
    "NaN": (forged(**both_of(packed(1, 1, float("nan")))), "not finite"),
    "infinity": (forged(**both_of(packed(1, 1, float("inf")))), "not finite"),
    "200,000 boxes": (forged(**both_of(packed(200_000, 200_000))), "has more than|at most 100000 expected"),
    "a failure beside predictions": (forged(failure="?"), "not evaluated"),
    "a long failure": (forged(failure="?" * 5000), "is not a finding"),
}  # fmt: skip


@pytest.mark.parametrize(("forge", "message"), FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize(
    "merge", [pytest.param(False, id="resume", marks=pytest.mark.long), pytest.param(True, id="merge")]
)
def test_a_journal_that_no_run_writes_is_refused_by_name(
    forge: Callable[[bytes], bytes],
    message: str,
    merge: bool,
    whole: Whole,
    dataset: Path,
    onnx_file: Path,
    tmp_path: Path,
) -> None:
    path = torn(whole, tmp_path, forge)
    before = path.read_bytes()
    options = EvaluateOptions(dataset, merge=(path,)) if merge else both(dataset, onnx_file, resume=True)
    with pytest.raises(EvaluationError, match=rf"onnx-FP32\.both\.jsonl: .*({message})"):
        evaluate(Workspace(MODEL, tmp_path), options)
    assert path.read_bytes() == before


def test_hits_are_those_that_the_predictions_make(whole: Whole, dataset: Path, tmp_path: Path) -> None:
    """However a journal came about: boxes far away find nothing."""
    path = torn(whole, tmp_path, forged(**both_of(packed(50, 50, 100_000.0))))
    merged = evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, merge=(path,)))
    own = figures(whole.result)["onnx FP32"][0]
    assert merged.artifacts[0].protocols[0].settings[0].average_precision < own.settings[0].average_precision
    assert merged.artifacts[0].protocols[0].settings[0].faces == own.settings[0].faces


def test_damaged_journals_are_refused_or_give_the_same_figures(whole: Whole, dataset: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "a.jsonl", whole.journal("onnx-FP32").read_bytes()
    expected = figures(whole.result)["onnx FP32"]
    refusals = []
    for mutant in mutants([data], 150):
        path.write_bytes(mutant)
        try:
            found = evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, merge=(path,)))
        except EvaluationError as error:
            refusals.append(str(error))
        else:
            assert figures(found) == {"onnx FP32": expected}
    assert len(refusals) > 100
    assert not any("\n" in refusal for refusal in refusals)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("resume", [False, True], ids=["anew", "resumed"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "dangling link", "hard link"])
def test_what_a_journal_leads_to_stays_as_it_is(
    kind: str, resume: bool, whole: Whole, dataset: Path, onnx_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious" if kind != "link" else whole.journal("onnx-FP32").read_bytes()[:-1])
    before = other.read_bytes()
    path = torn(whole, tmp_path, lambda _: b"")
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "hard link":
        path.hardlink_to(other)
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    options = both(dataset, onnx_file, limit=1, resume=resume)
    if kind in ("pipe", "folder") or (resume and kind != "hard link"):
        with pytest.raises((EvaluationError, OutputError), match=r"FP32\.both\.jsonl"):
            evaluate(Workspace(MODEL, tmp_path), options)
    else:
        evaluate(Workspace(MODEL, tmp_path), options)
        assert path.is_file()
        assert not path.is_symlink()
    assert other.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_and_links_are_not_merged(whole: Whole, dataset: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").symlink_to(whole.journal("onnx-FP32"))
    for name in "ab":
        with pytest.raises(EvaluationError, match=rf"{name}\.jsonl: cannot be opened"):
            evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, merge=(tmp_path / f"{name}.jsonl",)))


def test_a_header_of_protocols_without_a_word_on_each_is_no_header(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    changes: dict[str, Any]
    for changes in ({"notes": {"omz": []}}, {"protocols": {}, "notes": {}}, {"images": 10**9}, {"more": 1}):
        path.write_bytes(edit_header(**changes)(lines_of(whole.journal("onnx-FP32").read_bytes())[0]))
        with pytest.raises(EvaluationError, match="header"):
            read_header(path)
    protocols = {"protocols": {"x": "?"}, "notes": {"x": []}}
    path.write_bytes(edit_header(**protocols)(lines_of(whole.journal("onnx-FP32").read_bytes())[0]))
    with pytest.raises(EvaluationError, match="header"):
        read_header(path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file that nobody can read")
def test_a_journal_that_cannot_be_read_is_named() -> None:
    with pytest.raises(EvaluationError, match=r"/proc/self/mem: cannot be read \(.*; change its permissions"):
        read_header(Path("/proc/self/mem"))


def test_predictions_that_were_not_saved_are_missed_on_resuming(
    whole: Whole, dataset: Path, onnx_file: Path, tmp_path: Path
) -> None:
    torn(whole, tmp_path, lambda data: b"".join(lines_of(data)[:6]))
    options = both(dataset, onnx_file, resume=True, save_predictions=tmp_path / "saved")
    with pytest.raises(EvaluationError, match=r"_0000\.txt"):
        evaluate(Workspace(MODEL, tmp_path), options)
    shutil.copytree(whole.predictions / "onnx-FP32", tmp_path / "saved")
    evaluate(Workspace(MODEL, tmp_path), options)


def edit_header(**changes: Any) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        first, *rest = lines_of(data)
        body = json.loads(first)
        body["header"] |= changes
        del body["sha256"]
        return relined(b"".join([json.dumps(body).encode() + b"\n", *rest]))

    return edit


OTHERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "artifact": ({"files": {"ssh-mxnet.onnx": "0" * 64}}, "its files is"),
    "dataset": ({"dataset": "0" * 64}, "its dataset is 000"),
    "protocols": ({"protocols": {"omz": "?", "wider": "?"}}, "its protocols is"),
    "limit": ({"images": 5}, "5, not 6"),
    "version": ({"sshtool": "0.0.1"}, "its sshtool is 0.0.1"),
    "runtime": ({"runtime": "ONNX Runtime 0.1"}, "ONNX Runtime 0.1"),
    "shard": ({"shard": [2, 3]}, "shard 2 of 3"),
    "kind of journal": ({"journal": 99}, "version 99"),
    "header": ({"files": 3}, "header"),
    "impossible shard": ({"shard": [0, 0]}, "header"),
    "absurd shard": ({"shard": [1, 10**15]}, "header"),
}


@pytest.mark.parametrize(("changes", "message"), OTHERS.values(), ids=OTHERS)
def test_a_journal_of_another_run_is_not_resumed(
    changes: dict[str, Any], message: str, whole: Whole, dataset: Path, onnx_file: Path, tmp_path: Path
) -> None:
    path = torn(whole, tmp_path, edit_header(**changes))
    before = path.read_bytes()
    with pytest.raises(EvaluationError, match=rf"onnx-FP32\.both\.jsonl: .*{re.escape(message)}"):
        evaluate(Workspace(MODEL, tmp_path), both(dataset, onnx_file, resume=True))
    assert path.read_bytes() == before


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "sshtool", "evaluate", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_records(process: subprocess.Popen[str], path: Path, count: int = 1) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if path.is_file() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.005)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGINT, id="interrupted", marks=pytest.mark.long)],
)
def test_a_run_that_was_ended_goes_on_and_gives_the_same_figures(
    number: signal.Signals, whole: Whole, dataset: Path, onnx_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / MODEL.name / "evaluation" / "onnx-FP32.both.jsonl"
    options = ("--dataset", dataset, "--artifact", onnx_file, "-o", tmp_path, "--protocol", "both")
    arguments = (*options, "--resize", "letterbox", "--threads", "1", "-q")
    with started(*arguments) as process:
        wait_for_records(process, path)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    assert path.read_bytes().count(b"\n") <= IMAGES, "ended too late to test anything"
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert said.startswith("sshtool evaluate: interrupted; ")
        assert "--resume" in said
    resumed = evaluate(Workspace(MODEL, tmp_path), both(dataset, onnx_file, resume=True))
    assert figures(resumed) == {"onnx FP32": figures(whole.result)["onnx FP32"]}


# --- images that cannot be read --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with its second image gone, its third cut in half, and its fifth a text."""
    folder = tmp_path_factory.mktemp("damaged") / "wider"
    shutil.copytree(dataset, folder)
    paths = [folder / "WIDER_val" / "images" / image.image for image in read_ground_truth(folder).images]
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[: paths[2].stat().st_size // 2])
    paths[4].write_text("no image")
    return folder


def test_images_that_cannot_be_read_count_as_without_predictions(
    damaged: Path, onnx_file: Path, whole: Whole, tmp_path: Path
) -> None:
    result = evaluate(
        Workspace(MODEL, tmp_path), both(damaged, onnx_file), write=partial(write_evaluation, tmp_path / "page.html")
    )
    truth = read_ground_truth(damaged)
    lost = [truth.images[number] for number in (1, 2, 4)]
    assert [item.image for item in result.not_evaluated] == [image.image for image in lost]
    for item, reason in zip(result.not_evaluated, ("No such file", "is damaged", "is not an image"), strict=True):
        assert reason in item.reason
    records = [
        run.judged(finding, truth.images[finding.index], omz.SSH).record
        for finding in read_findings(whole.journal("onnx-FP32"))
    ]
    for number in (1, 2, 4):
        records[number] = judge_image(number, truth.images[number], {"omz": NONE, "wider": NONE}, failure="?")
    for protocol in result.artifacts[0].protocols:
        expected = {curve.setting: curve.average_precision for curve in finish(records, protocol.protocol).curves}
        assert {item.setting: item.average_precision for item in protocol.settings} == expected
        assert not {item.image for item in protocol.worst} & {image.image for image in lost}
    missed = [protocol.missed_faces for protocol in result.artifacts[0].protocols]
    assert missed == [sum(int(omz.counted(image).sum()) for image in lost), sum(len(image.boxes) for image in lost)]
    page, text = (tmp_path / "page.html").read_text(encoding="utf-8"), printed(result)
    assert "3 images not evaluated" in text
    assert all(image.image in page and image.image in text for image in lost)


def test_the_run_goes_on_and_ends_in_1(damaged: Path, onnx_file: Path, tmp_path: Path) -> None:
    arguments = ("--dataset", damaged, "--artifact", onnx_file, "-o", tmp_path, "--limit", "3", "-q", "--json")
    document = json.loads(sshtool("evaluate", *arguments, code=1).stdout)
    assert document["ok"] is False
    assert len(document["result"]["artifacts"][0]["not_evaluated"]) == 2
    assert document["result"]["images"] == 3


# --- work that overlaps ----------------------------------------------------------------------------------------------


def never() -> None:
    """A `stop` that has nothing to stop."""


def test_results_come_in_the_order_of_the_items() -> None:
    def late(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item

    assert list(overlapped(late, range(20), workers=4, stop=never)) == list(range(20))


def test_no_more_items_are_in_work_or_begun_than_may_be() -> None:
    inside, most, taken = 0, 0, 0
    lock = threading.Lock()

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    def work(item: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1
        return item

    for done, _ in enumerate(overlapped(work, items(), workers=3, stop=never), start=1):
        assert taken - done < WAITING * 3
    assert most == 3


def test_items_are_worked_on_at_the_same_time() -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=30)
    assert list(overlapped(lambda _: meeting.wait() >= 0, range(4), workers=2, stop=never)) == [True] * 4


def test_an_exception_ends_it_and_no_thread_is_left() -> None:
    def fail(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    stopped: list[bool] = []
    with pytest.raises(ValueError, match="three"):
        list(overlapped(fail, range(1000), workers=2, stop=lambda: stopped.append(True)))
    assert stopped == [True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def test_who_goes_away_leaves_no_thread_behind() -> None:
    with closing(overlapped(lambda item: item, range(1000), workers=2, stop=never)) as results:
        assert next(results) == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


class Watched(OnnxRuntime):
    """Waits, as it computes for the first time, until the next image has been read as well."""

    parallel = 1
    read = threading.Event()
    waited = False
    inside = 0
    most = 0

    def run(self, feed: Feed) -> Outputs:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if isinstance(feed, np.ndarray) and feed.any():  # not what warms it up
                self.waited = self.read.wait(timeout=30)
            return super().run(feed)
        finally:
            self.inside -= 1


def jobs_of(dataset: Path) -> list[Job]:
    images = read_ground_truth(dataset).images
    return [
        Job(number, image.image, dataset / "WIDER_val" / "images" / image.image) for number, image in enumerate(images)
    ]


def test_images_are_read_while_others_are_computed_and_no_more_than_there_are_workers(
    dataset: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Watched(onnx_file)
    evaluator = Evaluator(onnx_file, runtime, [Omz(MODEL, (SIZE, SIZE))])
    lock, held, most, count = threading.Lock(), 0, 0, 0

    def read(path: Path) -> AbstractContextManager[Pixels]:
        nonlocal held, most, count
        with lock:
            held, count = held + 1, count + 1
            most = max(most, held)
            if count == 2:
                runtime.read.set()
        return reading(path)

    def find(*arguments: Any) -> ImageFinding:
        nonlocal held
        with lock:
            held -= 1
        return ImageFinding(*arguments)

    monkeypatch.setattr(run, "reading", read)
    monkeypatch.setattr(run, "ImageFinding", find)
    evaluator.warm_up((SIZE, SIZE), MODEL.output_names)
    assert len(list(evaluator.evaluate(jobs_of(dataset)))) == IMAGES
    assert runtime.waited, "the second image was not read before the first was computed"
    assert runtime.most == 1, "the runtime takes one at a time"
    assert 1 < most <= SharedRuntime(runtime).workers


class Counted(OnnxRuntime):
    """Counts what it computes."""

    computed = 0

    def run(self, feed: Feed) -> Outputs:
        self.computed += 1
        return super().run(feed)


def test_closing_an_evaluation_computes_nothing_more(dataset: Path, onnx_file: Path) -> None:
    runtime = Counted(onnx_file)
    evaluator = Evaluator(onnx_file, runtime, [Omz(MODEL, (SIZE, SIZE))])
    jobs = jobs_of(dataset) * 3
    with closing(evaluator.evaluate(jobs)) as entries:
        next(entries)
    computed = runtime.computed
    assert computed < len(jobs) / 2  # how many is a matter of how fast the threads are
    time.sleep(0.3)
    assert runtime.computed == computed


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_throughput_mode_gives_the_same_bits_from_any_thread(artifacts: Path, suffix: str) -> None:
    path = artifacts / MODEL.name / "FP32" / f"{MODEL.name}{suffix}"
    images = [draw_scene(seed, SIZE, SIZE).image[None] for seed in range(4)]
    plain = load(path, MODEL)
    many = load(path, MODEL, replace(plain.settings, throughput=True))
    assert plain.parallel == 1
    assert many.parallel > 1
    expected = [plain.run(item) for item in images]
    with closing(overlapped(many.run, images * 2, workers=many.parallel + 1, stop=never)) as found:
        for one, other in zip(found, expected * 2, strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in other)


# --- how images are shown to the network -----------------------------------------------------------------------------


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = draw_scene(1, 40, 50).image
    assert resize(image, (40, 50), 1.0, 1.0) is image


def test_bilinear_lies_between_the_nearest_pixels_and_averages_nothing() -> None:
    row = np.array([0, 100, 200, 50, 250, 150], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2)
    # Twice as wide: a quarter and three quarters of the way, and the borders as they are.
    wider = [0, 25, 75, 125, 175, 162, 88, 100, 200, 225, 175, 150]
    np.testing.assert_allclose(resize(image, (4, 12), 1.0, 2.0)[0, :, 0], wider, atol=1)
    # A third as wide: the middle one of every three.
    np.testing.assert_array_equal(resize(image, (4, 2), 1.0, 1 / 3)[0, :, 0], [100, 250])


@pytest.mark.parametrize(("height", "width"), [(48, 64), (61, 83), (37, 150)])
def test_enlarging_is_what_pillow_calls_bilinear(height: int, width: int) -> None:
    image = draw_scene(2, 37, 59).image
    found = resize(image, (height, width), height / 37, width / 59)
    expected = np.asarray(pillow.fromarray(image).resize((width, height), pillow.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (768, 1024, (1200, 1600)),
        (1024, 768, (1600, 1200)),
        (1024, 1024, (1200, 1200)),
        (683, 1024, (1067, 1600)),  # 1200 would make the longer side 1799
        (100, 1000, (160, 1600)),
        (3000, 4000, (1200, 1600)),
    ],
)
def test_upstreams_scale_is_that_of_the_shorter_side_unless_the_longer_gets_too_long(
    height: int, width: int, size: tuple[int, int]
) -> None:
    assert UpstreamScales(MODEL, pyramid=False).sizes(height, width) == [size]


def test_the_pyramid_has_four_sizes() -> None:
    sizes = UpstreamScales(MODEL, pyramid=True).sizes(768, 1024)
    assert sizes == [(500, 667), (800, 1067), (1200, 1600), (1600, 2133)]
    assert UpstreamScales(MODEL, pyramid=True).sizes(500, 1500)[1] == (400, 1200)


def one_face(stride: int, row: int, column: int, score: float) -> Callable[[Pixels], Outputs]:
    """A network of which one anchor, the first of a stride, is sure, whatever the image; it moves no box."""

    def compute(image: Pixels) -> Outputs:
        outputs = {}
        for head in anchor_task(MODEL).heads:
            cells = (-(-image.shape[0] // head.stride), -(-image.shape[1] // head.stride))
            outputs[head.scores] = np.zeros((1, 4, *cells), np.float32)
            outputs[head.boxes] = np.zeros((1, 8, *cells), np.float32)
            if head.stride == stride:
                outputs[head.scores][0, 2, row, column] = score
        return outputs

    return compute


def test_boxes_of_upstreams_scale_come_back_divided_by_it() -> None:
    """The first anchor of stride 16 is 128 pixels wide around (7.5, 7.5), moved by 16 for each cell."""
    image = np.zeros((300, 400, 3), np.uint8)  # four times as large it is 1200 x 1600
    found = UpstreamScales(MODEL, pyramid=False).find(image, one_face(16, 20, 30, 0.75))
    left, top = 30 * 16 + 7.5 - 63.5, 20 * 16 + 7.5 - 63.5
    np.testing.assert_allclose(found.boxes, [[left / 4, top / 4, 127 / 4, 127 / 4]])
    np.testing.assert_allclose(found.scores, [0.75])


def at_scales(scores: dict[int, float], stride: int, image: Pixels) -> Predictions:
    """What the pyramid finds if the first anchor of a stride has these scores, by the number of the scale."""
    feed = UpstreamScales(MODEL, pyramid=True)
    sizes = feed.sizes(*image.shape[:2])

    def network(pixels: Pixels) -> Outputs:
        height, width, _ = pixels.shape
        return one_face(stride, 0, 0, scores.get(sizes.index((height, width)), 0.0))(pixels)

    return feed.find(image, network)


@pytest.fixture
def tenth_pyramid(monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """An image for upstream's pyramid at a tenth of its scale."""
    monkeypatch.setattr(feeding, "PYRAMID_SIDES", (80, 120))
    return np.zeros((60, 80, 3), np.uint8)


@pytest.mark.parametrize(("stride", "seen"), [(32, [1, 1, 1, 0]), (16, [1, 1, 1, 1]), (8, [1, 1, 1, 1])])
def test_the_pyramid_leaves_the_largest_stride_out_at_its_largest_scale_only(
    stride: int, seen: list[int], tenth_pyramid: Pixels
) -> None:
    found = [at_scales({number: 0.9}, stride, tenth_pyramid) for number in range(4)]
    assert [len(item.scores) for item in found] == seen


def test_scales_of_the_pyramid_suppress_each_other_in_the_pixels_of_the_image(tenth_pyramid: Pixels) -> None:
    """The first anchor of stride 8 is 32 pixels wide around 7.5; clipped, it reaches from 0 to 23."""
    both = at_scales({2: 0.7, 3: 0.8}, 8, tenth_pyramid)
    np.testing.assert_allclose(both.boxes, [[0, 0, 23 / (160 / 60), 23 / (160 / 60)]])
    assert both.scores == pytest.approx([0.8]), "they overlap by more than 0.3"
    apart = at_scales({0: 0.7, 3: 0.8}, 8, tenth_pyramid)
    assert apart.scores == pytest.approx([0.8, 0.7]), "the second is ten times as large"


@pytest.mark.parametrize("feed", [UpstreamScales(MODEL, pyramid=False), Fitted(MODEL, (64, 64), Resize.STRETCH)])
def test_outputs_that_are_no_numbers_are_refused(feed: feeding.Feed) -> None:
    def compute(image: Pixels) -> Outputs:
        outputs = one_face(8, 0, 0, 0.9)(image)
        outputs[anchor_task(MODEL).heads[2].boxes][:] = np.nan
        return outputs

    with pytest.raises(DetectionError, match="NaN or infinity"):
        feed.find(np.zeros((64, 64, 3), np.uint8), compute)


def test_a_matching_artifact_runs_upstreams_test(
    small: Path, dataset: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    result = evaluate(Workspace(TENTH, tmp_path), EvaluateOptions(dataset, (small,), ("omz", "wider")))
    measure, official = result.artifacts[0].protocols
    assert measure.notes == ("defined at 640x640, run at 160x120",)
    assert official.notes == ()
    assert official.input == "shorter side to 120, longer at most 160"
    assert official.settings[0].average_precision > (0.2 if checkpoint.weights == DEMO else 0)


def test_an_artifact_of_any_size_runs_upstreams_test_and_its_pyramid(
    checkpoint: Checkpoint, small: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "PYRAMID_SIDES", (80, 120))
    free = convert(checkpoint, tmp_path / "any", Options(("onnx",), dynamic=Dynamic.SIZE))[0].path
    options = EvaluateOptions(dataset, (free,), ("wider",), limit=3)
    one, four = (evaluate(Workspace(TENTH, tmp_path), replace(options, pyramid=pyramid)) for pyramid in (False, True))
    fixed = evaluate(Workspace(TENTH, tmp_path), replace(options, artifacts=(small,)))
    found, expected = one.artifacts[0].protocols[0], fixed.artifacts[0].protocols[0]
    assert [item.average_precision for item in found.settings] == pytest.approx(
        [item.average_precision for item in expected.settings], abs=1e-3
    )
    assert four.artifacts[0].protocols[0].predictions > found.predictions
    assert four.artifacts[0].protocols[0].input == "shorter side to 80, longer at most 120, times 0.625, 1, 1.5, 2"


def test_an_artifact_that_gives_faces_needs_its_heads_too(
    checkpoint: Checkpoint, dataset: Path, tmp_path: Path
) -> None:
    shape = (1, 3, SIZE, SIZE)
    for keep in (True, False):
        options = Options(("onnx",), input_shape=shape, postprocessing=Postprocessing(keep_heads=keep))
        path = convert(checkpoint, tmp_path / str(keep), options)[0].path
        if keep:
            result = evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (path,), limit=1))
            assert result.images == 1
        else:
            with pytest.raises(ArtifactError, match=r"--postprocess.*--keep-heads"):
                evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (path,), limit=1))


def test_an_artifact_of_another_size_is_refused_with_the_remedy(onnx_file: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (onnx_file,), ("wider",)))
    assert str(caught.value) == (
        f"{onnx_file}: takes 160x160 only, and upstream's test (shorter side to 1200, longer at most 1600) makes "
        "1600x1200 (6) of the images; convert with --input-shape 1,3,1200,1600, or take --resize letterbox, whose "
        "figures are not those of upstream's scale"
    )
    with pytest.raises(UsageError, match=r"1067x800.*1600x1200"):
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (onnx_file,), ("wider",), pyramid=True))


def test_with_both_the_one_that_cannot_be_run_is_left_out_and_said(
    onnx_file: Path, dataset: Path, tmp_path: Path
) -> None:
    result = evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (onnx_file,), ("omz", "wider"), limit=1))
    assert [protocol.protocol for protocol in result.artifacts[0].protocols] == ["omz"]
    (note,) = result.notes
    assert note.startswith("onnx FP32: wider is left out: takes 160x160 only")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_an_image_is_known_before_it_is_read(tmp_path: Path, orientation: int) -> None:
    exif = pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    pillow.new("RGB", (30, 20)).save(path, exif=exif)
    assert read_size(path) == read_image(path).shape[:2]


# --- usage -----------------------------------------------------------------------------------------------------------

HERE: Final = Path(__file__).parent
MISUSES: Final[dict[str, tuple[EvaluateOptions, type[SSHToolError], str]]] = {
    "no dataset": (EvaluateOptions(), UsageError, "--dataset"),
    "no such dataset": (EvaluateOptions(HERE / "nowhere"), DatasetError, "nowhere"),
    "two in place of a run": (
        EvaluateOptions(HERE, merge=(HERE,), predictions=HERE), UsageError, "--merge and --predictions contradict",
    ),
    "a run and a merge": (
        EvaluateOptions(HERE, (HERE,), merge=(HERE,)), UsageError, "--artifact does not apply",
    ),
    "predictions and shards": (
        EvaluateOptions(HERE, predictions=HERE, shard=(1, 2), resume=True), UsageError, "--shard, --resume",
    ),
    "limit of a merge": (EvaluateOptions(HERE, limit=3, merge=(HERE,)), UsageError, "--limit"),
    "pyramid and resize": (
        EvaluateOptions(HERE, protocols=("wider",), pyramid=True, resize=Resize.STRETCH), UsageError,
        "--pyramid and --resize contradict",
    ),
    "pyramid of omz": (EvaluateOptions(HERE, pyramid=True), UsageError, "add --protocol wider"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "message"), MISUSES.values(), ids=MISUSES)
def test_what_contradicts_itself_is_refused_before_anything_is_done(
    options: EvaluateOptions, kind: type[SSHToolError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        evaluate(Workspace(MODEL, tmp_path / "out"), options)
    assert not (tmp_path / "out").exists()


def test_a_shard_without_images_is_refused(dataset: Path, artifacts: Path) -> None:
    with pytest.raises(UsageError, match=r"2.*3"):
        evaluate(Workspace(MODEL, artifacts), EvaluateOptions(dataset, limit=2, shard=(3, 3)))


def test_a_dataset_without_images_says_what_to_unpack(dataset: Path, onnx_file: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "wider", ignore=shutil.ignore_patterns("WIDER_val"))
    with pytest.raises(DatasetError, match=r"WIDER_val.*WIDER_val\.zip"):
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(tmp_path / "wider", (onnx_file,)))


def test_another_dataset_than_the_journals_is_refused(whole: Whole, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", images=IMAGES, seed=SEED + 1)
    with pytest.raises(EvaluationError, match="is not the dataset of the journals"):
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(tmp_path / "other", merge=(whole.journal("onnx-FP32"),)))


def test_a_journal_that_cannot_be_written_is_one_line(dataset: Path, onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / MODEL.name).write_text("in the way")
    with pytest.raises(OutputError, match=r"\.jsonl: cannot be written"):
        evaluate(Workspace(MODEL, tmp_path), EvaluateOptions(dataset, (onnx_file,), limit=1))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_is_written_as_i_of_n(text: str) -> None:
    assert shard_of("2/4") == (2, 4)
    with pytest.raises(UsageError, match=re.escape(f"--shard: {text!r} is not I/N with I from 1 to N")):
        shard_of(text)


def test_the_command_line_prints_tables_and_json(dataset: Path, artifacts: Path) -> None:
    result = sshtool("evaluate", "--dataset", dataset, "-o", artifacts, "--limit", "1")
    assert "omz, Open Model Zoo's measure, images stretched to 160x160" in result.stdout
    labels = ["onnx FP32", "openvino FP32", "onnx FP16", "openvino FP16"]
    assert [" ".join(line.split()[:2]) for line in result.stdout.splitlines()[3:7]] == labels
    assert "onnx FP32: loading" in result.stderr
    journals = [artifacts / MODEL.name / "evaluation" / f"{label.replace(' ', '-')}.omz.jsonl" for label in labels]
    document = json.loads(sshtool("evaluate", "--dataset", dataset, "--merge", *journals, "--json", "-q").stdout)
    assert (document["verb"], document["ok"]) == ("evaluate", True)
    assert [item["artifact"] for item in document["result"]["artifacts"]] == labels


def test_a_person_is_told_of_a_few_images_only(whole: Whole) -> None:
    artifact = whole.result.artifacts[0]
    lost = tuple(NotEvaluated(f"{number}.jpg", f"{number}.jpg: gone") for number in range(30))
    result = replace(whole.result, artifacts=(replace(artifact, not_evaluated=lost),))
    assert "… and 10 more" in printed(result)


def test_progress_has_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[tuple[str, int, int]] = []
    meter = Meter("onnx", 4000, 0, lambda step, done=0, total=0: said.append((step, done, total)))
    now = 2.0
    meter.step()
    assert said == [("onnx", 0, 4000), ("onnx, 0.5 images/s, 2:13:18 left", 1, 4000)]
    now = PERIOD + 1
    meter.step()
    assert said[-1] == ("onnx: 2 of 4000 images, 0.0328 images/s, 33:52:19 left", 0, 0)


def test_a_resumed_run_counts_its_own_images_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[str] = []
    meter = Meter("onnx", 10, 8, lambda step, *_: said.append(step))
    now = 4.0
    meter.step()
    assert said == ["onnx", "onnx: going on after 8 of 10 images", "onnx, 0.25 images/s, 0:04 left"]


def test_every_label_is_a_name_for_a_file_of_its_own() -> None:
    labels = ["onnx FP32", "onnx FP16", "onnx FP32 (a)", "onnx FP32 (ä)", "onnx FP32 (ö)", "x" * 300, "x" * 301]
    names = [command._file_name(label) for label in labels]
    assert names[0] == "onnx-FP32"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.-]{1,70}", name, re.ASCII) for name in names)


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_holds_all_that_it_shows_and_no_script(whole: Whole) -> None:
    reader = Reader(whole.page)
    identifiers = reader.values("id")
    assert len(identifiers) == len(set(identifiers))
    references = reader.values("href")
    assert {value[1:] for value in references if value.startswith("#")} <= set(identifiers)
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for value in references)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in reader.tags}
    assert not re.search(r"https?:|url\(|@import", re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", whole.page))
    assert "default-src 'none'" in whole.page
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") for tag, attributes in reader.tags if tag == "svg"
    )


def test_the_page_has_a_curve_for_every_artifact_in_every_setting(whole: Whole) -> None:
    reader = Reader(whole.page)
    drawn = [attributes for tag, attributes in reader.tags if tag == "path" and "curve" in attributes.get("class", "")]
    assert sum(len(attributes["d"]) > len("M0 6H40") for attributes in drawn) == 4 * 4
    text = " ".join(reader.texts)
    for artifact in whole.result.artifacts:
        assert artifact.artifact in text
        assert all(digest in text for digest in artifact.files.values())
        for protocol in artifact.protocols:
            for setting in protocol.settings:
                assert f"{100 * setting.average_precision:.2f}" in text


def test_the_page_shows_the_worst_images_each_once(whole: Whole) -> None:
    reader = Reader(whole.page)
    worst = {item.image for artifact in whole.result.artifacts for one in artifact.protocols for item in one.worst}
    assert worst
    assert reader.count("image") == reader.count("symbol") == len(worst)
    assert reader.count("use") >= len(worst)
    captions = " ".join(reader.texts)
    assert all(name in captions for name in worst)
    assert "onnx FP32, openvino FP32" in captions or "onnx FP16, onnx FP32" in captions, "what agrees is shown once"


def test_a_picture_has_as_many_boxes_of_each_kind_as_its_figures_say(whole: Whole, dataset: Path) -> None:
    truth = read_ground_truth(dataset)
    for artifact in whole.result.artifacts:
        for protocol in artifact.protocols:
            for worst in protocol.worst:
                finding = next(
                    item
                    for item in read_findings(whole.journal(artifact.artifact.replace(" ", "-")))
                    if item.image == worst.image
                )
                entry = run.judged(finding, truth.images[finding.index], omz.SSH)
                shown = entry.shown[protocol.protocol]
                judgement = entry.record.protocols[protocol.protocol]
                assert len(shown) == int((judgement.scores >= 0.5).sum())
                assert worst.misses <= worst.faces
    crosses = sum(
        attributes["d"].count("Z")
        for tag, attributes in Reader(whole.page).tags
        if tag == "path" and attributes.get("class") == "missing" and "Z" in attributes["d"]
    )
    captions = re.findall(r"jpg: (\d+) of \d+ faces? missed", re.sub(r'aria-label="[^"]*"', "", whole.page))
    assert crosses == sum(map(int, captions))


def test_a_path_cannot_bring_markup_into_the_page(whole: Whole, dataset: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "<script>alert(1)<" / "script>"
    shutil.copytree(whole.predictions / "onnx-FP32" / "omz", hostile)
    options = EvaluateOptions(dataset, predictions=hostile)
    evaluate(Workspace(MODEL, tmp_path), options, write=partial(write_evaluation, tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<script>alert(1)<" in " ".join(Reader(page).texts)


def test_the_page_is_drawn_by_a_browser_that_finds_nothing_wrong(whole: Whole, browser: Browser) -> None:
    assert browser.complaints(whole.page) == []
    for scheme in (LIGHT, DARK):
        pixels = browser.screenshot(whole.page, scheme, width=1000, height=3000)
        # The drawn scenes and the green of boxes on faces.
        green = np.abs(pixels - np.array([0x2E, 0xE6, 0xA6], np.int16)).max(axis=-1) <= 8
        assert green.sum() > 500
    assert browser.screenshot(whole.page, LIGHT, width=360, height=1000).shape[1] == 360
