"""A store that does not answer: each operation takes all of its time, and then fails. What a worker says of itself
meanwhile, from when on, and how long it takes to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventckpt.errors import StoreReadOnlyError, StoreUnavailableError
from projections import Batch, LatestProjection, ProcessorOptions, open_engine
from projections.options import RELEASING
from projections.projector import Projector
from projections.worker.health import Health, Terms, check_terms
from projections.worker.scaler import ScalerLeases

from .rig import Recorder, Rig

PATIENCE = 30.0
"""Seconds that an operation has."""
LITTLE = 2.0
"""Seconds for the steps of the clock."""
PACES: dict[str, tuple[float, dict[str, Any]]] = {
    "the defaults": (60.0, {}),
    "a fast one": (
        5.0,
        {"poll_interval": 1.0, "acquire_interval": 1.0, "renew_interval": 2.0, "expiry": 6.0, "fence_margin": 1.0},
    ),
}


class Outage:
    """Of what a worker asks of its feed and its leases."""

    def __init__(self, rig: Rig, *targets: Any) -> None:
        self._rig = rig
        self._is_out = False
        self._until = asyncio.Event()
        for target in targets:
            for name in ("read", "lag", "all", "replace", "create", "list_documents", "delete", "active"):
                if hasattr(target, name):
                    setattr(target, name, self._wrapped(getattr(target, name)))

    def begin(self) -> None:
        self._is_out = True

    def end(self) -> None:
        self._is_out = False

    def _wrapped(self, real: Any) -> Any:
        async def asked(*args: Any, **options: Any) -> Any:
            if self._is_out:
                await self._rig.clock.sleep(PATIENCE)
                raise StoreUnavailableError("no answer")
            return await real(*args, **options)

        return asked


def health_of(rig: Rig, worker: Any, poll_age: float) -> Health:
    projector = Projector(open_engine(rig.writer.store), worker.options, clock=rig.clock)
    projector.processor, projector.projection = worker, LatestProjection(rig.writer.store)
    return Health(projector, Terms(poll_age=poll_age), rig.clock)


@pytest.mark.parametrize(("poll_age", "pace"), PACES.values(), ids=PACES)
async def test_a_worker_is_not_ready_soon_after_the_last_answer_whether_it_has_a_range_or_not(
    sqlite_rig: Rig, poll_age: float, pace: dict[str, Any]
) -> None:
    """It stays so until there is an answer, though it lets go of its range in between."""
    rig = sqlite_rig
    await rig.writer.write("a")
    async with rig.worker(Recorder(), "one", **pace) as one, rig.worker(Recorder(), "two", **pace) as two:
        outages = [Outage(rig, worker._feed, worker._leases) for worker in (one, two)]
        owner, other = health_of(rig, one, poll_age), health_of(rig, two, poll_age)
        await rig.clock.until(lambda: owner.ready()[0] and other.ready()[0])
        for outage in outages:
            outage.begin()
        await rig.clock.passes(poll_age + LITTLE)
        assert owner.ready()[0] is False
        await rig.clock.passes(one.options.acquire_interval)
        until = rig.clock.now + 3 * one.options.expiry

        def both_say_it() -> bool:
            assert [each.ready()[0] for each in (owner, other)] == [False, False]
            assert all(each.ready()[1]["reasons"] for each in (owner, other))
            return rig.clock.now >= until

        await rig.clock.until(both_say_it)
        assert one.owned == []
        [view] = one.ranges
        assert view.poll_age >= poll_age + 3 * one.options.expiry
        for outage in outages:
            outage.end()
        await rig.clock.until(lambda: owner.ready()[0] and other.ready()[0])


async def test_an_outage_of_the_leases_alone_shows_too(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    async with rig.worker(Recorder(), "one") as one:
        outage, health = Outage(rig, one._leases), health_of(rig, one, 60.0)
        await rig.clock.passes(20)
        outage.begin()
        await rig.clock.passes(60 + one.options.acquire_interval + LITTLE)
        assert health.ready()[0] is False
        outage.end()
        await rig.clock.until(lambda: health.ready()[0])


async def test_where_the_handler_waits_that_is_the_reason_and_not_the_feed(sqlite_rig: Rig) -> None:
    rig = sqlite_rig

    async def is_out(batch: Batch) -> None:
        await rig.clock.sleep(PATIENCE)
        raise StoreUnavailableError("no documents")

    await rig.writer.write("a", count=3)
    async with rig.worker(is_out, "one", page_size=1, batch_pages=1, read_ahead=0, stop_timeout=0.0) as one:
        health = health_of(rig, one, 60.0)
        await rig.clock.until(lambda: "not done with what was read" in str(health.ready()[1].get("reasons")))
        well, said = health.ready()
        assert (well, said["status"]) == (False, "unavailable")
        assert said["reasons"][0] == "the handler of the range -FF: StoreUnavailableError: no documents"
        assert "as its handler is not done with what was read" in said["reasons"][1]


@pytest.mark.parametrize(
    "intervals", [{}, {"poll_interval": 29.0}, {"renew_interval": 40.0, "expiry": 60.0}], ids=lambda each: str(each)
)
async def test_workers_with_nothing_to_do_are_ready_all_the_time_with_every_term_that_is_taken(
    sqlite_rig: Rig, intervals: dict[str, float]
) -> None:
    rig = sqlite_rig
    options = ProcessorOptions(**intervals)
    term = options.longest_unread + 10 * LITTLE  # the reads of a busy machine take long by this clock
    check_terms(term, options)
    async with rig.worker(Recorder(), "one", **intervals) as one, rig.worker(Recorder(), "two", **intervals) as two:
        healths = [health_of(rig, each, term) for each in (one, two)]
        until = rig.clock.now + 16 * options.poll_interval + 3 * options.longest_unread

        def all_is_well() -> bool:
            assert [each.ready()[0] for each in healths] == [True, True]
            assert all(view.poll_age <= term for worker in (one, two) for view in worker.ranges)
            return rig.clock.now >= until

        await rig.clock.until(all_is_well, step=0.2)


# A whole worker


@asynccontextmanager
async def at_work(
    rig: Rig, *, out: bool
) -> AsyncGenerator[tuple[Any, Outage, asyncio.Event, asyncio.Future[Any]], None]:
    """A projector, with its copies for a scaler, over a store of its own."""
    engine = open_engine(rig.engine.open())
    runs: Any = type(engine.store.run_store())
    outage = Outage(rig, engine.feed, engine.documents)
    real = runs.active

    async def active(self: Any, **how: Any) -> Any:
        if outage._is_out:
            await rig.clock.sleep(PATIENCE)
            raise StoreUnavailableError("no answer")
        return await real(self, **how)

    runs.active = active
    if out:
        outage.begin()
    projector, stop = Projector(engine, ProcessorOptions(worker="one"), clock=rig.clock), asyncio.Event()
    copies = ScalerLeases(engine, projector, "scaler", "one", rig.clock)
    working = asyncio.ensure_future(copies.copy_during(projector.run(stop)))
    try:
        yield projector, outage, stop, working
    finally:
        runs.active = real
        outage.end()
        stop.set()
        await rig.clock.until(working.done)


async def test_a_worker_that_begins_in_an_outage_says_why_it_is_not_ready_from_the_beginning(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    async with at_work(rig, out=True) as (projector, outage, _, _):
        health = Health(projector, Terms(), rig.clock)
        assert health.ready() == (
            False,
            {"status": "starting", "reasons": ["the store has not answered yet"], "ranges": []},
        )
        await rig.clock.until(lambda: "no answer" in str(health.ready()[1]["reasons"]))
        well, said = health.ready()
        assert (well, said["status"]) == (False, "starting")
        assert any("no answer" in reason for reason in said["reasons"])
        outage.end()
        await rig.clock.until(lambda: health.ready()[0])


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_worker_that_is_told_to_stop_in_an_outage_ends_in_time(sqlite_rig: Rig, has_begun: bool) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    async with at_work(rig, out=not has_begun) as (projector, outage, stop, working):
        if has_begun:
            await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 1)
            outage.begin()
            await rig.writer.write("a")
        await rig.clock.passes(20)
        stop.set()
        told = rig.clock.now
        await rig.clock.until(working.done)
        await working
        assert rig.clock.now - told <= ProcessorOptions().stop_timeout + 2 * RELEASING + LITTLE


# The copies for a scaler


async def test_copying_goes_on_after_any_error_and_the_worker_tells(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    engine = open_engine(rig.engine.open())
    projector = Projector(engine, ProcessorOptions(worker="one"), clock=rig.clock)
    copies: Any = ScalerLeases(engine, projector, "scaler", "one", rig.clock)
    real, stop, is_broken = copies._copies.all, asyncio.Event(), True

    async def breaks() -> Any:
        if is_broken:
            raise KeyError("nobody expected")
        return await real()

    copies._copies.all = breaks
    working = asyncio.ensure_future(copies.copy_during(projector.run(stop)))
    health = Health(projector, Terms(), rig.clock)
    await rig.clock.until(lambda: projector.restarts == 3)
    assert [trouble.what for trouble in projector.troubles] == ["copying the leases for the scaler"]
    await rig.clock.until(lambda: not health.ready()[0])
    is_broken = False
    await rig.clock.until(lambda: projector.troubles == [] and health.ready()[0])
    stop.set()
    await working


async def test_copying_that_can_never_go_on_ends_the_worker_with_that(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    engine = open_engine(rig.engine.open())
    projector = Projector(engine, ProcessorOptions(worker="one"), clock=rig.clock)
    copies: Any = ScalerLeases(engine, projector, "scaler", "one", rig.clock)

    async def refused() -> Any:
        raise StoreReadOnlyError("no rights")

    copies._copies.all = refused
    working = asyncio.ensure_future(copies.copy_during(projector.run(asyncio.Event())))
    await rig.clock.until(working.done)
    with pytest.raises(StoreReadOnlyError, match="no rights"):
        await working
