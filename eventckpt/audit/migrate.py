"""A run that waits, brought to what its application has become: one more checkpoint, which a function of the
application made out of the last by editing it as it is stored.

A plan holds the whole event that would be written, proved as a save proves its own: decoded under the allow-list, its
header made from what came back. To carry it out is one append, right behind the head that was planned for. The log
keeps what was before; whoever had read the run before meets a conflict.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from .. import settings
from ..codec import MAX_RAW_SIZE
from ..codec.root import Root, opened
from ..errors import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    RunNotFoundError,
    StreamConflict,
)
from ..events import MAX_SEQ, SCHEMA_OF_MIGRATIONS, CheckpointEvent, ForkPoint, Migration, StreamId, check_run_id
from ..runs import counted, live
from ..storage.claiming import holder_at
from ..storage.compose import event_at, header_of, now
from ..storage.memory import EMPTY, Head, Tip
from ..storage.payloads import BaseCache, Payloads
from ..storage.questions import asked_since
from ..stores import AuditStore, head_of
from ..stores.walks import headers_of
from ..text import described, safe
from ..threads import off_the_loop
from .diff import Difference, compared
from .draft import Draft
from .states import States

__all__ = ["MigrationPlan", "carry_out", "name_of", "plan_for"]

_LONGEST_NAME: Final = 255
_STAYS: Final = ("workflow_name", "iteration_count")
"""What a migration does not change: the run would be another one, or stand elsewhere."""


class MigrationPlan(NamedTuple):
    """What a migration of one run would write."""

    stream: StreamId
    """The run that is migrated."""
    name: str
    """The migration's."""
    origin: CheckpointEvent | None
    """The header of the checkpoint that it begins from: the last live one; None: there is none."""
    event: CheckpointEvent | None = None
    """The whole event that would be written; None: nothing is to be done."""
    differences: tuple[Difference, ...] = ()
    """Where its state differs from that of `origin`, by path; ids and times are left out."""
    refused: str = ""
    """Why the run is left alone, where it cannot be migrated."""
    done: str = ""
    """Why nothing is to be done, where that is as it should be."""


class _Refusal(Exception):  # noqa: N818 - a way out with the reason, and no error of the plan
    """The run is left alone."""


def name_of(function: object, name: str | None) -> str:
    """What a migration is called.

    Raises:
        TypeError: it is no plain function, or has no name of its own and was given none.
        ValueError: the name is blank or longer than 255 characters.
    """
    settings.plain_function("function", function)
    if name is None:
        module, qualname = (getattr(function, part, None) for part in ("__module__", "__qualname__"))
        if not (isinstance(module, str) and isinstance(qualname, str)):
            raise TypeError(f"A {type(function).__name__} has no name of its own: give the migration one with name=.")
        name = f"{module}:{qualname}"
    return settings.text("name", name, longest=_LONGEST_NAME)


async def plan_for(
    store: AuditStore,
    states: States,
    stream: StreamId,
    function: Callable[[Draft], object],
    *,
    name: str,
    run_id: str | None,
    actor: str | None,
) -> MigrationPlan:
    """What a migration would write; see `CheckpointAudit.plan_migration`."""
    headers = await headers_of(store, stream)
    if not headers:
        raise RunNotFoundError(f"There is no run {stream.run_id!r} of workflow {stream.workflow_name!r}.")
    origin = next(reversed(live(counted(headers)).values()), None)
    plan = MigrationPlan(stream, name, origin)
    if origin is None:
        return plan._replace(refused="it has no checkpoint that was not deleted")
    if headers[-1].seq >= MAX_SEQ:
        return plan._replace(refused="no event can follow its last one; see verify")
    target = stream if run_id is None else StreamId(stream.workflow_name, check_run_id(run_id))
    if target == stream and (holder := await holder_at(store, headers[-1])) is not None:
        return plan._replace(refused=f"it is {holder.named()}; migrate it when that is over")
    checkpoint_id = _checkpoint_id(origin, name, run_id)
    try:
        if seq := await _applied(store, headers, origin, name):
            return plan._replace(done=f"{name} was applied already, {seq}")
        if target != stream and (first := await _first_of(store, target)) is not None:
            if first.checkpoint_id == checkpoint_id:
                return plan._replace(done=f"{name} was applied already, as run {target.run_id!r}")
            raise _Refusal(f"there is a run {target.run_id!r} of workflow {target.workflow_name!r} already")
        before, after = await _edited(store, states, origin, function, checkpoint_id)
        if before == after:
            return plan._replace(done="it changes nothing")
        event = await _event(store, states, headers[-1], origin, target, after, name, actor)
        ours, theirs = await states.trees_of(before, after)
        found = await off_the_loop(len(before) + len(after), compared, ours, theirs)
    except (_Refusal, CheckpointDecodeError, CheckpointEncodeError, CheckpointNotFoundError) as error:
        return plan._replace(refused=safe(error))
    return plan._replace(event=event, differences=tuple(found))


async def carry_out(store: AuditStore, plan: MigrationPlan) -> CheckpointEvent:
    """Append the event of a plan, unless that was done already; its header.

    Raises:
        ValueError: the plan has none.
        CheckpointConflictError: the run was written to since or is claimed, or the new run is there by now. Nothing was
            written.
    """
    event = plan.event
    if event is None:
        raise ValueError(f"Run {plan.stream.run_id!r} is not to be migrated: {plan.refused or plan.done}.")
    await _refuse_claimed(store, event)
    try:
        await store.append(event)
    except StreamConflict as conflict:
        found = await store.find(event.checkpoint_id, stream=event.stream)
        if found is not None and found.event.digest == event.digest:
            return event.header()  # this very plan was carried out before
        why = "was written to meanwhile" if event.forked_from is None else "is there by now"
        raise CheckpointConflictError(
            f"Run {event.run_id!r} of workflow {event.workflow_name!r} {why}; the migration {safe(plan.name)} wrote "
            f"nothing at seq {event.seq}. Plan again.",
            stream=event.stream,
            expected_seq=event.seq,
            head=conflict.head,
        ) from conflict
    return event.header()


async def _refuse_claimed(store: AuditStore, event: CheckpointEvent) -> None:
    head = await head_of(store, event.stream)
    if head is None or head.seq >= event.seq:  # it is there already, or another one: the append tells
        return
    holder = await holder_at(store, head)
    if holder is not None:
        raise CheckpointConflictError(
            f"Run {event.run_id!r} of workflow {event.workflow_name!r} is {holder.named()}: nothing was migrated. Plan "
            "again when that is over.",
            stream=event.stream,
            expected_seq=event.seq,
            head=head,
        )


def _checkpoint_id(origin: CheckpointEvent, name: str, run_id: str | None) -> str:
    """The same for the same migration of the same checkpoint into the same run, so that doing it again finds it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(["eventckpt", origin.checkpoint_id, name, run_id])))


async def _applied(store: AuditStore, headers: Sequence[CheckpointEvent], tip: CheckpointEvent, name: str) -> str:
    """Where in the lineage that ends with `tip` there is a migration of this name; empty: nowhere.

    The lineage leads on through the runs that it was forked from. Where checkpoints of it are gone, a migration that
    the run had before them counts as one of it: not to migrate again is the safe way to be wrong.
    """
    seen: set[StreamId] = set()
    while True:
        seen.add(tip.stream)
        by_id = {header.checkpoint_id: header for header in headers if header.type == "checkpoint"}
        at: CheckpointEvent | None = tip
        first = tip
        while at is not None:
            first = at
            if at.migration is not None and at.migration.name == name:
                return f"at seq {at.seq} of run {at.run_id!r}"
            parent = by_id.pop(at.previous_checkpoint_id or "", None)  # once each: a forged lineage may be a circle
            at = parent if parent is not None and parent.seq < first.seq else None
        if first.previous_checkpoint_id is not None:
            for header in headers:
                if header.seq < first.seq and header.migration is not None and header.migration.name == name:
                    return f"at seq {header.seq} of run {header.run_id!r}"
        fork = headers[0].forked_from
        if fork is None or fork.checkpoint_id is None:
            return ""
        stream = StreamId(fork.workflow_name, fork.run_id)
        headers = [] if stream in seen else await headers_of(store, stream)
        found = next((header for header in headers if header.seq == fork.seq), None)
        if found is None:
            return ""
        tip = found


async def _first_of(store: AuditStore, stream: StreamId) -> CheckpointEvent | None:
    return next(iter(await headers_of(store, stream)), None)


async def _edited(
    store: AuditStore,
    states: States,
    origin: CheckpointEvent,
    function: Callable[[Draft], object],
    checkpoint_id: str,
) -> tuple[bytes, bytes]:
    """The raw bytes of the checkpoint in `origin`, and those of what the function made of it; the same ones where it
    changed nothing.

    Raises:
        CheckpointDecodeError, CheckpointNotFoundError: the checkpoint cannot be read.
        _Refusal: the function raised, or left something that is no checkpoint, or cannot be resumed.
    """
    events = await store.read(origin.stream, origin.seq)
    if not events:
        raise CheckpointNotFoundError(f"{origin.named()} is gone by now. Plan again.")
    before = await states.raw(events[0])
    root = await off_the_loop(len(before), _edit, before, function)
    if await off_the_loop(len(before), root.packed) == await off_the_loop(len(before), _repacked, before):
        return before, before
    root.fields["checkpoint_id"] = checkpoint_id
    root.fields["previous_checkpoint_id"] = origin.checkpoint_id
    root.fields["timestamp"] = now()
    after = await off_the_loop(len(before), root.packed)
    if len(after) > MAX_RAW_SIZE:
        raise _Refusal(f"what it leaves has {len(after):,} bytes; the limit is {MAX_RAW_SIZE:,}")
    return before, after


def _edit(raw: bytes, function: Callable[[Draft], object]) -> Root:
    try:
        root = opened(raw)
        stays = {field: root.fields.get(field) for field in _STAYS}
        draft = Draft(root.fields, root.shapes)
    except Exception as error:  # whatever damaged or hostile bytes come to
        raise CheckpointDecodeError(f"its checkpoint is damaged: {described(str(error))}") from error
    try:
        given = function(draft)
    except (Exception, SystemExit) as error:
        raise _Refusal(f"it raised {type(error).__name__}: {described(str(error))}") from error
    if given is not None:
        raise _Refusal(f"it returned {described(type(given).__name__)}: a migration edits what it is given")
    edited = Root(draft.fields, draft.shapes)
    try:
        edited.packed()
        changed = [field for field, value in stays.items() if draft.fields.get(field) != value]
        left = draft.left_behind()
    except Exception as error:  # whatever an application put in: a live object, a circle
        raise _Refusal(f"what it leaves is not as it is stored: {described(str(error))}") from error
    if changed:
        raise _Refusal(f"it changed {', '.join(changed)}, which a migration keeps")
    if left:
        raise _Refusal("; ".join(left))
    return edited


def _repacked(raw: bytes) -> bytes:
    return opened(raw).packed()


async def _event(
    store: AuditStore,
    states: States,
    head: CheckpointEvent,
    origin: CheckpointEvent,
    target: StreamId,
    raw: bytes,
    name: str,
    actor: str | None,
) -> CheckpointEvent:
    """The event that would be written, whole.

    Raises:
        CheckpointDecodeError, CheckpointEncodeError: what is in it could not be loaded again, or not told by a header.
    """
    try:
        checkpoint = await off_the_loop(len(raw), states.decoder.decode, raw)
    except CheckpointDecodeError as error:
        raise CheckpointDecodeError(f"what it leaves could not be loaded: {safe(error)}") from error
    header = msgspec.structs.replace(
        asked_since(header_of(checkpoint, actor), Tip.of(origin)),
        migration=Migration(name=name, graph_before=origin.graph_signature_hash),
        schema=SCHEMA_OF_MIGRATIONS,
    )
    payloads = Payloads(store, BaseCache(0))
    if target == origin.stream:
        payload = await payloads.encode(raw, target, origin.seq, origin.payload)
        return event_at(header, target, Head.of(head), payload, None)
    fork = ForkPoint(
        workflow_name=origin.workflow_name, run_id=origin.run_id, seq=origin.seq, checkpoint_id=origin.checkpoint_id
    )
    return event_at(header, target, EMPTY._replace(digest=origin.digest), await payloads.encode(raw, target), fork)
