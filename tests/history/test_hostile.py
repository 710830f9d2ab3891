"""A turn that somebody made, or damaged: it is refused by name, and the turns beside it stay readable and go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from agent_framework import Message

from eventckpt import CheckpointDecodeError, EventHistoryProvider
from eventckpt.chain import sealed
from eventckpt.delta import encode
from eventckpt.events import SCHEMA_OF_SESSIONS, CheckpointEvent, ForkPoint, StreamId, Turn

from ..engines import Engine

SESSION = StreamId("event_history", "s")
MOMENT = "2026-11-27T00:00:00+00:00"
TEXT = {"type": "text", "text": "bad"}
GOOD: dict[str, Any] = {
    "type": "message",
    "role": "user",
    "contents": [TEXT | {"text": "beside"}],
    "message_id": "beside",
    "additional_properties": {},
}


def nested(levels: int) -> Any:
    node: Any = []
    for _ in range(levels):
        node = [node]
    return node


def content(**fields: Any) -> dict[str, Any]:
    return GOOD | {"contents": [TEXT | fields]}


MESSAGES: dict[str, Any] = {
    "a number": 5,
    "a list": [],
    "nothing": None,
    "an object of the framework": {"$": "agent_framework._types:Message", "s": {"role": "user"}},
    "no role": {name: value for name, value in GOOD.items() if name != "role"},
    "another class": GOOD | {"type": "agent_response"},
    "a field that no message has": GOOD | {"unheard_of": 1},
    "properties that are a number": GOOD | {"additional_properties": 5},
    "contents that are a number": GOOD | {"contents": 5},
    "a content that is a number": GOOD | {"contents": [5]},
    "a content that is a list": GOOD | {"contents": [[]]},
    "a content without a type": GOOD | {"contents": [{"text": "bad"}]},
    "a content without its parts": GOOD | {"contents": [{"$": "agent_framework._types:Content", "s": {"type": "x"}}]},
    "a content whose properties are a number": content(additional_properties=5),
    **{f"{name} {value!r}": GOOD | {name: value} for name in ("role", "message_id", "author_name")
       for value in (5, ["user"], {"a": 1})},
    **{f"a content's {name} {value!r}": content(**{name: value})
       for name in ("type", "text", "uri", "call_id", "name") for value in (5, ["x"], {"a": 1})},
}  # fmt: skip
"""What is refused by itself: the messages beside it in the turn are read."""

VALUES: dict[str, Any] = {
    "no list": 5,
    "no messages": None,
    "a reference to nothing": [GOOD | {"additional_properties": {"a": {"$": "ref", "i": 99}}}],
    "a type that nobody allowed": [GOOD | {"additional_properties": {"a": {"$": "os:system", "s": {}}}}],
    "an unknown form": [GOOD | {"additional_properties": {"a": {"$": "nonsense"}}}],
    "a malformed form": [GOOD | {"additional_properties": {"a": {"$": "dict", "l": [[1, 2]]}}}],
    "deeper than can be": [GOOD | {"additional_properties": {"a": nested(250)}}],
    "far deeper than can be": [GOOD | {"additional_properties": {"a": nested(900)}}],
}
"""What makes a turn unreadable as a whole."""

PAYLOAD = encode(msgspec.msgpack.encode({"messages": [GOOD]}))

HEADERS: dict[str, dict[str, Any]] = {
    "no payload": {"payload": None},
    "an unknown encoding": {"payload": msgspec.structs.replace(PAYLOAD, encoding="nonsense")},
    "a size that is not its own": {"payload": msgspec.structs.replace(PAYLOAD, raw_size=3)},
    "a size beyond all": {"payload": msgspec.structs.replace(PAYLOAD, raw_size=1 << 40)},
    "another digest of its content": {"payload": msgspec.structs.replace(PAYLOAD, raw_sha256="0" * 64)},
    "roles that are no numbers": {"turn": Turn(roles={"user": "many"})},  # type: ignore[dict-item]
    "a later schema": {"schema": 99},
}


def event(**fields: Any) -> CheckpointEvent:
    whole = {
        "type": "turn",
        "workflow_name": SESSION.workflow_name,
        "run_id": SESSION.run_id,
        "seq": 2,
        "checkpoint_id": "bad",
        "timestamp": MOMENT,
        "recorded_at": MOMENT,
        "payload": PAYLOAD,
        "turn": Turn(roles={"user": 1}),
        "schema": SCHEMA_OF_SESSIONS,
    }
    return sealed(CheckpointEvent(**(whole | fields)))


def holding(messages: Any) -> dict[str, Any]:
    return {"payload": encode(msgspec.msgpack.encode({"messages": messages} if messages is not None else {}))}


async def between_two_turns(engine: Engine, bad: Callable[[str], CheckpointEvent]) -> None:
    """The session: a turn, the bad one, and a turn of somebody who passes over what cannot be read."""
    provider = EventHistoryProvider(engine.open(), on_unreadable="skip")
    await provider.save_messages(SESSION.run_id, [Message("user", ["one"])])
    store = engine.open().sessions()
    engine.settle()
    async with aclosing(store.headers(SESSION)) as headers:
        [first] = [header async for header in headers]
    await store.append(bad(first.digest))
    engine.settle()
    state: dict[str, Any] = {}
    seen = await provider.get_messages(SESSION.run_id, state=state)
    await provider.save_messages(SESSION.run_id, [*seen, Message("user", ["three"])], state=state)
    engine.settle()


async def check_refused(engine: Engine, *readable: str) -> None:
    """That the bad turn is refused by name, and that these texts are what stays."""
    refusing = EventHistoryProvider(engine.open())
    for asked in (refusing.get_messages, refusing.messages):
        with pytest.raises(
            CheckpointDecodeError, match=r"(?i)turn bad \(seq 2 of session 's', source 'event_history'\)"
        ):
            await asked(SESSION.run_id)
    for options in ({}, {"max_messages": 10}, {"skip_excluded": True}):
        skipping = EventHistoryProvider(engine.open(), on_unreadable="skip", **options)  # type: ignore[arg-type]
        assert [message.text for message in await skipping.get_messages(SESSION.run_id)] == list(readable)
        assert [message.text for message in await skipping.messages(SESSION.run_id, limit=10)] == list(readable)
    assert await refusing.list_sessions() == [SESSION.run_id]


@pytest.mark.parametrize("kind", MESSAGES)
async def test_a_hostile_message_is_refused_by_name_and_those_beside_it_are_read(engine: Engine, kind: str) -> None:
    messages = holding([GOOD, MESSAGES[kind]])
    await between_two_turns(engine, lambda digest: event(**messages, previous_digest=digest))
    await check_refused(engine, "one", "beside", "three")


@pytest.mark.parametrize("kind", VALUES)
async def test_a_hostile_turn_is_refused_by_name_and_those_beside_it_are_read(engine: Engine, kind: str) -> None:
    await between_two_turns(engine, lambda digest: event(**holding(VALUES[kind]), previous_digest=digest))
    await check_refused(engine, "one", "three")


@pytest.mark.parametrize("kind", HEADERS)
async def test_a_hostile_header_is_refused_by_name_and_the_turns_beside_it_are_read(engine: Engine, kind: str) -> None:
    await between_two_turns(engine, lambda digest: event(**HEADERS[kind], previous_digest=digest))
    await check_refused(engine, "one", "three")


async def test_a_turn_that_was_changed_is_refused_by_name(engine: Engine) -> None:
    await between_two_turns(
        engine, lambda digest: msgspec.structs.replace(event(previous_digest=digest), digest="0" * 64)
    )
    await check_refused(engine, "one", "three")


@pytest.mark.parametrize("roles", [{"user": -(10**9)}, {"user": 1 << 62}, {str(number): 1 for number in range(10_000)}])
async def test_what_a_header_says_of_its_roles_keeps_nobody_from_reading(engine: Engine, roles: dict[str, int]) -> None:
    await between_two_turns(engine, lambda digest: event(turn=Turn(roles=roles), previous_digest=digest))
    provider = EventHistoryProvider(engine.open())
    assert [message.text for message in await provider.get_messages(SESSION.run_id)] == ["one", "beside", "three"]
    paged = EventHistoryProvider(engine.open(), max_messages=2)
    assert [message.text for message in await paged.get_messages(SESSION.run_id)] == ["beside", "three"]


async def test_sessions_that_say_that_they_go_on_from_each_other_are_refused(engine: Engine) -> None:
    store = engine.open().sessions()
    for run_id, other in (("s", "t"), ("t", "s")):
        origin = ForkPoint(workflow_name=SESSION.workflow_name, run_id=other, seq=1, checkpoint_id="bad")
        await store.append(event(run_id=run_id, seq=1, forked_from=origin))
    engine.settle()
    with pytest.raises(CheckpointDecodeError, match="goes on from itself"):
        await EventHistoryProvider(engine.open()).get_messages("s")
