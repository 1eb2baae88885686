"""Those whose signatures a user trusts: each file of keys requires the signature of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sshconvert.errors import UsageError
from sshtool.package.openssf import PublicKeys, is_pem
from sshtool.package.signing import AllowedSigners, read_signers


class Signers(Protocol):
    """Trusted keys of one kind, and the name of the signature that they check."""

    @property
    def signature(self) -> str: ...

    def signer_of(self, folder: Path) -> str:
        """The signer of a package. Raises SignatureError."""


def open_signers(paths: Sequence[Path]) -> tuple[Signers, ...]:
    """Open files of trusted keys: public keys in PEM for Model Signing, allowed signers for OpenSSH.

    Raises UsageError for a file that is neither, and for two of a kind; RuntimeUnavailableError for PEM without Model
    Signing.
    """
    opened: dict[str, Signers] = {}
    for path in paths:
        data = read_signers(path)
        signers = PublicKeys.parse(path, data) if is_pem(data) else AllowedSigners.parse(path, data)
        if signers.signature in opened:
            raise UsageError(f"--signers: {path} is the second file for {signers.signature}; put all keys in one file")
        opened[signers.signature] = signers
    return tuple(opened.values())
