"""The reports of a verification that the user asked for: which files, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sshconvert.arrays import Images
from sshconvert.errors import UsageError
from sshconvert.files import check_replaceable, staged
from sshconvert.libraries import PILLOW
from sshtool.parity.reference import Reference
from sshtool.parity.verification import VerifyResult
from sshtool.parity.verify import VerifyReport
from sshtool.report.html import pictured, render_html
from sshtool.report.junit import render_junit
from sshtool.report.markdown import render_markdown
from sshtool.report.page import check_page


@dataclass(frozen=True)
class ReportFiles:
    """Where each kind of report goes; None: not wanted."""

    html: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return (path for path in (self.html, self.junit, self.markdown) if path)

    def check(self) -> None:
        """Before minutes of work: raises UsageError, RuntimeUnavailableError and OutputError for what cannot work."""
        paths = [path.resolve() for path in self]
        if len(set(paths)) < len(paths):
            raise UsageError("--html, --junit and --markdown: two name the same file; give each its own")
        check_page(self.html, PILLOW)
        for path in self:
            check_replaceable(path)

    def write(self, result: VerifyResult, reference: Reference) -> tuple[Path, ...]:
        """Write the reports, each whole or not at all. Raises OutputError."""
        report = result.report
        if self.html:
            _write(self.html, render_html(report, images_of(report, reference), result.divergences))
        if self.junit:
            _write(self.junit, render_junit(report))
        if self.markdown:
            _write(self.markdown, render_markdown(report))
        return tuple(self)


def images_of(report: VerifyReport, reference: Reference) -> dict[str, Images]:
    """The images of the samples that have a picture in the report, by name."""
    images = {}
    shown = pictured(report)
    for sample in (sample for sample in report.samples if sample.name in shown):
        answer = reference.answer(sample.name, *sample.shape[1:3])
        if answer is not None:
            images[sample.name] = answer.sample.images
    return images


def _write(path: Path, text: str) -> None:
    with staged(path) as part:
        part.write_text(text, encoding="utf-8")
