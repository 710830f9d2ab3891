"""The framework's `SessionStore`: what its own tests ask of it, and that nobody overwrites what they have not seen."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentSession, Message, SessionStore, WorkflowCheckpoint, register_state_type

from eventckpt import (
    CheckpointDecodeError,
    EventCheckpointStorage,
    EventSessionStore,
    SessionConflictError,
    SqliteEventStore,
    SqliteSessionStore,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.history import SESSIONS

from .sessions import Losing, Lost, Sessions, session_of


class Registered:
    """A state type of the application's own."""

    def __init__(self, value: str) -> None:
        self.value = value


def _registered_from(payload: Mapping[str, Any]) -> Registered:
    return Registered(payload["value"])


register_state_type(
    Registered,
    type_id="eventckpt_tests_registered",
    encoder=lambda value: {"value": value.value},
    decoder=_registered_from,
)

# As the framework's tests of SessionStore have it


def test_it_is_a_session_store_and_marked_experimental_as_that_is() -> None:
    assert issubclass(EventSessionStore, SessionStore)
    assert vars(SessionStore)["__feature_stage__"] == getattr(EventSessionStore, "__feature_stage__", None)


async def test_get_returns_none_for_missing_id(sessions: Sessions) -> None:
    assert await sessions.store().get("session-1") is None


async def test_set_then_get_returns_independent_copy(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session := session_of(nested={"values": ["original"]}))

    stored = await store.get("session-1")
    assert stored is not None
    assert stored is not session
    stored.state["nested"]["values"].append("changed")

    reread = await store.get("session-1")
    assert reread is not None
    assert reread.state["nested"]["values"] == ["original"]


async def test_set_stores_independent_snapshot(sessions: Sessions) -> None:
    store = sessions.store()
    session = session_of(nested={"values": ["original"]})

    setting = asyncio.create_task(store.set("session-1", session))
    await asyncio.sleep(0)  # it has begun
    session.state["nested"]["values"].append("changed")
    await setting

    stored = await store.get("session-1")
    assert stored is not None
    assert stored.state["nested"]["values"] == ["original"]


async def test_set_replaces_existing_entry(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session_of("first"))
    await store.set("session-1", session_of("second"))

    stored = await store.get("session-1")
    assert stored is not None
    assert stored.session_id == "second"


async def test_delete_forgets_session(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session_of())
    await store.delete("session-1")
    assert await store.get("session-1") is None
    await store.delete("session-1")
    await store.delete("session-2")
    await store.set("session-1", session_of(again=True))
    assert await store.get("session-1") is not None


KEYS = ("two words", "tenant/user", "session.id", "café", "telegram:123:456", "CON", "NUL.txt", "COM¹", ".", "..", " ")
LONG_OR_ODD_KEYS = (
    "x" * 128,
    "x" * 255,
    "x" * 256,
    "x" * 5000,
    "é" * 255,
    "a\\b?c#d",
    "\x00\n",
    "sha256:a",
    "\ud800",
    "~",
)


@pytest.mark.parametrize("session_id", [*KEYS, *LONG_OR_ODD_KEYS], ids=lambda key: ascii(key)[:20])
async def test_accepts_opaque_non_empty_session_id(sessions: Sessions, session_id: str) -> None:
    store = sessions.store()
    await store.set(session_id, session_of("framework-session"))
    stored = await store.get(session_id)
    assert stored is not None
    assert stored.session_id == "framework-session"
    await store.delete(session_id)
    assert await store.get(session_id) is None


@pytest.mark.parametrize("session_id", ["", None, 5, b"session"])
async def test_an_id_that_is_no_text_or_empty_raises(sessions: Sessions, session_id: Any) -> None:
    store = sessions.store()
    for call in (store.get(session_id), store.set(session_id, session_of()), store.delete(session_id)):
        with pytest.raises(ValueError, match="session_id"):
            await call
    with pytest.raises(ValueError, match="session_id"):
        store.validate_session_id(session_id)


# As its tests of FileSessionStore have it


async def test_round_trips_session_across_store_instances(sessions: Sessions) -> None:
    session = AgentSession(session_id="framework-session", service_session_id={"response_id": "resp-1"})
    session.state["nested"] = {
        "messages": [Message(role="user", contents=["hello"])],
        "custom": [Registered("persisted")],
    }
    await sessions.store().set("tenant_user-conversation", session)
    sessions.settle()
    restored = await sessions.store().get("tenant_user-conversation")

    assert restored is not None
    assert restored is not session
    assert restored.session_id == "framework-session"
    assert restored.service_session_id == {"response_id": "resp-1"}
    assert isinstance(restored.state["nested"]["messages"][0], Message)
    assert restored.state["nested"]["messages"][0].text == "hello"
    assert isinstance(restored.state["nested"]["custom"][0], Registered)
    assert restored.state["nested"]["custom"][0].value == "persisted"


async def test_rejects_custom_agent_session_subclass(sessions: Sessions) -> None:
    class CustomAgentSession(AgentSession):
        pass

    store = sessions.store()
    with pytest.raises(TypeError, match="AgentSession instances only"):
        await store.set("custom-session", CustomAgentSession(session_id="custom-session"))
    assert await store.get("custom-session") is None


@pytest.mark.parametrize(
    "state",
    [
        {"value": {"type": "eventckpt_tests_registered"}},
        {"value": [{"type": "message", "role": "user", "contents": [123]}]},
    ],
    ids=["its decoder finds no field", "a message of no contents"],
)
async def test_what_a_registered_decoder_fails_on_stays_where_it_is(sessions: Sessions, state: dict[str, Any]) -> None:
    store = sessions.store()
    await store.set("session-1", session_of(**state))  # as text it may be said: it is the reader who knows the type
    for _ in range(2):
        with pytest.raises(CheckpointDecodeError, match=r"'session-1' at seq 1: failed to restore session state"):
            await store.get("session-1")


@pytest.mark.parametrize(
    "value",
    [
        {"type": "session", "session_id": 123, "service_session_id": None, "state": {}},
        {"type": "session", "session_id": "", "service_session_id": None, "state": {}},
        {"type": "session", "session_id": "a", "service_session_id": 5, "state": {}},
        {"type": "session", "session_id": "a", "service_session_id": None, "state": []},
        {"type": "session", "session_id": "a", "service_session_id": None},
        {"type": "session", "session_id": "a", "service_session_id": None, "state": {}, "of a later version": 1},
        {"type": "thread", "session_id": "a", "service_session_id": None, "state": {}},
        {},
    ],
    ids=json.dumps,
)
async def test_what_is_no_session_is_refused_and_stays_where_it_is(sessions: Sessions, value: dict[str, Any]) -> None:
    snapshots = sessions.snapshots()
    await snapshots.set("session-1", value)
    sessions.settle()
    with pytest.raises(
        CheckpointDecodeError, match="'session-1' at seq 1 cannot be read: what is stored is no session"
    ):
        await sessions.store().get("session-1")
    found = await snapshots.get("session-1")
    assert found is not None
    assert found[0] == value


# Nobody overwrites what they have not seen


async def test_of_two_requests_that_got_a_session_the_slower_one_hears_of_it(sessions: Sessions) -> None:
    await sessions.store().set("session-1", session_of(count=1))
    sessions.settle()
    one_store = sessions.store()
    for other_store in (one_store, sessions.store()):
        first, second = await one_store.get("session-1"), await other_store.get("session-1")
        assert first is not None
        assert second is not None
        first.state["count"] += 1
        second.state["count"] += 1
        await one_store.set("session-1", first)
        for _ in range(2):
            with pytest.raises(
                SessionConflictError, match=r"^'session-1' of 'eventckpt:sessions' was .* Read it again"
            ) as told:
                await other_store.set("session-1", second)
        assert isinstance(told.value, RuntimeError)
        assert told.value.stream == StreamId(SESSIONS, "session-1")
        assert told.value.head is not None
        assert told.value.expected_seq == told.value.head.seq
        sessions.settle()
        again = await other_store.get("session-1")
        assert again is not None
        assert again.state == first.state
        again.state["count"] += 1
        await other_store.set("session-1", again)
        sessions.settle()
    last = await one_store.get("session-1")
    assert last is not None
    assert last.state == {"count": 5}


async def test_what_was_set_may_be_set_again_by_who_holds_it(sessions: Sessions) -> None:
    store = sessions.store()
    session = session_of(count=0)
    for count in range(3):
        session.state["count"] = count
        await store.set("session-1", session)
    got = await store.get("session-1")
    assert got is not None
    for count in range(3, 6):
        got.state["count"] = count
        await store.set("session-1", got)
    with pytest.raises(SessionConflictError):
        await store.set("session-1", session)


async def test_sets_of_one_session_beside_each_other_end_with_the_last(sessions: Sessions) -> None:
    store = sessions.store()
    session = session_of()
    settings: list[asyncio.Task[None]] = []
    for count in range(10):
        session.state["count"] = count
        settings.append(asyncio.create_task(store.set("session-1", session)))
        await asyncio.sleep(0)  # it takes the state as it is now
    await asyncio.gather(*settings)
    stored = await store.get("session-1")
    assert stored is not None
    assert stored.state == {"count": 9}


async def test_a_session_that_nobody_asked_for_is_written_over_whatever_is_there(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session_of(by="one"))
    sessions.settle()
    other = sessions.store()
    for by in ("two", "three"):
        await other.set("session-1", session_of(by=by))
        stored = await other.get("session-1")
        assert stored is not None
        assert stored.state == {"by": by}


COPIES: dict[str, Callable[[AgentSession], AgentSession]] = {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("of", ["what get gave", "what was set"])
async def test_copies_have_seen_what_the_session_has_and_are_writers_of_their_own(
    sessions: Sessions, copied: str, of: str
) -> None:
    store = sessions.store()
    session = session_of()
    await store.set("session-1", session)
    if of == "what get gave":
        got = await store.get("session-1")
        assert got is not None
        session = got
    first, second = COPIES[copied](session), COPIES[copied](session)
    for count in range(2):
        first.state["count"] = count
        await store.set("session-1", first)
    for behind in (session, second, COPIES[copied](second)):
        with pytest.raises(SessionConflictError, match="was written to by another writer"):
            await store.set("session-1", behind)
    await store.set("session-1", COPIES[copied](first))
    with pytest.raises(SessionConflictError):
        await store.set("session-1", first)


@pytest.mark.parametrize("through", ["pickle", "a checkpoint"])
async def test_what_is_kept_of_a_session_elsewhere_has_nothing_of_where_it_was_seen(
    sessions: Sessions, through: str
) -> None:
    store = sessions.store()
    await store.set("session-1", session_of(count=1))
    got = await store.get("session-1")
    assert got is not None
    if through == "pickle":
        pickled = pickle.dumps(got)
        assert b"eventckpt." not in pickled
        other = pickle.loads(pickled)
    else:
        storage = EventCheckpointStorage(sessions.opened())
        kept = WorkflowCheckpoint(workflow_name="w", graph_signature_hash="h", state={"session": got})
        other = (await storage.load(await storage.save(kept))).state["session"]
    assert other.to_dict() == got.to_dict()
    await store.set("session-1", got)
    await store.set("session-1", other)  # as one that nobody asked for


async def in_a_task(call: Coroutine[Any, Any, Any]) -> Any:
    """As a request of its own makes it."""
    return await asyncio.create_task(call)


@pytest.mark.parametrize("stores", [1, 2])
async def test_of_two_requests_that_found_no_session_the_slower_one_hears_of_the_other(
    sessions: Sessions, stores: int
) -> None:
    first, second = (sessions.store() for _ in range(2)) if stores == 2 else [sessions.store()] * 2
    both = asyncio.Barrier(2)

    async def request(store: EventSessionStore, by: str) -> None:
        assert await store.get("session-1") is None
        await both.wait()
        made = session_of(by=by)
        for _ in range(2):
            await store.set("session-1", made)

    outcomes = await asyncio.gather(request(first, "first"), request(second, "second"), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert [type(outcome) for outcome in failed] == [SessionConflictError]
    stored = await sessions.store().get("session-1")
    assert stored is not None
    assert stored.state["by"] == ("first" if outcomes[0] is None else "second")


async def test_what_a_task_found_is_known_to_those_that_it_starts_and_to_no_other(sessions: Sessions) -> None:
    store = sessions.store()

    async def request() -> None:
        assert await store.get("session-1") is None
        await in_a_task(sessions.store().set("session-1", session_of(by="another")))
        with pytest.raises(SessionConflictError):
            await in_a_task(store.set("session-1", session_of(by="mine")))

    await in_a_task(request())
    await store.set("session-1", session_of(by="who did not ask"))


async def test_who_found_no_session_may_set_one_that_was_made_since_once_they_have_got_it(sessions: Sessions) -> None:
    store = sessions.store()
    assert await store.get("session-1") is None
    await sessions.store().set("session-1", session_of(by="another"))
    sessions.settle()
    with pytest.raises(SessionConflictError):
        await store.set("session-1", session_of(by="mine"))
    assert await store.get("session-1") is not None
    await store.set("session-1", session_of(by="mine"))  # as one that nobody asked for


async def test_a_first_set_that_got_no_answer_meets_itself_when_it_is_tried_again(sessions: Sessions) -> None:
    losing = Losing(sessions.opened().sessions())
    store = EventSessionStore(losing)
    assert await store.get("session-1") is None
    made = session_of()
    answers: tuple[Lost, ...] = ("after", "before", "after", None, None)
    for count, lost in enumerate(answers):
        made.state["count"] = count // 2
        losing.lost = lost
        with pytest.raises(StoreUnavailableError) if lost else nullcontext():
            await store.set("session-1", made)
    stored = await store.get("session-1")
    assert stored is not None
    assert stored.state == {"count": 2}
    headers = losing.headers(StreamId(SESSIONS, "session-1"))
    assert [header.seq async for header in headers] == [1, 2, 3]


async def test_what_a_task_knows_is_bounded_and_the_last_is_known(sessions: Sessions) -> None:
    store = sessions.store()
    for number in range(300):
        assert await store.get(f"session-{number}") is None
    other = sessions.store()
    for number in (0, 299):
        await other.set(f"session-{number}", session_of(by="another"))
    await store.set("session-0", session_of(by="mine"))
    with pytest.raises(SessionConflictError):
        await store.set("session-299", session_of(by="mine"))


async def test_what_was_seen_of_one_id_says_nothing_of_another(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("a", session_of(by="a"))
    for number in range(3):
        await store.set("b", session_of(by=f"b{number}"))
    got = await store.get("a")
    assert got is not None
    await store.set("b", got)
    await store.set("a", got)
    assert [(await sessions.store().get(name)).state for name in "ab"] == [{"by": "a"}] * 2  # type: ignore[union-attr]


async def test_who_got_a_session_that_was_deleted_since_cannot_bring_it_back(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session_of())
    got = await store.get("session-1")
    assert got is not None
    await in_a_task(store.delete("session-1"))
    for again in (got, copy.deepcopy(got)):
        with pytest.raises(
            SessionConflictError, match=r"^'session-1' of 'eventckpt:sessions' was deleted since it was read: "
        ):
            await store.set("session-1", again)
    assert await store.get("session-1") is None


async def test_a_task_that_deletes_a_session_may_set_it_again(sessions: Sessions) -> None:
    store = sessions.store()
    await store.set("session-1", session_of(messages=["hello"]))
    got = await store.get("session-1")
    assert got is not None
    await store.delete("session-1")
    got.state["messages"] = []
    await store.set("session-1", got)
    await store.set("session-1", got)
    sessions.settle()
    stored = await store.get("session-1")
    assert stored is not None
    assert stored.state == {"messages": []}
    await store.delete("session-1")
    await in_a_task(sessions.store().set("session-1", session_of(by="another")))
    sessions.settle()
    with pytest.raises(SessionConflictError, match="was written to by another writer"):
        await store.set("session-1", got)


@pytest.mark.parametrize("wrong", [None, {}, "session", AgentSession])
async def test_what_is_no_session_is_refused(sessions: Sessions, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^session is an AgentSession, not "):
        await sessions.store().set("session-1", wrong)


async def test_each_write_says_who_made_it(sessions: Sessions) -> None:
    store = sessions.store(actor="host-1")
    await store.set("session-1", session_of())
    await store.delete("session-1")
    headers = store.store.sessions().headers(StreamId(SESSIONS, "session-1"))
    assert [(header.type, header.actor) async for header in headers] == [("session", "host-1"), ("tombstone", "host-1")]
    assert [stream async for stream in store.store.streams()] == []


async def test_a_ready_made_store_closes_its_file_and_another_finds_the_session(tmp_path: Path) -> None:
    async with SqliteSessionStore(tmp_path / "deep" / "sessions.db") as store:
        await store.set("session-1", session_of(count=1))
    async with SqliteEventStore(tmp_path / "deep" / "sessions.db") as engine:
        async with EventSessionStore(engine) as shared:
            assert await shared.get("session-1") is not None
        stored = await EventSessionStore(engine).get("session-1")
        assert stored is not None
        assert stored.state == {"count": 1}


async def test_a_session_of_3_mb_comes_back(sessions: Sessions) -> None:
    messages = [Message(role="user", contents=[f"{number} " * 1000]) for number in range(750)]
    await sessions.store().set("session-1", session_of(messages=messages))
    sessions.settle()
    store = sessions.store()
    restored = await store.get("session-1")
    assert restored is not None
    assert [message.text for message in restored.state["messages"]] == [message.text for message in messages]
    restored.state["messages"].append(Message(role="assistant", contents=["done"]))
    await store.set("session-1", restored)
    restored = await store.get("session-1")
    assert restored is not None
    assert len(restored.state["messages"]) == 751
