"""What a host keeps by keys: what is written is read, by one request, and by whom it may be written over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import (
    CheckpointAudit,
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointEvent,
    CheckpointTypeNotAllowedError,
    SessionConflictError,
    SqliteEventStore,
    SqliteHistoryProvider,
    SqliteSessionStore,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.chain import sealed
from eventckpt.delta import encode
from eventckpt.events import SCHEMA_OF_SESSIONS
from eventckpt.history import AGUI_THREADS, APPROVALS, FOUNDRY_SESSIONS, SESSIONS, Seen, Snapshots, is_reserved
from eventckpt.stores import AuditStore

from ..pruning import foreseen
from ..stores.sqlite.test_processes import processes
from .sessions import Sessions, Through


@dataclass
class Unwanted:
    """Of a type that no value has."""

    text: str


SOURCE = "threads"
KEY = "t"
STREAM = StreamId(SOURCE, KEY)
WHERE = "The value of 't' of 'threads' at seq 1"


async def value_of(snapshots: Snapshots, key: str = KEY) -> dict[str, Any] | None:
    found = await snapshots.get(key)
    return None if found is None else found[0]


async def seen_of(snapshots: Snapshots, key: str = KEY) -> Seen:
    found = await snapshots.get(key)
    assert found is not None
    return found[1]


async def log(store: AuditStore, stream: StreamId = STREAM) -> list[CheckpointEvent]:
    return [header async for header in store.headers(stream)]


# Keys and sources


def test_the_sources_of_this_package_are_reserved_and_no_others() -> None:
    assert all(map(is_reserved, (SESSIONS, FOUNDRY_SESSIONS, AGUI_THREADS, APPROVALS)))
    assert not any(map(is_reserved, ("", "azure_cosmos_history", "sqlite_history", "eventckpt", "my:eventckpt:")))


@pytest.mark.parametrize("source_id", [SESSIONS, FOUNDRY_SESSIONS, AGUI_THREADS, APPROVALS, "eventckpt:"])
def test_no_history_provider_can_be_called_like_a_source_of_this_package(tmp_path: Path, source_id: str) -> None:
    with pytest.raises(ValueError, match="source_id"):
        SqliteHistoryProvider(tmp_path / "history.db", source_id)


@pytest.mark.parametrize("actor", ["", "  ", 5, b"host"], ids=repr)
def test_an_actor_that_is_no_name_is_told(tmp_path: Path, actor: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^actor "):
        SqliteSessionStore(tmp_path / "sessions.db", actor=actor)


async def test_keys_of_one_source_are_none_of_another(sessions: Sessions) -> None:
    one, other = sessions.snapshots("one"), sessions.snapshots("other")
    await one.set(KEY, {"of": "one"})
    sessions.settle()
    assert await value_of(other) is None
    await other.create(KEY, {"of": "other"})
    sessions.settle()
    assert await value_of(one) == {"of": "one"}
    assert await one.delete(KEY)
    sessions.settle()
    assert await value_of(other) == {"of": "other"}


async def test_keys_are_listed_by_how_they_begin_as_long_as_they_have_values(sessions: Sessions) -> None:
    snapshots = sessions.snapshots()
    keys = ["a/1", "a/2", "b/1", "a/" + "x" * 300, "", "sha256:a", "a\ud800"]
    for key in keys:
        await snapshots.set(key, {})
    sessions.settle()
    assert await snapshots.keys() == keys
    assert await snapshots.keys("a/") == ["a/1", "a/2", "a/" + "x" * 300]
    assert await snapshots.keys("sha256:") == ["sha256:a"]
    await snapshots.delete("a/1")
    await snapshots.delete("a/" + "x" * 300)
    await snapshots.set("a/2", {"again": True})
    sessions.settle()
    assert await snapshots.keys("a") == ["a\ud800", "a/2"]
    assert await sessions.snapshots("elsewhere").keys() == []


@pytest.mark.parametrize("key", [None, 5, b"key", ["key"]], ids=repr)
async def test_a_key_that_is_no_text_is_told(sessions: Sessions, key: Any) -> None:
    snapshots = sessions.snapshots()
    for call in (snapshots.get(key), snapshots.set(key, {}), snapshots.create(key, {}), snapshots.delete(key)):
        with pytest.raises(TypeError, match=r"^key is text"):
            await call


@pytest.mark.parametrize("value", [None, [], "text", 5], ids=repr)
async def test_a_value_that_is_no_dict_is_told(sessions: Sessions, value: Any) -> None:
    for write in (sessions.snapshots().set, sessions.snapshots().create):
        with pytest.raises(TypeError, match=r"^value is a dict"):
            await write(KEY, value)


async def test_a_value_of_a_type_that_is_not_allowed_is_refused_by_its_place(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    with pytest.raises(CheckpointTypeNotAllowedError, match=r"Path.*value"):
        await snapshots.set(KEY, {"where": Path("x")})
    assert await snapshots.get(KEY) is None


# Who may write


async def test_a_key_is_created_once_until_it_is_deleted(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    for number in range(3):
        await snapshots.create(KEY, {"n": number})
        sessions.settle()
        with pytest.raises(SessionConflictError, match="'t' of 'threads'"):
            await sessions.snapshots(SOURCE).create(KEY, {"n": number})
        assert await value_of(snapshots) == {"n": number}
        assert await snapshots.delete(KEY)
        sessions.settle()
        assert not await sessions.snapshots(SOURCE).delete(KEY)
        assert await value_of(snapshots) is None


async def test_of_many_that_create_a_key_at_once_one_does(sessions: Sessions) -> None:
    async def creates(number: int) -> bool:
        with suppress(SessionConflictError):
            await sessions.snapshots(SOURCE).create(KEY, {"n": number})
            return True
        return False

    assert sum(await asyncio.gather(*map(creates, range(8)))) == 1


async def test_of_many_that_have_seen_the_same_one_writes_whatever_they_write(sessions: Sessions) -> None:
    writers = [sessions.snapshots(SOURCE) for _ in range(8)]
    await writers[0].set(KEY, {"n": 0})
    sessions.settle()
    seen = [await seen_of(each) for each in writers]

    async def writes(number: int, value: dict[str, Any]) -> bool:
        with suppress(SessionConflictError):
            await writers[number].set(KEY, value, seen[number])
            return True
        return False

    # Equal values too: two that count up from the same number must not both believe that theirs counts.
    assert sum(await asyncio.gather(*(writes(number, {"n": 1}) for number in range(8)))) == 1
    sessions.settle()
    assert await value_of(writers[0]) == {"n": 1}
    assert len(await log(sessions.opened().sessions())) == 2


async def test_many_that_count_up_lose_no_count(sessions: Sessions) -> None:
    async def counts() -> None:
        snapshots = sessions.snapshots(SOURCE)
        done = 0
        while done < 5:
            sessions.settle()
            value, seen = await snapshots.get(KEY) or ({}, None)
            with suppress(SessionConflictError):
                await snapshots.set(KEY, {"n": value["n"] + 1}, seen)
                done += 1

    await sessions.snapshots(SOURCE).create(KEY, {"n": 0})
    await asyncio.gather(*(counts() for _ in range(4)))
    sessions.settle()
    assert await value_of(sessions.snapshots(SOURCE)) == {"n": 20}


async def test_what_was_seen_is_deleted_only_if_nobody_has_written_since(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    await snapshots.set(KEY, {"n": 1})
    seen = await seen_of(snapshots)
    await snapshots.set(KEY, {"n": 2})
    with pytest.raises(SessionConflictError):
        await snapshots.delete(KEY, seen)
    assert await snapshots.delete(KEY, await seen_of(snapshots))
    assert await value_of(snapshots) is None


# After a prune


async def test_a_prune_lets_go_of_older_values_and_stops_nobody(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    stale = await snapshots.set(KEY, {"n": 0})
    for number in range(1, 5):
        seen = await snapshots.set(KEY, {"n": number})
    sessions.settle()
    store = sessions.opened().sessions()
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_prune(keep=1)]
    assert await audit.prune(plan) == 4
    sessions.settle()
    assert await value_of(snapshots) == {"n": 4}
    assert await snapshots.keys() == [KEY]
    with pytest.raises(SessionConflictError):
        await snapshots.set(KEY, {"n": "stale"}, stale)
    await snapshots.set(KEY, {"n": 5}, seen)  # its writer knows nothing of the prune
    sessions.settle()
    assert await value_of(snapshots) == {"n": 5}
    assert [header.seq for header in await log(store)] == [5, 6, 7]


async def test_a_deletion_that_was_pruned_is_not_undone_by_who_has_not_seen_it(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    seen = await snapshots.set(KEY, {"n": 0})
    await snapshots.delete(KEY)
    sessions.settle()
    audit = CheckpointAudit(sessions.opened(), turns=True)
    for plan in [plan async for plan in audit.plan_prune(keep=0)]:
        await audit.prune(plan)
    sessions.settle()
    with pytest.raises(SessionConflictError):
        await snapshots.set(KEY, {"n": 1}, seen)
    assert await value_of(snapshots) is None
    assert not await snapshots.delete(KEY)
    await snapshots.create(KEY, {"n": 2})
    assert await value_of(snapshots) == {"n": 2}


async def test_what_is_recorded_as_removed_is_no_value_though_it_is_still_there(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    await snapshots.set(KEY, {"n": 0})
    store = sessions.opened().sessions()
    record, _ = await foreseen(store, STREAM, keep=0)
    await store.append(record)  # and then the process ends
    sessions.settle()
    assert await value_of(snapshots) is None
    assert await snapshots.keys() == []
    assert not await snapshots.delete(KEY)


# Answers that get lost, and callers that give up

Write = Callable[[Snapshots, Seen], Awaitable[object]]
WRITES: dict[str, Write] = {
    "set behind what was seen": lambda snapshots, seen: snapshots.set(KEY, {"n": 1}, seen),
    "set behind whatever is there": lambda snapshots, _: snapshots.set(KEY, {"n": 1}),
    "delete": lambda snapshots, _: snapshots.delete(KEY),
    "delete what was seen": lambda snapshots, seen: snapshots.delete(KEY, seen),
}


class Deaf(Through):
    """A store whose answer to an append gets lost."""

    async def append(self, event: CheckpointEvent) -> None:
        await super().append(event)
        raise StoreUnavailableError("The answer was lost.")


async def test_a_write_whose_answer_got_lost_is_there_once_when_it_is_tried_again(sessions: Sessions) -> None:
    snapshots = sessions.snapshots(SOURCE)
    await snapshots.set(KEY, {"n": 0})
    sessions.settle()
    seen = await seen_of(snapshots)
    for value in ({"n": 1}, {"n": 1}, {"n": 2}):
        with suppress(StoreUnavailableError):
            await Snapshots(Deaf(sessions.opened().sessions()), SOURCE).set(KEY, value, seen)
    sessions.settle()
    for _ in range(2):
        seen = await sessions.snapshots(SOURCE).set(KEY, {"n": 2}, seen)
        sessions.settle()
    assert await value_of(snapshots) == {"n": 2}
    # {"n": 0}, {"n": 1}, {"n": 2}, and {"n": 2} again by who had the answer
    assert len(await log(sessions.opened().sessions())) == 4


@pytest.mark.parametrize("sent", [False, True], ids=["before a request", "while it is under way"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_that_is_cancelled_at_any_request_is_made_or_not_and_may_be_tried_again(
    sessions: Sessions, write: Write, sent: bool
) -> None:
    is_deletion = write in (WRITES["delete"], WRITES["delete what was seen"])
    for at in range(20):
        source = f"{SOURCE}-{at}"
        snapshots = sessions.snapshots(source)
        await snapshots.set(KEY, {"n": 0})
        sessions.settle()
        seen = await seen_of(snapshots)
        through = Through(sessions.opened().sessions(), at, lambda: cancel(sent=sent))
        writing = asyncio.create_task(write(Snapshots(through, source), seen))
        await asyncio.wait([writing])
        sessions.settle()
        assert await value_of(snapshots) in ({"n": 0}, None if is_deletion else {"n": 1})
        if writing.cancelled():
            await write(snapshots, seen)
            sessions.settle()
        assert await value_of(snapshots) == (None if is_deletion else {"n": 1})
        verdict = await CheckpointAudit(sessions.opened(), turns=True).verify(StreamId(source, KEY))
        assert verdict.ok
        if through.steps <= at:
            assert at >= 1, "a write"
            return
    pytest.fail("it never ended by itself")


async def cancel(*, sent: bool) -> None:
    """Cancel the task that is about to ask, before it does, or when it waits for the answer."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    if not sent:
        await asyncio.sleep(0)


async def test_another_writer_before_any_step_is_heard_of_or_is_first(sessions: Sessions) -> None:
    for at in range(50):
        source = f"{SOURCE}-{at}"
        other = sessions.snapshots(source)
        await other.set(KEY, {"n": 0})
        through = Through(sessions.opened().sessions(), at, lambda other=other: other.set(KEY, {"by": "other"}))
        snapshots = Snapshots(through, source)
        try:
            value, seen = await snapshots.get(KEY) or ({}, None)
            await snapshots.set(KEY, {**value, "by": "one"}, seen)
        except SessionConflictError:
            assert await value_of(other) == {"by": "other"}
        else:
            assert await value_of(other) == ({"by": "one"} if at == 0 else {"n": 0, "by": "one"})
        if through.steps <= at:
            assert at >= 2, "a read and a write"
            return
    pytest.fail("it never ended")


# What it costs


class Counting(Through):
    """Counts what is asked of a store, and notes what was read whole."""

    def __init__(self, store: AuditStore) -> None:
        super().__init__(store)
        self.whole = 0

    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        self.whole += 1
        return await super().last(workflow_name, run_id)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        self.whole += len(seqs)
        return await super().read(stream, *seqs)


async def test_a_read_is_one_request_and_so_is_a_write_behind_what_was_seen(sessions: Sessions) -> None:
    counting = Counting(sessions.opened().sessions())
    snapshots = Snapshots(counting, SOURCE)
    await snapshots.create(KEY, {"n": 0})
    assert counting.steps == 1
    for number in range(20):
        before = counting.steps
        value, seen = await snapshots.get(KEY) or ({}, None)
        assert counting.steps - before == 1
        await snapshots.set(KEY, {"n": value["n"] + 1}, seen)
        assert counting.steps - before == 2, number
    assert counting.whole == 20


async def test_a_large_value_that_changes_is_read_whole_once_each_time(sessions: Sessions) -> None:
    counting = Counting(sessions.opened().sessions())
    snapshots = Snapshots(counting, SOURCE)
    seen = None
    for number in range(3):
        value = {"n": number, "texts": [f"{number}-{line}" * 20 for line in range(30_000)]}
        seen = await snapshots.set(KEY, value, seen)
        assert await value_of(snapshots) == value
    assert counting.whole == 3


# What is stored is data, and may be hostile


def event_of(values: dict[str, Any], **fields: Any) -> CheckpointEvent:
    raw = CheckpointCodec().encode_values(values)
    event = CheckpointEvent(
        type="session",
        workflow_name=SOURCE,
        run_id=KEY,
        seq=1,
        checkpoint_id=KEY,
        timestamp="2026-01-01T00:00:00+00:00",
        recorded_at="2026-01-01T00:00:00+00:00",
        payload=encode(raw),
        schema=SCHEMA_OF_SESSIONS,
    )
    return sealed(msgspec.structs.replace(event, **fields))


HOSTILE: dict[str, tuple[CheckpointEvent, str]] = {
    "of another key": (event_of({"key": "u", "value": {}}), "it is of the key 'u'"),
    "no value": (event_of({"key": KEY}), "it holds something else"),
    "a value that is no dict": (event_of({"key": KEY, "value": []}), "it holds something else"),
    "a key that is no text": (event_of({"key": 5, "value": {}}), "it holds something else"),
    "more than a value": (event_of({"key": KEY, "value": {}, "more": 1}), "it holds something else"),
    "a checkpoint": (event_of({"key": KEY, "value": {}}, type="checkpoint"), "it holds something else"),
    "a turn": (event_of({"messages": []}, type="turn"), "it holds something else"),
    "another digest": (msgspec.structs.replace(event_of({"key": KEY, "value": {}}), actor="x"), "was changed after"),
    "a later version": (event_of({"key": KEY, "value": {}}, schema=99), "newer version"),
    "bytes that are none": (
        event_of({}, payload=msgspec.structs.replace(encode(b"\xc1"), data=b"garbage", stored_size=7)),
        "damaged",
    ),
    "raw bytes that are none": (event_of({}, payload=encode(b"\xc1\xc1")), "not MessagePack"),
    "a size that it has not": (
        event_of({}, payload=msgspec.structs.replace(encode(b"\x80"), raw_size=1 << 60)),
        "limit",
    ),
}


@pytest.mark.parametrize(("event", "says"), HOSTILE.values(), ids=HOSTILE)
async def test_what_is_no_value_is_refused_by_its_key_and_seq_and_may_be_written_over_or_deleted(
    sessions: Sessions, event: CheckpointEvent, says: str
) -> None:
    store = sessions.opened().sessions()
    await store.append(event)
    sessions.settle()
    snapshots = sessions.snapshots(SOURCE)
    await snapshots.set("beside", {"n": 1})
    with pytest.raises(CheckpointDecodeError, match=f"^{WHERE} cannot be read: .*{says}"):
        await snapshots.get(KEY)
    assert await value_of(snapshots, "beside") == {"n": 1}
    assert await snapshots.delete(KEY)
    await snapshots.set(KEY, {"n": 2})
    assert await value_of(snapshots) == {"n": 2}


async def test_a_stored_type_that_is_not_allowed_is_refused_by_its_name(sessions: Sessions) -> None:
    codec = CheckpointCodec(allowed_checkpoint_types=[f"{__name__}:Unwanted"])
    raw = codec.encode_values({"key": KEY, "value": {"a": Unwanted("x")}})
    store = sessions.opened().sessions()
    await store.append(event_of({}, payload=encode(raw)))
    sessions.settle()
    with pytest.raises(
        CheckpointTypeNotAllowedError, match=r"^The value of 't' .* at seq 1 cannot be read: .*Unwanted"
    ):
        await sessions.snapshots(SOURCE).get(KEY)


# Two processes


def _counts(number: int, barrier: Any, results: Any, path: Path) -> None:
    async def main() -> None:
        async with SqliteEventStore(path, synchronous="OFF") as store:
            snapshots, done = Snapshots(store.sessions(), SOURCE, actor=f"{number}"), 0
            while done < 25:
                value, seen = await snapshots.get(KEY) or ({}, None)
                with suppress(SessionConflictError):
                    await snapshots.set(KEY, {"n": value["n"] + 1}, seen)
                    done += 1

    barrier.wait(60)
    asyncio.run(main())
    results.put(number)


@pytest.mark.slow
async def test_two_processes_that_count_up_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with SqliteEventStore(path) as store:
        snapshots = Snapshots(store.sessions(), SOURCE)
        await snapshots.create(KEY, {"n": 0})

        def run() -> None:
            with processes(2, _counts, path) as results:
                assert {results.get(timeout=60) for _ in range(2)} == {0, 1}

        await asyncio.to_thread(run)
        assert await value_of(snapshots) == {"n": 50}
        headers = await log(store.sessions())
        assert len(headers) == 51
        assert {header.actor for header in headers[1:]} == {"0", "1"}
