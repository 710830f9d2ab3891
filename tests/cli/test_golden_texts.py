"""What the commands print on a terminal, to the letter, and that a row never takes more than a line of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from .golden_texts import FOLDER, TEXTS, WIDTHS, Asked, filled, in_one, printed


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """The golden store, in a file."""

    async def fill(path: Path) -> None:
        async with filled(path):
            pass

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        asyncio.run(fill(path))
        yield path


@pytest.mark.parametrize("asked", TEXTS, ids=lambda asked: asked.name)
def test_at_each_width_a_command_prints_what_is_written_down(asked: Asked, store: Path) -> None:
    results = [printed(asked, store, width) for width in WIDTHS]
    kept = (FOLDER / f"{asked.name}.txt").read_text(encoding="utf-8")
    assert in_one(asked, results) == kept, "meant so? `python -m tests.cli.golden_texts` writes them anew"


@pytest.mark.parametrize("width", [*WIDTHS, 1, 20, 79])
@pytest.mark.parametrize("asked", [each for each in TEXTS if each.is_table], ids=lambda asked: asked.name)
def test_each_row_is_one_line_no_wider_than_the_terminal_and_nothing_in_it_is_obeyed(
    asked: Asked, width: int, store: Path
) -> None:
    lines = printed(asked, store, width).stdout.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert "wide" in asked.words or max(map(cell_len, lines)) <= max(width, 24), "ids are told apart first"
    assert len(lines) == len(printed(asked, store, 1_000).stdout.removesuffix("\n").split("\n"))
