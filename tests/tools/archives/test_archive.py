"""Archives that no honest tool makes: each is refused by name, and nothing is written anywhere."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from fuzzing import run_fuzzer
from limited_process import allow, folder_in_memory, run_limited, timed
from mutations import mutants
from sshconvert.errors import ArchiveError
from sshconvert.models.registry import load_model
from sshconvert.reading import state
from sshtool.archives.zip_layout import MOST_MEMBERS, PIECE, RefusedError, read_members, stream
from sshtool.checkpoint.archive import Archive, is_archive, open_archive, unpack

MODEL = load_model("ssh-mxnet")
SYMBOL, PARAMS = MODEL.checkpoint.symbol, MODEL.checkpoint.params
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
UTF8 = 0x800
UNREADABLE = Path("/proc/self/mem")


@dataclass(frozen=True)
class Member:
    """A member as it is written: `local` and `listed` overwrite fields of its header and of the directory."""

    name: bytes
    data: bytes = b"content"
    method: int = STORED
    local: dict[str, int | bytes] = field(default_factory=dict)
    listed: dict[str, int | bytes] = field(default_factory=dict)
    mode: int = stat.S_IFREG | 0o644
    flags: int = UTF8
    behind: bytes = b""  # what follows the data: a descriptor, or what does not belong there
    system: int = 3  # who wrote it: 0 is DOS, 3 Unix, 10 NTFS, 19 macOS

    def fields(self) -> dict[str, int | bytes]:
        packed = self.packed()
        return {
            "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.data), "packed": len(packed),
            "size": len(self.data), "name": self.name, "extra": b"", "comment": b"", "disk": 0,
            "attributes": self.mode << 16,
        }  # fmt: skip

    def packed(self) -> bytes:
        if self.method != DEFLATED:
            return self.data
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()


def header(values: dict[str, int | bytes]) -> bytes:
    name, extra = values["name"], values["extra"]
    assert isinstance(name, bytes)
    assert isinstance(extra, bytes)
    numbers = [values[key] for key in ("flags", "method")], [values[key] for key in ("crc", "packed", "size")]
    return struct.pack("<5H3I2H", 20, *numbers[0], 0, 33, *numbers[1], len(name), len(extra))


def write(
    *members: Member,
    before: bytes = b"",
    comment: bytes = b"",
    end64: bytes = b"",
    end: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    """A zip. `before` stands before the directory, `end64` before the end record, whose fields `end` overwrites."""
    body, directory = bytearray(), bytearray()
    for member in members:
        own = member.fields() | member.local
        there = member.fields() | member.listed
        offset = there.get("offset", len(body))
        body += b"PK\x03\x04" + header(own) + bytes(own["name"]) + bytes(own["extra"]) + member.packed() + member.behind
        directory += b"PK\x01\x02" + struct.pack("<2B", 30, member.system) + header(there)
        directory += struct.pack("<3H2I", len(bytes(there["comment"])), there["disk"], 0, there["attributes"], offset)
        directory += bytes(there["name"]) + bytes(there["extra"]) + bytes(there["comment"])
    fields = {
        "disk": 0, "directory_disk": 0, "here": len(members), "count": len(members), "length": len(directory),
        "offset": len(body) + len(before), "comment": len(comment),
    } | dict(end)  # fmt: skip
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", *fields.values()) + comment
    return bytes(body) + before + directory + end64 + last


def end64(*members: Member, **changes: int) -> bytes:
    """The zip64 end record and its locator, as they belong to a zip of those members."""
    body, directory = zip_lengths(*members)
    values = {
        "length": 44, "made": 45, "needed": 45, "disk": 0, "directory_disk": 0, "here": len(members),
        "count": len(members), "size": directory, "offset": body, "locator_disk": 0, "place": body + directory,
        "disks": 1,
    } | changes  # fmt: skip
    fields = list(values.values())
    return struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", *fields[:9]) + struct.pack("<4sIQI", b"PK\x06\x07", *fields[9:])


def zip_lengths(*members: Member) -> tuple[int, int]:
    """Of all the members, and of the directory."""
    whole = write(*members)
    length, offset = struct.unpack_from("<2I", whole, len(whole) - 10)
    return offset, length


ELSEWHERE = {"here": 0xFFFF, "count": 0xFFFF, "length": 0xFFFFFFFF, "offset": 0xFFFFFFFF}


def zip64(**changes: int) -> bytes:
    return write(*HONEST, end64=end64(*HONEST, **changes), end=ELSEWHERE)


def descriptor(member: Member, layout: str = "<3I", signature: bytes = b"PK\x07\x08", **changes: int) -> Member:
    """The member with sizes and checksum behind its data, and none in its header."""
    sizes = {"crc": zlib.crc32(member.data), "packed": len(member.packed()), "size": len(member.data)} | changes
    behind = signature + struct.pack(layout, *sizes.values())
    return replace(member, flags=UTF8 | 0x8, local={"crc": 0, "packed": 0, "size": 0}, behind=behind)


def named(name: str | bytes, **changes: object) -> Member:
    return replace(Member(name if isinstance(name, bytes) else name.encode()), **changes)  # type: ignore[arg-type]


def extra(kind: int, value: bytes) -> bytes:
    return struct.pack("<2H", kind, len(value)) + value


HONEST = (named(SYMBOL, data=b"{}", method=DEFLATED), named(PARAMS, data=bytes(range(256)) * 40))


def test_the_honest_archive_that_the_others_are_made_from_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(write(*HONEST, named("readme.txt"), named("docs/", data=b"", mode=0)))
    unpack(tmp_path / "a.zip", MODEL, tmp_path / "out")
    assert (tmp_path / "out" / PARAMS).read_bytes() == bytes(range(256)) * 40
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [PARAMS, SYMBOL]


def test_archives_of_common_writers_are_unpacked(tmp_path: Path) -> None:
    """Sizes behind the data, as a writer leaves them that cannot seek; zip64; a folder around; old attributes."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    for number, (target, force) in enumerate([(Pipe(), False), (io.BytesIO(), True), (Pipe(), True)]):
        with zipfile.ZipFile(target, "w", DEFLATED) as archive:
            for name in (SYMBOL, PARAMS):
                info = zipfile.ZipInfo(f"ssh/{name}")
                info.compress_type = DEFLATED
                with archive.open(info, "w", force_zip64=force) as member:
                    member.write(bytes(range(256)) * 1000)
        path = tmp_path / f"{number}.zip"
        path.write_bytes(target.getvalue())
        unpack(path, MODEL, tmp_path / str(number))
        assert (tmp_path / str(number) / PARAMS).stat().st_size == 256_000


def beside(*members: Member) -> bytes:
    return write(*HONEST, *members)


def local(**changes: int | bytes) -> bytes:
    return write(HONEST[0], replace(HONEST[1], local=changes))


def listed(**changes: int | bytes) -> bytes:
    return write(HONEST[0], replace(HONEST[1], listed=changes))


def cut_header() -> bytes:
    honest = write(*HONEST)
    return honest.replace(b"PK\x03\x04", b"PK\x03\x05", 1)


def unicode_name(listed: bytes, name: str) -> bytes:
    """Info-ZIP's field for a name in UTF-8, which newer Pythons believe more than the name itself."""
    return extra(0x7075, struct.pack("<BI", 1, zlib.crc32(listed)) + name.encode())


def with_extra(kind: int, value: bytes) -> bytes:
    return beside(named("a", local={"extra": extra(kind, value)}))


def stored_as_deflated(stream: bytes, data: bytes) -> bytes:
    """An archive whose parameters are that deflated stream, and claimed to be those data."""
    claims: dict[str, int | bytes] = {"method": DEFLATED, "size": len(data), "crc": zlib.crc32(data)}
    return write(HONEST[0], named(PARAMS, data=stream, local=claims, listed=claims))


def deflated(data: bytes) -> bytes:
    return named("", data=data, method=DEFLATED).packed()


def nested() -> bytes:
    inner = write(*HONEST)
    return write(HONEST[0], named("inner.zip", data=inner))


def many_entries(count: int) -> bytes:
    return write(*HONEST, *(named(f"{number}", data=b"") for number in range(count)))


def huge_directory(size: int) -> bytes:
    """Two members, and a directory that is longer than theirs."""
    whole = write(*HONEST)
    body, length = zip_lengths(*HONEST)
    padding = bytes(size)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, length + len(padding), body, 0)
    return whole[: body + length] + padding + end


def end_record_inside_another() -> bytes:
    """A comment of such a length that the length, and the first bytes of the comment, are an end record's signature."""
    length = int.from_bytes(b"PK", "little")
    return (b"\x05\x06" + struct.pack("<4H2IH", 0, 0, 0, 0, 0, 0, length - 20)).ljust(length, b"\0")


def cut_entry() -> bytes:
    """An archive whose directory ends after the first bytes of the second entry."""
    body, _ = zip_lengths(*HONEST)
    length = 46 + len(SYMBOL) + 20
    return write(*HONEST)[: body + length] + write(end={"here": 2, "count": 2, "length": length, "offset": body})


def deflated_to(size: int) -> tuple[bytes, bytes]:
    """A deflated stream of that many bytes, in blocks that are stored, and the data in it."""
    stream, data = b"", b""
    while len(stream) < size:
        length = min(0xFFFF, size - len(stream) - 5)
        last = len(stream) + 5 + length == size
        stream += struct.pack("<B2H", last, length, length ^ 0xFFFF) + b"a" * length
        data += b"a" * length
    return stream, data


def behind_a_whole_piece() -> bytes:
    """Something behind packed data that are exactly as long as what is read at a time."""
    stream, data = deflated_to(PIECE)
    return stored_as_deflated(stream + b"more", data)


ZEROS = bytes(3 << 20)


def small_bombs(count: int) -> bytes:
    """Members that each are too small for their ratio to matter."""
    data = bytes(1 << 20)
    packed = deflated(data)
    own: dict[str, int | bytes] = {"method": DEFLATED, "size": len(data), "crc": zlib.crc32(data)}
    return write(*HONEST, *(named(f"{n}", data=packed, local=own, listed=own) for n in range(count)))


def claiming(count: int, size: int) -> bytes:
    """Members that claim so many bytes each; what they claim to be packed is there."""
    packed = bytes(size // 199)
    own: dict[str, int | bytes] = {"method": DEFLATED, "size": size, "crc": 0}
    return write(*HONEST, *(named(f"{n}", data=packed, local=own, listed=own) for n in range(count)))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "many small bombs": (small_bombs(40), "members .* unpack to"),
    "members that are too large together": (claiming(4, 600 << 20), "its members claim .* bytes together"),
    "absolute path": (beside(named("/etc/passwd")), "absolute path"),
    "absolute path of the wanted file": (write(HONEST[0], named(f"/{PARAMS}")), "absolute path"),
    "drive": (beside(named("C:evil.txt")), "absolute path"),
    "drive with a slash": (beside(named("c:/evil.txt")), "absolute path"),
    "network share": (beside(named("//server/share/a")), "absolute path"),
    "parent": (beside(named("../evil.txt")), "out of the folder"),
    "parent inside": (beside(named("a/../../evil.txt")), "out of the folder"),
    "parent of the wanted file": (write(HONEST[0], named(f"../{PARAMS}")), "out of the folder"),
    "parent folder": (beside(named("..", data=b"")), "out of the folder"),
    "backslash": (beside(named("..\\evil.txt")), "backslash"),
    "backslash alone": (beside(named("a\\b")), "backslash"),
    "dot part": (beside(named("./a.txt")), "dot part"),
    "dot part of the wanted file": (write(HONEST[0], named(f"./{PARAMS}")), "dot part"),
    "empty part": (beside(named("a//b")), "dot part"),
    "no name": (beside(named("")), "has no name"),
    "a name of blanks": (beside(named("  ")), "has no name"),
    "only a slash": (beside(named("/", data=b"")), "has no name"),
    "zero byte": (beside(named(b"a.txt\0.png")), "control character"),
    "zero byte behind the wanted name": (write(HONEST[0], named(f"{PARAMS}\0.txt")), "control character"),
    "line feed": (beside(named("a\nb")), "control character"),
    "escape sequence": (beside(named("\x1b[2Ja")), "control character"),
    "link": (beside(named("link", data=b"/etc", mode=stat.S_IFLNK | 0o777)), "a link"),
    "the wanted file is a link": (
        write(HONEST[0], named(PARAMS, data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)),
        "a link",
    ),
    "device": (beside(named("dev", mode=stat.S_IFCHR)), "a link"),
    "block device": (beside(named("dev", mode=stat.S_IFBLK)), "a link"),
    "pipe": (beside(named("pipe", mode=stat.S_IFIFO)), "a link"),
    "socket": (beside(named("socket", mode=stat.S_IFSOCK)), "a link"),
    "a folder called a file": (beside(named("a/", data=b"", mode=stat.S_IFREG)), "in one place"),
    "a file called a folder": (beside(named("a", mode=stat.S_IFDIR)), "in one place"),
    "a folder with content": (beside(named("a/", mode=stat.S_IFDIR)), "folder with"),
    "the same name twice": (beside(HONEST[1]), "is listed 2 times"),
    "the same name in another case": (beside(named(PARAMS.upper())), "is listed 2 times"),
    "a file and a folder of one name": (beside(named("a"), named("a/", data=b"", mode=0)), "is listed 2 times"),
    "encrypted": (beside(named("a", flags=UTF8 | 0x1)), "is encrypted"),
    "strongly encrypted": (beside(named("a", flags=UTF8 | 0x41)), "is encrypted"),
    "masked headers": (beside(named("a", flags=UTF8 | 0x2000)), "is encrypted"),
    "the wanted file encrypted": (write(HONEST[0], replace(HONEST[1], flags=UTF8 | 0x1)), "is encrypted"),
    "bzip2": (beside(named("a", method=zipfile.ZIP_BZIP2)), "method 12"),
    "lzma": (beside(named("a", method=zipfile.ZIP_LZMA)), "method 14"),
    "an unknown method": (beside(named("a", method=97)), "method 97"),
    "another name in its header": (local(name=b"sshb-0001.params"), "has name"),
    "another case in its header": (local(name=PARAMS.upper().encode()), "has name"),
    "another method in its header": (local(method=DEFLATED), "has method"),
    "another method in its header, and sizes behind the data": (
        write(HONEST[0], replace(HONEST[1], flags=UTF8 | 0x8, method=DEFLATED, local={"method": STORED})),
        "has method",
    ),
    "other flags in its header": (local(flags=UTF8 | 0x2), "has flags"),
    "encrypted in its header": (local(flags=UTF8 | 0x1), "has flags"),
    "another size in its header": (local(size=1), "has size"),
    "another packed size in its header": (local(packed=1), "has packed size"),
    "another checksum in its header": (local(crc=1), "has checksum"),
    "no size in its header": (local(size=0), "has size"),
    "a size behind the data that is another": (
        write(HONEST[0], replace(HONEST[1], flags=UTF8 | 0x8, local={"size": 5})),
        "has size",
    ),
    "zip64 without its field": (local(size=0xFFFFFFFF), "zip64 field"),
    "zip64 with a field too short": (
        local(size=0xFFFFFFFF, extra=struct.pack("<2HI", 1, 4, 7)),
        "zip64 field",
    ),
    "another size in header and directory": (
        beside(named("a", local={"size": 1}, listed={"size": 1})),
        "two different sizes",
    ),
    "another size in the directory": (listed(size=1), "size 10240 .* 1 in the directory"),
    "both sizes larger in the directory": (listed(size=11000, packed=11000), "packed size|overlaps|directory"),
    "both sizes larger in header and directory": (
        write(
            HONEST[0],
            replace(HONEST[1], local={"size": 11000, "packed": 11000}, listed={"size": 11000, "packed": 11000}),
        ),
        "into the directory",
    ),
    "a header that is longer than the file": (
        write(*HONEST).replace(struct.pack("<2H", len(PARAMS), 0), struct.pack("<2H", 0xFFFF, 0xFFFF), 1),
        "into the directory",
    ),
    "a second name in an extra field": (
        write(HONEST[0], named("other.txt", listed={"extra": unicode_name(b"other.txt", PARAMS)})),
        "extra field",
    ),
    "an offset into another member": (listed(offset=3), "has no header|overlaps"),
    "an offset onto another member": (listed(offset=0), "overlaps|has name"),
    "an offset behind the end": (listed(offset=1 << 30), "1073\\d+ bytes"),
    "no header": (cut_header(), "has no header"),
    "a claim beyond all sizes": (
        beside(named("a", method=DEFLATED, local={"size": 0xFFFFFFF0}, listed={"size": 0xFFFFFFF0})),
        f"claims {0xFFFFFFF0} bytes",
    ),
    "a bomb by its claim": (beside(named("a", data=ZEROS, method=DEFLATED)), "times its size"),
    "the wanted file is a bomb": (write(HONEST[0], named(PARAMS, data=ZEROS, method=DEFLATED)), "times its size"),
    "a bomb that claims to be small": (
        write(HONEST[0], named(PARAMS, data=ZEROS, method=DEFLATED, local={"size": 100}, listed={"size": 100})),
        "more .* 100 bytes",
    ),
    "less than it claims": (
        write(HONEST[0], named(PARAMS, data=b"abc", method=DEFLATED, local={"size": 9}, listed={"size": 9})),
        "3 bytes .* 9 bytes",
    ),
    "a broken stream": (
        write(HONEST[0], replace(named(PARAMS, data=b"\xff" * 50), local={"method": 8}, listed={"method": 8})),
        "cannot be unpacked",
    ),
    "a broken checksum": (
        write(HONEST[0], replace(HONEST[1], local={"crc": 1}, listed={"crc": 1})),
        "bbce3b9d .* 00000001",
    ),
    "more members than anybody needs": (many_entries(MOST_MEMBERS), "more than 1000"),
    "no member at all": (write(), "found it 0 times"),
    "only the symbol": (write(HONEST[0]), "found it 0 times"),
    "the wanted file two folders deep": (write(HONEST[0], named(f"a/b/{PARAMS}")), "found it 0 times"),
    "the wanted file in two folders": (beside(named(f"a/{PARAMS}")), "found it 2 times"),
    "the wanted name is a folder": (write(HONEST[0], named(f"{PARAMS}/", data=b"", mode=0)), "found it 0 times"),
    "only another archive inside": (nested(), "found it 0 times"),
    # Names
    "a colon, for Windows a second stream": (beside(named(f"{PARAMS}:evil")), "a colon"),
    "a device of Windows": (beside(named("docs/NUL")), "Windows"),
    "a device of Windows with an extension": (beside(named("com1.txt")), "Windows"),
    "a device of Windows with a raised digit": (beside(named("COM\u00b9")), "Windows"),
    "a dot at the end": (beside(named(f"{PARAMS}.")), "dot or a blank"),
    "a blank at the end of a folder": (beside(named("docs /a")), "dot or a blank"),
    "a next-line character": (beside(named("a\x85b")), "control character"),
    "accents written in two ways": (beside(named("\u00e9"), named("e\u0301")), "is listed 2 times"),
    "sharp s and double s": (beside(named("stra\u00dfe"), named("STRASSE")), "is listed 2 times"),
    "a name that is not UTF-8": (beside(named(b"\xff\xfe")), "UTF-8"),
    "inside a file": (beside(named("a"), named("A/b")), "'A/b' .* 'a'"),
    "inside the wanted file": (beside(named(f"{PARAMS}/b")), "'sshb-0000.params/b'"),
    "another name in an extra field, with the checksum of none": (
        beside(named("a", listed={"extra": extra(0x7075, b"\x01\0\0\0\0../b")})),
        "extra field",
    ),
    "an empty other name": (beside(named("a", listed={"extra": unicode_name(b"a", "")})), "extra field"),
    "another name in the extra field of the header": (with_extra(0x7075, b"\x01\0\0\0\0b"), "extra field"),
    "two other names": (
        beside(named("a", listed={"extra": unicode_name(b"a", "a") + unicode_name(b"a", PARAMS)})),
        "field twice",
    ),
    # Kinds
    "a link, by a writer on DOS": (
        beside(named("link", data=b"/etc", mode=stat.S_IFLNK | 0o777, system=0)),
        "a link",
    ),
    "a link, by a writer on macOS": (beside(named("link", mode=stat.S_IFLNK, system=19)), "a link"),
    "a reparse point of Windows": (beside(named("a", system=10, listed={"attributes": 0x400})), "Windows"),
    "a volume's label": (beside(named("a", system=0, listed={"attributes": 0x8})), "Windows"),
    "a folder of DOS called a file": (beside(named("a", system=0, listed={"attributes": 0x10})), "a folder in one"),
    "a link in PKWARE's extra field": (with_extra(0xD, bytes(12) + b"/etc/passwd"), "a link"),
    "a link in ASi's extra field": (with_extra(0x756E, bytes(14) + b"/etc/passwd"), "a link"),
    "a link's mode in ASi's extra field": (
        with_extra(0x756E, struct.pack("<IH8x", 0, stat.S_IFLNK)),
        "a link",
    ),
    "patched data": (beside(named("a", flags=UTF8 | 0x20)), "some are unknown"),
    "an encrypted directory": (beside(named("a", flags=UTF8 | 0x2041)), "is encrypted"),
    "AES": (beside(named("a", flags=UTF8 | 1, method=99)), "is encrypted"),
    "deflate64": (write(HONEST[0], replace(HONEST[1], method=9)), "method 9"),
    # Extra fields
    "an extra field that is cut off": (
        beside(named("a", local={"extra": b"UT\x09\0\x03"})),
        "extra field .* cut off",
    ),
    "an extra field of NTFS that is longer than all": (
        beside(named("a", listed={"extra": b"\x0a\0\xff\xff" + bytes(20)})),
        "extra field .* cut off",
    ),
    "bytes behind the extra fields": (beside(named("a", local={"extra": b"\0\0\0"})), "extra field .* cut off"),
    "zip64 field": (with_extra(1, bytes(16)), "a zip64 field that nothing needs"),
    "an empty zip64 field": (with_extra(1, b""), "zip64 field"),
    "two zip64 fields": (local(size=0xFFFFFFFF, extra=2 * extra(1, bytes(16))), "field twice"),
    "another size in the zip64 field": (
        local(size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=extra(1, struct.pack("<2Q", 5, 10240))),
        "size 5 ",
    ),
    "another packed size in the zip64 field": (
        local(size=0xFFFFFFFF, extra=extra(1, struct.pack("<2Q", 10240, 5))),
        "5 in its zip64 field",
    ),
    "an offset beyond all in a zip64 field": (
        listed(offset=0xFFFFFFFF, extra=extra(1, struct.pack("<Q", 1 << 63))),
        "belong to no member|has no header",
    ),
    "an offset of minus one in a zip64 field": (
        listed(offset=0xFFFFFFFF, extra=extra(1, b"\xff" * 8)),
        "belong to no member|has no header",
    ),
    "a size of minus one in a zip64 field": (
        listed(size=0xFFFFFFFF, extra=extra(1, b"\xff" * 8)),
        f"size 10240 .* {2**64 - 1}",
    ),
    # Bytes that belong to nothing
    "bytes before the first member": (b"#!/bin/sh\n" + write(*HONEST), "directory ends at"),
    "bytes before the first member, and offsets that know of them": (
        write(replace(HONEST[0], listed={"offset": 4}), replace(HONEST[1], listed={"offset": 4 + 45})),
        "first member",
    ),
    "bytes before the only directory": (write(before=b"abc"), "first member"),
    "bytes between two members": (write(replace(HONEST[0], behind=b"abc"), HONEST[1]), "followed by 3 bytes"),
    "a member that is not listed": (
        write(replace(HONEST[0], behind=write(named("hidden"))[:47]), HONEST[1]),
        "47 bytes",
    ),
    "bytes before the directory": (write(*HONEST, before=b"PK\x06\x08abc"), "followed by 7 bytes"),
    "bytes between the directory and its end": (write(*HONEST, end64=b"abc"), "directory ends at"),
    "bytes at the end of the file": (write(*HONEST) + b"%PDF", "no end record"),
    "zeros at the end of the file": (write(*HONEST) + bytes(1000), "no end record"),
    "two archives, one behind the other": (write(named("a")) + write(*HONEST), "directory ends at"),
    "a picture with an archive behind it": (b"\x89PNG\r\n\x1a\n" + write(*HONEST), "directory ends at"),
    # The end records
    "an end record in the comment of another": (write(*HONEST, comment=write(*HONEST)), "several end records"),
    "an end record in the comment, whose own comment is too long": (
        write(*HONEST, comment=write(comment=b"abc")[:-1]),
        "several end records",
    ),
    "an end record that begins inside another": (
        write(*HONEST, comment=end_record_inside_another()),
        "several end records",
    ),
    "a comment longer than the file": (write(*HONEST, comment=b"abc")[:-1], "no end record"),
    "no entry where one is counted": (write(*HONEST, end={"here": 3, "count": 3}), "entry 3 of the 3"),
    "one entry more than counted": (write(*HONEST, end={"here": 1, "count": 1}), "the 1 members"),
    "none counted": (write(*HONEST, end={"here": 0, "count": 0}), "does not begin|the 0 members"),
    "the first of two parts": (write(*HONEST, end={"here": 1}), "archive of several"),
    "the second of two parts": (
        write(*HONEST, end={"disk": 1, "directory_disk": 1}),
        "archive of several",
    ),
    "a member in another part": (write(HONEST[0], replace(HONEST[1], listed={"disk": 1})), "in another part"),
    "a directory that is said to be longer": (write(*HONEST, end={"length": 999}), "directory ends at"),
    "a directory that is said to be elsewhere": (write(*HONEST, end={"offset": 10}), "directory ends at"),
    "a directory before the file": (write(*HONEST, end={"offset": 0xFFFFFFF0}), "directory ends at"),
    "a directory that begins too late": (
        write(*HONEST, end={"offset": zip_lengths(*HONEST)[0] + 5, "length": zip_lengths(*HONEST)[1] - 5}),
        "entry 1 of the 2",
    ),
    "a directory of 2 MB": (huge_directory(2 << 20), "2 members in 2097276 bytes"),
    "65535 members": (write(*HONEST, end={"here": 0xFFFF, "count": 0xFFFF}), "lists 65535 members"),
    "an entry that is cut off": (
        write(HONEST[0], replace(HONEST[1], listed={"comment": b"abcdef"}))[:-25]
        + write(end={"here": 2, "count": 2, "length": zip_lengths(*HONEST)[1] + 3, "offset": zip_lengths(*HONEST)[0]}),
        "entry 2 .* cut off",
    ),
    "an entry of which only the beginning is there": (cut_entry(), "entry 2 of the 2"),
    "a digital signature in the directory": (
        write(*HONEST, end64=b"PK\x05\x05\x01\0a", end={"length": zip_lengths(*HONEST)[1] + 7}),
        "the 2 members",
    ),
    "no zip64 end record": (write(*HONEST, end=ELSEWHERE), "lists 65535 members"),
    "a zip64 end record that counts more": (zip64(here=3, count=3), "entry 3 of the 3"),
    "a zip64 end record that counts billions": (zip64(here=1 << 40, count=1 << 40), f"lists {1 << 40} members"),
    "a zip64 directory of 16 exabytes": (zip64(size=2**64 - 1), "too many bytes"),
    "a zip64 directory elsewhere": (zip64(offset=0), "directory ends at"),
    "a zip64 directory at a negative offset": (zip64(offset=2**64 - 8), "directory ends at"),
    "a zip64 end record of another version": (zip64(length=60), "of version 1"),
    "a zip64 end record elsewhere": (zip64(place=0), "zip64 end record"),
    "a zip64 end record in another part": (zip64(locator_disk=1), "zip64 end record"),
    "a zip64 end record of several parts": (zip64(disks=2), "zip64 end record"),
    "a zip64 end record of the second part": (zip64(disk=1, directory_disk=1), "two end records"),
    "a zip64 end record that contradicts the other": (
        write(*HONEST, end64=end64(*HONEST, here=1, count=1)),
        "two end records",
    ),
    "a zip64 end record without its signature": (
        zip64().replace(b"PK\x06\x06", b"PK\x06\x00"),
        "zip64 end record",
    ),
    "a locator without its record": (write(*HONEST, end64=end64(*HONEST)[56:]), "zip64 end record"),
    "a locator at the beginning of the file": (end64()[56:] + write(), "zip64 end record"),
    # Sizes behind the data
    "another size behind the data": (write(HONEST[0], descriptor(HONEST[1], size=1)), "other sizes behind"),
    "another checksum behind the data": (write(HONEST[0], descriptor(HONEST[1], crc=1)), "other sizes behind"),
    "another packed size behind the data": (write(HONEST[0], descriptor(HONEST[1], packed=1)), "other sizes behind"),
    "another size behind the data, in 64 bits": (
        write(HONEST[0], descriptor(HONEST[1], "<I2Q", size=1)),
        "other sizes behind",
    ),
    "no size behind the data": (write(HONEST[0], replace(descriptor(HONEST[1]), behind=b"")), "other sizes behind"),
    "bytes behind the size behind the data": (
        write(HONEST[0], descriptor(HONEST[1], "<I2Q"), before=b"a"),
        "other sizes behind",
    ),
    # Data
    "more than it claims, of which the first bytes are right": (
        stored_as_deflated(deflated(b"abcdef"), b"abc"),
        "more .* 3 bytes",
    ),
    "bytes behind the packed data": (stored_as_deflated(deflated(b"abc") + b"more", b"abc"), "behind its packed"),
    "a packed stream without its end": (stored_as_deflated(deflated(b"abc" * 999)[:-2], b"abc" * 999), "is cut off"),
    "no packed data": (stored_as_deflated(b"", b"abc"), "is cut off"),
    "a bomb inside what it claims": (
        write(HONEST[0], named(PARAMS, data=bytes(1 << 20), method=DEFLATED, local={"size": 99}, listed={"size": 99})),
        "more .* 99 bytes",
    ),
    "bytes behind packed data that end with a piece": (behind_a_whole_piece(), "behind its packed"),
    "a bomb beside the wanted files": (beside(named("a", data=bytes(1 << 21), method=DEFLATED)), "times its size"),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(path, MODEL, tmp_path / "sub" / "out")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [found for found in tmp_path.rglob("*") if not found.is_dir()] == [path]


TEXT = b"the quick brown fox " * 99


def lzma_packed(length: int = 5, packing: int = 0x5D, dictionary: int = 1 << 16) -> bytes:
    """`TEXT` as LZMA has it in a zip: the packer's version, what its properties say, and the stream."""
    kind = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}
    packed = lzma.compress(TEXT, lzma.FORMAT_RAW, filters=[kind])
    return struct.pack("<2sHBI", b"\x09\x04", length, packing, dictionary) + packed


def packed_by_lzma(packed: bytes) -> io.BytesIO:
    claims: dict[str, int | bytes] = {"method": 14, "size": len(TEXT), "crc": zlib.crc32(TEXT)}
    return io.BytesIO(write(named("a", data=packed, local=claims, listed=claims)))


def test_a_member_that_is_packed_by_lzma_is_read() -> None:
    """No checkpoint's archive has one, but reference packs do."""
    file = packed_by_lzma(lzma_packed())
    (member,) = read_members(file)
    assert b"".join(stream(file, member)) == TEXT


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        pytest.param(lzma_packed()[:8], "cut off", id="cut off in its head"),
        pytest.param(lzma_packed()[:-9], "cut off", id="cut off"),
        pytest.param(lzma_packed()[:12] + bytes(40), "cannot be unpacked", id="broken"),
        pytest.param(lzma_packed(length=6), "unknown properties", id="properties of another length"),
        pytest.param(lzma_packed(packing=225), "unknown properties", id="properties that no packer has"),
        pytest.param(lzma_packed(dictionary=(16 << 20) + 1), "asks for 16777217 bytes", id="a dictionary of 16 MB"),
        pytest.param(lzma_packed() + b"more", "behind its packed", id="something behind it"),
    ],
)
def test_a_broken_or_hostile_lzma_stream_is_refused(packed: bytes, message: str) -> None:
    file = packed_by_lzma(packed)
    (member,) = read_members(file)
    with pytest.raises(RefusedError, match=message):
        list(stream(file, member))


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused() -> None:
    file = io.BytesIO(write(*HONEST))
    _, member = read_members(file)
    file.truncate(5000)
    with pytest.raises(RefusedError, match="became shorter"):
        list(stream(file, member))


@pytest.mark.skipif(not UNREADABLE.is_file(), reason=f"{UNREADABLE}, which opens and then cannot be read, is Linux's")
def test_a_file_that_opens_and_cannot_be_read_is_one_named_error() -> None:
    with open_archive(UNREADABLE) as archive, pytest.raises(ArchiveError, match=r"cannot be read \(Input/output error"):
        archive.digest()


SMALL = (named(SYMBOL, data=b"{}"), named(PARAMS, data=bytes(range(64)) * 2, method=DEFLATED))
CONTENTS = {member.name.decode(): member.data for member in SMALL}

# Honest zips of the same two files, as different writers make them: the seeds of the mutations.
WRITERS: dict[str, bytes] = {
    "plain": write(*SMALL),
    "with others beside, and comments": write(
        named("docs/", data=b"", mode=stat.S_IFDIR | 0o755, listed={"attributes": (stat.S_IFDIR | 0o755) << 16 | 0x10}),
        replace(SMALL[0], listed={"comment": b"the network"}),
        SMALL[1],
        comment=b"packed by hand",
    ),
    "by DOS, in a folder": write(*(replace(member, name=b"ssh/" + member.name, mode=0, system=0) for member in SMALL)),
    "sizes behind the data": write(*map(descriptor, SMALL)),
    "sizes behind the data, without a signature": write(*(descriptor(item, signature=b"") for item in SMALL)),
    "sizes of 64 bits behind the data": write(*(descriptor(item, "<I2Q") for item in SMALL)),
    "sizes of 64 bits without a signature": write(*(descriptor(item, "<I2Q", b"") for item in SMALL)),
    "zip64": write(
        *(
            replace(
                item,
                local={
                    "size": 0xFFFFFFFF,
                    "packed": 0xFFFFFFFF,
                    "extra": extra(1, struct.pack("<2Q", len(item.data), len(item.packed()))),
                },
                listed={"size": 0xFFFFFFFF, "extra": extra(1, struct.pack("<Q", len(item.data)))},
            )
            for item in SMALL
        )
    ),
    "a zip64 end record": write(*SMALL, end64=end64(*SMALL), end=ELSEWHERE),
    "a zip64 end record beside one that says all": write(*SMALL, end64=end64(*SMALL)),
    "times and owners in extra fields": write(
        *(
            replace(
                item,
                local={"extra": extra(0x5455, b"\x03" + bytes(8)) + extra(0x7875, b"\x01\x04\0\0\0\0\x04\0\0\0\0")},
                listed={"extra": extra(0x5455, b"\x03" + bytes(4)) + extra(0x756E, struct.pack("<IH8x", 0, 0o100644))},
            )
            for item in SMALL
        )
    ),
    "a name that is not ASCII, and again in an extra field": write(
        *SMALL,
        named("l\u00edesme", flags=0, listed={"extra": unicode_name("l\u00edesme".encode(), "l\u00edesme")}),
        named(b"l\xa1esme2", flags=0, local={"extra": unicode_name(b"l\xa1esme2", "l\u00edesme2")}),
    ),
}


def unpacked(data: bytes, folder: Path) -> dict[str, bytes] | None:
    """What comes out of an archive; None if it is refused, and then nothing is there."""
    path = folder / "a.zip"
    path.write_bytes(data)
    try:
        unpack(path, MODEL, folder / "out")
    except ArchiveError as error:
        message = str(error)
        if not message.startswith(f"{path}: ") or "\n" in message or [*folder.glob("out/*")]:
            raise AssertionError(message) from error
        return None
    found = {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
    for name in found:
        (folder / "out" / name).unlink()
    assert sorted(file.name for file in folder.iterdir()) == ["a.zip", "out"]
    return found


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.mark.parametrize("data", WRITERS.values(), ids=WRITERS)
def test_honest_archives_of_all_kinds_of_writers_are_unpacked(data: bytes, tmp_path: Path) -> None:
    assert unpacked(data, tmp_path) == CONTENTS
    with zipfile.ZipFile(io.BytesIO(data)) as archive:  # and others can read it too, so that it is one
        assert archive.testzip() is None


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP's zip is not installed")
@pytest.mark.parametrize("options", [(), ("-0",), ("-fz",), ("-fd",), ("-X", "-z")], ids="zip {}".format)
def test_archives_of_info_zip_are_unpacked(options: tuple[str, ...], tmp_path: Path) -> None:
    for name, data in CONTENTS.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "l\u00edesme.txt").write_bytes(b"hello")
    command = ["zip", *options, "b.zip", *CONTENTS, "l\u00edesme.txt"]
    subprocess.run(command, cwd=tmp_path, check=True, input=b"a comment", stdout=subprocess.DEVNULL)
    for name in CONTENTS:
        (tmp_path / name).unlink()
    unpack(tmp_path / "b.zip", MODEL, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == CONTENTS


@pytest.mark.parametrize("name", WRITERS)
def test_every_truncation_of_an_archive_is_refused(name: str, fast_folder: Path) -> None:
    whole = WRITERS[name]
    assert [length for length in range(len(whole)) if unpacked(whole[:length], fast_folder)] == []


def test_a_flipped_bit_is_refused_or_changes_nothing_that_is_unpacked(fast_folder: Path) -> None:
    whole = write(*SMALL)
    refused = 0
    for position in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        found = unpacked(bytes(changed), fast_folder)
        assert found in (None, CONTENTS), position
        refused += found is None
    assert refused > 8 * len(whole) // 2


def test_mutations_are_refused_or_change_nothing_with_little_memory_and_time() -> None:
    assert "refused" in run_limited("test_archive:mutate(2_500)")


@pytest.mark.long
def test_many_mutations_are_refused_or_change_nothing() -> None:
    assert "refused" in run_limited("test_archive:mutate(50_000, seed=1)")


def mutate(count: int, seed: int = 0) -> str:
    """For a process of its own: nothing but errors by name, and the original files."""
    seeds = list(WRITERS.values())
    outcomes: Counter[bool] = Counter()
    with folder_in_memory() as folder:
        allow(2 * max(map(len, seeds)))
        for number, data in enumerate(mutants(seeds, count, seed=seed)):
            with timed(number):
                found = unpacked(data, folder)
            assert found in (None, CONTENTS), number
            outcomes[found is None] += 1
    assert min(outcomes.values()) > count // 50, outcomes  # both happen
    return f"{outcomes[True]} refused, {outcomes[False]} read"


def large_directory(size: int) -> bytes:
    """Sixteen million bytes of entries that are all well formed, and hidden behind a count of a few."""
    entry = write(named("a", data=b""))[31:-22]
    entries = entry * (size // len(entry))
    return write(*HONEST)[:-22] + entries + write(end={"length": len(entries), "offset": zip_lengths(*HONEST)[0]})


def bombs() -> Iterator[tuple[str, bytes]]:
    """Archives that would take much memory or time from a reader that believes them."""
    zeros = deflated(bytes(256 << 20))
    claims: dict[str, int | bytes] = {"method": DEFLATED, "size": 50_000_000, "crc": 0}
    yield "a bomb of 256 MB that claims 50 MB", write(HONEST[0], named(PARAMS, data=zeros, local=claims, listed=claims))
    yield "a directory of 64 MB", huge_directory(64 << 20)
    yield "128 MB behind the sizes behind the data", write(HONEST[0], descriptor(HONEST[1]), before=bytes(128 << 20))
    yield "a directory of many entries", large_directory(16 << 20)
    yield "many members", many_entries(60_000)
    yield "end records everywhere", write(*HONEST) + b"PK\x05\x06" * 16_000
    yield "a comment of end records", write(*HONEST, comment=b"PK\x05\x06" * 16_000)
    yield (
        "a directory full of extra fields",
        write(
            HONEST[0],
            *(named(f"{n}", data=b"", listed={"extra": extra(7, b"") * 16_000}) for n in range(20)),
            HONEST[1],
        ),
    )
    slow = b"\x00\x00\x00\xff\xff" * 1_000_000 + deflated(b"abc")  # a million empty blocks
    yield "a million empty blocks", stored_as_deflated(slow, b"abc")


def explode() -> str:
    """For a process of its own: each bomb refused, or harmless."""
    made = list(bombs())
    lines = []
    with folder_in_memory() as folder:
        path = folder / "a.zip"
        allow(0)  # before the largest file is known to the reader: it may take no more for any
        for name, data in made:
            path.write_bytes(data)
            with timed(name):
                try:
                    unpack(path, MODEL, folder / "out")
                    lines.append(f"{name}: unpacked")
                except ArchiveError as error:
                    lines.append(f"{name}: {error}")
    return "\n".join(lines)


def test_bombs_take_little_memory_and_time() -> None:
    lines = run_limited("test_archive:explode()").splitlines()
    assert len(lines) == 9
    assert [line.partition(":")[0] for line in lines if line.endswith(": unpacked")] == ["a million empty blocks"]


@pytest.mark.parametrize("when", ["hashing", "unpacking"])
@pytest.mark.parametrize("change", ["grows", "shrinks", "another"])
def test_an_archive_that_changes_while_it_is_read_is_an_error(when: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(write(*HONEST))
    os.utime(path, ns=(0, 0))
    with open_archive(path) as archive:
        with path.open("r+b") as file:
            if change == "another":
                file.write(write(named("x")))
            else:
                file.truncate(path.stat().st_size + (10 if change == "grows" else -10))
        with pytest.raises(ArchiveError, match="changed while"):
            archive.digest() if when == "hashing" else archive.unpack(MODEL, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_in_the_place_of_an_open_archive_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(write(*HONEST))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        archive = Archive(path, file)
        (tmp_path / "b.zip").write_bytes(write(*SMALL))
        (tmp_path / "b.zip").replace(path)
        archive._state = state(file)  # the number of its links has changed, and with it a time
        assert archive.digest() == digest
        archive.unpack(MODEL, tmp_path / "out")
    assert (tmp_path / "out" / PARAMS).read_bytes() == HONEST[1].data


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere", "a name too long", "a zero byte"])
def test_what_is_no_file_is_no_archive_and_does_not_hang(kind: str, tmp_path: Path) -> None:
    path = {"device": Path("/dev/zero"), "a name too long": tmp_path / ("x" * 5000), "a zero byte": Path("a\0b")}.get(
        kind, tmp_path / "there"
    )
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    assert not is_archive(path)
    with pytest.raises(ArchiveError, match=r"cannot be read \(.*\); check the path"):
        unpack(path, MODEL, tmp_path / "out")


@pytest.mark.long
def test_the_fuzzer_finds_nothing_in_a_minute(tmp_path: Path) -> None:
    assert run_fuzzer("archive", WRITERS.values(), tmp_path) > 10_000
