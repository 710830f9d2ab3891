"""Looking at a store: runs, history, show, at, lineage, tail."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import (
    CheckpointAudit,
    CheckpointStoreError,
    EventCheckpointStorage,
    EventStore,
    SqliteEventStore,
    StreamId,
)
from eventckpt.cli.following import followed
from eventckpt.moments import order_of
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, head_of
from projections import ChangeFeedProcessor, LatestProjection, open_engine

from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine
from .conftest import (
    GRAPH,
    ORDER,
    WORKFLOW,
    Cli,
    Printed,
    checkpoint,
    environment,
    message,
    order_run,
    question,
    stream,
)


async def test_runs_lists_the_last_written_first_with_what_each_waits_for(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-1", steps=1)
    await order_run(engine, "order-2", steps=2, actor="clerk")
    printed = await cli("runs")
    heads, *rows = printed.out.splitlines()
    assert heads.split()[:3] == ["run", "workflow", "status"]
    by_run = {row.split()[0]: row.split() for row in rows}
    assert by_run["order-1"][1:5] == [WORKFLOW, "running", "1", "0"]
    assert by_run["order-2"][1:5] == [WORKFLOW, "waiting", "2", "1"]
    assert by_run["order-2"][-3:] == ["clerk", "clerk:", "builtins:str"]


async def test_runs_in_json_are_whole_run_documents(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3)
    [run] = (await cli.json("runs")).of("run")
    assert (run["run_id"], run["workflow_name"], run["status"]) == ("order-1", WORKFLOW, "waiting")
    assert (run["checkpoint_id"], run["seq"], run["checkpoints"], run["tombstones"]) == (
        made[-1].checkpoint_id,
        3,
        3,
        0,
    )
    [asked] = run["pending_requests"]
    assert order_of(asked.pop("asked_at")) == order_of(run["recorded_at"])
    assert asked == {
        "request_id": "q1",
        "source_executor_id": "clerk",
        "request_type": "builtins:str",
        "response_type": "builtins:bool",
        "prompt": None,
    }


async def test_runs_are_filtered_by_workflow_status_request_actor_and_time(engine: Engine, cli: Cli) -> None:
    storage = engine.storage(actor="shop")
    await storage.for_run("runs").save(checkpoint(messages=message("a", 1)))
    await storage.for_run("waits").save(checkpoint(pending_request_info_events=question("approve-7")))
    await storage.for_run("rests").save(checkpoint(workflow_name="refunds", state=GRAPH))
    await engine.storage(actor="clerk").for_run("clerks").save(checkpoint())

    async def listed(*words: str) -> set[str]:
        return {run["run_id"] for run in (await cli.json("runs", *words)).of("run")}

    assert await listed() == {"runs", "waits", "rests", "clerks"}
    assert await listed("--workflow", "refunds") == {"rests"}
    assert await listed("--status", "running") == {"runs"}
    assert await listed("--status", "waiting") == {"waits"}
    assert await listed("--status", "done") == {"rests"}
    assert await listed("--status", "open") == {"clerks"}
    assert await listed("--status", "idle") == {"rests", "clerks"}
    assert await listed("--pending") == {"waits"}
    assert await listed("--request", "approve") == {"waits"}
    assert await listed("--request", "decline") == set()
    assert await listed("--actor", "clerk") == {"clerks"}
    assert await listed("--since", "2020-01-01", "--until", "2100-01-01") == {"runs", "waits", "rests", "clerks"}
    assert await listed("--until", "2020-01-01") == set()
    assert (await cli("runs", "--count", "--status", "idle")).out == "2\n"
    assert (
        "--status is running, waiting, open, done, failed, cancelled, idle"
        in (await cli("runs", "--status", "asleep", code=2)).err
    )
    assert "takes a time such as" in (await cli("runs", "--since", "yesterday", code=2)).err


async def test_a_run_with_messages_and_a_question_is_running_and_shows_the_question(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("both")
    await run.save(
        checkpoint(checkpoint_id="one", messages=message("a", 1), pending_request_info_events=question("approve-7"))
    )
    said = "running, waits for 1"
    row = (await cli("runs")).out.splitlines()[1].split()
    assert (row[2], row[-2:]) == ("running", ["clerk:", "builtins:str"])
    assert f"superstep 0, {said}, recorded" in (await cli("show", "one")).out
    assert (await cli("lineage", "both")).out == f"one  seq 1, superstep 0, {said}\n"
    assert (await cli("replay", "both")).out.startswith(f"seq 1: superstep 0, {said}\n")
    assert (await cli("tail", "--limit", "1")).out.endswith(f"iteration 0  {said}\n")
    assert "approve-7 from clerk" in (await cli("history", "both")).out
    records = {"history both": "event", "show one": "checkpoint", "tail --limit 1": "event"}
    for words, kind in records.items():
        [record] = (await cli.json(*words.split())).of(kind)
        assert (record["status"], len(record["summary"]["pending_requests"])) == ("running", 1)
    [listed] = (await cli.json("runs", "--status", "running", "--pending")).of("run")
    assert [asked["request_id"] for asked in listed["pending_requests"]] == ["approve-7"]
    refused = (await cli("prune", "both", "--keep", "0", "--finished")).out
    assert "left alone: waits for 1 answers" in refused


async def test_that_a_run_is_waiting_is_said_once(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("asks")
    await run.save(checkpoint(checkpoint_id="one", pending_request_info_events=question("approve-7")))
    said = "waiting for 1"
    assert f"superstep 0, {said}, recorded" in (await cli("show", "one")).out
    assert (await cli("lineage", "asks")).out == f"one  seq 1, superstep 0, {said}\n"
    assert (await cli("tail", "--limit", "1")).out.endswith(f"iteration 0  {said}\n")
    assert (await cli("replay", "asks")).out.startswith(f"seq 1: superstep 0, {said}\n")


async def test_what_is_deleted_says_nothing_of_how_its_run_stands(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("order-1")
    first = checkpoint(checkpoint_id="one", state=GRAPH)
    await run.save(first)
    await run.save(checkpoint(first, checkpoint_id="two", state=GRAPH))
    await run.delete("two")
    statuses = [event["status"] for event in (await cli.json("history", "order-1")).of("event")]
    assert statuses == ["done", "done", None]
    assert (await cli("tail", "--last", "1", "--limit", "1")).out.endswith("tombstone  iteration 0\n")
    assert [run["status"] for run in (await cli.json("runs")).of("run")] == ["done"]


async def test_a_long_listing_is_given_in_pages(engine: Engine, cli: Cli) -> None:
    storage = engine.storage()
    names = {f"run-{number:02}" for number in range(7)}
    for name in sorted(names):
        await storage.for_run(name).save(checkpoint())
    seen: list[str] = []
    words: list[str] = []
    while True:
        printed = await cli.json("runs", "--limit", "3", *words)
        seen += [run["run_id"] for run in printed.of("run")]
        if not printed.of("more"):
            break
        words = ["--after", printed.of("more")[0]["after"]]
    assert len(seen) == 7
    assert set(seen) == names
    assert len((await cli.json("runs", "--limit", "0")).of("run")) == 7


# Runs from the projection


async def project(engine: Engine) -> None:
    """What a projector does until it has caught up."""
    store = engine.open()
    projected = open_engine(store)
    processor = ChangeFeedProcessor(projected.feed, projected.leases("projector"), LatestProjection(store).apply)
    async with processor:
        await processor.caught_up()


async def test_runs_from_the_projection_are_the_same_as_from_the_log(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-2", steps=2, actor="clerk")
    await order_run(engine, "order-1", steps=1)
    await engine.storage().for_run("rests").save(checkpoint(workflow_name="refunds", state=GRAPH))
    await order_run(engine, "order-3", steps=3)
    await engine.storage().for_run("order-3", workflow_name=WORKFLOW).delete("order-3-cp2")
    await project(engine)

    async def listed(*words: str) -> list[dict[str, Any]]:
        log = (await cli.json("runs", *words)).of("run")
        projection = (await cli.json("runs", "--latest", "projection", *words)).of("run")
        assert sorted(projection, key=lambda run: run["run_id"]) == sorted(log, key=lambda run: run["run_id"])
        return projection

    newest_first = ["order-3", "rests", "order-1", "order-2"]
    assert [run["run_id"] for run in await listed()] == newest_first
    assert [run["run_id"] for run in await listed("--workflow", "refunds")] == ["rests"]
    assert [run["run_id"] for run in await listed("--pending")] == ["order-2"]
    assert [run["run_id"] for run in await listed("--request", "q1", "--actor", "clerk")] == ["order-2"]
    assert [run["run_id"] for run in await listed("--status", "idle", "--since", "2020-01-01")] == ["order-3", "rests"]
    assert [run["run_id"] for run in await listed("--status", "done")] == ["rests"]
    assert [run["run_id"] for run in await listed("--status", "open")] == ["order-3"]
    assert await listed("--until", "2020-01-01") == []
    assert (await cli("runs", "--latest", "projection", "--count")).out == "4\n"
    table = (await cli("runs", "--latest", "projection")).out.splitlines()
    assert [row.split()[0] for row in table[1:]] == newest_first
    assert sorted(table) == sorted((await cli("runs", "--latest", "log")).out.splitlines())


async def test_runs_from_the_projection_say_what_the_log_says_where_0_1_0_said_idle(engine: Engine, cli: Cli) -> None:
    for name, state in (("graph-1", GRAPH), ("graph-2", GRAPH), ("functional", {})):
        await engine.storage().for_run(name).save(checkpoint(state=state))
    engine.settle()
    store = engine.open()
    for name in ("graph-1", "graph-2", "functional"):
        info = fold([header async for header in store.headers(stream(name))])
        assert info is not None
        await store.runs().put(msgspec.structs.replace(info, status="idle"))
    engine.settle()

    async def listed(*words: str) -> list[tuple[str, str]]:
        runs = (await cli.json("runs", "--latest", "projection", *words)).of("run")
        return [(run["run_id"], run["status"]) for run in runs]

    everything = [("functional", "open"), ("graph-2", "done"), ("graph-1", "done")]
    assert await listed() == await listed("--status", "idle") == everything
    assert await listed("--status", "done", "--after", "functional") == everything[1:]
    assert await listed("--status", "open") == everything[:1]
    assert (await cli("runs", "--latest", "projection", "--count", "--status", "done")).out == "2\n"
    assert {info.status async for info in engine.open().runs().all()} == {"idle"}


async def test_runs_from_the_projection_are_given_in_pages_too(engine: Engine, cli: Cli) -> None:
    for number in range(5):
        await order_run(engine, f"run-{number}", steps=2 if number % 2 == 0 else 1)
    await project(engine)
    first = await cli.json("runs", "--latest", "projection", "--limit", "3")
    assert [run["run_id"] for run in first.of("run")] == ["run-4", "run-3", "run-2"]
    rest = await cli.json("runs", "--latest", "projection", "--after", first.of("more")[0]["after"])
    assert [run["run_id"] for run in rest.of("run")] == ["run-1", "run-0"]
    behind = await cli.json("runs", "--latest", "projection", "--after", "run-3", "--pending")
    assert [run["run_id"] for run in behind.of("run")] == ["run-2", "run-0"]


async def test_runs_from_the_projection_are_as_late_as_it_is(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-1", steps=1)
    await project(engine)
    await order_run(engine, "order-2", steps=1)
    await engine.storage().for_run("new").save(checkpoint(workflow_name="refunds"))
    assert [run["run_id"] for run in (await cli.json("runs", "--latest", "projection")).of("run")] == ["order-1"]
    assert "No runs fit" in (await cli("runs", "--latest", "projection", "--workflow", "refunds")).err
    error = (await cli("runs", "--latest", "projection", "--after", "order-2", code=3)).err
    assert "The projection has no run 'order-2' of workflow 'orders' to go on behind" in error
    await project(engine)
    assert len((await cli.json("runs", "--latest", "projection")).of("run")) == 3


async def test_an_empty_projection_of_a_log_that_is_not_says_what_to_run(engine: Engine, cli: Cli) -> None:
    store = engine.open()
    assert await head_of(store, StreamId(WORKFLOW, "none")) is None  # makes what there is none of yet
    assert await store.run_store().is_empty()
    assert "No runs fit" in (await cli("runs", "--latest", "projection")).err
    await order_run(engine, steps=1)
    for words in ([], ["--workflow", WORKFLOW], ["--count"], ["--after", "order-1"]):
        error = (await cli("runs", "--latest", "projection", *words, code=4)).err
        assert "The projection is empty, and the log is not. Fill it with `eventckpt-projector run`" in error
    assert len((await cli.json("runs")).of("run")) == 1


async def test_runs_are_listed_from_the_log_or_the_projection_and_nothing_else(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    assert "--latest is log, projection, auto, not 'newest'" in (await cli("runs", "--latest", "newest", code=2)).err
    store = engine.open()
    assert isinstance(store, AuditStore)
    with pytest.raises(ValueError, match="'log', 'projection' or 'auto'"):
        CheckpointAudit(store, latest="newest")  # pyright: ignore[reportArgumentType]


def test_an_engine_without_projections_refuses_to_list_from_one(tmp_path: Path) -> None:
    class WithoutProjections(SqliteEventStore):
        runs, run_store = EventStore.runs, EventStore.run_store

    with pytest.raises(CheckpointStoreError, match="WithoutProjections keeps no projections; use latest='log'"):
        CheckpointAudit(WithoutProjections(tmp_path / "events.db"), latest="projection")


async def test_listing_from_the_projection_reads_no_event() -> None:
    async with CosmosEmulator() as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "projected")
        for number in range(20):
            await order_run(engine, f"order-{number}", steps=3)
        await project(engine)
        emulator.reset()
        listed = (await Cli(engine).json("runs", "--latest", "projection")).of("run")
        assert len(listed) == 20
        asked = {request.path.split("/")[4] for request in emulator.requests if "/docs/" in request.path}
        assert asked == {"projected-projections"}
        await engine.close()


async def test_history_tells_every_event_and_who_answered_which_request(engine: Engine, cli: Cli) -> None:
    storage = engine.storage(actor="shop")
    run = storage.for_run("order-1")
    first = checkpoint(checkpoint_id="asked", pending_request_info_events=question("q7"), iteration_count=1)
    await run.save(first)
    answer = message("internal:clerk", True)
    answer["internal:clerk"][0].original_request_info_event = question("q7")["q7"]
    await (
        engine.storage(actor="Ms Brandt")
        .for_run("order-1")
        .save(checkpoint(first, checkpoint_id="answered", messages=answer, iteration_count=1))
    )
    await engine.storage(actor="janitor").for_run("order-1").delete("asked")

    lines = (await cli("history", "order-1")).out.splitlines()
    assert len(lines) == 4
    assert "q7 from clerk" in lines[1]
    assert "q7" in lines[2]
    assert lines[2].endswith("Ms Brandt")
    assert "tombstone" in lines[3]
    events = (await cli.json("history", "order-1")).of("event")
    assert [(event["seq"], event["type"], event["actor"]) for event in events] == [
        (1, "checkpoint", "shop"),
        (2, "checkpoint", "Ms Brandt"),
        (3, "tombstone", "janitor"),
    ]
    assert events[0]["summary"]["pending_requests"][0]["request_id"] == "q7"
    assert events[1]["summary"]["answered_requests"] == ["q7"]
    assert all("data" not in (event["payload"] or {}) for event in events)
    assert [event["seq"] for event in (await cli.json("history", "order-1", "--last", "2")).of("event")] == [2, 3]


async def test_show_names_and_measures_a_type_that_is_not_allowed(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3)
    printed = await cli("show", made[-1].checkpoint_id)
    assert "step: 2" in printed.out
    assert f"order: {ORDER}, " in printed.out
    assert f"not shown (--allow {ORDER})" in printed.out
    assert "line 1" not in printed.out
    [shown] = (await cli.json("show", "order-1@3")).of("checkpoint")
    assert shown["tree"]["state"]["order"]["not_shown"] is True
    assert shown["tree"]["state"]["order"]["size"] > 20


@pytest.mark.parametrize("allow", [ORDER, "*"])
async def test_show_takes_an_allowed_type_apart(engine: Engine, cli: Cli, allow: str) -> None:
    await order_run(engine, steps=3)
    printed = await cli("show", "order-1@3", "--allow", allow)
    assert f"order: {ORDER}" in printed.out
    assert "total: 3.0" in printed.out
    assert '{0: "line 0 ", 1: "line 1 ", 2: "line 2 "}' in printed.out


async def test_at_gives_the_state_as_of_a_seq_a_superstep_and_a_time(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=4)

    async def step(*words: str) -> int:
        [shown] = (await cli.json("at", "order-1", *words)).of("checkpoint")
        return shown["tree"]["state"]["step"]

    assert await step() == 3
    assert await step("--seq", "2") == 1
    assert await step("--iteration", "2") == 2
    events = (await cli.json("history", "order-1")).of("event")
    assert await step("--time", events[1]["recorded_at"]) == 1
    assert await step("--time", datetime.now(UTC).isoformat()) == 3
    await engine.storage().for_run("order-1").delete("order-1-cp3")
    assert await step() == 2
    assert "had no checkpoint at that point" in (await cli("at", "order-1", "--time", "2020-01-01", code=3)).err
    assert "Give one of" in (await cli("at", "order-1", "--seq", "1", "--iteration", "1", code=2)).err


async def test_lineage_draws_branches_and_the_runs_that_forked(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3)
    storage: EventCheckpointStorage = engine.storage(allowed_checkpoint_types=[ORDER])
    await storage.for_run("order-1", workflow_name=WORKFLOW).load(made[0].checkpoint_id)
    await storage.for_run("order-1").save(checkpoint(made[0], checkpoint_id="branch"))
    await storage.for_run("trial").save(checkpoint(made[1], checkpoint_id="elsewhere"))
    lines = [line.split("  seq")[0] for line in (await cli("lineage", "order-1")).out.splitlines()]
    assert lines == ["order-1-cp0", "   └─ branch", "order-1-cp1", "   ╲ run trial begins here", "order-1-cp2"]
    nodes = {node["checkpoint_id"]: node for node in (await cli.json("lineage", "order-1")).of("node")}
    assert nodes["order-1-cp0"]["children"] == ["order-1-cp1", "branch"]
    assert [fork["run_id"] for fork in nodes["order-1-cp1"]["forks"]] == ["trial"]
    assert (await cli("lineage", "trial")).out.startswith("forked from seq 2 of run order-1")


async def test_tail_begins_with_the_last_events_and_follows_new_ones(engine: Engine) -> None:
    made = await order_run(engine, steps=2)
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eventckpt.cli", "tail", "--last", "1", "--limit", "3", "--poll", "0.05", "--json",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment(engine)},
    )  # fmt: skip
    assert tail.stdout is not None
    first = json.loads(await tail.stdout.readline())
    assert (first["run_id"], first["seq"]) == ("order-1", 2)
    run = engine.storage(allowed_checkpoint_types=[ORDER]).for_run("order-1", workflow_name=WORKFLOW)
    third = checkpoint(made[-1], checkpoint_id="third")
    await run.save(third)
    await run.save(checkpoint(third, checkpoint_id="fourth"))
    rest = [json.loads(line)["checkpoint_id"] for line in (await tail.stdout.read()).splitlines()]
    assert rest == ["third", "fourth"]
    assert await tail.wait() == 0


def tailed(printed: Printed) -> list[tuple[str, int]]:
    return [(event["run_id"], event["seq"]) for event in printed.of("event")]


async def test_tail_follows_some_runs_or_workflows_only(engine: Engine, cli: Cli) -> None:
    for run_id in ("order-1", "order-2"):
        await order_run(engine, run_id, steps=3)
    await engine.storage().for_run("other").save(checkpoint(workflow_name="refunds"))
    await engine.storage().for_run("third").save(checkpoint(workflow_name="claims"))

    async def tail(*words: str, limit: int) -> list[tuple[str, int]]:
        return tailed(await cli.json("tail", "--limit", str(limit), *words))

    assert await tail("--run", "order-1", limit=3) == [("order-1", 1), ("order-1", 2), ("order-1", 3)]
    assert await tail("--run", "order-1", "--last", "2", limit=2) == [("order-1", 2), ("order-1", 3)]
    assert await tail("--workflow", "refunds", limit=1) == [("other", 1)]
    assert await tail("-w", "refunds", "-w", "claims", limit=2) == [("other", 1), ("third", 1)]
    both = await tail("--run", "order-1", "--run", "order-2", "-w", WORKFLOW, limit=6)
    assert sorted(both) == [(run, seq) for run in ("order-1", "order-2") for seq in (1, 2, 3)]
    assert "--run takes one --workflow" in (await cli("tail", "--run", "o", "-w", "a", "-w", "b", code=2)).err
    assert "Did you mean 'order-1'" in (await cli("tail", "--run", "oder-1", code=3)).err


@pytest.mark.parametrize("words", [["--run", "order-1"], ["--workflow", WORKFLOW]], ids=" ".join)
@pytest.mark.parametrize("last", [1, 5])
async def test_what_is_written_while_some_runs_are_followed_is_told_once_and_nothing_else(
    engine: Engine, words: list[str], last: int
) -> None:
    made = await order_run(engine, steps=2)
    store = engine.open()
    assert isinstance(store, AuditStore)
    runs, workflows = ({stream()}, ()) if "--run" in words else ((), {WORKFLOW})
    seen: list[int] = []
    async with aclosing(followed(store, runs, workflows, last=last, poll=0.05)) as headers:
        seen += [(await anext(headers)).seq for _ in range(min(last, 2))]
        await engine.storage().for_run("unrelated").save(checkpoint(workflow_name="refunds"))
        run = engine.storage(allowed_checkpoint_types=[ORDER]).for_run("order-1", workflow_name=WORKFLOW)
        third = checkpoint(made[-1], checkpoint_id="third")
        await run.save(third)
        await run.save(checkpoint(third, checkpoint_id="fourth"))
        seen += [(await anext(headers)).seq for _ in range(2)]
    assert seen == [*([2] if last == 1 else [1, 2]), 3, 4]


# Names


async def test_a_unique_beginning_names_a_run_or_a_checkpoint(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-17", steps=2)
    await order_run(engine, "order-2", steps=1)
    assert len((await cli.json("history", "order-17")).of("event")) == 2
    assert len((await cli.json("history", "order-1")).of("event")) == 2
    [shown] = (await cli.json("show", "order-17-cp1")).of("checkpoint")
    assert shown["seq"] == 2
    [shown] = (await cli.json("show", "order-2")).of("checkpoint")
    assert shown["checkpoint_id"] == "order-2-cp0"


async def test_a_whole_name_wins_over_the_beginning_of_another(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-1", steps=1)
    await order_run(engine, "order-10", steps=2)
    assert len((await cli.json("history", "order-1")).of("event")) == 1


async def test_an_ambiguous_beginning_lists_the_candidates(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-10", steps=1)
    await order_run(engine, "order-11", steps=1)
    failed = await cli("history", "order", code=3)
    assert "Several runs begin with 'order'" in failed.err
    assert "'order-10' of 'orders'" in failed.err
    [error] = (await cli.json("history", "order", code=3)).of("error")
    assert (error["code"], len(error["candidates"])) == (3, 2)
    assert "Several checkpoints" in (await cli("show", "order", code=3)).err


async def test_one_run_id_in_two_workflows_is_told_apart_by_the_workflow(engine: Engine, cli: Cli) -> None:
    for name in ("orders", "refunds"):
        await engine.storage().for_run("same").save(checkpoint(workflow_name=name))
    assert "or the workflow" in (await cli("history", "same", code=3)).err
    [event] = (await cli.json("history", "same", "-w", "refunds")).of("event")
    assert event["workflow_name"] == "refunds"


async def test_a_missing_name_suggests_near_ones(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-17", steps=1)
    assert "Did you mean 'order-17' of 'orders'?" in (await cli("history", "oder-17", code=3)).err
    assert "`eventckpt runs` lists" in (await cli("history", "zzz", code=3)).err
    assert "No checkpoint found with ID nothing" in (await cli("show", "nothing", code=3)).err
    assert "has no event at seq 9" in (await cli("show", "order-17@9", code=3)).err


@pytest.mark.parametrize("name", ["' OR '1'='1", '" --', "%", "_", "order-1' UNION SELECT 1 --", "[a-z]", "*"])
async def test_names_are_never_part_of_a_query(engine: Engine, cli: Cli, name: str) -> None:
    await order_run(engine, steps=1)
    await cli("history", name, code=3)
    await cli("show", name, code=3)
    assert (await cli.json("runs", "--workflow", name, "--actor", name)).of("run") == []


# What is never read


async def test_listings_transfer_no_payload() -> None:
    async with CosmosEmulator() as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "listings")
        storage = engine.storage()
        for name in ("one", "two"):
            await storage.for_run(name).save(checkpoint(checkpoint_id=name, state={"noise": os.urandom(300_000)}))
        emulator.reset()
        cli = Cli(engine)
        for words in (["runs"], ["history", "one"], ["lineage", "one"], ["tail", "--limit", "2"], ["prune", "one"]):
            await cli.json(*words, *(["--keep", "1"] if words[0] == "prune" else []))
        assert emulator.requests
        assert max(request.response_bytes for request in emulator.requests) < 20_000
        await engine.close()


async def test_the_same_words_are_right_for_a_run_without_a_state_left(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    await engine.storage().for_run("order-1", workflow_name=WORKFLOW).delete("order-1-cp0")
    [run] = (await cli.json("runs")).of("run")
    assert (run["checkpoint_id"], run["status"], run["tombstones"]) == (None, "open", 1)
    assert "is a tombstone" in (await cli("show", "order-1@2", code=3)).err
    await cli("at", "order-1", code=3)
    assert stream().run_id in (await cli("runs")).out
