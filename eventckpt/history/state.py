"""What a lineage of a session knows of itself: the provider's own part of `AgentSession.state`.

It travels inside the session, and so inside the checkpoint of a workflow: whoever goes back to an older checkpoint goes
back to an older state. So it is plain JSON, and is checked like anything that was stored.
"""

from __future__ import annotations

from typing import Any, Final

from ..events import MAX_SEQ, StreamId, check_run_id
from ..text import described
from .branches import may_be_branch

__all__ = ["Standing"]

_SEQ: Final = "seq"
_BRANCH: Final = "branch"
_APPENDS: Final = "appends"
_OPEN: Final = "open"


class Standing:
    """Where a lineage stands, read from its state and written back to it.

    Args:
        stream: of the session.
        state: the provider's own; None: nobody keeps any.

    Raises:
        ValueError: the state is none that a provider wrote.
        TypeError: it is no dict.
    """

    def __init__(self, stream: StreamId, state: dict[str, Any] | None) -> None:
        if state is not None and not isinstance(state, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"The state of session {stream.run_id!r} is a dict or None, not {described(state)}.")
        self._session = stream
        self._state: dict[str, Any] = {} if state is None else state
        seq, branch = self._state.get(_SEQ), self._state.get(_BRANCH)
        if seq is not None and (type(seq) is not int or not 0 <= seq <= MAX_SEQ):
            raise _no_state(stream, _SEQ, seq)
        self.seq: int | None = seq
        """The last event that this lineage has seen; None: it has none yet."""
        if branch is not None:
            try:
                check_run_id(branch)
            except (TypeError, ValueError):
                raise _no_state(stream, _BRANCH, branch) from None
            if not may_be_branch(branch, stream.run_id):  # a state of another session must not lead into that
                raise _no_state(stream, _BRANCH, branch)
        self.stream: StreamId = stream if branch is None else StreamId(stream.workflow_name, branch)
        """Where it goes on."""
        turn = self._state.get(_OPEN)
        if turn is not None and type(turn) is not str:
            raise _no_state(stream, _OPEN, turn)
        self.turn: str | None = turn
        """The turn that is under way: a call of the model whose tools have not answered yet."""
        self.appends: bool = seq is None or bool(self._state.get(_APPENDS))
        """Whether the turn was begun without a seq: then it goes behind whatever came between."""

    @property
    def reads_to(self) -> int | None:
        """The last event that a read gives; None: the newest."""
        return None if self.appends and self.turn is None else self.seq

    def follows(self) -> bool:
        """Whether another run that shares this state has saved meanwhile; then this one goes behind it."""
        seq, branch = self._state.get(_SEQ), self._state.get(_BRANCH)
        stream = self._session if branch is None else StreamId(self._session.workflow_name, branch)
        has_moved = (seq, stream) != (self.seq, self.stream)
        self.seq, self.stream = seq, stream
        return has_moved

    def begin(self, seq: int) -> None:
        """A turn begins that has seen the newest event, `seq`."""
        self._state[_SEQ] = self.seq = seq
        self._state[_APPENDS] = True

    def found(self, seq: int) -> None:
        """What this lineage had seen last is there no more; `seq` is."""
        self._state[_SEQ] = self.seq = seq

    def saved(self, stream: StreamId, seq: int, turn: str | None) -> None:
        """This lineage has been saved to; `turn` is under way, if one is."""
        self.stream, self.turn = stream, turn
        self._state[_SEQ] = self.seq = seq
        self._note(_BRANCH, None if stream == self._session else stream.run_id)
        self._note(_OPEN, turn)
        if turn is None:
            self._note(_APPENDS, None)
            self.appends = False
        elif self.appends:
            self._state[_APPENDS] = True

    def _note(self, name: str, value: object) -> None:
        if value is None:
            self._state.pop(name, None)
        else:
            self._state[name] = value


def _no_state(stream: StreamId, name: str, value: object) -> ValueError:
    return ValueError(
        f"The state of session {stream.run_id!r} (source {stream.workflow_name!r}) says {name} {described(value)}, "
        "which no history provider wrote. Give the state of that session, or an empty one."
    )
