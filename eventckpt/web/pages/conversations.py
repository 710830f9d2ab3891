"""The pages of sessions: which there are, what was said in one, its events, and one of its turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any, Final

from ...audit import CheckpointAudit
from ...audit.conversation import clear_of, conversation_at, holds_snapshots, whole
from ...audit.part_of_run import PartOfRun
from ...audit.sessions import ListedSession, sessions_in
from ...errors import CheckpointDecodeError, CheckpointNotFoundError, StoreNotFoundError
from ...events import MAX_RUN_ID, MAX_SEQ, CheckpointEvent, StreamId
from ...exit_codes import NO_SUCH_NAME, STATE, USAGE, Failure
from ...history.branches import branches_of, session_of
from ...history.listing import SessionInfo
from ...history.snapshots import AGUI_THREADS, APPROVALS, FOUNDRY_SESSIONS
from ...history.snapshots import SESSIONS as SESSIONS_OF_HOSTS
from ...rendering.cursor import SESSIONS, history_place, token_after, token_of
from ...rendering.fields import event_fields, held_fields
from ...rendering.times import ago
from ...rendering.turns import roles_text, turn_text, type_text
from ...rendering.words import NO_PLACE_FOR_SESSIONS, not_gone_yet, removed_text
from ...threads import in_thread
from ..chat import Entry, filled
from ..page import Line, Page, command_of
from ..places import weighed
from ..problems import STATUS
from ..query import Query
from ..room import Room
from ..templates import address
from ..trees import outlined
from ..viewer import Viewer

__all__ = ["conversation", "conversation_events", "conversations", "turn"]

_PAGE: Final = 50
"""Sessions, turns or events of a page."""
_ROOM_OF_BRANCHES: Final = 50_000  # bytes of HTML
_ROOM_OF_TREE: Final = 200_000
_READ: Final = 8_000_000
"""Bytes of turns that are read for a page; one turn is, whatever its size."""
_BRANCHES: Final = 100
"""Branches of a session that are looked for."""
_OF_HOSTS: Final = (SESSIONS_OF_HOSTS, FOUNDRY_SESSIONS, AGUI_THREADS, APPROVALS)
_MOST_RUNS: Final = 1_000
"""Runs that are looked through for those of a page's turns."""
_IN_CHAT: Final = 2_000
"""Characters of a content among others."""
_IN_TURN: Final = 50_000
"""The same where a turn is shown by itself."""


async def conversations(viewer: Viewer, asked: Query) -> Page:
    """Sessions that fit, the last active first: a page of what `eventckpt sessions` lists."""
    audit = viewer.turns()
    source, prefix = asked.text("source"), asked.text("prefix") or ""
    limit, after = asked.number("limit", _PAGE, most=_PAGE), asked.place(SESSIONS, ListedSession)
    infos: list[SessionInfo] = []
    not_there: str | None = None
    try:
        infos = await sessions_in(audit.store, latest=audit.latest, source=source, prefix=prefix, after=after)
    except StoreNotFoundError:
        not_there = NO_PLACE_FOR_SESSIONS
    found = infos[:limit]
    more = token_of(SESSIONS, ListedSession.of(found[-1])) if len(infos) > limit else None

    def lines() -> Iterator[Line]:
        yield from (("session", info._asdict()) for info in found)
        if more is not None:
            yield "more", {"after": more}

    values = {"sessions": found, "more": more, "source": source, "prefix": prefix, "limit": limit}
    values |= {"not_there": not_there, "latest": audit.latest, "is_first": after is None}
    values |= {"kept_by_hosts": _OF_HOSTS, "is_linked": _is_linked}
    return Page("conversations.html", "Conversations", values, lines)


async def conversation(viewer: Viewer, asked: Query) -> Page:
    """What was said in a session, or on a branch of one, up to a point; the newest turns of it, or those up to one."""
    audit, stream = await _named(viewer, asked)
    seq, time = _seq(asked), asked.moment("time")
    if seq is not None and time is not None:
        raise Failure(USAGE, "Give one of seq and time.")
    if await holds_snapshots(audit.store, stream):
        return await _held(viewer, audit, await audit.at(stream, seq=seq, time=time))
    turns = await conversation_at(audit.store, stream, seq=seq, time=time)
    last = asked.number("upto", len(turns), most=max(len(turns), 1), least=min(len(turns), 1))
    first = last - _fitting(reversed(turns[:last]))
    gone = None if turns else await audit.removed(stream)
    around = await _around(audit, stream)
    runs = asked.number("runs", 0, most=_MOST_RUNS)
    found = await viewer.audit.runs_of_turns(around["session"], turns[first:last], runs=runs) if runs else None
    await weighed(*turns[first:last])
    entries = await _read(audit, turns[first:last])
    for entry in entries if found is not None else ():
        entry.seen = found.by_turn.get((entry.event.run_id, entry.event.seq)) if found is not None else None
    await in_thread(filled, entries, longest=_IN_CHAT)
    values: dict[str, Any] = {
        "found": found,
        "stream": stream,
        "entries": entries,
        "first": first,
        "last": last,
        "count": len(turns),
        "later": last + _fitting(turns[last:]),
        "seq": seq,
        "time_text": asked.text("time"),
        "removed": gone and removed_text(gone, "session", head_seq=gone.seq, time=lambda at: ago(at, viewer.now())),
        **around,
    }
    command = command_of("at", [stream.run_id], stream.workflow_name, "--turns", *asked.options("seq", "time"))
    return Page("conversation.html", f"Conversation {stream.run_id}", values | _WORDS, lambda: _lines(entries), command)


async def conversation_events(viewer: Viewer, asked: Query) -> Page:
    """The events of a session, or of a branch, in the order of their commits: a page of `eventckpt history --turns`."""
    audit, stream = await _named(viewer, asked)
    place, limit = history_place(asked.text("after"), stream, "after"), asked.number("limit", _PAGE, most=_PAGE)
    part = PartOfRun(audit.store, stream, gt=0 if place is None else place.seq, limit=limit)
    events = await part.read()
    more = token_after(stream, part.last_seq) if part.has_more else None

    def lines() -> Iterator[Line]:
        yield from (("event", event_fields(event)) for event in events)
        if more is not None:
            yield "more", {"after": more}

    which = [*asked.options("after"), f"--limit={limit}"]
    note = not_gone_yet(stream, part.not_gone_yet, "session") if part.not_gone_yet and not part.is_closed else ""
    values = {"stream": stream, "events": events, "more": more, "limit": limit, "note": note}
    return Page(
        "conversation_events.html",
        f"Events of {stream.run_id}",
        values | _WORDS,
        lines,
        command_of("history", [stream.run_id], stream.workflow_name, "--turns", *which),
    )


async def turn(viewer: Viewer, asked: Query) -> Page:
    """One event of a session, and the messages in it."""
    audit, stream = await _named(viewer, asked)
    seq = _seq(asked)
    found = await audit.store.read(stream, seq) if seq is not None else []
    if not found:
        raise Failure(
            NO_SUCH_NAME,
            f"Session {stream.run_id!r} of source {stream.workflow_name!r} has no event at seq={seq}: its events say "
            "what became of it.",
        )
    return await _held(viewer, audit, found[0])


async def _held(viewer: Viewer, audit: CheckpointAudit, event: CheckpointEvent) -> Page:
    """The page of one event."""
    await weighed(event)
    [entry] = await _each(audit, [event]) if event.type != "tombstone" else [Entry(event)]
    await in_thread(filled, [entry], longest=_IN_TURN)
    what = type_text(event)
    is_kept = event.type == "session"
    tree = None
    if entry.tree is not None:
        tree = await in_thread(outlined, dict(entry.tree), path=None, room=_ROOM_OF_TREE)
    values = {"stream": event.stream, "entry": entry, "is_kept": is_kept, "tree": tree}
    title = f"What a host keeps of {event.run_id}" if is_kept else f"{what.capitalize()} at seq {event.seq}"
    status = STATUS[STATE] if entry.problem else 200
    command = command_of("show", [f"{event.run_id}@{event.seq}"], event.workflow_name, "--turns")
    return Page("turn.html", title, values | _WORDS, lambda: _lines([entry]), command, status=status)


async def _around(audit: CheckpointAudit, stream: StreamId) -> dict[str, Any]:
    """What stands beside a conversation: the session that it is a branch of, the branches that go off from it, and
    what was cleared."""
    session = await session_of(audit.store, stream)
    branches: list[tuple[StreamId, CheckpointEvent | None]] = []
    more, room = False, Room(_ROOM_OF_BRANCHES)
    async with aclosing(branches_of(audit.store, session)) as found:
        async for branch, first in found:
            more = len(branches) == _BRANCHES or not room.takes(address("", session=branch.run_id[:MAX_RUN_ID]))
            if more:
                break
            branches.append((branch, first))
    off: dict[tuple[str, int], list[StreamId]] = {}
    for branch, first in branches:
        if first is not None and first.forked_from is not None and branch != stream:
            off.setdefault((first.forked_from.run_id, first.forked_from.seq), []).append(branch)
    return {
        "session": session,
        "branches": [branch for branch, _ in branches],
        "more_branches": more,
        "off": off,
        "cleared": await clear_of(audit.store, session),
    }


async def _read(audit: CheckpointAudit, turns: Sequence[CheckpointEvent]) -> list[Entry]:
    async with aclosing(whole(audit.store, turns)) as events:
        return await _each(audit, [event async for event in events])


async def _each(audit: CheckpointAudit, events: Iterable[CheckpointEvent]) -> list[Entry]:
    """What each event holds; of one that cannot be read, why."""
    entries: list[Entry] = []
    for event in events:
        try:
            entries.append(Entry(event.header(), await audit.tree(event)))
        except (CheckpointDecodeError, CheckpointNotFoundError) as error:
            entries.append(Entry(event.header(), problem=str(error)))
    return entries


def _lines(entries: Sequence[Entry]) -> Iterator[Line]:
    for entry in entries:
        if entry.tree is None:
            raise Failure(STATE, entry.problem or f"{entry.event.named()} holds no messages.")
        yield "turn" if entry.event.type == "turn" else "state", held_fields(entry.event, dict(entry.tree))


def _fitting(turns: Iterable[CheckpointEvent]) -> int:
    """How many of some turns are read for a page: the first ones."""
    size = count = 0
    for event in islice(turns, _PAGE):
        size += max(event.payload.raw_size, event.payload.stored_size, 0) if event.payload else 0
        if count and size > _READ:
            break
        count += 1
    return count


async def _named(viewer: Viewer, asked: Query) -> tuple[CheckpointAudit, StreamId]:
    audit = viewer.turns()
    stream = await audit.run(asked.needed("session"), workflow_name=asked.text("source"))
    if not _is_linked(stream.run_id, stream.workflow_name):
        raise Failure(USAGE, "Its name is too long for an address: `eventckpt history --turns` lists its events.")
    return audit, stream


def _is_linked(run_id: str, source: str) -> bool:
    """Whether a session, or a branch, has an address: of names that nobody gives one, it would be of any length."""
    return max(len(run_id), len(source)) <= MAX_RUN_ID


def _seq(asked: Query) -> int | None:
    return asked.number("seq", 0, most=MAX_SEQ, least=0) if asked.text("seq") is not None else None


_WORDS: Final = {"roles_text": roles_text, "turn_text": turn_text, "type_text": type_text}
"""What templates say of an event by."""
