"""A small release to test with: models of a few kilobytes, converted, verified and packaged by the real verbs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onnx import save

from small_model import SIZE, small_onnx, write_small_models
from sshconvert.checkpoint import Checkpoint
from sshconvert.models import load_model
from sshtool.commands.verify import RECORD, VerifyResult, write_record
from sshtool.package.manifest import PackagedModel
from sshtool.package.signature import Signature
from sshtool.parity.pack import pack_name, read_pack, write_pack
from sshtool.parity.reference import LiveReference
from sshtool.parity.verify import Candidate, verify
from sshtool.runtimes.onnxruntime import OnnxRuntime

MODEL = load_model("ssh-mxnet")

# So that the outputs are as small as those of the real model, and as close to one another.
SCALE: Final = 0.02


@dataclass(frozen=True)
class Workspace:
    """An output folder as `convert`, `reference` and `verify` leave it."""

    folder: Path
    onnx: Path
    ir: Path
    record: Path
    pack: Path


def make_workspace(folder: Path, checkpoint: Checkpoint) -> Workspace:
    """Small models in the place of FP32 artifacts, the answers of ONNX Runtime as a pack, the verification by it."""
    place = folder / MODEL.name / "FP32"
    place.mkdir(parents=True)
    write_small_models(place, MODEL, SCALE)
    for path in sorted(place.glob("small.*")):
        path.rename(place / f"{MODEL.name}{path.suffix}")
    onnx, ir = place / f"{MODEL.name}.onnx", place / f"{MODEL.name}.xml"
    pack = folder / MODEL.name / pack_name(MODEL)
    free = folder / "free.onnx"
    save(small_onnx(MODEL, SCALE, free=True), free)
    live = LiveReference(OnnxRuntime(free), MODEL)
    other = live.other_size()
    assert other is not None  # the file takes any size
    write_pack(pack, checkpoint, "ONNX Runtime", [*live.answers(SIZE, SIZE), other])
    free.unlink()
    record = folder / MODEL.name / RECORD
    report = verify(MODEL, read_pack(pack, MODEL), [Candidate(onnx, "FP32"), Candidate(ir, "FP32")])
    assert report.passed, report.failures
    write_record(record, VerifyResult(report))
    return Workspace(folder, onnx, ir, record, pack)


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """The same in another folder, to change it."""
    shutil.copytree(workspace.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("releases"))
    places = (workspace.onnx, workspace.ir, workspace.record, workspace.pack)
    return Workspace(folder, *(folder / path.relative_to(workspace.folder) for path in places))


def described(signature: Signature, path: str, form: str) -> PackagedModel:
    """A model of a package as its manifest has it."""
    inside = signature.declaration.faces
    return PackagedModel.model_validate(
        {
            "label": path,
            "format": form,
            "precision": signature.declaration.precision,
            "path": path,
            "files": (path,),
            "input": signature.input,
            "outputs": signature.outputs,
            "input_layout": signature.declaration.input_layout,
            "color_order": signature.declaration.color_order,
            "mean_values": signature.declaration.mean_values,
            "options": {},
            "verified": True,
            "postprocessing": vars(inside) if inside else None,
        }
    )
