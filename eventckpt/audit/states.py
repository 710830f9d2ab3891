"""From events back to states: at one point of a run, or all of them in order with the bases of one in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Final, Literal, NamedTuple, TypeVar

from agent_framework import Message, WorkflowCheckpoint

from ..allowlist import is_admitted_by_name
from ..codec import CheckpointCodec, OnDrift, Upcaster
from ..codec.tree import Tree, same
from ..codec.tree_reader import read_forms, read_tree, read_trees, types_in
from ..delta import Base
from ..errors import CheckpointDecodeError, CheckpointNotFoundError, CheckpointTypeNotAllowedError
from ..events import CheckpointEvent, EventType, StreamId
from ..history.turns import messages_in
from ..storage.payloads import BaseCache, Payloads
from ..stores import AuditStore
from ..stores.walks import removals_of
from ..text import safe
from ..threads import Pace, off_the_loop
from .paths import value_at

__all__ = ["ANY_TYPE", "Change", "States"]

_T = TypeVar("_T")

ANY_TYPE: Final = "*"
"""In the types to show: take every type apart. It is data either way, and no type is imported for it."""


class Change(NamedTuple):
    """A value that is another one from an event on. Where it does not exist, `exists` is False and it is None."""

    event: CheckpointEvent
    """The header of the event."""
    existed: bool
    before: Tree
    exists: bool
    after: Tree


class States:
    """Reads the states in a store.

    Args:
        store: the engine.
        allowed_types: application types that may be decoded, and shown with what is in them.
        on_drift, upcasters: see `CheckpointAudit`.
    """

    def __init__(
        self,
        store: AuditStore,
        allowed_types: Iterable[str],
        *,
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
    ) -> None:
        allowed = set(allowed_types)
        self._store = store
        self._shows_all = ANY_TYPE in allowed
        self._allowed = frozenset(allowed - {ANY_TYPE})
        self.upcasters: tuple[Upcaster, ...] = tuple(upcasters)
        self.decoder: CheckpointCodec = self.decoder_with(on_drift)
        in_place = {each.key for each in self.upcasters if each.target == each.key}
        self._upcasting = CheckpointCodec(self._allowed | in_place, upcasters=self.upcasters)
        """Makes of stored forms what they are to be; an upcaster in place is asked where its class has changed."""
        self._payloads = Payloads(store, BaseCache(0))
        self._held: tuple[StreamId, tuple[Base, ...]] | None = None
        """The bases used last: the next event is likely to rest on them too."""
        self._pace = Pace()

    def decoder_with(self, on_drift: OnDrift) -> CheckpointCodec:
        """One for these types and upcasters."""
        return CheckpointCodec(
            self._allowed, storage_name="CheckpointAudit", on_drift=on_drift, upcasters=self.upcasters
        )

    def admits(self, key: str) -> bool:
        """Whether a type is shown with what is in it. Nothing is imported to find out."""
        return self._shows_all or key in self._allowed or is_admitted_by_name(key)

    async def raw(self, event: CheckpointEvent) -> bytes:
        """The raw bytes in a whole event.

        Raises:
            CheckpointDecodeError: they cannot be rebuilt; says which event it is.
            CheckpointNotFoundError: they cannot, since what they need was removed by a prune, or it is a tombstone.
        """
        if event.type == "tombstone":
            raise CheckpointNotFoundError(f"{event.without_state()}.")
        held = self._held[1] if self._held and self._held[0] == event.stream else ()
        try:
            raw, bases = await self._payloads.read(event, held)
        except CheckpointDecodeError as error:
            if (await removals_of(self._store, event.stream)).covers(event.seq):
                raise CheckpointNotFoundError(f"{event.named()} was removed, which is on record.") from error
            raise CheckpointDecodeError(f"{event.named()} cannot be read: {safe(error)}") from error
        self._held = event.stream, bases
        await self._pace.step(len(raw))
        return raw

    async def tree(self, event: CheckpointEvent, *, upcast: bool = False) -> dict[str, Tree]:
        """The state in a whole event, as a tree (`eventckpt.codec.tree`); with `upcast`, as the upcasters make it."""
        raw = await self.raw(event)
        return await off_the_loop(len(raw), self._upcast_tree if upcast else self._tree, event, raw)

    async def readable(self, event: CheckpointEvent) -> dict[str, Tree]:
        """`tree`, where the messages of a turn can be made, too. Types that are not allowed are no fault of it."""
        tree = await self.tree(event)
        if event.type == "turn":
            with suppress(CheckpointTypeNotAllowedError):
                await self.messages(event)
        return tree

    async def messages(self, event: CheckpointEvent) -> list[Message]:
        """The messages in a whole turn, decoded under the allow-list."""
        _check_type(event, "turn")
        messages: list[Message] = []
        for each in await messages_in(self.decoder, event):
            if not isinstance(each, Message):
                raise each
            messages.append(each)
        return messages

    async def types(self, event: CheckpointEvent) -> set[str]:
        """The names of the types that the state in a whole event holds."""
        raw = await self.raw(event)
        return await off_the_loop(len(raw), types_in, raw)

    async def trees_to_compare(
        self, one: CheckpointEvent, other: CheckpointEvent, *, upcast: bool | Literal["after"] = False
    ) -> tuple[dict[str, Tree], dict[str, Tree]]:
        """The states in two whole events as trees, with what both have in common left out of both. With `upcast`, both
        or the other one as the upcasters make it, and whole."""
        if upcast:
            return await self.tree(one, upcast=upcast is True), await self.tree(other, upcast=True)
        raws = await self.raw(one), await self.raw(other)
        try:
            return await self.trees_of(*raws)
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"{one.named()} and {other.named()} cannot be read: {safe(error)}") from error

    async def trees_of(self, one: bytes, other: bytes) -> tuple[dict[str, Tree], dict[str, Tree]]:
        """The same of two checkpoints' raw bytes."""
        return await off_the_loop(len(one) + len(other), read_trees, one, other, self.admits)

    async def checkpoint(self, event: CheckpointEvent) -> WorkflowCheckpoint:
        """The checkpoint in a whole event, decoded under the allow-list."""
        raw = await self.raw(event)
        return await off_the_loop(len(raw), self._decoded, event, raw)

    def checkpoints(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None
    ) -> AsyncGenerator[tuple[CheckpointEvent, WorkflowCheckpoint], None]:
        """Each checkpoint event of a run that counts, as it was committed: its header, and the checkpoint decoded."""
        return self._each(stream, gt, lte, self._decoded)

    def trees(
        self, stream: StreamId, *, gt: int = 0, lte: int | None = None, upcast: bool = False
    ) -> AsyncGenerator[tuple[CheckpointEvent, dict[str, Tree]], None]:
        """Likewise, without decoding: as trees."""
        return self._each(stream, gt, lte, self._upcast_tree if upcast else self._tree)

    async def changes(self, stream: StreamId, path: str, *, upcast: bool = False) -> AsyncGenerator[Change, None]:
        """Where the value at a path, such as `state.total`, appears, becomes another one, or disappears; a path may
        be written in other ways, too (`eventckpt.audit.paths`)."""
        existed, before = False, None
        async with aclosing(self.trees(stream, upcast=upcast)) as trees:
            async for header, tree in trees:
                found = value_at(tree, path)
                exists, after = bool(found), found[0] if found else None
                if exists != existed or not same(after, before):
                    yield Change(header, existed, before, exists, after)
                existed, before = exists, after

    async def _each(
        self, stream: StreamId, gt: int, lte: int | None, read: Callable[[CheckpointEvent, bytes], _T]
    ) -> AsyncGenerator[tuple[CheckpointEvent, _T], None]:
        removals = await removals_of(self._store, stream)
        async with aclosing(self._store.events(stream, gt=gt, lte=lte)) as events:
            async for event in events:
                if event.type == "tombstone" or removals.covers(event.seq):
                    continue
                try:
                    raw = await self.raw(event)
                except CheckpointNotFoundError:
                    continue  # removed since it was read
                yield event.header(), await off_the_loop(len(raw), read, event, raw)

    def _upcast_tree(self, event: CheckpointEvent, raw: bytes) -> dict[str, Tree]:
        try:
            return read_forms(self._upcasting.upcast_forms(raw), self.admits)
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"{event.named()} cannot be read: {safe(error)}") from error

    def _tree(self, event: CheckpointEvent, raw: bytes) -> dict[str, Tree]:
        try:
            return read_tree(raw, self.admits)
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"{event.named()} cannot be read: {safe(error)}") from error

    def _decoded(self, event: CheckpointEvent, raw: bytes) -> WorkflowCheckpoint:
        _check_type(event, "checkpoint")
        try:
            return self.decoder.decode(raw)
        except CheckpointTypeNotAllowedError as error:
            raise error.about(f"{event.named()}: ") from error
        except CheckpointDecodeError as error:
            raise CheckpointDecodeError(f"{event.named()} cannot be decoded: {safe(error)}") from error


def _check_type(event: CheckpointEvent, wanted: EventType) -> None:
    if event.type != wanted:
        raise CheckpointDecodeError(f"{event.named()} is no {wanted}: its type is {event.type}.")
