"""`sshtool info FILE` describes any file of sshtool, and refuses others in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from small_release import MODEL, WEIGHTS, make_workspace
from sshconvert.checkpoint import Checkpoint
from sshtool.cli.app import app
from sshtool.inspection import inspect
from sshtool.package.build import PackageOptions, package
from sshtool.report.schema import shipped_schema
from sshtool.workspace import Workspace

pytestmark = pytest.mark.independent


@pytest.fixture(scope="module")
def workspace(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = make_workspace(tmp_path_factory.mktemp("info"), plain_checkpoint)
    for archive in ("zip", "tar.gz"):
        package(Workspace(MODEL, made.folder), PackageOptions(archive=archive))
    return made


def info(path: Path, *options: str) -> dict[str, Any]:
    """The result of `info PATH --json`, which follows its schema."""
    said = CliRunner().invoke(app, ["info", str(path), "--json", *options])
    assert said.exit_code == 0, said.output
    result: dict[str, Any] = json.loads(said.stdout)["result"]
    jsonschema.Draft202012Validator(json.loads(shipped_schema("info"))).validate(result)
    return result


def refused(path: Path, *options: str) -> str:
    """The message of a refusal in one line."""
    said = CliRunner().invoke(app, ["info", str(path), "--quiet", *options])
    assert said.exit_code in (1, 2), said.output
    assert not said.stdout
    assert said.stderr.count("\n") == 1
    return said.stderr


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_converted_model_is_described_by_its_file(workspace: Any, suffix: str) -> None:
    path = workspace.onnx.with_suffix(suffix)
    result = info(path)
    assert (result["kind"], result["precision"], result["weights"]) == ("artifact", "FP32", WEIGHTS)
    assert result["metadata"]["model"] == result["model"] == MODEL.name
    assert [item["name"] for item in result["inputs"]] == ["data"]
    assert {item["name"] for item in result["outputs"]} == set(MODEL.output_names)
    assert sum(result["operators"].values()) > 0
    assert result["mparams"] > 0
    assert result["bytes"] == sum(Path(file).stat().st_size for file in result["files"])


def test_a_package_is_described_alike_as_a_folder_and_as_archives(workspace: Any) -> None:
    folder = workspace.folder / "releases" / f"{MODEL.name}-flat"
    results = [
        info(path)
        for path in (folder, folder.with_name(f"{folder.name}.zip"), folder.with_name(f"{folder.name}.tar.gz"))
    ]
    for result in results:
        assert result.pop("path")
        assert result == {**results[0], **result}
        assert (result["kind"], result["model"], result["layout"]) == ("package", MODEL.name, "flat")
        assert all(model["verified"] for model in result["models"])
    said = CliRunner().invoke(app, ["info", str(folder)])
    assert "FP32" in said.stdout
    assert "sshtool check" in said.stdout


def test_a_symbol_and_params_are_networks(plain_checkpoint: Checkpoint) -> None:
    params = plain_checkpoint.params_path
    assert info(params)["kind"] == "checkpoint"
    assert info(params.parent)["kind"] == "checkpoint"
    result = info(next(params.parent.glob("*-symbol.json")), "--input", "data=1,3,64,64")
    assert (result["kind"], result["inputs"]) == ("network", {"data": [1, 3, 64, 64]})


def test_other_files_are_refused_in_one_line(workspace: Any, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    assert "of no known kind" in refused(text)
    assert "does not exist" in refused(tmp_path / "none")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07" + b"\xff" * 100)
    assert str(broken) in refused(broken)
    assert "belongs to" in refused(workspace.onnx.with_suffix(".bin"))
    assert "--model" in refused(workspace.onnx, "--model", MODEL.name)
    assert "contradict" in refused(tmp_path / "a.params", "--params", "b.params")


def test_a_broken_manifest_is_refused_in_one_line(workspace: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(workspace.folder / "releases" / f"{MODEL.name}-flat", folder)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert "manifest.json" in refused(folder)
    manifest.write_bytes(b" " * (5 << 20))
    assert "more than" in refused(folder)


def test_an_archive_without_a_manifest_is_left_to_the_reader_of_checkpoints(tmp_path: Path) -> None:
    archive = tmp_path / "empty.zip"
    archive.write_bytes(b"PK\x05\x06" + bytes(18))
    assert inspect(archive) is None
    refused(archive)
