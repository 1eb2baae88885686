"""Runs programs of this interpreter with the packages of the environment `media`: PyAV and PyArrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environments import SCRIPTS
from project import ROOT

Environment = Callable[..., Path]


class Media:
    """This interpreter with PyAV and PyArrow."""

    def __init__(self, environment: Environment) -> None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        packages = environment("media", version).parents[1] / "lib" / f"python{version}" / "site-packages"
        paths = [packages, ROOT / "convert", ROOT / "tools"]
        self.variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "sshtool", *map(str, arguments)]

    def sshtool(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `sshtool`, and require this exit code and no traceback."""
        result = self._run(self.command(*arguments))
        assert result.returncode == code, f"{result.returncode}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        assert "Traceback" not in result.stderr
        return result

    def lines(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """Run `sshtool` with --json, and read its lines."""
        return [json.loads(line) for line in self.sshtool(*arguments, "--json", code=code).stdout.splitlines()]

    def script(self, name: str, *arguments: object) -> Any:
        """Run `scripts/NAME.py`, and read the JSON that it prints last."""
        result = self._run([sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)])
        assert result.returncode == 0, result.stderr[-4000:]
        return json.loads(result.stdout.splitlines()[-1])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self.variables,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
