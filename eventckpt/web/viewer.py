"""What the pages ask: the audit of a store, and what else the viewer was given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from ..audit import CheckpointAudit
from ..errors import StoreReplacedError
from .answering import Answering

__all__ = ["Operations", "Standing", "Viewer"]

_T = TypeVar("_T")


class Standing(NamedTuple):
    """How the projector of a store stands, as `eventckpt-projector status --json` prints it."""

    projection: str
    """The name of the projection in use."""
    doubted: str | None
    """Why it is not to be believed; None: nothing speaks against it."""
    ranges: Sequence[Mapping[str, Any]]
    parked: Sequence[Mapping[str, Any]]


class Operations(Protocol):
    """What the page about operations asks of the projector's side, which the viewer does not know."""

    async def standing(self) -> Standing:
        """How the projector stands now.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        ...


def _now() -> datetime:
    return datetime.now(UTC)


class Viewer:
    """What every page is given.

    Args:
        audit: of runs; where it lists them from is its `latest`.
        operations: the projector's side; None: the page about it says that there is none.
        answering: what answers for those who signed in; None: nobody may do more than look.
        renew: gives the audit of the store that is there now; None: where its file, or container, was replaced, the
            pages say so from then on.
        now: the time that others are told from; for tests.
    """

    def __init__(
        self,
        audit: CheckpointAudit,
        *,
        operations: Operations | None = None,
        answering: Answering | None = None,
        renew: Callable[[], Awaitable[CheckpointAudit]] | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.audit: CheckpointAudit = audit
        self.operations: Operations | None = operations
        self.answering: Answering | None = answering
        self.now: Callable[[], datetime] = now
        self._turns: CheckpointAudit | None = None
        self._renew = renew
        self._renewing = asyncio.Lock()

    def turns(self) -> CheckpointAudit:
        """The audit of the sessions of the same store.

        Raises:
            CheckpointStoreError: the engine keeps no sessions.
        """
        if self._turns is None:
            self._turns = self.audit.of_sessions()
        return self._turns

    async def looked(self, look: Callable[[], Awaitable[_T]]) -> _T:
        """What `look` finds; where the store is another one by now, what it finds in that.

        Raises:
            CheckpointStoreError: the store is gone, or fails. Whoever looks again later may find it.
        """
        audit = self.audit
        try:
            return await look()
        except StoreReplacedError:
            if self._renew is None:
                raise
            async with self._renewing:
                if self.audit is audit:
                    self.audit, self._turns = await self._renew(), None
        return await look()
