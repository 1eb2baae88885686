"""Processes that the kernel kills when they open an internet socket, or a connection."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# A seccomp filter: socket() of the families IPv4 and IPv6, or every connect(), kills the process; everything else is
# allowed. It binds the process and all its children, native code included.
GUARD: Final = """
import ctypes, struct, sys
SOCKET, CONNECT, ARCHITECTURE = {socket}, {connect}, {architecture:#x}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ALLOW = 0x80000000, 0x7FFF0000
sockets = [
    (LOAD, 0, 0, 4), (EQUAL, 0, 5, ARCHITECTURE),
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, 16), (EQUAL, 2, 0, 2), (EQUAL, 1, 0, 10),
    (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL),
]
connections = [
    (LOAD, 0, 0, 4), (EQUAL, 0, 3, ARCHITECTURE),
    (LOAD, 0, 0, 0), (EQUAL, 0, 1, CONNECT),
    (RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW),
]
rules = {rules}
code = b"".join(struct.pack("<HBBI", *rule) for rule in rules)
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("<H6xQ", len(rules), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
"""
SYSTEMS: Final = {"x86_64": (41, 42, 0xC000003E), "aarch64": (198, 203, 0xC00000B7)}
HAS_GUARD: Final = sys.platform == "linux" and platform.machine() in SYSTEMS


def guarded(
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    python: Path = Path(sys.executable),
    connections: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that dies when it opens an internet socket; with `connections`, when it connects."""
    socket, connect, architecture = SYSTEMS[platform.machine()]
    rules = "connections" if connections else "sockets"
    script = GUARD.format(socket=socket, connect=connect, architecture=architecture, rules=rules) + code
    command = [str(python), "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
