"""Time that only passes when a test lets it."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from time import monotonic
from typing import Any

_TURNS = 20
"""Of the event loop, which what is under way on it is given at each step."""
_HANGS = 1.0
"""Seconds of real time after which what a thread does is taken to wait for what a step brings."""

_in_threads: set[Future[Any]] = set()
"""What threads were given and have not done."""


def _counted(submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    @wraps(submit)
    def counting(*args: Any, **kwargs: Any) -> Future[Any]:
        future = submit(*args, **kwargs)
        _in_threads.add(future)
        future.add_done_callback(_in_threads.discard)
        return future

    return counting


ThreadPoolExecutor.submit = _counted(ThreadPoolExecutor.submit)


async def _under_way() -> None:
    """What is under way gets time to be done: on the event loop, and in threads, which a busy machine keeps waiting."""
    began = monotonic()
    await asyncio.sleep(0.001)
    while True:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if not _in_threads:
            return
        if monotonic() - began > _HANGS:
            _in_threads.clear()
        await asyncio.sleep(0.001)


class DrivenClock:
    """A `eventckpt.clock.Clock` that stands still between calls of `advance` and `until`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def timestamp(self) -> str:
        return f"2026-01-01T00:00:00.{int(self.now):06d}Z"

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Let time pass, waking who sleeps no longer than that."""
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], *, at_most: float = 5000.0, step: float = 0.5
    ) -> None:
        """Let time pass, with pauses for what is under way, until the condition holds. A shorter `step` is for what
        takes many requests: nothing of it is to be late because the machine is busy."""
        end = self.now + at_most
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            assert self.now < end, f"it did not come true within {at_most:g} s"
            self.advance(step)
            await _under_way()

    async def passes(self, seconds: float) -> None:
        """Let so much time pass, with pauses for what is under way. On a busy machine these may be too short: what is
        to have happened is waited for by `until`, and after `passes` it is asked what has not."""
        end = self.now + seconds
        await self.until(lambda: self.now >= end)


class Passing:
    """A clock that goes on only while somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def timestamp(self) -> str:
        return "2026-01-01T00:00:00Z"

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
