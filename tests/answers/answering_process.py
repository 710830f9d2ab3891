"""A process that answers, and stops where a test wants it: `python -m tests.answers.answering_process STORE PAID AT`.

STORE is where the store is, in JSON; PAID a file that what was paid is written to; AT where it stops: "claimed", before
anything is saved under the claim; "on record", when the answer is, and nothing was paid. It says so in a line, and goes
on at a line of its input. At its end it prints what became of its answer.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent_framework import WorkflowCheckpointException

from eventckpt import EventCheckpointStorage, answer

from ..holders import TTL, is_told, opened, says
from .workflows import ALLOWED, RUN, Pay, refund


def paying_into(paid: Path, who: str) -> Pay:
    """What pays so that other processes see it."""

    def pay(item: str, approved: bool) -> None:
        with paid.open("a") as file:
            file.write(f"{who} {item} {approved}\n")

    return pay


async def answered(where: str, paid: Path, at: str) -> str:
    """What becomes of the answer."""
    into = paying_into(paid, "ann")

    def pay(item: str, approved: bool) -> None:
        if at == "on record":
            says(at)
            is_told()
        into(item, approved)

    async def restored() -> None:
        if at == "claimed":
            says(at)
            await asyncio.to_thread(is_told)

    async with opened(where) as store:
        storage = EventCheckpointStorage(store, allowed_checkpoint_types=ALLOWED)
        try:
            await answer(storage, RUN, {"may-shoes": True}, workflow=refund(pay, restored), actor="ann", ttl=TTL)
        except WorkflowCheckpointException as error:
            return type(error).__name__
    return "answered"


if __name__ == "__main__":
    says(asyncio.run(answered(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
