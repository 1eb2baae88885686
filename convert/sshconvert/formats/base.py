"""The interface of a format: writing an artifact, reading its contract, screening and editing it.

To add a format, put a module with a registered subclass of `Format` beside this one, or into an extension
(`sshconvert.registry`), and write its test. No other module knows formats or their suffixes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from sshconvert.arrays import Array
from sshconvert.contract import Contract
from sshconvert.editable import EditableModel, NotThereError
from sshconvert.errors import PrecisionError
from sshconvert.network import Network
from sshconvert.onnx.model import OnnxModel, move_model, weights_path
from sshconvert.options import Options
from sshconvert.reading import is_there
from sshconvert.rounding import Rounding


def has_suffix(path: Path, suffix: str) -> bool:
    """Return whether a name ends in a suffix, in any case, after at least one letter. A suffix may have two dots."""
    return path.name.lower().endswith(suffix) and len(path.name) > len(suffix)


class ExportedNetwork:
    """The network that formats write: models in memory, and an ONNX file once a format asks for it.

    `models` are by precision and differ in how they store the weights. The file holds the first model.
    """

    def __init__(
        self,
        models: dict[str, OnnxModel],
        staging: Path,
        *,
        release: Callable[[], None],
        progress: Callable[[str], None],
    ) -> None:
        """`staging` is a folder beside the artifacts. `release` frees the memory of the weights."""
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
        """A small ONNX file whose weights a runtime maps from `path`. This discards the models in memory."""
        linked = self.path
        if not is_there(weights_path(self.path)):
            linked = self.staging / "linked.onnx"
            self.models[self.precision].write_linked(linked, self.path)
        self.models.clear()
        self._release()
        return linked

    def keep(self, target: Path) -> None:
        """Write `path`, and let `close` move it to `target`."""
        self._target = target
        assert self.path

    def close(self) -> None:
        """Move `path` to the target of `keep`."""
        if self._target:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            move_model(self.path, self._target, self.staging)


@dataclass(frozen=True)
class Structure:
    """The number of nodes by operator, and the number of weights in millions. None if it is not known."""

    operators: Mapping[str, int] = field(default_factory=dict)
    mparams: float | None = None


class Format(ABC):
    """A format. The registry holds the class, which has no instances."""

    key: ClassVar[str]  # its name in options, packages and reports
    suffix: ClassVar[str]  # of the main file, which readers open
    companion_suffixes: ClassVar[tuple[str, ...]] = ()  # of the files that always lie beside it, under the same name
    is_text: ClassVar[bool] = False  # the main file is text
    text_companions: ClassVar[tuple[str, ...]] = ()  # those of `companion_suffixes` that are text
    is_editable: ClassVar[bool] = False  # the class has `edit`
    reads_file: ClassVar[bool] = False  # `write` reads `ExportedNetwork.linked`, after the formats that read models

    @classmethod  # noqa: B027  # most formats need no library
    def require(cls) -> None:
        """Raise RuntimeUnavailableError if a library that `write` needs is not installed."""

    @classmethod  # noqa: B027  # most formats take all options
    def accept(cls, options: Options) -> None:
        """Raise FormatError for options that the format has no form for."""

    @classmethod
    def companions(cls, path: Path) -> tuple[Path, ...]:
        """Return the files beside the main file `path` that belong to the artifact."""
        return tuple(path.with_name(name) for name in cls.companion_names(path.name))

    @classmethod
    def companion_names(cls, name: str) -> tuple[str, ...]:
        """Return the names of the files in `companion_suffixes` that lie beside a main file of this name."""
        return tuple(name[: -len(cls.suffix)] + suffix for suffix in cls.companion_suffixes)

    @classmethod
    def text_suffixes(cls) -> tuple[str, ...]:
        """Return the suffixes of the files that are text."""
        return (*([cls.suffix] if cls.is_text else []), *cls.text_companions)

    @classmethod
    def main_of(cls, path: Path) -> Path | None:
        """Return the main file to which `path` has the name of a companion."""
        ending = next((suffix for suffix in cls.companion_suffixes if has_suffix(path, suffix)), None)
        return path.with_name(path.name[: -len(ending)] + cls.suffix) if ending else None

    @classmethod
    @abstractmethod
    def write(cls, network: ExportedNetwork, contracts: Mapping[Path, Contract]) -> None:
        """Write an artifact to each path, whole or not at all, with the weights stored in its contract's precision."""

    @classmethod
    def entries(cls, contract: Contract) -> Mapping[str, str]:
        """Return the metadata that `write` puts into a file."""
        return contract.metadata

    @classmethod
    @abstractmethod
    def screen(cls, path: Path) -> None:
        """Check an untrusted file before any library reads it. Raises ArtifactError."""

    @classmethod
    @abstractmethod
    def read_contract(cls, path: Path) -> Contract:
        """Screen a file and read its contract. Raises ArtifactError."""

    @classmethod
    def read_metadata(cls, path: Path) -> Mapping[str, str]:
        """Screen a file and read its metadata alone. Raises ArtifactError."""
        return cls.read_contract(path).metadata

    @classmethod
    def read_structure(cls, path: Path) -> Structure:  # not of every format
        """Screen a file, and count its operators and weights. Raises ArtifactError."""
        cls.screen(path)
        return Structure()

    @classmethod
    def is_quantized(cls, path: Path) -> bool:  # most formats have no INT8
        """Return whether a screened file rounds the values between layers, which only INT8 does."""
        return False

    @classmethod
    def read_rounding(cls, path: Path, network: Network, parameters: Mapping[str, Array]) -> Rounding:
        """Screen a file, and return the rounding that it declares for a network with these parameters.

        The network has the names of the artifact's tensors, and may have another size. Raises PrecisionError if the
        file rounds what is not the network's, or in an unknown way.
        """
        raise PrecisionError(f"{path}: the rounding of this format is not known; verify ONNX or OpenVINO IR")

    @classmethod
    def edit(cls, path: Path) -> EditableModel[Any]:
        """Open a file for edits. Raises NotThereError if it cannot be edited."""
        raise NotThereError(f"{path}: cannot be edited")
