"""For `agent-framework-ag-ui`: the threads that its endpoints show again, kept in a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from agent_framework_ag_ui import AGUIThreadSnapshot

from .. import settings
from ..errors import CheckpointDecodeError
from ..history.snapshots import AGUI_THREADS, Snapshots
from ..stores import AuditStore
from ..text import described

__all__ = ["AGUISnapshotStore"]


class AGUISnapshotStore:
    """For `snapshot_store=`: AG-UI's `AGUIThreadSnapshotStore`, beside the runs in `store`.

    The last snapshot of a thread counts; the older ones stay in the log until they are pruned. A snapshot's
    `session_state` is private: it is in the payload, and in no header. `get` gives a copy.

    Args:
        store: the engine, such as the `store` of a storage. It is not closed with this.
        actor: who writes, kept on each event.

    Every method raises TypeError where `scope` or `thread_id` is no text, and ValueError where it is empty.

    Raises:
        CheckpointStoreError: the engine keeps no sessions.
    """

    def __init__(self, store: AuditStore, *, actor: str | None = None) -> None:
        settings.instance("store", store, AuditStore, what="an AuditStore")
        if actor is not None:
            settings.text("actor", actor)
        self._threads = Snapshots(store.sessions(), AGUI_THREADS, actor=actor)

    async def save(self, *, scope: str, thread_id: str, snapshot: AGUIThreadSnapshot) -> None:
        """Keep the snapshot of a thread, in place of the one before.

        Raises:
            TypeError: it is no `AGUIThreadSnapshot`.
            CheckpointEncodeError, CheckpointTypeNotAllowedError: it holds something that cannot be stored.
            CheckpointStoreError: the engine failed.
        """
        settings.instance("snapshot", snapshot, AGUIThreadSnapshot, what="an AGUIThreadSnapshot")
        await self._threads.set(_key(scope, thread_id), asdict(snapshot))

    async def get(self, *, scope: str, thread_id: str) -> AGUIThreadSnapshot | None:
        """The last snapshot of a thread; None: there is none.

        Raises:
            CheckpointDecodeError, CheckpointTypeNotAllowedError: what is stored is damaged, or no snapshot.
            CheckpointStoreError: the engine failed.
        """
        found = await self._threads.get(_key(scope, thread_id))
        if found is None:
            return None
        for name, fits in _FITS.items():
            if not fits(found[0].get(name)):
                raise CheckpointDecodeError(
                    f"The snapshot of thread {described(thread_id)} of scope {described(scope)} cannot be read: its "
                    f"{name} is {described(found[0].get(name))}. Save another one, or delete it."
                )
        return AGUIThreadSnapshot(**{name: found[0][name] for name in _FITS if name in found[0]})

    async def delete(self, *, scope: str, thread_id: str) -> bool:
        """Let a thread have no snapshot; whether it had one."""
        return await self._threads.delete(_key(scope, thread_id))

    async def clear(self, *, scope: str | None = None) -> None:
        """Let no thread of a scope, or without one no thread at all, have a snapshot."""
        prefix = "[" if scope is None else _key(scope)[:-1] + ", "
        for key in await self._threads.keys(prefix):
            await self._threads.delete(key)


def _key(*parts: str) -> str:
    """One text for scope and thread id that no other two have."""
    for name, part in zip(("scope", "thread_id"), parts, strict=False):
        if not isinstance(part, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"{name} is text, not {described(part)}.")
        if not part:
            raise ValueError(f"{name} is empty.")
    return json.dumps(parts)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)  # pyright: ignore[reportUnknownVariableType]


def _is_dict_or_none(value: object) -> bool:
    return value is None or isinstance(value, dict)


_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "messages": _is_list,
    "state": _is_dict_or_none,
    "interrupt": lambda value: value is None or _is_list(value),
    "session_state": _is_dict_or_none,
}
"""What a field of a snapshot can be."""
