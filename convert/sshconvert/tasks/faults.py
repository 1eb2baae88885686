"""The faults that `sshtool verify --self-test` plants in a copy of an artifact, or in the decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sshconvert.arrays import Array
from sshconvert.editable import EditableModel

Outputs = Mapping[str, Array]  # by name, each [N, ...]
Size = tuple[int, ...]  # height and width of the network's image, () for a network that takes none
Editable = EditableModel[Any]
Decode = Callable[[Any, Outputs, Size], list[Any]]  # as `Task.decode`, with the task first


class Stage(IntEnum):
    """The place of a fault. Reports list faults in this order."""

    INPUT = 1
    OUTPUTS = 2
    WEIGHTS = 3
    FINE = 4  # in the weights, as small as a comparison must catch
    CHANNELS = 5  # of the outputs
    FILE = 6
    INSIDE = 7  # the outputs of a file with the post-processing inside
    BATCH = 8
    DECODING = 9


@dataclass(frozen=True)
class Fault:
    """One fault.

    `plant` puts it into a copy of an artifact, or raises NotThereError. `decode` replaces `Task.decode`. `file_of` is
    the precision whose file replaces the artifact. A fault `at_other_size` shows only at the batch of another size, and
    is planted in the new conversion for that size too.
    """

    stage: Stage
    name: str
    plant: Callable[[Editable], None] | None = None
    decode: Decode | None = None
    file_of: str = ""
    at_other_size: bool = False
