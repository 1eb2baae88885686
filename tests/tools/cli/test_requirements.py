"""What is not installed is said before anything is done, and what is there is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from command_line import json_of
from project import SUPPORT
from sshconvert.checkpoint import Checkpoint
from sshconvert.convert import convert
from sshconvert.errors import RuntimeUnavailableError, UsageError
from sshconvert.libraries import JINJA, PILLOW, is_installed, require
from sshconvert.models.registry import load_model
from sshconvert.options import Options
from sshtool.demo.scenes import draw_scene
from sshtool.runtimes.base import Settings
from sshtool.runtimes.loading import load
from sshtool.runtimes.onnxruntime import OnnxRuntime

MODEL: Final = load_model("ssh-mxnet")
EXTRAS: Final = "onnxruntime,PIL,jinja2,yaml,scipy,nncf,mxnet,model_signing"

Result = tuple[int, str, str]


def without(packages: str, *calls: Sequence[str | Path]) -> list[Result]:
    """What verbs say where these packages are not installed, for child processes either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT / "absent_packages"))
        patch.setenv("ABSENT_PACKAGES", packages)
        found = json_of("verbs_in_turn.py", json.dumps([list(map(str, call)) for call in calls]))
    return [(code, out, err) for code, out, err in found]


@pytest.fixture(scope="module")
def artifacts(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    convert(plain_checkpoint, folder, Options(input_shape=(1, 3, 128, 128)))
    return folder


def test_a_base_install_says_what_a_verb_needs_before_it_does_anything(
    artifacts: Path, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    out, checkpoint = tmp_path / "out", plain_checkpoint.params_path
    onnx_file = artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    missing, keys = tmp_path / "missing", tmp_path / "keys.pem"
    keys.write_text("-----BEGIN PUBLIC KEY-----\n")
    calls: dict[str, tuple[tuple[str | Path, ...], tuple[str, ...]]] = {
        # All of it at once, before there is a checkpoint.
        "run": (("run", "--demo", "-o", out), ("Pillow", "Jinja", "PyYAML")),
        "run, INT8": (("run", "--demo", "-o", out, "--precision", "INT8"), ("Pillow", "NNCF", "ONNX Runtime")),
        "run, live": (("run", "--demo", "--live", "-o", out), ("Pillow", "MXNet")),
        "convert, INT8": (("convert", "--checkpoint", checkpoint, "-o", out, "--precision", "INT8"), ("NNCF",)),
        "detect": (("detect", missing, "--artifact", onnx_file), ("Pillow",)),
        "predict": (("predict", missing, "--artifact", onnx_file), ("Pillow",)),
        "verify, a page": (("verify", "-o", artifacts, "--checkpoint", missing, "--html", out), ("Pillow", "Jinja")),
        "evaluate": (("evaluate", "-o", artifacts, "--dataset", missing), ("Pillow",)),
        "bench, a page": (("bench", "-o", artifacts, "--checkpoint", missing, "--html", out), ("Jinja",)),
        "demo-dataset": (("demo-dataset", "-o", out), ("Pillow",)),
        "package": (("package", "-o", artifacts, "--allow-unverified"), ("Jinja", "PyYAML")),
        "package, signed": (("package", "-o", artifacts, "--sign", missing), ("Model Signing",)),
        "check, signed": (("check", missing, "--signers", keys), ("Model Signing",)),
    }
    for name, (code, _, err) in zip(calls, without(EXTRAS, *(call for call, _ in calls.values())), strict=True):
        assert code == 1, name
        last = err.strip().splitlines()[-1]
        assert all(word in last for word in calls[name][1]), (name, last)
        assert "cannot be imported" in last, name
        assert "install" in last, name
    assert not out.exists()
    assert not (artifacts / "releases").exists()


def test_without_onnx_runtime_openvino_runs_both_formats(
    artifacts: Path, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Of the files in the usual place, it gets its own."""
    scene, onnx_file = tmp_path / "scene.png", artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx"
    Image.fromarray(draw_scene(0, 128, 128).image[..., ::-1]).save(scene)
    default, given, named, lonely, checkpoint = without(
        "onnxruntime,mxnet",
        ("detect", scene, "-o", artifacts),
        ("detect", scene, "--artifact", onnx_file),
        ("detect", scene, "--artifact", onnx_file, "--runtime", "onnxruntime"),
        ("convert", "--checkpoint", plain_checkpoint.params_path, "-o", tmp_path, "--input-shape", "1,3,64,64", "-q"),
        ("detect", scene, "--artifact", plain_checkpoint.params_path),
    )
    assert (default[0], given[0], lonely[0]) == (0, 0, 0)
    assert "OpenVINO" in default[1]
    assert f"{MODEL.name}.xml" in default[2]
    assert "OpenVINO" in given[1]
    assert named[0] == 1
    assert "ONNX Runtime: cannot be imported" in named[2]
    assert checkpoint[0] == 1
    assert "is a checkpoint" in checkpoint[2]


def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("PIL", "jinja2"):
        monkeypatch.setitem(sys.modules, module, None)
    assert not is_installed("PIL")
    with pytest.raises(RuntimeUnavailableError, match=r"^Pillow, Jinja: .*install"):
        require(PILLOW, JINJA, PILLOW)
    require()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.bin", r"give \S*x\.xml, which refers to it"),
        ("x.onnx.data", r"give \S*x\.onnx, which refers to it"),
        ("x-symbol.json", "a part of a checkpoint"),
        ("x.json", r"ends in .*\.onnx or"),
        ("x.data", r"ends in .*\.onnx or"),
        ("x", r"ends in .*\.onnx or"),
    ],
)
def test_what_is_no_artifact_is_told_what_to_give(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path / name, MODEL)


def test_onnx_runtime_proposes_no_machine_of_somebody_elses(artifacts: Path) -> None:
    for device in ("GPU", "AZURE"):
        with pytest.raises(RuntimeUnavailableError, match=device) as caught:
            OnnxRuntime(artifacts / MODEL.name / "FP32" / f"{MODEL.name}.onnx", Settings(device=device))
        assert "AZURE" not in str(caught.value).split("use ")[1]


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    """Where it would go there is a folder."""
    verbs = (("verify",), ("bench",), ("evaluate", "--dataset", tmp_path / "missing"))
    for code, _, err in without("nothing", *((*verb, "-o", tmp_path, "--html", tmp_path) for verb in verbs)):
        assert code == 1
        assert "it exists and is not a file" in err
