"""Which run the turns of a session belong to. A turn does not say: what says it is the agent's session in a checkpoint,
whose state names the last turn that it has seen (docs/history.md). So the first checkpoint that has seen a turn, behind
one of its run that had not, is where it was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from ..codec.tree import Tree, parts_of
from ..errors import CheckpointDecodeError, CheckpointNotFoundError
from ..events import CheckpointEvent, StreamId
from ..moments import order_of
from ..stores import AuditStore
from ..threads import in_thread
from .resolve import checkpoint_at
from .states import States

__all__ = ["TurnRuns", "runs_of_turns"]

_CHECKPOINTS: Final = 500
"""Checkpoints that are read, of all runs together."""


class TurnRuns(NamedTuple):
    """What was found of the runs of some turns."""

    by_turn: Mapping[tuple[str, int], CheckpointEvent]
    """By run id and seq of a turn, the header of the checkpoint that has seen it first."""
    runs: int
    """How many runs were looked at, the last written to."""
    is_cut: bool
    """Whether so many checkpoints were read that others were left out."""


async def runs_of_turns(
    store: AuditStore, states: States, session: StreamId, turns: Sequence[CheckpointEvent], *, runs: int
) -> TurnRuns:
    """The checkpoints that have seen turns of a session first.

    Args:
        store: of runs.
        states: reads what their checkpoints hold.
        session: the session that the turns are of, or whose branches.
        turns: their headers.
        runs: how many runs to look at, those last written to: whether the last checkpoint of each has the session, and
            if so, all its checkpoints.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    search = _Search(states, session, turns)
    looked = 0
    async with aclosing(store.streams(emptied=False)) as streams:
        async for stream in streams:
            if looked == runs or search.left <= 0:
                break
            looked += 1
            if await _has_seen(store, states, stream, session):
                await search.along(stream)
    return TurnRuns(search.found, looked, search.left <= 0)


class _Search:
    def __init__(self, states: States, session: StreamId, turns: Sequence[CheckpointEvent]) -> None:
        self._states = states
        self._session = session
        self._turns = turns
        self.found: dict[tuple[str, int], CheckpointEvent] = {}
        self.left = _CHECKPOINTS

    async def along(self, stream: StreamId) -> None:
        """Note what each checkpoint of a run has seen and none before it in the run had."""
        seen: dict[str, int] | None = None  # of the first checkpoint, nobody knows what is new in it
        async with aclosing(self._states.trees(stream)) as trees:
            async for header, tree in trees:
                now = await in_thread(_seen_in, tree, self._session)
                for turn in self._turns if seen is not None else ():
                    if seen is not None and seen.get(turn.run_id, 0) < turn.seq <= now.get(turn.run_id, 0):
                        self._note(turn, header)
                seen = {name: max(now.get(name, 0), (seen or {}).get(name, 0)) for name in {*now, *(seen or {})}}
                self.left -= 1
                if self.left <= 0:
                    return

    def _note(self, turn: CheckpointEvent, header: CheckpointEvent) -> None:
        key = turn.run_id, turn.seq
        before = self.found.get(key)
        if before is None or order_of(header.recorded_at) < order_of(before.recorded_at):
            self.found[key] = header


async def _has_seen(store: AuditStore, states: States, stream: StreamId, session: StreamId) -> bool:
    try:
        tree = await states.tree(await checkpoint_at(store, stream, None, None, None))
    except (CheckpointNotFoundError, CheckpointDecodeError):  # for verify to report
        return False
    return bool(await in_thread(_seen_in, tree, session))


def _seen_in(tree: Tree, session: StreamId) -> dict[str, int]:
    """By the run id of the session or of a branch, the last turn that a state has seen of it."""
    seen: dict[str, int] = {}
    for state in _states_in(tree, session.run_id):
        own = state.get(session.workflow_name)
        seq = own.get("seq") if isinstance(own, dict) else None
        if isinstance(own, dict) and type(seq) is int:
            branch = own.get("branch")
            name = branch if isinstance(branch, str) else session.run_id
            seen[name] = max(seq, seen.get(name, 0))
    return seen


def _states_in(tree: Tree, session_id: str) -> Iterator[dict[str, Tree]]:
    """The states of the sessions in a tree that have an id, as `AgentSession.to_dict` gives them."""
    waiting: list[Tree] = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and part.get("session_id") == session_id:
            state = part.get("state")
            if isinstance(state, dict):
                yield state
        waiting += (inner for _, inner in parts_of(part) or ())
