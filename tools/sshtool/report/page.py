"""Renders and writes self-contained pages from the package's templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sshconvert.files import check_replaceable, staged
from sshconvert.libraries import JINJA, Library, importing, require
from sshconvert.messages import printable
from sshtool.report.markup import Markdown, escape

if TYPE_CHECKING:
    from jinja2 import Template


def check_page(path: Path | None, *libraries: Library) -> None:
    """Raise RuntimeUnavailableError or OutputError, before minutes of work, if the page cannot be written."""
    if path:
        require(*libraries, JINJA)
        check_replaceable(path)


def write_page(path: Path | None, render: Callable[[], str]) -> tuple[Path, ...]:
    """Write the page to `path`, unless that is None, and return the written paths. Raises OutputError."""
    if path is None:
        return ()
    text = render()
    with staged(path) as part:
        part.write_text(text, encoding="utf-8")
    return (path,)


def template(name: str, filters: Mapping[str, Callable[..., Any]], *, markup: bool = True) -> Template:
    """A template of HTML if `markup`, otherwise of Markdown. It escapes all values, except Markup and `Markdown`.

    An undefined name is an error. Raises RuntimeUnavailableError without Jinja.
    """
    with importing(JINJA):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    templates = Environment(
        loader=PackageLoader("sshtool.report"),
        autoescape=markup,  # noqa: S701  # `_as_markdown` escapes too
        undefined=StrictUndefined,
        finalize=_as_text if markup else _as_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= filters
    return templates.get_template(name)


def _as_markdown(value: Any) -> Any:
    return escape(value) if isinstance(value, str) and not isinstance(value, Markdown) else value


def _as_text(value: Any) -> Any:
    """Make a value printable. Markup, a subclass of str, keeps its type and its line breaks."""
    if isinstance(value, PurePath) or type(value) is str:
        return printable(value)
    if isinstance(value, str) and not value.isprintable():
        return type(value)("\n".join(map(printable, value.split("\n"))))
    return value
