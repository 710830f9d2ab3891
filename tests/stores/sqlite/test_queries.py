"""What is asked of the table of events is answered from an index."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore, StreamId
from eventckpt.errors import StreamConflict
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.tables import LOGS, RUNS, SESSIONS, Tables
from eventckpt.testing.audit_removals import closing, removal_of

from ..chains import STREAM, append_chain
from .helpers import plain, traced


class TestQueries:
    @pytest.mark.parametrize("tables", LOGS)
    async def test_every_question_is_answered_from_an_index(
        self, path: Path, connections: list[sqlite3.Connection], tables: Tables
    ) -> None:
        async with SqliteEventStore(path) as opened:
            store, events = {RUNS: opened, SESSIONS: opened.sessions()}[tables], tables.events
            (first,) = await append_chain(store, 1)
            await store.read(STREAM, 1)
            asked = traced(connections)
            await store.append(make_event(STREAM, 2, previous=first))
            with pytest.raises(StreamConflict):
                await store.append(make_event(STREAM, 1))
            await store.read(STREAM, 1, 2)
            await store.find(first.checkpoint_id)
            await store.find(first.checkpoint_id, stream=STREAM)
            await store.find_in("workflow", first.checkpoint_id)
            for desc in (False, True):
                _ = [header async for header in store.headers(STREAM, gt=1, lte=3, desc=desc)]
                for emptied in (False, True):
                    _ = [each async for each in store.workflow_headers("workflow", desc=desc, emptied=emptied)]
            await store.last("workflow")
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
                if "earlier" in question:  # what was left of a run that was removed
                    *looks, beside = (step for step in plan if "SUBQUERY" not in step)
                    assert beside.startswith("SEARCH earlier USING COVERING INDEX"), (question, plan)
                    assert len(plan) == 3
                    plan = looks
                assert len(plan) == 1, (question, plan)  # no sorting beside it
                assert re.match(rf"SEARCH ({events}|head) USING (INDEX|INTEGER PRIMARY KEY)", plan[0]), (question, plan)
                assert "workflow_name=?" in plan[0] or "rowid=?" in plan[0], (question, plan)
                assert "run_id=?" in plan[0] or "AND run_id =" not in question, (question, plan)

    @pytest.mark.parametrize("asked", [{}, {"workflow_name": "workflow"}, {"prefix": "r"}], ids=str)
    async def test_the_first_page_of_runs_is_one_question_whatever_was_removed_on_top_of_them(
        self, path: Path, connections: list[sqlite3.Connection], asked: dict[str, str]
    ) -> None:
        async with SqliteEventStore(path) as store:
            kept = [make_event(StreamId("workflow", f"run {number}"), 1) for number in range(5)]
            for event in kept:
                await store.append(event)
            for number in range(600):
                gone = StreamId("workflow", f"removed {number}")
                await store.put(gone, [closing(make_event(gone, 1))])
            await store.read(STREAM, 1)
            questions = traced(connections)
            assert [stream async for stream in store.streams(**asked, emptied=False)] == [
                event.stream for event in reversed(kept)
            ]
        [question] = [
            statement for statement in questions if "position" in statement and "max(position), 0" not in statement
        ]
        with plain(path) as connection:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
        assert [step for step in plan if step.startswith(("SEARCH head", "SEARCH events"))]
        assert not [step for step in plan if step.startswith(("SCAN head", "SCAN events"))], plan

    async def test_the_streams_of_removals_are_found_by_an_index(
        self, path: Path, connections: list[sqlite3.Connection]
    ) -> None:
        async with SqliteEventStore(path) as store:
            (first,) = await append_chain(store, 1)
            closed = closing(first)
            await store.append(closed)
            await store.append(told := removal_of(closed))
            await store.read(STREAM, 1)
            questions = traced(connections)
            assert [stream async for stream in store.removal_streams()] == [told.stream]
        [question] = [statement for statement in questions if "RECURSIVE" in statement]
        with plain(path) as connection:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}")]
        looks = [step for step in plan if "events" in step]
        assert len(looks) == 3
        assert all(" USING COVERING INDEX " in step for step in looks), plan
        assert "SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (workflow_name=? AND run_id=?)" in looks
