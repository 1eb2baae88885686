"""The names that `import sshconvert` offers, and the examples of its README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import sshconvert
from guides import BLOCKS, LIBRARY
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import Artifact
from sshtool import ImageDetections

EXAMPLES: Final = [block.text for block in BLOCKS.values() if block.name.startswith(f"{LIBRARY}#examples")]
SIZE: Final = "640, 640"  # the examples' input; a smaller one shows as much


@pytest.fixture
def names(plain_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the first example defines, run beside a checkpoint."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ssh-mxnet").symlink_to(plain_checkpoint.params_path.parent)
    monkeypatch.chdir(tmp_path)
    assert SIZE in EXAMPLES[0]
    return run(EXAMPLES[0].replace(SIZE, "64, 64"), {})


def run(example: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  # the text of the README
    return names


def test_an_example_converts(names: dict[str, Any]) -> None:
    assert len(EXAMPLES) == 4
    assert all(isinstance(artifact, Artifact) and artifact.path.is_file() for artifact in names["artifacts"])


def test_an_example_converts_a_network_without_a_description(names: dict[str, Any]) -> None:
    tensors = run(EXAMPLES[1].replace(SIZE, "64, 64"), names)["tensors"]
    assert Path("artifacts", tensors.name, "FP32", f"{tensors.name}.onnx").is_file()


def test_an_example_detects(names: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    assert isinstance(run(EXAMPLES[2], names)["detections"], ImageDetections)
    assert Path("picture.png").is_file()


def test_an_example_verifies(names: dict[str, Any]) -> None:
    assert run(EXAMPLES[3], names)["result"].passed


def test_every_public_name_is_there_and_none_is_imported_before_it_is_asked_for() -> None:
    assert all(getattr(sshconvert, name).__name__ == name for name in sshconvert.__all__)
    script = (
        "import sshconvert, sys; print([name for name in sys.modules if name.startswith(('numpy', 'sshconvert.'))])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_function_keeps_its_name_when_its_module_is_imported() -> None:
    script = "import sshconvert.convert; from sshconvert import convert; print(convert.__name__)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "convert\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = sshconvert.nothing  # type: ignore[attr-defined]  # that is the point
