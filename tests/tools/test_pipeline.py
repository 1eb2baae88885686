from __future__ import annotations

from dataclasses import replace

import pytest

from sshconvert.checkpoint import DEMO, Checkpoint
from sshconvert.options import Options
from sshtool.parity.pack import PackReference
from sshtool.parity.reference import LiveReference
from sshtool.pipeline import find_original

SMALL = Options(input_shape=(1, 3, 128, 128))


def test_the_demo_is_compared_with_its_shipped_answers_where_they_fit(demo_checkpoint: Checkpoint) -> None:
    demo = replace(demo_checkpoint, weights=DEMO)
    original = find_original(demo, Options())
    assert isinstance(original, PackReference)
    assert original.is_shipped
    assert "demo_reference.npz" in original.source
    assert "did not run here" in original.note


def test_no_other_checkpoint_and_no_other_size_is_compared_with_the_shipped_answers(
    demo_checkpoint: Checkpoint, plain_checkpoint: Checkpoint
) -> None:
    assert isinstance(find_original(replace(demo_checkpoint, weights=DEMO), SMALL), LiveReference)
    assert isinstance(find_original(plain_checkpoint, Options()), LiveReference)


@pytest.mark.usefixtures("mxnet")
def test_live_runs_mxnet_itself_on_the_demo(demo_checkpoint: Checkpoint) -> None:
    original = find_original(replace(demo_checkpoint, weights=DEMO), Options(), live=True)
    assert isinstance(original, LiveReference)
    assert "MXNet 1.9.1" in original.source
