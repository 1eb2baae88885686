"""The original network by the definitions of its operators, in float64: a reference that needs no MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert import __version__
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.errors import ArtifactError, ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.graph import Entry
from sshconvert.models.spec import ModelSpec
from sshconvert.network import Network
from sshconvert.rounding import Rounding
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings, shown
from sshtool.runtimes.original import original_declaration, original_inputs

EXACT: Final = "exact"


class Exact(Runtime):
    """Computes the outputs in float64, and rounds them to float32 at the end.

    `single` computes in float32, as the original does. `rounding` is that of an artifact of a smaller precision. NumPy
    computes one image at a time, whatever the settings.
    """

    key = EXACT
    module = "numpy"
    name = "exact evaluation"
    formats = ()
    needs_sandbox = False  # sshconvert has checked the checkpoint

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings = Settings(),  # noqa: B008  # frozen
        *,
        single: bool = False,
        rounding: Rounding | None = None,
    ) -> None:
        self._checkpoint, self._single, self._rounding = checkpoint, single, rounding
        self.version, self.settings = __version__, settings
        self.declaration = original_declaration(checkpoint)

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(open_checkpoint(path, model, allow_nonfinite=settings.allow_nonfinite), settings)

    def run(self, feed: Feed) -> Outputs:
        if not isinstance(feed, np.ndarray) or len(feed) == 1:
            return self._run(feed)
        parts = [self._run(image[None], number) for number, image in enumerate(feed)]  # less memory than a batch
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def layers(self, feed: Feed) -> Outputs:
        return self._computed(feed, inner=True)

    def inferences(self, feed: Feed) -> list[Inference]:
        return [lambda: self.run(feed)]

    def _run(self, feed: Feed, image: int | None = None) -> Outputs:
        outputs = self._computed(feed, image=image)
        return dict(zip(self._checkpoint.model.output_names, outputs.values(), strict=True))

    def _computed(self, feed: Feed, *, inner: bool = False, image: int | None = None) -> Outputs:
        """Compute the outputs, or all tensors, by the checkpoint's names. `image` is the number of a batch's image."""
        rounding = self._rounding
        if rounding is not None and image is not None:
            rounding = rounding.of_image(image)
        inputs = original_inputs(self._checkpoint.model, feed)
        try:
            network = self._checkpoint.resolve({name: array.shape for name, array in inputs.items()})
            network = _with_inner_outputs(network) if inner else network
            values = {**self._checkpoint.parameters, **inputs}
            return _rounded(evaluate(network, values, single=self._single, rounding=rounding))
        except ShapeError as error:
            raise ArtifactError(f"the checkpoint cannot be computed on {shown(feed)} ({error})") from None


def _with_inner_outputs(network: Network) -> Network:
    """Return the network with every tensor as an output, except the variables."""
    entries = tuple(
        Entry(number, output)
        for number, (node, shapes) in enumerate(zip(network.graph.nodes, network.shapes, strict=True))
        if not node.is_variable
        for output in range(len(shapes))
    )
    return replace(network, graph=replace(network.graph, outputs=entries))


def _rounded(outputs: Mapping[str, Array]) -> Outputs:
    return {
        name: np.asarray(array, np.float32 if array.dtype.kind == "f" else array.dtype)
        for name, array in outputs.items()
    }
