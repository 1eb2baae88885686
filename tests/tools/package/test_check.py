from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from command_line import sshtool
from crash_trials import UNSHARED
from reference_packs import computed_answers
from small_release import MODEL, Verified, described, make_workspace
from sshconvert.checkpoint import DEMO, Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import ArtifactError, PackageError, ReferencePackError, UsageError
from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision
from sshconvert.reading import is_file
from sshtool.package import unpacking
from sshtool.package.build import PackageOptions, package
from sshtool.package.bundle import pack
from sshtool.package.check import UNSIGNED, Checker, Verdict, check
from sshtool.package.manifest import MANIFEST, SUMS, dump_sums, parse_sums
from sshtool.package.packaged_model import read_contract
from sshtool.package.rebuild import options_of
from sshtool.package.signers import Signers, open_signers
from sshtool.package.signing import ATTESTATION, SIGNATURE
from sshtool.package.unpacking import opened
from sshtool.parity.pack import write_pack
from sshtool.workspace import Workspace

NAME: Final = MODEL.name
TAMPERINGS: Final = 200


@pytest.fixture(scope="module")
def workspace(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    return make_workspace(tmp_path_factory.mktemp("workspace"), demo_checkpoint)


@pytest.fixture(scope="module")
def original(workspace: Verified) -> Path:
    return package(Workspace(MODEL, workspace.folder), PackageOptions()).folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that may be tampered with."""
    shutil.copytree(original, tmp_path / original.name)
    return tmp_path / original.name


def problems(folder: Path, **options: Any) -> list[str]:
    return [f"{item.check}: {item.path}: {item.message}" for item in Checker(folder).run(**options).findings]


def resealed(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Adapt the sizes and hashes to the changed files, as an attacker does."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    for file in manifest["files"]:
        data = (folder / file["path"]).read_bytes()
        file.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / MANIFEST).write_text(json.dumps(manifest))
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != SUMS]
    hashes = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    (folder / SUMS).write_bytes(dump_sums(hashes))


# --- A model that does not ship ---------------------------------------------------------------------------------------

OWN: Final = (
    'name = "own"\ninputs = [{ name = "data", shape = [1, 3, 64, 64], image = {} }]\n[task]\n'
    'kind = "anchor_detection"\n'
    "score_threshold = 0.5\niou_threshold = 0.4\ncandidates_per_stride = 9\n"
    'heads = [{ stride = 8, scales = [1], scores = "a", boxes = "b" }]\n'
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("own", None, "model.toml: cannot be read", id="no description"),
        pytest.param("/etc/own.toml", None, "model.toml: cannot be read", id="a path for a name"),
        pytest.param("own", OWN + "[evil]", "evil: Extra inputs", id="an unknown table"),
        pytest.param("other", OWN, "describes own, the manifest says 'other'", id="another model"),
        pytest.param(
            "own", OWN.replace('"own"', '"ssh-mxnet"'), "is the name of a model that ships", id="a known name"
        ),
        pytest.param("own", OWN.replace("64, 64", "9999, 9999"), "is too large", id="a huge input"),
        pytest.param("own", OWN.replace("image", "# "), "not valid TOML", id="no TOML"),
        pytest.param(
            "own", OWN.replace(", image = {}", ""), "the models take an image, others than these", id="no image"
        ),
        pytest.param("own", OWN, "FP32/ssh-mxnet.onnx: ", id="a description of another network"),
    ],
)
def test_a_packages_own_description_is_hostile_input(name: str, text: str | None, message: str, folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"] = name
        if text is not None:
            (folder / "model.toml").write_text(text, encoding="utf-8")
            manifest["files"].append({"path": "model.toml", "role": "description", "bytes": 0, "sha256": ""})

    resealed(folder, change)
    found = problems(folder)
    assert any(message in problem for problem in found), found


# --- Whole packages ---------------------------------------------------------------------------------------------------


def test_a_package_as_it_was_made_passes_and_its_models_answer_as_the_original(original: Path) -> None:
    result = check(original)
    assert result.findings == ()
    assert result.checks == ("manifest", "checksums", "declarations", "answers")
    assert result.parity.keys() == {"onnx FP32", "openvino FP32"}
    assert all(value is not None and value < 1e-4 for value in result.parity.values())


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_checked_as_its_folder_is(kind: str, original: Path, tmp_path: Path) -> None:
    target = tmp_path / f"release.{kind}"
    pack(original, target, kind)
    result = check(target)
    assert result.passed, result.findings
    assert "answers" in result.checks


def test_the_command_line_ends_in_3_for_a_package_that_is_not_what_it_says(folder: Path) -> None:
    assert sshtool("check", folder, "--quiet").stderr == ""
    (folder / "README.md").write_text("other words")
    result = sshtool("check", folder, "--json", code=3)
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert {item["path"] for item in document["result"]["findings"]} == {"README.md"}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("nowhere", "a package's folder or archive"),
        ("file.txt", "get the package again"),
        ("pipe", "a package's folder or archive"),
    ],
)
def test_what_is_no_package_at_all_is_an_error_in_one_line(name: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    stderr = sshtool("check", tmp_path / name, code=1).stderr
    assert stderr.count("\n") == 1
    assert remedy in stderr.rpartition(";")[2]


def test_an_empty_folder_is_not_what_a_package_is(tmp_path: Path) -> None:
    assert [line.split(":")[1] for line in problems(tmp_path)] == [" manifest.json", " SHA256SUMS"]


# --- Tampering --------------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(folder: Path, chance: random.Random) -> None:
    path = chance.choice(files(folder))
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def rename(folder: Path, chance: random.Random) -> None:
    path = chance.choice(files(folder))
    path.rename(path.with_name(f"{path.name}{chance.choice('.~x_0')}"))


def swap(folder: Path, chance: random.Random) -> None:
    one, other = chance.sample(files(folder), 2)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def add(folder: Path, chance: random.Random) -> None:
    place = chance.choice([folder, *(path for path in folder.rglob("*") if path.is_dir())])
    (place / f"extra-{chance.randrange(1000)}").write_bytes(chance.randbytes(chance.randrange(20)))


def remove(folder: Path, chance: random.Random) -> None:
    chance.choice(files(folder)).unlink()


def shorten(folder: Path, chance: random.Random) -> None:
    path = chance.choice(files(folder))
    os.truncate(path, chance.randrange(path.stat().st_size))


def lengthen(folder: Path, chance: random.Random) -> None:
    with chance.choice(files(folder)).open("ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 20)))


def link(folder: Path, chance: random.Random) -> None:
    """Even one that leads to the same bytes: they are elsewhere."""
    path = chance.choice(files(folder))
    target = folder.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def name_oddly(folder: Path, chance: random.Random) -> None:
    """A name that some systems take for another, or for a device."""
    path = chance.choice(files(folder))
    path.rename(
        path.with_name(chance.choice(["con", "NUL.onnx", "-rf", "a.", "a b", "\x1b[2J", "e\u0301", "a:b", "\udcff"]))
    )


def make_empty(folder: Path, chance: random.Random) -> None:
    (folder / f"{chance.randrange(1000)}").mkdir()


def end_lines_as_windows(folder: Path, _: random.Random) -> None:
    (folder / SUMS).write_bytes((folder / SUMS).read_bytes().replace(b"\n", b"\r\n"))


TAMPERS: Final = (
    *(flip, rename, swap, add, remove, shorten, lengthen, link),
    *(name_oddly, make_empty, end_lines_as_windows),
)


def test_random_tampering_is_always_found(original: Path, tmp_path: Path) -> None:
    caught: Counter[str] = Counter()
    for seed in range(TAMPERINGS):
        chance = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        tamper = chance.choice(TAMPERS)
        folder = tmp_path / str(seed) / original.name
        shutil.copytree(original, folder)
        tamper(folder, chance)
        assert problems(folder, models=False), f"{tamper.__name__}, seed {seed}"
        caught[tamper.__name__] += 1
        shutil.rmtree(folder.parent)
    print(dict(caught))  # noqa: T201  # the table, with `pytest -s`
    assert sum(caught.values()) == TAMPERINGS
    assert len(caught) == len(TAMPERS)


@pytest.mark.parametrize("name", [MANIFEST, SUMS])
def test_a_list_larger_than_any_is_refused_by_its_size(name: str, folder: Path) -> None:
    os.truncate(folder / name, (4 << 20) + 1)
    assert any("cannot be read (it has more than" in line for line in problems(folder, models=False))


def test_a_file_beyond_the_manifest_is_found_though_the_checksums_know_it(folder: Path) -> None:
    (folder / "extra.txt").write_text("new")
    with (folder / SUMS).open("a") as file:
        file.write(f"{hashlib.sha256(b'new').hexdigest()}  extra.txt\n")
    assert problems(folder, models=False) == ["manifest: extra.txt: is not in the manifest"]


def test_a_manifest_of_other_files_is_found_though_the_checksums_are_right(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = [file for file in manifest["files"] if file["path"] != "README.md"]

    resealed(folder, change)
    assert problems(folder, models=False) == ["manifest: README.md: is not in the manifest"]


def resealed_without_looking(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As `resealed`, but for what the manifest says of files."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change({file["path"]: file for file in manifest["files"]})
    (folder / MANIFEST).write_text(json.dumps(manifest))
    sums = parse_sums((folder / SUMS).read_bytes())
    sums[MANIFEST] = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    (folder / SUMS).write_bytes(dump_sums(sums))


@pytest.mark.parametrize("change", [{"bytes": 1}, {"sha256": "0" * 64}], ids=["size", "hash"])
def test_a_manifest_that_is_wrong_about_a_file_is_found(change: dict[str, Any], folder: Path) -> None:
    resealed_without_looking(folder, lambda files: files["README.md"].update(change))
    (line,) = problems(folder, models=False)
    assert line.startswith("manifest: README.md: has ")


def test_checksums_of_other_files_are_found_though_the_manifest_is_right(folder: Path) -> None:
    sums = parse_sums((folder / SUMS).read_bytes())
    sums["ghost.txt"] = sums.pop("README.md")
    (folder / SUMS).write_bytes(dump_sums(sums))
    assert problems(folder, models=False) == [
        "checksums: README.md: is not in SHA256SUMS",
        "checksums: ghost.txt: is in SHA256SUMS, but does not exist",
    ]


def test_lines_that_end_as_on_windows_are_one_finding(folder: Path) -> None:
    end_lines_as_windows(folder, random.Random(0))  # noqa: S311  # as above
    (line,) = problems(folder)
    assert line.startswith(f"manifest: {SUMS}: ")
    assert "CRLF" in line


def test_sizes_are_compared_before_anything_is_hashed(folder: Path) -> None:
    started = time.monotonic()
    os.truncate(folder / f"FP32/{NAME}.onnx", 4 << 40)  # sparse: it takes no room, but hours to be read
    (folder / "extra").touch()
    os.truncate(folder / "extra", 4 << 40)
    found = problems(folder)
    assert any(line.startswith(f"manifest: FP32/{NAME}.onnx: has {4 << 40} bytes") for line in found)
    assert time.monotonic() - started < 5

    def claim(files: dict[str, Any]) -> None:
        files[f"FP32/{NAME}.onnx"]["bytes"] = 4 << 40

    resealed_without_looking(folder, claim)
    assert any("bytes together" in line for line in problems(folder))
    assert time.monotonic() - started < 10


def test_more_folders_than_any_package_has_are_not_looked_at(folder: Path) -> None:
    for number in range(4001):
        (folder / f"{number}").mkdir()
    assert "files: .: there are more than 4000 files and folders" in problems(folder, models=False)


def test_more_files_than_any_package_has_are_not_looked_at(folder: Path) -> None:
    for number in range(4001):
        (folder / f"{number}.txt").touch()
    assert any("there are more than 4000 files" in line for line in problems(folder, models=False))


def unverified(manifest: dict[str, Any]) -> None:
    """A changed model needs another verification, or loses its own."""
    manifest["models"][0]["verified"] = False
    manifest["verification"]["status"] = "unverified"


def test_a_resealed_package_with_another_network_is_found_by_its_answers(folder: Path) -> None:
    path = folder / f"FP32/{NAME}.onnx"
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w_body")
    values = bytearray(weights.raw_data)
    values[3] ^= 0x80  # the sign of one weight
    weights.raw_data = bytes(values)
    onnx.save(model, path)
    resealed(folder, unverified)
    found = problems(folder)
    assert found
    assert all(line.startswith(f"answers: FP32/{NAME}.onnx") for line in found)


def test_a_resealed_package_that_declares_another_input_is_found(folder: Path) -> None:
    path = folder / f"FP32/{NAME}.onnx"
    model = onnx.load(path)
    next(entry for entry in model.metadata_props if entry.key == "color_order").value = "RGB"
    onnx.save(model, path)
    resealed(folder)
    assert any("color_order: it says" in line for line in problems(folder))

    def lie(manifest: dict[str, Any]) -> None:
        manifest["models"][0]["input"]["shape"] = [1, 3, 32, 32]

    resealed(folder, lie)
    assert any("input: it says" in line for line in problems(folder))


def test_a_resealed_package_with_a_file_that_is_no_model_is_found(folder: Path) -> None:
    (folder / f"FP32/{NAME}.onnx").write_bytes(b"not ONNX")
    resealed(folder)
    assert any(line.startswith(f"declarations: FP32/{NAME}.onnx") for line in problems(folder))


def test_a_resealed_package_with_a_broken_pack_is_found(folder: Path) -> None:
    (folder / "reference.npz").write_bytes(b"PK")
    resealed(folder)
    assert any(line.startswith("answers: reference.npz") for line in problems(folder))


def test_a_pack_of_another_checkpoint_proves_nothing(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["source"]["checkpoint"][MODEL.checkpoint.symbol] = "0" * 64

    resealed(folder, change)
    assert any("of another checkpoint" in line for line in problems(folder))


def other_weights(manifest: dict[str, Any]) -> None:
    manifest["source"]["weights"] = "sha256:" + "0" * 64


def other_model(manifest: dict[str, Any]) -> None:
    manifest["model"] = "another"


def other_output(manifest: dict[str, Any]) -> None:
    manifest["models"][0]["outputs"][0]["shape"][0] = 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_weights, "weights: it says"),
        (other_model, "declarations: model.toml: cannot be read"),
        (other_output, "outputs: it says"),
    ],
)
def test_a_resealed_manifest_that_is_wrong_about_the_models_is_found(
    change: Callable[[dict[str, Any]], None], message: str, folder: Path
) -> None:
    resealed(folder, change)
    found = problems(folder)
    assert any(message in line for line in found)


# --- Everything that a manifest says ----------------------------------------------------------------------------------

Place = tuple[str | int, ...]

# Other words that the schema knows, for a lie that is not found by the schema alone.
OTHER_WORDS: Final = {
    "onnx": "openvino",
    "openvino": "onnx",
    "FP32": "FP16",
    "passed": "unverified",
    "flat": "huggingface",
    "BGR": "RGB",
    "NCHW": "NHWC",
    "float32": "uint8",
    "report": "model card",
    "model card": "report",
    "licence": "report",
    "bill of materials": "licence",
    "model": "licence",
    "reference pack": "licence",
}


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, part in parts for leaf in leaves(part, (*place, key))]
    yield from found or [(place, value)]


def lies(place: Place, value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, -value - 1)
    elif value is None:
        yield {"score_threshold": 0.5, "iou_threshold": 0.5, "top_k": 9} if place[-1] == "postprocessing" else "0" * 64
    elif isinstance(value, str):
        yield OTHER_WORDS.get(value, "0" * 64 if len(value) == 64 else f"{value}x")
    elif isinstance(value, list):
        yield ["another"]


def put(document: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


def kind(place: Place) -> Place:
    """Places that are treated alike."""
    if place[0] == "versions":
        return place[:1]
    return tuple("*" if isinstance(part, int) else part for part in place)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["one of a kind", "all"])
def test_whatever_a_manifest_says_is_compared_or_named_as_a_claim(every: bool, original: Path, tmp_path: Path) -> None:
    document = json.loads((original / MANIFEST).read_bytes())
    found: dict[Place, tuple[Place, Any]] = {}
    for place, value in leaves(document):
        found.setdefault(place if every else kind(place), (place, value))
    assert {"title", "layout", "source", "models", "verification", "versions", "files"} <= {key[0] for key in found}
    for place, value in found.values():
        for lie in lies(place, value):
            folder = tmp_path / original.name
            shutil.copytree(original, folder)
            changed = json.loads((folder / MANIFEST).read_bytes())
            put(changed, place, lie)
            sealed(folder, changed)
            report = Checker(folder).run()
            claimed = [claim.place.split(".") for claim in report.claims if claim.path == MANIFEST]
            said = list(map(str, place))
            assert report.findings or any(said[: len(name)] == name for name in claimed if name), f"{said}: {lie}"
            shutil.rmtree(folder)


def test_whatever_a_file_says_of_itself_is_compared_or_named_as_a_claim(original: Path, tmp_path: Path) -> None:
    """The file and the manifest say the same, and it is not so."""
    path = Path("FP32") / f"{NAME}.onnx"
    keys = [entry.key for entry in onnx.load(original / path).metadata_props]
    claimed = set()
    for key in [*keys, "author", "postprocessing_inside", "model_info model_type"]:
        folder = tmp_path / original.name
        shutil.copytree(original, folder)
        model = onnx.load(folder / path)
        said = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, said | {key: OTHER_WORDS.get(said.get(key, ""), f"{said.get(key, '')} 1")})
        onnx.save(model, folder / path)
        with contextlib.suppress(ArtifactError):  # what no file can say
            lie_alike(folder, path)
            report = Checker(folder).run()
            names = {claim.place for claim in report.claims}
            assert report.findings or f"models.0.options.{key}" in names, key
            claimed |= set() if report.findings else {key}
        shutil.rmtree(folder)
    assert claimed == {"tool", "author"}


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_a_model_that_says_int8_for_wider_tolerances_is_found(form: str, original: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(original, tmp_path / original.name)
    (folder / "INT8").mkdir()
    for path in (folder / "FP32").iterdir():
        path.rename(folder / "INT8" / path.name)
    (folder / "FP32").rmdir()
    path = folder / "INT8" / f"{NAME}.onnx"
    model = onnx.load(path)
    next(entry for entry in model.metadata_props if entry.key == "precision").value = "INT8"
    onnx.save(model, path)
    path = folder / "INT8" / f"{NAME}.xml"
    path.write_text(path.read_text().replace('precision value="FP32"', 'precision value="INT8"'))

    def change(manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest).replace("FP32", "INT8")
        manifest.clear()
        manifest.update(json.loads(text))
        manifest["verification"]["status"] = "unverified"
        for item in manifest["models"]:
            item["verified"] = False

    resealed(folder, change)
    fault = f"declarations: INT8/{NAME}.{form}: precision: it says INT8, "
    assert any(line.startswith(fault) for line in problems(folder))


def lie_alike(folder: Path, path: Path) -> None:
    """Have the manifest say what the model says, and that it was not verified."""
    made = described(read_contract(folder / path), folder / path).model_copy(update={"verified": False})

    def change(manifest: dict[str, Any]) -> None:
        manifest["models"][0] = json.loads(made.model_dump_json())
        manifest["verification"]["status"] = "unverified"

    resealed(folder, change)


def sealed(folder: Path, manifest: Any) -> None:
    """Write the manifest and a line for it in SHA256SUMS."""
    (folder / MANIFEST).write_text(json.dumps(manifest))
    sums = parse_sums((folder / SUMS).read_bytes())
    sums[MANIFEST] = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    (folder / SUMS).write_bytes(dump_sums(sums))


def test_a_layouts_configuration_is_held_to_the_models(workspace: Verified, tmp_path: Path) -> None:
    for layout in ("triton", "ovms", "huggingface"):
        shutil.copytree(
            package(Workspace(MODEL, workspace.folder), PackageOptions(layout=layout)).folder, tmp_path / layout
        )
        if layout == "triton":
            assert not Checker(tmp_path / layout).run().findings
        (path, *_) = (path for path in files(tmp_path / layout) if path.name in CONFIGURATIONS)
        path.write_bytes(path.read_bytes().replace(b"640", b"320") + b"\n")
        resealed(tmp_path / layout)
        assert any("is not the configuration" in line for line in problems(tmp_path / layout))


CONFIGURATIONS: Final = ("config.pbtxt", "config.json", ".gitattributes")


def test_a_package_of_no_models_has_not_passed(folder: Path) -> None:
    shutil.rmtree(folder / "FP32")

    def remove(manifest: dict[str, Any]) -> None:
        manifest["files"] = [file for file in manifest["files"] if file["role"] != "model"]
        manifest["models"] = []

    resealed(folder, remove)
    result = check(folder)
    assert (result.verdict, result.findings) == (Verdict.UNPROVEN, ())
    assert sshtool("check", folder, "--quiet", code=3).stderr == ""


@pytest.mark.parametrize("missing", [["openvino"], ["openvino", "onnxruntime"]], ids=" ".join)
def test_what_no_installed_runtime_loads_has_not_passed(
    missing: list[str], original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    result = check(original)
    assert (result.verdict, result.findings) == (Verdict.UNPROVEN, ())
    assert {claim.place for claim in result.claims} >= {f"models.{number}" for number in range(2 - len(missing), 2)}
    assert ("answers" in result.checks) == (len(missing) == 1)


def test_what_says_that_it_is_the_demo_is_held_to_the_demo(
    demo_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything in the package agrees, the hashes are the demo's, and the network is another."""
    forged = make_workspace(tmp_path, demo_checkpoint, DEMO)
    with pytest.raises(ReferencePackError, match="not those of the checkpoint that it names"):
        package(Workspace(MODEL, forged.folder), PackageOptions())
    monkeypatch.setattr("sshtool.package.build.prove", lambda *_: "")  # the forger packs with other tools
    made = package(Workspace(MODEL, forged.folder), PackageOptions()).folder
    result = check(made)
    assert [item.check for item in result.findings] == ["weights"]

    def other(manifest: dict[str, Any]) -> None:
        manifest["source"]["checkpoint"][MODEL.checkpoint.params] = "0" * 64

    resealed(made, other)
    assert check(made).verdict is Verdict.FAILED


def test_the_verdict_says_what_a_package_alone_cannot_prove(original: Path) -> None:
    result = check(original)
    assert {"source.weights", "source.checkpoint"} <= {claim.place for claim in result.claims}
    assert not result.signed_by
    shown = sshtool("check", original).stdout
    assert UNSIGNED in shown
    assert "source.weights" in shown


def test_a_package_without_a_pack_is_checked_without_and_says_so(workspace: Verified, tmp_path: Path) -> None:
    shutil.copytree(workspace.folder, tmp_path / "a", ignore=shutil.ignore_patterns("releases", "*-reference.npz"))
    made = package(Workspace(MODEL, tmp_path / "a"), PackageOptions())
    assert not made.with_reference
    result = check(made.folder)
    assert (result.verdict, result.findings) == (Verdict.UNPROVEN, ())
    assert result.checks == ("manifest", "checksums", "declarations")
    assert any(claim.place == "models" for claim in result.claims)


def test_models_are_not_opened_once_files_are_not_what_they_were(folder: Path) -> None:
    (folder / f"FP32/{NAME}.onnx").write_bytes(b"evil")
    report = Checker(folder).run()
    assert report.checks == ("manifest", "checksums")
    assert {item.check for item in report.findings} == {"manifest"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_finding(folder: Path) -> None:
    (folder / "README.md").chmod(0)
    assert any("cannot be read" in line for line in problems(folder, models=False))


def test_a_folder_that_cannot_be_listed_is_a_finding(folder: Path) -> None:
    below = os.open(folder, os.O_RDONLY)
    for _ in range(20):  # so deep that no path leads there
        os.mkdir("x" * 250, dir_fd=below)
        below, above = os.open("x" * 250, os.O_RDONLY, dir_fd=below), below
        os.close(above)
    os.close(below)
    assert "files: .: a folder in it cannot be listed (File name too long)" in problems(folder, models=False)


def test_an_empty_folder_in_a_package_is_a_finding(folder: Path) -> None:
    (folder / "more" / "2").mkdir(parents=True)  # a server would take it for a version
    assert problems(folder, models=False) == ["files: more/2: it is an empty folder"]


# --- Signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys, and a file of signers who are trusted: the first one."""
    tool = shutil.which("ssh-keygen")
    if tool is None:
        pytest.skip("there is no ssh-keygen here, by which signatures are made and checked")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("good", "other"):
        subprocess.run([tool, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    public = (folder / "good.pub").read_text().split()
    (folder / "signers").write_text(f"maker@example.org {public[0]} {public[1]}\n")
    return folder


def trusted(keys: Path) -> tuple[Signers, ...]:
    return open_signers([keys / "signers"])


def sign(folder: Path, key: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", key, folder / SUMS], check=True)
    assert is_file(folder / SIGNATURE)


def test_a_signature_by_a_trusted_key_passes(folder: Path, keys: Path) -> None:
    sign(folder, keys / "good")
    report = Checker(folder).run(models=False, signers=trusted(keys))
    assert not report.findings
    assert report.signed_by == "maker@example.org"
    assert "signature" in report.checks


def test_a_signature_by_another_key_is_found(folder: Path, keys: Path) -> None:
    sign(folder, keys / "other")
    assert problems(folder, models=False, signers=trusted(keys)) == [
        f"signature: {SIGNATURE}: is by none of the signers"
    ]


def test_a_signature_of_other_checksums_is_found(folder: Path, keys: Path) -> None:
    sign(folder, keys / "good")
    (folder / "README.md").write_text("resealed by somebody else")
    signature = (folder / SIGNATURE).read_bytes()
    (folder / SIGNATURE).unlink()
    resealed(folder)
    (folder / SIGNATURE).write_bytes(signature)
    assert problems(folder, models=False, signers=trusted(keys)) == [
        f"signature: {SIGNATURE}: is not of these checksums"
    ]


def test_a_signature_that_was_asked_for_and_is_not_there_is_found(folder: Path, keys: Path) -> None:
    assert problems(folder, models=False, signers=trusted(keys))[0].startswith(f"signature: {SIGNATURE}")


def test_signatures_that_were_not_checked_are_named(folder: Path, keys: Path) -> None:
    sign(folder, keys / "other")
    (folder / ATTESTATION).write_text("{}")
    report = Checker(folder).run(models=False)
    assert not report.findings
    assert [claim.path for claim in report.claims] == [SIGNATURE, ATTESTATION]


@pytest.mark.parametrize("name", ["model.sig", "mine.sig", "model.sigstore.json", "a.sigstore"])
def test_signatures_of_other_kinds_are_named_and_not_checked(name: str, folder: Path) -> None:
    (folder / name).write_text("{}")
    report = Checker(folder).run(models=False)
    assert not report.findings
    assert [claim.path for claim in report.claims] == [name]
    os.truncate(folder / name, (1 << 20) + 1)
    assert any(line.startswith(f"signature: {name}") for line in problems(folder, models=False))


def test_a_signature_elsewhere_is_a_file_like_others(folder: Path) -> None:
    (folder / "FP32" / "model.sig").write_text("{}")
    assert "manifest: FP32/model.sig: is not in the manifest" in problems(folder, models=False)


SIGNERS: Final[dict[str, Callable[[Path], object]]] = {
    "missing": lambda _: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "empty": Path.touch,
    "not UTF-8": lambda path: path.write_bytes(b"maker ssh-ed25519 \xff\xfe\n"),
    "no keys": lambda path: path.write_text("# keys\n\nhello\n"),
    "large": lambda path: path.write_text("maker ssh-ed25519 AAAA\n" * 100_000),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", SIGNERS.values(), ids=SIGNERS)
def test_signers_that_cannot_be_read_are_the_users_own_mistake(
    make: Callable[[Path], object], folder: Path, keys: Path, tmp_path: Path
) -> None:
    sign(folder, keys / "good")
    make(tmp_path / "signers")
    with pytest.raises(UsageError, match=r"^--signers: ") as error:
        check(folder, signers=[tmp_path / "signers"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 100, b"-----BEGIN SSH SIGNATURE-----\n\x1b[2J\n"], ids=["empty", "no text", "odd"]
)
def test_a_signature_that_is_none_is_found(data: bytes, folder: Path, keys: Path) -> None:
    (folder / SIGNATURE).write_bytes(data)
    assert problems(folder, models=False, signers=trusted(keys)) == [
        f"signature: {SIGNATURE}: is by none of the signers"
    ]


def test_a_signature_that_nothing_here_can_check_is_a_finding(
    keys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(folder, keys / "good")
    monkeypatch.setenv("PATH", "")
    report = Checker(folder).run(models=False, signers=trusted(keys))
    assert [item.message for item in report.findings] == ["cannot be checked: ssh-keygen is not installed"]


def test_a_signature_is_not_waited_for_for_ever(keys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(folder, keys / "good")
    tool = keys / "slow" / "ssh-keygen"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("sshtool.package.signing.PATIENCE", 0.2)
    report = Checker(folder).run(models=False, signers=trusted(keys))
    assert [item.message for item in report.findings] == ["cannot be checked: ssh-keygen does not answer"]


# --- Hostile archives -------------------------------------------------------------------------------------------------


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def zip_of(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return data.getvalue()


def sparse_tar() -> bytes:
    """A file of a kilobyte, of which nothing is in the archive."""
    header = bytearray(member("a/b", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"00000002000\0"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(bytes(header) + bytes(1024))


HOSTILE: Final[dict[str, bytes]] = {
    "a sparse tar": sparse_tar(),
    "a tar with a file where a folder of a folder is": tar_of((member("a/b"), b"x"), (member("a/b/c/d"), b"y")),
    "a tar that leads out": tar_of((member("../evil"), b"x")),
    "a tar that leads out in the middle": tar_of((member("a/../../evil"), b"x")),
    "an absolute tar": tar_of((member("/evil"), b"x")),
    "a tar with a symbolic link": tar_of((member("a/link", tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "a tar with a hard link": tar_of((member("a/link", tarfile.LNKTYPE, "a/b"), b"")),
    "a tar with a device": tar_of((member("a/null", tarfile.CHRTYPE), b"")),
    "a tar with a pipe": tar_of((member("a/pipe", tarfile.FIFOTYPE), b"")),
    "a tar with a folder": tar_of((member("a", tarfile.DIRTYPE), b"")),
    "a tar with a name twice": tar_of((member("a/b"), b"x"), (member("a/b"), b"y")),
    "a tar with a file where a folder is": tar_of((member("a"), b"x"), (member("a/b"), b"y")),
    "a tar with a backslash": tar_of((member("a\\b"), b"x")),
    "a tar with a line break in a name": tar_of((member("a/b\nc"), b"x")),
    "a tar with two folders": tar_of((member("a/b"), b"x"), (member("c/d"), b"y")),
    "a tar without a folder": tar_of((member("b"), b"x")),
    "an empty tar": tar_of(),
    "a tar that is cut": tar_of((member("a/b"), os.urandom(5000)))[:-2000],
    "a gzip of no tar": gzip.compress(b"hello" * 1000),
    "a broken gzip": b"\x1f\x8b\x08\x00" + b"\xff" * 100,
    "a tar of too many files": tar_of(*((member(f"a/{number}"), b"") for number in range(1001))),
    "a zip that leads out": zip_of("../evil"),
    "an absolute zip": zip_of("/evil"),
    "a zip with two folders": zip_of("a/b", "c/d"),
    "a zip without a folder": zip_of("b"),
    "a zip with an odd name": zip_of("a/b c"),
    "a zip that is cut": zip_of("a/b")[:-30],
    "an empty zip": zip_of(),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "inside" / "package"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(PackageError, match=r"package: .*; get the package again") as error, opened(path):
        pass
    assert "\n" not in str(error.value)
    assert [found.name for found in tmp_path.rglob("*")] == ["inside", "package"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_random_damage_to_an_archive_is_named_or_harmless(kind: str, original: Path, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{kind}"
    pack(original, whole, kind)
    data = whole.read_bytes()
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311  # as above
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            start = chance.randrange(len(damaged))
            damaged[start : start + chance.randrange(1, 50)] = chance.randbytes(chance.randrange(0, 50))
        whole.write_bytes(damaged)
        with contextlib.suppress(PackageError), opened(whole) as folder:
            unchanged = contents(folder) == contents(original)
            assert bool(problems(folder, models=False)) is not unchanged, seed


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files(folder)}


def test_a_name_that_no_package_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(zip_of("a/b c"))
    with pytest.raises(PackageError, match=r"package: 'a/b c' is no name that a package has; get"):
        opened(tmp_path / "package").__enter__()


def test_an_archive_of_more_files_than_any_is_refused_for_that(tmp_path: Path) -> None:
    names = [f"a/{number}" for number in range(1001)]
    for data in (zip_of(*names), tar_of(*((member(name), b"") for name in names))):
        (tmp_path / "package").write_bytes(data)
        with pytest.raises(PackageError, match="more than 1000"):
            opened(tmp_path / "package").__enter__()


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(tar_of((member("a/b"), bytes(2 << 20))))
    with pytest.raises(PackageError, match="holds more than"), opened(path):
        pass
    monkeypatch.undo()
    claims = member("a/b")
    claims.size = (16 << 30) + 1
    path.write_bytes(gzip.compress(claims.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(PackageError, match="holds more than"), opened(path):
        pass
    monkeypatch.setattr(unpacking, "LARGEST", 1 << 20)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", bytes(2 << 20))
    path.write_bytes(data.getvalue())
    with pytest.raises(PackageError), opened(path):
        pass


# --- Disks without room -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["8k", "48k"], ids=["at once", "in the middle"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_no_room_to_unpack_is_no_fault_of_the_archive(kind: str, size: str, original: Path, tmp_path: Path) -> None:
    archive, full = tmp_path / f"release.{kind}", tmp_path / "full"
    pack(original, archive, kind)
    line = on_a_disk_of(size, full, "check", archive, TMPDIR=str(full))
    assert re.fullmatch(
        rf"sshtool check: {re.escape(str(full))}: .*cannot be written \(No space left on device\); .*TMPDIR.*\n", line
    )
    assert size == "8k" or f"package/{original.name}/" in line  # the file


@pytest.mark.parametrize("size", ["12k", "160k"])
def test_no_room_for_a_package_is_no_fault_of_its_sources(size: str, workspace: Verified, tmp_path: Path) -> None:
    full = tmp_path / "full"
    (tmp_path / "sources").mkdir()
    shutil.copytree(
        workspace.folder, tmp_path / "sources", dirs_exist_ok=True, ignore=shutil.ignore_patterns("releases")
    )
    artifacts = ("--artifact", tmp_path / "sources" / NAME / "FP32" / f"{NAME}.onnx", "--archive", "zip")
    record = ("--verification", tmp_path / "sources" / NAME / "verification.json")
    pack_ = ("--reference", Workspace(MODEL, tmp_path / "sources").reference_pack)
    line = on_a_disk_of(size, full, "package", *artifacts, *record, *pack_, "-o", full)
    assert re.fullmatch(
        rf"sshtool package: {re.escape(str(full))}.*cannot be written \(No space left on device\); free space.*\n", line
    )


def on_a_disk_of(size: str, folder: Path, *arguments: object, **environment: str) -> str:
    """What the program says on stderr where that folder is a disk of its own, of that size; it ends in 1."""
    folder.mkdir()
    script = 'mount -t tmpfs -o "size=$0" none "$1" || exit 77; shift; exec "$@"'
    command = [*UNSHARED, "sh", "-c", script, size, str(folder), sys.executable, "-m", "sshtool", *map(str, arguments)]
    ended = subprocess.run(
        [*command, "--quiet"], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip("no disk can be mounted here")
    assert ended.returncode == 1, ended.stderr
    return ended.stderr


# --- Rebuilding -------------------------------------------------------------------------------------------------------

REBUILT: Final[dict[str, Options]] = {
    "as it comes": Options(precisions=(Precision.FP32, Precision.FP16), input_shape=(1, 3, 64, 64)),
    "any frame": Options(
        input_shape=(1, 3, 640, 640), dynamic=Dynamic.ALL, layout=Layout.NHWC, input_type=InputType.UINT8
    ),
    "a free batch, RGB": Options(input_shape=(1, 3, 64, 96), dynamic=Dynamic.BATCH, color=Color.RGB),
    "without preprocessing": Options(("onnx",), input_shape=(2, 3, 64, 64), preprocessing=False),
    "faces": Options(("onnx",), input_shape=(1, 3, 64, 64), postprocessing=Postprocessing(0.2, 0.4, 50)),
    "faces and heads": Options(
        ("onnx",), input_shape=(1, 3, 640, 640), dynamic=Dynamic.SIZE, postprocessing=Postprocessing(keep_heads=True)
    ),
}


@pytest.mark.parametrize("options", REBUILT.values(), ids=REBUILT)
def test_the_manifest_knows_all_that_a_conversion_takes(
    options: Options, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for artifact in convert(demo_checkpoint, tmp_path / "one", options):
        packaged = described(read_contract(artifact.path), artifact.path)
        again = convert(demo_checkpoint, tmp_path / "two", options_of(packaged, MODEL))[0]
        for one, two in zip(artifact.files, again.files, strict=True):
            assert one.read_bytes() == two.read_bytes()


def test_a_release_that_was_made_from_the_checkpoint_is_rebuilt_to_the_bit(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options(("onnx",), (Precision.FP16,), (1, 3, 64, 64))
    convert(demo_checkpoint, tmp_path, options)
    answers = computed_answers(demo_checkpoint, tmp_path / "answers", (64, 64))
    write_pack(Workspace(MODEL, tmp_path).reference_pack, demo_checkpoint, "ONNX", answers)
    shutil.copytree(demo_checkpoint.params_path.parent, tmp_path / "checkpoints" / NAME)
    made = package(Workspace(MODEL, tmp_path), PackageOptions(allow_unverified=True)).folder
    result = check(made, rebuild=tmp_path / "checkpoints" / NAME)
    assert result.passed, result.findings
    assert {"answers", "weights", "rebuild"} <= set(result.checks)
    path = made / f"FP16/{NAME}.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last weight
    path.write_bytes(data)

    def without_pack(manifest: dict[str, Any]) -> None:
        manifest["reference_pack"] = None
        manifest["files"] = [file for file in manifest["files"] if file["role"] != "reference pack"]

    (made / "reference.npz").unlink()
    resealed(made, without_pack)
    assert [item.check for item in check(made, rebuild=tmp_path / "checkpoints" / NAME).findings] == ["rebuild"]


def test_another_checkpoint_is_no_rebuild(original: Path, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(demo_checkpoint.params_path.parent, folder)
    with (folder / MODEL.checkpoint.symbol).open("a") as file:
        file.write("\n")
    (folder / "checkpoint.json").unlink(missing_ok=True)
    with pytest.raises(PackageError, match="is not the checkpoint that the package was made from"):
        check(original, rebuild=folder)
