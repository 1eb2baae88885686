"""The exact reference, which needs no MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sshconvert.checkpoint import Checkpoint
from sshtool.parity.reference import Draw, LiveReference
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import Settings
from sshtool.runtimes.exact import Exact

NOTE: Final = (
    "the expected outputs are the network's in double precision, by the definitions of its operators, which are tested "
    "against MXNet 1.9.1; MXNet did not run here"
)


def exact_reference(
    checkpoint: Checkpoint,
    settings: Settings,
    *,
    scenes: int = 2,
    images: Mapping[str, Draw] = MappingProxyType({}),
    progress: Progress = silent,
) -> LiveReference:
    """Return the reference of outputs in float64, rounded to float32."""
    runtime = Exact(checkpoint, settings)
    return LiveReference(runtime, checkpoint.model, scenes=scenes, images=images, note=NOTE, progress=progress)
