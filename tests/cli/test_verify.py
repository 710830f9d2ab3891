"""`verify` and `doctor`: whatever is changed, removed or reordered in a store is caught, and named."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient

from eventckpt import CheckpointAudit, CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import SCHEMA, SCHEMA_OF_MIGRATIONS, Annotation, Migration
from eventckpt.runs import fold
from eventckpt.stores.conformance import make_event

from ..audit import deleting
from ..conftest import cosmos_account
from ..engines import CosmosEngine, Engine, SqliteEngine
from .conftest import ORDER, WORKFLOW, Cli, checkpoint, order_run

RUN = StreamId("workflow", "run")


async def full_run(engine: Engine) -> list[CheckpointEvent]:
    """A run of five events in which every field is set somewhere: it forked from another run, was migrated, has a
    tombstone, and something was said about it."""
    store = engine.open()
    origin = make_event(StreamId("workflow", "origin"), 1)
    first = make_event(RUN, 1, previous=origin)
    second = on_the_first(make_event(RUN, 2, previous=first, data=bytes(range(200))))
    third = on_the_first(migrated(make_event(RUN, 3, previous=second)))
    last = make_event(RUN, 4, previous=third, type="tombstone", checkpoint_id=first.checkpoint_id)
    said = about(make_event(RUN, 5, previous=last, type="tombstone"))
    for event in (origin, first, second, third, last, said):
        await store.append(event)
    return [origin, first, second, third, last, said]


async def removed_run(engine: Engine) -> list[CheckpointEvent]:
    """What is left of a run that was removed as a whole: the record that closes it, and what tells of it."""
    await deleting.saved(engine, "gone", steps=1)
    store = deleting.opened(engine)
    await deleting.delete(store, "gone", reason="why", archive="a.jsonl", archive_sha256="ab" * 32)
    return [event for log in (await deleting.logs(store)).values() for event in log if event.closes or event.removal]


def about(event: CheckpointEvent) -> CheckpointEvent:
    """The event as one that says something about its run, under a claim, in a trace."""
    said = Annotation(outcome="failed", reason="why", tags={"customer": "c-17"}, hold=True)
    fields = {"checkpoint_id": "", "annotation": said, "claim": 2, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    return sealed(msgspec.structs.replace(event, **fields))


def migrated(event: CheckpointEvent) -> CheckpointEvent:
    """The event as one that a migration wrote."""
    migration = Migration(name="shop:v3", graph_before="graph")
    return sealed(msgspec.structs.replace(event, migration=migration, schema=SCHEMA_OF_MIGRATIONS))


def on_the_first(event: CheckpointEvent) -> CheckpointEvent:
    """The event as a delta against the run's first, which is a snapshot."""
    assert event.payload is not None
    return sealed(msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, base_seq=1)))


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each leaf of what a header is made of."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))
    else:
        yield path


def changed_at(value: Any, path: tuple[str | int, ...]) -> Any:
    """A copy in which one leaf is another value of the same type, one character or one away."""
    if not path:
        if isinstance(value, str):
            return f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}"
        if isinstance(value, bytes):
            return bytes([value[0] ^ 1]) + value[1:]
        return value + 1
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = changed_at(copy[path[0]], path[1:])
    return copy


@asynccontextmanager
async def raw_container(engine: CosmosEngine) -> AsyncGenerator[ContainerProxy, None]:
    settings = engine.settings
    async with CosmosClient(settings["endpoint"], credential=settings["credential"]) as client:
        database = client.get_database_client(settings["database_name"])
        yield database.get_container_client(settings["container_name"])


@contextlib.contextmanager
def raw_file(engine: SqliteEngine) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS events_are_immutable")
        yield connection


async def caught(cli: Cli, seq: int | None = None) -> list[str]:
    """Why `verify --all` finds the store wrong; with the position it must name."""
    printed = await cli.json("verify", "--all", code=1)
    problems = [problem for verdict in printed.of("verdict") for problem in verdict["problems"]]
    assert problems
    if seq is not None:
        assert seq in {problem["seq"] for problem in problems}
    return [problem["why"] for problem in problems]


# What is whole


async def test_what_was_written_is_verified_and_the_head_is_told(engine: Engine, cli: Cli) -> None:
    *_, last = await full_run(engine)
    printed = await cli("verify", "run")
    assert "5 events of 1 runs verified: all is as it was written." in printed.out
    assert f"head: seq 5, {last.digest}" in printed.out
    summary = (await cli.json("verify", "--all")).of("summary")
    assert summary == [{"kind": "summary", "runs": 2, "events": 6, "bad_runs": 0}]
    assert "Give a run, or --all" in (await cli("verify", code=2)).err


async def test_every_state_can_be_read_on_request(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=4)
    await cli("verify", "order-1", "--decode")
    await full_run(engine)  # its payloads are no checkpoints
    await cli("verify", "--all")
    assert "UNDECODABLE" in (await cli("verify", "--all", "--decode", code=1)).out


# SQLite


async def test_a_change_of_any_field_of_any_header_is_caught_and_named(engine: Engine, cli: Cli) -> None:
    events = [*(await full_run(engine))[1:], *await removed_run(engine)]
    tried: set[tuple[str | int, ...]] = set()
    for event in events:
        body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event.header()))
        for path in paths(body):
            if path[0] in ("id", "stream", "schema"):  # another schema is a newer version's
                continue
            tried.add(path)
            async with tampered(engine, event, lambda header, path=path: changed_at(header, path)):
                why = await caught(cli, event.seq)
                assert "changed" in why
    await cli("verify", "--all")
    names = {str(path[0]) for path in tried}
    of_sessions = {"turn", "cleared"}
    fields = {field.name for field in msgspec.structs.fields(CheckpointEvent)} - {"schema", "pruned"} - of_sessions
    assert names >= fields
    assert {path[1] for path in tried if path[0] == "payload"} >= {"base_seq", "raw_sha256", "stored_size", "encoding"}


@asynccontextmanager
async def tampered(
    engine: Engine, event: CheckpointEvent, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> AsyncGenerator[None, None]:
    """The store with the header of one event changed, and then as it was."""
    if isinstance(engine, SqliteEngine):
        with raw_file(engine) as connection:
            where = "WHERE run_id = ? AND seq = ?"
            key = (event.run_id, event.seq)
            [before] = connection.execute(f"SELECT header FROM events {where}", key).fetchone()
            after = msgspec.msgpack.encode(change(msgspec.msgpack.decode(before)))
            connection.execute(f"UPDATE events SET header = ? {where}", (after, *key))
            yield
            connection.execute(f"UPDATE events SET header = ? {where}", (before, *key))
        return
    assert isinstance(engine, CosmosEngine)
    async with raw_container(engine) as container:
        name, key = f"{event.seq:012d}", f"{event.workflow_name}|{event.run_id}"
        item = await container.read_item(name, key)
        keep = {field: item[field] for field in ("id", "stream")}
        await container.replace_item(name, change(item) | keep)
        yield
        await container.replace_item(name, item)


async def test_a_change_of_any_column_is_caught(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    events, cli = await full_run(engine), Cli(engine)
    for event in events[1:]:
        for column in ("workflow_name", "run_id", "seq", "type", "checkpoint_id", "digest", "data"):
            with raw_file(engine) as connection:
                row = connection.execute(
                    f"SELECT position, {column} FROM events WHERE run_id = ? AND seq = ?", (event.run_id, event.seq)
                ).fetchone()
                position, before = row
                after = b"x" if before == b"" else 99 if column == "seq" else changed_at(before, ())
                connection.execute(f"UPDATE events SET {column} = ? WHERE position = ?", (after, position))
                assert await caught(cli)
                connection.execute(f"UPDATE events SET {column} = ? WHERE position = ?", (before, position))
    await cli("verify", "--all")
    await engine.close()


async def test_a_change_of_any_byte_of_a_row_is_caught(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    events = await full_run(engine)
    storage = engine.storage()
    await storage.for_run("plain", workflow_name=WORKFLOW).save(checkpoint(checkpoint_id="plain"))
    async with SqliteEventStore(engine.path) as store:
        audit = CheckpointAudit(store)
        with raw_file(engine) as connection:
            for stream, seq in [(RUN, event.seq) for event in events[1:]] + [(StreamId(WORKFLOW, "plain"), 1)]:
                for column in ("header", "data"):
                    where, key = "WHERE run_id = ? AND seq = ?", (stream.run_id, seq)
                    [stored] = connection.execute(f"SELECT {column} FROM events {where}", key).fetchone()
                    for index in range(len(stored)):
                        bad = bytearray(stored)
                        bad[index] ^= 1 << (index % 8)
                        connection.execute(f"UPDATE events SET {column} = ? {where}", (bytes(bad), *key))
                        verdict = await audit.verify(stream)
                        assert not verdict.ok, (stream, seq, column, index)
                        assert verdict.problems[0].seq == seq
                    connection.execute(f"UPDATE events SET {column} = ? {where}", (stored, *key))
        assert all([verdict.ok async for verdict in audit.verify_all()])
    await engine.close()


async def test_a_change_of_any_character_of_an_item_s_data_is_caught() -> None:
    async with cosmos_engine() as engine:
        events, cli = await full_run(engine), Cli(engine)
        async with raw_container(engine) as container:
            for event in events[1:4]:
                name, key = f"{event.seq:012d}", "workflow|run"
                item = await container.read_item(name, key)
                for index in range(len(item["data"])):
                    letter = "B" if item["data"][index] == "A" else "A"
                    data = item["data"][:index] + letter + item["data"][index + 1 :]
                    await container.replace_item(name, item | {"data": data})
                    store = engine.open()
                    verdict = await CheckpointAudit(store).verify(RUN)
                    assert [problem.seq for problem in verdict.problems] == [event.seq], index
                await container.replace_item(name, item)
        await cli("verify", "--all")


async def test_a_change_of_a_part_is_caught() -> None:
    async with cosmos_engine() as engine:
        store = engine.open()
        large = make_event(RUN, 1, data=os.urandom(1_000_000))
        await store.append(large)
        cli = Cli(engine)
        await cli("verify", "--all")
        async with raw_container(engine) as container:
            query = "SELECT * FROM c WHERE c.type = 'part'"
            parts = [part async for part in container.query_items(query, partition_key="workflow|run")]
            assert len(parts) == 3
            for change in ({"data": "AAAA"}, {"type": "other"}, {"data": 7}):
                await container.replace_item(parts[1]["id"], parts[1] | change)
                assert await caught(cli, 1) == ["changed"]
            await container.replace_item(parts[1]["id"], parts[1])
            await cli("verify", "--all")
            await container.delete_item(parts[0]["id"], "workflow|run")
            assert await caught(cli, 1) == ["changed"]


@asynccontextmanager
async def cosmos_engine() -> AsyncGenerator[CosmosEngine, None]:
    async with cosmos_account() as (endpoint, key):
        engine = CosmosEngine(endpoint, key, f"tampered-{uuid4()}")
        yield engine
        await engine.close()


# What is gone, or elsewhere


async def delete(engine: Engine, event: CheckpointEvent) -> None:
    if isinstance(engine, SqliteEngine):
        with raw_file(engine) as connection:
            connection.execute("DELETE FROM events WHERE run_id = ? AND seq = ?", (event.run_id, event.seq))
        return
    assert isinstance(engine, CosmosEngine)
    async with raw_container(engine) as container:
        await container.delete_item(f"{event.seq:012d}", f"{event.workflow_name}|{event.run_id}")


@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_a_missing_event_is_named_with_its_position(engine: Engine, cli: Cli, seq: int) -> None:
    events = await full_run(engine)
    await delete(engine, events[seq])
    printed = await cli("verify", "run", code=1)
    assert f"seq {seq}: MISSING: seq {seq} is gone, and no removal of them was recorded" in printed.out
    assert "1 runs are NOT what was written" in printed.out


async def test_the_head_that_was_told_shows_that_the_newest_event_is_gone(engine: Engine, cli: Cli) -> None:
    events = await full_run(engine)
    [before] = (await cli.json("verify", "run")).of("verdict")
    await delete(engine, events[-1])
    [after] = (await cli.json("verify", "run")).of("verdict")
    assert (before["head_seq"], before["head_digest"]) == (5, events[-1].digest)
    assert (after["head_seq"], after["head_digest"]) == (4, events[-2].digest)


async def test_events_that_changed_places_are_caught(engine: Engine, cli: Cli) -> None:
    _, _, second, third, *_ = await full_run(engine)
    store = engine.open()
    await delete(engine, second)
    await delete(engine, third)
    swapped = [msgspec.structs.replace(third, seq=2), msgspec.structs.replace(second, seq=3)]
    await store.put(RUN, swapped)
    assert (await caught(cli, 2))[0] == "changed"


async def test_a_whole_event_of_another_history_is_caught_where_the_chain_breaks(engine: Engine, cli: Cli) -> None:
    _, first, second, *_ = await full_run(engine)
    forged = on_the_first(make_event(RUN, 2, previous=first, data=b"forged"))
    await delete(engine, second)
    await engine.open().put(RUN, [forged])
    assert await caught(cli, 3) == ["reordered"]


async def test_a_fork_of_another_origin_is_caught(engine: Engine, cli: Cli) -> None:
    origin, *_ = await full_run(engine)
    other = make_event(origin.stream, 1, data=b"another beginning")
    await delete(engine, origin)
    await engine.open().put(origin.stream, [other])
    assert await caught(cli, 1) == ["fork"]


async def test_a_delta_without_its_snapshot_is_caught(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=3)
    headers = [header async for header in engine.open().headers(StreamId(WORKFLOW, "order-1"))]
    [*_, last] = (header.payload.bases for header in headers if header.payload)
    assert last
    base = next(header for header in headers if header.seq == last[-1])
    await delete(engine, base)
    assert {"missing", "base"} <= set(await caught(cli))


async def test_a_latest_document_that_lies_is_caught_and_one_that_lags_is_not(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=3)
    store = engine.open()
    headers = [header async for header in store.headers(StreamId(WORKFLOW, "order-1"))]
    lagging = fold(headers[:2])
    assert lagging is not None
    await store.runs().put(lagging)
    await cli("verify", "order-1", "--projection")
    await cli("verify", "--all", "--projection")
    right = fold(headers)
    assert right is not None
    await store.runs().put(msgspec.structs.replace(right, checkpoint_id="another", status="running"))
    await cli("verify", "order-1")
    printed = await cli("verify", "order-1", "--projection", code=1)
    assert "seq 3: PROJECTION: the latest document disagrees with the log on checkpoint_id, status" in printed.out
    assert "rebuild the projection" in printed.out


async def test_that_there_is_no_projection_is_said_once_with_how_to_fill_it(engine: Engine, cli: Cli) -> None:
    assert [header async for header in engine.open().workflow_headers(WORKFLOW)] == []  # makes the store
    await cli("verify", "--all", "--projection")
    for number in range(3):
        await order_run(engine, f"order-{number}", steps=1)
    await cli("verify", "--all")
    printed = await cli("verify", "--all", "--projection", code=1)
    assert printed.out.count("PROJECTION") == 1
    assert "the projection is empty. Fill it with `eventckpt-projector run`" in printed.out
    assert "the projection is empty" in (await cli("verify", "order-1", "--projection", code=1)).out


async def test_each_run_without_a_document_and_each_document_without_a_run_is_named(engine: Engine, cli: Cli) -> None:
    for name in ("projected", "not"):
        await order_run(engine, name, steps=1)
    await engine.storage().for_run("elsewhere").save(checkpoint(workflow_name="refunds"))
    store = engine.open()
    for stream in (StreamId(WORKFLOW, "projected"), StreamId("refunds", "elsewhere")):
        info = fold([header async for header in store.headers(stream)])
        assert info is not None
        await store.runs().put(info, msgspec.structs.replace(info, run_id="gone", seq=7))
    printed = await cli.json("verify", "--all", "--projection", code=1)
    found = {(each["workflow_name"], each["run_id"]): each["problems"][0]["detail"] for each in printed.of("verdict")}
    assert set(found) == {(WORKFLOW, "not"), (WORKFLOW, "gone"), ("refunds", "gone")}
    assert "the run has no latest document" in found[WORKFLOW, "not"]
    assert "the log was at seq 7 when the latest document was written, and has no such run" in found[WORKFLOW, "gone"]
    printed = await cli.json("verify", "--all", "--workflow", "refunds", "--projection", code=1)
    assert [(each["workflow_name"], each["run_id"]) for each in printed.of("verdict")] == [("refunds", "gone")]
    await cli("verify", "projected", "--projection")


async def test_newest_events_that_are_gone_are_told_by_the_document(engine: Engine, cli: Cli) -> None:
    events = await full_run(engine)
    store = engine.open()
    for stream in (RUN, events[0].stream):
        info = fold([header async for header in store.headers(stream)])
        assert info is not None
        await store.runs().put(info)
    await cli("verify", "--all", "--projection")
    await delete(engine, events[-1])
    await cli("verify", "--all")
    printed = await cli("verify", "--all", "--projection", code=1)
    assert (
        "the log was at seq 5 when the latest document was written, and ends at seq 4: its newest events are gone. "
        "Restore them from an export or a backup" in printed.out
    )


# Doctor


async def test_the_doctor_finds_nothing_wrong_and_names_types_that_would_be_refused(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    printed = await cli("doctor")
    assert "WRONG" not in printed.out
    assert f"refused  {ORDER}, in the latest checkpoint of 1 runs, such as order-1." in printed.out
    assert "refused" not in (await cli("doctor", "--allow", ORDER)).out
    records = await cli.json("doctor")
    assert {check["ok"] for check in records.of("check")} == {True}
    assert {kind["name"]: kind["allowed"] for kind in records.of("type")}[ORDER] is False
    key = next(setting for setting in records.of("setting") if setting["name"] == "AZURE_COSMOS_KEY")
    assert key["value"] in ("set", "not set")


async def test_the_doctor_notices_that_events_may_be_updated(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=1)
    with raw_file(engine):
        printed = await Cli(engine)("doctor", code=1)
    assert "WRONG    schema: trigger 'events_are_immutable' is missing" in printed.out
    await engine.close()


async def test_the_doctor_notices_a_container_that_expires_its_events() -> None:
    async with cosmos_engine() as engine:
        await order_run(engine, steps=1)
        settings = engine.settings
        async with CosmosClient(settings["endpoint"], credential=settings["credential"]) as client:
            database = client.get_database_client(settings["database_name"])
            await database.create_container("expiring", PartitionKey("/stream"), default_ttl=60)
        engine.settings["container_name"] = "expiring"
        printed = await Cli(engine)("doctor", code=1)
        assert "expiry: items expire after 60 seconds" in printed.out


async def test_an_event_of_a_newer_version_is_not_called_changed(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=2)
    with raw_file(engine) as connection:
        [(header,)] = connection.execute("SELECT header FROM events WHERE seq = 2").fetchall()
        fields = msgspec.msgpack.decode(header) | {"schema": SCHEMA + 1, "mood": "new"}
        connection.execute("UPDATE events SET header = ? WHERE seq = 2", (msgspec.msgpack.encode(fields),))
        connection.commit()
    printed = await Cli(engine)("verify", "--all", code=1)
    assert "NEWER: it was written by a newer version of eventckpt" in printed.out
    assert "1 runs have events of a newer version, which this one cannot judge." in printed.out
    assert "NOT what was written" not in printed.out
    await engine.close()
