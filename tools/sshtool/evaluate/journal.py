"""The journal of a run, by which the run can be resumed, split over machines and merged.

A journal is a text file of JSON lines. The first line is the header: the artifact, the dataset, the protocols, the
options and the shard. Every other line is a finding: an image and its predictions, in the order of the dataset. A run
writes each line at once. If the run is killed, its last line may be torn; resuming drops a torn line.

A journal holds predictions, not judgements: every reader judges them anew by the faces of the dataset. So a journal
cannot claim faces or hits. Each line begins with a digest of itself and of all lines before it, which reveals damaged,
exchanged and missing lines. The digest is no signature: it does not prove that the predictions come from the artifact
in the header. Only another run proves that.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from sshconvert.arrays import Doubles
from sshconvert.errors import EvaluationError
from sshconvert.schema import Strict, one_line, parse_json
from sshtool.evaluate.predictions import LARGEST_NUMBER, MOST_PREDICTIONS, Predictions
from sshtool.evaluate.score import PROTOCOLS
from sshtool.journal import Kind, Lines, begin, opened
from sshtool.wider_face.annotations import MOST_IMAGES

VERSION: Final = 2

# Bytes of a line. A header takes a kilobyte or two, a finding 54 bytes for each prediction of each of two protocols.
LONGEST_HEADER: Final = 64 << 10
LONGEST_LINE: Final = 2 * 54 * MOST_PREDICTIONS + (64 << 10)
LONGEST_FAILURE: Final = 4096

KIND: Final = Kind("evaluate", "evaluate this part again")

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Header:
    """The origin of a journal's findings. Journals of one run differ in their shards only.

    `files` maps the names of the artifact's files to their SHA-256; `dataset` is the digest of the ground truth;
    `protocols` describes for each protocol how images were resized; `notes` are about its figures. `images` counts the
    images of all shards; `shard` is (number, total), from 1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    journal: int
    sshtool: str
    artifact: str
    format: str
    precision: str
    weights: str
    files: Texts
    runtime: str
    device: str
    dataset: str
    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)]
    protocols: Texts
    notes: Mapping[str, tuple[str, ...]]
    shard: tuple[int, int]
    inference_precision: str = "f32"

    def numbers(self) -> range:
        """The numbers of the shard's images in the dataset."""
        which, count = self.shard
        return range(which - 1, self.images, count)

    def differing(self, other: Header) -> str:
        """The first difference that shows that `other` belongs to another run, in words; "" for the same run."""
        for field in fields(self):
            own, others = getattr(self, field.name), getattr(other, field.name)
            if field.name != "shard" and own != others:
                return f"its {field.name} is {_short(others)}, not {_short(own)}"
        return ""


@dataclass(frozen=True)
class ImageFinding:
    """An image, by its number and its path in the dataset, and its predictions for each protocol.

    `failure` is the reason for an image without predictions, "" for an image that was evaluated.
    """

    index: int
    image: str
    predictions: Mapping[str, Predictions]
    failure: str = ""


class _Packed(Strict):
    """Predictions as base64 of little-endian float64, [K, 4] and [K]."""

    boxes: str
    scores: str


class _Line(Strict):
    index: int
    image: str
    predictions: dict[str, _Packed]
    failure: Annotated[str, Field(max_length=LONGEST_FAILURE)]


_HEADER: Final = TypeAdapter(Header)


class Journal:
    """Writes a journal. `done` counts the findings of an earlier run. Leaving the context closes the file."""

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        """Begin the journal anew, or with `resume` continue an existing one.

        Raises EvaluationError if the existing journal belongs to another run, is damaged or is no regular file;
        OutputError if the journal cannot be written.
        """

        def count(lines: Lines) -> int:
            existing = _header(lines)
            _check_same(path, header, existing)
            return sum(1 for _ in _findings(lines, existing))

        self._writer, self.done = begin(path, KIND, asdict(header), LONGEST_HEADER, resume=resume, count=count)

    def append(self, finding: ImageFinding) -> None:
        """Write a finding. Raises OutputError if it cannot be written."""
        body = {
            "index": finding.index,
            "image": finding.image,
            "predictions": {
                protocol: {"boxes": _encode(predictions.boxes), "scores": _encode(predictions.scores)}
                for protocol, predictions in finding.predictions.items()
            },
            "failure": finding.failure[:LONGEST_FAILURE],
        }
        self._writer.append(body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()


def read_header(path: Path) -> Header:
    """Read the header. Raises EvaluationError if the file is no journal of this version, or cannot be read."""
    with opened(path, KIND) as lines:
        return _header(lines)


def read_findings(path: Path) -> Iterator[ImageFinding]:
    """Yield all findings, without a torn last line. Raises EvaluationError for a malformed or unreadable journal."""
    with opened(path, KIND) as lines:
        yield from _findings(lines, _header(lines))


def _check_same(path: Path, header: Header, old: Header) -> None:
    difference = header.differing(old)
    if not difference and old.shard != header.shard:
        difference = f"it is shard {old.shard[0]} of {old.shard[1]}"
    if difference:
        raise EvaluationError(
            f"{path}: is of another run: {difference}; start anew without --resume, or use another --output-dir"
        )


def _header(lines: Lines) -> Header:
    problem = "it does not begin with a header"
    with contextlib.suppress(EvaluationError, KeyError, TypeError, ValueError, RecursionError):
        body = json.loads(lines.take(LONGEST_HEADER) or b"")["header"]
        if body["journal"] != VERSION:
            problem = f"it is of version {one_line(body['journal'])}, expected {VERSION}"
        elif _possible(header := _HEADER.validate_json(json.dumps(body), strict=True)):
            return header
    raise EvaluationError(f"{lines.path}: is no journal of an evaluation: {problem}; evaluate this part again")


def _possible(header: Header) -> bool:
    which, count = header.shard
    known = set(PROTOCOLS) >= header.protocols.keys() == header.notes.keys()
    return 0 < which <= count <= header.images and known and bool(header.protocols)


def _findings(lines: Lines, header: Header) -> Iterator[ImageFinding]:
    expected = iter(header.numbers())
    while (text := lines.take(LONGEST_LINE)) is not None:
        try:
            line = parse_json(_Line, text)
            predictions = {protocol: _unpacked(packed) for protocol, packed in line.predictions.items()}
        except ValueError as error:
            raise lines.error(f"is not a finding ({one_line(error)})") from None
        if line.index != next(expected, None):
            raise lines.error("is not of the next image")
        if predictions.keys() != header.protocols.keys():
            raise lines.error(f"is of other protocols than the header's, {', '.join(header.protocols)}")
        if line.failure and any(len(item.scores) for item in predictions.values()):
            raise lines.error("has predictions for an image that was not evaluated")
        yield ImageFinding(line.index, line.image, predictions, line.failure)


def _unpacked(packed: _Packed) -> Predictions:
    boxes, scores = _decode(packed.boxes).reshape(-1, 4), _decode(packed.scores)
    if len(boxes) != len(scores) or len(scores) > MOST_PREDICTIONS:
        raise ValueError(f"{len(boxes)} boxes and {len(scores)} scores, at most {MOST_PREDICTIONS} expected of each")
    if not (np.abs(boxes) <= LARGEST_NUMBER).all() or not (np.abs(scores) <= LARGEST_NUMBER).all():
        raise ValueError("a box or score is not finite")
    return Predictions(boxes, scores)


def _encode(values: Doubles) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")


def _decode(text: str) -> Doubles:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)


def _short(value: Any) -> str:
    return one_line(value if isinstance(value, str) else json.dumps(value, default=str))[:100]
