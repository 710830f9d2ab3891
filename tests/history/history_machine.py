"""Sessions played at random against lists: two providers, lineages that go on, go back, try again and fork, requests
that carry nothing, clearing and erasing.

The model keeps no events. A lineage is the list of what it was told; what is hidden is marked on the turns themselves.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent_framework import Message
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from eventckpt import EventHistoryProvider
from eventckpt.stores import AuditStore

SOURCE = "machine"


@dataclass
class Turn:
    """One turn, and the sessions in which it is hidden."""

    texts: tuple[str, ...]
    hidden_in: set[str] = field(default_factory=set[str])
    of: Turn | None = None
    """Of a turn that a fork shares: the one that it is."""
    erased: bool = False

    @property
    def is_gone(self) -> bool:
        return self.erased or (self.of is not None and self.of.is_gone)


@dataclass
class Stream:
    """A session or one of its branches: what it began with, and what was added since."""

    session: str
    base: list[Turn]
    turns: list[Turn] = field(default_factory=list[Turn])
    cleared_at: int = 0
    """How many turns it had when it was last cleared or erased: a lineage that had seen fewer has seen these."""
    erased_at: int = -1
    """How many it had when it was last erased: a lineage that had seen fewer, and does not read, begins a branch."""
    is_gone: bool = False
    """A branch that was erased: nobody goes on in it."""


@dataclass
class Lineage:
    """What an `AgentSession` of this lineage carries, and what it was told."""

    session: str
    state: dict[str, Any]
    stream: Stream
    seen: int
    """How many turns of the stream it has seen."""


def visible(session: str, turns: list[Turn]) -> list[str]:
    return [text for turn in turns if session not in turn.hidden_in and not turn.is_gone for text in turn.texts]


class HistoryMachine(RuleBasedStateMachine):
    """Each step is one call or two of a provider; then what is read is what the model says."""

    runner: ClassVar[asyncio.Runner]
    new_store: ClassVar[Callable[[], AuditStore]]
    steps: ClassVar[int] = 0

    lineages = Bundle("lineages")

    def __init__(self) -> None:
        super().__init__()
        type(self).steps += 1
        self.stores = [self.new_store()]
        self.sessions: dict[str, Stream] = {}
        self.streams: list[Stream] = []
        self.names = itertools.count()
        self.providers: list[EventHistoryProvider] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        type(self).steps += 1
        return self.runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        self.providers = [EventHistoryProvider(self.stores[0], SOURCE) for _ in range(2)]
        self.sessions = {name: self.stream(name, []) for name in ("a", "b")}

    def stream(self, session: str, base: list[Turn]) -> Stream:
        self.streams.append(Stream(session, base))
        return self.streams[-1]

    def messages(self, count: int = 2) -> list[Message]:
        return [Message(("user", "assistant")[n % 2], [f"m{next(self.names)}"]) for n in range(count)]

    def texts(self, who: int, session: str, state: dict[str, Any] | None = None) -> list[str]:
        found = self.run(self.providers[who].get_messages(session, state=state))
        return [message.text for message in found]

    def save(self, who: int, session: str, messages: list[Message], state: dict[str, Any] | None) -> None:
        self.run(self.providers[who].save_messages(session, messages, state=state))

    def stands(self, lineage: Lineage) -> tuple[Stream, int]:
        return lineage.stream, max(lineage.seen, lineage.stream.cleared_at)

    def expected(self, lineage: Lineage) -> list[str]:
        stream, seen = self.stands(lineage)
        return visible(stream.session, [*stream.base, *stream.turns[:seen]])

    @rule(target=lineages, who=st.integers(0, 1), session=st.sampled_from(["a", "b"]), count=st.integers(1, 3))
    def a_request_that_carries_nothing(self, who: int, session: str, count: int) -> Lineage:
        stream, state = self.sessions[session], dict[str, Any]()
        assert self.texts(who, session, state) == visible(session, [*stream.base, *stream.turns])
        messages = self.messages(count)
        self.save(who, session, messages, state)
        self.added(stream, messages)
        return Lineage(session, copy.deepcopy(state), stream, len(stream.turns))

    def added(self, stream: Stream, messages: list[Message]) -> None:
        stream.turns.append(Turn(tuple(message.text for message in messages)))

    @rule(who=st.integers(0, 1), session=st.sampled_from(["a", "b"]))
    def a_save_alone(self, who: int, session: str) -> None:
        messages = self.messages()
        self.save(who, session, messages, None)
        self.added(self.sessions[session], messages)

    @rule(
        target=lineages,
        who=st.integers(0, 1),
        lineage=lineages,
        reads=st.booleans(),
        again=st.booleans(),
    )
    def a_turn_of_a_lineage(self, who: int, lineage: Lineage, reads: bool, again: bool) -> Any:
        """It may have been gone back to, and another one may have gone on from it meanwhile."""
        state = copy.deepcopy(lineage.state)
        before = copy.deepcopy(state)
        if reads:
            assert self.texts(who, lineage.session, state) == self.expected(lineage)
        messages = self.messages()
        self.save(who, lineage.session, messages, state)
        stream, seen = self.stands(lineage)
        if not reads and lineage.state["seq"] > 0 and lineage.seen <= stream.erased_at and not stream.is_gone:
            stream, seen = self.stream(stream.session, []), 0
        elif len(stream.turns) > seen or stream.is_gone:
            stream, seen = self.stream(stream.session, [*stream.base, *stream.turns[:seen]]), 0
        self.added(stream, messages)
        after = Lineage(lineage.session, copy.deepcopy(state), stream, seen + 1)
        if again:
            self.save(who, lineage.session, messages, before)
            assert before["seq"] == state["seq"]
            assert before.get("branch") == state.get("branch")
        return after

    @rule(target=lineages, who=st.integers(0, 1), lineage=lineages)
    def two_writers_at_once(self, who: int, lineage: Lineage) -> Any:
        """One of them goes on, the other begins a branch; neither sees the other's turn."""
        states = [copy.deepcopy(lineage.state) for _ in range(2)]
        for each, state in enumerate(states):
            assert self.texts(each, lineage.session, state) == self.expected(lineage)
        turns = [self.messages(), self.messages()]

        async def both() -> None:
            await asyncio.gather(
                *(
                    provider.save_messages(lineage.session, messages, state=state)
                    for provider, messages, state in zip(self.providers, turns, states, strict=True)
                )
            )

        self.run(both())
        stream, seen = self.stands(lineage)
        base = [*stream.base, *stream.turns[:seen]]
        is_free = len(stream.turns) == seen and not stream.is_gone
        found: list[Lineage] = []
        for messages, state in zip(turns, states, strict=True):
            goes_on = is_free and state.get("branch") == lineage.state.get("branch")
            of, at = (stream, seen) if goes_on else (self.stream(stream.session, base), 0)
            self.added(of, messages)
            found.append(Lineage(lineage.session, copy.deepcopy(state), of, at + 1))
        assert sum(each.stream is stream for each in found) == int(is_free)
        return multiple(*found)

    @rule(lineage=consumes(lineages))
    def a_lineage_is_given_up(self, lineage: Lineage) -> None:
        """So that those that go on are played longer."""

    @rule(who=st.integers(0, 1), lineage=lineages)
    def a_lineage_is_read(self, who: int, lineage: Lineage) -> None:
        assert self.texts(who, lineage.session, copy.deepcopy(lineage.state)) == self.expected(lineage)

    @rule(who=st.integers(0, 1), session=st.sampled_from(["a", "b"]))
    def a_session_is_cleared(self, who: int, session: str) -> None:
        self.run(self.providers[who].clear(session))
        for stream in self.streams:  # a mark on a turn of another session says nothing there
            for turn in (*stream.base, *stream.turns):
                turn.hidden_in.add(session)
        self.sessions[session].cleared_at = len(self.sessions[session].turns)
        self.sessions[session].erased_at = -1

    @rule(who=st.integers(0, 1), session=st.sampled_from(["a", "b"]))
    def a_session_is_erased(self, who: int, session: str) -> None:
        removed = self.run(self.providers[who].erase(session))
        gone = [(stream, turn) for stream in self.streams if stream.session == session for turn in stream.turns]
        assert removed >= sum(not turn.erased for _, turn in gone)
        for stream, turn in gone:
            turn.erased, stream.cleared_at = True, len(stream.turns)
            stream.erased_at = len(stream.turns)
            stream.is_gone = stream is not self.sessions[session]

    @rule(target=lineages, who=st.integers(0, 1), lineage=lineages)
    def a_session_is_forked(self, who: int, lineage: Lineage) -> Lineage:
        """From where a lineage stands: in the session, or in a branch of it."""
        new = f"fork-{next(self.names)}"
        of = lineage.state.get("branch", lineage.session)
        upto = lineage.state["seq"]
        self.run(self.providers[who].fork(of, new, upto_seq=upto))
        stream, seen = self.stands(lineage)
        base = [turn for turn in (*stream.base, *stream.turns[:seen]) if stream.session not in turn.hidden_in]
        made = self.sessions[new] = self.stream(new, [Turn(turn.texts, of=turn) for turn in base])
        state = dict[str, Any]()
        assert self.texts(who, new, state) == visible(new, made.base)
        return Lineage(new, {"seq": state["seq"]}, made, 0)

    def streams_of(self) -> list[tuple[str, list[Turn]]]:
        """Each session with all that it has: its own turns, those of its branches, and what a fork began with."""
        return [
            (name, [turn for each in self.streams if each.session == name for turn in (*each.base, *each.turns)])
            for name in self.sessions
            if not name.startswith("fork-")  # its beginning is a turn without messages
        ]

    @rule(who=st.integers(0, 1))
    def the_sessions_are_listed(self, who: int) -> None:
        listed = self.run(self.providers[who].list_sessions())
        assert listed == sorted({*listed} & self.sessions.keys())
        assert {*listed} >= {name for name, stream in self.sessions.items() if visible(name, stream.turns)}
        assert not {*listed} & {name for name, streams in self.streams_of() if not visible(name, streams)}

    @invariant()
    def each_provider_reads_each_session(self) -> None:
        for who in range(len(self.providers)):
            for name, stream in self.sessions.items():
                assert self.texts(who, name) == visible(name, [*stream.base, *stream.turns])

    def teardown(self) -> None:
        for store in self.stores:
            self.run(store.close())
