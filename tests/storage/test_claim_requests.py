"""What a claim asks of a store: how often, and what becomes of it where the store does not answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from eventckpt import ClaimLostError, RunClaimedError, StoreUnavailableError

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .claim_door import Cut, Door
from .claimants import Server, begun, held, log_of, saved_in

pytestmark = pytest.mark.parametrize("engine", ["memory", "sqlite", "cosmos"], indirect=True)

LATER = 61.0
DOCUMENTS = {"read document", "create document", "replace document", "delete document"}
ROOT = checkpoint(checkpoint_id="root")


async def behind_a_door(engine: Engine) -> tuple[Server, Door]:
    await begun(engine)
    engine.settle()
    door = Door(engine.open())
    return Server(engine, "ann", door), door


# How often


async def test_to_take_a_claim_is_one_append_and_one_document_and_to_renew_and_to_release_one_write_each(
    engine: Engine,
) -> None:
    ann, door = await behind_a_door(engine)
    run = await ann.resumed()
    door.asked.clear()
    holding = await held(run, ttl=60)
    assert door.asked == {"headers": 1, "create document": 1, "find": 1, "append": 1}
    door.asked.clear()
    await ann.clock.until(lambda: door.answered["replace document"] == 3)
    assert door.asked == {"replace document": 3}
    door.asked.clear()
    assert await holding.ended() is None
    assert door.asked == {"delete document": 1}


async def test_a_holders_save_is_one_append(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    run, last = await ann.resumed(), ROOT
    async with run.claim():
        for number in range(3):
            door.asked.clear()
            await run.save(last := checkpoint(last, checkpoint_id=f"a{number}"))
            assert door.asked == {"append": 1}


async def test_who_has_no_claim_looks_once_where_one_was_seen_and_never_where_there_was_none(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    run, last = await ann.resumed(), ROOT
    for looks in ({}, {"read document": 1}, {}):
        if looks:
            engine.settle()
            async with run.claim():
                pass
        door.asked.clear()
        for number in range(3):
            await run.save(last := checkpoint(last))
            assert door.asked == {"append": number + 1, **looks}


async def test_who_meets_a_claim_that_was_given_back_meanwhile_looks_once_and_goes_on(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    run, bob = await ann.resumed(), Server(engine, "bob")
    async with bob.run().claim():
        pass
    await bob.run().annotate(hold=True)
    engine.settle()
    door.asked.clear()
    await run.save(checkpoint(ROOT, checkpoint_id="a1"))
    assert door.asked == {"append": 2, "headers": 1, "read document": 1}
    assert run.forked_to is None


# Where nobody answers


async def test_a_renewal_is_tried_again_until_it_succeeds(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    ann, door = await behind_a_door(engine)
    holding = await held(await ann.resumed(), ttl=60)
    door.is_shut = {*DOCUMENTS}
    await ann.clock.until(lambda: door.asked["replace document"] == 4)
    assert "could not be renewed, and is tried again: nobody answers" in caplog.text
    door.is_shut = set()
    await ann.clock.until(lambda: door.answered["replace document"] == 2)
    await holding.run.save(checkpoint(ROOT, checkpoint_id="a1"))
    assert await holding.ended() is None
    assert await saved_in(engine) == [("root", None), ("a1", 2)]


async def test_without_a_renewal_it_is_lost_when_its_ttl_is_over_and_not_before(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    holding = await held(await ann.resumed(), ttl=60)
    door.is_shut = {*DOCUMENTS}
    await ann.clock.until(lambda: ann.clock.now >= 1000 + 58)
    assert not holding.was_cancelled
    await ann.clock.until(lambda: holding.was_cancelled)
    assert ann.clock.now <= 1000 + 62
    error = await holding.ended()
    assert isinstance(error, ClaimLostError)
    assert "not renewed within its ttl" in str(error)


async def test_a_renewal_that_never_has_an_answer_does_not_keep_a_claim(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    holding = await held(await ann.resumed(), ttl=60)
    door.hangs_at = (0, "before")
    await ann.clock.until(lambda: holding.was_cancelled)
    assert isinstance(await holding.ended(), ClaimLostError)


async def test_a_renewal_whose_answer_was_lost_is_found_to_be_our_own(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    holding = await held(await ann.resumed(), ttl=60)
    door.loses.add("replace document")
    await ann.clock.until(lambda: door.answered["replace document"] == 6)
    await holding.run.save(checkpoint(ROOT))
    assert await holding.ended() is None
    assert not door.loses


async def test_a_claim_that_cannot_be_given_back_is_said_to_expire_and_does(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    ann, door = await behind_a_door(engine)
    door.is_shut = {"delete document"}
    async with ann.run().claim():
        pass
    assert "could not be given back, and expires in 60 s: nobody answers" in caplog.text
    await free_after_a_while(engine)


async def test_an_error_of_the_body_is_raised_where_the_claim_cannot_be_given_back(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)
    door.is_shut = {"delete document"}
    with pytest.raises(ZeroDivisionError):
        async with ann.run().claim():
            raise ZeroDivisionError


@pytest.mark.parametrize("name", ["headers", "create document", "find", "append"])
async def test_where_taking_it_fails_the_run_is_free(engine: Engine, name: str) -> None:
    ann, door = await behind_a_door(engine)
    door.is_shut = {name}
    with pytest.raises(StoreUnavailableError):
        async with ann.run().claim():
            raise AssertionError
    engine.settle()
    async with Server(engine, "bob").run().claim():
        pass


async def free_after_a_while(engine: Engine) -> None:
    bob = Server(engine, "bob")
    try:
        async with bob.run().claim():
            return
    except RunClaimedError:
        bob.clock.advance(LATER)
    async with bob.run().claim():
        pass


# Where the caller gives up


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_wherever_taking_renewing_and_releasing_are_cancelled_the_claim_is_free_or_expires(
    engine: Engine, cut: Cut, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    await begun(engine)
    engine.settle()
    hung = set[str]()
    for number in range(7):
        door = Door(engine.open())
        door.hangs_at = (number, cut)
        ann = Server(engine, "ann", door)
        task, hanging = asyncio.create_task(_renewed_once(ann, door)), asyncio.create_task(door.hanging.wait())
        await asyncio.wait([task, hanging], return_when=asyncio.FIRST_COMPLETED)
        hanging.cancel()
        task.cancel()
        [error] = await asyncio.gather(task, return_exceptions=True)
        assert error is None or isinstance(error, asyncio.CancelledError)
        engine.settle()
        await free_after_a_while(engine)
        hung |= door.hung
    assert hung == {"headers", "create document", "find", "append", "replace document", "delete document"}
    epochs = [each.claim or 0 for each in await log_of(engine) if each.is_claim]
    assert epochs == sorted(set(epochs))
    assert await Server(engine, "bob").run().get_latest(workflow_name=WORKFLOW) == await _root(engine)


async def _renewed_once(server: Server, door: Door) -> None:
    async with server.run().claim(wait=600):
        await server.clock.until(lambda: door.answered["replace document"] > 0 or door.hanging.is_set())
        if door.hanging.is_set():
            await asyncio.Event().wait()


async def _root(engine: Engine) -> object:
    return await engine.storage().load("root")


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_whoever_gives_up_while_a_claim_is_taken_or_given_back_leaves_none_once_the_store_answers(
    engine: Engine, cut: Cut
) -> None:
    await begun(engine)
    engine.settle()
    hung = set[str]()
    for number in range(5):
        door = Door(engine.open())
        door.hangs_at = (number, cut)
        ann = Server(engine, "ann", door)
        task, hanging = asyncio.create_task(_taken_and_given_back(ann)), asyncio.create_task(door.hanging.wait())
        await asyncio.wait([task, hanging], return_when=asyncio.FIRST_COMPLETED)
        hanging.cancel()
        task.cancel()
        await asyncio.sleep(0)
        door.goes_on.set()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        await ann.storage.close()
        await _is_free(engine)
        hung |= door.hung
    assert hung == {"headers", "create document", "find", "append", "delete document"}


async def _taken_and_given_back(server: Server) -> None:
    async with server.run().claim():
        pass


async def _is_free(engine: Engine) -> None:
    engine.settle()
    assert await engine.open().document_store().list_documents("claim-") == []


async def test_a_claim_that_is_not_given_back_before_the_event_loop_ends_is_said_to_expire(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await begun(engine)
    engine.settle()
    for number in (1, 4):  # the document is created, and removed
        door = Door(engine.open())
        door.hangs_at = (number, "before")
        others = asyncio.all_tasks()
        task = asyncio.create_task(_taken_and_given_back(Server(engine, "ann", door)))
        await door.hanging.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert "could not be given back" not in caplog.text
        left = asyncio.all_tasks() - others
        for each in left:  # as the end of `asyncio.run` does it
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        assert "could not be given back, and expires in 60 s: its event loop has ended" in caplog.text
        caplog.clear()


async def test_what_is_lost_is_renewed_no_more_however_long_its_body_lasts(engine: Engine) -> None:
    ann, door = await behind_a_door(engine)

    async def work() -> None:
        async with ann.run().claim() as claim:
            ann.clock.now += LATER
            with suppress(ClaimLostError):
                claim.check()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            door.asked.clear()
            await ann.clock.passes(3 * LATER)
            assert not door.asked

    with pytest.raises(ClaimLostError, match="not renewed within its ttl"):
        await work()
    await _is_free(engine)


@pytest.mark.parametrize(
    ("number", "request_name", "events"), [(1, "create document", 1), (2, "find", 1), (3, "append", 2)]
)
async def test_a_claim_that_is_over_before_it_is_taken_says_so_and_is_given_back(
    engine: Engine, number: int, request_name: str, events: int
) -> None:
    ann, door = await behind_a_door(engine)
    door.hangs_at = (number, "after")
    taking = asyncio.create_task(_taken_and_given_back(ann))
    await door.hanging.wait()
    assert door.hung == {request_name}
    ann.clock.now += LATER
    door.goes_on.set()
    with pytest.raises(ClaimLostError, match="was not claimed: it took longer than the 60 s that it lasts") as error:
        await taking
    assert error.value.epoch == 0
    assert len(await log_of(engine)) == events
    await _is_free(engine)
