"""Signs packages, and gives what sshtool and Model Signing's own verifier say of them and of altered ones.

`signed_package.py WORKSPACE FOLDER`: an output folder with verified artifacts, and an empty folder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from model_signing._cli import main as model_signing

from sshconvert.errors import SSHToolError
from sshtool.cli.app import app
from sshtool.package.check import Checker
from sshtool.package.manifest import MANIFEST, SUMS, dump_sums
from sshtool.package.openssf import PublicKeys, read_signing_key
from sshtool.package.signers import open_signers
from sshtool.package.signing import MODEL_SIGNATURE, SIGNATURE, SignatureError

PASSWORD: Final = "password"  # noqa: S105  # of a key of this script
KEYS: Final[Mapping[str, Callable[[], Any]]] = {
    "good": lambda: ec.generate_private_key(ec.SECP256R1()),
    "other": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}
DEEP: Final = "[" * 200_000 + "]" * 200_000

Saying = dict[str, Any]


def make_keys(folder: Path) -> dict[str, Any]:
    keys = {name: make() for name, make in KEYS.items()}
    for name, key in keys.items():
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(plain)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    hidden = BestAvailableEncryption(PASSWORD.encode())
    for name, form in (("PKCS8", PrivateFormat.PKCS8), ("TraditionalOpenSSL", PrivateFormat.TraditionalOpenSSL)):
        (folder / f"{name}.pem").write_bytes(keys["good"].private_bytes(Encoding.PEM, form, hidden))
    opened = keys["Ed25519"].private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "OpenSSH.pem").write_bytes(opened)
    (folder / "text.pem").write_text("no key")
    (folder / "empty.pem").write_text("-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n")
    (folder / "cut.pub").write_bytes((folder / "good.pub").read_bytes()[:100])
    (folder / "empty.pub").write_text("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")
    (folder / "all.pub").write_bytes(b"".join((folder / f"{name}.pub").read_bytes() for name in ("other", "good")))
    return keys


def sshtool(*arguments: object) -> tuple[object, str, str]:
    """The exit code of a verb, and what it writes."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["sshtool", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app()
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def said(folder: Path, key: Path) -> Saying:
    """What both verifiers say of a package; an empty list and an empty text are an acceptance."""
    try:
        result = Checker(folder).run(signers=open_signers([key]), models=False)
        ours = [f"{item.check}: {item.path}: {item.message}" for item in result.findings]
    except SSHToolError as error:
        ours = [str(error)]
    arguments = ["verify", "key", str(folder), "--signature", str(folder / MODEL_SIGNATURE), "--public_key", str(key)]
    theirs = CliRunner().invoke(model_signing, arguments)
    return {"sshtool": ours, "model_signing": "" if theirs.exit_code == 0 else theirs.output}


def resealed(folder: Path) -> None:
    """Adapt the manifest and the checksums to the changed files, as an attacker does."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    roles = {file["path"]: file["role"] for file in manifest["files"]}
    manifest["files"] = [
        {
            "path": name,
            "role": roles.get(name, "report"),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for name, path in sorted(paths.items())
        if name not in (MANIFEST, SUMS, MODEL_SIGNATURE, SIGNATURE)
    ]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    listed = [path for name, path in paths.items() if name not in (SUMS, MODEL_SIGNATURE, SIGNATURE)]
    digests = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in listed}
    (folder / SUMS).write_bytes(dump_sums(digests))


def signed(folder: Path, key: Path, *options: str) -> None:
    """Sign with Model Signing's own command."""
    arguments = ["sign", "key", str(folder), "--signature", str(folder / MODEL_SIGNATURE), "--private_key", str(key)]
    result = CliRunner().invoke(model_signing, [*arguments, *options])
    assert result.exit_code == 0, result.output


def ignoring(folder: Path, *paths: str) -> tuple[str, ...]:
    return tuple(word for path in paths for word in ("--ignore-paths", str(folder / path)))


def alterations(keys: Path, stranger: Path) -> dict[str, Callable[[Path], object]]:
    """What may happen to a signed package."""

    def altered(folder: Path) -> None:
        (folder / "README.md").write_text("other words")
        resealed(folder)

    def added(folder: Path) -> None:
        (folder / "more.txt").write_text("more")
        resealed(folder)

    def removed(folder: Path) -> None:
        (folder / "verification.html").unlink()
        resealed(folder)

    def partly(folder: Path) -> None:
        signed(folder, keys / "good.pem", *ignoring(folder, "README.md", MANIFEST, SUMS))
        altered(folder)

    def forged(folder: Path) -> None:
        """Signed by another key, under the name of the trusted one."""
        hint = json.loads((folder / MODEL_SIGNATURE).read_bytes())["verificationMaterial"]["publicKey"]["hint"]
        signed(folder, keys / "other.pem")
        change(folder, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=hint))

    def unnamed(folder: Path) -> None:
        change(folder, lambda bundle: bundle["verificationMaterial"]["publicKey"].pop("hint"))

    return {
        "nothing": lambda _: None,
        "an OpenSSH signature is added": lambda folder: (folder / SIGNATURE).write_text("later"),
        "signed by Model Signing": lambda folder: signed(folder, keys / "good.pem"),
        "signed with all of Git's files": lambda folder: signed(folder, keys / "good.pem", "--no-ignore-git-paths"),
        "a file is altered": lambda folder: (folder / "README.md").write_text("other words"),
        "a file is altered and resealed": altered,
        "a file is added and resealed": added,
        "a file is removed and resealed": removed,
        "signed by another key": lambda folder: signed(folder, keys / "other.pem"),
        "signed by another key in the name of the trusted one": forged,
        "the signature of other files": lambda folder: shutil.copy(stranger / MODEL_SIGNATURE, folder),
        "a signature of some files": partly,
        "a signature that names no key": unnamed,
        "no signature": lambda folder: (folder / MODEL_SIGNATURE).unlink(),
        "huge": lambda folder: os.truncate(folder / MODEL_SIGNATURE, (1 << 20) + 1),
        "empty": lambda folder: (folder / MODEL_SIGNATURE).write_bytes(b""),
        "no text": lambda folder: (folder / MODEL_SIGNATURE).write_bytes(b"\xff\xfe\x00\x1b[2J"),
        "deep": lambda folder: (folder / MODEL_SIGNATURE).write_text(DEEP),
        "deep in an object": lambda folder: (folder / MODEL_SIGNATURE).write_text('{"verificationMaterial":' + DEEP),
        "a long number": lambda folder: (folder / MODEL_SIGNATURE).write_text("9" * 100_000),
        "a repeated key": lambda folder: repeat(folder / MODEL_SIGNATURE),
    }


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    bundle = json.loads((folder / MODEL_SIGNATURE).read_bytes())
    edit(bundle)
    (folder / MODEL_SIGNATURE).write_text(json.dumps(bundle))


def repeat(path: Path) -> None:
    path.write_text('{"dsseEnvelope": {},' + path.read_text(encoding="utf-8")[1:])


# --- Values of other types --------------------------------------------------------------------------------------------

ODD: Final[tuple[Any, ...]] = (None, True, 0, -1.5, "", "\x1b[2J\n", [], [[]], {}, {"hint": 1}, "A" * 5000)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a place."""
    if not path:
        return value
    made = json.loads(json.dumps(document))
    target = made
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return made


def oddities(folder: Path, keys: Path) -> Iterator[tuple[str, str]]:
    """The signature with an odd value at each place: the place, and the reason to refuse it ("": accepted)."""
    bundle = json.loads((folder / MODEL_SIGNATURE).read_bytes())
    trusted = PublicKeys.parse(keys, keys.read_bytes())
    for path in places(bundle):
        for value in ODD:
            if path == ("dsseEnvelope", "signatures", 0, "keyid") and isinstance(value, str):
                continue  # no verifier looks at it
            (folder / MODEL_SIGNATURE).write_text(json.dumps(replaced(bundle, path, value)))
            yield f"{'.'.join(map(str, path))}: {value!r}", reason(trusted, folder)
    (folder / MODEL_SIGNATURE).write_text(json.dumps(bundle))


def odd_statements(folder: Path, key: Any, keys: Path) -> Iterator[tuple[str, str]]:
    """The same of the statement, which the trusted key signs: first as it was, then of two files only."""
    bundle = json.loads((folder / MODEL_SIGNATURE).read_bytes())
    trusted = PublicKeys.parse(keys, keys.read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    yield "as it was", resigned(folder, bundle, json.dumps(statement).encode(), key, trusted)
    statement["predicate"]["serialization"].pop("ignore_paths")
    files = [file for file in statement["predicate"]["resources"] if file["name"] in (SUMS, MANIFEST)]
    statement["predicate"]["resources"] = files
    digests = b"".join(bytes.fromhex(file["digest"]) for file in files)
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()
    yield "two files", resigned(folder, bundle, json.dumps(statement).encode(), key, trusted)
    for path in places(statement):
        for value in (*ODD, "../../../../../etc/passwd"):
            payload = json.dumps(replaced(statement, path, value)).encode()
            yield f"{'.'.join(map(str, path))}: {value!r}", resigned(folder, bundle, payload, key, trusted)
    yield "deep", resigned(folder, bundle, DEEP.encode(), key, trusted)


def resigned(folder: Path, bundle: Any, payload: bytes, key: Any, trusted: PublicKeys) -> str:
    kind = bundle["dsseEnvelope"]["payloadType"]
    text = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    signature = key.sign(text, ec.ECDSA(hashes.SHA256()))
    made = replaced(bundle, ("dsseEnvelope", "payload"), base64.b64encode(payload).decode())
    made["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    (folder / MODEL_SIGNATURE).write_text(json.dumps(made))
    return reason(trusted, folder)


def reason(trusted: PublicKeys, folder: Path) -> str:
    try:
        trusted.signer_of(folder)
    except SignatureError as error:
        return str(error) or "none"
    return ""


# --- What is done in order --------------------------------------------------------------------------------------------


def packaged(workspace: Path, key: Path, layout: str = "flat", *options: str) -> tuple[Path, Any]:
    arguments = ("package", "-o", workspace, "--sign", key, "--layout", layout, "--json", "--quiet", *options)
    code, out, err = sshtool(*arguments)
    assert code == 0, err
    result = json.loads(out)["result"]
    return Path(result["folder"]), result


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target / folder.name)
    return target / folder.name


def unlocked(keys: Path, name: str, password: str) -> str:
    try:
        return read_signing_key(keys / f"{name}.pem", lambda _: password).signer
    except SSHToolError as error:
        return str(error)


def main(workspace: Path, folder: Path) -> dict[str, Any]:
    keys = folder / "keys"
    keys.mkdir()
    private = make_keys(keys)
    public = keys / "good.pub"
    package, first = packaged(workspace, keys / "good.pem", "flat", "--archive", "zip")
    archive = package.with_name(f"{package.name}.zip")
    original = copy(package, folder / "original")
    again = packaged(workspace, keys / "good.pem")[0]
    same = {
        path.relative_to(again).as_posix(): path.read_bytes() == (original / path.relative_to(again)).read_bytes()
        for path in again.rglob("*")
        if path.is_file()
    }
    hub = copy(packaged(workspace, keys / "good.pem", "huggingface")[0], folder / "hub")
    found: dict[str, Any] = {
        "fingerprint": hashlib.sha256(public.read_bytes()).hexdigest(),
        "signed_by": first["signed_by"],
        "differs": sorted(name for name, equal in same.items() if not equal),
        "altered": {},
        "huggingface": said(hub, public),
        "curves": {},
    }
    for number, (name, alter) in enumerate(alterations(keys, hub).items()):
        altered = copy(original, folder / str(number))
        alter(altered)
        found["altered"][name] = said(altered, public)
    for curve in ("P-384", "P-521"):
        found["curves"][curve] = said(packaged(workspace, keys / f"{curve}.pem")[0], keys / f"{curve}.pub")
    found["verbs"] = {
        name: sshtool("check", path, "--signers", key, "--json", "--quiet")
        for name, path, key in (
            ("folder", original, public),
            ("one of two keys", original, keys / "all.pub"),
            ("archive", archive, public),
            ("another key", archive, keys / "other.pub"),
            *((f"signers {name}", original, keys / f"{name}.pub") for name in ("cut", "empty", "RSA", "secp256k1")),
            ("signers good.pem", original, keys / "good.pem"),
        )
    }
    twice = ("--signers", public, "--signers", keys / "other.pub")
    found["verbs"]["two files"] = sshtool("check", original, *twice, "--json", "--quiet")
    found["keys"] = {
        name: unlocked(keys, name, PASSWORD)
        for name in ("PKCS8", "TraditionalOpenSSL", "OpenSSH", "text", "empty", "missing", "RSA", "secp256k1")
    }
    found["keys"]["wrong password"] = unlocked(keys, "PKCS8", "wrong")
    found["oddities"] = list(oddities(copy(original, folder / "odd"), public))
    found["statements"] = list(odd_statements(copy(original, folder / "statements"), private["good"], public))
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))  # noqa: T201  # what it is for
