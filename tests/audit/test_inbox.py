"""The inbox: the questions of all runs, the longest waiting first, from the projection or from the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

import msgspec
import pytest

from eventckpt import CheckpointAudit, RunInfo, StreamId
from eventckpt.audit import Question
from eventckpt.chain import sealed
from eventckpt.events import Annotation, CheckpointEvent, PendingRequest, Summary
from eventckpt.runs import fold
from eventckpt.stores import AuditStore
from eventckpt.testing import make_event

from ..engine_of_0_1_0 import OldEventStore
from ..engines import Engine

Source: TypeAlias = Literal["projection", "log"]
NOW = datetime.now(UTC)


def ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def question(request_id: str, days: float, kind: str = "app:Approval", **fields: Any) -> PendingRequest:
    return PendingRequest(
        request_id=request_id, source_executor_id="asks", request_type=kind, asked_at=ago(days), **fields
    )


def event_of(run: str, *questions: PendingRequest, workflow: str = "orders", running: bool = False) -> CheckpointEvent:
    summary = Summary(executor_ids=("a",), messages={"a": 1} if running else {}, pending_requests=questions)
    event = make_event(StreamId(workflow, run), 1)
    return sealed(msgspec.structs.replace(event, summary=summary, digest=""))


async def filled(engine: Engine, source: Source, *events: CheckpointEvent, **said: Annotation) -> CheckpointAudit:
    """A store with a run for each event, of which something is said by its id."""
    store = engine.open()
    assert isinstance(store, AuditStore)
    for event in events:
        headers = [event]
        await store.append(event)
        if event.run_id in said:
            tombstone = make_event(event.stream, 2, previous=event, type="tombstone")
            tombstone = sealed(
                msgspec.structs.replace(tombstone, checkpoint_id="", annotation=said[event.run_id], digest="")
            )
            await store.append(tombstone)
            headers.append(tombstone)
        if source == "projection":
            await store.run_store().put(cast(RunInfo, fold(headers)))
    engine.settle()
    return CheckpointAudit(cast(AuditStore, engine.open()))


async def ids(audit: CheckpointAudit, **which: Any) -> list[str]:
    return [asked.request.request_id async for asked in audit.inbox(**which)]


@pytest.fixture(params=["projection", "log"])
def source(request: pytest.FixtureRequest) -> Source:
    return request.param


async def test_every_question_is_listed_the_longest_waiting_first_whichever_run_asks_it(
    engine: Engine, source: Source
) -> None:
    audit = await filled(
        engine,
        source,
        event_of("a", question("a1", 9), question("a2", 1)),
        event_of("b", question("b1", 5)),
        event_of("c", question("c1", 7), question("c2", 2), running=True),
        event_of("d"),
        event_of("e", question("e1", 20)),
        event_of("f", question("f1", 12)),
        e=Annotation(outcome="cancelled"),
        f=Annotation(outcome="failed"),
    )
    assert await ids(audit) == ["f1", "a1", "c1", "b1", "c2", "a2"]


async def test_a_question_says_what_is_known_of_it_and_of_its_run(engine: Engine, source: Source) -> None:
    asked = question("q", 3, response_type="builtins:bool", prompt="May it be?")
    event = event_of("a", asked, running=True)
    audit = await filled(engine, source, event, a=Annotation(tags={"customer": "c-17"}))
    assert [each async for each in audit.inbox()] == [
        Question(event.stream, asked, "running", {"customer": "c-17"}, 2, event.checkpoint_id, asked.asked_at)
    ]


async def test_only_the_questions_that_are_meant_are_listed(engine: Engine, source: Source) -> None:
    audit = await filled(
        engine,
        source,
        event_of("a", question("a1", 9), question("a2", 8, "app:Choice"), question("a3", 1)),
        event_of("b", question("b1", 5), workflow="other"),
        event_of("c", question("c1", 2, "app:Choice")),
        c=Annotation(tags={"customer": "c-17", "a=b": "c=d"}),
    )
    assert await ids(audit, workflow="orders") == ["a1", "a2", "c1", "a3"]
    assert await ids(audit, type="app:Choice") == ["a2", "c1"]
    assert await ids(audit, older_than=timedelta(days=4)) == ["a1", "a2", "b1"]
    assert await ids(audit, older_than=timedelta(days=4), type="app:Choice") == ["a2"]
    assert await ids(audit, older_than=timedelta.max) == []
    assert await ids(audit, tag="customer=c-17") == ["c1"]
    assert await ids(audit, tag=("a=b", "c=d")) == ["c1"]
    assert await ids(audit, tag=("customer", "c-18")) == []
    assert await ids(audit, workflow="\udcff") == []


async def test_a_listing_goes_on_behind_any_question(engine: Engine, source: Source) -> None:
    audit = await filled(
        engine,
        source,
        event_of("a", question("a1", 9), question("a2", 5), question("a3", 5)),
        event_of("b", question("b1", 5), question("b2", 1)),
    )
    questions = [each async for each in audit.inbox()]
    assert [each.request.request_id for each in questions] == ["a1", "a2", "a3", "b1", "b2"]
    for number, each in enumerate(questions, 1):
        assert [later async for later in audit.inbox(after=each)] == questions[number:]


async def test_many_runs_come_page_by_page(engine: Engine) -> None:
    count = 230
    events = [event_of(f"run {each}", question(str(each), each * 37 % count)) for each in range(count)]
    infos = [cast(RunInfo, fold([event])) for event in events]
    store = cast(AuditStore, engine.open())
    await store.append(events[0])
    await store.run_store().put(*infos)
    engine.settle()
    audit = CheckpointAudit(cast(AuditStore, engine.open()))
    assert await ids(audit) == sorted(map(str, range(count)), key=lambda name: -(int(name) * 37 % count))


async def test_a_projection_with_a_document_is_believed_and_an_empty_store_asks_nothing(engine: Engine) -> None:
    assert await ids(await filled(engine, "projection")) == []
    audit = await filled(engine, "projection", event_of("a"))
    await audit.store.append(event_of("b", question("not there yet", 1)))
    assert await ids(audit) == []


async def test_an_engine_of_0_1_0_has_an_inbox(engine: Engine, source: Source) -> None:
    audit = await filled(engine, source, event_of("a", question("a1", 9)), event_of("b", question("b1", 10)))
    assert await ids(CheckpointAudit(OldEventStore(audit.store))) == ["b1", "a1"]


@pytest.mark.parametrize(
    ("which", "error", "named"),
    [
        ({"workflow": 5}, TypeError, "workflow_name"),
        ({"older_than": 5}, TypeError, "older_than"),
        ({"older_than": timedelta(days=-1)}, ValueError, "older_than"),
        ({"type": 5}, TypeError, "request_type"),
        ({"tag": "no value"}, ValueError, "tag"),
        ({"tag": ("a", "b", "c")}, TypeError, "tag"),
        ({"tag": ("a", 5)}, TypeError, "tags"),
        ({"tag": 5}, TypeError, "tag"),
    ],
)
async def test_what_is_no_such_argument_is_refused_by_name(
    engine: Engine, which: dict[str, Any], error: type[Exception], named: str
) -> None:
    audit = await filled(engine, "log")
    with pytest.raises(error, match=f"^{named} "):
        audit.inbox(**which)
