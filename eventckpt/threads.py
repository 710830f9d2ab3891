"""The threads in which long work is done, so that it never holds the event loop: a few, and our own.

The loop's default executor is the application's. What waits there waits behind whatever the application does in it, and
a save must not. Where all threads are at work, what comes next waits its turn; it never fails for that. What may keep
them at work for long, and nobody waits for but whoever looks, has a lane of its own (`apart`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

__all__ = ["LARGE", "DroppedError", "Lane", "Pace", "apart", "in_thread", "off_the_loop", "stop_if_dropped"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

LARGE: Final = 64 * 1024
"""Bytes from which going through them leaves the event loop; below, the hand-over would cost more than it frees."""

_OF_ONE: Final = 1024
"""Bytes that going through few of them, whatever they are, takes as long as."""


class Lane(NamedTuple):
    """Threads that work at once. For the most part they hold the interpreter's lock, so that more would gain little."""

    name: str
    threads: int
    is_seen_to_its_end: bool = True
    """Whether what is cancelled waits until its thread has ended, for whoever counts what is under way."""


_EVERYBODYS: Final = Lane("eventckpt", 4, is_seen_to_its_end=False)
_lane: Final = ContextVar("lane", default=_EVERYBODYS)


class DroppedError(BaseException):
    """Ends work in a thread that nobody waits for any more. No error of the work's own, which `except Exception` may
    take for one of what it reads."""


@contextmanager
def apart(lane: Lane) -> Generator[None, None, None]:
    """What goes to a thread in this block, and in tasks that are begun there, goes to those of `lane`."""
    before = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(before)


def stop_if_dropped() -> None:
    """Called now and then by what may take long: ends it where nobody waits for it.

    Raises:
        DroppedError: it was cancelled.
    """
    dropped: threading.Event | None = getattr(_here, "dropped", None)
    if dropped is not None and dropped.is_set():
        raise DroppedError


async def off_the_loop(size: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives, which goes through `size` bytes: in a thread where they are many."""
    if size < LARGE:
        return work(*args, **kwargs)
    return await in_thread(work, *args, **kwargs)


class Pace:
    """Of long work in many parts, each too small for a thread: between them the event loop has its turn, now and then,
    also where nothing that the work waits for lets it have one."""

    def __init__(self) -> None:
        self._held = 0

    async def step(self, size: int) -> None:
        """Called between two parts, after one that went through `size` bytes."""
        self._held += size + _OF_ONE
        if self._held >= LARGE:
            self._held = 0
            await asyncio.sleep(0)


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives, in one of our threads and in this task's context.

    Cancelled before its turn has come, it is not begun; after that it goes on to where it calls `stop_if_dropped`, or
    to its end, and what it gives is dropped.
    """
    if getattr(_here, "is_ours", False):  # an application's code runs a loop of its own in here: who waits is at work
        return work(*args, **kwargs)
    lane, dropped, context = _lane.get(), threading.Event(), copy_context()

    def working() -> _T:
        _here.dropped = dropped
        return context.run(lambda: work(*args, **kwargs))

    try:
        done = _threads(os.getpid(), lane).submit(working)
    except RuntimeError:  # the interpreter is exiting: there are no threads any more
        return work(*args, **kwargs)
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        dropped.set()
        if lane.is_seen_to_its_end and not done.done():
            await _end_of(done)
        raise


async def _end_of(work: Future[Any]) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    work.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(ended.set))
    await ended.wait()


_here: Final = threading.local()


@cache
def _threads(process: int, lane: Lane) -> ThreadPoolExecutor:
    """Those of one process: one that was forked off has none of its parent's."""
    return ThreadPoolExecutor(max_workers=lane.threads, thread_name_prefix=lane.name, initializer=_is_ours)


def _is_ours() -> None:
    _here.is_ours = True
