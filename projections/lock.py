"""One rebuild at a time: a lock that lies beside the leases, and what a rebuild has to know of those before it.

Whoever has it renews it while it works. Whoever wants it judges the owner dead when nobody wrote the lock for a full
term by its own monotonic clock, as with leases. The owner counts from before its last write was sent, and stops
earlier.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.text import safe

from .retry import raise_if_lasting
from .tasks import first

__all__ = ["RebuildLock", "RebuildLostError", "RebuildRunningError"]

logger: Final = logger_of("eventckpt.projections")

_KEPT: Final = "Rebuild"
_RENEWALS: Final = 6
"""Renewals within one term: so a living owner is noticed in a sixth of the time that a dead one takes."""
_LOOK: Final = 0.5
"""Seconds between two looks at somebody else's lock."""
_NAMES: Final = 16
"""Projections that are remembered as left to be cleared."""
_NUMBERS: Final = 10**9 - 1
"""Less than this is a number that a rebuild can count on from."""
_OURS: Final = re.compile(r"latest(?:-[0-9]{1,9})?")
"""The names that rebuilds give."""


class RebuildRunningError(CheckpointStoreError):
    """Another process rebuilds the projection; one at a time does."""


class RebuildLostError(CheckpointStoreError):
    """A rebuild could not keep its lock, and may not be the only one any more. It put nothing in use."""


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock's document says."""

    owner: str | None = None
    since: str = ""
    beat: int = 0
    """Grows with each write."""
    number: int = 0
    """Of the last projection that was begun. Nobody gives it to another one as long as somebody may still fill it."""
    begun: tuple[str, ...] = ()
    """Projections that were begun and not cleared since; one of them may be in use."""


class RebuildLock:
    """The right to rebuild.

    Args:
        documents: where the leases are.
        name: the id of its document.
        owner: who wants it; for others to read.
        term: seconds without a write after which an owner counts as dead. The same for all.
        margin: how many seconds before that its owner stops.
        clock: where the time comes from.
    """

    def __init__(
        self, documents: DocumentStore, name: str, owner: str, *, term: float, margin: float, clock: Clock
    ) -> None:
        self._documents = documents
        self._name = name
        self._owner = owner
        self._term = term
        self._margin = margin
        self._clock = clock
        self._state = _State()
        self._begins = False
        self._etag = ""
        self._written_at = 0.0

    @property
    def number(self) -> int:
        """Of the last projection that a rebuild began."""
        return self._state.number

    @property
    def begun(self) -> tuple[str, ...]:
        """The projections that were begun and not cleared since; one of them may be in use."""
        return self._state.begun

    async def acquire(self) -> None:
        """Get the lock; from an owner that does not write it any more, after a term.

        Raises:
            RebuildRunningError: its owner lives.
        """
        seen, since = "", 0.0
        while True:
            asked = self._clock.monotonic()
            found = await self._documents.read(self._name)
            state = _state_of(found)
            etag = str(found["_etag"]) if found else ""
            if state.owner is None or (etag == seen and asked - since >= self._term):
                if state.owner is not None:
                    logger.warning("The rebuild by %s has stopped; its lock is taken over", safe(state.owner))
                taken = msgspec.structs.replace(state, owner=self._owner, since=self._clock.timestamp())
                if await self._write(taken, etag if found else None):
                    return
            elif not seen:
                seen, since = etag, self._clock.monotonic()
            elif etag != seen:
                raise RebuildRunningError(
                    f"{state.owner!r} rebuilds the projection since {state.since!r}. One rebuild at a time does: wait "
                    f"until it is done. If it is stopped, another one can begin {self._term:g} s later."
                )
            await self._clock.sleep(_LOOK)

    async def begins(self, number: int, begun: tuple[str, ...]) -> None:
        """Note which projection is begun, and which may have to be cleared, this one among them.

        Raises:
            RebuildLostError: see `check`.
        """
        await self._rewrite(msgspec.structs.replace(self._state, number=number, begun=begun[-_NAMES:]))
        self._begins = True

    async def renew(self) -> None:
        """Renew the lock until this is cancelled.

        Raises:
            RebuildLostError: see `check`.
        """
        pause = self._term / _RENEWALS
        while True:
            await self._clock.sleep(max(0.0, min(pause, self._fence_at - self._clock.monotonic())))
            self.check()
            try:
                await first(self._rewrite(self._state), self._until_fence())
            except CheckpointStoreError as error:
                raise_if_lasting(error)
                if isinstance(error, RebuildLostError):
                    raise
                logger.warning("The lock of the rebuild could not be renewed: %s", error)
            self.check()

    def check(self) -> None:
        """Raises `RebuildLostError` if another rebuild may have begun: nothing more may be changed."""
        if self._clock.monotonic() >= self._fence_at:
            raise self._lost()

    async def release(self, *, done: bool) -> None:
        """Give it back; if it was lost meanwhile, this does nothing.

        Args:
            done: what was begun is in use. Else its number is free again: nothing fills it any more.
        """
        number = self._state.number - 1 if self._begins and not done else self._state.number
        state = msgspec.structs.replace(self._state, owner=None, number=number)
        try:
            if not await self._written_as_owner(state):
                logger.warning("The lock of the rebuild was not released: another process has it")
        except CheckpointStoreError as error:
            logger.warning("The lock of the rebuild was not released, it will expire: %s", error)

    async def _rewrite(self, state: _State) -> None:
        self.check()
        if not await self._written_as_owner(state):
            raise self._lost()

    async def _written_as_owner(self, state: _State) -> bool:
        """Whether it was written over what this owner wrote, also where that was cut off and is there all the same."""
        if await self._write(state, self._etag):
            return True
        found = await self._documents.read(self._name)
        if found is None or _state_of(found).owner != self._owner:
            return False
        return await self._write(state, str(found["_etag"]))

    async def _write(self, state: _State, etag: str | None) -> bool:
        """Whether it was written over the state with this etag; None: over none."""
        state = msgspec.structs.replace(state, beat=state.beat + 1)
        document: Document = {"id": self._name, _KEPT: msgspec.to_builtins(state)}
        sent = self._clock.monotonic()
        if etag is None:
            written = await self._documents.create(document)
        else:
            written = await self._documents.replace(document, etag)
        if written is None:
            return False
        self._state, self._etag, self._written_at = state, str(written["_etag"]), sent
        return True

    async def _until_fence(self) -> None:
        while (left := self._fence_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    @property
    def _fence_at(self) -> float:
        return self._written_at + self._term - self._margin

    def _lost(self) -> RebuildLostError:
        return RebuildLostError(
            "The rebuild could not keep its lock, and another one may have begun since. It put nothing in use. Rebuild "
            "again, if no other process does."
        )


def _state_of(document: Document | None) -> _State:
    """What a document says; what is none says nothing. It may be anybody's: what was begun will be cleared, and the
    number makes a name."""
    try:
        state = msgspec.convert(cast(Any, document or {}).get(_KEPT) or {}, _State)
    except msgspec.ValidationError:
        return _State()
    number = state.number if 0 <= state.number < _NUMBERS else 0
    begun = tuple(name for name in state.begun if _OURS.fullmatch(name))[-_NAMES:]
    return msgspec.structs.replace(state, number=number, begun=begun)
