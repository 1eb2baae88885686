"""The original network by the definitions of its operators, in float64: a reference that needs no MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from sshconvert import __version__
from sshconvert.arrays import Array, Images
from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.errors import ArtifactError, ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.formats.registry import format_of
from sshconvert.graph import Entry
from sshconvert.models.spec import ModelSpec
from sshconvert.network import Network
from sshconvert.rounding import Rounding
from sshtool.runtimes.base import Feed, Inference, Outputs, Runtime, Settings, shown
from sshtool.runtimes.original import original_declaration, original_inputs

EXACT: Final = "exact"
# The title of the same computation in float32, as reports say it.
SINGLE: Final = "the same network in float32"


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
        self.checkpoint, self._single, self.rounding = checkpoint, single, rounding
        self.version, self.settings = __version__, settings
        self.declaration = original_declaration(checkpoint)

    def in_float32(self) -> Exact:
        """Return the same computation in float32, the error of which is a yardstick."""
        return Exact(self.checkpoint, self.settings, single=True, rounding=self.rounding)

    def rounded(self, rounding: Rounding) -> Exact:
        """Return the computation with rounded values."""
        return Exact(self.checkpoint, self.settings, rounding=rounding)

    def __str__(self) -> str:
        return SINGLE if self._single else f"{self.name} {self.version}"

    def flops(self, *size: int) -> float:
        """Return the operations for an image of this height and width, or without a size for the model's tensors."""
        model = self.checkpoint.model
        shapes = model.input_shapes
        if size:
            image = original_inputs(model, np.zeros((1, *size, 3), np.uint8))
            shapes = {**shapes, **{name: array.shape for name, array in image.items()}}
        return self.checkpoint.resolve(shapes).flops()

    def rounding_of(self, artifact: Path) -> Rounding:
        """Return the rounding that an artifact of the checkpoint declares. Raises ArtifactError."""
        network = self.checkpoint.resolve(self.checkpoint.model.input_shapes)
        return format_of(artifact).read_rounding(artifact, network, self.checkpoint.parameters)

    @cached_property
    def limits(self) -> Mapping[tuple[str, int], float]:
        """How far beyond half a level a runtime may choose, by place (`Rounding.limits`)."""
        network = self.checkpoint.resolve(self.checkpoint.model.input_shapes)
        return self.rounding.limits(network) if self.rounding else {}

    @classmethod
    def load(cls, path: Path, model: ModelSpec, settings: Settings) -> Runtime:
        return cls(open_checkpoint(path, model, allow_nonfinite=settings.allow_nonfinite), settings)

    def run(self, feed: Feed) -> Outputs:
        if not isinstance(feed, np.ndarray) or len(feed) == 1:
            return self._run(feed)
        parts = [self._run(image[None], number) for number, image in enumerate(feed)]  # less memory than a batch
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run_image(self, images: Images, number: int) -> Outputs:
        """Compute one image of a batch, whose rounding may follow a runtime's on the whole batch."""
        return self._run(images[number : number + 1], number)

    def layers(self, feed: Feed) -> Outputs:
        return self._computed(feed, inner=True)

    def inferences(self, feed: Feed) -> list[Inference]:
        return [lambda: self.run(feed)]

    def _run(self, feed: Feed, image: int | None = None) -> Outputs:
        outputs = self._computed(feed, image=image)
        return dict(zip(self.checkpoint.model.output_names, outputs.values(), strict=True))

    def _computed(self, feed: Feed, *, inner: bool = False, image: int | None = None) -> Outputs:
        """Compute the outputs, or all tensors, by the checkpoint's names. `image` is the number of a batch's image."""
        rounding = self.rounding
        if rounding is not None and image is not None:
            rounding = rounding.of_image(image)
        inputs = original_inputs(self.checkpoint.model, feed)
        try:
            network = self.checkpoint.resolve({name: array.shape for name, array in inputs.items()})
            network = _with_inner_outputs(network) if inner else network
            values = {**self.checkpoint.parameters, **inputs}
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
