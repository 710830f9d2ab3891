"""What a page is asked for: each name that it takes counts for something, and no other one is passed over."""

from __future__ import annotations

import httpx
import pytest

from eventckpt.web.addresses import PAGES

from ..engines import Engine
from .html import read
from .test_links import EACH, a_store

OTHERWISE: dict[str, dict[str, str]] = {"/inbox/question": {"run": "order-1", "workflow": "orders", "request": "q"}}
"""Of pages without a command, what one is asked for."""
EXCLUSIVE: dict[tuple[str, str], dict[str, str]] = {
    ("/event", "event"): {},
    ("/event", "run"): {"seq": "1", "workflow": "orders"},
    ("/event", "seq"): {"run": "order-1", "workflow": "orders"},
    ("/compare", "before"): {},
    ("/compare", "after"): {},
}
"""Of names that are given in the place of others, what is given beside them."""
TAKEN = [(path, name) for path, shown in PAGES.items() for name in shown.takes if path != "/sign-in"]
"""Where somebody comes back to from signing in, test_access.py has: without answers there is no such page."""


@pytest.mark.parametrize("path", PAGES)
async def test_a_name_that_a_page_does_not_take_is_refused_with_those_that_it_takes(
    viewer: httpx.AsyncClient, path: str
) -> None:
    for form in ({}, {"format": "jsonl"}):
        for name in ("stauts", "stauts%", "format%%", "%"):
            answer = await viewer.get(path, params={name: "waiting", **form})
            assert answer.status_code == 400
            said = answer.json()["message"] if form else read(answer.text).one(role="alert").text
            assert said.startswith(f"This page takes {', '.join((*PAGES[path].takes, 'format'))}, not '{name}'.")


@pytest.mark.parametrize(("path", "name"), TAKEN)
async def test_each_name_that_a_page_takes_is_read(
    viewer: httpx.AsyncClient, engine: Engine, path: str, name: str
) -> None:
    await a_store(engine)
    base = EXCLUSIVE.get((path, name), EACH[path][0][0] if path in EACH else OTHERWISE.get(path, {}))
    answer = await viewer.get(path, params={**base, name: "x" * 5_000})
    assert answer.status_code == 400
    assert name in read(answer.text).one(role="alert").text
