"""What a run writes down as it goes, so that it can be resumed, split over machines and merged.

A journal is a text file of JSON lines. The first is the header: which artifact, dataset, protocols and options the
records are of, and which part of the images. Every other one is an image's record, in the order of the dataset, with
the boxes that a report may show. Lines are handed to the system whole, one by one; of a run that was killed the last
one may be torn, and is dropped when it resumes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

from pydantic import TypeAdapter

from sshconvert.errors import EvaluationError, OutputError
from sshtool.evaluate.records import ImageRecord, from_line, to_line

VERSION: Final = 1

# x, y, w, h in pixels of the image, and the score.
Box = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Header:
    """What the records of a journal are of. Two journals belong to one run if all but their shards are the same.

    `files` are the artifact's, by name, with their SHA-256; `dataset` is the ground truth's digest; `protocols` says
    for each what was done with an image; `notes` are on its figures. `images` counts what the run is over, all shards
    together, and `shard` is (which, of how many), from 1. `inference_precision` is what the runtime computed in.
    """

    journal: int
    sshtool: str
    artifact: str
    format: str
    precision: str
    weights: str
    files: Mapping[str, str]
    runtime: str
    device: str
    dataset: str
    images: int
    protocols: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]]
    shard: tuple[int, int]
    inference_precision: str = "f32"

    def numbers(self) -> range:
        """Numbers of the images in the shard, by the order of the dataset."""
        which, count = self.shard
        return range(which - 1, self.images, count)

    def differing(self, other: Header) -> str:
        """The first thing in which another one is not of the same run, in words; "" if it is."""
        for field in fields(self):
            mine, yours = getattr(self, field.name), getattr(other, field.name)
            if field.name != "shard" and mine != yours:
                return f"its {field.name} is {_short(yours)}, not {_short(mine)}"
        return ""


@dataclass(frozen=True)
class Entry:
    """An image's record, and for each protocol the boxes that a report may show."""

    record: ImageRecord
    shown: Mapping[str, Sequence[Box]]


_HEADER: Final = TypeAdapter(Header)
_SHOWN: Final = TypeAdapter(dict[str, tuple[Box, ...]])


class Journal:
    """A journal that is being written: a context that closes the file. `done` counts the records that it had before."""

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        """Begin the journal anew, or with `resume` go on where it ends, if there is one.

        Raises EvaluationError if it is of another run or damaged, OutputError if it cannot be written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole_lines(path) if resume and path.exists() else 0
            self.done = _check_old(path, header) if whole else 0
            self._file: BinaryIO = path.open("r+b" if whole else "wb")
            self._file.seek(whole)
            self._file.truncate()
            if not whole:
                self._write({"header": asdict(header)})
        except OSError as error:
            raise _not_written(path, error) from None

    def append(self, entry: Entry) -> None:
        """Raises OutputError if it cannot be written."""
        try:
            record = json.loads(to_line(entry.record))
            self._write({"record": record, "shown": dict(entry.shown)})
        except OSError as error:
            raise _not_written(self.path, error) from None

    def _write(self, body: Any) -> None:
        self._file.write(json.dumps(body, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_header(path: Path) -> Header:
    """The first line. Raises EvaluationError if the file is no journal of this version, or cannot be read."""
    with _opened(path) as file:
        return _header(path, file.readline())


def read_entries(path: Path) -> Iterator[Entry]:
    """All records, one after another, a torn last line left out. Raises EvaluationError, as `read_header` does."""
    with _opened(path) as file:
        expected = iter(_header(path, file.readline()).numbers())
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                return
            entry = _entry(line, f"{path}: line {number}")
            if entry.record.index != next(expected, None):
                raise EvaluationError(f"{path}: line {number}: is not of the next image; evaluate this part again")
            yield entry


def _whole_lines(path: Path) -> int:
    """How many bytes of the file are whole lines."""
    with path.open("rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))


def _check_old(path: Path, header: Header) -> int:
    """How many records a journal has, after a look at each."""
    old = read_header(path)
    difference = header.differing(old)
    if not difference and old.shard != header.shard:
        difference = f"it is shard {old.shard[0]} of {old.shard[1]}"
    if difference:
        raise EvaluationError(
            f"{path}: is of another run: {difference}; start anew without --resume, or use another --output-dir"
        )
    return sum(1 for _ in read_entries(path))


def _header(path: Path, line: bytes) -> Header:
    problem = "it does not begin with a header"
    with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):  # a ValidationError is a ValueError
        body = json.loads(line)["header"]
        if body["journal"] != VERSION:
            problem = f"it is of version {body['journal']}, expected {VERSION}"
        elif _possible(header := _HEADER.validate_python(body)) and line.endswith(b"\n"):
            return header
    raise EvaluationError(f"{path}: is no journal of an evaluation: {problem}; evaluate this part again")


def _possible(header: Header) -> bool:
    which, count = header.shard
    return 0 < which <= count <= header.images and header.protocols.keys() == header.notes.keys()


def _entry(line: bytes, place: str) -> Entry:
    try:
        body = json.loads(line)
        record, shown = json.dumps(body["record"]), _SHOWN.validate_python(body["shown"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise EvaluationError(f"{place}: is not a record ({reason}); evaluate this part again") from None
    return Entry(from_line(record, place), cast("Mapping[str, Sequence[Box]]", shown))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.is_file():
            raise EvaluationError(f"{path}: is not there; name a journal that `sshtool evaluate` wrote")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); free space or use another --output-dir")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 100 else f"{text[:100]}…"
