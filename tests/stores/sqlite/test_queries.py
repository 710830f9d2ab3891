"""What is asked of the table of events is answered from an index."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.tables import LOGS, RUNS, SESSIONS, Tables

from ..chains import STREAM, append_chain
from .helpers import plain


class TestQueries:
    @pytest.mark.parametrize("tables", LOGS)
    async def test_every_question_is_answered_from_an_index(
        self, path: Path, connections: list[sqlite3.Connection], tables: Tables
    ) -> None:
        async with SqliteEventStore(path) as opened:
            store, events = {RUNS: opened, SESSIONS: opened.sessions()}[tables], tables.events
            (first,) = await append_chain(store, 1)
            await store.read(STREAM, 1)
            asked: list[str] = []
            for connection in connections:
                connection.set_trace_callback(asked.append)
            await store.append(make_event(STREAM, 2, previous=first))
            with pytest.raises(StreamConflict):
                await store.append(make_event(STREAM, 1))
            await store.read(STREAM, 1, 2)
            await store.find(first.checkpoint_id)
            await store.find(first.checkpoint_id, stream=STREAM)
            await store.find_in("workflow", first.checkpoint_id)
            for desc in (False, True):
                _ = [header async for header in store.headers(STREAM, gt=1, lte=3, desc=desc)]
                _ = [header async for header in store.workflow_headers("workflow", desc=desc)]
            _ = [event async for event in store.newest(STREAM)]
            questions = [
                statement
                for statement in asked
                if statement.startswith("SELECT")
                and f"FROM {events} " in statement
                and statement != f"SELECT position, digest FROM {events} ORDER BY position DESC LIMIT 1"  # the end
            ]
            assert len(questions) >= 10
            for question in questions:
                with plain(path) as connection:
                    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
                if "checkpoint_id =" in question:  # the runs that have an id are sorted, and nothing else
                    assert [step for step in plan if step.startswith((f"SCAN {events}", "SEARCH"))] == [
                        f"SEARCH {events} USING INDEX {events}_by_checkpoint (checkpoint_id=?)"
                    ], (question, plan)
                    continue
                assert len(plan) == 1, (question, plan)  # no sorting beside it
                assert plan[0].startswith(
                    (f"SEARCH {events} USING INDEX", f"SEARCH {events} USING INTEGER PRIMARY KEY")
                )
                assert "workflow_name=?" in plan[0] or "rowid=?" in plan[0], (question, plan)
                assert "run_id=?" in plan[0] or "run_id =" not in question, (question, plan)
