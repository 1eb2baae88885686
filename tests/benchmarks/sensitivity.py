"""The smallest fault that `sshtool verify` catches in each layer: `python tests/benchmarks/sensitivity.py [--json]`

A fault changes one filter by a fraction e of itself: its weights are scaled by 1 + e, exchanged in part with those of
the next filter (each gets e of the other), or its bias moves by e of the layer's largest bias or of its results' mean
deviation, whichever is larger. For each layer there are two filters: the one of median strength, and among 24 of all
strengths the one whose fault moves the outputs least.

The verdict is `verify`'s own, on all its samples. Only the runtime is replaced: it changes the layer's result, so that
no copy of the file is written (`planted.py`). `--confirm` scales the filters of three layers in real copies too.

The `effect` of a fault of 0.1 % is the largest change of an output over all samples, in units of that output's
rounding: the largest difference of the healthy FP32 file from the reference on the same sample.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np

from planted import Change, PlantedLayer, layers_of
from sshconvert.arrays import Array
from sshconvert.checkpoint import Checkpoint, CheckpointFiles, open_checkpoint
from sshconvert.convert import convert
from sshconvert.formats.registry import artifact_files, format_of
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ImageSpec, InputSpec
from sshconvert.options import Options, Precision
from sshconvert.tasks.tolerances import PROFILES
from sshconvert.undescribed import describe
from sshtool.candidates import Candidate
from sshtool.parity import verify as verification
from sshtool.parity.recompute import demo_checkpoint
from sshtool.parity.reference import Answer, LiveReference, Reference
from sshtool.parity.verify import Rules, verify
from sshtool.quantization import QuantizationOptions, quantization_for
from sshtool.runtimes.exact import Exact
from sshtool.runtimes.loading import load

STEPS: Final = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
CLAIMED: Final = 1e-3
PROBED: Final = 24  # filters of a layer, among which the weakest is sought
PROBE: Final = 0.1
PROBING: Final = ("scene-0", "noise")
QUIET: Final = 1.0  # an effect in units of the rounding, at which nothing could be seen


@dataclass(frozen=True)
class Fault:
    """The smallest step that is caught, None if none is.

    `effect` is that of CLAIMED; `samples` and `outputs` are those that show the smallest step.
    """

    precision: str
    layer: str
    kind: str
    filter: int
    choice: str
    smallest: float | None
    effect: float
    samples: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def missed(self) -> bool:
        """Whether a fault of CLAIMED is missed that moves an output by more than its rounding."""
        return (self.smallest is None or self.smallest > CLAIMED) and self.effect > QUIET


def scaled(number: int, bias: float, step: float) -> Change:
    def change(result: Array) -> None:
        result[:, number] += np.float32(step) * (result[:, number] - np.float32(bias))

    return change


def exchanged(number: int, other: int, difference: float, step: float) -> Change:
    """`difference` is the bias of `other` minus that of `number`."""

    def change(result: Array) -> None:
        moved = np.float32(step) * (result[:, other] - result[:, number] - np.float32(difference))
        result[:, number] += moved
        result[:, other] -= moved

    return change


def shifted(number: int, by: float, step: float) -> Change:
    def change(result: Array) -> None:
        result[:, number] += np.float32(step * by)

    return change


# By sample and output.
Roundings = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Subject:
    """An artifact, its reference, and the rounding of FP32."""

    candidate: Candidate
    reference: Reference
    checkpoint: Checkpoint
    rounding: Roundings

    @cached_property
    def rounded(self) -> Reference | None:
        profile = PROFILES[self.precision]
        if not profile.rounds:
            return None
        return self.reference.rounded(self.candidate.path, self.precision, self.checkpoint.model.task.left_out(profile))

    @property
    def precision(self) -> str:
        return self.candidate.profile

    def failures(
        self, runtime: PlantedLayer, change: Change | None, *, thorough: bool = False
    ) -> list[tuple[str, str]]:
        """Return the sample and the output of each failure of `verify`."""
        runtime.change = change
        with (
            mock.patch.object(verification, "load", return_value=runtime),
            mock.patch.object(verification, "_describe_samples", return_value=()),
            mock.patch.object(verification, "file_sha256", return_value=""),
        ):
            rules = Rules(thorough=thorough, rounded=self.rounded)
            report = verify(self.checkpoint.model, self.reference, [self.candidate], rules)
        return [(item.sample, item.output or item.check) for item in report.failures]

    def answers(self, runtime: PlantedLayer) -> Sequence[Answer]:
        return self.reference.answers(*runtime.declaration.sample_size(self.checkpoint.model))


class LayerProbe:
    """One layer: the choice of its filters, and the search for the smallest fault of each."""

    def __init__(self, subject: Subject, healthy: PlantedLayer) -> None:
        self.subject, self.runtime, self.rounding = subject, healthy, subject.rounding
        self.answers = list(subject.answers(healthy))
        self.plain = {answer.sample.name: healthy.run(answer.sample.feed) for answer in self.answers}
        self.probing = [answer for answer in self.answers if answer.sample.name in PROBING] or self.answers[:2]
        results = [self.runtime.before(answer.sample.feed)[healthy.result] for answer in self.probing]
        self.bias = healthy.bias if healthy.bias is not None else np.zeros(results[0].shape[1], np.float32)
        axes = (0, *range(2, results[0].ndim))
        self.strength = np.mean([np.sqrt(((r - r.mean(axes, keepdims=True)) ** 2).mean(axes)) for r in results], axis=0)
        if results[0].ndim == 2:  # one number for each filter and image
            self.strength = np.mean([np.abs(result).mean(0) for result in results], axis=0)

    def measured(self) -> Iterator[Fault]:
        ranked = [int(number) for number in np.argsort(self.strength)]
        spread = sorted({round(place) for place in np.linspace(0, len(ranked) - 1, PROBED)})
        effects = {ranked[place]: self.effect(self.scaled(ranked[place], PROBE), self.probing) for place in spread}
        heard = {number: effect for number, effect in effects.items() if effect > QUIET}
        chosen = {"median": ranked[len(ranked) // 2]}
        if heard:
            chosen["weakest"] = min(heard, key=heard.__getitem__)
        for choice, number in chosen.items():
            for kind, change in self.kinds(number).items():
                yield self.search(kind, number, choice, change)

    def scaled(self, number: int, step: float) -> Change:
        return scaled(number, float(self.bias[number]), step)

    def kinds(self, number: int) -> dict[str, partial[Change]]:
        other = (number + 1) % len(self.strength)
        unit = max(float(np.abs(self.bias).max()), float(self.strength.mean()))
        kinds = {"scaled": partial(scaled, number, float(self.bias[number])), "bias": partial(shifted, number, unit)}
        if other != number:
            kinds["exchanged"] = partial(exchanged, number, other, float(self.bias[other] - self.bias[number]))
        return kinds

    def effect(self, change: Change, answers: Sequence[Answer]) -> float:
        """Return the largest change of an output in units of its rounding."""
        self.runtime.change = change
        largest = 0.0
        for answer in answers:
            name = answer.sample.name
            for output, array in self.runtime.run(answer.sample.feed).items():
                moved = float(np.abs(array.astype(np.float64) - self.plain[name][output]).max())
                largest = max(largest, moved / self.rounding[name][output])
        return largest

    def search(self, kind: str, number: int, choice: str, change: partial[Change]) -> Fault:
        low, high = -1, len(STEPS)  # the steps below are missed, those above caught
        middle = STEPS.index(CLAIMED)
        while high - low > 1:
            if self.subject.failures(self.runtime, change(STEPS[middle])):
                high = middle
            else:
                low = middle
            middle = (low + high) // 2
        smallest = STEPS[high] if high < len(STEPS) else None
        shown = self.subject.failures(self.runtime, change(smallest), thorough=True) if smallest else []
        return Fault(
            self.subject.precision,
            self.runtime.layer,
            kind,
            number,
            choice,
            smallest,
            self.effect(change(CLAIMED), self.answers),
            tuple(sorted({sample for sample, _ in shown})),
            tuple(sorted({output for _, output in shown})),
        )


def measure(subject: Subject, patterns: Sequence[str]) -> Iterator[Fault]:
    path = subject.candidate.path
    healthy = load(path, subject.checkpoint.model)
    layers = [name for name in layers_of(path) if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for number, layer in enumerate(layers):
        runtime = PlantedLayer(healthy, path, layer)
        if number == 0 and (failures := subject.failures(runtime, None, thorough=True)):
            sys.exit(f"{path}: the healthy file fails: {failures}")
        yield from LayerProbe(subject, runtime).measured()


def confirm(subject: Subject, faults: Sequence[Fault], folder: Path) -> Iterator[str]:
    """Plant the smallest scaling that is caught, and the step below, in copies of the file, and verify the copies."""
    scalings = [fault for fault in faults if fault.kind == "scaled" and fault.smallest and fault.choice == "median"]
    for fault in {scalings[place] for place in (0, len(scalings) // 2, -1)} if scalings else ():
        assert fault.smallest is not None  # as chosen
        place = STEPS.index(fault.smallest)
        for step in STEPS[max(0, place - 1) : place + 1]:
            copy = folder / f"{fault.layer}-{step:g}" / subject.precision / subject.candidate.path.name
            copy.parent.mkdir(parents=True)
            for file in artifact_files(subject.candidate.path):
                shutil.copyfile(file, copy.parent / file.name)
            edited = format_of(copy).edit(copy)
            edited.scale_filter(fault.layer, fault.filter, 1 + step)
            edited.save()
            report = verify(subject.checkpoint.model, subject.reference, [Candidate(copy, subject.precision)])
            yield f"{subject.precision} {fault.layer} x {1 + step:g}: {'passes' if report.passed else 'fails'}"


def roundings(answer: Answer, outputs: Mapping[str, Array]) -> dict[str, float]:
    """Return the rounding of each output: the difference from the reference, but at least a unit of the last place."""
    return {
        name: max(
            float(np.abs(outputs[name].astype(np.float64) - array).max()),
            float(np.spacing(np.abs(array).max())),
        )
        for name, array in answer.outputs.items()
    }


@contextmanager
def checkpoint_of(options: argparse.Namespace) -> Iterator[Checkpoint]:
    if options.symbol:
        files = CheckpointFiles(options.symbol, options.params)
        name, _, shape = options.input.partition("=")
        image = ImageSpec(color=options.color) if options.color else None
        inputs = [InputSpec(name=name, shape=tuple(int(size) for size in shape.split(",")))]
        yield open_checkpoint(files, describe(files, inputs, image=image))
        return
    model = load_model(options.model)
    if options.checkpoint:
        yield open_checkpoint(options.checkpoint, model)
        return
    with demo_checkpoint(model) as checkpoint:
        yield checkpoint


def subjects(checkpoint: Checkpoint, options: argparse.Namespace, folder: Path) -> Iterator[Subject]:
    """Convert to each precision. The reference is exact, whatever is installed."""
    own = checkpoint.model.inputs[0].shape
    shape = (1, own[1], *options.size) if options.size else None
    precisions = tuple(dict.fromkeys((Precision.FP32, *map(Precision, options.precision))))
    wanted = Options(("onnx",), precisions, shape)
    exact = Exact(checkpoint)
    reference = LiveReference(exact.in_float32(), checkpoint.model, exact=exact, every=True)
    # Any calibrated file serves here, whatever its accuracy: scenes calibrate every network.
    demo = replace(checkpoint, weights="demo")
    quantization = quantization_for(demo, wanted, QuantizationOptions())
    rounding: Roundings = {}
    for artifact in convert(checkpoint, folder, wanted, quantization=quantization):
        runtime = load(artifact.path, checkpoint.model)
        answers = reference.answers(*runtime.declaration.sample_size(checkpoint.model))
        rounding = rounding or {
            answer.sample.name: roundings(answer, runtime.run(answer.sample.feed)) for answer in answers
        }
        if artifact.precision.value in options.precision:
            yield Subject(Candidate(artifact.path, artifact.precision.value), reference, checkpoint, rounding)


def show(faults: Sequence[Fault]) -> None:
    for fault in faults:
        smallest = "-" if fault.smallest is None else f"{fault.smallest:g}"
        sys.stdout.write(
            f"{fault.precision:5} {fault.layer:40} {fault.kind:9} {fault.choice:7} {fault.filter:4} {smallest:>7} "
            f"{fault.effect:10.1f} {'MISSED' if fault.missed else '':6} {' '.join(fault.samples[:4])}\n"
        )
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="ssh-mxnet", help="a name or a .toml; its demo without --checkpoint")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--symbol", type=Path)
    parser.add_argument("--params", type=Path)
    parser.add_argument("--input", default="", help="data=1,3,112,112, with --symbol")
    parser.add_argument("--color", default="", help="with --symbol: the input is an image")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--precision", nargs="+", default=["FP32", "FP16"])
    parser.add_argument("--layer", nargs="+", default=["*"], help="patterns of names")
    parser.add_argument("--confirm", action="store_true", help="verify a few real copies too; the results to stderr")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    faults: list[Fault] = []
    with checkpoint_of(options) as checkpoint, tempfile.TemporaryDirectory() as folder:
        for subject in subjects(checkpoint, options, Path(folder)):
            own = []
            for fault in measure(subject, options.layer):
                own.append(fault)
                if not options.json:
                    show([fault])
            faults += own
            for line in confirm(subject, own, Path(folder) / "confirm") if options.confirm else ():
                sys.stderr.write(f"{line}\n")
    if options.json:
        sys.stdout.write(json.dumps([{**asdict(fault), "missed": fault.missed} for fault in faults], indent=1) + "\n")


if __name__ == "__main__":
    main()
