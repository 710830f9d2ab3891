"""Counterparts of the framework's `TestFileHistoryProvider`, on every engine."""

from __future__ import annotations

import asyncio
import math

import pytest
from agent_framework import AgentSession, Message

from ..engines import Engine, SqliteEngine
from .histories import Histories, question_and_answer, stored
from .models import Model, agent_with, said, turn_of

ODD_IDS = ["../outside", "CON", "a/b", "a\\b", "a b", "é" * 100, "\U0001f600", "x" * 255, "%2e%2e", "a|b", "#?"]


class TestFileHistoryProvider:
    async def test_stores_and_loads_messages(self, histories: Histories) -> None:
        first = agent_with(histories.open(), Model())
        await first.run("hello", session=AgentSession(session_id="s"))
        histories.settle()
        model = Model()
        await agent_with(histories.open(), model).run("again", session=AgentSession(session_id="s"))
        assert model.shown == [[*turn_of("hello"), "again"]]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    async def test_preserves_non_finite_values(self, histories: Histories, value: float) -> None:
        history = histories.open()
        await history.save_messages("s", [Message("user", ["hello"], additional_properties={"value": value})])
        [message] = await history.get_messages("s")
        found = message.additional_properties["value"]
        assert (math.isnan(found), found) == (True, found) if math.isnan(value) else found == value

    async def test_makes_what_it_is_kept_in(self, histories: Histories, engine: Engine) -> None:
        if isinstance(engine, SqliteEngine):
            engine.path = engine.path.parent / "nested" / "history" / "sessions.db"
        history = histories.open()
        assert await history.get_messages("s") == []
        await history.save_messages("s", question_and_answer("one"))
        assert await stored(history) == turn_of("one")

    @pytest.mark.parametrize("session_id", ODD_IDS)
    async def test_any_session_id_is_kept_as_it_is(self, histories: Histories, session_id: str) -> None:
        history = histories.open()
        await history.save_messages(session_id, question_and_answer("one"))
        assert await stored(history, session_id) == turn_of("one")
        assert list(await history.list_sessions()) == [session_id]

    async def test_missing_session_returns_empty_messages(self, histories: Histories) -> None:
        assert await histories.open().get_messages("missing") == []

    @pytest.mark.parametrize("skip", [False, True])
    async def test_skip_excluded_omits_excluded_messages(self, histories: Histories, *, skip: bool) -> None:
        history = histories.open(skip_excluded=skip)
        excluded = Message("assistant", ["skip"], additional_properties={"_excluded": True})
        await history.save_messages("s", [Message("user", ["keep"]), excluded])
        assert await stored(history) == (["keep"] if skip else ["keep", "skip"])

    async def test_concurrent_writes_for_same_session_are_all_kept(self, histories: Histories) -> None:
        providers = [histories.open(), histories.open()]
        texts = [f"message {number}" for number in range(12)]
        saves = [
            providers[number % 2].save_messages("s", [Message("user", [text])]) for number, text in enumerate(texts)
        ]
        await asyncio.gather(*saves)
        histories.settle()
        assert sorted(said(await histories.open().get_messages("s"))) == sorted(texts)
