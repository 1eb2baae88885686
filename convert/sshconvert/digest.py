"""Hashes of bytes, streams and files, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final, Literal

from sshconvert.reading import open_regular

BLOCK: Final = 1 << 20

Algorithm = Literal["sha256", "sha384"]
SHOWN: Final = {"sha256": "SHA-256", "sha384": "SHA-384"}  # the algorithms in messages


def bytes_sha256(data: bytes | memoryview) -> str:
    """Hash data in memory."""
    return hashlib.sha256(data).hexdigest()


def blocks_sha256(blocks: Iterable[bytes | memoryview]) -> str:
    """Hash consecutive blocks of data as one."""
    return blocks_digest(blocks, "sha256")


def blocks_digest(blocks: Iterable[bytes | memoryview], algorithm: Algorithm) -> str:
    """Hash consecutive blocks of data as one."""
    digest = hashlib.new(algorithm)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def stream_sha256(file: BinaryIO) -> str:
    """Hash a stream from its position to its end. Raises OSError."""
    return stream_digest(file, "sha256")


def stream_digest(file: BinaryIO, algorithm: Algorithm) -> str:
    """Hash a stream from its position to its end. Raises OSError."""
    return blocks_digest(iter(lambda: file.read(BLOCK), b""), algorithm)


def file_sha256(path: Path) -> str:
    """Hash a file. Raises OSError."""
    with open_regular(path) as file:
        return stream_sha256(file)
