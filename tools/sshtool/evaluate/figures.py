"""The result of `sshtool evaluate`: average precision by artifact, protocol and setting, and the worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Final

import numpy as np

from sshtool.evaluate.curves import Curve, ImageFaults, Result

# In ascending number of faces. Other settings follow in their own order.
SETTINGS: Final = ("easy", "medium", "hard")
# The resolution of a stored curve in recall, which exceeds that of a plot.
STEPS: Final = 400
# The number of images with the most misses, and of those with the most false boxes.
WORST: Final = 4
REFERENCE: Final = "FP32"


@dataclass(frozen=True)
class SettingFigures:
    """The average precision, 0-1, and its `change` from the FP32 artifact, None without one to compare with.

    `curve` holds points (recall, precision), both 0-1, enough to draw the curve.
    """

    setting: str
    average_precision: float
    faces: int
    curve: tuple[tuple[float, float], ...]
    change: float | None = None


@dataclass(frozen=True)
class ProtocolFigures:
    """The figures of one protocol.

    `input` describes how images were resized. `missed_faces` counts the faces in images that were not evaluated.
    """

    protocol: str
    input: str
    images: int
    predictions: int
    settings: tuple[SettingFigures, ...]
    worst: tuple[ImageFaults, ...]
    missed_faces: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NotEvaluated:
    """An image that counts as one without predictions, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class ArtifactFigures:
    """The figures of one artifact. `baseline` names the FP32 artifact that `change` refers to, "" if there is none.

    `images_per_second` is the rate of this run, None if it computed nothing.
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
    """The figures of every artifact. `images` counts the images of this shard, `of_images` those of all shards."""

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
        """Each image on which an artifact was not evaluated, once."""
        return tuple(dict.fromkeys(item for artifact in self.artifacts for item in artifact.not_evaluated))


def protocol_figures(result: Result, text: str, missed_faces: int = 0) -> ProtocolFigures:
    """The figures of a result. `text` describes how images were resized."""
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
    """The faults in each image in the setting that counts the most faces, in the order of the dataset."""
    ordered = _ordered(result)
    return [item for item in result.faults if ordered and item.setting == ordered[-1].setting]


def _ordered(result: Result) -> list[Curve]:
    known = {name: number for number, name in enumerate(SETTINGS)}
    return sorted(result.curves, key=lambda curve: known.get(curve.setting, len(known)))


def compared(artifacts: Sequence[ArtifactFigures]) -> tuple[ArtifactFigures, ...]:
    """The artifacts with their change from FP32: in their own format if there is one, otherwise in the first format."""
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
    protocols = []
    for protocol in artifact.protocols:
        settings = []
        for setting in protocol.settings:
            figure = known.get((protocol.protocol, protocol.input, setting.setting))
            change = None if figure is None else setting.average_precision - figure
            settings.append(replace(setting, change=change))
        protocols.append(replace(protocol, settings=tuple(settings)))
    return replace(artifact, protocols=tuple(protocols), baseline=baseline.artifact)


def _points(curve: Curve) -> tuple[tuple[float, float], ...]:
    """The points at both ends of each step of 1 / `STEPS` in recall. A plot does not resolve those in between."""
    defined = ~np.isnan(curve.precision)
    recall, precision = curve.recall[defined], curve.precision[defined]
    if not len(recall):
        return ()
    ends = np.flatnonzero(np.diff(np.floor(recall * STEPS)))
    return tuple(
        (round(float(recall[at]), 6), round(float(precision[at]), 6))
        for at in np.unique([0, *ends, *(ends + 1), len(recall) - 1])
    )


def _worst(result: Result) -> tuple[ImageFaults, ...]:
    """The worst of the images that were evaluated; ties in the order of the dataset."""
    unread = {image for image, _ in result.failures}
    faults = [item for item in hardest(result) if item.image not in unread]
    missing = sorted((item for item in faults if item.misses), key=attrgetter("misses"), reverse=True)[:WORST]
    wrong = sorted((item for item in faults if item.false_boxes), key=attrgetter("false_boxes"), reverse=True)[:WORST]
    return tuple(dict.fromkeys([*missing, *wrong]))
