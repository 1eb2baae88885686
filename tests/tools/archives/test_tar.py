"""Packages as tar.gz: those of common packers are read as they read them themselves, and what no packer makes is
refused in bounded memory. `test_check` has the refusals that are about packages, not about tar.
"""

from __future__ import annotations

import gzip
import io
import random
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fuzz_tar import read_as_tarfile_does
from fuzzing import run_fuzzer
from limited_process import allow, run_limited, timed
from mutations import mutants
from sshconvert.errors import PackageError
from sshtool.archives.tar_layout import LARGEST_RECORDS, TarFile, read_files
from sshtool.archives.zip_check import SMALL, ArchiveLimits
from sshtool.archives.zip_layout import RefusedError
from sshtool.package.unpacking import opened

LIMITS: Final = ArchiveLimits(largest=64 << 20)
CONTENTS: Final = {
    "package/a": b"hello",
    "package/b/empty": b"",
    "package/b/block": bytes(range(256)) * 2,
    f"package/{'long/' * 30}name": b"more than 100 characters" * 50,
}


def header(name: str = "package/a", size: int | bytes = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The block of a member that claims that size, or has those bytes in its place."""
    made = tarfile.TarInfo(name)
    made.size, made.type = 0 if isinstance(size, bytes) else size, kind
    block = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    if isinstance(size, bytes):
        block[124:136] = size.ljust(12, b"\0")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(data: bytes, name: str = "package/a", kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    """A PAX record."""
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return str(length).encode() + text


def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member(b"".join(records), "././@PaxHeader", kind)


END: Final = bytes(1024)
FILE: Final = member(b"hello")
RANDOM: Final = random.Random(0).randbytes(100_000)  # noqa: S311  # repeatable, not secret


def written(style: int, **options: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=style, **options) as archive:  # type: ignore[call-overload]  # its stubs know no format that is a variable
        for name, content in CONTENTS.items():
            made = tarfile.TarInfo(name)
            made.size = len(content)
            archive.addfile(made, io.BytesIO(content))
    return data.getvalue()


WRITERS: Final[dict[str, bytes]] = {
    "ustar": written(tarfile.USTAR_FORMAT),
    "GNU": written(tarfile.GNU_FORMAT),
    "PAX": written(tarfile.PAX_FORMAT),
    "PAX with a comment for all": written(tarfile.PAX_FORMAT, pax_headers={"comment": "a commit", "mtime": "1.5"}),
    "a name by both kinds": (
        extended(record("path", "package/b")) + member(b"package/b\0", kind=tarfile.GNUTYPE_LONGNAME) + FILE + END
    ),
    "a size of 64 bits": header(size=b"\x80" + bytes(10) + b"\5") + FILE[512:] + END,
    "a kind of old": member(b"hello", kind=tarfile.AREGTYPE) + END,
    "padded": FILE + END + bytes((1 << 20) - 512),
}


def read(data: bytes, limits: ArchiveLimits = LIMITS) -> list[tuple[str, bytes]]:
    """What is in a tar, in its order."""
    return [(file.name, b"".join(file.pieces)) for file in read_files(io.BytesIO(data), limits)]


def packed(data: bytes, level: int = 6) -> bytes:
    return gzip.compress(data, level, mtime=0)


@pytest.mark.parametrize("data", WRITERS.values(), ids=WRITERS)
def test_what_packers_write_is_read_as_they_read_it(data: bytes) -> None:
    assert read(packed(data, 0))
    assert read(packed(data, 0)) == read_as_tarfile_does(data)


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
@pytest.mark.parametrize("style", ["ustar", "gnu", "pax", "v7"])
def test_what_tar_writes_is_read(style: str, tmp_path: Path) -> None:
    contents = {name: data for name, data in CONTENTS.items() if len(name) < 100 or style != "v7"}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    command = ["tar", "-czf", "package.tar.gz", f"--format={style}", *contents]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    if "Invalid argument" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip(f"this tar does not write {style}")
    assert done.returncode == 0, done.stderr
    assert dict(read((tmp_path / "package.tar.gz").read_bytes())) == contents


def test_a_file_that_is_not_read_is_skipped() -> None:
    data = packed(member(b"x" * 3_000_000) + member(b"y", "package/b") + END)
    assert [file.name for file in read_files(io.BytesIO(data), ArchiveLimits(ratio=1e9))] == ["package/a", "package/b"]


# --- Hostile ones -----------------------------------------------------------------------------------------------------


def with_gzip_header(flags: int, fields: bytes) -> bytes:
    """FILE in a gzip whose header has those fields."""
    whole = packed(FILE + END)
    return whole[:3] + bytes([flags]) + whole[4:10] + fields + whole[10:]


HOSTILE: Final[dict[str, tuple[bytes, str]]] = {
    "an extended header of 6 GB": (packed(header("p", 6 << 30, tarfile.XHDTYPE)), "extended header of 6442450944"),
    "one for all of 6 GB": (packed(header("p", 6 << 30, tarfile.XGLTYPE)), "extended header of 6442450944"),
    "a long name of 6 GB": (packed(header("p", 6 << 30, tarfile.GNUTYPE_LONGNAME)), "extended header of 6442450944"),
    "a long link of 6 GB": (packed(header("p", 6 << 30, tarfile.GNUTYPE_LONGLINK)), "is a link"),
    "an extended header one byte too long": (
        packed(extended(record("comment", "x" * (LARGEST_RECORDS - 13))) + FILE + END),
        f"extended header of {LARGEST_RECORDS + 1} bytes",
    ),
    "two extended headers in a row": (packed(extended(record("a", "b")) * 2 + FILE + END), "several extended headers"),
    "two long names in a row": (
        packed(member(b"a\0", kind=tarfile.GNUTYPE_LONGNAME) * 2 + FILE + END),
        "several extended headers",
    ),
    "two extended headers for all": (
        packed((extended(record("a", "b"), kind=tarfile.XGLTYPE) + FILE) * 2 + END),
        "several extended headers",
    ),
    "extended headers of two kinds in turn": (
        packed((extended(record("a", "b")) + member(b"a\0", kind=tarfile.GNUTYPE_LONGNAME)) * 5000 + FILE + END),
        "several extended headers",
    ),
    "an extended header for no file": (packed(FILE + extended(record("a", "b")) + END), "no file"),
    "an extended header of negative size": (
        packed(header("p", kind=tarfile.XHDTYPE, size=b"\xff" * 12) + FILE + END),
        "is no number",
    ),
    "a name for all files": (
        packed(extended(record("path", "package/b"), kind=tarfile.XGLTYPE) + FILE + END),
        "to all files",
    ),
    "a size for all files": (packed(extended(record("size", "5"), kind=tarfile.XGLTYPE) + FILE + END), "to all files"),
    "two other names": (
        packed(extended(record("path", "b")) + member(b"c\0", kind=tarfile.GNUTYPE_LONGNAME) + FILE + END),
        "names or sizes",
    ),
    "a long name with a zero in it": (
        packed(member(b"a\0b\0", kind=tarfile.GNUTYPE_LONGNAME) + FILE + END),
        "no name",
    ),
    "a file with the name of a folder": (packed(member(b"hello", "package/a/") + END), "no name"),
    "another size": (packed(extended(record("size", "6")) + FILE + END), "names or sizes"),
    "a size of 64 bits and another": (packed(extended(record("size", "1")) + header(size=b"\x80")), "other names or"),
    "a sparse file": (packed(header(kind=tarfile.GNUTYPE_SPARSE) + END), "unknown"),
    "a sparse file by records": (packed(extended(record("GNU.sparse.major", "1")) + FILE + END), "has no place"),
    "a character set": (packed(extended(record("hdrcharset", "BINARY")) + FILE + END), "has no place"),
    "a record twice": (packed(extended(*[record("path", "b")] * 2) + FILE + END), "twice"),
    "a record without a length": (packed(extended(b"path=b\n") + FILE + END), "malformed"),
    "a record of length 0": (packed(extended(b"0 path=b\n") + FILE + END), "malformed"),
    "a record with a length and no blank": (packed(extended(b"000012path=b\n") + FILE + END), "malformed"),
    "a record that is too short": (packed(extended(b"8 path=b\n") + FILE + END), "malformed"),
    "a record that is too long": (packed(extended(b"99 path=b\n") + FILE + END), "malformed"),
    "a record without a line feed": (packed(extended(b"9 path=bc") + FILE + END), "malformed"),
    "a record without a key": (packed(extended(b"9 path_b\n") + FILE + END), "malformed"),
    "zeros behind a record": (packed(extended(record("a", "b") + bytes(9)) + FILE + END), "malformed"),
    **{
        f"a member of kind {kind}": (packed(header(kind=kind.encode()) + END), "unknown")
        for kind in ("1", "2", "3", "4", "5", "6", "7", "D", "K", "M", "N", "S", "V", "X", "Z")
    },
    "a negative size": (packed(header(size=b"\xff" * 12) + END), "is no number"),
    "an absurd size": (packed(header(size=b"\x80" + b"\xff" * 11) + END), "holds more than"),
    "a size that is no number": (packed(header(size=b"hello") + END), "no header"),
    **{
        f"a size of {size!r}": (packed(header(size=size) + END), "is no number")
        for size in (b"", b" ", b"-1", b"+0", b"0_0", b"0o0", b"0\0000000", b"\t0")
    },
    "files that are too large together": (
        packed(header("package/a", 5) + FILE[512:] + header("package/b", (64 << 20) - 4)),
        "holds more than",
    ),
    "no end": (packed(FILE), "cut off"),
    "one zero block": (packed(FILE + bytes(512)), "cut off"),
    "a member behind one zero block": (packed(FILE + bytes(512) + FILE + END), "behind its end"),
    "a member behind the end": (packed(FILE + END + FILE + END), "behind its end"),
    "zeros without end": (packed(FILE + END + bytes((1 << 20) + 1), 0), "zeros"),
    "data in the padding": (packed(header(size=b"1") + b"hello".ljust(512, b"\0") + END), "between its members"),
    "data in the padding of a record": (
        packed(header("p", len(record("a", "b")), tarfile.XHDTYPE) + record("a", "b").ljust(512, b"x") + FILE + END),
        "between its members",
    ),
    "a wrong checksum": (packed(FILE[:100] + b"\1" + FILE[101:] + END), "no header"),
    "an empty file": (packed(b""), "cut off"),
    "no tar": (packed(b"hello" * 1000), "no header"),
    "a second gzip behind": (packed(FILE + END) + packed(b"hello"), "packed data"),
    "an empty gzip behind": (packed(FILE + END) + packed(b""), "packed data"),
    "a tar in two gzips": (packed(FILE) + packed(END), "packed data"),
    "zeros behind the gzip": (packed(FILE + END) + bytes(512), "packed data"),
    "something behind a gzip that is as long as what is read at a time": (
        with_gzip_header(8, b"x" * ((1 << 16) - len(packed(FILE + END)) - 1) + b"\0") + b"x",
        "packed data",
    ),
    "a wrong gzip checksum": (packed(FILE + END)[:-8] + bytes(4) + packed(FILE + END)[-4:], "cannot be unpacked"),
    "a wrong gzip size": (packed(FILE + END)[:-4] + bytes(4), "cannot be unpacked"),
    "a gzip that is cut": (packed(FILE + END)[:-1], "cut off"),
    "a gzip with unknown flags": (with_gzip_header(0xE0, b""), "cannot be unpacked"),
    "a gzip with a wrong header checksum": (with_gzip_header(2, b"\0\0"), "cannot be unpacked"),
    "a bomb in a file": (packed(member(bytes(8 << 20))), "200 times"),
    "a bomb behind what does not shrink": (
        packed(member(RANDOM) + member(bytes(8 << 20), "b")),
        "200 times",
    ),
    "a bomb in many small files": (
        packed(b"".join(member(bytes(SMALL // 2), f"package/{number}") for number in range(20)) + END),
        "200 times",
    ),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tar_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=message):
        read(data)
    path = tmp_path / "package.tar.gz"
    path.write_bytes(data)
    with pytest.raises(PackageError, match=f"{path}: ") as error, opened(path):
        pass
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == [path]


def test_what_is_just_allowed_is_read() -> None:
    whole = extended(record("comment", "x" * (LARGEST_RECORDS - 14)))
    assert len(whole) == 512 + LARGEST_RECORDS
    for number in range(1000):
        whole += extended(record("mtime", "1")) + member(b"", f"package/{number}")
    assert len(read(packed(whole[512 + LARGEST_RECORDS :] + END))) == 1000
    with pytest.raises(RefusedError, match="1000"):
        read(packed(whole[512 + LARGEST_RECORDS :] + FILE + END))
    assert read(packed(whole[: 512 + LARGEST_RECORDS] + FILE + END)) == [("package/a", b"hello")]
    assert read(with_gzip_header(4, struct.pack("<H", 60_000) + bytes(60_000))) == [("package/a", b"hello")]
    assert read(with_gzip_header(8, b"name\0")) == [("package/a", b"hello")]
    some = RANDOM[: SMALL // 100]
    assert read(packed(member(some * 150) + END)) == [("package/a", some * 150)]  # to a 150th


def bombs() -> Iterator[tuple[str, bytes]]:
    """Archives that would take much memory or time from a reader that believes them."""
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE):
        engine = zlib.compressobj(1, zlib.DEFLATED, 31)
        start = engine.compress(header("p", 128 << 20, kind))
        yield f"a member of kind {kind!r}", start + b"".join(engine.compress(bytes(1 << 20)) for _ in range(128))
    yield "zeros", packed(bytes(32 << 20), 1)
    yield "a chain of extended headers", packed(extended(record("a", "b")) * 20_000 + FILE + END)
    yield "a chain of extended headers before empty files", packed((extended(record("a", "b")) + header()) * 20_000)
    yield "many records", packed(extended(*(record(f"{number:x}", "") for number in range(50_000))) + FILE + END)
    yield "many small records", packed(extended(*(record(f"{number:x}", "") for number in range(1000))) + FILE + END)
    yield "a name without end in the gzip", with_gzip_header(8, b"x" * (16 << 20))
    yield "empty blocks", packed(FILE + END)[:10] + b"\x00\x00\x00\xff\xff" * 1_000_000 + packed(FILE + END)[10:]
    yield "many gzips", packed(b"", 0) * 100_000


def explode() -> str:
    """For a process of its own: each bomb refused, or harmless."""
    made = list(bombs())
    lines = []
    allow(0)
    for name, data in made:
        with timed(name):
            try:
                read(data)
                lines.append(f"{name}: read")
            except RefusedError:
                lines.append(f"{name}: refused")
    return "\n".join(lines)


def test_bombs_take_little_memory_and_time() -> None:
    lines = run_limited("test_tar:explode()").splitlines()
    assert len(lines) == 12
    read_ones = [line.partition(":")[0] for line in lines if line.endswith(": read")]
    assert read_ones == ["many small records", "empty blocks"]


def compared(data: bytes) -> bool:
    """Whether a tar is read, and then as `tarfile` reads it. Neither raises anything but a refusal."""
    try:
        found = read(packed(data, 0))
    except RefusedError as error:
        assert str(error)  # noqa: PT017  # it is the same for all
        return False
    assert found == read_as_tarfile_does(data)
    return True


@pytest.mark.parametrize("name", ["GNU", "PAX"])
def test_every_truncation_is_refused(name: str) -> None:
    whole = WRITERS[name].rstrip(b"\0")
    blocks = -(-len(whole) // 512) * 512
    for length in {*range(0, blocks + 1024, 16), blocks + 512, blocks + 1023}:
        assert not compared(WRITERS[name][:length]), length
    assert compared(WRITERS[name][: blocks + 1024])
    zipped = packed(WRITERS[name])
    for length in range(len(zipped)):
        with pytest.raises(RefusedError):
            read(zipped[:length])


def mutate(count: int, seed: int = 0) -> str:
    """For a process of its own: what is read is what `tarfile` reads."""
    outcomes: Counter[bool] = Counter()
    seeds = [data for name, data in WRITERS.items() if name != "padded"]
    allow(2 * max(map(len, seeds)))
    for number, data in enumerate(mutants(seeds, count, seed=seed)):
        with timed(number):
            outcomes[compared(data)] += 1
    assert min(outcomes.values()) > count // 100, outcomes  # both happen
    return f"{outcomes[False]} refused, {outcomes[True]} read"


def test_mutations_are_refused_or_read_as_others_read_them() -> None:
    assert "refused" in run_limited("test_tar:mutate(2_000)")


@pytest.mark.long
def test_many_mutations_are_refused_or_read_as_others_read_them() -> None:
    assert "refused" in run_limited("test_tar:mutate(200_000, seed=1)")


@pytest.mark.long
def test_the_fuzzer_finds_nothing_in_a_minute(tmp_path: Path) -> None:
    assert run_fuzzer("tar", WRITERS.values(), tmp_path) > 10_000


def test_pieces_are_small() -> None:
    made: Iterator[TarFile] = read_files(io.BytesIO(packed(member(bytes(5 << 20)), 0)), LIMITS)
    assert max(map(len, next(made).pieces)) == 1 << 20
