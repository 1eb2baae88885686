"""The environment of a result: the machine, and the versions of the libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGES: Final = ("sshtool", "numpy", "mxnet", "onnx", "onnxruntime", "openvino")


def environment() -> dict[str, str]:
    """Names of Python, platform and processor, and versions of `PACKAGES`, for a report."""
    facts = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts["processor"] = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        facts["processor"] = platform.processor() or "unknown"
    return facts | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
