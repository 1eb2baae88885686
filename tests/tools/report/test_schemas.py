"""Every verb's JSON follows a schema that ships, and every verb has one."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from command_line import sshtool
from many_calls import calls_in
from small_release import MODEL, make_workspace
from sshconvert.checkpoint import Checkpoint
from sshconvert.messages import path_of
from sshtool.cli.app import app
from sshtool.document import dump, plain
from sshtool.package.build import PackageOptions, package
from sshtool.parity.verification import user_images
from sshtool.report.schema import KINDS, dump_schema, shipped_schema
from sshtool.workspace import Workspace

VERBS: Final = frozenset(get_command(app).commands)  # type: ignore[attr-defined]  # it is a group
COMMAND: Final = "python -m sshtool.report.schema all"


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(shipped_schema(name)))


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_that_ships_is_what_the_code_says(name: str) -> None:
    assert shipped_schema(name) == dump_schema(name), f"run `{COMMAND}` and commit what it writes"
    jsonschema.Draft202012Validator.check_schema(json.loads(shipped_schema(name)))


def test_every_verb_has_a_schema() -> None:
    assert set(KINDS) - {"document", "event", "manifest"} == VERBS


@dataclass(frozen=True)
class Call:
    verb: str
    documents: tuple[dict[str, Any], ...]


def documents(text: str) -> Iterator[dict[str, Any]]:
    """JSON documents one behind the other."""
    decoder, text = json.JSONDecoder(), text.lstrip()
    while text:
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:].lstrip()


@pytest.fixture(scope="module")
def calls(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """What every verb prints with --json: once for each way that it may end, all in one process."""
    folder = tmp_path_factory.mktemp("schemas")
    workspace = make_workspace(folder / "own", plain_checkpoint)
    out, checkpoint = ("-o", str(workspace.folder)), ("--checkpoint", str(plain_checkpoint.params_path))
    pack, small = ("--reference", str(workspace.pack)), ("--input-shape", "1,3,64,64")
    images = folder / "images"
    images.mkdir()
    Image.new("RGB", (64, 64)).save(images / "a.png")
    (images / "b.png").write_bytes(b"no image")
    arguments = [
        ["bench", *out, "--runs", "1", "--rounds", "1", "--mode", "latency", "--runtime", "onnxruntime"],
        ["convert", *checkpoint, *small, "-o", str(folder / "made"), "--dry-run"],
        ["demo-dataset", "-o", str(folder), "--images", "2"],
        ["detect", *out, str(images)], ["detect", *out, str(images), "--dry-run"],
        ["download", "--demo", "-o", str(folder), "--dry-run"],
        ["evaluate", *out, "--dataset", str(folder / "datasets" / "wider-demo"), "--limit", "1"],
        ["info", *checkpoint], ["models"], ["package", *out],
        ["check", str(workspace.folder / "releases" / f"{MODEL.name}-flat")],
        ["reference", *checkpoint, "--file", str(folder / "pack.npz"), "--dry-run"],
        ["run", *checkpoint, "-o", str(folder / "run"), "--dry-run"],
        ["verify", *out, *pack], ["verify", *out, *pack, "--atol", "0", "--rtol", "0"],
        *([verb, "--model", "none"] for verb in VERBS - {"check", "demo-dataset", "detect", "predict"}),
        ["detect", "--model", "none", str(images)], ["predict", "--model", "none", str(images)],
        ["check", str(folder / "none")],
    ]  # fmt: skip
    return [
        Call(words[0], tuple(documents(said))) for words, said in calls_in(folder / "calls.json", arguments, "--json")
    ]


def test_what_every_verb_prints_follows_its_schema(calls: list[Call]) -> None:
    ended = set()
    for call in calls:
        assert call.documents
        for document in call.documents:
            if call.verb == "detect" and "ok" not in document:
                validator("detect").validate(document)
                ended.add(call.verb)
                continue
            validator("document").validate(document)
            assert document["verb"] == call.verb
            if "result" in document:
                validator(call.verb).validate(document["result"])
                ended.add(call.verb)
    assert ended >= VERBS - {"reference", "predict"}  # which need MXNet, and another model
    failed = {call.verb for call in calls for document in call.documents if "error" in document}
    assert failed >= VERBS - {"demo-dataset"}  # which has no model


def test_a_schema_notices_what_is_missing_or_of_another_type(calls: list[Call]) -> None:
    for call in calls:
        for document in call.documents:
            if "result" not in document:
                continue
            for key, value in document["result"].items():
                less = {name: item for name, item in document["result"].items() if name != key}
                assert not validator(call.verb).is_valid(less), (call.verb, key)
                odd = {**less, key: 1 if isinstance(value, str | list | dict) else ["odd"]}
                assert not validator(call.verb).is_valid(odd), (call.verb, key)


def test_files_of_a_package_are_objects(calls: list[Call]) -> None:
    (result,) = (
        item["result"] for call in calls if call.verb == "package" for item in call.documents if "result" in item
    )
    assert {tuple(file) for file in result["files"]} == {("path", "role", "bytes", "sha256")}


def test_events_of_a_download_follow_their_schema(tmp_path: Path) -> None:
    result = sshtool("download", "--demo", "-o", tmp_path, "--progress-format", "json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events
    for event in events:
        validator("event").validate(event)
        assert not validator("event").is_valid({**event, "$type": "model_explodes"})


@pytest.mark.parametrize("value", [object(), {1}, b"bytes", 1j, np.int64(1), np.zeros(1), {1: 2}, range(3), Call])
def test_a_type_that_json_does_not_have_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError):
        dump("info", {"result": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump("info", {"result": value})


def test_every_document_is_utf_8() -> None:
    call = Call("\udcff", ({"\udcff": PurePosixPath("\udcff/\\xff"), "other": "\ud800"},))
    json.dumps(plain(call), ensure_ascii=False).encode()
    assert plain(call) == {"verb": "\\xff", "documents": [{"\\xff": "\\xff/\\x5cxff", "other": "\\ud800"}]}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_documents_name_files_that_are_not_text_so_that_they_are_found(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """All in one folder, with a name that is not UTF-8 and that looks as if it had been escaped already."""
    folder = tmp_path / os.fsdecode(b"\xff\\xff")
    workspace = make_workspace(folder / "own", plain_checkpoint)
    odd = workspace.onnx.with_name(os.fsdecode(b"\xfe.onnx"))
    shutil.copyfile(workspace.onnx, odd)
    Image.new("RGB", (64, 64)).save(folder / os.fsdecode(b"\xfd.png"))
    out, pack = ("-o", str(workspace.folder)), ("--reference", str(workspace.pack))
    drawn = folder / "datasets" / "wider-demo"
    arguments = [
        ["verify", *out, *pack, "--artifact", str(odd), "--artifact", str(workspace.onnx)],
        ["detect", *out, "--artifact", str(odd), str(folder)],
        ["demo-dataset", "-o", str(folder), "--images", "2"],
        ["evaluate", *out, "--artifact", str(odd), "--dataset", str(drawn), "--limit", "1"],
        ["convert", "--checkpoint", str(plain_checkpoint.params_path), "-o", str(folder), "--dry-run"],
        ["package", *out], ["check", str(workspace.folder / "releases" / f"{MODEL.name}-flat")],
    ]  # fmt: skip
    for words, said in calls_in(tmp_path / "calls.json", arguments, "--json", "--quiet"):
        for document in documents(said):
            assert "error" not in document, (words, document)
            texts = list(texts_of(document))
            "".join(texts).encode()
            named = [text for text in texts if re.fullmatch(r"/[^ ]*", text)]
            assert named
            assert words[0] == "convert" or all(path_of(text).exists() for text in named), named
    (draw,) = user_images([str(folder)], MODEL).values()
    sample = draw(64, 64)
    assert path_of(sample.name).exists()
    record = json.loads(workspace.record.read_bytes())
    record["result"]["report"]["samples"][0]["name"] = sample.name
    workspace.record.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    made = package(Workspace(MODEL, workspace.folder), PackageOptions()).folder
    assert sample.name in set(texts_of(json.loads((made / workspace.record.name).read_bytes())))


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a JSON document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
