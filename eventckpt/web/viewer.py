"""What the pages ask: the audit of a store, and what else the viewer was given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from ..audit import CheckpointAudit
from ..audit.listed_from import ListedFrom
from ..errors import CheckpointStoreError, StoreLockedError, StoreReplacedError, StoreUnavailableError
from ..events import PendingRequest, StreamId
from ..exit_codes import NO_SUCH_NAME, Failure
from ..rendering.about_run import how_to_answer
from .answering import Answering
from .lateness import Lateness, Watch
from .standing import Operations

__all__ = ["Viewer"]

_T = TypeVar("_T")


def _now() -> datetime:
    return datetime.now(UTC)


class Viewer:
    """What every page is given.

    Args:
        audit: of runs; where it lists them and their questions from is its `latest`.
        operations: the projector's side; None: the page about it says that there is none.
        answering: what answers for those who signed in; None: nobody may do more than look.
        renew: gives the audit of the store that is there now; None: where its file, or container, was replaced, the
            pages say so from then on.
        paths: of all pages, to which alone a page leads that is told where.
        now: the time that others are told from; for tests.
    """

    def __init__(
        self,
        audit: CheckpointAudit,
        *,
        operations: Operations | None = None,
        answering: Answering | None = None,
        renew: Callable[[], Awaitable[CheckpointAudit]] | None = None,
        paths: Collection[str] = (),
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.audit: CheckpointAudit = audit
        self.operations: Operations | None = operations
        self.answering: Answering | None = answering
        self.paths: Collection[str] = paths
        self.now: Callable[[], datetime] = now
        self._turns: CheckpointAudit | None = None
        self._watch = Watch(operations)
        self._renew = renew
        self._renewing = asyncio.Lock()

    def answers(self, workflow_name: str) -> bool:
        """Whether it answers what runs of this workflow ask."""
        return self.answering is not None and self.answering.workflow_name == workflow_name

    def how_to_answer(self, stream: StreamId, asked: PendingRequest, *, earlier: Sequence[str] = ()) -> str:
        """The command that answers a question, with what the viewer itself would answer it by; see `how_to_answer`."""
        if self.answering is None or not self.answers(stream.workflow_name):
            return how_to_answer(stream, asked, earlier=earlier)
        return how_to_answer(
            stream, asked, app=self.answering.app, allow=self.answering.allowed_checkpoint_types, earlier=earlier
        )

    def turns(self) -> CheckpointAudit:
        """The audit of the sessions of the same store.

        Raises:
            Failure: the engine keeps no sessions.
        """
        if self._turns is None:
            try:
                self._turns = self.audit.of_sessions()
            except CheckpointStoreError as error:
                raise Failure(NO_SUCH_NAME, str(error)) from error
        return self._turns

    async def lateness(self) -> Lateness | None:
        """How late what is listed may be; None: it is listed from the log, which is never late.

        Raises:
            StoreReplacedError: the store is another one by now.
        """
        return await self._watch.lateness() if self.audit.latest == "projection" else None

    async def looked(
        self, look: Callable[[], Awaitable[_T]], listed: Callable[[Viewer], ListedFrom] | None = None
    ) -> _T:
        """What `look` finds; where the store is another one by now, what it finds in that.

        Args:
            look: looks.
            listed: where that lists from, which is decided before, and anew where it lists from what is gone; None: it
                lists nothing.

        Raises:
            CheckpointStoreError: the store is gone, or fails. Whoever looks again later may find it.
        """
        audit = self.audit
        try:
            return await self._listing(look, listed)
        except StoreReplacedError:
            if self._renew is None:
                raise
            async with self._renewing:
                if self.audit is audit:
                    self.audit, self._turns = await self._renew(), None
        return await self._listing(look, listed)

    async def _listing(self, look: Callable[[], Awaitable[_T]], listed: Callable[[Viewer], ListedFrom] | None) -> _T:
        if listed is None:
            return await look()
        await listed(self).look()
        try:
            return await look()
        except (StoreReplacedError, StoreUnavailableError, StoreLockedError):  # which was waited for
            raise
        except CheckpointStoreError:  # it may be the projection alone that is gone
            if not await listed(self).look(again=True):
                raise
        return await look()
