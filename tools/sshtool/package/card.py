"""`README.md` of a package: the model card, from the model's description, the files and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sshconvert import __version__
from sshconvert.convert import DEMO_LICENCE
from sshconvert.models import Model
from sshconvert.schema import one_line
from sshtool.package.evidence import Bench, BenchedArtifact, EvaluatedArtifact
from sshtool.package.manifest import PackagedModel, Source, Tensor, Verification
from sshtool.package.usage import examples
from sshtool.parity.verify import ArtifactReport
from sshtool.report import summary
from sshtool.report.page import template

FILE: Final = "README.md"
TEMPLATE: Final = "model_card.md.j2"

_FACES: Final = {
    "boxes": ": x1, y1, x2, y2 of each face",
    "scores": ": from 0 to 1",
    "count": ": how many of the boxes are faces",
}


@dataclass(frozen=True)
class Described:
    """A converted model of the package, its size in bytes, and what was found out about these very files."""

    model: PackagedModel
    bytes: int
    report: ArtifactReport | None
    evaluated: EvaluatedArtifact | None
    benched: tuple[BenchedArtifact, ...] = ()

    @property
    def megabytes(self) -> str:
        return f"{self.bytes / 1e6:.1f}"

    @property
    def matched(self) -> str:
        return summary.matched(self.report) if self.report else ""

    @property
    def largest(self) -> str:
        return "" if self.report is None or self.report.largest is None else f"{self.report.largest:.2g}"


def licence_of(model: Model, source: Source) -> str:
    """The licence of the weights: the demo's are not the trained ones."""
    return DEMO_LICENCE if source.weights == "demo" else model.licence.weights


def render_card(
    model: Model, source: Source, verification: Verification, described: Sequence[Described], bench: Bench | None = None
) -> bytes:
    """The card; `bench` is where the speeds were measured. Raises RuntimeUnavailableError without Jinja."""
    models = [item.model for item in described]
    text = template(TEMPLATE, {}, markup=False).render(
        model=model,
        source=source,
        verification=verification,
        models=described,
        first=models[0],
        forms=list(dict.fromkeys(item.format for item in models)),
        preprocessing_outside=any(models[0].mean_values),
        centre=(model.detection.base_size - 1) / 2,
        meaning=_meaning(model, models[0].outputs),
        sizes=lambda tensor: f"[{', '.join(map(str, tensor.shape))}]",
        usage=examples(model, models),
        metrics=list(_metrics(described)),
        evaluated=list(evaluation_rows(described)),
        speeds=_speeds(described),
        bench=bench,
        licence=licence_of(model, source),
        version=__version__,
    )
    return text.encode()


def evaluation_rows(described: Sequence[Described]) -> list[dict[str, Any]]:
    """A row for each file, protocol and setting."""
    return [
        {
            "path": item.model.path,
            "precision": item.model.precision,
            "protocol": protocol.protocol,
            "images": protocol.images,
            "setting": setting.setting,
            "percent": f"{100 * setting.average_precision:.2f}",
            "faces": setting.faces,
        }
        for item in described
        if item.evaluated
        for protocol in item.evaluated.protocols
        for setting in protocol.settings
    ]


def _speeds(described: Sequence[Described]) -> list[dict[str, str]]:
    """A row for each file, runtime and type that was computed with."""
    return [
        {
            "path": item.model.path,
            "runtime": one_line(found.runtime),
            "computed": one_line(found.inference_precision),
            "shape": ", ".join(map(str, found.input_shape)),
            "latency": f"{1000 * found.latency.seconds.median:.1f}" if found.latency else "",
            "throughput": f"{found.throughput.images_per_second.median:.3g}" if found.throughput else "",
        }
        for item in described
        for found in item.benched
    ]


def _metrics(described: Sequence[Described]) -> list[dict[str, str]]:
    """For the index of a hub: of the first file that was evaluated."""
    rows = evaluation_rows(described)
    return [
        {
            "dataset": f"WIDER FACE validation, {row['images']} images",
            "type": "mean_average_precision",
            "name": f"{row['setting']} ({row['protocol']})",
            "value": row["percent"],
        }
        for row in rows
        if row["path"] == rows[0]["path"]
    ]


def _meaning(model: Model, outputs: Sequence[Tensor]) -> Mapping[str, str]:
    known = dict(_FACES)
    for head in model.detection.heads:
        count = len(head.scales)
        known[head.scores] = (
            f": stride {head.stride}; {count} channels of background, then {count} of face, one an anchor"
        )
        known[head.deltas] = f": stride {head.stride}; (dx, dy, dw, dh) of each anchor"
    return {output.name: known.get(output.name, "") for output in outputs}
