"""What is asked of the table of events is answered from an index."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain
from .helpers import plain

LAST_EVENT = "SELECT position, digest FROM events ORDER BY position DESC LIMIT 1"
"""Is at the end of the table: nothing is searched for."""


ABOUT_THE_STORE = (
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'store'",
    "SELECT min(id) FROM store",
    "SELECT max(seq) FROM sqlite_sequence WHERE name = 'events' AND typeof(seq) = 'integer'",
)
"""Tables of a few rows."""


class TestQueries:
    async def test_every_question_is_answered_from_an_index(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
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
            questions = [
                statement
                for statement in asked
                if statement.startswith("SELECT") and statement not in (LAST_EVENT, *ABOUT_THE_STORE)
            ]
            assert len(questions) >= 9
            for question in questions:
                with plain(path) as connection:
                    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
                if "checkpoint_id =" in question:  # the runs that have an id are sorted, and nothing else
                    assert [step for step in plan if step.startswith(("SCAN events", "SEARCH"))] == [
                        "SEARCH events USING INDEX events_by_checkpoint (checkpoint_id=?)"
                    ], (question, plan)
                    continue
                assert len(plan) == 1, (question, plan)  # no sorting beside it
                assert plan[0].startswith(("SEARCH events USING INDEX", "SEARCH events USING INTEGER PRIMARY KEY"))
                assert "workflow_name=?" in plan[0] or "rowid=?" in plan[0], (question, plan)
                assert "run_id=?" in plan[0] or "run_id =" not in question, (question, plan)
