"""What a worker shows of every range, whoever reads it, and what may be done from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from eventckpt.errors import CheckpointStoreError, StoreUnavailableError
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed, FeedPage, Start
from projections import Batch, FeedRange, Lease, LeaseLostError, open_engine
from projections.range_watch import RangeView, status_of
from projections.rebuild_lock import RebuildLock

from .rig import Recorder, Rig

pytestmark = pytest.mark.slow  # many ranges, and the time that they take in turn

# A lease's state

STATES = {
    "free": Lease(range=EVERYTHING),
    "held": Lease(range=EVERYTHING, owner="one"),
    "requested": Lease(range=EVERYTHING, owner="one", wanted_by="two"),
    "stopped": Lease(range=EVERYTHING, stopped=True, wanted_by="two", attempts=5),
}


@pytest.mark.parametrize("state", STATES)
def test_a_lease_says_itself_how_it_stands(state: str) -> None:
    assert STATES[state].state == state
    assert STATES[state].is_free_for("two") == (state == "free")


def test_a_lease_that_is_kept_for_who_asked_is_free_for_nobody_else() -> None:
    kept = Lease(range=EVERYTHING, wanted_by="two")
    assert kept.state == "requested"
    assert [kept.is_free_for(name) for name in ("one", "two")] == [False, True]


# Lag and age of every range


async def fails(batch: Batch) -> None:
    raise RuntimeError("poison")


def seen_by(worker: Any) -> RangeView:
    [view] = worker.ranges
    return view


async def test_a_range_of_another_worker_has_a_lag_and_an_age_too(rig: Rig) -> None:
    options: dict[str, Any] = {"acquire_interval": 5.0, "lag_interval": 5.0, "renew_interval": 20.0}
    hang = asyncio.Event()

    async def hangs(batch: Batch) -> None:
        await hang.wait()

    async with rig.worker(hangs, "one", **options) as one, rig.worker(Recorder(), "two", **options) as two:
        await rig.writer.write("a", count=4)
        rig.engine.settle()
        await rig.clock.until(lambda: seen_by(two).lag == 4)
        assert (seen_by(one).is_ours, seen_by(two).is_ours) == (True, False)
        await rig.clock.passes(100)
        assert (seen_by(two).state, seen_by(two).owner) == ("held", "one")
        assert seen_by(two).poll_age < 40  # it is renewed
        assert seen_by(one).poll_age > 60  # and its feed is not read any more: the worker that has it tells
        hang.set()
        await rig.clock.until(lambda: seen_by(two).lag == 0)


async def test_a_stopped_range_has_a_lag_and_grows_older_at_every_worker(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    async with rig.worker(fails, "one", max_attempts=1) as one, rig.worker(Recorder(), "two") as two:
        for worker in (one, two):
            await rig.clock.until(lambda worker=worker: seen_by(worker).state == "stopped")
            await rig.clock.until(lambda worker=worker: seen_by(worker).lag == 3)
        await rig.clock.passes(300)
        assert min(seen_by(one).poll_age, seen_by(two).poll_age) > 250


async def test_the_range_of_a_worker_that_was_killed_grows_older_until_it_is_taken_over(rig: Rig) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    await leases.create(Lease(range=EVERYTHING, owner="killed"))
    await leases.mark_initialised()
    await rig.writer.write("a")
    seen = Recorder()
    async with rig.worker(seen, "two", expiry=80.0) as two:
        await rig.clock.until(lambda: seen_by(two).poll_age > 60)
        assert (seen_by(two).owner, seen_by(two).lag) == ("killed", 1)
        await rig.clock.until(lambda: seen_by(two).is_ours and seen_by(two).lag == 0)


async def test_a_feed_that_never_answered_shows_in_the_age(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = rig.worker(Recorder())

    async def frozen(*args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker._feed, "read", frozen)
    async with worker:
        await rig.clock.passes(100)
        assert seen_by(worker).poll_age >= 99


@pytest.mark.parametrize("cosmos_rig", [40], indirect=True)
async def test_many_ranges_are_asked_for_a_few_at_a_time_and_each_in_its_turn(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    options: dict[str, Any] = {"acquire_interval": 1000.0, "lag_interval": 50.0, "requests_per_cycle": 0}
    async with (
        rig.worker(Recorder(), "one", **options) as one,
        rig.worker(Recorder(), "two", **options) as two,
    ):

        def known() -> int:
            return sum(view.lag is not None for view in two.ranges)

        moments: list[float] = []
        for number in (1, 17, 33):
            await rig.clock.until(lambda number=number: known() >= number)
            moments.append(rig.clock.now)
        assert min(later - earlier for earlier, later in pairwise(moments)) >= 50
        await rig.clock.until(lambda: known() == 40, at_most=50)
        assert len(one.owned) == 40


# A range that is split while it is asked for


class Splitting(ChangeFeed):
    """A feed whose ranges are split the moment before they are asked for, so many times."""

    def __init__(self, rig: Rig, feed: ChangeFeed, times: int) -> None:
        self._rig = rig
        self._feed = feed
        self._times = times
        self._next = "0"

    async def identity(self) -> str:
        return await self._feed.identity()

    async def ranges(self) -> list[FeedRange]:
        return await self._feed.ranges()

    async def read(self, *args: Any, **options: Any) -> FeedPage:
        return await self._feed.read(*args, **options)

    async def lag(self, feed_range: FeedRange, continuation: str | None, *, start: Start) -> int:
        if self._times:
            self._times -= 1
            self._next, _ = self._rig.emulator.split(*self._rig.place, self._next)
        return await self._feed.lag(feed_range, continuation, start=start)


async def test_a_split_inside_a_split_leaves_no_event_out_of_the_lag(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write(*(f"run-{number}" for number in range(24)))
    feed = Splitting(rig, open_engine(rig.writer.store).feed, times=4)
    assert (await status_of(feed, Lease(range=EVERYTHING))).lag >= 24  # a split adds commits


# Beginning anew


async def test_a_reset_after_a_worker_was_killed_waits_for_a_term_and_begins_anew(rig: Rig) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    await leases.create(Lease(range=EVERYTHING, owner="killed", continuation='"1"'))
    operator, began = rig.worker(Recorder(), "operator", expiry=60.0), rig.clock.now
    resetting = asyncio.ensure_future(operator.reset())
    await rig.clock.until(resetting.done)
    await resetting
    assert 60 <= rig.clock.now - began <= 75
    [lease] = await rig.leases()
    assert (lease.state, lease.continuation) == ("free", None)


async def test_a_reset_beside_a_worker_that_lives_is_refused_and_changes_nothing(rig: Rig) -> None:
    await rig.writer.write("a")
    seen = Recorder()
    async with rig.worker(seen, "one") as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].lease_writes > 0)
        operator = rig.worker(Recorder(), "operator", expiry=60.0)
        resetting = asyncio.ensure_future(operator.reset())
        await rig.clock.until(resetting.done)
        with pytest.raises(RuntimeError, match=r"Stop the workers first: one wrote .* counts as gone once .* for 60 s"):
            await resetting
        assert await rig.owners() == {"one": 1}
        await rig.clock.until(lambda: seen.handled != [])
        await rig.clock.passes(100)
        assert len(seen.handled) == 1


async def test_an_unpark_and_a_reset_beside_each_other_both_do_their_work(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b", "c", count=2)
    for policy in ("park", "stop"):
        async with rig.worker(fails, "one", processor=policy, on_error=policy, max_attempts=1) as worker:
            stats = worker.stats
            await rig.clock.until(lambda stats=stats: stats["-FF"].parked == 6 or stats["-FF"].stopped == 1)
        first, second = (rig.worker(Recorder(), name, processor=policy) for name in ("first", "second"))
        await asyncio.gather(first.unpark(), second.reset(), second.unpark(), first.reset())
        [lease] = await rig.leases(policy)
        assert (lease.state, lease.continuation, lease.attempts) == ("free", None, 0)
        assert await first.parked() == []


async def test_an_unpark_beside_who_writes_a_lease_all_the_time_is_an_error_that_a_command_tells(rig: Rig) -> None:
    await rig.writer.write("a")
    async with rig.worker(fails, "one", max_attempts=1) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].stopped == 1)
    operator: Any = rig.worker(Recorder(), "operator")

    async def is_slower(lease: Lease) -> Lease:
        raise LeaseLostError("it was written by somebody else")

    operator._leases.replace = is_slower
    with pytest.raises(StoreUnavailableError, match="written by others at each of 5 attempts"):
        await operator.unpark()


async def test_an_unpark_during_an_outage_leaves_everything_as_it_is(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", count=2)
    async with rig.worker(fails, "one", on_error="park", max_attempts=1) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 2)
    before = await worker.parked()

    async def is_out(batch: Batch) -> None:
        raise StoreUnavailableError("not now")

    with pytest.raises(StoreUnavailableError):
        await rig.worker(is_out, "two").unpark()
    assert await worker.parked() == before


# What documents of others say

HOSTILE: list[Any] = [None, 5, "x\x1b[31m", [], {}, {"a": [{}]}, -1, 10**30, 1e308, True, "\ud800"]


def changed_at(value: Any, path: Sequence[str], to: Any) -> Any:
    return to if not path else {**value, path[0]: changed_at(value[path[0]], path[1:], to)}


def paths(value: Any) -> list[list[str]]:
    if not isinstance(value, dict):
        return [[]]
    return [[], *([name, *rest] for name, inner in value.items() for rest in paths(inner))]


async def test_no_parked_document_keeps_the_others_from_being_given_to_the_handler(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    async with rig.worker(fails, "one", on_error="park", max_attempts=1) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 1)
    engine = open_engine(rig.writer.store)
    prefix = f"test{await engine.feed.identity()}.parked."
    [document] = await engine.documents.list_documents(prefix)
    number = 0
    for path in paths(document["Parked"]):
        for to in HOSTILE:
            number += 1
            try:
                made = {"id": f"{prefix}{number:032d}", "Parked": changed_at(document["Parked"], path, to)}
                await engine.documents.create(made)
            except (ValueError, CheckpointStoreError):
                continue  # this engine holds no such value
    assert len(await engine.documents.list_documents(prefix)) > 200
    seen = Recorder()
    assert await rig.worker(seen, "two").unpark() == 1
    assert seen.handled == [("a", 1)]


async def test_what_a_hostile_lock_says_was_begun_names_nothing_that_is_not_a_rebuilds(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    documents = open_engine(rig.writer.store).documents
    told = {"begun": ["somebody-elses", "latest-7", "../x", "\x1b[31m"], "number": 10**12}
    for number, state in enumerate([told, *({**told, "begun": value, "number": value} for value in HOSTILE[:-1])]):
        await documents.create({"id": f"lock{number}", "Rebuild": state})
        lock = RebuildLock(documents, f"lock{number}", "one", term=60.0, margin=10.0, clock=rig.clock)
        acquiring = asyncio.ensure_future(lock.acquire())
        await rig.clock.until(acquiring.done)
        await acquiring
        assert (lock.begun, lock.number) in [(("latest-7",), 0), ((), 0)]
        await lock.release(done=False)


async def test_a_parked_event_whose_document_is_written_all_the_time_is_an_error(rig: Rig) -> None:
    await rig.writer.write("a")
    engine = open_engine(rig.writer.store)
    async with rig.worker(fails, "one", on_error="park", max_attempts=1) as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 1)
        [parked] = await worker.parked()
    documents: Any = engine.documents
    replace, calls = documents.replace, 0

    async def is_faster(document: Any, etag: str) -> Any:
        nonlocal calls
        calls += 1
        await replace(document, etag)
        return await replace(document, etag)

    documents.replace = is_faster
    leases = engine.leases("test")
    with pytest.raises(StoreUnavailableError, match="could not be parked"):
        await leases.park(msgspec.structs.replace(parked, attempts=9))
    assert calls == 5
