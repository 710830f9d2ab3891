"""The spans of saves and loads, by the OpenTelemetry API: none is made until the application installs an SDK.

Each lies under the current span, and says of which run, event and checkpoint it was. A save leaves its own span's
`traceparent` in the header, and a load links to the span that wrote what it loads: so a run that was paused for a week,
and gone on with by another process, is one story in a tracing system that keeps traces of minutes.

Nothing else travels with the run. Baggage holds what the application passes along with a request, such as names of
users and keys, and tracestate what tracing systems tell each other of it: a log keeps what it is given for years, and
hands it to whoever may read it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..events import CheckpointEvent
from ..text import cell
from ..traceparent import TraceParent

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OpenSpan
    from opentelemetry.trace import Tracer

__all__ = ["ATTRIBUTES", "Operation", "Span", "span"]

Operation: TypeAlias = Literal["save", "load"]

ATTRIBUTES: Final = {
    "workflow": "eventckpt.workflow",
    "run": "eventckpt.run_id",
    "seq": "eventckpt.seq",
    "checkpoint": "eventckpt.checkpoint_id",
    "outcome": "eventckpt.outcome",
    "error": "error.type",
}


class Span:
    """What a save or a load tells of itself. This one belongs to an operation whose span nobody records."""

    traceparent: str | None = None
    """What names the span, for the header of an event that it writes."""

    def saved(self, outcome: str, event: CheckpointEvent) -> None:
        """A save came to this, and the checkpoint lies in this event."""

    def loaded(self, event: CheckpointEvent | None) -> None:
        """A load gave the checkpoint in this event; None: it found none."""


class _Recorded(Span):
    def __init__(self, span: OpenSpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = str(TraceParent(context.trace_id, context.span_id, context.trace_flags))

    def saved(self, outcome: str, event: CheckpointEvent) -> None:
        self._ended(outcome)
        self._span.set_attributes(_attributes(event.workflow_name, event.run_id, event.checkpoint_id))
        self._span.set_attribute(ATTRIBUTES["seq"], event.seq)

    def loaded(self, event: CheckpointEvent | None) -> None:
        from opentelemetry.trace import SpanContext, TraceFlags

        if event is None:
            self._ended("none")
            return
        self.saved("loaded", event)
        writer = TraceParent.parsed(event.traceparent)
        if writer is not None:
            flags = TraceFlags(writer.flags)
            self._span.add_link(SpanContext(writer.trace_id, writer.span_id, is_remote=True, trace_flags=flags))

    def failed(self, error: BaseException) -> None:
        """It raised. Of an error its type is told alone: its message may quote what was to be stored."""
        from opentelemetry.trace import StatusCode

        self._ended("failed")
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute(ATTRIBUTES["error"], cell(type(error).__qualname__))

    def _ended(self, outcome: str) -> None:
        self._span.set_attribute(ATTRIBUTES["outcome"], outcome)


_NOT_RECORDED: Final = nullcontext(Span())


def span(
    operation: Operation, workflow_name: str | None, run_id: str | None, checkpoint_id: str | None = None
) -> AbstractContextManager[Span]:
    """What a save or a load runs in, its names as far as they are known before."""
    if "opentelemetry.trace" not in sys.modules:  # then nobody has installed an SDK, and to import it takes long
        return _NOT_RECORDED
    made = _tracer().start_span(f"eventckpt.{operation}", attributes=_attributes(workflow_name, run_id, checkpoint_id))
    return _current(made) if made.is_recording() else _NOT_RECORDED


@contextmanager
def _current(made: OpenSpan) -> Generator[Span, None, None]:
    """A span as the current one: what the engine's SDK does lies under it."""
    from opentelemetry.trace import use_span

    recorded = _Recorded(made)
    with use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield recorded
        except BaseException as error:
            recorded.failed(error)
            raise


@cache
def _tracer() -> Tracer:
    """It makes spans of whatever SDK the application installs, before or after."""
    from opentelemetry import trace

    return trace.get_tracer("eventckpt")


def _attributes(workflow_name: str | None, run_id: str | None, checkpoint_id: str | None) -> dict[str, str]:
    named = {"workflow": workflow_name, "run": run_id, "checkpoint": checkpoint_id}
    return {ATTRIBUTES[name]: cell(value) for name, value in named.items() if value is not None}
