"""Counterparts of the framework's `TestRunPersistenceGate`: what a gate holds back is not stored until it is let go,
and then in order. The gate is the framework's; here, what goes through it is a turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from agent_framework import AgentSession, HistoryProvider, _sessions

from .histories import Histories, question_and_answer, stored
from .models import Model, agent_with, turn_of

framework: Any = _sessions
pytestmark = pytest.mark.skipif(
    not hasattr(framework, "_RunPersistenceGate"), reason="this version of the framework has no gate"
)


class Turns:
    """Turns of one session, saved through whatever gate is in force."""

    def __init__(self, history: HistoryProvider) -> None:
        self.history = history
        self._state: dict[str, Any] = {}

    def saving(self, question: str) -> Callable[[], Awaitable[None]]:
        return partial(self.history.save_messages, "s", question_and_answer(question), state=self._state)

    def defer(self, question: str) -> bool:
        return framework._defer_run_persistence(self.saving(question))

    async def stored(self) -> list[str]:
        return await stored(self.history)


@pytest.fixture
def turns(histories: Histories) -> Turns:
    return Turns(histories.open())


@pytest.fixture
def gate() -> Any:
    return framework._RunPersistenceGate()


class TestRunPersistenceGate:
    async def test_gate_defers_and_flush_runs_in_order(self, turns: Turns, gate: Any) -> None:
        with gate:
            assert turns.defer("a")
            assert turns.defer("b")
            assert await turns.stored() == []
        await gate.flush()
        assert await turns.stored() == [*turn_of("a"), *turn_of("b")]
        assert not turns.defer("c"), "outside of a gate, who asks saves at once"

    async def test_gate_can_be_reused_sequentially(self, turns: Turns, gate: Any) -> None:
        for question in ("first", "second"):
            with gate:
                turns.defer(question)
        await gate.flush()
        assert await turns.stored() == [*turn_of("first"), *turn_of("second")]

    async def test_drop_discards_deferred_persistence(self, turns: Turns, gate: Any) -> None:
        with gate:
            turns.defer("denied")
        gate.drop()
        await gate.flush()
        assert await turns.stored() == []
        await turns.saving("allowed")()
        assert await turns.stored() == turn_of("allowed")

    async def test_nested_gates_collect_independently(self, turns: Turns, gate: Any) -> None:
        inner = framework._RunPersistenceGate()
        with gate:
            turns.defer("outer 1")
            with inner:
                turns.defer("inner")
            turns.defer("outer 2")
        await inner.flush()
        assert await turns.stored() == turn_of("inner")
        await gate.flush()
        assert await turns.stored() == [*turn_of("inner"), *turn_of("outer 1"), *turn_of("outer 2")]

    async def test_suspension_makes_nested_persistence_inline(self, turns: Turns, gate: Any) -> None:
        with gate:
            with framework._suspend_run_persistence_gate():
                assert not turns.defer("nested")
            assert turns.defer("own")
        await gate.flush()
        assert await turns.stored() == turn_of("own")

    async def test_flush_runs_callables_with_the_gate_context_suspended(self, turns: Turns, gate: Any) -> None:
        async def again() -> None:
            if not framework._defer_run_persistence(again):
                await turns.saving("a")()

        with gate:
            assert framework._defer_run_persistence(again)
        with framework._RunPersistenceGate():
            await gate.flush()
        assert await turns.stored() == turn_of("a")

    @pytest.mark.parametrize("per_call", [False, True])
    async def test_bound_gate_defers_only_its_owner_run(
        self, histories: Histories, gate: Any, *, per_call: bool
    ) -> None:
        history = histories.open()
        owner, other = (agent_with(history, Model(), per_call=per_call) for _ in range(2))
        framework._offer_run_persistence_gate_claim(gate, owner)
        with gate:
            await owner.run("own", session=AgentSession(session_id="own"))
            await other.run("other", session=AgentSession(session_id="other"))
        assert await stored(history, "own") == []
        assert await stored(history, "other") == turn_of("other")
        await gate.flush()
        assert await stored(history, "own") == turn_of("own")
