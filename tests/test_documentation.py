"""The guides: their links lead somewhere, their commands are ones that the program takes, and README's run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from command_line import sshtool
from project import ROOT
from sshtool.cli.app import VERBS, app

GUIDES: Final = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "convert" / "README.md",
        ROOT / "tools" / "README.md",
        ROOT / "tests" / "README.md",
        ROOT / ".github" / "CONTRIBUTING.md",
    )
}
MOST_LINES: Final = 150
COMMAND: Final = re.compile(rf"(?:^|`)(sshtool (?:{'|'.join(VERBS)})(?= |`|$)[^`\n]*)", re.MULTILINE)
LINK: Final = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")


def commands(guide: str) -> list[list[str]]:
    """Every command of a verb that stands in the guide, in a code block or in its text."""
    return [shlex.split(line.partition(" && ")[0], comments=True)[1:] for line in COMMAND.findall(GUIDES[guide])]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(GUIDES["README.md"].splitlines()) <= MOST_LINES


@pytest.mark.independent
@pytest.mark.parametrize("guide", GUIDES)
def test_each_link_leads_to_a_file_and_its_heading(guide: str) -> None:
    folder = (ROOT / guide).parent
    for place, anchor in LINK.findall(GUIDES[guide]):
        target = (folder / place).resolve() if place else ROOT / guide
        assert target.exists(), place
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{place}#{anchor}"


@pytest.mark.independent
@pytest.mark.parametrize("guide", GUIDES)
def test_the_program_takes_each_command_of_the_guides(guide: str) -> None:
    import typer

    program = typer.main.get_command(app)
    for verb, *options in commands(guide):
        command = program.commands[verb]  # type: ignore[attr-defined]  # a group has them
        if options:  # the text also names the verb alone
            command.make_context(verb, options)  # raises where an option or a value is wrong


def test_the_readme_shows_each_verb() -> None:
    assert {words[0] for words in commands("README.md")} == set(VERBS)


@pytest.mark.long
def test_the_commands_of_the_readme_work_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands("README.md"):
        if "--params" in words or words[0] == "predict":
            continue  # a person's own files
        result = sshtool(*words)
        assert result.returncode == 0, f"{words}\n{result.stderr}"
