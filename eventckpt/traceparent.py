"""W3C trace context as the text of one field: which span wrote an event. What is stored is hostile, and read
strictly."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["TraceParent", "trace_id_in"]

_FORM: Final = r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
"""Of the version that is written. Of a later one nobody knows yet what else it means."""


class TraceParent(NamedTuple):
    """A span, by the numbers that any program finds it by. Its `str` is the field's text."""

    trace_id: int
    """Of 128 bits, not 0."""
    span_id: int
    """Of 64 bits, not 0."""
    flags: int
    """Of 8 bits: the lowest says that the span was sampled."""

    @classmethod
    def parsed(cls, text: object) -> TraceParent | None:
        """What a text names; None where it is of another form, or names no span."""
        found = re.fullmatch(_FORM, text) if isinstance(text, str) else None
        if found is None:
            return None
        parent = cls(*(int(digits, 16) for digits in found.groups()))
        return parent if parent.trace_id and parent.span_id else None

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def trace_id_in(text: object) -> str | None:
    """The id of the trace that a text names, in 32 hexadecimal digits, as tracing systems search for it; None where it
    names none."""
    parent = TraceParent.parsed(text)
    return f"{parent.trace_id:032x}" if parent is not None else None
