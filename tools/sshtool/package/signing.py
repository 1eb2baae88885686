"""Signatures of a package: names all of them, and checks an SSH signature of `SHA256SUMS`.

`openssf` makes and checks those of OpenSSF Model Signing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from sshconvert.errors import UsageError
from sshconvert.messages import printable
from sshconvert.reading import read_small
from sshtool.package.manifest import SUMS

SIGNATURE: Final = f"{SUMS}.sig"  # by `ssh-keygen -Y sign -n file`
MODEL_SIGNATURE: Final = "model.sig"  # by OpenSSF Model Signing
ATTESTATION: Final = f"{SUMS}.sigstore.json"  # by a CI job; `gh attestation verify` checks it, with the network
NAMESPACE: Final = "file"
PATIENCE: Final = 60  # seconds to wait for `ssh-keygen`
LARGEST_SIGNERS: Final = 1 << 20
LARGEST_SIGNATURE: Final = 1 << 20  # a Sigstore bundle has a few KB for each file of the package
LARGEST_SUMS: Final = 4 << 20

_SIGNATURES: Final = re.compile(r"[\w.-]+\.(sig|sigstore|sigstore\.json)", re.ASCII)
_REMEDIES: Final = {
    SIGNATURE: "give the keys that you trust with --signers",
    MODEL_SIGNATURE: "give the public keys that you trust, in PEM, with --signers",
    ATTESTATION: "`gh attestation verify` checks it, online",
}
_OTHER_REMEDY: Final = "sshtool does not check this kind; check it with the tool that made it (`model_signing verify`)"
_SIGNERS_REMEDY: Final = (
    "give a file with a line for each signer, name and public key, as in `man ssh-keygen` under ALLOWED SIGNERS, or "
    "public keys in PEM"
)


class SignatureError(Exception):
    """Why a signature is not valid."""


def signatures(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths that are signatures at the top of a package, by their names."""
    return tuple(sorted(path for path in paths if _SIGNATURES.fullmatch(path)))


def how_to_check(name: str) -> str:
    """How the user checks a signature that sshtool has not checked."""
    return _REMEDIES.get(name, _OTHER_REMEDY)


def read_signers(path: Path) -> bytes:
    """The contents of a file of signers. Raises UsageError if it cannot be read."""
    try:
        return read_small(path, LARGEST_SIGNERS)
    except OSError as error:
        raise UsageError(f"--signers: {path} cannot be read ({error.strerror}); {_SIGNERS_REMEDY}") from None


@dataclass(frozen=True)
class AllowedSigners:
    """The keys of OpenSSH's file of allowed signers, whose path this is."""

    path: Path
    signature: ClassVar[str] = SIGNATURE

    @classmethod
    def parse(cls, path: Path, data: bytes) -> AllowedSigners:
        """Raises UsageError if the file cannot be one of allowed signers."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"--signers: {path} is not UTF-8 at byte {error.start}; {_SIGNERS_REMEDY}") from None
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not lines or any(len(line.split()) < 3 for line in lines):  # name, type of key, key
            raise UsageError(f"--signers: {path} holds no keys; {_SIGNERS_REMEDY}")
        return cls(path)

    def signer_of(self, folder: Path) -> str:
        """The printable name of who signed a package's `SHA256SUMS`. Raises SignatureError. Runs OpenSSH."""
        signature, signers = str(folder / SIGNATURE), str(self.path)
        try:
            search = _ssh_keygen(b"", "find-principals", "-s", signature, "-f", signers)
            names = search.stdout.splitlines()[:1]
            if search.returncode or not names:
                raise SignatureError("is by none of the signers")
            arguments = ("-f", signers, "-I", names[0], "-n", NAMESPACE, "-s", signature)
            verification = _ssh_keygen(read_small(folder / SUMS, LARGEST_SUMS), "verify", *arguments)
        except FileNotFoundError:
            raise SignatureError("cannot be checked: ssh-keygen is not installed") from None
        except subprocess.TimeoutExpired:
            raise SignatureError("cannot be checked: ssh-keygen does not answer") from None
        except OSError as error:
            raise SignatureError(f"cannot be checked ({error.strerror})") from None
        if verification.returncode:
            raise SignatureError("is not of these checksums")
        return printable(names[0].decode(errors="replace"))


def _ssh_keygen(data: bytes, action: str, *arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603  # no shell; ssh-keygen reads foreign files as data
        ["ssh-keygen", "-Y", action, *arguments],  # noqa: S607  # found on the PATH
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
