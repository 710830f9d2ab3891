"""Servers that claim, save, annotate, delete, freeze and go on in any order: one holder's saves count at a time."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, ClaimLostError, RunCheckpointStorage, RunClaimedError, StreamId
from eventckpt.stores import AuditStore

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .claimants import RUN, Holding, Server, begun, held, log_of

STEPS = 60


class Play:
    """One server after the other does something, by a seed."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.servers = [Server(engine, f"server {n}") for n in range(3)]
        self.holders: dict[Server, Holding] = {}
        self.acknowledged: list[str] = []
        self.lost = 0

    async def step(self, number: int) -> None:
        server = self.random.choice(self.servers)
        steps = (self.claim, self.end, self.save, self.save, self.save_without, self.annotate, self.delete, self.wait)
        await self.random.choice(steps)(server, f"c{number}")

    async def claim(self, server: Server, name: str) -> None:
        if server not in self.holders:
            with suppress(RunClaimedError):
                self.holders[server] = await held(await server.resumed())

    async def end(self, server: Server, name: str) -> None:
        if (holding := self.holders.pop(server, None)) is not None:
            error = await holding.ended()
            assert error is None or isinstance(error, ClaimLostError)
            self.lost += error is not None

    async def save(self, server: Server, name: str) -> None:
        if (holding := self.holders.get(server)) is not None and not holding.was_cancelled:
            try:
                await self._save(holding.run, name)
            except ClaimLostError:
                await self.end(server, name)

    async def save_without(self, server: Server, name: str) -> None:
        await self._save(server.run(), name)

    async def _save(self, run: RunCheckpointStorage, name: str) -> None:
        self.engine.settle()
        latest: WorkflowCheckpoint | None = None
        if self.random.random() < 0.5 or run.workflow_name is None:
            latest = await run.get_latest(workflow_name=WORKFLOW)
        await run.save(checkpoint(latest, checkpoint_id=name))
        self.acknowledged.append(name)

    async def annotate(self, server: Server, name: str) -> None:
        await server.run().annotate(tags={"last": name})

    async def delete(self, server: Server, name: str) -> None:
        await server.run().delete("root")

    async def wait(self, server: Server, name: str) -> None:
        """For this server alone time goes by: to the others it is as if they were frozen."""
        server.clock.now += self.random.choice([1, 30, 61])
        if self.random.random() < 0.5:
            await server.clock.passes(1)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("engine", ["memory", "sqlite"], indirect=True)
async def test_however_they_take_turns_one_holder_at_a_time_is_acknowledged(engine: Engine, seed: int) -> None:
    await begun(engine)
    play = Play(engine, seed)
    for number in range(STEPS):
        await play.step(number)
    for server in play.servers:
        await play.end(server, "")

    in_force = 0
    for event in await log_of(engine):
        if event.is_claim:
            assert event.seq > in_force
            in_force = event.seq
        elif event.type == "checkpoint":
            assert event.claim in (None, in_force)
    store = engine.open()
    assert isinstance(store, AuditStore)
    stored = {each.checkpoint_id async for each in store.workflow_headers(WORKFLOW) if each.type == "checkpoint"}
    assert stored == {"root", *play.acknowledged}
    assert (await CheckpointAudit(store).verify(StreamId(WORKFLOW, RUN))).ok
