"""The inbox: the questions of all runs, the longest waiting first, from the projection or from the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

import msgspec
import pytest

from eventckpt import CheckpointAudit, RunInfo, StreamId
from eventckpt.audit import Question
from eventckpt.chain import sealed
from eventckpt.errors import CheckpointStoreError
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


async def islice_of(found: AsyncGenerator[Question, None], count: int) -> AsyncGenerator[Question, None]:
    """So many, and no look at what comes then."""
    for _ in range(count):
        if (each := await anext(found, None)) is None:
            return
        yield each


async def ids(audit: CheckpointAudit, **which: Any) -> list[str]:
    return [asked.request.request_id async for asked in audit.inbox(**which)]


@pytest.fixture(params=["projection", "log"])
def source(request: pytest.FixtureRequest) -> Source:
    return request.param


async def test_every_question_is_listed_run_by_run_the_run_that_waits_longest_first(
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
    assert await ids(audit) == ["f1", "a1", "a2", "c1", "c2", "b1"]


async def test_a_question_says_what_is_known_of_it_and_of_its_run(engine: Engine, source: Source) -> None:
    asked = question("q", 3, response_type="builtins:bool", prompt="May it be?")
    event = event_of("a", asked, running=True)
    audit = await filled(engine, source, event, a=Annotation(tags={"customer": "c-17"}))
    assert [each async for each in audit.inbox()] == [
        Question(
            event.stream, asked, "running", {"customer": "c-17"}, 2, event.checkpoint_id, asked.asked_at, asked.asked_at
        )
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
    assert await ids(audit, workflow="orders") == ["a1", "a2", "a3", "c1"]
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


async def test_to_go_on_behind_a_question_is_one_document_and_one_query_a_page_however_deep(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 450
    store = cast(AuditStore, engine.open())
    events = [event_of(f"run {each:03}", question(f"{each:03}", count - each)) for each in range(count)]
    await store.append(events[0])
    await store.run_store().put(*(cast(RunInfo, fold([event])) for event in events))
    engine.settle()
    store = cast(AuditStore, engine.open())
    audit, asked = CheckpointAudit(store), list[str]()
    for name in ("page", "get", "all", "is_empty"):
        method = getattr(documents := type(store.run_store()), name)

        def counted(self: object, *args: Any, _name: str = name, _method: Any = method, **options: Any) -> Any:
            asked.append(_name)
            return _method(self, *args, **options)

        monkeypatch.setattr(documents, name, counted)
    last: Question | None = None
    listed: list[str] = []
    while True:
        asked.clear()
        async with aclosing(audit.inbox(after=last)) as found:
            page = [each async for each in islice_of(found, 40)]
        assert asked == [*([] if last is None else ["get"]), "page"]
        if not page:
            break
        last = page[-1]
        listed += [each.request.request_id for each in page]
    assert listed == [f"{each:03}" for each in range(count)]


async def test_a_question_is_listed_once_however_its_run_is_answered_meanwhile(engine: Engine) -> None:
    count = 230
    store = cast(AuditStore, engine.open())
    first = {each: question(f"{each} first", 900 - each) for each in range(count)}
    later = {each: question(f"{each} later", 800 - each) for each in range(count)}
    await store.append(event_of("run 0", first[0]))
    documents = store.run_store()
    infos = [cast(RunInfo, fold([event_of(f"run {each}", first[each], later[each])])) for each in range(count)]
    await documents.put(*infos)
    listed: list[Question] = []
    async with aclosing(CheckpointAudit(store).inbox()) as found:
        async for each in found:
            listed.append(each)
            if len(listed) == 50:
                await documents.put(
                    *(
                        msgspec.structs.replace(info, seq=2, digest="2", pending_requests=(later[each],))
                        for each, info in enumerate(infos)
                        if each % 3 == 0
                    )
                )
    ids = [each.request.request_id for each in listed]
    assert len(ids) == len(set(ids))
    assert {f"{each} later" for each in range(count)} <= set(ids), "who waited all the time is listed"
    last = [each.request.request_id async for each in CheckpointAudit(store).inbox(after=listed[-1])]
    assert last == []
    behind = [each async for each in CheckpointAudit(store).inbox(after=listed[0])]
    assert listed[0] not in behind, "its run waits since later by now"


async def test_what_questions_repeat_of_their_run_is_bounded_whatever_its_document_says(engine: Engine) -> None:
    asked = [question(f"{each}", 1) for each in range(2_000)]
    info = msgspec.structs.replace(
        cast(RunInfo, fold([event_of("a", *asked)])),
        tags={f"{each}": "x" * 200 for each in range(50)} | {"huge": "x" * 100_000},
        checkpoint_id="c" * 100_000,
        timestamp="9" * 100_000,
        pending_requests=tuple(msgspec.structs.replace(each, asked_at="") for each in asked),
    )
    store = cast(AuditStore, engine.open())
    await store.append(event_of("a", *asked))
    await store.run_store().put(info)
    listed = [each async for each in CheckpointAudit(store).inbox()]
    assert len(listed) == len(asked)
    assert all(len(msgspec.json.encode(each)) < 10_000 for each in listed)
    assert len(listed[0].tags) == 20


async def test_a_projection_with_a_document_is_believed_and_an_empty_store_asks_nothing(engine: Engine) -> None:
    assert await ids(await filled(engine, "projection")) == []
    audit = await filled(engine, "projection", event_of("a"))
    await audit.store.append(event_of("b", question("not there yet", 1)))
    assert await ids(audit) == []
    engine.settle()
    assert await ids(audit, latest="log") == ["not there yet"]


async def test_a_projection_that_is_asked_for_and_empty_is_refused_where_the_log_is_not(engine: Engine) -> None:
    audit = await filled(engine, "log")
    assert await ids(audit, latest="projection") == []
    await audit.store.append(event_of("a", question("a1", 1)))
    with pytest.raises(CheckpointStoreError, match="The projection is empty, and the log is not"):
        await ids(audit, latest="projection")
    assert await ids(audit) == ["a1"]


async def test_an_engine_of_0_1_0_has_an_inbox(engine: Engine, source: Source) -> None:
    audit = await filled(engine, source, event_of("a", question("a1", 9)), event_of("b", question("b1", 10)))
    assert await ids(CheckpointAudit(OldEventStore(audit.store))) == ["b1", "a1"]


@pytest.mark.parametrize(
    ("which", "error", "named"),
    [
        ({"workflow": 5}, TypeError, "workflow_name"),
        ({"latest": "store"}, ValueError, "latest"),
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
