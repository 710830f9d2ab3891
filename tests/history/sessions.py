"""Sessions and values by keys over one engine, as several processes have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from agent_framework import AgentSession

from eventckpt import EventSessionStore, StoreUnavailableError
from eventckpt.events import CheckpointEvent
from eventckpt.history import SESSIONS, Snapshots
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..interleaving import Interrupted

__all__ = ["Losing", "Lost", "Sessions", "Through", "session_of"]


Lost: TypeAlias = Literal["before", "after"] | None
"""When an answer gets lost: before the commit, or after it."""


class Through(Interrupted):
    """A store of sessions, and what goes wrong on the way to it. It is its own `sessions`."""

    def __init__(self, store: AuditStore, at: int = -1, act: Callable[[], Awaitable[object]] | None = None) -> None:
        super().__init__(store, at, act or _nothing)

    def sessions(self) -> AuditStore:
        return self


class Losing(Through):
    """Sessions of which an answer to a write gets lost when it is told so."""

    lost: Lost = None

    async def append(self, event: CheckpointEvent) -> None:
        if self.lost == "before":
            self._lose()
        await super().append(event)
        if self.lost == "after":
            self._lose()

    def _lose(self) -> None:
        self.lost = None
        raise StoreUnavailableError("The answer was lost.")


async def _nothing() -> None:
    """Goes wrong nowhere."""


class Sessions:
    """Stores over one engine, and what is in its log."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def opened(self) -> AuditStore:
        """Another store object."""
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        return store

    def store(self, **options: Any) -> EventSessionStore:
        """A session store over another store object."""
        return EventSessionStore(self.opened(), **options)

    def snapshots(self, source: str = SESSIONS, **options: Any) -> Snapshots:
        """Values by keys over another store object."""
        return Snapshots(self.opened().sessions(), source, **options)

    def settle(self) -> None:
        """See `Engine.settle`."""
        self.engine.settle()


def session_of(session_id: str = "session-1", **state: Any) -> AgentSession:
    """A session with this state."""
    session = AgentSession(session_id=session_id)
    session.state.update(state)
    return session
