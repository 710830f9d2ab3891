"""Real workflows of the framework on our storages: run, cut off, resumed by another object, as another process would.

An executor that raises stands for a process that dies: what it did in that superstep is lost, as after a kill.
`samples/` and `tests/test_samples.py` do the same with processes that are really killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from agent_framework import (
    CheckpointStorage,
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowRunResult,
    WorkflowRunState,
    handler,
)

from eventckpt import (
    CheckpointConflictError,
    CheckpointTypeNotAllowedError,
    EventCheckpointStorage,
    StreamId,
)
from eventckpt.events import ForkPoint

from ..engines import Engine
from .workflows import (
    RUN,
    UNREGISTERED,
    CrashError,
    Unregistered,
    latest,
    log,
)

# A chain of executors, of which any one may crash or wait


class Link(Executor):
    """Adds its id to the list that it gets, and passes it on."""

    def __init__(self, name: str, chain: Chain) -> None:
        super().__init__(id=name)
        self._chain = chain

    @handler
    async def add(self, ids: list[str], ctx: WorkflowContext[list[str], list[str]]) -> None:
        await self._chain.enter(self.id)
        ids = [*ids, self.id]
        ctx.set_state("ids", ids)
        if self.id == Chain.IDS[-1]:
            await ctx.yield_output(ids)
        else:
            await ctx.send_message(ids)


class Chain:
    """What one process makes of the chain: its workflow, and which executors ran to their end."""

    NAME = "chain"
    IDS = ("one", "two", "three", "four")
    EVENTS = len(IDS) + 1
    """Of an undisturbed run: one for the input, one for each superstep."""

    def __init__(
        self,
        *,
        crash_in: str | None = None,
        wait_in: str | None = None,
        wait: Callable[[], Awaitable[object]] | None = None,
        storage: CheckpointStorage | None = None,
    ) -> None:
        self.ran: list[str] = []
        self._crash_in, self._wait_in, self._wait = crash_in, wait_in, wait
        links = [Link(name, self) for name in self.IDS]
        self.workflow = (
            WorkflowBuilder(start_executor=links[0], name=self.NAME, checkpoint_storage=storage)
            .add_chain(links)
            .build()
        )

    async def enter(self, name: str) -> None:
        """An executor begins its work."""
        if name == self._crash_in:
            raise CrashError
        if name == self._wait_in and self._wait is not None:
            await self._wait()
        self.ran.append(name)


async def cut_off(storage: CheckpointStorage, *, in_: str) -> None:
    """A run of the chain whose process dies in one executor."""
    with pytest.raises(CrashError):
        await Chain(crash_in=in_).workflow.run([], checkpoint_storage=storage)


async def test_a_run_goes_on_in_another_workflow_and_storage_object_where_it_was_cut_off(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")

    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    checkpoint = await latest(run, Chain.NAME)
    result = await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert checkpoint.iteration_count == 2
    assert chain.ran == ["three", "four"]
    assert result.get_outputs() == [["one", "two", "three", "four"]]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", ["one", "two", "three", "four"])
async def test_wherever_a_run_is_cut_off_its_log_ends_as_that_of_an_undisturbed_one(engine: Engine, cut: str) -> None:
    await cut_off(engine.storage().for_run(RUN), in_=cut)
    storage = engine.storage()
    run = storage.for_run(RUN)
    await Chain().workflow.run(checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run)
    await Chain().workflow.run([], checkpoint_storage=storage.for_run("undisturbed"))

    resumed, undisturbed = [
        [(event.seq, event.iteration_count, event.summary) for event in await log(storage, Chain.NAME, run_id)]
        for run_id in (RUN, "undisturbed")
    ]
    assert resumed == undisturbed
    assert len(resumed) == Chain.EVENTS


@pytest.mark.parametrize("given", ["to run", "to the builder"])
async def test_the_storage_may_be_given_to_the_builder_or_to_run(
    engine: Engine, given: Literal["to run", "to the builder"]
) -> None:
    def chain(storage: CheckpointStorage, crash_in: str | None = None) -> tuple[Chain, dict[str, Any]]:
        if given == "to run":
            return Chain(crash_in=crash_in), {"checkpoint_storage": storage}
        return Chain(crash_in=crash_in, storage=storage), {}

    first, options = chain(engine.storage().for_run(RUN), crash_in="four")
    with pytest.raises(CrashError):
        await first.workflow.run([], **options)
    storage = engine.storage()
    second, options = chain(storage.for_run(RUN))
    checkpoint = await latest(storage.for_run(RUN), Chain.NAME)
    result = await second.workflow.run(checkpoint_id=checkpoint.checkpoint_id, **options)

    assert (first.ran, second.ran) == (["one", "two", "three"], ["four"])
    assert result.get_outputs() == [["one", "two", "three", "four"]]
    assert [event.seq for event in await log(storage, Chain.NAME)] == [1, 2, 3, 4, 5]


async def test_an_unbound_storage_finds_the_run_of_a_resumed_workflow_by_its_lineage(engine: Engine) -> None:
    await cut_off(engine.storage(), in_="three")
    storage = engine.storage()
    checkpoint = await latest(storage, Chain.NAME)
    await Chain().workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=storage)

    events = [event async for event in storage.store.workflow_headers(Chain.NAME)]
    assert {event.run_id for event in events} == {events[0].checkpoint_id}
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]


async def test_one_workflow_object_that_runs_twice_continues_its_run(engine: Engine) -> None:
    storage = engine.storage()
    chain = Chain(storage=storage.for_run(RUN))
    await chain.workflow.run([])
    await chain.workflow.run(["again"])

    events = await log(storage, Chain.NAME)
    assert [event.seq for event in events] == list(range(1, 2 * Chain.EVENTS + 1))
    assert [event.previous_checkpoint_id for event in events] == [None, *(event.checkpoint_id for event in events[:-1])]
    assert (await latest(storage.for_run(RUN), Chain.NAME)).state["ids"] == ["again", *Chain.IDS]


async def test_an_older_checkpoint_can_be_gone_back_to(engine: Engine) -> None:
    await Chain().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))

    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    first = (await run.list_checkpoint_ids(workflow_name=Chain.NAME))[1]
    await chain.workflow.run(checkpoint_id=first, checkpoint_storage=run)

    events = await log(storage, Chain.NAME)
    assert chain.ran == ["two", "three", "four"]
    assert [event.iteration_count for event in events] == [0, 1, 2, 3, 4, 2, 3, 4]
    assert events[5].previous_checkpoint_id == first
    assert (await latest(run, Chain.NAME)).checkpoint_id == events[-1].checkpoint_id


async def test_a_streamed_run_is_cut_off_and_resumed_alike(engine: Engine) -> None:
    with pytest.raises(CrashError):
        async for _ in Chain(crash_in="three").workflow.run(
            [], checkpoint_storage=engine.storage().for_run(RUN), stream=True
        ):
            pass
    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    stream = chain.workflow.run(
        checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run, stream=True
    )
    completed = [event.executor_id async for event in stream if event.type == "executor_completed"]

    assert completed == chain.ran == ["three", "four"]
    assert (await stream.get_final_response()).get_outputs() == [list(Chain.IDS)]
    assert [event.seq for event in await log(storage, Chain.NAME)] == [1, 2, 3, 4, 5]


async def test_each_superstep_is_stored_before_the_next_one_begins(engine: Engine) -> None:
    storage = engine.storage()
    seen: list[tuple[str, list[int]]] = []

    class Watched(Chain):
        async def enter(self, name: str) -> None:
            engine.settle()
            seen.append((name, [event.seq for event in await log(storage, Chain.NAME)]))

    await Watched().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))

    assert seen == [("one", [1]), ("two", [1, 2]), ("three", [1, 2, 3]), ("four", [1, 2, 3, 4])]


async def test_a_run_whose_task_is_cancelled_goes_on_with_the_same_storage(engine: Engine) -> None:
    storage, entered = engine.storage(), asyncio.Event()
    run = storage.for_run(RUN)

    async def hang() -> None:
        entered.set()
        await asyncio.Event().wait()

    hanging = asyncio.ensure_future(
        Chain(wait_in="three", wait=hang).workflow.run([], checkpoint_storage=run),
    )
    await entered.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    chain = Chain()
    await chain.workflow.run(checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run)

    assert chain.ran == ["three", "four"]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4]


async def test_another_process_that_looked_at_a_finished_run_may_give_it_new_input(engine: Engine) -> None:
    await Chain().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))
    storage = engine.storage()
    run = storage.for_run(RUN)
    await latest(run, Chain.NAME)
    await Chain().workflow.run(["again"], checkpoint_storage=run)

    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert (await latest(run, Chain.NAME)).state["ids"] == ["again", *Chain.IDS]


# State


@dataclass
class Task:
    remaining: list[int]


class Factors(Executor):
    """Shaped like Microsoft's own checkpoint sample: a loop that keeps its results by number."""

    NAME = "factors"

    def __init__(self, *, crash_at: int | None = None) -> None:
        super().__init__(id="factors")
        self._crash_at = crash_at
        self._pairs: dict[int, list[tuple[int, int]]] = {}

    @handler
    async def factorise(self, task: Task, ctx: WorkflowContext[Task, dict[int, list[tuple[int, int]]]]) -> None:
        number, *remaining = task.remaining
        if number == self._crash_at:
            raise CrashError
        self._pairs[number] = [(low, number // low) for low in range(1, number + 1) if number % low == 0]
        if remaining:
            await ctx.send_message(Task(remaining))
        else:
            await ctx.yield_output(self._pairs)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"pairs": self._pairs}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self._pairs = state["pairs"]

    @classmethod
    def workflow(cls, *, crash_at: int | None = None) -> Workflow:
        loop = cls(crash_at=crash_at)
        return WorkflowBuilder(start_executor=loop, name=cls.NAME).add_edge(loop, loop).build()


async def test_the_int_keys_of_an_executor_that_is_resumed_at_step_4_of_6_stay_ints(engine: Engine) -> None:
    allowed = [f"{__name__}:Task"]
    with pytest.raises(CrashError):
        await Factors.workflow(crash_at=4).run(
            Task([1, 2, 3, 4, 5, 6]), checkpoint_storage=engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
        )
    run = engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
    checkpoint = await latest(run, Factors.NAME)
    result = await Factors.workflow().run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    [pairs] = result.get_outputs()
    assert list(pairs) == [1, 2, 3, 4, 5, 6]
    assert (pairs[2], pairs[6]) == ([(1, 2), (2, 1)], [(1, 6), (2, 3), (3, 2), (6, 1)])


@pytest.mark.slow
async def test_every_checkpoint_keeps_the_state_of_its_own_superstep(engine: Engine) -> None:
    allowed = [f"{__name__}:Task"]
    numbers = list(range(1, 61))
    await Factors.workflow().run(
        Task(numbers), checkpoint_storage=engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
    )

    storage = engine.storage(allowed_checkpoint_types=allowed)
    checkpoints = await storage.for_run(RUN).list_checkpoints(workflow_name=Factors.NAME)
    kept = [list(checkpoint.state["_executor_state"]["factors"]["pairs"]) for checkpoint in checkpoints]
    assert kept == [numbers[:count] for count in range(61)]
    sizes = [event.payload for event in await log(storage, Factors.NAME) if event.payload]
    assert sum(size.stored_size for size in sizes) < sum(size.raw_size for size in sizes) / 4


class Careless(Executor):
    """Puts a type into the state that checkpoints may not hold, in the second superstep."""

    NAME = "careless"

    def __init__(self) -> None:
        super().__init__(id="careless")

    @handler
    async def go(self, again: bool, ctx: WorkflowContext[bool, str]) -> None:
        if again:
            await ctx.send_message(False)
        else:
            ctx.set_state("secret", Unregistered())
            await ctx.yield_output("done")


async def test_a_graph_workflow_survives_a_type_that_is_not_allowed_and_the_callback_hears_of_it(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[WorkflowCheckpoint, Exception]] = []
    storage = engine.storage(on_save_error=lambda checkpoint, error: heard.append((checkpoint, error)))
    executor = Careless()
    careless = WorkflowBuilder(start_executor=executor, name=Careless.NAME).add_edge(executor, executor).build()

    result = await careless.run(True, checkpoint_storage=storage.for_run(RUN))

    assert (result.get_outputs(), result.get_final_state()) == (["done"], WorkflowRunState.IDLE)
    [(checkpoint, error)] = heard
    assert checkpoint.iteration_count == 2
    assert isinstance(error, CheckpointTypeNotAllowedError)
    assert error.type_key == UNREGISTERED
    assert f"allowed_checkpoint_types=['{UNREGISTERED}']" in str(error)
    assert [record.levelname for record in caplog.records if record.name == "eventckpt"] == ["ERROR"]
    assert [event.iteration_count for event in await log(storage, Careless.NAME)] == [0, 1]


# Two that resume one checkpoint


async def resume_together(*storages: EventCheckpointStorage) -> list[WorkflowRunResult]:
    """Resume the run's latest checkpoint with each storage; nobody saves before all have loaded it."""
    loaded = asyncio.Barrier(len(storages))

    async def resume(storage: EventCheckpointStorage) -> WorkflowRunResult:
        run = storage.for_run(RUN)
        checkpoint = await latest(run, Chain.NAME)
        chain = Chain(wait_in="three", wait=loaded.wait)
        return await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    return await asyncio.gather(*map(resume, storages))


async def test_two_that_resume_one_checkpoint_end_as_two_runs_and_nothing_is_lost(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")
    both = [engine.storage(actor=actor) for actor in ("left", "right")]
    results = await resume_together(*both)

    assert [result.get_outputs() for result in results] == [[list(Chain.IDS)]] * 2
    witness = engine.storage()
    events = [event async for event in witness.store.workflow_headers(Chain.NAME)]
    run, fork = (
        [event for event in events if (event.run_id == RUN) is is_run] for is_run in (True, False)
    )  # fmt: skip
    resumed = run[2]
    assert [(event.seq, event.iteration_count) for event in run] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]
    assert [(event.seq, event.iteration_count) for event in fork] == [(1, 3), (2, 4)]
    assert {event.run_id for event in fork} == {f"{RUN}~{fork[0].checkpoint_id[:8]}"}
    assert fork[0].forked_from == ForkPoint(
        workflow_name=Chain.NAME, run_id=RUN, seq=3, checkpoint_id=resumed.checkpoint_id
    )
    assert fork[0].previous_digest == resumed.digest
    assert {run[3].actor, fork[0].actor} == {"left", "right"}, "one each"
    assert [event.actor for event in run[3:]] == [run[3].actor] * 2, "no run mixes the two"
    for event in events:
        checkpoint = await witness.load(event.checkpoint_id)
        assert (checkpoint.iteration_count, checkpoint.previous_checkpoint_id) == (
            event.iteration_count,
            event.previous_checkpoint_id,
        )


async def test_a_fork_is_resumed_like_any_run(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="two")
    loaded = asyncio.Barrier(2)

    async def resume(crash_in: str | None) -> None:
        run = engine.storage().for_run(RUN)
        chain = Chain(wait_in="two", wait=loaded.wait, crash_in=crash_in)
        checkpoint = await latest(run, Chain.NAME)
        await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    await asyncio.gather(resume("four"), resume("four"), return_exceptions=True)
    storage = engine.storage()
    [fork] = {event.run_id async for event in storage.store.workflow_headers(Chain.NAME)} - {RUN}
    run, chain = storage.for_run(fork), Chain()
    checkpoint = await latest(run, Chain.NAME)
    result = await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert (chain.ran, result.get_outputs()) == (["four"], [list(Chain.IDS)])
    assert [event.iteration_count for event in await log(storage, Chain.NAME, fork)] == [2, 3, 4]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3]


async def test_told_to_raise_the_slower_of_two_keeps_nothing_and_the_callback_hears_every_refusal(
    engine: Engine,
) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")
    heard: dict[str, list[Exception]] = {"left": [], "right": []}

    def strict(actor: str) -> EventCheckpointStorage:
        return engine.storage(
            actor=actor, on_conflict="raise", on_save_error=lambda _, error: heard[actor].append(error)
        )

    results = await resume_together(strict("left"), strict("right"))

    assert [result.get_outputs() for result in results] == [[list(Chain.IDS)]] * 2, "the framework swallows the error"
    witness = engine.storage()
    events = [event async for event in witness.store.workflow_headers(Chain.NAME)]
    assert [(event.run_id, event.seq) for event in events] == [(RUN, seq) for seq in (1, 2, 3, 4, 5)]
    winner = events[3].actor or ""
    assert [event.actor for event in events[3:]] == [winner] * 2
    [loser] = {"left", "right"} - {winner}
    assert (heard[winner], len(heard[loser])) == ([], 2)
    for error in heard[loser]:
        assert isinstance(error, CheckpointConflictError)
        assert (error.stream, error.expected_seq) == (StreamId(Chain.NAME, RUN), 4)


@pytest.mark.slow
async def test_twenty_runs_at_once_each_have_their_own_log_result_and_latest(engine: Engine) -> None:
    storage = engine.storage()
    run_ids = [f"order-{number}" for number in range(20)]
    everyone = asyncio.Barrier(len(run_ids))

    async def run(run_id: str) -> WorkflowRunResult:
        chain = Chain(wait_in="two", wait=everyone.wait)
        return await chain.workflow.run([run_id], checkpoint_storage=storage.for_run(run_id))

    results = await asyncio.gather(*map(run, run_ids))

    assert [result.get_outputs() for result in results] == [[[run_id, *Chain.IDS]] for run_id in run_ids]
    other = engine.storage()
    for run_id in run_ids:
        assert [event.seq for event in await log(other, Chain.NAME, run_id)] == [1, 2, 3, 4, 5]
        assert (await latest(other.for_run(run_id), Chain.NAME)).state["ids"] == [run_id, *Chain.IDS]
    assert len([event async for event in other.store.workflow_headers(Chain.NAME)]) == 20 * Chain.EVENTS
