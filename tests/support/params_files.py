"""`.params` files made by hand, byte for byte, for several test files."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

import sshtool.demo
from sshconvert.errors import ParamsError
from sshconvert.mxnet.params import parse_params

Array: TypeAlias = npt.NDArray[Any]

HEADER: Final = 24
MAGICS: Final = {"V1": 0xF993FAC8, "V2": 0xF993FAC9, "V3": 0xF993FACA}
VERSIONS: Final = ("V0", *MAGICS)
AB: Final = (b"arg:a", b"arg:b")
# Type flag, its dtype, and how `struct` spells one element (bfloat16 has no letter there).
TYPES: Final = (
    (0, "float32", "f"),
    (1, "float64", "d"),
    (2, "float16", "e"),
    (3, "uint8", "B"),
    (4, "int32", "i"),
    (5, "int8", "b"),
    (6, "int64", "q"),
    (7, "bool", "?"),
    (8, "int16", "h"),
    (9, "uint16", "H"),
    (10, "uint32", "I"),
    (11, "uint64", "Q"),
    (12, "bfloat16", None),
)
KNOWN_TO_MXNET: Final = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")


def record(
    version: str, shape: Sequence[int], data: bytes, *, flag: int = 0, device: int = 1, storage: int = 0
) -> bytes:
    if version == "V0":
        head = struct.pack(f"<I{len(shape)}I", len(shape), *shape)
    else:
        head = struct.pack("<I", MAGICS[version])
        if version != "V1":
            head += struct.pack("<i", storage)
        head += struct.pack(f"<i{len(shape)}q", len(shape), *shape)
    return head + struct.pack("<iii", device, 0, flag) + data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def container(records: Sequence[bytes], names: Sequence[bytes], *, magic: int = 0x112, reserved: int = 0) -> bytes:
    head = struct.pack("<QQQ", magic, reserved, len(records))
    tail = struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)
    return head + b"".join(records) + tail


def one(raw_record: bytes, name: bytes = b"arg:a") -> bytes:
    return container([raw_record], [name])


def accepted(raw: bytes | memoryview) -> dict[str, Array] | None:
    """What the reader makes of a file; None if it is refused."""
    try:
        return parse_params(raw)
    except ParamsError:
        return None


def content(arrays: Mapping[str, Array]) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """Everything that arrays hold, to the bit: NaN equals itself."""
    return [(name, array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()]


def ramp(count: int, dtype: str) -> bytes:
    return np.arange(1, count + 1).astype(dtype).tobytes()


def of_types(types: Sequence[tuple[int, str]]) -> bytes:
    records = [record("V2", (1, 3), ramp(3, dtype), flag=flag) for flag, dtype in types]
    return container(records, [f"arg:{dtype}-{flag}".encode() for flag, dtype in types])


def seeds() -> dict[str, bytes]:
    """Good files, small enough to try everything on: one of each version, of many types, and one that is shipped."""
    mixed = [record(version, (number + 1,), floats(*range(number + 1))) for number, version in enumerate(VERSIONS)]
    types = [(1, "<f8"), (2, "<f2"), (3, "u1"), (4, "<i4"), (5, "i1"), (6, "<i8"), (7, "?")]
    newer = [(8, "<i2"), (9, "<u2"), (10, "<u4"), (11, "<u8"), (12, "<u2")]
    return {
        "V0": one(record("V0", (2, 3), ramp(6, "<f4"))),
        "V1": container([record("V1", (2,), ramp(2, "<f8"), flag=1), record("V1", (3,), ramp(3, "u1"), flag=3)], AB),
        "V2": container([record("V2", (2, 2), ramp(4, "<f4")), record("V2", (2,), ramp(2, "<f4"))], AB),
        "V3": one(record("V3", (1, 2, 2), ramp(4, "<f4"))),
        "V3 scalar": container([record("V3", (), floats(2.5)), record("V3", (1,), floats(1.5))], AB),
        "types": of_types(types),
        "newer types": of_types(newer),
        "aux": container(
            [record("V2", (3,), floats(1, 2, 3)), record("V2", (3,), floats(4, 5, 6), device=2)],
            [b"arg:bn_gamma", "aux:bn_moving_mean_ß".encode()],
        ),
        "all versions": container(mixed, [f"arg:{version}".encode() for version in VERSIONS]),
        "demo heads": (Path(sshtool.demo.__file__).parent / "demo_heads.params").read_bytes(),
    }
