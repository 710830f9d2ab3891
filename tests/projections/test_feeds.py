"""The feeds, the private format of the SDK's continuation, and the arithmetic of ranges."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from eventckpt import StreamId
from eventckpt.stores import AuditStore
from eventckpt.stores.change_feed import EVERYTHING, FeedRangeGoneError
from eventckpt.stores.cosmos.continuation import sdk_continuation, sdk_range
from projections import FeedRange, open_engine

from .rig import WORKFLOW, Rig


@pytest.mark.calm
async def test_a_feed_gives_headers_page_by_page_and_says_how_much_is_left(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    feed = open_engine(rig.writer.store).feed
    first = await feed.read(EVERYTHING, None, start="beginning", limit=2)
    second = await feed.read(EVERYTHING, first.continuation, start="beginning", limit=2)
    third = await feed.read(EVERYTHING, second.continuation, start="beginning", limit=2)
    assert [[event.seq for event in page.events] for page in (first, second, third)] == [[1, 2], [3], []]
    assert [page.behind for page in (first, second, third)] == [1, 0, 0]
    assert all(event.payload and event.payload.data == b"" for event in first.events)
    assert third.continuation == second.continuation


@pytest.mark.calm
async def test_what_lies_beside_the_events_is_not_in_the_feed(cosmos_rig: Rig) -> None:
    await cosmos_rig.writer.write("a", data=bytes(range(256)) * 4000)
    page = await open_engine(cosmos_rig.writer.store).feed.read(EVERYTHING, None, start="beginning", limit=10)
    assert [event.seq for event in page.events] == [1]
    assert page.charge > 0


@pytest.mark.calm
async def test_markers_are_in_no_page_as_events_and_are_read_past(cosmos_rig: Rig) -> None:
    """A removal replaces items, which the feed gives like any other change."""
    store = cosmos_rig.writer.store
    assert isinstance(store, AuditStore)
    await cosmos_rig.writer.write("a", count=30)
    feed = open_engine(store).feed
    page = await feed.read(EVERYTHING, None, start="beginning", limit=100)
    assert ([event.seq for event in page.events], page.behind) == (list(range(1, 31)), 0)
    await store.remove(StreamId(WORKFLOW, "a"), range(1, 30))
    assert await feed.lag(EVERYTHING, page.continuation, start="beginning") == 29
    seen: list[int] = []
    while page.behind or not seen:
        page = await feed.read(EVERYTHING, page.continuation, start="beginning", limit=10)
        assert page.events == []
        seen.append(page.behind)
    assert seen == [19, 9, 0]
    assert await feed.lag(EVERYTHING, page.continuation, start="beginning") == 0
    await cosmos_rig.writer.write("a")
    page = await feed.read(EVERYTHING, page.continuation, start="beginning", limit=10)
    assert ([event.seq for event in page.events], page.behind) == ([31], 0)
    anew = await feed.read(EVERYTHING, None, start="beginning", limit=100)
    assert [event.seq for event in anew.events] == [30, 31]


@pytest.mark.calm
async def test_a_page_that_was_read_during_a_split_is_thrown_away(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a", "b", "c", "d", count=3)
    feed = open_engine(rig.writer.store).feed
    page = await feed.read(EVERYTHING, None, start="beginning", limit=1)
    rig.emulator.split(*rig.place, "0")
    with pytest.raises(FeedRangeGoneError) as gone:
        await feed.read(EVERYTHING, page.continuation, start="beginning", limit=100)
    found = [
        (event.run_id, event.seq)
        for part in gone.value.ranges
        for event in (await feed.read(part, page.continuation, start="beginning", limit=100)).events
    ]
    assert len(found) == len(set(found)) == 11


@pytest.mark.calm
async def test_faults_that_pass_are_not_noticed(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a", count=3)
    feed = open_engine(rig.writer.store).feed
    for status in (503, 449, 408):
        with rig.emulator.faults.respond(status, kind="change_feed", times=1) as rule:
            page = await feed.read(EVERYTHING, None, start="beginning", limit=100)
        assert (len(page.events), rule.hits) == (3, 1)


@pytest.mark.calm
async def test_the_continuation_is_the_one_that_the_sdk_makes(cosmos_rig: Rig) -> None:
    """A contract test: if a new version of the SDK changes its private format, this fails first."""
    rig = cosmos_rig
    await rig.writer.write("a", count=3)
    container: Any = await rig.writer.store.container()
    etags: list[str] = []
    pages = container.query_items_change_feed(
        feed_range=sdk_range(EVERYTHING),
        start_time="Beginning",
        max_item_count=2,
        response_hook=lambda headers, _: etags.append(headers["etag"]),
    ).by_page()
    assert [item["seq"] async for item in await anext(pages)] == [1, 2]
    ours = sdk_continuation((await container.read())["_rid"], EVERYTHING, etags[-1])
    assert decoded(ours) == decoded(pages.continuation_token)
    rest = container.query_items_change_feed(continuation=ours)
    assert [item["seq"] async for item in rest] == [3]


def decoded(continuation: str) -> Any:
    return json.loads(base64.b64decode(continuation))


def test_ranges_are_cut_at_every_bound_inside_them() -> None:
    assert FeedRange("20", "80").cut([FeedRange("", "40"), FeedRange("40", "FF")]) == [
        FeedRange("20", "40"),
        FeedRange("40", "80"),
    ]
    assert EVERYTHING.cut([EVERYTHING]) == [EVERYTHING]


def test_what_is_left_of_a_range_is_what_nothing_covers() -> None:
    assert EVERYTHING.without([FeedRange("40", "60"), FeedRange("", "20"), FeedRange("10", "30")]) == [
        FeedRange("30", "40"),
        FeedRange("60", "FF"),
    ]
    assert EVERYTHING.without([EVERYTHING]) == []
    assert EVERYTHING.without([]) == [EVERYTHING]
