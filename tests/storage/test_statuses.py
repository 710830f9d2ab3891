"""How a run stands, by what the framework itself saves: its graph workflows tell that they ended, its functional ones
do not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Never

import pytest
from agent_framework import (
    Executor,
    RunContext,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
    response_handler,
    step,
    workflow,
)

from eventckpt import CheckpointAudit, CheckpointEvent, RunCheckpointStorage, StreamId
from eventckpt.runs import status
from eventckpt.stores import AuditStore

from ..engines import Engine


class Clerk(Executor):
    """Hands on what it gets, and asks whether it may."""

    @handler
    async def ask(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)
        await ctx.request_info(request_data="may we?", response_type=bool)

    @response_handler
    async def answered(self, _: str, answer: bool, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(1 if answer else 0)


@executor
async def report(number: int, ctx: WorkflowContext[Never, int]) -> None:
    await ctx.yield_output(number)


class DownError(Exception):
    """A step failed."""


is_down: list[bool] = []

with warnings.catch_warnings():
    # The framework says once per process that functional workflows are experimental: at their first decorator.
    warnings.simplefilter("ignore", FutureWarning)

    @step
    async def first(number: int) -> int:
        return number + 1

    @step
    async def second(number: int) -> int:
        if is_down:
            raise DownError
        return number + 1

    @workflow(name="pay")
    async def pay(number: int) -> int:
        return await second(await first(number))

    @workflow(name="approve")
    async def approve(number: int, ctx: RunContext) -> bool:
        await first(number)
        return await ctx.request_info("may we?", response_type=bool)


async def pay_half(run: RunCheckpointStorage) -> None:
    """A run that fails between two steps."""
    is_down.append(True)
    with pytest.raises(DownError):
        await pay.build().run(1, checkpoint_storage=run)
    is_down.clear()


async def headers(engine: Engine, workflow_name: str, run_id: str) -> Sequence[CheckpointEvent]:
    return [header async for header in engine.open().headers(StreamId(workflow_name, run_id))]


async def run_status(engine: Engine, workflow_name: str, run_id: str) -> tuple[str, int]:
    """What the audit says of a run: how it stands, and how many questions it has."""
    engine.settle()
    info = await audit_of(engine).info(StreamId(workflow_name, run_id))
    assert info is not None
    return info.status, len(info.pending_requests)


def audit_of(engine: Engine) -> CheckpointAudit:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return CheckpointAudit(store)


async def test_every_checkpoint_of_a_graph_workflow_lists_its_executors(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    clerk = Clerk(id="clerk")
    graph = WorkflowBuilder(start_executor=clerk, name="graph").add_edge(clerk, report).build()
    asked = await graph.run(1, checkpoint_storage=run)
    assert await run_status(engine, "graph", "r") == ("waiting", 1)
    [request] = asked.get_request_info_events()
    await graph.run(responses={request.request_id: True}, checkpoint_storage=run)
    assert await run_status(engine, "graph", "r") == ("done", 0)
    log = await headers(engine, "graph", "r")
    assert {header.summary.executor_ids for header in log} == {("clerk", "report")}
    said = [(status(header), len(header.summary.pending_requests)) for header in log]
    assert said == [("running", 0), ("running", 1), ("waiting", 1), ("running", 0), ("running", 0), ("done", 0)]


async def test_no_checkpoint_of_a_functional_workflow_lists_any_so_none_is_done(engine: Engine) -> None:
    storage = engine.storage()
    await pay_half(storage.for_run("half"))
    await pay.build().run(1, checkpoint_storage=storage.for_run("whole"))
    approval = approve.build()
    asked = await approval.run(1, checkpoint_storage=storage.for_run("asks"))
    assert await run_status(engine, "pay", "half") == ("open", 0)
    assert await run_status(engine, "pay", "whole") == ("open", 0)
    assert await run_status(engine, "approve", "asks") == ("waiting", 1)
    [request] = asked.get_request_info_events()
    await approval.run(responses={request.request_id: True}, checkpoint_storage=storage.for_run("asks"))
    assert (await run_status(engine, "approve", "asks"))[0] != "done"
    logs = [("pay", "half"), ("pay", "whole"), ("approve", "asks")]
    assert {header.summary.executor_ids for name in logs for header in await headers(engine, *name)} == {()}


async def test_no_retention_rule_takes_a_functional_run_for_finished(engine: Engine) -> None:
    await pay_half(engine.storage().for_run("half"))
    engine.settle()
    [plan] = [plan async for plan in audit_of(engine).plan_prune(keep=0, only_finished=True)]
    assert (plan.seqs, plan.refused) == ((), "is open, and nothing says that it ended")
