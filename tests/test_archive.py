"""Archives that no honest tool makes: each is refused by name, and nothing is written anywhere."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sshconvert.errors import ArchiveError
from sshconvert.models import load_model
from sshtool.checkpoint.archive import unpack
from sshtool.checkpoint.zipcheck import MOST_MEMBERS

MODEL = load_model("ssh-mxnet")
SYMBOL, PARAMS = MODEL.files.symbol, MODEL.files.params
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
UTF8 = 0x800


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

    def fields(self) -> dict[str, int | bytes]:
        packed = self.packed()
        return {
            "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.data), "packed": len(packed),
            "size": len(self.data), "name": self.name, "extra": b"",
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


def write(*members: Member) -> bytes:
    body, directory = b"", b""
    for member in members:
        own = member.fields() | member.local
        there = member.fields() | member.listed
        offset = there.get("offset", len(body))
        body += b"PK\x03\x04" + header(own) + bytes(own["name"]) + bytes(own["extra"]) + member.packed()
        directory += b"PK\x01\x02" + struct.pack("<H", 0x31E) + header(there)
        directory += struct.pack("<3H2I", 0, 0, 0, member.mode << 16, offset) + bytes(there["name"])
        directory += bytes(there["extra"])
    count = len(members)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def named(name: str | bytes, **changes: object) -> Member:
    return replace(Member(name if isinstance(name, bytes) else name.encode()), **changes)  # type: ignore[arg-type]


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

    for number, (stream, force) in enumerate([(Pipe(), False), (io.BytesIO(), True), (Pipe(), True)]):
        with zipfile.ZipFile(stream, "w", DEFLATED) as archive:
            for name in (SYMBOL, PARAMS):
                info = zipfile.ZipInfo(f"ssh/{name}")
                info.compress_type = DEFLATED
                with archive.open(info, "w", force_zip64=force) as member:
                    member.write(bytes(range(256)) * 1000)
        path = tmp_path / f"{number}.zip"
        path.write_bytes(stream.getvalue())
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
    value = struct.pack("<BI", 1, zlib.crc32(listed)) + name.encode()
    return struct.pack("<2H", 0x7075, len(value)) + value


ZEROS = bytes(3 << 20)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute path": (beside(named("/etc/passwd")), "absolute path"),
    "absolute path of the wanted file": (write(HONEST[0], named(f"/{PARAMS}")), "absolute path"),
    "drive": (beside(named("C:evil.txt")), "absolute path"),
    "drive with a slash": (beside(named("c:/evil.txt")), "absolute path"),
    "network share": (beside(named("//server/share/a")), "absolute path"),
    "parent": (beside(named("../evil.txt")), "leads out of the folder"),
    "parent inside": (beside(named("a/../../evil.txt")), "leads out of the folder"),
    "parent of the wanted file": (write(HONEST[0], named(f"../{PARAMS}")), "leads out of the folder"),
    "parent folder": (beside(named("..", data=b"")), "leads out of the folder"),
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
    "link": (beside(named("link", data=b"/etc", mode=stat.S_IFLNK | 0o777)), "a link or a device"),
    "the wanted file is a link": (
        write(HONEST[0], named(PARAMS, data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)),
        "a link or a device",
    ),
    "device": (beside(named("dev", mode=stat.S_IFCHR)), "a link or a device"),
    "block device": (beside(named("dev", mode=stat.S_IFBLK)), "a link or a device"),
    "pipe": (beside(named("pipe", mode=stat.S_IFIFO)), "a link or a device"),
    "socket": (beside(named("socket", mode=stat.S_IFSOCK)), "a link or a device"),
    "a folder called a file": (beside(named("a/", data=b"", mode=stat.S_IFREG)), "a folder in one place"),
    "a file called a folder": (beside(named("a", mode=stat.S_IFDIR)), "a folder in one place"),
    "a folder with content": (beside(named("a/", mode=stat.S_IFDIR)), "a folder with something in it"),
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
    "zip64 without its field": (local(size=0xFFFFFFFF), "a size that is not in its header"),
    "zip64 with a field too short": (
        local(size=0xFFFFFFFF, extra=struct.pack("<2HI", 1, 4, 7)),
        "a size that is not in its header",
    ),
    "another size in the directory": (listed(size=1), "two different sizes"),
    "both sizes larger in the directory": (listed(size=11000, packed=11000), "packed size|overlaps|directory"),
    "both sizes larger in header and directory": (
        write(
            HONEST[0],
            replace(HONEST[1], local={"size": 11000, "packed": 11000}, listed={"size": 11000, "packed": 11000}),
        ),
        "reaches into the directory",
    ),
    "a header that is longer than the file": (
        write(*HONEST).replace(struct.pack("<2H", len(PARAMS), 0), struct.pack("<2H", 0xFFFF, 0xFFFF), 1),
        "a header that is cut off",
    ),
    "a second name in an extra field": (
        write(HONEST[0], named("other.txt", listed={"extra": unicode_name(b"other.txt", PARAMS)})),
        "is also called|found it 0 times",
    ),
    "an offset into another member": (listed(offset=3), "has no header|overlaps"),
    "an offset onto another member": (listed(offset=0), "overlaps|has name"),
    "an offset behind the end": (listed(offset=1 << 30), "has no header|cannot be unpacked"),
    "no header": (cut_header(), "has no header"),
    "a claim beyond all sizes": (
        beside(named("a", listed={"size": 0xFFFFFFF0, "packed": 0xFFFFFFF0})),
        f"claims {0xFFFFFFF0} bytes",
    ),
    "a bomb by its claim": (beside(named("a", data=ZEROS, method=DEFLATED)), "times its size"),
    "the wanted file is a bomb": (write(HONEST[0], named(PARAMS, data=ZEROS, method=DEFLATED)), "times its size"),
    "a bomb that claims to be small": (
        write(HONEST[0], named(PARAMS, data=ZEROS, method=DEFLATED, local={"size": 100}, listed={"size": 100})),
        "cannot be unpacked|unpacks to more",
    ),
    "less than it claims": (
        write(HONEST[0], named(PARAMS, data=b"abc", method=DEFLATED, local={"size": 9}, listed={"size": 9})),
        "unpacks to 3 bytes instead of 9|cannot be unpacked",
    ),
    "a broken stream": (
        write(HONEST[0], replace(named(PARAMS, data=b"\xff" * 50), local={"method": 8}, listed={"method": 8})),
        "cannot be unpacked",
    ),
    "a broken checksum": (
        write(HONEST[0], replace(HONEST[1], local={"crc": 1}, listed={"crc": 1})),
        "cannot be unpacked",
    ),
    "more members than anybody needs": (
        write(*HONEST, *(named(f"{number}", data=b"") for number in range(MOST_MEMBERS))),
        "more than 1000",
    ),
    "no member at all": (write(), "found it 0 times"),
    "only the symbol": (write(HONEST[0]), "found it 0 times"),
    "the wanted file two folders deep": (write(HONEST[0], named(f"a/b/{PARAMS}")), "found it 0 times"),
    "the wanted file in two folders": (beside(named(f"a/{PARAMS}")), "found it 2 times"),
    "the wanted name is a folder": (write(HONEST[0], named(f"{PARAMS}/", data=b"", mode=0)), "found it 0 times"),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(path, MODEL, tmp_path / "sub" / "out")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    written = {found.name for found in tmp_path.rglob("*") if found.is_file()}
    assert written <= {"a.zip", SYMBOL}, written  # the symbol may have been unpacked before the parameters were read


SMALL = (named(SYMBOL, data=b"{}"), named(PARAMS, data=bytes(range(64)) * 2, method=DEFLATED))


def unpacked(data: bytes, folder: Path) -> dict[str, bytes] | None:
    """What comes out of an archive; None if it is refused."""
    path = folder / "a.zip"
    path.write_bytes(data)
    try:
        unpack(path, MODEL, folder)
    except ArchiveError:
        return None
    return {name: (folder / name).read_bytes() for name in (SYMBOL, PARAMS)}


def test_every_truncation_of_an_archive_is_refused(tmp_path: Path) -> None:
    whole = write(*SMALL)
    assert unpacked(whole, tmp_path)
    assert [length for length in range(len(whole)) if unpacked(whole[:length], tmp_path)] == []


def test_a_flipped_bit_is_refused_or_changes_nothing_that_is_unpacked(tmp_path: Path) -> None:
    whole = write(*SMALL)
    expected, refused = unpacked(whole, tmp_path), 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        found = unpacked(bytes(changed), tmp_path)
        assert found in (None, expected), position
        refused += found is None
    assert refused > len(whole) // 2
