"""Where each part of a timeline is drawn, and what stands beside it as text: numbers and texts for a template."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import Final, NamedTuple

from ..rendering.times import in_utc
from ..text import cell
from .templates import size_text
from .timeline import MARKS, Column, Timeline

__all__ = ["Bar", "Picture", "picture_of"]

_LEFT: Final = 150  # of the names of the lanes
_WIDEST: Final = 26  # of a column
_WHOLE: Final = 900  # of all of them
_SIGN: Final = 14  # height of a mark
_SIGNS: Final = 3  # of a column are drawn
_LANE: Final = 18
_COST: Final = 90  # height of the largest bar
_TICKS: Final = 8


class Bar(NamedTuple):
    """A column, as it is drawn."""

    x: float
    column: Column
    text: str
    """What it stands for: its text alternative."""
    link: tuple[str, dict[str, object]] | None
    """Path and query of where it leads; None: an address of this run has no room here."""
    signs: list[tuple[int, str, str]]
    """The height of each mark, what it is called, and its sign."""
    stored: float
    """Height of the bar of what is stored, and of the outline of what that is unpacked."""
    raw: float
    tick: str
    """The seq, where the axis says it."""


class Picture(NamedTuple):
    """A timeline, as it is drawn."""

    width: float
    height: int
    column: float
    """Width of a column."""
    lanes: list[tuple[int, str]]
    """The height of each lane, and whose it is."""
    bars: list[Bar]
    base: int
    """The height of the axis."""
    most: int
    """Bytes of the highest bar."""
    each: int
    """Events that a column stands for."""
    legend: list[tuple[str, str, str, int]]
    """Of each mark in it what it is called, its sign, what that means, and how many there are."""


def picture_of(timeline: Timeline, link: Callable[[Column], tuple[str, dict[str, object]] | None]) -> Picture:
    """Draw a timeline that is complete.

    Args:
        timeline: what happened.
        link: where a column leads.
    """
    columns = timeline.columns
    width = min(_WIDEST, _WHOLE / max(1, len(columns)))
    top = _SIGNS * _SIGN + 6
    lanes = [(top + _LANE * at + _LANE // 2, name) for at, name in enumerate(timeline.lanes)]
    base = top + _LANE * len(lanes) + _COST + 8
    most = max((max(column.stored, column.raw) for column in columns), default=0)
    step = -(-len(columns) // _TICKS)
    bars = [
        Bar(
            x=round(_LEFT + at * width, 1),
            column=column,
            text=text_of(column),
            link=link(column),
            signs=_signs(column),
            stored=_height(column.stored, most),
            raw=_height(column.raw, most),
            tick=f"{column.first:,}" if at % step == 0 else "",
        )
        for at, column in enumerate(columns)
    ]
    met = {name: sum(column.marks[name] for column in columns) for name in MARKS}
    legend = [(name, mark.sign, mark.one, met[name]) for name, mark in MARKS.items() if met[name]]
    return Picture(
        width=round(_LEFT + width * len(columns) + 60, 1),
        height=base + 20,
        column=round(width, 1),
        lanes=lanes,
        bars=bars,
        base=base,
        most=most,
        each=timeline.each,
        legend=legend,
    )


def text_of(column: Column) -> str:
    """What a column stands for, in words."""
    one = column.events == 1
    said = [f"seq {column.first:,}" if one else f"{column.events:,} events, seq {column.first:,} to {column.last:,}"]
    if column.steps is not None:
        low, high = column.steps
        said.append(f"superstep {low:,}" if low == high else f"supersteps {low:,} to {high:,}")
    if column.recorded_at:
        said.append(cell(in_utc(column.recorded_at)))
    for name, mark in MARKS.items():
        if count := column.marks[name]:
            said.append(f"{count:,} {mark.one if count == 1 else mark.many}")
    if column.raw:
        said.append(f"{size_text(column.stored)} stored of {size_text(column.raw)}")
    return ", ".join(said)


def _signs(column: Column) -> list[tuple[int, str, str]]:
    names = [name for name in MARKS if column.marks[name]]
    return [(_SIGN * (at + 1), name, MARKS[name].sign) for at, name in enumerate(names[:_SIGNS])]


def _height(size: int, most: int) -> float:
    """By the logarithm: a snapshot is a thousand deltas, and both are to be seen."""
    return round(_COST * log2(1 + size / 16) / log2(1 + most / 16), 1) if size > 0 else 0
