"""The result of `sshtool bench` as tables, and as one HTML page with bars that holds everything it shows."""

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
    THROUGHPUT: "Throughput: as many at once as is worth it",
}

# The bars, in units of the picture, which the page scales to the room there is.
WIDTH: Final = 640
LEFT: Final = 4
RIGHT: Final = 540  # where the longest whisker ends; figures stand behind it
STEP: Final = 42
THICK: Final = 16
TOP: Final = 22  # of the first bar; names stand above
LONGEST_NAME: Final = 90  # which may be a path; the table has all of it

# More processes than that wanted the cores before the first one of these.
BUSY: Final = 0.25
MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class BenchTable:
    """One mode. Names of columns that begin with ">" are of numbers."""

    mode: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A candidate's median, and its quartiles as a whisker: x from the left, y from the top."""

    label: str
    figure: str
    y: float
    length: float
    whisker: str
    baseline: bool


@dataclass(frozen=True)
class Chart:
    """The bars of one mode. `text` says in words what they show."""

    title: str
    better: str
    height: float
    bars: tuple[Bar, ...]
    text: str


def headline(result: BenchResult) -> str:
    """What was measured, where and how."""
    dose = count(result.runs, "computation") if result.runs else f"{result.duration:g} s"
    threads = count(result.threads, "thread") if result.threads else "threads as each runtime chooses"
    machine = f"{result.environment['processor']}, {count(result.cores, 'core')}"
    return f"{result.model} on {machine}: {dose} of each in {count(result.rounds, 'round')} of turns, {threads}"


def bench_tables(result: BenchResult) -> tuple[BenchTable, ...]:
    """A table for each mode that was measured."""
    found = ((mode, [item for item in result.candidates if _of(item, mode)]) for mode in (LATENCY, THROUGHPUT))
    return tuple(
        BenchTable(mode, TITLES[mode], _columns(mode), tuple(_row(item, mode) for item in members))
        for mode, members in found
        if members
    )


def remarks(result: BenchResult) -> tuple[str, ...]:
    """What to know about the figures, a sentence each."""
    return tuple(_remarks(result))


def _remarks(result: BenchResult) -> Iterator[str]:
    yield (
        f"Speed is how many times as fast as {result.baseline} it is, the median over turns of the same round. Ranges "
        "are quartiles. CPU is of all threads together for one computation, memory the peak of the whole process."
    )
    for item in result.left_out:
        yield f"{item.label} was left out: {item.reason}."
    sizes = {item.label: item.input_shape for item in result.candidates}
    usual = sizes[result.baseline]
    for label, size in sizes.items():
        if size[1:] != usual[1:]:
            yield f"{label} took images of {size[3]}x{size[2]}, the baseline of {usual[3]}x{usual[2]}: it has no ratio."
        elif size[0] != usual[0]:
            yield f"{label} computes {size[0]} images at once, the baseline {usual[0]}: speed is by the image."
    if result.load_before is not None and result.load_before > BUSY:
        yield (
            f"The machine was not idle before (load {result.load_before:.2f}): trust ratios and CPU more than times."
        )


def render_bench(result: BenchResult) -> str:
    """The whole page; the same text for the same result. Raises RuntimeUnavailableError without Jinja."""
    sections = [(item, _chart(result, item.mode)) for item in bench_tables(result)]
    return template(TEMPLATE, {"count": count, "sizes": summary.sizes}).render(
        result=result,
        headline=headline(result),
        remarks=remarks(result),
        sections=sections,
        plot={"width": WIDTH, "left": LEFT, "right": RIGHT, "thick": THICK},
        version=__version__,
    )


def _of(item: CandidateFigures, mode: str) -> Measured | None:
    return item.latency if mode == LATENCY else item.throughput


def _columns(mode: str) -> tuple[str, ...]:
    first = (">ms", ">range") if mode == LATENCY else (">images/s", ">range", ">at once")
    return ("artifact", "runtime", *first, ">speed", ">CPU s", ">cores", ">peak MB", ">computed")


def _row(item: CandidateFigures, mode: str) -> tuple[str, ...]:
    found = _of(item, mode)
    assert found is not None  # `bench_tables` sees to that
    values = _values(found, mode)
    own = (_number(values.median), f"{_number(values.lower)}–{_number(values.upper)}")  # noqa: RUF001  # a range
    return (
        item.label,
        item.runtime,
        *own,
        *(() if mode == LATENCY else (str(found.requests),)),
        "" if found.speed is None else f"{found.speed.median:.2f}x",
        f"{found.cpu_seconds:.3g}",
        f"{found.cores:.2f}",
        "" if found.peak_bytes is None else f"{found.peak_bytes / MEGABYTE:.0f}",
        f"{found.seconds.count:,}",
    )


def _values(found: Measured, mode: str) -> Spread:
    """What is shown: milliseconds, or images a second."""
    if mode == THROUGHPUT:
        return found.images_per_second
    seconds = found.seconds
    thousandfold = (1e3 * getattr(seconds, name) for name in ("least", "lower", "median", "upper", "most"))
    return Spread(seconds.count, *thousandfold)


def _number(value: float) -> str:
    """To three digits, without an exponent as long as that can be read."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 100 <= rounded < 1e6 else f"{rounded:.3g}"


def _chart(result: BenchResult, mode: str) -> Chart:
    members = [(item, found) for item in result.candidates if (found := _of(item, mode))]
    longest = max(_values(found, mode).upper for _, found in members)
    axis = Axis(LEFT, RIGHT, high=longest)
    unit = "ms" if mode == LATENCY else "images/s"
    bars = []
    for number, (item, found) in enumerate(members):
        values, y = _values(found, mode), TOP + number * STEP
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
