"""The tests that every engine passes whose events a processor can follow. Used like those of `event_store`."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import pytest

from ..errors import CheckpointStoreError
from ..events import CheckpointEvent, StreamId
from ..stores import AuditStore, EventStore
from ..stores.change_feed import EVERYTHING, ChangeFeed, FeedPage, FeedRange, ForeignPositionError, Start
from .events import MANY, STREAM, append_chain, make_event, noise, record_of

__all__ = ["ChangeFeedConformance", "all_events"]

_MOST_PAGES: Final = 5_000
"""More pages than any case has to read: a feed that never comes to its end fails rather than hangs."""


class ChangeFeedConformance:
    """The cases for `ChangeFeed`. Used like `EventStoreConformance`."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    # Ranges

    async def test_the_ranges_cover_everything_and_no_two_have_a_key_in_common(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 1)
        ranges = await store.change_feed().ranges()
        assert EVERYTHING.without(ranges) == []
        assert all(EVERYTHING.contains(each) and each.min < each.max for each in ranges)
        assert not any(one.overlaps(other) for one, other in combinations(ranges, 2))

    async def test_the_feed_is_the_same_one_for_every_store(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 1)
        await self.settle()
        feeds = [store.change_feed(), store.change_feed(), (await self.open_store()).change_feed()]
        names = {await feed.identity() for feed in feeds}
        assert len(names) == 1
        assert all(names)
        assert len({tuple(await feed.ranges()) for feed in feeds}) == 1

    async def test_a_run_lies_in_one_range(self) -> None:
        store = await self.open_store()
        for number in range(20):
            await append_chain(store, StreamId("workflow", f"run {number}"), 3)
        await self.settle()
        feed = store.change_feed()
        ranges_of: defaultdict[str, set[FeedRange]] = defaultdict(set)
        for each in await feed.ranges():
            for event in (await _read_on(feed, each, None))[0]:
                ranges_of[event.run_id].add(each)
        assert [len(found) for found in ranges_of.values()] == [1] * 20

    # Pages

    async def test_a_store_without_events_gives_an_empty_last_page_to_read_on_from(self) -> None:
        store = await self.open_store()
        feed = store.change_feed()
        ranges = await feed.ranges()
        pages = [await feed.read(each, None, start="beginning", limit=10) for each in ranges]
        assert [(list(page.events), page.behind) for page in pages] == [([], 0)] * len(ranges)
        events = await append_chain(store, STREAM, 2)
        await self.settle()
        found = [await _read_on(feed, each, page) for each, page in zip(ranges, pages, strict=True)]
        assert [event for given, _ in found for event in given] == [event.header() for event in events]

    @pytest.mark.parametrize("limit", [1, 7, 1000])
    async def test_each_event_is_given_once_in_the_order_of_its_run_in_pages_of_any_size(self, limit: int) -> None:
        store, other = await self.open_store(), await self.open_store()
        heads: dict[int, CheckpointEvent] = {}
        expected: defaultdict[str, list[CheckpointEvent]] = defaultdict(list)
        for step in range(30):
            number = step * 7 % 4
            head = heads.get(number)
            event = make_event(StreamId("workflow", f"run {number}"), head.seq + 1 if head else 1, previous=head)
            heads[number] = event
            await (store, other)[number % 2].append(event)
            expected[event.run_id].append(event.header())
        await self.settle()
        found = await all_events(store.change_feed(), limit=limit)
        assert len(found) == 30
        for run, events in expected.items():
            assert [event for event in found if event.run_id == run] == events

    async def test_many_events_are_all_given(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, MANY, data=b"")
        await self.settle()
        assert await all_events(store.change_feed(), limit=100) == [event.header() for event in events]

    async def test_a_page_has_headers_alone_whatever_the_payload_and_tombstones_too(self) -> None:
        store = await self.open_store()
        large = make_event(STREAM, 1, data=noise(1_500_000))
        gone = make_event(STREAM, 2, previous=large, type="tombstone", checkpoint_id=large.checkpoint_id)
        for event in (large, gone):
            await store.append(event)
        await self.settle()
        first, second = await all_events(store.change_feed(), limit=10)
        assert second == gone.header()
        assert first.digest == large.digest
        assert first.payload is not None
        assert (first.payload.data, first.payload.stored_size) == (b"", 1_500_000)

    async def test_names_of_any_characters_come_out_as_they_went_in(self) -> None:
        store = await self.open_store()
        names = [
            StreamId("a|b", "c"),
            StreamId("a", "b|c"),
            StreamId("工作流", "🚀" * 255),
            StreamId("%", "'; --"),
            StreamId("w" * 2000, "\x00\n"),
        ]
        for name in names:
            await append_chain(store, name, 2)
        await self.settle()
        found = [(event.stream, event.seq) for event in await all_events(store.change_feed(), limit=10)]
        assert sorted(found) == sorted((name, seq) for name in names for seq in (1, 2))

    # Continuations

    async def test_a_continuation_is_good_for_reading_again_later_and_by_another_store(self) -> None:
        store = await self.open_store()
        events = [event.header() for event in await append_chain(store, STREAM, 6)]
        await self.settle()
        feed, other = store.change_feed(), (await self.open_store()).change_feed()
        page = await _first_page(feed, limit=2)
        given = list(page.page.events)
        assert given == events[: len(given)]
        for _ in range(2):
            for reader in (feed, other):
                rest, _ = await _read_on(reader, page.range, page.page)
                assert given + rest == events
        seventh = make_event(STREAM, 7, previous=events[-1])
        await store.append(seventh)
        await self.settle()
        rest, _ = await _read_on(other, page.range, page.page)
        assert given + rest == [*events, seventh.header()]

    async def test_the_end_of_the_feed_is_a_place_to_read_on_from(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        await self.settle()
        feed = store.change_feed()
        ends = {each: (await _read_on(feed, each, None))[1] for each in await feed.ranges()}
        for _ in range(3):
            for each, end in ends.items():
                found, ends[each] = await _read_on(feed, each, end)
                assert found == []
        fourth = make_event(STREAM, 4, previous=events[-1])
        await store.append(fourth)
        await self.settle()
        found = [event for each, end in ends.items() for event in (await _read_on(feed, each, end))[0]]
        assert found == [fourth.header()]

    async def test_who_starts_now_is_given_nothing_from_before_and_all_that_comes_after(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        await self.settle()
        feed = store.change_feed()
        starts = {each: await feed.read(each, None, start="now", limit=10) for each in await feed.ranges()}
        assert [list(page.events) for page in starts.values()] == [[]] * len(starts)
        later = [make_event(STREAM, 4, previous=events[-1]), make_event(StreamId("workflow", "other"), 1)]
        for event in later:
            await store.append(event)
        await self.settle()
        found = [event for each, page in starts.items() for event in (await _read_on(feed, each, page, start="now"))[0]]
        assert sorted(event.digest for event in found) == sorted(event.digest for event in later)

    @pytest.mark.parametrize(
        "position",
        ["", " ", "x", "-1", "1.5", "1 OR 1=1", "'", '"', "0x10", "٣", str(10**30), "\x00", "[]", "🚀", "null", "1\n2"],
        ids=ascii,
    )
    async def test_a_text_that_is_no_position_is_refused_by_name(self, position: str) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 2)
        await self.settle()
        feed = store.change_feed()
        for each in await feed.ranges():
            with pytest.raises(ForeignPositionError):
                await feed.read(each, position, start="beginning", limit=10)
            with pytest.raises(ForeignPositionError):
                await feed.lag(each, position, start="beginning")
        assert len(await all_events(feed, limit=10)) == 2

    async def test_a_position_beyond_the_end_is_refused_where_positions_are_numbers(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 2)
        await self.settle()
        feed = store.change_feed()
        page = await _first_page(feed, limit=10)
        beyond = re.sub(r"[0-9]+", lambda found: str(int(found[0]) + 1000), page.page.continuation)
        if beyond == page.page.continuation:
            pytest.skip("the feed's positions are no numbers")
        with pytest.raises(ForeignPositionError):
            await feed.read(page.range, beyond, start="beginning", limit=10)

    async def test_a_position_behind_another_event_than_its_witness_is_refused(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 2)
        await self.settle()
        feed = store.change_feed()
        page = await _first_page(feed, limit=10)
        if page.page.witness is None:
            pytest.skip("the feed has no witnesses")
        with pytest.raises(ForeignPositionError):
            await feed.read(page.range, page.page.continuation, start="beginning", limit=10, witness="of another log")

    # Lag

    async def test_the_lag_counts_what_is_left_and_is_nothing_at_the_end(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 10)
        await self.settle()
        feed = store.change_feed()
        page = await _first_page(feed, limit=3)
        left = len(events) - len(page.page.events)
        assert page.page.behind >= left > 0
        assert await feed.lag(page.range, None, start="beginning") >= 10
        at_first = await feed.lag(page.range, page.page.continuation, start="beginning")
        assert at_first >= left
        _, end = await _read_on(feed, page.range, page.page)
        assert (end.behind, await feed.lag(page.range, end.continuation, start="beginning")) == (0, 0)
        assert await feed.lag(page.range, None, start="now") == 0
        await store.append(make_event(STREAM, 11, previous=events[-1]))
        await self.settle()
        assert 1 <= await feed.lag(page.range, end.continuation, start="beginning") < at_first

    async def test_asking_for_the_lag_takes_nothing_out_of_the_feed(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 4)
        await self.settle()
        feed = store.change_feed()
        for each in await feed.ranges():
            for start in ("beginning", "now"):
                await feed.lag(each, None, start=start)
        assert await all_events(feed, limit=3) == [event.header() for event in events]

    # Beside others

    async def test_what_is_appended_while_the_feed_is_read_is_given_once_and_in_order(self) -> None:
        store, writer = await self.open_store(), await self.open_store()
        streams = [StreamId("workflow", f"run {number}") for number in range(8)]
        await store.append(make_event(StreamId("workflow", "opens the store"), 1))
        await self.settle()
        feed = store.change_feed()
        ends: dict[FeedRange, FeedPage | None] = dict.fromkeys(await feed.ranges())
        found: list[CheckpointEvent] = []
        writing = asyncio.gather(*(append_chain(writer, stream, 5) for stream in streams))
        for _ in range(_MOST_PAGES):
            is_last_look = writing.done()
            if is_last_look:
                await self.settle()
            for each, end in ends.items():
                given, ends[each] = await _read_on(feed, each, end, limit=5)
                found += given
            if is_last_look:
                break
            await asyncio.sleep(0)  # the turn of those who append, where an engine never waits
        assert sorted((event.run_id, event.seq) for event in found) == sorted(
            [("opens the store", 1), *((stream.run_id, seq) for stream in streams for seq in range(1, 6))]
        )
        for stream in streams:
            assert [event.seq for event in found if event.stream == stream] == [1, 2, 3, 4, 5]
        await writing

    async def test_a_removal_is_no_news_and_spoils_no_position(self) -> None:
        store = await self.open_store()
        if not isinstance(store, AuditStore):
            pytest.skip("nothing is ever removed from such a store")
        events = await append_chain(store, STREAM, 6)
        await self.settle()
        feed = store.change_feed()
        page = await _first_page(feed, limit=2)
        _, end = await _read_on(feed, page.range, page.page)
        record = record_of(events[-1], events[:5])
        await store.append(record)
        assert await store.remove(STREAM, range(1, 6)) == 5
        await self.settle()
        found, _ = await _read_on(feed, page.range, end)
        assert found == [record.header()]
        rest, _ = await _read_on(feed, page.range, page.page)
        assert rest == [events[-1].header(), record.header()]
        assert await all_events(feed, limit=2) == rest

    async def test_a_cancelled_read_leaves_the_feed_usable(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, STREAM, 3)
        await self.settle()
        feed = store.change_feed()
        (*_, one) = await feed.ranges()
        tasks = [asyncio.create_task(feed.read(one, None, start="beginning", limit=9)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, FeedPage) for outcome in outcomes[1::2])
        assert await all_events(feed, limit=9) == [event.header() for event in events]

    async def test_the_feed_of_a_closed_store_refuses_further_work(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 1)
        feed = store.change_feed()
        (*_, one) = await feed.ranges()
        await store.close()
        with pytest.raises(CheckpointStoreError):
            await feed.read(one, None, start="beginning", limit=9)
        with pytest.raises(CheckpointStoreError):
            await feed.lag(one, None, start="beginning")


class _PageOf:
    """The first page with events, and its range."""

    def __init__(self, feed_range: FeedRange, page: FeedPage) -> None:
        self.range = feed_range
        self.page = page


async def _first_page(feed: ChangeFeed, *, limit: int) -> _PageOf:
    for each in await feed.ranges():
        page = await feed.read(each, None, start="beginning", limit=limit)
        for _ in range(_MOST_PAGES):
            if page.events:
                assert len(page.events) <= limit, "each event was committed by itself"
                return _PageOf(each, page)
            if not page.behind:
                break
            page = await feed.read(each, page.continuation, start="beginning", limit=limit)
    pytest.fail("the feed has no events")


async def _read_on(
    feed: ChangeFeed, feed_range: FeedRange, after: FeedPage | None, *, limit: int = 100, start: Start = "beginning"
) -> tuple[list[CheckpointEvent], FeedPage]:
    """What a range has after a page, or from its beginning, up to its end; and the last page."""
    found: list[CheckpointEvent] = []
    for _ in range(_MOST_PAGES):
        known = {} if after is None or after.witness is None else {"witness": after.witness}
        continuation = None if after is None else after.continuation
        after = await feed.read(feed_range, continuation, start=start, limit=limit, **known)
        assert after.continuation, "a page says where to read on"
        found += after.events
        if not after.behind:
            return found, after
    pytest.fail("the feed never comes to its end")


async def all_events(feed: ChangeFeed, *, limit: int) -> Sequence[CheckpointEvent]:
    """All that a feed gives, in pages of `limit`."""
    return [event for each in await feed.ranges() for event in (await _read_on(feed, each, None, limit=limit))[0]]
