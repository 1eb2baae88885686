"""Starts `sshtool` as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def sshtool(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `sshtool` in a new process, and require this exit code and no traceback."""
    command = [sys.executable, "-m", "sshtool", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == code, f"{result.stdout}{result.stderr}exit code {result.returncode}"
    assert "Traceback" not in result.stderr
    return result


def json_of(script: str, *arguments: str | Path | int, seconds: int = 120) -> Any:
    """Run a script of this folder in a new process, and read the JSON that it prints."""
    command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)
