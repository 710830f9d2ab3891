"""Whoever answers may die or freeze while it has the run: another takes over, and what was answered is done once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventckpt import RequestNotPendingError, answer

from ..engines import Engine
from ..holders import PATIENCE, Holder, started
from .answering_process import paying_into
from .workflows import NAME, RUN, asked, log, refund, storage_on

pytestmark = [pytest.mark.slow, pytest.mark.calm]  # a process for each, and the time that a claim lasts


@asynccontextmanager
async def holder(engine: Engine, paid: Path, at: str) -> AsyncGenerator[Holder, None]:
    async with started("tests.answers.answering_process", engine, str(paid), at) as made:
        assert await made.said() == at
        yield made


async def answered_by_bob(engine: Engine, paid: Path) -> None:
    await answer(
        storage_on(engine),
        RUN,
        {"may-shoes": False},
        workflow=refund(paying_into(paid, "bob")),
        actor="bob",
        wait=PATIENCE,
    )


async def who_answered(engine: Engine) -> list[str | None]:
    """By the log, in which nobody has forked."""
    headers = [event async for event in storage_on(engine).store.workflow_headers(NAME)]
    assert {event.run_id for event in headers} == {RUN}
    return [event.actor for event in headers if event.summary.answered_requests]


async def test_who_is_killed_before_the_answer_is_on_record_has_not_answered_and_another_does(
    engine: Engine, tmp_path: Path
) -> None:
    paid = tmp_path / "paid"
    await asked(engine)
    async with holder(engine, paid, "claimed") as ann:
        await ann.kill()
        await answered_by_bob(engine, paid)
    assert paid.read_text().splitlines() == ["bob shoes False"]
    assert await who_answered(engine) == ["bob"]


async def test_who_is_killed_when_the_answer_is_on_record_has_answered_and_whoever_resumes_acts_on_it(
    engine: Engine, tmp_path: Path
) -> None:
    paid = tmp_path / "paid"
    await asked(engine)
    async with holder(engine, paid, "on record") as ann:
        await ann.kill()
    engine.settle()
    with pytest.raises(RequestNotPendingError) as refused:
        await answered_by_bob(engine, paid)
    first = refused.value.answer
    assert first is not None
    assert (first.actor, first.response) == ("ann", True)

    run = storage_on(engine, actor="bob").for_run(RUN, workflow_name=NAME)
    async with run.claim(wait=PATIENCE):
        latest = await run.get_latest(workflow_name=NAME)
        assert latest is not None
        await refund(paying_into(paid, "bob")).run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=run)
    assert paid.read_text().splitlines() == ["bob shoes True"]
    assert await who_answered(engine) == ["ann"]


async def test_who_is_frozen_until_another_has_answered_is_refused_and_does_not_act(
    engine: Engine, tmp_path: Path
) -> None:
    paid = tmp_path / "paid"
    await asked(engine)
    async with holder(engine, paid, "claimed") as ann:
        ann.freeze()
        await answered_by_bob(engine, paid)
        before = await log(storage_on(engine))
        ann.thaw()
        assert await ann.said() == "ClaimLostError"
        await ann.process.wait()
    assert paid.read_text().splitlines() == ["bob shoes False"]
    assert await who_answered(engine) == ["bob"]
    assert await log(storage_on(engine)) == before
