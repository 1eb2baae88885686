"""What the workflows and the action for GitHub say, and a runner of their commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from project import ROOT

GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
ACTION: Final = GITHUB / "actions" / "convert" / "action.yml"
SCRIPT: Final = ACTION.with_name("convert.sh")
INPUT: Final = re.compile(r"\$\{\{ inputs\.([\w-]+) \}\}")


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in loaded(path)["jobs"].items() for step in job.get("steps", [])]


def action_step(name: str) -> dict[str, Any]:
    """The step of the action with that name."""
    return next(step for step in loaded(ACTION)["runs"]["steps"] if step.get("name") == name)


def handed_on(values: dict[str, str]) -> list[str]:
    """The inputs that `values` consist of: each of them is one input and nothing else."""
    matches = [INPUT.fullmatch(value) for value in values.values()]
    assert all(matches), values
    return [match[1] for match in matches if match]


def shell(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a command of a workflow in `folder` as the runner does."""
    subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def release(folder: Path, **inputs: str) -> None:
    """Run the commands of the release in `folder`, as the runner does: the action's, then those of its workflow."""
    program = folder / ".venv" / "bin" / "sshtool"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sshtool "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    action = folder / ".github" / "actions" / "convert"
    shutil.copytree(ACTION.parent, action)
    given = {name: value["default"] for name, value in loaded(ACTION)["inputs"].items()} | inputs
    step = action_step("Convert, verify, package and check")
    environment = {name: given[handed_on({name: value})[0]] for name, value in step["env"].items()}
    output = folder / "output"
    paths = {"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": folder / "summary.md", "GITHUB_ACTION_PATH": action}
    shell(step["run"], folder, environment | {name: str(path) for name, path in paths.items()})
    outputs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    assert set(outputs) == set(loaded(ACTION)["outputs"])
    gather = next(step for _, step in steps(GITHUB / "workflows" / "convert.yml") if "run" in step)
    shell(gather["run"], folder, {name.upper(): value for name, value in outputs.items()})
