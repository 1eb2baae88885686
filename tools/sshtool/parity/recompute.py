"""Whether the answers in a reference pack are those of a checkpoint: a pack says so, and here it is computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sshconvert.checkpoint import DEMO, Checkpoint, open_checkpoint
from sshconvert.contract import Declaration
from sshconvert.convert import convert
from sshconvert.errors import ReferencePackError, RuntimeUnavailableError
from sshconvert.files import scratch_folder
from sshconvert.models.spec import ModelSpec
from sshconvert.options import Options, Precision
from sshconvert.schema import one_line
from sshtool.candidates import Candidate
from sshtool.demo import checkpoint as demo
from sshtool.parity.pack import PackReference
from sshtool.parity.samples import OTHER_SHAPE
from sshtool.parity.verify import ConvertAgain, VerifyReport, verify
from sshtool.progress import Progress, silent
from sshtool.runtimes.registry import RUNTIMES


@contextlib.contextmanager
def demo_checkpoint(model: ModelSpec) -> Iterator[Checkpoint]:
    """Make the demo checkpoint, which is the same bytes everywhere, for the block's time."""
    with scratch_folder() as folder:
        demo.write_checkpoint(folder, model)
        yield open_checkpoint(folder, model)


def prove(
    reference: PackReference, checkpoint: Checkpoint | None, model: ModelSpec, progress: Progress = silent
) -> str:
    """Hold a pack to the checkpoint that it names, if that is here: the demo always is. Says what is left as a claim.

    Raises what `check_answers` raises.
    """
    said = reference.contents
    if reference.is_shipped:
        return ""
    if checkpoint is not None and (said.weights, dict(said.checkpoint)) == (
        checkpoint.weights,
        dict(checkpoint.sha256),
    ):
        check_answers(reference, checkpoint, progress)
    elif said.weights == DEMO:
        with demo_checkpoint(model) as made:
            check_answers(reference, made, progress)
    else:
        return (
            f"{reference.path.name} says that its answers are those of {one_line(said.weights)}; without that "
            "checkpoint, nothing here proves it"
        )
    return ""


def check_answers(reference: PackReference, checkpoint: Checkpoint, progress: Progress = silent) -> None:
    """Convert the checkpoint to FP32 and compare it with the pack on every sample, with the first runtime there is.

    Raises ReferencePackError if the pack names another checkpoint, or if its answers are those of another network;
    RuntimeUnavailableError if no runtime is installed.
    """
    said = reference.contents
    if said.weights != checkpoint.weights or dict(said.checkpoint) != dict(checkpoint.sha256):
        raise ReferencePackError(
            f"{reference.path}: has answers of other files than {checkpoint.params_path} ({one_line(said.weights)}); "
            "make another pack with `sshtool reference`"
        )
    with scratch_folder() as folder:

        def converted(shape: tuple[int, ...], name: str) -> Path:
            options = Options(("onnx",), (Precision.FP32,), shape)
            return convert(checkpoint, folder / name, options)[0].path

        def other_size(_candidate: Candidate, _declaration: Declaration) -> Path:
            return converted(OTHER_SHAPE, "other")

        progress(f"computing the answers of {reference.path.name} again")
        candidate = Candidate(converted((1, 3, *reference.image_size), "own"), Precision.FP32.value)
        report = _verify(reference, candidate, checkpoint.model, other_size)
    if report.failures:
        worst = report.failures[0]
        raise ReferencePackError(
            f"{reference.path}: its answers are not those of the checkpoint that it names ({worst.sample or 'all'}: "
            f"{worst.message}); make another with `sshtool reference`"
        )


def _verify(reference: PackReference, candidate: Candidate, model: ModelSpec, other_size: ConvertAgain) -> VerifyReport:
    """With the first of the runtimes that load ONNX that is installed."""
    missing = []
    for key in (key for key, kind in RUNTIMES.items() if kind.loads(candidate.path)):
        try:
            return verify(model, reference, [replace(candidate, runtime=key)], convert_again=other_size)
        except RuntimeUnavailableError as error:
            missing.append(str(error))
    raise RuntimeUnavailableError("; ".join(missing))
