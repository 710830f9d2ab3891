"""Time as what waits for something sees it, in one place, so that tests can drive it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

__all__ = ["SYSTEM_CLOCK", "Clock"]


class Clock(Protocol):
    """Where the time comes from, and how to let it pass."""

    def monotonic(self) -> float:
        """Seconds that only ever grow, also while the machine sleeps."""
        ...

    def timestamp(self) -> str:
        """The wall clock in ISO 8601, UTC; for people, never for decisions."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        ...


class _SystemClock:
    def monotonic(self) -> float:
        return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()

    def timestamp(self) -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
"""On Linux the plain monotonic clock stands still while a machine is suspended; other workers' clocks do not."""

SYSTEM_CLOCK: Final[Clock] = _SystemClock()
