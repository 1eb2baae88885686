"""The interface of a pass: one transformation of a model.

The docstring of each pass says what it needs, changes and keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from sshconvert.onnx.model import OnnxModel


class Pass(ABC):
    """A transformation with its parameters."""

    @abstractmethod
    def apply(self, model: OnnxModel) -> OnnxModel:
        """Return the transformed model; the argument stays as it is. Raises an error that names an unmet need."""
