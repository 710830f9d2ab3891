"""Templates to HTML. Everything that a template shows is escaped twice over: what is not printable is spelled out, as
on a terminal, and what means something to a browser is escaped. There is no way around either in a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, quote_plus

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..rendering.times import ago, in_utc
from ..text import cell, safe

__all__ = ["address", "environment", "size_text"]

_AS_THEY_ARE: Final = (Markup, int, float)
_is_plain: Final = re.compile(r"[\w.~-]*", re.ASCII).fullmatch  # most ids are: an address for each row of a page
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
    filters: dict[str, Any] = {"cell": cell, "thousands": _thousands, "size": size_text, "typed": _typed}
    own: dict[str, Any] = {"address": address, "time": _time}
    filters_of_jinja = cast("dict[str, Any]", made.filters)  # pyright: ignore[reportUnknownMemberType] - untyped there
    for name in _AROUND:
        filters_of_jinja.pop(name, None)
    filters_of_jinja.update(filters)
    cast("dict[str, Any]", made.globals).update(own)  # pyright: ignore[reportUnknownMemberType] - untyped there
    return made


def address(path: str, /, **query: object) -> str:
    """A path of the viewer with a query, below where it is mounted; what is None is left out, of a list each stands."""
    parts = [f"{_quoted(name)}={_quoted(each)}" for name, value in query.items() for each in _each(value)]
    return f"{quote(path)}?{'&'.join(parts)}" if parts else quote(path)


def _each(value: object) -> Iterable[str]:
    if value is None:
        return ()
    return map(str, cast("list[object]", value)) if isinstance(value, list) else (str(value),)


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
    """A time as a person reads it, with the time itself beside it."""
    exact = in_utc(text)
    at, title, shown = map(escape, (exact.replace(" ", "T"), exact, ago(text, now)))
    # Each part is escaped; `Markup.format` would do the same in thrice the time.
    return Markup(f'<time datetime="{at}" title="{title}">{shown}</time>')  # noqa: S704
