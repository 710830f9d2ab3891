"""One storage for all threads of a host (`for_each`), and handles that keep to their run, on every engine."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointNotFoundError, EventCheckpointStorage, RoutedCheckpointStorage

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history
from .runs import run_log

thread: ContextVar[str | None] = ContextVar("thread", default=None)


@pytest.fixture(autouse=True)
def no_thread() -> None:
    thread.set(None)


async def in_thread(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """What `work` gives as a request of a thread."""

    async def request() -> Any:
        thread.set(name)
        return await work()

    return await asyncio.create_task(request())


async def later() -> str | None:
    """A resolver that looks something up."""
    await asyncio.sleep(0)
    return thread.get()


CALLS: dict[str, Callable[[RoutedCheckpointStorage, WorkflowCheckpoint], Awaitable[Any]]] = {
    "save": lambda storage, saved: storage.save(saved),
    "load": lambda storage, saved: storage.load(saved.checkpoint_id),
    "load_with_hash": lambda storage, saved: storage.load_with_hash(saved.checkpoint_id),
    "get_latest": lambda storage, _: storage.get_latest(workflow_name=WORKFLOW),
    "list_checkpoints": lambda storage, _: storage.list_checkpoints(workflow_name=WORKFLOW),
    "list_checkpoint_ids": lambda storage, _: storage.list_checkpoint_ids(workflow_name=WORKFLOW),
    "delete": lambda storage, saved: storage.delete(saved.checkpoint_id),
}

each_call = pytest.mark.parametrize("call", CALLS)
each_resolver = pytest.mark.parametrize("resolver", [thread.get, later], ids=["plain", "async"])


@each_call
@each_resolver
async def test_each_call_goes_to_the_run_that_the_resolver_names(engine: Engine, resolver: Any, call: str) -> None:
    storage = engine.storage()
    saved = {name: checkpoint(checkpoint_id=f"first of {name}") for name in ("a", "b")}
    for name, each in saved.items():
        await storage.for_run(name).save(each)
    given = await in_thread("b", lambda: CALLS[call](storage.for_each(resolver), saved["b"]))
    alone = await CALLS[call](storage.for_run("b"), saved["b"]) if call != "delete" else True  # type: ignore[arg-type]
    assert given == alone
    assert [event.type for event in await history(storage.store, "b")] == ["checkpoint"] + ["tombstone"] * (
        call == "delete"
    )
    assert await run_log(engine, "a") == ["first of a"]


@each_call
@pytest.mark.parametrize("nothing", [None, ""])
async def test_a_call_of_which_nobody_says_the_run_is_an_error_that_says_so(
    engine: Engine, call: str, nothing: str | None
) -> None:
    storage = engine.storage()
    with pytest.raises(ValueError, match=r"the function given to for_each gave (None|'')\. Have each request say it"):
        await CALLS[call](storage.for_each(lambda: nothing), checkpoint())
    assert await history(storage.store, "") == []


async def test_who_listens_for_failed_saves_hears_of_one_without_a_run(engine: Engine) -> None:
    heard: list[str] = []
    storage = engine.storage(on_save_error=lambda failed, error: heard.append(f"{failed.checkpoint_id}: {error}"))
    with pytest.raises(ValueError, match="for_each"):
        await storage.for_each(thread.get).save(checkpoint(checkpoint_id="lost"))
    [said] = heard
    assert said.startswith("lost: Which run")


async def test_what_the_resolver_raises_is_raised(engine: Engine) -> None:
    def fails() -> str:
        raise PermissionError("nobody is logged in")

    with pytest.raises(PermissionError, match="nobody is logged in"):
        await engine.storage().for_each(fails).get_latest(workflow_name=WORKFLOW)


@pytest.mark.parametrize("resolver", [None, "thread", 1])
async def test_a_resolver_that_cannot_be_called_is_refused(engine: Engine, resolver: Any) -> None:
    with pytest.raises(TypeError, match="resolver is a function"):
        engine.storage().for_each(resolver)


async def test_a_run_id_that_for_run_would_refuse_is_refused_alike(engine: Engine) -> None:
    for wrong, error in (("x" * 256, ValueError), ("  ", ValueError), (7, TypeError)):
        with pytest.raises(error, match="The run id"):
            await engine.storage().for_each(lambda wrong=wrong: wrong).get_latest(workflow_name=WORKFLOW)  # type: ignore[return-value]


async def test_what_is_no_checkpoint_is_refused_as_by_every_storage(engine: Engine) -> None:
    with pytest.raises(TypeError, match="save takes a WorkflowCheckpoint"):
        await engine.storage().for_each(lambda: "a").save("text")  # type: ignore[arg-type]


# Whose checkpoint it is


def confined_by(way: str, storage: EventCheckpointStorage, run: str) -> Any:
    return storage.for_run(run, confined=True) if way == "for_run" else storage.for_each(lambda: run)


each_way = pytest.mark.parametrize("way", ["for_run", "for_each"])


@each_way
@pytest.mark.parametrize("knows", [False, True], ids=["new", "with a run of its own"])
async def test_a_confined_handle_finds_nothing_of_another_run(engine: Engine, way: str, knows: bool) -> None:
    storage = engine.storage()
    [theirs] = await chain_of(storage.for_run("theirs"), 1)
    own = confined_by(way, engine.storage(), "own")
    if knows:
        await own.save(checkpoint(checkpoint_id="mine"))
    for look in (own.load, own.load_with_hash):
        with pytest.raises(CheckpointNotFoundError):
            await look(theirs.checkpoint_id)
    assert not await own.delete(theirs.checkpoint_id)
    engine.settle()
    assert await storage.for_run("anybody").load(theirs.checkpoint_id) == theirs, "a handle that is not, does"


@each_way
async def test_a_confined_handle_finds_its_own_where_another_run_has_one_of_the_same_id(
    engine: Engine, way: str
) -> None:
    storage = engine.storage()
    for run in ("own", "theirs"):
        await storage.for_run(run).save(checkpoint(checkpoint_id="same", state={"of": run}))
    engine.settle()
    own = confined_by(way, engine.storage(), "own")
    assert (await own.load("same")).state == {"of": "own"}
    assert await own.delete("same")
    with pytest.raises(CheckpointNotFoundError):
        await own.load("same")


@each_way
async def test_a_confined_handle_finds_what_conflicts_made_of_its_run(engine: Engine, way: str) -> None:
    storage = engine.storage()
    [first] = await chain_of(storage.for_run("own"), 1)
    forked = "own"
    for depth in range(2):
        winner, loser = storage.for_run(forked), storage.for_run(forked)
        start = await winner.get_latest(workflow_name=WORKFLOW)
        await loser.get_latest(workflow_name=WORKFLOW)
        await winner.save(checkpoint(start, checkpoint_id=f"won{depth}"))
        await loser.save(checkpoint(start, checkpoint_id=f"lost{depth}"))
        assert loser.forked_to is not None
        forked = loser.forked_to
    engine.settle()
    own = confined_by(way, engine.storage(), "own")
    for found in ("lost1", "lost0", first.checkpoint_id):
        assert (await own.load(found)).checkpoint_id == found
    with pytest.raises(CheckpointNotFoundError):
        await confined_by(way, engine.storage(), "ow").load("lost0")


@each_way
async def test_neither_a_name_nor_a_fork_by_itself_makes_a_run_ones_own(engine: Engine, way: str) -> None:
    storage = engine.storage()
    [first] = await chain_of(storage.for_run("own"), 1)
    await storage.for_run("own~12345678").save(checkpoint(checkpoint_id="named alike"))
    trial = storage.for_run("trial")
    await trial.save(checkpoint(await trial.load(first.checkpoint_id), checkpoint_id="tried"))
    engine.settle()
    for other in ("named alike", "tried"):
        with pytest.raises(CheckpointNotFoundError):
            await confined_by(way, engine.storage(), "own").load(other)


@pytest.mark.parametrize("value", [1, None, "yes"])
async def test_confined_is_true_or_false(engine: Engine, value: Any) -> None:
    with pytest.raises(TypeError, match="confined is True or False"):
        engine.storage().for_run("a", confined=value)


# One handle for each execution


async def test_every_start_in_a_thread_goes_on_in_its_run(engine: Engine) -> None:
    storage = engine.storage().for_each(thread.get)
    for turn in range(3):

        async def start(turn: int = turn) -> None:
            one = checkpoint(checkpoint_id=f"{turn}.0")
            await storage.save(one)
            await storage.save(checkpoint(one, checkpoint_id=f"{turn}.1"))

        await in_thread("a", start)
    assert await run_log(engine, "a") == [f"{turn}.{step}" for turn in range(3) for step in range(2)]


@pytest.mark.parametrize("apart", [False, True], ids=["one process", "two processes"])
async def test_two_that_resume_one_checkpoint_at_once_are_two_writers(engine: Engine, apart: bool) -> None:
    one = engine.storage().for_each(thread.get)
    routed = [one, engine.storage().for_each(thread.get) if apart else one]
    [first] = await chain_of(engine.storage().for_run("a"), 1)
    engine.settle()
    thread.set("a")
    for storage in routed:  # whoever started both of them has looked: that is no handle of theirs
        await storage.get_latest(workflow_name=WORKFLOW)
    loaded = asyncio.Barrier(2)

    async def resume(storage: RoutedCheckpointStorage, name: str) -> None:
        thread.set("a")
        last = await storage.load(first.checkpoint_id)
        await loaded.wait()
        for step in range(2):
            last = checkpoint(last, checkpoint_id=f"{name}{step}")
            await storage.save(last)

    await asyncio.gather(*(resume(storage, name) for storage, name in zip(routed, "xy", strict=True)))
    engine.settle()
    own = await run_log(engine, "a")
    winner, loser = ("x", "y") if own[1] == "x0" else ("y", "x")
    assert own == [first.checkpoint_id, f"{winner}0", f"{winner}1"]
    assert await run_log(engine, f"a~{loser}0") == [f"{loser}0", f"{loser}1"]


@pytest.mark.parametrize("where", ["the same task", "tasks of it", "tasks that know nothing of each other"])
async def test_an_execution_is_no_conflict_with_itself(engine: Engine, where: str) -> None:
    storage = engine.storage().for_each(lambda: "a")
    [first] = await chain_of(engine.storage().for_run("a"), 1)
    engine.settle()

    async def call(work: Any) -> Any:
        if where == "the same task":
            return await work
        context = contextvars.copy_context() if where == "tasks of it" else contextvars.Context()
        return await asyncio.create_task(work, context=context)

    last = await call(storage.load(first.checkpoint_id))
    made = [first]
    for step in range(3):
        last = checkpoint(last, checkpoint_id=str(step))
        await call(storage.save(last))
        made.append(last)
    assert await run_log(engine, "a") == [each.checkpoint_id for each in made]


async def test_a_start_goes_behind_what_others_have_written_since_its_task_has_looked(engine: Engine) -> None:
    storage = engine.storage().for_each(lambda: "a")
    names: list[str] = []
    for turn in range(3):
        await storage.get_latest(workflow_name=WORKFLOW)
        other = engine.storage().for_run("a")
        await other.get_latest(workflow_name=WORKFLOW)
        await other.save(checkpoint(checkpoint_id=f"other {turn}"))
        engine.settle()
        await storage.save(checkpoint(checkpoint_id=f"own {turn}"))
        engine.settle()
        names += [f"other {turn}", f"own {turn}"]
    assert await run_log(engine, "a") == names


async def test_a_task_that_works_for_several_threads_mixes_none_of_them(engine: Engine) -> None:
    storage = engine.storage().for_each(thread.get)
    last: dict[str, WorkflowCheckpoint] = {}
    for step in range(3):
        for run in ("a", "b"):
            thread.set(run)
            last[run] = checkpoint(last.get(run), checkpoint_id=f"{run}{step}")
            await storage.save(last[run])
    for run in ("a", "b"):
        assert await run_log(engine, run) == [f"{run}{step}" for step in range(3)]


async def test_two_storages_for_each_in_one_task_do_not_meet(engine: Engine) -> None:
    storages = {name: engine.storage(actor=name).for_each(lambda: "a") for name in ("one", "other")}
    last: dict[str, WorkflowCheckpoint] = {}
    for step in range(3):
        for name, storage in storages.items():
            last[name] = checkpoint(last.get(name), workflow_name=name, checkpoint_id=f"{name}{step}")
            await storage.save(last[name])
    engine.settle()
    for name in storages:
        written = await history(engine.open(), "a", name)
        assert [(event.checkpoint_id, event.actor) for event in written] == [
            (f"{name}{step}", name) for step in range(3)
        ]
