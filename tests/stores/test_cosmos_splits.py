"""Partitions that split and merge under what is read and written."""

from __future__ import annotations

import pytest

from eventckpt import CosmosCheckpointStorage, CosmosEventStore, StreamId
from eventckpt.stores.cosmos import container

from ..cosmos_emulator import CosmosEmulator
from ..engines import COSMOS_DATABASE as DATABASE
from .chains import append_chain, headers
from .cosmos_stores import WORKFLOW, Settings, checkpoint, headers_of, on_request, saves, verified, workflow_headers

pytestmark = pytest.mark.slow  # every partition change in the middle of every listing


@pytest.mark.parametrize("change", ["split", "merge"])
@pytest.mark.parametrize("nth", [1, 2, 4])
async def test_a_partition_that_changes_in_the_middle_of_a_listing_loses_and_doubles_nothing(
    emulator: CosmosEmulator, settings: Settings, monkeypatch: pytest.MonkeyPatch, change: str, nth: int
) -> None:
    monkeypatch.setattr(container, "PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings.PAGE", 7)
    monkeypatch.setattr("eventckpt.stores.cosmos.listings._NEWEST", 7)
    place = (DATABASE, settings["container_name"])
    async with CosmosEventStore(**settings) as store:
        await append_chain(store, 1, stream=StreamId("another", "run"))
        if change == "merge":
            emulator.split(*place)
        chains = [await append_chain(store, 10, stream=StreamId("workflow", f"run {n}")) for n in range(6)]
        everything = headers_of([event for chain in chains for event in chain])

        def move() -> None:
            if change == "split":
                emulator.split(*place, emulator.ranges(*place)[0])
            elif len(ranges := emulator.ranges(*place)) > 1:
                emulator.merge(*place, *ranges[:2])

        for listing, expected in (
            (lambda: headers(store, chains[0][0].stream), headers_of(chains[0])),
            (lambda: headers(store, chains[0][0].stream, desc=True), headers_of(chains[0])[::-1]),
            (lambda: workflow_headers(store, desc=True), everything[::-1]),
            (lambda: workflow_headers(store), everything),
        )[: 3 if change == "merge" else 4]:  # over a merge, the emulator cannot continue a query that sorts nothing
            on_request(emulator, "query", move, nth=nth)
            assert await listing() == expected
            emulator.faults.clear()
            if change == "merge":
                emulator.split(*place, emulator.ranges(*place)[0])


async def test_a_partition_that_splits_in_the_middle_of_a_load_or_an_append_goes_unnoticed(
    emulator: CosmosEmulator, settings: Settings
) -> None:
    place = (DATABASE, settings["container_name"])

    def split() -> None:
        emulator.split(*place, emulator.ranges(*place)[-1])

    async with CosmosCheckpointStorage(**settings) as storage:
        saved = await saves(storage.for_run("r"), 3)
    for kind in ("query", "read_item"):
        async with CosmosCheckpointStorage(**settings) as storage:
            on_request(emulator, kind, split)
            for each in saved:
                assert await storage.load(each.checkpoint_id) == each
            emulator.faults.clear()
    async with CosmosCheckpointStorage(**settings) as storage:
        run = storage.for_run("r")
        assert await run.get_latest(workflow_name=WORKFLOW) == saved[-1]
        on_request(emulator, "create_item", split)
        saved.append(checkpoint(saved[-1]))
        await run.save(saved[-1])
        events = await verified(storage.store, StreamId(WORKFLOW, "r"))
        assert [event.checkpoint_id for event in events] == [each.checkpoint_id for each in saved]
    assert len(emulator.ranges(*place)) == 4
