"""How the benchmarks measure: contenders take turns, and only ratios of medians are compared."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

__all__ = [
    "PRINTED",
    "Bound",
    "Figure",
    "Line",
    "Measured",
    "Plot",
    "Sample",
    "alternately",
    "alternately_async",
    "at_least",
    "at_most",
    "compared",
    "not_installed",
    "processor_seconds",
    "report",
    "taking_turns",
]


class Figure(NamedTuple):
    """One line of a report: what was measured, against what, and the bound it is held to."""

    what: str
    ours: str
    theirs: str
    ratio: float
    bound: str
    met: bool
    before: str = ""
    """What `ours` was in another commit, if one was measured too."""


class Bound(NamedTuple):
    """What a ratio is held to, if to anything."""

    text: str
    holds: Callable[[float], bool]


PRINTED: Final = Bound("printed", lambda _: True)
"""Nothing is promised."""


def at_most(limit: float) -> Bound:
    """`ours` takes no more than so many times what the other takes."""
    return Bound(f"≤ {limit:g} ×", lambda ratio: ratio <= limit)


def at_least(limit: float) -> Bound:
    """`ours` does at least so many times as much, or takes so many times less."""
    return Bound(f"≥ {limit:g} ×", lambda ratio: ratio >= limit)


class Sample(NamedTuple):
    """What one contender took in each of its turns, and how one such number is shown."""

    values: list[float]
    shown: Callable[[float], str]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median, and between which two numbers the middle half lies."""
        if len(self.values) < 4:
            return self.shown(self.median)
        low, _, high = statistics.quantiles(self.values, n=4)
        return f"{self.shown(self.median)} ({self.shown(low).split()[0]}–{self.shown(high).split()[0]})"


def compared(
    what: str, ours: Sample, theirs: Sample, who: str, bound: Bound = PRINTED, before: Sample | None = None
) -> Figure:
    """`ours` beside what `who` took for the same; the ratio is that of the medians."""
    ratio = ours.median / theirs.median
    earlier = "" if before is None else f"{before} {ours.median / before.median:.2f} ×"
    return Figure(what, str(ours), f"{theirs} {who}", ratio, bound.text, bound.holds(ratio), earlier)


def not_installed(what: str, ours: Sample, who: str, bound: Bound = PRINTED) -> Figure:
    """A line that only `make bench` can fill, for it installs who is compared with."""
    return Figure(what, str(ours), f"{who} is not installed", math.nan, bound.text, met=bound is PRINTED)


class Line(NamedTuple):
    """One contender in a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Plot(NamedTuple):
    """What docs/NAME.svg shows."""

    name: str
    x: str
    y: str
    lines: list[Line]


class Measured(NamedTuple):
    """What a section of the report has beside its figures."""

    figures: list[Figure]
    plot: Plot | None = None


def alternately(rounds: int, *contenders: Callable[[], object]) -> list[float]:
    """Median seconds of each contender. They take turns, in random order, so that nobody always runs after the same
    other one and a noisy machine disturbs all alike."""
    times: list[list[float]] = [[] for _ in contenders]
    order = random.Random(rounds)
    for _ in range(rounds):
        for turn in order.sample(range(len(contenders)), len(contenders)):
            started = time.perf_counter()
            contenders[turn]()
            times[turn].append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


async def alternately_async(rounds: int, *contenders: Callable[[], Awaitable[object]]) -> list[float]:
    """`alternately` for coroutines."""
    times: list[list[float]] = [[] for _ in contenders]
    order = random.Random(rounds)
    for _ in range(rounds):
        for turn in order.sample(range(len(contenders)), len(contenders)):
            started = time.perf_counter()
            await contenders[turn]()
            times[turn].append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


async def taking_turns(rounds: int, *contenders: Callable[[], Awaitable[object]]) -> list[Sample]:
    """The processor time of each contender's turns, in random order."""
    times: list[list[float]] = [[] for _ in contenders]
    order = random.Random(rounds)
    for _ in range(rounds):
        for turn in order.sample(range(len(contenders)), len(contenders)):
            times[turn].append(await processor_seconds(contenders[turn]))
    return [Sample(taken, lambda seconds: f"{seconds * 1000:.3g} ms") for taken in times]


async def processor_seconds(work: Callable[[], Awaitable[object]]) -> float:
    """What one contender takes of the processor, in all threads."""
    started = time.process_time()
    await work()
    return time.process_time() - started


def report(title: str, figures: list[Figure]) -> bool:
    """Print a table; whether every bound was met."""
    table = Table(title=title, title_justify="left")
    with_before = any(figure.before for figure in figures)
    headings = ["measured", "eventckpt", "compared with", "ratio", "bound", "", *(["before"] if with_before else [])]
    for heading in headings:
        numbers = heading in ("eventckpt", "compared with", "ratio", "before")
        table.add_column(heading, justify="right" if numbers else "left")
    for figure in figures:
        cells = [figure.what, figure.ours, figure.theirs, f"{figure.ratio:.2f}", figure.bound]
        table.add_row(*cells, "met" if figure.met else "MISSED", *([figure.before] if with_before else []))
    Console(width=170).print(table)
    return all(figure.met for figure in figures)
