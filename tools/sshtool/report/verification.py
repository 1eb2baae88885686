"""Writes the reports of a verification that the user asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sshconvert.arrays import Images
from sshconvert.errors import UsageError
from sshconvert.files import check_replaceable
from sshconvert.libraries import PILLOW
from sshtool.parity.reference import Reference
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import VerifyReport
from sshtool.report.html import pictured, render_html
from sshtool.report.junit import render_junit
from sshtool.report.markdown import render_markdown
from sshtool.report.page import check_page, write_page


@dataclass(frozen=True)
class ReportFiles:
    """The paths of the reports; None for a report that the user does not ask for."""

    html: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return (path for path in (self.html, self.junit, self.markdown) if path)

    def check(self) -> None:
        """Raise UsageError, RuntimeUnavailableError or OutputError, before minutes of work, for unusable paths."""
        paths = [path.resolve() for path in self]
        if len(set(paths)) < len(paths):
            raise UsageError("--html, --junit and --markdown: two name the same file; give each its own")
        check_page(self.html, PILLOW)
        for path in self:
            check_replaceable(path)

    def write(self, result: VerifyResult, reference: Reference) -> tuple[Path, ...]:
        """Write each report atomically. Raises OutputError."""
        report = result.report
        return (
            *write_page(self.html, lambda: render_html(report, images_of(report, reference), result.divergences)),
            *write_page(self.junit, lambda: render_junit(report)),
            *write_page(self.markdown, lambda: render_markdown(report)),
        )


def images_of(report: VerifyReport, reference: Reference) -> dict[str, Images]:
    """The images of the samples with a picture in the report, by name."""
    images: dict[str, Images] = {}
    names = pictured(report)
    for sample in report.samples:
        answer = reference.answer(sample.name, *sample.shape[1:3]) if sample.name in names else None
        if answer is not None:
            images[sample.name] = answer.sample.images
    return images
