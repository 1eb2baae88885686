"""A detector with landmarks and a mask attribute, as InsightFace's anti-cov, from trained weights of RetinaFace.

Its deltas have standard deviations other than 1, by which the trained weights are divided. So its boxes, scores and
landmarks are those of the trained detector.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from sshconvert.checkpoint import Checkpoint, open_checkpoint
from sshconvert.models.registry import load_model
from sshconvert.models.spec import ModelSpec
from sshconvert.mxnet.params import read_params, write_params
from sshconvert.tasks.anchor_detection import AnchorDetection
from sshconvert.tasks.anchors import AttributeBlocks
from tiny_checkpoint import node

NAME: Final = "retinaface-mnet25"
TRAINED: Final = load_model(NAME)
BOX_STD: Final = (0.1, 0.1, 0.2, 0.2)
LANDMARK_STD: Final = 0.2
STRIDES: Final = (32, 16, 8)


def _masked() -> ModelSpec:
    task = TRAINED.task
    assert isinstance(task, AnchorDetection)
    heads = tuple(
        head.model_copy(
            update={
                "attributes": AttributeBlocks(
                    tensor=f"face_rpn_type_prob_reshape_stride{head.stride}", blocks=("", "", "mask")
                ),
                "box_std": BOX_STD,
                "landmark_std": LANDMARK_STD,
            }
        )
        for head in task.heads
    )
    return TRAINED.model_copy(update={"name": "masked", "task": task.model_copy(update={"heads": heads})})


MASKED: Final = _masked()


def trained_checkpoint(folder: Path, shared_data: Path) -> Checkpoint:
    """Copy the trained detector into a folder, under MXNet's names, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shared_data / "zoo" / "symbols" / f"{NAME}.json", folder / "net-symbol.json")
    shutil.copyfile(shared_data / "zoo" / "params" / f"{NAME}.params", folder / "net-0000.params")
    return open_checkpoint(folder, TRAINED)


def masked_checkpoint(folder: Path, shared_data: Path) -> Checkpoint:
    """Write the detector with a mask attribute into a folder, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    symbol: Any = json.loads((shared_data / "zoo" / "symbols" / f"{NAME}.json").read_text(encoding="utf-8"))
    arrays = read_params(shared_data / "zoo" / "params" / f"{NAME}.params")
    for number, stride in enumerate(STRIDES):
        _divide(arrays, f"face_rpn_bbox_pred_stride{stride}", np.tile(BOX_STD, 2))
        _divide(arrays, f"face_rpn_landmark_pred_stride{stride}", np.full(20, LANDMARK_STD))
        _add_types(symbol, arrays, number, stride)
    (folder / "net-symbol.json").write_text(json.dumps(symbol), encoding="utf-8")
    write_params(folder / "net-0000.params", arrays)
    return open_checkpoint(folder, MASKED)


def _divide(arrays: dict[str, Any], name: str, divisors: Any) -> None:
    for part in ("weight", "bias"):
        values = arrays[f"arg:{name}_{part}"]
        shaped = divisors.reshape(-1, *[1] * (values.ndim - 1))
        arrays[f"arg:{name}_{part}"] = (values / shaped).astype(np.float32)


def _add_types(symbol: Any, arrays: dict[str, Any], number: int, stride: int) -> None:
    """Add the head of a stride: a softmax over three blocks, of which the third is that of the face, weakened."""
    nodes, name = symbol["nodes"], f"face_rpn_type_score_stride{stride}"
    source = next(item for item in nodes if item["name"] == f"face_rpn_cls_score_stride{stride}")["inputs"][0][0]
    first = len(nodes)
    nodes += [node("null", f"{name}_weight"), node("null", f"{name}_bias")]
    nodes += [node("Convolution", name, source, first, first + 1, kernel=(1, 1), num_filter=6)]
    nodes += [node("Reshape", f"{name}_reshape", first + 2, shape=(0, 3, -1, 0))]
    nodes += [node("SoftmaxActivation", f"face_rpn_type_prob_stride{stride}", first + 3, mode="channel")]
    nodes += [node("Reshape", f"face_rpn_type_prob_reshape_stride{stride}", first + 4, shape=(0, 6, -1, 0))]
    symbol["arg_nodes"] += [first, first + 1]
    symbol["node_row_ptr"] = [*range(len(nodes) + 1)]
    symbol["heads"].insert(4 * number + 3, [first + 5, 0, 0])
    for part in ("weight", "bias"):
        scores = arrays[f"arg:face_rpn_cls_score_stride{stride}_{part}"]
        arrays[f"arg:{name}_{part}"] = np.concatenate([scores, np.float32(0.7) * scores[2:]])
