"""What a processor promises, on both engines: every event at least once, in order, by one worker at a time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from eventckpt.errors import StoreUnavailableError
from projections import Batch, ProcessorOptions

from .rig import Recorder, Rig


async def test_every_event_is_handled_in_the_order_of_its_run(rig: Rig) -> None:
    await rig.writer.write("a", "b", "c", count=4)
    seen = Recorder()
    async with rig.worker(seen, page_size=5):
        await rig.clock.until(lambda: len(seen.handled) == 12)
        await rig.writer.write("a", "b", count=3)
        await rig.clock.until(lambda: len(seen.handled) == 18)
    for run in "abc":
        assert seen.in_run(run) == rig.writer.in_run(run)


async def test_a_worker_that_stops_gives_its_leases_back_with_their_position(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    first, second = Recorder(), Recorder()
    async with rig.worker(first, "one"):
        await rig.clock.until(lambda: len(first.handled) == 3)
    assert [lease.owner for lease in await rig.leases()] == [None]
    await rig.writer.write("a", count=2)
    async with rig.worker(second, "two"):
        await rig.clock.until(lambda: len(second.handled) == 2)
    assert second.in_run("a") == [4, 5]


async def test_two_processors_know_nothing_of_each_other(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    one, other = Recorder(), Recorder()
    async with rig.worker(one, processor="one"), rig.worker(other, processor="other"):
        await rig.clock.until(lambda: len(one.handled) == len(other.handled) == 3)


async def test_starting_now_leaves_out_what_came_before_and_nothing_after(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    seen = Recorder()
    worker = rig.worker(seen, start="now")
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].polls > 0)
        await rig.writer.write("a", count=2)
        await rig.clock.until(lambda: len(seen.handled) == 2)
    assert seen.in_run("a") == [4, 5]


async def test_the_place_to_begin_from_is_saved_before_there_is_anything_to_read(rig: Rig) -> None:
    worker = rig.worker(Recorder(), start="now")
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].lease_writes > 0)
        [lease] = await rig.leases()
    assert lease.continuation is not None


async def test_a_batch_that_fails_comes_again_and_nothing_after_it_comes_before(rig: Rig) -> None:
    failures = 2

    async def fails_twice(batch: Batch) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("not yet")

    await rig.writer.write("a", count=3)
    seen = Recorder(fails_twice)
    async with rig.worker(seen, page_size=2):
        await rig.clock.until(lambda: len(seen.handled) == 3)
        assert len(seen.batches) >= 3 + (len(seen.batches[0]) == 2)
        assert seen.batches[0] == seen.batches[1] == seen.batches[2]
    [lease] = await rig.leases()
    assert (lease.attempts, lease.error) == (0, None)


@pytest.mark.calm
async def test_a_page_has_no_more_events_than_asked_for(rig: Rig) -> None:
    await rig.writer.write("a", count=7)
    seen = Recorder()
    async with rig.worker(seen, page_size=3, batch_pages=1):
        await rig.clock.until(lambda: len(seen.handled) == 7)
    assert max(map(len, seen.batches)) == 3


@pytest.mark.calm
async def test_reading_goes_no_further_ahead_than_it_may(rig: Rig) -> None:
    release = asyncio.Event()

    async def waits(batch: Batch) -> None:
        await release.wait()

    await rig.writer.write("a", count=10)
    for read_ahead in (0, 2):
        seen = Recorder(waits)

        async def all_handled(seen: Recorder = seen) -> bool:
            return len(seen.handled) == 10

        worker = rig.worker(seen, f"ahead-{read_ahead}", processor=f"ahead-{read_ahead}", page_size=1, batch_pages=1,
                            read_ahead=read_ahead)  # fmt: skip
        async with worker:
            await rig.clock.until(lambda stats=worker.stats, read=1 + read_ahead: stats["-FF"].polls == read)
            await rig.clock.passes(10)
            assert worker.stats["-FF"].polls == 1 + read_ahead
            release.set()
            await rig.clock.until(all_handled)
        release.clear()


@pytest.mark.calm
async def test_pages_that_wait_are_one_batch_and_no_more_of_them_than_asked_for(rig: Rig) -> None:
    release = asyncio.Event()

    async def waits(batch: Batch) -> None:
        await release.wait()

    await rig.writer.write("a", count=10)
    seen = Recorder(waits)
    worker = rig.worker(seen, page_size=1, batch_pages=4, read_ahead=1, checkpoint_interval=0.0)
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].polls == 5)
        await rig.clock.passes(10)
        assert [list(map(len, seen.batches)), worker.stats["-FF"].polls] == [[4], 5]
        assert (await rig.leases())[0].continuation is None  # nothing of a batch is saved before all of it is handled
        release.set()
        await rig.clock.until(lambda: len(seen.handled) == 10)
        assert list(map(len, seen.batches)) == [4, 4, 2]
        await rig.writer.write("a")
        await rig.clock.until(lambda: len(seen.handled) == 11, at_most=10)  # at the end no others are waited for
    assert seen.in_run("a") == list(range(1, 12))


@pytest.mark.calm
async def test_a_batch_does_not_wait_for_a_page_that_cannot_be_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.writer.write("a", count=3)
    seen = Recorder()
    worker = rig.worker(seen, page_size=1)
    feed: Any = worker._feed
    read, reads = feed.read, 0

    async def fails_after_the_first(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise StoreUnavailableError("out of order")
        return await read(*args, **options)

    monkeypatch.setattr(feed, "read", fails_after_the_first)
    async with worker:
        await rig.clock.until(lambda: len(seen.handled) == 1)
        monkeypatch.setattr(feed, "read", read)
        await rig.clock.until(lambda: len(seen.handled) == 3)


@pytest.mark.calm
async def test_the_end_of_a_range_is_polled_once_an_interval(rig: Rig) -> None:
    worker = rig.worker(Recorder(), poll_interval=20.0)
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].polls == 1)
        before = rig.clock.now
        await rig.clock.until(lambda: worker.stats["-FF"].polls == 3)
    assert 38 <= rig.clock.now - before <= 60


@pytest.mark.calm
async def test_a_range_where_nothing_happens_is_polled_half_as_often_until_something_does(rig: Rig) -> None:
    seen = Recorder()
    worker = rig.worker(seen, poll_interval=4.0)
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].polls == 15)
        began, polls = rig.clock.now, worker.stats["-FF"].polls
        await rig.clock.until(lambda: worker.stats["-FF"].polls == polls + 5)
        assert rig.clock.now - began >= 39
        await rig.writer.write("a")
        await rig.clock.until(lambda: bool(seen.handled))
        began, polls = rig.clock.now, worker.stats["-FF"].polls
        await rig.clock.until(lambda: worker.stats["-FF"].polls == polls + 5)
        assert rig.clock.now - began <= 35


@pytest.mark.calm
@pytest.mark.parametrize(("interval", "least", "most"), [(0.0, 19, 30), (1000.0, 1, 3)])
async def test_under_load_the_position_is_saved_from_time_to_time(
    rig: Rig, interval: float, least: int, most: int
) -> None:
    await rig.writer.write("a", count=20)
    seen = Recorder()
    worker = rig.worker(seen, page_size=1, batch_pages=1, checkpoint_interval=interval)
    async with worker:
        await rig.clock.until(lambda: len(seen.handled) == 20)
        assert least <= worker.stats["-FF"].lease_writes <= most


# Failures of the handler


async def fails(batch: Batch) -> None:
    raise RuntimeError("poison")


async def fails_on_seq_3(batch: Batch) -> None:
    if any(event.seq == 3 for event in batch):
        raise RuntimeError("poison")


async def test_the_pauses_between_attempts_double_up_to_a_limit(rig: Rig) -> None:
    at: list[float] = []

    async def fails_and_notes(batch: Batch) -> None:
        at.append(rig.clock.now)
        raise RuntimeError("poison")

    await rig.writer.write("a")
    async with rig.worker(Recorder(fails_and_notes), max_attempts=10, backoff=8.0, max_backoff=20.0):
        await rig.clock.until(lambda: len(at) == 5)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    for pause, least in zip(pauses, [8, 16, 20, 20], strict=True):
        assert least <= pause <= least + 6


async def test_a_poison_event_stops_its_range_for_all_workers_until_it_is_resumed(rig: Rig) -> None:
    await rig.writer.write("a", count=5)
    seen = Recorder(fails_on_seq_3)
    worker = rig.worker(seen, max_attempts=3)
    async with worker:
        await rig.clock.until(lambda: worker.owned == [])
        await rig.clock.passes(40)
        assert len(seen.batches) == 3
        [status] = await worker.status()
        assert (status.lease.stopped, status.lease.attempts) == (True, 3)
        assert status.lease.error == "RuntimeError: poison"
        assert status.lag == 5
    healthy = Recorder()
    successor = rig.worker(healthy, "two")
    async with successor:
        await rig.clock.passes(40)
        assert healthy.batches == []
        assert await successor.unpark() == 0
        await rig.clock.until(lambda: len(healthy.handled) == 5)
    [lease] = await rig.leases()
    assert (lease.stopped, lease.attempts, lease.error) == (False, 0, None)


async def test_attempts_are_counted_over_restarts(rig: Rig) -> None:
    await rig.writer.write("a")
    first, second = Recorder(fails), Recorder(fails)
    async with rig.worker(first, "one", max_attempts=4, backoff=1000.0, max_backoff=1000.0):
        await rig.clock.until(lambda: len(first.batches) == 1)
    [lease] = await rig.leases()
    assert lease.attempts == 1
    worker = rig.worker(second, "two", max_attempts=4)
    async with worker:
        await rig.clock.until(lambda: worker.owned == [])
    assert len(second.batches) == 3


async def test_a_poison_event_is_parked_and_everything_around_it_is_handled(rig: Rig) -> None:
    await rig.writer.write("a", count=5)
    seen = Recorder(fails_on_seq_3)
    worker = rig.worker(seen, on_error="park", max_attempts=2)
    async with worker:
        await rig.clock.until(lambda: seen.in_run("a") == [1, 2, 4, 5])
        await rig.clock.until(lambda: worker.stats["-FF"].events == 5)
        [parked] = await worker.parked()
    assert (parked.event.run_id, parked.event.seq, parked.error) == ("a", 3, "RuntimeError: poison")
    assert parked.attempts == 3
    assert parked.range == "-FF"
    assert worker.stats["-FF"].parked == 1


async def test_a_parked_event_is_replayed_and_forgotten_once_it_is_taken(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    async with rig.worker(Recorder(fails_on_seq_3), on_error="park", max_attempts=1) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 1)
        assert await worker.unpark() == 0
        [parked] = await worker.parked()
        assert parked.attempts == 3
    seen = Recorder()
    assert await rig.worker(seen).unpark() == 1
    assert seen.handled == [("a", 3)]
    rig.engine.settle()
    assert await worker.parked() == []


# Interventions


async def test_resetting_begins_anew(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    first, again, last = Recorder(), Recorder(), Recorder()
    async with rig.worker(first, "one") as worker:
        await rig.clock.until(lambda: len(first.handled) == 3)
        with pytest.raises(RuntimeError, match="Stop the workers first"):
            await worker.reset()
    await worker.reset()
    async with rig.worker(again, "two"):
        await rig.clock.until(lambda: len(again.handled) == 3)
    await worker.reset("now")
    async with rig.worker(last, "three") as third:
        await rig.clock.until(lambda: third.stats["-FF"].polls > 1)
    assert last.handled == []


async def test_catching_up_is_over_when_nothing_is_left_to_read(rig: Rig) -> None:
    await rig.writer.write("a", count=30)
    seen = Recorder()
    async with rig.worker(seen, page_size=4) as worker:
        waiting = asyncio.ensure_future(worker.caught_up())
        await rig.clock.until(waiting.done)
        await waiting
        assert len(seen.handled) == 30
        [status] = await worker.status()
    assert status.lag == 0


async def test_the_lag_is_what_was_committed_since(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    async with rig.worker(Recorder()) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].events == 3)
    await rig.writer.write("b", count=4)
    rig.engine.settle()
    [status] = await worker.status()
    assert status.lag == 4


async def test_stopping_waits_for_a_handler_only_so_long(rig: Rig) -> None:
    cancelled = False

    async def hangs(batch: Batch) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    await rig.writer.write("a")
    seen = Recorder(hangs)
    worker = rig.worker(seen, stop_timeout=7.0)
    await worker.start()
    await rig.clock.until(lambda: bool(seen.batches))
    stopping, began = asyncio.ensure_future(worker.stop()), rig.clock.now
    await rig.clock.until(lambda: cancelled)
    assert 7 <= rig.clock.now - began <= 15
    await stopping
    [lease] = await rig.leases()
    assert (lease.owner, lease.continuation) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"start": "yesterday"},
        {"on_error": "ignore"},
        {"page_size": 0},
        {"batch_pages": 0},
        {"read_ahead": -1},
        {"max_attempts": 0},
        {"requests_per_cycle": -1},
        {"poll_interval": 0},
        {"expiry": 30.0},
        {"fence_margin": 0},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ProcessorOptions(**options)
