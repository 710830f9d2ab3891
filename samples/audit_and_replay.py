"""A run that went wrong: found, explained, repaired and proved, from its log alone.

A workflow prices an order in three steps. On one order the discount was typed as 150 instead of 15, so that the shop
would pay the customer. Nobody noticed while it ran. Later:

    found       with `runs`: the order is done, nothing waits, yet the customer complains
    explained   with `changes` and `diff`: at which superstep the total became negative, and what changed beside it
    repaired    with `fork`: a new run that begins right before that superstep, resumed with the right discount
    proved      with `verify`: neither run was changed since, and the repair says where it came from

Run it:   python samples/audit_and_replay.py [--store PATH]
You see:  each step with what it found. The exit code is 0 only if the repaired order has the right total, the original
          is as it was, and a change to the stored log is noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Never

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, executor, handler
from printing import plain, table, verdict

from eventckpt import CheckpointAudit, EventCheckpointStorage, SqliteCheckpointStorage, SqliteEventStore, StreamId

NAME = "pricing"
ORDERS = {"order-1041": 10, "order-1042": 150, "order-1043": 0}
"""Each order's discount in per cent, as somebody typed it."""


@executor(id="reader")
async def reader(discount: int, ctx: WorkflowContext[int]) -> None:
    ctx.set_state("total", 200.0)
    await ctx.send_message(discount)


class Discounter(Executor):
    def __init__(self, corrected: int | None) -> None:
        super().__init__(id="discounter")
        self._corrected = corrected

    @handler
    async def apply(self, typed: int, ctx: WorkflowContext[str]) -> None:
        discount = typed if self._corrected is None else self._corrected
        ctx.set_state("discount", discount)
        ctx.set_state("total", ctx.get_state("total") * (100 - discount) / 100)
        await ctx.send_message("price it")


@executor(id="cashier")
async def cashier(_: str, ctx: WorkflowContext[Never, float]) -> None:
    await ctx.yield_output(ctx.get_state("total"))


def build(*, corrected: int | None = None) -> Workflow:
    """The workflow; with `corrected`, it takes that discount whatever was typed."""
    return (
        WorkflowBuilder(start_executor=reader, name=NAME, output_from=[cashier])
        .add_chain([reader, Discounter(corrected), cashier])
        .build()
    )


async def main(path: Path) -> int:
    async with SqliteCheckpointStorage(path, actor="the shop") as storage:
        for order, discount in ORDERS.items():
            await build().run(discount, checkpoint_storage=storage.for_run(order))
    async with SqliteEventStore(path) as store:
        audit = CheckpointAudit(store, actor="the auditor")
        wrong = await found(audit)
        step = await explained(audit, wrong)
        total = await repaired(audit, wrong, before=step)
        sound = await proved(audit)
    noticed = await changed_copy_is_noticed(path)
    return 0 if verdict({
        "the order that would have paid its customer was found by its state": wrong.run_id == "order-1042",
        "the superstep at which the total went wrong was named": step == 3,
        "the repaired order costs 170 euros": total == 170.0,
        "both runs are as they were written": sound,
        "a copy of the store with one changed byte is not": noticed,
    }) else 1  # fmt: skip


async def found(audit: CheckpointAudit) -> StreamId:
    """The run whose total cannot be right."""
    print("FOUND: the runs, and each one's total")
    rows: list[list[object]] = []
    wrong: list[StreamId] = []
    async for info in audit.runs():
        state = (await audit.tree(await audit.at(info.stream)))["state"]
        total = state["total"] if isinstance(state, dict) else None
        rows.append([info.run_id, info.status, info.checkpoints, total])
        if isinstance(total, float) and total < 0:
            wrong.append(info.stream)
    print(table(["run", "status", "events", "total"], sorted(rows, key=str), right="events total"))
    return wrong[0]


async def explained(audit: CheckpointAudit, run: StreamId) -> int:
    """The seq at which the total became negative."""
    print(f"\nEXPLAINED: the total of {plain(run.run_id)}, and what changed with it")
    changes = [change async for change in audit.changes(run, "state.total")]
    for change in changes:
        print(f"  seq {change.event.seq}, superstep {change.event.iteration_count}: {change.before} → {change.after}")
    [seq] = [change.event.seq for change in changes if isinstance(change.after, float) and change.after < 0]
    for each in await audit.diff(await audit.at(run, seq=seq - 1), await audit.at(run, seq=seq)):
        if each.path.startswith("state.") and not each.path.startswith("state._"):
            print(f"  {each.kind} {plain(each.path)}: {each.before} → {each.after}")
    return seq


async def repaired(audit: CheckpointAudit, run: StreamId, *, before: int) -> float:
    """The total of a new run that begins before that event and takes the right discount."""
    print("\nREPAIRED: a fork that begins before it, resumed with the framework")
    fork = await audit.fork(await audit.at(run, seq=before - 1), f"{run.run_id}-repaired")
    print(f"  {fork.run_id} begins at seq {before - 1} of {run.run_id}")
    run_storage = EventCheckpointStorage(audit.store, actor="the auditor").for_run(fork.run_id)
    result = await build(corrected=15).run(checkpoint_id=fork.checkpoint_id, checkpoint_storage=run_storage)
    [total] = result.get_outputs()
    print(f"  it costs {total} euros")
    return float(total)


async def proved(audit: CheckpointAudit) -> bool:
    """Whether every run is what was written."""
    print("\nPROVED: every digest and every link between the events")
    sound = True
    async for each in audit.verify_all():
        sound = sound and each.ok
        print(f"  {plain(each.stream.run_id)}: {each.events} events, head {each.head_digest[:16]}…")
    return sound


async def changed_copy_is_noticed(path: Path) -> bool:
    """Whether somebody who makes the wrong discount look right in the log is caught."""
    copy = path.with_suffix(".changed.db")
    await asyncio.to_thread(shutil.copy, path, copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        [header] = connection.execute("SELECT header FROM events WHERE run_id = 'order-1042' AND seq = 3").fetchone()
        hidden = header.replace(b"the shop", b"nobody!!")
        connection.execute("UPDATE events SET header = ? WHERE run_id = 'order-1042' AND seq = 3", (hidden,))
    async with SqliteEventStore(copy) as store:
        [problem] = (await CheckpointAudit(store).verify(StreamId(NAME, "order-1042"))).problems
        print(f"\nA COPY, CHANGED\n  seq {problem.seq}: {problem.why}: {problem.detail}")
        return (problem.seq, problem.why) == (3, "changed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a file that does not exist yet; else a temporary one")
    chosen: Path | None = parser.parse_args().store
    if chosen is not None and chosen.exists():
        parser.error(f"{chosen} exists already; this sample begins with a new store")
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(asyncio.run(main(chosen or Path(folder, "checkpoints.db"))))
