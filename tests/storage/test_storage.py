"""The semantics of the storages (docs/semantics.md), on every engine."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventckpt import (
    CheckpointConflictError,
    CheckpointEncodeError,
    CheckpointEvent,
    CheckpointNotFoundError,
    CheckpointTypeNotAllowedError,
    EventCheckpointStorage,
    EventStore,
    RunCheckpointStorage,
    StreamId,
)
from eventckpt.chain import digest_of
from eventckpt.storage.summary import MAX_STATE_KEYS

from ..engines import Engine

WORKFLOW = "orders"


@dataclass
class NotAllowed:
    value: int = 1


NOT_ALLOWED = f"{__name__}:NotAllowed"


class Fragile:
    """Can be taken apart, but not put together again."""

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("no longer")


def checkpoint(previous: WorkflowCheckpoint | None = None, /, **fields: Any) -> WorkflowCheckpoint:
    """A checkpoint that follows `previous`."""
    return WorkflowCheckpoint(
        workflow_name=fields.pop("workflow_name", WORKFLOW),
        graph_signature_hash="graph",
        previous_checkpoint_id=previous.checkpoint_id if previous else None,
        state=fields.pop("state", {}),
        **fields,
    )


async def chain_of(storage: EventCheckpointStorage | RunCheckpointStorage, length: int) -> list[WorkflowCheckpoint]:
    """Save a lineage of `length` checkpoints."""
    made: list[WorkflowCheckpoint] = []
    for step in range(length):
        made.append(checkpoint(made[-1] if made else None, iteration_count=step, state={"step": step}))
        await storage.save(made[-1])
    return made


async def history(store: EventStore, run_id: str, workflow_name: str = WORKFLOW) -> list[CheckpointEvent]:
    return [header async for header in store.headers(StreamId(workflow_name, run_id))]


async def ids(storage: EventCheckpointStorage | RunCheckpointStorage) -> list[str]:
    return await storage.list_checkpoint_ids(workflow_name=WORKFLOW)


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


# Conflicts


async def test_two_workers_that_resume_one_checkpoint_end_as_two_runs(engine: Engine) -> None:
    first, second = await chain_of(engine.storage().for_run("r"), 2)
    workers = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    lineages = [[await worker.load(second.checkpoint_id)] for worker in workers]
    for _ in range(3):
        for worker, lineage in zip(workers, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1]))
            await worker.save(lineage[-1])

    reader = engine.storage()
    fork_id = f"r~{lineages[1][1].checkpoint_id[:8]}"
    run, fork = await history(reader.store, "r"), await history(reader.store, fork_id)
    assert [event.checkpoint_id for event in run] == [each.checkpoint_id for each in (first, second, *lineages[0][1:])]
    assert [event.checkpoint_id for event in fork] == [each.checkpoint_id for each in lineages[1][1:]]
    assert fork[0].forked_from is not None
    assert (fork[0].forked_from.run_id, fork[0].forked_from.seq) == ("r", 2)
    assert fork[0].forked_from.checkpoint_id == second.checkpoint_id
    assert fork[0].previous_digest == run[1].digest
    for lineage in lineages:
        for each in lineage[1:]:
            assert await reader.load(each.checkpoint_id) == each


async def test_a_fork_is_logged_with_both_names(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = engine.storage().for_run("r", workflow_name=WORKFLOW)
    await late.load(root.checkpoint_id)
    other = engine.storage()
    await other.save(checkpoint(await other.load(root.checkpoint_id)))
    mine = checkpoint(root)
    await late.save(mine)
    assert f"goes on as run 'r~{mine.checkpoint_id[:8]}'" in caplog.text


async def test_two_workers_that_start_one_run_end_as_two_runs(engine: Engine) -> None:
    made = await asyncio.gather(*(chain_of(engine.storage().for_run("r"), 3) for _ in range(2)))
    reader = engine.storage()
    assert len(await history(reader.store, "r")) == 3
    forks = [run for run in made if await history(reader.store, f"r~{run[0].checkpoint_id[:8]}")]
    assert len(forks) == 1
    assert len(await ids(reader)) == 6


async def test_a_bound_storage_names_the_fork_that_its_saves_went_on_in(engine: Engine) -> None:
    first = engine.storage().for_run("r")
    await chain_of(first, 2)
    assert first.forked_to is None
    storage = engine.storage()
    second = storage.for_run("r")
    assert second.forked_to is None
    mine = await chain_of(second, 2)
    assert second.forked_to == f"r~{mine[0].checkpoint_id[:8]}"
    fork = storage.for_run(second.forked_to)
    assert await fork.list_checkpoints(workflow_name=WORKFLOW) == mine


async def test_starting_again_after_such_a_fork_goes_on_in_the_fork(engine: Engine, caplog: Any) -> None:
    await chain_of(engine.storage().for_run("r"), 2)
    storage = engine.storage()
    run = storage.for_run("r")
    first = await chain_of(run, 2)
    second = await chain_of(run, 2)
    fork = await history(storage.store, f"r~{first[0].checkpoint_id[:8]}")
    assert [event.checkpoint_id for event in fork] == [each.checkpoint_id for each in (*first, *second)]
    assert caplog.text.count("has events that this storage has not read") == 1


async def test_a_fork_of_nothing_seen_says_so(engine: Engine) -> None:
    await chain_of(engine.storage().for_run("r"), 1)
    [mine] = await chain_of(engine.storage().for_run("r"), 1)
    [event] = await history(engine.open(), f"r~{mine.checkpoint_id[:8]}")
    assert event.forked_from is not None
    assert (event.forked_from.run_id, event.forked_from.seq, event.forked_from.checkpoint_id) == ("r", 0, None)
    assert event.previous_digest == ""


async def test_with_raise_the_second_writer_is_told_where_the_run_stands(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = engine.storage(on_conflict="raise").for_run("r", workflow_name=WORKFLOW)
    await late.load(root.checkpoint_id)
    other = engine.storage()
    taken = checkpoint(await other.load(root.checkpoint_id))
    await other.save(taken)
    with pytest.raises(CheckpointConflictError, match="continued by another writer") as error:
        await late.save(checkpoint(root))
    assert error.value.stream == StreamId(WORKFLOW, "r")
    assert error.value.expected_seq == 2
    assert error.value.head is not None
    assert error.value.head.checkpoint_id == taken.checkpoint_id
    assert len(await history(other.store, "r")) == 2


async def test_forks_whose_names_would_meet_get_different_names(engine: Engine) -> None:
    [root] = await chain_of(engine.storage().for_run("r"), 1)
    late = [engine.storage().for_run("r", workflow_name=WORKFLOW) for _ in range(3)]
    for worker in late:
        await worker.load(root.checkpoint_id)
    made = [checkpoint(root, checkpoint_id=f"12345678-{n}") for n in range(3)]
    for worker, each in zip(late, made, strict=True):
        await worker.save(each)
    store = engine.open()
    assert [event.checkpoint_id for event in await history(store, "r~12345678")] == ["12345678-1"]
    assert [event.checkpoint_id for event in await history(store, "r~12345678-2")] == ["12345678-2"]


async def test_a_fork_of_a_run_with_the_longest_name_still_has_a_name(engine: Engine) -> None:
    run_id = "x" * 255
    await chain_of(engine.storage().for_run(run_id), 1)
    [mine] = await chain_of(engine.storage().for_run(run_id), 1)
    assert await history(engine.open(), "x" * 246 + "~" + mine.checkpoint_id[:8])


async def test_going_back_on_purpose_is_a_branch_of_the_same_run(engine: Engine) -> None:
    storage = engine.storage().for_run("r")
    first, second, third = await chain_of(storage, 3)
    branch = checkpoint(await storage.load(first.checkpoint_id))
    await storage.save(branch)
    assert await ids(storage) == [each.checkpoint_id for each in (first, second, third, branch)]
    assert await storage.get_latest(workflow_name=WORKFLOW) == branch


async def test_a_hundred_races_have_one_winner_and_one_fork_each(engine: Engine) -> None:
    writers = [engine.storage() for _ in range(2)]
    for number in range(100):
        [root] = await chain_of(writers[0].for_run(f"race-{number}"), 1)
        engine.settle()
        runs = [writer.for_run(f"race-{number}", workflow_name=WORKFLOW) for writer in writers]
        for run in runs:
            await run.load(root.checkpoint_id)
        rivals = [checkpoint(root), checkpoint(root)]
        await asyncio.gather(*(run.save(each) for run, each in zip(runs, rivals, strict=True)))
        engine.settle()
        winners = [event.checkpoint_id for event in (await history(writers[0].store, f"race-{number}"))[1:]]
        forks = [each for each in rivals if each.checkpoint_id not in winners]
        assert (len(winners), len(forks)) == (1, 1)
        assert await history(writers[0].store, f"race-{number}~{forks[0].checkpoint_id[:8]}")


# Idempotence


async def test_saving_a_checkpoint_again_changes_nothing(engine: Engine) -> None:
    storage = engine.storage()
    saved = await chain_of(storage, 3)
    for each in saved:
        await storage.save(each)
    assert len(await history(storage.store, saved[0].checkpoint_id)) == 3


async def test_another_process_saving_it_again_changes_nothing(engine: Engine) -> None:
    saved = await chain_of(engine.storage(), 3)
    other = engine.storage()
    for each in saved:
        await other.save(each)
    assert len(await history(other.store, saved[0].checkpoint_id)) == 3


async def test_other_content_under_the_same_id_supersedes(engine: Engine) -> None:
    storage = engine.storage()
    first, second = await chain_of(storage, 2)
    first.state["step"] = "changed"
    await storage.save(first)
    assert (await storage.load(first.checkpoint_id)).state == {"step": "changed"}
    assert await ids(storage) == [second.checkpoint_id, first.checkpoint_id]
    assert len(await history(storage.store, first.checkpoint_id)) == 3


async def test_other_content_from_another_process_supersedes_too(engine: Engine) -> None:
    first, _ = await chain_of(engine.storage(), 2)
    other = engine.storage()
    first.state["step"] = "changed"
    await other.save(first)
    assert (await engine.storage().load(first.checkpoint_id)).state == {"step": "changed"}
    assert len(await history(other.store, first.checkpoint_id)) == 3


async def test_a_save_cut_off_after_its_commit_is_found_again(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage, 1)
    cut_off = checkpoint(root)
    elsewhere = engine.storage()
    await elsewhere.save(cut_off)  # as if by this process, which never heard of it
    await storage.save(cut_off)
    await storage.save(checkpoint(cut_off))
    assert [event.seq for event in await history(storage.store, root.checkpoint_id)] == [1, 2, 3]


# Deletion


async def test_a_deleted_checkpoint_is_gone_everywhere_but_in_the_log(engine: Engine) -> None:
    storage = engine.storage(actor="operator")
    first, second = await chain_of(storage, 2)
    assert await storage.delete(second.checkpoint_id) is True
    assert await storage.delete(second.checkpoint_id) is False
    assert await ids(storage) == [first.checkpoint_id]
    assert await storage.get_latest(workflow_name=WORKFLOW) == first
    for reader in (storage, engine.storage()):
        with pytest.raises(CheckpointNotFoundError):
            await reader.load(second.checkpoint_id)
    events = await history(storage.store, first.checkpoint_id)
    assert [event.type for event in events] == ["checkpoint", "checkpoint", "tombstone"]
    assert events[2].actor == "operator"


async def test_a_deletion_by_someone_else_does_not_make_a_run_fork(engine: Engine) -> None:
    storage = engine.storage().for_run("r")
    first, second = await chain_of(storage, 2)
    await engine.storage().delete(first.checkpoint_id)
    third = checkpoint(second)
    await storage.save(third)
    assert [event.type for event in await history(engine.open(), "r")] == [
        "checkpoint",
        "checkpoint",
        "tombstone",
        "checkpoint",
    ]


@pytest.mark.parametrize("deleted_by", ["the same process", "another process"])
@pytest.mark.parametrize("saved_by", ["the same process", "another process"])
async def test_a_deleted_checkpoint_saved_again_is_back(engine: Engine, deleted_by: str, saved_by: str) -> None:
    storage = engine.storage()
    [saved] = await chain_of(storage, 1)
    await (storage if deleted_by == "the same process" else engine.storage()).delete(saved.checkpoint_id)
    engine.settle()
    await (storage if saved_by == "the same process" else engine.storage()).save(saved)
    engine.settle()
    assert await storage.load(saved.checkpoint_id) == saved
    assert await ids(storage) == [saved.checkpoint_id]


async def test_deletions_and_saves_at_once_lose_nothing(engine: Engine) -> None:
    storage = engine.storage()
    saved = await chain_of(storage, 10)
    other = engine.storage()
    await asyncio.gather(
        chain_of(storage.for_run("more"), 10), *(other.delete(each.checkpoint_id) for each in saved[:5])
    )
    engine.settle()
    assert len(await ids(storage)) == 15


# What is refused


async def test_a_type_that_is_not_allowed_is_refused_at_save_and_at_load(engine: Engine) -> None:
    saved = checkpoint(state={"value": NotAllowed()})
    with pytest.raises(CheckpointTypeNotAllowedError, match="allowed_checkpoint_types") as at_save:
        await engine.storage().save(saved)
    assert at_save.value.type_key == NOT_ALLOWED
    await engine.storage(allowed_checkpoint_types=[NOT_ALLOWED]).save(saved)
    strict = engine.storage()
    for read in (strict.load(saved.checkpoint_id), strict.get_latest(workflow_name=WORKFLOW)):
        with pytest.raises(CheckpointTypeNotAllowedError, match=saved.checkpoint_id) as at_load:
            await read
        assert at_load.value.type_key == NOT_ALLOWED


async def test_an_undecodable_latest_never_gives_way_to_an_older_one(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED]).for_run("r")
    [first] = await chain_of(storage, 1)
    await storage.save(checkpoint(first, state={"value": NotAllowed()}))
    with pytest.raises(CheckpointTypeNotAllowedError):
        await engine.storage().for_run("r").get_latest(workflow_name=WORKFLOW)


async def test_a_list_leaves_out_what_it_cannot_decode_and_says_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED])
    first = checkpoint()
    second = checkpoint(first, state={"value": NotAllowed()})
    third = checkpoint(second)
    for each in (first, second, third):
        await storage.save(each)
    strict = engine.storage()
    assert await strict.list_checkpoints(workflow_name=WORKFLOW) == [first, third]
    assert second.checkpoint_id in caplog.text
    assert len(await ids(strict)) == 3


async def test_what_could_not_be_loaded_again_is_refused_at_save(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=[f"{__name__}:Fragile"])
    fragile = Fragile()
    fragile.__dict__["x"] = 1
    with pytest.raises(CheckpointEncodeError, match="not loaded again"):
        await storage.save(checkpoint(state={"value": fragile}))
    assert await ids(storage) == []


@pytest.mark.parametrize("fields", [{"checkpoint_id": ""}, {"workflow_name": ""}, {"checkpoint_id": "\ud800"}])
async def test_a_checkpoint_without_a_proper_name_is_refused(engine: Engine, fields: dict[str, str]) -> None:
    with pytest.raises(CheckpointEncodeError, match=next(iter(fields))):
        await engine.storage().save(checkpoint(**fields))


@pytest.mark.parametrize("name", ["x" * 256, "x" * 300, "x\n" * 200, "é" * 100_000])
async def test_a_checkpoint_id_too_long_to_name_a_run_is_refused_unless_bound(engine: Engine, name: str) -> None:
    told: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: told.append(error))
    long = checkpoint(checkpoint_id=name)
    with pytest.raises(CheckpointEncodeError, match=rf"checkpoint_id .* 255 .* {len(name):,}") as refusal:
        await storage.save(long)
    assert told == [refusal.value]
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 500
    assert await ids(storage) == []
    if len(name) < 1000:
        await storage.for_run("r").save(long)
        assert await storage.load(long.checkpoint_id) == long
        following = checkpoint(long, checkpoint_id=f"{name}2")
        await storage.save(following)  # its run has a name
        assert await storage.load(following.checkpoint_id) == following
        await storage.save(checkpoint(checkpoint_id="y" * 255))


@pytest.mark.parametrize("value", [None, {}, {"checkpoint_id": "a"}, "checkpoint", [], WorkflowCheckpoint])
@pytest.mark.parametrize("run_id", [None, "r"])
async def test_something_else_than_a_checkpoint_is_not_saved(engine: Engine, run_id: str | None, value: Any) -> None:
    told: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: told.append(error))
    target = storage if run_id is None else storage.for_run(run_id)
    with pytest.raises(TypeError, match=f"^save takes a WorkflowCheckpoint, not a {type(value).__name__}\\.$"):
        await target.save(value)
    assert told == []
    assert await ids(storage) == []


def test_options_are_checked_when_the_storage_is_made(engine: Engine) -> None:
    with pytest.raises(ValueError, match="on_conflict"):
        engine.storage(on_conflict="merge")
    with pytest.raises(ValueError, match="module:qualname"):
        engine.storage(allowed_checkpoint_types=["my_app.models.MyState"])
    with pytest.raises(TypeError, match="one string"):
        engine.storage(allowed_checkpoint_types="my_app.models:MyState")


# Who hears of it


async def test_a_failed_save_is_logged_counted_and_handed_to_the_hook(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, Exception]] = []
    storage = engine.storage(on_save_error=lambda saved, error: heard.append((saved.checkpoint_id, error)))
    refused = checkpoint(state={"value": NotAllowed()})
    with pytest.raises(CheckpointTypeNotAllowedError) as raised:
        await storage.for_run("order-7").save(refused)
    assert heard == [(refused.checkpoint_id, raised.value)]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert refused.checkpoint_id in record.getMessage()
    assert "order-7" in record.getMessage()


async def test_a_hook_that_fails_hides_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def hook(saved: WorkflowCheckpoint, error: Exception) -> None:
        raise RuntimeError("hook")

    with pytest.raises(CheckpointTypeNotAllowedError):
        await engine.storage(on_save_error=hook).save(checkpoint(state={"value": NotAllowed()}))
    assert "on_save_error failed" in caplog.text


async def test_the_hook_hears_nothing_of_saves_that_succeed(engine: Engine) -> None:
    heard: list[Exception] = []
    await chain_of(engine.storage(on_save_error=lambda saved, error: heard.append(error)), 2)
    assert heard == []


@pytest.fixture(scope="module")
def metric_reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    return reader


def totals(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    """Sums and counts by metric name and outcome."""
    found: dict[tuple[str, str], float] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None) or getattr(point, "count", 0)
                    found[metric.name, str((point.attributes or {}).get("outcome", ""))] = value
    return found


async def test_every_metric_counts(engine: Engine, metric_reader: InMemoryMetricReader) -> None:
    before = totals(metric_reader)
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED])
    [saved] = await chain_of(storage.for_run("r"), 1)
    await storage.for_run("r").save(saved)
    await chain_of(engine.storage().for_run("r"), 1)
    await storage.save(odd := checkpoint(state={"value": NotAllowed()}))
    strict = engine.storage()
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.save(odd)
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.load(odd.checkpoint_id)
    await strict.load(saved.checkpoint_id)
    after = totals(metric_reader)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["eventckpt.saves", "saved"] == 2
    assert grown["eventckpt.saves", "repeated"] == 1
    assert grown["eventckpt.saves", "forked"] == 1
    assert grown["eventckpt.saves", "failed"] == 1
    assert grown["eventckpt.save.duration", "failed"] == 1
    assert grown["eventckpt.loads", "loaded"] == 1
    assert grown["eventckpt.loads", "failed"] == 1
    assert grown["eventckpt.stored", ""] > 100


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


# Steps side by side


async def test_steps_of_one_execution_that_save_side_by_side_stay_in_one_run(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    [root] = await chain_of(run, 1)
    steps = [checkpoint(root, state={"step": n}) for n in range(30)]
    await asyncio.gather(*(run.save(step) for step in steps))
    last = checkpoint(steps[2])
    await run.save(last)
    events = await history(engine.open(), "r")
    assert {event.checkpoint_id for event in events} == {each.checkpoint_id for each in (root, *steps, last)}
    assert run.forked_to is None
    assert await run.get_latest(workflow_name=WORKFLOW) == last


async def test_so_do_the_steps_of_an_execution_that_was_resumed(engine: Engine) -> None:
    saved = await chain_of(engine.storage().for_run("r"), 2)
    run = engine.storage().for_run("r")
    latest = await run.get_latest(workflow_name=WORKFLOW)
    assert latest is not None
    resumed = await run.load(latest.checkpoint_id)
    await asyncio.gather(*(run.save(checkpoint(resumed)) for _ in range(3)))
    assert len(await history(engine.open(), "r")) == len(saved) + 3
    assert run.forked_to is None


async def test_so_do_the_steps_of_an_execution_that_this_storage_began_itself(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    saved = await chain_of(run, 2)
    resumed = await run.load(saved[-1].checkpoint_id)
    await asyncio.gather(*(run.save(checkpoint(resumed)) for _ in range(3)))
    assert len(await history(engine.open(), "r")) == len(saved) + 3
    assert run.forked_to is None


async def test_so_do_the_first_steps_of_an_execution(engine: Engine) -> None:
    run = engine.storage().for_run("r")
    await asyncio.gather(*(run.save(checkpoint()) for _ in range(10)))
    assert len(await history(engine.open(), "r")) == 10
    assert run.forked_to is None


async def test_two_executions_on_one_storage_that_resume_one_checkpoint_part_all_the_same(engine: Engine) -> None:
    storage = engine.storage()
    [root] = await chain_of(storage.for_run("r"), 1)
    runs = [storage.for_run("r", workflow_name=WORKFLOW) for _ in range(2)]
    for run in runs:
        await run.load(root.checkpoint_id)
    lineages = [[root], [root]]
    for _ in range(3):
        for run, lineage in zip(runs, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1]))
            await run.save(lineage[-1])
    stayed = await history(storage.store, "r")
    parted = await history(storage.store, f"r~{lineages[1][1].checkpoint_id[:8]}")
    assert [event.checkpoint_id for event in stayed] == [each.checkpoint_id for each in lineages[0]]
    assert [event.checkpoint_id for event in parted] == [each.checkpoint_id for each in lineages[1][1:]]


async def test_two_executions_that_start_one_run_part_too(engine: Engine) -> None:
    storage = engine.storage()
    runs = [storage.for_run("r") for _ in range(2)]
    lineages: list[list[WorkflowCheckpoint]] = [[], []]
    for _ in range(3):
        for run, lineage in zip(runs, lineages, strict=True):
            lineage.append(checkpoint(lineage[-1] if lineage else None))
            await run.save(lineage[-1])
    stayed = [event.checkpoint_id for event in await history(storage.store, "r")]
    parted = [event.checkpoint_id for event in await history(storage.store, runs[1].forked_to or "")]
    assert [stayed, parted] == [[each.checkpoint_id for each in lineage] for lineage in lineages]
    assert runs[0].forked_to is None
