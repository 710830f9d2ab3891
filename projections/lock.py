"""The right to be the only one at something, for as long as it is renewed: a document that lies beside the leases.

Whoever has it renews it while it works. Whoever wants it judges the owner dead when nobody wrote the lock for a full
term by its own monotonic clock, as with leases. The owner counts from before its last write was sent, and stops
earlier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

import msgspec

from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of
from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.text import safe

from .retry import raise_if_lasting
from .tasks import first

__all__ = ["Lock", "LockLostError", "LockState"]

logger: Final = logger_of("eventckpt.projections")

_RENEWALS: Final = 6
"""Renewals within one term: so a living owner is noticed in a sixth of the time that a dead one takes."""


class LockLostError(CheckpointStoreError):
    """A lock could not be kept, and its owner may not be the only one any more."""


class LockState(msgspec.Struct, frozen=True, kw_only=True):
    """What a lock's document says."""

    owner: str | None = None
    since: str = ""
    beat: int = 0
    """Grows with each write."""


StateT = TypeVar("StateT", bound=LockState)


class Lock(ABC, Generic[StateT]):
    """A lock.

    Args:
        documents: where the leases are.
        name: the id of its document.
        owner: who wants it; for others to read.
        state: what its document says where there is none.
        term: seconds without a write after which an owner counts as dead. The same for all.
        margin: how many seconds before that its owner stops.
        clock: where the time comes from.
    """

    KEPT: ClassVar[str]
    """The name of what the document says."""
    WHAT: ClassVar[str]
    """What it is the right to, for the log."""

    def __init__(
        self,
        documents: DocumentStore,
        name: str,
        owner: str,
        *,
        state: StateT,
        term: float,
        margin: float,
        clock: Clock,
    ) -> None:
        self.state: StateT = state
        """As it was read or written last."""
        self.term: float = term
        self._nothing = state
        self._documents = documents
        self._name = name
        self._owner = owner
        self._margin = margin
        self._clock = clock
        self._etag: str | None = None
        self._seen, self._since = "", 0.0
        self._is_dead = self._is_alive = False
        self._written_at = 0.0

    async def look(self) -> None:
        """Read what the document says, and judge its owner."""
        asked = self._clock.monotonic()
        found = await self._documents.read(self._name)
        self.state = self._read(found)
        self._etag = str(found["_etag"]) if found else None
        seen = self._etag or "" if self.state.owner is not None else ""
        self._is_dead = bool(seen) and seen == self._seen and asked - self._since >= self.term
        self._is_alive = bool(seen and self._seen) and seen != self._seen
        if seen != self._seen:
            self._seen, self._since = seen, self._clock.monotonic()

    @property
    def is_free(self) -> bool:
        """Whether nobody has it, by the last look, or somebody who does not write it any more."""
        return self.state.owner is None or self._is_dead

    @property
    def is_alive(self) -> bool:
        """Whether its owner wrote it between the last two looks."""
        return self._is_alive

    async def take(self) -> bool:
        """Whether it is ours now; it `is_free`, and somebody else may be faster."""
        if self.state.owner is not None:
            logger.warning("%s by %s has stopped; its lock is taken over", self.WHAT, safe(self.state.owner))
        taken = msgspec.structs.replace(self.state, owner=self._owner, since=self._clock.timestamp())
        return await self._write(taken, self._etag)

    async def renew(self) -> None:
        """Renew the lock until this is cancelled.

        Raises:
            LockLostError: see `check`.
        """
        pause = self.term / _RENEWALS
        while True:
            await self._clock.sleep(max(0.0, min(pause, self._fence_at - self._clock.monotonic())))
            self.check()
            try:
                await first(self.rewrite(self.state), self._until_fence())
            except CheckpointStoreError as error:
                raise_if_lasting(error)
                if isinstance(error, LockLostError):
                    raise
                logger.warning("The lock of %s could not be renewed: %s", _inside(self.WHAT), error)
            self.check()

    def check(self) -> None:
        """Raises `LockLostError` if another owner may have taken it: nothing more may be changed."""
        if self._clock.monotonic() >= self._fence_at:
            raise self._lost()

    async def give_back(self, state: StateT) -> None:
        """Let others have it, and read `state`; if it was lost meanwhile, this does nothing."""
        what = _inside(self.WHAT)
        try:
            if not await self._written_as_owner(msgspec.structs.replace(state, owner=None)):
                logger.warning("The lock of %s was not released: another process has it", what)
        except CheckpointStoreError as error:
            logger.warning("The lock of %s was not released, it will expire: %s", what, error)

    async def rewrite(self, state: StateT) -> None:
        """Write what its owner has to say.

        Raises:
            LockLostError: see `check`.
        """
        self.check()
        if not await self._written_as_owner(state):
            raise self._lost()

    @abstractmethod
    def _lost(self) -> LockLostError:
        """What to tell an owner that may not be the only one any more."""

    def _read(self, document: Document | None) -> StateT:
        """What a document says; what is none says nothing."""
        try:
            return msgspec.convert(cast(Any, document or {}).get(self.KEPT) or {}, type(self._nothing))
        except msgspec.ValidationError:
            return self._nothing

    async def _written_as_owner(self, state: StateT) -> bool:
        """Whether it was written over what this owner wrote, also where that was cut off and is there all the same."""
        if await self._write(state, self._etag):
            return True
        found = await self._documents.read(self._name)
        if found is None or self._read(found).owner != self._owner:
            return False
        return await self._write(state, str(found["_etag"]))

    async def _write(self, state: StateT, etag: str | None) -> bool:
        """Whether it was written over the state with this etag; None: over none."""
        state = msgspec.structs.replace(state, beat=state.beat + 1)
        document: Document = {"id": self._name, self.KEPT: msgspec.to_builtins(state)}
        sent = self._clock.monotonic()
        if etag is None:
            written = await self._documents.create(document)
        else:
            written = await self._documents.replace(document, etag)
        if written is None:
            return False
        self.state, self._etag, self._written_at = state, str(written["_etag"]), sent
        return True

    async def _until_fence(self) -> None:
        while (left := self._fence_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    @property
    def _fence_at(self) -> float:
        return self._written_at + self.term - self._margin


def _inside(what: str) -> str:
    """As it stands inside a sentence."""
    return what[:1].lower() + what[1:]
