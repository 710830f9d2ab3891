"""The page of an event: what its header says, and the state in it as a tree, or a part of that by its path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from ...audit import CheckpointAudit
from ...audit.paths import near_paths, value_at
from ...audit.resolve import header_before, seq_of
from ...codec.tree import Tree, has_parts
from ...errors import CheckpointDecodeError, CheckpointNotFoundError
from ...events import MAX_SEQ, CheckpointEvent, StreamId
from ...exit_codes import STATE, USAGE, Failure
from ...rendering.fields import event_fields, held_fields
from ...rendering.words import about_text, standing_of
from ...stores import head_of
from ...stores.walks import removals_of
from ...text import cell, described, safe_json
from ...threads import in_thread
from ...traceparent import trace_id_in
from ..page import Line, Page, as_shown, command_of
from ..places import weighed
from ..problems import STATUS
from ..query import Query
from ..templates import address
from ..trees import Node, Piece, outlined, parts_from, piece_of
from ..viewer import Viewer

__all__ = ["event"]

_FIELDS: Final = ("messages", "pending_request_info_events", "state", "metadata")
"""What `show` prints of a checkpoint, in this order."""
_HEADER: Final = 40_000  # characters of a header that are shown


class _Around(NamedTuple):
    """What stands beside a seq in its stream."""

    before: int | None
    after: int | None


async def event(viewer: Viewer, asked: Query) -> Page:
    """An event by the id of its checkpoint, by RUN@SEQ, or by its run, seq and workflow: also one that holds no
    checkpoint, and what is known of one that is not there."""
    audit = viewer.audit
    stream, seq, found = await _meant(audit, asked)
    around = await _around(audit, stream, seq)
    is_removed = (await removals_of(audit.store, stream)).covers(seq)
    values: dict[str, Any] = {"stream": stream, "seq": seq, "around": around, "is_removed": is_removed}
    title = (
        f"Event {seq} of {cell(stream.run_id)}" if stream.is_run else f"Removal {seq} of {cell(stream.workflow_name)}"
    )
    if found is None:
        if asked.text("format") == "jsonl":
            await audit.event(f"{stream.run_id}@{seq}", workflow_name=stream.workflow_name)  # refuses, as `show` does
            raise CheckpointNotFoundError(f"{title} is not there.")
        return Page("event_missing.html", title, values, status=404)
    await weighed(found)
    tree, problem = await _held(audit, found)
    if problem is not None and asked.text("format") == "jsonl":
        raise problem
    shown, status = await _shown(tree, asked, stream, seq), 200 if not problem else STATUS[STATE]
    before, no_before = await _before(audit, found)
    values |= {
        "before": before,
        "no_before": no_before,
        "event": found,
        "what": found.what,
        "about": about_text(found),
        "standing": standing_of(found, before=""),
        "trace": trace_id_in(found.traceparent),
        "header": await in_thread(_header_lines, found),
        "problem": problem,
        "query": _query(stream, seq),
        "asked_path": asked.text("path"),
        "command_of_all": as_shown(_command(found)),
        "file": f"{re.sub(r'[^A-Za-z0-9_-]+', '-', stream.run_id)[:80] or 'removals'}-{seq}.jsonl",
        **shown,
    }

    def lines() -> Iterator[Line]:
        kind = {"turn": "turn", "session": "state"}.get(found.type, "checkpoint")
        yield (kind, held_fields(found, tree)) if tree is not None else ("event", event_fields(found))

    return Page("event.html", title, values, None if problem else lines, _command(found), status=status)


async def _meant(audit: CheckpointAudit, asked: Query) -> tuple[StreamId, int, CheckpointEvent | None]:
    """The event that is asked for, whole; None where it is not there."""
    name, workflow = asked.text("event"), asked.text("workflow")
    if name is None:
        return await _at(audit, *await _place(audit, asked, workflow))
    try:
        found = await audit.event(name, workflow_name=workflow)
    except CheckpointNotFoundError:
        run, at, seq = name.rpartition("@")
        if not (at and seq.isdecimal()):
            raise
        return await _at(audit, await audit.run(run, workflow_name=workflow), seq_of(seq))
    return found.stream, found.seq, found


async def _place(audit: CheckpointAudit, asked: Query, workflow: str | None) -> tuple[StreamId, int]:
    """A run and a seq; without a run, among what tells of the runs of a workflow that were removed."""
    run, seq = asked.text("run"), asked.number("seq", 0, most=MAX_SEQ)
    if not seq or (run is None and workflow is None):
        raise Failure(USAGE, "The address of this page needs event=…, or run=…, seq=… and workflow=….")
    if workflow is not None:
        stream = StreamId(workflow, run or "")
        if run is None or await head_of(audit.store, stream) is not None:
            return stream, seq
    return await audit.run(run or "", workflow_name=workflow), seq


async def _at(audit: CheckpointAudit, stream: StreamId, seq: int) -> tuple[StreamId, int, CheckpointEvent | None]:
    return stream, seq, next(iter(await audit.store.read(stream, seq)), None)


async def _around(audit: CheckpointAudit, stream: StreamId, seq: int) -> _Around:
    """The seqs that are there before and behind one."""
    async with aclosing(audit.store.headers(stream, lte=seq - 1, desc=True)) as earlier:
        before = await anext(earlier, None)
    async with aclosing(audit.store.headers(stream, gt=seq)) as later:
        after = await anext(later, None)
    return _Around(before.seq if before else None, after.seq if after else None)


async def _before(audit: CheckpointAudit, found: CheckpointEvent) -> tuple[CheckpointEvent | None, str]:
    """The checkpoint that one follows, by its header; None: why there is none."""
    if found.type != "checkpoint":
        return None, ""
    try:
        return await header_before(audit.store, found), ""
    except CheckpointNotFoundError as error:
        return None, str(error)


async def _held(audit: CheckpointAudit, found: CheckpointEvent) -> tuple[dict[str, Tree] | None, Exception | None]:
    """The state in an event as a tree, None where it holds none; and why it cannot be read, where that is so."""
    if found.type == "tombstone":
        return None, None
    try:
        return await audit.tree(found), None
    except (CheckpointDecodeError, CheckpointNotFoundError) as error:  # the header is shown all the same
        return None, error


async def _shown(tree: dict[str, Tree] | None, asked: Query, stream: StreamId, seq: int) -> dict[str, Any]:
    """The tree of a page, or the part that is asked for."""
    root: Node | None = None
    piece: Piece | None = None
    first = asked.number("first", 0, least=0, most=MAX_SEQ)
    if tree is not None:
        work = partial(_outlined, tree, asked.text("path"), first, len(address("/event", **_query(stream, seq))))
        root, piece = await in_thread(work)
    return {"root": root, "piece": piece}


def _outlined(tree: dict[str, Tree], path: str | None, first: int, link: int) -> tuple[Node | None, Piece | None]:
    if path is None:
        fields: dict[str, Tree] = {name: tree.get(name) for name in _FIELDS} if "workflow_name" in tree else tree
        return outlined(fields, link=link), None
    found = value_at(tree, path)
    if not found:
        near = near_paths(tree, path)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise CheckpointNotFoundError(f"Nothing is at {described(path)} in this event.{hint}")
    [part] = found
    return (parts_from(part, path, first, link=link), None) if has_parts(part) else (None, piece_of(part, first))


def _query(stream: StreamId, seq: int) -> Mapping[str, object]:
    """What names an event exactly."""
    return {"workflow": stream.workflow_name, "run": stream.run_id or None, "seq": seq}


def _header_lines(found: CheckpointEvent) -> list[str]:
    """The header as JSON, so much of it as is shown."""
    text = json.dumps(msgspec.to_builtins(event_fields(found)), indent=2, allow_nan=False)
    if len(text) > _HEADER:
        text = f"{text[:_HEADER]}\n… {len(text) - _HEADER:,} characters more: `eventckpt history --json` prints them"
    return [safe_json(line) for line in text.split("\n")]


def _command(found: CheckpointEvent) -> list[str]:
    """The command that prints all of it."""
    if found.type == "tombstone":  # which `history` prints among others, and no command by itself
        return []
    return command_of("show", [f"{found.run_id}@{found.seq}"], found.workflow_name)
