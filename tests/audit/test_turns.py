"""The audit over sessions: what a conversation was, whether its log is whole, how it moves, and what a prune keeps."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import Message, WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CheckpointDecodeError,
    CheckpointEvent,
    EventCheckpointStorage,
    EventHistoryProvider,
    SqliteEventStore,
    StreamId,
    delta,
)
from eventckpt.audit import Plan
from eventckpt.audit.archive import event_line
from eventckpt.chain import sealed
from eventckpt.events import ForkPoint, Payload, Turn
from eventckpt.stores import AuditStore
from eventckpt.testing.events import make_event

from ..conversations import CODEC, SOURCE, asked, branched, clear_event, forked, looked_up, session, talked, turn_event
from ..engines import Engine


@pytest.fixture
def store(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


@pytest.fixture
def audit(store: AuditStore) -> CheckpointAudit:
    return CheckpointAudit(store, turns=True, actor="the auditor")


async def texts(audit: CheckpointAudit, stream: StreamId, seq: int | None = None) -> list[str]:
    """What was said in a conversation, as the audit tells it."""
    turns = [turn async for turn in audit.conversation(stream, seq=seq)]
    return [message.text for turn in turns for message in await audit.messages(turn)]


# What a conversation was


@pytest.mark.parametrize("seed", range(12))
async def test_a_conversation_is_what_the_history_provider_shows(
    store: AuditStore, audit: CheckpointAudit, seed: int
) -> None:
    """Of any sessions that lineages talk in, go back in, clear and fork."""
    draw, provider = random.Random(seed), EventHistoryProvider(store, SOURCE)
    names, states = ["s"], [("s", dict[str, Any]())]
    for step in range(30):
        name, state = draw.choice(states)
        match draw.choice(["talk", "talk", "talk", "go back", "fork", "clear"]):
            case "talk":
                await provider.get_messages(name, state=state)
                state.pop("appends", None)
                await provider.save_messages(name, asked(f"{step}", "yes"), state=state)
            case "go back":
                states.append((name, dict(state)))
            case "fork" if len(names) < 3 and state.get("seq") and "branch" not in state:
                names.append(f"s{step}")
                await provider.fork(name, names[-1], upto_seq=state["seq"])
                states.append((names[-1], {}))
            case "clear" if draw.random() < 0.3:
                await provider.clear(name)
            case _:
                pass
    streams = [stream async for stream in audit.store.streams()]
    for stream in streams:
        assert await texts(audit, stream) == [each.text for each in await provider.messages(stream.run_id)]
    assert all([verdict.ok async for verdict in audit.verify_all(decode=True)])


async def test_parts_of_a_turn_stand_together(audit: CheckpointAudit) -> None:
    call, result = looked_up()
    first = turn_event(session(), 1, [call], turn_id="t1")
    other = turn_event(session(), 2, asked("what else?", "nothing"), previous=first)
    rest = turn_event(session(), 3, [result], previous=other, continues="t1")
    for event in (first, other, rest):
        await audit.store.append(event)
    assert [turn.seq async for turn in audit.conversation(session())] == [1, 3, 2]


async def test_a_lineage_that_goes_round_in_a_circle_is_refused(audit: CheckpointAudit) -> None:
    one = turn_event(session("a"), 1, [], previous=turn_event(session("b"), 1, []))
    await audit.store.append(one)
    await audit.store.append(turn_event(session("b"), 1, [], previous=one))
    with pytest.raises(CheckpointDecodeError, match="goes on from itself"):
        await texts(audit, session("a"))


# Whether it is all there


def _checkpoint(stream: StreamId) -> CheckpointEvent:
    return make_event(stream, 1)


def _clear(stream: StreamId) -> CheckpointEvent:
    return clear_event(turn_event(stream, 0, []))


def _state(stream: StreamId) -> CheckpointEvent:
    event = turn_event(stream, 1, asked("one", "1"))
    return sealed(msgspec.structs.replace(event, type="session", turn=None))


def _turn(stream: StreamId) -> CheckpointEvent:
    return turn_event(stream, 1, asked("one", "1"))


MISPLACED: list[tuple[bool, Callable[[StreamId], CheckpointEvent], str]] = [
    (True, _checkpoint, "is a checkpoint of a run, and lies among sessions"),
    (False, _turn, "is a turn of a session, and lies among runs"),
    (False, _state, "is what a host keeps of a session, and lies among runs"),
    (False, lambda stream: sealed(msgspec.structs.replace(_clear(stream), previous_digest="")), "clears a session"),
]


@pytest.mark.parametrize(("turns", "made", "why"), MISPLACED)
async def test_verify_names_what_lies_in_the_log_of_the_other_kind(
    store: AuditStore, turns: bool, made: Callable[[StreamId], CheckpointEvent], why: str
) -> None:
    audit, stream = CheckpointAudit(store, turns=turns), StreamId("any", "stream")
    await audit.store.append(made(stream))
    for decode in (False, True):
        [problem] = (await audit.verify(stream, decode=decode)).problems
        assert (problem.seq, problem.why) == (1, "stray")
        assert why in problem.detail


@pytest.mark.parametrize("made", [_turn, _state])
async def test_a_turn_among_runs_is_loaded_as_no_checkpoint(
    store: AuditStore, made: Callable[[StreamId], CheckpointEvent]
) -> None:
    """Not even where its payload is one."""
    event = made(StreamId("orders", "run"))
    forged = CODEC.encode(_saved("cp"))
    event = sealed(msgspec.structs.replace(event, checkpoint_id="cp", payload=delta.encode(forged)))
    await store.append(event)
    storage = EventCheckpointStorage(store)
    for bound in (storage, storage.for_run("run")):
        with pytest.raises(Exception, match=r"cp"):
            await bound.load("cp")
        with pytest.raises(CheckpointDecodeError, match=f"its type is {event.type}"):
            await bound.get_latest(workflow_name="orders")
        assert await bound.list_checkpoints(workflow_name="orders") == []
    audit = CheckpointAudit(store)
    with pytest.raises(CheckpointDecodeError, match="is no checkpoint"):
        await audit.checkpoint(event)
    with pytest.raises(CheckpointDecodeError, match="is no checkpoint"):
        [_ async for _ in audit.states(event.stream)]


async def test_a_checkpoint_among_sessions_is_no_turn(audit: CheckpointAudit) -> None:
    await audit.store.append(event := make_event(session(), 1))
    assert await texts(audit, session()) == []
    with pytest.raises(CheckpointDecodeError, match="is no turn"):
        await audit.messages(event)


def _holding(**values: object) -> Payload:
    return delta.encode(CODEC.encode_values(values))


@pytest.mark.parametrize(
    ("payload", "roles", "why"),
    [
        (_holding(messages=[{"role": "user", "contents": []}]), {"assistant": 1}, "payload"),
        (_holding(messages=[{"role": "user", "contents": []}]), {"user": 2}, "payload"),
        (_holding(other=[]), {}, "undecodable"),
        (_holding(messages=["hello"]), {"": 1}, "undecodable"),
        (_holding(messages=[{"role": "user", "contents": 7}]), {"user": 1}, "undecodable"),
        (_holding(messages=[{"type": "message"}]), {}, "undecodable"),
    ],
)
async def test_verify_reads_each_turn_when_asked_to(
    audit: CheckpointAudit, payload: Payload, roles: dict[str, int], why: str
) -> None:
    event = turn_event(session(), 1, [])
    event = sealed(msgspec.structs.replace(event, payload=payload, turn=Turn(roles=roles)))
    await audit.store.append(event)
    assert (await audit.verify(session())).ok
    [problem] = (await audit.verify(session(), decode=True)).problems
    assert (problem.seq, problem.why) == (1, why)


async def test_types_that_are_not_allowed_are_no_fault_of_a_turn(audit: CheckpointAudit) -> None:
    message = {"type": "message", "role": "user", "contents": [], "additional_properties": {"of": Plan}}
    codec = type(CODEC)([f"{Plan.__module__}:{Plan.__qualname__}"])
    event = turn_event(session(), 1, [Message("user", [])])
    payload = delta.encode(codec.encode_values({"messages": [message]}))
    await audit.store.append(sealed(msgspec.structs.replace(event, payload=payload)))
    assert (await audit.verify(session(), decode=True)).ok


# Export and import


async def lines_of(audit: CheckpointAudit) -> list[bytes]:
    return [line async for line in audit.export()]


async def test_an_export_carries_sessions_byte_for_byte(engine: Engine, audit: CheckpointAudit, tmp_path: Path) -> None:
    one, *_, last = await talked(audit.store, session(), "one", "two", "three")
    branch = await branched(audit.store, one, "other")
    await forked(audit.store, last, "s2")
    await audit.store.append(clear_event(last, **{branch.run_id: 1}))
    await audit.store.append(sealed(msgspec.structs.replace(_state(StreamId("eventckpt:sessions", "k")))))
    lines = await lines_of(audit)
    assert json.loads(lines[0])["holds"] == "turns"
    async with SqliteEventStore(tmp_path / "other.db") as other:
        copy = CheckpointAudit(other, turns=True)
        for added in (7, 0):
            imported = await copy.import_lines(lines)
            assert imported.whole
            assert imported.added == added
        assert sorted(await lines_of(copy)) == sorted(lines)
        assert await lines_of(CheckpointAudit(other)) == [lines_of_nothing(0), lines_of_nothing(1)]


def lines_of_nothing(at: int) -> bytes:
    return [b'{"format":"eventckpt-export","version":2}', b'{"end":true,"runs":0,"events":0}'][at]


@pytest.mark.parametrize(("turns", "how"), [(True, "without --turns"), (False, "with --turns")])
async def test_an_export_of_the_one_kind_is_not_imported_as_the_other(store: AuditStore, turns: bool, how: str) -> None:
    runs, sessions = CheckpointAudit(store), CheckpointAudit(store, turns=True)
    await store.append(make_event(StreamId("orders", "run"), 1))
    await talked(sessions.store, session(), "one")
    here, there = (sessions, runs) if turns else (runs, sessions)
    lines = await lines_of(there)
    imported = await here.import_lines(lines)
    assert (imported.events, imported.added, imported.whole) == (0, 0, False)
    assert how in imported.problems[0]
    headless = await here.import_lines(lines[1:])  # nor is it where the file does not say
    assert headless.added == 0
    assert any("and lies among" in problem for problem in headless.problems)


async def test_an_export_of_what_nobody_knows_is_refused(audit: CheckpointAudit) -> None:
    line = b'{"format":"eventckpt-export","version":2,"holds":"dreams"}'
    imported = await audit.import_lines([line])
    assert "'dreams', of which this eventckpt knows nothing" in imported.problems[0]


def _changed(**fields: Any) -> CheckpointEvent:
    return sealed(msgspec.structs.replace(_turn(session()), **fields))


def _cleared(**fields: Any) -> CheckpointEvent:
    return sealed(msgspec.structs.replace(_clear(session()), previous_digest="", **fields))


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (_changed(payload=None), "is a turn without a payload"),
        (_changed(turn=None), "is a turn, and does not say so"),
        (_changed(type="session"), "says so and is none"),
        (_changed(schema=1), "of the schema 1"),
        (_changed(checkpoint_id=""), "is of no checkpoint"),
        (_changed(cleared={}), "is a turn that records a removal"),
        (
            _changed(
                forked_from=ForkPoint(workflow_name=SOURCE, run_id="s0", seq=1, checkpoint_id="t"), cleared={"s0": -1}
            ),
            "up to a seq that no event has",
        ),
        (_cleared(schema=1), "of the schema 1"),
        (_cleared(checkpoint_id="t1"), "deletes a checkpoint"),
        (_cleared(cleared={"b": -1}), "up to a seq that no event has"),
        (_cleared(payload=_holding(messages=[])), "a tombstone with a payload"),
        (_cleared(turn=Turn()), "says so and is none"),
    ],
)
async def test_no_store_takes_an_event_of_a_session_that_is_none(
    audit: CheckpointAudit, event: CheckpointEvent, why: str
) -> None:
    imported = await audit.import_lines([event_line(event)])
    assert imported.added == 0
    assert any(why in problem for problem in imported.problems), imported.problems


# Pruning


async def pruned(audit: CheckpointAudit, **how: Any) -> list[StreamId]:
    plans = [plan async for plan in audit.plan_prune(**how)]
    for plan in plans:
        if plan.seqs:
            await audit.prune(plan)
    return [plan.stream for plan in plans if plan.seqs]


async def test_a_pruned_conversation_still_reads_and_goes_on(store: AuditStore, audit: CheckpointAudit) -> None:
    events = await talked(audit.store, session(), *map(str, range(12)))
    assert await pruned(audit, keep=2) == [session()]
    assert await texts(audit, session()) == ["4", "4!", "5", "5!"]
    assert (await audit.verify(session(), decode=True)).ok
    provider, state = EventHistoryProvider(store, SOURCE), {"seq": events[-1].seq}
    await provider.save_messages("s1", asked("6", "6!"), state=state)
    assert "branch" not in state
    assert await texts(audit, session()) == ["4", "4!", "5", "5!", "6", "6!"]


async def test_what_branches_and_forks_rest_on_stays(audit: CheckpointAudit) -> None:
    events = await talked(audit.store, session(), *map(str, range(12)))
    branch = await branched(audit.store, events[1], "b1", "b2", "b3")
    fork = await forked(audit.store, events[2], "other", "f1", "f2")
    before = {stream: await texts(audit, stream) for stream in (branch, fork)}
    assert set(await pruned(audit, keep=1)) == {session(), branch, fork}
    assert await texts(audit, session()) == [said for n in (0, 1, 2, 5) for said in (f"{n}", f"{n}!")]
    assert await texts(audit, branch) == [*before[branch][:4], "b1", "b1!", "b3", "b3!"]
    assert await texts(audit, fork) == [*before[fork][:6], "f2", "f2!"]
    assert all([verdict.ok async for verdict in audit.verify_all(decode=True)])
    info = await audit.info(branch)
    assert info is not None
    assert info.session == "s1"


async def test_clears_stay_and_what_they_hide_goes(audit: CheckpointAudit) -> None:
    *_, last = await talked(audit.store, session(), "one", "two")
    clear = clear_event(last)
    await audit.store.append(clear)
    await audit.store.append(turn_event(session(), 4, asked("three", "3"), previous=clear))
    await pruned(audit, keep=5)
    assert [(event.seq, event.cleared) async for event in audit.history(session())][:2] == [(3, {}), (4, None)]
    assert await texts(audit, session()) == ["three", "3"]


async def test_a_turn_in_parts_goes_as_a_whole_or_not_at_all(audit: CheckpointAudit) -> None:
    previous = None
    for seq in range(1, 7):  # three turns of two parts each
        first = seq - 1 + seq % 2
        part = {} if seq % 2 else {"continues": f"t{first}"}
        previous = turn_event(session(), seq, asked(f"{seq}", "yes"), previous=previous, turn_id=f"t{seq}", **part)
        await audit.store.append(previous)
    await pruned(audit, keep=2)
    assert [event.seq async for event in audit.history(session())] == [3, 4, 5, 6, 7]


async def test_nothing_of_a_session_is_pruned_by_age_that_its_turn_was_recorded_after(audit: CheckpointAudit) -> None:
    await talked(audit.store, session(), *map(str, range(4)))
    await pruned(audit, keep=0, before=datetime(2026, 5, 1, 10, 3, tzinfo=UTC))
    assert await texts(audit, session()) == ["2", "2!", "3", "3!"]


def _saved(checkpoint_id: str) -> Any:
    return WorkflowCheckpoint("orders", "graph", checkpoint_id=checkpoint_id)
