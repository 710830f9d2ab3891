"""An operator's day, with real workers: what is killed, frozen, locked, unreachable, deleted or set wrongly, and what
the workers say of it meanwhile. Whatever passes, they go on by themselves afterwards, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any, cast

import pytest

from projections import compare, open_engine

from ..engines import SqliteEngine
from .commands import Worker, ended, owned, projected, running
from .rig import Rig, Writer

pytestmark = pytest.mark.slow  # workers that are killed, frozen and cut off

FAST = (
    *("--poll-interval", "0.05"),
    *("--acquire-interval", "0.25"),
    *("--renew-interval", "0.4"),
    *("--expiry", "2"),
    *("--fence-margin", "0.5"),
    *("--max-poll-age", "1"),
    *("--store-timeout", "1"),
)


def is_ready(code: int, body: str) -> bool:
    return code == 200


def is_not_ready(code: int, body: str) -> bool:
    return code == 503


async def has_a_range(worker: Worker) -> None:
    await worker.until("/healthz", lambda code, body: code == 200 and json.loads(body)["ranges"] != [])


async def agrees(rig: Rig) -> None:
    """The projection is that of the log."""
    rig.engine.settle()
    store = rig.engine.open()
    found = [each async for each in compare(store, open_engine(store).feed, store.run_store())]
    assert found == []


async def reasons(worker: Worker) -> str:
    """Why it is not ready."""
    said: dict[str, Any] = json.loads(await worker.until("/healthz", is_not_ready))
    return "; ".join(said["reasons"])


async def delete_container(rig: Rig, suffix: str) -> None:
    """Delete a container of the store; that of the events has no suffix."""
    database, name = rig.place
    events: Any = await cast(Any, rig.writer.store).container()
    await events.client_connection.DeleteContainer(f"dbs/{database}/colls/{name}{suffix}")


async def test_one_is_frozen_and_the_other_killed(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b")
    async with running(rig, *FAST) as first:
        await has_a_range(first)
        async with running(rig, *FAST) as second:
            first.freeze()
            await rig.writer.write("a", "b")
            await projected(rig, "b", 2)
            [owner] = await owned(rig)
            assert f"-{second.process.pid}-" in str(owner)
            first.thaw()
            await rig.writer.write("a", "b")
            await projected(rig, "b", 3)
            await first.until("/healthz", is_ready)
            assert (await first.page("/livez"))[0] == 200
            await second.killed()
            await rig.writer.write("a", "b")
            await projected(rig, "b", 4)
            await has_a_range(first)
            assert await first.terminated() == 0
    assert await owned(rig) == [None]
    await agrees(rig)


async def test_a_locked_file_is_waited_for(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    assert isinstance(rig.engine, SqliteEngine)
    await rig.writer.write("a")
    async with running(rig, *FAST) as worker:
        await projected(rig, "a", 1)
        with closing(sqlite3.connect(rig.engine.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert await reasons(worker)
            assert (await worker.page("/livez"))[0] == 200
            other.execute("ROLLBACK")
        await worker.until("/healthz", is_ready)
        await rig.writer.write("a")
        await projected(rig, "a", 2)
        assert await worker.terminated() == 0


async def test_a_service_that_stops_answering_is_waited_for_from_the_start_on(cosmos_rig: Rig) -> None:
    """Before the worker has begun, and while it works: it stays up, says so, and goes on."""
    rig, answers = cosmos_rig, asyncio.Event()
    await rig.writer.write("a")
    with rig.emulator.faults.delay(until=answers):
        async with running(rig, *FAST) as worker:
            code, said = await worker.health()
            assert (code, said["status"]) == (503, "starting")
            assert (await worker.page("/livez"))[0] == 200
            answers.set()
            await projected(rig, "a", 1)
            await worker.until("/healthz", is_ready)
            with rig.emulator.faults.respond(503):
                assert await reasons(worker)
                assert (await worker.page("/livez"))[0] == 200
            await worker.until("/healthz", is_ready)
            await rig.writer.write("a")
            await projected(rig, "a", 2)
            assert await worker.terminated() == 0
            assert "never retrieved" not in "\n".join(worker.lines)
    await agrees(rig)


async def test_leases_whose_container_was_deleted_are_made_again_and_nothing_is_lost(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write("a")
    async with running(rig, *FAST) as worker:
        await projected(rig, "a", 1)
        await delete_container(rig, "-leases")
        assert "read from the beginning" in await worker.said("has no lease")
        assert (await worker.page("/livez"))[0] == 200
        await rig.writer.write("a", "b")
        await projected(rig, "a", 2)
        await projected(rig, "b", 1)
        await worker.until("/healthz", is_ready)
        assert await worker.terminated() == 0
    await agrees(rig)


async def test_events_that_were_deleted_are_named_and_others_made_anew_end_the_worker_for_another_one(
    cosmos_rig: Rig,
) -> None:
    """Whoever deleted them makes a container again; here a program with an account key does, by using it."""
    rig = cosmos_rig
    _, container = rig.place
    await rig.writer.write("a")
    async with running(rig, *FAST) as worker:
        await projected(rig, "a", 1)
        await delete_container(rig, "")
        await worker.until("/healthz", lambda code, body: code == 503 and f"{container}' of database" in body)
        assert (await worker.page("/livez"))[0] == 200
        writer = Writer(rig.engine.open())
        await writer.write("b")
        assert await worker.ended() == 4
        assert "made anew" in worker.lines[-1]
        async with running(rig, *FAST) as another:
            await projected(rig, "b", 1)
            assert await another.terminated() == 0


async def test_wrong_rights_end_a_worker_with_one_sentence(cosmos_rig: Rig) -> None:
    code, _, errors = await ended(cosmos_rig, "run", "--port", "0", AZURE_COSMOS_KEY="bm90IHRoZSBrZXk=")
    assert code == 4
    assert "Cosmos DB refused the identity" in errors.splitlines()[-1]
    assert "Traceback" not in errors
