"""`sshtool detect`: faces in image files, with a converted model."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.detection import Detected, DetectResult, ImageJob, NotRead, Outcome
from sshtool.report.terminal import lines, table


def render(result: DetectResult, plain: bool) -> RenderableType:
    """The result as text for a person: a row an image, then why images were not read."""
    rows = [[item.image, *_cells(item)] for item in result.images]
    made = table(["image", ">size", ">faces", ">best score", "picture"], rows, plain=plain)
    notes = [item.message for item in result.not_read]
    return Group(
        lines(f"{result.model}, weights {result.weights}, {result.runtime}: {_summary(result)}"), made, lines(*notes)
    )


def _summary(result: DetectResult) -> str:
    faces = sum(len(item.detections) for item in result.images if isinstance(item, Detected))
    planned = sum(isinstance(item, ImageJob) for item in result.images)
    counts = {"images": len(result.images), "faces": faces, "not read": len(result.not_read), "not done": planned}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("images", "faces"))


def _cells(item: Outcome) -> list[str]:
    if isinstance(item, NotRead):
        return ["not read", "", "", ""]
    picture = item.picture.name if item.picture is not None else ""
    if isinstance(item, ImageJob):
        return ["to do", "", "", picture]
    best = f"{item.detections[0].score:.2f}" if item.detections else ""
    return [f"{item.width}x{item.height}", str(len(item.detections)), best, picture]
