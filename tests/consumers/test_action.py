"""The commands of the action and of the release, as a runner calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import sshtool
from workflows import release

pytestmark = [pytest.mark.consumer, pytest.mark.independent]


def test_the_commands_of_a_release_make_one(tmp_path: Path) -> None:
    sshtool("demo-dataset", "-o", tmp_path / "artifacts", "--images", "3", "--quiet")
    dataset = "artifacts/datasets/wider-demo"
    release(
        tmp_path,
        **{"source": "demo", "precisions": "FP32", "formats": "onnx", "input-shape": "1,3,64,64", "dataset": dataset},
    )
    assert {path.name for path in (tmp_path / "assets").iterdir()} == {
        "SHA256SUMS",
        "ssh-mxnet-flat.zip",
        "verification.html",
    }
    assert "| " in (tmp_path / "summary.md").read_text(encoding="utf-8")
    card = (tmp_path / "artifacts" / "releases" / "ssh-mxnet-flat" / "README.md").read_text(encoding="utf-8")
    assert "| omz | 3 | mAP |" in card


@pytest.mark.long
def test_the_commands_of_a_release_make_a_whole_one(tmp_path: Path) -> None:
    release(tmp_path, source="demo", precisions="FP16,FP32,INT8")
    assert (tmp_path / "assets" / "ssh-mxnet-flat.zip").is_file()
    assert (tmp_path / "artifacts" / "releases" / "ssh-mxnet-flat" / "INT8" / "ssh-mxnet.onnx").is_file()
