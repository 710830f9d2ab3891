"""What a lineage is shown, and where it goes on, after what it had seen was pruned or erased."""

from __future__ import annotations

from typing import Any

import pytest
from agent_framework import AgentSession

from eventckpt import CheckpointAudit, EventHistoryProvider, SessionConflictError, StreamId
from eventckpt.events import REMOVALS
from eventckpt.stores import AuditStore

from ..engines import Engine
from .histories import Histories, question_and_answer, stored
from .models import turn_of
from .test_options import ask, seen


def opened(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def prune(engine: Engine, *, keep: int) -> None:
    audit = CheckpointAudit(opened(engine), turns=True)
    for plan in [plan async for plan in audit.plan_prune(keep=keep)]:
        await audit.prune(plan)


async def is_whole(engine: Engine) -> bool:
    audit = CheckpointAudit(opened(engine), turns=True)
    return all([verdict.ok async for verdict in audit.verify_all(decode=True)])


async def begun(history: EventHistoryProvider, *questions: str) -> AgentSession:
    session = AgentSession(session_id="s")
    session.state[history.source_id] = {"seq": 0}
    for question in questions:
        await ask(history, session, question)
    return session


def copy_of(session: AgentSession) -> AgentSession:
    return AgentSession.from_dict(session.to_dict())


@pytest.mark.parametrize("seen_before", [0, 1, 2])
async def test_who_goes_back_to_what_was_pruned_is_not_shown_what_others_said_since(
    histories: Histories, engine: Engine, seen_before: int
) -> None:
    session = await begun(histories.open(), *["one", "two"][:seen_before])
    earlier = copy_of(session)
    for question in ["one", "two", "three", "four"][seen_before:]:
        await ask(histories.open(), session, question)
        histories.settle()
    await prune(engine, keep=1)
    histories.settle()
    history = histories.open()
    assert await seen(history, earlier) == []
    await ask(history, earlier, "another")
    histories.settle()
    for each in (history, histories.open()):
        assert await seen(each, earlier) == turn_of("another")
        assert await seen(each, session) == turn_of("four")


async def test_what_an_old_state_has_seen_last_may_be_pruned_where_a_branch_rests_on_what_was_before(
    histories: Histories, engine: Engine
) -> None:
    history = histories.open()
    session = await begun(history, "one")
    branch = copy_of(session)
    await ask(history, session, "two")
    middle = copy_of(session)
    for question in ("three", "four"):
        await ask(history, session, question)
    await ask(history, branch, "other")
    histories.settle()
    await prune(engine, keep=1)
    histories.settle()
    for each in (history, histories.open()):
        assert await seen(each, middle) == turn_of("one")
        assert await seen(each, branch) == [*turn_of("one"), *turn_of("other")]


async def test_what_was_pruned_before_is_erased_too(histories: Histories, engine: Engine) -> None:
    history = histories.open()
    session = await begun(history, "one", "two", "three")
    histories.settle()
    await prune(engine, keep=1)
    histories.settle()
    await history.erase("s")
    histories.settle()
    for each in (history, histories.open()):
        assert await stored(each) == []
        assert await seen(each, session) == []
    assert await is_whole(engine)
    assert await history.erase("s") == 0


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("operation", ["clear", "erase"])
async def test_a_branch_that_goes_on_after_an_erasure_is_one_of_its_session(
    histories: Histories, engine: Engine, operation: str, knows: bool
) -> None:
    """Not a stream whose beginning, which said of which session it is, was erased."""
    history = histories.open()
    session = await begun(history)
    other = copy_of(session)
    await ask(history, session, "one")
    await ask(history, other, "two")
    histories.settle()
    await histories.open().erase("s")
    histories.settle()
    if knows:  # saved without a look before
        state = other.state[history.source_id]
        await history.save_messages("s", question_and_answer("three"), state=state)
    else:
        await ask(histories.open(), other, "three")
    for question in ("four", "five"):
        await ask(histories.open(), other, question)
        histories.settle()
    await prune(engine, keep=1)
    histories.settle()
    assert await histories.open().list_sessions() == ["s"]
    await getattr(histories.open(), operation)("s")
    histories.settle()
    assert await seen(histories.open(), other) == []
    assert await is_whole(engine)


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("on_conflict", ["branch", "append", "raise"])
async def test_who_remembers_an_erased_session_meets_another_writer_until_it_reads(
    histories: Histories, engine: Engine, on_conflict: Any, knows: bool
) -> None:
    history = histories.open(on_conflict=on_conflict)
    session = await begun(history, "one", "two")
    histories.settle()
    assert await histories.open().erase("s") == 2
    histories.settle()
    stale = copy_of(session)
    saver = history if knows else histories.open(on_conflict=on_conflict)
    state = stale.state[history.source_id]
    if on_conflict == "raise":
        with pytest.raises(SessionConflictError, match="was erased"):
            await saver.save_messages("s", question_and_answer("three"), state=state)
    else:
        await saver.save_messages("s", question_and_answer("three"), state=state)
    histories.settle()
    there = [] if on_conflict != "append" else turn_of("three")
    for each in (saver, histories.open()):
        assert await stored(each) == there
        assert await seen(each, stale) == ([] if on_conflict == "raise" else turn_of("three"))
    await ask(histories.open(on_conflict=on_conflict), session, "four")  # which reads first
    histories.settle()
    assert await stored(histories.open()) == [*there, *turn_of("four")]
    assert await is_whole(engine)


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("on_conflict", ["branch", "append", "raise"])
async def test_what_a_turn_without_a_seq_has_read_it_has_seen(
    histories: Histories, on_conflict: Any, knows: bool
) -> None:
    """Of an answer that was made from what was erased meanwhile, nothing comes into the session unasked."""
    await begun(histories.open(), "one", "two")
    histories.settle()
    history = histories.open(on_conflict=on_conflict)
    reads: dict[str, Any] = {}
    reads_not: dict[str, Any] = {}
    assert len(await history.get_messages("s", state=reads)) == len([*turn_of("one"), *turn_of("two")])
    assert await histories.open().erase("s") == 2
    histories.settle()
    saver = history if knows else histories.open(on_conflict=on_conflict)
    if on_conflict == "raise":
        with pytest.raises(SessionConflictError, match="was erased"):
            await saver.save_messages("s", question_and_answer("three"), state=reads)
    else:
        await saver.save_messages("s", question_and_answer("three"), state=reads)
        assert ("branch" in reads) is (on_conflict == "branch")
    histories.settle()
    there = turn_of("three") if on_conflict == "append" else []
    assert await stored(histories.open()) == there
    await saver.save_messages("s", question_and_answer("four"), state=reads_not)
    histories.settle()
    assert await stored(histories.open()) == [*there, *turn_of("four")]


async def test_one_event_tells_that_a_session_and_its_branches_were_erased(
    histories: Histories, engine: Engine
) -> None:
    history = histories.open()
    session = await begun(history, "one")
    other = copy_of(session)
    await ask(history, session, "two")
    await ask(history, other, "three")
    histories.settle()
    branch = other.state[history.source_id]["branch"]
    assert await history.erase("s") == 3
    histories.settle()
    sessions = opened(engine).sessions()
    headers = [header async for header in sessions.headers(StreamId(history.source_id, REMOVALS))]
    assert [[run.run_id for run in each.removal.runs] for each in headers if each.removal] == [["s", branch]]
    assert await history.erase("s") == 0
    assert await history.list_sessions() == []
