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
    assert result.returncode == code, _described(result)
    assert "Traceback" not in result.stderr
    return result


def _described(result: subprocess.CompletedProcess[str]) -> str:
    """The end of the output, and last the reasons, because a log may keep the last lines only."""
    reasons: list[Any] = []
    try:
        document = json.loads(result.stdout)
        reasons = [document.get("error"), document["result"]["report"]["failures"][:5]]
    except (ValueError, TypeError, KeyError):
        pass  # no document, or one of another verb
    shown = f"{result.stdout[-3000:]}{result.stderr[-3000:]}"
    return f"{shown}\n{json.dumps(reasons, indent=1)}\nexit code {result.returncode}"


def json_of(script: str, *arguments: str | Path | int, seconds: int = 120) -> Any:
    """Run a script of this folder in a new process, and read the JSON that it prints."""
    command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)
