"""What other servers of this machine, and pages of other sites, learn from the browser of somebody who signed in."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from eventckpt import CheckpointAudit
from eventckpt.web import Answering, create_app

from ...engines import SqliteEngine
from ...storage.removed import audited
from ..answering import TOKEN
from ..serving import served
from .chromium import needed
from .conftest import application

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

NAME = "eventckpt-0123456789abcdef.localhost"


class Other:
    """Another server of this machine: what it was sent, and what it leads to."""

    def __init__(self) -> None:
        self.cookies: list[str | None] = []
        self.leads_to = ""
        self.app = Starlette(routes=[Route("/", self._page)])

    async def _page(self, request: Request) -> Response:
        self.cookies.append(request.headers.get("cookie"))
        return HTMLResponse(f'<!doctype html><title>docs</title><a href="{self.leads_to}">the run</a>')


@asynccontextmanager
async def two_servers(tmp_path: Path) -> AsyncGenerator[tuple[str, str, Other]]:
    """The port of a viewer that answers, the address of another server, and that."""
    engine, other = SqliteEngine(tmp_path / "events.db"), Other()
    async with Answering(engine.storage(), application, token=TOKEN) as answering:
        app = create_app(CheckpointAudit(audited(engine)), answering=answering, answers_at=NAME)
        async with served(app) as viewer, served(other.app) as elsewhere:
            yield viewer.rpartition(":")[2], elsewhere, other
    await engine.close()


async def signed_in(page: Page, port: str) -> None:
    await page.goto(f"http://{NAME}:{port}/sign-in")
    await page.fill("main [name=actor]", "ann")
    await page.fill("main [name=token]", TOKEN)
    await page.press("main [name=token]", "Enter")
    await page.wait_for_url("**/inbox*")


async def test_no_other_port_of_this_machine_is_sent_the_session(browser: Browser, tmp_path: Path) -> None:
    async with two_servers(tmp_path) as (port, elsewhere, other):
        page = await (context := await browser.new_context()).new_page()
        await signed_in(page, port)
        assert await page.get_by_text("ann").count()
        for address in (elsewhere, elsewhere.replace("127.0.0.1", "localhost")):
            await page.goto(address)
        assert other.cookies == [None, None]
        await page.goto(elsewhere.replace("127.0.0.1", NAME))
        assert other.cookies[2] is not None, "whoever knows the name is sent it, which is why nobody is told"
        await context.close()


async def test_a_link_of_another_site_leads_there_in_one_more_click_and_is_signed_in_then(
    browser: Browser, tmp_path: Path
) -> None:
    async with two_servers(tmp_path) as (port, elsewhere, other):
        page = await (context := await browser.new_context()).new_page()
        await signed_in(page, port)
        other.leads_to = f"http://{NAME}:{port}/runs?status=waiting"
        await page.goto(elsewhere)
        await page.click("a")
        await page.wait_for_url(other.leads_to)
        assert await page.locator("h1").text_content() == "A link from another site"
        await page.click("a")
        await page.get_by_role("heading", name=re.compile("^Runs")).wait_for()
        assert page.url == other.leads_to
        assert await page.get_by_text("ann").count()
        await context.close()
