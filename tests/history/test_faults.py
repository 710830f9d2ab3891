"""What goes wrong with the framework's own history on Cosmos DB, and does not here.

Of the faults that lose or mix turns, a test says what the framework's provider makes of the same: nobody has to believe
it, and the day it is mended shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_framework import AgentExecutor, AgentSession, HistoryProvider, Message, Workflow, WorkflowBuilder
from azure.cosmos.exceptions import CosmosHttpResponseError

from eventckpt import EventCheckpointStorage, SqliteCheckpointStorage

from ..engines import Engine
from ..storage.workflows import RUN, latest
from .histories import Histories, question_and_answer, stored, upstream_history
from .models import Model, agent_with, said, turn_of

WORKFLOW = "conversation"
SECONDS_BEHIND = 5


# The same turn three times


async def same_turn_three_times(history: HistoryProvider, settle: Callable[[], None]) -> list[str]:
    agent, session = agent_with(history, Model()), AgentSession(session_id="s")
    for _ in range(3):
        await agent.run("yes", session=session)
        settle()
    return await stored(history)


async def test_the_same_turn_three_times_without_ids_is_kept_three_times(histories: Histories) -> None:
    assert await same_turn_three_times(histories.open(), histories.settle) == 3 * turn_of("yes")


async def test_upstream_keeps_the_same_turn_once() -> None:
    async with upstream_history() as (history, settle):
        assert await same_turn_three_times(history, settle) == turn_of("yes")


# A clock that is behind


async def question_then_answer(
    writers: tuple[HistoryProvider, HistoryProvider], settle: Callable[[], None], set_back: Callable[[], None]
) -> list[str]:
    """Two writers, one after the other has read what the first wrote; the clock of the second is behind."""
    first, second = writers
    await first.save_messages("s", [Message("user", ["question"])])
    settle()
    set_back()
    state: dict[str, Any] = {}
    assert said(await second.get_messages("s", state=state)) == ["question"]
    await second.save_messages("s", [Message("assistant", ["answer"])], state=state)
    settle()
    return await stored(first)


class Behind(datetime):
    """The clock of a machine that is some seconds behind."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) - timedelta(seconds=SECONDS_BEHIND)


async def test_a_clock_that_is_5_seconds_behind_changes_no_order(
    histories: Histories, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime.now(UTC).isoformat()
    writers = histories.open(source_id="chat"), histories.open(source_id="chat")
    order = await question_then_answer(
        writers, histories.settle, lambda: monkeypatch.setattr("eventckpt.storage.compose.datetime", Behind)
    )
    assert order == ["question", "answer"]
    sessions = engine.open().sessions()
    times = [event.recorded_at async for event in sessions.workflow_headers("chat")]
    assert sorted(time > before for time in times) == [False, True], "the second clock was set back"


async def test_upstream_puts_the_answer_before_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = SimpleNamespace(time_ns=lambda: time.time_ns() - SECONDS_BEHIND * 10**9)
    async with upstream_history() as (history, settle):
        order = await question_then_answer(
            (history, history),
            settle,
            lambda: monkeypatch.setattr("agent_framework_azure_cosmos._history_provider.time", behind),
        )
    assert order == ["answer", "question"]


# Going back


def conversation(history: HistoryProvider, model: Model) -> Workflow:
    agent = agent_with(history, model)
    session = agent.create_session(session_id="s")
    return WorkflowBuilder(start_executor=AgentExecutor(agent, session=session), name=WORKFLOW).build()


async def shown_after_going_back(
    history: Callable[[], HistoryProvider], storage: EventCheckpointStorage, settle: Callable[[], None]
) -> list[str]:
    """What the model is shown where a third turn follows on the first, after a second one was taken."""
    run = storage.for_run(RUN)
    workflow = conversation(history(), Model())
    await workflow.run("one", checkpoint_storage=run)
    first = await latest(run, WORKFLOW)
    settle()
    await workflow.run("two", checkpoint_storage=run)
    settle()

    model = Model()
    workflow = conversation(history(), model)
    await workflow.run(checkpoint_id=first.checkpoint_id, checkpoint_storage=run)
    await workflow.run("three", checkpoint_storage=run)
    [shown] = model.shown
    return shown


async def test_a_workflow_that_goes_back_shows_the_model_its_own_past(histories: Histories, engine: Engine) -> None:
    shown = await shown_after_going_back(histories.open, engine.storage(), histories.settle)
    assert shown == [*turn_of("one"), "three"]
    histories.settle()
    assert await stored(histories.open()) == [*turn_of("one"), *turn_of("two")], "the first branch is there as it was"


async def test_upstream_shows_the_model_what_has_not_happened(tmp_path: Path) -> None:
    async with upstream_history() as (history, settle), SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        shown = await shown_after_going_back(lambda: history, storage, settle)
    assert shown == [*turn_of("one"), *turn_of("two"), "three"]


# Two writers


@pytest.mark.parametrize("stateful", [False, True])
async def test_two_writers_of_the_same_messages_store_them_once(histories: Histories, *, stateful: bool) -> None:
    messages = question_and_answer("one", message_id="answer")
    messages[0].message_id = "question"

    async def write(history: HistoryProvider) -> None:
        state: dict[str, Any] | None = {} if stateful else None
        await history.get_messages("s", state=state)
        await history.save_messages("s", list(messages), state=state)

    await asyncio.gather(write(histories.open()), write(histories.open()))
    histories.settle()
    assert await stored(histories.open()) == turn_of("one")


@pytest.mark.parametrize("writers", [2, 5])
async def test_writers_without_a_past_lose_nothing_of_each_other(histories: Histories, writers: int) -> None:
    """Two ordinary requests at once, each with a session object of its own: neither hides the other's turn."""

    async def request(number: int) -> None:
        await agent_with(histories.open(), Model()).run(f"question {number}", session=AgentSession(session_id="s"))

    await asyncio.gather(*(request(number) for number in range(writers)))
    histories.settle()
    found = await stored(histories.open())
    turns = [found[place : place + 2] for place in range(0, len(found), 2)]
    assert sorted(turns) == [turn_of(f"question {number}") for number in range(writers)]


# Large messages


def text_of(megabytes: float) -> str:
    """Text that does not compress much."""
    return hashlib.shake_256(b"%d" % int(megabytes * 10)).hexdigest(int(megabytes * 500_000))


@pytest.mark.parametrize("sizes", [(1.2, 1.2), (3,)])
async def test_large_messages_are_stored_and_read(histories: Histories, sizes: tuple[float, ...]) -> None:
    texts = [text_of(megabytes) for megabytes in sizes]
    await histories.open().save_messages("s", [Message("user", [text]) for text in texts])
    histories.settle()
    assert await stored(histories.open()) == texts


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # of the SDK's HTTP client
@pytest.mark.parametrize("sizes", [(1.2, 1.2), (3,)])
async def test_upstream_stores_none_of_them(sizes: tuple[float, ...]) -> None:
    async with upstream_history() as (history, settle):
        with pytest.raises(CosmosHttpResponseError):
            await history.save_messages("s", [Message("user", [text_of(megabytes)]) for megabytes in sizes])
        settle()
        assert await stored(history) == []


# No session


@pytest.mark.parametrize("session_id", [None, ""])
async def test_without_a_session_nothing_is_read_and_nothing_is_written(
    histories: Histories, session_id: str | None
) -> None:
    history = histories.open()
    operations = [
        lambda: history.get_messages(session_id),
        lambda: history.save_messages(session_id, question_and_answer("one")),
        lambda: history.save_messages(session_id, []),
        lambda: history.clear(session_id),
    ]
    for operation in operations:
        with pytest.raises(ValueError, match="session"):
            await operation()
    assert await history.list_sessions() == []
