"""The threads in which long work is done, so that it never holds the event loop: a few, and our own.

The loop's default executor is the application's. What waits there waits behind whatever the application does in it, and
a save must not. Where all threads are at work, what comes next waits its turn; it never fails for that.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from typing import Final, ParamSpec, TypeVar

__all__ = ["LARGE", "in_thread", "off_the_loop"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

LARGE: Final = 64 * 1024
"""Bytes from which going through them leaves the event loop; below, the hand-over would cost more than it frees."""

_THREADS: Final = 4
"""How many work at once. For the most part they hold the interpreter's lock, so that more would gain nothing."""


async def off_the_loop(size: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives, which goes through `size` bytes: in a thread where they are many."""
    if size < LARGE:
        return work(*args, **kwargs)
    return await in_thread(work, *args, **kwargs)


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives, in one of our threads and in this task's context.

    Cancelled before its turn has come, it is not begun; after that it goes on to its end, and what it gives is dropped.
    """
    if getattr(_here, "is_ours", False):  # an application's code runs a loop of its own in here: who waits is at work
        return work(*args, **kwargs)
    context = copy_context()
    try:
        done = _threads(os.getpid()).submit(context.run, lambda: work(*args, **kwargs))
    except RuntimeError:  # the interpreter is exiting: there are no threads any more
        return work(*args, **kwargs)
    return await asyncio.wrap_future(done)


_here: Final = threading.local()


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Those of one process: one that was forked off has none of its parent's."""
    return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="eventckpt", initializer=_is_ours)


def _is_ours() -> None:
    _here.is_ours = True
