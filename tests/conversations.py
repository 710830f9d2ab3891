"""Sessions as a history provider writes them, event by event: turns, branches, forks, clears."""

from __future__ import annotations

from collections import Counter
from typing import Any

from agent_framework import Content, Message
from msgspec.structs import replace

from eventckpt import CheckpointCodec, CheckpointEvent, StreamId, delta
from eventckpt.chain import sealed
from eventckpt.events import SCHEMA_OF_SESSIONS, ForkPoint, Turn
from eventckpt.stores import AuditStore

SOURCE = "chat"
CODEC = CheckpointCodec()


def session(name: str = "s1") -> StreamId:
    return StreamId(SOURCE, name)


def asked(text: str, answer: str) -> list[Message]:
    """A question and its answer."""
    return [Message("user", [text], message_id=f"q-{text}"), Message("assistant", [answer], message_id=f"a-{text}")]


def looked_up(name: str = "find") -> list[Message]:
    """A call of a tool, and what it gave."""
    return [
        Message("assistant", [Content.from_function_call("call-1", name, arguments={"number": 7})]),
        Message("tool", [Content.from_function_result("call-1", result="found \x1b[2J it")]),
    ]


def turn_event(
    stream: StreamId,
    seq: int,
    messages: list[Message],
    *,
    previous: CheckpointEvent | None = None,
    turn_id: str | None = None,
    moment: str = "2026-05-01T10:00:00+00:00",
    **fields: Any,
) -> CheckpointEvent:
    """A turn of these messages. `previous` of another stream: what a branch or fork begins from."""
    turn = {name: fields.pop(name) for name in ("continues", "session") if name in fields}
    origin = None
    if previous is not None and previous.stream != stream:
        origin = ForkPoint(
            workflow_name=previous.workflow_name,
            run_id=previous.run_id,
            seq=previous.seq,
            checkpoint_id=previous.checkpoint_id,
        )
    values = {"messages": [message.to_dict() for message in messages]}
    event = CheckpointEvent(
        type="turn",
        workflow_name=stream.workflow_name,
        run_id=stream.run_id,
        seq=seq,
        checkpoint_id=turn_id or f"{stream.run_id}-t{seq}",
        previous_checkpoint_id=(previous.checkpoint_id or None) if previous is not None else None,
        timestamp=moment,
        recorded_at=moment,
        actor="the shop",
        payload=delta.encode(CODEC.encode_values(values)),
        turn=Turn(roles=dict(Counter(message.role for message in messages)), **turn),
        forked_from=origin,
        previous_digest=previous.digest if previous is not None else "",
        schema=SCHEMA_OF_SESSIONS,
    )
    return sealed(event)


def damaged(turn: CheckpointEvent) -> CheckpointEvent:
    """The same as it was written, and then changed in its messages."""
    payload = turn.payload
    assert payload is not None
    return replace(turn, payload=replace(payload, data=b"\x00" + payload.data[1:]))


def clear_event(previous: CheckpointEvent, **branches: int) -> CheckpointEvent:
    """What hides all before it, and each branch up to a seq."""
    moment = "2026-05-02T10:00:00+00:00"
    return sealed(
        CheckpointEvent(
            type="tombstone",
            workflow_name=previous.workflow_name,
            run_id=previous.run_id,
            seq=previous.seq + 1,
            checkpoint_id="",
            timestamp=moment,
            recorded_at=moment,
            cleared=branches,
            previous_digest=previous.digest,
            schema=SCHEMA_OF_SESSIONS,
        )
    )


async def talked(store: AuditStore, stream: StreamId, *texts: str) -> list[CheckpointEvent]:
    """A session with a turn for each text, appended."""
    events: list[CheckpointEvent] = []
    for seq, text in enumerate(texts, 1):
        moment = f"2026-05-01T10:{seq:02}:00+00:00"
        previous = events[-1] if events else None
        events.append(turn_event(stream, seq, asked(text, f"{text}!"), previous=previous, moment=moment))
        await store.append(events[-1])
    return events


async def branched(store: AuditStore, origin: CheckpointEvent, *texts: str, digits: str = "0" * 12) -> StreamId:
    """A branch from a turn of a session, with a turn for each text; its stream."""
    branch = StreamId(origin.workflow_name, f"{origin.run_id}~{digits}")
    previous = origin
    for seq, text in enumerate(texts, 1):
        own = {"session": origin.run_id} if seq == 1 else {}
        previous = turn_event(branch, seq, asked(text, f"{text}!"), previous=previous, **own)
        await store.append(previous)
    return branch


async def forked(store: AuditStore, origin: CheckpointEvent, name: str, *texts: str) -> StreamId:
    """A session of its own that goes on from a turn of another, by an empty turn."""
    stream = StreamId(origin.workflow_name, name)
    previous = turn_event(stream, 1, [], previous=origin)
    await store.append(previous)
    for seq, text in enumerate(texts, 2):
        previous = turn_event(stream, seq, asked(text, f"{text}!"), previous=previous)
        await store.append(previous)
    return stream
