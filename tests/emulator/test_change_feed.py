"""The emulator's change feed of the newest versions: its order, its pages, its ranges, and where it begins."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import (
    CosmosHttpResponseError,
)

from tests.cosmos_emulator import CosmosEmulator
from tests.cosmos_emulator.clock import Clock

from .sdk import feed, fill, ids, last


async def test_the_feed_shows_each_item_once_in_the_order_of_its_last_write(
    emulator: CosmosEmulator, one: ContainerProxy
) -> None:
    before = emulator.container("shop", "one").partitions[0].lsn
    for name in "abc":
        await one.create_item({"id": name, "pk": "p"})
    await one.upsert_item({"id": "a", "pk": "p", "again": True})
    await one.delete_item("b", "p")
    items, token = await feed(one, start_time="Beginning")
    assert [(item["id"], item["_lsn"]) for item in items] == [("c", before + 3), ("a", before + 4)]
    assert (await feed(one, continuation=token))[0] == []
    await one.create_item({"id": "d", "pk": "p"})
    assert ids((await feed(one, continuation=token))[0]) == ["d"]


async def test_the_feed_can_begin_now_or_at_a_time(one: ContainerProxy, clock: Clock) -> None:
    await one.create_item({"id": "early", "pk": "p"})
    nothing, token = await feed(one, start_time="Now")
    clock.now += 100
    await one.create_item({"id": "late", "pk": "p"})
    assert nothing == []
    assert ids((await feed(one, continuation=token))[0]) == ["late"]
    at = datetime.fromtimestamp(clock.now - 50, UTC)
    assert ids((await feed(one, start_time=at))[0]) == ["late"]


async def test_the_feed_comes_in_pages_that_never_cut_a_transaction(one: ContainerProxy) -> None:
    await one.execute_item_batch([("create", ({"id": f"b{n}", "pk": "p"},)) for n in range(5)], "p")
    await one.create_item({"id": "single", "pk": "p"})
    pages = one.query_items_change_feed(start_time="Beginning", max_item_count=2).by_page()
    sizes = [len([item async for item in page]) async for page in pages]
    assert sizes == [5, 1]


async def test_the_feed_of_a_range_and_of_a_key(many: ContainerProxy) -> None:
    items = await fill(many)
    ranges = [each async for each in many.read_feed_ranges()]
    by_range = [ids((await feed(many, feed_range=each, start_time="Beginning"))[0]) for each in ranges]
    assert sorted(name for names in by_range for name in names) == ids(items)
    by_key, _ = await feed(many, partition_key="p3", start_time="Beginning")
    assert [item["n"] for item in by_key] == [3, 10, 17]


async def test_an_empty_feed_answers_304_with_an_etag(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    etags: list[str] = []
    feed_of = one.query_items_change_feed(
        start_time="Beginning", response_hook=lambda headers, _: etags.append(headers["etag"])
    )
    assert [item async for item in feed_of] == []
    assert last(emulator, "change_feed").status == 304
    assert etags[0] == f'"{emulator.container("shop", "one").partitions[0].lsn}"'


async def test_a_reader_goes_on_after_a_split_and_a_merge(emulator: CosmosEmulator, one: ContainerProxy) -> None:
    await fill(one, count=10)
    (whole,) = [each async for each in one.read_feed_ranges()]
    seen, token = await feed(one, feed_range=whole, start_time="Beginning")
    children = emulator.split("shop", "one", "0")
    for n in range(10, 30):
        await one.create_item({"id": f"i{n:03}", "pk": f"p{n % 7}", "n": n})
    after_split, token = await feed(one, continuation=token)
    assert sorted(ids(seen + after_split)) == [f"i{n:03}" for n in range(30)]
    emulator.merge("shop", "one", *children)
    await one.create_item({"id": "i030", "pk": "p0"})
    after_merge, _ = await feed(one, continuation=token)
    assert ids(after_merge) == ["i030"]


async def test_versions_and_deletes_are_kept_only_where_asked_for(one: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError, match="keeps no versions") as refused:
        await feed(one, mode="AllVersionsAndDeletes")
    assert refused.value.status_code == 400
