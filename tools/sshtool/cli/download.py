"""`sshtool download`: a complete, described checkpoint in the output folder."""

from __future__ import annotations

from rich.console import RenderableType

from sshtool.checkpoint.download import DownloadResult
from sshtool.report.terminal import lines


def render(result: DownloadResult, plain: bool) -> RenderableType:  # noqa: ARG001  # the signature of all verbs
    """The result as text for a person."""
    note = "" if result.verified else " (not the archive that upstream published)"
    source = f"from {result.source}" + (" (it was in the cache)" if result.cached else "")
    return lines(f"{result.model}: weights {result.weights}{note}", source, *result.files)
