"""The proof that a reference pack holds a checkpoint's answers: they are computed again and compared."""

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
from sshtool.demo.network import write_demo
from sshtool.parity.pack import PackReference
from sshtool.parity.samples import OTHER_SHAPE
from sshtool.parity.verify import ConvertAgain, VerifyReport, verify
from sshtool.progress import Progress, silent
from sshtool.runtimes.registry import RUNTIMES


@contextlib.contextmanager
def demo_checkpoint(model: ModelSpec) -> Iterator[Checkpoint]:
    """Write the demo checkpoint, the same bytes on every machine, into a temporary folder and open it."""
    with scratch_folder() as folder:
        write_demo(folder, model)
        yield replace(open_checkpoint(folder, model), weights=DEMO)  # also if the description pins no hash


def prove(
    reference: PackReference, checkpoint: Checkpoint | None, model: ModelSpec, progress: Progress = silent
) -> str:
    """Compare a pack with the checkpoint that it names, if `checkpoint` or the demo is that checkpoint.

    Returns the pack's claim that remains unproven, or "". Raises what `check_answers` raises.
    """
    if reference.is_shipped:
        return ""
    weights = reference.contents.weights
    if checkpoint is not None and is_of(reference, checkpoint):
        check_answers(reference, checkpoint, progress)
    elif weights == DEMO:
        with demo_checkpoint(model) as demo_weights:
            check_answers(reference, demo_weights, progress)
    else:
        return (
            f"{reference.path.name} claims to hold the answers of {one_line(weights)}; without that checkpoint, the "
            "claim is not proven"
        )
    return ""


def check_answers(reference: PackReference, checkpoint: Checkpoint, progress: Progress = silent) -> None:
    """Convert the checkpoint and compare it with the pack on every sample, with the first available runtime.

    Files in FP32 prove the answers, files in FP16 those of rounded weights. Answers for a format that cannot be written
    or run here remain unproven; no file of that format can be compared with them here either.

    Raises ReferencePackError if the pack names another checkpoint or has other answers, and RuntimeUnavailableError if
    no runtime is installed.
    """
    require_of(reference, checkpoint)
    progress(f"computing the answers of {reference.path.name} again")
    with scratch_folder() as folder:
        _compare(reference, checkpoint, folder, "onnx", Precision.FP32)
        for group in reference.contents.halves:
            for key in group.formats:
                with contextlib.suppress(RuntimeUnavailableError):
                    _compare(reference, checkpoint, folder, key, Precision.FP16)
                    break


def _compare(reference: PackReference, checkpoint: Checkpoint, folder: Path, key: str, precision: Precision) -> None:
    """Convert to one format and precision, and compare. Raises as `check_answers`."""

    def converted(shape: tuple[int, ...] | None, name: str) -> Path:
        options = Options((key,), (precision,), shape)
        return convert(checkpoint, folder / key / precision.value / name, options)[0].path

    def other_size(_candidate: Candidate, _declaration: Declaration) -> Path:
        return converted(OTHER_SHAPE, "other")

    size = reference.image_size
    candidate = Candidate(converted((1, 3, *size) if size else None, "own"), precision.value)
    report = _verify(reference, candidate, checkpoint.model, other_size)
    if report.failures:
        worst = report.failures[0]
        raise ReferencePackError(
            f"{reference.path}: its answers are not those of the checkpoint that it names ({worst.sample or 'all'}: "
            f"{worst.message}); make another with `sshtool reference`"
        )


def require_of(reference: PackReference, checkpoint: Checkpoint) -> None:
    """Raise ReferencePackError if the pack names another checkpoint."""
    if not is_of(reference, checkpoint):
        raise ReferencePackError(
            f"{reference.path}: has answers of other files than {checkpoint.params_path} "
            f"({one_line(reference.contents.weights)}); make another pack with `sshtool reference`"
        )


def is_of(reference: PackReference, checkpoint: Checkpoint) -> bool:
    """Return whether the pack names exactly this checkpoint, under any file names."""
    contents = reference.contents
    hashes = sorted(contents.checkpoint.values())
    return contents.weights == checkpoint.weights and hashes == sorted(checkpoint.sha256.values())


def _verify(reference: PackReference, candidate: Candidate, model: ModelSpec, other_size: ConvertAgain) -> VerifyReport:
    """Verify with the first installed runtime that loads the candidate."""
    missing = []
    for key in (key for key, runtime in RUNTIMES.items() if runtime.loads(candidate.path)):
        try:
            return verify(model, reference, [replace(candidate, runtime=key)], convert_again=other_size)
        except RuntimeUnavailableError as error:
            missing.append(str(error))
    raise RuntimeUnavailableError("; ".join(missing))
