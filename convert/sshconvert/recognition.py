"""Recognising a file by its first bytes, for messages only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sshconvert.reading import open_regular

HEAD: Final = 512  # bytes: up to and including the mark of a tar archive

EMPTY, PARAMS, SYMBOL, ONNX, IR, NCNN, ZIP, TAR, PACK, IMAGE = (
    "an empty file",
    "an MXNet .params file",
    "an MXNet symbol",
    "an ONNX model",
    "an OpenVINO IR",
    "an ncnn network",
    "a zip archive",
    "a tar archive",
    "a NumPy archive, as reference packs are",
    "an image",
)


def _begins(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _is_onnx(head: bytes) -> bool:
    """Return whether the bytes begin with the version of the format and the key of another field."""
    return head[:1] == b"\x08" and len(head) > 2 and head[1] < 32 and head[2] in b"\x12\x1a\x22\x2a\x3a\x42"


def _is_safetensors(head: bytes) -> bool:
    return head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] < 1 << 27


# Tests in order: the first match counts.
_TESTS: Final[Mapping[str, Callable[[bytes], bool]]] = MappingProxyType(
    {
        EMPTY: lambda head: not head,
        "a Git LFS pointer, which `git lfs pull` replaces by the file": _begins(b"version https://git-lfs."),
        "a git-annex pointer, which `git annex get` replaces by the file": _begins(b"/annex/objects/"),
        "an HTML page, as sites send it instead of a file": lambda head: (
            head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html", b"<head"))
        ),
        PARAMS: _begins(struct.pack("<Q", 0x112)),
        SYMBOL: lambda head: head.lstrip().startswith(b"{") and b'"nodes"' in head,
        IR: lambda head: head.lstrip().startswith((b"<?xml", b"<net")) and b"<net" in head,
        NCNN: _begins(b"7767517\n", b"7767517\r\n"),
        "a PyTorch checkpoint": lambda head: head.startswith(b"PK\x03\x04") and b"/data.pkl" in head[:128],
        PACK: lambda head: (
            head.startswith(b"PK\x03\x04") and any(name in head[:160] for name in (b".npy", b"reference.json"))
        ),
        ZIP: _begins(b"PK\x03\x04", b"PK\x05\x06"),
        "a pickle, as PyTorch writes checkpoints": _begins(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "an HDF5 file, as Keras writes checkpoints": _begins(b"\x89HDF\r\n\x1a\n"),
        "a safetensors file": _is_safetensors,
        "a TensorFlow Lite model": lambda head: head[4:8] == b"TFL3",
        "a NumPy array": _begins(b"\x93NUMPY"),
        TAR: lambda head: head[257:262] == b"ustar",
        "a gzip file, such as a tar.gz archive": _begins(b"\x1f\x8b"),
        "a 7z, rar, xz, bzip2 or zstd archive": _begins(
            b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd"
        ),
        IMAGE: lambda head: (
            head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*"))
            or head[8:12] == b"WEBP"
        ),
        "a PDF document": _begins(b"%PDF"),
        ONNX: _is_onnx,
    }
)


def recognised(head: bytes | memoryview) -> str:
    """Return a description of the file that has these first bytes, with an article; "" if it is unknown."""
    head = bytes(head[:HEAD])
    return next((description for description, matches in _TESTS.items() if matches(head)), "")


def mistaken(path: Path, expected: str) -> str:
    """Return a description of a file that is not the `expected` one (a constant of this module); "" if unknown."""
    try:
        with open_regular(path) as file:
            description = recognised(file.read(HEAD))
    except OSError:
        return ""
    return "" if description == expected else description
