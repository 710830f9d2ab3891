"""What the samples share for printing: stored text made safe, plain tables, and the verdict at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper


def print_in_turns() -> None:
    """Print line by line even into a pipe, so that several processes can take turns."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def plain(text: str) -> str:
    """`text` fit for a terminal: control characters, that stored text may hold, are shown and not obeyed."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> str:
    """Rows under their heads, in columns as wide as needed; heads named in `right` are aligned to the right."""
    cells = [list(heads), *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = right.split()
    lines = (
        "  ".join(
            cell.rjust(width) if head in numeric else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(f"  {line}" for line in lines)


def indented(text: str) -> str:
    """Lines of stored text, made safe and moved to the right."""
    return "\n".join(f"  {plain(line)}" for line in text.splitlines())


def verdict(checks: Mapping[str, bool]) -> bool:
    """Print what a sample checked of itself; True if all of it holds."""
    print("\nCHECKED")
    for check, passed in checks.items():
        print(f"  {'yes' if passed else 'NO '}  {check}")
    return all(checks.values())
