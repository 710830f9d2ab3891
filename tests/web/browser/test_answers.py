"""Questions that somebody answers with a mouse."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from ...answers.workflows import NAME, RUN, Paid, asked
from ...conftest import engine_for
from ...engines import Engine
from ..answering import answering_viewer
from ..serving import served
from .chromium import needed
from .watching import Window, opened

if TYPE_CHECKING:
    from playwright.async_api import Browser

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

QUESTION = f"/inbox/question?{urlencode({'run': RUN, 'workflow': NAME, 'request': 'may-shoes'})}"


@pytest_asyncio.fixture(loop_scope="session", params=["sqlite", "cosmos"])
async def asking(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine]:
    async with engine_for(request, tmp_path) as engine:
        await asked(engine)
        engine.settle()
        yield engine


@asynccontextmanager
async def answered(engine: Engine, pay: Paid) -> AsyncGenerator[str]:
    """The address of a viewer that answers, and waits for what becomes of it."""
    async with answering_viewer(engine, pay, wait=30.0) as viewers, served(viewers.app) as address:
        yield address


async def said_of_it(window: Window) -> str:
    return await window.page.locator("#question").inner_text()


async def test_a_double_click_acts_once_and_the_page_says_who_answered(browser: Browser, asking: Engine) -> None:
    paid = Paid()
    async with answered(asking, paid) as address, opened(browser, address) as window:
        await window.sign_in("ann")
        await window.visit(QUESTION)
        await window.page.get_by_role("button", name="Yes").dblclick()
        await window.page.get_by_text("Answered by ann").wait_for()
        assert paid == [("shoes", True)]
        await window.page.reload()
        assert "Answered by ann" in await said_of_it(window)
        assert window.troubles == []
    assert paid == [("shoes", True)]


async def test_of_two_windows_the_second_is_told_of_the_first(browser: Browser, asking: Engine) -> None:
    paid = Paid()
    async with answered(asking, paid) as address, opened(browser, address) as ann, opened(browser, address) as bob:
        for window, name in ((ann, "ann"), (bob, "bob")):
            await window.sign_in(name)
            await window.visit(QUESTION)
        await ann.page.get_by_role("button", name="Yes").click()
        await ann.page.get_by_text("Answered by ann").wait_for()
        asking.settle()
        await bob.page.get_by_role("button", name="No").click()
        await bob.page.get_by_text("Answered by ann").wait_for()
    assert paid == [("shoes", True)]
