"""Packages that are signed with OpenSSF Model Signing: its own verifier and sshtool agree about them, offline."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from environments import SCRIPTS
from project import ROOT
from small_release import make_workspace
from socket_guard import HAS_GUARD, guarded
from sshconvert.checkpoint import Checkpoint
from terminal import on_a_terminal

pytestmark = [
    pytest.mark.consumer,
    pytest.mark.skipif(not HAS_GUARD, reason="the guard of sockets is of the Linux kernel for x86_64 and aarch64"),
]

RUN: Final = "import runpy; sys.argv[0] = sys.argv.pop(1); runpy.run_path(sys.argv[0], run_name='__main__')"
PATHS: Final = os.pathsep.join(str(ROOT / folder) for folder in ("convert", "tools"))
# Both verifiers accept these; they refuse everything else, but for what follows.
VALID: Final = {
    "nothing",
    "an OpenSSH signature is added",
    "signed by Model Signing",
    "signed with all of Git's files",
}
# sshtool alone refuses what Model Signing leaves to its user: which files a signature must cover, and two readings.
STRICTER: Final = {"a signature of some files", "a signature that names no key", "a repeated key"}


@pytest.fixture(scope="module")
def python(environment: Callable[..., Path]) -> Path:
    return environment("sign")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(demo_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signatures")
    make_workspace(folder / "workspace", demo_checkpoint)
    (folder / "packages").mkdir()
    return folder


@pytest.fixture(scope="module")
def result(python: Path, folder: Path, home: Path) -> dict[str, Any]:
    """What `signed_package.py` gives in a process that the kernel kills when it connects.

    Model Signing imports urllib3, which opens a socket to learn whether the machine has IPv6, and connects to nothing.
    """
    variables = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": PATHS}
    arguments = (str(SCRIPTS / "signed_package.py"), str(folder / "workspace"), str(folder / "packages"))
    process = guarded(RUN, *arguments, environment=variables, python=python, connections=True)
    assert process.returncode == 0, process.stderr[-4000:]
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def test_the_guard_kills_model_signing_when_it_asks_sigstore(python: Path, folder: Path) -> None:
    """Without a key it signs by its default, which needs the network: the guard works in this environment."""
    code = "from model_signing import signing; signing.sign(sys.argv[1], sys.argv[2])"
    process = guarded(code, str(folder / "workspace"), str(folder / "model.sig"), python=python, connections=True)
    assert process.returncode == -signal.SIGSYS


def test_both_verifiers_accept_a_package_as_it_was_signed_and_refuse_any_other(result: dict[str, Any]) -> None:
    accepted = {name for name, said in result["altered"].items() if not said["sshtool"]}
    accepted_by_model_signing = {name for name, said in result["altered"].items() if not said["model_signing"]}
    assert accepted == VALID
    assert accepted_by_model_signing == VALID | STRICTER
    assert result["huggingface"] == {"sshtool": [], "model_signing": ""}
    assert set(result["curves"]) == {"P-384", "P-521"}
    assert all(said == {"sshtool": [], "model_signing": ""} for said in result["curves"].values())


def test_each_refusal_is_one_line_about_the_signature_or_the_file(result: dict[str, Any]) -> None:
    for name, said in result["altered"].items():
        assert len(said["sshtool"]) <= 2, name
        assert all("\n" not in line for line in said["sshtool"]), name
    assert result["altered"]["a file is altered"]["sshtool"][0].startswith(("checksums: README.md", "manifest: README"))
    for name in ("a file is altered", "a file is added", "a file is removed"):
        line = result["altered"][f"{name} and resealed"]["sshtool"][0]
        assert line.startswith("signature: model.sig: is not a signature of these files"), line
    by_another = result["altered"]["signed by another key in the name of the trusted one"]["sshtool"]
    assert by_another == ["signature: model.sig: is not by the key that it names"]


def test_only_the_signature_differs_between_two_packages_of_the_same_models(result: dict[str, Any]) -> None:
    assert result["differs"] == ["model.sig"]


def test_the_signer_is_named_by_the_hash_of_the_public_keys_file(result: dict[str, Any]) -> None:
    name = f"key {result['fingerprint']}"
    assert result["signed_by"] == name
    for verb in ("folder", "one of two keys", "archive"):
        code, out, _ = result["verbs"][verb]
        assert code == 0, verb
        document = json.loads(out)["result"]
        assert document["signed_by"] == name
        assert "signature" in document["checks"]


def test_the_exit_code_tells_a_wrong_signature_from_a_wrong_option(result: dict[str, Any]) -> None:
    verbs = result["verbs"]
    assert verbs["another key"][0] == 3
    for name in ("cut", "empty", "RSA", "secp256k1", "good.pem"):
        code, _, err = verbs[f"signers {name}"]
        assert (code, err.count("\n")) == (2, 1), err
    assert "a PRIVATE KEY" in verbs["signers good.pem"][2]
    assert verbs["two files"][0] == 2


def test_a_private_key_is_read_with_its_password_and_others_are_refused(result: dict[str, Any]) -> None:
    keys = dict(result["keys"])
    assert {keys.pop("PKCS8"), keys.pop("TraditionalOpenSSL")} == {result["signed_by"]}
    assert "with that password" in keys["wrong password"]
    assert all(line.startswith("--sign: ") and "\n" not in line for line in keys.values()), keys


def test_a_signature_with_an_odd_value_anywhere_is_refused_in_one_line(result: dict[str, Any]) -> None:
    """Only values that say the same are accepted."""
    accepted = [place for place, reason in result["oddities"] if not reason]
    assert accepted == ["verificationMaterial.tlogEntries: []", "dsseEnvelope.signatures.0.keyid: None"]
    assert len(result["oddities"]) > 100
    assert not [reason for _, reason in result["oddities"] if "\n" in reason]


def test_an_odd_statement_is_refused_although_the_trusted_key_signed_it(result: dict[str, Any]) -> None:
    (first, reason), *others = result["statements"]
    assert (first, reason) == ("as it was", "")
    assert len(others) > 200
    assert [place for place, reason in others if not reason] == []
    assert not [reason for _, reason in others if "\n" in reason]


def test_neither_signing_nor_checking_stores_anything_at_home(result: dict[str, Any], home: Path) -> None:
    assert result["signed_by"]
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_the_password_of_a_key_comes_from_the_environment_or_is_asked_for(
    result: dict[str, Any], python: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", PATHS)
    key = folder / "packages" / "keys" / "PKCS8.pem"
    command: list[str | Path] = [
        python,
        "-m",
        "sshtool",
        "package",
        "-o",
        folder / "workspace",
        "--sign",
        key,
    ]
    code, written = on_a_terminal(command, 300, typed=b"password\n")
    assert code == 0, written
    assert f"password of {key}: " in written
    assert result["signed_by"] in written
    assert "password\r" not in written  # it is not shown
    monkeypatch.setenv("SSHTOOL_KEY_PASSWORD", "wrong")
    code, written = on_a_terminal(command, 300)
    assert code == 2
    assert "cannot be read with that password" in written
