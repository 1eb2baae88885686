"""Signatures beside a package: an SSH signature of `SHA256SUMS` is checked, and others are named."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sshconvert.errors import UsageError
from sshconvert.messages import printable
from sshconvert.reading import read_small
from sshtool.package.manifest import SUMS

SIGNATURE: Final = f"{SUMS}.sig"  # by `ssh-keygen -Y sign -n file`
ATTESTATION: Final = f"{SUMS}.sigstore.json"  # by a CI job; `gh attestation verify` checks it, with the network
NAMESPACE: Final = "file"
PATIENCE: Final = 60  # seconds, with `ssh-keygen`
LARGEST_SIGNERS: Final = 1 << 20
LARGEST_SIGNATURE: Final = 1 << 20  # a Sigstore bundle has a few KB for each file of the package

# Signatures lie beside what they sign. OpenSSF Model Signing calls its own model.sig unless it is told otherwise.
_SIGNATURES: Final = re.compile(r"[\w.-]+\.(sig|sigstore|sigstore\.json)", re.ASCII)
_HOW: Final = {
    SIGNATURE: "name the keys that you trust with --signers",
    ATTESTATION: "`gh attestation verify` checks it, online",
}
_HOW_OTHERS: Final = "sshtool does not check this kind; the tool that made it does (`model_signing verify`)"


class SignatureError(Exception):
    """Why a signature does not hold."""


def signatures(paths: Iterable[str]) -> tuple[str, ...]:
    """Those of the files at the top of a package that are signatures, by their names."""
    return tuple(sorted(path for path in paths if _SIGNATURES.fullmatch(path)))


def how_to_check(name: str) -> str:
    """What checks a signature that was not checked."""
    return _HOW.get(name, _HOW_OTHERS)


def read_signers(path: Path) -> None:
    """Look whether a file may be one of trusted signers. Raises UsageError: it is the user's own."""
    try:
        text = read_small(path, LARGEST_SIGNERS).decode()
    except OSError as error:
        raise UsageError(f"--signers: {path} cannot be read ({error.strerror}); {_WANTED}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--signers: {path} is not UTF-8 at byte {error.start}; {_WANTED}") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or any(len(line.split()) < 3 for line in lines):  # who, kind of key, key
        raise UsageError(f"--signers: {path} holds no keys; {_WANTED}")


_WANTED: Final = "name a file with a line for each: who, and the public key, as `man ssh-keygen` has it under ALLOWED"


def signer_of(signed: Path, signature: Path, signers: Path) -> str:
    """Who of the signers made an SSH signature, printable. Raises SignatureError. Uses OpenSSH."""
    try:
        found = _ssh_keygen(b"", "find-principals", "-s", str(signature), "-f", str(signers))
        who = found.stdout.splitlines()[:1]
        if found.returncode or not who:
            raise SignatureError("is by none of the signers")
        about = ("-f", str(signers), "-I", who[0], "-n", NAMESPACE, "-s", str(signature))
        checked = _ssh_keygen(read_small(signed, LARGEST_SUMS), "verify", *about)
    except FileNotFoundError:
        raise SignatureError("cannot be checked: ssh-keygen is not installed") from None
    except subprocess.TimeoutExpired:
        raise SignatureError("cannot be checked: ssh-keygen does not answer") from None
    except OSError as error:
        raise SignatureError(f"cannot be checked ({error.strerror})") from None
    if checked.returncode:
        raise SignatureError("is not of these checksums")
    return printable(who[0].decode(errors="replace"))


LARGEST_SUMS: Final = 4 << 20


def _ssh_keygen(data: bytes, what: str, *arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603  # no shell, and what a stranger sent is read as data
        ["ssh-keygen", "-Y", what, *arguments],  # noqa: S607  # wherever the system has it
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
