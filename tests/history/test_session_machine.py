"""Sessions played at random against a dict: who has seen what is there writes, and whoever has not is told.

Two store objects, as two processes have them. Each holder of a session is a task, and so is that of a copy. Answers get
lost before and after the commit; the log is pruned.
"""

from __future__ import annotations

import asyncio
import copy
import tempfile
from collections.abc import Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from agent_framework import AgentSession
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from eventckpt import CheckpointAudit, EventSessionStore, SessionConflictError, StoreUnavailableError
from eventckpt.history import SESSIONS, Snapshots

from ..engines import Engine, SqliteEngine
from ..memory_engine.engine import MemoryEngine
from .sessions import Losing, Lost, Sessions

KEYS = ("a", "b" * 300)
LOST = st.sampled_from([None, None, None, "before", "after"])


@dataclass(eq=False)
class Holder:
    """Who holds a session object, and what they may write over."""

    key: str
    session: AgentSession
    store: int
    task: Context
    knows: int | None = None
    """The version that they have got or set."""
    has_found_none: bool = False
    """They have been told that there is none, or have deleted it."""
    sent: dict[int, int] = field(default_factory=dict)
    """By version, the content of what they wrote without an answer."""

    @property
    def is_blind(self) -> bool:
        """They write over anything, as they never asked what there is."""
        return self.knows is None and not self.has_found_none


@dataclass
class Entry:
    """What a key is, as the model has it."""

    version: int = 0
    content: int | None = None


class SessionMachine(RuleBasedStateMachine):
    """See the module."""

    runner: ClassVar[asyncio.Runner]
    holders: Bundle[Holder] = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.model = {key: Entry() for key in KEYS}
        self.content = 0

    def engine(self) -> Engine:
        return MemoryEngine()

    @initialize()
    def opens(self) -> None:
        self.sessions = Sessions(self.engine())
        self.losing = [Losing(self.sessions.opened().sessions()) for _ in range(2)]
        self.stores = [EventSessionStore(store) for store in self.losing]
        self.snapshots = [Snapshots(store, SESSIONS) for store in self.losing]

    def teardown(self) -> None:
        self.run(self._verified())
        self.run(self.sessions.engine.close())

    def run(self, call: Coroutine[Any, Any, Any], task: Context | None = None) -> Any:
        """In a task of its own, or as one."""
        return self.runner.run(call, context=Context() if task is None else task)

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def gets(self, key: str, store: int) -> Holder:
        task = Context()
        session = self.run(self.stores[store].get(key), task)
        entry = self.model[key]
        assert (session and session.state["content"]) == entry.content
        if session is None:
            return Holder(key, AgentSession(session_id=key), store, task, has_found_none=True)
        return Holder(key, session, store, task, entry.version)

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def begins(self, key: str, store: int) -> Holder:
        return Holder(key, AgentSession(session_id=key), store, Context())

    @rule(target=holders, holder=holders)
    def copies(self, holder: Holder) -> Holder:
        """It has seen what the other one has, and knows of nothing that was sent."""
        made = copy.deepcopy(holder.session)
        return Holder(holder.key, made, holder.store, holder.task.copy(), holder.knows, holder.has_found_none)

    @rule(holder=holders, lost=LOST)
    def holder_deletes(self, holder: Holder, lost: Lost) -> None:
        holder.has_found_none |= self._deletes(holder.key, holder.store, lost, holder.task)

    @rule(holder=holders, changes=st.booleans(), lost=LOST)
    def sets(self, holder: Holder, changes: bool, lost: Lost) -> None:
        if changes or "content" not in holder.session.state:
            self.content += 1
            holder.session.state["content"] = self.content
        content = holder.session.state["content"]
        entry = self.model[holder.key]
        self.losing[holder.store].lost = lost
        is_none = holder.has_found_none and entry.content is None
        may = holder.is_blind or is_none or entry.version == holder.knows or entry.version in holder.sent
        repeats = holder.sent.get(entry.version) == content and not holder.is_blind
        outcome: type[Exception] | None = None
        try:
            self.run(self.stores[holder.store].set(holder.key, holder.session), holder.task)
        except (SessionConflictError, StoreUnavailableError) as error:
            outcome = type(error)
        self.losing[holder.store].lost = None
        if lost == "before":
            assert outcome is StoreUnavailableError
        elif not may:
            assert outcome is SessionConflictError
        elif repeats:
            assert outcome is None  # it meets itself, and needs no answer
            self._knows(holder, entry.version)
        else:
            assert outcome is (StoreUnavailableError if lost else None)
            entry.version, entry.content = entry.version + 1, content
            if not lost:
                self._knows(holder, entry.version)
            elif not holder.is_blind:
                holder.sent[entry.version] = content

    def _knows(self, holder: Holder, version: int) -> None:
        holder.knows, holder.has_found_none = version, False
        holder.sent.clear()

    @rule(key=st.sampled_from(KEYS), store=st.integers(0, 1), lost=LOST)
    def deletes(self, key: str, store: int, lost: Lost) -> None:
        self._deletes(key, store, lost, Context())

    def _deletes(self, key: str, store: int, lost: Lost, task: Context) -> bool:
        """Whether an answer came."""
        entry = self.model[key]
        self.losing[store].lost = lost
        answered = True
        try:
            self.run(self.stores[store].delete(key), task)
            assert lost is None or entry.content is None
        except StoreUnavailableError:
            assert lost is not None
            answered = False
        self.losing[store].lost = None
        if entry.content is not None and lost != "before":
            entry.version, entry.content = entry.version + 1, None
        return answered

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def creates(self, key: str, store: int) -> Any:
        entry = self.model[key]
        session = AgentSession(session_id=key)
        session.state["content"] = self.content = self.content + 1
        try:
            self.run(self.snapshots[store].create(key, session.to_dict()))
        except SessionConflictError:
            assert entry.content is not None
        else:
            assert entry.content is None
            entry.version, entry.content = entry.version + 1, self.content
        return multiple()

    @rule(keep=st.integers(1, 2))
    def is_pruned(self, keep: int) -> None:
        self.run(self._prune(keep))

    async def _prune(self, keep: int) -> None:
        audit = CheckpointAudit(self.sessions.opened(), turns=True)
        for plan in [plan async for plan in audit.plan_prune(keep=keep)]:
            await audit.prune(plan)

    @invariant()
    def every_key_is_what_the_model_says(self) -> None:
        self.run(self._agrees())

    async def _agrees(self) -> None:
        there: set[str] = set()
        for key, entry in self.model.items():
            found = await self.snapshots[0].get(key)
            assert (found and found[0]["state"]["content"]) == entry.content
            there |= {key} if found else set()
        assert set(await self.snapshots[1].keys()) == there

    async def _verified(self) -> None:
        audit = CheckpointAudit(self.sessions.opened(), turns=True)
        assert [verdict async for verdict in audit.verify_all() if not verdict.ok] == []
        streams = [stream async for stream in self.sessions.opened().streams()]
        assert streams == [], "sessions are not among the runs"


class OnSqlite(SessionMachine):
    """The same on a file."""

    def engine(self) -> Engine:
        self.folder = tempfile.TemporaryDirectory()
        return SqliteEngine(Path(self.folder.name) / "sessions.db")

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


def test_sessions_agree_with_a_dict() -> None:
    _play(SessionMachine, examples=150)


@pytest.mark.slow
def test_sessions_in_a_file_agree_with_a_dict() -> None:
    _play(OnSqlite, examples=10)


def _play(machine: type[SessionMachine], *, examples: int) -> None:
    with asyncio.Runner() as machine.runner:
        run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))
