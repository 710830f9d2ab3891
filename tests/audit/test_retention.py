"""A pass of a retention policy: what goes, what never goes, and what is told of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from agent_framework import Message

from eventckpt import CheckpointAudit, EventCheckpointStorage, EventHistoryProvider, StreamId
from eventckpt.audit import Retention, RetentionPlan, RetentionPolicy, RetentionReport, RetentionRule
from eventckpt.chain import sealed
from eventckpt.errors import CheckpointStoreError
from eventckpt.events import RunStatus
from eventckpt.runs import ENDED
from eventckpt.stores.conformance import make_event
from projections import LatestProjection

from ..engines import Engine
from .deleting import CutOff, delete
from .retention_runs import DAY, STATUSES, Calendar, audited, made, save

WORKFLOW = "orders"
UNFINISHED: tuple[RunStatus, ...] = ("running", "waiting", "open")


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    return Calendar(monkeypatch)


class Kind(NamedTuple):
    """One of the ways in which a run differs from others for a policy."""

    status: RunStatus
    days: int
    """Since it was last written to; -1: it says that it was tomorrow."""
    held: bool
    claimed: bool
    checkpoints: int

    @property
    def name(self) -> str:
        return f"{self.status} {self.days} {self.held:d} {self.claimed:d} {self.checkpoints}"


KINDS = [Kind(*each) for each in itertools.product(STATUSES, (-1, 0, 29, 30), (False, True), (False, True), (1, 3))]
SOME = KINDS[::5]
"""Five is prime to the number of each of the differences, so that each comes with each other."""

POLICIES: dict[str, dict[str, Any]] = {
    "old ones go": {"remove_after": 30 * DAY},
    "two stay": {"keep": 2},
    "two stay, old ones go": {"keep": 2, "remove_after": 30 * DAY},
    "unfinished ones go": {"remove_after": 30 * DAY, "status": UNFINISHED, "unfinished": True},
    "all go at once": {"remove_after": 0 * DAY, "status": STATUSES, "unfinished": True, "keep": 1},
    "of failed ones one stays": {"keep": 1, "status": ("failed",)},
}


def left_of(kind: Kind, policy: dict[str, Any]) -> int:
    """How many checkpoints of a run stay: what a policy means, said by itself."""
    if kind.status not in policy.get("status", ENDED) or kind.held:
        return kind.checkpoints
    limit: timedelta | None = policy.get("remove_after")
    if limit is not None and kind.days >= limit.days:
        return kind.checkpoints if kind.claimed else 0
    return min(kind.checkpoints, policy.get("keep", kind.checkpoints))


async def make(storage: EventCheckpointStorage, kinds: list[Kind], calendar: Calendar, claims: AsyncExitStack) -> None:
    today = calendar.now
    for kind in kinds:
        calendar.now = today - kind.days * DAY
        await save(storage, kind.name, kind.status, checkpoints=kind.checkpoints, hold=kind.held)
        if kind.claimed:
            await claims.enter_async_context(storage.for_run(kind.name, workflow_name=WORKFLOW).claim(ttl=3600))
    calendar.now = today


@pytest.fixture
async def claims() -> AsyncGenerator[AsyncExitStack, None]:
    """Claims that are held until the test ends."""
    async with AsyncExitStack() as held:
        yield held


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_what_a_pass_leaves_is_what_the_policy_says(
    engine: Engine, calendar: Calendar, claims: AsyncExitStack, policy: dict[str, Any]
) -> None:
    store = audited(engine)
    storage = EventCheckpointStorage(store)
    await make(storage, SOME, calendar, claims)
    before = await made(store, WORKFLOW, [kind.name for kind in SOME])
    assert {name: len(ids) for name, ids in before.items()} == {kind.name: kind.checkpoints for kind in SOME}
    retention = Retention(store, RetentionPolicy([RetentionRule(name="r", workflow="*", **policy)]), clock=calendar)
    planned = RetentionReport()
    plans = {plan.stream.run_id: plan async for plan in retention.plan(report=planned)}
    report = await retention.carry_out()
    left = {kind.name: left_of(kind, policy) for kind in SOME}
    after = await made(store, WORKFLOW, list(before))
    assert after == {name: ids[-left[name] :] for name, ids in before.items() if left[name]}
    assert {info.run_id async for info in CheckpointAudit(store).runs()} == set(after)
    assert all([verdict.ok async for verdict in CheckpointAudit(store).verify_all(decode=True)])
    whole = report.total
    assert report.looked_at == len(SOME)
    assert whole.runs == len(plans) == whole.kept + whole.pruned + whole.removed + sum(whole.refused.values())
    assert whole.removed == sum(not count for count in left.values())
    assert whole.pruned == sum(0 < left[kind.name] < kind.checkpoints for kind in SOME)
    assert (whole.events > 0, whole.bytes > 0, report.seconds > 0) == (True, True, True)
    assert planned.total == whole
    again = await retention.carry_out()
    assert (again.total.removed, again.total.pruned, again.total.events) == (0, 0, 0)


async def test_what_is_left_alone_says_why(engine: Engine, calendar: Calendar, claims: AsyncExitStack) -> None:
    store = audited(engine)
    storage = EventCheckpointStorage(store)
    await save(storage, "held", "done", hold=True)
    await save(storage, "claimed", "done")
    await claims.enter_async_context(storage.for_run("claimed", workflow_name=WORKFLOW).claim(ttl=3600))
    first = sealed(msgspec.structs.replace(make_event(StreamId(WORKFLOW, "damaged"), 1), recorded_at=""))
    second = make_event(first.stream, 2, previous=first)
    await store.put(first.stream, [first, sealed(msgspec.structs.replace(second, recorded_at=calendar.timestamp()))])
    calendar.now += 31 * DAY
    told: dict[str, RetentionPlan] = {}
    rule = RetentionRule(name="r", workflow=WORKFLOW, remove_after=30 * DAY, status=STATUSES, unfinished=True)
    retention = Retention(store, RetentionPolicy([rule]), clock=calendar)

    def tell(plan: RetentionPlan) -> None:
        told[plan.stream.run_id] = plan

    report = await retention.carry_out(told=tell)
    assert {name: (plan.does, plan.refused) for name, plan in told.items()} == {
        "held": ("refuse", "held"),
        "claimed": ("refuse", "claimed"),
        "damaged": ("refuse", "damaged"),
    }
    assert "annotate it with hold=False first" in told["held"].why
    assert "is claimed by" in told["claimed"].why
    assert report.total.refused == {"held": 1, "claimed": 1, "damaged": 1}
    assert report.fell_short, "nobody means a damaged run to stay"


@pytest.mark.parametrize("recorded_at", ["", "yesterday", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00"])
async def test_a_run_whose_time_is_none_or_is_still_to_come_counts_as_young(
    engine: Engine, calendar: Calendar, recorded_at: str
) -> None:
    store = audited(engine)
    await save(EventCheckpointStorage(store), "other", "done")
    event = make_event(StreamId(WORKFLOW, "r"), 1)
    await store.put(event.stream, [sealed(msgspec.structs.replace(event, recorded_at=recorded_at))])
    rule = RetentionRule(name="r", workflow=WORKFLOW, remove_after=DAY, status=STATUSES, unfinished=True)
    await Retention(store, RetentionPolicy([rule]), clock=calendar).carry_out()
    left = {stream.run_id async for stream in store.streams(emptied=False)}
    assert left == ({"other"} if recorded_at.startswith("0001") else {"other", "r"})


async def test_the_record_of_a_removal_makes_no_run_younger(engine: Engine, calendar: Calendar) -> None:
    store = audited(engine)
    await save(EventCheckpointStorage(store), "r", "done", checkpoints=4)
    rule = RetentionRule(name="r", workflow=WORKFLOW, keep=2, remove_after=30 * DAY)
    retention = Retention(store, RetentionPolicy([rule]), clock=calendar)
    calendar.now += 29 * DAY
    assert (await retention.carry_out()).total.pruned == 1
    calendar.now += DAY
    assert (await retention.carry_out()).total.removed == 1


@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_what_a_removal_has_left_of_a_run_goes_though_that_was_begun_again(
    engine: Engine, calendar: Calendar, latest: Any
) -> None:
    store = audited(engine)
    await save(EventCheckpointStorage(store), "r", "done", checkpoints=2)
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(store, before_telling=True), "r")
    engine.settle()
    await save(EventCheckpointStorage(store), "r", "done")
    engine.settle()
    async with aclosing(store.workflow_headers(WORKFLOW)) as headers:
        await LatestProjection(store).apply([header async for header in headers])
    rule = RetentionRule(name="r", workflow=WORKFLOW, remove_after=30 * DAY)
    retention = Retention(store, RetentionPolicy([rule]), latest=latest, clock=calendar)
    plans = [plan async for plan in retention.plan()]
    assert [(each.does, each.events, each.finishes) for each in plans] == [("remove", 2, True)]
    report = await retention.carry_out()
    assert (report.total.removed, report.total.events) == (1, 2)
    engine.settle()
    assert [header.seq async for header in store.headers(StreamId(WORKFLOW, "r"))] == [3, 4]
    assert (await retention.carry_out()).total.events == 0


async def test_a_run_may_be_looked_for_in_the_projection_and_goes_by_the_log(
    engine: Engine, calendar: Calendar
) -> None:
    store = audited(engine)
    storage = EventCheckpointStorage(store)
    for name, status in (("old", "done"), ("late", "done"), ("waits", "waiting")):
        await save(storage, name, status)
    async with aclosing(store.workflow_headers(WORKFLOW)) as headers:
        await LatestProjection(store).apply([header async for header in headers])
    rule = RetentionRule(name="r", workflow=WORKFLOW, remove_after=30 * DAY)
    retention = Retention(store, RetentionPolicy([rule]), latest="projection", clock=calendar)
    calendar.now += 31 * DAY
    await save(storage, "late", "done")  # which the projection has not heard of
    report = await retention.carry_out()
    assert (report.looked_at, report.total.removed, report.total.kept) == (2, 1, 1)
    assert {stream.run_id async for stream in store.streams(emptied=False)} == {"late", "waits"}


async def test_sessions_go_by_rules_of_their_own_and_never_what_others_rest_on(
    engine: Engine, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventckpt.history.saving.now", calendar.timestamp)
    store = audited(engine)
    await save(EventCheckpointStorage(store), "a run", "done")
    provider = EventHistoryProvider(store, source_id="chat")
    for name in ("old", "origin", "young"):
        await provider.save_messages(name, [Message("user", [name])])
    await provider.fork("origin", "fork")
    calendar.now += 31 * DAY
    for name in ("young", "fork"):
        await provider.save_messages(name, [Message("user", ["again"])])
    rule = RetentionRule(name="chats", workflow="chat", remove_after=30 * DAY, turns=True)
    retention = Retention(store, RetentionPolicy([rule]), clock=calendar)
    told: list[RetentionPlan] = []
    await retention.carry_out(told=told.append)
    assert {plan.stream.run_id: (plan.does, plan.refused) for plan in told} == {
        "old": ("remove", None),
        "origin": ("refuse", "rested on"),
        "young": ("keep", None),
        "fork": ("keep", None),
    }
    assert [len(await provider.get_messages(name)) for name in ("old", "origin", "young", "fork")] == [
        0,
        1,
        2,
        2,
    ]
    calendar.now += 31 * DAY
    assert [(await retention.carry_out()).total.removed for _ in range(3)] == [2, 1, 0]
    assert {info.run_id async for info in CheckpointAudit(store).runs()} == {"a run"}
