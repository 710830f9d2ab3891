"""The framework's `SessionStore` on an event store: sessions that many requests and processes share, of which none is
overwritten by who had not seen it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Self, TypeAlias, cast
from weakref import WeakKeyDictionary, ref

from agent_framework import AgentSession, SessionStore

from .. import settings
from ..closing import close_after
from ..errors import CheckpointDecodeError, SessionConflictError
from ..storage.memory import EMPTY, Head, Turns
from ..stores import AuditStore
from ..text import described, safe
from ..threads import off_the_loop
from .snapshots import SESSIONS, Seen, Snapshots

__all__ = ["EventSessionStore", "restored", "stored"]

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_FIELDS: Final = frozenset({"type", "session_id", "service_session_id", "state"})
"""Of `AgentSession.to_dict`: what is kept of a session, no more and no less."""


_Key: TypeAlias = tuple[ref["EventSessionStore"], str]
"""An id, in a store."""

_missing: Final[ContextVar[tuple[_Key, ...]]] = ContextVar("eventckpt_missing_sessions", default=())
"""What a task was told that there is none of, or has deleted: the last `_MOST_MISSING`. A set replaces, and changes
nothing in place: what a task knows goes on to those that it starts, and never back or aside."""
_MOST_MISSING: Final = 256
_SEEN_AT: Final = "_eventckpt_seen_at"


class _SeenAt:
    """Where a session object was when it was got or set, by store and id. It is an attribute of the object, so that
    copies have it. It is never changed, only replaced: so each copy goes on from there by itself."""

    def __init__(self, heads: Mapping[_Key, Head]) -> None:
        self.heads: Mapping[_Key, Head] = heads

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[type], tuple[None]]:
        """Nothing of it is pickled: this is the class of None, which every reader of checkpoints knows."""
        return type, (None,)


class _Writer:
    """Who sets a session object under an id."""

    def __init__(self, head: Head | None) -> None:
        self.seen: Seen | None = None if head is None else Seen(head)
        self.none: Seen = Seen(EMPTY)
        """What was sent where there was none."""
        self.turns: Turns = Turns()


class EventSessionStore(SessionStore):
    """Sessions of agents in an event store, for whatever takes the framework's `SessionStore`, which is experimental.

    Args:
        store: the engine; sessions lie beside its runs, in `store.sessions()`. It is not closed with this.
        actor: who writes, for the events.

    A session that `get` gave is written by `set` only if nobody has written to its id since, in this process or any
    other: two requests never overwrite each other's turns. That belongs to the object, and to each copy of it: `set`
    makes it know what it wrote, so that it may be set again. Where `get` found none, or the id was deleted, what the
    same task sets is written only if there still is none. Any other session is written over whatever is there, as
    with the framework's own stores.

    What a state may hold is what `FileSessionStore` takes: what JSON can say, and types for which `register_state_type`
    was called. As there, other objects with a `to_dict` come back as dicts, tuples as lists.
    """

    def __init__(self, store: AuditStore, *, actor: str | None = None) -> None:
        super().__init__()
        settings.instance("store", store, AuditStore, what="an AuditStore")
        self._store = store
        self._snapshots = Snapshots(store.sessions(), SESSIONS, actor=actor)
        self._writers: WeakKeyDictionary[AgentSession, dict[str, _Writer]] = WeakKeyDictionary()

    def _key(self, session_id: str) -> _Key:
        return ref[EventSessionStore](self), session_id

    @property
    def store(self) -> AuditStore:
        """The engine: what audits and projectors go by, those of sessions by its `sessions()`."""
        return self._store

    async def get(self, session_id: str) -> AgentSession | None:
        """The session last set under this id, as an object of its own; None: there is none.

        Args:
            session_id: any text but the empty one.

        Raises:
            ValueError: `session_id` is no text, or empty.
            CheckpointDecodeError: what is stored is damaged, or cannot be made a session again. It stays there.
        """
        self.validate_session_id(session_id)
        found = await self._snapshots.get(session_id)
        _keep_missing(self._key(session_id), found is None)
        if found is None:
            return None
        value, seen = found
        session = await off_the_loop(seen.raw_size, restored, session_id, value, seen)
        _set_seen_at(session, self._key(session_id), seen.head)
        return session

    async def set(self, session_id: str, session: AgentSession) -> None:
        """Keep a session as it is now. When this returns, it is durable.

        Args:
            session_id: any text but the empty one. Need not be `session.session_id`.
            session: an `AgentSession`, of no subclass.

        Raises:
            ValueError: `session_id` is no text, or empty; a float in the state is not finite.
            TypeError: it is no session, or one of a subclass, or its state holds something of a type that is not
                registered.
            SessionConflictError: somebody has written to this id since `get` gave the session, or found none. Nothing
                was written: get it again.
        """
        self.validate_session_id(session_id)
        value = stored(session)
        key = self._key(session_id)
        writer = self._writers.setdefault(session, {}).setdefault(session_id, _Writer(_seen_at(session).get(key)))
        async with writer.turns.lock:
            writer.seen = await self._write(session_id, value, writer, is_missing=key in _missing.get())
            _set_seen_at(session, key, writer.seen.head)
        _keep_missing(key, False)

    async def _write(self, session_id: str, value: dict[str, Any], writer: _Writer, *, is_missing: bool) -> Seen:
        """Write behind what the writer has seen or, where the task knows that this is gone, as the first."""
        if writer.seen is not None or not is_missing:
            try:
                return await self._snapshots.set(session_id, value, writer.seen)
            except SessionConflictError:
                if not is_missing:
                    raise
        return await self._snapshots.create(session_id, value, writer.none)

    async def delete(self, session_id: str) -> None:
        """Let there be no session under this id. Whoever has got it before cannot set it any more, but in the task that
        calls this.

        Args:
            session_id: any text but the empty one.

        Raises:
            ValueError: `session_id` is no text, or empty.
        """
        self.validate_session_id(session_id)
        await self._snapshots.delete(session_id)
        _keep_missing(self._key(session_id), True)

    async def close(self) -> None:
        """Let go of what this store opened; what was passed in stays open. May be called more than once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await close_after(error, self.close)


def _seen_at(session: AgentSession) -> Mapping[_Key, Head]:
    there = vars(session).get(_SEEN_AT)
    return there.heads if isinstance(there, _SeenAt) else {}


def _set_seen_at(session: AgentSession, key: _Key, head: Head) -> None:
    others = {other: at for other, at in _seen_at(session).items() if other[0]() is not None}
    vars(session)[_SEEN_AT] = _SeenAt({**others, key: head})


def _keep_missing(key: _Key, is_missing: bool) -> None:
    """Let this task know of an id that there is none, or forget it."""
    known = _missing.get()
    if is_missing or key in known:
        others = tuple(other for other in known if other != key)
        _missing.set((*others, key)[-_MOST_MISSING:] if is_missing else others)


def stored(session: AgentSession) -> dict[str, Any]:
    """What is kept of a session, which it goes on without.

    Raises:
        TypeError: it is none, or of a subclass, or its state holds something of a type that is not registered.
        ValueError: a float in its state is not finite.
    """
    settings.instance("session", session, AgentSession, what="an AgentSession")
    if type(session) is not AgentSession:
        raise TypeError(
            f"A session store takes AgentSession instances only, not {described(type(session).__name__)}: what a "
            "subclass has beyond one would be lost."
        )
    fields = session.to_dict()
    if isinstance(service := session.service_session_id, Mapping):
        fields["service_session_id"] = dict(service)
    for name in ("service_session_id", "state"):
        _check_durable(fields[name], name)
    return fields


def _check_durable(value: object, path: str) -> None:
    """Refuse what would not come back as it is."""
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise TypeError(f"A key of the session's {safe(path)} is {described(key)}: use texts.")
            _check_durable(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            _check_durable(item, f"{path}[{index}]")
    elif type(value) not in _SCALARS:
        raise TypeError(
            f"The session's {safe(path)} is of type {described(type(value).__name__)}, which would not come back: call "
            "register_state_type() for it."
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"The session's {safe(path)} is {value}, and must be a finite float.")


def restored(session_id: str, value: dict[str, Any], seen: Seen) -> AgentSession:
    """The session of which `value` was kept under an id.

    Raises:
        CheckpointDecodeError: what is stored cannot be made a session again.
    """
    where = f"Session {described(session_id)} at seq {seen.head.seq}"
    if not _is_session(value):
        raise CheckpointDecodeError(f"{where} cannot be read: what is stored is no session.")
    try:
        return AgentSession.from_dict(value)
    except (TypeError, ValueError) as error:
        raise CheckpointDecodeError(f"{where}: failed to restore session state: {safe(error)}") from error


def _is_session(value: dict[str, Any]) -> bool:
    service_session_id = value.get("service_session_id")
    return (
        value.keys() == _FIELDS
        and value["type"] == "session"
        and type(value["session_id"]) is str
        and value["session_id"] != ""
        and (service_session_id is None or type(service_session_id) in (str, dict))
        and type(value["state"]) is dict
    )
