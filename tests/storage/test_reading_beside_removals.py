"""Reading while a run is pruned: whatever the moment, no answer speaks of damage, and none misses what is there.

Each question is asked once for each step that it takes, and right before that step something happens to the run: all
interleavings of one question with one happening, on each engine and with pages of several sizes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, EventCheckpointStorage, StreamId
from eventckpt.audit.prune import carry_out, plan_for
from eventckpt.errors import CheckpointConflictError, CheckpointNotFoundError
from eventckpt.stores import AuditStore
from eventckpt.stores.sqlite import queries

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine, Engine
from ..interleaving import Interrupted

pytestmark = pytest.mark.slow  # every interleaving

LONG = os.environ.get("EVENTCKPT_TEST_STEPS") == "long"
STEPS = 6
FILLER = [f"a sentence that each of the checkpoints has, number {n}" for n in range(40)]


class Happening:
    """What is done to a run by other processes, and which ids may be given and which must be."""

    def __init__(self, store: AuditStore, workflow: str) -> None:
        self.workflow, self.id = workflow, "r"
        self.stream = StreamId(self.workflow, self.id)
        self._handle = EventCheckpointStorage(store).for_run(self.id)
        self._store = store
        self._last: str | None = None
        self._made = 0
        self.live: list[list[str]] = []
        """The live checkpoints after each step of what was done, in order."""

    @property
    def has_forked(self) -> bool:
        return self._handle.forked_to is not None

    async def begin(self) -> None:
        for _ in range(STEPS):
            await self.save()
        await self.again("c2")
        await self.delete(f"c{STEPS - 1}")
        await self.delete(f"c{STEPS - 2}")
        self.live = [self.live[-1]]

    async def save(self, checkpoint_id: str = "", note: int = 0) -> None:
        if not checkpoint_id:
            checkpoint_id = f"c{self._made}"
            self._made += 1
        saved = WorkflowCheckpoint(
            self.workflow,
            "graph",
            checkpoint_id=checkpoint_id,
            previous_checkpoint_id=self._last if self._last != checkpoint_id else None,
            state={"filler": FILLER, "note": note, "of": checkpoint_id},
        )
        await self._handle.save(saved)
        if self.has_forked:
            return  # the question wrote to the run, too, and was faster
        if not note:
            self._last = checkpoint_id
        before = [name for name in (self.live[-1] if self.live else []) if name != checkpoint_id]
        self.live.append([*before, checkpoint_id])

    async def again(self, checkpoint_id: str) -> None:
        await self.save(checkpoint_id, note=self._made + len(self.live))

    async def delete(self, checkpoint_id: str) -> None:
        await self._handle.delete(checkpoint_id)
        self.live.append([name for name in self.live[-1] if name != checkpoint_id])

    async def prune(self, keep: int = 1, *, killed: bool = False) -> None:
        headers = [header async for header in self._store.headers(self.stream)]
        plan = plan_for(headers, keep=keep)
        if not plan.seqs:
            return
        await carry_out(_Killed(self._store) if killed else self._store, plan, actor=None)
        self.live.append(self.live[-1][-keep:] if keep else [])


class _Killed(Interrupted):
    """What a prune writes to that is killed after it has removed half of what it recorded."""

    def __init__(self, store: AuditStore) -> None:
        async def nothing() -> None: ...

        super().__init__(store, -1, nothing)

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        return await super().remove(stream, seqs[::2])


async def pruned(run: Happening) -> None:
    await run.prune()


async def saved_and_pruned(run: Happening) -> None:
    await run.save()
    await run.prune()


async def superseded_and_pruned(run: Happening) -> None:
    await run.again(run.live[-1][0])
    await run.prune()


async def pruned_twice(run: Happening) -> None:
    await run.save()
    await run.prune(2)
    await run.save()
    await run.again(run.live[-1][0])
    await run.prune(1)


async def killed(run: Happening) -> None:
    await run.save()
    await run.prune(killed=True)


async def killed_and_finished(run: Happening) -> None:
    await run.prune(killed=True)
    await run.save()
    await run.prune()


async def all_gone(run: Happening) -> None:
    await run.prune(0)


async def gone_and_begun_again(run: Happening) -> None:
    await run.prune(0)
    await run.save()


HAPPENINGS = [
    pruned, saved_and_pruned, superseded_and_pruned, pruned_twice, killed, killed_and_finished, all_gone,
    gone_and_begun_again,
]  # fmt: skip

Question = Callable[[AuditStore, Happening], Awaitable[None]]


def allowed(live: list[list[str]], found: list[str]) -> bool:
    """Whether a listing may have been made while the run went through these states."""
    always = set(live[0]).intersection(*live)
    return always <= set(found) <= set().union(*live) and len(found) == len(set(found))


async def ids_are_listed(store: AuditStore, run: Happening) -> None:
    for storage in (EventCheckpointStorage(store), EventCheckpointStorage(store).for_run(run.id)):
        assert allowed(run.live, await storage.list_checkpoint_ids(workflow_name=run.workflow))


async def checkpoints_are_listed(store: AuditStore, run: Happening) -> None:
    found = await EventCheckpointStorage(store).for_run(run.id).list_checkpoints(workflow_name=run.workflow)
    assert allowed(run.live, [checkpoint.checkpoint_id for checkpoint in found])


async def checkpoints_of_all_runs_are_listed(store: AuditStore, run: Happening) -> None:
    found = await EventCheckpointStorage(store).list_checkpoints(workflow_name=run.workflow)
    assert allowed(run.live, [checkpoint.checkpoint_id for checkpoint in found])


async def the_latest_of_the_run_is_given(store: AuditStore, run: Happening) -> None:
    found = await EventCheckpointStorage(store).for_run(run.id).get_latest(workflow_name=run.workflow)
    assert (found and found.checkpoint_id) in [names[-1] if names else None for names in run.live]


async def the_latest_of_all_runs_is_given(store: AuditStore, run: Happening) -> None:
    found = await EventCheckpointStorage(store).get_latest(workflow_name=run.workflow)
    assert (found and found.checkpoint_id) in [names[-1] if names else None for names in run.live]


async def each_is_loaded(store: AuditStore, run: Happening) -> None:
    for name in run.live[0]:
        handle = EventCheckpointStorage(store).for_run(run.id)
        try:
            assert (await handle.load(name)).state["of"] == name
        except CheckpointNotFoundError:
            assert any(name not in names for names in run.live)


async def verify_finds_nothing_wrong(store: AuditStore, run: Happening) -> None:
    for decode in (False, True):
        verdict = await CheckpointAudit(store).verify(run.stream, decode=decode)
        assert verdict.ok, verdict.problems


async def all_runs_are_verified(store: AuditStore, run: Happening) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(store).verify_all(workflow_name=run.workflow, decode=True)]
    assert [verdict.problems for verdict in verdicts] == [()]


async def states_are_read(store: AuditStore, run: Happening) -> None:
    async with aclosing(CheckpointAudit(store).states(run.stream)) as states:
        async for header, checkpoint in states:
            assert header.checkpoint_id == checkpoint.checkpoint_id


async def states_up_to_a_point_are_read(store: AuditStore, run: Happening) -> None:
    async with aclosing(CheckpointAudit(store).states(run.stream, gt=2, lte=9)) as states:
        async for header, checkpoint in states:
            assert header.checkpoint_id == checkpoint.checkpoint_id


async def changes_are_told(store: AuditStore, run: Happening) -> None:
    async with aclosing(CheckpointAudit(store).changes(run.stream, "state.of")) as changes:
        assert all([change.exists async for change in changes])


async def it_is_replayed(store: AuditStore, run: Happening) -> None:
    for until in (None, 9):
        async with aclosing(CheckpointAudit(store).replay(run.stream, until=until)) as steps:
            problems = [step.problem async for step in steps if step.problem]
        assert problems == []


async def the_state_at_a_point_is_found(store: AuditStore, run: Happening) -> None:
    audit = CheckpointAudit(store)
    try:
        event = await audit.at(run.stream)
    except CheckpointNotFoundError:
        assert [] in run.live
        return
    assert event.checkpoint_id in [names[-1] for names in run.live if names]


async def it_is_summed_up(store: AuditStore, run: Happening) -> None:
    info = await CheckpointAudit(store).info(run.stream)
    assert info is not None
    assert info.checkpoint_id in [names[-1] if names else None for names in run.live]


async def its_history_is_read(store: AuditStore, run: Happening) -> None:
    for desc in (False, True):
        seqs = [header.seq async for header in CheckpointAudit(store).history(run.stream, desc=desc)]
        assert seqs == sorted(set(seqs), reverse=desc)


async def its_lineage_is_drawn(store: AuditStore, run: Happening) -> None:
    assert await CheckpointAudit(store).lineage(run.stream) or [] in run.live


async def it_is_pruned_too(store: AuditStore, run: Happening) -> None:
    audit = CheckpointAudit(store)
    with suppress(CheckpointConflictError):  # the other was faster: nothing was recorded or removed
        for plan in [plan async for plan in audit.plan_prune([run.stream], keep=1)]:
            await audit.prune(plan)
    verdict = await audit.verify(run.stream, decode=True)
    assert verdict.ok, verdict.problems
    await the_latest_of_the_run_is_given(store, run)


async def it_goes_on(store: AuditStore, run: Happening) -> None:
    """Whatever was acknowledged is found, in this run or in a fork of it."""
    storage = EventCheckpointStorage(store)
    handle = storage.for_run(run.id, workflow_name=run.workflow)
    latest = await handle.get_latest(workflow_name=run.workflow)
    last = latest.checkpoint_id if latest else None
    made: list[str] = []
    for number in range(2):
        state = {"filler": FILLER, "mine": number}
        saved = WorkflowCheckpoint(
            run.workflow, "graph", checkpoint_id=f"mine{number}", previous_checkpoint_id=last, state=state
        )
        last = await handle.save(saved)
        made.append(last)
    for number, name in enumerate(made):
        found = await storage.for_run(handle.forked_to or run.id, workflow_name=run.workflow).load(name)
        assert found.state["mine"] == number
    verdicts = [each async for each in CheckpointAudit(store).verify_all(workflow_name=run.workflow, decode=True)]
    assert all(verdict.ok for verdict in verdicts)


QUESTIONS = [
    it_is_pruned_too, it_goes_on,
    ids_are_listed, checkpoints_are_listed, checkpoints_of_all_runs_are_listed, the_latest_of_the_run_is_given,
    the_latest_of_all_runs_is_given, each_is_loaded, verify_finds_nothing_wrong, all_runs_are_verified,
    states_are_read, states_up_to_a_point_are_read, changes_are_told, it_is_replayed, the_state_at_a_point_is_found,
    it_is_summed_up, its_history_is_read, its_lineage_is_drawn,
]  # fmt: skip


@pytest.fixture
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a page of the embedded engine; the other has pages of 1, 10 and 100 by itself."""
    monkeypatch.setattr(queries, "PAGE", request.param)


def interleavings() -> Iterator[tuple[str, int, Question, Callable[[Happening], Awaitable[None]]]]:
    """Engine, rows of a page, question and happening. All of them in the long form (`make soak`); else all on SQLite
    with pages of one row, and of the others each question with two happenings, in turn."""
    for number, question in enumerate(QUESTIONS):
        for other, happening in enumerate(HAPPENINGS):
            yield "sqlite", 1, question, happening
            if LONG or (number + other) % 4 == 0:
                yield "sqlite", 4, question, happening
                yield "cosmos", 1, question, happening


def opened(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store


@pytest.mark.calm
@pytest.mark.parametrize(
    ("engine", "page", "question", "happening"),
    list(interleavings()),
    indirect=["engine", "page"],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
@pytest.mark.usefixtures("page")
async def test_whatever_happens_between_two_steps_of_a_question(
    engine: Engine,
    question: Question,
    happening: Callable[[Happening], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await ask_at_each_step(engine, question, happening, caplog)


@pytest.mark.parametrize("happening", [saved_and_pruned, pruned_twice], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "question",
    [the_latest_of_the_run_is_given, ids_are_listed, checkpoints_are_listed, verify_finds_nothing_wrong],
    ids=lambda each: each.__name__,
)
async def test_the_same_where_every_replica_lags(
    question: Question, happening: Callable[[Happening], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """A store has what it has seen, and of the rest each answer may be of a moment ago."""
    async with CosmosEmulator(switches=Switches(lag=1.0, lag_seconds=3600.0)) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        await ask_at_each_step(engine, question, happening, caplog)
        await engine.close()


async def ask_at_each_step(
    engine: Engine,
    question: Question,
    happening: Callable[[Happening], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reads, writes = opened(engine), opened(engine)
    at = 0
    while True:
        run = Happening(writes, f"w{at}")
        await run.begin()
        engine.settle()
        interrupted = Interrupted(reads, at, partial(happening, run))
        with caplog.at_level(logging.WARNING, "eventckpt"):
            await question(interrupted, run)
        assert "leaves out" not in caplog.text
        assert not run.has_forked or question is it_goes_on
        if interrupted.steps <= at:
            return
        at += 1
