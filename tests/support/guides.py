"""The guides of the repository: their code blocks, and the commands of `sshtool` in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from project import ROOT
from sshtool.cli.app import VERBS

README: Final = "README.md"
LIBRARY: Final = "convert/README.md"
TOOLS: Final = "tools/README.md"
TESTING: Final = "tests/README.md"
CONTRIBUTING: Final = ".github/CONTRIBUTING.md"
GUIDES: Final = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in (README, LIBRARY, TOOLS, TESTING, CONTRIBUTING)
}

# A block, or a heading outside of all blocks.
_PART: Final = re.compile(r"^#+ ([^\n]*)$|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(rf"(?:^|`)(sshtool (?:{'|'.join(VERBS)})(?= |`|$)[^`\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block. Its name is the guide, the anchor of its section, and from the second one on its number there."""

    name: str
    language: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        return commands(self.text)


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(text: str) -> list[list[str]]:
    """The words behind `sshtool` of every command that begins a line or stands between backticks."""
    parts = [part for line in _COMMAND.findall(text) for part in line.split(" && ")]
    return [shlex.split(part, comments=True)[1:] for part in parts]


def _blocks(guide: str) -> Iterator[Block]:
    section, number = "", 0
    for heading, language, text in _PART.findall(GUIDES[guide]):
        if heading:
            section, number = anchor(heading), 0
        else:
            number += 1
            yield Block(f"{guide}#{section}" + (f":{number}" if number > 1 else ""), language, text)


BLOCKS: Final = {block.name: block for guide in GUIDES for block in _blocks(guide)}

# The commands in the text that `tests/consumers/test_guides.py` runs, and the places of the names in them.
TEXT: Final[dict[str, dict[str, str]]] = {
    "info FILE": {"FILE": "artifacts/ssh-mxnet/FP32/ssh-mxnet.onnx"},
    "verify --reference FILE": {"FILE": "artifacts/ssh-mxnet/ssh-mxnet-reference.npz"},
    "detect photos/ --threshold 0.5 --save-images --json": {},
    "demo-dataset": {},
    "evaluate --dataset artifacts/datasets/wider-demo": {},
    "evaluate --dataset DIR": {"DIR": "artifacts/datasets/wider-demo"},
    "check PACKAGE": {"PACKAGE": "artifacts/releases/ssh-mxnet-flat"},
}
# Those that another test runs, or the reason that none does.
ELSEWHERE: Final = {
    "convert --postprocess --output-form model-api": "tests/consumers/test_guides.py",
    "package --sign KEY": "tests/consumers/test_guides.py",
    "predict photos/ --model M": "tests/consumers/test_guides.py",
    "info --model FILE.toml --checkpoint FOLDER": "tests/consumers/test_added_model.py",
    "run --model FILE.toml --checkpoint FOLDER": "tests/consumers/test_added_model.py",
    "detect clip.mp4": "tests/consumers/test_video.py",
    "detect camera:0": "needs a camera",
}
