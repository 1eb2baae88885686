"""The journal of `detect`, by which a long run goes on after an interruption.

The first line is the header: the artifact, what computes, the options and a digest of the images' names. Every other
line is an outcome, in the order of the images, with all digits. `sshtool.journal` describes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter

from sshconvert.errors import EvaluationError
from sshconvert.messages import name_text, path_of, printable
from sshconvert.schema import Strict, one_line, parse_json
from sshtool.journal import Kind, Lines, begin, opened
from sshtool.limits import MOST_IMAGES
from sshtool.results.outcomes import Detected, Detection, NotRead
from sshtool.selection import image_of
from sshtool.stores import is_url

VERSION: Final = 1
LONGEST_HEADER: Final = 64 << 10
LONGEST_LINE: Final = 64 << 20  # some hundred bytes for each of the most detections
KIND: Final = Kind("detect", "detect again without --resume")

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Header:
    """The origin of a journal's outcomes.

    `files` maps the names of the artifact's files to their SHA-256; `computer` is the runtime and its precision;
    `options` are those that change outcomes or their files; `images` counts the images, and `names` is the digest of
    their names.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    journal: int
    sshtool: str
    model: str
    weights: str
    files: Texts
    computer: str
    options: Texts
    images: Annotated[int, Field(ge=1, le=MOST_IMAGES)]
    names: str


class _Detection(Strict):
    box: tuple[float, float, float, float]
    score: float
    label: str
    landmarks: tuple[tuple[float, float], ...]
    attributes: dict[str, float]


class _Detected(Strict):
    width: int
    height: int
    detections: tuple[_Detection, ...]
    picture: str = ""
    inference_precision: str
    name: str
    crops: tuple[str, ...] = ()


class _NotRead(Strict):
    error: str
    message: str


class _Line(Strict):
    image: str
    detected: _Detected | None = None
    not_read: _NotRead | None = None


_HEADER: Final = TypeAdapter(Header)


class DetectionJournal:
    """Writes a journal. `done` counts the outcomes of an earlier run. Leaving the context closes the file."""

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        """Begin the journal anew, or with `resume` continue an existing one.

        Raises EvaluationError if the existing journal belongs to another run or is damaged; OutputError if the journal
        cannot be written.
        """

        def count(lines: Lines) -> int:
            _check_same(lines, header)
            return sum(1 for _ in _outcomes(lines))

        self._writer, self.done = begin(path, KIND, asdict(header), LONGEST_HEADER, resume=resume, count=count)

    def append(self, outcome: Detected | NotRead) -> None:
        """Write an outcome. Raises OutputError if it cannot be written."""
        self._writer.append(_packed(outcome))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()


def read_outcomes(path: Path) -> Iterator[Detected | NotRead]:
    """Yield all outcomes, without a torn last line. Raises EvaluationError for a malformed or unreadable journal."""
    with opened(path, KIND) as lines:
        lines.take(LONGEST_HEADER)
        yield from _outcomes(lines)


def _check_same(lines: Lines, header: Header) -> None:
    try:
        existing = _HEADER.validate_json(_body(lines), strict=True)
    except (EvaluationError, ValueError, RecursionError):
        raise EvaluationError(f"{lines.path}: is no journal of this version; {KIND.remedy}") from None
    for field in fields(Header):
        own, others = getattr(header, field.name), getattr(existing, field.name)
        if own != others:
            difference = "" if field.name == "names" else f" is {one_line(others)[:100]}, not {one_line(own)[:100]}"
            what = "its images are others" if field.name == "names" else f"its {field.name}{difference}"
            raise EvaluationError(
                f"{lines.path}: is of another run: {what}; start anew without --resume, or use another --output-dir"
            )


def _body(lines: Lines) -> bytes:
    """The header's JSON: that of the first line without the key around it."""
    text = lines.take(LONGEST_HEADER) or b""
    start, end = b'{"header":', b"}"
    if not text.startswith(start):
        raise ValueError("no header")
    return text[len(start) : -len(end)]


def _outcomes(lines: Lines) -> Iterator[Detected | NotRead]:
    while (text := lines.take(LONGEST_LINE)) is not None:
        try:
            line = parse_json(_Line, text)
        except ValueError as error:
            raise lines.error(f"is not an outcome ({one_line(error)})") from None
        if (line.detected is None) == (line.not_read is None):
            raise lines.error("is not one outcome")
        yield _unpacked(line)


def _packed(outcome: Detected | NotRead) -> dict[str, Any]:
    line: dict[str, Any] = {"image": name_text(outcome.image)}
    if isinstance(outcome, NotRead):
        return line | {"not_read": {"error": outcome.error, "message": printable(outcome.message)}}
    return line | {
        "detected": {
            "width": outcome.width,
            "height": outcome.height,
            "detections": [asdict(detection) for detection in outcome.detections],
            "picture": "" if outcome.picture is None else name_text(outcome.picture),
            "inference_precision": outcome.inference_precision,
            "name": name_text(outcome.name),
            "crops": [name_text(path) for path in outcome.crops],
        }
    }


def _unpacked(line: _Line) -> Detected | NotRead:
    image = image_of(line.image) if is_url(line.image) else path_of(line.image)
    if line.not_read is not None:
        return NotRead(image, line.not_read.error, line.not_read.message)
    detected = line.detected
    assert detected is not None  # `_outcomes` checks it
    detections = tuple(Detection(**item.model_dump()) for item in detected.detections)
    picture = path_of(detected.picture) if detected.picture else None
    crops = tuple(path_of(text) for text in detected.crops)
    size = detected.width, detected.height
    return Detected(image, *size, detections, picture, detected.inference_precision, str(path_of(detected.name)), crops)
