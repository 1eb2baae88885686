"""Reads an untrusted text file line by line, within limits on its size."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sshconvert.errors import SSHToolError
from sshconvert.reading import open_regular, state

_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)
LONGEST_LINE: Final = 1 << 16


def read_lines(path: Path, largest: int, error_type: type[SSHToolError], remedy: str) -> Iterator[str]:
    """Yield the lines of a regular file in UTF-8, with or without a byte order mark, and with any line ends.

    Raises `error_type`, with the file and the remedy, if the file is missing or not in UTF-8, has more than `largest`
    bytes, or has a line of more than `LONGEST_LINE` characters.
    """
    try:
        with open_regular(path) as file:
            if state(file)[0] > largest:
                raise error_type(f"{path}: has more than {largest} bytes; {remedy}")
            text = io.TextIOWrapper(file, encoding="utf-8-sig")
            number = 0
            while line := text.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith("\n"):
                    raise error_type(f"{path}: line {number}: has more than {LONGEST_LINE} characters; {remedy}")
                yield line
    except OSError as error:
        if error.errno in _NO_FILE:
            raise error_type(f"{path}: does not exist, or is no file; {remedy}") from None
        raise error_type(f"{path}: cannot be read ({error.strerror}); change its permissions") from None
    except UnicodeDecodeError:
        raise error_type(f"{path}: is not text in UTF-8; {remedy}") from None
