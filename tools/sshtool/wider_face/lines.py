"""Lines of a text file from elsewhere, one after another, so that none of them fills memory."""

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


def read_lines(path: Path, largest: int, kind: type[SSHToolError], remedy: str) -> Iterator[str]:
    """The lines of a regular file in UTF-8, with or without a byte order mark, and with any line ends.

    Raises `kind`, with the file and the remedy, if the file is missing, has more than `largest` bytes or a line of more
    than `LONGEST_LINE` characters, or is no such text.
    """
    try:
        with open_regular(path) as file:
            if state(file)[0] > largest:
                raise kind(f"{path}: has more than {largest} bytes; {remedy}")
            text = io.TextIOWrapper(file, encoding="utf-8-sig")
            number = 0
            while line := text.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith("\n"):
                    raise kind(f"{path}: line {number}: has more than {LONGEST_LINE} characters; {remedy}")
                yield line
    except OSError as error:
        if error.errno in _NO_FILE:
            raise kind(f"{path}: is not there, or no file; {remedy}") from None
        raise kind(f"{path}: cannot be read ({error.strerror}); change its permissions") from None
    except UnicodeDecodeError:
        raise kind(f"{path}: is not text in UTF-8; {remedy}") from None
