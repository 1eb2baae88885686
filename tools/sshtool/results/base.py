"""The interface of a format of results, and the formats by key.

A format is one module. It writes the results of each image as they come, in memory that does not grow with their
number, and a file is there when it is complete.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from sshconvert.libraries import Library
from sshconvert.registry import Registry
from sshtool.results.outcomes import Detected

Write: TypeAlias = Callable[[Detected], None]


@dataclass(frozen=True)
class Meaning:
    """What the boxes mean.

    Attributes:
        labels: The classes, in the order of their numbers.
        last_pixel: 1 if boxes include their corner pixels, otherwise 0. A width is x2 - x1 + `last_pixel`.
        attributes: The names of the attributes.
        points: The number of landmarks of a detection.

    """

    labels: tuple[str, ...]
    last_pixel: int
    attributes: tuple[str, ...] = ()
    points: int = 0

    def class_id(self, label: str) -> int:
        """Return the number of a class; 0 if the model has one."""
        return self.labels.index(label) if label else 0


class ResultFormat(ABC):
    """A format of results.

    Attributes:
        place: The name of its file or folder, beside those of other formats.
        names_files: Whether it names a file after each image, so that images need distinct names.
        needs: The optional library without which it cannot be written.

    """

    place: ClassVar[str]
    names_files: ClassVar[bool] = False
    needs: ClassVar[Library | None] = None

    @classmethod
    @abstractmethod
    def opened(cls, path: Path, meaning: Meaning) -> AbstractContextManager[Write]:
        """Return a context with a function that writes the detections of an image to `path`.

        The file appears at the end of the context, or stays as it was if the context raises. Raises OutputError if it
        cannot be written.
        """


RESULTS: Final = Registry[type[ResultFormat]]("sshtool.results")
