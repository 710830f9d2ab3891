"""Two servers are given an answer to the same question at the same moment: one acts, and the other is told why not."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple

import pytest

from eventckpt import EventCheckpointStorage, RequestNotPendingError, RunClaimedError, answer

from ..engines import CosmosEngine, Engine, SqliteEngine
from .workflows import ALLOWED, Paid, asked, log, refund, storage_on

SERVERS = {"ann": True, "bob": False}
"""Who answers, and what."""
LATE = 10
"""In each so-manieth round, whoever comes second waits for the claim, and gets it when the other one has acted."""


class Outcome(NamedTuple):
    """What a server has done with one answer."""

    paid: Paid
    error: Exception | None


class Server(threading.Thread):
    """A process with an event loop and a store of its own: it answers one run after the other, each as soon as both
    servers are there."""

    def __init__(self, engine: Engine, actor: str, run_ids: list[str], together: threading.Barrier) -> None:
        super().__init__(name=actor)
        self._engine = engine
        self._run_ids = run_ids
        self._together = together
        self.outcomes: list[Outcome] = []

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException:
            self._together.abort()  # or the other one would wait for ever
            raise

    async def _serve(self) -> None:
        async with opened(self._engine) as store:
            storage = EventCheckpointStorage(store, allowed_checkpoint_types=ALLOWED)
            for number, run_id in enumerate(self._run_ids):
                wait = {"ttl": 10, "wait": 60} if number % LATE == 0 else {}
                self._together.wait()
                self.outcomes.append(await self._answered(storage, run_id, wait))

    async def _answered(self, storage: EventCheckpointStorage, run_id: str, wait: dict[str, Any]) -> Outcome:
        paid = Paid()
        try:
            await answer(
                storage, run_id, {"may-shoes": SERVERS[self.name]}, workflow=refund(paid), actor=self.name, **wait
            )
        except (RunClaimedError, RequestNotPendingError) as error:
            return Outcome(paid, error)
        return Outcome(paid, None)


def opened(engine: Engine) -> Any:
    """A store that is closed by whoever opened it, in the same event loop."""
    assert isinstance(engine, (SqliteEngine, CosmosEngine))
    return engine._open()  # pyright: ignore[reportPrivateUsage] - `open` leaves it to the engine to close it


@pytest.mark.calm
@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.slow)])
async def test_of_two_servers_that_answer_one_question_one_acts_and_the_other_is_told(
    engine: Engine, rounds: int
) -> None:
    run_ids = [f"order-{number}" for number in range(rounds)]
    for run_id in run_ids:
        await asked(engine, run_id=run_id)
    together = threading.Barrier(len(SERVERS))
    servers = [Server(engine, actor, run_ids, together) for actor in SERVERS]
    for server in servers:
        server.start()
    await asyncio.gather(*(asyncio.to_thread(server.join) for server in servers))

    storage = storage_on(engine)
    for number, run_id in enumerate(run_ids):
        outcomes = {server.name: server.outcomes[number] for server in servers}
        [(winner, won)] = [(name, outcome) for name, outcome in outcomes.items() if outcome.error is None]
        [refused] = [outcome for outcome in outcomes.values() if outcome.error is not None]
        assert won.paid == [("shoes", SERVERS[winner])]
        assert refused.paid == []
        events = await log(storage, run_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), "nobody forked"
        [answered] = [event for event in events if event.summary.answered_requests]
        assert answered.actor == winner
        if number % LATE == 0:
            assert isinstance(refused.error, RequestNotPendingError), "it had the claim, too, and looked again"
        told(refused.error, winner)


def told(error: Exception | None, winner: str) -> None:
    """Whoever is refused is told of the one who is not."""
    if isinstance(error, RunClaimedError):
        assert error.owner == winner
        return
    assert isinstance(error, RequestNotPendingError)
    first = error.answer
    assert first is not None
    assert (error.state, first.actor, first.has_response, first.response) == ("answered", winner, True, SERVERS[winner])
