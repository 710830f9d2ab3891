"""Who has little room reads each row of a table as a card, and no hint and no caption is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from ..pictures import addresses, shop
from .chromium import needed
from .test_access import SHIFTS, STILL
from .watching import NARROW, Window, opened

if TYPE_CHECKING:
    from playwright.async_api import Browser

needed()

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

COMMON = {"width": 1280, "height": 800}
WITH_CARDS = {
    "runs", "inbox", "conversations", "compare", "operations", "asked", "checks", "types", "events",
}  # fmt: skip
"""The pages whose tables are read by rows."""

CELLS = """() => [...document.querySelectorAll("tbody td, tbody th")]
    .filter((cell) => cell.textContent.trim() && !cell.closest("#events"))
    .map((cell) => {
        const { left, right, height } = cell.getBoundingClientRect();
        const all = document.createRange();
        all.selectNodeContents(cell);
        const said = all.getBoundingClientRect();
        const heads = cell.closest("table").tHead.rows[0].cells;
        const before = getComputedStyle(cell, "::before");
        return {
            text: cell.textContent.trim().slice(0, 60),
            fits: height > 0 && Math.min(left, said.left) >= 0 && Math.max(right, said.right) <= innerWidth,
            heads_the_card: cell.cellIndex === 0,
            head: heads[cell.cellIndex].textContent,
            label: before.display === "none" ? "none" : before.content,
        };
    })"""
HINTS = """() => [...document.querySelectorAll("input[placeholder]")].map((input) => {
    const hint = document.createElement("span");
    hint.textContent = input.placeholder;
    const style = getComputedStyle(input);
    Object.assign(hint.style, { font: style.font, position: "absolute", whiteSpace: "pre" });
    document.body.append(hint);
    const needed = hint.getBoundingClientRect().width;
    hint.remove();
    const room = input.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return { hint: input.placeholder, is_short: needed > room };
})"""
CAPTIONS = """() => [...document.querySelectorAll("caption")].map((caption) => {
    const said = document.createRange();
    said.selectNodeContents(caption);
    const { left, right } = said.getBoundingClientRect();
    return { caption: caption.textContent, is_cut: left < 0 || right > caption.closest("main").clientWidth };
})"""
EMPTIED = """(part) => {
    for (const child of part.children) child.style.visibility = "hidden";
    part.scrollIntoView();
    const { x, y } = part.getBoundingClientRect();
    return { x: x + part.clientLeft, y: y + part.clientTop, width: part.clientWidth, height: part.clientHeight };
}"""
SCROLLED = "() => document.querySelectorAll('.scroll').forEach((part) => part.scrollBy(10_000, 0))"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pages(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[dict[str, str]]:
    """The address of each page of a viewer over the shop's store, by its name."""
    folder: Path = tmp_path_factory.mktemp("shop")
    async with shop(folder) as (address, audit):
        found = await addresses(audit)
        found["asked"] = found["question"].replace("/inbox/question", "/run").partition("&request=")[0]
        found["events"] = found["conversation"].replace("/conversation", "/conversation/events")
        found |= {"types": "/operations/types", "to compare": "/compare"}
        yield {name: address + where for name, where in found.items()}


async def seen(window: Window, where: str) -> Window:
    await window.page.goto(where, wait_until="load")
    return window


async def test_every_cell_is_in_sight_and_says_its_column(browser: Browser, pages: dict[str, str]) -> None:
    labels: dict[str, int] = {}
    async with opened(browser, "", viewport=NARROW) as window:
        for name, where in pages.items():
            for cell in await (await seen(window, where)).page.evaluate(CELLS):
                assert cell["fits"], (name, cell)
                if not cell["heads_the_card"]:
                    assert cell["label"] == f'"{cell["head"]}" / ""', (name, cell)
                    labels[name] = labels.get(name, 0) + 1
    assert labels.keys() == WITH_CARDS


async def test_a_card_is_a_row_of_a_table_still(browser: Browser, pages: dict[str, str]) -> None:
    """Whoever hears a page hears the same of a table, be there little room or much."""
    async with opened(browser, "", viewport=NARROW) as window, opened(browser, "", viewport=COMMON) as wide:
        for name in sorted(WITH_CARDS):
            heard = [await _tables(await seen(each, pages[name])) for each in (window, wide)]
            assert heard[0] == heard[1], name
            assert min(heard[0][role] for role in ("table", "row", "columnheader", "cell")) >= 1, name


async def _tables(window: Window) -> Counter[str]:
    """How many of each role of tables the browser tells a reader of the screen."""
    session = await window.page.context.new_cdp_session(window.page)
    tree = await session.send("Accessibility.getFullAXTree")
    roles = Counter(node["role"]["value"] for node in tree["nodes"] if not node["ignored"])
    return Counter({role: roles[role] for role in ("table", "row", "columnheader", "rowheader", "cell")})


async def test_nothing_of_a_card_moves_when_it_is_looked_at_again(browser: Browser, pages: dict[str, str]) -> None:
    for name in ("runs", "inbox"):
        async with opened(browser, "", viewport=NARROW) as window:
            await window.page.clock.install()
            await seen(window, pages[name])
            for _ in range(2):
                await window.page.clock.run_for(6_000)
                await window.page.wait_for_load_state("networkidle")
            assert await window.page.evaluate(SHIFTS) <= STILL, name


@pytest.mark.parametrize("viewport", [NARROW, COMMON], ids=["narrow", "common"])
async def test_no_hint_of_a_field_is_cut_off(browser: Browser, pages: dict[str, str], viewport: dict[str, int]) -> None:
    hints: set[str] = set()
    async with opened(browser, "", viewport=viewport) as window:
        for name, where in pages.items():
            for field in await (await seen(window, where)).page.evaluate(HINTS):
                assert not field["is_short"], (name, field)
                hints.add(field["hint"])
    assert len(hints) >= 6


@pytest.mark.parametrize("viewport", [NARROW, COMMON], ids=["narrow", "common"])
async def test_a_caption_is_in_sight_wherever_its_table_was_scrolled_to(
    browser: Browser, pages: dict[str, str], viewport: dict[str, int]
) -> None:
    async with opened(browser, "", viewport=viewport) as window:
        for name, where in pages.items():
            await seen(window, where)
            for _ in range(2):
                for caption in await window.page.evaluate(CAPTIONS):
                    assert not caption["is_cut"], (name, caption)
                await window.page.evaluate(SCROLLED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "lineage"])
async def test_a_side_to_which_there_is_more_has_a_shade(
    browser: Browser, pages: dict[str, str], name: str, scheme: str
) -> None:
    async with opened(browser, "", viewport=NARROW, color_scheme=scheme) as window:
        await seen(window, pages[name])
        box = await window.page.locator(".scroll").last.evaluate(EMPTIED)

        async def strip(left: float) -> bytes:
            clip: Any = {
                "x": round(box["x"] + left),
                "y": round(box["y"] + box["height"] / 2),
                "width": 6,
                "height": 16,
            }
            return await window.page.screenshot(clip=clip)

        sides, plain = (1, box["width"] - 7), await strip(box["width"] / 2)
        at_the_start = [await strip(side) != plain for side in sides]
        await window.page.evaluate(SCROLLED)
        assert [at_the_start, [await strip(side) != plain for side in sides]] == [[False, True], [True, False]]
