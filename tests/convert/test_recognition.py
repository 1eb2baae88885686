"""Files that are taken for others: each is named for what it is, with the way on, by whatever reads it."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from PIL import Image

from small_model import write_small_models
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.errors import (
    ArchiveError,
    ArtifactError,
    CheckpointError,
    ImageError,
    ParamsError,
    ReferencePackError,
    SSHToolError,
    SymbolError,
)
from sshconvert.models.registry import load_model
from sshconvert.mxnet.params import read_params, write_params
from sshconvert.network import read_symbol
from sshconvert.recognition import recognised
from sshconvert.validation import check_ir, read_onnx
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.demo.symbol import ssh_vgg16_symbol
from sshtool.images import read_image
from sshtool.parity.pack import demo_pack_path, read_pack
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
LFS: Final = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 79093144\n"


def tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]  # of any mode
        archive.addfile(tarfile.TarInfo("sshb-0000.params"))
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


# What people have under the name of another, and a word that says what it is.
OTHERS: Final[dict[str, tuple[bytes, str]]] = {
    "pointer": (LFS, "git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
    "torch": (pickle.dumps({"a": 1}, 2), "pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
    "tar": (tar("w"), "tar archive"),
    "tar.gz": (tar("w:gz"), "gzip"),
    "safetensors": (b"\x40" + bytes(7) + b'{"weight": {}}' + bytes(80), "safetensors"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
}

READERS: Final[dict[str, tuple[Callable[[Path], object], str, type[SSHToolError]]]] = {
    "params": (read_params, "x.params", ParamsError),
    "symbol": (read_symbol, "x-symbol.json", SymbolError),
    "checkpoint": (lambda path: opened(path, MODEL).__enter__(), "x.zip", CheckpointError),
    "archive": (
        lambda path: download(Workspace(MODEL, path.parent), DownloadOptions(from_archive=path)),
        "x.zip",
        ArchiveError,
    ),
    "image": (read_image, "x.png", ImageError),
    "onnx": (read_onnx, "x.onnx", ArtifactError),
    "ir": (check_ir, "x.xml", ArtifactError),
    "pack": (lambda path: read_pack(path, MODEL), "x.npz", ReferencePackError),
}


ARCHIVES: Final = ("checkpoint", "archive")  # their readers take a tar too


@pytest.mark.parametrize(
    ("other", "reader"),
    [(other, reader) for other in OTHERS for reader in READERS if other != "tar" or reader not in ARCHIVES],
)
def test_each_reader_names_what_it_was_given(reader: str, other: str, tmp_path: Path) -> None:
    read, name, error = READERS[reader]
    raw, word = OTHERS[other]
    path = tmp_path / name
    path.write_bytes(raw)

    with pytest.raises(error, match=word) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.fixture
def own(plain_checkpoint: Checkpoint, tmp_path: Path) -> dict[str, Path]:
    """One of each kind that sshtool reads and writes."""
    write_small_models(tmp_path, MODEL)
    (tmp_path / "x-symbol.json").write_text(ssh_vgg16_symbol(), encoding="utf-8")
    (tmp_path / "x.png").write_bytes(png())
    return {
        "params": plain_checkpoint.params_path,
        "symbol": tmp_path / "x-symbol.json",
        "onnx": tmp_path / "small.onnx",
        "ir": tmp_path / "small.xml",
        "weights": tmp_path / "small.bin",
        "pack": demo_pack_path(),
        "image": tmp_path / "x.png",
    }


WORDS: Final = {
    "params": "MXNet .params",
    "symbol": "MXNet symbol",
    "onnx": "ONNX model",
    "ir": "OpenVINO IR",
    "weights": "",
    "pack": "NumPy archive",
    "image": "an image",
}


def test_every_kind_of_ours_is_recognised(own: dict[str, Path]) -> None:
    for kind, path in own.items():
        assert WORDS[kind] in recognised(path.read_bytes()), kind
        assert bool(WORDS[kind]) == bool(recognised(path.read_bytes())), kind


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("checkpoint", "archive")])
def test_each_reader_names_the_others_kinds(reader: str, own: dict[str, Path]) -> None:
    read, _, error = READERS[reader]
    for kind, path in own.items():
        if kind in (reader, "weights") or (reader, kind) == ("params", "pack"):
            continue
        with pytest.raises(error) as caught:
            read(path)
        assert WORDS[kind] in str(caught.value), kind


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("symbol", "the .params file that belongs to it"),
        ("onnx", "--artifact"),
        ("ir", "--artifact"),
        ("weights", "IR"),
    ],
)
def test_what_is_no_checkpoint_is_named_with_the_way_on(kind: str, way: str, own: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=way) as caught:
        open_checkpoint(own[kind], MODEL)
    assert "download" not in str(caught.value)


def test_exchanged_files_are_named(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / MODEL.checkpoint.params).write_bytes(plain_checkpoint.symbol_path.read_bytes())
    (tmp_path / MODEL.checkpoint.symbol).write_bytes(plain_checkpoint.params_path.read_bytes()[:1000])
    with pytest.raises(SymbolError, match="MXNet"):
        open_checkpoint(tmp_path, MODEL)
    (tmp_path / MODEL.checkpoint.symbol).write_bytes(plain_checkpoint.symbol_path.read_bytes())
    with pytest.raises(ParamsError, match="MXNet"):
        open_checkpoint(tmp_path, MODEL)


FOLDERS: Final = {
    "another model": (("16and32-symbol.json", "16and32-0000.params"), "16and32-0000.params.*another model"),
    "one file of two": ((MODEL.checkpoint.params,), f"{MODEL.checkpoint.symbol} not found"),
    "its archive": ((MODEL.archive.name,), "ssh-model-final.zip: give that"),
    "artifacts": (("ssh-mxnet.onnx", "ssh-mxnet.xml"), "converted already"),
    "nothing": ((), "sshtool download"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_without_the_checkpoint_is_told_what_it_holds(name: str, tmp_path: Path) -> None:
    files, message = FOLDERS[name]
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path, MODEL)
    assert ("sshtool download" in str(caught.value)) == (not files)


def test_parameters_without_their_symbol_are_told_which_there_is(tmp_path: Path) -> None:
    for file in ("model-0001.params", "other-symbol.json"):
        (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=r"model-symbol.json.*other-symbol\.json"):
        open_checkpoint(tmp_path / "model-0001.params", MODEL)


def test_parameters_as_gluon_saves_them_are_named(tmp_path: Path) -> None:
    write_params(tmp_path / MODEL.checkpoint.params, {"conv1_1_weight": np.zeros((64, 3, 3, 3), np.float32)})
    (tmp_path / MODEL.checkpoint.symbol).write_text(ssh_vgg16_symbol(), encoding="utf-8")
    with pytest.raises(CheckpointError, match="Gluon"):
        open_checkpoint(tmp_path, MODEL)


def test_a_quantized_symbol_is_named(tmp_path: Path) -> None:
    document = json.loads(ssh_vgg16_symbol())
    document["nodes"][-1] |= {"op": "_sg_mkldnn_conv", "subgraphs": [{"nodes": []}]}
    path = tmp_path / "x-symbol.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SymbolError, match=r"_sg_mkldnn_conv.*MXNet") as caught:
        read_symbol(path)
    assert "save the symbol anew" not in str(caught.value)


def test_control_flow_is_named_with_its_count(tmp_path: Path) -> None:
    document = json.loads(ssh_vgg16_symbol())
    for node in document["nodes"][-2:]:
        node |= {"op": "_foreach", "subgraphs": [{"nodes": []}]}
    path = tmp_path / "x-symbol.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SymbolError, match=r"2 of '_foreach'.*control flow"):
        read_symbol(path)


def test_the_real_quantized_symbols_are_named(shared_data: Path) -> None:
    for path in sorted((shared_data / "zoo" / "symbols").glob("gluoncv-wheel-*.json")):
        with pytest.raises(SymbolError, match="quantized"):
            read_symbol(path)


def test_an_artifact_that_is_refused_for_something_else_is_not_renamed(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), path)
    with pytest.raises(ArtifactError) as caught:
        read_onnx(path)
    assert "is an ONNX model" not in str(caught.value)
