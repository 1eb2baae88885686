"""`sshtool reference`: MXNet's answers in one file, to verify artifacts where MXNet cannot be installed."""

from __future__ import annotations

from rich.console import RenderableType

from sshtool.parity.recording import ReferenceResult
from sshtool.report.terminal import table


def render(result: ReferenceResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    row = [str(result.path), f"{result.bytes / 1e6:.2f}", result.source, result.weights, str(len(result.samples))]
    return table(["reference pack", ">MB", "answers of", "weights", ">samples"], [row], plain=plain)
