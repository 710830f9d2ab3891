"""A turn that cannot be read is named, and does no harm; the others can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError, CheckpointEvent, StreamId
from eventckpt.chain import sealed
from eventckpt.delta import encode
from eventckpt.events import Pruned
from eventckpt.history import EventHistoryProvider
from eventckpt.storage.compose import removal_after
from eventckpt.stores import AuditStore

from ..engines import Engine
from .histories import Histories, question_and_answer, stored
from .models import turn_of

GOOD = {"type": "message", "role": "user", "contents": [{"type": "text", "text": "good"}]}
BAD: Mapping[str, object] = {
    "a message that is no mapping": {"messages": ["bad"]},
    "a message that is nothing": {"messages": [GOOD, None]},
    "a message without a role": {"messages": [{"type": "message", "contents": []}]},
    "a role that is a number": {"messages": [{**GOOD, "role": 5}]},
    "an id that is a number": {"messages": [{**GOOD, "message_id": 5}]},
    "an author who is a list": {"messages": [{**GOOD, "author_name": ["me"]}]},
    "contents that are a number": {"messages": [{**GOOD, "contents": 5}]},
    "a content that is a number": {"messages": [{**GOOD, "contents": [5]}]},
    "a content of no type": {"messages": [{**GOOD, "contents": [{"text": "x"}]}]},
    "messages that are a mapping": {"messages": {"0": GOOD}},
    "messages that are a text": {"messages": "bad"},
    "no messages": {},
}


async def with_a_bad_turn(histories: Histories, engine: Engine, raw: bytes) -> None:
    """A turn, one after it that a stranger has written, and one after that."""
    history = histories.open(source_id="chat")
    await history.save_messages("s", question_and_answer("one"))
    histories.settle()
    sessions, stream = engine.open().sessions(), StreamId("chat", "s")
    [first] = await sessions.read(stream, 1)
    await sessions.append(following(first, raw))
    histories.settle()
    await history.save_messages("s", question_and_answer("two"))
    histories.settle()


def following(first: CheckpointEvent, raw: bytes) -> CheckpointEvent:
    """The event behind `first`, as whoever can write to the store may make it."""
    return sealed(
        msgspec.structs.replace(
            first, seq=2, checkpoint_id="bad", previous_digest=first.digest, digest="", payload=encode(raw)
        )
    )


def bad_bytes() -> list[Any]:
    codec = CheckpointCodec()
    made = [pytest.param(codec.encode_values(values), id=name) for name, values in BAD.items()]
    return [*made, pytest.param(b"\xc1 no MessagePack", id="bytes that are nothing"), pytest.param(b"", id="no bytes")]


@pytest.mark.parametrize("raw", bad_bytes())
async def test_a_turn_that_cannot_be_read_is_named(histories: Histories, engine: Engine, raw: bytes) -> None:
    await with_a_bad_turn(histories, engine, raw)
    with pytest.raises(CheckpointDecodeError) as raised:
        await histories.open(source_id="chat").get_messages("s")
    said = str(raised.value)
    assert "seq 2" in said
    assert "'s'" in said
    assert "'chat'" in said


@pytest.mark.parametrize("raw", bad_bytes())
async def test_whoever_asks_for_it_gets_the_others(histories: Histories, engine: Engine, raw: bytes) -> None:
    await with_a_bad_turn(histories, engine, raw)
    history: EventHistoryProvider = histories.open(source_id="chat", on_unreadable="skip")
    found = await stored(history)
    assert [text for text in found if text != "good"] == [*turn_of("one"), *turn_of("two")]


async def test_the_turns_before_it_can_be_read(histories: Histories, engine: Engine) -> None:
    await with_a_bad_turn(histories, engine, CheckpointCodec().encode_values({"messages": [None]}))
    history = histories.open(source_id="chat")
    assert [message.text for message in await history.get_messages("s", state={"seq": 1})] == turn_of("one")


@pytest.mark.parametrize("missing", [{1}, {2}, {2, 3}, {1, 3}, {1, 2, 3}])
async def test_turns_that_are_gone_without_a_record_are_named(
    histories: Histories, engine: Engine, missing: set[int]
) -> None:
    """Whoever takes one away changes what an agent believes was said."""
    history = histories.open(source_id="chat")
    for question in ("one", "two", "three", "four"):
        await history.save_messages("s", question_and_answer(question))
    histories.settle()
    kept = [seq for seq in range(1, 5) if seq not in missing]
    await copy_some(engine, kept)
    histories.settle()

    name = re.escape("of session 'copy' (source 'chat')")
    with pytest.raises(CheckpointDecodeError, match=f"Seqs .* {name} are not there"):
        await histories.open(source_id="chat").get_messages("copy")
    skips = histories.open(source_id="chat", on_unreadable="skip")
    questions = ["one", "two", "three", "four"]
    assert await stored(skips, "copy") == [text for seq in kept for text in turn_of(questions[seq - 1])]
    assert await stored(histories.open(source_id="chat", max_messages=2), "copy") == turn_of("four")


async def copy_some(engine: Engine, seqs: list[int]) -> None:
    """A stream that has some of the events of another one, as they are but for its name."""
    sessions, stream = engine.open().sessions(), StreamId("chat", "copy")
    events = await sessions.read(StreamId("chat", "s"), *seqs)
    copies = [sealed(msgspec.structs.replace(event, run_id="copy", digest="")) for event in events]
    assert isinstance(sessions, AuditStore)
    await sessions.put(stream, copies)


async def test_what_is_recorded_as_erased_is_not_shown_though_it_is_there(histories: Histories, engine: Engine) -> None:
    """Who erases records it first, and may be stopped before anything goes."""
    history = histories.open(source_id="chat")
    await history.save_messages("s", question_and_answer("one"))
    histories.settle()
    sessions = engine.open().sessions()
    head = await sessions.last("chat", "s")
    assert head is not None
    gap = Pruned(first=1, last=1, previous_digest="", digest=head.digest)
    await sessions.append(removal_after(head.header(), (gap,), None))
    histories.settle()
    assert await stored(histories.open(source_id="chat")) == []
    await history.save_messages("s", question_and_answer("two"))
    histories.settle()
    assert await stored(histories.open(source_id="chat")) == turn_of("two")
