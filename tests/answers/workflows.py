"""Workflows that ask: each asks in one process, and is answered in others, which build it anew."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Never, TypeAlias

from agent_framework import (
    Executor,
    RunContext,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
    step,
    workflow,
)

from eventckpt import CheckpointEvent, EventCheckpointStorage, StreamId

from ..engines import Engine

NAME = "refund"
RUN = "order-1042"


Pay: TypeAlias = Callable[[str, bool], object]


@dataclass
class Approval:
    """What a person is asked."""

    item: str


ALLOWED = [f"{__name__}:Approval"]


class Clerk(Executor):
    """Asks for each item whether to pay it back, and pays: what must happen once."""

    def __init__(self, pay: Pay, restored: Callable[[], Awaitable[object]] | None = None) -> None:
        super().__init__(id="clerk")
        self._pay = pay
        self._restored = restored

    @handler
    async def ask(self, items: str, ctx: WorkflowContext) -> None:
        for item in items.split():
            await ctx.request_info(Approval(item), bool, request_id=f"may-{item}")

    @response_handler
    async def decided(self, question: Approval, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
        self._pay(question.item, approved)
        await ctx.yield_output(f"{question.item}: {approved}")

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        if self._restored is not None:
            await self._restored()


def refund(pay: Pay, restored: Callable[[], Awaitable[object]] | None = None) -> Workflow:
    """A graph, which calls `restored` when it has been resumed, before it saves or does anything."""
    return WorkflowBuilder(start_executor=Clerk(pay, restored), name=NAME).build()


def nested(pay: Pay) -> Workflow:
    """The same as the sub-workflow of another one."""
    asking = WorkflowBuilder(start_executor=Clerk(pay), name="inner").build()
    inner = WorkflowExecutor(asking, id="inner", propagate_request=True)
    return WorkflowBuilder(start_executor=inner, name=NAME).build()


def functional(pay: Pay) -> Any:
    """A function that asks for one item after the other."""
    with warnings.catch_warnings():
        # The framework says once per process that functional workflows are experimental.
        warnings.simplefilter("ignore", FutureWarning)

        @step(replay_key=lambda item, approved: item)
        async def pay_back(item: str, approved: bool) -> bool:
            pay(item, approved)
            return approved

        @workflow(name=NAME)
        async def refund_by_function(items: str, ctx: RunContext) -> str:
            for item in items.split():
                approved = await ctx.request_info(Approval(item), bool, request_id=f"may-{item}")
                await pay_back(item, approved)
            return items

    return refund_by_function.build()


class Paid(list[tuple[str, bool]]):
    """What was paid, or refused, in one test."""

    def __call__(self, item: str, approved: bool) -> None:
        self.append((item, approved))


class Broken(Paid):
    """Pays nothing."""

    def __call__(self, item: str, approved: bool) -> None:
        raise ZeroDivisionError(item)


def storage_on(engine: Engine, **options: Any) -> EventCheckpointStorage:
    """That of another process."""
    engine.settle()
    return engine.storage(allowed_checkpoint_types=ALLOWED, **options)


async def asked(engine: Engine, items: str = "shoes", build: Callable[..., Any] = refund, run_id: str = RUN) -> None:
    """A process runs the workflow up to its questions, and ends."""
    await build(Paid()).run(items, checkpoint_storage=storage_on(engine, actor="the shop").for_run(run_id))
    engine.settle()


async def log(storage: EventCheckpointStorage, run_id: str = RUN) -> list[CheckpointEvent]:
    return [event async for event in storage.store.headers(StreamId(NAME, run_id))]
