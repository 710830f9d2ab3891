"""How the benchmarks measure: contenders take turns in one process, and only ratios of medians are compared."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "alternately", "alternately_async", "report"]


class Figure(NamedTuple):
    """One line of a report: what was measured, against what, and the bound it is held to."""

    what: str
    ours: str
    theirs: str
    ratio: float
    bound: str
    met: bool


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


def report(title: str, figures: list[Figure]) -> bool:
    """Print a table; whether every bound was met."""
    table = Table(title=title, title_justify="left")
    for heading in ("measured", "eventckpt", "compared with", "ratio", "bound", ""):
        table.add_column(heading, justify="right" if heading in ("eventckpt", "compared with", "ratio") else "left")
    for figure in figures:
        table.add_row(
            figure.what,
            figure.ours,
            figure.theirs,
            f"{figure.ratio:.2f}",
            figure.bound,
            "met" if figure.met else "MISSED",
        )
    Console(width=140).print(table)
    return all(figure.met for figure in figures)
