"""`sshtool package`: verified artifacts as a folder, or one file, that a stranger can check and deploy."""

from __future__ import annotations

from rich.console import Group, RenderableType

from sshtool.package.build import PackageResult
from sshtool.package.manifest import SUMS
from sshtool.report.terminal import lines, table


def render(result: PackageResult, plain: bool) -> RenderableType:
    """The result as text for a person."""
    rows = [[file.path, file.role.value, f"{file.bytes / 1e6:.2f}", file.sha256[:12]] for file in result.files]
    status = "verified" if result.verified else "NOT verified"
    listed = table(["file", "what it is", ">MB", "SHA-256"], rows, title=f"{result.model}, {status}", plain=plain)
    where = [f"package: {result.folder}", *([f"archive: {result.archive}"] if result.archive else [])]
    stands = [f"SHA-256 of {SUMS}: {result.sha256}"] if result.sha256 else ["nothing was written"]
    if not result.with_reference:
        stands.append(
            "There is no reference pack of this checkpoint and size, by which others hold the models to the original; "
            '`sshtool reference` makes it where MXNet is installed. Without it, `sshtool check` ends with "not proven".'
        )
    return Group(*([listed] if rows else []), lines(*where, *stands))
