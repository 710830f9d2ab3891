"""The Cosmos DB engine through the real SDK passes the suite of all engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest

from eventckpt import CosmosEventStore, EventStore
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import EventStoreConformance, make_event

from ..engines import catch_up
from .chains import STREAM, append_chain, headers
from .cosmos_stores import headers_of, settings_of


class TestCosmosConformance(EventStoreConformance):
    """One request for each append has a price: the engine compares an event with what is stored at its seq, and with
    nothing else. What an engine that reads the head would refuse is accepted here; `verify` finds it."""

    @pytest.fixture(autouse=True)
    async def one_container(self, account: tuple[str, str]) -> AsyncGenerator[None, None]:
        self.settings = settings_of(*account)
        async with AsyncExitStack() as self.opened:
            yield

    async def open_store(self) -> EventStore:
        return await self.opened.enter_async_context(CosmosEventStore(**self.settings))

    async def settle(self) -> None:
        catch_up(self.settings["endpoint"])

    async def test_a_gap_is_a_conflict_that_tells_the_head(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, 2)
        beyond = make_event(STREAM, 4, previous=events[-1])
        await store.append(beyond)
        assert await headers(store) == headers_of([*events, beyond])
        with pytest.raises(StreamConflict) as conflict:
            await store.append(make_event(STREAM, 4, previous=events[-1], data=b"other"))
        assert conflict.value.head == beyond.header()

    async def test_a_stream_without_events_conflicts_with_any_seq_but_one(self) -> None:
        store = await self.open_store()
        second = make_event(STREAM, 2, previous=make_event(STREAM, 1))
        await store.append(second)
        assert await headers(store) == [second.header()]

    async def test_another_previous_digest_than_the_heads_is_a_conflict(self) -> None:
        store = await self.open_store()
        events = await append_chain(store, 2)
        stranger = make_event(STREAM, 3, previous=events[0])
        await store.append(stranger)
        assert await store.read(STREAM, 3) == [stranger]
