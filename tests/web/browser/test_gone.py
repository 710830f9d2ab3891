"""A page that looks again by itself, over a viewer that goes away and comes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eventckpt import CheckpointAudit
from eventckpt.web import create_app

from ...answers.workflows import NAME, RUN, asked
from ...engines import SqliteEngine
from ...storage.removed import audited
from ..serving import served
from ..standing import Projector
from .chromium import needed

if TYPE_CHECKING:
    from playwright.async_api import Browser

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

GONE = "The viewer does not answer"


@pytest.mark.parametrize("path", ["/runs", "/inbox", f"/run?run={RUN}&workflow={NAME}", "/operations"])
async def test_a_page_says_that_it_is_not_up_to_date_any_more_and_takes_it_back(
    browser: Browser, tmp_path: Path, path: str
) -> None:
    engine = SqliteEngine(tmp_path / "checkpoints.db")
    await asked(engine)
    store = audited(engine)
    async with served(create_app(CheckpointAudit(store), operations=Projector(store))) as address:
        page = await browser.new_page()
        await page.clock.install()
        await page.goto(address + path)
        trouble = page.locator("#trouble")
        assert await trouble.inner_text() == ""
        await page.context.set_offline(True)
        await page.clock.run_for(11_000)
        await trouble.get_by_role("alert").get_by_text(GONE).wait_for()
        await page.context.set_offline(False)
        await page.clock.run_for(11_000)
        await trouble.get_by_text(GONE).wait_for(state="detached")
        await page.context.route("**/*", lambda route: route.fulfill(status=400, body="no"))
        await page.clock.run_for(11_000)
        await trouble.get_by_role("alert").get_by_text("the viewer refuses it").wait_for()
        await page.close()
    await engine.close()
