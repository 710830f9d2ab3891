"""Retention beside a projection: one of all workers carries the policy out, whoever dies, stands still or stops.

The other workers see it in a document; what is removed, and when, is seen in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from eventckpt import CheckpointAudit
from eventckpt.audit import RetentionPolicy, RetentionRule
from eventckpt.clock import Clock
from eventckpt.errors import StoreReadOnlyError, StoreUnavailableError
from eventckpt.stores import AuditStore, Space
from projections import ProcessorOptions, open_engine
from projections.projector import Projector
from projections.worker.health import Health, Terms
from projections.worker.metrics import registry
from projections.worker.retention import RetentionPasses

from .commands import ended, invoked, running
from .driven_clock import DrivenClock
from .promql import documented_metrics
from .rig import WORKFLOW, Rig
from .test_watching import HOSTILE

DAY = 86_400.0
LOCK = "eventckpt-retention.lock"
OPEN = {"status": ("open",), "unfinished": True}
"""How the runs of these tests stand: events that say nothing of an end."""
FILE = """
[rules.old]
workflow = "*"
status = ["open"]
unfinished = true
remove_after = "1d"
"""


class Wall(DrivenClock):
    """Driven time with a wall clock that goes with it: a month after the events of these tests were recorded."""

    def timestamp(self) -> str:
        return (datetime(2026, 2, 1, tzinfo=UTC) + timedelta(seconds=self.now)).isoformat()


class Frozen(Wall):
    """The time of a process that stands still, until it is turned."""

    def __init__(self, real: DrivenClock) -> None:
        super().__init__()
        self.now = real.now


@dataclass
class Worker:
    """What one process does of retention."""

    passes: RetentionPasses
    store: AuditStore
    documents: Any
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Future[None] | None = None

    async def stopped(self) -> None:
        assert self.task is not None
        self.stop.set()
        await self.task

    def killed(self) -> None:
        """It does nothing any more, and gives nothing back."""
        assert self.task is not None
        self.documents.replace = self.documents.read = never
        self.task.cancel()


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


class Rigged:
    """Workers over one store, which hold what a test holds."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = Wall()
        self.workers: list[Worker] = []

    def worker(self, name: str, *rules: RetentionRule, clock: Clock | None = None, every: float = DAY) -> Worker:
        engine = open_engine(self.rig.engine.open())
        assert isinstance(engine.store, AuditStore)
        policy = RetentionPolicy(rules or [old("*")])
        passes = RetentionPasses(
            engine.store,
            engine.documents,
            policy,
            every=every,
            options=ProcessorOptions(worker=name),
            clock=clock or self.clock,
        )
        made = Worker(passes, engine.store, engine.documents)
        self.workers.append(made)
        return made

    def begun(self, *workers: Worker) -> None:
        for each in workers:
            each.task = asyncio.ensure_future(each.passes.beside(waited(each.stop), each.stop))

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], at_most: float = 5000.0, step: float = 0.5
    ) -> None:
        await self.clock.until(condition, at_most=at_most, step=step)

    async def left(self) -> set[str]:
        """The runs that are there."""
        self.rig.engine.settle()
        store = self.rig.engine.open()
        assert isinstance(store, AuditStore)
        return {info.run_id async for info in CheckpointAudit(store).runs()}

    async def has_left(self, *runs: str) -> bool:
        return await self.left() == set(runs)

    async def removals(self) -> list[tuple[str | None, list[str]]]:
        """Who recorded the removal of which runs."""
        self.rig.engine.settle()
        store = self.rig.engine.open()
        assert isinstance(store, AuditStore)
        found: list[tuple[str | None, list[str]]] = []
        async for stream in store.removal_streams():
            async for event in store.headers(stream):
                assert event.removal is not None
                found.append((event.actor, [run.run_id for run in event.removal.runs]))
        return found

    async def is_sound(self) -> bool:
        store = self.rig.engine.open()
        assert isinstance(store, AuditStore)
        return all([verdict.ok async for verdict in CheckpointAudit(store).verify_all(decode=False)])

    async def close(self) -> None:
        for each in self.workers:
            if each.task is not None and not each.task.done():
                each.task.cancel()
                await asyncio.wait([each.task])


async def waited(stop: asyncio.Event) -> None:
    await stop.wait()


def old(workflow: str, **options: Any) -> RetentionRule:
    """Runs of a workflow that nothing was written to for a day go."""
    return RetentionRule(
        **{"name": workflow, "workflow": workflow, "remove_after": timedelta(days=1), **OPEN, **options}
    )


class Holds:
    """Holds the next call of an object's method, before it does anything."""

    def __init__(self, of: Any, name: str) -> None:
        self.arrived, self.open = asyncio.Event(), asyncio.Event()
        method = getattr(of, name)

        async def held(*arguments: Any, **options: Any) -> Any:
            self.arrived.set()
            await self.open.wait()
            return await method(*arguments, **options)

        setattr(of, name, held)


@pytest.fixture
async def rigged(rig: Rig) -> Any:
    made = Rigged(rig)
    yield made
    await made.close()


# Whose turn it is


async def test_of_two_workers_one_does_it_and_again_when_it_is_due(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a", "b", count=2)
    one, two = rigged.worker("one"), rigged.worker("two")
    rigged.begun(one, two)
    await rigged.until(lambda: rigged.has_left())
    await rigged.until(lambda: one.passes.passes + two.passes.passes == 1)
    assert len(await rigged.removals()) == 1
    await rigged.rig.writer.write("c")
    await rigged.clock.until(lambda: rigged.clock.now > 1000 + DAY - 60, step=60.0, at_most=DAY)
    assert one.passes.passes + two.passes.passes == 1
    assert await rigged.left() == {"c"}
    await rigged.until(lambda: one.passes.passes + two.passes.passes == 2)
    assert await rigged.left() == set()
    assert [sorted(runs) for _, runs in await rigged.removals()] == [["a", "b"], ["c"]]
    for each in (one, two):  # each of them knows it
        await rigged.until(lambda each=each: each.passes.view.late == 0)
        assert each.passes.view.succeeded_at is not None
        await each.stopped()


async def test_a_restart_begins_none_that_is_not_due_and_one_that_is(rigged: Rigged) -> None:
    first = rigged.worker("first")
    rigged.begun(first)
    await rigged.until(lambda: first.passes.passes == 1)
    await first.stopped()
    await rigged.rig.writer.write("a")
    for name, after, due in (("early", DAY / 2, False), ("late", DAY, True)):
        rigged.clock.advance(after)
        again = rigged.worker(name)
        rigged.begun(again)
        await rigged.until(lambda again=again: again.passes.view.late is not None)
        await rigged.clock.passes(60.0)
        assert await rigged.left() == (set() if due else {"a"})
        await again.stopped()


async def test_a_time_that_is_to_come_puts_a_pass_off_by_one_interval_and_no_more(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a")
    worker = rigged.worker("one", every=600.0)
    await worker.documents.create({"id": LOCK, "Retention": {"succeeded_at": "2999-01-01T00:00:00+00:00"}})
    rigged.begun(worker)
    await rigged.until(lambda: worker.passes.view.late is not None)
    await rigged.clock.passes(590.0)
    assert await rigged.left() == {"a"}
    await rigged.until(lambda: worker.passes.passes == 1, at_most=60.0)
    assert await rigged.left() == set()


async def test_a_hostile_document_in_the_locks_place_holds_nothing_up_for_longer_than_a_term(rigged: Rigged) -> None:
    told = {"owner": "nobody", "succeeded_at": "\x1b[31m", "failed_at": "x", "failures": -(10**12), "beat": 10**12}
    for number, state in enumerate([told, *({**told, "failures": value, "owner": value} for value in HOSTILE[:-1])]):
        await rigged.rig.writer.write(f"{number}")
        worker = rigged.worker(f"worker {number}")
        found = await worker.documents.read(LOCK)
        document = {"id": LOCK, "Retention": state}
        await (worker.documents.replace(document, found["_etag"]) if found else worker.documents.create(document))
        rigged.begun(worker)
        await rigged.until(lambda worker=worker: worker.passes.passes == 1, at_most=60 + 2 * 13 + 2)
        assert await rigged.left() == set()
        await worker.stopped()


# Who dies, stands still, or stops


async def test_who_is_killed_in_the_middle_is_followed_after_a_term(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a", "b")
    killed, two = rigged.worker("killed"), rigged.worker("two")
    holds = Holds(killed.store, "remove")
    rigged.begun(killed)
    await rigged.until(holds.arrived.is_set)
    killed.killed()
    rigged.begun(two)
    began = rigged.clock.now
    await rigged.until(lambda: two.passes.passes == 1, at_most=60 + 3 * 13)
    assert rigged.clock.now >= began + 60
    assert await rigged.left() == set()
    assert await rigged.is_sound()


async def test_who_stood_still_for_a_term_removes_nothing_more(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a")
    await rigged.rig.writer.write("b", workflow="x")
    clock = Frozen(rigged.clock)
    late = rigged.worker("late", old(WORKFLOW), old("x"), clock=clock)
    holds = Holds(late.store, "remove")
    rigged.begun(late)
    await clock.until(holds.arrived.is_set)
    clock.now += 61
    holds.open.set()
    await clock.until(lambda: late.passes.failures == 1)
    assert len(await rigged.removals()) == 1
    assert len(await rigged.left()) == 1
    assert "its lock could not be kept" in (late.passes.view.failing or "")
    two = rigged.worker("two", old(WORKFLOW), old("x"))
    rigged.begun(two)
    await rigged.until(lambda: two.passes.passes == 1)
    assert await rigged.left() == set()


async def test_who_cannot_renew_the_lock_stops_before_it_counts_as_dead(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a")
    one = rigged.worker("one")
    holds = Holds(one.store, "append")

    async def unavailable(*_: object) -> Any:
        raise StoreUnavailableError("no answer")

    rigged.begun(one)
    await rigged.until(holds.arrived.is_set)
    one.documents.replace = unavailable
    began = rigged.clock.now
    await rigged.until(lambda: one.passes.failures == 1)
    assert 40 <= rigged.clock.now - began <= 50
    assert await rigged.left() == {"a"}
    assert await rigged.removals() == []


STEPS = ("streams", "headers", "append", "read", "remove", "remove_orphaned_parts")


@pytest.mark.parametrize("step", range(14))
async def test_who_is_stopped_in_the_middle_leaves_what_the_next_one_finishes(rigged: Rigged, step: int) -> None:
    await rigged.rig.writer.write("a", "b", count=2)
    await rigged.rig.writer.write("c", workflow="x")
    one = rigged.worker("one")
    calls = 0

    def counted(name: str) -> None:
        method = getattr(one.store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > step:
                one.stop.set()
            return method(*arguments, **options)

        setattr(one.store, name, call)

    for name in STEPS:
        counted(name)
    rigged.begun(one)
    assert one.task is not None
    ended = one.task
    # In short steps, as nothing here waits for time: on a busy machine it was over before the lock was given back.
    await rigged.until(lambda: ended.done() or one.passes.passes == 1, at_most=60.0, step=0.001)
    await one.stopped()
    assert (await one.documents.read(LOCK))["Retention"]["owner"] is None
    assert await rigged.is_sound()
    two = rigged.worker("two")
    rigged.begun(two)
    await rigged.until(lambda: rigged.has_left(), at_most=30.0, step=0.05)
    assert await rigged.is_sound()


# What goes wrong


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("no answer"), StoreReadOnlyError("no rights"), KeyError("bug")]
)
async def test_what_fails_is_told_and_tried_again_by_one_of_all(rigged: Rigged, error: Exception) -> None:
    await rigged.rig.writer.write("a")
    asked: list[float] = []
    looked = asyncio.Event()

    async def fails(*_: object, **__: object) -> Any:
        await looked.wait()
        asked.append(rigged.clock.now)
        raise error

    workers = [rigged.worker("one"), rigged.worker("two")]
    removes: Any = workers[0].store.remove
    for each in workers:
        each.store.remove = fails
    rigged.begun(*workers)
    await rigged.until(lambda: all(each.passes.view.late is not None for each in workers))
    looked.set()  # by then each knows since when it is late, however long its first look took on a busy machine
    await rigged.until(lambda: len(asked) == 3)
    first, second, third = asked
    assert second - first >= 60
    assert third - second >= 120
    views = [each.passes.view for each in workers]
    assert any(str(error).strip("'") in (view.failing or "") for view in views)
    assert all(view.late and view.late > 180 for view in views)
    await rigged.until(lambda: sum(each.passes.failures for each in workers) == 3)
    for each in workers:
        each.store.remove = removes
    await rigged.until(lambda: sum(each.passes.passes for each in workers) == 1)
    assert await rigged.left() == set()
    for each in workers:
        await rigged.until(lambda each=each: each.passes.view[1:] == (0.0, each.passes.view.succeeded_at, None))


async def test_a_policy_for_a_workflow_that_is_not_there_removes_nothing_and_says_so(rigged: Rigged) -> None:
    await rigged.rig.writer.write("a")
    worker = rigged.worker("one", old("elsewhere"), old("*"))
    rigged.begun(worker)
    await rigged.until(lambda: worker.passes.failures == 1)
    assert "'elsewhere'" in (worker.passes.view.failing or "")
    assert await rigged.left() == {"a"}


async def test_what_cannot_be_archived_stays_and_is_tried_again(rigged: Rigged, tmp_path: Path) -> None:
    await rigged.rig.writer.write("a")
    folder = tmp_path / "archives"
    worker = rigged.worker("one", old("*", archive=folder))
    rigged.begun(worker)
    await rigged.until(lambda: worker.passes.failures == 1)
    assert "could be archived" in (worker.passes.view.failing or "")
    assert worker.passes.done.total.refused == {"archive": 1}
    assert await rigged.left() == {"a"}
    folder.mkdir()
    await rigged.until(lambda: worker.passes.passes == 1)
    assert await rigged.left() == set()
    assert len(list(folder.iterdir())) == worker.passes.done.archives == 1


async def test_what_is_projected_goes_on_whatever_becomes_of_retention(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    engine = open_engine(rig.engine.open())
    rigged = Rigged(rig)
    rigged.clock = clock = Wall()
    worker = rigged.worker("one", old("elsewhere"))
    projector, stop = Projector(engine, ProcessorOptions(worker="one"), clock=clock), asyncio.Event()
    health = Health(projector, Terms(), clock, worker.passes)
    working = asyncio.ensure_future(worker.passes.beside(projector.run(stop), stop))
    await clock.until(lambda: worker.passes.failures > 1)
    await rig.writer.write("b")

    async def is_projected() -> bool:
        return await rig.info("b") is not None

    await clock.until(is_projected)
    ready, said = health.ready()
    assert ready
    assert said["retention"]["late"] > 60
    assert "'elsewhere'" in said["retention"]["failing"]
    stop.set()
    await working


# What a worker shows of it


PAGE = (Path(__file__).parents[2] / "docs/projector.md").read_text(encoding="utf-8")
FIGURES = {name for name in documented_metrics(PAGE) if name.startswith("eventckpt_projector_retention_")}


async def test_every_metric_of_retention_counts_something(rigged: Rigged, tmp_path: Path) -> None:
    await rigged.rig.writer.write("a", "b", count=3)
    folder = tmp_path / "archives"
    rule = old("*", archive=folder, keep=1)
    worker = rigged.worker("one", rule)
    projector = Projector(open_engine(rigged.rig.engine.open()), ProcessorOptions(worker="one"), clock=rigged.clock)
    pages = registry(projector, Health(projector, Terms(), rigged.clock, worker.passes), worker.passes)
    shown: set[str] = set()

    def look() -> bool:
        for line in generate_latest(pages).decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("eventckpt_projector_retention_") and float(value):
                shown.add(name.partition("{")[0])
        assert shown <= FIGURES
        return shown == FIGURES

    async def gives_back() -> Space:
        return Space(before=3, after=1)

    worker.store.give_back = gives_back
    rigged.begun(worker)
    await rigged.until(lambda: look() or worker.passes.failures == 1)
    folder.mkdir()
    holds = Holds(worker.store, "remove")
    await rigged.until(lambda: look() or holds.arrived.is_set())
    look()
    holds.open.set()
    await rigged.until(look)
    page = generate_latest(pages).decode()
    assert 'eventckpt_projector_retention_runs_total{did="removed",rule="*"} 2.0' in page
    assert 'eventckpt_projector_retention_refused_total{reason="archive",rule="*"} 2.0' in page
    assert "eventckpt_projector_retention_given_back_bytes_total 2.0" in page
    await worker.stopped()


# The program


def policy(tmp_path: Path, text: str = FILE) -> str:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("[rules.a]\nworkflow = 5\nkeep = 1\n", (), "is no retention policy: rule 'a'"),
        ("nothing", (), "is no retention policy"),
        (FILE, ("--retention-every", "often"), "--retention-every takes a span of time such as 12h or 1d, not 'often'"),
        (FILE, ("--retention-every", "0d"), "--retention-every takes a span of time"),
        (FILE, ("--turns",), "give it to the workers without --turns"),
    ],
)
def test_a_worker_whose_policy_is_wrong_does_not_start(
    tmp_path: Path, text: str, options: tuple[str, ...], words: str
) -> None:
    store = tmp_path / "events.db"
    code, _, said = invoked("run", "--retention", policy(tmp_path, text), *options, EVENTCKPT_STORE=str(store))
    assert code == 2
    assert words in " ".join(said.split())
    assert len(said.splitlines()) == 1
    assert not store.exists()


@pytest.mark.slow
async def test_a_worker_in_a_process_of_its_own_carries_it_out_and_another_one_does_not(
    sqlite_rig: Rig, tmp_path: Path
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b", count=2)
    rigged = Rigged(rig)
    options = ("--retention", policy(tmp_path), "--acquire-interval", "0.2")
    async with running(rig, *options) as first:
        assert "2 runs removed" in await first.said("runs removed")
        done = await first.until("/metrics", lambda _, body: "retention_passes_total 1.0" in body)
        assert 'retention_runs_total{did="removed",rule="old"} 2.0' in done
        async with running(rig, *options, "--retention-every", "1w") as second:
            await second.until("/healthz", lambda _, body: '"late": 0.0' in body)
            _, shown = await second.page("/metrics")
            assert "retention_passes_total 0.0" in shown
            assert await second.terminated() == 0
        assert await first.terminated() == 0
    assert await rigged.left() == set()
    code, said, _ = await ended(rig, "status", "--json")
    assert (code, "a" in said) == (0, True)
