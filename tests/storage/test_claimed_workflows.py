"""A workflow that resumes under a claim which another takes over: what was refused once has no further effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from eventckpt import ClaimLostError, RunCheckpointStorage

from ..engines import Engine
from .claim_door import Door
from .claimants import RUN, Server, log_of

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)

NAME = "orders"
STEPS = 5


class Step(Executor):
    """Does something that cannot be taken back, and hands on."""

    def __init__(self, number: int, effect: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(id=f"step-{number}")
        self._number = number
        self._effect = effect

    @handler
    async def take(self, message: str, context: WorkflowContext[str]) -> None:
        await self._effect(self._number)
        await context.send_message(message)


def built(effect: Callable[[int], Awaitable[None]]) -> Workflow:
    steps = [Step(number, effect) for number in range(STEPS)]
    builder = WorkflowBuilder(start_executor=steps[0], name=NAME)
    for one, other in pairwise(steps):
        builder = builder.add_edge(one, other)
    return builder.build()


async def begin(run: RunCheckpointStorage) -> None:
    """A run that waits in front of its first step."""

    async def stops(number: int) -> None:
        raise ConnectionError("the process ends here")

    with pytest.raises(ConnectionError):
        await built(stops).run("begin", checkpoint_storage=run)


async def resume(run: RunCheckpointStorage, effect: Callable[[int], Awaitable[None]]) -> None:
    latest = await run.get_latest(workflow_name=NAME)
    assert latest is not None
    await built(effect).run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run)


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_after_a_save_that_was_refused_no_superstep_begins(engine: Engine, in_a_task: bool) -> None:
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    await begin(ann.run())
    effects: list[tuple[str, int]] = []

    async def by_bob(number: int) -> None:
        effects.append(("bob", number))

    async def by_ann(number: int) -> None:
        effects.append(("ann", number))
        if number == 1:  # here ann is frozen, until bob has gone on from what she saved
            engine.settle()
            early = asyncio.create_task(_claims(bob, 120))
            await bob.clock.until(early.done)
            await early

    async def _claims(server: Server, wait: float) -> None:
        run = server.run()
        async with run.claim(wait=wait):
            await resume(run, by_bob)

    async def work() -> None:
        run = ann.run()
        async with run.claim():
            await (asyncio.create_task(resume(run, by_ann)) if in_a_task else resume(run, by_ann))

    with pytest.raises(ClaimLostError):
        await work()
    for _ in range(100):
        await asyncio.sleep(0)
    assert effects == [("ann", 0), ("ann", 1), *(("bob", number) for number in range(1, STEPS))]
    engine.settle()
    runs = {each.run_id async for each in engine.open().workflow_headers(NAME)}
    assert runs == {RUN}
    epochs = [each.claim or 0 for each in await log_of(engine)]
    assert epochs == sorted(epochs)


async def test_a_workflow_whose_claim_is_lost_between_two_saves_is_ended_where_it_waits(engine: Engine) -> None:
    door = Door(engine.open())
    ann = Server(engine, "ann", door)
    await begin(ann.run())
    effects: list[int] = []

    async def waits(number: int) -> None:
        effects.append(number)
        if number == 1:
            door.is_shut.add("replace document")  # no renewal comes through
            ann.clock.advance(61)
            await asyncio.Event().wait()

    async def work() -> None:
        run = ann.run()
        async with run.claim():
            await resume(run, waits)

    with pytest.raises(ClaimLostError):
        await work()
    assert effects == [0, 1]
