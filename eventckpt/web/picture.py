"""Where each part of a timeline is drawn, and what stands beside it as text: numbers and texts for a template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import log2
from typing import Final, NamedTuple

from ..rendering.times import in_utc, took
from ..text import cell
from .templates import size_text
from .timeline import MARKS, Column, Timeline

__all__ = ["Bar", "Picture", "picture_of"]

_LETTER: Final = 7  # of the name of a lane
_RIGHT: Final = 24  # of the last tick
_WIDEST: Final = 36  # of a column
_WHOLE: Final = 900  # of all of them
_SIGN: Final = 14  # height of a mark
_SIGNS: Final = 3  # of a column are drawn
_LANE: Final = 18
_COST: Final = 90  # height of the largest bar
_TICKS: Final = 8
_NAMED: Final = 3  # executors of a column in its text


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
    left: int
    """Where the columns begin, to the right of the names of the lanes, and where they end."""
    right: float
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
    columns, names = timeline.columns, timeline.lanes
    width = min(_WIDEST, _WHOLE / max(1, len(columns)))
    top = _SIGNS * _SIGN + 6
    lanes = [(top + _LANE * at + _LANE // 2, name) for at, name in enumerate(names)]
    base = top + _LANE * len(lanes) + _COST + 8
    left = _LETTER * (2 + max(map(len, (*names, "bytes"))))
    right = round(left + width * len(columns), 1)
    most = max((max(column.stored, column.raw) for column in columns), default=0)
    step = -(-len(columns) // _TICKS)
    bars = [
        Bar(
            x=round(left + at * width, 1),
            column=column,
            text=text_of(column, names, columns[0].recorded_at, columns[at - 1].ended_at if at else None),
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
        width=right + _RIGHT,
        height=base + 20,
        left=left,
        right=right,
        column=round(width, 1),
        lanes=lanes,
        bars=bars,
        base=base,
        most=most,
        each=timeline.each,
        legend=legend,
    )


def text_of(column: Column, lanes: Sequence[str], first: str, before: str | None) -> str:
    """What a column stands for, in words.

    Args:
        column: the column.
        lanes: the executors, by their lanes.
        first: when the first event of the run was recorded.
        before: when the last event of the column before was; None: there is none.
    """
    one = column.events == 1
    said = [f"seq {column.first:,}" if one else f"{column.events:,} events, seq {column.first:,} to {column.last:,}"]
    if column.steps is not None:
        low, high = column.steps
        said.append(f"superstep {low:,}" if low == high else f"supersteps {low:,} to {high:,}")
    if column.recorded_at:
        said.append(cell(in_utc(column.recorded_at)))
        if before is not None:
            said += _after(first, column.recorded_at, "after the first event")
            said += _after(before, column.recorded_at, "after the one before")
    said += _who(lanes, column.sends, "sent messages") + _who(lanes, column.asks, "waits for an answer")
    for name, mark in MARKS.items():
        if count := column.marks[name]:
            said.append(f"{count:,} {mark.one if count == 1 else mark.many}")
    if column.reason:
        said.append(f"because: {column.reason}")
    if column.raw:
        said.append(f"{size_text(column.stored)} stored of {size_text(column.raw)}")
    return ", ".join(said)


def _who(lanes: Sequence[str], who: Iterable[int], does: str) -> list[str]:
    """The first executors that do something, and how many more."""
    names = [lanes[lane] for lane in sorted(who)]
    more = len(names) - _NAMED
    return [f"{name} {does}" for name in names[:_NAMED]] + ([f"{more} more {does}"] if more > 0 else [])


def _after(first: str, last: str, what: str) -> list[str]:
    span = took(first, last)
    return [f"{span} {what}"] if span else []


def _signs(column: Column) -> list[tuple[int, str, str]]:
    names = [name for name in MARKS if column.marks[name]]
    return [(_SIGN * (at + 1), name, MARKS[name].sign) for at, name in enumerate(names[:_SIGNS])]


def _height(size: int, most: int) -> float:
    """By the logarithm: a snapshot is a thousand deltas, and both are to be seen."""
    return round(_COST * log2(1 + size / 16) / log2(1 + most / 16), 1) if size > 0 else 0
