"""The semantics of the storages (docs/semantics.md), on every engine: the protocol, runs, what an event says."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpointException

from eventckpt import (
    CheckpointEvent,
    CheckpointNotFoundError,
    EventCheckpointStorage,
    EventStore,
    StreamId,
)
from eventckpt.chain import digest_of
from eventckpt.storage.summary import MAX_STATE_KEYS

from ..engines import Engine
from .checkpoints import WORKFLOW, chain_of, checkpoint, history, ids

# The protocol


async def test_a_saved_checkpoint_is_loaded_equal(engine: Engine) -> None:
    storage = engine.storage()
    saved = checkpoint(state={"n": 1, "keys": {1: "int"}, "pair": (1, 2)}, iteration_count=3, metadata={"a": 1})
    assert await storage.save(saved) == saved.checkpoint_id
    assert await storage.load(saved.checkpoint_id) == saved


async def test_a_load_gives_a_copy_that_later_changes_do_not_reach(engine: Engine) -> None:
    storage = engine.storage()
    saved = checkpoint(state={"list": [1]})
    await storage.save(saved)
    saved.state["list"].append(2)
    first = await storage.load(saved.checkpoint_id)
    first.state["list"].append(3)
    assert (await storage.load(saved.checkpoint_id)).state == {"list": [1]}


async def test_a_missing_id_says_what_the_framework_says(engine: Engine) -> None:
    with pytest.raises(WorkflowCheckpointException, match="No checkpoint found with ID nowhere") as error:
        await engine.storage().load("nowhere")
    assert isinstance(error.value, CheckpointNotFoundError)


@pytest.mark.parametrize("name", [42, None, b"x", ["x"], {}, 10**5000, "", "\ud800", "a\x00b", "x" * 3_000], ids=type)
@pytest.mark.parametrize("run_id", [None, "r"])
async def test_what_can_be_no_name_is_found_nowhere(engine: Engine, name: Any, run_id: str | None) -> None:
    """As `InMemoryCheckpointStorage` answers; no engine is asked for what it cannot hold."""
    storage = engine.storage()
    await storage.for_run("r").save(checkpoint())
    reader = storage.for_run(run_id) if run_id else storage
    with pytest.raises(CheckpointNotFoundError, match="No checkpoint found with ID"):
        await reader.load(name)
    assert await reader.delete(name) is False
    assert await reader.get_latest(workflow_name=name) is None
    assert await reader.list_checkpoints(workflow_name=name) == []
    assert await reader.list_checkpoint_ids(workflow_name=name) == []


async def test_an_empty_store_lists_nothing_and_has_no_latest(engine: Engine) -> None:
    storage = engine.storage()
    assert await storage.list_checkpoints(workflow_name=WORKFLOW) == []
    assert await ids(storage) == []
    assert await storage.get_latest(workflow_name=WORKFLOW) is None
    assert await storage.delete("nowhere") is False


async def test_lists_are_in_the_order_of_commits_and_of_one_workflow(engine: Engine) -> None:
    storage = engine.storage()
    mine = await chain_of(storage, 3)
    await storage.save(checkpoint(workflow_name="other"))
    assert await ids(storage) == [each.checkpoint_id for each in mine]
    assert await storage.list_checkpoints(workflow_name=WORKFLOW) == mine


async def test_the_latest_is_the_last_committed_even_where_clocks_say_otherwise(engine: Engine) -> None:
    storage = engine.storage().for_run("r")
    first = checkpoint(timestamp="2031-01-01T00:00:00+00:00")
    second = checkpoint(first, timestamp="2021-01-01T00:00:00+00:00")
    third = checkpoint(second, timestamp="2021-01-01T00:00:00+00:00")
    for each in (first, second, third):
        await storage.save(each)
    assert await storage.get_latest(workflow_name=WORKFLOW) == third


async def test_a_process_reads_what_another_one_wrote(engine: Engine) -> None:
    saved = await chain_of(engine.storage(), 2)
    other = engine.storage()
    assert await other.load(saved[0].checkpoint_id) == saved[0]
    assert await other.get_latest(workflow_name=WORKFLOW) == saved[1]


async def test_many_checkpoints_are_listed_whole(engine: Engine) -> None:
    storage = engine.storage()
    saved = await chain_of(storage, 40)
    assert await storage.list_checkpoints(workflow_name=WORKFLOW) == saved


async def test_a_large_state_comes_back(engine: Engine) -> None:
    storage = engine.storage()
    saved = checkpoint(state={"text": [f"line {n}" for n in range(100_000)]})
    await storage.save(saved)
    assert await storage.load(saved.checkpoint_id) == saved


# Runs


async def test_without_a_bound_run_the_lineage_decides(engine: Engine) -> None:
    storage = engine.storage()
    first, second = await chain_of(storage, 2)
    stranger = checkpoint()
    await storage.save(stranger)
    events = await history(storage.store, first.checkpoint_id)
    assert [event.checkpoint_id for event in events] == [first.checkpoint_id, second.checkpoint_id]
    assert [event.checkpoint_id for event in await history(storage.store, stranger.checkpoint_id)] == [
        stranger.checkpoint_id
    ]


async def test_another_process_continues_the_run_of_the_checkpoint_it_loaded(engine: Engine) -> None:
    first, second = await chain_of(engine.storage(), 2)
    other = engine.storage()
    resumed = await other.load(second.checkpoint_id)
    await other.save(checkpoint(resumed))
    assert [event.seq for event in await history(other.store, first.checkpoint_id)] == [1, 2, 3]


async def test_a_lineage_is_followed_even_where_its_parent_was_never_loaded_here(engine: Engine) -> None:
    first, second = await chain_of(engine.storage(), 2)
    other = engine.storage()
    await other.save(checkpoint(second))
    assert [event.seq for event in await history(other.store, first.checkpoint_id)] == [1, 2, 3]


async def test_a_checkpoint_whose_parent_is_unknown_begins_a_run_and_says_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    storage = engine.storage()
    orphan = checkpoint(checkpoint())
    await storage.save(orphan)
    assert len(await history(storage.store, orphan.checkpoint_id)) == 1
    assert "is not in this store" in caplog.text


@pytest.mark.slow
async def test_runs_on_one_store_never_see_each_other(engine: Engine) -> None:
    storage = engine.storage()
    runs = {f"order-{n}": storage.for_run(f"order-{n}") for n in range(20)}
    made = dict(zip(runs, await asyncio.gather(*(chain_of(run, 5) for run in runs.values())), strict=True))
    for run_id, run in runs.items():
        assert await run.get_latest(workflow_name=WORKFLOW) == made[run_id][-1]
        assert await run.list_checkpoints(workflow_name=WORKFLOW) == made[run_id]
    assert len(await ids(storage)) == 100


async def test_a_bound_run_loads_before_it_knows_its_workflow(engine: Engine) -> None:
    saved = await chain_of(engine.storage().for_run("r"), 1)
    run = engine.storage().for_run("r")
    assert run.workflow_name is None
    assert await run.load(saved[0].checkpoint_id) == saved[0]


async def test_a_bound_run_learns_its_workflow_or_is_told(engine: Engine) -> None:
    storage = engine.storage()
    learning, told = storage.for_run("r"), storage.for_run("r", workflow_name=WORKFLOW)
    await learning.get_latest(workflow_name=WORKFLOW)
    assert learning.workflow_name == told.workflow_name == WORKFLOW


async def test_of_one_id_in_two_runs_a_bound_storage_loads_its_own(engine: Engine) -> None:
    storage = engine.storage()
    a, b = storage.for_run("a"), storage.for_run("b")
    in_a = checkpoint(checkpoint_id="same", state={"run": "a"})
    in_b = checkpoint(checkpoint_id="same", state={"run": "b"})
    await a.save(in_a)
    await b.save(in_b)
    assert (await a.load("same")).state == {"run": "a"}
    assert (await b.load("same")).state == {"run": "b"}


async def test_a_run_bound_to_a_checkpoint_of_another_run_begins_as_its_fork(engine: Engine) -> None:
    storage = engine.storage()
    first, second = await chain_of(storage.for_run("origin"), 2)
    copy = storage.for_run("copy")
    resumed = await copy.load(first.checkpoint_id)
    await copy.save(checkpoint(resumed))
    [event] = await history(storage.store, "copy")
    assert event.forked_from is not None
    assert (event.forked_from.run_id, event.forked_from.seq) == ("origin", 1)
    assert event.previous_digest == (await history(storage.store, "origin"))[0].digest
    assert await storage.for_run("origin").get_latest(workflow_name=WORKFLOW) == second


async def test_a_new_start_goes_on_in_the_run_that_its_handle_has_written_or_read(engine: Engine) -> None:
    storage = engine.storage()
    chat = storage.for_run("chat")
    await chain_of(chat, 2)
    await chain_of(chat, 2)
    later = storage.for_run("chat")
    await later.get_latest(workflow_name=WORKFLOW)
    again = await chain_of(later, 2)
    assert [event.seq for event in await history(storage.store, "chat")] == [1, 2, 3, 4, 5, 6]
    assert await storage.for_run("chat").get_latest(workflow_name=WORKFLOW) == again[-1]


async def test_so_it_does_in_a_run_of_which_nothing_is_live(engine: Engine) -> None:
    storage = engine.storage()
    [only] = await chain_of(storage.for_run("chat"), 1)
    await storage.delete(only.checkpoint_id)
    later = storage.for_run("chat")
    assert await later.get_latest(workflow_name=WORKFLOW) is None
    again = await chain_of(later, 2)
    assert [event.seq for event in await history(storage.store, "chat")] == [1, 2, 3, 4]
    assert await storage.for_run("chat").get_latest(workflow_name=WORKFLOW) == again[-1]


@pytest.mark.parametrize("run_id", ["", " ", "x" * 256, "\ud800"])
def test_a_run_id_that_cannot_name_a_run_is_refused(engine: Engine, run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        engine.storage().for_run(run_id)


async def test_run_ids_may_be_any_text_of_255_characters(engine: Engine) -> None:
    storage = engine.storage()
    for run_id in ("é" * 255, "a|b/c\\d?e#f%g'h\"i\nj", " a ", "☃"):
        saved = await chain_of(storage.for_run(run_id), 1)
        assert await storage.for_run(run_id).list_checkpoints(workflow_name=WORKFLOW) == saved


# What an event says


async def test_the_events_of_a_run_form_a_chain_of_digests(engine: Engine) -> None:
    storage = engine.storage()
    await chain_of(storage.for_run("r"), 4)
    await storage.delete((await ids(storage))[0])
    events = await storage.store.read(StreamId(WORKFLOW, "r"), 1, 2, 3, 4, 5)
    previous = ""
    for event in events:
        assert event.previous_digest == previous
        assert digest_of(event) == event.digest
        previous = event.digest
    assert len(events) == 5


async def test_an_event_tells_who_wrote_it_and_what_it_holds(engine: Engine) -> None:
    storage = engine.storage(actor="worker-3")
    state = {"_executor_state": {"b": {}, "a": {}}, "customer": 1, "basket": 2}
    await storage.for_run("r").save(saved := checkpoint(state=state, iteration_count=7))
    [event] = await history(storage.store, "r")
    assert event.actor == "worker-3"
    assert event.timestamp == saved.timestamp
    assert event.iteration_count == 7
    assert event.graph_signature_hash == "graph"
    assert event.summary.executor_ids == ("a", "b")
    assert event.summary.state_keys == ("basket", "customer")
    assert event.payload is not None
    assert event.payload.base_seq is None
    assert event.payload.raw_size > 0
    assert event.payload.stored_size > 0


async def test_a_state_with_very_many_keys_does_not_make_the_header_large(engine: Engine) -> None:
    storage = engine.storage()
    await storage.for_run("r").save(checkpoint(state={f"key-{n:05}": n for n in range(5_000)}))
    [event] = await history(storage.store, "r")
    assert len(event.summary.state_keys) == MAX_STATE_KEYS
    assert event.summary.more_state_keys == 5_000 - MAX_STATE_KEYS


async def test_a_damaged_payload_is_named_and_the_other_checkpoints_stay_loadable(engine: Engine) -> None:
    storage = engine.storage()
    first, second = await chain_of(storage.for_run("r"), 2)
    [event] = await storage.store.read(StreamId(WORKFLOW, "r"), 2)
    # An engine that hands out other bytes than were stored, as a damaged disk would.
    assert event.payload is not None
    store = _Damaged(storage.store, event, event.payload.data[:-1] + b"\x00")
    reader = EventCheckpointStorage(store)
    with pytest.raises(WorkflowCheckpointException, match=r"seq 2 of run 'r', workflow 'orders'"):
        await reader.load(second.checkpoint_id)
    assert await reader.load(first.checkpoint_id) == first
    assert await reader.list_checkpoints(workflow_name=WORKFLOW) == [first]


class _Damaged(EventStore):
    """Gives one event with other bytes in its payload."""

    def __init__(self, store: EventStore, event: CheckpointEvent, data: bytes) -> None:
        assert event.payload is not None
        self._store = store
        self._key = (event.stream, event.seq)
        self._event = msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, data=data))

    async def append(self, event: CheckpointEvent) -> None:
        await self._store.append(event)

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        events = await self._store.read(stream, *seqs)
        return [self._event if (event.stream, event.seq) == self._key else event for event in events]

    async def find(self, checkpoint_id: str, *, stream: StreamId | None = None) -> Any:
        located = await self._store.find(checkpoint_id, stream=stream)
        if located and (located.event.stream, located.event.seq) == self._key:
            return located._replace(event=self._event)
        return located

    def headers(self, stream: StreamId, **options: Any) -> Any:
        return self._store.headers(stream, **options)

    def workflow_headers(self, workflow_name: str, **options: Any) -> Any:
        return self._store.workflow_headers(workflow_name, **options)

    async def close(self) -> None: ...


async def test_equal_texts_of_one_listing_are_one_object(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    text = "a text that is in each of them, " * 10
    saved = [checkpoint(state={"said": [text, {"by": text, str(n): n}]}) for n in range(3)]
    for each in saved:
        await run.save(each)
    listed = await engine.storage().for_run("r").list_checkpoints(workflow_name=WORKFLOW)
    assert listed == saved
    texts = [each for checkpoint in listed for each in (checkpoint.state["said"][0], checkpoint.state["said"][1]["by"])]
    assert all(each is texts[0] for each in texts)
