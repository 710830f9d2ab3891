"""Damaged pages and rows are reported, and hide no event but their own."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.chain import digest_of
from eventckpt.errors import StoreCorruptError
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import plain


class TestDamage:
    async def test_damaged_pages_are_reported_as_damage(self, path: Path) -> None:
        async with SqliteEventStore(path) as store:
            await append_chain(store, 50, data=os.urandom(5000))
        with path.open("r+b") as file:
            file.seek(4096)  # the first page holds the header and the schema
            file.write(os.urandom(path.stat().st_size - 4096))
        async with SqliteEventStore(path) as store:
            with pytest.raises(StoreCorruptError, match="damaged"):
                await headers(store)
            with pytest.raises(StoreCorruptError, match="damaged"):
                await store.append(make_event(StreamId("workflow", "other"), 1))

    @pytest.mark.parametrize(
        "damage",
        [
            "header = x'c1'",
            "header = x''",
            "header = substr(header, 1, 20)",
            "header = 'text'",
            "header = 5",
            "header = (SELECT header FROM events WHERE seq = 1)",
        ],
    )
    async def test_a_damaged_header_hides_no_other_event_and_its_own_is_given_without_payload(
        self, path: Path, store: SqliteEventStore, damage: str
    ) -> None:
        first, second, third = await append_chain(store, 3)
        alter(path, f"UPDATE events SET {damage} WHERE seq = 2")
        remains = CheckpointEvent(
            type="checkpoint",
            workflow_name="workflow",
            run_id="run",
            seq=2,
            checkpoint_id=second.checkpoint_id,
            digest=second.digest,
            timestamp="",
            recorded_at="",
        )
        assert await headers(store) == [first.header(), remains, third.header()]
        assert [header async for header in store.workflow_headers("workflow", desc=True)] == [
            third.header(),
            remains,
            first.header(),
        ]
        assert await store.read(STREAM, 1, 2, 3) == [first, remains, third]
        located = await store.find(second.checkpoint_id)
        assert located is not None
        assert located == (remains, third.header())
        fourth = make_event(STREAM, 4, previous=third)
        await store.append(fourth)
        assert await store.read(STREAM, 4) == [fourth]

    @pytest.mark.parametrize("damage", ["header = x'c1'", "type = x'ff'", "type = 5", "run_id = x'ff'", "header = 5"])
    async def test_a_damaged_event_of_an_id_that_other_runs_have_too_breaks_nothing(
        self, path: Path, store: SqliteEventStore, damage: str
    ) -> None:
        events = [make_event(StreamId("workflow", name), 1, checkpoint_id="wanted") for name in "abc"]
        for event in events:
            await store.append(event)
        alter(path, f"UPDATE events SET {damage} WHERE run_id = 'b'")
        assert await store.find("wanted") == (events[2], events[2].header())
        deleted = make_event(events[2].stream, 2, previous=events[2], type="tombstone", checkpoint_id="wanted")
        await store.append(deleted)
        for located in (await store.find("wanted"), await store.find_in("workflow", "wanted")):
            assert located is not None
            assert located.event.payload is None, "the damaged one is the newest that is live, and says so"
            assert located.event.type == "checkpoint"
        assert await store.find("wanted", stream=StreamId("workflow", "a")) == (events[0], events[0].header())

    @pytest.mark.parametrize("damage", ["data = x'00'", "data = 'text'", "data = 5"])
    async def test_damaged_data_is_told_by_the_digest(self, path: Path, store: SqliteEventStore, damage: str) -> None:
        first, second = await append_chain(store, 2)
        alter(path, f"UPDATE events SET {damage} WHERE seq = 2")
        read, damaged = await store.read(STREAM, 1, 2)
        assert read == first
        assert damaged.header() == second.header()
        assert digest_of(damaged) != second.digest
        assert [event async for event in store.events(STREAM)] == [first, damaged]

    async def test_text_that_is_no_unicode_hides_no_event(self, path: Path, store: SqliteEventStore) -> None:
        first, second = await append_chain(store, 2)
        alter(path, "UPDATE events SET checkpoint_id = CAST(x'ff' AS TEXT) WHERE seq = 2")
        found = await headers(store)
        assert found[0] == first.header()
        assert (found[1].seq, found[1].digest, found[1].payload) == (2, second.digest, None)

    async def test_an_event_cannot_be_updated(self, path: Path, store: SqliteEventStore) -> None:
        events = await append_chain(store, 2)
        with plain(path) as connection, pytest.raises(sqlite3.IntegrityError, match="never updated"):
            connection.execute("UPDATE events SET data = x'00' WHERE seq = 1")
        assert await store.read(STREAM, 1, 2) == events


def alter(path: Path, statement: str) -> None:
    """What someone does who means to, or a failing disk."""
    with plain(path) as connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        assert connection.execute(statement).rowcount == 1
