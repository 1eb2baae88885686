from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from command_line import sshtool
from project import ROOT

GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS: Final = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
CI: Final = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PINNED: Final = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in loaded(path)["jobs"].items() for step in job["steps"]]


def tool(name: str) -> str:
    found = Path(sys.executable).with_name(name)
    if not found.is_file():
        pytest.skip(f"{name} is not installed beside this Python, as the extra dev has it")
    return str(found)


def check_schema(schema: str, *paths: Path) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_workflows_follow_the_schema_of_github() -> None:
    check_schema("github-workflows", *WORKFLOWS)
    check_schema("dependabot", GITHUB / "dependabot.yml")


def test_a_workflow_that_does_not_follow_the_schema_is_noticed(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "runs-no:")
    (tmp_path / "odd.yml").write_text(text, encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        check_schema("github-workflows", tmp_path / "odd.yml")


def audit(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("zizmor"), "--offline", "--pedantic", "--no-progress", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    result = audit(*WORKFLOWS, GITHUB / "dependabot.yml")
    assert result.returncode == 0, result.stdout


def test_zizmor_would_notice_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    pinned = PINNED.search(text)
    assert pinned
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    path = tmp_path / ".github" / "workflows" / "ci.yml"
    path.write_text(text.replace(pinned[0], f"{pinned[0].partition('@')[0]}@main"), encoding="utf-8")
    assert audit(path).returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_more_permissions_than_its_jobs_name(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        writes = {kind for kind, access in job["permissions"].items() if access == "write"}
        assert writes == ({"contents", "id-token", "attestations"} if name == "publish" else set())
        assert job["timeout-minutes"]


def test_what_ci_runs_is_what_ci_run_runs() -> None:
    """Its commands are README's, which `.ci/run` takes from there, or stand in it."""
    commands = [(job, step["run"]) for job, step in steps(GITHUB / "workflows" / "ci.yml") if "run" in step]
    assert len(commands) == 9
    for job, command in commands:
        if job == "elsewhere":  # the programs of an environment lie in another folder on Windows
            assert command in [line.partition(" && ")[2].replace(".venv/bin/", "python -m ") for line in COMMANDS]
        else:
            assert command in COMMANDS or f"    {command}\n" in CI, command


def test_ci_tests_every_python_that_is_supported() -> None:
    matrix = loaded(GITHUB / "workflows" / "ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert matrix == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)


def test_the_release_installs_as_the_readme_says() -> None:
    install = next(
        step["run"] for _, step in steps(GITHUB / "workflows" / "release.yml") if step.get("name") == "Install"
    )
    assert COMMANDS[0].startswith(f"{install} && ")


def release_commands() -> list[str]:
    """What the release runs behind the installation, in order."""
    commands = [step["run"] for _, step in steps(GITHUB / "workflows" / "release.yml") if "run" in step]
    return commands[1:]


def test_nothing_of_a_release_is_put_into_a_command_by_the_workflow() -> None:
    """Values come by the environment, where a shell does not read them as code."""
    assert not any("${{" in command for command in release_commands())


def release(folder: Path, **environment: str) -> None:
    """Run the commands of the release in `folder`, as the runner would: each in a shell of its own."""
    program = folder / ".venv" / "bin" / "sshtool"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sshtool "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "artifacts").mkdir(exist_ok=True)
    given = {
        "PRECISIONS": "FP32",
        "INPUT_SHAPE": "1,3,64,64",
        "SSHTOOL_SOURCES": "",
        "DATASET": "",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    for command in release_commands():
        if command == release_commands()[2] and find_spec("mxnet") is None:
            continue  # `sshtool reference`: the release has MXNet, and the demo's answers ship with sshtool
        subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=folder,
            env=os.environ | given | environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )


def test_the_commands_of_a_release_make_one(tmp_path: Path) -> None:
    if find_spec("mxnet") is None:
        pytest.skip("MXNet is not installed: there are no answers at the small size that this test releases")
    sshtool("demo-dataset", "-o", tmp_path / "artifacts", "--images", "3", "--quiet")
    release(tmp_path, DATASET="artifacts/datasets/wider-demo")
    assert {path.name for path in (tmp_path / "assets").iterdir()} == {
        "SHA256SUMS",
        "ssh-mxnet-flat.zip",
        "verification.html",
    }
    assert "| " in (tmp_path / "summary.md").read_text(encoding="utf-8")
    card = (tmp_path / "artifacts" / "releases" / "ssh-mxnet-flat" / "README.md").read_text(encoding="utf-8")
    assert "| omz | 3 | mAP |" in card


@pytest.mark.long
def test_the_commands_of_a_release_make_a_whole_one(tmp_path: Path) -> None:
    release(tmp_path, PRECISIONS="FP16,FP32,INT8", INPUT_SHAPE="1,3,640,640")
    assert (tmp_path / "assets" / "ssh-mxnet-flat.zip").is_file()
    assert (tmp_path / "artifacts" / "releases" / "ssh-mxnet-flat" / "INT8" / "ssh-mxnet.onnx").is_file()


def test_the_guide_names_places_that_are_there() -> None:
    guide = (GITHUB / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:convert|tools|tests|\.github|\.ci)/[\w./-]*)`", guide)
    assert len(places) >= 8
    assert [place for place in places if not (ROOT / place).exists()] == []
    assert next(line for line in guide.splitlines() if line.startswith("python3 ")) in README.splitlines()
