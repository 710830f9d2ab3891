"""How much is made at a time, and for how long: so that whoever asks for much, or asks and goes, keeps nobody else from
looking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from ..events import CheckpointEvent
from ..exit_codes import STORE, Failure
from ..threads import Lane, apart

__all__ = ["OF_NODE", "Places", "Scales", "made_for", "weighed"]

_T = TypeVar("_T")

_AT_ONCE: Final = 32
_UNDER_WAY: Final = 8_000_000
"""Bytes of states, as their headers say, that pages hold at once. A tree takes up to some sixty times that. A page that
takes more is made while no other one holds any."""
OF_NODE: Final = 100
"""What a checkpoint of a lineage weighs, in bytes of a state."""
_WAIT: Final = 5.0  # seconds for which a page waits for its turn


class Scales:
    """What the pages of a viewer hold of states, in bytes."""

    def __init__(self) -> None:
        self._load = 0
        self._freed = asyncio.Event()

    @contextmanager
    def holding(self) -> Generator[None, None, None]:
        """A page that is made in this block holds what it weighs there, until its end."""
        held: list[int] = []
        before = _page.set((self, held))
        try:
            yield
        finally:
            _page.reset(before)
            self._load -= sum(held)
            self._freed.set()

    async def add(self, size: int, held: list[int]) -> None:
        """Wait until something of this size has room beside what is held, at most; see `weighed`."""
        size = min(size, _UNDER_WAY)
        try:
            async with asyncio.timeout(_WAIT):
                while self._load + size > _UNDER_WAY:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise Failure(STORE, "Other large states are looked at; this page is asked for again by itself.") from None
        self._load += size
        held.append(size)


class Places:
    """Of which so many are taken at a time.

    Args:
        what: is made there, for whoever finds them all taken.
        scales: what is held there is weighed on.
        threads: that work for them; None: they have none of their own.
    """

    def __init__(self, what: str, scales: Scales, *, threads: int | None = None) -> None:
        self._what = what
        self._scales = scales
        self._lane = None if threads is None else Lane(f"eventckpt-{what.replace(' ', '-')}", threads)
        self._taken = 0

    async def working(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """What `work` gives, in one of them, which is free again when its last thread has ended.

        Raises:
            Failure: they are all taken.
        """
        if self._taken >= _AT_ONCE:
            raise Failure(STORE, f"{_AT_ONCE} {self._what} are made already; this page is asked for again by itself.")
        self._taken += 1
        try:
            with self._scales.holding(), apart(self._lane) if self._lane is not None else nullcontext():
                return await work()
        finally:
            self._taken -= 1


_page: Final = ContextVar[tuple[Scales, list[int]] | None]("page", default=None)
"""What is made, and what it holds."""


async def weighed(*what: CheckpointEvent | int) -> None:
    """Waits until a page may hold the states of these events, or something of so many bytes. It has them until it is
    made; it asks once, for all of them.

    Raises:
        Failure: other pages hold too much for too long.
    """
    page = _page.get()
    if page is not None:
        scales, held = page
        await scales.add(sum(each if isinstance(each, int) else _size(each) for each in what), held)


def _size(event: CheckpointEvent) -> int:
    return max(event.payload.raw_size, event.payload.stored_size, 0) if event.payload else 0


_ending: Final[set[asyncio.Task[Any]]] = set()
"""What was given up, and has not ended yet."""


async def made_for(request: Request, work: Coroutine[Any, Any, _T], *, seconds: float) -> _T:
    """What `work` gives to whoever asks, while they wait for it. What they do not wait for is cancelled; how long that
    takes keeps nobody.

    Raises:
        ClientDisconnect: they have gone.
        TimeoutError: it took longer than `seconds`.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise TimeoutError
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            _ending.add(task)
            task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # there is nobody to be told


async def _gone(request: Request) -> None:
    """Ends when whoever asked has hung up."""
    is_whole = False
    while (message := await request.receive())["type"] != "http.disconnect":
        if is_whole:  # a server that does not say so
            await asyncio.Future()
        is_whole = not message.get("more_body", False)
