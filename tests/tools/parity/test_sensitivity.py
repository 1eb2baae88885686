"""The measurement of the smallest fault that is caught: what it computes is what a file with the fault computes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from planted import PlantedLayer
from sensitivity import scaled
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.formats.registry import format_of
from sshconvert.models.registry import load_model
from sshconvert.options import Options, Precision
from sshtool.parity.samples import draw_sample
from sshtool.runtimes.loading import load

MODEL: Final = load_model("ssh-mxnet")
SIZE: Final = (64, 96)

pytestmark = pytest.mark.independent


@pytest.mark.parametrize("layer", ["conv3_1", "rpn_bbox_pred_stride8"])
def test_a_planted_layer_computes_what_a_file_with_the_fault_computes(
    layer: str, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    options = Options(("onnx",), (Precision.FP32,), (1, 3, *SIZE))
    path = convert(plain_checkpoint, tmp_path, options)[0].path
    feed = draw_sample("blocks", MODEL, *SIZE).images
    healthy = load(path, MODEL)
    planted = PlantedLayer(healthy, path, layer)
    plain = healthy.run(feed)
    for name, array in planted.run(feed).items():
        np.testing.assert_allclose(array, plain[name], rtol=0, atol=1e-5)
    edited = format_of(path).edit(path)
    bias = edited.bias(layer)
    assert bias is not None
    edited.scale_filter(layer, 2, 1.5)
    edited.save()
    planted.change = scaled(2, float(bias[2]), 0.5)
    outputs = planted.run(feed)
    for name, array in load(path, MODEL).run(feed).items():
        np.testing.assert_allclose(outputs[name], array, rtol=0, atol=1e-5)
    assert max(np.abs(outputs[name] - plain[name]).max() for name in plain) > 1e-2
