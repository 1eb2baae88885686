"""The figures of an evaluation, small enough to keep, compare and print: made of the entries of an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Final

import numpy as np

from sshtool.evaluate.curves import Curve, ImageFaults, Result
from sshtool.evaluate.journal import Header

# From the fewest faces to the most; others come behind, in their own order.
SETTINGS: Final = ("easy", "medium", "hard")
# Of recall, between 0 and 1: more could not be told apart on a screen.
STEPS: Final = 400
# Images with the most misses, and as many with the most false boxes.
WORST: Final = 4
REFERENCE: Final = "FP32"


@dataclass(frozen=True)
class SettingFigures:
    """The average precision, 0-1, and what `change` it is from that of the FP32 artifact; None for that itself.

    `curve` holds points (recall, precision), both 0-1, enough of them to draw it.
    """

    setting: str
    average_precision: float
    faces: int
    curve: tuple[tuple[float, float], ...]
    change: float | None = None


@dataclass(frozen=True)
class WorstImage:
    """What an image got wrong: faces without a box, and boxes that find none, with scores of at least 0.5."""

    image: str
    setting: str
    faces: int
    misses: int
    false_boxes: int


@dataclass(frozen=True)
class ProtocolFigures:
    """Of one protocol. `input` says what was done with an image; `missed_faces` are those of images not evaluated."""

    protocol: str
    input: str
    images: int
    predictions: int
    settings: tuple[SettingFigures, ...]
    worst: tuple[WorstImage, ...]
    missed_faces: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NotEvaluated:
    """An image that is judged as one without any prediction, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class ArtifactFigures:
    """Of one artifact. `baseline` names the FP32 artifact that it is compared with, "" if there is none.

    `images_per_second` is that of the run that ends here, None where nothing was computed; `inference_precision` is
    what the runtime computed in.
    """

    artifact: str
    format: str
    precision: str
    weights: str
    runtime: str
    files: Mapping[str, str]
    protocols: tuple[ProtocolFigures, ...]
    not_evaluated: tuple[NotEvaluated, ...]
    baseline: str = ""
    images_per_second: float | None = None
    inference_precision: str = ""


@dataclass(frozen=True)
class EvaluateResult:
    """The figures of every artifact. `of_images` counts those of the whole run, of which this may be a shard."""

    model: str
    dataset: str
    digest: str
    images: int
    of_images: int
    shard: tuple[int, int]
    artifacts: tuple[ArtifactFigures, ...]
    published: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]
    written: tuple[Path, ...]

    @property
    def not_evaluated(self) -> tuple[NotEvaluated, ...]:
        """Each image that any artifact was not evaluated on, once."""
        return tuple(dict.fromkeys(item for artifact in self.artifacts for item in artifact.not_evaluated))


def protocol_figures(result: Result, text: str, missed_faces: int = 0) -> ProtocolFigures:
    """`text` says what was done with an image."""
    return ProtocolFigures(
        protocol=result.protocol,
        input=text,
        images=result.images,
        predictions=result.predictions,
        settings=tuple(
            SettingFigures(curve.setting, curve.average_precision, curve.faces, _points(curve))
            for curve in _ordered(result)
        ),
        worst=_worst(result),
        missed_faces=missed_faces,
        notes=tuple(result.notes),
    )


def hardest(result: Result) -> list[ImageFaults]:
    """What each image got wrong in the setting that counts the most faces, in the order of the dataset."""
    ordered = _ordered(result)
    return [item for item in result.faults if ordered and item.setting == ordered[-1].setting]


def _ordered(result: Result) -> list[Curve]:
    known = {name: number for number, name in enumerate(SETTINGS)}
    return sorted(result.curves, key=lambda curve: known.get(curve.setting, len(known)))


def artifact_figures(
    header: Header, protocols: Sequence[ProtocolFigures], failures: Sequence[tuple[str, str]], rate: float | None = None
) -> ArtifactFigures:
    return ArtifactFigures(
        artifact=header.artifact,
        format=header.format,
        precision=header.precision,
        weights=header.weights,
        runtime=header.runtime,
        files=header.files,
        protocols=tuple(protocols),
        not_evaluated=tuple(NotEvaluated(image, reason) for image, reason in failures),
        images_per_second=rate,
        inference_precision=header.inference_precision,
    )


def compared(artifacts: Sequence[ArtifactFigures]) -> tuple[ArtifactFigures, ...]:
    """The same with the change from FP32: of the artifact's own format if it is there, otherwise of the first."""
    return tuple(_compared(artifact, artifacts) for artifact in artifacts)


def _compared(artifact: ArtifactFigures, artifacts: Sequence[ArtifactFigures]) -> ArtifactFigures:
    references = [item for item in artifacts if item.precision == REFERENCE]
    own = [item for item in references if item.format == artifact.format]
    baseline = next(iter(own or references), None)
    if baseline is None or baseline is artifact:
        return artifact
    known = {
        (protocol.protocol, protocol.input, setting.setting): setting.average_precision
        for protocol in baseline.protocols
        for setting in protocol.settings
    }
    protocols = tuple(
        replace(
            protocol,
            settings=tuple(
                replace(
                    setting, change=_change(setting, known.get((protocol.protocol, protocol.input, setting.setting)))
                )
                for setting in protocol.settings
            ),
        )
        for protocol in artifact.protocols
    )
    return replace(artifact, protocols=protocols, baseline=baseline.artifact)


def _change(setting: SettingFigures, baseline: float | None) -> float | None:
    return None if baseline is None else setting.average_precision - baseline


def _points(curve: Curve) -> tuple[tuple[float, float], ...]:
    """The points at both ends of each small step of recall, inside of which a screen shows none."""
    there = ~np.isnan(curve.precision)
    recall, precision = curve.recall[there], curve.precision[there]
    if not len(recall):
        return ()
    ends = np.flatnonzero(np.diff(np.floor(recall * STEPS)))
    return tuple(
        (round(float(recall[at]), 6), round(float(precision[at]), 6))
        for at in np.unique([0, *ends, *(ends + 1), len(recall) - 1])
    )


def _worst(result: Result) -> tuple[WorstImage, ...]:
    """Of the images that were evaluated; equals in the order of the dataset."""
    unread = {image for image, _ in result.failures}
    faults = [item for item in hardest(result) if item.image not in unread]
    missing = sorted((item for item in faults if item.misses), key=attrgetter("misses"), reverse=True)[:WORST]
    wrong = sorted((item for item in faults if item.false_boxes), key=attrgetter("false_boxes"), reverse=True)[:WORST]
    return tuple(
        WorstImage(item.image, item.setting, item.faces, item.misses, item.false_boxes)
        for item in dict.fromkeys([*missing, *wrong])
    )
