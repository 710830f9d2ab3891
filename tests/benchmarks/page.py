"""docs/benchmarks.md: what the last run has found, section by section.

A run of some sections leaves the others as they are.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .measure import Figure
from .section import Section

__all__ = ["HEADINGS", "INTRODUCTION", "rows", "sections_of", "table", "text_of", "written"]

HEADINGS: Final = ["measured", "eventckpt", "compared with", "ratio", "bound", ""]
_PACKAGES = {
    "agent-framework-core": "agent_framework",
    "msgspec": "msgspec",
    "azure-cosmos": "azure",
    "langgraph-checkpoint-sqlite": "langgraph",
}
"""What a figure hangs on, and how it is imported."""

INTRODUCTION: Final = """# Benchmarks

`make bench` measures this and writes the page; what is below is what its last run found. Contenders take turns, in
random order, so that a busy machine disturbs all alike. A number is a median, and behind it stand the two numbers
between which the middle half of the turns lies. The ratio is that of the medians: of the time, the requests or the
memory that eventckpt takes to what the other takes; of bytes and request units, and where the bound says "≥", the other
way round. CPU is processor time of the whole process, all of its threads, since a disk or another program on the
machine does not change it much. What has a bound is held to it: `make bench` fails if one is missed. "printed" promises
nothing.

`make bench SECTIONS="saves cosmos"` measures some sections only, and `make bench BASE=REVISION` puts a revision of this
repository beside the packages as they are. Compared are `FileCheckpointStorage` and `InMemoryCheckpointStorage` of the
framework, its `CosmosCheckpointStorage` (called upstream's here), and LangGraph's `AsyncSqliteSaver`, which is given
plain dicts and bytes, since it knows no types of the framework, and so is eventckpt beside it. The extra `bench`
installs it.
"""


def text_of(section: Section, figures: list[Figure], plot: str | None) -> str:
    """A section as it stands on the page."""
    parts = [f"## {section.title}", section.about, table(figures)]
    if plot:
        parts.append(f"![{section.title}]({plot})")
    reasons = [f"* {what}: {why}" for what, why in section.why.items() if what in {figure.what for figure in figures}]
    parts += ["\n".join(reasons)] if reasons else []
    return "\n\n".join([*parts, f"Measured on {_machine()}."]) + "\n"


def table(figures: list[Figure]) -> str:
    """The figures in Markdown."""
    with_before = any(figure.before for figure in figures)
    headings = [*HEADINGS, *(["before"] if with_before else [])]
    lines = [headings, ["---"] * len(headings)]
    for figure in figures:
        cells = [figure.what, figure.ours, figure.theirs, f"{figure.ratio:.2f}", figure.bound, verdict(figure)]
        lines.append([*cells, *([figure.before] if with_before else [])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(figure: Figure) -> str:
    if figure.bound == "printed":
        return ""
    return "met" if figure.met else "MISSED"


def written(page: Path, sections: list[Section], texts: dict[str, str]) -> None:
    """Put new texts, by title, on a page; those of other sections stay, in the order of the sections."""
    there = sections_of(page.read_text(encoding="utf-8")) if page.exists() else {}
    there.update(texts)
    ordered = [there[section.title] for section in sections if section.title in there]
    page.write_text("\n".join([INTRODUCTION, *ordered]), encoding="utf-8")


def sections_of(text: str) -> dict[str, str]:
    """What stands under each title of a page, the title included."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


def rows(section: str) -> list[list[str]]:
    """The cells of the table in a section's text."""
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES if find_spec(_PACKAGES[name]))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores ({platform.machine()}), {python}, SQLite {sqlite3.sqlite_version}, {packages}"
