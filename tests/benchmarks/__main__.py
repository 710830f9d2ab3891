"""`make bench`: every figure that the project claims, measured side by side in one run."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import nullcontext
from pathlib import Path

from .before import extracted
from .measure import report
from .page import text_of, written
from .plots import draw
from .section import Section, with_before
from .sections import SECTIONS

DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    logging.disable(logging.WARNING)  # the framework's storages log every save
    words = list(dict.fromkeys(section.word for section in SECTIONS))
    arguments = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    arguments.add_argument("sections", nargs="*", choices=[*words, []], metavar="SECTION", help=", ".join(words))
    arguments.add_argument("--base", help="a revision to be measured too")
    arguments.add_argument("--write", action="store_true", help="put what is found into docs/benchmarks.md")
    asked = arguments.parse_args()
    chosen = [section for section in SECTIONS if not asked.sections or section.word in asked.sections]
    with extracted(asked.base) if asked.base else nullcontext() as before:
        met = [_section(section, before, write=asked.write) for section in chosen]
    return 0 if all(met) else 1


def _section(section: Section, before: Path | None, *, write: bool) -> bool:
    """Measure a section, print it and put it on the page; whether each bound is met."""
    figures, plot = section.measured()
    if before is not None and not section.takes_turns:
        figures = with_before(section, figures, before)
    met = report(section.title, figures)
    if write:
        drawn = draw(plot, DOCS) if plot else None
        written(DOCS / "benchmarks.md", SECTIONS, {section.title: text_of(section, figures, drawn and drawn.name)})
    sys.stdout.flush()
    return met


if __name__ == "__main__":
    sys.exit(main())
