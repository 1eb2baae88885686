"""The task of a network whose outputs are used as they are."""

from __future__ import annotations

from typing import Final, Literal

import pydantic

from sshconvert.arrays import Array
from sshconvert.errors import DetectionError
from sshconvert.schema import TensorName
from sshconvert.tasks.base import Task
from sshconvert.tasks.faults import Outputs, Size
from sshconvert.tasks.registry import TASKS

RAW: Final = "tensors"


@TASKS.register(RAW)
class Tensors(Task):
    """The outputs `names` without an interpretation."""

    kind: Literal["tensors"] = "tensors"
    names: tuple[TensorName, ...] = pydantic.Field(min_length=1)

    def outputs(self) -> tuple[str, ...]:
        return self.names

    def has_own_scale(self) -> bool:
        return True

    def decode(self, outputs: Outputs, image_size: Size) -> list[dict[str, Array]]:
        missing = [name for name in self.names if name not in outputs]
        if missing:
            raise DetectionError(f"the outputs {', '.join(missing)} are missing; give all of {', '.join(self.names)}")
        return [{name: outputs[name][index] for name in self.names} for index in range(len(outputs[self.names[0]]))]
