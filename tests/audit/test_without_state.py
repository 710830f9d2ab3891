"""What is said of an event that holds no state, by its kind."""

from __future__ import annotations

import msgspec
import pytest

from eventckpt.audit.states import States
from eventckpt.errors import CheckpointNotFoundError
from eventckpt.events import Annotation, CheckpointEvent, StreamId
from eventckpt.stores.conformance import make_event
from eventckpt.testing.events import of_every_kind

from ..engines import Engine
from ..storage.removed import audited

RUN = StreamId("orders", "order-1")
_MADE = of_every_kind(RUN, make_event(StreamId("orders", "origin"), 1))
_RECORD = make_event(RUN, 3, type="tombstone")
KINDS: dict[str, CheckpointEvent] = {
    "a tombstone": _RECORD,
    "an annotation": msgspec.structs.replace(_RECORD, checkpoint_id="", annotation=Annotation(outcome="failed")),
    "a prune record": _MADE[2],
    "a claim": _MADE[7],
    "a removal": _MADE[8],
    "a closing record": msgspec.structs.replace(_MADE[8], removal=None),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_without_state_is_called_what_it_is(engine: Engine, kind: str) -> None:
    event = KINDS[kind]
    with pytest.raises(CheckpointNotFoundError) as told:
        await States(audited(engine), []).raw(event)
    said = f"Seq {event.seq} of run 'order-1' of workflow 'orders' is {kind}, which holds no state."
    assert str(told.value) == said


def test_what_has_no_run_is_of_the_removals_of_its_workflow() -> None:
    removal = msgspec.structs.replace(_MADE[8], run_id="")
    assert removal.without_state() == ("Seq 9 of the removals of workflow 'orders' is a removal, which holds no state")


def test_an_event_is_named_without_two_blanks_where_it_has_no_id() -> None:
    assert [event.named() for event in [*_MADE, *KINDS.values()] if "  " in event.named()] == []
