"""Runtimes whose models a sandboxed child process loads and runs.

All models under the same limits share one child, because a process costs more than a model. If the child dies, all its
models are lost, and the next load starts another child.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pydantic

from sshconvert.arrays import Array
from sshconvert.contract import Declaration
from sshconvert.models.spec import ModelSpec
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings
from sshtool.runtimes.registry import RUNTIMES
from sshtool.sandbox import Limits, shared_child
from sshtool.sandbox.child import Answer

SERVICE: Final = f"{__name__}:Service"

_DECLARATION: Final = pydantic.TypeAdapter(Declaration)

_ids = itertools.count()


class SandboxedRuntime(Runtime):
    """A model in the child, which keeps it until this object is deleted."""

    def __init__(
        self, runtime: type[Runtime], path: Path, model: ModelSpec, settings: Settings, limits: Limits
    ) -> None:
        """Load a file in the sandbox. Raises what `Runtime.load` raises, and ArtifactError beyond the limits."""
        self._child, self._path, self._id = shared_child(SERVICE, limits), str(path), next(_ids)
        body = {
            "do": "load",
            "id": self._id,
            "runtime": runtime.key,
            "path": self._path,
            "model": model.described(),
            "settings": asdict(settings),
        }
        answer = self._child.ask(self._path, body).body
        self.declaration = _DECLARATION.validate_python(answer["declaration"])
        self.settings = settings
        self.version, self.parallel = answer["version"], answer["parallel"]
        self.inference_precision, self._title = answer["inference_precision"], answer["title"]

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        raise NotImplementedError  # no option chooses this class

    def run(self, feed: Feed) -> Outputs:
        return self._outputs("run", feed)

    def layers(self, feed: Feed) -> Outputs:
        return self._outputs("layers", feed)

    def behind(self, tensors: Mapping[str, Array], feed: Feed) -> Outputs:
        return self._outputs("behind", feed, tensors)

    def tensors(self, feed: Feed, names: Collection[str]) -> Outputs:
        return self._outputs("tensors", feed, dict.fromkeys(sorted(names), np.empty(0)))

    def inferences(self, feed: Feed) -> list[Inference]:
        return [partial(self.run, feed)] * self.parallel

    def _outputs(self, action: str, feed: Feed, tensors: Mapping[str, Array] = MappingProxyType({})) -> Outputs:
        arrays = [feed] if isinstance(feed, np.ndarray) else list(feed.values())
        inputs = [] if isinstance(feed, np.ndarray) else list(feed)
        body = {"do": action, "id": self._id, "inputs": inputs, "tensors": list(tensors)}
        answer = self._child.ask(self._path, body, [*arrays, *tensors.values()])
        return dict(zip(answer.body["names"], answer.arrays, strict=True))

    def __str__(self) -> str:
        return str(self._title)

    def __del__(self) -> None:
        self._child.note({"do": "drop", "id": self._id})


class Service:
    """The loaded models in the child process, and the requests for them."""

    def __init__(self) -> None:
        self._loaded: dict[int, Runtime] = {}

    def __call__(self, body: dict[str, Any], arrays: tuple[Array, ...]) -> Answer:
        if body["do"] == "load":
            return self._load(body), []
        if body["do"] == "drop":
            self._loaded.pop(body["id"], None)
            return {}, []
        runtime = self._loaded[body["id"]]
        count = len(body["inputs"]) or 1
        feed = dict(zip(body["inputs"], arrays[:count], strict=True)) if body["inputs"] else arrays[0]
        if body["do"] == "behind":
            outputs = runtime.behind(dict(zip(body["tensors"], arrays[count:], strict=True)), feed)
        elif body["do"] == "tensors":
            outputs = runtime.tensors(feed, body["tensors"])
        else:
            outputs = runtime.layers(feed) if body["do"] == "layers" else runtime.run(feed)
        return {"names": list(outputs)}, [np.asarray(value) for value in outputs.values()]

    def _load(self, body: dict[str, Any]) -> dict[str, Any]:
        model, settings = ModelSpec.model_validate(body["model"]), Settings(**body["settings"])
        runtime = RUNTIMES[body["runtime"]].load(Path(body["path"]), model, settings)
        self._loaded[body["id"]] = runtime
        return {
            "version": runtime.version,
            "declaration": asdict(runtime.declaration),
            "parallel": runtime.parallel,
            "inference_precision": runtime.inference_precision,
            "title": str(runtime),
        }
