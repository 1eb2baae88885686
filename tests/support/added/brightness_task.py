"""A task from outside: the network scores how bright an image is."""

from __future__ import annotations

from typing import Literal

from sshconvert.schema import TensorName
from sshconvert.tasks.base import Task
from sshconvert.tasks.faults import Outputs, Size
from sshconvert.tasks.registry import TASKS


@TASKS.register("brightness")
class Brightness(Task):
    """A dark and a bright score for each image; the larger one decides."""

    kind: Literal["brightness"]
    scores: TensorName

    def outputs(self) -> tuple[str, ...]:
        return (self.scores,)

    def decode(self, outputs: Outputs, image_size: Size) -> list[str]:
        return ["bright" if bright > dark else "dark" for dark, bright in outputs[self.scores].tolist()]

    def meaning(self, output: str) -> str:
        return ": dark and bright"

    def usage(self, *, inside: bool) -> tuple[str, str]:
        return "From the scores to a word", 'print(["dark", "bright"][outputs[0][0].argmax()])'
