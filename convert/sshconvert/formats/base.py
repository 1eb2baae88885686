"""The interface of a format: how to write an artifact, to read what it says about itself, to screen it and to edit it.

To add a format, put a module with a registered subclass of `Format` beside this one, or into an extension
(`sshconvert.registry`), and write its test. Nothing else knows formats or their suffixes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from sshconvert.contract import Contract
from sshconvert.editable import EditableModel, NotThereError
from sshconvert.onnx.model import OnnxModel, move_model, weights_path
from sshconvert.reading import is_there


class Source:
    """The network of a conversion, which formats write: models in memory, and an ONNX file once a format asks for it.

    `models` has the network by precision. The first model is the one that the file holds; the others differ from it in
    how the weights are stored.
    """

    def __init__(
        self,
        models: dict[str, OnnxModel],
        staging: Path,
        *,
        release: Callable[[], None],
        progress: Callable[[str], None],
    ) -> None:
        """`staging` is a folder beside the artifacts. `release` gives back the memory of the weights."""
        self.models, self.staging, self.progress = models, staging, progress
        self.precision, model = next(iter(models.items()))
        self.name = model.name
        self._release = release
        self._target: Path | None = None

    @cached_property
    def path(self) -> Path:
        """The network as one ONNX file."""
        self.progress(f"writing ONNX {self.precision}")
        path = self.staging / f"{self.name}.onnx"
        self.models[self.precision].write(path)
        return path

    @cached_property
    def linked(self) -> Path:
        """A small ONNX file whose weights a runtime maps from `path`. The models in memory are gone afterwards."""
        linked = self.path
        if not is_there(weights_path(self.path)):
            linked = self.staging / "linked.onnx"
            self.models[self.precision].write_linked(linked, self.path)
        self.models.clear()
        self._release()
        return linked

    def keep(self, target: Path) -> None:
        """Write `path`, and move it to its place when all formats are done with it."""
        self._target = target
        assert self.path

    def close(self) -> None:
        """Move the file that is kept."""
        if self._target:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            move_model(self.path, self._target, self.staging)


class Format(ABC):
    """One format. It has no instances: the registry has the class."""

    key: ClassVar[str]  # its name in options, packages and reports
    suffix: ClassVar[str]  # of the file to open
    companion_suffixes: ClassVar[tuple[str, ...]] = ()  # of the files that always lie beside it, under the same name
    is_text: ClassVar[bool] = False  # whether the file to open is
    is_editable: ClassVar[bool] = False  # whether `edit` is there
    reads_file: ClassVar[bool] = False  # whether `write` reads `Source.linked`, after all formats that read models

    @classmethod  # noqa: B027  # most formats need no library
    def require(cls) -> None:
        """Raise RuntimeUnavailableError if a library that `write` needs is not installed."""

    @classmethod
    def companions(cls, path: Path) -> tuple[Path, ...]:
        """The files beside the main file `path` that belong to the artifact."""
        return tuple(path.with_suffix(suffix) for suffix in cls.companion_suffixes)

    @classmethod
    def main_of(cls, path: Path) -> Path | None:
        """The main file, if `path` is named as a companion of one."""
        return path.with_suffix(cls.suffix) if path.suffix.lower() in cls.companion_suffixes else None

    @classmethod
    @abstractmethod
    def write(cls, source: Source, contracts: Mapping[Path, Contract]) -> None:
        """Write an artifact to each path, whole or not at all, with the weights stored in its contract's precision."""

    @classmethod
    def entries(cls, contract: Contract) -> Mapping[str, str]:
        """The metadata that `write` puts into a file."""
        return contract.metadata

    @classmethod
    @abstractmethod
    def screen(cls, path: Path) -> None:
        """Check a stranger's file before anything else reads it. Raises ArtifactError."""

    @classmethod
    @abstractmethod
    def read_contract(cls, path: Path) -> Contract:
        """Screen a file and read what it says about itself. Raises ArtifactError."""

    @classmethod
    def read_metadata(cls, path: Path) -> Mapping[str, str]:
        """Screen a file and read its metadata alone. Raises ArtifactError."""
        return cls.read_contract(path).metadata

    @classmethod
    def is_quantized(cls, path: Path) -> bool:  # most formats hold no such files
        """Whether a screened file rounds the values between layers, as INT8 does and nothing else."""
        return False

    @classmethod
    def edit(cls, path: Path) -> EditableModel[Any]:
        """Open a file for edits. Raises NotThereError if it cannot be edited."""
        raise NotThereError(f"{path}: cannot be edited")
