"""`python -m tests.benchmarks.contenders '["job", …]'`: one contender, which does one turn for each line that it reads.

It prints one line when it is prepared, and the seconds of each turn. An earlier version of the packages runs this file
too: of them it needs only what 0.1.0 has.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

from agent_framework import WorkflowCheckpoint

from .peers import PEERS, Save
from .states import STATES

__all__ = ["JOBS", "READY", "main"]

READY: Final = b"ready\n"
WARM = 10
WORKFLOW: Final = "chat"

Work = Callable[[], Awaitable[object]]


async def save(folder: Path, peer: str, state: str, size: int, *place: str) -> AsyncGenerator[Work, None]:
    """Each turn saves the next checkpoint of one run. The framework copies the state before each save; so no object
    comes twice, which is done here before the turn begins."""
    async with PEERS[peer](folder, *place) as saves:
        run, previous = saves(f"run-{os.getpid()}"), None
        for turn, each in enumerate(STATES[state](size)):
            checkpoint = WorkflowCheckpoint(
                WORKFLOW, "graph", previous_checkpoint_id=previous, state=copy.deepcopy(each)
            )
            previous = checkpoint.checkpoint_id
            if turn < WARM:
                await run(checkpoint)
            else:
                yield lambda run=run, checkpoint=checkpoint: run(checkpoint)


async def parallel(folder: Path, peer: str, state: str, size: int, runs: int, each: int) -> AsyncGenerator[Work, None]:
    """Each turn begins so many runs, side by side, and saves so many checkpoints in each, one after the other."""
    async with PEERS[peer](folder) as saves:
        for turn in count():
            lineages = [
                (saves(f"run-{turn}-{run}"), list(_lineage(islice(STATES[state](size), each)))) for run in range(runs)
            ]

            async def work(lineages: list[tuple[Save, list[WorkflowCheckpoint]]] = lineages) -> None:
                await asyncio.gather(*(_saved(run, checkpoints) for run, checkpoints in lineages))

            yield work


def _lineage(states: Iterator[dict[str, Any]]) -> Iterator[WorkflowCheckpoint]:
    previous = None
    for state in states:
        checkpoint = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        previous = checkpoint.checkpoint_id
        yield checkpoint


async def _saved(run: Save, checkpoints: list[WorkflowCheckpoint]) -> None:
    for checkpoint in checkpoints:
        await run(checkpoint)


JOBS: Final[dict[str, Callable[..., AsyncGenerator[Work, None]]]] = {"save": save, "parallel": parallel}


async def main(job: str, *arguments: str | int) -> None:
    """Do a job's turns until the input ends."""
    logging.disable(logging.WARNING)  # the framework's storages log every save
    random.seed(0)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody else's output is taken for an answer
    async with AsyncExitStack() as open_until_the_end:
        folder = open_until_the_end.enter_context(tempfile.TemporaryDirectory())
        works = JOBS[job](Path(folder), *arguments)
        open_until_the_end.push_async_callback(works.aclose)
        print("prepared", file=answers)
        async for work in works:
            gc.collect()
            if not sys.stdin.readline():  # blocks the loop: nothing else of this process may run between turns
                break
            print(json.dumps(await _timed(work)), file=answers)


async def _timed(work: Work) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.argv[1])))
