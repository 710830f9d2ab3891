"""Debian's chromium, driven by playwright, as `make browser` brings both; where one is missing, the tests of a module
are skipped and say so once."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["PACKAGES", "launched", "needed"]

PACKAGES: Final = Path(__file__).parent / "node_modules"
_QUIET: Final = (
    "--no-sandbox",  # it only sees pages of this machine, and CI runs as root, whom its sandbox refuses
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)


def missing() -> list[str]:
    """What `make browser` would bring."""
    found = {
        "chromium": shutil.which("chromium") is not None,
        "playwright": importlib.util.find_spec("playwright") is not None,
        "axe-core and htmx.org": all((PACKAGES / name).is_dir() for name in ("axe-core", "htmx.org")),
    }
    return [name for name, is_there in found.items() if not is_there]


def needed() -> None:
    """Skips the module that calls it, where no browser is there to be driven."""
    if lacking := missing():
        pytest.skip(f"`make browser` brings {', '.join(lacking)}", allow_module_level=True)


@asynccontextmanager
async def launched() -> AsyncGenerator[Browser]:
    """A browser without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_QUIET)
        try:
            yield browser
        finally:
            await browser.close()
