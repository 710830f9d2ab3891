"""Lease documents: as .NET's processor writes them, and never written over what somebody else wrote."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest

from eventckpt.errors import StoreReadOnlyError
from projections import FeedRange, Lease, LeaseLostError, ProcessorOptions, open_engine
from projections.leases import Document, LeaseFormatError
from projections.processor import ChangeFeedProcessor

from ..engines import SqliteEngine
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


# Documents that others wrote

ESCAPE = "\x1b[31m\r\nforged"
WHOLE = Lease(range=FeedRange("", "FF"), continuation='"0"', attempts=2, error="old", start="now")


def with_range(low: object, high: object) -> dict[str, Any]:
    return {"FeedRange": {"Range": {"min": low, "max": high}}}


NO_LEASES: dict[str, dict[str, Any]] = {
    "no range": {"FeedRange": None},
    "a range that is text": {"FeedRange": "-FF"},
    "bounds that are a list": {"FeedRange": {"Range": ["", "FF"]}},
    "a bound that is a number": with_range(5, None),
    "a bound with control characters": with_range(ESCAPE, "FF"),
    "an empty range": with_range("FF", "FF"),
    "a range beyond all keys": with_range("", "FFFF"),
    "the range of another id": with_range("AA", "FF"),
}

ODD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "attempts that are words": (
        {"properties": {"attempts": "many"}},
        {"attempts": 0, "error": None, "start": "beginning"},
    ),
    "attempts that are a list": (
        {"properties": {"attempts": [1]}},
        {"attempts": 0, "error": None, "start": "beginning"},
    ),
    "attempts without end": (
        {"properties": {"attempts": "9" * 5000}},
        {"attempts": 0, "error": None, "start": "beginning"},
    ),
    "an error that is a list": (
        {"properties": {"error": [1], "attempts": "3"}},
        {"attempts": 3, "error": None, "start": "beginning"},
    ),
    "properties that are a list": ({"properties": [1]}, {"attempts": 0, "error": None, "start": "beginning"}),
    "properties that are text": ({"properties": "x"}, {"attempts": 0, "error": None, "start": "beginning"}),
    "an owner that is a mapping": ({"Owner": {"a": 1}}, {"owner": None}),
    "a time that is a number": ({"timestamp": 5}, {"timestamp": ""}),
    "a position that is a number": ({"ContinuationToken": 5}, {"continuation": None, "start": "beginning"}),
    "a position that is a mapping": ({"ContinuationToken": {"a": 1}}, {"continuation": None, "start": "beginning"}),
    "a position with control characters": ({"ContinuationToken": ESCAPE}, {"continuation": None, "start": "beginning"}),
    "a position without end": ({"ContinuationToken": "9" * 5000}, {"continuation": None, "start": "beginning"}),
}


async def change(rig: Rig, changes: dict[str, Any], *, processor: str = "test") -> None:
    """Write `changes` into the lease of everything, whoever else writes to it."""
    engine = open_engine(rig.writer.store)
    name = f"{processor}{await engine.feed.identity()}..-FF"
    for _ in range(100):
        rig.engine.settle()
        document = await engine.documents.read(name)
        assert document is not None
        if await engine.documents.replace({**document, **changes}, document["_etag"]) is not None:
            return
    raise AssertionError("the lease was written by somebody else each time")


@pytest.mark.parametrize("changes", NO_LEASES.values(), ids=NO_LEASES)
async def test_a_document_that_is_no_lease_is_left_out_said_once_and_written_over(
    rig: Rig, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    lease = await leases.create(WHOLE)
    assert lease is not None
    await change(rig, changes)
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert await leases.all() == []
        assert await leases.all() == []
        assert await leases.read(lease) is None
    [said] = [record.getMessage() for record in caplog.records]
    assert "-FF is no lease" in said
    assert said.isprintable()
    made = await leases.create(WHOLE)
    assert made is not None
    assert await leases.all() == [made]
    assert await leases.create(WHOLE) is None


@pytest.mark.parametrize(("changes", "read"), ODD.values(), ids=ODD)
async def test_of_a_lease_with_odd_properties_the_rest_is_read(
    rig: Rig, changes: dict[str, Any], read: dict[str, Any]
) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    lease = await leases.create(msgspec.structs.replace(WHOLE, owner="one"))
    assert lease is not None
    await change(rig, changes)
    [found] = await leases.all()
    assert msgspec.structs.replace(found, etag="") == msgspec.structs.replace(lease, etag="", **read)


@pytest.mark.parametrize("changes", [*NO_LEASES.values(), *(changes for changes, _ in ODD.values())])
@pytest.mark.calm
async def test_a_worker_starts_reads_and_stops_whatever_a_lease_says(rig: Rig, changes: dict[str, Any]) -> None:
    await rig.writer.write("a")
    first = Recorder()
    async with rig.worker(first, "one"):
        await rig.clock.until(lambda: first.handled == [("a", 1)])
    await change(rig, changes)
    await rig.writer.write("a")
    second = Recorder()
    worker = rig.worker(second, "two")
    await worker.status()
    async with worker:
        await rig.clock.until(lambda: ("a", 2) in second.handled)
    assert [lease.range for lease in await rig.leases()] == [FeedRange("", "FF")]


NO_DOCUMENTS: list[tuple[str, object]] = [
    ("document", b"{}"),
    ("document", b'{"id": "another"}'),
    ("document", b"[]"),
    ("document", b"null"),
    ("document", b"{"),
    ("document", b""),
    ("document", b"\xff"),
    ("document", b"[" * 100_000),
    ("document", "text"),
    ("document", 5),
    ("version", "words"),
    ("version", -1),
    ("version", 1.5),
    ("version", b"bytes"),
    ("version", (1 << 63) - 1),
]
"""Columns of the table of leases, and what somebody may write into them."""


@pytest.mark.parametrize(("column", "value"), NO_DOCUMENTS, ids=[f"{c} {str(v)[:20]}" for c, v in NO_DOCUMENTS])
async def test_a_worker_starts_reads_and_stops_whatever_is_in_the_rows_of_leases(
    sqlite_rig: Rig, column: str, value: object
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    first = Recorder()
    async with rig.worker(first, "one"):
        await rig.clock.until(lambda: first.handled == [("a", 1)])
    assert isinstance(rig.engine, SqliteEngine)
    with closing(sqlite3.connect(rig.engine.path)) as connection, connection:
        assert connection.execute(f"UPDATE leases SET {column} = ?", (value,)).rowcount > 1
    await rig.writer.write("a")
    second = Recorder()
    worker = rig.worker(second, "two")
    await worker.status()
    async with worker:
        await rig.clock.until(lambda: ("a", 2) in second.handled)
    [lease] = await rig.leases()
    assert (lease.range, lease.owner) == (FeedRange("", "FF"), None)
    await open_engine(rig.writer.store).leases("test").clear()
    assert await open_engine(rig.writer.store).documents.list_documents("test") == []


@pytest.mark.calm
async def test_a_worker_that_runs_goes_on_beside_a_document_that_is_no_lease(rig: Rig) -> None:
    await rig.writer.write("a")
    seen = Recorder()
    async with rig.worker(seen, "one"):
        await rig.clock.until(lambda: seen.handled == [("a", 1)])
        engine = open_engine(rig.writer.store)
        name = f"test{await engine.feed.identity()}..zzz"
        await engine.documents.create({"id": name, "LeaseToken": "zzz"})
        await change(rig, NO_LEASES["bounds that are a list"])
        await rig.clock.passes(120)
        await rig.writer.write("a")
        await rig.clock.until(lambda: ("a", 2) in seen.handled)
    assert [lease.range for lease in await rig.leases()] == [FeedRange("", "FF")]


@pytest.mark.parametrize("changes", [*NO_LEASES.values(), *(changes for changes, _ in ODD.values())])
@pytest.mark.calm
async def test_a_reset_removes_what_it_cannot_read_and_begins_where_it_was_told(
    rig: Rig, changes: dict[str, Any]
) -> None:
    engine = open_engine(rig.writer.store)
    leases = engine.leases("test")
    await leases.create(msgspec.structs.replace(WHOLE, start="beginning"))
    await leases.mark_initialised()
    await change(rig, changes)
    await engine.documents.create({"id": f"test{await engine.feed.identity()}..zzz"})
    handler = Recorder()
    await ChangeFeedProcessor(engine.feed, leases, handler, ProcessorOptions(), clock=rig.clock).reset("now")
    [lease] = await leases.all()
    assert (lease.range, lease.continuation, lease.start) == (FeedRange("", "FF"), None, "now")
    left = await engine.documents.list_documents(f"test{await engine.feed.identity()}..")
    assert [document["id"].rpartition("..")[2] for document in left] == ["-FF"]


@pytest.mark.parametrize("parked", [None, [], {"range": 5}, {"range": "-FF", "event": {"seq": ESCAPE}}])
@pytest.mark.calm
async def test_what_is_no_parked_event_is_left_out(rig: Rig, parked: object, caplog: pytest.LogCaptureFixture) -> None:
    engine = open_engine(rig.writer.store)
    document: Document = {"id": f"test{await engine.feed.identity()}.parked.x", "Parked": parked}
    await engine.documents.create(document)
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert await engine.leases("test").parked() == []
    assert [record.getMessage().isprintable() for record in caplog.records] == [True]


@pytest.mark.parametrize("change", [lambda each: {}, lambda each: {**each, "FeedRange": {}}])
def test_a_document_without_a_range_is_refused_by_name(change: Callable[[Document], Document]) -> None:
    with pytest.raises(LeaseFormatError):
        Lease.of(change(WHOLE.document("test")))
