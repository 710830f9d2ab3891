"""A workflow that resumes under a claim which another takes over: what was refused once has no further effect."""

from __future__ import annotations

import asyncio

import pytest

from eventckpt import ClaimLostError

from ..engines import Engine
from .claim_door import Door
from .claimants import RUN, Server, log_of
from .steps import NAME, STEPS, begin, resume

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)


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
