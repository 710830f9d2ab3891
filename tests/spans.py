"""Spans as an application with an SDK records them, kept in memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["Spans", "name_of"]


class _Switch(Sampler):
    """Of each span what the test says. A process takes one SDK, and of most tests none is to record anything."""

    decision = Decision.DROP

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        return SamplingResult(self.decision, attributes, parent.trace_state)

    def get_description(self) -> str:
        return "as a test says"


class Spans:
    """What was recorded since the test began, in the order in which it ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._sampler = _Switch()
        self.provider = TracerProvider(sampler=self._sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(self.provider)

    @contextmanager
    def recorded(self, decision: Decision) -> Generator[None, None, None]:
        self._exporter.clear()
        self._sampler.decision = decision
        try:
            yield
        finally:
            self._sampler.decision = Decision.DROP

    def sample(self, decision: Decision) -> None:
        """From now on, until the test ends."""
        self._sampler.decision = decision

    @contextmanager
    def request(self, name: str) -> Generator[trace.Span, None, None]:
        """A span of the application's own, as of a request that it serves."""
        with trace.get_tracer("shop").start_as_current_span(name) as span:
            yield span

    def named(self, *names: str) -> Sequence[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name in names]

    @property
    def saves(self) -> Sequence[ReadableSpan]:
        return self.named("eventckpt.save")

    @property
    def loads(self) -> Sequence[ReadableSpan]:
        return self.named("eventckpt.load")


def name_of(span: ReadableSpan | trace.Span) -> str:
    """The `traceparent` of a span, as the SDK would hand it to another process."""
    context, carrier = span.get_span_context(), dict[str, str]()
    assert context is not None
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(context)))
    return carrier["traceparent"]
