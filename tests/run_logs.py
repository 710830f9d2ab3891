"""Random logs of one run, with every kind of event that a run has: for what is to hold of any log."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from hypothesis import strategies as st

from eventckpt.chain import sealed
from eventckpt.events import Annotation, CheckpointEvent, Payload, PendingRequest, Pruned, StreamId, Summary
from eventckpt.runs import carried, fold
from eventckpt.storage.compose import annotation_after, claim_after, removal_after
from eventckpt.storage.memory import EMPTY, Head

__all__ = ["STEPS", "STREAM", "Log", "Step", "header"]

Step: TypeAlias = tuple[str, Any]

STREAM: Final = StreamId("w", "r")

QUESTION: Final = PendingRequest(request_id="q", source_executor_id="asker", request_type="builtins:str")
SUMMARIES: Final = (
    Summary(),
    Summary(executor_ids=("a",)),
    Summary(messages={"a": 1}),
    Summary(executor_ids=("a",), pending_requests=(QUESTION,)),
)
"""Of a run that is open, done, running and waiting."""

_names = st.sampled_from("abc")
_said = st.builds(
    Annotation,
    outcome=st.sampled_from([None, None, "done", "failed", "cancelled"]),
    tags=st.sampled_from([{}, {"customer": "c-17"}, {"customer": "c-18", "x": ""}]),
    hold=st.booleans(),
)
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("save"), st.tuples(_names, st.sampled_from(SUMMARIES))),
        st.tuples(st.just("delete"), _names),
        st.tuples(st.just("annotate"), _said),
        st.tuples(st.just("claim"), st.booleans()),
        st.tuples(st.just("remove"), st.tuples(st.integers(1, 20), st.integers(1, 20), st.booleans())),
    ),
    min_size=1,
    max_size=16,
)


def header(
    seq: int, checkpoint_id: str, *, deletes: bool = False, summary: Summary | None = None, claim: int | None = None
) -> CheckpointEvent:
    """The header of an event of the run `r` of `w`."""
    payload = Payload(encoding="x", raw_size=10 * seq, raw_sha256="", stored_size=seq)
    return sealed(
        CheckpointEvent(
            type="tombstone" if deletes else "checkpoint",
            workflow_name="w",
            run_id="r",
            seq=seq,
            checkpoint_id=checkpoint_id,
            timestamp=f"t{seq}",
            recorded_at=f"r{seq}",
            summary=summary or Summary(),
            payload=None if deletes else payload,
            iteration_count=seq,
            claim=claim,
            traceparent=None if deletes else f"00-{seq:032x}-{seq:016x}-01",
        )
    )


class Log:
    """A run to which event is added to event, as its writers do it."""

    def __init__(self) -> None:
        self.events: list[CheckpointEvent] = []

    def add(self, step: Step) -> CheckpointEvent:
        """The event that a step adds."""
        what, how = step
        event: CheckpointEvent = getattr(self, f"_{what}")(how)
        self.events.append(event)
        return event

    @property
    def _head(self) -> Head:
        return Head.of(self.events[-1]) if self.events else EMPTY

    @property
    def _pruned(self) -> tuple[Pruned, ...]:
        """As the newest event without a checkpoint id tells it."""
        return next((event.pruned for event in reversed(self.events) if not event.checkpoint_id), ())

    @property
    def _epoch(self) -> int | None:
        return self._head.claim or None

    def _save(self, how: tuple[str, Summary]) -> CheckpointEvent:
        return header(self._head.seq + 1, how[0], summary=how[1], claim=self._epoch)

    def _delete(self, name: str) -> CheckpointEvent:
        return header(self._head.seq + 1, name, deletes=True, claim=self._epoch)

    def _annotate(self, said: Annotation) -> CheckpointEvent:
        return annotation_after(STREAM, self._head, said, self._pruned, "somebody")

    def _claim(self, knows_all: bool) -> CheckpointEvent:
        stays = carried(fold(self.events))
        if stays is not None and not knows_all:  # whoever has not seen the headers since the outcome does not carry it
            stays = msgspec.structs.replace(stays, outcome=None, reason=None)
        return claim_after(STREAM, self._head, stays, self._pruned, None)

    def _remove(self, how: tuple[int, int, bool]) -> CheckpointEvent:
        """A stretch of what is there; of 0.1.0, whose records repeat nothing, where the last is False."""
        first, length, carries = how
        if not self.events:
            return header(1, "a")
        first = 1 + first % self._head.seq
        gone = Pruned(first=first, last=min(self._head.seq, first + length), previous_digest="", digest="")
        said = any(event.annotation for event in self.events)
        stays = (carried(fold(self.events)) or (Annotation(carried=True) if said else None)) if carries else None
        return removal_after(self.events[-1], (*self._pruned, gone), None, stays=stays)
