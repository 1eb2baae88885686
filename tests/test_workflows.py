from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from project import ROOT
from workflows import ACTION, GITHUB, SCRIPT, WORKFLOWS, action_step, handed_on, loaded, steps

README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS: Final = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
CI: Final = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PINNED: Final = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def tool(name: str) -> str:
    found = Path(sys.executable).with_name(name)
    if not found.is_file():
        pytest.skip(f"{name} is not installed beside this Python, as the extra dev has it")
    return str(found)


def check_schema(schema: str, *paths: Path) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_workflows_and_the_action_follow_the_schemas_of_github() -> None:
    check_schema("github-workflows", *WORKFLOWS)
    check_schema("dependabot", GITHUB / "dependabot.yml")
    check_schema("github-actions", ACTION)


def test_a_workflow_that_does_not_follow_the_schema_is_noticed(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "runs-no:")
    (tmp_path / "odd.yml").write_text(text, encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        check_schema("github-workflows", tmp_path / "odd.yml")


def audit(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("zizmor"), "--offline", "--pedantic", "--no-progress", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_zizmor_finds_nothing_in_the_workflows_and_the_action() -> None:
    result = audit(*WORKFLOWS, GITHUB / "dependabot.yml", ACTION)
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
        assert "uses" in job or job["timeout-minutes"]


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


def test_the_action_installs_as_the_readme_says() -> None:
    _, found, install = action_step("Install")["run"].partition('cd "$GITHUB_ACTION_PATH/../../.." && ')
    assert found
    assert COMMANDS[0].startswith(f"{install} && ")
    assert ACTION.parents[3] == ROOT


def test_every_input_of_the_workflow_reaches_the_action_and_every_input_of_the_action_the_commands() -> None:
    action = loaded(ACTION)["inputs"]
    workflow = loaded(GITHUB / "workflows" / "convert.yml")
    inputs = workflow["on"]["workflow_call"]["inputs"]
    call = next(step for step in workflow["jobs"]["convert"]["steps"] if step.get("name") == "Convert")
    assert handed_on(call["with"]) == list(call["with"]) == [name for name in inputs if name != "artifact"]
    assert {name: inputs[name]["default"] for name in call["with"]} == {
        name: value["default"] for name, value in action.items() if name != "output-dir"
    }
    variables = action_step("Convert, verify, package and check")["env"]
    assert handed_on(variables) == list(action)
    assert [name.lower().replace("_", "-") for name in variables] == list(action)
    script = SCRIPT.read_text(encoding="utf-8")
    assert [name for name in variables if not re.search(rf"\$\{{?{name}\b", script)] == []
    release = loaded(GITHUB / "workflows" / "release.yml")["jobs"]["package"]
    assert release["uses"] == "$/.github/workflows/convert.yml"
    assert set(release["with"]) <= set(inputs)


def test_nothing_is_put_into_a_command_by_a_workflow_or_the_action() -> None:
    """Values come by the environment, where a shell does not read them as code."""
    commands = [step["run"] for path in WORKFLOWS for _, step in steps(path) if "run" in step]
    commands += [step["run"] for step in loaded(ACTION)["runs"]["steps"] if "run" in step]
    assert len(commands) > 10
    assert not any("${{" in command for command in commands)


@pytest.mark.parametrize("given", [{}, {"SOURCE": "demo", "CHECKPOINT": "model.params"}], ids=["neither", "both"])
def test_the_action_takes_a_source_or_a_checkpoint(given: dict[str, str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], **given}
    result = subprocess.run([SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "Set either SOURCE or CHECKPOINT; SOURCE=demo makes the demo\n"
    assert list(tmp_path.iterdir()) == []


def test_the_container_has_a_pinned_base_no_root_and_the_commands_of_the_action() -> None:
    """Without a daemon nothing is built here: the parts of which the file consists are run by other tests."""
    text = (GITHUB / "Dockerfile").read_text(encoding="utf-8")
    lines = [line.split(" ", 1) for line in text.splitlines() if line and line[0] not in "# "]
    of = {
        kind: [rest for name, rest in lines if name == kind] for kind in ("FROM", "COPY", "RUN", "USER", "ENTRYPOINT")
    }
    assert [
        re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base) is not None for base in of["FROM"]
    ] == [True]
    sources = [source for copy in of["COPY"] for source in copy.split()[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert of["ENTRYPOINT"] == [f'["{SCRIPT.name}"]']
    assert str(SCRIPT.relative_to(ROOT)) in sources
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of["USER"][-1])
    install = " && ".join(of["RUN"]).replace("/opt/venv", ".venv")
    options = re.compile(r" --no-(?:compile|cache-dir)| -e")
    assert options.sub("", COMMANDS[0]).startswith(options.sub("", install) + " && ")


def test_the_guide_names_places_that_are_there() -> None:
    guide = (GITHUB / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:convert|tools|tests|\.github|\.ci)/[\w./-]*)`", guide)
    assert len(places) >= 8
    assert [place for place in places if not (ROOT / place).exists()] == []
    assert next(line for line in guide.splitlines() if line.startswith("python3 ")) in README.splitlines()
