"""A workflow's code that exits ends its run, and nothing else that runs in the same event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Never

import pytest
from agent_framework import Executor, WorkflowBuilder, WorkflowContext, handler, response_handler

from eventckpt import WorkflowExitError, answer
from eventckpt.answers.contained import contained
from eventckpt.runs import fold

from ..engines import Engine
from .workflows import NAME, RUN, Approval, Paid, Pay, asked, functional, log, nested, refund, storage_on

Way = Callable[[Callable[[], object]], Awaitable[object]]


async def at_once(leave: Callable[[], object]) -> object:
    return leave()


async def in_a_task(leave: Callable[[], object]) -> object:
    return await asyncio.create_task(at_once(leave))


async def among_others(leave: Callable[[], object]) -> object:
    return await asyncio.gather(asyncio.sleep(0), in_a_task(leave))


async def in_a_group(leave: Callable[[], object]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task(leave))


async def in_a_thread(leave: Callable[[], object]) -> object:
    return await asyncio.to_thread(leave)


async def later(leave: Callable[[], object]) -> object:
    await asyncio.sleep(0)
    return leave()


async def on_being_cancelled(leave: Callable[[], object]) -> None:
    task = asyncio.create_task(asyncio.Event().wait())

    async def waits() -> None:
        try:
            await task
        except asyncio.CancelledError:
            leave()

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0)
    waiting.cancel()
    await waiting


WAYS = [at_once, in_a_task, among_others, in_a_group, in_a_thread, later, on_being_cancelled]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


class Leaver(Executor):
    """Asks, and then leaves in some way."""

    def __init__(self, way: Way, leave: Callable[[], object]) -> None:
        super().__init__(id="clerk")
        self._way, self._leave = way, leave

    @handler
    async def ask(self, items: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(Approval(items), bool, request_id=f"may-{items}")

    @response_handler
    async def decided(self, question: Approval, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
        await self._way(self._leave)


def leaver(way: Way, leave: Callable[[], object]) -> Any:
    return WorkflowBuilder(start_executor=Leaver(way, leave), name=NAME).build()


def out() -> None:
    raise SystemExit(0)


class Leaving(Paid):
    def __call__(self, *_: object) -> Any:
        raise SystemExit(3)


@each_way
async def test_what_exits_after_an_answer_is_the_runs_failure_and_nothing_else_ends(engine: Engine, way: Way) -> None:
    await asked(engine, build=lambda _: leaver(way, out))
    other = asyncio.create_task(asyncio.sleep(0.05, "still there"))
    factory = asyncio.get_running_loop().get_task_factory()
    with pytest.raises((WorkflowExitError, ExceptionGroup)) as raised:
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=leaver(way, out), recording=True)
    errors = raised.value.exceptions if isinstance(raised.value, ExceptionGroup) else (raised.value,)
    assert "SystemExit(0)" in str(errors[0])
    assert await other == "still there"
    assert asyncio.get_running_loop().get_task_factory() is factory
    engine.settle()
    info = fold(await log(storage_on(engine)))
    assert info is not None
    assert (info.outcome, info.pending_requests) == ("failed", ())
    if way is not in_a_group:
        assert f"at {__name__}:out, line" in (info.reason or "")


@pytest.mark.parametrize("kind", ["nested", "functional", "builder"])
async def test_so_it_is_in_a_sub_workflow_a_function_and_what_builds_the_workflow(engine: Engine, kind: str) -> None:
    leave = Leaving()
    built: dict[str, tuple[Callable[[Pay], Any], object]] = {
        "nested": (nested, nested(leave)),
        "functional": (functional, functional(leave)),
        "builder": (refund, lambda: leave()),
    }
    build, workflow = built[kind]
    await asked(engine, build=build)
    with pytest.raises(WorkflowExitError, match=r"SystemExit\(3\)"):
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=workflow, recording=True)


async def test_a_persons_interrupt_is_let_through_unless_none_can_be_raised_by_a_person() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), contained(SystemExit):
        await interrupted()
    with pytest.raises(WorkflowExitError), contained(SystemExit, KeyboardInterrupt), contained(SystemExit):
        await asyncio.create_task(interrupted())


async def test_an_applications_own_task_factory_goes_on_making_the_tasks() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(factory)  # pyright: ignore[reportArgumentType] - typed without the options
    try:
        with contained(SystemExit):
            cancelled = asyncio.create_task(at_once(Paid))
            cancelled.cancel()
            await asyncio.wait({cancelled})
            assert await asyncio.create_task(at_once(lambda: "done")) == "done"
        assert loop.get_task_factory() is factory
    finally:
        loop.set_task_factory(before)
    assert made == ["at_once", "at_once"]
