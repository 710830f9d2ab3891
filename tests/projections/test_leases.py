"""Lease documents: as .NET's processor writes them, and never written over what somebody else wrote."""

from __future__ import annotations

import msgspec
import pytest

from eventckpt.errors import StoreReadOnlyError
from projections import FeedRange, Lease, LeaseLostError, open_engine

from .rig import Recorder, Rig


async def test_a_lease_is_the_document_that_the_estimator_and_keda_read(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a")
    seen = Recorder()
    async with rig.worker(seen, "one", processor="projector"):
        await rig.clock.until(lambda: bool(seen.handled))
        [lease] = await rig.leases("projector")
    database, container = rig.place
    leases = rig.emulator.container(database, f"{container}-leases")
    events = rig.emulator.container(database, container)
    documents = {item.id: item.body for partition in leases.partitions for item in partition.items()}
    database_rid = (await database_of(rig))["_rid"]
    name = f"projector127.0.0.1_{database_rid}_{events.rid}"
    place = f'"{events.partitions[0].lsn}"'
    document = {key: value for key, value in documents[f"{name}..-FF"].items() if not key.startswith("_")}
    assert document == {
        "id": f"{name}..-FF",
        "version": 1,
        "LeaseToken": "-FF",
        "FeedRange": {"Range": {"min": "", "max": "FF"}},
        "Owner": None,
        "ContinuationToken": place,
        "properties": {},
        "timestamp": document["timestamp"],
        "Mode": "Incremental Feed",
    }
    assert lease.continuation == place
    others = {name for name, body in documents.items() if "LeaseToken" not in body}
    assert others == {f"{name}.info"}
    assert leases.document["partitionKey"]["paths"] == ["/id"]


async def database_of(rig: Rig) -> dict[str, str]:
    from azure.cosmos.aio import CosmosClient

    async with CosmosClient(rig.emulator.endpoint, rig.emulator.key) as client:
        return await client.get_database_client(rig.place[0]).read()


async def test_everything_in_a_lease_survives_being_written(rig: Rig) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    lease = Lease(
        range=FeedRange("", "FF"),
        owner="one",
        continuation='"7"',
        start="now",
        attempts=3,
        error="RuntimeError: poison",
        stopped=True,
        wanted_by="two",
        timestamp="2026-01-01T00:00:00Z",
    )
    await leases.create(lease)
    [read] = await leases.all()
    assert msgspec.structs.replace(read, etag="") == lease


async def test_of_two_writes_over_one_state_the_second_is_refused(rig: Rig) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    lease = await leases.create(Lease(range=FeedRange("", "FF")))
    assert lease is not None
    assert await leases.create(Lease(range=FeedRange("", "FF"))) is None
    written = await leases.replace(msgspec.structs.replace(lease, owner="one"))
    with pytest.raises(LeaseLostError):
        await leases.replace(msgspec.structs.replace(lease, owner="two"))
    assert not await leases.delete(lease)
    assert await leases.delete(written)
    assert await leases.delete(written)
    with pytest.raises(LeaseLostError):
        await leases.replace(written)
    assert await leases.read(written) is None


async def test_clearing_removes_one_processor_and_no_other(rig: Rig) -> None:
    engine = open_engine(rig.writer.store)
    for name in ("one", "other"):
        await engine.leases(name).create(Lease(range=FeedRange("", "FF")))
        await engine.leases(name).mark_initialised()
    await engine.leases("one").clear()
    assert await engine.leases("one").all() == []
    assert not await engine.leases("one").initialised()
    assert len(await engine.leases("other").all()) == 1


async def test_an_identity_that_may_not_delete_is_told_at_the_start(cosmos_rig: Rig) -> None:
    with cosmos_rig.emulator.faults.respond(403, kind="delete_item"), pytest.raises(StoreReadOnlyError, match="delete"):
        await cosmos_rig.worker(Recorder()).start()
