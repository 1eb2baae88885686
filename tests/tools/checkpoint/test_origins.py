"""Origins of a checkpoint: zip and tar archives with subfolders, two loose files, SHA-256 and SHA-384, dead sources."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from command_line import sshtool
from server import Server
from sshconvert.checkpoint import open_checkpoint, read_record
from sshconvert.digest import Algorithm
from sshconvert.errors import ArchiveError, DownloadError, ModelError
from sshconvert.models.registry import dump_model, load_model, model_names, parse_model
from sshconvert.models.spec import CheckpointSpec, LooseFile, ModelSpec, PinnedFile, SourceSpec
from sshtool.checkpoint import web
from sshtool.checkpoint.archive import is_archive, opened, unpack
from sshtool.checkpoint.download import DownloadOptions, DownloadResult, download
from sshtool.demo.network import write_demo
from sshtool.workspace import Workspace

pytestmark = pytest.mark.independent

FOLDER: Final = "ablation/a02_net-26"
NET: Final = parse_model(
    b"""
name = "net"
inputs = [{ name = "data", shape = [1, 4] }]
task = { kind = "tensors", names = ["out"] }
checkpoint = { symbol = "net-symbol.json", params = "net-0000.params" }
""",
    source="net.toml",
)
SYMBOL, PARAMS = NET.file_names
ALGORITHMS: Final[tuple[Algorithm, Algorithm]] = ("sha256", "sha384")


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SSHTOOL_SOURCES", raising=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two files of the checkpoint."""
    folder = tmp_path_factory.mktemp("net")
    write_demo(folder, NET)
    return {name: (folder / name).read_bytes() for name in NET.file_names}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[Server]:
    with Server(b"nothing else") as running:
        running.files = dict(files)
        yield running


def tar_of(members: dict[str, bytes], *, folders: tuple[str, ...] = (), form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar with its folders in front, as `tar` writes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.uname = len(content), "someone"
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def pinned(kind: type[Any], name: str, content: bytes, algorithm: Algorithm, **more: object) -> Any:
    return kind(name=name, size=len(content), **{algorithm: hashlib.new(algorithm, content).hexdigest()}, **more)


def with_archive(name: str, content: bytes, algorithm: Algorithm, folder: str = "", *urls: SourceSpec) -> ModelSpec:
    archive = pinned(PinnedFile, name, content, algorithm)
    spec = CheckpointSpec(symbol=SYMBOL, params=PARAMS, archive=archive, folder=folder, sources=urls)
    return NET.model_copy(update={"checkpoint": spec})


def with_files(files: dict[str, bytes], *urls: SourceSpec) -> ModelSpec:
    loose = tuple(
        pinned(LooseFile, name, content, algorithm, sources=urls)
        for (name, content), algorithm in zip(files.items(), ALGORITHMS, strict=True)
    )
    return NET.model_copy(update={"checkpoint": CheckpointSpec(symbol=SYMBOL, params=PARAMS, files=loose)})


def get(model: ModelSpec, folder: Path, *sources: str, **options: Any) -> DownloadResult:
    settings = DownloadOptions(sources=sources, cache_dir=folder / "cache", **options)
    return download(Workspace(model, folder / "out"), settings)


def stored(folder: Path) -> dict[str, bytes]:
    place = folder / "out" / "checkpoints" / "net"
    return {name: (place / name).read_bytes() for name in NET.file_names}


@pytest.mark.parametrize("algorithm", ["sha256", "sha384"])
@pytest.mark.parametrize("form", ["zip", "tar", "tar with folders", "pax", "./ in front"])
def test_archives_of_both_kinds_come_from_a_mirror_with_either_hash(
    form: str, algorithm: Algorithm, files: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    inside = {f"{FOLDER}/{name}": content for name, content in files.items()} | {f"{FOLDER}/log.txt": b"trained"}
    content = {
        "zip": lambda: zip_of(inside),
        "tar": lambda: tar_of(inside),
        "tar with folders": lambda: tar_of(inside, folders=("ablation", FOLDER)),
        "pax": lambda: tar_of(inside, folders=(FOLDER,), form=tarfile.PAX_FORMAT),
        "./ in front": lambda: tar_of({f"./{name}": data for name, data in inside.items()}, folders=("./",)),
    }[form]()
    name = "net.zip" if form == "zip" else "net.tar"
    server.files[name] = content
    model = with_archive(name, content, algorithm, FOLDER)
    result = get(model, tmp_path, f"{server.url}/honest/")
    assert stored(tmp_path) == files
    assert (result.verified, result.weights) == (True, f"sha256:{hashlib.sha256(content).hexdigest()}")
    # The archive itself is a checkpoint too, of the same identity.
    (tmp_path / name).write_bytes(content)
    with opened(tmp_path / name, model) as checkpoint:
        assert checkpoint.weights == result.weights
    assert get(model, tmp_path / "again", from_archive=tmp_path / name).verified


def test_two_loose_files_come_each_by_its_own_hash(files: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    model = with_files(files)
    result = get(model, tmp_path, f"{server.url}/honest/")
    assert stored(tmp_path) == files
    assert [request.path for request in server.requests] == [f"/honest/{name}" for name in files]
    assert result.weights == f"params-sha256:{hashlib.sha256(files[PARAMS]).hexdigest()}"
    assert result.source == f"{server.url}/honest/{SYMBOL}, {server.url}/honest/{PARAMS}"
    place = tmp_path / "out" / "checkpoints" / "net"
    record = read_record(place)
    assert record is not None
    assert record.verified
    assert open_checkpoint(place, model).weights == result.weights
    assert get(model, tmp_path, offline=True).cached
    assert len(server.requests) == 2


def test_a_mirror_may_be_the_url_of_each_loose_file(files: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    get(with_files(files), tmp_path, f"{server.url}/a/{PARAMS}", f"{server.url}/b/{SYMBOL}")
    assert [request.path for request in server.requests] == [f"/b/{SYMBOL}", f"/a/{PARAMS}"]


def test_a_folder_of_files_is_a_mirror_of_loose_files(files: dict[str, bytes], tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in files.items():
        (mirror / name).write_bytes(content)
    get(with_files(files), tmp_path, str(mirror), offline=True)
    assert stored(tmp_path) == files


@pytest.mark.parametrize("name", [SYMBOL, PARAMS])
def test_one_changed_loose_file_stores_nothing(
    name: str, files: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    model = with_files(files)
    server.files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    algorithm = {SYMBOL: "SHA-256", PARAMS: "SHA-384"}[name]
    with pytest.raises(DownloadError, match=rf"^{name}: no source gives it: .* with {algorithm} [0-9a-f]+, expected"):
        get(model, tmp_path, f"{server.url}/honest/")
    assert not (tmp_path / "out" / "checkpoints" / "net").exists()


@pytest.mark.parametrize("loose", [False, True])
def test_a_source_known_dead_is_tried_behind_one_that_may_live(
    loose: bool, files: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TransferLimits", partial(web.TransferLimits, attempts=1))
    content = server.body = tar_of(files)
    # The sources of a description are https, which this server is not: the user's mirror stands for the living one.
    dead = SourceSpec(url=f"https://127.0.0.1:{server.port}/dead", dead_since="May 2021")
    living = SourceSpec(url=f"https://127.0.0.1:{server.port}/alive")
    model = with_files(files, dead, living) if loose else with_archive("net.tar", content, "sha384", "", dead, living)
    with pytest.raises(DownloadError) as caught:
        get(model, tmp_path)
    message = str(caught.value)
    assert message.index("/alive: ") < message.index("/dead: upstream's link, dead since May 2021")
    get(model, tmp_path, f"{server.url}/honest/")
    assert stored(tmp_path) == files


def test_the_usual_place_of_an_archive_without_a_folder_is_the_root_or_one_folder(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    for number, prefix in enumerate(("", "one/")):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(tar_of({f"{prefix}{name}": content for name, content in files.items()}))
        assert is_archive(path)
        folder = tmp_path / str(number)
        folder.mkdir()
        unpack(path, NET, folder)
        assert (folder / PARAMS).read_bytes() == files[PARAMS]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({f"other/{SYMBOL}": b"{}", f"other/{PARAMS}": b"x"}, f"expected {FOLDER}/{SYMBOL} once, found it 0 times"),
        ({SYMBOL: b"{}", PARAMS: b"x"}, f"expected {FOLDER}/{SYMBOL} once, found it 0 times; the archive holds"),
        ({f"{FOLDER}/{SYMBOL}": b"{}"}, f"expected {FOLDER}/{PARAMS} once, found it 0 times"),
    ],
    ids=["in another folder", "at the root", "one is missing"],
)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_only_the_named_folder_of_an_archive_counts(
    make: Any, members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    path, folder = tmp_path / "net.archive", tmp_path / "new"
    path.write_bytes(make(members))
    folder.mkdir()
    model = with_archive("net.tar", b"x", "sha384", FOLDER)
    with pytest.raises(ArchiveError, match=message):
        unpack(path, model, folder)
    assert list(folder.iterdir()) == []


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("twice", "found it 2 times"),
        ("a link", "is a link, a device, a folder or unknown"),
        ("cut off", "is cut off"),
        ("more behind the end", "has something behind its end"),
    ],
)
def test_a_tar_that_tools_could_read_differently_is_refused(
    fault: str, message: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    data = tar_of(files)
    if fault == "twice":
        data = tar_of(files | {f"sub/{PARAMS}": b"other"})
    elif fault == "a link":
        extra = io.BytesIO()
        with tarfile.open(fileobj=extra, mode="w") as archive:
            archive.addfile(member("link", tarfile.SYMTYPE, PARAMS))
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        data = extra.getvalue()
    elif fault == "cut off":
        data = data[:700]
    else:
        data += b"PK\3\4"
    path, folder = tmp_path / "net.tar", tmp_path / "new"
    path.write_bytes(data)
    folder.mkdir()
    with pytest.raises(ArchiveError, match=message):
        unpack(path, NET, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha384": None}, "give sha256 or sha384"),
        ({"sha256": "0" * 64}, "give sha256 or sha384"),
        ({"sha384": "0" * 64}, "sha384"),
    ],
    ids=["no hash", "two hashes", "a short hash"],
)
def test_a_pin_has_exactly_one_hash(change: dict[str, Any], message: str) -> None:
    fields = {"name": "net.tar", "size": 1, "sha384": "0" * 96} | change
    with pytest.raises(ValueError, match=message):
        PinnedFile.model_validate(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('folder = "a"', "name the archive"),
        ('files = [{ name = "x", size = 1, sha256 = "HASH" }]', "expected net-symbol.json and net-0000.params"),
        ('folder = "../a"', "folder"),
    ],
)
def test_contradictions_in_a_description_are_named(text: str, message: str) -> None:
    more = text.replace("HASH", "0" * 64)
    body = dump_model(NET).decode().replace('net-0000.params"}', f'net-0000.params", {more}}}')
    with pytest.raises(ModelError, match=message):
        parse_model(body.replace('name = "net"', 'name = "mine"').encode(), source="mine.toml")


def test_the_command_line_gets_a_model_of_loose_files(files: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(dump_model(with_files(files).model_copy(update={"name": "mine"})))
    mirror = ("--source", f"{server.url}/honest/", "--cache-dir", tmp_path / "cache")
    said = sshtool("download", "--model", tmp_path / "mine.toml", *mirror, "-o", tmp_path / "out", "--json")
    assert json.loads(said.stdout)["result"]["verified"] is True
    assert (tmp_path / "out" / "checkpoints" / "mine" / PARAMS).read_bytes() == files[PARAMS]


def test_every_model_that_ships_says_where_its_checkpoint_is_or_that_none_is_known() -> None:
    kinds: dict[str, set[str]] = {"archive": set(), "files": set(), "": set()}
    for model in map(load_model, model_names()):
        spec = model.checkpoint
        kinds["archive" if spec.archive else "files" if spec.files else ""].add(model.name)
        assert bool(spec.all_sources) == bool(spec.archive or spec.files)
    assert {"mtcnn-det1", "mtcnn-det2", "mtcnn-det3", "mtcnn-det4", "retinaface-mnet25"} == kinds[""]
    assert kinds["files"] == {"brain-tumor-segmentation-0001", "mobilefacedet-v1-mxnet"}
    assert len(kinds["archive"]) == 15


@dataclass(frozen=True)
class Dry:
    name: str
    weights: str


@pytest.mark.parametrize(
    "dry",
    [
        Dry("octave-resnet-26-0.25", "sha384:ac368af0"),
        Dry("mobilefacedet-v1-mxnet", "params-sha384:729fd402"),
        Dry("retinaface-anti-cov", "sha256:618753c0"),
    ],
    ids=lambda dry: dry.name,
)
def test_a_dry_run_names_the_pin_and_the_first_source(dry: Dry, tmp_path: Path) -> None:
    result = download(Workspace(load_model(dry.name), tmp_path), dry_run=True)
    assert result.weights.startswith(dry.weights)
    assert result.source.startswith("https://")
    assert list(tmp_path.iterdir()) == []
