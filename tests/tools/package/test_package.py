from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import jsonschema
import numpy as np
import onnx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import text_format
from huggingface_hub import ModelCard
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from PIL import Image

from command_line import sshtool
from detections import table
from small_model import METADATA, SIZE, small_onnx
from small_release import MODEL, WEIGHTS, Verified, copied, described, make_workspace
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Contract
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError, PackageError, UsageError, VerificationError
from sshconvert.formats.registry import FORMATS
from sshconvert.libraries import NO_TELEMETRY
from sshconvert.messages import printable
from sshconvert.models.registry import load_model
from sshconvert.onnx.model import weights_path
from sshconvert.options import Options, Postprocessing
from sshtool.package.build import PackageOptions, package
from sshtool.package.bundle import EARLIEST, source_date
from sshtool.package.card import CardModel, render_card
from sshtool.package.evidence import (
    Bench,
    BenchedArtifact,
    EvaluatedArtifact,
    Protocol,
    Setting,
    Speed,
    Spread,
    read_bench,
    read_evaluation,
)
from sshtool.package.layouts import LAYOUTS
from sshtool.package.licences import licence_texts
from sshtool.package.manifest import (
    MANIFEST,
    SUMS,
    Manifest,
    PackagedModel,
    Provenance,
    Tensor,
    Verification,
    parse_manifest,
    parse_sums,
)
from sshtool.package.names import collision, fault
from sshtool.package.packaged_model import packaged_model, read_contract
from sshtool.package.usage import IMAGE
from sshtool.parity.pack import demo_pack_path
from sshtool.parity.samples import draw_sample
from sshtool.report.schema import shipped_schema
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.workspace import Workspace

NAME: Final = MODEL.name


@pytest.fixture(scope="module")
def workspace(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    return make_workspace(tmp_path_factory.mktemp("workspace"), demo_checkpoint)


@pytest.fixture(scope="module")
def flat(workspace: Verified) -> Path:
    return package(Workspace(MODEL, workspace.folder), PackageOptions()).folder


def manifest_of(folder: Path) -> Manifest:
    return parse_manifest((folder / MANIFEST).read_bytes())


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.independent
def test_a_package_has_the_licence_texts_of_its_own_network() -> None:
    texts = {name: licence_texts(load_model(name)) for name in ("octave-resnet-26-0.25", "retinaface-mnet25")}
    assert [*texts["octave-resnet-26-0.25"]] == ["OctConv.txt", "sshtool.txt"]
    assert b"Copyright (c) Facebook, Inc. and its affiliates" in texts["octave-resnet-26-0.25"]["OctConv.txt"]
    assert [*texts["retinaface-mnet25"]] == ["sshtool.txt"]  # its holder is not stated


# --- What is in a package ---------------------------------------------------------------------------------------------


def test_a_package_holds_everything_and_says_what_each_file_is(flat: Path) -> None:
    found = files_of(flat)
    assert sorted(found) == sorted(
        [
            f"FP32/{NAME}.bin",
            f"FP32/{NAME}.onnx",
            f"FP32/{NAME}.xml",
            "LICENSES/mxnet-SSH.txt",
            "LICENSES/sshtool.txt",
            "README.md",
            "SHA256SUMS",
            "bom.cdx.json",
            "manifest.json",
            "reference.npz",
            "verification.html",
            "verification.json",
        ]
    )
    assert b"Copyright (c) 2018 Deep Insight" in found["LICENSES/mxnet-SSH.txt"]
    assert b"The sshtool authors" in found["LICENSES/sshtool.txt"]
    manifest = manifest_of(flat)
    assert manifest.verification.status == "passed"
    assert manifest.source.weights == WEIGHTS
    assert manifest.source.checkpoint.keys() == {MODEL.checkpoint.symbol, MODEL.checkpoint.params}
    assert [(model.label, model.path) for model in manifest.models] == [
        ("onnx FP32", f"FP32/{NAME}.onnx"),
        ("openvino FP32", f"FP32/{NAME}.xml"),
    ]
    for file in manifest.files:
        assert (len(found[file.path]), hashlib.sha256(found[file.path]).hexdigest()) == (file.bytes, file.sha256)


def test_the_models_are_the_bytes_that_were_verified(workspace: Verified, flat: Path) -> None:
    assert (flat / f"FP32/{NAME}.onnx").read_bytes() == workspace.onnx.read_bytes()
    assert (flat / f"FP32/{NAME}.bin").read_bytes() == workspace.ir.with_suffix(".bin").read_bytes()


def test_checksums_are_those_of_sha256sum(flat: Path) -> None:
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("there is no sha256sum here, whose format is checked")
    subprocess.run([tool, "--check", "--strict", "--quiet", SUMS], cwd=flat, check=True)
    assert parse_sums((flat / SUMS).read_bytes()).keys() == files_of(flat).keys() - {SUMS}


def test_the_manifest_follows_the_schema_that_ships(flat: Path) -> None:
    schema = json.loads(shipped_schema("manifest"))
    document = json.loads((flat / MANIFEST).read_bytes())
    jsonschema.validate(document, schema)
    for spoiled in (document | {"odd": 1}, document | {"manifest_version": 2}, document | {"files": "none"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, schema)


def test_the_bill_of_materials_follows_cyclonedx(flat: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    text = (flat / "bom.cdx.json").read_text()
    assert validator.validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    assert bill["metadata"]["component"]["modelCard"]["modelParameters"]["task"] == "object-detection"
    named = {item["name"]: item["hashes"][0]["content"] for item in bill["components"] if "hashes" in item}
    manifest = {file.path: file.sha256 for file in manifest_of(flat).files if file.path != "bom.cdx.json"}
    assert named == manifest
    bill["metadata"]["component"]["modelCard"]["modelParameters"]["task"] = 1
    assert validator.validate_str(json.dumps(bill)) is not None


def test_the_reports_name_places_in_the_package_and_none_outside(workspace: Verified, flat: Path) -> None:
    document = json.loads((flat / "verification.json").read_bytes())
    assert [item["path"] for item in document["result"]["report"]["artifacts"]] == [
        f"FP32/{NAME}.onnx",
        f"FP32/{NAME}.xml",
    ]
    for name, data in files_of(flat).items():
        assert str(workspace.folder).encode() not in data, name


# --- What is not packaged ---------------------------------------------------------------------------------------------


def test_an_onnx_model_of_two_files_is_not_packaged(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    weights_path(other.onnx).write_bytes(b"")
    with pytest.raises(PackageError, match=rf"{NAME}.onnx: its weights are in {NAME}.onnx.data; package an IR"):
        package(Workspace(MODEL, tmp_path), PackageOptions())


def test_what_was_not_verified_is_not_packaged(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    other.record.unlink()
    with pytest.raises(VerificationError, match="sshtool verify"):
        package(Workspace(MODEL, tmp_path), PackageOptions())
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize("which", ["onnx", "ir", "bin"])
def test_other_bytes_than_those_that_were_verified_are_not_packaged(
    which: str, workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)
    path = {"onnx": other.onnx, "ir": other.ir, "bin": other.ir.with_suffix(".bin")}[which]
    if which == "onnx":
        onnx.save(small_onnx(MODEL), path)
        model = onnx.load(path)
        model.doc_string = "another"
        onnx.save(model, path)
    else:
        data = bytearray(path.read_bytes())
        data[-2 if which == "bin" else data.index(b"<net name=") + 12] ^= 1
        path.write_bytes(data)
    with pytest.raises(VerificationError, match=r"passed `sshtool verify` with exactly these bytes"):
        package(Workspace(MODEL, tmp_path), PackageOptions())


def test_a_verification_that_failed_is_none(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    document = json.loads(other.record.read_bytes())
    document["result"]["report"]["artifacts"][0]["passed"] = False
    other.record.write_text(json.dumps(document))
    with pytest.raises(VerificationError, match=rf"{NAME}\.onnx: has not passed"):
        package(Workspace(MODEL, tmp_path), PackageOptions())


def test_what_passed_by_the_tolerances_of_another_precision_has_not_passed(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    arguments = ("--reference", other.pack, "--profile", "INT8", "--quiet")
    sshtool("verify", "-o", tmp_path, *arguments)
    with pytest.raises(VerificationError, match="has not passed"):
        package(Workspace(MODEL, tmp_path), PackageOptions())
    sshtool("verify", "-o", tmp_path, "--reference", other.pack, "--quiet")
    assert package(Workspace(MODEL, tmp_path), PackageOptions()).verified


@pytest.mark.parametrize("kept", [["colours"], []], ids=str)
def test_what_passed_on_a_part_of_the_samples_has_not_passed(
    kept: list[str], workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)
    document = json.loads(other.record.read_bytes())
    for artifact in document["result"]["report"]["artifacts"]:
        artifact["samples"] = [item for item in artifact["samples"] if item["sample"] in kept]
    other.record.write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="has not passed"):
        package(Workspace(MODEL, tmp_path), PackageOptions())


def test_an_unverified_package_is_marked_wherever_one_looks(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    other.record.unlink()
    result = package(Workspace(MODEL, tmp_path), PackageOptions(allow_unverified=True))
    assert not result.verified
    assert manifest_of(result.folder).verification.status == "unverified"
    assert not any(model.verified for model in manifest_of(result.folder).models)
    assert "**Not verified**" in (result.folder / "README.md").read_text()


def test_the_command_line_refuses_with_exit_code_3_and_writes_nothing(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    other.record.unlink()
    result = sshtool("package", "-o", tmp_path, "--json", code=3)
    assert json.loads(result.stdout)["error"]["type"] == "VerificationError"
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "sshtool verify", id="no JSON"),
        pytest.param("{}", "sshtool verify", id="nothing in it"),
        pytest.param('{"schema_version": 1, "verb": "bench", "ok": true, "result": {}}', "of bench", id="another verb"),
        pytest.param('{"schema_version": 1, "verb": "verify", "ok": true, "result": {}}', "report", id="no report"),
        pytest.param(
            '{"schema_version": 1, "verb": "verify", "ok": true, "ok": true}', "more than once", id="a key twice"
        ),
        pytest.param("[" * 100_000, "sshtool verify", id="deep"),
        pytest.param(
            '{"schema_version": 2, "verb": "verify", "ok": true, "result": {}}', "version 2 of verify", id="later"
        ),
    ],
)
def test_a_record_that_is_none_is_refused(text: str, message: str, workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    other.record.write_text(text)
    with pytest.raises(PackageError, match=message):
        package(Workspace(MODEL, tmp_path), PackageOptions())


@pytest.mark.parametrize(("key", "value"), [("report_version", 99), ("model", "another")])
def test_a_record_of_another_version_or_model_is_refused(
    key: str, value: Any, workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)
    document = json.loads(other.record.read_bytes())
    document["result"]["report"][key] = value
    other.record.write_text(json.dumps(document))
    with pytest.raises(
        PackageError, match=rf"is (version {value} and about {NAME}|version 2 and about {value}), expected"
    ):
        package(Workspace(MODEL, tmp_path), PackageOptions())


@pytest.mark.parametrize("option", ["verification", "evaluation", "bench"])
def test_a_document_that_is_not_there_or_is_another_is_refused(
    option: str, workspace: Verified, tmp_path: Path
) -> None:
    path = tmp_path / "document.json"
    options: Any = {option: path}
    with pytest.raises(PackageError, match=r"document\.json"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(**options))
    path.write_text("{}")
    with pytest.raises(PackageError, match=r"document\.json"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(**options))
    path.write_text(
        json.dumps({"schema_version": 1, "verb": "odd", "ok": True, "result": {"model": NAME, "artifacts": []}})
    )
    with pytest.raises(PackageError, match="it is version 1 of odd"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(**options))


def test_a_figure_without_end_is_refused(workspace: Verified, tmp_path: Path) -> None:
    document = tmp_path / "evaluation.json"
    document.write_text(json.dumps(evaluation(workspace)).replace("0.91929", "1e999"))
    with pytest.raises(PackageError, match="average_precision"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(evaluation=document))


def test_an_ir_that_is_none_or_is_cut_is_refused(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    os.truncate(other.ir.with_suffix(".bin"), 10)
    with pytest.raises(ArtifactError, match="its constants take"):
        read_contract(other.ir)
    other.ir.write_text(
        '<net name="a" version="11"><layers><layer type="Parameter"/><layer type="Result"/></layers></net>'
    )
    with pytest.raises(ArtifactError, match=r"convert again"):
        read_contract(other.ir)


def test_a_record_larger_than_any_is_refused_by_its_size(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    os.truncate(other.record, (64 << 20) + 1)
    with pytest.raises(PackageError, match="67108864"):
        package(Workspace(MODEL, tmp_path), PackageOptions())


def test_answers_of_another_checkpoint_are_not_packaged(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    model = onnx.load(other.onnx)
    onnx.helper.set_model_props(model, METADATA | {"weights": "sha256:" + "0" * 64})
    onnx.save(model, other.onnx)
    options = PackageOptions(artifacts=(other.onnx,), allow_unverified=True)
    with pytest.raises(PackageError, match=f"answers of the checkpoint {WEIGHTS}"):
        package(Workspace(MODEL, tmp_path), replace(options, reference=other.pack))
    result = package(Workspace(MODEL, tmp_path), options)
    assert not result.with_reference
    assert manifest_of(result.folder).source.archive_sha256 == "0" * 64


def test_models_of_two_checkpoints_are_not_packaged_together(workspace: Verified, tmp_path: Path) -> None:
    other = copied(workspace, tmp_path)
    model = onnx.load(other.onnx)
    onnx.helper.set_model_props(model, METADATA | {"weights": "another"})
    onnx.save(model, other.onnx)
    with pytest.raises(PackageError, match="several checkpoints"):
        package(Workspace(MODEL, tmp_path), PackageOptions(allow_unverified=True))


def test_two_models_that_take_one_place_are_not_packaged_together(workspace: Verified, tmp_path: Path) -> None:
    twin = tmp_path / "twin.onnx"
    shutil.copyfile(workspace.onnx, twin)
    with pytest.raises(PackageError, match="--artifact"):
        package(
            Workspace(MODEL, tmp_path), PackageOptions(artifacts=(workspace.onnx, twin), verification=workspace.record)
        )


def test_answers_of_another_size_are_not_packaged(workspace: Verified) -> None:
    with pytest.raises(PackageError, match=r"demo.*\.npz: .*; make one of these with `sshtool reference`"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(reference=demo_pack_path()))


@pytest.mark.parametrize(
    ("happens", "message"),
    [
        (lambda path: onnx.save(small_onnx(MODEL), path), "changed while it was packaged"),
        (Path.unlink, "cannot be read (No such file or directory)"),
    ],
    ids=["changes", "disappears"],
)
def test_a_model_that_changes_while_it_is_packaged_is_an_error(
    happens: Callable[[Path], None], message: str, workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)

    def progress(step: str, done: int = 0, total: int = 0) -> None:
        if (step, done, total) == ("writing the package", 0, 0):
            happens(other.onnx)

    with pytest.raises(PackageError, match=rf"\.onnx: {re.escape(message)}"):
        package(Workspace(MODEL, tmp_path), PackageOptions(), progress=progress)
    assert list((tmp_path / "releases").iterdir()) == []


@pytest.mark.parametrize("name", ["holidays.jpg", "scene-by-the-sea.jpg"])
def test_images_that_nobody_can_draw_again_are_not_in_the_report(
    name: str, workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)
    document = json.loads(other.record.read_bytes())
    report = document["result"]["report"]
    for samples in (report["samples"], *(artifact["samples"] for artifact in report["artifacts"])):
        samples.append(samples[0] | {"name" if "name" in samples[0] else "sample": name})
    other.record.write_text(json.dumps(document), encoding="utf-8")
    folder = package(Workspace(MODEL, tmp_path), PackageOptions()).folder
    assert name in (folder / "verification.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [PackageOptions(layout="odd"), PackageOptions(archive="rar")])
def test_unknown_layouts_and_archives_are_refused(options: PackageOptions, workspace: Verified) -> None:
    with pytest.raises(UsageError, match="is not one of"):
        package(Workspace(MODEL, workspace.folder), options)


def test_what_is_no_package_is_not_replaced(workspace: Verified, tmp_path: Path) -> None:
    copied(workspace, tmp_path)
    mine = tmp_path / "releases" / f"{NAME}-flat" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(PackageError, match="--output-dir"):
        package(Workspace(MODEL, tmp_path), PackageOptions())
    assert mine.read_text() == "mine"


def test_a_new_package_leaves_nothing_of_the_old_one(workspace: Verified, tmp_path: Path) -> None:
    copied(workspace, tmp_path)
    folder = package(Workspace(MODEL, tmp_path), PackageOptions()).folder
    (folder / "stale.txt").write_text("of an older version")
    assert package(Workspace(MODEL, tmp_path), PackageOptions()).folder == folder
    assert not (folder / "stale.txt").exists()
    assert not list(folder.parent.glob(".sshtool-*"))


def test_a_dry_run_writes_nothing(workspace: Verified, tmp_path: Path) -> None:
    copied(workspace, tmp_path)
    result = package(Workspace(MODEL, tmp_path), PackageOptions(archive="zip"), dry_run=True)
    assert result.archive == tmp_path / "releases" / f"{NAME}-flat.zip"
    assert not (tmp_path / "releases").exists()


# --- Same inputs, same bytes ------------------------------------------------------------------------------------------

CARD_SIZE: Final = 320  # of the image for the code of a card
ZONES: Final = ("UTC", "Asia/Kathmandu", "America/St_Johns")
LOCALES: Final = ("C", "C.UTF-8", "tr_TR.UTF-8")
UMASKS: Final = (0o022, 0o077, 0o002)


@pytest.mark.parametrize("builds", [2, pytest.param(12, marks=pytest.mark.long)])
def test_builds_of_the_same_artifacts_are_the_same_bytes(builds: int, workspace: Verified, tmp_path: Path) -> None:
    hashes = set()
    for number in range(builds):
        folder = tmp_path / f"build {number}" / ("nested" * (number % 3))
        source = sorted(workspace.folder.rglob("*"), reverse=bool(number % 2))  # folders list as they were filled
        for path in (path for path in source if path.is_file() and "releases" not in path.parts):
            target = folder / path.relative_to(workspace.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        environment = os.environ | {
            "TZ": ZONES[number % 3],
            "LC_ALL": LOCALES[number % 3],
            "PYTHONHASHSEED": str(number),
            "SOURCE_DATE_EPOCH": "1790000000",
        }
        command = [sys.executable, "-m", "sshtool", "package", "-o", str(folder), "--quiet"]
        for kind in ("zip", "tar.gz") if number < 2 else ("zip",):
            subprocess.run(
                [*command, "--archive", kind],
                env=environment,
                umask=UMASKS[number % 3],
                stdout=subprocess.DEVNULL,
                check=True,
            )
            made = folder / "releases" / f"{NAME}-flat.{kind}"
            hashes.add((kind, hashlib.sha256(made.read_bytes()).hexdigest()))
        shutil.rmtree(folder)
    assert sorted(kind for kind, _ in hashes) == ["tar.gz", "zip"]


def test_the_time_of_an_archive_is_source_date_epoch(workspace: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    result = package(Workspace(MODEL, workspace.folder), PackageOptions(archive="zip", layout="triton"))
    assert result.archive
    with zipfile.ZipFile(result.archive) as archive:
        assert {member.date_time for member in archive.infolist()} == {(2026, 9, 21, 14, 13, 20)}
        assert {stat.filemode(member.external_attr >> 16) for member in archive.infolist()} == {"-rw-r--r--"}
        assert {name.split("/")[0] for name in archive.namelist()} == {f"{NAME}-triton"}
    result = package(Workspace(MODEL, workspace.folder), PackageOptions(archive="tar.gz", layout="triton"))
    assert result.archive
    with tarfile.open(result.archive) as archive:
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(1790000000, 0, "")}


@pytest.mark.parametrize(("said", "seconds"), [("0", EARLIEST), ("1" * 18, 4354819199), ("400000000", 400000000)])
def test_times_that_a_zip_cannot_say_are_moved_to_those_it_can(
    said: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    assert source_date() == seconds


@pytest.mark.parametrize("said", ["", "yesterday", "-1", "1.5", "9" * 19, "٣"])
def test_a_source_date_that_is_no_time_is_refused_before_anything_is_written(
    said: str, workspace: Verified, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(workspace, tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        package(Workspace(MODEL, tmp_path), PackageOptions())
    assert not (tmp_path / "releases").exists()


# --- Layouts ----------------------------------------------------------------------------------------------------------


def packaged(workspace: Verified, layout: str) -> tuple[Path, Manifest]:
    folder = package(Workspace(MODEL, workspace.folder), PackageOptions(layout=layout)).folder
    return folder, manifest_of(folder)


def model_config() -> Any:
    """Triton's own description of `config.pbtxt`; its package would import gRPC."""
    spec = importlib.util.find_spec("tritonclient")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    loaded = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


def test_triton_reads_its_configuration_and_finds_the_files(workspace: Verified) -> None:
    folder, manifest = packaged(workspace, "triton")
    protocol = model_config()
    types = {"float32": protocol.TYPE_FP32}
    for model in manifest.models:
        place = folder / Path(model.path).parent.parent
        config = text_format.Parse((place / "config.pbtxt").read_text(), protocol.ModelConfig())
        assert config.name == place.name
        assert config.backend == {"onnx": "onnxruntime", "openvino": "openvino"}[model.format]
        assert config.max_batch_size == 0
        assert not config.HasField("dynamic_batching")
        kinds = [protocol.ModelInstanceGroup.KIND_CPU] if model.format == "openvino" else []
        assert [group.kind for group in config.instance_group] == kinds
        found = [(item.name, item.data_type, tuple(item.dims)) for item in (*config.input, *config.output)]
        assert found == [(item.name, types[item.dtype], item.shape) for item in (model.input, *model.outputs)]
        # The backends' default names, in a version's folder.
        names = {"onnx": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}}[model.format]
        assert {path.name for path in (place / "1").iterdir()} == names
    assert {path.name for path in (folder / "model_repository").iterdir()} == {
        Path(model.path).parts[1] for model in manifest.models
    }


def free_model(path: Path, name: str = "n", *, inputs: str = "") -> PackagedModel:
    """The small model of any number of images, whose last output has `name` as its first dimension, and no other."""
    model = small_onnx(MODEL, free=True)
    last = model.graph.output[-1].type.tensor_type.shape.dim
    last[0].dim_param = name
    del last[1:]
    entries = {**Contract.of(MODEL, "demo", Options(), "FP32").metadata, **({"inputs": inputs} if inputs else {})}
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)
    return packaged_model(path, FORMATS["onnx"].read_contract(path), NAME, LAYOUTS["triton"], verified=True)


def test_triton_batches_a_file_whose_tensors_all_begin_with_the_number_of_images(tmp_path: Path) -> None:
    model = free_model(tmp_path / "free.onnx")
    assert model.batched
    protocol = model_config()
    (text,) = LAYOUTS["triton"].configuration([model], MODEL).values()
    config = text_format.Parse(text.decode(), protocol.ModelConfig())
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")
    assert not config.instance_group
    for item, tensor in zip((*config.input, *config.output), (model.input, *model.outputs), strict=True):
        assert tuple(item.reshape.shape if item.HasField("reshape") else item.dims) == tensor.shape[1:]
    assert tuple(config.output[-1].dims) == (1,)


@pytest.mark.parametrize(
    "change",
    [{"name": "m"}, {"name": ""}, {"inputs": "tensors"}],
    ids=["another dimension", "no name", "steps of a sequence, perhaps"],
)
def test_triton_batches_nothing_else_that_is_free(change: dict[str, str], tmp_path: Path) -> None:
    model = free_model(tmp_path / "free.onnx", **change)
    assert not model.batched
    (text,) = LAYOUTS["triton"].configuration([model], MODEL).values()
    config = text_format.Parse(text.decode(), model_config().ModelConfig())
    assert config.max_batch_size == 0
    for item, tensor in zip((*config.input, *config.output), (model.input, *model.outputs), strict=True):
        assert tuple(item.dims) == tensor.shape


def test_a_model_server_finds_every_model_that_its_configuration_names(workspace: Verified) -> None:
    folder, manifest = packaged(workspace, "ovms")
    config = json.loads((folder / "models/config.json").read_bytes())
    assert config.keys() == {"model_config_list"}
    for entry, model in zip(config["model_config_list"], manifest.models, strict=True):
        assert entry.keys() == {"config"}
        assert entry["config"].keys() == {"name", "base_path"}
        assert entry["config"]["base_path"] == f"/models/{entry['config']['name']}"
        versions = list((folder / "models" / entry["config"]["name"]).iterdir())
        assert [path.name for path in versions] == ["1"]
        assert {path.suffix for path in versions[0].iterdir()} == {Path(path).suffix for path in model.files}
    # By the server's documentation, the options are these two; the mount makes the configuration's paths true.
    card = (folder / "README.md").read_text(encoding="utf-8")
    command = next(line for line in card.splitlines() if line.startswith("docker run "))
    assert '-v "$PWD/models:/models:ro" -p 8000:8000 openvino/model_server' in command
    assert command.endswith(" --config_path /models/config.json --rest_port 8000")


def test_a_hub_gets_large_files_by_lfs_and_a_card_that_it_can_read(workspace: Verified) -> None:
    folder, manifest = packaged(workspace, "huggingface")
    assert {model.path for model in manifest.models} == {"onnx/model.onnx", "openvino/openvino_model.xml"}
    attributes = (folder / ".gitattributes").read_text().splitlines()
    assert {line.split()[0] for line in attributes} == {"*.bin", "*.npz", "*.onnx"}
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "object-detection")
    assert {"face-detection", "onnx", "openvino"} <= set(card.data.tags)
    assert "\n```shell\nhf upload USER/NAME . .\n```\n" in card.text  # the repository, this folder, and its root there


@pytest.mark.parametrize("precision", ["FP32", "FP16", "INT8"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_no_two_models_take_the_same_place(layout: Any, precision: str) -> None:
    every = [layout.main_file(NAME, form, kind) for form in ("onnx", "openvino") for kind in ("FP32", "FP16", "INT8")]
    assert len(set(every)) == 6
    main, weights = layout.files(layout.main_file(NAME, "openvino", precision), "openvino")
    assert (Path(main).suffix, Path(weights)) == (".xml", Path(main).with_suffix(".bin"))


# --- The model card ---------------------------------------------------------------------------------------------------


def evaluation(workspace: Verified) -> dict[str, Any]:
    sha256 = hashlib.sha256(workspace.onnx.read_bytes()).hexdigest()
    settings = [{"setting": "mAP", "average_precision": 0.91929, "faces": 48, "curve": []}]
    protocols = [{"protocol": "omz", "input": "stretched", "images": 24, "settings": settings, "more": 1}]
    artifacts = [{"files": {"any.onnx": sha256}, "protocols": protocols}]
    return {"schema_version": 1, "verb": "evaluate", "ok": True, "result": {"model": NAME, "artifacts": artifacts}}


def test_figures_of_an_evaluation_stand_in_the_card_for_the_files_that_they_are_of(
    workspace: Verified, tmp_path: Path
) -> None:
    other = copied(workspace, tmp_path)
    document = tmp_path / "evaluation.json"
    document.write_text(json.dumps(evaluation(workspace)))
    folder = package(Workspace(MODEL, tmp_path), PackageOptions(evaluation=document)).folder
    row = f"| `FP32/{NAME}.onnx` | omz | 24 | mAP | 91.93 % | 48 |"
    assert row in (folder / "README.md").read_text()
    results = ModelCard.load(folder / "README.md").data.eval_results
    found = [(item.metric_type, item.metric_value) for item in results or ()]
    assert found == [("mean_average_precision", 91.93)]
    metrics = json.loads((folder / "bom.cdx.json").read_bytes())["metadata"]["component"]["modelCard"]
    assert metrics["quantitativeAnalysis"]["performanceMetrics"][0]["value"] == "91.93"
    model = onnx.load(other.onnx)
    model.doc_string = "other bytes"
    onnx.save(model, other.onnx)
    folder = package(Workspace(MODEL, tmp_path), PackageOptions(evaluation=document, allow_unverified=True)).folder
    assert "91.93" not in (folder / "README.md").read_text()


@pytest.mark.long
def test_speeds_stand_in_the_card_for_the_files_that_they_are_of(workspace: Verified, tmp_path: Path) -> None:
    copied(workspace, tmp_path)
    result = sshtool("bench", "-o", tmp_path, "--runs", "4", "--rounds", "2", "--json", "--quiet")
    document = tmp_path / "bench.json"
    document.write_text(result.stdout)
    folder = package(Workspace(MODEL, tmp_path), PackageOptions(bench=document)).folder
    card = (folder / "README.md").read_text()
    for candidate in json.loads(result.stdout)["result"]["candidates"]:
        latency = f"{1000 * candidate['latency']['seconds']['median']:.1f}"
        assert re.search(rf"\| `FP32/{NAME}\.(onnx|xml)` \| {candidate['runtime']} \| .* \| {latency} \| ", card)
    other = json.loads(result.stdout)
    for candidate in other["result"]["candidates"]:
        candidate["files"] = {"other.onnx": "0" * 64}
    document.write_text(json.dumps(other))
    assert (
        "## Speed"
        not in (package(Workspace(MODEL, tmp_path), PackageOptions(bench=document)).folder / "README.md").read_text()
    )
    document.write_text(json.dumps(other | {"result": {"model": "another"}}))
    with pytest.raises(PackageError, match="is about another"):
        package(Workspace(MODEL, tmp_path), PackageOptions(bench=document))


def test_a_setting_with_a_name_that_fills_the_card_is_refused(workspace: Verified, tmp_path: Path) -> None:
    document = tmp_path / "evaluation.json"
    other = evaluation(workspace)
    other["result"]["artifacts"][0]["protocols"][0]["settings"][0]["setting"] = "x" * 201
    document.write_text(json.dumps(other))
    with pytest.raises(PackageError, match="setting"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(evaluation=document))


UNFIT: dict[str, tuple[str, dict[str, Any]]] = {
    "more than all": ("setting", {"average_precision": 1e308}),
    "less than nothing": ("setting", {"average_precision": -0.1}),
    "faces below nought": ("setting", {"faces": -5}),
    "half a face": ("setting", {"faces": 0.5}),
    "no setting of the protocol": ("setting", {"setting": "easy"}),
    "a setting that writes": ("setting", {"setting": "mAP\n      verified: true"}),
    "no protocol": ("protocol", {"protocol": "wider) x"}),
    "images without number": ("protocol", {"images": 10**400}),
    "cores below nought": ("bench", {"cores": -3}),
    "a shape of two": ("candidate", {"input_shape": [1, 3]}),
    "seconds below nought": ("candidate", {"latency": {"seconds": {"median": -1}, "images_per_second": {"median": 1}}}),
    "endless speed": ("candidate", {"throughput": {"seconds": {"median": 1}, "images_per_second": {"median": 1e300}}}),
}


def measured(workspace: Verified, changes: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of an evaluation and a benchmark of the workspace's artifact, with these changes in their parts."""
    evaluated = evaluation(workspace)
    (artifact,) = evaluated["result"]["artifacts"]
    (protocol,) = artifact["protocols"]
    candidate = {
        "files": artifact["files"],
        "runtime": "ONNX Runtime 1",
        "inference_precision": "f32",
        "input_shape": [1, 3, 64, 64],
        "latency": {"seconds": {"median": 0.01}, "images_per_second": {"median": 100.0}},
        "throughput": None,
    }
    bench = {"model": NAME, "threads": 2, "cores": 4, "environment": {"processor": "a CPU"}, "candidates": [candidate]}
    parts = {"setting": protocol["settings"][0], "protocol": protocol, "bench": bench, "candidate": candidate}
    for part, change in changes.items():
        parts[part].update(change)
    return evaluated, {"schema_version": 1, "verb": "bench", "ok": True, "result": bench}


@pytest.mark.parametrize(("part", "change"), UNFIT.values(), ids=UNFIT)
def test_figures_that_nobody_measures_are_refused(
    part: str, change: dict[str, Any], workspace: Verified, tmp_path: Path
) -> None:
    paths = (tmp_path / "evaluation.json", tmp_path / "bench.json")
    readers: tuple[Any, ...] = (read_evaluation, read_bench)
    for changes, refused in (({}, False), ({part: change}, True)):
        documents = measured(workspace, changes)
        wrong = documents[part in ("bench", "candidate")]
        for path, reader, document in zip(paths, readers, documents, strict=True):
            path.write_text(json.dumps(document))
            if refused and document is wrong:
                with pytest.raises(PackageError, match="is not what"):
                    reader(path, NAME)
            else:
                reader(path, NAME)


HOSTILE_PARTS = (
    "<script>alert(1)</script>", "<!-- ", "![x](https://evil.example/x.png)", "[x](javascript:x)",
    "[x]: https://evil.example", "https://evil.example", "www.evil.example", "evil.com", "a@evil.example", "| a | b |",
    "\n", "\r\n", "\u2028", "# One", "---", "===", "```", "~~~", "`", "\\", "**", "_", "- x", "+ x", "1. x", "2) x",
    "> x",
    "&lt;b&gt;", "&#60;b>", "license: other", "\nlicense: other #", "'", '"', "{{ 7*7 }}", "{% x %}", "\x1b[2J",
    "$x$", "    code", "\t", " ", "no", ": ", "é",
)  # fmt: skip


def body_of(card: str) -> list[Any]:
    """The tokens of a card below its front matter, with tables and with links that need no brackets."""
    reader = MarkdownIt("commonmark").enable("table")
    return [item for token in reader.parse(card.split("\n---\n", 1)[1]) for item in (token, *(token.children or ()))]


def ours(tokens: list[Any]) -> list[tuple[str, Any]]:
    """What a page makes of a card: its headings, links, lists and cells, and nothing of what stands in them."""
    shape = [(token.type, token.attrGet("href")) for token in tokens if token.type not in ("text", "text_special")]
    return [item for item in shape if item[0] not in ("code_inline", "softbreak")]


@given(
    st.lists(
        st.sampled_from(HOSTILE_PARTS) | st.text(st.characters(codec="utf-8"), max_size=3), min_size=1, max_size=4
    ).map("".join)
)
@settings(max_examples=30, deadline=None)
def test_what_a_document_says_stays_text_in_the_card(text: str) -> None:
    def card(text: str) -> str:
        tensor = Tensor(name=text, dtype="float32", shape=(1, 3, 64, 64))
        model = PackagedModel(
            label="onnx FP32", format="onnx", precision=text, path="FP32/a.onnx", files=("FP32/a.onnx",), input=tensor,
            outputs=(tensor,), input_layout="NCHW", color_order="BGR", mean_values=(0, 0, 0), postprocessing=None,
            options={}, verified=True,
        )  # fmt: skip
        setting = Setting(setting="mAP", average_precision=0.5, faces=3)
        evaluated = EvaluatedArtifact(
            files={}, protocols=(Protocol(protocol="omz", input=text[:200], images=3, settings=(setting,)),)
        )
        speed = Speed(seconds=Spread(median=1), images_per_second=Spread(median=1))
        benched = BenchedArtifact(
            files={}, runtime=text[:200], inference_precision=text[:200], input_shape=(1, 3, 64, 64), latency=speed,
            throughput=None,
        )  # fmt: skip
        made = MODEL.model_copy(update={"title": text, "homepage": f"https://a.example/{text}"})
        return render_card(
            made,
            Provenance(weights="demo", archive_sha256=None, checkpoint={}),
            Verification(status="passed", reference=text, notes=(text,)),
            [CardModel(model, 1, None, evaluated, (benched,))],
            Bench(model=NAME, cores=2, environment={"processor": text[:200]}, candidates=(benched,)),
        ).decode()

    plain, hostile = card("a"), card(text)
    assert vars(ModelCard(hostile).data) == vars(ModelCard(plain).data)
    found, expected = (ours(body_of(made)) for made in (hostile, plain))
    at = next(number for number, item in enumerate(expected) if item[1] and "a.example" in item[1])
    assert found[at][1].startswith("https://a.example/")
    found[at] = expected[at]
    assert found == expected
    said = "".join(token.content for token in body_of(hostile) if token.type in ("text", "text_special", "code_inline"))
    assert printable(text).strip() in said


def test_every_file_that_a_card_points_to_is_in_the_package(workspace: Verified, tmp_path: Path) -> None:
    paths = (tmp_path / "evaluation.json", tmp_path / "bench.json")
    for path, document in zip(paths, measured(workspace, {}), strict=True):
        path.write_text(json.dumps(document))
    unverified = copied(workspace, tmp_path / "other")
    (unverified.folder / NAME / "verification.json").unlink()
    layouts = [key for key, layout in LAYOUTS.items() if not layout.vendored]
    for layout, figures, folder in itertools.product(layouts, (False, True), (workspace.folder, unverified.folder)):
        options = PackageOptions(layout=layout, allow_unverified=True)
        if figures:
            options = replace(options, evaluation=paths[0], bench=paths[1])
        made = package(Workspace(MODEL, folder), options).folder
        card = (made / "README.md").read_text(encoding="utf-8")
        links = [str(token.attrGet("href")) for token in body_of(card) if token.type == "link_open"]
        inside = {link for link in links if "://" not in link}
        assert {"SHA256SUMS", "manifest.json", "bom.cdx.json"} <= inside
        assert ("verification.html" in inside) is (folder == workspace.folder)
        assert all((made / link).is_file() for link in inside)
        named = re.findall(r"[\w./-]+\.(?:html|json|npz|onnx|xml)\b", card)
        assert all((made / name.lstrip("/")).is_file() for name in named)  # a server's mount of `models` is /models
        assert "wider_face" not in card
        assert ModelCard.load(made / "README.md").data.get("datasets") is None


def test_a_card_names_the_data_set_of_the_published_weights_alone(workspace: Verified) -> None:
    model = described(read_contract(workspace.onnx), workspace.onnx)
    verification = Verification(status="passed", reference="MXNet", notes=())
    for weights, named in ((f"sha256:{MODEL.archive.sha256}", ["wider_face"]), ("sha256:" + "0" * 64, None)):
        source = Provenance(weights=weights, archive_sha256=weights[7:], checkpoint={})
        card = render_card(MODEL, source, verification, [CardModel(model, 1, None, None)]).decode()
        assert ModelCard(card).data.get("datasets") == named


def test_an_evaluation_of_another_model_is_refused(workspace: Verified, tmp_path: Path) -> None:
    document = tmp_path / "evaluation.json"
    other = evaluation(workspace)
    other["result"]["model"] = "another"
    document.write_text(json.dumps(other))
    with pytest.raises(PackageError, match="is about another"):
        package(Workspace(MODEL, workspace.folder), PackageOptions(evaluation=document))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="heads, from float32 BGR", marks=pytest.mark.long),
        pytest.param({"postprocessing": Postprocessing(score_threshold=0.5)}, id="faces inside"),
    ],
)
def test_the_code_of_the_card_finds_the_faces(
    change: dict[str, Any], demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    shape = (1, 3, CARD_SIZE, CARD_SIZE)
    convert(demo_checkpoint, tmp_path, Options(("onnx", "openvino"), input_shape=shape, **change))
    folder = package(Workspace(MODEL, tmp_path), PackageOptions(allow_unverified=True)).folder
    sample = draw_sample("scene-0", MODEL, *shape[2:])
    Image.fromarray(sample.images[0][..., ::-1]).save(folder / "photo.png")
    heads = convert(demo_checkpoint, tmp_path / "heads", Options(("onnx",), input_shape=shape))[0].path
    expected = table(MODEL.task.decode(OnnxRuntime(heads).run(sample.images), shape[2:])[0].from_score(0.5))
    assert len(expected)
    card = (folder / "README.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"### ([^\n]+)\n\n```python\n(.*?)\n```", card, re.DOTALL))
    assert list(parts) == ["ONNX Runtime", "OpenVINO", "From the outputs to faces"]
    for title, runtime in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")):
        program = "\n".join([parts[title], parts["From the outputs to faces"], "np.save('faces.npy', np.array(faces))"])
        program = program.replace(IMAGE, "photo.png")  # JPEG would change the pixels
        site = only_these(tmp_path / runtime, "numpy", "pillow", runtime)
        subprocess.run(
            [sys.executable, "-S", "-c", program],  # without the packages of this environment
            env={"PYTHONPATH": str(site), "PATH": os.environ["PATH"], NO_TELEMETRY: "1"},
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = np.load(folder / "faces.npy")
        assert found.shape == expected.shape
        clipped = np.column_stack([np.clip(found[:, :4], 0, CARD_SIZE - 1), found[:, 4]])
        np.testing.assert_allclose(clipped, expected, atol=1e-2)


def only_these(folder: Path, *names: str) -> Path:
    """A folder with nothing but these packages, and what they cannot do without."""
    wanted, seen = list(names), {"openvino-telemetry"}
    folder.mkdir()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(PackageNotFoundError):  # some do without all that they name
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
                (folder / top).symlink_to(str(found.locate_file(top)))
            needs = map(Requirement, found.requires or ())
            wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return folder


def test_a_card_of_a_model_that_takes_no_images_shows_no_code_for_images(workspace: Verified) -> None:
    model = described(read_contract(workspace.onnx), workspace.onnx).model_copy(update={"mean_values": (1, 2, 3)})
    source = Provenance(weights="sha256:" + "0" * 64, archive_sha256=None, checkpoint={})
    verification = Verification(status="passed", reference="MXNet", notes=())
    card = render_card(MODEL, source, verification, [CardModel(model, 1, None, None)]).decode()
    assert "```python" not in card
    assert "minus [1, 2, 3]" in card
    assert MODEL.licence.weights in card
    assert "**The weights are a demo's**" not in card


Change = Callable[[Any], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda m: m.update(odd=1), "odd", id="an unknown key"),
        pytest.param(lambda m: m["files"].append(m["files"][0]), "more than once", id="a file twice"),
        pytest.param(lambda m: m["files"][0].update(path="../evil"), "path", id="a path that leads out"),
        pytest.param(lambda m: m["files"][0].update(path="/etc/passwd"), "path", id="an absolute path"),
        pytest.param(lambda m: m["files"][0].update(path="a\\b"), "path", id="a backslash"),
        pytest.param(lambda m: m["files"][0].update(bytes=-1), "bytes", id="a negative size"),
        pytest.param(lambda m: m["files"][0].update(sha256="x"), "sha256", id="no hash"),
        pytest.param(lambda m: m["models"].clear(), "models", id="no models"),
        pytest.param(lambda m: m.update(reference_pack=None), "reference_pack", id="a pack that is not named"),
        pytest.param(lambda m: m["models"][0].update(path="other.onnx"), "models", id="a model that is not there"),
        pytest.param(lambda m: m.update(manifest_version=2), "manifest_version", id="a later version"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: Change, message: str, flat: Path) -> None:
    document = json.loads((flat / MANIFEST).read_bytes())
    change(document)
    with pytest.raises(ValueError, match=message) as error:
        parse_manifest(json.dumps(document).encode())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"x\n", "line 1", id="no hash"),
        pytest.param(b"0" * 64 + b" a\n", "line 1", id="one space"),
        pytest.param(b"0" * 64 + b"  ab", "does not end", id="no end"),
        pytest.param((b"0" * 64 + b"  a\n") * 2, "line 2", id="twice"),
        pytest.param(b"\xff\n", "UTF-8", id="no text"),
        pytest.param(b"\n", "line 1", id="an empty line"),
        pytest.param(b"0" * 64 + b"  a\r\n" + b"0" * 64 + b"  b\r\n", "CRLF", id="Windows"),
        pytest.param(b"0" * 64 + b"  \x1b[2J\n", "line 1: .* is no name", id="an escape sequence"),
        pytest.param(b"".join(b"0" * 64 + b"  %d\n" % at for at in range(2001)), "line 2001", id="many"),
    ],
)
def test_checksums_that_are_none_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_sums(data)


NAMES: Final = {
    **{f"a device, {name}": name for name in ("CON", "aux.txt", "NUL.onnx", "a/Prn", "com1", "LPT9.tar.gz", "COM0/a")},
    "a device of other digits": "COM\u00b9",
    "a dot at the end": "a.",
    "a dot at the end of a folder": "a./b",
    "an option": "-rf",
    "an option in a folder": "a/-rf",
    "a blank at the end": "a ",
    **{
        f"character {ord(character):x}": f"a{character}b"
        for character in '\\:*?"<>|\t\n\r\x00\x7f\x85\u202e\u2066\ufeffé'
    },
    "two Unicode forms": "e\u0301",
    "a part of nothing": "a//b",
    "a long one": "a" * 201,
    "nothing": "",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_systems_do_not_share_is_no_name(name: str, flat: Path) -> None:
    assert fault(name)
    document = json.loads((flat / MANIFEST).read_bytes())
    document["files"][0]["path"] = name
    with pytest.raises(ValueError, match=r"files\.0\.path"):
        parse_manifest(json.dumps(document).encode())
    with pytest.raises(ValueError, match=r"line [12]"):
        parse_sums(f"{'0' * 64}  {name}\n".encode(errors="surrogatepass"))


@pytest.mark.parametrize("name", [".gitattributes", "console", "com", "a.con", "nulls.txt", "FP32/ssh-mxnet.onnx", "_"])
def test_a_name_that_all_systems_share_is_one(name: str) -> None:
    assert not fault(name)


@pytest.mark.parametrize("twins", [("a/b", "A/c"), ("a/b", "a/B"), ("a", "a/b"), ("a/b/c", "a/b")], ids=str)
def test_two_names_that_are_one_somewhere_are_refused(twins: tuple[str, str], flat: Path) -> None:
    assert collision(twins)
    document = json.loads((flat / MANIFEST).read_bytes())
    for number, name in enumerate(twins):
        document["files"][number]["path"] = name
    with pytest.raises(ValueError, match="on some systems"):
        parse_manifest(json.dumps(document).encode())


def test_sizes_of_small_models_are_those_of_the_small_model(workspace: Verified) -> None:
    for path in (workspace.onnx, workspace.ir):
        contract = read_contract(path)
        assert contract.inputs[0].shape == (1, 3, SIZE, SIZE)
        assert tuple(output.name for output in contract.outputs) == MODEL.output_names
        assert contract.weights == WEIGHTS
