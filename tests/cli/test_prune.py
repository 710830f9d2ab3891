"""Retention: what goes, what never goes, and that the chain of what stays is whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from eventckpt import CheckpointAudit, CheckpointConflictError, CheckpointEvent, EventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.events import SCHEMA
from eventckpt.removals import Removals
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..pruning import foreseen
from .conftest import GRAPH, WORKFLOW, Cli, checkpoint, continued, message, question, stream


async def finished_run(engine: Engine, run_id: str = "order-1", *, steps: int = 10, filler: int = 40) -> None:
    """A run of a graph workflow that ended, with several snapshots in it."""
    run = engine.storage().for_run(run_id)
    previous = None
    for step in range(steps):
        state = GRAPH | {"step": step, "notes": [f"note {n} of {'x' * filler}" for n in range(step)]}
        previous = checkpoint(previous, checkpoint_id=f"{run_id}-cp{step}", iteration_count=step, state=state)
        await run.save(previous)


def audited(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


async def headers(store: EventStore, run_id: str = "order-1") -> list[CheckpointEvent]:
    return [header async for header in store.headers(StreamId(WORKFLOW, run_id))]


async def seqs(engine: Engine, run_id: str = "order-1") -> list[int]:
    return [header.seq for header in await headers(engine.open(), run_id)]


async def test_without_execute_a_prune_only_says_what_would_go(engine: Engine, cli: Cli) -> None:
    await finished_run(engine)
    printed = await cli("prune", "order-1", "--keep", "2")
    assert "run order-1 of orders: " in printed.out
    assert "Would remove" in printed.out
    assert "Add --execute to do it." in printed.out
    assert await seqs(engine) == list(range(1, 11))


async def test_the_last_checkpoints_stay_and_load_and_the_removal_is_on_record(engine: Engine, cli: Cli) -> None:
    await finished_run(engine)
    before = {header.seq: header for header in await headers(engine.open())}
    kept = [5, 6, 7, 8, 9, 10]
    bases = {base for seq in kept for base in before[seq].payload.bases}
    assert {len(before[seq].payload.bases) for seq in kept} >= {2}, "the case needs a delta against a delta"
    await cli("prune", "order-1", "--keep", "6", "--execute", "--yes", "--actor", "janitor")
    after = await headers(engine.open())
    assert [header.seq for header in after] == sorted({*kept, *bases, 11})
    record = after[-1]
    assert (record.type, record.actor, record.checkpoint_id) == ("tombstone", "janitor", "")
    gone = {seq for removed in record.pruned for seq in range(removed.first, removed.last + 1)}
    assert gone == set(range(1, 11)) - {header.seq for header in after}
    [verdict] = (await cli.json("verify", "order-1", "--decode")).of("verdict")
    assert (verdict["ok"], verdict["pruned"]) == (True, len(gone))
    run = engine.storage().for_run("order-1")
    ids = await run.list_checkpoint_ids(workflow_name=WORKFLOW)
    assert ids[-3:] == ["order-1-cp7", "order-1-cp8", "order-1-cp9"]
    latest = await run.get_latest(workflow_name=WORKFLOW)
    assert latest is not None
    assert latest.state["step"] == 9


async def test_a_run_goes_on_after_a_prune_and_can_be_pruned_again(engine: Engine, cli: Cli) -> None:
    await finished_run(engine)
    writer = engine.storage().for_run("order-1")
    latest = await writer.get_latest(workflow_name=WORKFLOW)
    for step in range(10, 16):
        await cli("prune", "order-1", "--keep", "1", "--execute", "--yes")
        latest = checkpoint(latest, checkpoint_id=f"order-1-cp{step}", state={"step": step, "notes": ["n"] * step})
        await writer.save(latest)
    assert writer.forked_to is None
    await cli("verify", "--all", "--decode")
    [verdict] = (await cli.json("verify", "order-1")).of("verdict")
    after = await headers(engine.open())
    assert verdict["events"] + verdict["pruned"] == after[-1].seq
    records = [header for header in after if header.pruned]
    assert len(records) == 1, "an older record goes with what it told of, since the newer one tells it too"
    assert (await engine.storage().load("order-1-cp15")).state["step"] == 15


async def test_a_writer_that_was_there_before_writes_nothing_that_needs_what_is_gone(engine: Engine, cli: Cli) -> None:
    writer = engine.storage().for_run("order-1")
    noise = os.urandom(4_000)
    first = checkpoint(checkpoint_id="a", state={"noise": noise})
    second = checkpoint(first, checkpoint_id="b", state={"noise": os.urandom(8_000)})
    await writer.save(first)
    await writer.save(second)
    await cli("prune", "order-1", "--keep", "1", "--execute", "--yes")
    assert 1 not in await seqs(engine)
    await writer.save(checkpoint(first, checkpoint_id="c", state={"noise": noise, "more": 1}))
    await cli("verify", "--all", "--decode")
    assert (await engine.storage().load("c")).state == {"noise": noise, "more": 1}


async def test_a_run_that_waits_for_an_answer_is_left_alone_unless_forced(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("order-1")
    first = checkpoint(checkpoint_id="a")
    await run.save(first)
    await run.save(checkpoint(first, checkpoint_id="b", pending_request_info_events=question()))
    printed = await cli("prune", "order-1", "--keep", "0", "--execute", "--yes")
    assert "left alone: waits for 1 answers; --force prunes it all the same" in printed.out
    assert await seqs(engine) == [1, 2]
    await cli("prune", "order-1", "--keep", "0", "--force", "--execute", "--yes")
    assert await seqs(engine) == [3]
    await cli("verify", "--all")


async def test_only_finished_runs_and_only_what_is_old_enough(engine: Engine, cli: Cli) -> None:
    await finished_run(engine, steps=4)
    run = engine.storage().for_run("order-2")
    first = checkpoint(checkpoint_id="a")
    await run.save(first)
    await run.save(checkpoint(first, checkpoint_id="b", messages=message("a", 1)))
    printed = await cli("prune", "--all", "--keep", "1", "--finished")
    assert "run order-2 of orders: left alone: is running, not finished" in printed.out
    assert re.search("run order-1 of orders: [12] events", printed.out)
    assert "Would remove 0 events" in (await cli("prune", "--all", "--older-than", "30d")).out
    assert "Would remove 0 events" in (await cli("prune", "--all", "--keep", "0", "--older-than", "2020-01-01")).out
    assert "Would remove 6 events of 2 runs" in (await cli("prune", "--all", "--keep", "0", "--older-than", "0m")).out
    assert "takes a time such as" in (await cli("prune", "--all", "--older-than", "soon", code=2)).err


async def test_a_run_of_which_nothing_says_that_it_ended_is_not_finished(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("functional")
    await run.save(checkpoint(checkpoint_id="a", state={"_step_cache": {}}))
    await finished_run(engine, "deleted", steps=1)
    await engine.storage().for_run("deleted", workflow_name=WORKFLOW).delete("deleted-cp0")
    await finished_run(engine, "pruned", steps=1)
    await cli("prune", "pruned", "--keep", "0", "--finished", "--execute", "--yes")
    printed = await cli("prune", "--all", "--keep", "0", "--finished", "--execute", "--yes")
    why = "left alone: is open, and nothing says that it ended"
    assert set(printed.out.splitlines()[:-1]) == {f"run {name} of orders: {why}" for name in ("deleted", "functional")}
    assert (await seqs(engine, "functional"), await seqs(engine, "deleted")) == ([1], [1, 2])
    await cli("prune", "--all", "--keep", "0", "--execute", "--yes")
    assert (await seqs(engine, "functional"), await seqs(engine, "deleted")) == ([2], [3])


async def test_a_deleted_checkpoint_does_not_come_back(engine: Engine, cli: Cli) -> None:
    await finished_run(engine, steps=6, filler=1)
    await engine.storage().for_run("order-1", workflow_name=WORKFLOW).delete("order-1-cp0")
    bases = {base for header in await headers(engine.open()) if header.seq in (5, 6) for base in header.payload.bases}
    assert 1 in bases, "the case needs a deleted snapshot that others rest on"
    await cli("prune", "order-1", "--keep", "2", "--execute", "--yes")
    assert await seqs(engine) == sorted(bases | {5, 6, 7, 8})
    assert await engine.storage().for_run("order-1").list_checkpoint_ids(workflow_name=WORKFLOW) == [
        f"order-1-cp{seq - 1}" for seq in sorted((bases | {5, 6}) - {1})
    ]


async def test_a_run_in_which_a_newer_version_wrote_is_left_alone(engine: Engine, cli: Cli) -> None:
    """What its event needs is not known: it may be any."""
    await finished_run(engine)
    head = (await headers(engine.open()))[-1]
    await engine.open().append(
        sealed(msgspec.structs.replace(head, seq=11, schema=SCHEMA + 1, previous_digest=head.digest))
    )
    printed = await cli("prune", "order-1", "--keep", "1", "--force", "--execute", "--yes")
    assert "left alone: a newer version of eventckpt wrote in it" in printed.out
    assert await seqs(engine) == list(range(1, 12))


async def test_removing_is_asked_for(engine: Engine, cli: Cli) -> None:
    await finished_run(engine, steps=4)
    assert "Add --yes" in (await cli("prune", "order-1", "--keep", "1", "--execute", code=2)).err
    assert "what is to stay?" in (await cli("prune", "order-1", code=2)).err
    assert "Give runs, or --all" in (await cli("prune", "--keep", "1", code=2)).err
    assert await seqs(engine) == [1, 2, 3, 4]


async def test_a_run_that_was_written_to_since_the_plan_is_left_alone(engine: Engine) -> None:
    await finished_run(engine, steps=3)
    audit = CheckpointAudit(engine.open())
    [plan] = [plan async for plan in audit.plan_prune([stream()], keep=1)]
    storage = engine.storage()
    latest = await storage.for_run("order-1").get_latest(workflow_name=WORKFLOW)
    await storage.for_run("order-1").save(checkpoint(latest, checkpoint_id="new"))
    with pytest.raises(CheckpointConflictError, match="was written to meanwhile"):
        await audit.prune(plan)
    assert await seqs(engine) == [1, 2, 3, 4]


async def test_a_prune_that_died_after_its_record_is_sound_and_the_next_one_finishes_it(
    engine: Engine, cli: Cli
) -> None:
    await finished_run(engine)
    store = audited(engine)
    record, gone = await foreseen(store, stream(), keep=1)
    await store.append(record)
    await store.remove(stream(), gone[1::2])
    assert len(await headers(store)) == 11 - len(gone[1::2])
    await cli("verify", "--all")
    await cli("prune", "order-1", "--keep", "1", "--execute", "--yes")
    assert len(await headers(store)) <= 4  # the last, the two that it needs, and the record
    await cli("verify", "--all", "--decode")


async def test_where_an_old_prune_left_seqs_open_the_command_says_so_and_closes_them(engine: Engine, cli: Cli) -> None:
    await finished_run(engine, "copied", steps=4)
    copied, store = StreamId(WORKFLOW, "copied"), audited(engine)
    record, gone = await foreseen(store, copied, keep=1)
    left = [event for event in await store.read(copied, 1, 2, 3, 4) if event.seq not in gone]
    # What 0.1.0 left of a run: its events and its record, and nothing where the others were.
    moved = [sealed(msgspec.structs.replace(event, run_id="order-1")) for event in (*left, record)]
    await store.put(stream(), moved)
    engine.settle()
    open_to_others = tuple(await store.unmarked(stream(), Removals(moved)))
    assert open_to_others in ((), gone)
    said = (await cli("prune", "order-1", "--keep", "1", "--execute", "--yes")).out
    assert (f"{len(gone)} seqs of events removed earlier are to be closed" in said) is bool(open_to_others)
    assert [event.seq for event in await headers(store)] == [event.seq for event in moved]
    assert await store.unmarked(stream(), Removals(moved)) == []
    assert "closed" not in (await cli("prune", "order-1", "--keep", "1", "--execute", "--yes")).out


async def test_a_pruned_run_is_exported_and_imported_with_its_gaps(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await finished_run(engine)
    await cli("prune", "order-1", "--keep", "2", "--execute", "--yes")
    await cli("export", "--all", "-o", str(tmp_path / "events.jsonl"))
    other = str(tmp_path / "new.db")
    await cli("import", str(tmp_path / "events.jsonl"), store=other)
    [verdict] = (await cli.json("verify", "order-1", "--decode", store=other)).of("verdict")
    assert (verdict["ok"], verdict["events"]) == (True, len(await seqs(engine)))


async def test_a_record_that_does_not_fit_its_neighbours_is_caught(engine: Engine, cli: Cli) -> None:
    await finished_run(engine, steps=4)
    store = audited(engine)
    record, gone = await foreseen(store, stream(), keep=1)
    forged = sealed(
        msgspec.structs.replace(
            record,
            pruned=tuple(msgspec.structs.replace(removed, digest="0" * 64) for removed in record.pruned),
        )
    )
    await store.append(forged)
    await store.remove(stream(), gone)
    assert "MISSING" in (await cli("verify", "order-1", code=1)).out


async def test_runs_and_history_show_a_pruned_run(engine: Engine, cli: Cli) -> None:
    await continued(engine.storage(allowed_checkpoint_types=["tests.cli.conftest:Order"]), "order-1", steps=1)
    await cli("prune", "order-1", "--keep", "0", "--execute", "--yes")
    [run] = (await cli.json("runs")).of("run")
    assert (run["run_id"], run["checkpoint_id"], run["seq"]) == ("order-1", None, 2)
    assert "prune record" in (await cli("history", "order-1")).out
    assert "gone: 1 to 1" in (await cli("history", "order-1")).out
