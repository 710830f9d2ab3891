"""Where runs are listed from: the log, the projection, or whichever serves, which is looked for now and then."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import (
    CheckpointStoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReplacedError,
    StoreUnavailableError,
)
from ..storage import Latest
from ..stores import AuditStore, RunStore

__all__ = ["WHERE", "ListedFrom", "Where"]

Where: TypeAlias = Literal["log", "projection", "auto"]

WHERE: Final[tuple[Where, ...]] = ("log", "projection", "auto")
"""What people say that is listed from; `auto`: the projection where there is one."""
_AGAIN: Final = 10.0  # seconds


class ListedFrom:
    """Where the runs of a store are listed from.

    Args:
        store: the engine; of sessions, where those are listed.
        asked: "auto": the projection where there is one, as `look` found it last; before that, the log.
        clock: for tests.

    Raises:
        CheckpointStoreError: "projection" is asked for, and the engine keeps none.
    """

    def __init__(self, store: AuditStore, asked: Where, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.asked: Final = asked
        self._store = store
        self._clock = clock
        self._next: float | None = None
        """When it is looked for again; None: it was not yet."""
        self._projection = store.run_store() if asked == "projection" else None

    @property
    def latest(self) -> Latest:
        """Where they are listed from now."""
        return "log" if self._projection is None else "projection"

    @property
    def projection(self) -> RunStore | None:
        """The projection that they are listed from; None: it is the log."""
        return self._projection

    async def look(self, *, again: bool = False) -> bool:
        """Decide anew whether there is a projection, where nothing else was asked for; whether that changed anything.
        One look in ten seconds is made, however often this is asked.

        Args:
            again: look in any case: what was decided has failed.

        Raises:
            StoreReplacedError: the store is another one by now.
            StoreUnavailableError, StoreLockedError: it does not serve, for which nobody is to wait twice. Nothing was
                decided, and the next look is made.
        """
        now = self._clock.monotonic()
        if self.asked != "auto" or (not again and self._next is not None and now < self._next):
            return False
        self._next = now + _AGAIN
        before = self._projection
        try:
            self._projection = await self._found()
        except CheckpointStoreError:
            self._next = None
            raise
        return self._projection is not before

    async def _found(self) -> RunStore | None:
        try:
            runs = self._projection or self._store.run_store()
            return None if await runs.is_empty() else runs
        except StoreNotFoundError:  # no projector has made its container, or that is gone
            return None
        except (StoreReplacedError, StoreUnavailableError, StoreLockedError):
            raise
        except CheckpointStoreError:  # nothing was learned: whoever lists meets the same at once, and says so
            return self._projection
