"""A browser's window, and all that goes wrong in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..answering import TOKEN
from ..hostile_store import CANARY, TEXTS
from .chromium import PACKAGES

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, Request, Response

__all__ = ["NARROW", "WIDE", "Window", "opened"]

WIDE: Final = {"width": 1600, "height": 900}
NARROW: Final = {"width": 360, "height": 740}
_ANSWERS: Final = frozenset({200, 303, 304, 307, 400, 404, 409, 422})
"""What a page of a damaged store may be answered with: never 500."""
_LOOK: Final = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


class Window:
    """A tab, and what it noted since it was opened.

    Args:
        page: of the browser's driver.
        address: of the viewer: whatever is asked of another is a trouble.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.troubles: list[str] = []
        self.asked: Counter[str] = Counter()
        """How often each path was asked for, by whatever of the page."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("response", self._response)
        page.context.on("page", lambda other: self._note("another window was opened") if other is not page else None)

    async def visit(self, where: str) -> dict[str, Any]:
        """Go to an address below the viewer's; what is looked at of every page (look.js)."""
        self._where = where
        await self.page.goto(self.address + where, wait_until="load")
        return await self.looked()

    async def sign_in(self, actor: str = TEXTS[0]) -> None:
        """Type a name and the token, as somebody does."""
        await self.visit("/sign-in")
        await self.page.locator("main [name=actor]").fill(actor)
        await self.page.locator("main [name=token]").fill(TOKEN)
        await self.page.locator("main [name=token]").press("Enter")
        await self.page.wait_for_url("**/inbox*")

    async def looked(self) -> dict[str, Any]:
        """What is looked at of every page; what is wrong of it is noted."""
        found = await self.page.evaluate(_LOOK, CANARY)
        for trouble in found.pop("troubles"):
            self._note(trouble)
        return found

    async def violations(self) -> list[str]:
        """What axe-core finds: each rule, and the elements that break it."""
        await self.page.evaluate((PACKAGES / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
        results = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{self._where[:80]}: {rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
            for rule in results["violations"]
            for node in rule["nodes"][:3]
        ]

    def _note(self, trouble: str) -> None:
        self.troubles.append(f"{getattr(self, '_where', '')[:120]}: {trouble[:300]}")

    def _said(self, message: ConsoleMessage) -> None:
        of_the_answer = message.text.startswith("Failed to load resource") and message.location["url"] == self.page.url
        if message.type in ("error", "warning") and not of_the_answer:
            self._note(f"the console says: {message.text}")

    async def _dialog(self, dialog: Dialog) -> None:
        self._note(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith(f"{self.address}/"):
            self._note(f"asks {request.url}")
        self.asked[urlsplit(request.url).path] += 1

    def _response(self, response: Response) -> None:
        if response.status not in _ANSWERS:
            self._note(f"{response.status} from {json.dumps(response.url)[:120]}")


@asynccontextmanager
async def opened(browser: Browser, address: str, **how: Any) -> AsyncGenerator[Window]:
    """A window of its own, with nothing kept from another; `how` as playwright's `new_context` takes it."""
    context = await browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **how})
    context.set_default_timeout(20_000)
    try:
        yield Window(await context.new_page(), address)
    finally:
        await context.close()
