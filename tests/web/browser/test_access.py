"""Whoever has no mouse, no scripts, little room or paper gets along with every page as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .chromium import needed
from .walking import Walk
from .watching import NARROW, WIDE, Window, opened

if TYPE_CHECKING:
    from playwright.async_api import Browser

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

REACHED = """() => {
    const seen = (element) => element.checkVisibility({ visibilityProperty: true });
    const all = "a[href], button, input:not([type=hidden]), select, textarea, summary";
    window.wanted = [...document.querySelectorAll(all)].filter((element) => seen(element) && !element.disabled);
    window.focused = new Set();
    document.addEventListener("focusin", (event) => window.focused.add(event.target));
    return window.wanted.length;
}"""
NOT_REACHED = """() => window.wanted
    .filter((one) => one.isConnected && !window.focused.has(one))
    .map((one) => one.outerHTML.slice(0, 120))"""
OUTLINED = """() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
}"""
SHIFTS = """() => new Promise((told) => {
    let shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) shifted += entry.hadRecentInput ? 0 : entry.value;
    }).observe({ type: "layout-shift", buffered: true });
    requestAnimationFrame(() => requestAnimationFrame(() => told(shifted)));
})"""

STILL = 0.01
"""The score of a page of which nothing has moved that anybody sees."""


@pytest.mark.parametrize(("scheme", "viewport"), [("light", NARROW), ("dark", WIDE)], ids=["narrow", "dark"])
async def test_axe_finds_nothing(
    browser: Browser, address: str, walk: Walk, scheme: str, viewport: dict[str, int]
) -> None:
    found: list[str] = []
    how: dict[str, Any] = {"color_scheme": scheme, "viewport": viewport, "storage_state": walk.signed_in}
    async with opened(browser, address, **how) as window:
        for where in walk.one_of_each():
            await window.visit(where)
            found += await window.violations()
    assert found == []


async def test_the_tab_key_reaches_all_that_can_be_used_and_shows_where_it_is(
    browser: Browser, address: str, walk: Walk
) -> None:
    async with opened(browser, address, storage_state=walk.signed_in) as window:
        for where in walk.one_of_each():
            await window.visit(where)
            for _ in range(2 * await window.page.evaluate(REACHED) + 20):
                await window.page.keyboard.press("Tab")
                if not await window.page.evaluate(f"({NOT_REACHED})().length"):
                    break
            assert await window.page.evaluate(NOT_REACHED) == [], where
            assert await window.page.evaluate(OUTLINED), where


async def test_the_first_tab_leads_past_the_navigation(browser: Browser, address: str) -> None:
    async with opened(browser, address) as window:
        await window.visit("/runs")
        await window.page.keyboard.press("Tab")
        assert await window.page.evaluate("document.activeElement.className") == "skip"
        await window.page.keyboard.press("Enter")
        await window.page.keyboard.press("Tab")
        assert await window.page.evaluate("document.activeElement.closest('main') !== null")


async def test_every_page_says_the_same_without_scripts(browser: Browser, address: str, walk: Walk) -> None:
    async with (
        opened(browser, address, java_script_enabled=False) as plain,
        opened(browser, address) as window,
    ):
        for where in walk.one_of_each():
            await plain.page.goto(address + where)
            await window.page.goto(address + where, wait_until="domcontentloaded")
            assert await _heads(plain) == await _heads(window), where
        for link in await plain.page.locator("nav a").all():
            assert await link.get_attribute("href")


async def _heads(window: Window) -> list[str]:
    return await window.page.locator("h1, h2, caption").all_text_contents()


async def test_nothing_moves_while_pages_load_and_are_looked_at_again(
    browser: Browser, address: str, walk: Walk
) -> None:
    moved: dict[str, float] = {}
    async with opened(browser, address, storage_state=walk.signed_in) as window:
        for where in walk.one_of_each():
            await window.page.clock.install()
            await window.visit(where)
            for _ in range(2):
                await window.page.clock.run_for(6_000)
                await window.page.wait_for_load_state("networkidle")
            if (shift := await window.page.evaluate(SHIFTS)) > STILL:
                moved[where] = shift
        assert moved == {}
        assert window.asked["/runs"] >= 3
        assert window.asked["/inbox"] >= 3
        await window.page.evaluate("document.querySelector('h1').after(document.createElement('textarea'))")
        assert await window.page.evaluate(SHIFTS) > STILL, "what moves is noticed"


async def test_on_paper_there_is_what_the_page_says_and_nothing_to_press(
    browser: Browser, address: str, walk: Walk
) -> None:
    async with opened(browser, address) as window:
        await window.page.emulate_media(media="print", color_scheme="dark")
        for where in walk.one_of_each():
            await window.visit(where)
            assert await window.page.locator("h1").is_visible()
            pressed: list[Any] = [
                each for each in await window.page.locator("body > header, button").all() if await each.is_visible()
            ]
            assert pressed == [], where
            ground = await window.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert ground == "rgb(255, 255, 255)"
