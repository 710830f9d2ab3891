"""Behind AG-UI's endpoint: threads are shown again and gone on with by the next process, each user's by themselves."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agent_framework_ag_ui import AGUIThreadSnapshot, AGUIThreadSnapshotStore, InMemoryAGUIThreadSnapshotStore

from eventckpt import CheckpointDecodeError, CheckpointEncodeError, CheckpointTypeNotAllowedError, StreamId
from eventckpt.history.snapshots import AGUI_THREADS, Snapshots
from eventckpt.hosts.ag_ui import AGUISnapshotStore

from ..engines import Engine
from .processes import served

host = partial(served, "ag_ui_process")

each_workflow = pytest.mark.parametrize("kind", ["workflow", "detached"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def asks(text: str | None, user: str = "anna", thread: str = "t1", **fields: Any) -> dict[str, Any]:
    messages = [{"id": f"said {text}", "role": "user", "content": text}] if text else []
    return {"user": user, "body": {"threadId": thread, "runId": "r1", "messages": messages, **fields}}


def answers(paused: list[dict[str, Any]], reply: str, **whose: str) -> dict[str, Any]:
    """The answer to the question that a run has ended with."""
    [question] = paused[-1]["outcome"]["interrupts"]
    checkpoint_id = question["metadata"]["agent_framework"]["checkpoint_id"]
    resume = [{"interruptId": question["id"], "status": "resolved", "payload": reply}]
    return asks(None, **whose, resume=resume, forwardedProps={"checkpoint_id": checkpoint_id})


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def shown(events: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for event in events for message in event.get("messages", []) if message["content"]]


@each_workflow
async def test_a_question_is_asked_in_one_process_and_answered_in_the_next(path: Path, kind: str) -> None:
    [paused] = host(kind, path, asks("kettles"))
    [done] = host(kind, path, answers(paused, "5"))
    assert text_of(done) == "How many kettles? 5."
    assert done[-1] == {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}


async def test_a_thread_is_shown_again_by_the_next_process(path: Path) -> None:
    paused, *_ = host("workflow", path, asks("kettles"), asks("cups", thread="t2"))
    host("workflow", path, answers(paused, "5"))
    [again, other] = host("workflow", path, asks(None), asks(None, user="ben"))
    assert shown(again) == ["kettles", "5", "How many kettles? 5."]
    assert shown(other) == []


@each_workflow
async def test_nobody_goes_on_from_a_checkpoint_of_another_user_or_thread(path: Path, kind: str) -> None:
    paused = {
        (user, thread): host(kind, path, asks(f"{thread} of {user}", user=user, thread=thread))[0]
        for user, thread in (("anna", "t1"), ("anna", "t2"), ("ben", "t1"))
    }
    stolen = [
        answers(events, "9", user=user, thread=thread)
        for whose, events in paused.items()
        for user, thread in paused
        if (user, thread) != whose
    ]
    for events in host(kind, path, *stolen):
        assert events[-1]["type"] == "RUN_ERROR"
        assert text_of(events) == ""
    own = [answers(events, "5", user=user, thread=thread) for (user, thread), events in paused.items()]
    assert [text_of(events) for events in host(kind, path, *own)] == [
        f"How many {thread} of {user}? 5." for user, thread in paused
    ]


async def test_an_agent_goes_on_where_its_thread_was(path: Path) -> None:
    for so_far in ("1 so far", "2 so far"):
        [events] = host("agent", path, asks(f"hello, after {so_far}"))
        assert text_of(events) == so_far
    [other] = host("agent", path, asks("hello", user="ben"))
    assert text_of(other) == "1 so far"


# The store by itself


def opened(engine: Engine) -> Any:
    """A store that keeps sessions."""
    return engine.open()


SNAPSHOTS = {
    "empty": AGUIThreadSnapshot(),
    "messages": AGUIThreadSnapshot(messages=[{"id": "1", "role": "user", "content": "grüezi \U0001f44b"}]),
    "all": AGUIThreadSnapshot(
        messages=[{"id": "1"}, {"id": "2", "toolCalls": [{"id": "c", "function": {"arguments": "{}"}}]}],
        state={"a": [1, 2.5, None, True], "$": "no form of ours", "nested": {"": {}}},
        interrupt=[{"id": "i", "reason": "input_required"}],
        session_state={"secret": "token", "in_memory": {"messages": []}},
    ),
    "large": AGUIThreadSnapshot(messages=[{"id": str(number), "content": "x" * 1_000} for number in range(3_000)]),
}


@pytest.fixture(params=["ours", "in memory"])
async def store(request: pytest.FixtureRequest, engine: Engine) -> AGUIThreadSnapshotStore:
    return AGUISnapshotStore(opened(engine)) if request.param == "ours" else InMemoryAGUIThreadSnapshotStore()


@pytest.mark.parametrize("kind", SNAPSHOTS)
async def test_a_snapshot_comes_back_as_it_was(store: AGUIThreadSnapshotStore, kind: str) -> None:
    await store.save(scope="anna", thread_id="t1", snapshot=SNAPSHOTS[kind])
    assert await store.get(scope="anna", thread_id="t1") == SNAPSHOTS[kind]


async def test_the_last_one_counts_and_what_is_given_is_a_copy(store: AGUIThreadSnapshotStore) -> None:
    saved = AGUIThreadSnapshot(state={"n": 1})
    for number in range(3):
        saved.state = {"n": number}
        await store.save(scope="anna", thread_id="t1", snapshot=saved)
    saved.state["n"] = "changed by who saved it"
    for _ in range(2):
        given = await store.get(scope="anna", thread_id="t1")
        assert given == AGUIThreadSnapshot(state={"n": 2})
        given.state["n"] = "changed by who got it"  # type: ignore[index]


ALIKE = [("a", "bc"), ("ab", "c"), ("a", "b"), ('a", "b', "c"), ("a", 'b", "c'), ("a/b", "c"), ("a", "b/c"), ("[", "]")]


async def test_scopes_and_threads_that_look_alike_are_kept_apart(store: AGUIThreadSnapshotStore) -> None:
    for scope, thread_id in [*ALIKE, ("long" * 100, "t"), ("long" * 100, "u")]:
        assert await store.get(scope=scope, thread_id=thread_id) is None
        await store.save(
            scope=scope, thread_id=thread_id, snapshot=AGUIThreadSnapshot(state={"of": [scope, thread_id]})
        )
    for scope, thread_id in [*ALIKE, ("long" * 100, "t"), ("long" * 100, "u")]:
        found = await store.get(scope=scope, thread_id=thread_id)
        assert found is not None
        assert found.state == {"of": [scope, thread_id]}


async def test_what_is_deleted_is_gone_and_can_begin_again(store: AGUIThreadSnapshotStore) -> None:
    where = {"scope": "anna", "thread_id": "t1"}
    assert not await store.delete(**where)
    for number in range(2):
        await store.save(**where, snapshot=AGUIThreadSnapshot(state={"n": number}))
        assert await store.get(**where) == AGUIThreadSnapshot(state={"n": number})
        assert await store.delete(**where)
        assert not await store.delete(**where)
        assert await store.get(**where) is None


@pytest.mark.parametrize("scope", [*dict.fromkeys(scope for scope, _ in ALIKE), None])
async def test_clearing_a_scope_leaves_the_others(store: AGUIThreadSnapshotStore, scope: str | None) -> None:
    for each, thread_id in ALIKE:
        await store.save(scope=each, thread_id=thread_id, snapshot=AGUIThreadSnapshot())
    await store.clear(scope=scope)
    left = {
        (each, thread_id) for each, thread_id in ALIKE if await store.get(scope=each, thread_id=thread_id) is not None
    }
    assert left == {(each, thread_id) for each, thread_id in ALIKE if scope is not None and each != scope}


@pytest.mark.parametrize(("wrong", "error"), [("", ValueError), (None, TypeError), (1, TypeError)])
@pytest.mark.parametrize("part", ["scope", "thread_id"])
async def test_a_scope_or_thread_that_is_no_text_is_refused(
    store: AGUIThreadSnapshotStore, part: str, wrong: Any, error: type[Exception]
) -> None:
    where: dict[str, Any] = {"scope": "anna", "thread_id": "t1", part: wrong}
    with pytest.raises(error, match=part):
        await store.get(**where)
    with pytest.raises(error, match=part):
        await store.save(**where, snapshot=AGUIThreadSnapshot())
    with pytest.raises(error, match=part):
        await store.delete(**where)
    if part == "scope" and wrong is not None:
        with pytest.raises(error, match=part):
            await store.clear(scope=wrong)


async def test_it_is_the_protocol_of_the_package(engine: Engine) -> None:
    assert isinstance(AGUISnapshotStore(opened(engine)), AGUIThreadSnapshotStore)
    assert [field.name for field in dataclasses.fields(AGUIThreadSnapshot)] == [
        "messages",
        "state",
        "interrupt",
        "session_state",
    ]


async def test_another_store_object_sees_it(engine: Engine) -> None:
    await AGUISnapshotStore(opened(engine)).save(scope="a", thread_id="t", snapshot=SNAPSHOTS["all"])
    engine.settle()
    assert await AGUISnapshotStore(opened(engine)).get(scope="a", thread_id="t") == SNAPSHOTS["all"]


async def test_the_private_state_is_in_no_header(engine: Engine) -> None:
    store = opened(engine)
    await AGUISnapshotStore(store, actor="web").save(scope="anna", thread_id="t", snapshot=SNAPSHOTS["all"])
    stream = StreamId(AGUI_THREADS, '["anna", "t"]')
    [header] = [each async for each in store.sessions().headers(stream)]
    assert header.actor == "web"
    assert "token" not in repr(header)


@pytest.mark.parametrize("wrong", [None, {}, "text", AGUIThreadSnapshot], ids=repr)
async def test_what_is_no_snapshot_is_not_saved(engine: Engine, wrong: Any) -> None:
    store = AGUISnapshotStore(opened(engine))
    with pytest.raises(TypeError, match=r"^snapshot is an AGUIThreadSnapshot"):
        await store.save(scope="anna", thread_id="t", snapshot=wrong)
    assert await store.get(scope="anna", thread_id="t") is None


async def test_what_json_cannot_say_is_refused_and_nothing_is_saved(engine: Engine) -> None:
    store = AGUISnapshotStore(opened(engine))
    await store.save(scope="a", thread_id="t", snapshot=SNAPSHOTS["all"])
    with pytest.raises((CheckpointEncodeError, CheckpointTypeNotAllowedError)):
        await store.save(
            scope="a", thread_id="t", snapshot=AGUIThreadSnapshot(state={"bad": test_another_store_object_sees_it})
        )
    assert await store.get(scope="a", thread_id="t") == SNAPSHOTS["all"]


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"messages": "text"},
        {"messages": [1]},
        {"messages": [], "state": []},
        {"messages": [], "interrupt": {}},
        {"messages": [], "session_state": "s"},
    ],
    ids=str,
)
async def test_what_is_no_snapshot_is_refused_by_name_and_the_others_are_readable(
    engine: Engine, hostile: dict[str, Any]
) -> None:
    under = opened(engine)
    store = AGUISnapshotStore(under)
    await store.save(scope="anna", thread_id="good", snapshot=SNAPSHOTS["all"])
    await Snapshots(under.sessions(), AGUI_THREADS).set('["anna", "bad"]', hostile)
    with pytest.raises(CheckpointDecodeError, match=r"The snapshot of thread 'bad' of scope 'anna' cannot be read"):
        await store.get(scope="anna", thread_id="bad")
    assert await store.get(scope="anna", thread_id="good") == SNAPSHOTS["all"]
    assert await store.delete(scope="anna", thread_id="bad")


@pytest.mark.parametrize("wrong", [None, "checkpoints.db", object()])
def test_what_is_no_store_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="store is an AuditStore"):
        AGUISnapshotStore(wrong)
