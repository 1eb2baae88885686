from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

from hypothesis import example, given, strategies as st

from sshconvert.messages import name_text, path_of, printable, shown
from sshconvert.schema import one_line

# Of Unicode's categories: what controls, formats, separates lines, is half a character or nothing at all.
OBEYED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_no_character_that_a_terminal_obeys_stays_and_every_escape_is_another_one() -> None:
    codes = [*range(0x3200), *range(0xD800, 0x11000), *range(0xE0000, 0xE0200), sys.maxunicode]
    escaped = [printable(chr(code)) for code in codes]
    assert not OBEYED & {unicodedata.category(character) for character in "".join(escaped)}
    assert len(set(escaped)) == len(escaped)


def test_letters_marks_and_symbols_of_any_script_stay() -> None:
    for text in ("a b", "Käse", "e\u0301", "日本語", "नमस्ते", "\U0001f600", "\\", "C:\\x41"):
        assert printable(text) == text


def test_a_byte_of_a_file_name_is_told_from_the_character_of_that_number() -> None:
    assert printable(b"a\xff".decode(errors="surrogateescape")) == "a\\xff"
    assert printable("a\u009b") == "a\\u009b"
    assert printable("\x1b[2J\n\t\x7f\u202e\u2028\u200b") == "\\x1b[2J\\n\\t\\x7f\\u202e\\u2028\\u200b"


@given(st.text(st.characters(), max_size=300))
def test_what_is_printable_is_encoded_on_one_line_and_stays_as_it_is(text: str) -> None:
    for made in (printable(text), shown(text), shown([text]), one_line(text)):
        assert made.isprintable()
        assert len(f"{made}.".splitlines()) == 1
        made.encode()
        assert printable(made) == made


ODD_BYTES = st.lists(st.sampled_from([b"\\", b"x", b"5c", b"ff", b"\xff", b"\xed\xa0\x80", b"a", "ä".encode()])).map(
    b"".join
)


@given(ODD_BYTES | st.binary().filter(lambda name: b"\0" not in name))
@example(b"\\xff")
@example(b"\xff")
def test_every_name_is_text_by_which_it_is_found_again(name: bytes) -> None:
    text = name_text(os.fsdecode(name))
    text.encode()
    assert os.fsencode(path_of(text)) == os.fsencode(Path(os.fsdecode(name)))


def test_almost_every_name_is_its_own_text() -> None:
    for name in ("photos/ä b\n.png", "C:\\photos", "\\", "日本"):
        assert name_text(name) == name
