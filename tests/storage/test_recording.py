"""`run.recording()`: how work on a run ended is said by itself, with the framework's own workflows, on every engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from contextlib import AsyncExitStack, suppress
from typing import Any, Never

import pytest
from agent_framework import (
    Executor,
    RunContext,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
    step,
    workflow,
)

from eventckpt import (
    CheckpointConflictError,
    CheckpointEncodeError,
    ClaimLostError,
    RunCheckpointStorage,
    RunClaimedError,
    RunInfo,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.runs import fold

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history

PRIVATE = "card 4711 was refused"


class Till(Executor):
    """Asks whether to take the money, and takes it, which may fail."""

    def __init__(self, *, asks: bool, fails: bool) -> None:
        super().__init__(id="till")
        self._asks, self._fails = asks, fails

    @handler
    async def start(self, amount: int, ctx: WorkflowContext[int]) -> None:
        if self._asks:
            await ctx.request_info(amount, bool)
        else:
            await ctx.send_message(amount, target_id="charge")

    @response_handler
    async def answered(self, amount: int, answer: bool, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(amount if answer else 0, target_id="charge")


class Charge(Executor):
    def __init__(self, *, fails: bool) -> None:
        super().__init__(id="charge")
        self._fails = fails

    @handler
    async def charge(self, amount: int, ctx: WorkflowContext[Never, int]) -> None:
        if self._fails:
            raise ValueError(PRIVATE)
        await ctx.yield_output(amount)


def shop(*, asks: bool = False, fails: bool = False) -> Workflow:
    till, charge = Till(asks=asks, fails=fails), Charge(fails=fails)
    return WorkflowBuilder(start_executor=till, name=WORKFLOW).add_edge(till, charge).build()


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)

    @step
    async def double(number: int) -> int:
        return 2 * number

    @workflow(name="doubling")
    async def doubling(number: int, ctx: RunContext) -> int:
        if number > 10:
            await ctx.request_info("is that not too much?", bool)
        if number < 0:
            await double(number)
            raise ValueError(PRIVATE)
        return await double(number)


async def info_of(engine: Engine, workflow_name: str = WORKFLOW) -> RunInfo:
    engine.settle()
    found = fold(await history(engine.open(), "r", workflow_name))
    assert found is not None
    return found


async def test_work_that_raises_is_annotated_as_failed_with_type_and_place_and_without_the_message(
    engine: Engine,
) -> None:
    run = engine.storage().for_run("r")
    with pytest.raises(ValueError, match=PRIVATE):
        async with run.recording():
            await shop(fails=True).run(7, checkpoint_storage=run)
    info = await info_of(engine)
    assert (info.status, info.outcome) == ("failed", "failed")
    assert info.reason is not None
    assert info.reason.startswith(f"ValueError at {__name__}:Charge.charge, line ")
    assert PRIVATE not in info.reason
    assert ".py" not in info.reason


async def test_the_message_is_kept_on_request_and_cut(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    await chain_of(run, 1)
    with pytest.raises(RuntimeError):
        async with run.recording(messages=True):
            raise RuntimeError("a\nb \ud800" + "x" * 5_000)
    info = await info_of(engine)
    assert info.reason is not None
    assert ": a\\nb \\ud800xxx" in info.reason
    assert len(info.reason) == 1_000


async def test_work_that_ends_without_a_question_is_annotated_as_done(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    async with run.recording():
        await shop().run(7, checkpoint_storage=run)
    assert ((info := await info_of(engine)).status, info.outcome) == ("done", "done")


@pytest.mark.parametrize("functional", [False, True], ids=["graph", "functional"])
async def test_a_run_that_waits_goes_on_waiting_and_is_done_once_it_was_answered(
    engine: Engine, functional: bool
) -> None:
    name = "doubling" if functional else WORKFLOW

    def build() -> Any:
        return doubling.build() if functional else shop(asks=True)

    run = engine.storage().for_run("r")
    async with run.recording():
        await build().run(20, checkpoint_storage=run)
    info = await info_of(engine, name)
    assert (info.status, info.outcome) == ("waiting", None)
    [asked] = info.pending_requests
    again = engine.storage().for_run("r")
    async with again.recording():
        await build().run(
            checkpoint_id=info.checkpoint_id, checkpoint_storage=again, responses={asked.request_id: True}
        )
    assert (await info_of(engine, name)).status == "done"


@pytest.mark.parametrize(("number", "status"), [(4, "done"), (-4, "failed")])
async def test_a_functional_workflow_gets_out_of_open(engine: Engine, number: int, status: str) -> None:
    run = engine.storage().for_run("r", workflow_name="doubling")
    try:
        async with run.recording():
            await doubling.build().run(number, checkpoint_storage=run)
    except ValueError:
        assert status == "failed"
    assert (await info_of(engine, "doubling")).status == status


class Interrupt(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        Interrupt(),
        CheckpointConflictError("other", stream=StreamId(WORKFLOW, "r"), expected_seq=2, head=None),
        ClaimLostError("other", stream=StreamId(WORKFLOW, "r"), epoch=2, expected_seq=2, head=None),
        RunClaimedError("other", stream=StreamId(WORKFLOW, "r"), owner="other", expires_at=""),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_says_nothing_of_the_run_is_not_annotated(engine: Engine, error: BaseException) -> None:
    run = engine.storage().for_run("r")
    await chain_of(run, 1)
    with pytest.raises(type(error)):
        async with run.recording():
            raise error
    assert len(await history(engine.open(), "r")) == 1


async def is_refused(engine: Engine, run: RunCheckpointStorage, how: str) -> None:
    """Another one has gone on with the run, or claimed it, and a handle meets that."""
    other = engine.storage().for_run("r")
    theirs = await other.get_latest(workflow_name=WORKFLOW)
    assert theirs is not None
    mine = checkpoint(theirs, checkpoint_id="mine")
    async with AsyncExitStack() as theirs_for_now:
        if how.startswith("claimed"):
            await theirs_for_now.enter_async_context(other.claim())
        else:
            await other.save(checkpoint(theirs, checkpoint_id="theirs"))
        engine.settle()
        if how == "claimed, and claims":
            async with run.claim():
                raise AssertionError("it is claimed")
        await run.save(mine)


@pytest.mark.parametrize("ends", ["well", "by itself", "in a group", "by another error"])
@pytest.mark.parametrize("how", ["gone on with", "claimed, and saves", "claimed, and claims"])
async def test_nothing_is_said_of_a_run_that_others_go_on_with_however_the_work_ends(
    engine: Engine, how: str, ends: str
) -> None:
    run = engine.storage(on_conflict="raise").for_run("r")
    await chain_of(run, 1)
    engine.settle()
    with suppress(CheckpointConflictError, RunClaimedError, ExceptionGroup, KeyError):
        async with run.recording():
            if ends == "in a group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(is_refused(engine, run, how))
            with suppress(*([] if ends == "by itself" else [CheckpointConflictError, RunClaimedError])):
                await is_refused(engine, run, how)
                raise AssertionError("it is refused")
            if ends == "by another error":
                raise KeyError("of the application")
    assert (await info_of(engine)).outcome is None


async def test_a_group_of_errors_of_other_handles_says_nothing_and_one_without_them_that_it_failed(
    engine: Engine,
) -> None:
    conflict = CheckpointConflictError("other", stream=StreamId(WORKFLOW, "r"), expected_seq=2, head=None)
    run = engine.storage().for_run("r")
    await chain_of(run, 1)
    for errors in ([KeyError("k"), ExceptionGroup("inner", [conflict])], [KeyError("k"), ValueError("v")]):
        assert (await info_of(engine)).outcome is None
        with pytest.raises(ExceptionGroup):
            async with run.recording():
                raise ExceptionGroup("outer", errors)
    assert (await info_of(engine)).outcome == "failed"


async def test_a_handle_that_has_read_the_run_again_speaks_of_it_again(engine: Engine) -> None:
    run = engine.storage(on_conflict="raise").for_run("r")
    await chain_of(run, 1)
    engine.settle()
    async with run.recording():
        with pytest.raises(CheckpointConflictError):
            await is_refused(engine, run, "gone on with")
        latest = await run.get_latest(workflow_name=WORKFLOW)
        assert latest is not None
        assert latest.checkpoint_id == "theirs"
    assert (await info_of(engine)).outcome == "done"


@pytest.mark.parametrize("fails", [False, True])
async def test_work_whose_last_checkpoint_was_not_saved_is_not_called_done_and_failed_where_it_failed(
    engine: Engine, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = engine.storage().for_run("r")
    [first] = await chain_of(run, 1)
    last = checkpoint(first, state={"lock": threading.Lock()})
    with caplog.at_level(logging.WARNING, "eventckpt"), suppress(KeyError):
        async with run.recording():
            with pytest.raises(CheckpointEncodeError):
                await run.save(last)
            if fails:
                raise KeyError("k")
    assert (await info_of(engine)).outcome == ("failed" if fails else None)
    assert ("its last checkpoint was not saved" in caplog.text) is not fails
    last.state.clear()
    await run.save(last)
    async with run.recording():
        pass
    assert (await info_of(engine)).outcome == "done"


@pytest.mark.parametrize("workflow_name", [WORKFLOW, None])
async def test_work_without_a_checkpoint_leaves_no_run_behind(engine: Engine, workflow_name: str | None) -> None:
    run = engine.storage().for_run("r", workflow_name=workflow_name)
    async with run.recording():
        pass
    with pytest.raises(KeyError):
        async with run.recording():
            raise KeyError("k")
    assert await history(engine.open(), "r") == []


async def test_a_store_that_fails_does_not_hide_why_the_work_failed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    [first] = await chain_of(run, 1)

    async def out_of_reach(*args: Any) -> None:
        raise StoreUnavailableError("out of reach")

    monkeypatch.setattr(type(storage.store), "append", out_of_reach)
    with caplog.at_level(logging.ERROR, "eventckpt"), pytest.raises(KeyError, match=PRIVATE):
        async with run.recording():
            raise KeyError(PRIVATE)
    assert "is not annotated: StoreUnavailableError at " in caplog.text
    assert "out of reach" in caplog.text
    assert PRIVATE not in caplog.text, "what the application says is nobody's but its own"
    with pytest.raises(StoreUnavailableError, match="out of reach"):
        async with run.recording():
            pass
    monkeypatch.undo()
    await run.save(checkpoint(first))
    assert [event.type for event in await history(engine.open(), "r")] == ["checkpoint", "checkpoint"]
