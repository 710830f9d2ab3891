"""What runs in the background: waiting for the first of several things, and loops that go on after any error.

A cancellation is ours only if we cancelled: what something else has cancelled, such as a task that a handler awaits, is
an error like any other, and told apart where it comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of

from .retry import Retry, named, raise_if_lasting

__all__ = [
    "CancelledElsewhereError",
    "Loop",
    "Trouble",
    "Troubles",
    "called",
    "cancelled",
    "first",
    "to_its_end",
]

T = TypeVar("T")

logger: Final = logger_of("eventckpt.projections")

_SOON: Final = 2.0
"""Seconds within which a store answers that serves."""


class CancelledElsewhereError(Exception):
    """Something that was awaited has been cancelled, and not by whom is told of it here."""


async def called(awaitable: Awaitable[T]) -> T:
    """The result of something that is not ours, such as a handler, awaited in a task of its own.

    Only so is it certain who cancelled. What a task tells of itself, `cancelling()`, is not: on Python 3.11 a
    `TaskGroup` that fails leaves the task that waits for it as if it were being cancelled.

    Raises:
        CancelledElsewhereError: it was cancelled, and not because this was.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([task])
    finally:
        await cancelled(task)
    if task.cancelled():
        raise CancelledElsewhereError("what was awaited here was cancelled, but not by this worker")
    return task.result()


class Trouble(NamedTuple):
    """Something that does not work at the moment."""

    what: str
    why: str
    """The error that it met last."""
    seconds: float
    """For how long it has not worked: since the first attempt began that failed, or got no answer."""


class Troubles:
    """What of a worker does not work at the moment, and since when: for whoever watches it.

    It has not worked since the attempt began that failed first, not since that failed: a store that does not answer
    lets an attempt take all of its time. One that is under way for long is a trouble before it fails.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}
        self._asked: dict[str, float] = {}

    def asks(self, what: str) -> None:
        """The store is asked for something that it answers soon, if it answers."""
        self._asked[what] = self._clock.monotonic()

    def answered(self, what: str) -> None:
        """Nobody waits for that any more."""
        self._asked.pop(what, None)

    def note(self, what: str, error: BaseException, *, since: float) -> None:
        """It does not work; `since`: when the attempt began, by the monotonic clock. The first one counts."""
        _, since = self._known.get(what, ("", since))
        self._known[what] = (named(error), since)

    def over(self, what: str) -> None:
        """It works, or is nothing of this worker's any more."""
        self.answered(what)
        self._known.pop(what, None)

    def all(self) -> list[Trouble]:
        """The oldest one first."""
        now = self._clock.monotonic()
        troubles = [Trouble(what, why, now - since) for what, (why, since) in self._known.items()]
        for what, since in self._asked.items():
            if what not in self._known and now - since >= _SOON:
                troubles.append(Trouble(what, "the store has not answered yet", now - since))
        return sorted(troubles, key=lambda each: -each.seconds)


class Loop:
    """A loop in the background: after any error it goes on, with pauses that grow; what lasts is raised.

    Args:
        what: what it does, for logs and `troubles`.
        retry: how long the pauses are.
        clock: where the time comes from.
        troubles: gets what does not work.
        failed: called with each error.
        ends: whether an error is none of this loop's, and is raised.
        asks: whether each step does nothing but ask the store, so that one that takes long is a trouble.
    """

    def __init__(
        self,
        what: str,
        retry: Retry,
        clock: Clock,
        *,
        troubles: Troubles | None = None,
        failed: Callable[[BaseException], None] = lambda _: None,
        ends: Callable[[BaseException], bool] = lambda _: False,
        asks: bool = False,
    ) -> None:
        self.restarts: int = 0
        """How often it went on after an error."""
        self._what = what
        self._retry = retry
        self._clock = clock
        self._troubles = Troubles(clock) if troubles is None else troubles
        self._failed = failed
        self._ends = ends
        self._asks = asks
        self._failures = 0

    def well(self) -> None:
        """It works: the next failure is a first one. To be called by a step that takes long, once it has got anywhere;
        a step that ends is one."""
        self._failures = 0
        self._troubles.over(self._what)

    async def run(
        self,
        step: Callable[[], Awaitable[T | None]],
        *,
        every: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> T:
        """Take the step again and again until it gives something, which is given on.

        Args:
            every: seconds between a step that went well and the next one.
            sleep: how to let time pass; the clock's, unless something may cut it short.
        """
        sleep = sleep or self._clock.sleep
        while True:
            began = self._clock.monotonic()
            if self._asks:
                self._troubles.asks(self._what)
            try:
                result = await called(step())
            except asyncio.CancelledError:
                self._troubles.answered(self._what)
                raise
            except Exception as error:
                self._troubles.answered(self._what)
                raise_if_lasting(error)
                if self._ends(error):
                    raise
                await sleep(self._noted(error, began))
            else:
                self.well()
                if result is not None:
                    return result
                await sleep(every)

    def _noted(self, error: Exception, began: float) -> float:
        """Count and tell an error; how long to wait after it."""
        self.restarts += 1
        self._failures += 1
        self._troubles.note(self._what, error, since=began)
        self._failed(error)
        pause = self._retry.pause(self._failures)
        expected = isinstance(error, CheckpointStoreError)
        logger.warning(
            "%s failed, and goes on in %g s: %s", self._what, pause, named(error), exc_info=None if expected else error
        )
        return pause


async def first(*coroutines: Coroutine[Any, Any, Any]) -> int:
    """Run all until one ends, cancel the rest; which one ended. What it raised is raised."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(index for index, task in enumerate(tasks) if task.done())
    finally:
        await cancelled(*tasks)
    tasks[ended].result()
    return ended


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what has not ended, and wait until it has; also while the caller itself is cancelled.

    What they raised counts as seen: whoever asks for a result gets it, and of several that ended at once, one tells.
    """
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("A task that was ended had failed: %s", named(error))
    if interrupted:
        raise asyncio.CancelledError


async def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what is to end by itself, also while the caller is cancelled; then the caller hears of that."""
    task = asyncio.ensure_future(coroutine)
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            interrupted = True
    if interrupted:
        raise asyncio.CancelledError
    return task.result()
