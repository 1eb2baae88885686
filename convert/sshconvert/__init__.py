"""sshconvert converts MXNet checkpoints to ONNX and OpenVINO IR, without MXNet and without network access.

The package imports its public names at their first use. README.md has examples.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sshconvert.checkpoint import Checkpoint, CheckpointFiles, open_checkpoint
    from sshconvert.convert import Artifact, convert
    from sshconvert.models.registry import load_model
    from sshconvert.models.spec import InputSpec
    from sshconvert.options import Color, Dynamic, InputType, Layout, Options, Postprocessing, Precision
    from sshconvert.undescribed import describe

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "Checkpoint",
    "CheckpointFiles",
    "Color",
    "Dynamic",
    "InputSpec",
    "InputType",
    "Layout",
    "Options",
    "Postprocessing",
    "Precision",
    "convert",
    "describe",
    "load_model",
    "open_checkpoint",
]

_MODULES: Final = {
    "checkpoint": ("Checkpoint", "CheckpointFiles", "open_checkpoint"),
    "convert": ("Artifact", "convert"),
    "models.registry": ("load_model",),
    "models.spec": ("InputSpec",),
    "options": ("Color", "Dynamic", "InputType", "Layout", "Options", "Postprocessing", "Precision"),
    "undescribed": ("describe",),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        """Keep the import of the module `convert` from hiding the function `convert`."""
        if name not in _MODULE_OF:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
