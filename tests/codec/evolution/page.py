"""The tables of docs/evolution.md, as this process finds them.

python -m tests.codec.evolution.page     # prints them, for the page
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import pytest
from agent_framework import FileCheckpointStorage, WorkflowCheckpointException

from tests.fidelity import checkpoint

from .kinds import Kind, Outcome, Refused, imported, shown
from .tables import TABLES

__all__ = ["HEAD", "rows"]

HEAD: Final = ["change", "a load", 'with `"warn"`', "of an event of 0.1.0", "`FileCheckpointStorage`"]
SAME: Final = "the same"


def rows(kinds: list[Kind], monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[list[str]]:
    """The rows of the table of these changes, cell by cell."""
    found: list[list[str]] = []
    for number, kind in enumerate(kinds):
        want = _said(kind.want)
        others = [_said(kind.outcome("warn", bare=False)), _said(kind.outcome("error", bare=True))]
        others.append(_theirs(kind, monkeypatch, folder / str(number)))
        found.append([kind.name, want, *[SAME if _means(other, want) else other for other in others]])
    return found


def _said(outcome: Outcome) -> str:
    return str(outcome) if isinstance(outcome, Refused) else _code(outcome)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _means(one: str, other: str) -> bool:
    return one == other or (one == "error" and other.startswith("error"))


def _theirs(kind: Kind, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """What the framework's own store makes of a change."""
    storage = FileCheckpointStorage(folder, allowed_checkpoint_types=kind.keys)
    then = imported(monkeypatch, kind.then)

    async def saved_and_loaded() -> Any:
        await storage.save(checkpoint(eval(kind.value, vars(then))))
        imported(monkeypatch, kind.now)
        return (await storage.load("c-1")).state["value"]

    try:
        return _code(shown(asyncio.run(saved_and_loaded())))
    except WorkflowCheckpointException:
        return "error"


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        for heading, kinds in TABLES.items():
            lines = [HEAD, ["---"] * len(HEAD), *rows(kinds, monkeypatch, Path(folder) / heading)]
            table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            sys.stdout.write(f"### {heading}\n\n{table}\n\n")


if __name__ == "__main__":
    main()
