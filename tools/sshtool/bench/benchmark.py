"""Measures latency and throughput of artifacts on this machine, and compares them with a baseline."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sshconvert.checkpoint import CheckpointFiles
from sshconvert.digest import file_sha256
from sshconvert.errors import ArtifactError, RuntimeUnavailableError, UsageError
from sshconvert.formats.registry import artifact_files
from sshconvert.messages import name_text
from sshconvert.reading import is_folder
from sshconvert.threads import usable_cores
from sshtool.bench.figures import (
    BENCH_VERSION,
    BenchResult,
    CandidateFigures,
    LeftOut,
    Measured,
    measured,
    speeds,
)
from sshtool.bench.measuring import LATENCY, MODES, THROUGHPUT
from sshtool.bench.run import BenchCandidate, Doses, Feed, Measurement, ModeRun, measure
from sshtool.candidates import Candidate, check_artifacts, labelled
from sshtool.checkpoint.archive import opened
from sshtool.environment import environment
from sshtool.limits import LONGEST_DURATION, check_threads
from sshtool.progress import Progress, silent
from sshtool.runtimes.base import F32, Settings
from sshtool.runtimes.registry import RUNTIMES, runtimes_for, usual_runtime
from sshtool.workspace import Workspace

DURATION: Final = 10.0
ROUNDS: Final = 5
SMALLEST_SIDE: Final = 32

MXNET: Final = "mxnet"
USUAL_BASELINE: Final = "openvino FP32"


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how.

    `runtimes` are keys of runtimes; an empty tuple selects the default runtime of each file, and MXNet if installed.
    Each candidate and mode takes `duration` seconds, or `runs` computations if that is not 0. `input_shape` is N, C, H,
    W, for artifacts of dynamic size. `baseline` is a candidate's label or path, "" for the default. `settings` apply to
    all candidates, except the inference precision, which `inference_precisions` lists.
    """

    artifacts: tuple[Path, ...] = ()
    checkpoint: Path | CheckpointFiles | None = None
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
    """Measure artifacts (by default all that `convert` wrote, and MXNet with the checkpoint, if it is installed).

    Every candidate runs in its own process, and the candidates take turns.

    Raises UsageError, RuntimeUnavailableError, ArtifactError if there is nothing to measure, and the errors of opening
    the checkpoint and of loading and running an artifact.
    """
    _check(options)
    model = workspace.model
    if not model.takes_image and (options.input_shape or options.batch):
        raise UsageError(f"--input-shape, --batch: {model.name} takes tensors; give their shapes with --input")
    load_before = _load()
    doses = Doses(options.duration or DURATION, options.runs, options.rounds)
    with ExitStack() as stack:
        candidates, left_out = _candidates(workspace, options, stack)
        baseline = _baseline(candidates, options.baseline)
        feed = _feed(options)
        runs: dict[str, ModeRun] = {}
        for mode in options.modes:
            runs[mode] = measure(mode, model, candidates, feed, doses, progress=progress)
            unavailable = {item.label: item for item in runs[mode].left_out}
            if baseline.label in unavailable and options.baseline:
                raise RuntimeUnavailableError(unavailable[baseline.label].reason)
            candidates = [item for item in candidates if item.label not in unavailable]
            if not candidates:
                raise RuntimeUnavailableError("; ".join(dict.fromkeys(item.reason for item in unavailable.values())))
            left_out += unavailable.values()
            baseline = candidates[0] if baseline.label in unavailable else baseline
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
    """Validate the options before anything is loaded. Raises UsageError."""
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
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            return os.getloadavg()[0]
    return None


def _feed(options: BenchOptions) -> Feed:
    if options.input_shape is None:
        return Feed(options.settings, (options.batch, 0, 0))
    batch, _, height, width = options.input_shape
    # An explicit size always comes with a batch. A batch of 1 there does not contradict a file with another batch.
    return Feed(options.settings, (options.batch or (batch if batch > 1 else 0), height, width))


# --- candidates ------------------------------------------------------------------------------------------------------


def _candidates(
    workspace: Workspace, options: BenchOptions, stack: ExitStack
) -> tuple[list[BenchCandidate], list[LeftOut]]:
    check_artifacts(options.artifacts)
    paths = options.artifacts or workspace.converted()
    candidates: list[BenchCandidate] = []
    left_out: list[LeftOut] = []
    keys = {path: [key for key in options.runtimes or ("",) if _loads(path, key)] for path in paths}
    for path in options.artifacts:
        if not keys[path]:
            usual_runtime(path, options.runtimes[0])  # raises the error that explains why
    artifacts = [Candidate(path, path.resolve().parent.name, key) for path, own in keys.items() for key in own]
    for label, artifact in labelled(artifacts).items():
        possible, impossible = _in_precisions(label, artifact, options)
        if not possible and options.artifacts:
            raise UsageError(f"--inference-precision: {artifact.path}: {impossible[0].reason}")
        candidates += possible
        left_out += impossible
    candidates += _original(workspace, options, stack)
    if not candidates and left_out:
        raise UsageError(f"--inference-precision: {left_out[0].label}: {left_out[0].reason}")
    if not candidates:
        raise ArtifactError(
            f"{workspace.artifacts}: holds no artifacts that {' or '.join(options.runtimes) or 'a runtime'} "
            "loads; make them with `sshtool convert`, or name --artifact"
        )
    return candidates, left_out


def _loads(path: Path, key: str) -> bool:
    runtime = RUNTIMES.get(key)
    return runtime is None or runtime.loads(path)


def _in_precisions(
    label: str, artifact: Candidate, options: BenchOptions
) -> tuple[list[BenchCandidate], list[LeftOut]]:
    """The artifact in each inference precision that its runtime supports, and the precisions that it does not."""
    runtime = usual_runtime(artifact.path, artifact.runtime)
    candidates, left_out = [], []
    for precision in options.inference_precisions:
        name = label if precision == F32 else f"{label} in {precision}"
        if precision in runtime.inference_precisions:
            explicit = bool(options.artifacts or options.runtimes) or precision != F32
            candidates.append(BenchCandidate(name, artifact.path, artifact.runtime, precision, optional=not explicit))
        else:
            able = " or ".join(runtimes_for(precision))
            reason = f"{runtime.name} does not compute in {precision}; give --runtime {able} for the same file"
            left_out.append(LeftOut(name, reason))
    return candidates, left_out


def _original(workspace: Workspace, options: BenchOptions, stack: ExitStack) -> Iterator[BenchCandidate]:
    """MXNet with the checkpoint, if the options name either, or by default if both are present.

    The files of a network without a description name the network, not MXNet.
    """
    among_artifacts = any(RUNTIMES[MXNET].loads(artifact) for artifact in options.artifacts)
    path = workspace.source(options.checkpoint)
    files = path if isinstance(path, CheckpointFiles) else None
    explicit = (MXNET in options.runtimes and not among_artifacts) or (options.checkpoint is not None and not files)
    is_there = files is not None or (isinstance(path, Path) and is_folder(path))
    by_default = not options.runtimes and not options.artifacts and is_there
    if not explicit and not by_default:
        return
    if options.runtimes and MXNET not in options.runtimes:
        raise UsageError("--checkpoint is for MXNet; add mxnet to --runtime, or leave it out")
    if F32 not in options.inference_precisions:
        if explicit:
            raise UsageError(f"--inference-precision: MXNet computes in {F32} only; leave it out, or add {F32}")
        return
    opening = opened(path, workspace.model, allow_nonfinite=options.settings.allow_nonfinite)
    checkpoint = stack.enter_context(opening)
    symbol = files.symbol if files else None
    yield BenchCandidate("mxnet FP32", checkpoint.params_path, MXNET, F32, optional=not explicit, symbol=symbol)


def _baseline(candidates: Sequence[BenchCandidate], name: str) -> BenchCandidate:
    """The candidate with the label or path `name`; for "" FP32 with OpenVINO, or else the first. Raises UsageError."""
    if not name:
        usual = (item for item in candidates if _is_usual(item))
        return next(usual, candidates[0])
    matches = [item for item in candidates if item.label.casefold() == name.casefold()]
    matches = matches or [item for item in candidates if item.path.resolve() == Path(name).resolve()]
    if len(matches) != 1:
        problem = "is more than one candidate" if matches else "is no candidate"
        raise UsageError(f"--baseline: {name} {problem}; name one of {', '.join(item.label for item in candidates)}")
    return matches[0]


def _is_usual(candidate: BenchCandidate) -> bool:
    # A label may continue with a folder or a runtime.
    return candidate.label.startswith(USUAL_BASELINE) and candidate.inference_precision == F32


# --- figures ---------------------------------------------------------------------------------------------------------


def _figures(candidate: BenchCandidate, runs: Mapping[str, ModeRun], baseline: str) -> CandidateFigures:
    own = {mode: run.measurements[candidate.label] for mode, run in runs.items()}
    baselines = {mode: run.measurements[baseline] for mode, run in runs.items()}
    loaded = next(iter(own.values())).loaded
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
        latency=_measured(LATENCY, own, baselines),
        throughput=_measured(THROUGHPUT, own, baselines),
    )


def _measured(mode: str, own: Mapping[str, Measurement], baselines: Mapping[str, Measurement]) -> Measured | None:
    if mode not in own:
        return None
    measurement, baseline = own[mode], baselines[mode]
    same_size = measurement.loaded.input_shape[1:] == baseline.loaded.input_shape[1:]
    reference = speeds(mode, baseline.loaded, baseline.turns) if same_size else None
    return measured(mode, measurement.loaded, measurement.turns, measurement.peak_bytes, reference)
