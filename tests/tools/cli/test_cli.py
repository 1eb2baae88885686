from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import sshconvert
from command_line import sshtool
from sshconvert.checkpoint import Checkpoint
from sshconvert.contract import DEMO_LICENCE
from sshconvert.models.registry import load_model
from sshtool.cli.app import app

MODEL = load_model("ssh-mxnet")
VERBS = tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # of a group


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Checkpoint) -> Path:
    return demo_checkpoint.params_path.parent


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    shown = sshtool("--help").stdout
    assert all(verb in shown for verb in VERBS)
    script = (
        "import atexit, sys; sys.argv = ['sshtool', '--help']\n"
        "heavy = {'numpy', 'onnx', 'openvino', 'onnxruntime', 'mxnet', 'PIL', 'jinja2'}\n"
        "heavy |= {'httpx', 'filelock', 'platformdirs', 'pydantic'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "import sshtool.__main__\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


def test_a_verb_imports_no_other(checkpoint: Path) -> None:
    script = (
        "import atexit, sys; sys.argv = ['sshtool', 'info', '--quiet', '--checkpoint', sys.argv[1]]\n"
        "modules = lambda: {name.rpartition('.')[2] for name in sys.modules if name.startswith('sshtool.cli.')}\n"
        "atexit.register(lambda: print(*modules(), file=sys.stderr))\n"
        "import sshtool.__main__\n"
    )
    result = subprocess.run([sys.executable, "-c", script, checkpoint], capture_output=True, text=True, check=True)
    assert {verb.replace("-", "_") for verb in VERBS} & set(result.stderr.split()) == {"info"}


def test_the_version_is_that_of_the_package() -> None:
    result = sshtool("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"sshtool {sshconvert.__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(verb: str) -> None:
    assert "--json" in sshtool(verb, "--help").stdout


def test_convert_writes_open_model_zoos_layout_and_says_so_in_json(checkpoint: Path, tmp_path: Path) -> None:
    result = sshtool(
        "convert", "--checkpoint", checkpoint, "-o", tmp_path, "--precision", "fp16,FP32", "--precision", "FP16",
        "--input-shape", "1x3x64x64", "--json",
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["verb"] == "convert"
    assert document["ok"] is True
    assert document["result"]["weights"] == "demo"
    assert [(item["format"], item["precision"]) for item in document["result"]["artifacts"]] == [
        ("onnx", "FP16"),
        ("openvino", "FP16"),
        ("onnx", "FP32"),
        ("openvino", "FP32"),
    ]
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        f"ssh-mxnet/{precision}/ssh-mxnet.{suffix}"
        for precision in ("FP16", "FP32")
        for suffix in ("onnx", "xml", "bin")
    }
    for item in document["result"]["artifacts"]:
        assert item["bytes"] == sum(Path(path).stat().st_size for path in item["files"])


def test_underscores_work_like_dashes(checkpoint: Path, tmp_path: Path) -> None:
    sshtool(
        "convert", "--checkpoint", checkpoint, "--output_dir", tmp_path, "--input_shape", "[1,3,64,64]",
        "--format", "onnx", "--no_preprocessing", "--dry_run", "--quiet",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_dry_run_names_the_files_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    result = sshtool("convert", "--checkpoint", checkpoint, "-o", tmp_path, "--dry-run", "--json")
    paths = [item["path"] for item in json.loads(result.stdout)["result"]["artifacts"]]
    assert paths == [str(tmp_path / "ssh-mxnet" / "FP32" / f"ssh-mxnet.{suffix}") for suffix in ("onnx", "xml")]
    for verb in ("download", "run"):
        sshtool(verb, "--demo", "-o", tmp_path, "--dry-run")
    assert not list(tmp_path.iterdir())


def test_progress_goes_to_stderr_and_quiet_silences_it(checkpoint: Path, tmp_path: Path) -> None:
    arguments = (
        "convert",
        "--checkpoint",
        checkpoint,
        "-o",
        tmp_path,
        "--format",
        "onnx",
        "--input-shape",
        "1,3,64,64",
    )
    talkative, quiet = sshtool(*arguments), sshtool(*arguments, "--quiet")
    assert "writing ONNX FP32" in talkative.stderr
    assert quiet.stderr == ""
    assert quiet.stdout == talkative.stdout
    assert "\x1b" not in quiet.stdout


def test_info_reproduces_the_published_figures(checkpoint: Path) -> None:
    result = json.loads(sshtool("info", "--checkpoint", checkpoint, "--json").stdout)["result"]
    assert round(result["mparams"], 4) == result["published_mparams"] == 19.7684
    assert round(result["gflops"], 4) == result["published_gflops"] == 267.0594
    assert list(result["outputs"]) == list(MODEL.output_names)
    text = sshtool("info", "--checkpoint", checkpoint).stdout
    assert "267.0594 (published 267.0594" in text
    assert result["license_weights"] == DEMO_LICENCE
    assert DEMO_LICENCE in text
    assert "non-commercial" not in text  # which is about the trained weights


ERRORS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "dead link": (("download", "--offline"), 1, "May 2021"),
    "contradiction": (("run", "--demo", "--from-archive", "a.zip"), 2, "--from-archive"),
    "no archive": (("download", "--from-archive", "nowhere.zip"), 1, "nowhere.zip"),
    "unknown model": (("info", "--model", "ssd"), 1, "ssd"),
    "no checkpoint": (("convert",), 1, ".params"),
    "unknown precision": (("convert", "--precision", "FP8"), 2, "FP8"),
    "no precision": (("convert", "--precision", ","), 2, "--precision"),
    "unknown format": (("convert", "--format", "tflite"), 2, "tflite"),
    "bad shape": (("convert", "--input-shape", "640"), 2, "'640'"),
    "unknown output": (("verify", "--atol", "1e-5", "head:1"), 2, "head"),
    "bad tolerance": (("verify", "--rtol", "much"), 2, "'much'"),
    "unknown profile": (("verify", "--profile", "FP8"), 2, "FP8"),
    "nothing to verify": (("verify",), 1, "sshtool convert"),
    "no such artifact": (("verify", "--artifact", "a.onnx"), 2, "a.onnx"),
    "no reference": (
        ("verify", "--artifact", __file__, "--reference", "none.npz"),
        1,
        "none.npz",
    ),
    "one file for two reports": (("verify", "--html", "a", "--junit", "a"), 2, "same file"),
    "images and a pack": (("verify", "--images", ".", "--reference", "a.npz"), 2, "--images"),
    "no image": (("detect", "nowhere"), 2, "nowhere"),
    "a file without its option": (("convert", "a.params"), 2, "give it as --params FILE or --checkpoint FOLDER"),
    "an artifact without its option": (("bench", "a.onnx"), 2, "--artifact FILE"),
    "zero in shape": (("convert", "--input-shape", "1,3,0,640"), 2, "--input-shape"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_line_with_the_remedy(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    result = sshtool(*arguments, "-o", tmp_path / "out", "--quiet", code=code)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_error_in_json_mode_is_one_document_too(tmp_path: Path) -> None:
    result = sshtool("download", "--offline", "-o", tmp_path, "--json", code=1)
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert document["error"]["type"] == "DownloadError"
    assert "--demo" in document["error"]["message"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sshtool", "download", "--offline", "-o", str(tmp_path), "--debug"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "--colour"),
        ("convert", "--batch", "many"),
        ("convert", "--batch"),
        ("detect",),
        ("detect", "a.png", "--threshold", "2"),
        ("nothing",),
        ("--nothing",),
    ],
)
def test_wrong_usage_is_one_line_and_with_json_one_document(arguments: tuple[str, ...]) -> None:
    result = sshtool(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "--help" in result.stderr
    if arguments[0] in ("convert", "detect"):
        assert json.loads(sshtool(*arguments, "--json", code=2).stdout)["error"]["type"] == "UsageError"


def test_an_unwritable_folder_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = sshtool("convert", "--checkpoint", checkpoint, "-o", tmp_path / "file", "--quiet", code=1)
    assert str(tmp_path / "file") in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.long  # README's first command does the same, and `.ci/run` calls it
def test_run_does_the_whole_job_on_the_demo(tmp_path: Path) -> None:
    result = sshtool("run", "--demo", "-o", tmp_path, "--input-shape", "1,3,128,128", "--precision", "FP32", "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    found, report = document["result"], document["result"]["report"]
    assert document["ok"] is report["passed"] is True
    assert found["weights"] == report["weights"] == "demo"
    assert [item["label"] for item in report["artifacts"]] == ["onnx FP32", "openvino FP32"]
    for artifact in report["artifacts"]:
        assert artifact["matched"] > 10
        assert artifact["missing"] == artifact["extra"] == 0
        assert artifact["largest"] <= 1e-5
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "<h1" in Path(found["page"]).read_text(encoding="utf-8")
    assert report["reference"].startswith(("MXNet 1.9.1", "exact evaluation"))
    files = {path.name for path in (tmp_path / "checkpoints" / "ssh-mxnet").iterdir()}
    assert files == {"checkpoint.json", "ssh-model-demo.zip", "sshb-0000.params", "sshb-symbol.json"}


@pytest.mark.long
def test_run_ends_in_3_when_an_artifact_computes_something_else(tmp_path: Path) -> None:
    """The fault is planted between conversion and comparison: another model's weights in one file."""
    script = (
        "import sys\n"
        "from sshtool import pipeline as verb\n"
        "original = verb.convert\n"
        "def faulty(*arguments, **options):\n"
        "    artifacts = original(*arguments, **options)\n"
        "    weights = artifacts[1].files[1]\n"
        "    data = bytearray(weights.read_bytes())\n"
        "    data[4000:8000] = bytes(4000)\n"
        "    weights.write_bytes(data)\n"
        "    return artifacts\n"
        "verb.convert = faulty\n"
        "options = ['--demo', '--precision', 'FP32', '--input-shape', '1,3,128,128', '-o', sys.argv[1]]\n"
        "sys.argv = ['sshtool', 'run', *options]\n"
        "import sshtool.__main__\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 3, result.stderr
    assert "DIFFERENT" in result.stdout
