"""`README.md` of a package: the model card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sshconvert import __version__
from sshconvert.checkpoint import DEMO
from sshconvert.contract import licence_of
from sshconvert.libraries import YAML, importing
from sshconvert.models.spec import ModelSpec, Published
from sshconvert.tasks.base import Task
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.inside import Inside
from sshtool.demo.network import detects_faces
from sshtool.package.evidence import Bench, BenchedArtifact, EvaluatedArtifact
from sshtool.package.manifest import PackagedModel, Provenance, Verification
from sshtool.package.usage import examples
from sshtool.parity.verify import ArtifactReport
from sshtool.report import summary
from sshtool.report.markup import Markdown, code, url
from sshtool.report.page import template

FILE: Final = "README.md"
LAYOUT_OF_IMAGES: Final = "in the layout of WIDER FACE"
TEMPLATE: Final = "model_card.md.j2"


@dataclass(frozen=True)
class CardModel:
    """A model of the package, its size in bytes, and the verification and measurements of exactly these files."""

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
        if self.report is None:
            return ""
        figures = [f"{name}: {figure}" for name, figure in self.report.figures.items()]
        return "; ".join(figures) or summary.matched(self.report)

    @property
    def largest(self) -> str:
        return "" if self.report is None or self.report.largest is None else f"{self.report.largest:.2g}"


@dataclass(frozen=True)
class CardLinks:
    """Paths of optional files, and of the page's folder, that the card names; "" for what is not in the package.

    `command` is `Layout.usage`.
    """

    page: str = ""
    pack: str = ""
    description: str = ""
    web: str = ""
    command: tuple[str, str] = ("", "")


def render_card(
    model: ModelSpec,
    source: Provenance,
    verification: Verification,
    described: Sequence[CardModel],
    bench: Bench | None = None,
    links: CardLinks = CardLinks(),  # frozen
) -> bytes:
    """The card. `bench` describes the machine of the speeds. Raises RuntimeUnavailableError without Jinja or PyYAML."""
    models = [item.model for item in described]
    declared = models[0].postprocessing
    inside = Inside(**declared.model_dump()) if declared else None
    filters = {"code": code, "url": url}
    text = template(TEMPLATE, filters, markup=False).render(
        front_matter=_front_matter(model, source, described),
        beside=links,
        demo=source.weights == DEMO,
        fitted=detects_faces(model),
        model=model,
        source=source,
        verification=verification,
        models=described,
        results=_results(model.task),
        detects=isinstance(model.task, DetectionTask),
        first=models[0],
        inputs=[models[0].input, *models[0].other_inputs],
        preprocessing_outside=any(models[0].mean_values),
        published=None if model.published == Published() else model.published,
        meaning=model.task.meaning,
        outputs_text=Markdown(model.task.card(inside)),
        sizes=lambda tensor: Markdown(f"[{', '.join(map(str, tensor.shape))}]"),
        usage=[(title, Markdown(lines)) for title, lines in examples(model, models)],
        deployment=[(title, Markdown(command)) for title, command in (links.command,) if title],
        evaluated=list(evaluation_rows(described)),
        speeds=_speeds(described),
        bench=bench,
        licence=licence_of(model, source.weights),
        version=__version__,
    )
    return text.encode()


def evaluation_rows(described: Sequence[CardModel]) -> list[dict[str, Any]]:
    """A row for each model, protocol and setting."""
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


def _speeds(described: Sequence[CardModel]) -> list[dict[str, str]]:
    """A row for each model, runtime and inference precision."""
    return [
        {
            "path": item.model.path,
            "runtime": speed.runtime,
            "computed": speed.inference_precision,
            "shape": ", ".join(map(str, speed.input_shape)),
            "latency": f"{1000 * speed.latency.seconds.median:.1f}" if speed.latency else "",
            "throughput": f"{speed.throughput.images_per_second.median:.3g}" if speed.throughput else "",
        }
        for item in described
        for speed in item.benched
    ]


def _front_matter(model: ModelSpec, source: Provenance, described: Sequence[CardModel]) -> Markdown:
    """The YAML that Hugging Face reads. It names the data sets only for the published, trained weights."""
    with importing(YAML):
        import yaml
    forms = dict.fromkeys(item.model.format for item in described)
    archive = model.checkpoint.archive
    trained = archive is not None and source.weights == f"sha256:{archive.sha256}"
    fields = {
        "license": model.licence.spdx.lower(),
        "pipeline_tag": model.task.pipeline_tag,
        "tags": [*model.tags, *forms],
        "datasets": list(model.datasets) if trained else [],
    }
    front: dict[str, Any] = {key: value for key, value in fields.items() if value}
    if metrics := _metrics(model, described):
        front["model-index"] = [{"name": model.name, "results": metrics}]
    return Markdown(yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=math.inf))


def _results(task: Task) -> str:
    """The head of the column of compared results, "" for a task that compares none."""
    if type(task).compare is Task.compare:
        return ""
    return "detections matched" if isinstance(task, DetectionTask) else "results"


def _metrics(model: ModelSpec, described: Sequence[CardModel]) -> list[dict[str, Any]]:
    """The figures of the first evaluated model, for a hub's index. The record does not name the dataset."""
    rows = evaluation_rows(described)
    detects = isinstance(model.task, DetectionTask)
    kind, layout = ("mean_average_precision", LAYOUT_OF_IMAGES) if detects else ("accuracy", "of the protocol")
    return [
        {
            "task": {"type": model.task.pipeline_tag},
            "dataset": {"type": "images", "name": f"{row['images']} images {layout}"},
            "metrics": [
                {
                    "type": kind,
                    "name": f"{row['setting']} ({row['protocol']})",
                    "value": float(row["percent"]),
                }
            ],
        }
        for row in rows
        if row["path"] == rows[0]["path"]
    ]
