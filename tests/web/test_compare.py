"""The page of a comparison: what `diff` says of the same two."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from eventckpt.web.page import MAX_BYTES

from ..cli.conftest import ORDER, Cli, checkpoint, order_run
from ..engines import Engine
from .html import read


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"before": "order-1@1", "after": "order-1-cp3"}, ["order-1@1", "order-1-cp3"]),
        ({"after": "order-1@3"}, ["order-1@3"]),
        ({"before": "order-1", "after": "order-2"}, ["order-1", "order-2"]),
        ({"run": "order-1"}, ["order-1"]),
        ({"run": "order-1", "seq": "1..4"}, ["order-1", "--seq", "1..4"]),
        ({"run": "order-1", "workflow": "orders", "seq": 3}, ["order-1@3"]),
    ],
)
async def test_a_comparison_says_what_diff_prints(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, query: dict[str, Any], words: list[str]
) -> None:
    await order_run(engine, steps=4)
    await order_run(engine, "order-2", steps=2)
    engine.settle()
    printed = await cli.json("diff", *words)
    assert (await viewer.get("/compare", params=query | {"format": "jsonl"})).text == printed.out
    page = read((await viewer.get("/compare", params=query)).text)
    rows = page.table("Differences").records()
    assert [(row["Change"], row["Path"]) for row in rows] == [
        (each["change"], each["path"]) for each in printed.of("difference")
    ]
    [summary] = printed.of("summary")
    counts = ", ".join(f"{summary[kind]} {kind}" for kind in ("added", "removed", "changed"))
    assert counts in page.text
    assert ORDER in page.text


async def test_of_very_many_differences_some_are_shown_and_all_are_counted(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    run, first = engine.storage().for_run("wide"), checkpoint(state={"kept": 1})
    await run.save(first)
    wide = {f'"<{n}>" {"&" * 300}': {"<&>" * 50: ['"' * 500] * 30} for n in range(5_000)}
    await run.save(checkpoint(first, state=wide))
    engine.settle()
    answer = await viewer.get("/compare", params={"run": "wide"})
    assert len(answer.content) < MAX_BYTES
    page = read(answer.text)
    assert "5,000 added, 1 removed, 0 changed" in page.text
    shown = len(page.table("Differences").rows)
    assert 0 < shown < 5_001
    assert f"{5_001 - shown:,} more are not shown" in page.text


async def test_without_names_there_is_a_form_that_asks_for_them(viewer: httpx.AsyncClient) -> None:
    page = read((await viewer.get("/compare")).text)
    assert page.form("/compare").fields == {"before": "", "after": "", "workflow": ""}


async def test_what_is_not_there_is_404_and_what_cannot_be_read_as_a_stretch_is_400(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await order_run(engine, steps=2)
    engine.settle()
    assert (await viewer.get("/compare", params={"before": "order-1@1", "after": "no"})).status_code == 404
    assert (await viewer.get("/compare", params={"run": "order-1", "seq": "1..x"})).status_code == 400
    assert (await viewer.get("/compare", params={"run": "order-1", "workflow": "orders", "seq": 9})).status_code == 404
