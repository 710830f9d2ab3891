"""A run that is claimed gets checkpoints from its holder only: no migration, and no import, goes in between."""

from __future__ import annotations

import asyncio

import pytest

from eventckpt import CheckpointAudit, CheckpointConflictError, StreamId
from eventckpt.audit import Draft
from eventckpt.stores import AuditStore

from ..engines import Engine
from ..memory_engine.engine import MemoryEngine
from ..storage.checkpoints import WORKFLOW, checkpoint
from ..storage.claim_door import Door
from ..storage.claimants import RUN, Server, begun, held, log_of, saved_in

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)

STREAM = StreamId(WORKFLOW, RUN)
ROOT = checkpoint(checkpoint_id="root")


def audited(engine: Engine) -> CheckpointAudit:
    engine.settle()
    store = engine.open()
    assert isinstance(store, AuditStore)
    return CheckpointAudit(store)


def edit(draft: Draft) -> None:
    draft.fields["state"]["edited"] = True


async def test_a_run_that_is_claimed_is_not_migrated_and_its_holder_goes_on(engine: Engine) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    async with run.claim() as claim:
        plan = await audited(engine).plan_migration(STREAM, edit, name="v2")
        assert plan.event is None
        assert "claimed by ann until" in plan.refused
        with pytest.raises(ValueError, match="claimed by ann until"):
            await audited(engine).migrate(plan)
        await run.save(checkpoint(ROOT, checkpoint_id="a1"))
        claim.check()
    assert run.forked_to is None
    audit = audited(engine)
    migrated = await audit.migrate(await audit.plan_migration(STREAM, edit, name="v2"))
    assert migrated.claim is None
    assert await saved_in(engine) == [("root", None), ("a1", 2), (migrated.checkpoint_id, None)]


async def test_a_plan_is_not_carried_out_once_somebody_has_the_claim(engine: Engine) -> None:
    await begun(engine)
    async with Server(engine, "ann").run().claim():
        pass
    audit = audited(engine)
    plan = await audit.plan_migration(STREAM, edit, name="v2")
    assert plan.event is not None
    door = Door(engine.open())
    door.hangs_at = (3, "before")  # the event that takes the claim
    taking = asyncio.create_task(held(Server(engine, "bob", door).run()))
    await door.hanging.wait()
    engine.settle()
    with pytest.raises(CheckpointConflictError, match=r"claimed by bob until .* nothing was migrated"):
        await audit.migrate(plan)
    assert await saved_in(engine) == [("root", None)]
    door.goes_on.set()
    assert await (await taking).ended() is None
    engine.settle()
    with pytest.raises(CheckpointConflictError, match="was written to meanwhile"):
        await audit.migrate(plan)


async def test_an_import_puts_nothing_behind_what_a_holder_goes_on_from(engine: Engine) -> None:
    """As where a log is brought back that had gone further."""
    elsewhere = MemoryEngine()
    try:
        await begun(elsewhere)
        run = await Server(elsewhere, "ann").resumed()
        async with run.claim():
            short = [line async for line in audited(elsewhere).export([STREAM])]
            await run.save(checkpoint(ROOT, checkpoint_id="a1"))
            long = [line async for line in audited(elsewhere).export([STREAM])]
            [document] = await elsewhere.open().document_store().list_documents("claim-")
    finally:
        await elsewhere.close()
    audit = audited(engine)
    assert (await audit.import_lines(short)).added == 2
    documents = engine.open().document_store()
    there = await documents.create({key: value for key, value in document.items() if key != "_etag"})
    assert there is not None
    assert (await audited(engine).import_lines(short)).problems == ()
    refused = await audited(engine).import_lines(long)
    assert refused.added == 0
    assert "claimed by ann until" in refused.problems[0]
    assert len(await log_of(engine)) == 2
    assert await documents.delete(document["id"], there["_etag"])
    assert (await audited(engine).import_lines(long)).added == 1
