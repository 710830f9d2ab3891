"""Processes that claim one run: of two one has it, and whoever is killed or frozen with it is in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEvent, StreamId
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..holders import PATIENCE, TTL, Holder, started
from .claimants import RUN, begun, log_of
from .claiming_process import BUILDS, doing
from .steps import NAME, STEPS, begin, resume

pytestmark = pytest.mark.calm  # processes that wait for each other

PROCESS = "tests.storage.claiming_process"
MIDDLE = 2
"""The step in which ann is killed, or frozen."""

kinds = pytest.mark.parametrize("kind", BUILDS)


async def in_its_middle(holder: Holder) -> None:
    assert await holder.said() == "in its middle"


async def gone_on_with_by_bob(engine: Engine, done: Path, kind: str) -> list[WorkflowCheckpoint]:
    """What is there when he has the claim; then he goes on to the end."""
    engine.settle()
    run = engine.storage(actor="bob").for_run(RUN, workflow_name=NAME)
    async with run.claim(ttl=60, wait=PATIENCE):
        found = await run.list_checkpoints(workflow_name=NAME)
        await resume(run, doing(done, "bob"), BUILDS[kind])
    assert run.forked_to is None
    return found


async def whole_log(engine: Engine) -> list[CheckpointEvent]:
    """That of the run, which verifies, and has no fork."""
    log = await log_of(engine)
    store = engine.open()
    assert isinstance(store, AuditStore)
    assert {each.run_id async for each in store.workflow_headers(NAME)} == {RUN}
    assert (await CheckpointAudit(store).verify(StreamId(NAME, RUN), decode=True)).ok
    return log


def all_that_is_done(done: Path) -> list[str]:
    """What both did: the step that ann was in, twice, for it was not over."""
    assert done.read_text().splitlines() == [
        *(f"ann {number}" for number in range(MIDDLE + 1)),
        *(f"bob {number}" for number in range(MIDDLE, STEPS)),
    ]
    return done.read_text().splitlines()


@kinds
async def test_whoever_is_killed_in_a_step_is_followed_by_another_who_goes_on_from_all_that_was_saved(
    engine: Engine, tmp_path: Path, kind: str
) -> None:
    await begin(engine.storage().for_run(RUN), BUILDS[kind])
    async with started(PROCESS, engine, str(tmp_path / "done"), kind, str(MIDDLE), str(TTL)) as ann:
        await in_its_middle(ann)
        before = [each.checkpoint_id for each in await log_of(engine) if each.type == "checkpoint"]
        await ann.kill()
        found = await gone_on_with_by_bob(engine, tmp_path / "done", kind)
    assert [each.checkpoint_id for each in found] == before
    all_that_is_done(tmp_path / "done")
    log = await whole_log(engine)
    first, second = (each.seq for each in log if each.is_claim)
    assert {each.claim for each in log if each.type == "checkpoint" and each.seq > second} == {second}
    assert {each.claim for each in log if each.seq < second} == {None, first}


@pytest.mark.slow
@kinds
@pytest.mark.parametrize("how", ["its ttl is over", "its document is removed"])
async def test_whoever_was_frozen_in_a_step_saves_and_does_nothing_more_until_it_claims_anew(
    engine: Engine, tmp_path: Path, kind: str, how: str
) -> None:
    """Where the document is removed its own clock tells it nothing: it is the log that refuses the save."""
    await begin(engine.storage().for_run(RUN), BUILDS[kind])
    is_removed = how == "its document is removed"
    ttl = str(600.0 if is_removed else TTL)
    async with started(PROCESS, engine, str(tmp_path / "done"), kind, str(MIDDLE), ttl) as ann:
        await in_its_middle(ann)
        ann.freeze()
        if is_removed:
            engine.settle()
            documents = engine.open().document_store()
            [document] = await documents.list_documents("claim-")
            assert await documents.delete(document["id"], document["_etag"])
        await gone_on_with_by_bob(engine, tmp_path / "done", kind)
        before = await log_of(engine)
        ann.thaw()
        assert await ann.said() == "refused"
        assert await ann.said() == "ClaimLostError"
        assert await log_of(engine) == before
        all_that_is_done(tmp_path / "done")

        ann.goes_on()
        assert await ann.said() == "saved"
        assert await ann.process.wait() == 0
    *log, claim, last = await whole_log(engine)
    assert log == before
    assert claim.is_claim
    assert (last.type, last.claim) == ("checkpoint", claim.seq)


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.slow)])
async def test_of_two_processes_that_claim_at_once_one_has_it_and_the_other_is_told_who(
    engine: Engine, rounds: int
) -> None:
    await begun(engine)
    epochs = list[int]()
    async with started(PROCESS, engine, "", "rounds") as one, started(PROCESS, engine, "", "rounds") as other:
        for _ in range(rounds):
            for process in (one, other):
                process.goes_on()
            said = {process: json.loads(await process.said()) for process in (one, other)}
            [winner] = [process for process, (_, epoch) in said.items() if epoch]
            owners = {owner.rpartition(":")[2] for owner, _ in said.values()}
            assert owners == {str(winner.process.pid)}
            epochs.append(said[winner][1])
            winner.goes_on()
            assert [await process.said() for process in (one, other)] == ["over", "over"]
    assert epochs == sorted(set(epochs))
    assert [each.seq for each in await log_of(engine) if each.is_claim] == epochs
