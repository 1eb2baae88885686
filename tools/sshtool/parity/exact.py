"""The exact reference, which needs no MXNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sshconvert.checkpoint import Checkpoint
from sshtool.parity.reference import Draw, LiveReference
from sshtool.parity.samples import NOISE, SCENE
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.runtimes.exact import Exact

# Operations for all samples of one size: about a minute on one core. At least two samples are computed.
BUDGET: Final = 1.2e12
FEWEST: Final = 2
_FIRST: Final = (f"{SCENE}0", NOISE)

NOTE: Final = (
    "the expected outputs are the network's in double precision, by the definitions of its operators, which are tested "
    "against MXNet 1.9.1; MXNet did not run here"
)


class ExactReference(LiveReference):
    """The outputs in float64, rounded to float32, on as many of the samples as `BUDGET` permits."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        *,
        scenes: int = 2,
        images: Mapping[str, Draw] = MappingProxyType({}),
        progress: Progress = silent,
    ) -> None:
        runtime = Exact(checkpoint, settings)
        super().__init__(runtime, checkpoint.model, scenes=scenes, images=images, note=NOTE, progress=progress)
        self._checkpoint, self._own = checkpoint, tuple(images)

    def names(self, *size: int) -> Sequence[str]:
        model = self._checkpoint.model
        shapes = model.input_shapes
        if model.takes_image:
            shapes = {model.image_input.name: model.image_input.laid_out((1, 3, *size))}
        most = max(FEWEST, int(BUDGET / max(1, self._checkpoint.resolve(shapes).flops())))
        drawn = [name for name in super().names() if name not in self._own]
        drawn.sort(key=lambda name: name not in _FIRST)
        return [*drawn[:most], *self._own]
