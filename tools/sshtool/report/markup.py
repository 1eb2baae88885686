"""Text that means nothing in Markdown or HTML, whatever it is."""

from __future__ import annotations

import html
import re
from typing import Final
from urllib.parse import quote

from sshconvert.messages import printable

# What begins something wherever it stands; with points and colons, links that need no brackets, and emoji.
_SPECIAL: Final = re.compile(r"[\\`*_\[\]|~#$@]|\.(?=[^\W\d])|:(?=[\w/])")
# What begins a list, a line or a heading where a line begins.
_FIRST: Final = re.compile(r"^(\d*)([-+=.)])(?=[\s=-]|$)")
# Names that are shown as they are written.
_PLAIN: Final = re.compile(r"[\w./-]+", re.ASCII)


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def escape(text: object) -> Markdown:
    """The text in one line of Markdown, where it shows as it is, also at the beginning of a line and in a table."""
    escaped = _SPECIAL.sub(r"\\\g<0>", html.escape(printable(text).strip(), quote=False))
    return Markdown(_FIRST.sub(r"\1\\\2", escaped))


def code(text: object) -> Markdown:
    """A name as code; one with odd characters as plain text."""
    name = str(text)
    return Markdown(f"`{name}`") if _PLAIN.fullmatch(name) else escape(name)


def url(text: object) -> Markdown:
    """An address as the target of a link, which nothing in it ends."""
    return Markdown(quote(str(text), safe="/:?#=&%~+,;@!$-._", errors="replace"))
