from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sshconvert.checkpoint import Checkpoint, bind, open_checkpoint, read_record
from sshconvert.digest import file_sha256
from sshconvert.errors import ArchiveError, ArtifactError, CheckpointError, DownloadError, ModelError, UsageError
from sshconvert.models.registry import load_model, model_names, parse_model
from sshconvert.mxnet.params import read_params, write_params
from sshconvert.network import output_names, parse_symbol
from sshtool.checkpoint.archive import opened, pack, unpack
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.runtimes.mxnet import Mxnet
from sshtool.workspace import Workspace

MODEL = load_model("ssh-mxnet")
SYMBOL, PARAMS = MODEL.checkpoint.symbol, MODEL.checkpoint.params


@pytest.fixture
def copy(demo_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A folder with the demo's two files, to be damaged."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (demo_checkpoint.symbol_path, demo_checkpoint.params_path):
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def archive(demo_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "some.zip"
    pack(demo_checkpoint.params_path.parent, MODEL, path)
    return path


def test_all_missing_unexpected_and_misshapen_parameters_are_listed_at_once(copy: Path) -> None:
    arrays = dict(read_params(copy / PARAMS))
    del arrays["arg:conv1_1_bias"], arrays["arg:conv5_3_weight"]
    arrays["arg:conv1_2_bias"] = np.zeros(63, np.float32)
    arrays["arg:conv2_1_bias"] = np.zeros(128, np.float64)
    arrays["arg:fc6_weight"] = np.zeros(1, np.float32)
    arrays["conv2_2_bias"] = np.zeros(128, np.float32)
    arrays["aux:conv4_1_bias"] = arrays.pop("arg:conv4_1_bias")
    write_params(copy / "other-0001.params", arrays)
    shutil.copyfile(copy / SYMBOL, copy / "other-symbol.json")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(copy / "other-0001.params", MODEL)
    message = str(caught.value)
    for part in (
        "missing conv1_1_bias",
        "missing conv5_3_weight",
        "conv1_2_bias is float32 (63,), expected float32 (64,)",
        "conv2_1_bias is float64",
        "unexpected arg:fc6_weight",
        "unexpected conv2_2_bias (neither arg: nor aux:)",
        "unexpected aux:conv4_1_bias",
        "missing conv4_1_bias",
        "other-0001.params",
        "other-symbol.json",
    ):
        assert part in message
    assert "\n" not in message


def test_no_more_problems_are_listed_than_a_person_reads(copy: Path) -> None:
    arrays = {f"arg:parameter_{number}": np.zeros(1, np.float32) for number in range(1000)}
    write_params(copy / PARAMS, arrays)
    with pytest.raises(CheckpointError, match=r"parameter_19.*1\d\d\d") as caught:
        open_checkpoint(copy, MODEL)
    assert "parameter_50" not in str(caught.value)


def test_moving_averages_are_auxiliary_and_nothing_else_is(tmp_path: Path) -> None:
    variables = ("data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var")
    nodes: list[dict[str, object]] = [{"op": "null", "name": name, "inputs": []} for name in variables]
    nodes.append({"op": "BatchNorm", "name": "bn", "inputs": [[index, 0, 0] for index in range(5)]})
    symbol = {
        "nodes": nodes,
        "arg_nodes": [*range(5)],
        "heads": [[5, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    graph = parse_symbol(json.dumps(symbol))
    arrays = {f"{'aux' if 'moving' in name else 'arg'}:{name}": np.ones(3, np.float32) for name in variables[1:]}
    assert list(bind(graph, arrays, MODEL, source=tmp_path)) == [*variables[1:]]
    with pytest.raises(CheckpointError, match=r"bn_moving_var.*bn_moving_var"):
        bind(
            graph,
            {name.replace("aux:bn_moving_var", "arg:bn_moving_var"): array for name, array in arrays.items()},
            MODEL,
            source=tmp_path,
        )


def test_both_files_are_hashed_as_they_were_read(copy: Path) -> None:
    before = {path.name: file_sha256(path) for path in copy.iterdir()}
    checkpoint = open_checkpoint(copy, MODEL)
    total = sum(float(array.sum()) for array in checkpoint.parameters.values())
    for path in copy.iterdir():
        path.write_bytes(b"")
    assert checkpoint.sha256 == before
    assert sum(float(array.sum()) for array in checkpoint.parameters.values()) == total


@pytest.mark.usefixtures("mxnet")
@pytest.mark.parametrize("name", [SYMBOL, PARAMS])
def test_mxnet_does_not_answer_for_files_that_changed_after_they_were_opened(copy: Path, name: str) -> None:
    checkpoint = open_checkpoint(copy, MODEL)
    Mxnet(checkpoint)
    with (copy / name).open("r+b") as file:
        file.seek(-30, 2)  # inside the symbol's heads, or the last parameter's name
        file.write(b" " if name == SYMBOL else b"\x01")
    with pytest.raises(ArtifactError, match=r"MXNet cannot read|changed after it was opened"):
        Mxnet(checkpoint)
    (copy / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"sshb-0000.params.*MXNet"):
        Mxnet(checkpoint)


def test_weights_are_views_of_what_was_read(demo_checkpoint: Checkpoint) -> None:
    assert all(not array.flags.owndata and not array.flags.writeable for array in demo_checkpoint.parameters.values())


@pytest.mark.parametrize("name", [SYMBOL, PARAMS])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} not found"):
        open_checkpoint(copy, MODEL)


@pytest.mark.parametrize("name", ["nowhere", "notes.txt"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="neither a folder"):
        open_checkpoint(tmp_path / name, MODEL)


def test_another_network_is_refused_by_its_outputs(shared_data: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ssh-mxnet.*face_rpn_cls_prob_reshape_stride32"):
        open_checkpoint(shared_data / "retinaface-16and32" / "16and32-0000.params", MODEL)


def test_outputs_in_another_order_are_refused(copy: Path) -> None:
    document = json.loads((copy / SYMBOL).read_text())
    document["heads"].reverse()
    (copy / SYMBOL).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="ssh-mxnet"):
        open_checkpoint(copy, MODEL)


def test_a_params_path_finds_its_symbol_beside_it(copy: Path) -> None:
    assert open_checkpoint(copy / PARAMS, MODEL).symbol_path == copy / SYMBOL


def test_an_archive_opens_like_a_folder_and_leaves_nothing_behind(
    archive: Path, demo_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with opened(archive, MODEL) as checkpoint:
        assert checkpoint.weights == "demo"
        assert checkpoint.graph == demo_checkpoint.graph
    assert not list((tmp_path / "temporary").iterdir())


def test_an_archive_of_other_weights_is_known_by_its_hash(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "plain.zip"
    pack(plain_checkpoint.params_path.parent, MODEL, path)
    with opened(path, MODEL) as checkpoint:
        assert checkpoint.weights == f"sha256:{file_sha256(path)}"


def test_packing_twice_gives_the_same_bytes(archive: Path, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    pack(demo_checkpoint.params_path.parent, MODEL, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [SYMBOL, PARAMS]


@pytest.mark.parametrize(
    ("members", "accepted"),
    [
        ([SYMBOL, PARAMS, "readme.txt"], True),
        ([f"ssh/{SYMBOL}", f"ssh/{PARAMS}"], True),
        ([f"a/b/{SYMBOL}", PARAMS], False),
        ([SYMBOL], False),
        ([SYMBOL, PARAMS, f"again/{PARAMS}"], False),
        (["readme.txt"], False),
    ],
    ids=["beside others", "in one folder", "two folders deep", "incomplete", "twice", "others only"],
)
def test_an_archive_holds_each_file_once_at_its_root_or_in_one_folder(
    tmp_path: Path, members: list[str], accepted: bool
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for member in members:
            packed.writestr(member, member)
    if accepted:
        unpack(tmp_path / "a.zip", MODEL, tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [PARAMS, SYMBOL]
    else:
        with pytest.raises(ArchiveError, match=r"expected sshb-.* once"):
            unpack(tmp_path / "a.zip", MODEL, tmp_path / "out")


def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[1_000_000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="has checksum"):
        unpack(tmp_path / "flipped.zip", MODEL, tmp_path / "out")
    (tmp_path / "short.zip").write_bytes(data[:-5000])
    with pytest.raises(ArchiveError, match="no end record"):
        unpack(tmp_path / "short.zip", MODEL, tmp_path / "out")


def test_an_archive_that_is_not_the_pinned_one_needs_allow_unverified(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"73316283.*--allow-unverified"):
        download(Workspace(MODEL, tmp_path), DownloadOptions(from_archive=archive))
    assert not (tmp_path / "checkpoints").exists()
    result = download(Workspace(MODEL, tmp_path), DownloadOptions(from_archive=archive, allow_unverified=True))
    record = read_record(tmp_path / "checkpoints" / "ssh-mxnet")
    assert record is not None
    assert not record.verified
    assert record.weights == result.weights == f"sha256:{file_sha256(archive)}"
    assert record.source == "some.zip"


def test_the_pinned_archive_is_verified_by_size_and_hash(archive: Path, tmp_path: Path) -> None:
    text = parse_model_text().replace("73_316_283", str(archive.stat().st_size))
    pinned = parse_model(text.replace(MODEL.archive.digest, file_sha256(archive)).encode(), source="test")
    workspace = Workspace(pinned, tmp_path)
    assert download(workspace, DownloadOptions(from_archive=archive)).verified
    with archive.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArchiveError, match="not upstream's archive"):
        download(workspace, DownloadOptions(from_archive=archive))


def parse_model_text() -> str:
    from importlib.resources import files

    return files("sshconvert.models").joinpath("ssh-mxnet.toml").read_text(encoding="utf-8")


def test_a_bad_archive_leaves_the_stored_checkpoint_alone(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    download(Workspace(MODEL, tmp_path), DownloadOptions(demo=True))
    folder = tmp_path / "checkpoints" / "ssh-mxnet"
    before = {path.name: file_sha256(path) for path in folder.iterdir()}
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.write(plain_checkpoint.symbol_path, SYMBOL)
        packed.writestr(PARAMS, b"not parameters")
    with pytest.raises(Exception, match="params"):
        download(Workspace(MODEL, tmp_path), DownloadOptions(from_archive=tmp_path / "bad.zip", allow_unverified=True))
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == before


def test_a_file_changed_after_it_was_stored_is_noticed(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    pack(plain_checkpoint.params_path.parent, MODEL, tmp_path / "plain.zip")
    download(Workspace(MODEL, tmp_path), DownloadOptions(from_archive=tmp_path / "plain.zip", allow_unverified=True))
    folder = tmp_path / "checkpoints" / "ssh-mxnet"
    assert open_checkpoint(folder, MODEL).weights.startswith("sha256:")
    with (folder / PARAMS).open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x00\x00\x3f")
    with pytest.raises(CheckpointError, match=r"sshb-0000.params.*checkpoint.json"):
        open_checkpoint(folder, MODEL)


def test_a_record_that_does_not_follow_the_schema_is_refused(copy: Path) -> None:
    (copy / "checkpoint.json").write_text(json.dumps({"schema_version": 2, "model": "ssh-mxnet"}))
    with (copy / PARAMS).open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00\x00\x00\x3f")
    with pytest.raises(CheckpointError, match=r"checkpoint.json.*schema_version"):
        open_checkpoint(copy, MODEL)


def test_without_a_source_the_three_ways_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"--from-archive.*--checkpoint"):
        download(Workspace(MODEL, tmp_path), DownloadOptions(offline=True))


def test_the_model_is_shipped_and_another_name_is_refused() -> None:
    assert "ssh-mxnet" in model_names()
    with pytest.raises(ModelError, match="ssh-mxnet"):
        load_model("ssh")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name = ", "name == ", "not valid TOML"),
        ("# Tried", "# Taken", ""),
        ('title = "', 'titel = "', "titel: Extra inputs"),
        ("size = 73_316_283", "size = -1", "checkpoint.archive.size"),
        ('sha256 = "1ac', 'sha256 = "xac', "checkpoint.archive.sha256"),
        ("shape = [1, 3, 640, 640]", "shape = [3, 640, 640]", r"inputs.0: .*shape is"),
    ],
    ids=["syntax", "unchanged", "unknown key", "negative size", "no hash", "three dimensions"],
)
def test_a_model_description_that_does_not_follow_the_schema_is_refused(old: str, new: str, problem: str) -> None:
    text = parse_model_text().replace(old, new, 1)
    if not problem:
        assert parse_model(text.encode(), source="test") == MODEL
        return
    with pytest.raises(ModelError, match=problem):
        parse_model(text.encode(), source="test")


def test_the_description_matches_the_network(demo_checkpoint: Checkpoint) -> None:
    assert output_names(demo_checkpoint.graph) == MODEL.output_names
    assert sum(array.size for array in demo_checkpoint.parameters.values()) == 19_768_420


def test_another_network_with_the_same_outputs_is_refused_by_the_name_of_its_input(copy: Path) -> None:
    path = copy / MODEL.checkpoint.symbol
    symbol = json.loads(path.read_text())
    next(node for node in symbol["nodes"] if node["name"] == "data")["name"] = "image"
    path.write_text(json.dumps(symbol))
    with pytest.raises(CheckpointError, match="ssh-mxnet"):
        open_checkpoint(copy, MODEL)


def test_a_record_of_another_model_is_refused(copy: Path) -> None:
    alter(copy / MODEL.checkpoint.params)
    files = {path.name: file_sha256(path) for path in (copy / MODEL.checkpoint.symbol, copy / MODEL.checkpoint.params)}
    record: dict[str, Any] = {
        "model": "another",
        "weights": "sha256:" + "0" * 64,
        "source": "x.zip",
        "verified": True,
        "files": files,
    }
    (copy / "checkpoint.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
        open_checkpoint(copy, MODEL)
    (copy / "checkpoint.json").write_text(json.dumps(record | {"model": MODEL.name}))
    assert open_checkpoint(copy, MODEL).weights == record["weights"]


def alter(params: Path) -> None:
    """Change one weight, so that it is not the demo any more."""
    data = bytearray(params.read_bytes())
    place = len(data) // 2
    data[place] ^= 1  # of a float's bits one that leaves it finite
    params.write_bytes(data)


def test_an_archive_of_the_right_size_and_another_hash_is_not_upstreams(tmp_path: Path) -> None:
    archive = tmp_path / MODEL.archive.name
    archive.write_bytes(b"PK\x03\x04")
    os.truncate(archive, MODEL.archive.size)
    with pytest.raises(ArchiveError, match=rf"not upstream's archive .*{MODEL.archive.size} bytes, SHA-256"):
        download(Workspace(MODEL, tmp_path), DownloadOptions(from_archive=archive))


def test_what_a_source_sends_is_never_taken_unverified(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--allow-unverified.*--from-archive"):
        download(Workspace(MODEL, tmp_path), DownloadOptions(allow_unverified=True))
