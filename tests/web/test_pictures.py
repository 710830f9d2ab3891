"""The page about the viewer: what it shows and names is what there is."""

from __future__ import annotations

import re

from eventckpt.web.addresses import PAGES

from .pictures import FOLDER

DOCUMENT = (FOLDER.parent / "viewer.md").read_text(encoding="utf-8")
LARGEST = 150_000  # bytes of a picture


def test_every_picture_is_shown_and_small() -> None:
    shown = re.findall(r"\]\(viewer/([\w-]+\.png)\)", DOCUMENT)
    assert sorted(shown) == sorted(file.name for file in FOLDER.iterdir())
    for file in FOLDER.iterdir():
        assert file.read_bytes().startswith(b"\x89PNG\r\n"), file.name
        assert file.stat().st_size < LARGEST, file.name


def test_every_page_is_named() -> None:
    [table] = re.findall(r"\| address \|.*?\n\n", DOCUMENT, flags=re.DOTALL)
    assert set(re.findall(r"`(/[\w/-]+)`", table)) == set(PAGES)


def test_every_page_of_the_navigation_is_shown() -> None:
    assert {"runs", "inbox", "conversations", "compare", "operations"} <= {file.stem for file in FOLDER.iterdir()}
