"""Answers to all standard samples, from which a test writes a reference pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detections import anchor_task
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.models.registry import load_model
from sshconvert.options import Dynamic, Options
from sshtool.parity.reference import Answer, LiveReference
from sshtool.parity.samples import draw_sample, other_size, sample_names
from sshtool.runtimes.onnxruntime import OnnxRuntime

MODEL = load_model("ssh-mxnet")


def computed_answers(checkpoint: Checkpoint, folder: Path, size: tuple[int, int]) -> list[Answer]:
    """The checkpoint's answers at that size, computed by ONNX Runtime."""
    options = Options(("onnx",), input_shape=(1, 3, *size), dynamic=Dynamic.ALL)
    live = LiveReference(OnnxRuntime(convert(checkpoint, folder, options)[0].path), MODEL)
    other = live.other_size()
    assert other is not None  # the file takes any size
    return [*live.answers(*size), other]


def empty_answers(size: tuple[int, int]) -> list[Answer]:
    """Outputs of zeros, which hold no detections."""
    samples = [*(draw_sample(name, MODEL, *size) for name in sample_names()), other_size()]
    made = []
    for sample in samples:
        outputs = {}
        for head in anchor_task(MODEL).heads:
            cells = [side // head.stride for side in sample.image_size]
            for name, channels in ((head.scores, 2), (head.boxes, 4)):
                outputs[name] = np.zeros((len(sample.images), channels * len(head.scales), *cells), np.float32)
        made.append(Answer(sample, outputs))
    return made
