"""The "latest" projection: it says what the log says, whatever is delivered, how often, and in how many pieces."""

from __future__ import annotations

import random

import msgspec
import pytest

from eventckpt import EventCheckpointStorage, RunInfo, StreamId
from eventckpt.errors import StoreCorruptError, StoreUnavailableError
from eventckpt.events import ForkPoint, PendingRequest, Summary
from eventckpt.runs import fold
from eventckpt.stores.change_feed import FeedPage
from projections import Difference, FeedRange, LatestProjection, compare, open_engine

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine
from .driven_clock import Passing
from .rig import WORKFLOW, Rig, event

RUNS = ["a", "b", "c"]


async def differences(rig: Rig, projection: str | None = None) -> list[Difference]:
    store = rig.writer.store
    return [each async for each in compare(store, open_engine(store).feed, store.runs(projection))]


async def headers(rig: Rig, run: str) -> list:
    return [header async for header in rig.writer.store.headers(StreamId(WORKFLOW, run))]


async def test_a_run_is_what_its_events_fold_to(rig: Rig) -> None:
    asks = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")
    await rig.writer.write("a", count=2, summary=Summary(executor_ids=("x",)))
    await rig.writer.write("b", summary=Summary(pending_requests=(asks,)))
    await rig.writer.write("c", summary=Summary(messages={"x": 2}, pending_requests=(asks,)))
    fork = ForkPoint(workflow_name=WORKFLOW, run_id="a", seq=1, checkpoint_id="a-1")
    await rig.writer.write("a~1", forked_from=fork)
    projection = LatestProjection(rig.writer.store)
    for run in (*RUNS, "a~1"):
        await projection.apply(await headers(rig, run))
        assert await rig.info(run) == fold(await headers(rig, run))
    statuses = [(await rig.info(run)).status for run in (*RUNS, "a~1")]
    assert statuses == ["done", "waiting", "running", "open"]
    assert (await rig.info("b")).pending_requests == (await rig.info("c")).pending_requests == (asks,)
    assert (await rig.info("a~1")).forked_from == fork


async def test_a_run_is_written_once_for_all_its_events_in_a_batch(rig: Rig) -> None:
    await rig.writer.write(*RUNS, count=5)
    projection = LatestProjection(rig.writer.store)
    batch = [each for run in RUNS for each in await headers(rig, run)]
    assert await projection.apply(batch) == 3
    assert await projection.apply(batch) == 0
    assert projection.applied == 3


async def test_repeated_and_overlapping_deliveries_change_nothing(rig: Rig) -> None:
    await rig.writer.write("a", count=8)
    events = await headers(rig, "a")
    rig.engine.settle()
    one, other = LatestProjection(rig.writer.store), LatestProjection(rig.engine.open())
    dice = random.Random(1)
    for _ in range(20):
        start = dice.randrange(0, 5)
        await dice.choice([one, other]).apply(events[start : start + dice.randrange(1, 4)])
    await one.apply(events)
    assert await rig.info("a") == fold(events)
    assert await differences(rig) == []


async def test_an_older_document_never_replaces_a_newer_one(rig: Rig) -> None:
    await rig.writer.write("a", count=4)
    events = await headers(rig, "a")
    ahead, behind = LatestProjection(rig.writer.store), LatestProjection(rig.engine.open())
    await behind.apply(events[:1])
    await ahead.apply(events)
    assert await behind.apply(events[1:3]) == 0
    assert (await rig.info("a")).seq == 4


async def test_deleting_the_latest_checkpoint_brings_back_the_one_before(rig: Rig) -> None:
    await rig.writer.write("a", count=3)
    await rig.writer.write("a", deletes="a-3")
    projection = LatestProjection(rig.writer.store)
    await projection.apply(await headers(rig, "a"))
    assert (await rig.info("a")).checkpoint_id == "a-2"
    assert projection.gaps == 0
    assert await differences(rig) == []


async def test_a_gap_is_reported_and_repaired(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.writer.write("a", count=6)
    events = await headers(rig, "a")
    projection = LatestProjection(rig.writer.store)
    await projection.apply(events[:2])
    await projection.apply(events[4:5])
    assert projection.gaps == 1
    assert "seq 5 came after seq 2" in caplog.text
    assert await differences(rig) == []


async def test_a_comparison_names_every_kind_of_difference(rig: Rig) -> None:
    store = rig.writer.store
    await rig.writer.write("right", "missing", "behind", "wrong", "ahead", count=2)
    projection = LatestProjection(store)
    for run in ("right", "wrong"):
        await projection.apply(await headers(rig, run))
    await projection.apply((await headers(rig, "behind"))[:1])
    right = await rig.info("right")
    await store.runs().put(
        msgspec.structs.replace(right, run_id="ahead", seq=7),
        RunInfo(workflow_name=WORKFLOW, run_id="unknown", seq=1, digest=""),
    )
    wrong = msgspec.structs.replace(await rig.info("wrong"), status="running", checkpoints=9)
    await store.runs("damaged").put(right, wrong)
    found = {each.stream.run_id: each.what for each in await differences(rig)}
    assert {run: what.partition(":")[0] for run, what in found.items()} == {
        "missing": "missing",
        "behind": "behind",
        "ahead": "ahead",
        "unknown": "unknown",
    }
    damaged = {each.stream.run_id: each.what for each in await differences(rig, "damaged")}
    assert damaged["wrong"] == "wrong: status, checkpoints"
    assert "right" not in damaged


async def test_a_worker_keeps_the_projection_up_to_date(rig: Rig) -> None:
    await rig.writer.write(*RUNS, count=3)
    projection = LatestProjection(rig.engine.open())
    async with rig.worker(projection.apply) as worker:
        await rig.clock.until(lambda: sum(each.events for each in worker.stats.values()) == 9)
    assert await differences(rig) == []


# Projections side by side


async def test_a_projection_that_is_activated_is_what_readers_see(rig: Rig) -> None:
    store = rig.writer.store
    await rig.writer.write("a", count=2)
    events = await headers(rig, "a")
    await LatestProjection(store).apply(events[:1])
    await LatestProjection(store, store.runs("latest-2")).apply(events)
    assert await store.runs().active() == "latest"
    assert (await rig.info("a")).seq == 1
    reader = store.runs()
    await reader.activate("latest-2")
    rig.engine.settle()
    assert await rig.engine.open().runs().active() == "latest-2"
    assert (await rig.info("a")).seq == 2
    assert (await rig.info("a", "latest")).seq == 1


async def test_clearing_removes_one_projection_and_no_other(rig: Rig) -> None:
    store = rig.writer.store
    await rig.writer.write("a", "b")
    for name in ("one", "other"):
        for run in "ab":
            await LatestProjection(store, store.runs(name)).apply(await headers(rig, run))
    await store.runs("one").clear()
    assert [info.run_id async for info in store.runs("one").all()] == []
    assert sorted([info.run_id async for info in store.runs("other").all()]) == ["a", "b"]
    one = LatestProjection(store, store.runs("one"))
    assert await one.apply(await headers(rig, "a")) == 1


async def test_all_documents_are_listed_by_workflow(rig: Rig) -> None:
    store = rig.writer.store
    names = [("even" if number % 2 == 0 else "odd", f"{number}") for number in range(300)]
    await store.runs().put(*(RunInfo(workflow_name=workflow, run_id=run, seq=1, digest="") for workflow, run in names))
    assert len([info async for info in store.runs().all()]) == 300
    assert len([info async for info in store.runs().all("odd")]) == 150


# get_latest(latest="projection")


def checkpoint(run: str, number: int) -> object:
    from agent_framework import WorkflowCheckpoint

    return WorkflowCheckpoint(
        "flow",
        "graph",
        checkpoint_id=f"{run}-{number}",
        timestamp=f"2026-01-01T00:00:{number:02d}",
        state={"n": number},
    )


async def test_the_latest_over_all_runs_comes_from_the_projection_in_one_query(rig: Rig) -> None:
    writing = rig.engine.storage()
    handles = {run: writing.for_run(run) for run in "abc"}
    for number, run in enumerate(["a", "b", "a", "c", "b"]):
        await handles[run].save(checkpoint(run, number))
    store = rig.engine.open()
    projected = EventCheckpointStorage(store, latest="projection")
    without = await projected.get_latest(workflow_name="flow")
    assert without is not None
    assert without.checkpoint_id == "b-4", "where the projection knows no run, the log is asked"
    async with rig.worker(LatestProjection(store).apply) as worker:
        await rig.clock.until(lambda: sum(each.events for each in worker.stats.values()) == 5)
    latest = await projected.get_latest(workflow_name="flow")
    assert latest is not None
    assert latest.checkpoint_id == "b-4"
    await handles["c"].save(checkpoint("c", 5))
    rig.engine.settle()
    late = await projected.get_latest(workflow_name="flow")
    bound = await projected.for_run("c").get_latest(workflow_name="flow")
    from_log = await writing.get_latest(workflow_name="flow")
    assert [each.checkpoint_id for each in (late, bound, from_log) if each] == ["b-4", "c-5", "c-5"]


@pytest.mark.calm
async def test_the_projected_latest_costs_three_queries_however_many_runs_there_are(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    writing = rig.engine.storage()
    for number in range(20):
        await writing.for_run(f"r{number}").save(checkpoint(f"r{number}", number))
    store = rig.engine.open()
    projected = EventCheckpointStorage(store, latest="projection")
    for number in range(20):
        headers = [each async for each in store.headers(StreamId("flow", f"r{number}"))]
        await LatestProjection(store).apply(headers)
    await projected.get_latest(workflow_name="flow")
    rig.emulator.reset()
    assert await projected.get_latest(workflow_name="flow") is not None
    counted = rig.emulator.charges.requests_by_kind
    # The SDK sends a query that sorts to the gateway, which refuses it, and then to each physical partition.
    assert (counted["query"], counted["read_item"]) == (2 + 2, 0), "of documents, and of event and head side by side"


def test_where_to_look_for_the_latest_is_one_of_two(sqlite_rig: Rig) -> None:
    with pytest.raises(ValueError, match="'log' or 'projection'"):
        sqlite_rig.engine.storage(latest="elsewhere")


# Where replicas lag


@pytest.mark.parametrize("late", ["projection", "log"])
@pytest.mark.parametrize("lag", [0.9, 5.0])
async def test_a_comparison_looks_again_before_it_names_what_a_replica_that_lags_has_not(late: str, lag: float) -> None:
    """For a second: what is late for longer is named."""
    clock = Passing()
    lagging = Switches(lag=1.0, lag_seconds=lag)
    async with CosmosEmulator(switches=lagging, monotonic=clock.monotonic) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        store, written = engine.open(), event("a", 1)
        info = fold([written])
        assert info is not None
        for what in ("log", "projection") if late == "projection" else ("projection", "log"):
            clock.now += 100
            await (store.append(written) if what == "log" else store.runs().put(info))
        fresh = engine.open()
        found = [each async for each in compare(fresh, open_engine(fresh).feed, fresh.runs(), clock=clock)]
        await engine.close()
    named = {"projection": "missing", "log": "unknown: the log has no such run"}[late]
    assert [each.what for each in found] == ([] if lag < 1.0 else [named])


async def test_a_run_that_the_feed_does_not_show_is_asked_of_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.writer.write("a", "b")
    projection = LatestProjection(rig.writer.store)
    for run in "ab":
        await projection.apply(await headers(rig, run))
    store = rig.writer.store
    feed = open_engine(rig.engine.open()).feed

    async def read(feed_range: FeedRange, *_: object, **__: object) -> FeedPage:
        return FeedPage([], '"0"')

    monkeypatch.setattr(feed, "read", read)
    assert [each async for each in compare(store, feed, store.runs())] == []


async def test_what_a_log_never_shows_is_damage_in_the_end_and_until_then_an_outage(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    [first] = [header async for header in rig.writer.store.headers(StreamId("w", "a"))]
    second = event("a", 2, before=first)
    third = event("a", 3, before=second)
    projection = LatestProjection(rig.writer.store)
    for _ in range(5):
        with pytest.raises(StoreUnavailableError, match="ends at seq 1, and seq 3 was delivered"):
            await projection.apply([third])
    with pytest.raises(StoreCorruptError, match="run 'a' of workflow 'w' ends at seq 1"):
        await projection.apply([third])
    await rig.writer.store.append(second)
    await rig.writer.store.append(third)
    assert await projection.apply([third]) == 1
