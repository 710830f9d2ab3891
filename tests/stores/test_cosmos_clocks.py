"""Clocks of machines and of the service that disagree, or stand still, change no order."""

from __future__ import annotations

import msgspec

from eventckpt import CheckpointEvent, CosmosEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.stores.conformance import make_event

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM, headers
from .cosmos_stores import headers_of, settings_of, workflow_headers


async def test_clocks_that_disagree_change_neither_the_order_of_a_run_nor_what_is_newest() -> None:
    async with CosmosEmulator(clock=lambda: 1_800_000_000.0) as emulator:  # every write in one second
        settings = settings_of(emulator.endpoint, emulator.key)
        async with CosmosEventStore(**settings) as one, CosmosEventStore(**settings) as other:
            events: list[CheckpointEvent] = []
            for seq, moment in enumerate(("2031", "2021", "2021", "2035", "1999", "2035"), 1):
                event = make_event(STREAM, seq, previous=events[-1] if events else None, checkpoint_id=f"c{seq % 2}")
                event = sealed(msgspec.structs.replace(event, timestamp=moment, recorded_at=moment))
                await (one, other)[seq % 2].append(event)
                events.append(event)
            elsewhere = make_event(StreamId("workflow", "elsewhere"), 1)
            elsewhere = sealed(msgspec.structs.replace(elsewhere, timestamp="2033"))
            await one.append(elsewhere)
            emulator.catch_up()
            for store in (one, other):
                assert await headers(store) == headers_of(events)
                assert await headers(store, desc=True) == headers_of(events)[::-1]
                both = await workflow_headers(store)
                assert [header for header in both if header.stream == STREAM] == headers_of(events)
                assert await workflow_headers(store, desc=True) == both[::-1]
                for stream in (None, STREAM):
                    assert await store.find("c0", stream=stream) == (events[5], events[5].header())
                    assert await store.find("c1", stream=stream) == (events[4], events[5].header())
