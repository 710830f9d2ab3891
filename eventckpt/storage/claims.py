"""A claim that is held: renewed in the background, given back in the end, and loud where it is lost.

What is in the body of the `async with` may run for long between two saves, and a graph workflow goes on after a save
that failed. So a loss does not wait for the body to ask: the task of the body is cancelled, as `asyncio.timeout` does
it, and the `async with` raises what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

from ..clock import Clock
from ..errors import CheckpointStoreError, ClaimLostError, RunClaimedError
from ..events import CheckpointEvent, StreamId
from ..log import logger_of
from ..text import safe
from .claiming import Claims, Hold, lost
from .memory import Bound

__all__ = ["RunClaim"]

logger: Final = logger_of("eventckpt")

_RENEWALS: Final = 3
"""In the time that a claim lasts: two may fail."""

_NOT_RENEWED: Final = "it was not renewed within its ttl"


class RunClaim:
    """The right to be the only one who resumes a run: an `async with` that `RunCheckpointStorage.claim` gives.

    It raises `ClaimLostError` at its end where the claim did not last until then; the body is cancelled by that time.
    An error of the body goes before it, and has a note then.
    """

    def __init__(
        self, claims: Claims, bound: Bound, stream: StreamId, *, owner: str, actor: str | None, ttl: float, wait: float
    ) -> None:
        self.stream: StreamId = stream
        """The run that it is on."""
        self.owner: str = owner
        """Who has it, as others are told."""
        self.epoch: int = 0
        """The seq of the event that took it: of two claims on a run the later one has the greater epoch."""
        self._claims = claims
        self._clock: Clock = claims.clock
        self._bound = bound
        self._actor = actor
        self._ttl, self._wait = ttl, wait
        self._hold: Hold | None = None
        self._lost: Callable[[], ClaimLostError] | None = None
        self._body: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._has_cancelled = False
        self._keepers: list[asyncio.Task[None]] = []
        self._has_ended = False

    @property
    def is_lost(self) -> bool:
        """Whether it is known to be lost, or must be: it was not renewed for so long."""
        if self._lost is None and self._hold is not None and self._clock.monotonic() >= self._hold.until:
            self.lose(_NOT_RENEWED)
        return self._lost is not None

    async def __aenter__(self) -> Self:
        if self._hold is not None:
            raise RuntimeError("A claim is taken once: call claim() again for another one.")
        body = asyncio.current_task()
        if body is None:
            raise RuntimeError("A claim is taken inside of a task.")
        head = await self._claims.head(self.stream)
        try:
            self._hold = await self._claims.enter(self.stream, owner=self.owner, ttl=self._ttl, wait=self._wait)
        except RunClaimedError as error:
            self._bound.refused = error
            raise
        try:
            taken = await self._claims.append(self._hold, head, self._actor)
        except BaseException:
            await asyncio.shield(self._claims.give_back(self._hold))
            raise
        self.epoch = taken.seq
        self._bound.claimed(self, taken)
        self._body, self._cancelling = body, body.cancelling()
        self._keepers = [asyncio.create_task(each) for each in (self._renew(), self._watch())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._hold is None:
            return
        # Nothing of it is left behind by whatever raises in here: that comes first, and waits for nothing.
        self._has_ended = True
        self._stop_keeping()
        self._bound.let_go(self, is_lost=self._lost is not None)
        kept = asyncio.gather(*self._keepers, return_exceptions=True)
        given_back = self._claims.give_back(self._hold, after=kept)
        try:
            cancelled_by_others = await self._body_ended()
        finally:
            if not await asyncio.shield(given_back):
                self.lose("somebody else has taken it")
        if self._lost is None or cancelled_by_others:
            return
        if error is None or (isinstance(error, asyncio.CancelledError) and self._has_cancelled):
            raise self._lost() from error
        if isinstance(error, Exception) and not isinstance(error, ClaimLostError):
            error.add_note(str(self._lost()))
            logger.warning("After %s: %s", type(error).__name__, self._lost())

    def check(self) -> None:
        """To be asked before something is written in its name.

        Raises:
            ClaimLostError: it is lost, or has ended.
            RuntimeError: it was not taken yet.
        """
        if not self.epoch:
            raise RuntimeError(
                f"The claim on run {self.stream.run_id!r} of workflow {self.stream.workflow_name!r} was not taken: "
                "it is held in the body of `async with run.claim():`."
            )
        if self._has_ended and self._lost is None:
            raise lost(self.stream, self.epoch, "its body has ended, and it was given back")
        if self.is_lost:
            raise self.lose(_NOT_RENEWED)

    def lose(self, why: str, *, expected_seq: int = 0, head: CheckpointEvent | None = None) -> ClaimLostError:
        """Note that it is another's by now, or may be: the body ends. The error to raise."""
        if self._lost is None:
            self._lost = partial(lost, self.stream, self.epoch, why, expected_seq=expected_seq, head=head)
            self._stop_keeping()  # from here on it is not to be renewed: others wait until it expires
            self._bound.lost(self)
            if self._body is not None:
                self._has_cancelled = self._body.cancel()
        return self._lost()

    async def _body_ended(self) -> bool:
        """Take back the cancellation of the body, if there was one; whether others have cancelled it, too."""
        body, self._body = self._body, None
        if body is None or not self._has_cancelled:
            return False
        body.uncancel()
        try:
            await asyncio.sleep(0)  # it may have ended before the cancellation reached it, which is on its way then
        except asyncio.CancelledError:
            if body.cancelling() > self._cancelling:
                raise
        return body.cancelling() > self._cancelling

    async def _renew(self) -> None:
        pause, run_id = self._ttl / _RENEWALS, self.stream.run_id
        while self._hold is not None:
            await self._clock.sleep(pause)
            if self.is_lost:
                return
            before, pause = self._hold, self._ttl / _RENEWALS
            try:
                renewed = await self._claims.renew(before)
            except CheckpointStoreError as error:
                logger.warning("The claim on run %r could not be renewed, and is tried again: %s", run_id, error)
                pause /= _RENEWALS
            except Exception as error:
                logger.exception("Renewing the claim on run %r failed", run_id)
                self.lose(f"renewing it failed: {safe(type(error).__name__)}: {safe(error)}")
                return
            else:
                if renewed is None:
                    self.lose("somebody else has taken it, or has removed its document")
                    return
                if renewed.until == before.until:  # an earlier attempt was written, and only now it is known
                    pause /= _RENEWALS
                self._hold = renewed

    async def _watch(self) -> None:
        """Whatever becomes of the renewals: without one, the claim is over."""
        while self._hold is not None and (left := self._hold.until - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        self.lose(_NOT_RENEWED)

    def _stop_keeping(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
