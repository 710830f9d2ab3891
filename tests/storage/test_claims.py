"""The right to be the only one who resumes a run (docs/shared-store.md), on every engine."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import pytest

from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointEvent,
    CheckpointStoreError,
    ClaimLostError,
    RunCheckpointStorage,
    RunClaimedError,
    RunNotFoundError,
    StreamId,
)
from eventckpt.storage.compose import tombstone_after
from eventckpt.storage.memory import Head
from eventckpt.stores import AuditStore
from eventckpt.testing import make_event

from ..engine_of_0_1_0 import OldEventStore
from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .claim_door import Door
from .claimants import RUN, DrivenStorage, Holding, Server, begun, held, log_of, saved_in

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)

LATER = 61.0
"""Seconds: longer than a claim lasts by default."""


async def refused(run: RunCheckpointStorage, **options: Any) -> RunClaimedError:
    with pytest.raises(RunClaimedError) as error:
        async with run.claim(**options):
            raise AssertionError("two have the claim")
    return error.value


async def taken_over(engine: Engine, name: str = "bob") -> tuple[Server, Holding]:
    """Who has seen the claim of a holder that gives no sign of life, and then takes it."""
    server = Server(engine, name)
    await refused(server.run())
    server.clock.advance(LATER)
    return server, await held(server.run())


# While it is held


async def test_what_the_holder_saves_is_under_its_epoch_and_whoever_has_no_claim_forks(engine: Engine) -> None:
    await begun(engine)
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    run, other = await ann.resumed(), await bob.resumed()
    root = checkpoint(checkpoint_id="root")
    async with run.claim() as claim:
        assert (claim.epoch, claim.owner, claim.stream) == (2, "ann", StreamId(WORKFLOW, RUN))
        await other.save(checkpoint(root, checkpoint_id="b1"))
        await run.save(a1 := checkpoint(root, checkpoint_id="a1"))
        newcomer = await bob.resumed()
        await newcomer.save(checkpoint(a1, checkpoint_id="b2"))
        await run.save(a2 := checkpoint(a1, checkpoint_id="a2"))
    assert await saved_in(engine) == [("root", None), ("a1", 2), ("a2", 2)]
    assert (run.forked_to, other.forked_to, newcomer.forked_to) == (None, "r~b1", "r~b2")
    assert await saved_in(engine, "r~b1") == [("b1", None)]

    last = await bob.resumed()
    await last.save(checkpoint(a2, checkpoint_id="b3"))
    assert last.forked_to is None
    assert await saved_in(engine) == [("root", None), ("a1", 2), ("a2", 2), ("b3", None)]


async def test_where_conflicts_raise_the_error_says_who_has_the_claim(engine: Engine) -> None:
    await begun(engine)
    holding = await held(await Server(engine, "ann").resumed())
    other = await Server(engine, "bob", on_conflict="raise").resumed()
    with pytest.raises(CheckpointConflictError, match=r"claimed by ann until .*b1 was not saved") as error:
        await other.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="b1"))
    assert not isinstance(error.value, ClaimLostError)
    assert await holding.ended() is None
    assert await saved_in(engine) == [("root", None)]


@pytest.mark.parametrize("way", ["unbound", "confined", "for each"])
async def test_whichever_way_somebody_else_saves_the_holder_is_not_disturbed(engine: Engine, way: str) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    storage = Server(engine, "bob").storage
    root = checkpoint(checkpoint_id="root")
    async with run.claim():
        await run.save(a1 := checkpoint(root, checkpoint_id="a1"))
        engine.settle()
        other: Any = storage
        if way == "confined":
            other = storage.for_run(RUN, workflow_name=WORKFLOW, confined=True)
        elif way == "for each":
            other = storage.for_each(lambda: RUN)
        assert (await other.load("a1")).checkpoint_id == "a1"
        await other.save(checkpoint(a1, checkpoint_id="b1"))
        await run.save(checkpoint(a1, checkpoint_id="a2"))
    assert await saved_in(engine) == [("root", None), ("a1", 2), ("a2", 2)]
    assert await saved_in(engine, "r~b1") == [("b1", None)]


async def test_annotations_and_deletions_by_anybody_leave_the_holder_where_it_is(engine: Engine) -> None:
    await begun(engine)
    run, other = await Server(engine, "ann").resumed(), await Server(engine, "bob").resumed()
    root = checkpoint(checkpoint_id="root")
    async with run.claim():
        await other.annotate(tags={"customer": "c-17"})
        await run.save(a1 := checkpoint(root, checkpoint_id="a1"))
        engine.settle()
        assert await other.delete("root")
        await run.save(a2 := checkpoint(a1, checkpoint_id="a2"))
        await run.annotate(hold=True)
        assert await run.delete("a1")
        await run.save(checkpoint(a2, checkpoint_id="a3"))
    assert run.forked_to is None
    assert [each.claim for each in await log_of(engine)] == [None, *[2] * 8]


async def test_what_was_said_of_a_run_and_removed_from_it_is_in_the_event_that_takes_a_claim(engine: Engine) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    await run.annotate(outcome="failed", reason="no paper", tags={"customer": "c-17"}, hold=True)
    async with run.claim() as claim:
        pass
    *_, taken = await log_of(engine)
    assert taken.is_claim
    assert not taken.is_annotation
    assert (taken.seq, taken.claim, taken.annotation and taken.annotation.tags) == (
        claim.epoch,
        claim.epoch,
        {"customer": "c-17"},
    )
    store = engine.open()
    assert isinstance(store, AuditStore)
    info = await CheckpointAudit(store).info(StreamId(WORKFLOW, RUN))
    assert info is not None
    assert (info.status, info.reason, info.tags, info.hold) == ("failed", "no paper", {"customer": "c-17"}, True)

    await run.save(checkpoint(checkpoint(checkpoint_id="root")))
    async with run.claim():
        pass
    *_, taken = await log_of(engine)
    assert taken.annotation is not None
    assert (taken.annotation.outcome, taken.annotation.hold) == (None, True)


async def test_a_checkpoint_that_is_saved_again_is_there_already_whoever_has_the_claim(engine: Engine) -> None:
    await begun(engine)
    run, other = await Server(engine, "ann").resumed(), await Server(engine, "bob").resumed()
    await run.save(a1 := checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    engine.settle()
    assert await other.get_latest(workflow_name=WORKFLOW) == a1
    async with run.claim():
        await other.save(a1)
        assert other.forked_to is None
    assert await saved_in(engine) == [("root", None), ("a1", None)]


async def test_a_claim_is_on_the_run_of_one_workflow(engine: Engine) -> None:
    await begun(engine)
    ann = Server(engine, "ann")
    await ann.run().save(refund := checkpoint(workflow_name="refunds"))
    run = await ann.resumed()
    async with run.claim():
        other = Server(engine, "bob").storage.for_run(RUN, workflow_name="refunds")
        await other.load(refund.checkpoint_id)
        await other.save(again := checkpoint(refund, workflow_name="refunds"))
        await run.load(again.checkpoint_id)
        await run.save(checkpoint(again, workflow_name="refunds"))
        assert (run.forked_to, other.forked_to) == (None, None)
    headers = [each async for each in engine.open().headers(StreamId("refunds", RUN))]
    assert [each.claim for each in headers] == [None] * 3


async def test_to_claim_is_no_read(engine: Engine) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    root = checkpoint(checkpoint_id="root")
    await (await Server(engine, "bob").resumed()).save(checkpoint(root, checkpoint_id="b1"))
    engine.settle()
    async with run.claim():
        await run.save(checkpoint(root, checkpoint_id="a1"))
        assert run.forked_to == "r~a1"
        latest = await run.get_latest(workflow_name=WORKFLOW)
        assert latest is not None
        await run.save(checkpoint(latest, checkpoint_id="a2"))
        assert run.forked_to is None
    assert await saved_in(engine) == [("root", None), ("b1", None), ("a2", 3)]
    assert await saved_in(engine, "r~a1") == [("a1", None)]


# Who has it


async def test_a_second_one_is_told_who_has_the_claim_and_until_when(engine: Engine) -> None:
    await begun(engine)
    ann = Server(engine, "ann")
    holding = await held(ann.run(actor="approver 7"), ttl=30)
    for run in (ann.run(), holding.run, Server(engine, "bob").run()):
        error = await refused(run)
        assert (error.owner, error.stream) == ("approver 7", StreamId(WORKFLOW, RUN))
        assert error.expires_at in str(error)
        assert "approver 7" in str(error)
    assert await holding.ended() is None
    assert len(await log_of(engine)) == 2


async def test_without_an_actor_the_owner_is_the_host_and_the_process(engine: Engine) -> None:
    await begun(engine)
    engine.settle()
    async with engine.storage().for_run(RUN, workflow_name=WORKFLOW).claim() as claim:
        host, _, process = claim.owner.rpartition(":")
        assert host
        assert process.isdigit()


async def test_whoever_waits_gets_it_when_it_is_given_back_and_not_before(engine: Engine) -> None:
    await begun(engine)
    holding = await held(Server(engine, "ann").run())
    bob = Server(engine, "bob")
    waiting = Holding(bob.run(), wait=50)
    await bob.clock.passes(30)
    assert not await log_is_claimed_by(engine, "bob")
    assert await holding.ended() is None
    await bob.clock.until(lambda: log_is_claimed_by(engine, "bob"))
    await waiting.entered()
    assert await waiting.ended() is None


async def log_is_claimed_by(engine: Engine, name: str) -> bool:
    return any(each.is_claim and each.actor == name for each in await log_of(engine))


async def test_whoever_waits_in_vain_is_refused_in_the_end(engine: Engine) -> None:
    await begun(engine)
    holding = await held(Server(engine, "ann").run(), ttl=1000)
    bob = Server(engine, "bob")
    waiting = asyncio.create_task(refused(bob.run(), wait=7))
    await bob.clock.until(waiting.done)
    assert (await waiting).owner == "ann"
    assert await holding.ended() is None


async def test_whoever_waits_as_long_as_a_dead_holders_claim_lasts_takes_over(engine: Engine) -> None:
    await begun(engine)
    dead = await held(Server(engine, "ann").run(), ttl=30)
    door = Door(engine.open())
    door.hangs_at = (1, "before")  # it is found to be held
    bob = Server(engine, "bob", door)
    assert "waits so long (wait=30, --wait 30)" in str(await refused(Server(engine, "carl").run()))
    waiting = Holding(bob.run(), wait=30)
    await door.hanging.wait()
    bob.clock.now += 5
    door.goes_on.set()
    await bob.clock.until(lambda: bob.clock.now >= 1000 + 34)
    assert not await log_is_claimed_by(engine, "bob")
    await bob.clock.until(lambda: log_is_claimed_by(engine, "bob"))
    assert await (await waiting.entered()).ended() is None
    assert isinstance(await dead.ended(), ClaimLostError | None)


class Narrow(DrivenStorage):
    watched_claims = 3


async def test_of_more_dead_claims_than_are_remembered_each_sweep_takes_some_up(engine: Engine) -> None:
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    bob.storage = Narrow(engine.open(), bob.clock, actor="bob")
    runs = [f"r{number}" for number in range(8)]
    dead: list[Holding] = []
    for run_id in runs:
        await engine.storage().for_run(run_id).save(checkpoint(checkpoint_id=f"root of {run_id}"))
        engine.settle()
        dead.append(await held(ann.storage.for_run(run_id, workflow_name=WORKFLOW)))
    taken: list[int] = []
    while len(runs) > 0:
        left: list[str] = []
        for run_id in runs:
            engine.settle()
            try:
                async with bob.storage.for_run(run_id, workflow_name=WORKFLOW).claim():
                    pass
            except RunClaimedError:
                left.append(run_id)
        taken.append(len(runs) - len(left))
        runs = left
        bob.clock.advance(LATER)
        assert len(taken) < 20
    assert taken == [0, 3, 3, 2]
    for each in dead:
        await each.ended()


async def test_claims_that_are_kept_by_their_holders_keep_no_dead_one_from_being_remembered(engine: Engine) -> None:
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    bob.storage = Narrow(engine.open(), bob.clock, actor="bob")
    runs = [f"r{number}" for number in range(5)]
    holdings: list[Holding] = []
    for run_id in runs:
        await engine.storage().for_run(run_id).save(checkpoint(checkpoint_id=f"root of {run_id}"))
        engine.settle()
        server = ann if run_id != runs[-1] else Server(engine, "dead")
        holdings.append(await held(server.storage.for_run(run_id, workflow_name=WORKFLOW)))
    taken = set[str]()
    for _ in range(6):
        for run_id in runs:
            engine.settle()
            with suppress(RunClaimedError):
                async with bob.storage.for_run(run_id, workflow_name=WORKFLOW).claim():
                    taken.add(run_id)
        await ann.clock.until(partial(all_renewed, engine, await etags_of_anns(engine)))
        bob.clock.advance(LATER)
    assert taken == {runs[-1]}
    for each in holdings:
        await each.ended()


async def etags_of_anns(engine: Engine) -> set[str]:
    engine.settle()
    documents = await engine.open().document_store().list_documents("claim-")
    return {each["_etag"] for each in documents if each["owner"] == "ann"}


async def all_renewed(engine: Engine, before: set[str]) -> bool:
    return not before.intersection(await etags_of_anns(engine))


async def test_one_that_is_renewed_lasts_as_long_as_its_body(engine: Engine) -> None:
    await begun(engine)
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    holding = await held(await ann.resumed(), ttl=60)
    for _ in range(5):
        first = await refused(bob.run())
        await ann.clock.passes(25)
        bob.clock.advance(25)
        await ann.clock.until(partial(renewed_since, bob, first))
    await holding.run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    assert await holding.ended() is None
    assert await saved_in(engine) == [("root", None), ("a1", 2)]


async def renewed_since(server: Server, before: RunClaimedError) -> bool:
    return (await refused(server.run())).expires_at != before.expires_at


# Who had it


async def test_from_a_holder_that_gives_no_sign_of_life_another_takes_over_and_the_first_is_refused(
    engine: Engine,
) -> None:
    await begun(engine)
    ann = Server(engine, "ann")
    holding = await held(await ann.resumed())
    root = checkpoint(checkpoint_id="root")
    await holding.run.save(a1 := checkpoint(root, checkpoint_id="a1"))
    _, other = await taken_over(engine)
    assert other.claim.epoch == 4
    assert await other.run.get_latest(workflow_name=WORKFLOW) == a1
    await other.run.save(b1 := checkpoint(a1, checkpoint_id="b1"))
    engine.settle()
    before = await log_of(engine)

    with pytest.raises(ClaimLostError, match="somebody else has taken it") as lost:
        await holding.run.save(checkpoint(a1, checkpoint_id="a2"))
    assert (lost.value.epoch, lost.value.stream) == (2, StreamId(WORKFLOW, RUN))
    assert isinstance(await holding.ended(), ClaimLostError)
    assert holding.was_cancelled
    assert await log_of(engine) == before
    assert holding.run.forked_to is None

    assert await holding.run.get_latest(workflow_name=WORKFLOW) == b1
    await holding.run.save(checkpoint(b1, checkpoint_id="a4"))
    assert holding.run.forked_to == "r~a4"
    assert await other.ended() is None
    assert await saved_in(engine) == [("root", None), ("a1", 2), ("b1", 4)]


async def test_one_that_was_lost_to_nobody_but_time_is_lost(engine: Engine) -> None:
    await begun(engine)
    ann = Server(engine, "ann")
    holding = await held(await ann.resumed(), ttl=60)
    ann.clock.now += LATER  # it was frozen: nothing of it has run since
    with pytest.raises(ClaimLostError, match="not renewed within its ttl"):
        await holding.run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    assert isinstance(await holding.ended(), ClaimLostError)
    assert await saved_in(engine) == [("root", None)]


async def test_what_a_later_holder_has_written_and_given_back_is_enough_to_refuse_an_earlier_one(
    engine: Engine,
) -> None:
    await begun(engine)
    holding = await held(await Server(engine, "ann").resumed())
    _, other = await taken_over(engine)
    assert await other.ended() is None
    with pytest.raises(ClaimLostError):
        await holding.run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    assert isinstance(await holding.ended(), ClaimLostError)
    assert await saved_in(engine) == [("root", None)]


async def test_whoever_reads_after_the_loss_saves_nothing_through_the_claim_either(engine: Engine) -> None:
    await begun(engine)
    holding = await held(await Server(engine, "ann").resumed())
    _, other = await taken_over(engine)
    engine.settle()
    await holding.run.get_latest(workflow_name=WORKFLOW)
    with pytest.raises(ClaimLostError):
        await holding.run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    assert isinstance(await holding.ended(), ClaimLostError)
    assert await other.ended() is None


@pytest.mark.parametrize("is_pruned", [False, True])
async def test_whoever_reads_what_was_saved_without_a_claim_after_the_loss_is_told_of_it_too(
    engine: Engine, is_pruned: bool
) -> None:
    await begun(engine)
    holding = await held(await Server(engine, "ann").resumed())
    _, other = await taken_over(engine)
    assert await other.ended() is None
    await (await Server(engine, "carl").resumed()).save(
        checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="c1")
    )
    if is_pruned:
        store = engine.open()
        assert isinstance(store, AuditStore)
        audit = CheckpointAudit(store)
        [plan] = [plan async for plan in audit.plan_prune([StreamId(WORKFLOW, RUN)], keep=1, force=True)]
        await audit.prune(plan)
    engine.settle()
    latest = await holding.run.get_latest(workflow_name=WORKFLOW)
    with pytest.raises(ClaimLostError):
        await holding.run.save(checkpoint(latest, checkpoint_id="a1"))
    assert isinstance(await holding.ended(), ClaimLostError)
    assert [each for each, _ in await saved_in(engine)] == ["root", "c1"]
    assert any(each.is_claim for each in await log_of(engine)) is not is_pruned


async def test_a_holder_that_reads_what_a_writer_without_claims_has_saved_goes_on_behind_it(engine: Engine) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    async with run.claim():
        *_, taken = await log_of(engine)
        event = make_event(StreamId(WORKFLOW, RUN), 3, checkpoint_id="old", previous=taken)
        await engine.open().append(event)
        engine.settle()
        await run.load("root")
        await run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    assert await saved_in(engine) == [("root", None), ("old", None), ("a1", 2)]


async def test_one_whose_holder_died_keeps_nobody_from_saving_who_has_seen_it_for_long_enough(engine: Engine) -> None:
    await begun(engine)
    dead = await held(await Server(engine, "ann").resumed())
    bob = Server(engine, "bob")
    root = checkpoint(checkpoint_id="root")
    early = await bob.resumed()
    await early.save(checkpoint(root, checkpoint_id="b1"))
    assert early.forked_to == "r~b1"
    bob.clock.advance(LATER)
    late = await bob.resumed()
    await late.save(checkpoint(root, checkpoint_id="b2"))
    assert late.forked_to is None
    assert await saved_in(engine) == [("root", None), ("b2", None)]
    assert await dead.ended() is None


async def test_of_many_that_claim_at_once_one_has_it_at_a_time_and_each_a_later_epoch(engine: Engine) -> None:
    await begun(engine)
    engine.settle()
    storage = [engine.storage(actor=f"server {n}") for n in range(4)]
    inside, epochs = 0, list[int]()

    async def work(number: int) -> None:
        nonlocal inside
        run = storage[number].for_run(RUN, workflow_name=WORKFLOW)
        async with run.claim(wait=600) as claim:
            inside += 1
            assert inside == 1
            engine.settle()
            latest = await run.get_latest(workflow_name=WORKFLOW)
            assert latest is not None
            await run.save(checkpoint(latest, checkpoint_id=f"by {number}"))
            epochs.append(claim.epoch)
            assert run.forked_to is None
            inside -= 1

    await asyncio.gather(*map(work, range(4)))
    assert epochs == sorted(set(epochs))
    assert sorted(each for each, _ in await saved_in(engine)) == ["by 0", "by 1", "by 2", "by 3", "root"]


# How it ends


async def test_an_error_of_the_body_ends_the_claim_and_is_raised(engine: Engine) -> None:
    await begun(engine)
    run = Server(engine, "ann").run()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with run.claim():
                raise ZeroDivisionError


async def test_an_error_of_the_body_comes_before_the_loss_which_is_a_note_on_it(engine: Engine) -> None:
    await begun(engine)
    run = Server(engine, "ann").run()

    async def work() -> None:
        async with run.claim():
            _, other = await taken_over(engine)
            assert await other.ended() is None
            with pytest.raises(asyncio.CancelledError):
                await run.save(checkpoint(checkpoint(checkpoint_id="root")))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        await work()
    assert "is lost: somebody else has taken it" in "".join(getattr(error.value, "__notes__", []))


async def test_a_body_that_ends_before_it_hears_of_the_loss_hears_of_it_at_the_end(engine: Engine) -> None:
    await begun(engine)
    run = Server(engine, "ann").run()
    with pytest.raises(ClaimLostError, match="somebody else has taken it"):
        async with run.claim():
            _, other = await taken_over(engine)
    assert await other.ended() is None


async def test_a_body_that_asks_is_told_of_the_loss_and_nothing_is_left_of_the_cancellation(engine: Engine) -> None:
    await begun(engine)
    ann = Server(engine, "ann")

    async def work() -> None:
        async with ann.run().claim() as claim:
            claim.check()
            ann.clock.now += LATER
            claim.check()

    with pytest.raises(ClaimLostError, match="not renewed within its ttl"):
        await work()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_body_that_is_cancelled_by_others_is_cancelled_lost_or_not(engine: Engine) -> None:
    await begun(engine)
    for is_lost in (False, True):
        ann = Server(engine, "ann")
        holding = await held(ann.run(), wait=600)
        if is_lost:
            ann.clock.advance(LATER)
        holding.cancel()
        assert isinstance(await holding.ended(), asyncio.CancelledError)
        assert holding.was_cancelled


async def test_a_timeout_around_a_claim_is_a_timeout(engine: Engine) -> None:
    await begun(engine)
    run = Server(engine, "ann").run()

    async def work() -> None:
        async with asyncio.timeout(None) as limit, run.claim():
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await work()
    async with run.claim():
        pass


async def test_a_claim_is_taken_once(engine: Engine) -> None:
    await begun(engine)
    claim = Server(engine, "ann").run().claim()
    async with claim:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with claim:
            pass


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
@pytest.mark.parametrize("is_cancelled", [False, True], ids=["", "cancelled by others"])
async def test_however_a_body_ends_nothing_of_its_claim_is_left(
    engine: Engine, is_cancelled: bool, is_lost: bool, ends: str
) -> None:
    await begun(engine)
    ann, bob = Server(engine, "ann"), Server(engine, "bob")
    others = asyncio.all_tasks()
    is_inside = asyncio.Event()

    async def work() -> None:
        async with ann.run().claim() as claim:
            is_inside.set()
            if is_cancelled:
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            if is_lost:
                ann.clock.now += LATER
                with suppress(ClaimLostError):
                    claim.check()
            if ends == "raises":
                raise ZeroDivisionError
            if ends == "is cancelled":
                raise asyncio.CancelledError

    task = asyncio.create_task(work())
    await is_inside.wait()
    if is_cancelled:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not {each for each in asyncio.all_tasks() - others if "laim" in str(each.get_coro())}
    assert await (await held(bob.run())).ended() is None


async def test_a_claim_that_ends_takes_no_other_one_off_its_handle(engine: Engine) -> None:
    await begun(engine)
    ann = Server(engine, "ann")
    run, root = await ann.resumed(), checkpoint(checkpoint_id="root")
    first = await held(run)
    await freed_by_hand(engine)
    async with run.claim() as claim:
        assert isinstance(await first.ended(), ClaimLostError)
        await run.save(checkpoint(root, checkpoint_id="a1"))
        claim.check()
    assert await saved_in(engine) == [("root", None), ("a1", claim.epoch)]


async def freed_by_hand(engine: Engine) -> None:
    engine.settle()
    documents = engine.open().document_store()
    [document] = await documents.list_documents("claim-")
    assert await documents.delete(document["id"], document["_etag"])
    engine.settle()


async def test_a_claim_that_was_not_taken_or_has_ended_is_none_to_write_by(engine: Engine) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    claim = run.claim()
    with pytest.raises(RuntimeError, match="was not taken"):
        claim.check()
    async with claim:
        claim.check()
    with pytest.raises(ClaimLostError, match="its body has ended"):
        claim.check()
    await run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
    async with run.claim(), run.recording():
        with pytest.raises(ClaimLostError):
            claim.check()
    assert (await log_of(engine))[-1].is_annotation


# What is recorded of work under a claim that is lost


@pytest.mark.parametrize("found", ["by a save", "by its clock", "by nobody"])
@pytest.mark.parametrize("raised", [None, ConnectionResetError, ClaimLostError], ids=str)
@pytest.mark.parametrize("is_outside", [False, True], ids=["inside", "outside"])
async def test_whose_claim_is_lost_says_nothing_of_how_the_run_ended(
    engine: Engine, is_outside: bool, raised: type[Exception] | None, found: str
) -> None:
    await begun(engine)
    ann, root = Server(engine, "ann"), checkpoint(checkpoint_id="root")
    run = await ann.resumed()

    async def work() -> None:
        async with AsyncExitStack() as stack:
            if is_outside:
                await stack.enter_async_context(run.recording())
            claim = await stack.enter_async_context(run.claim())
            if not is_outside:
                await stack.enter_async_context(run.recording())
            if found == "by its clock":
                ann.clock.now += LATER
                with suppress(ClaimLostError):
                    claim.check()
            else:
                _, other = await taken_over(engine)
                others.append(other)
            if found == "by a save":
                with suppress(asyncio.CancelledError):
                    await run.save(checkpoint(root, checkpoint_id="a1"))
            if raised is ClaimLostError:
                raise ClaimLostError("of this", stream=StreamId(WORKFLOW, RUN), epoch=2)
            if raised is not None:
                raise raised

    others = list[Holding]()
    with suppress(ClaimLostError, ConnectionResetError):
        await work()
    assert not [each for each in await log_of(engine) if each.is_annotation]
    for other in others:
        assert await other.ended() is None


async def test_after_a_loss_a_handle_that_has_read_or_claimed_records_again(engine: Engine) -> None:
    await begun(engine)
    for again in ("read", "claimed"):
        ann = Server(engine, "ann")
        run = await ann.resumed()
        holding = await held(run)
        ann.clock.now += LATER
        with pytest.raises(ClaimLostError):
            await run.save(checkpoint(checkpoint(checkpoint_id="root")))
        assert isinstance(await holding.ended(), ClaimLostError)
        async with run.recording():
            pass
        before = len(await log_of(engine))
        if again == "read":
            await run.get_latest(workflow_name=WORKFLOW)
        else:
            async with run.claim():
                before += 1
        async with run.recording():
            pass
        *log, last = await log_of(engine)
        assert (len(log), last.is_annotation) == (before, True)


# Where the event that took a later claim cannot be seen


@pytest.mark.parametrize("hidden", ["by nothing", "by a prune", "by a deletion of 0.1.0"])
async def test_a_later_claim_is_met_by_whatever_was_written_under_it(engine: Engine, hidden: str) -> None:
    await begun(engine)
    run = await Server(engine, "ann").resumed()
    root = checkpoint(checkpoint_id="root")
    holding = await held(run)
    await run.save(a1 := checkpoint(root, checkpoint_id="a1"))
    await freed_by_hand(engine)
    other = await held(await Server(engine, "bob").resumed())
    store = engine.open()
    assert isinstance(store, AuditStore)
    if hidden == "by a deletion of 0.1.0":
        *_, last = await log_of(engine)
        await store.append(tombstone_after(a1_event(await log_of(engine)), Head(last.seq, last.digest), None))
    else:
        await other.run.save(checkpoint(a1, checkpoint_id="b1"))
    if hidden == "by a prune":
        engine.settle()
        audit = CheckpointAudit(store)
        [plan] = [each async for each in audit.plan_prune([StreamId(WORKFLOW, RUN)], keep=1, force=True)]
        await audit.prune(plan)
        assert not any(each.is_claim for each in await log_of(engine))
    engine.settle()
    with pytest.raises(ClaimLostError, match="somebody else has taken it"):
        await run.save(checkpoint(a1, checkpoint_id="a2"))
    assert run.forked_to is None
    assert isinstance(await holding.ended(), ClaimLostError)
    assert await other.ended() is None


async def test_who_has_no_claim_meets_one_behind_which_0_1_0_has_deleted_something(engine: Engine) -> None:
    await begun(engine)
    other = await Server(engine, "bob").resumed()
    run = await Server(engine, "ann").resumed()
    async with run.claim() as claim:
        root, last = await log_of(engine)
        await engine.open().append(tombstone_after(root, Head(last.seq, last.digest), None))
        engine.settle()
        await other.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="b1"))
        assert other.forked_to == "r~b1"
        await run.save(checkpoint(checkpoint(checkpoint_id="root"), checkpoint_id="a1"))
        claim.check()
    assert run.forked_to is None


def a1_event(log: list[CheckpointEvent]) -> CheckpointEvent:
    return next(each for each in log if each.checkpoint_id == "a1")


# What is refused


@pytest.mark.parametrize("wrong", [0, -1, 86_401, float("nan"), float("inf"), "60", None, True])
@pytest.mark.parametrize("name", ["ttl", "wait"])
async def test_times_are_seconds_of_a_day(engine: Engine, name: str, wrong: Any) -> None:
    if (name, wrong) == ("wait", 0):
        return
    with pytest.raises((ValueError, TypeError), match=name):
        Server(engine, "ann").run().claim(**{name: wrong})


async def test_a_run_that_is_not_there_is_not_claimed_and_nothing_is_done(engine: Engine) -> None:
    store = engine.open()
    with pytest.raises(RunNotFoundError, match="'r' of workflow 'orders' has no events"):
        async with Server(engine, "ann", store).run().claim():
            pass
    assert await store.document_store().list_documents("") == []
    assert await log_of(engine) == []


async def test_of_which_workflow_the_run_is_must_be_known(engine: Engine) -> None:
    with pytest.raises(ValueError, match="give for_run its workflow_name"):
        engine.storage().for_run(RUN).claim()


async def test_what_is_stored_of_a_claim_is_nothing_that_an_engine_acts_on(engine: Engine) -> None:
    await begun(engine)
    holding = await held(Server(engine, "ann").run(), ttl=60)
    engine.settle()
    [document] = await engine.open().document_store().list_documents("claim-")
    assert {name for name in document if not name.startswith("_")} == {"id", "owner", "token", "lasts", "expires_at"}
    assert (document["owner"], document["lasts"]) == ("ann", 60)
    assert await holding.ended() is None


async def test_an_engine_without_documents_has_no_claims(engine: Engine) -> None:
    inner = engine.open()
    assert isinstance(inner, AuditStore)
    server = Server(engine, "ann", OldEventStore(inner))
    await server.run().save(checkpoint())
    with pytest.raises(CheckpointStoreError, match="keeps no documents"):
        async with server.run().claim():
            pass


# A document that somebody has forged, or damaged

BAD: list[dict[str, Any]] = [
    {},
    {"lasts": 10**30},
    {"lasts": -1, "owner": ["x"]},
    {"lasts": "60", "token": 5},
    {"lasts": 0},
    {"lasts": True},
    {"lasts": None, "expires_at": 17, "owner": "o\x1b[2J" * 1000},
    {"lasts": {"deep": [1]}, "expires_at": "9999-99-99"},
]


@pytest.mark.parametrize("said", BAD, ids=range(len(BAD)))
async def test_a_document_that_says_nothing_of_use_is_left_after_a_day(engine: Engine, said: dict[str, Any]) -> None:
    await begun(engine)
    holding = await held(Server(engine, "ann").run())
    documents = engine.open().document_store()
    engine.settle()
    [document] = await documents.list_documents("claim-")
    assert await documents.replace({"id": document["id"], **said}, document["_etag"]) is not None
    engine.settle()
    bob = Server(engine, "bob")
    error = await refused(bob.run())
    assert len(error.owner) <= 255
    assert str(error).isprintable()
    assert document["id"] in str(error)
    bob.clock.advance(86_000)
    await refused(bob.run())
    bob.clock.advance(1_000)
    other = await held(bob.run())
    assert isinstance(await holding.ended(), ClaimLostError)
    assert await other.ended() is None


# Who writes, and what is answered


async def test_the_actor_of_a_handle_stands_in_for_that_of_its_storage(engine: Engine) -> None:
    server = Server(engine, "server")
    run = server.run(actor="ann")
    await run.save(first := checkpoint())
    await run.annotate(hold=True)
    await run.delete(first.checkpoint_id)
    await server.run().delete(first.checkpoint_id)
    await run.save(checkpoint(first))
    assert [each.actor for each in await log_of(engine)] == ["ann"] * 4
    with pytest.raises(ValueError, match="actor"):
        server.run(actor=" ")


async def test_the_next_checkpoint_lists_what_the_handle_was_told_that_it_answers_and_no_later_one(
    engine: Engine,
) -> None:
    await begun(engine)
    run = await Server(engine, "ann", on_conflict="raise").resumed()
    run.answers("q1", "q2")
    run.answers("q2")
    root = checkpoint(checkpoint_id="root")
    await (await Server(engine, "bob").resumed()).save(b1 := checkpoint(root, checkpoint_id="b1"))
    engine.settle()
    with pytest.raises(CheckpointConflictError):
        await run.save(checkpoint(root, checkpoint_id="a1"))
    await run.get_latest(workflow_name=WORKFLOW)
    await run.save(a2 := checkpoint(b1, checkpoint_id="a2"))
    await run.save(checkpoint(a2, checkpoint_id="a3"))
    assert [each.summary.answered_requests for each in await log_of(engine)] == [(), (), ("q1", "q2"), ()]


@pytest.mark.parametrize("wrong", [[""], [5], ["x" * 1_001], ["\ud800"], [f"{n:0100}" for n in range(1_000)]])
async def test_what_is_no_id_of_a_request_is_refused(engine: Engine, wrong: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Server(engine, "ann").run().answers(*wrong)
