"""A process that claims a run and goes on with it: `python -m tests.storage.claiming_process STORE DONE HOW STOPS TTL`.

STORE is where the store is, in JSON; DONE a file that each step adds a line to; HOW the kind of workflow; STOPS the
step in whose middle it stops, and then tries to save. At its end it prints what became of the claim; where that was
lost, what a fresh handle comes to. With HOW "rounds" it claims as often as it is told to, and holds each until it is
told again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from agent_framework import WorkflowCheckpoint

from eventckpt import ClaimLostError, EventCheckpointStorage, RunCheckpointStorage, RunClaimedError

from ..holders import PATIENCE, is_told, opened, says
from .claimants import RUN
from .steps import NAME, Build, Effect, functional, graph, resume

BUILDS: dict[str, Build] = {"graph": graph, "functional": functional}


def doing(done: Path, who: str) -> Effect:
    """What is done so that other processes see it."""

    async def effect(number: int) -> None:
        with done.open("a") as file:
            file.write(f"{who} {number}\n")

    return effect


async def latest_of(run: RunCheckpointStorage) -> WorkflowCheckpoint:
    latest = await run.get_latest(workflow_name=NAME)
    assert latest is not None
    return latest


async def save_after(run: RunCheckpointStorage, latest: WorkflowCheckpoint) -> None:
    """Say what becomes of one more checkpoint."""
    following = replace(latest, checkpoint_id=str(uuid4()), previous_checkpoint_id=latest.checkpoint_id)
    try:
        await run.save(following)
    except (ClaimLostError, asyncio.CancelledError):  # in the task of the claim's body it ends that one
        says("refused")
        raise
    says("forked" if run.forked_to else "saved")


async def work(storage: EventCheckpointStorage, done: Path, build: Build, stops_in: int, ttl: float) -> None:
    run, does = storage.for_run(RUN, workflow_name=NAME), doing(done, "ann")

    async def effect(number: int) -> None:
        await does(number)
        if number == stops_in:
            latest = await latest_of(run)
            says("in its middle")
            is_told()
            await save_after(run, latest)

    try:
        async with run.claim(ttl=ttl, wait=PATIENCE):
            await resume(run, effect, build)
    except ClaimLostError as error:
        says(type(error).__name__)
        is_told()
    fresh = storage.for_run(RUN, workflow_name=NAME)
    async with fresh.claim(ttl=ttl, wait=PATIENCE):
        await save_after(fresh, await latest_of(fresh))


async def rounds(storage: EventCheckpointStorage) -> None:
    while is_told():
        try:
            async with storage.for_run(RUN, workflow_name=NAME).claim() as claim:
                says(json.dumps([claim.owner, claim.epoch]))
                await asyncio.to_thread(is_told)
        except RunClaimedError as error:
            says(json.dumps([error.owner, 0]))
        says("over")


async def main(where: str, done: str, how: str, stops_in: str = "0", ttl: str = "60") -> None:
    async with opened(where) as store:
        if how == "rounds":
            await rounds(EventCheckpointStorage(store))
        else:
            await work(EventCheckpointStorage(store, actor="ann"), Path(done), BUILDS[how], int(stops_in), float(ttl))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
