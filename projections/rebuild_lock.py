"""One rebuild at a time: its lock, and what a rebuild has to know of those before it."""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.stores.documents import Document, DocumentStore

from .lock import Lock, LockLostError, LockState

__all__ = ["RebuildLock", "RebuildLostError", "RebuildRunningError"]

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


class RebuildLostError(LockLostError):
    """A rebuild could not keep its lock, and may not be the only one any more. It put nothing in use."""


class _State(LockState, frozen=True, kw_only=True):
    number: int = 0
    """Of the last projection that was begun. Nobody gives it to another one as long as somebody may still fill it."""
    begun: tuple[str, ...] = ()
    """Projections that were begun and not cleared since; one of them may be in use."""


class RebuildLock(Lock[_State]):
    """The right to rebuild; see `Lock` for the arguments."""

    KEPT: ClassVar[str] = "Rebuild"
    WHAT: ClassVar[str] = "The rebuild"

    def __init__(
        self, documents: DocumentStore, name: str, owner: str, *, term: float, margin: float, clock: Clock
    ) -> None:
        super().__init__(documents, name, owner, state=_State(), term=term, margin=margin, clock=clock)
        self._begins = False

    @property
    def number(self) -> int:
        """Of the last projection that a rebuild began."""
        return self.state.number

    @property
    def begun(self) -> tuple[str, ...]:
        """The projections that were begun and not cleared since; one of them may be in use."""
        return self.state.begun

    async def acquire(self) -> None:
        """Get the lock; from an owner that does not write it any more, after a term.

        Raises:
            RebuildRunningError: its owner lives.
        """
        while True:
            await self.look()
            if self.is_free and await self.take():
                return
            if self.is_alive:
                raise RebuildRunningError(
                    f"{self.state.owner!r} rebuilds the projection since {self.state.since!r}. One rebuild at a time "
                    f"does: wait until it is done. If it is stopped, another one can begin {self.term:g} s later."
                )
            await self._clock.sleep(_LOOK)

    async def begins(self, number: int, begun: tuple[str, ...]) -> None:
        """Note which projection is begun, and which may have to be cleared, this one among them.

        Raises:
            RebuildLostError: see `check`.
        """
        await self.rewrite(msgspec.structs.replace(self.state, number=number, begun=begun[-_NAMES:]))
        self._begins = True

    async def release(self, *, done: bool) -> None:
        """Give it back; if it was lost meanwhile, this does nothing.

        Args:
            done: what was begun is in use. Else its number is free again: nothing fills it any more.
        """
        number = self.state.number - 1 if self._begins and not done else self.state.number
        await self.give_back(msgspec.structs.replace(self.state, number=number))

    def _read(self, document: Document | None) -> _State:
        """It may be anybody's: what was begun will be cleared, and the number makes a name."""
        state = super()._read(document)
        number = state.number if 0 <= state.number < _NUMBERS else 0
        begun = tuple(name for name in state.begun if _OURS.fullmatch(name))[-_NAMES:]
        return msgspec.structs.replace(state, number=number, begun=begun)

    def _lost(self) -> RebuildLostError:
        return RebuildLostError(
            "The rebuild could not keep its lock, and another one may have begun since. It put nothing in use. Rebuild "
            "again, if no other process does."
        )
