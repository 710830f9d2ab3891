"""Nothing is lost where a process that has seen nothing yet is answered by a replica that lags.

Every replica of these servers is late until the test lets time pass: what another process has written is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

import msgspec
import pytest

from eventckpt import CheckpointEvent, StreamId
from eventckpt.errors import StoreUnavailableError
from eventckpt.runs import fold
from eventckpt.stores import AuditStore
from projections import FeedRange, LatestProjection, Lease, ProcessorOptions, open_engine
from projections.projector import Projector

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine
from .driven_clock import DrivenClock
from .rig import WORKFLOW, Recorder, Rig, Writer, event

LAG = 8.0


class Late(NamedTuple):
    """Workers over a server whose replicas lag until time passes."""

    rig: Rig
    replicas: DrivenClock

    @property
    def writer(self) -> Writer:
        return self.rig.writer

    def settle(self) -> None:
        """Every replica has heard of what was written so far."""
        self.replicas.advance(2 * LAG)

    async def headers(self, run: str) -> list[CheckpointEvent]:
        """The events of a run, as who wrote them sees them."""
        return [header async for header in self.writer.store.headers(StreamId(WORKFLOW, run))]


@pytest.fixture
async def late() -> AsyncGenerator[Late, None]:
    replicas = DrivenClock()
    switches = Switches(lag=1.0, lag_seconds=LAG)
    async with CosmosEmulator(switches=switches, monotonic=replicas.monotonic) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        rig = Rig(engine, emulator)
        yield Late(rig, replicas)
        await rig.close()
        await engine.close()


# Events that come from elsewhere, such as the trigger of a Function, before the log shows them


@pytest.mark.parametrize("shown", [1, 2, 3, 4])
async def test_what_was_delivered_counts_before_the_log_shows_it(late: Late, shown: int) -> None:
    await late.writer.write("a", count=shown)
    late.settle()
    await late.writer.write("a", count=4 - shown)
    events = await late.headers("a")
    store = late.rig.engine.open()
    assert await LatestProjection(store).apply(events[1:]) == 1
    assert (await store.runs().get(StreamId(WORKFLOW, "a"))).popitem()[1] == fold(events)


async def test_what_lies_between_the_log_and_a_delivery_is_waited_for(late: Late) -> None:
    await late.writer.write("a")
    late.settle()
    await late.writer.write("a", count=3)
    events = await late.headers("a")
    store = late.rig.engine.open()
    projection = LatestProjection(store)
    with pytest.raises(StoreUnavailableError, match=r"run 'a' of workflow 'w'.*seq 1.*seq 3"):
        await projection.apply(events[2:])
    assert await store.runs().get(StreamId(WORKFLOW, "a")) == {}
    late.settle()
    assert await projection.apply(events[2:]) == 1
    assert (await store.runs().get(StreamId(WORKFLOW, "a"))).popitem()[1] == fold(events)


@pytest.mark.parametrize("shown", [1, 2])
async def test_a_deletion_that_the_log_does_not_show_yet_counts_all_the_same(late: Late, shown: int) -> None:
    await late.writer.write("a", count=shown)
    late.settle()
    await late.writer.write("a", count=2 - shown)
    await late.writer.write("a", deletes="a-2")
    events = await late.headers("a")
    store = late.rig.engine.open()
    projection = LatestProjection(store)
    await projection.apply(events[:2])
    if shown == 1:  # what is deleted is not there yet
        with pytest.raises(StoreUnavailableError):
            await projection.apply(events[2:])
        late.settle()
    assert await projection.apply(events[2:]) == 1
    assert (await store.runs().get(StreamId(WORKFLOW, "a"))).popitem()[1] == fold(events)


@pytest.mark.parametrize("another_went_on", [False, True])
async def test_an_event_that_came_late_is_not_handled_before_it_counts(late: Late, another_went_on: bool) -> None:
    """The log is shown as it was, so a fold of it would be older than the document, and be left out without a word."""
    events: list[CheckpointEvent] = []
    for seq in range(1, 5):
        events.append(event("a", seq, before=events[-1] if events else None))
    stream, writer = StreamId(WORKFLOW, "a"), late.writer.store
    assert isinstance(writer, AuditStore)
    await writer.put(stream, [events[0], events[2]])
    await LatestProjection(writer).apply([events[0], events[2]])
    late.settle()
    store = late.rig.engine.open()
    projection = LatestProjection(store)
    if another_went_on:
        await projection.apply([events[0], events[2]])
    await writer.put(stream, [events[3]])
    await LatestProjection(writer).apply([events[3]])
    if not another_went_on:
        late.settle()
    await writer.put(stream, [events[1]])
    if another_went_on:
        with pytest.raises(StoreUnavailableError, match=r"Run 'a' of workflow 'w'.*apply it again"):
            await projection.apply([events[1]])
        late.settle()
    await projection.apply([events[1]])
    late.settle()
    assert (await late.rig.engine.open().runs().get(stream)).popitem()[1] == fold(events)


# Rebuilds


async def rebuilt(late: Late) -> str:
    """What a rebuild in another process puts in use, which gets to know in time what the others wrote to the log."""
    projector = Projector(open_engine(late.rig.engine.open()), ProcessorOptions(worker="other"), clock=late.rig.clock)
    rebuilding = asyncio.ensure_future(projector.rebuild(lambda *_: None))
    await late.rig.clock.until(rebuilding.done, at_most=10_000)
    return await rebuilding


async def runs_in(late: Late, projection: str) -> list[str]:
    late.settle()
    return sorted([info.run_id async for info in late.rig.engine.open().runs(projection).all()])


async def test_a_rebuild_right_after_another_one_does_not_clear_what_that_put_in_use(late: Late) -> None:
    await late.writer.write("a", "b")
    late.settle()
    assert await rebuilt(late) == "latest-2"
    assert await rebuilt(late) == "latest-3"
    assert await runs_in(late, "latest-2") == ["a", "b"]


async def test_a_rebuild_right_after_one_that_was_given_up_begins_at_the_beginning(late: Late) -> None:
    await late.writer.write("a", "b")
    late.settle()
    given_up = Projector(open_engine(late.rig.engine.open()), ProcessorOptions(worker="one"), clock=late.rig.clock)
    async with given_up.processing("latest-2") as processor:
        await late.rig.clock.until(lambda: sum(each.events for each in processor.stats.values()) == 2)
        await late.rig.clock.until(lambda: sum(each.lease_writes for each in processor.stats.values()) > 0)
        late.settle()  # of all that it did, only that it released its lease is late
    assert await rebuilt(late) == "latest-2"
    assert await runs_in(late, "latest-2") == ["a", "b"]


# Interventions, in a process of its own


async def test_a_reset_right_after_the_workers_stopped_is_one(late: Late) -> None:
    await late.writer.write("a", count=3)
    late.settle()
    first, again = Recorder(), Recorder()
    async with late.rig.worker(first, "one"):
        await late.rig.clock.until(lambda: len(first.handled) == 3)
    await late.rig.worker(Recorder(), "operator").reset()
    async with late.rig.worker(again, "two"):
        await late.rig.clock.until(lambda: len(again.handled) == 3)


async def test_a_reset_while_a_worker_takes_a_lease_says_to_stop_it(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = open_engine(late.writer.store).leases("test")
    lease = await leases.create(Lease(range=FeedRange("", "FF")))
    assert lease is not None
    operator = late.rig.worker(Recorder(), "operator")
    seen = await operator._leases.all()
    monkeypatch.setattr(operator._leases, "all", lambda: _given(seen or [lease]))
    await leases.replace(msgspec.structs.replace(lease, owner="two"))
    with pytest.raises(RuntimeError, match="Stop the workers first"):
        await operator.reset()


async def _given(leases: list[Lease]) -> list[Lease]:
    return leases


async def test_what_was_just_parked_and_stopped_is_there_for_who_resumes(late: Late) -> None:
    async def fails(batch: object) -> None:
        raise RuntimeError("poison")

    await late.writer.write("a")
    late.settle()
    for policy in ("park", "stop"):
        worker = late.rig.worker(Recorder(fails), processor=policy, on_error=policy, max_attempts=1)
        async with worker:
            await late.rig.clock.until(lambda worker=worker: any(e.parked or e.stopped for e in worker.stats.values()))
        operator = late.rig.worker(Recorder(), "operator", processor=policy)
        assert await operator.unpark() == (policy == "park")
    late.settle()
    assert [lease.stopped for lease in await late.rig.leases("stop")] == [False]


async def test_who_has_to_be_certain_sees_a_pointer_that_was_just_written(late: Late) -> None:
    first, other = late.writer.store.runs(), late.rig.engine.open().runs()
    assert await first.active(certain=True) == "latest"
    late.settle()
    await first.activate("latest-2")
    assert await other.active() == "latest"
    assert await other.active(certain=True) == "latest-2"
    assert await other.active() == "latest-2"
