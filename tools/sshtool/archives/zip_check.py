"""Checks of a zip's members before anything is unpacked. They reject unusual members and repair nothing."""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from sshtool.archives.zip_layout import DEFLATED, STORED, UNICODE_NAME, UTF8, Member, RefusedError

SMALL: Final = 1 << 20  # bytes below which any ratio is harmless

_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # encryption, strong encryption, masked headers
_KNOWN_FLAGS: Final = 0x2 | 0x4 | 0x8 | UTF8  # deflate level or LZMA end marker, sizes after the data, name encoding

# Attributes of DOS and Windows.
_VOLUME: Final = 0x08
_FOLDER: Final = 0x10
_REPARSE_POINT: Final = 0x400

# Extra fields in which old Unix packers keep the target of a link.
_PKWARE_UNIX: Final = 0x000D
_ASI_UNIX: Final = 0x756E

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Names that Windows opens as devices, with any extension.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds of each member and of their sum: allowed methods, unpacked bytes, and unpacked to packed size."""

    methods: Collection[int] = (STORED, DEFLATED)
    largest: int = 2 << 30
    ratio: float = 200  # weights hardly shrink, a symbol shrinks to a tenth


def check(members: Sequence[Member], limits: ArchiveLimits = ArchiveLimits()) -> None:  # frozen
    """Check every member, including those that the caller does not unpack. Raises RefusedError."""
    for member in members:
        _check_name(member)
        _check_type(member)
        _check_size(member, limits)
    packed, unpacked = sum(member.packed for member in members), sum(member.unpacked for member in members)
    if unpacked > limits.largest:
        raise RefusedError(f"its members claim {unpacked} bytes together")
    if unpacked > SMALL and unpacked > limits.ratio * packed:
        raise RefusedError(f"its members claim to unpack to {unpacked / max(1, packed):.0f} times their size")
    _check_tree(members)


def _check_tree(members: Sequence[Member]) -> None:
    """Reject members that some file system takes for the same file, and files that are folders of others."""
    for name, count in Counter(_folded(member.name) for member in members).items():
        if count > 1:
            raise RefusedError(f"{name!r} is listed {count} times")
    files = {_folded(member.name) for member in members if not member.name.endswith("/")}
    for member in members:
        for folder in PurePosixPath(_folded(member.name)).parents:
            if str(folder) in files:
                raise RefusedError(f"{member.name!r} is inside {str(folder)!r}, which is a file")


def _folded(name: str) -> str:
    """The name as a case-insensitive file system with normalised accents stores it."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name.rstrip("/")).casefold())


def _check_name(member: Member) -> None:
    name = member.name
    parts = PurePosixPath(name).parts
    unicode_names = {value[5:] for tag, value in member.extra if tag == UNICODE_NAME}
    problems = {
        "has no name": not name.strip("/ "),
        "has a control character in its name": bool(_CONTROL.search(name)),
        "has a backslash in its name": "\\" in name,
        "has an absolute path": name.startswith("/") or bool(_DRIVE.match(name)),
        "has a colon in its name": ":" in name,
        "leads out of the folder": ".." in parts,
        "has an empty or a dot part in its path": name != "/".join(parts) + "/" * name.endswith("/"),
        "has a part that ends in a dot or a blank": any(part[-1] in ". " for part in parts),
        "is a device on Windows": any(_DEVICE.fullmatch(part) for part in parts),
        "has another name in an extra field": not unicode_names <= {member.raw_name, name.encode()},
    }
    _refuse_first(name, problems)


def _check_type(member: Member) -> None:
    name, is_folder = member.name, member.name.endswith("/")
    types = {stat.S_IFMT(mode) for mode in (member.attributes >> 16, *_old_modes(member))} - {0}
    problems = {
        "is encrypted": bool(member.flags & _ENCRYPTED),
        f"has flags {member.flags:#x}, of which some are unknown": bool(member.flags & ~_KNOWN_FLAGS),
        "is a link or a device": bool(types - {stat.S_IFREG, stat.S_IFDIR}),
        "is a link or a volume of Windows": bool(member.attributes & (_REPARSE_POINT | _VOLUME)),
        "is a folder in one place and a file in the other": (
            any((file_type == stat.S_IFDIR) != is_folder for file_type in types)
            or (bool(member.attributes & _FOLDER) and not is_folder)
        ),
        "is a folder with something in it": is_folder and member.unpacked > 0,
    }
    _refuse_first(name, problems)


def _old_modes(member: Member) -> Iterator[int]:
    """Yield the modes in extra fields. Raises RefusedError for a field that also holds the target of a link."""
    for tag, value in member.extra:
        if (tag == _PKWARE_UNIX and len(value) != 12) or (tag == _ASI_UNIX and len(value) != 14):
            raise RefusedError(f"{member.name!r} is a link or a device")
        if tag == _ASI_UNIX:
            yield int(struct.unpack_from("<H", value, 4)[0])


def _check_size(member: Member, limits: ArchiveLimits) -> None:
    packed, unpacked = member.packed, member.unpacked
    ratio = unpacked / max(1, packed)
    problems = {
        f"is packed by method {member.method}": member.method not in limits.methods,
        f"claims {unpacked} bytes": unpacked > limits.largest,
        f"claims to unpack to {ratio:.0f} times its size": unpacked > SMALL and ratio > limits.ratio,
        "is stored with two different sizes": member.method == STORED and unpacked != packed,
    }
    _refuse_first(member.name, problems)


def _refuse_first(name: str, problems: Mapping[str, bool]) -> None:
    for problem, present in problems.items():
        if present:
            raise RefusedError(f"{name!r} {problem}")
