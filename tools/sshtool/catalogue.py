"""The list of the models that ship with their facts, from their descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sshconvert.models.registry import load_model, model_names
from sshconvert.models.spec import ModelSpec, SourceSpec


@dataclass(frozen=True)
class ListedModel:
    """A model and its published figures.

    `inputs` are the shapes by name. Figures are None where none is published. `accuracy` are percents by their name.
    `dead_since` is "" unless every known source is dead; without any source, `sources` is 0. `verified` says what
    sshtool's developers compared with MXNet, and on which weights.
    """

    name: str
    title: str
    task: str
    inputs: Mapping[str, tuple[int, ...]]
    gflops: float | None
    mparams: float | None
    accuracy: Mapping[str, float]
    license_code: str
    license_weights: str
    license_note: str
    sources: int
    dead_since: str
    verified: str


@dataclass(frozen=True)
class ModelsResult:
    """The models, by name."""

    models: tuple[ListedModel, ...]


def list_models() -> ModelsResult:
    """List the models that ship."""
    return ModelsResult(tuple(_listed(load_model(name)) for name in model_names()))


def _listed(model: ModelSpec) -> ListedModel:
    sources = model.checkpoint.all_sources
    return ListedModel(
        name=model.name,
        title=model.title,
        task=model.task.kind,
        inputs=model.input_shapes,
        gflops=model.published.gflops,
        mparams=model.published.mparams,
        accuracy=_accuracy(model),
        license_code=model.licence.code,
        license_weights=model.licence.weights,
        license_note=model.licence.note,
        sources=len(sources),
        dead_since=_dead_since(sources),
        verified=model.verified,
    )


def _accuracy(model: ModelSpec) -> dict[str, float]:
    published = model.published
    own = {} if published.map_percent is None else {"WIDER mAP": published.map_percent}
    wider = {f"WIDER {setting}": value for setting, value in published.wider_percent.items()}
    return own | wider | published.accuracy_percent


def _dead_since(sources: tuple[SourceSpec, ...]) -> str:
    dead = [source.dead_since for source in sources if source.dead_since]
    return ", ".join(dict.fromkeys(dead)) if sources and len(dead) == len(sources) else ""
