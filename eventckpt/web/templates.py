"""Templates to HTML. Everything that a template shows is escaped twice over: what is not printable is spelled out, as
on a terminal, and what means something to a browser is escaped. There is no way around either in a template.
"""

from __future__ import annotations

import re
from datetime import datetime
from html import escape as escape_html
from pathlib import Path
from typing import Any, Final, LiteralString, NewType, cast
from urllib.parse import quote, quote_plus

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..rendering.times import ago, in_utc
from ..text import cell, count_text, safe
from .query import EXACT

__all__ = ["Cells", "Html", "address", "environment", "filled", "html_of", "query_html", "size_text", "time_html"]

_AS_THEY_ARE: Final = (Markup, int, float)
_is_plain: Final = re.compile(r"[\w.~-]*", re.ASCII).fullmatch  # most ids are: an address for each row of a page
_is_plain_path: Final = re.compile(r"[\w.~/-]*", re.ASCII).fullmatch
_FOLDER: Final = Path(__file__).parent / "templates"
_AROUND: Final = ("safe", "forceescape", "tojson", "xmlattr", "urlize")
"""Filters of Jinja that make markup: none of them is there."""


def environment() -> Environment:
    """The templates, each compiled once."""
    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "cell": cell,
        "count": count_text,
        "thousands": _thousands,
        "size": size_text,
        "typed": _typed,
        "quoted": _quoted,
    }
    own: dict[str, Any] = {"address": address, "time": _time, "exact": _exact}
    filters_of_jinja = cast("dict[str, Any]", made.filters)  # pyright: ignore[reportUnknownMemberType] - untyped there
    for name in _AROUND:
        filters_of_jinja.pop(name, None)
    filters_of_jinja.update(filters)
    cast("dict[str, Any]", made.globals).update(own)  # pyright: ignore[reportUnknownMemberType] - untyped there
    return made


def address(path: str, /, **query: object) -> str:
    """A path of the viewer with a query, below where it is mounted; what is None is left out, of a list each stands."""
    parts: list[str] = []
    for name, value in query.items():
        if isinstance(value, list):
            parts += [f"{_quoted(name)}={_quoted(str(each))}" for each in cast("list[object]", value)]
        elif value is not None:
            parts.append(f"{_quoted(name)}={_quoted(str(value))}")
    where = path if _is_plain_path(path) else quote(path)
    return f"{where}?{'&'.join(parts)}" if parts else where


def _quoted(text: str) -> str:
    return text if _is_plain(text) else quote_plus(text)


def _shown(value: object) -> object:
    """What a template shows of a value."""
    if value is None:
        return ""
    return value if isinstance(value, _AS_THEY_ARE) else safe(value)


def _typed(text: str) -> Markup:
    """What whoever looks has typed themselves, just now: it goes back into the field as it was, and into no other."""
    return escape(text)


def _exact(name: str, text: object) -> Markup:
    """Beside a field that shows a text as `safe` spells it, the text itself, where that is another: see `Query.of`."""
    if text is None or safe(text) == str(text):
        return Markup()
    field = filled('<input type="hidden" name="%s" value="%s">', html_of(f"{name}{EXACT}"), query_html(str(text)))
    return Markup(field)  # noqa: S704 - it is Html


def _thousands(number: int) -> str:
    return f"{number:,}"


def size_text(count: int) -> str:
    """Bytes, in the largest unit that they have one of."""
    size = float(count)
    for unit in ("bytes", "KB", "MB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1_000
    return f"{size:,.1f} GB"


def _time(text: str, now: datetime) -> Markup:
    return Markup(time_html(text, now))  # noqa: S704 - it is Html


# HTML of the rows of a long table: a template takes several times as long for each, and so does `Markup`.

Html = NewType("Html", str)
"""Text that is HTML already. Only what is below makes it: whatever else is to be shown has to be escaped first, as a
type checker tells."""


def html_of(text: str) -> Html:
    """A text, escaped as in a template."""
    return Html(escape_html(safe(text)))


def query_html(text: str) -> Html:
    """A text as the query of an address has it."""
    return Html(_quoted(text))  # which leaves nothing to be escaped


def filled(form: LiteralString, *parts: Html) -> Html:
    """A form of HTML with what stands at each `%s`."""
    return Html(form % parts)


def time_html(text: str, now: datetime) -> Html:
    """A time as a person reads it, with the time itself beside it."""
    exact = html_of(in_utc(text))
    at = Html(exact.replace(" ", "T"))
    return filled('<time datetime="%s" title="%s">%s</time>', at, exact, html_of(ago(text, now)))


class Cells(dict[str, Html]):
    """Texts as the cells of a table show them. Those of one column are often the same, so each is made once."""

    def __missing__(self, text: str) -> Html:
        shown = self[text] = html_of(cell(text))
        return shown
