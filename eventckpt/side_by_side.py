"""Things that are done side by side, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

__all__ = ["AT_ONCE", "side_by_side"]

_T = TypeVar("_T")
_R = TypeVar("_R")

AT_ONCE: Final = 16
"""Things that are under way at a time, where nothing else bounds them."""


async def side_by_side(one: Callable[[_T], Awaitable[_R]], things: Sequence[_T], *, at_once: int = AT_ONCE) -> list[_R]:
    """What `one` gives of each, so many at a time. If one fails, none goes on behind the caller's back."""
    turns = asyncio.Semaphore(at_once)

    async def in_turn(thing: _T) -> _R:
        async with turns:
            return await one(thing)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(thing)) for thing in things]
    except ExceptionGroup as failures:
        raise failures.exceptions[0]  # noqa: B904 - it has its own cause
    return [task.result() for task in tasks]
