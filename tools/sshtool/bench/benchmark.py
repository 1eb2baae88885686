"""Measures latency and throughput of artifacts on this machine, and compares them with a baseline."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sshconvert.digest import file_sha256
from sshconvert.errors import ArtifactError, RuntimeUnavailableError, UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.messages import name_text
from sshconvert.reading import is_folder
from sshtool.bench.figures import (
    BENCH_VERSION,
    BenchResult,
    CandidateFigures,
    LeftOut,
    Measured,
    measured,
    speeds,
)
from sshtool.bench.measuring import MODES
from sshtool.bench.run import Candidate, Doses, Feed, Measurement, ModeRun, measure
from sshtool.candidates import Candidate as Artifact, check_artifacts, labelled
from sshtool.checkpoint.archive import opened
from sshtool.environment import environment
from sshtool.limits import LONGEST_DURATION, check_threads
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import F32, Settings, usable_cores
from sshtool.runtimes.registry import RUNTIMES, able_of, usual_runtime
from sshtool.workspace import Workspace

DURATION: Final = 10.0
ROUNDS: Final = 5
SMALLEST_SIDE: Final = 32

MXNET: Final = "mxnet"
USUAL_BASELINE: Final = "openvino FP32"


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how.

    `runtimes` are keys of runtimes, none for the usual one of each file and MXNet where it is. `duration` is in seconds
    for each candidate and mode, or 0 where `runs` says how many computations. `input_shape` is N, C, H, W, for what
    takes any; `baseline` is a candidate's label or path, "" the usual one. `settings` hold for all candidates, but for
    the precision to compute in, of which there may be several.
    """

    artifacts: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    runtimes: tuple[str, ...] = ()
    inference_precisions: tuple[str, ...] = (F32,)
    modes: tuple[str, ...] = MODES
    baseline: str = ""
    duration: float = 0.0
    runs: int = 0
    rounds: int = ROUNDS
    batch: int = 0
    input_shape: tuple[int, ...] | None = None
    settings: Settings = field(default_factory=Settings)


def bench(workspace: Workspace, options: BenchOptions, *, progress: Progress = silent) -> BenchResult:
    """Measure artifacts (by default all that `convert` wrote, and MXNet with the checkpoint, where it is installed).

    Every candidate gets a process of its own; they take turns. Raises UsageError, ArtifactError if there is nothing to
    measure, RuntimeUnavailableError, and what opening the checkpoint and loading and running an artifact raise.
    """
    _check(options)
    model = workspace.model
    load_before = _load()
    doses = Doses(options.duration or DURATION, options.runs, options.rounds)
    with ExitStack() as stack:
        candidates, left_out = _candidates(workspace, options, stack)
        baseline = _baseline(candidates, options.baseline)
        feed = _feed(options)
        runs: dict[str, ModeRun] = {}
        for mode in options.modes:
            runs[mode] = measure(mode, model, candidates, feed, doses, progress=progress)
            gone = {item.label: item for item in runs[mode].left_out}
            if baseline.label in gone and options.baseline:
                raise RuntimeUnavailableError(gone[baseline.label].reason)
            candidates = [item for item in candidates if item.label not in gone]
            if not candidates:
                raise RuntimeUnavailableError("; ".join(dict.fromkeys(item.reason for item in gone.values())))
            left_out += gone.values()
            baseline = candidates[0] if baseline.label in gone else baseline
        figures = tuple(_figures(candidate, runs, baseline.label) for candidate in candidates)
    return BenchResult(
        bench_version=BENCH_VERSION,
        model=model.name,
        device=options.settings.device,
        threads=options.settings.threads,
        requests=options.settings.requests,
        duration=0.0 if options.runs else doses.seconds,
        runs=options.runs,
        rounds=len(doses.of_turns()),
        baseline=baseline.label,
        candidates=figures,
        left_out=tuple(left_out),
        order=tuple(turn for run in runs.values() for turn in run.order),
        cores=usable_cores(),
        load_before=load_before,
        environment=environment(),
        written=(),
    )


def _check(options: BenchOptions) -> None:
    """Raises UsageError for what makes no sense, before anything is loaded."""
    unknown = [key for key in options.runtimes if key not in RUNTIMES]
    if unknown:
        raise UsageError(f"--runtime: {', '.join(unknown)} is not one of {', '.join(RUNTIMES)}")
    if options.duration and options.runs:
        raise UsageError("--duration and --runs contradict each other; give one")
    if not (options.duration == 0 or (math.isfinite(options.duration) and 0 < options.duration <= LONGEST_DURATION)):
        raise UsageError(f"--duration: {options.duration:g} is not above 0 and at most {LONGEST_DURATION:g} seconds")
    check_threads("--threads", options.settings.threads)
    check_threads("--requests", options.settings.requests)
    shape = options.input_shape
    if shape and (shape[1] != 3 or min(shape[2:]) < SMALLEST_SIDE):
        raise UsageError(
            f"--input-shape: {','.join(map(str, shape))} is not N,3,H,W with sides of at least {SMALLEST_SIDE}"
        )
    if shape and options.batch and shape[0] not in (1, options.batch):
        raise UsageError(f"--batch: {options.batch} contradicts --input-shape, which begins with {shape[0]}; give one")


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):  # Windows has none
        return None


def _feed(options: BenchOptions) -> Feed:
    if options.input_shape is None:
        return Feed(options.settings, (options.batch, 0, 0))
    batch, _, height, width = options.input_shape
    # A batch of 1 that only came with the size does not contradict a file with another one.
    return Feed(options.settings, (options.batch or (batch if batch > 1 else 0), height, width))


# --- who is measured -------------------------------------------------------------------------------------------------


def _candidates(workspace: Workspace, options: BenchOptions, stack: ExitStack) -> tuple[list[Candidate], list[LeftOut]]:
    check_artifacts(options.artifacts)
    paths = options.artifacts or workspace.converted()
    found: list[Candidate] = []
    left_out: list[LeftOut] = []
    ways = {path: [key for key in options.runtimes or ("",) if _loads(path, key)] for path in paths}
    for path in options.artifacts:
        if not ways[path]:
            usual_runtime(path, options.runtimes[0])  # says what is wrong
    artifacts = [Artifact(path, _place(path), key) for path, keys in ways.items() for key in keys]
    for label, artifact in labelled(artifacts).items():
        made, impossible = _in_precisions(label, artifact, options)
        if not made and options.artifacts:
            raise UsageError(f"--inference-precision: {artifact.path}: {impossible[0].reason}")
        found += made
        left_out += impossible
    found += _original(workspace, options, stack)
    if not found and left_out:
        raise UsageError(f"--inference-precision: {left_out[0].label}: {left_out[0].reason}")
    if not found:
        raise ArtifactError(
            f"{workspace.artifacts}: there are no artifacts that {' or '.join(options.runtimes) or 'a runtime'} "
            "loads; make them with `sshtool convert`, or name --artifact"
        )
    return found, left_out


def _loads(path: Path, key: str) -> bool:
    kind = RUNTIMES.get(key)
    return kind is None or kind.loads(path)


def _in_precisions(label: str, artifact: Artifact, options: BenchOptions) -> tuple[list[Candidate], list[LeftOut]]:
    """An artifact once for each precision to compute in, and those that its runtime cannot be asked for."""
    kind = usual_runtime(artifact.path, artifact.runtime)
    found, left_out = [], []
    for precision in options.inference_precisions:
        name = label if precision == F32 else f"{label} in {precision}"
        if precision in kind.inference_precisions:
            asked = bool(options.artifacts or options.runtimes) or precision != F32
            found.append(Candidate(name, artifact.path, artifact.runtime, precision, optional=not asked))
        else:
            able = " or ".join(able_of(precision))
            left_out.append(
                LeftOut(name, f"{kind.name} cannot be asked for {precision}; give --runtime {able} for the same file")
            )
    return found, left_out


def _place(path: Path) -> str:
    return path.resolve().parent.name


def _original(workspace: Workspace, options: BenchOptions, stack: ExitStack) -> Iterator[Candidate]:
    """MXNet with the checkpoint: if the options name either, or by default if both are there."""
    named = any(RUNTIMES[MXNET].loads(artifact) for artifact in options.artifacts)
    wanted = (MXNET in options.runtimes and not named) or options.checkpoint is not None
    path = options.checkpoint or workspace.checkpoint
    by_itself = not options.runtimes and not options.artifacts and is_folder(path)
    if not wanted and not by_itself:
        return
    if options.runtimes and MXNET not in options.runtimes:
        raise UsageError("--checkpoint is for MXNet; add mxnet to --runtime, or leave it out")
    if F32 not in options.inference_precisions:
        if wanted:
            raise UsageError(f"--inference-precision: MXNet computes in {F32} only; leave it out, or add {F32}")
        return
    opening = opened(path, workspace.model, allow_nonfinite=options.settings.allow_nonfinite)
    checkpoint = stack.enter_context(opening)
    yield Candidate("mxnet FP32", checkpoint.params_path, MXNET, F32, optional=not wanted)


def _baseline(candidates: Sequence[Candidate], wanted: str) -> Candidate:
    """The one of that label or path; by default FP32 with OpenVINO, or the first. Raises UsageError."""
    if not wanted:
        return next((item for item in candidates if _is_usual(item)), candidates[0])
    fits = [item for item in candidates if item.label.casefold() == wanted.casefold()]
    fits = fits or [item for item in candidates if item.path.resolve() == Path(wanted).resolve()]
    if len(fits) != 1:
        what = "is more than one candidate" if fits else "is no candidate"
        raise UsageError(f"--baseline: {wanted} {what}; name one of {', '.join(item.label for item in candidates)}")
    return fits[0]


def _is_usual(candidate: Candidate) -> bool:
    """Also where its label says more than what it is."""
    return candidate.label.startswith(USUAL_BASELINE) and candidate.inference_precision == F32


# --- what came out ---------------------------------------------------------------------------------------------------


def _figures(candidate: Candidate, runs: Mapping[str, ModeRun], baseline: str) -> CandidateFigures:
    found = {mode: run.measurements[candidate.label] for mode, run in runs.items()}
    its = {mode: run.measurements[baseline] for mode, run in runs.items()}
    loaded = next(iter(found.values())).loaded
    files = artifact_files(candidate.path)
    return CandidateFigures(
        label=candidate.label,
        path=candidate.path,
        files={name_text(path.name): file_sha256(path) for path in files},
        bytes=sum(path.stat().st_size for path in files),
        runtime=loaded.runtime,
        inference_precision=loaded.inference_precision,
        precision=loaded.precision,
        weights=loaded.weights,
        input_shape=loaded.input_shape,
        latency=_measured(MODES[0], found, its),
        throughput=_measured(MODES[1], found, its),
    )


def _measured(mode: str, found: Mapping[str, Measurement], baseline: Mapping[str, Measurement]) -> Measured | None:
    if mode not in found:
        return None
    own, its = found[mode], baseline[mode]
    same = own.loaded.input_shape[1:] == its.loaded.input_shape[1:]
    reference = speeds(mode, its.loaded, its.turns) if same else None
    return measured(mode, own.loaded, own.turns, own.peak_bytes, reference)
