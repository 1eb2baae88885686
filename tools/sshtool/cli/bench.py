"""`sshtool bench`: latency and throughput of artifacts on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from sshtool import limits
from sshtool.cli.options import (
    COMPUTING_PRECISIONS,
    RUNTIME,
    RUNTIME_NAMES,
    AllowNonfinite,
    Artifacts,
    CheckpointPath,
    Confinement,
    Device,
    HtmlPath,
    Network,
    Option,
    Output,
    Threads,
    settings_of,
)
from sshtool.cli.parsing import check_counts, choices, one_or_both, shape_of
from sshtool.cli.verbs import Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sshtool.bench.figures import BenchResult
    from sshtool.cli.session import Session


@dataclass(frozen=True)
class Bench(Verb):
    """Measure latency and throughput of every artifact on this machine, and compare them with a baseline."""

    place: Network = field(default_factory=Network)
    artifact: Artifacts = ()
    checkpoint: CheckpointPath = None
    runtime: Annotated[
        tuple[str, ...],
        Option(
            "Several with commas; by default each file's usual one, and MXNet's.",
            short="-r",
            choices=RUNTIME_NAMES,
            panel=RUNTIME,
        ),
    ] = ()
    inference_precision: Annotated[
        tuple[str, ...],
        Option(
            "Type to compute in; several with commas.",
            choices=COMPUTING_PRECISIONS,
            panel=RUNTIME,
            rare=True,
        ),
    ] = ("f32",)
    mode: Annotated[str, Option("What to measure.", choices=("latency", "throughput", "both"))] = "both"
    baseline: Annotated[str, Option("What the others are compared with: a label of the table, or a file.")] = ""
    duration: Annotated[
        float,
        Option("Seconds of each measurement; 10 without --runs.", min=0, max=limits.LONGEST_DURATION),
    ] = 0.0
    runs: Annotated[int, Option("Computations instead of --duration.", min=0, max=limits.MOST_RUNS)] = 0
    rounds: Annotated[
        int, Option("Rounds; in each, every candidate runs its share.", min=1, max=limits.MOST_ROUNDS, rare=True)
    ] = 5
    requests: Annotated[
        int,
        Option(
            "Concurrent requests for throughput; 0: the runtime chooses.", min=0, max=limits.MOST_REQUESTS, rare=True
        ),
    ] = 0
    threads: Threads = 0
    device: Device = "CPU"
    input_shape: Annotated[str, Option("N,C,H,W for artifacts with dynamic dimensions.", rare=True)] = ""
    batch: Annotated[
        int, Option("Images in a batch, for artifacts with a dynamic batch.", min=0, max=limits.MOST_AT_ONCE, rare=True)
    ] = 0
    html: HtmlPath = None
    allow_nonfinite: AllowNonfinite = False
    confinement: Confinement = field(default_factory=Confinement)
    output: Output = field(default_factory=Output)

    def run(self, session: Session) -> None:
        check_counts({"--artifact": self.artifact})
        self.confinement.apply()
        from sshtool.bench.benchmark import BenchOptions, bench
        from sshtool.bench.measuring import MODES
        from sshtool.report.bench import render_bench
        from sshtool.report.page import check_page, write_page
        from sshtool.runtimes.base import INFERENCE_PRECISIONS
        from sshtool.runtimes.registry import RUNTIMES

        settings = settings_of(self.device, self.threads, allow_nonfinite=self.allow_nonfinite)
        workspace, checkpoint = self.place.open(self.checkpoint)
        options = BenchOptions(
            artifacts=self.artifact,
            checkpoint=checkpoint,
            runtimes=tuple(choices("--runtime", self.runtime, list(RUNTIMES))) if self.runtime else (),
            inference_precisions=tuple(
                choices("--inference-precision", self.inference_precision, INFERENCE_PRECISIONS)
            ),
            modes=one_or_both("--mode", self.mode, MODES),
            baseline=self.baseline,
            duration=self.duration,
            runs=self.runs,
            rounds=self.rounds,
            batch=self.batch,
            input_shape=shape_of(self.input_shape),
            settings=replace(settings, requests=self.requests),
        )
        check_page(self.html)
        result = bench(workspace, options, progress=session.progress)
        session.finish(replace(result, written=write_page(self.html, lambda: render_bench(result))), render)


def render(result: BenchResult, plain: bool) -> RenderableType:
    """Render a table for each mode, then the remarks."""
    from rich.console import Group

    from sshtool.report.bench import bench_tables, headline, remarks
    from sshtool.report.terminal import lines, table

    parts: list[RenderableType] = [lines(headline(result))]
    for item in bench_tables(result):
        parts += [lines(item.title), table(item.columns, item.rows, plain=plain)]
    parts += [lines(*remarks(result))]
    return Group(*parts, lines(*(f"written: {path}" for path in result.written)))
