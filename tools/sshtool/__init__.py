"""sshtool: the command line around sshconvert. Gets checkpoints, converts them, runs and compares what came out.

`Detector`, `DetectorOptions` and `ImageDetections` are the library, imported at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sshtool.detector import Detector, DetectorOptions, ImageDetections

__all__ = ["Detector", "DetectorOptions", "ImageDetections"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sshtool.detector"), name)
