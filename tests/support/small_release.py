"""A release of models of a few kilobytes, verified and packaged by the real verbs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from onnx import ModelProto, helper, save

from small_model import SIZE, small_onnx
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import Contract
from sshconvert.ir import IntermediateRepresentation
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshtool.candidates import Candidate
from sshtool.package.layouts import LAYOUTS
from sshtool.package.manifest import PackagedModel
from sshtool.package.packaged_model import packaged_model
from sshtool.parity.pack import read_pack, write_pack
from sshtool.parity.reference import LiveReference
from sshtool.parity.verification import VerifyResult, write_record
from sshtool.parity.verify import verify
from sshtool.runtimes.onnxruntime import OnnxRuntime
from sshtool.workspace import Workspace

MODEL = load_model("ssh-mxnet")

# The weights that the small models declare. They are not the demo's, which `check` knows to the byte.
PARAMS: Final = "1" * 64
WEIGHTS: Final = f"params-sha256:{PARAMS}"

# Keeps the outputs as small as those of the real model, and as close to one another.
SCALE: Final = 0.02


@dataclass(frozen=True)
class Verified:
    """An output folder as `convert`, `reference` and `verify` leave it."""

    folder: Path
    onnx: Path
    ir: Path
    record: Path
    pack: Path


def declaring(weights: str) -> ModelProto:
    """The small model with all the metadata of a conversion."""
    model = small_onnx(MODEL, SCALE)
    helper.set_model_props(model, dict(Contract.of(MODEL, weights, Options(), "FP32").metadata))
    return model


def make_workspace(folder: Path, checkpoint: Checkpoint, weights: str = WEIGHTS) -> Verified:
    """Small models in the place of FP32 artifacts, the answers of ONNX Runtime as a pack, the verification by it.

    They all say that they are made of those `weights`; of "demo", that it is the demo checkpoint.
    """
    if weights != checkpoint.weights:
        hashes = {**checkpoint.sha256, checkpoint.params_path.name: PARAMS}
        checkpoint = replace(checkpoint, weights=weights, sha256=hashes)
    place = folder / MODEL.name / "FP32"
    place.mkdir(parents=True)
    onnx, ir = place / f"{MODEL.name}.onnx", place / f"{MODEL.name}.xml"
    save(declaring(weights), onnx)
    metadata = Contract.of(MODEL, weights, Options(), "FP32").metadata
    IntermediateRepresentation(onnx, name=MODEL.name).save(ir, metadata)
    pack = Workspace(MODEL, folder).reference_pack
    free = folder / "free.onnx"
    save(small_onnx(MODEL, SCALE, free=True), free)
    live = LiveReference(OnnxRuntime(free), MODEL)
    other = live.other_size()
    assert other is not None  # the file takes any size
    write_pack(pack, checkpoint, "ONNX Runtime", [*live.answers(SIZE, SIZE), other])
    free.unlink()
    record = Workspace(MODEL, folder).verification
    report = verify(MODEL, read_pack(pack, MODEL), [Candidate(onnx, "FP32"), Candidate(ir, "FP32")])
    assert report.passed, report.failures
    write_record(record, VerifyResult(report))
    return Verified(folder, onnx, ir, record, pack)


def copied(workspace: Verified, folder: Path) -> Verified:
    """The same in another folder, to change it."""
    shutil.copytree(workspace.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("releases"))
    places = (workspace.onnx, workspace.ir, workspace.record, workspace.pack)
    return Verified(folder, *(folder / path.relative_to(workspace.folder) for path in places))


def described(contract: Contract, path: Path) -> PackagedModel:
    """A model of a package as its manifest has it."""
    return packaged_model(path, contract, MODEL.name, LAYOUTS["flat"], verified=True)
