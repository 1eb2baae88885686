"""The table of operators in `convert/README.md`, made from the classes: `python tests/support/operator_table.py`."""

from __future__ import annotations

import re
from typing import Any, Final

from project import ROOT
from sshconvert.mxnet.attributes import Attributes
from sshconvert.operators.base import Operator
from sshconvert.operators.registry import OPERATORS

README: Final = ROOT / "convert" / "README.md"
HEAD: Final = (
    "| operator | aliases | attributes | without effect | refused | restrictions |",
    "|---|---|---|---|---|---|",
)
# The table is the text between these lines of the README.
PLACE: Final = re.compile(r"(?<=<!-- operators -->\n).*?(?=<!-- end -->)", re.DOTALL)


class _Recorder(Attributes):
    """Attributes of a node without any, which record what an operator asks for."""

    def __init__(self) -> None:
        super().__init__({})
        self.honoured: list[str] = []
        self.fixed: list[str] = []
        self.ignored: list[str] = []

    def integer(self, name: str, default: int | None = None, **limits: int) -> int:
        least, most = limits.get("least"), limits.get("most")
        if least == most and least is not None:
            self.fixed.append(f"`{name}` other than {least}")
        else:
            self.honoured.append(f"`{name}`" if most is None else f"`{name}` ({least} to {most})")
        return super().integer(name, default, **limits)

    def integers(self, name: str, default: tuple[int, ...] | None = None, **limits: Any) -> tuple[int, ...]:
        self.honoured.append(f"`{name}`")
        return super().integers(name, default, **limits)

    def optional_integer(self, name: str, **limits: Any) -> int | None:
        self.honoured.append(f"`{name}`")
        return super().optional_integer(name, **limits)

    def optional_integers(self, name: str, **limits: int) -> tuple[int | None, ...]:
        self.honoured.append(f"`{name}`")
        return super().optional_integers(name, **limits)

    def numbers(self, name: str, default: tuple[float, ...] | None = None, **limits: Any) -> tuple[float, ...]:
        self.honoured.append(f"`{name}`")
        return super().numbers(name, default, **limits)

    def boolean(self, name: str, default: bool) -> bool:
        self.honoured.append(f"`{name}`")
        return super().boolean(name, default)

    def number(self, name: str, default: float | None, **limits: float) -> float:
        self.honoured.append(f"`{name}`")
        return super().number(name, default, **limits)

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        if len({re.sub(r"\W", "", text).strip("0") for text in choices}) == 1:  # spellings of one value
            self.fixed.append(f"`{name}` other than {choices[0]}")
        else:
            self.honoured.append(f"`{name}` ({', '.join(choices)})")
        return super().choice(name, choices, default)

    def never(self, name: str) -> None:
        self.fixed.append(f"`{name}` other than False")

    def without_effect(self, *names: str) -> None:
        self.ignored += (f"`{name}`" for name in names)


def supported() -> list[type[Operator]]:
    """Return the class of each operator once, in the order of names."""
    return sorted(set(OPERATORS.values()), key=lambda operator: operator.name.lower())


def table() -> str:
    """Return the table, a line for each operator."""
    return "\n".join([*HEAD, *map(_row, supported())]) + "\n"


def _row(kind: type[Operator]) -> str:
    attributes = _Recorder()
    kind.read(attributes)
    names = ", ".join(f"`{alias}`" for alias in kind.aliases)
    lists = (", ".join(part) for part in (attributes.honoured, attributes.ignored, attributes.fixed))
    return f"| {' | '.join([f'`{kind.name}`', names, *lists, kind.restrictions])} |"


if __name__ == "__main__":
    README.write_text(PLACE.sub(lambda _: table(), README.read_text("utf-8")), encoding="utf-8")
