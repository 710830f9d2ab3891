"""What a host keeps by a name, such as a session or a thread: each name is a stream, and its last event counts.

All events of a key have one checkpoint id, so that each supersedes the one before, and `prune` lets go of what is no
longer asked for. A write goes right behind the event that its writer has seen: who was overtaken hears of it, and
overwrites nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

from .. import settings
from ..codec import CheckpointCodec
from ..errors import (
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
    SessionConflictError,
    StreamConflict,
)
from ..events import MAX_RUN_ID, SCHEMA_OF_SESSIONS, CheckpointEvent, StreamId
from ..removals import Removals
from ..storage import EventCheckpointStorage
from ..storage.compose import event_at, now, tombstone_after
from ..storage.conflict import holds
from ..storage.memory import EMPTY, Head
from ..storage.payloads import BaseCache, Payloads
from ..stores import AuditStore, head_of
from ..text import described, is_unicode, safe
from ..threads import off_the_loop

__all__ = ["AGUI_THREADS", "APPROVALS", "FOUNDRY_SESSIONS", "SESSIONS", "Seen", "Snapshots", "is_reserved"]

_RESERVED: Final = "eventckpt:"
SESSIONS: Final = f"{_RESERVED}sessions"
"""The source of sessions as `EventSessionStore` keeps them."""
FOUNDRY_SESSIONS: Final = f"{_RESERVED}foundry-sessions"
"""The source of sessions as Foundry's hosts keep them."""
AGUI_THREADS: Final = f"{_RESERVED}ag-ui-threads"
"""The source of the threads of AG-UI."""
APPROVALS: Final = f"{_RESERVED}approvals"
"""The source of requests that wait for an approval."""

_HASHED: Final = "sha256:"
"""What the run id of a key begins with that is none itself."""

_Made: TypeAlias = Callable[[Head], CheckpointEvent]
"""The event that is to be written, right behind a head."""


def is_reserved(source_id: str) -> bool:
    """Whether the sources of this package's own begin like this: no history provider can be called so."""
    return source_id.startswith(_RESERVED)


class Seen:
    """Where a key stood when it was read or written: what a later write has to follow."""

    __slots__ = ("head", "raw_size", "sent")

    def __init__(self, head: Head, raw_size: int = 0) -> None:
        self.head: Head = head
        """The last event of the key's stream."""
        self.raw_size: int = raw_size
        """Of a value that was read: its bytes."""
        self.sent: set[str] = set()
        """The digests of what was sent to follow it. Where no answer came, it may be there all the same: then it is no
        other writer's."""


class _Place(NamedTuple):
    """A key, and the stream of its events."""

    key: str
    stream: StreamId

    def named(self) -> str:
        """As the message of an error names it."""
        return f"{described(self.key)} of {described(self.stream.workflow_name)}"


class _Standing(NamedTuple):
    """The last event of a key, whole; None: there is none. And the last event of its stream, which may be the record
    of a removal."""

    event: CheckpointEvent | None
    head: Head


class Snapshots:
    """Values by their keys, in a store of sessions.

    Args:
        store: what `AuditStore.sessions` gives. Whoever opened it closes it.
        source: whose values these are; keys of different sources have nothing to do with each other.
        actor: who writes, for the events.

    A key is any text. A value is what JSON can say, as a dict; its keys are texts.
    """

    def __init__(self, store: AuditStore, source: str, *, actor: str | None = None) -> None:
        settings.instance("store", store, AuditStore, what="an AuditStore")
        if actor is not None:
            settings.text("actor", actor)
        self._store = store
        self._source = settings.text("source", source)
        self._actor = actor
        self._codec = CheckpointCodec(storage_name="Snapshots")
        self._payloads = Payloads(store, BaseCache(0))

    async def get(self, key: str) -> tuple[dict[str, Any], Seen] | None:
        """The value of a key, and where it stands; None: there is none. One request, where one tells.

        Raises:
            CheckpointDecodeError, CheckpointTypeNotAllowedError: what is stored is damaged, or no such value.
        """
        event, head = await self._standing(self._place(key).stream)
        if not _is_value(event):
            return None
        stored = await self._decoded(event)
        if stored["key"] != key:
            raise CheckpointDecodeError(f"{_named(event)} cannot be read: it is of the key {described(stored['key'])}.")
        return stored["value"], Seen(head, event.payload.raw_size if event.payload else 0)

    async def set(self, key: str, value: Mapping[str, Any], seen: Seen | None = None) -> Seen:
        """Write the value of a key; where it stands then.

        Args:
            key: of what.
            value: is encoded before the first await, and may be changed afterwards.
            seen: where the writer believes the key to stand. It is written only if it does, or if what came since was
                sent by an earlier try with the same `seen`. None: it is written behind whatever is there.

        Raises:
            SessionConflictError: somebody else has written since.
            CheckpointEncodeError, CheckpointTypeNotAllowedError: the value cannot be stored.
        """
        place = self._place(key)
        return await self._write(place, await self._made(place, value), seen)

    async def create(self, key: str, value: Mapping[str, Any], seen: Seen | None = None) -> Seen:
        """Write the value of a key that has none; where it stands then.

        Args:
            key: of what.
            value: as for `set`.
            seen: of earlier tries: what was sent by one with the same `seen` is no other writer's.

        Raises:
            SessionConflictError: it has one.
            CheckpointEncodeError, CheckpointTypeNotAllowedError: the value cannot be stored.
        """
        place = self._place(key)
        made, head = await self._made(place, value), EMPTY
        sent = set[str]() if seen is None else seen.sent
        while True:
            event = made(head)
            sent.add(event.digest)
            try:
                await self._store.append(event)
            except StreamConflict as conflict:
                there, head = await self._standing(place.stream)
                is_ours = there is not None and there.digest in sent
                if (_is_value(there) and not is_ours) or head.seq < event.seq:
                    raise _conflict_error(place, conflict) from conflict
                if there is not None and is_ours and _holds_the_same(there, event):
                    return Seen(head)
            else:
                return Seen(Head.of(event))

    async def delete(self, key: str, seen: Seen | None = None) -> bool:
        """Let a key have no value; whether it had one. Its older values stay in the log until they are pruned.

        Args:
            key: of what.
            seen: as for `set`.

        Raises:
            SessionConflictError: somebody else has written since.
        """
        place = self._place(key)
        event, _ = await self._standing(place.stream)
        if not _is_value(event):
            return False
        await self._write(place, partial(tombstone_after, event, actor=self._actor), seen)
        return True

    async def keys(self, prefix: str = "") -> list[str]:
        """The keys that have values and begin so, in the order in which they were last written to. Values are read only
        of keys that are too long, or otherwise unfit, to be a run id: each is one request.

        Args:
            prefix: what they begin with.
        """
        ids = await EventCheckpointStorage(self._store).list_checkpoint_ids(workflow_name=self._source)
        found: list[str] = []
        for run_id in ids:
            key = await self._key_of(run_id) if run_id.startswith(_HASHED) else run_id
            if key is not None and key.startswith(prefix):
                found.append(key)
        return found

    def _place(self, key: str) -> _Place:
        settings.instance("key", key, str, what="text")
        can_be_id = 1 <= len(key) <= MAX_RUN_ID and is_unicode(key) and not key.startswith(_HASHED)
        run_id = key if can_be_id else _HASHED + sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return _Place(key, StreamId(self._source, run_id))

    async def _key_of(self, run_id: str) -> str | None:
        event, _ = await self._standing(StreamId(self._source, run_id))
        return (await self._decoded(event))["key"] if _is_value(event) else None

    async def _standing(self, stream: StreamId) -> _Standing:
        """Where a key stands. What was written last is mostly its value: then that is all that is read."""
        last = await self._store.last(stream.workflow_name, stream.run_id)
        if last is not None and last.checkpoint_id == stream.run_id:
            return _Standing(last, Head.of(last))
        head, removals = EMPTY, Removals()
        async with aclosing(self._store.newest(stream)) as events:
            async for event in events:
                head = head if head.seq else Head.of(event)
                removals.add(event)
                if event.checkpoint_id == stream.run_id and not removals.covers(event.seq):
                    return _Standing(event, head)
        return _Standing(None, head)

    async def _decoded(self, event: CheckpointEvent) -> dict[str, Any]:
        """What `_made` has stored, or an error that names the event."""
        where = f"{_named(event)} cannot be read: "
        try:
            raw, _ = await self._payloads.read(event)
            stored = await off_the_loop(len(raw), self._codec.decode_values, raw)
        except CheckpointTypeNotAllowedError as error:
            raise error.about(where) from error
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"{where}{safe(error)}") from error
        if event.type != "session" or {name: type(value) for name, value in stored.items()} != _STORED:
            raise CheckpointDecodeError(f"{where}it holds something else.")
        return stored

    async def _made(self, place: _Place, value: Mapping[str, Any]) -> _Made:
        settings.instance("value", value, Mapping, what="a dict")
        stream, moment = place.stream, now()
        draft = CheckpointEvent(
            type="session",
            workflow_name=stream.workflow_name,
            run_id=stream.run_id,
            seq=0,
            checkpoint_id=stream.run_id,
            timestamp=moment,
            recorded_at=moment,
            actor=self._actor,
            schema=SCHEMA_OF_SESSIONS,
        )
        raw = self._codec.encode_values({"key": place.key, "value": dict(value)})
        await self._check_loadable(raw, place)
        packed = await self._payloads.encode(raw, stream)
        return lambda head: event_at(draft, stream, head, packed, None)

    async def _check_loadable(self, raw: bytes, place: _Place) -> None:
        """What could not be loaded must not be acknowledged."""
        try:
            await off_the_loop(len(raw), self._codec.decode_values, raw)
        except CheckpointTypeNotAllowedError:
            raise
        except CheckpointDecodeError as error:
            raise CheckpointEncodeError(
                f"The value of {place.named()} could be stored, but not loaded again: {safe(error)}"
            ) from error

    async def _write(self, place: _Place, made: _Made, seen: Seen | None) -> Seen:
        return await (self._behind_all(place, made) if seen is None else self._behind(place, seen, made))

    async def _behind_all(self, place: _Place, made: _Made) -> Seen:
        """Append behind whatever is there."""
        found = await head_of(self._store, place.stream)
        head = Head.of(found) if found else EMPTY
        while True:
            event = made(head)
            try:
                await self._store.append(event)
            except StreamConflict as conflict:
                if conflict.head is None or conflict.head.seq < event.seq:  # the same again: no writer was faster
                    raise _conflict_error(place, conflict) from conflict
                head = Head.of(conflict.head)
            else:
                return Seen(Head.of(event))

    async def _behind(self, place: _Place, seen: Seen, made: _Made) -> Seen:
        """Append behind what was seen, and what was sent to follow it."""
        head = seen.head
        while True:
            event = made(head)
            seen.sent.add(event.digest)
            try:
                await self._store.append(event)
            except StreamConflict as conflict:
                ours, head = await self._since(place.stream, seen)
                if head.seq < event.seq:
                    there, _ = await self._standing(place.stream)
                    raise _conflict_error(place, conflict, was_deleted=not _is_value(there)) from conflict
                if ours is not None and _holds_the_same(ours, event):
                    return Seen(head)
            else:
                return Seen(Head.of(event))

    async def _since(self, stream: StreamId, seen: Seen) -> tuple[CheckpointEvent | None, Head]:
        """The last event that was sent to follow what was seen, and the last one to go on behind: that, or a record of
        removals behind it; seq 0 where others have written. Of what was removed since, nobody knows whose it was."""
        async with aclosing(self._store.headers(stream, gt=seen.head.seq)) as headers:
            since = [header async for header in headers]
        ours = next((header for header in reversed(since) if header.digest in seen.sent), None)
        last = seen.head.seq if ours is None else ours.seq
        behind = [header for header in since if header.seq > last]
        is_ours = all(header.pruned for header in behind) and since and since[-1].seq == last + len(behind)
        return ours, Head.of(since[-1]) if is_ours else EMPTY


_STORED: Final = {"key": str, "value": dict}
"""What the payload of an event holds."""


def _is_value(event: CheckpointEvent | None) -> TypeGuard[CheckpointEvent]:
    """Whether it says that its key has a value."""
    return event is not None and event.type != "tombstone"


def _holds_the_same(one: CheckpointEvent, other: CheckpointEvent) -> bool:
    if one.payload is None or other.payload is None:
        return one.payload is other.payload and one.checkpoint_id == other.checkpoint_id
    return holds(one, other.payload)


def _named(event: CheckpointEvent) -> str:
    """As the message of an error names it: by its key or, where that is none, by what stands for it."""
    return f"The value of {_Place(event.run_id, event.stream).named()} at seq {event.seq}"


def _conflict_error(place: _Place, conflict: StreamConflict, *, was_deleted: bool = False) -> SessionConflictError:
    head = conflict.head
    at = f"its last event is seq {head.seq}" if head else "its last event is unknown"
    return SessionConflictError(
        f"{place.named()} was {'deleted since it was read' if was_deleted else 'written to by another writer'}: seq "
        f"{conflict.seq} is taken, {at}. Nothing was written. Read it again, then write.",
        stream=conflict.stream,
        expected_seq=conflict.seq,
        head=head,
    )
