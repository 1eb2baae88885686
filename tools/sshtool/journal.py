"""A journal of a long run: JSON lines that a run writes at once, and by which a later run goes on.

Each line begins with a digest of itself and of all lines before it, which reveals damaged, exchanged and missing lines.
If a run is killed, its last line may be torn; a torn line does not count. The digest is no signature: only another run
proves what a journal says.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from sshconvert.digest import bytes_sha256
from sshconvert.errors import EvaluationError, OutputError
from sshconvert.files import check_replaceable
from sshconvert.reading import open_itself, open_regular

_DIGEST: Final = 64


@dataclass(frozen=True)
class Kind:
    """The words of a kind of journal in messages: its verb, and the remedy for a damaged one."""

    verb: str
    remedy: str


class Lines:
    """Reads the whole lines of a journal, and checks their digests. `end` is the offset after the last line read."""

    def __init__(self, file: BinaryIO, path: Path, kind: Kind) -> None:
        self._file, self.path, self.kind = file, path, kind
        self.number, self.end, self.digest = 0, 0, ""

    def take(self, longest: int) -> bytes | None:
        """The next line, as JSON; None at the end and for a torn line there."""
        line = self._file.readline(longest + 1)
        self.number += 1
        if len(line) > longest:
            raise self.error(f"has more than {longest} bytes")
        if not line.endswith(b"\n"):
            return None
        text = b"{" + line[len(_prefix("")) + _DIGEST : -1]
        digest = _chained(self.digest, text)
        if not line.startswith(_prefix(digest)):
            raise self.error("has a wrong digest: this line, or one before it, is damaged, exchanged or missing")
        self.digest, self.end = digest, self.end + len(line)
        return text

    def has_first(self, longest: int) -> bool:
        """Whether the first line is whole, or too long to be one: False if a run ended before it had written it."""
        line = self._file.readline(longest + 1)
        self._file.seek(0)
        return line.endswith(b"\n") or len(line) > longest

    def fileno(self) -> int:
        return self._file.fileno()

    def error(self, problem: str) -> EvaluationError:
        return EvaluationError(f"{self.path}: line {self.number}: {problem}; {self.kind.remedy}")


class Writer:
    """Writes the lines of a journal. Leaving the context closes the file.

    Raises OutputError if the file cannot be written.
    """

    def __init__(self, path: Path, after: Lines | None = None) -> None:
        """Begin a journal in place of another one, or go on `after` the lines of an open one, without what follows."""
        self.path, self._digest = path, after.digest if after else ""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _continued(path, after) if after else _begun(path)

    def append(self, body: Any) -> None:
        """Write a line: a JSON object."""
        with writing(self.path):
            text = json.dumps(body, separators=(",", ":")).encode()
            self._digest = _chained(self._digest, text)
            self._file.write(_prefix(self._digest) + text[1:] + b"\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with writing(self.path):  # closing writes what a full disk did not take
            self._file.close()


def begin(
    path: Path, kind: Kind, header: Any, longest: int, *, resume: bool, count: Callable[[Lines], int]
) -> tuple[Writer, int]:
    """Begin a journal with its header, or with `resume` go on with an existing one. Returns the lines that it holds.

    `count` counts the whole lines of the existing one behind its header, which it checks. `longest` is the length of
    a header. A journal whose header is torn is begun anew. Raises EvaluationError and OutputError.
    """
    if resume and os.path.lexists(path):
        with opened(path, kind) as lines:
            if lines.has_first(longest):
                done = count(lines)
                return Writer(path, lines), done
    writer = Writer(path)
    writer.append({"header": header})
    return writer, 0


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[Lines]:
    """Open a journal for reading. Raises EvaluationError if it is missing, unreadable or no regular file."""
    try:
        file = open_regular(path, follow=False)
    except FileNotFoundError:
        raise EvaluationError(f"{path}: does not exist; name a journal that `sshtool {kind.verb}` wrote") from None
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be opened ({error.strerror}); name a journal of `sshtool {kind.verb}`, and no link to it"
        ) from None
    with file:
        try:
            yield Lines(file, path, kind)
        except OSError as error:
            raise EvaluationError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise OutputError for an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free space or use another --output-dir"
        ) from None


def _begun(path: Path) -> BinaryIO:
    check_replaceable(path)
    path.unlink(missing_ok=True)  # replace a link, not its target
    return path.open("xb")


def _continued(path: Path, after: Lines) -> BinaryIO:
    file = open(path, "r+b", opener=open_itself)  # noqa: SIM115  # closed as a context
    if not os.path.samestat(os.fstat(file.fileno()), os.fstat(after.fileno())):
        file.close()
        raise OSError(errno.EBUSY, "another file came into its place")
    file.seek(after.end)
    file.truncate()
    return file


def _chained(before: str, text: bytes) -> str:
    return bytes_sha256(before.encode() + text)


def _prefix(digest: str) -> bytes:
    return b'{"sha256":"' + digest.encode() + b'",'
