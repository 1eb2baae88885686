"""The guides: links and names lead somewhere, figures agree, and a test runs each block of code."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any, Final

import pytest
from typer.main import get_command

from guides import BLOCKS, CONTRIBUTING, ELSEWHERE, GUIDES, LIBRARY, README, TESTING, TEXT, TOOLS, anchor, commands
from project import ROOT
from sshconvert.errors import ModelError
from sshconvert.models.registry import model_names, parse_model
from sshconvert.registry import EXTENSIONS
from sshtool.cli.app import VERBS, app
from workflows import ACTION, GITHUB, SCRIPT, loaded

MOST_LINES: Final = 150
LINK: Final = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")
DESCRIPTION: Final = "test_a_description_is_one_that_a_model_takes"

# Each block of code, and the test that runs it or compares what it shows.
RUN_BY: Final = {
    f"{README}#two-commands": ".ci/run",
    f"{README}#two-commands:2": ".ci/run",
    f"{README}#two-commands:3": "tests/test_documentation.py::test_the_first_command_prints_what_the_readme_shows",
    f"{README}#your-own-old-checkpoint": "tests/consumers/test_guides.py::test_two_files_are_converted_and_verified",
    **{
        f"{LIBRARY}#examples{number}": f"tests/convert/test_public_names.py::test_an_example_{verb}"
        for number, verb in (
            ("", "converts"),
            (":2", "converts_a_network_without_a_description"),
            (":3", "detects"),
            (":4", "verifies"),
        )
    },
    f"{LIBRARY}#your-own-model": "tests/consumers/test_added_model.py::test_a_model_is_a_file",
    f"{LIBRARY}#embeddings-and-classes": f"tests/test_documentation.py::{DESCRIPTION}",
    f"{LIBRARY}#embeddings-and-classes:2": f"tests/test_documentation.py::{DESCRIPTION}",
    f"{LIBRARY}#landmarks-and-attributes": f"tests/test_documentation.py::{DESCRIPTION}",
    f"{LIBRARY}#yolov3": f"tests/test_documentation.py::{DESCRIPTION}",
    f"{TOOLS}#installation": "tests/consumers/test_installation.py::test_uvx_and_pipx_run_everything",
    f"{TOOLS}#networks-without-a-description": "tests/consumers/test_guides.py::"
    "test_two_files_are_converted_and_verified",
    f"{TOOLS}#model-api-and-dl-streamer": "tests/consumers/test_guides.py::test_model_api_opens_the_file_of_the_guide",
    f"{TOOLS}#many-images": "tests/consumers/test_cluster.py::test_the_commands_of_the_guide_use_a_cluster",
    f"{TOOLS}#a-page-for-browsers": "tests/consumers/test_guides.py::test_the_commands_of_the_page_make_and_serve_it",
    f"{CONTRIBUTING}#contributing": "tests/test_workflows.py::test_the_guide_names_places_that_are_there",
}
# Those that cannot run in a test, and the reason; other tests read them.
NOT_RUN: Final = {
    f"{TESTING}#development": "the answer of the package index changes; uv reads the options in tests/consumers",
    f"{TOOLS}#converting-in-ci": "needs GitHub; tests/test_workflows.py and tests/consumers run the action's commands",
    f"{TOOLS}#converting-in-ci:2": "needs a Docker daemon and a registry; the container's parts run in other tests",
}
# Programs whose commands stand in the text. What `python` and `pytest` run exists; the others run as stated here.
PROGRAMS: Final = {
    "python": "",
    "pytest": "",
    ".ci/run": "",
    "openssl": "tests/consumers/test_guides.py",
    "ssh-keygen": "tests/consumers/test_guides.py",
    "sha256sum": "tests/consumers/test_guides.py",
    "model_signing": "tests/consumers/test_guides.py",
    "pip": "tests/consumers/locks/ncnn.overrides",  # the lock of ncnn leaves PyTorch out in the same way
    "pre-commit": ".pre-commit-config.yaml",
}


def anchors(text: str) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_the_readme_is_short() -> None:
    assert len(GUIDES[README].splitlines()) <= MOST_LINES


@pytest.mark.independent
@pytest.mark.parametrize("guide", GUIDES)
def test_each_link_leads_to_a_file_and_its_heading(guide: str) -> None:
    folder = (ROOT / guide).parent
    for place, heading in LINK.findall(GUIDES[guide]):
        target = (folder / place).resolve() if place else ROOT / guide
        assert target.exists(), place
        if heading:
            assert heading in anchors(target.read_text(encoding="utf-8")), f"{place}#{heading}"


@pytest.mark.independent
@pytest.mark.parametrize("guide", GUIDES)
def test_the_program_takes_each_command_of_the_guides(guide: str) -> None:
    program = get_command(app)
    for verb, *options in commands(GUIDES[guide]):
        command = program.commands[verb]  # type: ignore[attr-defined]  # a group has them
        if options:  # the text also names the verb alone
            command.make_context(verb, options)  # raises where an option or a value is wrong


def test_the_readme_shows_each_verb() -> None:
    assert {words[0] for words in commands(GUIDES[README])} == set(VERBS)


def test_each_block_of_code_is_run_or_stands_in_the_list_of_those_that_cannot_be() -> None:
    assert set(BLOCKS) == {*RUN_BY, *NOT_RUN}
    assert not set(RUN_BY) & set(NOT_RUN)


def test_each_command_of_the_text_is_run_or_has_a_reason() -> None:
    """A verb alone, such as `sshtool info`, is a name in the text."""
    blocks = [words for block in BLOCKS.values() for words in block.commands]
    text = [words for name in GUIDES if name != README for words in commands(GUIDES[name])]
    with_options = {" ".join(words) for words in text if len(words) > 1 and words not in blocks}
    assert with_options - {*TEXT, *ELSEWHERE} == set()
    assert {*TEXT, *ELSEWHERE} - with_options == {"demo-dataset"}
    assert [path for path in ELSEWHERE.values() if path.startswith("tests/") and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", RUN_BY)
def test_the_test_of_a_block_is_there_and_reads_the_block(name: str) -> None:
    path, _, function = RUN_BY[name].partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    if not function:
        assert "grep '^python3 -m venv ' README.md" in text  # `.ci/run` takes the two commands from there
        return
    (found,) = (
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == function
    )
    assert found.name.startswith("test_")
    assert "BLOCKS[" in text or "GUIDE" in text.upper()


def without_figures(text: str) -> list[str]:
    return [re.sub(r"\d+(\.\d+)*", "N", " ".join(line.split())) for line in text.splitlines()]


def test_the_first_command_prints_what_the_readme_shows() -> None:
    """`.ci/run` keeps the output; the figures depend on the processor."""
    path = os.environ.get("SSHTOOL_FIRST_COMMAND", "")
    if not path:
        pytest.skip("only `.ci/run` has run the first command before")
    printed = without_figures(Path(path).read_text(encoding="utf-8"))
    assert [line for line in without_figures(BLOCKS[f"{README}#two-commands:3"].text) if line not in printed] == []


HEADER: Final = 'name = "mine"\ninputs = [{ name = "data", shape = [1, 3, 64, 64], image = {} }]\n'
FACES: Final = (
    '[task]\nkind = "anchor_detection"\nscore_threshold = 0.5\niou_threshold = 0.4\ncandidates_per_stride = 9\n'
)


@pytest.mark.parametrize("name", [name for name, block in BLOCKS.items() if block.language == "toml"])
def test_a_description_is_one_that_a_model_takes(name: str) -> None:
    text = BLOCKS[name].text
    if "[task]" not in text:
        text = FACES + text
    if "name = " not in text.splitlines()[0]:
        text = HEADER + text
    assert parse_model(text.encode(), source=name).task
    wrong = text.replace("stride", "strife").replace("output =", "outfit =")
    with pytest.raises(ModelError, match="correct it"):
        parse_model(wrong.encode(), source=name)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_script_or_test_of_the_text_is_there(guide: str) -> None:
    inline = [
        text.split() for text in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", GUIDES[guide], flags=re.DOTALL))
    ]
    for first, *words in (words for words in inline if words[0] in PROGRAMS):
        assert (ROOT / (PROGRAMS[first] or ".")).exists()
        if first in ("python", "pytest") and words:
            place = words[1].replace(".", "/") if words[0] == "-m" else words[0]
            places = [ROOT / place, ROOT / "tools" / place, ROOT / "tools" / f"{place}.py"]
            assert words[0] == "--long" or any(path.exists() for path in places), place


def test_the_step_of_a_job_gives_the_action_inputs_that_it_has() -> None:
    from ruamel.yaml import YAML

    (step,) = YAML(typ="safe").load(BLOCKS[f"{TOOLS}#converting-in-ci"].text)
    assert ROOT / str(step["uses"]).split("sshtool/")[1].split("@")[0] == ACTION.parent
    assert set(step["with"]) <= set(loaded(ACTION)["inputs"])
    assert "steps.convert.outputs.archive" in GUIDES[TOOLS]
    assert "archive" in loaded(ACTION)["outputs"]
    assert step["id"] == "convert"


def test_the_commands_of_the_container_are_those_of_its_file() -> None:
    file = (GITHUB / "Dockerfile").read_text(encoding="utf-8")
    for line in BLOCKS[f"{TOOLS}#converting-in-ci:2"].text.splitlines():
        assert f"#   {line}\n" in file
        for variable in re.findall(r"--env (\w+)=", line):
            assert variable in SCRIPT.read_text(encoding="utf-8")


def cells(guide: str, row: str) -> list[str]:
    """The cells of the only row of a table that begins so."""
    (line,) = (line for line in GUIDES[guide].splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def figures(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.?\d*", text)]


def test_the_figures_of_the_readme_are_those_of_their_sources() -> None:
    readme = GUIDES[README]
    assert f"knows {len(model_names())} models by name" in readme
    proof = cells(README, "CPU time of one image")
    assert figures(proof[0]) == figures(cells(TESTING, "one image in ONNX Runtime")[0])
    assert figures(proof[1]) == figures(cells(TESTING, "one image in OpenVINO")[0])
    making = cells(TESTING, "`convert` to ONNX and IR, FP32 and FP16")
    assert figures(cells(README, "converting to all four")[0]) == [figures(making[0])[0], figures(making[2])[0]]
    accuracy = cells(TOOLS, "AP@0.5 on 50 unseen scenes")
    assert figures(accuracy[0])[0] == 97.90
    assert f"{figures(accuracy[1])[0]:.1f} % against {figures(accuracy[0])[0]:.1f} %" in readme
    sizes = cells(TOOLS, "size: ONNX, IR")
    ratio = figures(cells(TESTING, "file sizes")[2])
    whole = figures(sizes[0])[0]
    expected = [round(whole), round(whole * ratio[1]), round(figures(sizes[1])[0])]
    assert [figures(cell) for cell in cells(README, "size of the file, MB")] == [expected, expected]
    exporters = {name: cells(LIBRARY, f"{name} |")[1] for name in ("sshtool-onnx", "sshtool-openvino", "mo", "mx2onnx")}
    total = re.search(r"MXNet 1.9.1 runs \d+ of (\d+)", GUIDES[LIBRARY])
    assert total
    assert exporters["sshtool-onnx"] == exporters["sshtool-openvino"]
    assert (
        f"Of {total[1]} real networks, sshtool converts {exporters['sshtool-onnx']} to\nwithin 1e-5 of MXNet, `mo` "
        f"{exporters['mo']} and MXNet's own exporter {exporters['mx2onnx']}"
    ) in readme
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert f"Python {versions[0]} to {versions[-1]}" in readme


# What the names of a section of CONTRIBUTING are members of.
MEMBERS: Final = {
    "Adding an operator": "sshconvert.operators.base sshconvert.operators.base.Operator sshconvert.operators.registry "
    "sshconvert.mxnet.attributes.Attributes sshconvert.onnx.builder",
    "Adding a format": "sshconvert.formats.base sshconvert.formats.base.Format sshconvert.formats.registry",
    "Adding a runtime": "sshtool.runtimes.base sshtool.runtimes.base.Runtime sshtool.runtimes.registry",
    "Adding a task": "sshconvert.tasks.base sshconvert.tasks.base.Task sshconvert.tasks.registry "
    "sshconvert.tasks.detection sshconvert.tasks.detection.DetectionTask",
    "Adding a verb": "sshtool.cli.app sshtool.cli.verbs sshtool.cli.verbs.Verb sshtool.cli.demo_dataset",
    "Adding a model": "sshconvert.models.spec.ModelSpec",
}
# What is no name of the code: programs, and what stands for something else.
OTHER: Final = {
    "sshconvert", "sshtool", EXTENSIONS, "[task]", ".toml", "vX.Y.Z", 'name: Annotated[type, Option("help")]', "--name",
    "--help", "pre-commit install", "ruff format --check .", "ruff check .", "mypy", ".ci/run",
}  # fmt: skip
PLACES: Final = ("", "convert", "convert/sshconvert/models", "tools/sshtool", "tools/sshtool/cli")


def members_of(section: str) -> list[Any]:
    return [locate(name) for name in MEMBERS.get(section, "").split()]


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def sections() -> dict[str, str]:
    heading, *parts = re.split(r"^## (.*)$", GUIDES[CONTRIBUTING], flags=re.MULTILINE)
    return {"": heading, **dict(zip(parts[::2], parts[1::2], strict=True))}


def is_name(name: str, members: Sequence[Any]) -> bool:
    """Whether a path, command, option, verb or member of the code has this name."""
    if any((ROOT / place / name).exists() for place in PLACES):
        return True
    words = name.split()
    if words[0] in ("python", "pytest", "sshtool"):
        return True  # other tests run these, or look for them
    if words[0] in VERBS:
        return all(is_name(word, ()) for word in words[1:])
    if name.startswith("--"):
        return any(
            words[0] in option.opts
            for verb in VERBS
            for option in get_command(app).commands[verb].params  # type: ignore[attr-defined]  # a group has them
        )
    for member in members:
        known = {*dir(member), *getattr(member, "model_fields", ())}
        known |= {field for kind in getattr(member, "__mro__", ()) for field in vars(kind).get("__annotations__", ())}
        if re.sub(r"^@?(\w+)(\.register\(.*\))?$", r"\1", name) in known:
            return True
    return importable(name)


def importable(name: str) -> bool:
    return re.fullmatch(r"\w+(\.\w+)+", name) is not None and find_spec(name) is not None


@pytest.mark.parametrize("section", sections())
def test_contributing_names_what_is_there(section: str) -> None:
    members = members_of(section)
    mentioned = set(names(sections()[section])) - OTHER
    assert [name for name in sorted(mentioned) if not is_name(name, members)] == []
    assert not is_name("no_such_name", members)
    assert not is_name("--no-such-option", members)


@pytest.mark.parametrize("section", ["Adding an operator", "Adding a format", "Adding a runtime", "Adding a task"])
def test_contributing_names_every_method_that_has_to_be_written(section: str) -> None:
    abstract = {
        name for member in members_of(section) for name in getattr(member, "__abstractmethods__", ()) if name[0] != "_"
    }
    assert len(abstract) >= 2
    assert abstract - set(names(sections()[section])) == set()
