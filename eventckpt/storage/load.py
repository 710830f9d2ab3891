"""The read path: which event a question is about, and the checkpoint in it.

A checkpoint is live while the newest event of its id, in its stream, is not a tombstone. Everything up to the
payload is decided on headers alone, by `runs`. What a prune removes between one request and the next is neither damage
nor a reason to miss what stayed: see `stores.walks`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from operator import attrgetter
from typing import Final, NamedTuple

from agent_framework import WorkflowCheckpoint

from ..codec import CheckpointCodec, Drift
from ..delta import Base
from ..errors import (
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointTypeNotAllowedError,
    StoreUnavailableError,
)
from ..event_keys import EventKey
from ..events import CheckpointEvent, RunInfo, StreamId
from ..log import logger_of
from ..runs import AllLive, LiveBackwards, counted, live
from ..stores import EventStore, FoundEvent, RunStore, head_of
from ..stores.walks import WALKS, Backwards, headers_of, is_in_closed_run, is_torn, removals_of
from ..text import is_name, safe
from ..threads import off_the_loop
from . import telemetry
from .memory import EMPTY, Bound, Head, Memory, Tip
from .payloads import Payloads
from .placement import is_named_after

__all__ = ["Loaded", "Reader"]

logger: Final = logger_of("eventckpt")

_PAUSES: Final = (0.0, 0.05, 0.2, 0.5, 1.0)
"""Seconds between two looks for an event that is listed and is not there."""
_PLACE: Final = attrgetter("place")
_SEQ: Final = attrgetter("seq")
_AT_ONCE: Final = 16  # whole events that a listing holds in memory
_FORKS: Final = 100  # of forks, each of the one before it: further a confined handle follows none
_HINTS: Final = 4  # documents that are followed to no live checkpoint before the log is asked for all runs


class Loaded(NamedTuple):
    """A checkpoint, and the event that it was read from."""

    checkpoint: WorkflowCheckpoint
    event: CheckpointEvent

    @property
    def raw_sha256(self) -> str:
        """What the raw bytes of its payload hash to."""
        return self.event.payload.raw_sha256 if self.event.payload is not None else ""


class _RemovedError(CheckpointDecodeError):
    """An event that was read cannot be rebuilt, since what it needs was removed: it is itself on record as removed."""


class Reader:
    """Answers `load`, `get_latest` and the listings from an event store."""

    def __init__(
        self,
        store: EventStore,
        codec: CheckpointCodec,
        memory: Memory,
        payloads: Payloads,
        runs: RunStore | None = None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._payloads = payloads
        self._codec = codec
        self._memory = memory

    async def load(self, checkpoint_id: str, bound: Bound | None, workflow_name: str | None) -> Loaded:
        """The newest content of a live checkpoint. To load it is to go on from there: see `memory`.

        Args:
            checkpoint_id: looked for in the bound run first.
            bound: what the handle knows, if there is one.
            workflow_name: that of the handle's run, as far as it is known.
        """
        for _ in range(WALKS):
            with suppress(_RemovedError):  # saved again meanwhile, or gone
                return await self._loaded(checkpoint_id, bound, workflow_name)
        raise _not_found(checkpoint_id)

    async def _loaded(self, checkpoint_id: str, bound: Bound | None, workflow_name: str | None) -> Loaded:
        versions = bound.versions() if bound is not None else {}
        located = await self.locate(checkpoint_id, bound, workflow_name)
        if located is None:
            raise _not_found(checkpoint_id)
        event = located.event
        tip = Tip.of(event, Head.of(located.head))
        if bound is None:
            checkpoint, _ = await self._decoded(event)
            self._memory.loaded(event, tip.head)
        else:
            execution = bound.execution(event.workflow_name)
            read = [execution, *bound.others(event.workflow_name, workflow_name)]
            heads = [await self._head_of(each.streams[0], located) for each in read]
            checkpoint, _ = await self._decoded(event)
            for each, head in zip(read, heads, strict=True):
                each.saw(head, since=versions.get(each.streams[0].workflow_name, 0))
            bound.loaded(tip)
            bound.was_read(execution)
        self._memory.note(tip)
        self._memory.has_answer(event)
        return Loaded(checkpoint, event)

    async def _head_of(self, stream: StreamId, located: FoundEvent) -> Head:
        """Where a run stands, which may be the one that was just looked into."""
        head = located.head if located.event.stream == stream else await head_of(self._store, stream)
        return Head.of(head) if head is not None else EMPTY

    async def locate(self, checkpoint_id: str, bound: Bound | None, workflow_name: str | None) -> FoundEvent | None:
        """Where a live checkpoint lies: in the bound run, or else, over all runs, where it was written last; None if
        there is none. A confined handle looks past its run only into what a conflict made of it."""
        if not is_name(checkpoint_id):
            return None
        own: StreamId | None = None
        located: FoundEvent | None = None
        if bound is not None and workflow_name is not None:
            own = StreamId(workflow_name, bound.run_id)
            located = await self._found(checkpoint_id, own)
        if located is None:
            located = await self._found(checkpoint_id)
        if located is not None and bound is not None and own is None:  # only now is the workflow known
            own = StreamId(located.event.workflow_name, bound.run_id)
            if located.event.stream != own:
                located = await self._found(checkpoint_id, own) or located
        if located is None or located.event.type != "checkpoint":
            return None
        if bound is not None and bound.confined and not await self._came_of(located.event.stream, bound.run_id):
            return None
        return located

    async def _found(self, checkpoint_id: str, stream: StreamId | None = None) -> FoundEvent | None:
        """The newest event of a checkpoint id, unless its run was removed as a whole."""
        located = await self._store.find(checkpoint_id, stream=stream)
        return None if located is not None and is_in_closed_run(located) else located

    async def _came_of(self, stream: StreamId, run_id: str) -> bool:
        """Whether a run is another one, or what conflicts have made of that: forks, each under the name of the run
        before it and with a first event that says so. A name alone proves nothing."""
        for _ in range(_FORKS):
            if stream.run_id == run_id:
                return True
            async with aclosing(self._store.headers(stream, lte=1)) as headers:
                first = await anext(headers, None)
            parent = first.forked_from if first is not None else None
            if parent is None or parent.workflow_name != stream.workflow_name:
                return False
            if not is_named_after(stream.run_id, parent.run_id):
                return False
            stream = StreamId(stream.workflow_name, parent.run_id)
        return False

    async def latest(self, workflow_name: str, bound: Bound | None) -> Loaded | None:
        """The live checkpoint committed last. An undecodable one raises: it never gives way to an older one.

        Over all runs, the projection says which, if this reader was given one; of a single run, the log itself is as
        cheap to ask, and never late.
        """
        if not is_name(workflow_name):
            return None
        if bound is None and self._runs is not None:
            return await self._projected(self._runs, workflow_name)
        return await self._logged(workflow_name, bound, bound.run_id if bound else None)

    async def _logged(self, workflow_name: str, bound: Bound | None, run_id: str | None) -> Loaded | None:
        execution = bound.execution(workflow_name) if bound else None
        since = execution.version if execution else 0
        pauses = iter(_PAUSES)
        while True:
            header, head, event = await self._newest(workflow_name, run_id)
            loaded: Loaded | None = None
            if event is not None:
                try:
                    checkpoint, _ = await self._decoded(event)
                except _RemovedError:
                    event = None
                else:
                    loaded = Loaded(checkpoint, event)
                    self._memory.note(Tip.of(event, head))
                    self._memory.has_answer(event)
                    if execution is None:
                        self._memory.looked_at(event, head)
            if header is None or event is not None:
                if bound is not None and execution is not None:
                    execution.saw(head, since=since)
                    bound.was_read(execution)
                return loaded
            # Removed since it was listed, or a replica that lags was asked: the listing tells, and an older one is not
            # given for it.
            pause = next(pauses, None)
            if pause is None:
                raise StoreUnavailableError(
                    f"{header.named()} is listed, and cannot be read: replicas that lag have not heard of it. "
                    "Trying again is safe."
                )
            await asyncio.sleep(pause)

    async def _newest(
        self, workflow_name: str, run_id: str | None
    ) -> tuple[CheckpointEvent | None, Head, CheckpointEvent | None]:
        """What `newest_live` gives, and the event, whole; None where it cannot be read. What was written last is
        mostly a checkpoint, of which nothing says otherwise: then that is all that is read."""
        last = await self._store.last(workflow_name, run_id)
        if last is not None and last.type == "checkpoint":
            return last, Head.of(last), last
        header, head = await self.newest_live(workflow_name, run_id)
        event = next(iter(await self._store.read(header.stream, header.seq)), None) if header else None
        return header, head, event

    async def newest_live(self, workflow_name: str, run_id: str | None) -> tuple[CheckpointEvent | None, Head]:
        """The header of the live checkpoint committed last, and the head of its run; without any, that of the last
        run that was looked through."""
        found: CheckpointEvent | None = None
        head, emptied = EMPTY, False
        for _ in range(WALKS):
            walk, alive, heads = Backwards(), LiveBackwards(), dict[StreamId, Head]()
            first: CheckpointEvent | None = None
            found, head = None, EMPTY
            async with aclosing(self._backwards(workflow_name, run_id, emptied=emptied)) as headers:
                async for header in headers:
                    first = first or header
                    head = heads.setdefault(header.stream, Head.of(header))
                    if walk.takes(header) and alive.is_live(header):
                        found = header
                        break
            is_whole = not walk.is_torn(ended=found is None)
            if is_whole and (run_id is not None or first is found or not await self._pruned_since(first, emptied)):
                break
            emptied |= not is_whole  # a run that was begun again has its beginning explained by the record before it
        return found, head

    async def _pruned_since(self, first: CheckpointEvent | None, emptied: bool) -> bool:
        """Whether a removal was recorded in any run of a workflow since an event was the first of a walk: a run that
        the walk had yet to come to may then lie where it had been already."""
        if first is None:
            return False
        async with aclosing(self._backwards(first.workflow_name, None, emptied=emptied)) as headers:
            async for header in headers:
                if (header.stream, header.seq) == (first.stream, first.seq):
                    return False
                if header.pruned:
                    return True
        return True

    async def _projected(self, runs: RunStore, workflow_name: str) -> Loaded | None:
        """What the newest document points at. A document is a hint: where the log says otherwise, its run is asked, and
        the next document where that has no live checkpoint; after a few of them, or without any, the log."""
        left_out: list[StreamId] = []
        while len(left_out) < _HINTS and (info := await runs.newest(workflow_name, without=left_out)) is not None:
            located = await self._store.find(info.checkpoint_id or "", stream=info.stream)
            if located is not None and _is_as_told(located, info):
                with suppress(_RemovedError):
                    checkpoint, _ = await self._decoded(located.event)
                    head = Head.of(located.head)
                    self._memory.note(Tip.of(located.event, head))
                    self._memory.has_answer(located.event)
                    self._memory.looked_at(located.event, head)
                    return Loaded(checkpoint, located.event)
            loaded = await self._logged(workflow_name, None, info.run_id)
            if loaded is not None:
                return loaded
            left_out.append(info.stream)
        return await self._logged(workflow_name, None, None)

    async def live_ids(self, workflow_name: str, run_id: str | None) -> list[str]:
        """The ids of the live checkpoints, in the order in which they were committed. Mostly that is all ids."""
        if not is_name(workflow_name):
            return []
        found, all_live = list[str](), AllLive()
        async with aclosing(self._store.keys(workflow_name, run_id)) as pages:
            async for page in pages:
                if not all_live.takes(page):
                    break
                found += page.checkpoint_ids
            else:
                if all_live.is_whole:
                    return found
        return [key.checkpoint_id for key in await self._live(workflow_name, run_id)]

    async def _live(self, workflow_name: str, run_id: str | None) -> list[EventKey]:
        """The newest events of the live checkpoints, in the order in which they were committed."""
        runs: defaultdict[str, list[EventKey]] = defaultdict(list)
        async with aclosing(self._store.keys(workflow_name, run_id)) as pages:
            async for page in pages:
                for key in page.each():
                    runs[key.run_id].append(key)
        found: list[EventKey] = []
        for name, keys in runs.items():
            keys.sort(key=_SEQ)
            whole = keys if not is_torn(keys) else await self._untorn(workflow_name, name, keys)
            found += live(counted(whole)).values()
        return found if run_id is not None else sorted(found, key=_PLACE)

    async def _untorn(self, workflow_name: str, run_id: str, keys: list[EventKey]) -> list[EventKey]:
        """The keys of a run of which some seem to be missing, at the places of those that are known; new ones come
        last."""
        places, last = {key.seq: key.place for key in keys}, sys.maxsize
        headers = await headers_of(self._store, StreamId(workflow_name, run_id))
        return [EventKey.of(header, places.get(header.seq, last)) for header in headers]

    async def checkpoints(self, workflow_name: str, run_id: str | None) -> list[WorkflowCheckpoint]:
        """The live checkpoints, in the order in which they were committed; those that cannot be decoded are left out,
        with a warning, and those that are gone by now without. Of one that was saved again since it was listed, the
        newest content is given.

        Goes run by run, so that each base is read once and those of one event are in memory at a time.
        """
        if not is_name(workflow_name):
            return []
        keys = await self._live(workflow_name, run_id)
        found: list[WorkflowCheckpoint | None] = [None] * len(keys)
        by_run = sorted(range(len(keys)), key=lambda at: keys[at].run_id)
        places = [(at, StreamId(workflow_name, keys[at].run_id), keys[at]) for at in by_run]
        of: StreamId | None = None
        held: tuple[Base, ...] = ()
        texts: dict[str, str] = {}
        for start in range(0, len(places), _AT_ONCE):
            wanted = places[start : start + _AT_ONCE]
            read = await self._store.read_each([(stream, key.seq) for _, stream, key in wanted])
            events = {(event.stream, event.seq): event for event in read}
            for at, stream, key in wanted:
                of, held = stream, held if stream == of else ()
                event = events.get((stream, key.seq))
                found[at], held = await self._listed(stream, key.checkpoint_id, event, held, texts)
        return [checkpoint for checkpoint in found if checkpoint is not None]

    async def _listed(
        self,
        stream: StreamId,
        checkpoint_id: str,
        event: CheckpointEvent | None,
        held: tuple[Base, ...],
        texts: dict[str, str],
    ) -> tuple[WorkflowCheckpoint | None, tuple[Base, ...]]:
        """A checkpoint of a listing, and the bases that the next one of its run may rest on. Equal texts of
        one listing are one object, as in a listing of what is kept in memory."""
        try:
            if event is not None:
                with suppress(_RemovedError):
                    return await self._decoded(event, held, texts)
            return await self._superseding(stream, checkpoint_id), held
        except CheckpointDecodeError as error:
            logger.warning("A listing leaves out a checkpoint: %s", error)
            return None, held

    async def _superseding(self, stream: StreamId, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """What a checkpoint is by now whose listed event is gone; None where it is no more.

        Raises:
            CheckpointDecodeError: its newest event cannot be decoded.
        """
        for _ in range(WALKS):
            located = await self._store.find(checkpoint_id, stream=stream)
            if located is None or located.event.type == "tombstone":
                break
            with suppress(_RemovedError):
                return (await self._decoded(located.event))[0]
        return None

    def _backwards(
        self, workflow_name: str, run_id: str | None, *, emptied: bool
    ) -> AsyncGenerator[CheckpointEvent, None]:
        if run_id is None:
            return self._store.workflow_headers(workflow_name, desc=True, emptied=emptied)
        return self._store.headers(StreamId(workflow_name, run_id), desc=True)

    async def _decoded(
        self, event: CheckpointEvent, held: tuple[Base, ...] = (), texts: dict[str, str] | None = None
    ) -> tuple[WorkflowCheckpoint, tuple[Base, ...]]:
        """The checkpoint in `event` and the bases that the next one may rest on, or an error that names the event."""
        where = f"{event.named()} cannot be loaded: "
        outcome = "failed"
        try:
            if event.type != "checkpoint":
                raise CheckpointDecodeError(f"it holds no checkpoint: its type is {event.type}; see `eventckpt verify`")
            raw, bases = await self._payloads.read(event, held)
            drifts: list[Drift] = []
            checkpoint = await off_the_loop(len(raw), self._codec.decode, raw, told=drifts.append, texts=texts)
            _tell(event, drifts)
            if (checkpoint.checkpoint_id, checkpoint.workflow_name) != (event.checkpoint_id, event.workflow_name):
                raise CheckpointDecodeError(f"its payload holds another checkpoint, {checkpoint.checkpoint_id!r}")
            outcome = "loaded"
        except CheckpointTypeNotAllowedError as error:
            raise error.about(where) from error
        except CheckpointDecodeError as error:
            is_removed = (await removals_of(self._store, event.stream)).covers(event.seq)
            raise (_RemovedError if is_removed else CheckpointDecodeError)(f"{where}{safe(error)}") from error
        finally:
            telemetry.loads.add(1, {"outcome": outcome})
        return checkpoint, bases


def _tell(event: CheckpointEvent, drifts: list[Drift]) -> None:
    """Say what did not fit its class."""
    for drift in drifts:
        telemetry.schema_drift.add(1, {"type": drift.type, "kind": drift.kind})
        logger.warning("%s was loaded with a change: %s", event.named(), safe(drift.text))


def _is_as_told(located: FoundEvent, info: RunInfo) -> bool:
    """Whether a document points at the head of its run, a checkpoint: so that nothing has deleted, superseded or
    removed it since. Of anything else the headers behind it would have to be read, which is what asking the run does.
    """
    event, head = located
    if event.type != "checkpoint" or event.seq != head.seq:
        return False
    told = (info.stream, info.checkpoint_id, info.checkpoint_seq, info.seq, info.digest)
    return told == (event.stream, event.checkpoint_id, event.seq, event.seq, event.digest)


def _not_found(checkpoint_id: str) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(f"No checkpoint found with ID {safe(checkpoint_id)}")
