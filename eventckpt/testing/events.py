"""Builders of events for the tests of an engine, and what those ask of any store."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from ..chain import sealed
from ..errors import StreamConflict
from ..events import (
    SCHEMA_OF_MIGRATIONS,
    SCHEMA_OF_SESSIONS,
    Annotation,
    CheckpointEvent,
    EventType,
    ForkPoint,
    Migration,
    Payload,
    PendingRequest,
    Pruned,
    Removal,
    RemovedRun,
    StreamId,
    Summary,
    Turn,
)
from ..stores import EventStore

__all__ = [
    "MANY",
    "RUNS",
    "STREAM",
    "append_chain",
    "as_appended",
    "dated",
    "headers_of",
    "make_event",
    "noise",
    "of_every_kind",
    "record_of",
    "refuses",
    "workflow_headers_of",
]

STREAM: Final = StreamId("workflow", "run")
MANY: Final = 620
"""More events than any engine gives in one page of a listing."""
RUNS: Final = 280
"""More runs than any engine gives in one page, and than one is asked for at once."""

_BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
_ticks = itertools.count()
_SUMMARY: Final = Summary(
    executor_ids=("first", "second"),
    messages={"first": 2, "second": 0},
    pending_requests=(PendingRequest(request_id="q1", source_executor_id="first", request_type="app:Question"),),
    answered_requests=("q0",),
    state_keys=("count", "größe"),
    more_state_keys=7,
)


def make_event(
    stream: StreamId,
    seq: int,
    *,
    previous: CheckpointEvent | None = None,
    data: bytes = b"state",
    type: EventType = "checkpoint",  # noqa: A002 - the event's own name for it
    checkpoint_id: str | None = None,
) -> CheckpointEvent:
    """A sealed event with every header field set, dated a millisecond after the one made before.

    Args:
        stream: the run it belongs to.
        seq: its position there.
        previous: the event whose digest it carries on: the stream's head, or what a fork began from.
        data: the payload's; not looked at by any engine.
        type: a tombstone has no payload.
        checkpoint_id: by default made of the stream and the seq, so that no two events share it by chance.
    """
    moment = (_BEGINNING + timedelta(milliseconds=next(_ticks))).isoformat()
    payload = Payload(
        encoding="zstd",
        base_seq=seq - 1 if seq > 1 else None,
        raw_size=3 * len(data),
        raw_sha256=hashlib.sha256(data).hexdigest(),
        stored_size=len(data),
        data=data,
        since_base=seq,
    )
    fork = None
    if previous is not None and previous.stream != stream:
        fork = ForkPoint(
            workflow_name=previous.workflow_name,
            run_id=previous.run_id,
            seq=previous.seq,
            checkpoint_id=previous.checkpoint_id,
        )
    return sealed(
        CheckpointEvent(
            type=type,
            workflow_name=stream.workflow_name,
            run_id=stream.run_id,
            seq=seq,
            checkpoint_id=checkpoint_id or f"checkpoint {seq} of {stream.run_id}, {stream.workflow_name}",
            previous_checkpoint_id=previous.checkpoint_id if previous else None,
            timestamp=moment,
            iteration_count=seq,
            graph_signature_hash="graph",
            checkpoint_version="1.0",
            summary=_SUMMARY,
            payload=payload if type == "checkpoint" else None,
            actor="someone",
            recorded_at=moment,
            forked_from=fork,
            previous_digest=previous.digest if previous else "",
        )
    )


async def append_chain(
    store: EventStore, stream: StreamId, count: int, *, data: bytes = b"state"
) -> list[CheckpointEvent]:
    """`count` events from the beginning of `stream`, each appended at the head."""
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        event = make_event(stream, seq, previous=events[-1] if events else None, data=data)
        await store.append(event)
        events.append(event)
    return events


def record_of(head: CheckpointEvent, gone: Iterable[CheckpointEvent], *more: Pruned) -> CheckpointEvent:
    """The record of a removal, behind `head`: of each event that is to go, neighbours in one stretch."""
    stretches: list[Pruned] = []
    for event in gone:
        if stretches and stretches[-1].last == event.seq - 1:
            stretches[-1] = msgspec.structs.replace(stretches[-1], last=event.seq, digest=event.digest)
        else:
            stretches.append(
                Pruned(first=event.seq, last=event.seq, previous_digest=event.previous_digest, digest=event.digest)
            )
    record = make_event(head.stream, head.seq + 1, previous=head, type="tombstone")
    return sealed(msgspec.structs.replace(record, checkpoint_id="", pruned=(*stretches, *more)))


def dated(event: CheckpointEvent, moment: str) -> CheckpointEvent:
    """`event` as the clocks of its checkpoint and of its writer would have dated it at `moment`."""
    return sealed(msgspec.structs.replace(event, timestamp=moment, recorded_at=moment))


def noise(size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return hashlib.shake_256(b"noise").digest(size)


def as_appended(event: CheckpointEvent) -> CheckpointEvent:
    """`event` without what an engine may note in it of its own: the parts that a large payload lies in."""
    if event.payload is None:
        return event
    return msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, parts=()))


async def refuses(store: EventStore, event: CheckpointEvent, *, head: CheckpointEvent | None) -> None:
    """`event` cannot be appended to `store`, whose head is `head`."""
    with pytest.raises(StreamConflict) as conflict:
        await store.append(event)
    assert conflict.value.head == (head.header() if head else None)
    assert (conflict.value.stream, conflict.value.seq) == (event.stream, event.seq)


async def headers_of(
    store: EventStore, stream: StreamId, *, gt: int = 0, lte: int | None = None, desc: bool = False
) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream, gt=gt, lte=lte, desc=desc)]


async def workflow_headers_of(store: EventStore, workflow_name: str, *, desc: bool = False) -> list[CheckpointEvent]:
    return [header async for header in store.workflow_headers(workflow_name, desc=desc)]


def of_every_kind(stream: StreamId, origin: CheckpointEvent) -> list[CheckpointEvent]:
    """The log of a run that `origin` was forked to, in which every field of an event has a value."""
    question = PendingRequest(
        request_id="q1",
        source_executor_id="asks",
        request_type="app:Question",
        asked_at="2026-01-01T00:00:00+00:00",
        response_type="builtins:bool",
        prompt="May it?",
    )
    first = make_event(stream, 1, previous=origin)
    second = make_event(stream, 2, previous=first)
    stretch = Pruned(first=1, last=1, previous_digest=first.previous_digest, digest=first.digest)
    removal = msgspec.structs.replace(
        make_event(stream, 3, previous=second, type="tombstone"), checkpoint_id="", pruned=(stretch,)
    )
    migrated = msgspec.structs.replace(
        make_event(stream, 4, previous=sealed(removal)),
        migration=Migration(name="app:v2", graph_before="graph before"),
        schema=SCHEMA_OF_MIGRATIONS,
    )
    turn = msgspec.structs.replace(
        make_event(stream, 5, previous=sealed(migrated)),
        type="turn",
        turn=Turn(roles={"user": 1}, continues="turn before", session="session"),
        schema=SCHEMA_OF_SESSIONS,
    )
    clearing = msgspec.structs.replace(
        make_event(stream, 6, previous=sealed(turn), type="tombstone"),
        checkpoint_id="",
        cleared={"session~0": 3},
        schema=SCHEMA_OF_SESSIONS,
    )
    asking = msgspec.structs.replace(
        make_event(stream, 7, previous=sealed(clearing)),
        summary=Summary(pending_requests=(question,)),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    claim = msgspec.structs.replace(
        make_event(stream, 8, previous=sealed(asking), type="tombstone"),
        checkpoint_id="",
        claim=8,
        annotation=Annotation(outcome="failed", reason="why", tags={"customer": "c-17"}, hold=True, carried=True),
    )
    removed = RemovedRun(run_id="gone", seq=5, digest=first.digest)
    closing = msgspec.structs.replace(
        make_event(stream, 9, previous=sealed(claim), type="tombstone"),
        checkpoint_id="",
        pruned=(stretch,),
        closes=True,
        removal=Removal(runs=(removed,), reason="why", archive="runs.jsonl", archive_sha256=first.digest),
    )
    return [*map(sealed, (first, second, removal, migrated, turn, clearing, asking, claim, closing))]
