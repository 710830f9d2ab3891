"""Nothing that runs in the background dies unheard: it goes on after any error, or the processor ends with it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

import eventckpt.errors as errors
from eventckpt import StreamId
from projections import Batch, LeaseLostError, ProcessorOptions, UpgradeNeededError, open_engine
from projections.projector import Projector
from projections.retry import Retry, Verdict, verdict_on
from projections.tasks import cancelled, first

from .rig import Recorder, Rig

# What an error means

OUTAGES = {"StoreUnavailableError", "StoreLockedError", "StoreFullError", "StoreMissingError"}
LASTING = {"StoreReplacedError", "StoreReadOnlyError", "StoreNotFoundError"}
SPECIAL: dict[str, Callable[[], Exception]] = {
    "AmbiguousNameError": lambda: errors.AmbiguousNameError("two", candidates=["a", "b"]),
    "CheckpointTypeNotAllowedError": lambda: errors.CheckpointTypeNotAllowedError("no", type_key="m:C"),
    "CheckpointConflictError": lambda: errors.CheckpointConflictError(
        "late", stream=StreamId("w", "r"), expected_seq=1, head=None
    ),
    "SessionConflictError": lambda: errors.SessionConflictError(
        "late", stream=StreamId("source", "s"), expected_seq=1, head=None
    ),
    "ClaimLostError": lambda: errors.ClaimLostError("lost", stream=StreamId("w", "r"), epoch=2),
    "AnswerMissingError": lambda: errors.AnswerMissingError("missing", request_ids=("q",)),
    "RequestNotPendingError": lambda: errors.RequestNotPendingError("gone", request_id="q", state="expired"),
    "ResponseTypeError": lambda: errors.ResponseTypeError("no bool", request_id="q"),
    "RunClaimedError": lambda: errors.RunClaimedError(
        "held", stream=StreamId("w", "r"), owner="me", expires_at="2026-01-01T00:00:00+00:00"
    ),
    "RunNotRemovedError": lambda: errors.RunNotRemovedError("held", stream=StreamId("w", "r"), kind="held"),
    "StreamConflict": lambda: errors.StreamConflict(StreamId("w", "r"), 1, None),
}


def made(name: str) -> Exception:
    return SPECIAL[name]() if name in SPECIAL else getattr(errors, name)("said")


@pytest.mark.parametrize("name", errors.__all__)
def test_of_all_errors_outages_are_waited_out_and_the_others_count_or_last(name: str) -> None:
    expected = Verdict.OUTAGE if name in OUTAGES else Verdict.LASTS if name in LASTING else Verdict.COUNTS
    assert verdict_on(made(name)) is expected


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], Verdict.OUTAGE),
        ([errors.StoreLockedError("said")], Verdict.OUTAGE),
        ([UpgradeNeededError()], Verdict.UPGRADE),
        ([ValueError()], Verdict.COUNTS),
        ([ValueError(), LeaseLostError()], Verdict.LOST),
        ([ValueError(), errors.StoreReplacedError("said")], Verdict.LASTS),
    ],
)
def test_of_a_group_the_worst_decides(others: list[Exception], expected: Verdict) -> None:
    inner = ExceptionGroup("inner", [errors.StoreUnavailableError("said"), *others])
    assert verdict_on(ExceptionGroup("outer", [errors.StoreFullError("said"), inner])) is expected


def test_a_number_of_failures_that_nobody_can_have_counted_makes_no_pause_longer() -> None:
    retry = Retry(backoff=1.0, max_backoff=60.0)
    assert [retry.pause(failures) for failures in (-5, 0, 1, 2, 7, 10**9)] == [1, 1, 1, 2, 60, 60]


# What a handler raises

SEVERAL = 6
"""Failures in a row, where two attempts are allowed."""


class Failing:
    """A handler that fails a number of times, with what it is given to raise."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self.left = SEVERAL
        self._error = error

    async def __call__(self, batch: Batch) -> None:
        if self.left:
            self.left -= 1
            raise self._error()


async def cancels_a_task_of_its_own() -> None:
    task = asyncio.ensure_future(asyncio.sleep(1000))
    task.cancel()
    await task


@pytest.mark.parametrize("on_error", ["park", "stop"])
@pytest.mark.parametrize("name", sorted({*OUTAGES, "a group of outages"}))
async def test_an_outage_is_waited_out_however_long_it_takes(sqlite_rig: Rig, name: str, on_error: str) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", count=3)
    group = ExceptionGroup("several", [errors.StoreUnavailableError("said"), errors.StoreFullError("said")])
    failing = Failing(lambda: made(name) if name in OUTAGES else group)
    seen = Recorder(failing)
    async with rig.worker(seen, max_attempts=2, on_error=on_error) as worker:
        await rig.clock.until(lambda: failing.left == 1)
        [trouble] = worker.troubles
        assert ("handler" in trouble.what, trouble.seconds > 0) == (True, True)
        assert [view.state for view in worker.ranges] == ["held"]
        await rig.clock.until(lambda: len(seen.handled) == 3)
        assert (worker.stats["-FF"].outages, worker.stats["-FF"].stopped, worker.troubles) == (SEVERAL, 0, [])
        assert await worker.parked() == []
    [lease] = await rig.leases()
    assert (lease.attempts, lease.error, lease.state) == (0, None, "free")


@pytest.mark.parametrize("name", sorted({*errors.__all__} - OUTAGES - LASTING))
async def test_every_other_error_is_a_failed_attempt(sqlite_rig: Rig, name: str) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    async with rig.worker(Failing(lambda: made(name)), max_attempts=2, on_error="park") as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 1)
        [parked] = await worker.parked()
    assert parked.error.startswith(name)
    assert worker.stats["-FF"].outages == 0


@pytest.mark.parametrize("error", [lambda: errors.StoreUnavailableError("gone"), UpgradeNeededError])
async def test_what_is_waited_out_is_not_parked_either_where_a_batch_is_tried_event_by_event(
    sqlite_rig: Rig, error: Callable[[], Exception]
) -> None:
    rig = sqlite_rig
    calls = 0

    async def fails(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise ValueError("poison")
        if calls <= SEVERAL:
            raise error()

    await rig.writer.write("a", count=3)
    seen = Recorder(fails)
    async with rig.worker(seen, max_attempts=2, on_error="park") as worker:
        await rig.clock.until(lambda: len(seen.handled) == 3)
        assert await worker.parked() == []


async def test_a_handler_whose_own_task_was_cancelled_has_failed(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    calls = 0

    async def handler(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # which leaves a task as if it were being cancelled, on some versions of Python
            async with asyncio.TaskGroup() as group:
                group.create_task(cancels_a_task_of_its_own())
                raise ValueError("poison")
        await cancels_a_task_of_its_own()

    await rig.writer.write("a")
    async with rig.worker(handler, max_attempts=2, on_error="park") as worker:
        await rig.clock.until(lambda: worker.stats["-FF"].parked == 1)
        [parked] = await worker.parked()
    assert parked.error.startswith("CancelledElsewhereError")
    assert calls == 3


@pytest.mark.parametrize("in_place_of_it", [None, ValueError("while it stopped")])
async def test_a_cancellation_of_ours_is_no_failed_attempt(sqlite_rig: Rig, in_place_of_it: Exception | None) -> None:
    rig = sqlite_rig
    is_called, is_cancelled = asyncio.Event(), asyncio.Event()

    async def hangs(batch: Batch) -> None:
        is_called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            if in_place_of_it is not None:
                raise in_place_of_it from None
            raise

    await rig.writer.write("a")
    worker = rig.worker(hangs, stop_timeout=0.0)
    await worker.start()
    await is_called.wait()
    stopping = asyncio.ensure_future(worker.stop())
    await rig.clock.until(is_cancelled.is_set)
    await stopping
    [lease] = await rig.leases()
    assert (lease.attempts, lease.error, lease.state) == (0, None, "free")


@pytest.mark.parametrize("name", sorted(LASTING & set(errors.__all__)))
async def test_what_lasts_ends_the_processor_with_it(sqlite_rig: Rig, name: str) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    worker = rig.worker(Failing(lambda: ExceptionGroup("of one", [made(name)])))
    await worker.start()
    failed = asyncio.ensure_future(worker.until_failed())
    await rig.clock.until(failed.done, at_most=200)
    assert type(failed.exception()).__name__ == name
    await rig.clock.until(lambda: not worker.owned)
    assert not worker.is_running
    with pytest.raises(getattr(errors, name)):
        await worker.stop()
    rig.workers.remove(worker)


async def test_what_ended_the_processor_is_told_once(sqlite_rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    worker = rig.worker(Failing(lambda: errors.StoreReplacedError("made anew")))

    async def body() -> None:
        async with worker:
            await worker.until_failed()

    running = asyncio.ensure_future(body())
    await rig.clock.until(running.done)
    with pytest.raises(errors.StoreReplacedError):
        await running
    rig.workers.remove(worker)
    told = [each for each in caplog.records if "made anew" in each.getMessage() and each.levelno >= logging.WARNING]
    assert [each.levelname for each in told] == ["ERROR"]


# What the engine raises

ANYTHING: dict[str, BaseException] = {
    "an error of the engine": errors.CheckpointStoreError("not now"),
    "an outage": errors.StoreUnavailableError("not now"),
    "damage": errors.StoreCorruptError("not now"),
    "an answer that was cut": ConnectionResetError("not now"),
    "nobody expected": KeyError("not now"),
    "a cancellation of something else": asyncio.CancelledError("not now"),
}
CALLS = {
    "reading": ("feed", "read"),
    "the leases": ("leases", "all"),
    "a lease that is written": ("leases", "replace"),
}


@pytest.mark.parametrize("error", ANYTHING.values(), ids=ANYTHING)
@pytest.mark.parametrize(("port", "name"), CALLS.values(), ids=CALLS)
async def test_a_worker_goes_on_after_any_error_of_its_store(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch, port: str, name: str, error: BaseException
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    seen = Recorder()
    worker = rig.worker(seen, "one", poll_interval=1.0, renew_interval=20.0, lag_interval=1.0)
    target: Any = {"feed": worker._feed, "leases": worker._leases}[port]
    real, failures = getattr(target, name), 0

    async def fails(*args: Any, **options: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures <= 3:
            raise error
        return await real(*args, **options)

    async with worker:
        await rig.clock.until(lambda: len(seen.handled) == 1)
        monkeypatch.setattr(target, name, fails)
        await rig.writer.write("a")
        await rig.clock.passes(60)
        await rig.clock.until(lambda: len(seen.handled) >= 2)
        await rig.clock.until(lambda: worker.owned != [])
        assert worker.is_running
        assert worker.troubles == []
        assert failures > 3
    assert set(seen.handled) == {("a", 1), ("a", 2)}


async def test_what_does_not_work_is_counted_and_told_until_it_works(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = sqlite_rig
    async with rig.worker(Recorder()) as worker:

        async def fails(*args: Any, **options: Any) -> Any:
            raise errors.StoreUnavailableError("the line is cut")

        monkeypatch.setattr(worker._leases, "all", fails)
        await rig.clock.until(lambda: worker.restarts == 3)
        [trouble] = worker.troubles
        assert (trouble.what, trouble.why) == (
            "looking at the leases",
            "StoreUnavailableError: the line is cut",
        )
        assert trouble.seconds > 0
        monkeypatch.undo()
        await rig.clock.until(lambda: worker.troubles == [])


# The projector


async def test_a_projector_whose_store_cannot_be_reached_begins_when_it_can(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    store = rig.engine.open()
    kind: Any = type(store.run_store())
    active = kind.active

    async def fails(self: Any, **how: Any) -> str:
        raise errors.StoreLockedError("another process has it")

    monkeypatch.setattr(kind, "active", fails)
    projector = Projector(open_engine(store), ProcessorOptions(worker="one"), clock=rig.clock)
    stop = asyncio.Event()
    running = asyncio.ensure_future(projector.run(stop))
    await rig.clock.until(lambda: projector.restarts == 3)
    assert [trouble.why for trouble in projector.troubles] == ["StoreLockedError: another process has it"]
    monkeypatch.setattr(kind, "active", active)
    await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 1)
    assert projector.troubles == []
    stop.set()
    await rig.clock.until(running.done)
    await running


@pytest.mark.parametrize("name", ["StoreFormatError", "StoreReadOnlyError", "StoreMissingError"])
async def test_a_projector_whose_store_is_none_ends_at_once(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A container that is missing at the start was not made: this identity may not, so that a person has to."""
    store = sqlite_rig.engine.open()

    async def fails(self: Any, **how: Any) -> str:
        raise made(name)

    monkeypatch.setattr(type(store.run_store()), "active", fails)
    projector = Projector(open_engine(store), ProcessorOptions(worker="one"), clock=sqlite_rig.clock)
    with pytest.raises(getattr(errors, name)):
        await projector.run(asyncio.Event())


# No noise


async def test_no_error_is_left_to_be_told_when_its_task_is_collected() -> None:
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))

    async def fails() -> None:
        raise RuntimeError("at once")

    async def fails_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("when it was cancelled")

    with pytest.raises(RuntimeError, match="at once"):
        await first(fails(), fails(), fails_late())
    interrupted = asyncio.ensure_future(first(fails_late(), fails_late()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancelled(interrupted)
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_a_lease_taken_lost_or_taken_over_is_told(sqlite_rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig = sqlite_rig
    caplog.set_level(logging.INFO, "eventckpt")

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "-FF" in each.getMessage() and each.levelname == "INFO"]

    leases = open_engine(rig.writer.store).leases("test")
    async with rig.worker(Recorder(), "one", renew_interval=1.0, expiry=20.0, fence_margin=10.0) as one:
        assert told() == ["The range -FF is taken by one; it was nobody's"]
        await rig.clock.until(lambda: one.stats["-FF"].lease_writes > 1)

        async def stolen() -> bool:
            [lease] = await rig.leases()
            try:
                await leases.replace(type(lease)(range=lease.range, owner="gone", etag=lease.etag))
            except LeaseLostError:
                return False
            return True

        await rig.clock.until(stolen)
        await rig.clock.until(lambda: len(told()) == 2)
        assert told()[1] == ("The range -FF is lost by one: the lease -FF was taken by gone")
        await rig.clock.until(lambda: len(told()) == 3)
        assert told()[2] == "The range -FF is taken over by one from gone, which did not renew it"
    assert told()[3:] == ["The range -FF is released by one, for anybody"]
