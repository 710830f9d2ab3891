"""The files that every page brings along, as anybody without a browser can judge them."""

from __future__ import annotations

import re
from pathlib import Path

import eventckpt.web

STATIC = Path(eventckpt.web.__file__).parent / "static"
MOST = 80_000  # bytes


def test_what_a_browser_loads_once_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.glob("*.*") if file.suffix in (".css", ".js")) <= MOST


def test_the_stylesheet_asks_for_nothing_else() -> None:
    styles = (STATIC / "style.css").read_text(encoding="utf-8")
    assert re.findall(r"url\(|@import|@font-face|expression\(", styles) == []


def test_every_colour_of_the_stylesheet_is_told_for_light_and_for_dark() -> None:
    styles = (STATIC / "style.css").read_text(encoding="utf-8")
    print_only = styles[styles.index("@media print") :]
    told = re.findall(r"light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", styles)
    assert len(re.findall(r"#[0-9a-f]{3,6}\b", styles.replace(print_only, ""))) == 2 * len(told) > 30
