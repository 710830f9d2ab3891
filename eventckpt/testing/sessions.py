"""The tests that every engine passes which keeps sessions beside the runs. Used like those of `event_store`.

What `store.sessions()` gives passes the suites of all ports besides: subclass those once more over it.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
import pytest

from ..chain import sealed
from ..errors import CheckpointStoreError
from ..events import MAX_SEQ, SCHEMA_OF_SESSIONS, CheckpointEvent, RunInfo, RunStatus, StreamId, Turn
from ..stores import AuditStore
from .change_feed import all_events
from .events import MANY, RUNS, STREAM, append_chain, as_appended, make_event, noise, record_of

__all__ = ["SessionsConformance"]

_T = TypeVar("_T")

_NAMES: Final = (
    "run",
    "Run",
    "run~0123456789ab",
    "r%",
    "r_",
    "' OR ''='",
    "a\x00b",
    "größe",
    "工作流",
    "🚀",
    " ",
    "x" * 255,
)
_NO_UNICODE: Final = "\udcff"
_TOMBSTONES: Final = (2, 7, MANY - 300, MANY - 1)
"""The seqs of a long stream at which something is cleared."""


class SessionsConformance:
    """The cases for `sessions`, and for `newest` and `run_ids` of `AuditStore`. Used like `EventStoreConformance`."""

    async def open_store(self) -> AuditStore:
        """See `EventStoreConformance.open_store`; of the store that has the sessions."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    # Two logs

    async def test_a_store_has_the_same_sessions_each_time(self) -> None:
        store = await self.open_store()
        assert store.sessions() is store.sessions()
        assert store.sessions() is not (await self.open_store()).sessions()

    async def test_a_store_without_sessions_has_nothing_in_them(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 2)
        assert await _told(store.sessions(), STREAM) == await _told((await self.open_store()).sessions(), STREAM)
        assert set(map(len, (await _told(store.sessions(), STREAM)).values())) == {0}
        assert await all_events(store.sessions().change_feed(), limit=10) == []
        assert await store.sessions().run_store().is_empty()
        assert await store.sessions().document_store().read("none") is None
        assert await store.sessions().remove(STREAM, [1]) == 0

    async def test_what_was_acknowledged_of_a_session_another_store_reads(self) -> None:
        events = await append_chain((await self.open_store()).sessions(), STREAM, 2)
        other = (await self.open_store()).sessions()
        assert await other.read(STREAM, 1, 2) == events
        await other.append(make_event(STREAM, 3, previous=events[-1]))
        await self.settle()
        assert [event.seq for event in await _listed((await self.open_store()).sessions().newest(STREAM))] == [3, 2, 1]

    @pytest.mark.parametrize("run_id", _NAMES)
    async def test_nothing_of_one_log_is_found_in_the_other_by_the_same_names(self, run_id: str) -> None:
        store, stream = await self.open_store(), StreamId("workflow", run_id)
        alone: list[dict[str, Sequence[object]]] = []
        logs = {store: b"run", store.sessions(): b"session"}
        written = {log: await append_chain(log, stream, 3, data=data) for log, data in logs.items()}
        await self.settle()
        for log, events in written.items():
            told = await _told(log, stream)
            whole = [event for event in chain.from_iterable(told.values()) if _has_data(event)]
            assert {event.digest for event in whole} == {event.digest for event in events}
            assert told["read"] == told["events"] == told["newest"][::-1] == events
            alone.append({name: _names_of(found) for name, found in told.items()})
        assert alone[0] == alone[1]

    async def test_a_stream_that_one_log_has_the_other_has_not(self) -> None:
        store = await self.open_store()
        run, session = StreamId("workflow", "of runs"), StreamId("workflow", "of sessions")
        await append_chain(store, run, 2)
        await append_chain(store.sessions(), session, 2)
        await self.settle()
        for log, own, other in ((store, run, session), (store.sessions(), session, run)):
            assert await _listed(log.streams()) == await _listed(log.streams(workflow_name="workflow")) == [own]
            assert await _listed(log.run_ids("workflow")) == [own.run_id]
            assert await log.read(other, 1, 2) == await _listed(log.newest(other)) == await _listed(log.events(other))
            assert await log.find(f"checkpoint 1 of {other.run_id}, workflow") is None
            assert {event.stream for event in await all_events(log.change_feed(), limit=10)} == {own}
            assert [(await anext(log.follow(last=1))).stream] == [own]

    async def test_what_is_removed_from_one_log_stays_in_the_other(self) -> None:
        store = await self.open_store()
        for log in (store, store.sessions()):
            await append_chain(log, STREAM, 3)
        for log, other, count in ((store, store.sessions(), 3), (store.sessions(), store, 2)):
            events = await log.read(STREAM, 1, 2, 3)
            await log.append(record_of(events[-1], events[:1]))
            assert await log.remove(STREAM, [1]) == 1
            await self.settle()
            assert len(await other.read(STREAM, 1, 2, 3)) == count

    async def test_the_head_of_one_log_is_no_conflict_in_the_other(self) -> None:
        store = await self.open_store()
        await append_chain(store, STREAM, 3)
        first = make_event(STREAM, 1, data=b"another")
        await store.sessions().append(first)
        assert await store.sessions().put(STREAM, [first, make_event(STREAM, 2)]) == 1
        assert await store.last("workflow", STREAM.run_id) in (None, (await store.read(STREAM, 3))[0])

    async def test_projections_and_documents_of_the_two_do_not_meet(self) -> None:
        store = await self.open_store()
        logs: tuple[tuple[AuditStore, RunStatus], ...] = ((store, "done"), (store.sessions(), "open"))
        for log, status in logs:
            info = RunInfo(workflow_name="workflow", run_id="run", seq=1, digest="d", status=status)
            assert await log.run_store("mine").put(info) == 1
            await log.run_store().activate(f"of {status}")
            assert await log.document_store().create({"id": "lease", "of": status}) is not None
        await self.settle()
        for log, status in logs:
            assert (await log.run_store("mine").get(STREAM))[STREAM].status == status
            assert await log.run_store().active(certain=True) == f"of {status}"
            document = await log.document_store().read("lease")
            assert document is not None
            assert document["of"] == status
            assert await log.document_store().delete("lease", document["_etag"])

    async def test_writers_of_both_logs_at_once_are_in_nobodys_way(self) -> None:
        store, other = await self.open_store(), await self.open_store()
        logs = (store, store.sessions(), other, other.sessions())
        streams = [StreamId("workflow", name) for name in ("a", "b", "c", "d")]
        await asyncio.gather(*(append_chain(log, name, 20) for log in logs[:2] for name in streams[:2]),
                             *(append_chain(log, name, 20) for log in logs[2:] for name in streams[2:]))  # fmt: skip
        await self.settle()
        for log in logs:
            assert set(await _listed(log.streams())) == set(streams)
            assert [len(await _listed(log.newest(name))) for name in streams] == [20] * 4

    # What is kept

    async def test_turns_what_a_host_keeps_and_what_clears_a_session_survive_with_every_field(self) -> None:
        sessions = (await self.open_store()).sessions()
        origin = _turn(StreamId("source", "session"), 1)
        await sessions.append(origin)
        branch = StreamId("source", "session~0123456789ab")
        events = [_turn(branch, 1, origin, turn=Turn(roles={"user": 1}, session="session"))]
        events.append(_turn(branch, 2, events[-1], turn=Turn(roles={"assistant": 1, "tool": 2}, continues="turn 1")))
        events.append(_turn(branch, 3, events[-1], turn=Turn(), payload=None))
        events.append(_turn(branch, 4, events[-1], type="session", turn=None))
        events.append(_clearing(branch, 5, events[-1], {"session": 1, branch.run_id: 4}))
        for event in events:
            await sessions.append(event)
        await self.settle()
        another = (await self.open_store()).sessions()
        assert await another.read(branch, *range(1, 6)) == await _listed(another.events(branch)) == events
        assert await _listed(another.newest(branch)) == events[::-1]
        assert await _listed(another.headers(branch)) == [event.header() for event in events]
        assert events[0].forked_from is not None

    # The newest first

    @pytest.mark.parametrize("lte", [None, -1, 0, 1, 2, 6, 7, 100, MANY - 2, MANY - 1, MANY, MANY + 1, MAX_SEQ, 10**20])
    async def test_the_newest_events_come_first_and_behind_a_bound_tombstones_alone(self, lte: int | None) -> None:
        sessions = (await self.open_store()).sessions()
        events = [_clearing(STREAM, seq, None, {}) if seq in _TOMBSTONES else _turn(STREAM, seq)
                  for seq in range(1, MANY + 1)]  # fmt: skip
        await sessions.put(STREAM, events)
        for other in (StreamId("workflow", "other"), StreamId("another", STREAM.run_id)):
            await sessions.put(other, [_turn(other, 1)])
        await self.settle()
        expected = [each for each in events[::-1] if lte is None or each.seq <= lte or each.type == "tombstone"]
        assert await _listed(sessions.newest(STREAM, lte=lte)) == expected

    async def test_large_events_are_all_given_whole(self) -> None:
        sessions = (await self.open_store()).sessions()
        events = [_turn(STREAM, seq, data=noise(700_000 + seq)) for seq in range(1, 31)]
        await sessions.put(STREAM, events)
        await self.settle()
        assert list(map(as_appended, await _listed(sessions.newest(STREAM)))) == events[::-1]

    async def test_what_was_removed_is_left_out_of_the_newest(self) -> None:
        sessions = (await self.open_store()).sessions()
        events = await append_chain(sessions, STREAM, 40)
        record = record_of(events[-1], [*events[3:9], *events[20:38]])
        await sessions.append(record)
        await sessions.remove(STREAM, [*range(4, 10), *range(21, 39)])
        await self.settle()
        left = [*events[:3], *events[9:20], *events[38:], record]
        assert await _listed(sessions.newest(STREAM)) == left[::-1]
        assert await _listed(sessions.newest(STREAM, lte=12)) == [record, *events[11:8:-1], *events[2::-1]]

    async def test_what_is_appended_while_the_newest_are_read_is_not_among_them(self) -> None:
        store = await self.open_store()
        events = await append_chain(store.sessions(), STREAM, 40)
        seqs: list[int] = []
        async with aclosing(store.sessions().newest(STREAM)) as newest:
            async for event in newest:
                seqs.append(event.seq)
                if len(seqs) == 1:
                    await store.sessions().append(make_event(STREAM, 41, previous=events[-1]))
                    await self.settle()
        assert seqs == [*range(40, 0, -1)]

    @pytest.mark.parametrize(
        ("workflow_name", "run_id"),
        [("workflow", "none"), ("none", "run"), (_NO_UNICODE, "run"), ("workflow", _NO_UNICODE)],
    )
    async def test_of_a_stream_that_there_is_not_nothing_is_newest(self, workflow_name: str, run_id: str) -> None:
        sessions, stream = (await self.open_store()).sessions(), StreamId(workflow_name, run_id)
        await append_chain(sessions, STREAM, 2)
        await self.settle()
        assert await _listed(sessions.newest(stream)) == await _listed(sessions.newest(stream, lte=1)) == []

    # The names of runs

    async def test_each_run_id_of_a_workflow_is_given_once(self) -> None:
        sessions = (await self.open_store()).sessions()
        names = [*_NAMES, *(f"run {number}" for number in range(RUNS))]
        for seq in (1, 2):
            await asyncio.gather(*(sessions.put(each, [make_event(each, seq, data=b"")])
                                   for each in (StreamId("workflow", name) for name in names)))  # fmt: skip
        await append_chain(sessions, StreamId("workflow 2", "elsewhere"), 1)
        await self.settle()
        found = await _listed(sessions.run_ids("workflow"))
        assert len(found) == len(names)
        assert set(found) == set(names)
        assert await _listed(sessions.run_ids("workflow 2")) == ["elsewhere"]
        for nothing in ("workflo", "none", "", "' OR ''='", _NO_UNICODE):
            assert await _listed(sessions.run_ids(nothing)) == []

    # Closing

    async def test_the_sessions_of_a_closed_store_are_closed(self) -> None:
        store = await self.open_store()
        sessions = store.sessions()
        (event,) = await append_chain(sessions, STREAM, 1)
        await store.close()
        uses = (
            sessions.append(make_event(STREAM, 2, previous=event)),
            sessions.read(STREAM, 1),
            anext(sessions.newest(STREAM)),
            anext(sessions.run_ids("workflow")),
            sessions.run_store().get(STREAM),
            sessions.document_store().read("none"),
        )
        for outcome in await asyncio.gather(*uses, return_exceptions=True):
            assert isinstance(outcome, CheckpointStoreError), outcome
        await sessions.close()
        assert await (await self.open_store()).sessions().read(STREAM, 1) == [event]

    async def test_to_close_the_sessions_leaves_their_store_open(self) -> None:
        store = await self.open_store()
        for log in (store, store.sessions()):
            await append_chain(log, STREAM, 1)
        await store.sessions().close()
        await store.sessions().close()
        with pytest.raises(CheckpointStoreError):
            await store.sessions().read(STREAM, 1)
        with pytest.raises(CheckpointStoreError):
            await anext(store.sessions().newest(STREAM))
        assert len(await store.read(STREAM, 1)) == 1


def _turn(
    stream: StreamId, seq: int, previous: CheckpointEvent | None = None, *, data: bytes = b"turn", **fields: Any
) -> CheckpointEvent:
    """An event of a session, with what makes it one."""
    made = make_event(stream, seq, previous=previous, data=data)
    own = {"type": "turn", "turn": Turn(roles={"user": 1}), "schema": SCHEMA_OF_SESSIONS, **fields}
    return sealed(msgspec.structs.replace(made, **own))


def _clearing(stream: StreamId, seq: int, previous: CheckpointEvent | None, cleared: dict[str, int]) -> CheckpointEvent:
    return _turn(stream, seq, previous, type="tombstone", turn=None, payload=None, checkpoint_id="", cleared=cleared)


async def _told(log: AuditStore, stream: StreamId) -> dict[str, Sequence[Any]]:
    """What a log tells of the first three events of a stream, by whatever it can be asked."""
    workflow, run_id = stream.workflow_name, stream.run_id
    names = [f"checkpoint {seq} of {run_id}, {workflow}" for seq in (1, 2, 3)]
    found = [await log.find(names[0]), await log.find(names[1], stream=stream), await log.find_in(workflow, names[2])]
    return {
        "read": await log.read(stream, 1, 2, 3),
        "each": await log.read_each([(stream, 1), (stream, 3)]),
        "last": [each for each in (await log.last(workflow), await log.last(workflow, run_id)) if each is not None],
        "find": [event for each in found if each is not None for event in each],
        "headers": await _listed(log.headers(stream)),
        "workflow": await _listed(log.workflow_headers(workflow, desc=True)),
        "keys": [key for page in await _listed(log.keys(workflow)) for key in page.checkpoint_ids],
        "keys of the run": [key for page in await _listed(log.keys(workflow, run_id)) for key in page.checkpoint_ids],
        "headers of runs": [event for each in await _listed(log.headers_of_runs([stream])) for event in each.events],
        "events of runs": [event for each in await _listed(log.events_of_runs([stream])) for event in each.events],
        "events": await _listed(log.events(stream)),
        "newest": await _listed(log.newest(stream)),
        "streams": await _listed(log.streams()),
        "run ids": await _listed(log.run_ids(workflow)),
        "ids": await log.checkpoint_ids("checkpoint", limit=10),
        "runs with": await log.runs_with(workflow, names),
    }


def _has_data(found: object) -> bool:
    return isinstance(found, CheckpointEvent) and found.payload is not None and bool(found.payload.data)


def _names_of(found: Sequence[object]) -> list[object]:
    """What was found, without what differs between the two logs' events."""
    return [
        (each.stream, each.seq, each.checkpoint_id) if isinstance(each, CheckpointEvent) else each for each in found
    ]


async def _listed(found: AsyncIterable[_T]) -> list[_T]:
    return [each async for each in found]
