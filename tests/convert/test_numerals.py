"""Numbers in options and metadata: plain ones, and nothing else that Python would take for one."""

from __future__ import annotations

import pytest

from sshconvert.errors import UsageError
from sshconvert.models.registry import load_model
from sshconvert.numerals import LARGEST_WHOLE, number, whole_number
from sshconvert.tasks.tolerances import parse_limits
from sshtool.cli.parsing import shape_of, shard_of

ODD = (
    "",
    " ",
    "-1",
    "+",
    "1_0",
    "\u0661",
    "\u00b2",
    "\uff11",
    "\u2460",
    "1 0",
    "nan",
    "inf",
    "0x1",
    "1\0",
    "9" * 5000,
)


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_plain_number_is_refused_wherever_a_number_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="it is no"):
        whole_number(text)
    for shape in (f"{text},3,64,64", f"1,3,64,{text}"):
        if shape.strip(","):
            with pytest.raises(UsageError, match="--input-shape"):
                shape_of(shape)
    for shard in (f"{text}/2", f"1/{text}"):
        with pytest.raises(UsageError, match="--shard"):
            shard_of(shard)
    if text != "-1":
        with pytest.raises(ValueError, match="it is no"):
            number(text)
    if text.split() == [text]:
        for limit in (text, f"{load_model('ssh-mxnet').output_names[0]}:{text}"):
            with pytest.raises(UsageError, match="--atol"):
                parse_limits("--atol", [limit], load_model("ssh-mxnet").output_names)


def test_plain_numbers_are_read() -> None:
    assert [whole_number(text) for text in ("0", "007", str(LARGEST_WHOLE))] == [0, 7, LARGEST_WHOLE]
    texts = ("0", "-1", "+1.5", ".5", "5.", "1e-5", "1E+3", str(0.1 + 0.2), "123.68")
    assert [number(text) for text in texts] == [0, -1, 1.5, 0.5, 5, 1e-5, 1000, 0.1 + 0.2, 123.68]
    assert shape_of(" [1, 3x64,96] ") == (1, 3, 64, 96)
    assert shape_of("") is None
    assert shard_of("2/4") == (2, 4)
    for text in ("0/4", "5/4", "1/2/3", "1"):
        with pytest.raises(UsageError, match="--shard"):
            shard_of(text)


@pytest.mark.parametrize("text", ["1e", "e5", ".", "1e400", "-1e400", "1,5", "1.5.5", "infinity", "1" * 400])
def test_what_is_nearly_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="it is no"):
        number(text)
