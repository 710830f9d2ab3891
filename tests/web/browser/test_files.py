"""The files that every page brings along: whose they are, and how much."""

from __future__ import annotations

from pathlib import Path

import eventckpt.web

from .chromium import PACKAGES, needed

needed()

STATIC = Path(eventckpt.web.__file__).parent / "static"


def test_htmx_is_byte_for_byte_what_its_package_has_in_the_version_of_the_lock() -> None:
    assert (STATIC / "htmx.min.js").read_bytes() == (PACKAGES / "htmx.org" / "dist" / "htmx.min.js").read_bytes()
