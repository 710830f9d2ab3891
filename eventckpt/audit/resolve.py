"""What people call things: a run by the beginning of its id, a checkpoint likewise, as RUN@SEQ, or by run and point.

A whole name always wins over the beginning of another. A name that fits several says which; one that fits none says
what comes close. What a listing has shortened, `beginning…` or `beginning…end`, means what it was made from.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final

from ..errors import AmbiguousNameError, CheckpointNotFoundError, RunNotFoundError
from ..events import MAX_SEQ, CheckpointEvent, StreamId
from ..moments import moment_of
from ..runs import counted, live
from ..storage.removing import closing_of
from ..stores import AuditStore, FoundEvent
from ..stores.walks import WALKS, headers_of, removals_of
from ..text import SHORTENED, safe
from .kinds import RUNS, LogKind
from .removed import by_whom, closed_over

__all__ = ["checkpoint_at", "checkpoint_before", "checkpoint_named", "header_before", "run_named", "seq_of", "shown"]

_CANDIDATES: Final = 10  # named in an error
_NEIGHBOURS: Final = 20_000  # runs that are looked through for near names
_COMPARED: Final = 80  # characters of a name that count for how near it is
_WORK: Final = 3_000_000  # pairs of characters: comparing two names may take so many as both have together
_NEAR: Final = 3
_DIGITS: Final = 100  # of a seq that is read as a number


async def run_named(
    store: AuditStore, name: str, workflow_name: str | None = None, *, kind: LogKind = RUNS
) -> StreamId:
    """The run whose id is `name`, or the only one whose id begins with it. One that was removed is meant by its whole
    id only, and where no other has it.

    Raises:
        RunNotFoundError, AmbiguousNameError: none, or several.
    """
    found: list[StreamId] = []
    if name:
        found += await _runs_like(store, name, "", workflow_name)
        begin, _, end = name.rpartition(SHORTENED)
        if begin and not found:
            found += await _runs_like(store, begin, end, workflow_name)
    exact = [stream for stream in found if stream.run_id == name]
    if name and not exact:
        all_of_them = await _runs_like(store, name, "", workflow_name, emptied=True)
        exact = [stream for stream in all_of_them if stream.run_id == name]
    for choice in (exact, found):
        if len(choice) == 1:
            return choice[0]
        if choice:
            named = [shown(stream) for stream in choice]
            raise _ambiguous(f"{kind.stream}s", name, named, choice, f", or the {kind.group}")
    near = await _near(store, name, workflow_name)
    where = f" of {kind.group} {workflow_name!r}" if workflow_name is not None else ""
    hint = f" Did you mean {' or '.join(map(shown, near))}?" if near else f" `{kind.listing}` lists those there are."
    raise RunNotFoundError(f"No {kind.stream}{where} is called {name!r}, or begins like that.", near=near, hint=hint)


async def _runs_like(
    store: AuditStore, begin: str, end: str, workflow_name: str | None, *, emptied: bool = False
) -> list[StreamId]:
    async with aclosing(store.streams(workflow_name=workflow_name, prefix=begin, emptied=emptied)) as streams:
        return [stream async for stream in streams if stream.run_id.endswith(end)]


async def checkpoint_named(
    store: AuditStore, name: str, workflow_name: str | None = None, *, kind: LogKind = RUNS
) -> CheckpointEvent:
    """The whole event that `name` means: a checkpoint's id, the beginning of one, or a run and a seq, `RUN@SEQ`. What
    was removed with its run is none, also while it is still there.

    Raises:
        CheckpointNotFoundError, RunNotFoundError, AmbiguousNameError: it means none, or several.
    """
    event = await _event_named(store, name, workflow_name, kind)
    if (closing := await closed_over(store, event)) is not None:
        raise CheckpointNotFoundError(f"{event.named()} was removed with its {kind.stream}{by_whom(closing)}.")
    return event


async def _event_named(store: AuditStore, name: str, workflow_name: str | None, kind: LogKind) -> CheckpointEvent:
    located = await _found(store, name, workflow_name) if name else None
    if located is not None:
        return located.event
    run, at, seq = name.rpartition("@")
    if at and seq.isdecimal():
        stream = await run_named(store, run, workflow_name, kind=kind)
        events = await store.read(stream, seq_of(seq))
        if events:
            return events[0]
        raise CheckpointNotFoundError(
            f"{kind.stream.capitalize()} {stream.run_id!r} of {kind.group} {stream.workflow_name!r} has no event at "
            f"seq {seq}{await _removed_from(store, stream)}; `eventckpt history` lists those there are."
        )
    ids = await _ids_like(store, name, workflow_name) if name else []
    if len(ids) > 1:
        ids = [each for each in ids if await _is_there(store, each, workflow_name)] or ids[:1]
    if len(ids) > 1:
        raise _ambiguous(f"{kind.entry}s", name, [repr(each) for each in ids], ids)
    located = await _found(store, ids[0], workflow_name) if ids else None
    if located is None:
        where = "" if workflow_name is None else f" in {kind.group} {workflow_name!r}"
        raise CheckpointNotFoundError(
            f"No {kind.entry} found with ID {safe(name)}, or one that begins like that{where}. "
            f"`eventckpt history` lists those of a {kind.stream}; {kind.stream.upper()}@SEQ names one by its position."
        )
    return located.event


async def _is_there(store: AuditStore, checkpoint_id: str, workflow_name: str | None) -> bool:
    """Whether a checkpoint was not removed with its run."""
    located = await _found(store, checkpoint_id, workflow_name)
    return located is not None and await closed_over(store, located.event) is None


async def checkpoint_at(
    store: AuditStore,
    stream: StreamId,
    seq: int | None,
    time: datetime | None,
    iteration: int | None,
    *,
    kind: LogKind = RUNS,
) -> CheckpointEvent:
    """The whole event that held a run's state at a point; see `CheckpointAudit.at`.

    Raises:
        CheckpointNotFoundError: the run had no checkpoint by then.
    """
    events: list[CheckpointEvent] = []
    for _ in range(WALKS):
        last = await _last_live(store, stream, seq, time, iteration)
        events = await store.read(stream, last.seq) if last else []
        if last is None or events:
            break  # else it was removed since it was listed
    if not events:
        raise CheckpointNotFoundError(
            f"{kind.stream.capitalize()} {stream.run_id!r} of {kind.group} {stream.workflow_name!r} had no "
            f"{kind.entry} at that point{await _removed_from(store, stream)}."
        )
    return events[0]


async def _removed_from(store: AuditStore, stream: StreamId) -> str:
    """What a sentence adds that says that something of a run is not there, where it was removed as a whole."""
    closing = closing_of(await headers_of(store, stream))
    return "" if closing is None else f": up to seq {closing.seq} all of it was removed{by_whom(closing)}"


async def checkpoint_before(store: AuditStore, event: CheckpointEvent, *, kind: LogKind = RUNS) -> CheckpointEvent:
    """The whole event of the checkpoint that one follows, in its run or in the one that this began from; of what is
    none of a run, the last before it.

    Raises:
        CheckpointNotFoundError: it follows none, or that one is there no more.
    """
    if event.type != "checkpoint":
        return await checkpoint_at(store, event.stream, event.seq - 1, None, None, kind=kind)
    before = await header_before(store, event)
    found = next(iter(await store.read(before.stream, before.seq)), None)
    if found is None:
        raise _gone(event)
    return found


async def header_before(store: AuditStore, event: CheckpointEvent) -> CheckpointEvent:
    """The header of the checkpoint that one follows, as `checkpoint_before` finds it.

    Raises:
        CheckpointNotFoundError: it follows none, or that one is there no more.
    """
    parent = event.previous_checkpoint_id
    if parent is None:
        raise CheckpointNotFoundError(f"{event.named()} is the first of its lineage: it follows no other checkpoint.")
    found = await _behind(store, event, parent) or await _elsewhere(store, event, parent)
    if found is None:
        raise _gone(event)
    return found


def _gone(event: CheckpointEvent) -> CheckpointNotFoundError:
    what = safe(event.previous_checkpoint_id)
    return CheckpointNotFoundError(f"{event.named()} follows checkpoint {what}, which was removed, or deleted.")


async def _behind(store: AuditStore, event: CheckpointEvent, checkpoint_id: str) -> CheckpointEvent | None:
    """The header of the newest event of a checkpoint in the run of an event, before that."""
    removals = await removals_of(store, event.stream)
    async with aclosing(store.headers(event.stream, lte=event.seq - 1, desc=True)) as headers:
        async for header in headers:
            is_it = header.checkpoint_id == checkpoint_id and header.type == "checkpoint"
            if is_it and not removals.covers(header.seq):
                return header
    return None


async def _elsewhere(store: AuditStore, event: CheckpointEvent, checkpoint_id: str) -> CheckpointEvent | None:
    """A checkpoint of another run: of the one that a fork began from, or of whichever of the workflow has it."""
    origin = event.forked_from
    if origin is not None:
        events = await store.read(StreamId(origin.workflow_name, origin.run_id), origin.seq)
        if events and events[0].checkpoint_id == checkpoint_id and await closed_over(store, events[0]) is None:
            return events[0]
    located = await store.find_in(event.workflow_name, checkpoint_id)
    if located is None or located.event.type != "checkpoint" or await closed_over(store, located.event) is not None:
        return None
    return located.event


async def _last_live(
    store: AuditStore, stream: StreamId, seq: int | None, time: datetime | None, iteration: int | None
) -> CheckpointEvent | None:
    removals = await removals_of(store, stream)
    until: list[CheckpointEvent] = []
    async with aclosing(store.headers(stream, lte=seq)) as headers:
        async for header in headers:
            moment = moment_of(header.recorded_at)
            if time is not None and (moment is None or moment > time):
                break
            is_later = header.type == "checkpoint" and iteration is not None and header.iteration_count > iteration
            if not is_later and not removals.covers(header.seq):
                until.append(header)
    return next(reversed(live(counted(until)).values()), None)


async def _found(store: AuditStore, checkpoint_id: str, workflow_name: str | None) -> FoundEvent | None:
    if workflow_name is None:
        return await store.find(checkpoint_id)
    return await store.find_in(workflow_name, checkpoint_id)


async def _ids_like(store: AuditStore, name: str, workflow_name: str | None) -> list[str]:
    ids = await _ids_with(store, name, workflow_name, _CANDIDATES + 1)
    begin, _, end = name.rpartition(SHORTENED)
    if begin and not ids:
        ids = [each for each in await _ids_with(store, begin, workflow_name, _NEIGHBOURS) if each.endswith(end)]
    return ids


async def _ids_with(store: AuditStore, prefix: str, workflow_name: str | None, limit: int) -> list[str]:
    ids = await store.checkpoint_ids(prefix, limit=limit)
    if workflow_name is None or not ids:
        return ids
    found: set[str] = set()
    async with aclosing(store.workflow_headers(workflow_name)) as headers:
        async for header in headers:
            if header.checkpoint_id.startswith(prefix):
                found.add(header.checkpoint_id)
            if len(found) == limit:
                break
    return sorted(found)


def seq_of(digits: str) -> int:
    """The seq that somebody wrote. Of more digits than any has, it is one that no event has."""
    return int(digits) if len(digits) <= _DIGITS else MAX_SEQ + 1


def shown(stream: StreamId) -> str:
    """A run as an error or a line of text names it."""
    return f"{stream.run_id!r} of {stream.workflow_name!r}"


def _ambiguous(
    what: str, name: str, candidates: list[str], found: Sequence[StreamId | str], further: str = ""
) -> AmbiguousNameError:
    some = ", ".join(candidates[:_CANDIDATES]) + (", …" if len(candidates) > _CANDIDATES else "")
    hint = f" Give more of it{further}."
    begin = f"Several {what} begin with {name!r}"
    return AmbiguousNameError(f"{begin}: {some}.{hint}", candidates=candidates, found=found, said=f"{begin}.{hint}")


async def _near(store: AuditStore, name: str, workflow_name: str | None) -> list[StreamId]:
    by_id: dict[str, StreamId] = {}
    wanted, work = name[:_COMPARED], 0
    async with aclosing(store.streams(workflow_name=workflow_name, emptied=False)) as streams:
        async for stream in streams:
            by_id.setdefault(stream.run_id[:_COMPARED], stream)
            work += len(wanted) * min(len(stream.run_id), _COMPARED)
            if len(by_id) == _NEIGHBOURS or work > _WORK:
                break
    return [by_id[near] for near in difflib.get_close_matches(wanted, by_id, n=_NEAR, cutoff=0.6)]
