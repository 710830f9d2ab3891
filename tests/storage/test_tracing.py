"""What saves and loads tell of themselves where an application records spans, and what stays of it in a run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision

import eventckpt
from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEvent,
    CheckpointNotFoundError,
    CheckpointTypeNotAllowedError,
    EventStore,
    StreamId,
)
from eventckpt.chain import sealed
from eventckpt.stores import AuditStore
from eventckpt.stores.sqlite.event_store import SqliteEventStore

from ..engines import Engine
from ..spans import Spans, name_of
from ..test_traceparent import BAD
from .checkpoints import NOT_ALLOWED, WORKFLOW, NotAllowed, chain_of, checkpoint, history
from .test_workflow_questions import Asker, ids_of
from .workflows import QUESTION, RUN, latest, log


def about(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span, without what their names have in common."""
    return {name.removeprefix("eventckpt."): value for name, value in (span.attributes or {}).items()}


def linked(span: ReadableSpan) -> list[str]:
    """The spans that a span links to, by their `traceparent`."""
    assert all(link.context.is_remote for link in span.links)
    return [name_of(trace.NonRecordingSpan(link.context)) for link in span.links]


def trace_of(span: ReadableSpan | trace.Span) -> str:
    return name_of(span).split("-")[1]


# A run's story


async def test_a_run_that_was_paused_for_a_week_and_gone_on_with_by_another_process_is_one_story(
    engine: Engine, spans: Spans
) -> None:
    with spans.request("monday") as monday:
        asking = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
        await Asker.workflow().run("why", checkpoint_storage=asking)
    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    with spans.request("the monday after") as after:
        run = storage.for_run(RUN)
        stood = await latest(run, Asker.NAME)
        await Asker.workflow().run(
            checkpoint_id=stood.checkpoint_id, responses={ids_of(stood)["why"]: 7}, checkpoint_storage=run
        )
    events = await log(storage, Asker.NAME)
    assert [event.traceparent for event in events] == [name_of(save) for save in spans.saves]
    by_name = {name_of(save): save for save in spans.saves}
    asked = next(name for name, save in by_name.items() if about(save)["checkpoint_id"] == stood.checkpoint_id)
    assert len(spans.loads) >= 2  # of the latest, and of the one that was gone on from
    for load in spans.loads:
        assert trace_of(load) == trace_of(after)
        assert linked(load) == [asked]
    traces = [trace_of(save) for save in spans.saves]
    assert set(traces) == {trace_of(monday), trace_of(after)}
    assert traces == sorted(traces, key=[trace_of(monday), trace_of(after)].index)
    # So who has the last event finds the first trace, by the spans alone.
    last = by_name[events[-1].traceparent or ""]
    led_to = {name for load in spans.loads if trace_of(load) == trace_of(last) for name in linked(load)}
    assert {trace_of(by_name[name]) for name in led_to} == {trace_of(monday)}


async def test_a_span_lies_under_the_current_one_and_over_what_the_engine_does(engine: Engine, spans: Spans) -> None:
    storage = engine.storage()
    with spans.request("order") as order:
        [saved] = await chain_of(storage.for_run("r"), 1)
        await engine.storage().load(saved.checkpoint_id)
    [save], [load] = spans.saves, spans.loads
    for span in (save, load):
        assert span.parent == order.get_span_context()
        assert span.kind is trace.SpanKind.INTERNAL
        assert span.status.is_ok or span.status.is_unset


async def test_without_a_current_span_each_is_a_trace_of_its_own(engine: Engine, spans: Spans) -> None:
    await chain_of(engine.storage().for_run("r"), 2)
    assert [save.parent for save in spans.saves] == [None, None]
    events = await history(engine.open(), "r")
    assert [event.traceparent for event in events] == [name_of(save) for save in spans.saves]
    assert len({trace_of(save) for save in spans.saves}) == 2


# What a span says


async def test_a_span_says_what_was_saved_where_and_what_came_of_it(engine: Engine, spans: Spans) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    first = checkpoint()
    await run.save(first)
    await run.save(first)
    other = engine.storage().for_run("r")
    await other.load(first.checkpoint_id)
    second, third = checkpoint(first, state={"n": 2}), checkpoint(first, state={"n": 3})
    await run.save(second)
    await other.save(third)
    said = {"workflow": WORKFLOW, "run_id": "r", "seq": 1, "checkpoint_id": first.checkpoint_id}
    assert [about(save) for save in spans.saves] == [
        said | {"outcome": "saved"},
        said | {"outcome": "repeated"},
        said | {"outcome": "saved", "seq": 2, "checkpoint_id": second.checkpoint_id},
        said | {"outcome": "forked", "run_id": other.forked_to, "checkpoint_id": third.checkpoint_id},
    ]
    assert [about(load) for load in spans.loads] == [said | {"outcome": "loaded"}]


@pytest.mark.parametrize("of_a_run", [True, False])
async def test_get_latest_is_a_load_also_where_it_finds_nothing(engine: Engine, spans: Spans, of_a_run: bool) -> None:
    storage = engine.storage()
    reader = storage.for_run("r") if of_a_run else storage
    assert await reader.get_latest(workflow_name=WORKFLOW) is None
    [saved] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    assert await reader.get_latest(workflow_name=WORKFLOW) == saved
    nothing, found = spans.loads
    assert about(nothing) == {"workflow": WORKFLOW, "outcome": "none"} | ({"run_id": "r"} if of_a_run else {})
    said = {"workflow": WORKFLOW, "run_id": "r", "seq": 1, "checkpoint_id": saved.checkpoint_id, "outcome": "loaded"}
    assert about(found) == said
    assert (linked(nothing), linked(found)) == ([], [name_of(spans.saves[0])])


async def test_the_latest_by_a_projection_is_linked_too(engine: Engine, spans: Spans) -> None:
    [saved] = await chain_of(engine.storage().for_run("r"), 1)
    store = engine.open()
    assert isinstance(store, AuditStore)
    info = await CheckpointAudit(store).info(StreamId(WORKFLOW, "r"))
    assert info is not None
    assert info.traceparent == name_of(spans.saves[0])
    await store.runs().put(info)
    assert await engine.storage(latest="projection").get_latest(workflow_name=WORKFLOW) == saved
    assert linked(spans.loads[-1]) == [name_of(spans.saves[0])]


async def test_a_list_is_no_span_however_much_it_loads(engine: Engine, spans: Spans) -> None:
    storage = engine.storage()
    made = await chain_of(storage.for_run("r"), 3)
    assert await storage.list_checkpoints(workflow_name=WORKFLOW) == made
    assert await storage.list_checkpoint_ids(workflow_name=WORKFLOW) == [each.checkpoint_id for each in made]
    assert spans.loads == []


SECRET = "hunter2-in-a-state"


def everything(spans: Sequence[ReadableSpan]) -> str:
    return "".join(span.to_json() for span in spans)


async def test_of_what_fails_the_type_of_the_error_is_told_alone(engine: Engine, spans: Spans) -> None:
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED], on_conflict="raise")
    odd = checkpoint(state={"key": NotAllowed(), SECRET: SECRET})
    await storage.for_run("odd").save(odd)
    run, strict = storage.for_run("r"), engine.storage()
    await run.save(first := checkpoint())
    behind = storage.for_run("r")
    await behind.load(first.checkpoint_id)
    await run.save(checkpoint(first))
    told = len(spans.saves), len(spans.loads)
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.for_run("s").save(odd)
    conflicting = checkpoint(first, state={"key": SECRET})
    with pytest.raises(CheckpointConflictError):
        await behind.save(conflicting)
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.load(odd.checkpoint_id)
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.for_run("odd").get_latest(workflow_name=WORKFLOW)
    with pytest.raises(CheckpointNotFoundError):
        await strict.load("nowhere")
    saves, loads = spans.saves[told[0] :], spans.loads[told[1] :]
    failed = {"workflow": WORKFLOW, "outcome": "failed"}
    assert [about(save) for save in saves] == [
        failed | {"run_id": "s", "checkpoint_id": odd.checkpoint_id, "error.type": "CheckpointTypeNotAllowedError"},
        failed | {"run_id": "r", "checkpoint_id": conflicting.checkpoint_id, "error.type": "CheckpointConflictError"},
    ]
    assert [about(load)["error.type"] for load in loads] == [
        "CheckpointTypeNotAllowedError",
        "CheckpointTypeNotAllowedError",
        "CheckpointNotFoundError",
    ]
    for span in (*saves, *loads):
        assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, None)
        assert (span.events, span.links) == ((), ())
    assert SECRET not in everything([*spans.saves, *spans.loads])


async def test_a_save_that_is_cancelled_ends_its_span(engine: Engine, spans: Spans) -> None:
    storage = engine.storage()
    await chain_of(storage.for_run("warm"), 1)
    saving = asyncio.create_task(storage.for_run("r").save(checkpoint()))
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    last = spans.saves[-1]
    assert (about(last)["outcome"], about(last)["error.type"]) == ("failed", "CancelledError")
    assert not trace.get_current_span().is_recording()


async def test_what_would_be_obeyed_in_a_name_is_shown_in_a_span(engine: Engine, spans: Spans) -> None:
    saved = checkpoint(checkpoint_id="a\x1b[2J\u202e" + "x" * 1_000)
    await engine.storage().for_run("r").save(saved)
    said = about(spans.saves[0])["checkpoint_id"]
    assert said.isprintable()
    assert said.startswith("a\\x1b[2J\\u202e")
    assert len(said) < 400


# What stays in the log


async def test_a_repeated_save_keeps_the_span_of_the_first(engine: Engine, spans: Spans) -> None:
    [saved] = await chain_of(engine.storage().for_run("r"), 1)
    engine.settle()
    again = engine.storage().for_run("r")
    await again.load(saved.checkpoint_id)
    await again.save(saved)
    first, repeated = spans.saves
    assert about(repeated)["outcome"] == "repeated"
    assert [event.traceparent for event in await history(engine.open(), "r")] == [name_of(first)]


async def test_a_fork_says_which_span_began_it(engine: Engine, spans: Spans) -> None:
    [first] = await chain_of(engine.storage().for_run("r"), 1)
    one, other = engine.storage().for_run("r"), engine.storage().for_run("r")
    for each in (one, other):
        engine.settle()
        await each.load(first.checkpoint_id)
    await one.save(checkpoint(first, state={"n": 1}))
    await other.save(checkpoint(first, state={"n": 2}))
    engine.settle()
    [begun] = await history(engine.open(), other.forked_to or "")
    assert begun.traceparent == name_of(spans.saves[-1])


async def test_the_chain_covers_it(engine: Engine, spans: Spans) -> None:
    await chain_of(engine.storage().for_run("r"), 2)
    engine.settle()
    store = engine.open()
    assert isinstance(store, AuditStore)
    verdict = await CheckpointAudit(store).verify(StreamId(WORKFLOW, "r"))
    assert verdict.ok
    assert verdict.events == 2


def without_what_differs_anyway(event: CheckpointEvent) -> CheckpointEvent:
    return msgspec.structs.replace(event, recorded_at="", digest="", previous_digest="")


async def test_where_nothing_is_sampled_no_byte_of_an_event_is_another_one(engine: Engine, spans: Spans) -> None:
    saved = checkpoint()
    headers: list[bytes] = []
    for run_id, decision in (("a", Decision.RECORD_AND_SAMPLE), ("a", Decision.DROP)):
        spans.sample(decision)
        storage = engine.storage()
        run = storage.for_run(run_id if not headers else "b")
        with spans.request("order"):
            await run.save(saved)
            await run.load(saved.checkpoint_id)
        [event] = await history(storage.store, run.run_id)
        headers.append(msgspec.msgpack.encode(msgspec.structs.replace(without_what_differs_anyway(event), run_id="")))
    assert b"traceparent" in headers[0]
    assert b"traceparent" not in headers[1]
    assert len(headers[0]) - len(headers[1]) == len("traceparent") + 55 + 3, "its name and text, and their lengths"
    assert (len(spans.saves), len(spans.loads)) == (1, 1), "of what was sampled"


async def test_a_span_that_records_and_is_not_sampled_is_named_with_that_flag(engine: Engine, spans: Spans) -> None:
    spans.sample(Decision.RECORD_ONLY)
    storage = engine.storage()
    await chain_of(storage.for_run("r"), 1)
    [event] = await history(storage.store, "r")
    assert event.traceparent is not None
    assert int(event.traceparent[-2:], 16) % 2 == 0
    spans.sample(Decision.RECORD_AND_SAMPLE)
    await storage.get_latest(workflow_name=WORKFLOW)
    [link] = spans.loads[0].links
    assert not link.context.trace_flags.sampled


async def test_neither_baggage_nor_the_state_of_a_trace_goes_into_the_log(engine: Engine, spans: Spans) -> None:
    caller = trace.SpanContext(
        7, 8, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=trace.TraceState([("vendor", SECRET)])
    )
    handed = baggage.set_baggage("user", SECRET, trace.set_span_in_context(trace.NonRecordingSpan(caller)))
    token = context.attach(handed)
    try:
        storage = engine.storage()
        await chain_of(storage.for_run("r"), 1)
    finally:
        context.detach(token)
    [save] = spans.saves
    assert save.context is not None
    assert save.context.trace_state.get("vendor") == SECRET, "the span has it"
    [event] = await history(storage.store, "r")
    assert event.traceparent == name_of(save)
    assert SECRET.encode() not in msgspec.msgpack.encode(event)


# What is stored is hostile


async def naming(store: EventStore, traceparent: Any) -> WorkflowCheckpoint:
    """A run "hostile" whose event says that this span wrote it."""
    saved = checkpoint()
    await eventckpt.EventCheckpointStorage(store).for_run("r").save(saved)
    [event] = await store.read(StreamId(WORKFLOW, "r"), 1)
    await store.append(sealed(msgspec.structs.replace(event, run_id="hostile", traceparent=traceparent)))
    return saved


@pytest.mark.parametrize("text", {name: text for name, text in BAD.items() if isinstance(text, str)}.values())
async def test_what_names_no_span_is_no_link_and_the_checkpoint_is_loaded(
    tmp_path: Path, spans: Spans, text: str
) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        saved = await naming(store, text)
        run = eventckpt.EventCheckpointStorage(store).for_run("hostile", workflow_name=WORKFLOW)
        assert await run.load(saved.checkpoint_id) == saved
    [load] = spans.loads
    assert load.links == ()
    assert about(load)["run_id"] == "hostile"


# Without an SDK

UNTRACED = """
import asyncio, sys
import eventckpt
from eventckpt.storage import tracing

assert not [name for name in sys.modules if name.startswith("opentelemetry")], "before the first use"
from agent_framework import WorkflowCheckpoint
from opentelemetry import trace

made = []
for kind in (trace.NonRecordingSpan, trace.SpanContext):
    def counted(cls, *args, _new=kind.__new__, **kwargs):
        made.append(cls)
        return object.__new__(cls) if _new is object.__new__ else _new(cls, *args, **kwargs)
    kind.__new__ = counted
trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)
assert made.pop() is trace.NonRecordingSpan, "they are counted"

async def use():
    async with eventckpt.SqliteCheckpointStorage(sys.argv[1]) as storage:
        run = storage.for_run("r")
        saved = WorkflowCheckpoint("w", "g")
        await run.save(saved)
        await run.load(saved.checkpoint_id)
        await run.get_latest(workflow_name="w")
        [event] = [event async for event in storage.store.headers(eventckpt.StreamId("w", "r"))]
        assert event.traceparent is None

asyncio.run(use())
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
print(len(made))
"""


def printed_by(script: str, *arguments: Path) -> str:
    """What a process prints that has imported nothing yet."""
    root = Path(eventckpt.__file__).parents[1]
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n{script}"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_without_an_sdk_no_span_is_made(tmp_path: Path) -> None:
    assert printed_by(UNTRACED, tmp_path / "c.db") == "0"


UNASKED = """
from eventckpt.storage import tracing

with tracing.span("save", "w", "r", "c") as span:
    assert span.traceparent is None
print([name for name in sys.modules if name == "opentelemetry.trace"])
"""


@pytest.mark.slow
def test_where_the_application_has_not_imported_the_api_no_span_asks_for_it() -> None:
    assert printed_by(UNASKED) == "[]"


INSTALLED_LATER = """
import asyncio, sys
import eventckpt
from agent_framework import WorkflowCheckpoint
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

async def use():
    async with eventckpt.SqliteCheckpointStorage(sys.argv[1]) as storage:
        run = storage.for_run("r")
        first = WorkflowCheckpoint("w", "g")
        await run.save(first)
        trace.set_tracer_provider(TracerProvider())
        await run.save(WorkflowCheckpoint("w", "g", previous_checkpoint_id=first.checkpoint_id))
        print([event.traceparent is not None async for event in storage.store.headers(eventckpt.StreamId("w", "r"))])

asyncio.run(use())
"""


@pytest.mark.slow
def test_an_sdk_that_is_installed_after_the_first_save_records_the_next(tmp_path: Path) -> None:
    assert printed_by(INSTALLED_LATER, tmp_path / "c.db") == "[False, True]"


async def test_an_event_that_cannot_be_decoded_is_no_load_of_it(engine: Engine, spans: Spans) -> None:
    store = engine.open()
    saved = await naming(store, None)
    [event] = await store.read(StreamId(WORKFLOW, "r"), 1)
    broken = msgspec.structs.replace(event, run_id="broken", checkpoint_id="another")
    await store.append(sealed(broken))
    engine.settle()
    with pytest.raises(CheckpointDecodeError):
        await engine.storage().for_run("broken").load("another")
    assert about(spans.loads[-1])["outcome"] == "failed"
    assert saved.checkpoint_id not in everything(spans.loads)
