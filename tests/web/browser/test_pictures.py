"""The pictures of the viewer can be made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..pictures import FOLDER, taken
from .chromium import needed

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]


def sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in folder.iterdir()}


async def test_each_of_them_is_taken_again(tmp_path: Path) -> None:
    await taken(tmp_path)
    made = sizes(tmp_path)
    assert made.keys() == sizes(FOLDER).keys()
    assert min(made.values()) > 10_000, "each shows a page"
