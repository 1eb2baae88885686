"""Escapes text for Markdown and HTML."""

from __future__ import annotations

import html
import re
from typing import Final
from urllib.parse import quote

from sshconvert.messages import printable

# Characters with a meaning anywhere in a line. Points and colons begin automatic links and emoji.
_SPECIAL: Final = re.compile(r"[\\`*_\[\]|~#$@]|\.(?=[^\W\d])|:(?=[\w/])")
# Characters with a meaning at the beginning of a line: lists, rules and headings.
_FIRST: Final = re.compile(r"^(\d*)([-+=.)])(?=[\s=-]|$)")
# Names that need no escape.
_PLAIN: Final = re.compile(r"[\w./-]+", re.ASCII)


class Markdown(str):
    """A text in Markdown, which needs no escape."""

    __slots__ = ()


def escape(text: object) -> Markdown:
    """One line of Markdown that renders as `text`, also at the beginning of a line and in a table."""
    escaped = _SPECIAL.sub(r"\\\g<0>", html.escape(printable(text).strip(), quote=False))
    return Markdown(_FIRST.sub(r"\1\\\2", escaped))


def code(text: object) -> Markdown:
    """A name as code, or as escaped text if it holds special characters."""
    name = str(text)
    return Markdown(f"`{name}`") if _PLAIN.fullmatch(name) else escape(name)


def url(text: object) -> Markdown:
    """An address as the target of a link, without characters that end the link."""
    return Markdown(quote(str(text), safe="/:?#=&%~+,;@!$-._", errors="replace"))
