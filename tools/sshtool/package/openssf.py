"""Signatures by OpenSSF Model Signing with elliptic-curve keys: makes and checks `model.sig`, offline.

The signature is a Sigstore bundle around a statement that lists the package's files with their SHA-256. It contains no
certificate and no entry of a transparency log; a hint, the SHA-256 of the public key's PEM file, names the key. Model
Signing leaves out the files of Git (`.gitattributes`): the signature of `SHA256SUMS` covers them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import pydantic
from pydantic.alias_generators import to_camel

from sshconvert.errors import UsageError
from sshconvert.files import output_errors, scratch_folder
from sshconvert.libraries import MODEL_SIGNING, importing
from sshconvert.messages import printable
from sshconvert.reading import read_small
from sshconvert.schema import one_line, parse_json, problems
from sshtool.package.manifest import SUMS
from sshtool.package.signing import ATTESTATION, LARGEST_SIGNATURE, MODEL_SIGNATURE, SIGNATURE, SignatureError

CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
LARGEST_KEY: Final = 1 << 16  # bytes
GIT: Final = (".git", ".gitattributes", ".github", ".gitignore")

# Gives the password of the private key in a file.
AskPassword = Callable[[Path], str]

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[^-]*-----END \1-----")
_LABEL: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PUBLIC: Final = b"PUBLIC KEY"
_OPENSSH: Final = b"OPENSSH PRIVATE KEY"
_MADE_BY: Final = "make one with `openssl ecparam -name prime256v1 -genkey -noout -out KEY`"
_PUBLIC_BY: Final = "`openssl ec -in KEY -pubout` writes the public key of an elliptic-curve key"


# --- Signing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SigningKey:
    """A private key that was read. `signer` names its public key, as `PublicKeys.signer_of` does."""

    signer: str
    config: Any  # model_signing.signing.Config

    def sign(self, folder: Path) -> None:
        """Write the signature of all files in a folder. Raises OutputError.

        Other signatures can be added later: the signature leaves them out. Its bytes differ each time, because ECDSA
        draws a random number.
        """
        hashing = _model_signing("hashing").Config().set_ignored_paths(paths=[MODEL_SIGNATURE, SIGNATURE, ATTESTATION])
        with output_errors(folder / MODEL_SIGNATURE):
            self.config.set_hashing_config(hashing).sign(folder, folder / MODEL_SIGNATURE)


def read_signing_key(path: Path, ask: AskPassword) -> SigningKey:
    """Read a private key in PEM; `ask` gives the password if it is encrypted.

    Raises UsageError for any other file and a wrong password, RuntimeUnavailableError without Model Signing.
    """
    config = _model_signing("signing").Config()
    data = _read_key(path)
    key, password = _load(path, data, ask)
    if not _is_supported(key):
        raise UsageError(f"--sign: {path} holds a key of another kind than {', '.join(CURVES)}; {_MADE_BY}")
    # The library's own reader wants bytes, although it states str.
    config.use_elliptic_key_signer(private_key=path, password=password)
    return SigningKey(_name(_fingerprint(key.public_key())), config)


def _read_key(path: Path) -> bytes:
    try:
        data = read_small(path, LARGEST_KEY)
    except OSError as error:
        raise UsageError(f"--sign: {path} cannot be read ({error.strerror}); {_MADE_BY}") from None
    labels = _LABEL.findall(data)
    if _OPENSSH in labels:
        raise UsageError(
            f"--sign: {path} is a key of OpenSSH; give a key in PEM, or sign the package's {SUMS} with "
            f"`ssh-keygen -Y sign -n file -f KEY {SUMS}`"
        )
    if not any(label.endswith(b"PRIVATE KEY") for label in labels):
        raise UsageError(f"--sign: {path} holds no private key in PEM; {_MADE_BY}")
    return data


def _load(path: Path, data: bytes, ask: AskPassword) -> tuple[Any, bytes | None]:
    """The private key, and its password if it is encrypted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = None
    try:
        try:
            return load_pem_private_key(data, None), None
        except TypeError:  # it is encrypted
            password = ask(path).encode()
            return load_pem_private_key(data, password), password
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the text says nothing that helps
        if password is not None:
            raise UsageError(f"--sign: {path} cannot be read with that password; give its own") from None
        raise UsageError(f"--sign: {path} holds a private key that cannot be read; {_MADE_BY}") from None


# --- Checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicKeys:
    """Trusted public keys: PEM by its SHA-256."""

    keys: Mapping[str, bytes]
    signature: ClassVar[str] = MODEL_SIGNATURE

    @classmethod
    def parse(cls, path: Path, data: bytes) -> PublicKeys:
        """Parse a file of public keys in PEM.

        Raises UsageError for keys of other kinds, RuntimeUnavailableError without Model Signing.
        """
        _model_signing("verifying")
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        keys = {}
        for block in _PEM.finditer(data):
            if block[1] != _PUBLIC:
                raise UsageError(f"--signers: {path} holds a {printable(block[1].decode())}; {_PUBLIC_BY}")
            try:
                key = load_pem_public_key(block[0])
            except (ValueError, UnsupportedAlgorithm):
                raise UsageError(f"--signers: {path} holds a public key that cannot be read; {_PUBLIC_BY}") from None
            if not _is_supported(key):
                raise UsageError(
                    f"--signers: {path} holds a key of another kind than {', '.join(CURVES)}; {_PUBLIC_BY}"
                )
            keys[_fingerprint(key)] = _pem(key)
        if not keys:
            raise UsageError(f"--signers: {path} holds no complete key; {_PUBLIC_BY}")
        return cls(keys)

    def signer_of(self, folder: Path) -> str:
        """The key that signed a package, whose files are those of its manifest. Raises SignatureError."""
        try:
            data = read_small(folder / MODEL_SIGNATURE, LARGEST_SIGNATURE)
        except OSError as error:
            raise SignatureError(f"cannot be checked ({error.strerror})") from None
        hint, files = _named(data)
        if hint not in self.keys:
            raise SignatureError("is by none of the signers")
        if SUMS not in files:
            raise SignatureError(f"is not of {SUMS}, so it does not cover all files")
        _verify(folder, data, self.keys[hint], files)
        return _name(hint)


class _Part(pydantic.BaseModel):
    """A part of a signature. Model Signing's own verifier judges the keys that are not declared here."""

    model_config = pydantic.ConfigDict(frozen=True, alias_generator=to_camel)


class _PublicKey(_Part):
    hint: Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Material(_Part):
    public_key: _PublicKey


class _Envelope(_Part):
    payload: str


class _Bundle(_Part):
    verification_material: _Material
    dsse_envelope: _Envelope


class _Resource(pydantic.BaseModel):
    name: str


class _Serialization(pydantic.BaseModel):
    method: Literal["files"]
    hash_type: Literal["sha256"]


class _Predicate(pydantic.BaseModel):
    resources: list[_Resource]
    serialization: _Serialization


class _Statement(pydantic.BaseModel):
    predicate: _Predicate


def _named(data: bytes) -> tuple[str, set[str]]:
    """The key and the files that a signature names, before it is verified. Raises SignatureError."""
    try:
        bundle = parse_json(_Bundle, data)
        # Strict, so that there is one way to read it.
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        statement = parse_json(_Statement, payload)
    except ValueError as error:
        raise SignatureError(f"is no signature by a key that can be checked: {one_line(error)}") from None
    return bundle.verification_material.public_key.hint, {file.name for file in statement.predicate.resources}


def _verify(folder: Path, data: bytes, key: bytes, files: set[str]) -> None:
    """Verify a signature of exactly these files with the library. Raises SignatureError."""
    unsigned = {MODEL_SIGNATURE, SIGNATURE, ATTESTATION} - files
    hashing = (
        _model_signing("hashing")
        .Config()
        .set_ignored_paths(paths=sorted(unsigned), ignore_git_paths=files.isdisjoint(GIT))
    )
    with scratch_folder() as scratch:
        (scratch / "key").write_bytes(key)
        (scratch / "signature").write_bytes(data)
        config = _model_signing("verifying").Config()
        config.use_elliptic_key_verifier(public_key=scratch / "key").set_hashing_config(hashing)
        try:
            config.verify(folder, scratch / "signature")
        except Exception as error:  # noqa: BLE001  # whatever the library raises for a hostile file
            if not str(error):  # so the library says that the signature is wrong
                raise SignatureError("is not by the key that it names") from None
            text = problems(error) if isinstance(error, pydantic.ValidationError) else one_line(error)
            raise SignatureError(f"is not a signature of these files: {text}") from None


# --- Keys -------------------------------------------------------------------------------------------------------------


def is_pem(data: bytes) -> bool:
    """Return whether a file of signers is in PEM."""
    return _LABEL.search(data) is not None


def _model_signing(module: str) -> Any:
    """A module of the library. Raises RuntimeUnavailableError."""
    with importing(MODEL_SIGNING):
        import model_signing

        return getattr(model_signing, module)


def _is_supported(key: Any) -> bool:
    return getattr(getattr(key, "curve", None), "name", "") in CURVES


def _pem(key: Any) -> bytes:
    """A public key as `openssl` writes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def _fingerprint(key: Any) -> str:
    return hashlib.sha256(_pem(key)).hexdigest()


def _name(fingerprint: str) -> str:
    return f"key {fingerprint}"
