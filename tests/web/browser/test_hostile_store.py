"""A store whose every text is an attack, in a real browser: pages show it, and nothing of it is obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eventckpt.web.addresses import PAGES

from .chromium import needed
from .walking import Walk, walked
from .watching import opened

if TYPE_CHECKING:
    from playwright.async_api import Browser

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]


async def test_no_page_obeys_what_it_shows(walk: Walk) -> None:
    assert walk.troubles == []


async def test_no_page_is_forgotten(walk: Walk) -> None:
    assert set(PAGES) - walk.asked == set()


async def test_pages_over_cosmos_db_do_not_either(browser: Browser, cosmos_address: str) -> None:
    walk = await walked(browser, cosmos_address, each=2)
    assert walk.troubles == []
    assert set(PAGES) - walk.asked == set()


async def test_what_a_page_may_not_do_is_noticed(browser: Browser, address: str) -> None:
    """Of each thing that is looked for, one that happens."""
    async with opened(browser, address) as window:
        await window.visit("/runs")
        assert window.troubles == []
        await window.page.evaluate(
            """() => {
                window.pwned = 1;
                document.body.insertAdjacentHTML("beforeend", `
                    <p>\\u202e</p><h1>two</h1><svg width="9000" height="9"></svg><iframe></iframe>
                    <img src=http://elsewhere.invalid/x onerror="pwned = 1"><a href="javascript:1">x</a>`);
            }"""
        )
        await window.looked()
        noted = "\n".join(window.troubles)
    for trouble in (
        "a script of the store has run",
        "the page is wider",
        "not one heading",
        "a handler in an attribute",
        "an element that no page has",
        "an address that is a script",
        "text that is obeyed",
        "Content Security Policy",
    ):
        assert trouble in noted
