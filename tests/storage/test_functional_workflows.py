"""Functional workflows of the framework on our storages: steps that ended are not repeated."""

from __future__ import annotations

import warnings

import pytest
from agent_framework import (
    RunContext,
    WorkflowRunState,
    step,
    workflow,
)

from eventckpt import (
    CheckpointTypeNotAllowedError,
)

from ..engines import Engine
from .workflows import (
    QUESTION,
    RUN,
    UNREGISTERED,
    CrashError,
    Question,
    Unregistered,
    latest,
    log,
)

# Functional workflows

ran: list[str] = []
"""Which steps ran to their end, in this test."""
crash_in: set[str] = set()
"""The steps that die."""


@pytest.fixture(autouse=True)
def _every_process_lives() -> None:
    ran.clear()
    crash_in.clear()


def enter(name: str) -> None:
    if name in crash_in:
        raise CrashError
    ran.append(name)


with warnings.catch_warnings():
    # The framework says once per process that functional workflows are experimental: at their first decorator.
    warnings.simplefilter("ignore", FutureWarning)

    @step
    async def parse(text: str) -> list[int]:
        enter("parse")
        return [int(word) for word in text.split()]

    @step
    async def total(numbers: list[int]) -> int:
        enter("total")
        return sum(numbers)

    @step
    async def tell(number: int) -> str:
        enter("tell")
        return f"it is {number}"

    @workflow(name="adding")
    async def adding(text: str) -> str:
        return await tell(await total(await parse(text)))

    @workflow(name="reviewing")
    async def reviewing(text: str, ctx: RunContext) -> str:
        number = await total(await parse(text))
        approved = await ctx.request_info(Question(f"may it be {number}?"), bool)
        return await tell(number) if approved else "refused"

    @step
    async def careless() -> Unregistered:
        return Unregistered()

    @workflow(name="careless-steps")
    async def careless_steps(text: str) -> str:
        await careless()
        return text


async def test_a_functional_workflow_does_not_repeat_finished_steps_in_another_process(engine: Engine) -> None:
    crash_in.add("tell")
    with pytest.raises(CrashError):
        await adding.build().run("1 2 3", checkpoint_storage=engine.storage().for_run(RUN))
    assert ran == ["parse", "total"]

    ran.clear()
    crash_in.clear()
    storage = engine.storage()
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "adding")
    result = await adding.build(checkpoint_storage=run).run(checkpoint_id=checkpoint.checkpoint_id)

    assert (ran, result.get_outputs()) == (["tell"], ["it is 6"])
    events = await log(storage, "adding")
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.previous_checkpoint_id for event in events] == [None, *(event.checkpoint_id for event in events[:-1])]


async def test_a_functional_workflow_that_runs_twice_on_one_bound_run_continues_its_stream(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run(RUN)
    first = await adding.build().run("1 2", checkpoint_storage=run)
    second = await adding.build().run("3 4", checkpoint_storage=run)

    assert [result.get_outputs() for result in (first, second)] == [["it is 3"], ["it is 7"]]
    events = await log(storage, "adding")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [seq for seq, event in enumerate(events, 1) if event.previous_checkpoint_id is None] == [1, 5]
    assert [event.run_id for event in events if event.forked_from] == []
    assert (await latest(run, "adding")).state["_original_message"] == "3 4"


async def test_a_functional_workflow_asks_and_another_process_answers(engine: Engine) -> None:
    asked = await reviewing.build().run(
        "20 22", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    assert asked.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS

    ran.clear()
    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "reviewing")
    [(request_id, request)] = checkpoint.pending_request_info_events.items()
    result = await reviewing.build().run(
        checkpoint_id=checkpoint.checkpoint_id, responses={request_id: True}, checkpoint_storage=run
    )

    assert request.data == Question("may it be 42?")
    assert (ran, result.get_outputs()) == (["tell"], ["it is 42"])
    pending = [len(event.summary.pending_requests) for event in await log(storage, "reviewing")]
    assert (pending[2], pending[-1]) == (1, 0)


async def test_a_functional_workflow_fails_where_a_step_returns_a_type_that_is_not_allowed(engine: Engine) -> None:
    heard: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: heard.append(error))

    with pytest.raises(CheckpointTypeNotAllowedError) as raised:
        await careless_steps.build().run("x", checkpoint_storage=storage.for_run(RUN))

    assert raised.value.type_key == UNREGISTERED
    assert heard == [raised.value]
    assert await log(storage, "careless-steps") == []
