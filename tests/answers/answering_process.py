"""A process that answers, and stops where a test wants it: `python -m tests.answers.answering_process STORE PAID AT`.

STORE is where the store is, in JSON; PAID a file that what was paid is written to; AT where it stops: "claimed", before
anything is saved under the claim; "on record", when the answer is, and nothing was paid. It says so in a line, and goes
on at a line of its input. At its end it prints what became of its answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from agent_framework import WorkflowCheckpointException

from eventckpt import CosmosEventStore, EventCheckpointStorage, EventStore, SqliteEventStore, answer

from .workflows import ALLOWED, RUN, Pay, refund

TTL = 3.0
"""Seconds for which this process holds a claim without a sign of life."""


def paying_into(paid: Path, who: str) -> Pay:
    """What pays so that other processes see it."""

    def pay(item: str, approved: bool) -> None:
        with paid.open("a") as file:
            file.write(f"{who} {item} {approved}\n")

    return pay


def opened(where: str | dict[str, str]) -> EventStore:
    return SqliteEventStore(where) if isinstance(where, str) else CosmosEventStore(**where)


async def answered(where: str | dict[str, str], paid: Path, at: str) -> str:
    """What becomes of the answer."""
    into = paying_into(paid, "ann")

    def pay(item: str, approved: bool) -> None:
        if at == "on record":
            print(at, flush=True)
            sys.stdin.readline()
        into(item, approved)

    async def restored() -> None:
        if at == "claimed":
            print(at, flush=True)
            await asyncio.to_thread(sys.stdin.readline)

    async with opened(where) as store:
        storage = EventCheckpointStorage(store, allowed_checkpoint_types=ALLOWED)
        try:
            await answer(storage, RUN, {"may-shoes": True}, workflow=refund(pay, restored), actor="ann", ttl=TTL)
        except WorkflowCheckpointException as error:
            return type(error).__name__
    return "answered"


if __name__ == "__main__":
    print(asyncio.run(answered(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])), flush=True)
