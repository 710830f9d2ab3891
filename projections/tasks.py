"""Waiting for the first of several things, without leaving the others behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["cancelled", "first"]


async def first(*coroutines: Coroutine[Any, Any, Any]) -> int:
    """Run all until one ends, cancel the rest; which one ended. What it raised is raised."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(index for index, task in enumerate(tasks) if task.done())
    finally:
        await cancelled(*tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: of several that ended at once, one tells
    tasks[ended].result()
    return ended


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what has not ended, and wait until it has; also while the caller itself is cancelled."""
    interrupted = False
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
    if interrupted:
        raise asyncio.CancelledError
