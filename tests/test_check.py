from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from program import sshtool
from releases import MODEL, SCALE, Workspace, described, make_workspace
from small_model import METADATA, small_onnx
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Color, Dynamic, Faces, Format, InputType, Layout, Options, Precision, convert
from sshconvert.errors import PackageError
from sshconvert.reading import is_file
from sshtool.commands.check import check, options_of
from sshtool.commands.package import PackageOptions, package
from sshtool.package import opening
from sshtool.package.bundle import pack
from sshtool.package.check import ATTESTATION, SIGNATURE, Checker
from sshtool.package.manifest import MANIFEST, SUMS, dump_sums, parse_sums
from sshtool.package.opening import opened
from sshtool.package.signature import read_signature

NAME: Final = MODEL.name
TAMPERINGS: Final = 200


@pytest.fixture(scope="module")
def workspace(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("workspace"), demo_checkpoint)


@pytest.fixture(scope="module")
def original(workspace: Workspace) -> Path:
    return package(NAME, workspace.folder, PackageOptions()).folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that may be tampered with."""
    shutil.copytree(original, tmp_path / original.name)
    return tmp_path / original.name


def problems(folder: Path, **options: Any) -> list[str]:
    return [f"{item.check}: {item.path}: {item.message}" for item in Checker(folder).run(**options).findings]


def resealed(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Make sizes and hashes right again, as somebody who tampers on purpose would."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    for file in manifest["files"]:
        data = (folder / file["path"]).read_bytes()
        file.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder / MANIFEST).write_text(json.dumps(manifest))
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != SUMS]
    hashes = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    (folder / SUMS).write_bytes(dump_sums(hashes))


# --- Whole packages ---------------------------------------------------------------------------------------------------


def test_a_package_as_it_was_made_passes_and_its_models_answer_as_the_original(original: Path) -> None:
    result = check(original)
    assert result.findings == ()
    assert result.checks == ("manifest", "checksums", "models", "reference pack")
    assert result.parity.keys() == {"onnx FP32", "openvino FP32"}
    assert all(value is not None and value < 1e-4 for value in result.parity.values())


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_checked_as_its_folder_is(kind: str, original: Path, tmp_path: Path) -> None:
    target = tmp_path / f"release.{kind}"
    pack(original, target, kind)
    result = check(target)
    assert result.passed, result.findings
    assert "reference pack" in result.checks


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
        ("nowhere", "name a package's folder or archive"),
        ("file.txt", "get the package again from whom you trust"),
        ("pipe", "name a package's folder or archive"),
    ],
)
def test_what_is_no_package_at_all_is_an_error_in_one_line(name: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    stderr = sshtool("check", tmp_path / name, code=1).stderr
    assert stderr.count("\n") == 1
    assert stderr.endswith(f"; {remedy}\n")


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


TAMPERS: Final = (flip, rename, swap, add, remove, shorten, lengthen, link)


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
    assert line.endswith("not those of the manifest")


def test_checksums_of_other_files_are_found_though_the_manifest_is_right(folder: Path) -> None:
    sums = parse_sums((folder / SUMS).read_bytes())
    sums["ghost.txt"] = sums.pop("README.md")
    (folder / SUMS).write_bytes(dump_sums(sums))
    assert problems(folder, models=False) == [
        "checksums: README.md: is not in SHA256SUMS",
        "checksums: ghost.txt: is in SHA256SUMS, not there",
    ]


def test_more_files_than_any_package_has_are_not_looked_at(folder: Path) -> None:
    for number in range(2001):
        (folder / f"{number}.txt").touch()
    assert any("there are more than 2000 files" in line for line in problems(folder, models=False))


def test_a_resealed_package_with_another_network_is_found_by_its_answers(folder: Path) -> None:
    path = folder / f"FP32/{NAME}.onnx"
    model = small_onnx(MODEL, SCALE)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w_body")
    values = bytearray(weights.raw_data)
    values[3] ^= 0x80  # the sign of one weight
    weights.raw_data = bytes(values)
    onnx.save(model, path)
    resealed(folder)
    found = problems(folder)
    assert found
    assert all(line.startswith("reference pack: onnx FP32") for line in found)


def test_a_resealed_package_that_declares_another_input_is_found(folder: Path) -> None:
    path = folder / f"FP32/{NAME}.onnx"
    model = onnx.load(path)
    onnx.helper.set_model_props(model, METADATA | {"color_order": "RGB"})
    onnx.save(model, path)
    resealed(folder)
    assert any("says other things of itself than the manifest does" in line for line in problems(folder))

    def lie(manifest: dict[str, Any]) -> None:
        manifest["models"][0]["input"]["shape"] = [1, 3, 32, 32]

    resealed(folder, lie)
    assert any("declares other tensors than the manifest says" in line for line in problems(folder))


def test_a_resealed_package_with_a_file_that_is_no_model_is_found(folder: Path) -> None:
    (folder / f"FP32/{NAME}.onnx").write_bytes(b"not ONNX")
    resealed(folder)
    assert any(line.startswith(f"models: FP32/{NAME}.onnx") for line in problems(folder))


def test_a_resealed_package_with_a_broken_pack_is_found(folder: Path) -> None:
    (folder / "reference.npz").write_bytes(b"PK")
    resealed(folder)
    assert any(line.startswith("reference pack: reference.npz") for line in problems(folder))


def test_a_pack_of_another_checkpoint_proves_nothing(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["source"]["checkpoint"] = dict.fromkeys(manifest["source"]["checkpoint"], "0" * 64)

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
        (other_weights, "reference pack: reference.npz: its answers are of another checkpoint"),
        (other_model, "models: manifest.json: another: no such model"),
        (other_output, "declares other tensors than the manifest says"),
    ],
)
def test_a_resealed_manifest_that_is_wrong_about_the_models_is_found(
    change: Callable[[dict[str, Any]], None], message: str, folder: Path
) -> None:
    resealed(folder, change)
    (line,) = problems(folder)
    assert message in line


def test_a_package_without_a_pack_is_checked_without_and_says_so(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.folder, tmp_path / "a", ignore=shutil.ignore_patterns("releases", "*-reference.npz"))
    made = package(NAME, tmp_path / "a", PackageOptions())
    assert not made.with_reference
    result = check(made.folder)
    assert result.passed
    assert result.checks == ("manifest", "checksums", "models")
    assert "no reference pack" in result.notes[0]


def test_models_are_not_opened_once_files_are_not_what_they_were(folder: Path) -> None:
    (folder / f"FP32/{NAME}.onnx").write_bytes(b"evil")
    report = Checker(folder).run()
    assert report.checks == ("manifest", "checksums")
    assert {item.check for item in report.findings} == {"manifest", "checksums"}


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
    assert problems(folder, models=False) == ["files: more/2: cannot be read (it is an empty folder)"]


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


def sign(folder: Path, key: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", key, folder / SUMS], check=True)
    assert is_file(folder / SIGNATURE)


def test_a_signature_by_a_trusted_key_passes(folder: Path, keys: Path) -> None:
    sign(folder, keys / "good")
    report = Checker(folder).run(models=False, signers=keys / "signers")
    assert report.findings == ()
    assert "signature" in report.checks


def test_a_signature_by_another_key_is_found(folder: Path, keys: Path) -> None:
    sign(folder, keys / "other")
    assert problems(folder, models=False, signers=keys / "signers") == [
        f"signature: {SIGNATURE}: is by none of the signers"
    ]


def test_a_signature_of_other_checksums_is_found(folder: Path, keys: Path) -> None:
    sign(folder, keys / "good")
    (folder / "README.md").write_text("resealed by somebody else")
    signature = (folder / SIGNATURE).read_bytes()
    (folder / SIGNATURE).unlink()
    resealed(folder)
    (folder / SIGNATURE).write_bytes(signature)
    assert problems(folder, models=False, signers=keys / "signers") == [
        f"signature: {SIGNATURE}: is not of these checksums"
    ]


def test_a_signature_that_was_asked_for_and_is_not_there_is_found(folder: Path, keys: Path) -> None:
    assert problems(folder, models=False, signers=keys / "signers")[0].startswith(f"signature: {SIGNATURE}")


def test_signatures_that_were_not_checked_are_named(folder: Path, keys: Path) -> None:
    sign(folder, keys / "other")
    (folder / ATTESTATION).write_text("{}")
    report = Checker(folder).run(models=False)
    assert report.passed
    assert [note.split()[0] for note in report.notes] == [ATTESTATION, SIGNATURE]


def test_a_signature_that_nothing_here_can_check_is_a_finding(
    keys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(folder, keys / "good")
    monkeypatch.setenv("PATH", "")
    report = Checker(folder).run(models=False, signers=keys / "signers")
    assert [item.message for item in report.findings] == ["cannot be checked: ssh-keygen is not installed"]


def test_a_signature_is_not_waited_for_for_ever(keys: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(folder, keys / "good")
    tool = keys / "slow" / "ssh-keygen"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("sshtool.package.check.PATIENCE", 0.2)
    report = Checker(folder).run(models=False, signers=keys / "signers")
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
    monkeypatch.setattr(opening, "LARGEST", 1 << 20)
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
    monkeypatch.setattr(opening, "LARGEST", 1 << 20)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", bytes(2 << 20))
    path.write_bytes(data.getvalue())
    with pytest.raises(PackageError), opened(path):
        pass


# --- Rebuilding -------------------------------------------------------------------------------------------------------

REBUILT: Final[dict[str, Options]] = {
    "as it comes": Options(precisions=(Precision.FP32, Precision.FP16), input_shape=(1, 3, 64, 64)),
    "any frame": Options(
        input_shape=(1, 3, 640, 640), dynamic=Dynamic.ALL, layout=Layout.NHWC, input_type=InputType.UINT8
    ),
    "a free batch, RGB": Options(input_shape=(1, 3, 64, 96), dynamic=Dynamic.BATCH, color=Color.RGB),
    "without preprocessing": Options((Format.ONNX,), input_shape=(2, 3, 64, 64), preprocessing=False),
    "faces": Options((Format.ONNX,), input_shape=(1, 3, 64, 64), faces=Faces(0.2, 0.4, 50)),
    "faces and heads": Options(
        (Format.ONNX,), input_shape=(1, 3, 640, 640), dynamic=Dynamic.SIZE, faces=Faces(keep_heads=True)
    ),
}


@pytest.mark.parametrize("options", REBUILT.values(), ids=REBUILT)
def test_the_manifest_knows_all_that_a_conversion_takes(
    options: Options, demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    for artifact in convert(demo_checkpoint, tmp_path / "one", options):
        packaged = described(read_signature(artifact.path), "a", artifact.format.value)
        again = convert(demo_checkpoint, tmp_path / "two", options_of(packaged))[0]
        for one, two in zip(artifact.files, again.files, strict=True):
            assert one.read_bytes() == two.read_bytes()


def test_a_release_that_was_made_from_the_checkpoint_is_rebuilt_to_the_bit(
    demo_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options((Format.ONNX,), (Precision.FP16,), (1, 3, 64, 64))
    convert(demo_checkpoint, tmp_path, options)
    shutil.copytree(demo_checkpoint.params_path.parent, tmp_path / "checkpoints" / NAME)
    made = package(NAME, tmp_path, PackageOptions(allow_unverified=True)).folder
    result = check(made, rebuild=tmp_path / "checkpoints" / NAME)
    assert result.passed, result.findings
    assert "rebuild" in result.checks
    path = made / f"FP16/{NAME}.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last weight
    path.write_bytes(data)
    resealed(made)
    assert [item.check for item in check(made, rebuild=tmp_path / "checkpoints" / NAME).findings] == ["rebuild"]


def test_another_checkpoint_is_no_rebuild(original: Path, demo_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(demo_checkpoint.params_path.parent, folder)
    with (folder / MODEL.files.symbol).open("a") as file:
        file.write("\n")
    (folder / "checkpoint.json").unlink(missing_ok=True)
    with pytest.raises(PackageError, match="is not the checkpoint that the package was made from"):
        check(original, rebuild=folder)
