"""Files that nobody's tool makes, in every format that is read but archives, .params and symbols, which have their own
tests: each gives one error by name in one line, at once and with little memory.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image as pillow  # noqa: N813  # as in sshtool.images

from command_line import sshtool
from detections import anchor_task
from limited_process import allow, folder_in_memory, run_limited, timed
from mutations import mutants
from reference_packs import empty_answers
from small_model import SIZE, small_onnx, write_small_models
from sshconvert.arrays import Images
from sshconvert.checkpoint import Checkpoint, read_record, write_record
from sshconvert.errors import (
    ArtifactError,
    CheckpointError,
    ImageError,
    ModelError,
    ReferencePackError,
    SSHToolError,
)
from sshconvert.graph import Graph
from sshconvert.models.registry import load_model, parse_model
from sshconvert.reading import read_small
from sshconvert.schema import LARGEST_TOML, Strict, parse_json
from sshconvert.validation import check_ir, read_onnx
from sshtool import images
from sshtool.checkpoint.archive import opened
from sshtool.checkpoint.download import DownloadOptions, download
from sshtool.image_claims import read_claims
from sshtool.images import Resize, fit, read_image, reading
from sshtool.memory import Budget
from sshtool.parity.pack import read_pack, write_pack
from sshtool.parity.samples import sample_names
from sshtool.parity.verification import VerifyOptions, verify_artifacts
from sshtool.runtimes.loading import load
from sshtool.selection import select_images
from sshtool.workspace import Workspace

MODEL: Final = load_model("ssh-mxnet")
OTHER_LENGTH: Final = Path("/proc/self/status")
NO_FILES: Final = ("pipe", "folder", "device", "nowhere", "a name too long", "a zero byte")


def message_of(error: BaseException) -> str:
    """Its one line, or the test fails."""
    text = str(error)
    if not text or "\n" in text or len(text) > 3000 or "Traceback" in text:
        raise AssertionError(text) from error
    return text


def no_file(kind: str, folder: Path, suffix: str = "") -> Path:
    """A path that leads to something else than a file."""
    path = folder / f"there{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    if kind == "device":
        path.symlink_to("/dev/zero")
    if kind == "a name too long":
        return folder / f"{'x' * 300}{suffix}"
    if kind == "a zero byte":
        return folder / f"a\0b{suffix}"
    return path


# --- descriptions of models -------------------------------------------------------------------------------------------


@cache
def toml() -> str:
    return files("sshconvert.models").joinpath("ssh-mxnet.toml").read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    assert old in toml()
    return toml().replace(old, new, 1)


def without_heads() -> str:
    before, _, heads = toml().partition("[[task.heads]]")
    return f"{before}heads = []\n[published]{heads.partition('[published]')[2]}"


MEAN: Final = "mean = [123.68, 116.779, 103.939]"
DESCRIPTIONS: Final[dict[str, tuple[str, str]]] = {
    "empty": ("", "name: Field required"),
    "no TOML": ("\0\x01\x02", "not valid TOML"),
    "JSON": ('{"name": "a"}', "not valid TOML"),
    "a key twice": (toml() + "\ncode = 'x'\n", "not valid TOML"),
    "a table twice": (toml() + "\n[demo]\nsymbol = 'a'\n", "not valid TOML"),
    "an unknown table": (toml() + "\n[evil]\n", "evil: Extra inputs"),
    "a hundred unknown keys": ("".join(f"k{n} = 1\n" for n in range(100)) + toml(), "and 90 more"),
    "a key with line breaks": (toml() + '\n"a\\nb\\u001b[2J" = 1\n', "Extra inputs"),
    "nested arrays": ("a = " + "[" * 10_000, "nested too deeply"),
    "a long dotted key": (toml() + "[a]\na" + ".a" * 5000 + " = 1", "200 dots"),
    "nested tables": (toml() + "[a]\na" + ".a" * 200 + " = 1", "a: Extra inputs"),
    "long dotted keys": (
        toml() + "[a]\n" + "\n".join(f"{'.'.join(['a'] * 200)}.b{n} = 1" for n in range(50)),
        "a: Extra inputs",
    ),
    "too long": (toml() + "#" * LARGEST_TOML, "more than 24576 bytes"),
    "an integer of 5000 digits": (changed("73_316_283", "9" * 5000), "not valid TOML"),
    "a negative size": (changed("73_316_283", "-1"), "checkpoint.archive.size"),
    "a size of text": (changed("73_316_283", '"big"'), "checkpoint.archive.size"),
    "a mean of nan": (changed(MEAN, "mean = [nan, 0, 0]"), "inputs.0.image.mean.0"),
    "a mean of inf": (changed(MEAN, "mean = [0, inf, 0]"), "inputs.0.image.mean.1"),
    "a mean beyond all colours": (changed(MEAN, "mean = [0, 0, 1e300]"), "inputs.0.image.mean.2"),
    "a negative mean": (changed(MEAN, "mean = [0, -1, 0]"), "inputs.0.image.mean.1"),
    "two means": (changed(MEAN, "mean = [1, 2]"), "inputs.0.image.mean"),
    "four channels": (changed("[1, 3, 640, 640]", "[1, 4, 640, 640]"), "inputs.0: "),
    "no batch": (changed("[1, 3, 640, 640]", "[0, 3, 640, 640]"), "inputs.0.shape.0"),
    "huge images": (changed("[1, 3, 640, 640]", "[1, 3, 1000000, 640]"), "inputs.0.shape.2"),
    "a boolean for a number": (changed("base_size = 16", "base_size = [true]"), "task.heads.0.base_size"),
    "a threshold of nan": (changed("score_threshold = 0.05", "score_threshold = nan"), "score_threshold"),
    "a threshold above 1": (changed("score_threshold = 0.05", "score_threshold = 1.5"), "score_threshold"),
    "a negative overlap": (changed("iou_threshold = 0.3", "iou_threshold = -0.3"), "iou_threshold"),
    "no candidates": (changed("candidates_per_stride = 1000", "candidates_per_stride = 0"), "candidates"),
    "no scales": (changed("scales = [32, 16]", "scales = []"), "scales"),
    "a stride of zero": (changed("stride = 32", "stride = 0"), "stride"),
    "no heads": (without_heads(), "task.heads"),
    "an input with a blank in its name": (changed('name = "data"', 'name = "the data"'), "inputs.0.name"),
    "an output with a name too long": (
        changed('"rpn_bbox_pred_stride32"', f'"{"a" * 101}"'),
        "task.heads.0.boxes",
    ),
    "two outputs of one name": (
        changed('boxes = "rpn_bbox_pred_stride32"', 'boxes = "rpn_bbox_pred_stride16"'),
        "same name",
    ),
    "a file in another folder": (changed('"sshb-symbol.json"', '"../sshb-symbol.json"'), "checkpoint.symbol"),
    "a file at the root": (changed('"sshb-symbol.json"', '"/etc/passwd"'), "checkpoint.symbol"),
    "a hidden file": (changed('"sshb-symbol.json"', '".profile"'), "checkpoint.symbol"),
    "a file with a backslash": (changed('"sshb-symbol.json"', "'a\\b'"), "checkpoint.symbol"),
    "a file with a zero byte": (changed('"sshb-symbol.json"', '"a\\u0000b"'), "checkpoint.symbol"),
    "a file whose name ends in a line feed": (changed('"sshb-symbol.json"', '"a.json\\n"'), "checkpoint.symbol"),
    "a file whose name ends in a dot": (changed('"sshb-symbol.json"', '"a."'), "checkpoint.symbol"),
    "a file with a name too long": (changed('"sshb-symbol.json"', f'"{"a" * 300}"'), "checkpoint.symbol"),
    "both files of one name": (changed('"sshb-symbol.json"', '"SSHB-0000.params"'), "the same name"),
    "a source that is a file": (changed('url = "https://www', 'url = "file:///www'), "checkpoint.sources.0.url"),
    "a source without encryption": (changed('url = "https://www', 'url = "http://www'), "checkpoint.sources.0.url"),
    "a hash in capitals": (changed("1ac43c83", "1AC43C83"), "checkpoint.archive.sha256"),
    "a negative figure": (changed("gflops = 267.0594", "gflops = -1"), "published.gflops"),
    "a figure of nan": (changed("gflops = 267.0594", "gflops = nan"), "published.gflops"),
    "a date that is none": (changed("gflops = 267.0594", "gflops = 2021-13-45"), "not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_hostile_description_of_a_model_is_refused(text: str, message: str) -> None:
    with timed("description"), pytest.raises(ModelError, match=re.escape(message)) as caught:
        parse_model(text.encode(), source="evil.toml")
    assert message_of(caught.value).startswith("evil.toml: ")


def test_damaged_descriptions_are_refused_or_still_are_descriptions() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_descriptions(2000)")


def mutate_descriptions(count: int) -> str:
    def read(data: bytes) -> None:
        parse_model(data, source="evil.toml")

    return mutated(read, [toml().encode()], count, ModelError)


def refuse_or_read(read: Callable[[bytes], object], data: bytes, *errors: type[SSHToolError]) -> str:
    try:
        read(data)
    except errors as error:
        message_of(error)
        return "refused"
    return "read"


def mutated(read: Callable[[bytes], object], seeds: list[bytes], count: int, *errors: type[SSHToolError]) -> str:
    """For a process of its own: damaged files are read, or refused with one of these errors."""
    for data in seeds:
        read(data)
    allow(max(map(len, seeds)))
    outcomes: Counter[str] = Counter()
    for number, data in enumerate(mutants(seeds, count)):
        with timed(number):
            outcomes[refuse_or_read(read, data, *errors)] += 1
    assert outcomes["refused"] > count // 20, outcomes
    return str(dict(outcomes))


# --- checkpoint.json --------------------------------------------------------------------------------------------------

RECORD: Final = {
    "schema_version": 1,
    "model": "ssh-mxnet",
    "weights": "sha256:" + "0" * 64,
    "source": "some.zip",
    "verified": True,
    "files": {"sshb-0000.params": "1" * 64},
}


def record(**changes: object) -> bytes:
    return json.dumps(RECORD | changes).encode()


RECORDS: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", "Expecting value"),
    "cut off": (record()[:-5], "checkpoint.json: "),
    "not UTF-8": (record().replace(b"some", b"\xff\xfe"), "is not UTF-8"),
    "UTF-16": (record().decode().encode("utf-16"), "is not UTF-8"),
    "a list": (b"[]", "object"),
    "a number": (b"1e999", "checkpoint.json: "),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "nested objects": (b'{"a":' * 100_000, "nested too deeply"),
    "a key twice": (record()[:-1] + b', "weights": "demo"}', "'weights'"),
    "a key twice inside": (record().replace(b'"files": {', b'"files": {"sshb-0000.params": "2", '), "more than once"),
    "NaN": (record(source=float("nan")), "NaN"),
    "an integer of 5000 digits": (record().replace(b"1,", b"9" * 5000 + b",", 1), "checkpoint.json: "),
    "an unknown key": (record(evil=1), "evil: Extra inputs"),
    "a key with an escape sequence": (record(**{"\x1b[2J\n": 1}), "Extra inputs"),
    "another schema": (record(schema_version=2), "schema_version"),
    "a schema of text": (record(schema_version="1"), "schema_version"),
    "weights that are none": (record(weights="trust me"), "weights"),
    "weights with a line feed": (record(weights="demo\n"), "weights"),
    "a truth of text": (record(verified="yes"), "verified"),
    "a hash of text": (record(files={"a": "b"}), "files.a"),
    "files that are a list": (record(files=["a"]), "files"),
    "a key of a megabyte": (record(**{"x" * 900_000: 1}), "xxx…; remove it"),
    "too large": (record(source="x" * 2_000_000), "more than 1048576 bytes"),
}


@pytest.mark.parametrize(("data", "message"), RECORDS.values(), ids=RECORDS)
def test_a_hostile_record_of_a_checkpoint_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_bytes(data)
    with timed("record"), pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        read_record(tmp_path)
    assert message_of(caught.value).startswith(f"{tmp_path}/checkpoint.json: ")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_record_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    no_file(kind, tmp_path).rename(tmp_path / "checkpoint.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_record(tmp_path)


def test_damaged_records_are_refused_or_still_are_records() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_records(2000)")


def mutate_records(count: int) -> str:
    with folder_in_memory() as folder:

        def read(data: bytes) -> None:
            (folder / "checkpoint.json").write_bytes(data)
            read_record(folder)

        return mutated(read, [record()], count, CheckpointError)


def test_a_source_whose_name_is_no_text_is_recorded(tmp_path: Path) -> None:
    for name in (MODEL.checkpoint.symbol, MODEL.checkpoint.params):
        (tmp_path / name).write_bytes(b"")
    write_record(tmp_path, MODEL, weights="demo", source="a\udcff.zip", verified=False)
    found = read_record(tmp_path)
    assert found is not None
    assert found.source == "a\\udcff.zip"


def test_a_number_that_is_infinite_once_it_is_read_follows_no_schema() -> None:
    class Number(Strict):
        value: float

    assert parse_json(Number, b'{"value": 1e99}').value == 1e99
    with pytest.raises(ValueError, match=r"^value: "):
        parse_json(Number, b'{"value": 1e999}')


# --- reference packs --------------------------------------------------------------------------------------------------

Members = dict[str, bytes]


def small_pack(folder: Path, weights: str = "demo") -> Path:
    """A pack at 32x32, in which nothing is found."""
    paths = folder / MODEL.checkpoint.symbol, folder / MODEL.checkpoint.params
    checkpoint = Checkpoint(MODEL, Graph((), (), "none"), {}, weights, *paths, {path.name: "0" * 64 for path in paths})
    write_pack(folder / "small.npz", checkpoint, "nothing", empty_answers((32, 32)))
    return folder / "small.npz"


@pytest.fixture(scope="module")
def pack_members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    with zipfile.ZipFile(small_pack(tmp_path_factory.mktemp("pack"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: Members, method: int = zipfile.ZIP_LZMA) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


ARRAY: Final = f"noise/{anchor_task(MODEL).heads[2].boxes}.npy"  # float32 [1, 8, 4, 4]
NPY_HEADER: Final = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 4, 4), }"


def npy(header: str, data: bytes = bytes(512), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def array_of(header: str, data: bytes = bytes(512), **options: bytes) -> Callable[[Members], bytes]:
    return lambda members: zipped(members | {ARRAY: npy(header, data, **options)})


def contents_of(change: Callable[[Any], Any]) -> Callable[[Members], bytes]:
    def make(members: Members) -> bytes:
        document = json.loads(members["reference.json"])
        change(document)
        return zipped(members | {"reference.json": json.dumps(document).encode()})

    return make


def text_of(old: bytes, new: bytes) -> Callable[[Members], bytes]:
    def make(members: Members) -> bytes:
        assert old in members["reference.json"]
        return zipped(members | {"reference.json": members["reference.json"].replace(old, new, 1)})

    return make


def hungry_lzma(members: Members) -> bytes:
    """An LZMA member that asks for a dictionary of 4 GB."""
    return zipped(members).replace(struct.pack("<HBI", 5, 93, 1 << 23), struct.pack("<HBI", 5, 93, 0xFFFFFFFF), 1)


def many_samples(document: dict[str, Any]) -> None:
    document["samples"] += [document["samples"][0] | {"name": f"scene-{number}"} for number in range(2000)]


PACKS: Final[dict[str, tuple[Callable[[Members], bytes], str]]] = {
    "empty": (lambda _: b"", "empty file"),
    "no zip": (lambda _: b"\x93NUMPY" + bytes(1000), "NumPy array"),
    "a pickle": (lambda _: b"\x80\x04cos\nsystem\n", "pickle"),
    "a zip behind a script": (lambda m: b"#!/bin/sh\n" + zipped(m), "directory ends at"),
    "bytes behind the zip": (lambda m: zipped(m) + b"more", "something behind it"),
    "a member outside": (lambda m: zipped({f"../{ARRAY}": b"", **m}), "out of the folder"),
    "bzip2": (lambda m: zipped(m, zipfile.ZIP_BZIP2), "packed by method 12"),
    "a dictionary of 4 GB": (hungry_lzma, "4294967295"),
    "40 MB of zeros in an array": (array_of(NPY_HEADER, bytes(40 << 20)), "claims 419"),
    "20 MB of zeros in each of two": (
        lambda m: zipped({**m, ARRAY: bytes(20 << 20), "more.npy": bytes(20 << 20)}, zipfile.ZIP_DEFLATED),
        "bytes together",
    ),
    "3 MB of contents": (lambda m: zipped(m | {"reference.json": b" " * (3 << 20)}), "of reference.json"),
    "an object array": (array_of("{'descr': '|O', 'fortran_order': False, 'shape': (1, 8, 4, 4), }"), "not float32"),
    "an array of Python's": (array_of("__import__('os').system('true')"), "not float32"),
    "a header of brackets": (array_of("(" * 110), "not float32"),
    "Fortran order": (array_of(NPY_HEADER.replace("False", "True")), "not float32"),
    "other bytes first": (array_of(NPY_HEADER.replace("<", ">")), "not float32"),
    "version 3 of the format": (array_of(NPY_HEADER, version=b"\x03\x00"), "not float32"),
    "a dimension of minus one": (array_of(NPY_HEADER.replace("8", "-8")), "not float32"),
    "a dimension with a leading plus": (array_of(NPY_HEADER.replace("8", "+8")), "not float32"),
    "a dimension in Arabic": (array_of(NPY_HEADER.replace("(1, 8", "(1, \u0668")), "not float32"),
    "huge dimensions": (array_of(NPY_HEADER.replace("1, 8, 4, 4", "99999, 99999, 99999, 99999")), "claims float32"),
    "dimensions whose product wraps": (
        array_of(NPY_HEADER.replace("1, 8, 4, 4", "65536, 65536, 65536, 65536")),
        "claims float32",
    ),
    "a dimension of zero": (array_of(NPY_HEADER.replace("1, 8", "0, 8")), "claims float32"),
    "bytes behind an array": (array_of(NPY_HEADER, bytes(516)), "claims float32"),
    "NaN": (array_of(NPY_HEADER, struct.pack("<f", float("nan")) * 128), "not finite"),
    "infinity": (array_of(NPY_HEADER, struct.pack("<f", float("inf")) * 128), "not finite"),
    "an array of another name": (lambda m: zipped({**m, "other.npy": b""}), "other.npy"),
    "contents nested deeply": (lambda m: zipped(m | {"reference.json": b"[" * 99_999}), "nested too deeply"),
    "contents of NaN": (text_of(b'"model"', b'"more": NaN, "model"'), "NaN"),
    "contents with a key twice": (text_of(b'"model"', b'"weights": "demo", "model"'), "more than once"),
    "contents that are not UTF-8": (text_of(b"nothing", b"\xff\xff\xff"), "is not UTF-8"),
    "a sample twice": (contents_of(lambda d: d["samples"].append(d["samples"][0])), "one sample twice"),
    "thousands of samples": (contents_of(many_samples), "is not complete"),
    "no sample": (contents_of(lambda d: d.update(samples=[])), "batch-of-2"),
    "a sample with a path": (contents_of(lambda d: d["samples"][0].update(name="../a")), "samples.0.name"),
    "a sample of an integer with 99 digits": (
        contents_of(lambda d: d["samples"][0].update(name="scene-" + "9" * 90)),
        "is not complete",
    ),
    "images of a negative size": (contents_of(lambda d: d["samples"][0].update(shape=[1, -1, 1, 3])), "shape.1"),
    "images beyond all memory": (contents_of(lambda d: d["samples"][0].update(shape=[1, 9999, 9999, 3])), "claims im"),
    "a million images": (contents_of(lambda d: d["samples"][0].update(shape=[999999, 1, 1, 3])), "shape.0"),
    "a detection of text": (contents_of(lambda d: d["samples"][0].update(detections=[["a"]])), "detections"),
    "weights of a megabyte": (contents_of(lambda d: d.update(weights="x" * 999_999)), "weights"),
    "another model with an escape sequence": (contents_of(lambda d: d.update(model="\x1b[2J\n")), "is for "),
}


@pytest.mark.parametrize(("make", "message"), PACKS.values(), ids=PACKS)
def test_a_hostile_reference_pack_is_refused(
    make: Callable[[Members], bytes], message: str, pack_members: Members, tmp_path: Path
) -> None:
    path = tmp_path / "evil.npz"
    path.write_bytes(make(pack_members))
    with timed("pack"), pytest.raises(ReferencePackError, match=re.escape(message)) as caught:
        read_pack(path, MODEL)
    assert message_of(caught.value).startswith(f"{path}: ")


def test_a_packs_arrays_may_be_packed_in_three_ways(pack_members: Members, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        (tmp_path / "a.npz").write_bytes(zipped(pack_members, method))
        assert len(read_pack(tmp_path / "a.npz", MODEL).answers(32, 32)) == len(sample_names())


def test_damaged_packs_are_refused_or_still_are_packs() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_packs(500)")


@pytest.mark.long
def test_many_damaged_packs_are_refused_or_still_are_packs() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_packs(50_000)")


def mutate_packs(count: int) -> str:
    with folder_in_memory() as folder:
        whole = small_pack(folder).read_bytes()
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}

        def read(data: bytes) -> None:
            (folder / "a.npz").write_bytes(data)
            read_pack(folder / "a.npz", MODEL)

        texts = mutants([members["reference.json"]], count // 10)
        repacked = [zipped(members | {"reference.json": data}, zipfile.ZIP_DEFLATED) for data in texts]
        seeds = [whole, zipped(members, zipfile.ZIP_DEFLATED), zipped(members, zipfile.ZIP_STORED)]
        found = mutated(read, seeds, count, ReferencePackError)
        for data in repacked:  # past the checksums
            refuse_or_read(read, data, ReferencePackError)
        return found


# --- images -----------------------------------------------------------------------------------------------------------


def picture(kind: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    random: Any = np.random.RandomState(1)
    made = pillow.fromarray(random.randint(0, 255, (*size[::-1], 3)).astype(np.uint8)).convert(mode)
    made.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = b"".join(chunk(*item) for item in chunks) or chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], then: int = 0) -> bytes:
    """A TIFF of one directory: tag, type, count, value; `then` is the offset of the next directory."""
    body = b"".join(struct.pack("<2H2I", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", then) + bytes(100)


def tiff_image(width: int, height: int, *more: tuple[int, int, int, int], then: int = 0, packing: int = 1) -> bytes:
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1))
    return tiff(*entries, (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 100), *more, then=then)


def scans(count: int) -> bytes:
    """A progressive JPEG that goes over its 36 million pixels once more with each of its last scans."""
    stream = io.BytesIO()
    pillow.new("RGB", (6000, 6000)).save(stream, "JPEG", progressive=True, quality=10)
    whole = stream.getvalue()
    return whole[:-2] + whole[whole.rfind(b"\xff\xda") : -2] * count + whole[-2:]


def with_exif(exif: bytes) -> bytes:
    return picture("JPEG", exif=b"Exif\0\0" + exif)


def inserted(whole: bytes, place: int, more: bytes) -> bytes:
    return whole[:place] + more + whole[place:]


def overlapping() -> bytes:
    """Two thousand tags of 30 KB each, all in the same place."""
    return tiff_image(8, 8, *[(tag, 7, 30_000, 100) for tag in range(1000, 3000)]) + bytes(40_000)


def of_tiles(width: int, height: int, components: int = 3) -> bytes:
    """A JPEG 2000 whose picture is cut into tiles of that size."""
    whole = picture("JPEG2000", (200, 64), no_jp2=True)
    return whole[:24] + struct.pack(">2I", width, height) + whole[32:40] + struct.pack(">H", components) + whole[42:]


def of_tile_part(length: int) -> bytes:
    """A JPEG 2000 of one tile, which claims that length."""
    whole = picture("JPEG2000", no_jp2=True)
    place = whole.index(b"\xff\x90") + 6
    return whole[:place] + struct.pack(">I", length) + whole[place + 4 :]


def rle_bitmap(side: int) -> bytes:
    head = struct.pack("<I2i2H6I", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<3I", 0, 0, 1078) + head + bytes(1024) + b"\0\0" * side


PIECES: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    "a PNG of 20,000 private chunks": (lambda: png(9, 9, *[(b"prVt", b"")] * 20_000), "chunks beside its pixels"),
    "a PNG of 50,000 chunks of pixels": (lambda: png(9, 9, *[(b"IDAT", b"")] * 50_000), "chunks of pixels"),
    "a PNG of 100 packed texts": (
        lambda: png(9, 9, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 100), "chunks of packed text",
    ),
    "a PNG of 40 MB of metadata": (lambda: png(9, 9, (b"prVt", bytes(40 << 20))), "bytes beside its pixels"),
    "a PNG whose second head is larger": (
        lambda: png(9, 9, (b"IHDR", struct.pack(">2I5B", 9000, 9000, 8, 2, 0, 0, 0))), "claims 9000x9000 pixels",
    ),
    "a JPEG of 2000 segments": (lambda: inserted(picture("JPEG"), 2, b"\xff\xe5\0\2" * 2000), "segments"),
    "a JPEG of 2000 comments": (lambda: inserted(picture("JPEG"), 2, b"\xff\xfe\0\3A" * 2000), "segments"),
    "a JPEG of 2000 markers without length": (lambda: inserted(picture("JPEG"), 2, b"\xff\xd0" * 2000), "segments"),
    "a JPEG with a megabyte between its segments": (
        lambda: inserted(picture("JPEG"), 20, bytes(1 << 20)), "bytes between its segments",
    ),
    "a JPEG of 60 MB of segments": (
        lambda: inserted(picture("JPEG"), 2, (b"\xff\xe5\xff\xff" + bytes(65533)) * 1000), "bytes beside its pixels",
    ),
    "a GIF whose comment has 200,000 parts": (
        lambda: inserted(picture("GIF", mode="L"), 781, b"!\xfe" + b"\1A" * 200_000 + b"\0"),
        "blocks before its picture",
    ),
    "a GIF of 200,000 comments": (
        lambda: inserted(picture("GIF", mode="L"), 781, b"!\xfe\1A\0" * 200_000), "blocks before its picture",
    ),
    "a GIF with a megabyte between its blocks": (
        lambda: inserted(picture("GIF", mode="L"), 781, bytes(1 << 20)), "bytes between its blocks",
    ),
    "a TIFF whose tags overlap": (overlapping, "its tags hold"),
    "a PNG whose EXIF tags overlap": (
        lambda: png(9, 9, (b"eXIf", overlapping()), (b"IDAT", zlib.compress(bytes(252)))), "its tags hold",
    ),
    "a JPEG whose EXIF tags overlap": (
        lambda: with_exif(tiff_image(8, 8, *[(tag, 7, 9000, 100) for tag in range(1000, 3000)]) + bytes(9999)),
        "its tags hold",
    ),
    "a WebP whose EXIF tags overlap": (lambda: picture("WEBP", exif=overlapping()), "its tags hold"),
    "a TIFF whose directory of EXIF overlaps": (
        lambda: tiff_image(8, 8, (34665, 4, 1, 400)).ljust(400, b"\0") + overlapping()[8:],
        "its tags hold",
    ),
    "a TIFF of 65535 tags": (
        lambda: tiff_image(8, 8, *[(tag, 3, 1, 1) for tag in range(1000, 65000)]), "more than 10000 tags",
    ),
    "a TIFF of 300,000 strips": (
        lambda: tiff_image(8, 8, (1000, 4, 300_000, 100)) + bytes(1_300_000), "has 300000 numbers",
    ),
    "a TIFF of tiles of 65535x65535": (
        lambda: tiff_image(9, 9, (322, 4, 1, 65535), (323, 4, 1, 65535)), "tiles of 65535x65535",
    ),
    "a WebP of 20,000 chunks": (lambda: picture("WEBP") + b"abcd\0\0\0\0" * 20_000, "more than 10000 chunks"),
    "an AVIF of 2 MB of description": (
        lambda: inserted(picture("AVIF"), picture("AVIF")[3], b"\0\x20\0\x08meta" + bytes(2 << 20)),
        "describes its pictures",
    ),
    "an AVIF of 20,000 boxes": (lambda: picture("AVIF") + b"\0\0\0\x08free" * 20_000, "more than 10000 boxes"),
    "a JPEG 2000 of 20,000 boxes": (
        lambda: inserted(picture("JPEG2000"), 12, b"\0\0\0\x08free" * 20_000), "more than 10000 boxes",
    ),
    "a JPEG 2000 of 12,800 tiles": (lambda: of_tiles(1, 1), "it has [0-9]+ tiles"),
    "a JPEG 2000 of tiles without width": (lambda: of_tiles(0, 9), "0x9"),
    "a JPEG 2000 of tiles without height": (lambda: of_tiles(9, 0), "9x0"),
    "a JPEG 2000 of five components": (lambda: of_tiles(99, 99, 5), "5 components"),
    "a JPEG 2000 of a tile of 13 bytes": (lambda: of_tile_part(13), "no length"),
    "a JPEG 2000 of 60,000 comments": (
        lambda: inserted(picture("JPEG2000", no_jp2=True), 51, b"\xff\x64\0\4\0\1" * 60_000), "segments",
    ),
    "a file of 300 icons": (lambda: b"\0\0\1\0" + struct.pack("<H", 300) + bytes(5000), "300 icons"),
    "a bitmap of 25 million pixels that Python decodes": (lambda: rle_bitmap(5000), "decoded slowly"),
    "a PPM of 25 million pixels that Python decodes": (lambda: b"P6 5000 5000 254\n" + bytes(4000), "decoded slowly"),
    "a PPM of 25 million numbers": (lambda: b"P2 5000 5000 255\n" + b"0 " * 2000, "decoded slowly"),
    "a PPM with a comment of a megabyte": (lambda: b"P6 #" + b"a" * (1 << 20) + b"\n9 9 255\n", "size of a picture"),
    "an image of a row beyond all memory": (lambda: png(80_000_000, 1, (b"IDAT", bytes(10_000))), "MB to decode"),
}  # fmt: skip

IMAGES: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    **PIECES,
    "empty": (lambda: b"", "is an empty file"),
    "text": (lambda: b"hello", "is not an image"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image"),
    "SVG with an external entity": (
        lambda: b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "is not an image",
    ),
    "PDF": (lambda: picture("PDF"), "is a PDF document"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0\n(/tmp/x) (w) file\n", "is not an image"),
    "EPS": (lambda: picture("EPS"), "is not an image"),
    "EPS with a preview": (lambda: b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, 9, 0, 0, 0, 0), "is not an image"),
    "WMF": (lambda: b"\xd7\xcd\xc6\x9a\0\0" + bytes(100), "is not an image"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "GRIB": (lambda: b"GRIB\0\0\0\x01" + bytes(100), "is not an image"),
    "FITS, whose decoder unpacks all at once": (lambda: b"SIMPLE  =" + b" " * 5000, "is not an image"),
    "PSD": (lambda: b"8BPS\0\x01" + bytes(100), "is not an image"),
    "ICNS": (lambda: b"icns\0\0\0\x10ic09\0\0\0\x08", "is not an image"),
    "QOI, whose decoder is slow": (lambda: b"qoif" + struct.pack(">2I2B", 9000, 9000, 3, 0) + bytes(9), "not an image"),
    "a JPEG cut off": (lambda: picture("JPEG")[:200], "is damaged"),
    "a PNG cut off": (lambda: picture("PNG")[:200], "is damaged"),
    "a WebP cut off": (lambda: picture("WEBP")[:100], "is damaged|is not an image"),
    "a GIF cut off": (lambda: picture("GIF", mode="P")[:900], "is damaged|is not an image"),
    "a PNG of no width": (lambda: png(0, 10), "is damaged|is not an image"),
    "a BMP of no size": (
        lambda: b"BM" + struct.pack("<3I", 54, 0, 54) + struct.pack("<I2i2H6I", 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0),
        "is damaged|is not an image",
    ),
    "a PNG of 8000x8000 in 1 KB": (lambda: png(8000, 8000), "claims 8000x8000 pixels in"),
    "a PNG beyond all memory": (lambda: png(2**31 - 1, 2**31 - 1), "is too large|is damaged"),
    "a WebP of 16383x16383 in a few bytes": (
        lambda: b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(8),
        "too large|is damaged",
    ),
    "a GIF of 65535x65535": (lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;", "too large"),
    "a TIFF of 7000x7000 in a few bytes": (lambda: tiff_image(7000, 7000), "claims 7000x7000 pixels"),
    "a PPM of 9000x9000 in a few bytes": (lambda: b"P6 9000 9000 255\n", "claims 9000x9000 pixels"),
    "a PPM of a size with 999 digits": (lambda: b"P6 " + b"9" * 999 + b" 1 255\n", "is damaged|is not an image"),
    "a TGA of 65535x65535": (
        lambda: struct.pack("<3B2HB4H2B", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0),
        "is too large|is not an image",
    ),
    "a JPEG 2000 of 4 billion pixels": (
        lambda: b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">8I", *[65535, 65535, 0, 0] * 2) + b"\0\1\7\1\1",
        "is too large|is damaged",
    ),
    "an icon of many sizes": (lambda: b"\0\0\1\0\xff\xff" + b"\xff" * 500, "is damaged|is not an image"),
    "an icon that holds a huge PNG": (
        lambda: b"\0\0\1\0\1\0" + struct.pack("<4B2H2I", 0, 0, 0, 0, 1, 32, 1000, 22) + png(8000, 8000),
        "is damaged|too large|claims",
    ),
    "text that unpacks to 100 MB": (
        lambda: png(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20))), (b"IDAT", b"")),
        "is damaged",
    ),
    "pixels that unpack to 100 MB": (lambda: png(9, 9, (b"IDAT", zlib.compress(bytes(100 << 20)))), ""),
    "a JPEG of a thousand scans": (lambda: scans(1000), "goes over 6000x6000 pixels 1010 times"),
    "a TIFF whose directory follows itself": (lambda: tiff_image(9, 9, then=8), ""),
    "a TIFF whose EXIF is its own directory": (lambda: tiff_image(9, 9, (34665, 4, 1, 8)), ""),
    "a TIFF of 4 billion strips": (
        lambda: tiff((256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 2**32 - 1, 8)),
        "is damaged|is not an image",
    ),
    "a TIFF of an unknown packing": (lambda: tiff_image(9, 9, packing=34925), "is damaged|is not an image"),
    "a TIFF of 65535 samples a pixel": (lambda: tiff_image(9, 9, (277, 3, 1, 65535)), "is damaged|is not an image"),
    "EXIF of garbage": (lambda: with_exif(b"\xff" * 999), ""),
    "EXIF that contains itself": (
        lambda: with_exif(b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 34665, 4, 1, 8, 8)),
        "",
    ),
    "a colour profile of garbage": (lambda: picture("JPEG", icc_profile=b"\xff" * 70_000), ""),
    "a colour profile that unpacks to 100 MB": (
        lambda: png(9, 9, (b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20))), (b"IDAT", zlib.compress(bytes(252)))),
        "is damaged",
    ),
    "an animation without an end": (
        lambda: picture("GIF", mode="P")[:-1] + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" + picture("GIF", mode="P")[13:] * 99,
        "",
    ),
}  # with no message: it is read, as what it is good for


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_refused_or_harmless(name: str, tmp_path: Path) -> None:
    make, message = IMAGES[name]
    path = tmp_path / "evil.png"
    path.write_bytes(make())
    with timed(name):
        if not message:
            assert read_image(path).size < 10_000
            return
        with pytest.raises(ImageError, match=message) as caught:
            read_image(path)
    assert message_of(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["still", "transparent", "sequence"])
def test_the_frames_of_an_avif_count_whatever_is_said_of_them(kind: str) -> None:
    """The decoder makes them as large as they are, before it compares: a few KB hold 268 million pixels."""
    more = {"save_all": True, "append_images": [pillow.new("RGB", (300, 200))]} if kind == "sequence" else {}
    data = bytearray(picture("AVIF", (300, 200), "RGBA" if kind == "transparent" else "RGB", **more))
    for place in [found.end() + 4 for found in re.finditer(b"ispe", data)]:
        data[place : place + 8] = struct.pack(">2I", 9, 9)
    assert b"avis" in data[:16] if kind == "sequence" else b"ispe" in data
    if kind == "sequence":  # its frames are found by its table too, without the items
        data = data.replace(b"iloc", b"free")
    claims = read_claims(io.BytesIO(data), len(data))
    assert (claims.width, claims.height) == (300, 200)


def test_bombs_of_pixels_take_little_memory() -> None:
    assert run_limited("test_hostile_files:read_all_images()") == f"{len(IMAGES)}\n"


def read_all_images() -> int:
    """For a process of its own, which fails if it needs much memory and does not say so by name."""
    made = {name: make() for name, (make, _) in IMAGES.items()}
    with folder_in_memory() as folder:
        allow(0)

        def read(data: bytes) -> None:
            (folder / "a.png").write_bytes(data)
            read_image(folder / "a.png")

        for name, data in made.items():
            with timed(name):
                refuse_or_read(read, data, ImageError)
    return len(made)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux counts the memory of a process so")
def test_deep_and_transparent_images_take_little_more_memory_than_their_pixels(tmp_path: Path) -> None:
    """Of 6 million pixels: 44 MB as Pillow has it and as it is read, 170 MB in the plain way."""
    grey = np.zeros((2500, 2500), np.uint16)
    grey[0, 0] = 65535
    pillow.fromarray(grey).save(tmp_path / "deep.png")
    pillow.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif", compression="tiff_adobe_deflate")
    pillow.new("RGBA", (2500, 2500)).save(tmp_path / "alpha.png")
    assert int(run_limited(f"test_hostile_files:peak_of_reading({str(tmp_path)!r})")) < 80


def peak_memory() -> int:
    """Of this process so far, in KB; getrusage counts what its parent had when it started it."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(line)


def peak_of_reading(folder: str) -> int:
    """In MB, for a process of its own."""
    before = peak_memory()
    for name in ("deep.png", "float.tif", "alpha.png"):
        read_image(Path(folder) / name)
    return (peak_memory() - before) >> 10


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="as above")
def test_threads_give_back_the_memory_of_large_images(tmp_path: Path) -> None:
    """16 million pixels, 112 MB, in one thread after another: Pillow's own blocks would stay with each."""
    pillow.new("RGB", (4000, 4000)).save(tmp_path / "a.png", compress_level=1)
    assert int(run_limited(f"test_hostile_files:peak_of_threads({str(tmp_path / 'a.png')!r})")) < 190


def peak_of_threads(path: str) -> int:
    """In MB, for a process of its own."""
    before = peak_memory()
    waiting = threading.Barrier(4)

    def read(_: int) -> None:
        waiting.wait(30)
        with reading(Path(path)) as image:
            assert image.shape == (4000, 4000, 3)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(images, "MEMORY", Budget(120 << 20))
        list(pool.map(read, range(4)))
    return (peak_memory() - before) >> 10


def test_no_more_images_are_in_memory_than_have_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture("PNG"))
    inside, most, lock = 0, 0, threading.Lock()

    def read(_: int) -> None:
        nonlocal inside, most
        with reading(path):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with path.open("rb") as file:
        needed = images._memory(read_claims(file, path.stat().st_size))
    monkeypatch.setattr(images, "MEMORY", Budget(3 * needed - 1))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(24)))
    assert most == 2


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not there() and time.monotonic() < end:
        time.sleep(0.001)


def test_a_reader_that_needs_all_memory_waits_for_the_others_and_is_not_passed_by_later_ones() -> None:
    budget, order = Budget(100), []
    first, waiting = threading.Event(), threading.Event()

    def work(name: str, size: int) -> None:
        if name == "small":
            waiting.wait(30)
        with budget.reserved(size):
            order.append(name)
            if name == "first":
                first.wait(30)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(work, "first", 60)
        wait_until(lambda: bool(order))
        pool.submit(work, "too large for all", 1000)
        wait_until(budget._turn.locked)
        small = pool.submit(work, "small", 10)
        waiting.set()
        time.sleep(0.05)
        assert not small.done()
        first.set()
    assert order == ["first", "too large for all", "small"]


def test_images_of_a_size_are_read_however_they_shrink(tmp_path: Path) -> None:
    pillow.new("1", (8000, 8000)).save(tmp_path / "white.png")
    assert read_image(tmp_path / "white.png").shape == (8000, 8000, 3)
    (tmp_path / "scans.jpg").write_bytes(scans(10))
    assert read_image(tmp_path / "scans.jpg").shape == (6000, 6000, 3)


def test_damaged_images_are_refused_or_read() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_images(2000)")


@pytest.mark.long
def test_many_damaged_images_are_refused_or_read() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_images(50_000)", seconds=3600)


def mutate_images(count: int) -> str:
    kinds: dict[str, dict[str, Any]] = {"JPEG": {"exif": pillow.Exif()}, "PNG": {}, "GIF": {}, "BMP": {}}
    kinds["TIFF"] = {"compression": "tiff_lzw"}
    kinds |= {"WEBP": {}, "PPM": {}, "TGA": {"compression": "tga_rle"}, "ICO": {}, "JPEG2000": {}, "DIB": {}}
    seeds = [picture(kind, **options) for kind, options in kinds.items()]
    seeds += [picture("JPEG", progressive=True), picture("TIFF", mode="I;16"), picture("PNG", mode="LA")]
    seeds += [
        picture("AVIF"),
        picture("JPEG2000", no_jp2=True),
        picture("TIFF", mode="F"),
        picture("WEBP", exif=b"II*\0"),
    ]
    with folder_in_memory() as folder:

        def read(data: bytes) -> None:
            (folder / "a.png").write_bytes(data)
            image = read_image(folder / "a.png")
            fit(image, 64, 64, Resize.LETTERBOX, (0, 0, 0))

        return mutated(read, seeds, count, ImageError)


# --- converted models -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_small_models(folder, MODEL)
    return folder


def onnx_with(change: Callable[[onnx.ModelProto], Any]) -> Callable[[], bytes]:
    def make() -> bytes:
        model = small_onnx(MODEL)
        change(model)
        return bytes(model.SerializeToString())

    return make


def external(location: str, **more: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            weights.external_data.add(key=key, value=value)

    return change


def hidden_external(model: onnx.ModelProto, location: str = "../../secret") -> None:
    """In a constant inside a branch inside a branch."""
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])
    external_value = onnx.TensorProto.FromString(value.SerializeToString())
    external_value.ClearField("float_data")
    external_value.data_location = TensorProto.EXTERNAL
    external_value.external_data.add(key="location", value=location)
    output = [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])]
    inner = helper.make_graph([helper.make_node("Constant", [], ["o"], value=external_value)], "inner", [], output)
    branch = helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([branch], "outer", [], output)
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=outer, else_branch=outer))


def dims(*sizes: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = sizes

    return change


def input_of(*shape: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for size, wanted in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            size.dim_value = wanted

    return change


def metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: helper.set_model_props(model, {key: value})


def padded(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].ints[:] = [0, 1 << 28, 0, 1 << 28]


def expanded(model: onnx.ModelProto) -> None:
    """Which nothing needs, but a runtime may compute it beforehand."""
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [1 << 40]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["zeros"]))
    model.graph.output.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, None))


def one_more_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


ONNX_FILES: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"hello", "no ONNX file"),
    "zeros": (lambda: bytes(1000), "no ONNX file"),
    "cut off": (lambda: bytes(small_onnx(MODEL).SerializeToString())[:2000], "no ONNX file"),
    "a zip": (lambda: zipped({"a": b"b"}), "zip archive"),
    "groups nested deeply": (lambda: b"\x0b" * 100_000, "no ONNX file"),
    "a length of 4 GB": (lambda: b"\x3a\xff\xff\xff\xff\x0f", "no ONNX file"),
    "text that is not UTF-8": (
        lambda: bytes(small_onnx(MODEL).SerializeToString()).replace(b"mean_values", b"mean\xff\xfe\xfdlues"),
        "no ONNX file|mean",
    ),
    "no graph": (onnx_with(lambda m: m.ClearField("graph")), "0 inputs"),
    "no input": (onnx_with(lambda m: m.graph.ClearField("input")), "0 inputs"),
    "two inputs": (onnx_with(one_more_input), "2 inputs"),
    "no output": (onnx_with(lambda m: m.graph.ClearField("output")), "0 outputs"),
    "weights in a file of the parent folder": (onnx_with(external("../secret")), "another file"),
    "weights in a file at the root": (onnx_with(external("/etc/passwd")), "another file"),
    "weights in a device": (onnx_with(external("/dev/zero")), "another file"),
    "weights in a file beside it": (onnx_with(external("weights.bin", offset="-1")), "another file"),
    "weights in another file, two branches deep": (onnx_with(hidden_external), "AttributeProto"),
    "weights of 10^24 elements": (onnx_with(dims(1 << 40, 1 << 40)), "claim the shape"),
    "weights of 2^40 elements and one": (onnx_with(dims((1 << 40) + 1)), "claim the shape"),
    "weights of a negative size": (onnx_with(lambda m: m.graph.initializer[0].dims.append(-1)), "claim the shape"),
    "weights of more than there is": (onnx_with(lambda m: m.graph.initializer[0].dims.append(9)), "claim 972 elements"),
    "no weights": (onnx_with(lambda m: m.graph.ClearField("initializer")), "before"),
    "an unknown operator": (
        onnx_with(lambda m: setattr(m.graph.node[0], "op_type", "Evil")),
        "operator 'Evil'",
    ),
    "a cycle": (
        onnx_with(lambda m: m.graph.node[0].input.__setitem__(0, m.graph.node[1].output[0])),
        "before",
    ),
    "a padding of 268 million": (onnx_with(padded), "computes a tensor of shape|cannot"),
    "a tensor of 2^40 elements made from eight bytes": (onnx_with(expanded), "operator 'ConstantOfShape'"),
    "an input without a shape": (
        onnx_with(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
        "shape",
    ),
    "an input of texts": (
        onnx_with(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.STRING)),
        "shape",
    ),
    "an input of 10^12 pixels": (
        onnx_with(input_of(1, 3, 1 << 20, 1 << 20)),
        "of a photo|cannot|computes a tensor of shape",
    ),
    "a batch of a billion": (onnx_with(input_of(1 << 30, 3, 64, 64)), "of a photo|cannot|computes a tensor of shape"),
    "a mean of 10^300": (onnx_with(metadata("mean_values", "1e300 0 0")), "three numbers"),
    "a mean of nan": (onnx_with(metadata("mean_values", "nan 0 0")), "three numbers"),
    "a colour with an escape sequence": (onnx_with(metadata("color_order", "\x1b[2J\n")), "BGR or RGB"),
    "a mean of a megabyte": (onnx_with(metadata("mean_values", "x" * 1_000_000)), "three numbers"),
}


@pytest.mark.parametrize("key", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("make", "message"), ONNX_FILES.values(), ids=ONNX_FILES)
def test_a_hostile_onnx_file_is_refused(
    make: Callable[[], bytes], message: str, key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(bytes(432))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "weights.bin").write_bytes(bytes(432))
    path = tmp_path / "in" / "evil.onnx"
    path.write_bytes(make())
    with timed("ONNX"), pytest.raises(ArtifactError, match=message) as caught:
        load(path, MODEL, key=key).run(black())
    assert message_of(caught.value).startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("screen", "size"),
    [pytest.param(read_onnx, 1 << 31, id="ONNX"), pytest.param(check_ir, (64 << 20) + 1, id="IR")],
)
def test_a_model_larger_than_any_is_refused_by_its_size(
    screen: Callable[[Path], object], size: int, tmp_path: Path
) -> None:
    with (tmp_path / "evil").open("wb") as file:
        file.truncate(size)
    with pytest.raises(ArtifactError, match=f"evil: .* {size - 1} bytes"):
        screen(tmp_path / "evil")


APART: Final = {"location": "evil.onnx.data", "offset": "0", "length": "432"}


def apart_and(**fields: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        external(**APART)(model)
        for name, value in fields.items():
            setattr(model.graph.initializer[0], name, value)

    return change


def external_nowhere(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


WEIGHTS_APART: Final[dict[str, tuple[Callable[[], bytes], int, str]]] = {
    "no file": (onnx_with(external(**APART)), -1, "evil.onnx.data"),
    "a file that is too short": (onnx_with(external(**APART)), 431, "432 of evil.onnx.data, which has 431"),
    "too far into the file": (onnx_with(external(**APART | {"offset": "1"})), 432, "end at byte 433"),
    "an offset of 10^18": (onnx_with(external(**APART | {"offset": "9" * 18})), 432, "end at byte 1000000000000000431"),
    "an offset below zero": (onnx_with(external(**APART | {"offset": "-1"})), 432, "'-1'"),
    "a length that is none": (onnx_with(external(**APART | {"length": "all"})), 432, "'all' where a number"),
    "no length": (onnx_with(external(location="evil.onnx.data", offset="0")), 432, "another file"),
    "fewer than they claim": (onnx_with(external(**APART | {"length": "428"})), 432, "108 elements in 428 bytes"),
    "none": (onnx_with(external(**APART | {"length": "0"})), 432, "108 elements in 0 bytes"),
    "one key more": (onnx_with(external(**APART, checksum="0")), 432, "another file"),
    "a longer way there": (onnx_with(external(**APART | {"location": "./evil.onnx.data"})), 432, "another file"),
    "a key that is there twice": (
        onnx_with(lambda m: [external(**APART)(m), m.graph.initializer[0].external_data.add(key="offset", value="9")]),
        432,
        "another file",
    ),
    "inside too": (
        onnx_with(apart_and(raw_data=bytes(432))),
        432,
        "cannot be in evil.onnx.data",
    ),
    "of another kind": (
        onnx_with(apart_and(data_type=TensorProto.STRING)),
        432,
        "cannot be in evil.onnx.data",
    ),
    "said to be there, and to be here": (
        onnx_with(apart_and(data_location=TensorProto.DEFAULT)),
        432,
        "another file",
    ),
    "nowhere": (onnx_with(external_nowhere), 432, "another file"),
    "two branches deep": (
        onnx_with(lambda m: hidden_external(m, "evil.onnx.data")),
        432,
        "AttributeProto",
    ),
}


@pytest.mark.parametrize("key", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("make", "size", "message"), WEIGHTS_APART.values(), ids=WEIGHTS_APART)
def test_weights_in_the_file_of_a_large_model_are_refused_unless_they_are_all_there(
    make: Callable[[], bytes], size: int, message: str, key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.onnx"
    path.write_bytes(make())
    if size >= 0:
        (tmp_path / "evil.onnx.data").write_bytes(bytes(size))
    with pytest.raises(ArtifactError, match=message) as caught:
        load(path, MODEL, key=key)
    assert message_of(caught.value).startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.symlink_to("secret"), "link", id="a link"),
        pytest.param(lambda path: path.mkdir(), "Is a directory|it is not a file", id="a folder"),
        pytest.param(os.mkfifo, "it is not a file", id="a pipe"),
    ],
)
def test_the_file_of_weights_must_be_a_file(make: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(432))
    path = tmp_path / "evil.onnx"
    path.write_bytes(onnx_with(external(**APART))())
    make(tmp_path / "evil.onnx.data")
    with pytest.raises(ArtifactError, match=message):
        read_onnx(path)


def test_weights_in_the_file_of_a_large_model_are_read(tmp_path: Path) -> None:
    path = tmp_path / "evil.onnx"
    path.write_bytes(onnx_with(external(**APART))())
    (tmp_path / "evil.onnx.data").write_bytes(bytes(432))
    for key in ("onnxruntime", "openvino"):
        assert load(path, MODEL, key=key).run(black())


def black() -> Images:
    return np.zeros((1, SIZE, SIZE, 3), np.uint8)


def replaced(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, count)

    return change


LAUGHS: Final = '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REPRESENTATIONS: Final[dict[str, tuple[Callable[[str], str], str]]] = {
    "empty": (lambda _: "", "empty file"),
    "text": (lambda _: "hello", "not well-formed"),
    "HTML": (lambda _: "<html/>", "HTML page"),
    "cut off": (lambda text: text[:3000], "not well-formed"),
    "two roots": (lambda text: text + "<net/>", "not well-formed"),
    "a billion laughs": (lambda _: LAUGHS + "]><net>&i;</net>", "a document type"),
    "quadratic entities": (
        lambda _: f'<!DOCTYPE net [<!ENTITY a "{"a" * 99_999}">]><net>{"&a;" * 9999}</net>',
        "a document type",
    ),
    "an external entity": (
        lambda _: '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]><net>&a;</net>',
        "a document type",
    ),
    "an external document type": (lambda _: '<!DOCTYPE net SYSTEM "http://127.0.0.1:1/x"><net/>', "a document type"),
    "nested deeply": (lambda _: f'<net version="11"><rt_info>{"<a>" * 50_000}', "100 deep"),
    "another version": (replaced('version="11"', 'version="99"'), "'net'"),
    "no layers": (lambda _: '<net version="11"/>', "0 inputs and 0 outputs"),
    "no input": (
        replaced('type="Parameter"', 'type="Relu"'),
        "the attribute 'element_type' of Relu|the attribute 'shape' of Relu",
    ),
    "no outputs": (replaced('type="Result"', 'type="Relu"', 99), "0 outputs"),
    "a constant behind the end": (replaced('offset="0"', 'offset="99999"'), "take 100431 bytes"),
    "a constant at 2^63": (replaced('offset="0"', f'offset="{2**63}"'), "where a number is expected"),
    "a constant at a negative offset": (replaced('offset="0"', 'offset="-8"'), "where a number is expected"),
    "a constant of a size that wraps": (replaced('size="432"', f'size="{2**64 - 1}"'), "where a number is expected"),
    "a constant of another size": (replaced('size="432"', 'size="16"'), "108 elements in 16 bytes"),
    "a constant of a huge shape": (replaced('shape="4, 3, 3, 3"', 'shape="4000000, 3000000, 3, 3"'), "claims 1080"),
    "a constant of no shape": (replaced('shape="4, 3, 3, 3"', 'shape="a"'), "where a number is expected"),
    "a constant of strings": (
        replaced('element_type="f32" shape="4,', 'element_type="string" shape="4,'),
        "type 'string'",
    ),
    "an unknown layer": (replaced('type="Convolution"', 'type="Evil"'), "layer 'Evil'"),
    "a layer of an extension": (replaced('version="opset1"', 'version="extension"'), "operator set 'extension'"),
    "a layer of a set to come": (replaced('version="opset1"', 'version="opset99"'), "operator set 'opset99'"),
    "a body": (replaced("<output>", "<body><layers/></body><output>"), "'body'"),
    "a map of ports": (replaced("<output>", "<port_map/><output>"), "'port_map'"),
    "two networks": (replaced("<edges>", "<layers/><edges>"), "layers twice"),
    "an attribute of another layer": (replaced("<data strides=", '<data variable_id="a" strides='), "'variable_id'"),
    "an edge to nowhere": (replaced('to-layer="2"', 'to-layer="999"'), "cannot read"),
    "an edge of text": (replaced('to-layer="2"', 'to-layer="a"'), "cannot"),
    "a cycle": (replaced('from-layer="0"', 'from-layer="4"'), "cannot"),
    "a layer twice": (replaced('<layer id="1"', '<layer id="2"'), "cannot"),
    "an input of 10^12 pixels": (
        replaced('shape="1,3,64,64"', 'shape="1,3,1048576,1048576"'),
        "of a photo|cannot|computes a tensor of shape",
    ),
    "an input of texts": (replaced('element_type="f32"', 'element_type="string"'), "cannot|its input is string"),
    "an input of an undefined type": (
        replaced('element_type="f32"', 'element_type="undefined"'),
        "cannot|its input is undefined|its input is dynamic",
    ),
    "an input without a rank": (replaced('shape="1,3,64,64"', 'shape="..."'), "no shape"),
    "a padding of 268 million": (
        replaced('pads_begin="0, 0" pads_end="0, 0"', 'pads_begin="0, 268435455" pads_end="0, 268435455"', 99),
        "computes a tensor of shape",
    ),
    "a negative padding": (replaced('pads_begin="1, 1"', 'pads_begin="-99, -99"'), "cannot"),
    "a mean of text": (replaced('<mean_values value="0 0 0"', '<mean_values value="a"'), "three numbers"),
    "metadata that are not there": (replaced("<mean_values value", "<mean_values evil"), "three numbers"),
}


@pytest.mark.parametrize(("change", "message"), REPRESENTATIONS.values(), ids=REPRESENTATIONS)
def test_a_hostile_ir_is_refused(
    change: Callable[[str], str], message: str, small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.xml"
    path.write_text(change((small / "small.xml").read_text(encoding="utf-8")), encoding="utf-8")
    (tmp_path / "evil.bin").write_bytes((small / "small.bin").read_bytes())
    with timed("IR"), pytest.raises(ArtifactError, match=message) as caught:
        load(path, MODEL).run(black())
    assert message_of(caught.value).startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["nowhere", "pipe", "folder", "cut off", "empty"])
def test_an_ir_whose_weights_are_not_there_is_refused(kind: str, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.xml"
    path.write_bytes((small / "small.xml").read_bytes())
    if kind in ("cut off", "empty"):
        path.with_suffix(".bin").write_bytes((small / "small.bin").read_bytes()[: 100 if kind == "cut off" else 0])
    elif kind != "nowhere":
        no_file(kind, tmp_path).rename(path.with_suffix(".bin"))
    with pytest.raises(ArtifactError, match=r"evil\.bin, which|not a file|Is a directory"):
        load(path, MODEL)


def test_damaged_models_are_refused_or_run() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_models(75)")


@pytest.mark.long
def test_many_damaged_models_are_refused_or_run() -> None:
    assert "refused" in run_limited("test_hostile_files:mutate_models(5000)", seconds=3600)


def mutate_models(count: int) -> str:
    """For a process of its own, because a runtime might crash: so many damaged .onnx, .xml and .bin files."""
    outcomes: Counter[str] = Counter()
    with folder_in_memory() as folder:
        write_small_models(folder, MODEL)
        for key, name in (("onnxruntime", "onnx"), ("openvino", "onnx"), ("openvino", "xml"), ("openvino", "bin")):
            target = folder / f"small.{name}"
            whole = target.read_bytes()

            def run(data: bytes, key: str = key, target: Path = target) -> None:
                target.write_bytes(data)
                path = target.with_suffix(".xml" if target.suffix == ".bin" else target.suffix)
                load(path, MODEL, key=key).run(black())

            for data in mutants([whole], count):
                outcomes[refuse_or_read(run, data, ArtifactError)] += 1
            target.write_bytes(whole)
    return str(dict(outcomes))


# --- paths ------------------------------------------------------------------------------------------------------------


def reader(name: str) -> tuple[Callable[[Path], object], str]:
    def open_it(path: Path) -> None:
        with opened(path, MODEL):
            pass

    readers: dict[str, tuple[Callable[[Path], object], str]] = {
        "--checkpoint": (open_it, ".zip"),
        "--checkpoint, a .params file": (open_it, ".params"),
        "--from-archive": (
            lambda path: download(Workspace(MODEL, path.parent), DownloadOptions(from_archive=path)),
            ".zip",
        ),
        "--reference": (lambda path: read_pack(path, MODEL), ".npz"),
        "--images": (lambda path: [read_image(found) for found in select_images([path])], ".png"),
        "--artifact, ONNX": (lambda path: load(path, MODEL), ".onnx"),
        "--artifact, IR": (lambda path: load(path, MODEL), ".xml"),
        "--artifact of verify": (
            lambda path: verify_artifacts(Workspace(MODEL, path.parent), VerifyOptions((path,), reference=path)),
            ".onnx",
        ),
    }
    return readers[name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize(
    "option",
    [
        "--checkpoint",
        "--checkpoint, a .params file",
        "--from-archive",
        "--reference",
        "--images",
        "--artifact, ONNX",
        "--artifact, IR",
        "--artifact of verify",
    ],
)
def test_a_path_that_leads_to_no_file_is_an_error_at_once(option: str, kind: str, tmp_path: Path) -> None:
    read, suffix = reader(option)
    before = list(tmp_path.rglob("*"))
    path = no_file(kind, tmp_path, suffix)
    with timed(option), pytest.raises(SSHToolError) as caught:
        read(path)
    message_of(caught.value)
    assert len(list(tmp_path.rglob("*"))) <= len(before) + 1


def test_a_small_file_is_read_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_small(path, 3) == b"abc"
    with pytest.raises(OSError, match="more than 2 bytes"):
        read_small(path, 2)
    states = iter([(3, 0, 0), (3, 1, 0)])
    monkeypatch.setattr("sshconvert.reading.state", lambda _: next(states))
    with pytest.raises(OSError, match="changed while it was read"):
        read_small(path, 3)


@pytest.mark.skipif(not OTHER_LENGTH.is_file(), reason=f"{OTHER_LENGTH}, which holds more than its size, is Linux's")
def test_a_small_file_that_holds_more_than_its_size_says_is_refused() -> None:
    assert OTHER_LENGTH.stat().st_size == 0
    with pytest.raises(OSError, match="changed while it was read"):
        read_small(OTHER_LENGTH, 1 << 20)


# --- the program ------------------------------------------------------------------------------------------------------

# What is written where {name} stands, the arguments, the exit code, and a part of the message.
RUNS: Final[dict[str, tuple[tuple[str, ...], int, str]]] = {
    "info, an archive cut off": (("info", "--checkpoint", "{zip}"), 1, "no end record, so it is cut off"),
    "convert, an archive cut off": (("convert", "--checkpoint", "{zip}"), 1, "no end record, so it is cut off"),
    "convert, a pipe": (("convert", "--checkpoint", "{pipe}"), 1, "neither a folder, a .params file nor an archive"),
    "download, text": (("download", "--from-archive", "{text}"), 1, "is not a zip or tar archive"),
    "download, a pipe": (("download", "--from-archive", "{pipe}"), 1, "is not a zip or tar archive"),
    "run, an archive cut off": (("run", "--from-archive", "{zip}", "--allow-unverified"), 1, "it is cut off"),
    "reference, a folder of nothing": (("reference", "--checkpoint", "{empty}"), 1, "sshtool reference: "),
    "info, a name too long": (("info", "--checkpoint", "x" * 5000), 1, "neither a folder"),
    "info, an output folder too long": (("info", "-o", "x" * 5000), 1, "neither a folder"),
    "verify, no pack": (("verify", "--artifact", "{onnx}", "--reference", "{text}"), 1, "not a reference pack"),
    "verify, a pipe as a pack": (("verify", "--artifact", "{onnx}", "--reference", "{pipe}"), 1, "is not a file"),
    "verify, a pipe as an artifact": (("verify", "--artifact", "{pipe}", "--reference", "{pack}"), 2, "--artifact"),
    "verify, a broken artifact": (("verify", "--artifact", "{broken}", "--reference", "{pack}"), 3, "no ONNX file"),
    "detect, a broken artifact": (("detect", "{image}", "--artifact", "{broken}"), 1, "is no ONNX file"),
    "detect, an IR without weights": (("detect", "{image}", "--artifact", "{xml}"), 1, ".bin"),
    "detect, a pipe as an image": (("detect", "{pipe}", "--artifact", "{onnx}"), 1, "is not a file"),
    "detect, another model": (("detect", "{image}", "--artifact", "{other}"), 1, "is not this model"),
}


@pytest.fixture(scope="module")
def bad_files(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    paths = {name: folder / name for name in ("text", "pipe", "empty")}
    paths["text"].write_text("hello")
    paths["empty"].mkdir()
    os.mkfifo(paths["pipe"])
    for name, data in {
        "zip": zipped({MODEL.checkpoint.symbol: b"{}", MODEL.checkpoint.params: b""})[:-9],
        "onnx": (small / "small.onnx").read_bytes(),
        "broken.onnx": (small / "small.onnx").read_bytes()[:1000],
        "other.onnx": onnx_with(lambda model: model.graph.output.pop())(),
        "xml": (small / "small.xml").read_bytes(),
        "image": picture("PNG"),
    }.items():
        stem, _, suffix = name.partition(".")
        paths[stem] = folder / f"{stem}.{suffix or stem}"
        paths[stem].write_bytes(data)
    paths["pack"] = small_pack(folder, f"params-sha256:{0:064}")  # of which nothing can be computed again
    return paths


@pytest.mark.parametrize("name", RUNS)
def test_the_program_says_what_is_wrong_with_a_file_and_writes_nothing(
    name: str, bad_files: dict[str, Path], tmp_path: Path
) -> None:
    arguments, code, message = RUNS[name]
    filled = [argument.format(**bad_files) for argument in arguments]
    output = [] if "-o" in filled else ["-o", str(tmp_path / "out")]
    result = sshtool(*filled, *output, code=code)
    said = result.stdout + result.stderr
    assert message in " ".join(said.split())
    assert f"sshtool {arguments[0]}: " in result.stderr or code == 3 or "1 not read" in said
    assert "fault in sshtool" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_graph_of_which_no_shapes_can_be_told_is_refused(tmp_path: Path) -> None:
    model = small_onnx(MODEL)
    model.graph.node.append(helper.make_node("Reshape", [], ["nothing"]))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ArtifactError, match=r"odd\.onnx"):
        read_onnx(tmp_path / "odd.onnx")


def test_numbers_of_other_scripts_are_none(tmp_path: Path) -> None:
    write_small_models(tmp_path, MODEL)
    path = tmp_path / "small.xml"
    text = path.read_text(encoding="utf-8")
    assert 'offset="0"' in text
    path.write_text(text.replace('offset="0"', 'offset="\N{FULLWIDTH DIGIT ZERO}"'), encoding="utf-8")
    with pytest.raises(ArtifactError, match="where a number is expected"):
        check_ir(path)
