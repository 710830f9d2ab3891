"""Twenty runs of one workflow at once, on one store.

Shows: why a storage is bound to a run with `for_run`. The framework's checkpoints carry no run id, so that "the latest
checkpoint of this workflow" is that of whichever run saved last; a bound storage answers for its own run.

Run it:   python samples/parallel_runs.py [--store PATH|ENDPOINT]
You see:  how many runs get their own latest checkpoint from a bound storage, and how many from an unbound one. The
          exit code is 0 only if every bound one does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Never

from agent_framework import (
    CheckpointStorage,
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    handler,
)
from place import Place, is_taken, open_storage, place
from printing import plain, verdict

from eventckpt import EventCheckpointStorage, StreamId

NAME = "order"
RUN_IDS = [f"order-{number:02}" for number in range(1, 21)]


class Till(Executor):
    @handler
    async def take(self, order: str, ctx: WorkflowContext[str]) -> None:
        ctx.set_state("order", order)
        await ctx.send_message(order)


class Packer(Executor):
    @handler
    async def pack(self, order: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(f"parcel of {order}")


class Courier(Executor):
    @handler
    async def carry(self, parcel: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{parcel} is on its way")


def build() -> Workflow:
    till, packer, courier = Till(id="till"), Packer(id="packer"), Courier(id="courier")
    return (
        WorkflowBuilder(start_executor=till, name=NAME, output_from=[courier])
        .add_chain([till, packer, courier])
        .build()
    )


async def order(storage: EventCheckpointStorage, run_id: str) -> str:
    """One run: its own workflow instance, its own bound storage; the store is shared."""
    result = await build().run(run_id, checkpoint_storage=storage.for_run(run_id))
    return result.get_outputs()[0]


async def latest(storage: CheckpointStorage) -> WorkflowCheckpoint:
    found = await storage.get_latest(workflow_name=NAME)
    assert found is not None
    return found


async def demonstrate(path: Place) -> bool:
    async with open_storage(path) as storage:
        outputs = await asyncio.gather(*(order(storage, run_id) for run_id in RUN_IDS))
        bound = [await latest(storage.for_run(run_id)) for run_id in RUN_IDS]
        unbound = await latest(storage)
        logs = [[event async for event in storage.store.headers(StreamId(NAME, run_id))] for run_id in RUN_IDS]

    own = sum(checkpoint.state["order"] == run_id for run_id, checkpoint in zip(RUN_IDS, bound, strict=True))
    right = sum(unbound.state["order"] == run_id for run_id in RUN_IDS)
    print(f"{len(RUN_IDS)} runs of workflow {NAME!r} ran at once on {plain(str(path))}")
    print(f"  bound:   storage.for_run(run_id).get_latest(...) gave its own checkpoint to {own} of {len(RUN_IDS)} runs")
    print(f"  unbound: storage.get_latest(...) gives that of {plain(unbound.state['order'])}: right for {right} run")
    return verdict(
        {
            "every run ended with its own result": outputs
            == [f"parcel of {run_id} is on its way" for run_id in RUN_IDS],
            "every run has a log of its own, four events numbered without gaps": all(
                [event.seq for event in log] == [1, 2, 3, 4] for log in logs
            ),
            "every bound storage gave the last checkpoint of its run": own == len(RUN_IDS)
            and [checkpoint.checkpoint_id for checkpoint in bound] == [log[-1].checkpoint_id for log in logs],
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Twenty runs of one workflow at once, on one store.")
    parser.add_argument("--store", type=place, help="a path or a Cosmos DB endpoint; default: a temporary folder")
    args = parser.parse_args()
    if is_taken(args.store):
        parser.error(f"{plain(str(args.store))} exists already; this demonstration begins with an empty store")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(demonstrate(args.store or Path(folder, "orders.db"))) else 1


if __name__ == "__main__":
    sys.exit(main())
