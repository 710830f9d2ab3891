"""A container that is deleted under a worker is an outage: nothing counts against the events that wait meanwhile."""

from __future__ import annotations

from typing import Any, cast

import pytest

from eventckpt import StoreFormatError, StoreMissingError
from eventckpt.stores.cosmos import container
from projections import LatestProjection
from projections.retry import Verdict, verdict_on

from .rig import Recorder, Rig


@pytest.fixture(autouse=True)
def _long_after_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "SETTLING", 0.0)


async def delete(rig: Rig, suffix: str) -> None:
    """Delete a container of the store; the events' own has no suffix."""
    database, name = rig.place
    events: Any = await cast(Any, rig.writer.store).container()
    await events.client_connection.DeleteContainer(f"dbs/{database}/colls/{name}{suffix}")


@pytest.mark.parametrize("on_error", ["park", "stop"])
@pytest.mark.parametrize("events", [1, 3])
async def test_no_event_is_parked_and_no_range_stopped_where_the_documents_have_no_container(
    cosmos_rig: Rig, on_error: str, events: int
) -> None:
    rig = cosmos_rig
    await rig.writer.write("a")
    store = rig.engine.open()
    projection = LatestProjection(store)
    seen = Recorder(projection.apply)
    async with rig.worker(seen, on_error=on_error, max_attempts=1, acquire_interval=1000.0) as worker:
        await rig.clock.until(lambda: len(seen.handled) == 1)
        await delete(rig, "-projections")
        await rig.writer.write("a", count=events)
        await rig.clock.until(lambda: worker.stats["-FF"].outages == 3)
        [trouble] = worker.troubles
        assert "handler" in trouble.what
        assert "-projections' of database" in trouble.why
        assert [view.state for view in worker.ranges] == ["held"]
        assert await worker.parked() == []
    [lease] = await rig.leases()
    assert (lease.attempts, lease.state) == (0, "free")


async def test_a_container_that_is_none_of_ours_is_a_fault_that_does_not_pass(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a")
    await rig.writer.store.run_store().active()
    await delete(rig, "-projections")
    database, name = rig.place
    events: Any = await cast(Any, rig.writer.store).container()
    other = {"id": f"{name}-projections", "partitionKey": {"paths": ["/other"], "kind": "Hash", "version": 2}}
    await events.client_connection.CreateContainer(f"dbs/{database}", other)
    with pytest.raises(StoreFormatError) as refused:
        await rig.engine.open().run_store().active()
    assert not isinstance(refused.value, StoreMissingError)
    assert verdict_on(refused.value) is Verdict.COUNTS
