"""Sessions played at random against a dict: who has seen what is there writes, and whoever has not is told.

Two store objects, as two processes have them. Answers get lost before and after the commit; the log is pruned.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

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
from eventckpt.events import CheckpointEvent
from eventckpt.history import SESSIONS, Snapshots

from ..engines import Engine, SqliteEngine
from ..memory_engine.engine import MemoryEngine
from .sessions import Sessions, Through

Lost: TypeAlias = Literal["before", "after"] | None

KEYS = ("a", "b" * 300)
LOST = st.sampled_from([None, None, None, "before", "after"])


class Losing(Through):
    """Sessions of which an answer to a write gets lost when it is told so."""

    lost: Lost = None

    async def append(self, event: CheckpointEvent) -> None:
        if self.lost == "before":
            self._lose()
        await super().append(event)
        if self.lost == "after":
            self._lose()

    def _lose(self) -> None:
        self.lost = None
        raise StoreUnavailableError("The answer was lost.")


@dataclass(eq=False)
class Holder:
    """Who holds a session object, and what they may write over."""

    key: str
    session: AgentSession
    store: int
    may_follow: set[int] | None
    """The versions that they have seen or written; None: anything, as they never got one."""
    sent: dict[int, int] = field(default_factory=dict)
    """By version, the content of what they wrote without an answer."""


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
        self.runner.run(self._verified())
        self.runner.run(self.sessions.engine.close())

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def gets(self, key: str, store: int) -> Any:
        session = self.runner.run(self.stores[store].get(key))
        entry = self.model[key]
        assert (session and session.state["content"]) == entry.content
        return multiple() if session is None else Holder(key, session, store, {entry.version})

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def begins(self, key: str, store: int) -> Holder:
        return Holder(key, AgentSession(session_id=key), store, None)

    @rule(holder=holders, changes=st.booleans(), lost=LOST)
    def sets(self, holder: Holder, changes: bool, lost: Lost) -> None:
        if changes or "content" not in holder.session.state:
            self.content += 1
            holder.session.state["content"] = self.content
        content = holder.session.state["content"]
        entry = self.model[holder.key]
        self.losing[holder.store].lost = lost
        may = holder.may_follow is None or entry.version in holder.may_follow
        repeats = holder.sent.get(entry.version) == content and holder.may_follow is not None
        outcome: type[Exception] | None = None
        try:
            self.runner.run(self.stores[holder.store].set(holder.key, holder.session))
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
            if lost:
                holder.sent[entry.version] = content
                if holder.may_follow is not None:
                    holder.may_follow.add(entry.version)
            else:
                self._knows(holder, entry.version)

    def _knows(self, holder: Holder, version: int) -> None:
        holder.may_follow = {version}
        holder.sent.clear()

    @rule(key=st.sampled_from(KEYS), store=st.integers(0, 1), lost=LOST)
    def deletes(self, key: str, store: int, lost: Lost) -> None:
        entry = self.model[key]
        self.losing[store].lost = lost
        try:
            self.runner.run(self.stores[store].delete(key))
            assert lost is None or entry.content is None
        except StoreUnavailableError:
            assert lost is not None
        self.losing[store].lost = None
        if entry.content is not None and lost != "before":
            entry.version, entry.content = entry.version + 1, None

    @rule(target=holders, key=st.sampled_from(KEYS), store=st.integers(0, 1))
    def creates(self, key: str, store: int) -> Any:
        entry = self.model[key]
        session = AgentSession(session_id=key)
        session.state["content"] = self.content = self.content + 1
        try:
            self.runner.run(self.snapshots[store].create(key, session.to_dict()))
        except SessionConflictError:
            assert entry.content is not None
        else:
            assert entry.content is None
            entry.version, entry.content = entry.version + 1, self.content
        return multiple()

    @rule(keep=st.integers(1, 2))
    def is_pruned(self, keep: int) -> None:
        self.runner.run(self._prune(keep))

    async def _prune(self, keep: int) -> None:
        audit = CheckpointAudit(self.sessions.opened(), turns=True)
        for plan in [plan async for plan in audit.plan_prune(keep=keep)]:
            await audit.prune(plan)

    @invariant()
    def every_key_is_what_the_model_says(self) -> None:
        self.runner.run(self._agrees())

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
