"""The peers' environment: the last `mo` that reads MXNet, and MXNet as released, on the last Python that has both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = ("openvino-dev==2023.3.0", "mxnet==1.9.1", "numpy==1.23.5", "onnx==1.12.0")
# `mo` reports to its maker through this package, and has a stub of its own for when it is missing.
TELEMETRY: Final = "openvino-telemetry"
COMPLETE: Final = "complete"


def make_environment(folder: Path, python: str) -> Path:
    """Make the environment, unless it is there. Returns its folder of programs."""
    programs = folder / "bin"
    requirements = "\n".join(REQUIREMENTS)
    if (folder / COMPLETE).is_file() and (folder / COMPLETE).read_text(encoding="utf-8") == requirements:
        return programs
    shutil.rmtree(folder, ignore_errors=True)
    commands: list[list[str | Path]] = [
        [python, "-m", "venv", folder],
        [programs / "pip", "install", *REQUIREMENTS],
        [programs / "pip", "uninstall", "--yes", TELEMETRY],
    ]
    for command in commands:
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment())
    (folder / COMPLETE).write_text(requirements, encoding="utf-8")
    return programs


def environment() -> Mapping[str, str]:
    """For the peers' processes: nothing of ours."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def mo_arguments(checkpoint: Path, output: Path) -> list[str]:
    """What Open Model Zoo called `mo` with; FP32."""
    return [
        *("--framework", "mxnet", "--input_symbol", str(checkpoint / "sshb-symbol.json")),
        *("--input_model", str(checkpoint / "sshb-0000.params"), "--input", "data", "--input_shape", "[1,3,640,640]"),
        *("--mean_values", "data[123.68,116.779,103.939]", "--reverse_input_channels"),
        *("--output_dir", str(output), "--model_name", "ssh-mxnet", "--compress_to_fp16=False"),
    ]


EXPORT: Final = """
import sys
import numpy
import mxnet
symbol, parameters, output = sys.argv[1:]
mxnet.onnx.export_model(symbol, parameters, [(1, 3, 640, 640)], numpy.float32, output)
"""


def exporter_error(programs: Path, checkpoint: Path, output: Path) -> str:
    """What MXNet's own exporter to ONNX says at the end; nothing if it has made a file."""
    files = (checkpoint / "sshb-symbol.json", checkpoint / "sshb-0000.params", output)
    result = subprocess.run(
        [programs / "python", "-c", EXPORT, *files], env=environment(), capture_output=True, text=True, check=False
    )
    lines = result.stderr.strip().splitlines()
    return "" if result.returncode == 0 and output.exists() else lines[-1] if lines else f"exit {result.returncode}"
