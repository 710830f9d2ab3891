"""Workflows whose steps do something that cannot be taken back: begun in one process, and resumed in others."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, step, workflow

from eventckpt import RunCheckpointStorage

NAME = "orders"
STEPS = 5

Effect: TypeAlias = Callable[[int], Awaitable[None]]


class Step(Executor):
    """Does it, and hands on."""

    def __init__(self, number: int, effect: Effect) -> None:
        super().__init__(id=f"step-{number}")
        self._number = number
        self._effect = effect

    @handler
    async def take(self, message: str, context: WorkflowContext[str]) -> None:
        await self._effect(self._number)
        await context.send_message(message)


def graph(effect: Effect) -> Workflow:
    """A superstep for each of them."""
    steps = [Step(number, effect) for number in range(STEPS)]
    builder = WorkflowBuilder(start_executor=steps[0], name=NAME)
    for one, other in pairwise(steps):
        builder = builder.add_edge(one, other)
    return builder.build()


def functional(effect: Effect) -> Any:
    """A function that calls one after the other; a first one, without an effect, makes its first checkpoint."""
    does = partial(effect)  # the code of a function that it calls by itself would be part of what the workflow is

    with warnings.catch_warnings():
        # The framework says once per process that functional workflows are experimental.
        warnings.simplefilter("ignore", FutureWarning)

        @step(replay_key=str)
        async def take(number: int) -> int:
            if number >= 0:
                await does(number)
            return number

        @workflow(name=NAME)
        async def orders(message: str) -> str:
            for number in range(-1, STEPS):
                await take(number)
            return message

    return orders.build()


Build: TypeAlias = Callable[[Effect], Any]


async def begin(run: RunCheckpointStorage, build: Build = graph) -> None:
    """A run that waits in front of its first step."""

    async def stops(number: int) -> None:
        raise ConnectionError("the process ends here")

    with pytest.raises(ConnectionError):
        await build(stops).run("begin", checkpoint_storage=run)


async def resume(run: RunCheckpointStorage, effect: Effect, build: Build = graph) -> None:
    latest = await run.get_latest(workflow_name=NAME)
    assert latest is not None
    await build(effect).run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run)
