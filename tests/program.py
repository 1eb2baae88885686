"""The program as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def sshtool(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `sshtool` in a process of its own, and require that exit code and no traceback."""
    command = [sys.executable, "-m", "sshtool", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result
