"""Which sessions a store has: those of one source, or of all that a history provider wrote, the last active first."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Self

import msgspec

from ..history.listing import SessionInfo, sessions_of
from ..history.snapshots import is_reserved
from ..moments import NEVER, order_of
from ..storage import Latest
from ..stores import AuditStore

__all__ = ["ListedSession", "sessions_in"]


class ListedSession(msgspec.Struct, frozen=True):
    """A session as it was when it was listed: where a listing goes on."""

    source_id: str
    session_id: str
    last_activity: str

    @classmethod
    def of(cls, info: SessionInfo) -> Self:
        """A session that is listed."""
        return cls(info.source_id, info.session_id, info.last_activity)


async def sessions_in(
    store: AuditStore,
    *,
    latest: Latest = "log",
    source: str | None = None,
    prefix: str = "",
    after: ListedSession | None = None,
) -> list[SessionInfo]:
    """The sessions that fit, the last active first; what hosts keep (`is_reserved`) only where its source is asked for.

    Args:
        store: of sessions, as `AuditStore.sessions` gives it.
        latest: where to look. In the "log", which counts the turns of each; or in the "projection", quicker, and maybe
            late.
        source: only those of this source.
        prefix: only those whose id begins so.
        after: only those behind this one.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    infos: list[SessionInfo] = []
    for name in [source] if source is not None else await _sources(store, prefix):
        infos += await sessions_of(store, name, latest=latest, prefix=prefix, counted=latest == "log")
    infos.sort(key=_order)
    return infos if after is None else [info for info in infos if _order(info) > _order(after)]


def _order(of: SessionInfo | ListedSession) -> tuple[timedelta, str, str]:
    return NEVER - order_of(of.last_activity), of.source_id, of.session_id


async def _sources(store: AuditStore, prefix: str) -> list[str]:
    """The sources of history providers that have a session of such a name."""
    async with aclosing(store.streams(prefix=prefix)) as streams:
        found = {stream.workflow_name async for stream in streams}
    return sorted(name for name in found if not is_reserved(name))
