"""The paths of a model's checkpoint, artifacts, packages and records below the output folder.

<output>/checkpoints/<model>/                the checkpoint
<output>/<model>/<precision>/<model>.…       artifacts
<output>/<model>/verification.json           record of their verification
<output>/<model>/<model>-reference.npz       MXNet's answers
<output>/<model>/evaluation/, detections/    journals of `evaluate`, pictures of `detect`
<output>/releases/<model>-<layout>           packages
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import CheckpointFiles
from sshconvert.convert import plan
from sshconvert.formats.registry import FORMATS
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options, Precision
from sshconvert.reading import is_file

VERIFICATION: Final = "verification.json"


@dataclass(frozen=True)
class Workspace:
    """A model and the output folder. `files` are the checkpoint of a network without a description."""

    model: ModelSpec
    folder: Path
    files: CheckpointFiles | None = None

    @property
    def checkpoint(self) -> Path:
        """The folder of the downloaded checkpoint."""
        return self.folder / "checkpoints" / self.model.name

    def source(self, checkpoint: Path | CheckpointFiles | None = None) -> Path | CheckpointFiles:
        """The checkpoint to open: the given one, the files of the network, or the downloaded one."""
        return checkpoint or self.files or self.checkpoint

    @property
    def artifacts(self) -> Path:
        return self.folder / self.model.name

    @property
    def verification(self) -> Path:
        """The record of the last verification of all converted artifacts; `package` reads it."""
        return self.artifacts / VERIFICATION

    @property
    def reference_pack(self) -> Path:
        return self.artifacts / f"{self.model.name}-reference.npz"

    @property
    def journals(self) -> Path:
        return self.artifacts / "evaluation"

    @property
    def detections(self) -> Path:
        return self.artifacts / "detections"

    def package(self, layout: str) -> Path:
        return self.folder / "releases" / f"{self.model.name}-{layout}"

    def converted(self) -> tuple[Path, ...]:
        """The artifacts that `convert` wrote."""
        planned = plan(self.model.name, self.folder, Options(tuple(FORMATS), tuple(Precision)))
        return tuple(artifact.path for artifact in planned if is_file(artifact.path))
