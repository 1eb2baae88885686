"""The report of `sshtool verify` as JUnit XML: a suite for each artifact, a case for each output and each check.

The standard library writes it. junitparser writes other bytes if lxml is installed, and lets characters through that
XML does not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.etree import ElementTree as ET

from sshconvert.messages import printable
from sshconvert.tasks.detection import DetectionTask
from sshconvert.tasks.inside import CHECK as INSIDE, POSTPROCESSING
from sshtool.parity.verify import ArtifactReport, Failure, VerifyReport
from sshtool.report.summary import (
    BEYOND,
    Column,
    columns,
    cost_of_detections,
    cost_of_output,
    costs,
    distance_of,
    excess,
    farthest,
    figure,
    headline,
    sizes,
    worst,
)

# Every suite has these cases, so that a CI system can track them from run to run.
LOAD: Final = "load"
DECLARATION: Final = "declaration"
BEFORE: Final = (LOAD, DECLARATION, "run", "names", "order")
TENSOR: Final = "tensor"

# The property with an output's distance from the exact result, in units of the original's own.
TIMES: Final = "times the distance of the original"

# Checks that belong to another case.
_CASES: Final = {"precision": DECLARATION, "weights": DECLARATION}


@dataclass(frozen=True)
class _Case:
    """One test case. `skipped` is the reason for a case without a result."""

    name: str
    failures: tuple[Failure, ...] = ()
    skipped: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)


def render_junit(report: VerifyReport) -> str:
    """Render the document. A report without artifacts becomes a failure."""
    root = ET.Element("testsuites", name=f"sshtool verify {printable(report.model)}")
    for column in columns(report):
        cases = _cases(column, report.outputs, _result_checks(report))
        _add_suite(root, column.label, cases, _properties(report, column))
    if not report.passed and not report.failures:
        nothing = Failure("", "artifacts", headline(report))
        _add_suite(root, "artifacts", [_Case(nothing.check, (nothing,))], {})
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _result_checks(report: VerifyReport) -> Sequence[str]:
    """The checks of results, unless the task compares tensors alone."""
    compared = [item for artifact in report.artifacts for item in artifact.samples]
    if named := [name for artifact in report.artifacts for name in artifact.figures]:
        return named
    images = [image for item in compared for image in item.detections]
    if compared and not images:
        return ()
    absent = {name for name in ("landmarks", "attributes") if not any(getattr(image, name) for image in images)}
    return tuple(name for name in DetectionTask.checks if name not in absent)


def _cases(column: Column, outputs: Sequence[str], checks: Sequence[str]) -> list[_Case]:
    """All cases of an artifact: the standard ones, one for each output, and one for each other failed check."""
    failures: dict[str, list[Failure]] = {}
    for failure in column.failures:
        failures.setdefault(_case_name(failure), []).append(failure)
    standard = [*BEFORE, *(f"{TENSOR} {output}" for output in outputs), *checks]
    return [
        _Case(
            name,
            tuple(failures.get(name, ())),
            "" if name in failures else _why_skipped(column, name),
            _measured(column, name.removeprefix(f"{TENSOR} ")),
        )
        for name in dict.fromkeys([*standard, *failures])
    ]


def _measured(column: Column, output: str) -> dict[str, str]:
    """The distance of an output from the exact result, in units of the original's, and its largest difference."""
    largest, factor = worst(column, output), farthest(column, output)
    return {
        **({} if factor is None else {TIMES: f"{factor:.3g}"}),
        **({} if largest is None else {"largest difference": figure(largest.tensor)}),
    }


def _case_name(failure: Failure) -> str:
    return f"{TENSOR} {failure.output}" if failure.check == TENSOR else _CASES.get(failure.check, failure.check)


def _why_skipped(column: Column, name: str) -> str:
    if column.report is None:
        return "the artifact could not be loaded"
    if name in (INSIDE, POSTPROCESSING) and column.report.declaration.faces is None:
        return "the file gives heads, which sshtool decodes"
    if name in column.report.skipped:
        return column.report.skipped[name]
    compared = bool(column.report.samples)
    return "" if compared or name in (LOAD, DECLARATION) else "the artifact was not compared on any sample"


def _properties(report: VerifyReport, column: Column) -> dict[str, str]:
    common = {"model": report.model, "reference": report.reference, "reference weights": report.weights}
    if column.report is None:
        return common
    artifact = column.report
    return {
        **common,
        "path": str(artifact.path),
        "runtime": artifact.runtime,
        "device": artifact.settings.device,
        "profile": artifact.profile.name,
        "weights": artifact.declaration.weights,
        "input shape": sizes(artifact.declaration.input_shape),
        "detections excused near a threshold": str(artifact.near_threshold),
        **_distances(report, artifact),
        **{f"sha256 of {name}": digest for name, digest in artifact.files.items()},
        **{f"{sample} was left out": reason for sample, reason in artifact.skipped.items()},
    }


def _distances(report: VerifyReport, artifact: ArtifactReport) -> dict[str, str]:
    """The distance from the exact result, the decided candidates, and the cost of rounded weights."""
    properties = {"not excluded": BEYOND}
    if sentence := distance_of(artifact, report):
        properties["distance from the exact result"] = sentence
    if artifact.certain is not None:
        numbers = {"certain": artifact.certain, "excluded": artifact.excluded, "open": artifact.undecided}
        properties |= {f"{name} candidates": str(number) for name, number in numbers.items()}
        properties["open detections that one side has"] = str(artifact.open)
    if costs(artifact):
        properties |= {f"cost of the precision, {name}": cost_of_output(artifact, name) for name in report.outputs}
        if detections := cost_of_detections(costs(artifact)):
            properties["cost of the precision, detections"] = detections
    return properties


def _add_suite(root: ET.Element, name: str, cases: Iterable[_Case], properties: dict[str, str]) -> None:
    suite = ET.SubElement(root, "testsuite", name=printable(name))
    _add_properties(suite, properties)
    for case in cases:
        _add_case(suite, case)
    for total, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        suite.set(total, str(len(suite.findall(tag))))
    suite.set("errors", "0")


def _add_properties(element: ET.Element, properties: Mapping[str, str]) -> None:
    if properties:
        listed = ET.SubElement(element, "properties")
        for key, value in properties.items():
            ET.SubElement(listed, "property", name=printable(key), value=printable(value))


def _add_case(suite: ET.Element, case: _Case) -> None:
    """Add a case with at most one <failure>, because some readers allow only one. Its text lists all failures."""
    element = ET.SubElement(suite, "testcase", classname=f"sshtool.{suite.get('name')}", name=printable(case.name))
    _add_properties(element, case.properties)
    if case.failures:
        worst, *others = case.failures
        message = worst.message + (f" (and {len(others)} more)" if others else "")
        failure = ET.SubElement(element, "failure", type=worst.check, message=printable(message))
        failure.text = "\n".join(printable(_line(item)) for item in case.failures)
    elif case.skipped:
        ET.SubElement(element, "skipped", message=case.skipped)


def _line(failure: Failure) -> str:
    where = f"{failure.sample}: " if failure.sample else ""
    measure = f" ({excess(failure)})" if failure.excess is not None else ""
    return f"{where}{failure.message}{measure}"
