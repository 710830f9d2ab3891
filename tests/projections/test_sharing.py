"""How several workers share the ranges of a feed: shares, crashes, fences, splits and merges."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from eventckpt.stores.documents import Document, DocumentStore
from projections import Batch, ChangeFeedProcessor, FeedRange, Lease, LeaseLostError, open_engine

from .rig import Recorder, Rig

T = TypeVar("T")

RUNS = [f"run-{number}" for number in range(24)]

twelve_ranges = pytest.mark.parametrize("cosmos_rig", [12], indirect=True)


async def spread(rig: Rig, workers: list[str]) -> int:
    """Leases of the worker with most, less those of the worker with least; 99 while some have no owner."""
    owners = await rig.owners()
    counts = [owners.get(worker, 0) for worker in workers]
    return max(counts) - min(counts) if sum(counts) == len(await rig.leases()) else 99


# Shares


@twelve_ranges
async def test_workers_that_join_and_leave_end_up_with_even_shares(cosmos_rig: Rig) -> None:
    rig, names = cosmos_rig, ["one", "two", "three", "four", "five"]
    workers = {name: rig.worker(Recorder(), name) for name in names}
    await workers["one"].start()
    assert await rig.owners() == {"one": 12}
    for name in names[1:]:
        await workers[name].start()
    assert await within_three_cycles(rig, names)
    for name in names[:3]:
        await workers[name].stop()
    assert await within_three_cycles(rig, names[3:])


async def placed(rig: Rig, worker: ChangeFeedProcessor) -> None:
    """Wait until a worker has saved where it begins: after that it writes its leases only as time passes."""
    await rig.clock.until(lambda: len(worker.stats) == 12 and all(each.lease_writes for each in worker.stats.values()))


async def within_three_cycles(rig: Rig, names: list[str]) -> bool:
    async def even() -> bool:
        return await spread(rig, names) <= 1

    await rig.clock.until(even, at_most=3 * 13 + 5)
    return True


@twelve_ranges
async def test_a_worker_asks_for_no_more_leases_at_once_than_it_may(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    async with rig.worker(Recorder(), "one", acquire_interval=1000.0, renew_interval=40.0) as one:
        await placed(rig, one)
        async with rig.worker(Recorder(), "two", requests_per_cycle=2, acquire_interval=1000.0):
            assert sum(lease.wanted_by == "two" for lease in await rig.leases()) == 2


@twelve_ranges
async def test_a_lease_changes_hands_without_an_event_being_handled_twice(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    await rig.writer.write(*RUNS, count=3)
    seen = Recorder()
    async with rig.worker(seen, "one", page_size=2), rig.worker(seen, "two", page_size=2):
        assert await within_three_cycles(rig, ["one", "two"])
        await rig.clock.until(lambda: len(set(seen.handled)) == 72)
    assert len(seen.handled) == 72


@twelve_ranges
async def test_a_lease_that_is_not_taken_by_who_asked_for_it_goes_to_others(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    async with rig.worker(Recorder(), "one") as one:
        await placed(rig, one)
        leases = open_engine(rig.writer.store).leases("test")
        [wanted, *_] = await rig.leases()
        await leases.replace(msgspec.structs.replace(wanted, wanted_by="a worker that died"))

        async def is_released() -> bool:
            return (await rig.leases())[0].owner is None

        async def is_taken() -> bool:
            return (await rig.leases())[0].owner == "one"

        await rig.clock.until(is_released)
        await rig.clock.until(is_taken)


# Crashes


async def test_the_lease_of_a_worker_that_is_gone_is_taken_after_a_full_term(rig: Rig) -> None:
    leases = open_engine(rig.writer.store).leases("test")
    await leases.create(msgspec.structs.replace(_lease("-FF"), owner="gone"))
    await leases.mark_initialised()
    await rig.writer.write("a")
    seen, began = Recorder(), rig.clock.now
    async with rig.worker(seen, "two", expiry=50.0):
        await rig.clock.until(lambda: bool(seen.handled))
    assert 50 <= rig.clock.now - began <= 50 + 2 * 13 + 5


async def test_a_worker_that_renews_keeps_its_lease_whatever_its_clock_says(rig: Rig) -> None:
    mine, other = Recorder(), Recorder()
    async with rig.worker(mine, "one"), rig.worker(other, "two") as second:
        await rig.clock.passes(200)
        assert await rig.owners() == {"one": 1}
        assert second.owned == []


@pytest.mark.calm
async def test_a_lease_is_renewed_once_an_interval_and_not_after_a_checkpoint(rig: Rig) -> None:
    worker = rig.worker(Recorder(), renew_interval=30.0)
    async with worker:
        await rig.clock.until(lambda: worker.stats["-FF"].lease_writes == 1)
        await rig.clock.passes(185)
        idle = worker.stats["-FF"].lease_writes - 1
        for number in range(10):
            await rig.writer.write("a")
            await rig.clock.until(lambda number=number: worker.stats["-FF"].lease_writes > 1 + idle + number)
            await rig.clock.passes(15)
        busy = worker.stats["-FF"].lease_writes - 1 - idle
    # Time also passes while something is written, so the slower that is, the later a renewal.
    assert 4 <= idle <= 6
    assert 10 <= busy <= 12  # beside renewals it would be 15


# Fences


class Line(DocumentStore):
    """Lease documents that a worker reaches over a line that can be cut: then no answer comes any more."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self.cut = False

    async def list_documents(self, prefix: str) -> list[Document]:
        return await self._through(self._documents.list_documents(prefix))

    async def read(self, name: str) -> Document | None:
        return await self._through(self._documents.read(name))

    async def create(self, document: Document) -> Document | None:
        return await self._through(self._documents.create(document))

    async def replace(self, document: Document, etag: str) -> Document | None:
        return await self._through(self._documents.replace(document, etag))

    async def delete(self, name: str, etag: str) -> bool:
        return await self._through(self._documents.delete(name, etag))

    async def _through(self, request: Coroutine[Any, Any, T]) -> T:
        if self.cut:
            request.close()
            await asyncio.Event().wait()
        return await request


async def test_a_handler_is_stopped_before_the_lease_can_have_expired(rig: Rig) -> None:
    stopped_at: list[float] = []
    batches: list[Batch] = []

    async def hangs(batch: Batch) -> None:
        batches.append(batch)
        try:
            await asyncio.Event().wait()
        finally:
            stopped_at.append(rig.clock.now)

    await rig.writer.write("a")
    lines: list[Line] = []

    def line(documents: DocumentStore) -> Line:
        lines.append(Line(documents))
        return lines[0]

    worker = rig.worker(hangs, through=line, expiry=60.0, fence_margin=20.0)
    await worker.start()
    await rig.clock.until(lambda: bool(batches))
    batches[0].check()
    cut_at = rig.clock.now
    lines[0].cut = True
    await rig.clock.until(lambda: bool(stopped_at))
    assert cut_at + 10 <= stopped_at[0] <= cut_at + 41
    assert batches[0].fenced
    with pytest.raises(LeaseLostError):
        batches[0].check()
    lines[0].cut = False


# Splits and merges


async def test_a_split_loses_nothing_and_keeps_the_order(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    seen = Recorder()
    async with rig.worker(seen, "one", page_size=5):
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(seen.handled) == 24)
        lower, _ = rig.emulator.split(*rig.place, "0")
        await rig.writer.write(*RUNS)
        rig.emulator.split(*rig.place, lower)
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(set(seen.handled)) == 72)
        assert len(await rig.leases()) == 3
    for run in RUNS:
        assert seen.in_run(run) == [1, 2, 3]


async def test_a_split_while_nobody_ran_loses_nothing(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    first, second = Recorder(), Recorder()
    await rig.writer.write(*RUNS)
    async with rig.worker(first, "one"):
        await rig.clock.until(lambda: len(first.handled) == 24)
    rig.emulator.split(*rig.place, "0")
    await rig.writer.write(*RUNS)
    async with rig.worker(second, "two"):
        await rig.clock.until(lambda: len(second.handled) == 24)
    assert sorted(second.handled) == sorted((run, 2) for run in RUNS)


@pytest.mark.parametrize("cosmos_rig", [2], indirect=True)
async def test_a_merge_loses_nothing(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    seen = Recorder()
    async with rig.worker(seen, "one"):
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(seen.handled) == 24)
        merged = rig.emulator.merge(*rig.place, "0", "1")
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(seen.handled) == 48)
        rig.emulator.split(*rig.place, merged, at="10")
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(seen.handled) == 72)
    for run in RUNS:
        assert seen.in_run(run) == [1, 2, 3]


@pytest.mark.parametrize("cosmos_rig", [2], indirect=True)
async def test_a_split_that_was_cut_off_is_finished_by_the_next_worker(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    seen = Recorder()
    await rig.writer.write(*RUNS)
    leases = open_engine(rig.writer.store).leases("test")
    lower, _ = await open_engine(rig.writer.store).feed.ranges()
    await leases.create(_lease("-FF"))
    await leases.create(_lease(lower.token))
    async with rig.worker(seen, "one"):
        await rig.clock.until(lambda: len(seen.handled) == 24)
        assert [lease.range.token for lease in await rig.leases()] == [f"-{lower.max}", f"{lower.max}-FF"]
    assert sorted(seen.handled) == sorted((run, 1) for run in RUNS)


@pytest.mark.parametrize("cosmos_rig", [2], indirect=True)
async def test_a_lease_that_was_lost_is_made_again_and_read_from_the_beginning(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    seen, again = Recorder(), Recorder()
    async with rig.worker(seen, "one", start="now"):
        await rig.clock.passes(15)
        await rig.writer.write(*RUNS)
        await rig.clock.until(lambda: len(seen.handled) == 24)
    lost, _ = await rig.leases()
    assert await open_engine(rig.writer.store).leases("test").delete(lost)
    async with rig.worker(again, "two", start="now"):
        await rig.clock.until(lambda: bool(again.handled))
    assert 0 < len(again.handled) < 24


def _lease(token: str) -> Lease:
    low, _, high = token.partition("-")
    return Lease(range=FeedRange(low, high))
