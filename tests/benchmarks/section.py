"""A section of the report: one table, measured by one function, with what is to be said about it.

`python -m tests.benchmarks.section TITLE ARGUMENTS` measures one and prints what the packages took, as JSON: an earlier
version of them is measured so.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .measure import Figure, Measured

__all__ = ["Section", "with_before"]


class Section(NamedTuple):
    """What is measured under a title."""

    word: str
    """Names it, and others about the same, on the command line."""
    title: str
    measure: Callable[..., Any]
    """Gives figures, or `Measured`; perhaps as a coroutine."""
    about: str
    """How it is measured, and what is to be known about the figures."""
    why: Mapping[str, str] = {}
    """For what is measured, why a bound is missed or somebody else is better."""
    small: Mapping[str, Any] = {}
    """Arguments with which it is over at once: the suite runs it so."""
    takes_turns: bool = False
    """An earlier version is one of its contenders already."""

    def measured(self, **arguments: Any) -> Measured:
        """Measure it."""
        found = self.measure(**arguments)
        if inspect.iscoroutine(found):
            found = asyncio.run(found)
        return found if isinstance(found, Measured) else Measured(found)


def with_before(section: Section, figures: list[Figure], folder: Path, **arguments: Any) -> list[Figure]:
    """The figures, each with what it is on the packages in a folder."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.section", section.title, json.dumps(arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        print(f"{section.title}: not measured before; the error is above.", file=sys.stderr)
        return [figure._replace(before="not measured") for figure in figures]
    earlier: list[str] = json.loads(ended.stdout.splitlines()[-1])
    return [figure._replace(before=before) for figure, before in zip(figures, earlier, strict=True)]


def _main(title: str, arguments: str) -> None:
    from .sections import SECTIONS

    logging.disable(logging.WARNING)
    [section] = [section for section in SECTIONS if section.title == title]
    figures = section.measured(**json.loads(arguments)).figures
    print(json.dumps([figure.ours for figure in figures]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
