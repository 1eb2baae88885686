"""The result of `sshtool bench` as tables, and as one self-contained HTML page with bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sshconvert import __version__
from sshconvert.messages import count
from sshtool.bench.figures import BenchResult, CandidateFigures, Measured, Spread
from sshtool.bench.measuring import LATENCY, THROUGHPUT
from sshtool.report import summary
from sshtool.report.axis import Axis
from sshtool.report.page import template

TEMPLATE: Final = "bench.html.j2"
TITLES: Final = {
    LATENCY: "Latency: one image after another",
    THROUGHPUT: "Throughput: many images in parallel",
}

# The geometry of the bars, in units of the SVG's view box.
WIDTH: Final = 640
LEFT: Final = 4
RIGHT: Final = 636  # the end of the longest whisker, and of the figures above the bars
STEP: Final = 44
THICK: Final = 16
TOP: Final = 24  # of the first bar, below its name
LONGEST_NAME: Final = 44  # a name may be a path; the table shows it whole

# The load average above which the machine counts as busy.
BUSY: Final = 0.25
MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class BenchTable:
    """The figures of one mode. The name of a column of numbers begins with ">"."""

    mode: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A candidate's median as a bar, and its quartiles as a whisker, in coordinates of the SVG."""

    label: str
    figure: str
    y: float
    length: float
    whisker: str
    baseline: bool


@dataclass(frozen=True)
class Chart:
    """The bars of one mode. `text` describes them in words."""

    title: str
    better: str
    height: float
    bars: tuple[Bar, ...]
    text: str


def headline(result: BenchResult) -> str:
    """The model, the machine and the length of the measurement."""
    dose = count(result.runs, "computation") if result.runs else f"{result.duration:g} s"
    threads = count(result.threads, "thread") if result.threads else "threads as each runtime chooses"
    machine = f"{result.environment['processor']}, {count(result.cores, 'core')}"
    return f"{result.model} on {machine}: {dose} of each in {count(result.rounds, 'round')} of turns, {threads}"


def bench_tables(result: BenchResult) -> tuple[BenchTable, ...]:
    """A table for each mode that was measured."""
    tables = []
    for mode in (LATENCY, THROUGHPUT):
        if members := _members(result, mode):
            rows = tuple(_row(item, measured, mode) for item, measured in members)
            tables.append(BenchTable(mode, TITLES[mode], _columns(mode), rows))
    return tuple(tables)


def remarks(result: BenchResult) -> tuple[str, ...]:
    """Sentences that explain the figures."""
    return tuple(_remarks(result))


def _remarks(result: BenchResult) -> Iterator[str]:
    yield (
        f"Speed is the ratio to {result.baseline}, the median over turns of the same round. Ranges are quartiles. CPU "
        "is the time of all threads for one computation, memory the peak of the process."
    )
    for item in result.left_out:
        yield f"{item.label} was left out: {item.reason}."
    sizes = {item.label: item.input_shape for item in result.candidates}
    usual = sizes[result.baseline]
    for label, size in sizes.items():
        if size[1:] != usual[1:]:
            yield f"{label} took images of {size[3]}x{size[2]}, the baseline of {usual[3]}x{usual[2]}: it has no ratio."
        elif size[0] != usual[0]:
            yield f"{label} computes {size[0]} images at once, the baseline {usual[0]}: speed is per image."
    if result.load_before is not None and result.load_before > BUSY:
        yield (
            f"The machine was not idle before (load {result.load_before:.2f}): trust ratios and CPU more than times."
        )


def render_bench(result: BenchResult) -> str:
    """Render the page. The same result gives the same text. Raises RuntimeUnavailableError without Jinja."""
    sections = [(item, _chart(result, item.mode)) for item in bench_tables(result)]
    return template(TEMPLATE, {"count": count, "sizes": summary.sizes}).render(
        result=result,
        headline=headline(result),
        remarks=remarks(result),
        sections=sections,
        plot={"width": WIDTH, "left": LEFT, "right": RIGHT, "thick": THICK},
        version=__version__,
    )


def _members(result: BenchResult, mode: str) -> list[tuple[CandidateFigures, Measured]]:
    """The candidates that were measured in a mode, with their figures."""
    figures = ((item, item.latency if mode == LATENCY else item.throughput) for item in result.candidates)
    return [(item, measured) for item, measured in figures if measured]


def _columns(mode: str) -> tuple[str, ...]:
    first = (">ms", ">range") if mode == LATENCY else (">images/s", ">range", ">at once")
    return ("artifact", "runtime", *first, ">speed", ">CPU s", ">cores", ">peak MB", ">computed")


def _row(item: CandidateFigures, measured: Measured, mode: str) -> tuple[str, ...]:
    values = _values(measured, mode)
    return (
        item.label,
        item.runtime,
        _number(values.median),
        f"{_number(values.lower)}–{_number(values.upper)}",  # noqa: RUF001  # a range
        *(() if mode == LATENCY else (str(measured.requests),)),
        "" if measured.speed is None else f"{measured.speed.median:.2f}x",
        f"{measured.cpu_seconds:.3g}",
        f"{measured.cores:.2f}",
        "" if measured.peak_bytes is None else f"{measured.peak_bytes / MEGABYTE:.0f}",
        f"{measured.seconds.count:,}",
    )


def _values(measured: Measured, mode: str) -> Spread:
    """Milliseconds for latency, images a second for throughput."""
    if mode == THROUGHPUT:
        return measured.images_per_second
    seconds = measured.seconds
    milliseconds = (1e3 * getattr(seconds, name) for name in ("least", "lower", "median", "upper", "most"))
    return Spread(seconds.count, *milliseconds)


def _number(value: float) -> str:
    """Three digits, with an exponent only below 1e-4 and from 1e6 on."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 100 <= rounded < 1e6 else f"{rounded:.3g}"


def _chart(result: BenchResult, mode: str) -> Chart:
    members = _members(result, mode)
    longest = max(_values(measured, mode).upper for _, measured in members)
    axis = Axis(LEFT, RIGHT, high=longest)
    unit = "ms" if mode == LATENCY else "images/s"
    bars = []
    for number, (item, measured) in enumerate(members):
        values, y = _values(measured, mode), TOP + number * STEP
        middle = y + THICK / 2
        left, right = axis.at(values.lower), axis.at(values.upper)
        bars.append(
            Bar(
                label=item.label if len(item.label) <= LONGEST_NAME else f"{item.label[: LONGEST_NAME - 1]}…",
                figure=f"{_number(values.median)} {unit}",
                y=y,
                length=Axis(0, RIGHT - LEFT, high=longest).at(values.median),
                whisker=f"M{left} {middle}H{right}M{left} {middle - 4}V{middle + 4}M{right} {middle - 4}V{middle + 4}",
                baseline=item.label == result.baseline,
            )
        )
    text = "; ".join(f"{bar.label}: {bar.figure}" for bar in bars)
    better = "less is better" if mode == LATENCY else "more is better"
    return Chart(TITLES[mode], better, TOP + len(bars) * STEP, tuple(bars), text)
