"""An event of a run as a row of a listing, whichever program prints it."""

from __future__ import annotations

from typing import NamedTuple, Self

from ..events import CheckpointEvent
from ..traceparent import trace_id_in
from .words import about_text

__all__ = ["EventRow"]


class EventRow(NamedTuple):
    """The cells of an event, in their order. What does not hold for it is empty."""

    seq: str
    recorded_at: str
    what: str
    superstep: str
    checkpoint_id: str
    messages: str
    """In flight, by the executors that sent them."""
    pending: str
    answered: str
    raw_size: str
    stored_size: str
    about: str
    """How its payload is stored; of an event without one, what it says."""
    actor: str
    claim: str
    trace_id: str

    @classmethod
    def of(cls, event: CheckpointEvent) -> Self:
        """The row of an event, by its header."""
        summary, payload = event.summary, event.payload
        bases = () if payload is None else payload.bases
        stored_as = "" if payload is None else " on ".join(["delta", *map(str, bases)] if bases else ["snapshot"])
        return cls(
            seq=str(event.seq),
            recorded_at=event.recorded_at,
            what=event.what,
            superstep=str(event.iteration_count) if event.type == "checkpoint" else "",
            checkpoint_id=event.checkpoint_id,
            messages=", ".join(f"{source} {count}" for source, count in summary.messages.items() if count),
            pending=", ".join(
                f"{asked.request_id} from {asked.source_executor_id}" for asked in summary.pending_requests
            ),
            answered=", ".join(summary.answered_requests),
            raw_size=f"{payload.raw_size:,}" if payload else "",
            stored_size=f"{payload.stored_size:,}" if payload else "",
            about=stored_as or about_text(event),
            actor=event.actor or "",
            claim="" if event.claim is None else str(event.claim),
            trace_id=trace_id_in(event.traceparent) or "",
        )
