"""What events say of questions: since when they are asked, what an answer must be, and what they say to people."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Optional, cast

import pytest
from agent_framework import Executor, RunContext, WorkflowBuilder, WorkflowContext, WorkflowEvent, handler, workflow

from eventckpt import CheckpointEvent, EventCheckpointStorage, describe_request
from eventckpt.storage.plain_text import MAX_NAME
from eventckpt.storage.questions import MAX_PROMPT, response_type_of

from ..engines import Engine
from .checkpoints import checkpoint, history
from .test_workflow_questions import Asker, ids_of
from .workflows import QUESTION, RUN, Question, latest, log


@dataclass
class Approval:
    amount: int


@dataclass
class Urgent(Approval):
    pass


class Answer(Enum):
    YES = "yes"


ALLOWED = [*QUESTION, f"{__name__}:Approval", f"{__name__}:Urgent"]


def asking(data: object, response_type: object = bool, request_id: str = "q") -> dict[str, WorkflowEvent[Any]]:
    return {request_id: WorkflowEvent.request_info(request_id, "asks", cast("Any", data), cast("Any", response_type))}


def pending(*request_ids: str) -> dict[str, Any]:
    return {name: event for each in request_ids for name, event in asking(Approval(1), bool, each).items()}


def asked(event: CheckpointEvent) -> dict[str, str]:
    return {request.request_id: request.asked_at for request in event.summary.pending_requests}


async def one_saved(storage: EventCheckpointStorage, data: object, response_type: object = bool) -> CheckpointEvent:
    saved = checkpoint(pending_request_info_events=asking(data, response_type))
    await storage.save(saved)
    [event] = await history(storage.store, saved.checkpoint_id)
    return event


# Since when


async def test_a_question_is_asked_when_the_first_checkpoint_of_its_lineage_was_saved_that_waits_for_it(
    engine: Engine,
) -> None:
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    run = storage.for_run(RUN)
    before = checkpoint()
    first = checkpoint(before, pending_request_info_events=pending("a"))
    second = checkpoint(first, pending_request_info_events=pending("a", "b"))
    third = checkpoint(second, pending_request_info_events=pending("a", "b"))
    for each in (before, first, second):
        await run.save(each)
    engine.settle()
    restarted = engine.storage(allowed_checkpoint_types=ALLOWED).for_run(RUN)
    await restarted.load(second.checkpoint_id)
    await restarted.save(third)
    events = await history(storage.store, RUN)
    assert [asked(event) for event in events] == [
        {},
        {"a": events[1].recorded_at},
        {"a": events[1].recorded_at, "b": events[2].recorded_at},
        {"a": events[1].recorded_at, "b": events[2].recorded_at},
    ]


async def test_it_goes_on_in_unbound_storages_in_forks_and_where_a_checkpoint_is_saved_again(engine: Engine) -> None:
    first = checkpoint(pending_request_info_events=pending("a"))
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    await storage.save(first)
    engine.settle()
    second = checkpoint(first, pending_request_info_events=pending("a"))
    await engine.storage(allowed_checkpoint_types=ALLOWED).save(second)  # finds its parent in the store
    engine.settle()
    late = engine.storage(allowed_checkpoint_types=ALLOWED)
    await late.load(first.checkpoint_id)
    for head in (second, checkpoint(second)):
        await storage.save(head)  # the run goes on: `late` forks
    fork = checkpoint(first, pending_request_info_events=pending("a"))
    await late.save(fork)
    engine.settle()
    await storage.save(first := _changed(first))
    events = [event async for event in storage.store.workflow_headers(first.workflow_name)]
    moments = {asked(event)["a"] for event in events if event.summary.pending_requests}
    assert len([event for event in events if event.summary.pending_requests]) >= 4
    assert moments == {min(event.recorded_at for event in events)}


def _changed(saved: Any) -> Any:
    saved.state["more"] = 1
    return saved


async def test_a_request_of_an_id_that_was_answered_is_asked_anew(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    run = storage.for_run(RUN)
    first = checkpoint(pending_request_info_events=pending("a", "b"))
    await run.save(first)
    run.answers("a")
    between = checkpoint(first, pending_request_info_events=pending("a", "b"))
    again = checkpoint(between, pending_request_info_events=pending("a", "b"))
    await run.save(between)
    await run.save(again)
    one, _, last = await history(storage.store, RUN)
    assert asked(last) == {"a": last.recorded_at, "b": one.recorded_at}


async def test_no_save_reads_more_for_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    run = storage.for_run(RUN)
    last = checkpoint(pending_request_info_events=pending("a"))
    await run.save(last)
    reads: list[str] = []
    for name in ("read", "find", "find_in", "headers", "last"):
        original = getattr(storage.store, name)

        def counted(*args: Any, _original: Any = original, _name: str = name, **options: Any) -> Any:
            reads.append(_name)
            return _original(*args, **options)

        monkeypatch.setattr(storage.store, name, counted)
    for _ in range(3):
        last = checkpoint(last, pending_request_info_events=pending("a"))
        await run.save(last)
    assert reads == []
    monkeypatch.undo()
    assert len({asked(event)["a"] for event in await history(storage.store, RUN)}) == 1


class Slow(Executor):
    """Goes on for some supersteps after it has asked."""

    def __init__(self) -> None:
        super().__init__(id="slow")

    @handler
    async def begin(self, text: str, ctx: WorkflowContext[int]) -> None:
        await ctx.request_info(Question(text), bool)
        await ctx.send_message(3)

    @handler
    async def go_on(self, left: int, ctx: WorkflowContext[int]) -> None:
        if left:
            await ctx.send_message(left - 1)


async def test_in_a_graph_workflow_that_goes_on_meanwhile_each_checkpoint_says_the_same(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    slow = Slow()
    built = WorkflowBuilder(start_executor=slow, name="slow").add_edge(slow, slow).build()
    await built.run("why", checkpoint_storage=storage.for_run(RUN))
    waiting = [event for event in await log(storage, "slow") if event.summary.pending_requests]
    assert len(waiting) >= 3
    assert {moment for event in waiting for moment in asked(event).values()} == {waiting[0].recorded_at}


async def test_in_a_graph_workflow_that_is_answered_bit_by_bit_what_is_left_keeps_its_time(engine: Engine) -> None:
    await Asker.workflow().run(
        "why when", checkpoint_storage=engine.storage(allowed_checkpoint_types=ALLOWED).for_run(RUN)
    )
    engine.settle()
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    run = storage.for_run(RUN)
    loaded = await latest(run, Asker.NAME)
    ids = ids_of(loaded)
    await Asker.workflow().run(checkpoint_id=loaded.checkpoint_id, responses={ids["why"]: 1}, checkpoint_storage=run)
    events = await log(storage, Asker.NAME)
    first = next(event for event in events if event.summary.pending_requests)
    assert asked(events[-1]) == {ids["when"]: first.recorded_at}


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)

    @workflow(name="twice")
    async def twice(text: str, ctx: RunContext) -> list[int]:
        first = await ctx.request_info(Question(text), int)
        second = await ctx.request_info(Question(f"{text} again"), int)
        return [first, second]


async def test_in_a_functional_workflow_each_question_has_its_own_time(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    run = storage.for_run(RUN)
    result = await twice.build().run("why", checkpoint_storage=run)
    [request] = result.get_request_info_events()
    await twice.build().run(
        checkpoint_id=(await latest(run, "twice")).checkpoint_id,
        responses={request.request_id: 1},
        checkpoint_storage=run,
    )
    waiting = [event for event in await log(storage, "twice") if event.summary.pending_requests]
    times: dict[str, set[str]] = {}
    for event in waiting:
        for name, moment in asked(event).items():
            times.setdefault(name, set()).add(moment)
    assert len(times) == 2
    assert all(len(moments) == 1 for moments in times.values())
    assert {request.response_type for event in waiting for request in event.summary.pending_requests} == {
        "builtins:int"
    }


# What an answer must be

TYPES: list[tuple[object, str]] = [
    (bool, "builtins:bool"),
    (Approval, f"{__name__}:Approval"),
    (list[str], "list[str]"),
    (dict[str, Approval], f"dict[str, {__name__}:Approval]"),
    (str | None, "str | None"),
    (Optional[int], "int | None"),  # noqa: UP045
    (list[dict[str, int | None]], "list[dict[str, int | None]]"),
    (Literal["yes", 2, None], "Literal['yes', 2, None]"),
    (Literal[Answer.YES], f"Literal[{__name__}:Answer]"),
    (tuple[int, ...], "tuple[int, ...]"),
    (Callable[[int], str], ""),
    (Any, "typing:Any"),
    (5, ""),
    ("int", ""),
    (None, ""),
]


@pytest.mark.parametrize(("given", "text"), TYPES, ids=[str(given) for given, _ in TYPES])
def test_the_type_of_an_answer_is_a_text(given: object, text: str) -> None:
    assert response_type_of(given) == text


def test_the_text_of_a_type_is_bounded_and_so_is_the_work_for_it() -> None:
    wide: Any = int
    for _ in range(60):
        wide = dict[wide, wide]  # of 2 ** 60 arguments in all
    assert len(response_type_of(wide)) <= MAX_NAME
    assert len(response_type_of(Literal["x" * 5_000])) <= MAX_NAME
    assert len(response_type_of(type("x" * 5_000, (), {}))) <= 2 * MAX_NAME + 1


async def test_it_is_in_the_event(engine: Engine) -> None:
    event = await one_saved(engine.storage(allowed_checkpoint_types=ALLOWED), Approval(1), list[str])
    [request] = event.summary.pending_requests
    assert (request.request_type, request.response_type) == (f"{__name__}:Approval", "list[str]")


# What it says to people


@pytest.fixture(autouse=True)
def _nobody_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventckpt.storage.questions._describers", {})


async def prompt_of(engine: Engine, data: object) -> str | None:
    event = await one_saved(engine.storage(allowed_checkpoint_types=ALLOWED), data)
    return event.summary.pending_requests[0].prompt


async def test_a_question_says_what_its_describer_makes_of_it(engine: Engine) -> None:
    assert await prompt_of(engine, Approval(7)) is None
    describe_request(Approval, lambda approval: f"Pay {approval.amount}?")
    assert await prompt_of(engine, Approval(7)) == "Pay 7?"
    assert await prompt_of(engine, Urgent(8)) == "Pay 8?", "found by the base"
    assert await prompt_of(engine, Question("why")) is None
    describe_request(Urgent, lambda urgent: f"Pay {urgent.amount} now?")
    assert await prompt_of(engine, Urgent(8)) == "Pay 8 now?", "the exact class comes first"
    describe_request(Approval, lambda _: "the last one counts")
    assert await prompt_of(engine, Approval(7)) == "the last one counts"


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x" * 201, "x" * 200), ("é" * 500, "é" * 200), ("a\udcffb", "a?b"), ("", None), ("\x1b[31m\n", "\x1b[31m\n")],
    ids=ascii,
)
async def test_its_text_is_short_and_one_that_every_engine_keeps(engine: Engine, text: str, kept: str | None) -> None:
    describe_request(Approval, lambda _: text)
    assert MAX_PROMPT == 200
    assert await prompt_of(engine, Approval(1)) == kept


def _raises(_: object) -> str:
    raise RuntimeError("secret")


@pytest.mark.parametrize("fn", [_raises, lambda _: 5, lambda _: None, lambda _: b"bytes"], ids=range(4))
async def test_what_a_describer_does_wrong_refuses_no_save_and_is_said_once(
    engine: Engine, fn: Any, caplog: pytest.LogCaptureFixture
) -> None:
    describe_request(Approval, fn)
    with caplog.at_level(logging.WARNING, "eventckpt"):
        assert await prompt_of(engine, Approval(1)) is None
        assert await prompt_of(engine, Approval(2)) is None
    [said] = [record.getMessage() for record in caplog.records]
    assert f"{__name__}:Approval" in said
    assert "without a prompt" in said
    assert "secret" not in said


@pytest.mark.parametrize(("cls", "fn"), [("Approval", str), (5, str), (Approval, "text"), (Approval, None)])
def test_what_describes_nothing_is_refused(cls: Any, fn: Any) -> None:
    with pytest.raises(TypeError, match=r"^(request_type|fn) is"):
        describe_request(cls, fn)


def test_an_async_describer_is_refused() -> None:
    async def ask(_: Approval) -> str:
        return ""

    with pytest.raises(TypeError, match="plain function"):
        describe_request(Approval, cast("Any", ask))


async def test_a_describer_runs_before_a_save_awaits_anything(engine: Engine) -> None:
    seen: list[int] = []
    describe_request(Approval, lambda approval: seen.append(approval.amount) or "asked")
    data = Approval(1)
    storage = engine.storage(allowed_checkpoint_types=ALLOWED)
    saving = asyncio.create_task(storage.save(checkpoint(pending_request_info_events=asking(data))))
    await asyncio.sleep(0)  # as far as its first await
    assert seen == [1]
    await saving
    assert seen == [1]
