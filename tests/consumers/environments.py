"""Environments for the consumers of what sshtool writes: one for each lock, made once and kept in the user's cache.

`python tests/consumers/environments.py` makes all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import platformdirs
from filelock import FileLock

from project import ROOT, TESTS

HERE: Final = TESTS / "consumers"
LOCKS: Final = HERE / "locks"
NODE: Final = HERE / "node"
SCRIPTS: Final = HERE / "scripts"
CACHE: Final = Path(os.environ.get("SSHTOOL_CONSUMERS") or platformdirs.user_cache_path("sshtool-consumers"))
INSTALLATION_SECONDS: Final = 1200


class EnvironmentUnavailableError(Exception):
    """An interpreter or a package client is not installed."""


def environment(name: str, python: str = "3.12") -> Path:
    """Give the Python of a virtual environment with exactly the packages of `locks/NAME.lock`.

    Raises `EnvironmentUnavailableError` if that version of Python is not installed.
    """
    lock = LOCKS / f"{name}.lock"
    interpreter = _interpreter(python)

    def install(folder: Path) -> None:
        _call(interpreter, "-m", "venv", folder)
        _call(folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", lock)

    return _made(f"{name}-{python}", [lock], install) / "bin" / "python"


def node_modules(name: str) -> Path:
    """Give the `node_modules` with exactly the packages of `node/NAME/package-lock.json`.

    Raises `EnvironmentUnavailableError` if npm is not installed.
    """
    if not (npm := shutil.which("npm")) or not shutil.which("node"):
        raise EnvironmentUnavailableError("Node.js and npm are not installed")
    sources = [NODE / name / "package.json", NODE / name / "package-lock.json"]

    def install(folder: Path) -> None:
        folder.mkdir()
        for source in sources:
            shutil.copy(source, folder)
        _call(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", cwd=folder)

    return _made(f"{name}-node", sources, install) / "node_modules"


def run(python: Path, script: str, *arguments: object, timeout: float = 300) -> Any:
    """Run `scripts/SCRIPT.py` in an environment, and give the JSON document that it prints last.

    The script can import sshtool where the lock has what sshtool needs. It starts in an empty folder, because some
    libraries leave files where they run.
    """
    command = [str(python), str(SCRIPTS / f"{script}.py"), *map(str, arguments)]
    sources = os.pathsep.join(str(ROOT / folder) for folder in ("convert", "tools"))
    variables = {**os.environ, "PYTHONPATH": sources}
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout, env=variables, cwd=folder
        )
    assert result.returncode == 0, f"{script}.py ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout.splitlines()[-1])


def _made(name: str, sources: list[Path], install: Callable[[Path], None]) -> Path:
    """Install what the sources state, unless it is there; another process that needs it meanwhile waits."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = CACHE / f"{name}-{digest}"
    complete = folder / ".complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{name}.lock"):
        if not complete.exists():
            # Environments name their own folder, so they are made in place; those of older locks are of no use.
            for old in CACHE.glob(f"{name}-{'?' * len(digest)}"):
                shutil.rmtree(old)
            install(folder)
            complete.touch()
    return folder


def _interpreter(version: str) -> Path:
    places = [*os.environ.get("PATH", "").split(os.pathsep), *_pyenv(version)]
    for place in places:
        candidate = Path(place) / f"python{version}"
        # Pyenv's shims are there for every version, and fail for those that are not selected.
        if (
            candidate.is_file()
            and subprocess.run([candidate, "--version"], check=False, capture_output=True).returncode == 0
        ):
            return candidate
    raise EnvironmentUnavailableError(f"Python {version} is not installed")


def _pyenv(version: str) -> Iterator[str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(str(folder / "bin") for folder in root.glob(f"versions/{version}.*"))


def _call(*command: object, cwd: Path | None = None) -> None:
    # Whatever shows an environment other packages than its own stays out.
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run([str(part) for part in command], cwd=cwd, env=variables, check=True, timeout=INSTALLATION_SECONDS)


if __name__ == "__main__":
    for lock in sorted(LOCKS.glob("*.lock")):
        print(environment(lock.stem))  # noqa: T201  # a script
    for lock in sorted(NODE.glob("*/package-lock.json")):
        print(node_modules(lock.parent.name))  # noqa: T201  # as above
