"""The headline, the tables and the remarks of `sshtool evaluate`, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sshconvert.checkpoint import DEMO
from sshconvert.messages import count
from sshtool.evaluate.figures import REFERENCE, ArtifactFigures, EvaluateResult, ProtocolFigures

TITLES: Final = {"omz": "Open Model Zoo's measure", "wider": "WIDER FACE's own evaluation"}


@dataclass(frozen=True)
class FigureTable:
    """The figures of one protocol, of all artifacts with the same resizing of images.

    The name of a column of numbers begins with ">".
    """

    protocol: str
    title: str
    input: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    artifacts: tuple[tuple[ArtifactFigures, ProtocolFigures], ...]


def headline(result: EvaluateResult) -> str:
    """The model, the dataset and the number of images."""
    which, parts = result.shard
    of = f" of {result.of_images:,}" if result.images != result.of_images else ""
    part = f", shard {which} of {parts}" if parts > 1 else ""
    place = f" on {result.dataset}" if result.dataset else ""
    return f"{result.model}{place}: {result.images:,}{of} {'image' if result.images == 1 else 'images'}{part}"


def figure_tables(result: EvaluateResult) -> tuple[FigureTable, ...]:
    groups: dict[tuple[str, str], list[tuple[ArtifactFigures, ProtocolFigures]]] = {}
    for artifact in result.artifacts:
        for protocol in artifact.protocols:
            groups.setdefault((protocol.protocol, protocol.input), []).append((artifact, protocol))
    return tuple(_table(result, name, text, members) for (name, text), members in groups.items())


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def change(value: float | None) -> str:
    """A change in percentage points, with its sign; "" where there is nothing to compare with."""
    return "" if value is None else f"{100 * value:+.2f}"


def remarks(result: EvaluateResult) -> tuple[str, ...]:
    """Sentences that explain the figures, each once. A note on some artifacts names these artifacts."""
    artifacts: dict[tuple[str, str], list[str]] = {}
    for artifact in result.artifacts:
        for protocol in artifact.protocols:
            for note in protocol.notes:
                artifacts.setdefault((protocol.protocol, note), []).append(artifact.artifact)
    notes = [
        f"{protocol}: {note}" if len(names) == len(result.artifacts) else f"{', '.join(names)}, {protocol}: {note}"
        for (protocol, note), names in artifacts.items()
    ]
    sentences = (text if text.endswith(".") else f"{text}." for text in (*_own_remarks(result), *result.notes, *notes))
    return tuple(dict.fromkeys(sentences))


def _own_remarks(result: EvaluateResult) -> Iterator[str]:
    if result.shard[1] > 1:
        yield "These figures are of one shard: --merge the journals of all shards for those of the dataset."
    for artifact in result.artifacts:
        if artifact.not_evaluated:
            missed = ", ".join(f"{item.missed_faces:,} for {item.protocol}" for item in artifact.protocols)
            yield (
                f"{artifact.artifact}: {count(len(artifact.not_evaluated), 'image')} not evaluated. The figures count "
                f"them as images without predictions, and their faces ({missed}) as missed."
            )
    if any(artifact.weights == DEMO for artifact in result.artifacts):
        yield "The weights are a demo's: the figures say nothing about the published ones."
    precisions = {artifact.precision for artifact in result.artifacts} - {""}
    if precisions and REFERENCE not in precisions:
        yield f"There is no {REFERENCE} artifact to compare with."


def _table(
    result: EvaluateResult, name: str, text: str, members: Sequence[tuple[ArtifactFigures, ProtocolFigures]]
) -> FigureTable:
    settings = list(dict.fromkeys(item.setting for _, protocol in members for item in protocol.settings))
    columns = ["artifact"]
    for setting in settings:
        columns += [f">{setting} %", f">{setting} vs FP32"]
    rows = [_row(artifact, protocol, settings) for artifact, protocol in members]
    published = result.published.get(name, {})
    if any(setting in published for setting in settings):
        cells = [[percent(published[setting]) if setting in published else "", ""] for setting in settings]
        rows.append(("published", *(cell for pair in cells for cell in pair), "", "", ""))
    return FigureTable(
        protocol=name,
        title=f"{name}, {TITLES[name]}" if name in TITLES else name,
        input=text,
        columns=(*columns, ">faces", ">predictions", ">images/s"),
        rows=tuple(rows),
        artifacts=tuple(members),
    )


def _row(artifact: ArtifactFigures, protocol: ProtocolFigures, settings: Sequence[str]) -> tuple[str, ...]:
    known = {item.setting: item for item in protocol.settings}
    cells = [artifact.artifact]
    for setting in settings:
        item = known.get(setting)
        cells += [percent(item.average_precision), change(item.change)] if item else ["", ""]
    faces = max((item.faces for item in protocol.settings), default=0)
    rate = "" if artifact.images_per_second is None else f"{artifact.images_per_second:.3g}"
    return (*cells, f"{faces:,}", f"{protocol.predictions:,}", rate)
