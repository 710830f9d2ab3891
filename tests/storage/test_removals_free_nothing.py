"""After a removal, who still writes by an old view of the run: what is acknowledged is found, and nothing mixes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, EventCheckpointStorage, RunCheckpointStorage, StreamId
from eventckpt.audit.verify import Problem
from eventckpt.runs import counted, live
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..pruning import foreseen

pytestmark = pytest.mark.slow  # every way to remove, with every way to write after it

WORKFLOW: Final = "wf"
RUN: Final = StreamId(WORKFLOW, "r")
PADDING: Final = random.Random(1).randbytes(3000).hex()
"""So large that what follows is stored as a delta."""


def checkpoint(name: str, previous: str | None = None) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        WORKFLOW,
        "graph",
        checkpoint_id=name,
        previous_checkpoint_id=previous,
        state={"name": name, "padding": PADDING},
    )


def audited(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


# What removes


async def prunes(engine: Engine, **options: int | datetime) -> None:
    audit = CheckpointAudit(audited(engine))
    [plan] = [plan async for plan in audit.plan_prune([RUN], **options)]  # pyright: ignore[reportArgumentType] - by name
    assert await audit.prune(plan)


async def prunes_all(engine: Engine) -> None:
    await prunes(engine, keep=0)


async def prunes_all_but_one(engine: Engine) -> None:
    await prunes(engine, keep=1)


async def prunes_what_is_old(engine: Engine) -> None:
    await prunes(engine, keep=0, before=datetime.now(UTC) + timedelta(days=1))


async def deletes_and_prunes(engine: Engine) -> None:
    assert await engine.storage().for_run("r", workflow_name=WORKFLOW).delete("w3")
    engine.settle()
    await prunes(engine, keep=1)


async def prunes_twice(engine: Engine) -> None:
    await prunes(engine, keep=1)
    engine.settle()
    await prunes(engine, keep=0)


async def removes_half(engine: Engine) -> None:
    store = audited(engine)
    record, gone = await foreseen(store, RUN, keep=1)
    await store.append(record)
    await store.remove(RUN, gone[len(gone) // 2 :])


async def records_and_stops(engine: Engine) -> None:
    store = audited(engine)
    await store.append((await foreseen(store, RUN, keep=0)).record)


REMOVALS: Final = (
    prunes_all,
    prunes_all_but_one,
    prunes_what_is_old,
    deletes_and_prunes,
    prunes_twice,
    removes_half,
    records_and_stops,
)


# Who writes


class Late(NamedTuple):
    """A writer that was there before the removal."""

    storage: EventCheckpointStorage | RunCheckpointStorage
    follows: str | None
    """The checkpoint that its own ones follow."""
    seen: frozenset[str]
    """What it knows of the run."""
    first: str = "late 1"


async def read_the_run_half_way(engine: Engine, own: RunCheckpointStorage) -> Late:
    run = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await run.load("w2")
    return Late(run, "w2", frozenset({"w1", "w2"}))


async def read_its_beginning(engine: Engine, own: RunCheckpointStorage) -> Late:
    run = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await run.load("w1")
    return Late(run, "w1", frozenset({"w1", "w2"}))


async def wrote_the_run(engine: Engine, own: RunCheckpointStorage) -> Late:
    return Late(own, "w4", frozenset({"w1", "w2", "w3", "w4"}))


async def goes_back_in_it(engine: Engine, own: RunCheckpointStorage) -> Late:
    return Late(own, "w1", frozenset({"w1", "w2", "w3", "w4"}))


async def uses_the_id_again(engine: Engine, own: RunCheckpointStorage) -> Late:
    return Late(engine.storage().for_run("r"), None, frozenset())


async def forks_into_it(engine: Engine, own: RunCheckpointStorage) -> Late:
    storage = engine.storage()
    await storage.for_run("origin").save(checkpoint("root"))
    run = storage.for_run("r", workflow_name=WORKFLOW)
    return Late(run, "root", frozenset())


async def has_the_base_cached(engine: Engine, own: RunCheckpointStorage) -> Late:
    storage = engine.storage()
    await storage.load("w2")
    return Late(storage, "w2", frozenset({"w1", "w2"}))


async def saves_once_more(engine: Engine, own: RunCheckpointStorage) -> Late:
    return Late(own, "w1", frozenset({"w1", "w2", "w3", "w4"}), first="w2")


Writer = Callable[[Engine, RunCheckpointStorage], Awaitable[Late]]
WRITERS: Final[tuple[Writer, ...]] = (
    read_the_run_half_way,
    read_its_beginning,
    wrote_the_run,
    goes_back_in_it,
    uses_the_id_again,
    forks_into_it,
    has_the_base_cached,
    saves_once_more,
)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("removal", REMOVALS, ids=lambda each: each.__name__)
async def test_whoever_writes_after_a_removal_by_an_older_view_is_found_and_mixes_with_nobody(
    engine: Engine, removal: Callable[[Engine], Awaitable[None]], writer: Writer
) -> None:
    own = engine.storage().for_run("r")
    for number in (1, 2):
        await own.save(checkpoint(f"w{number}", f"w{number - 1}" if number > 1 else None))
    engine.settle()
    late = await writer(engine, own)
    for number in (3, 4):
        await own.save(checkpoint(f"w{number}", f"w{number - 1}"))
    engine.settle()
    await removal(engine)
    engine.settle()

    saved = [checkpoint(late.first, late.follows), checkpoint("late 2", late.first)]
    for each in saved:
        await late.storage.save(each)
        engine.settle()
        assert await engine.storage().load(each.checkpoint_id) == each
        [found] = [
            stream async for stream in audited(engine).streams() if each.checkpoint_id in await live_in(engine, stream)
        ]
        latest = await engine.storage().for_run(found.run_id).get_latest(workflow_name=WORKFLOW)
        assert latest == each
        strangers = await live_in(engine, found) - {one.checkpoint_id for one in saved} - late.seen
        assert not strangers, "it went on behind what it has not seen"
    assert await problems(engine) == []


async def live_in(engine: Engine, stream: StreamId) -> set[str]:
    return set(live(counted([header async for header in engine.open().headers(stream)])))


async def problems(engine: Engine) -> list[Problem]:
    verdicts = CheckpointAudit(audited(engine)).verify_all(decode=True)
    return [problem async for verdict in verdicts for problem in verdict.problems]
