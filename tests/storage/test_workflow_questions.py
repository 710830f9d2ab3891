"""Questions to people, fan-ins and sub-workflows on our storages: answered, resumed by another object."""

from __future__ import annotations

from typing import Any, Never

import pytest
from agent_framework import (
    CheckpointStorage,
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowRunState,
    handler,
    response_handler,
)

from ..engines import Engine
from .workflows import (
    KEEPS_AN_ANSWERED_QUESTION,
    QUESTION,
    RUN,
    CrashError,
    Question,
    latest,
    log,
)

# Questions to people


class Asker(Executor):
    """Asks one question per word of its input, and ends when all are answered."""

    NAME = "asker"

    def __init__(self) -> None:
        super().__init__(id="asker")
        self._answers: dict[str, int] = {}
        self._open = 0

    @handler
    async def ask(self, words: str, ctx: WorkflowContext[Never, dict[str, int]]) -> None:
        self._open = len(words.split())
        for word in words.split():
            await ctx.request_info(Question(word), int)

    @response_handler
    async def answered(self, question: Question, answer: int, ctx: WorkflowContext[Never, dict[str, int]]) -> None:
        self._answers[question.text] = answer
        if len(self._answers) == self._open:
            await ctx.yield_output(self._answers)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"answers": self._answers, "open": self._open}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self._answers, self._open = state["answers"], state["open"]

    @classmethod
    def workflow(cls, storage: CheckpointStorage | None = None) -> Workflow:
        return WorkflowBuilder(start_executor=cls(), name=cls.NAME, checkpoint_storage=storage).build()


def ids_of(checkpoint: WorkflowCheckpoint) -> dict[str, str]:
    """The pending requests' ids by the question's text."""
    return {event.data.text: request_id for request_id, event in checkpoint.pending_request_info_events.items()}


async def test_a_question_is_answered_by_another_process_with_the_checkpoint_and_the_responses_at_once(
    engine: Engine,
) -> None:
    asked = await Asker.workflow().run(
        "why", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    assert asked.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS

    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, Asker.NAME)
    result = await Asker.workflow().run(
        checkpoint_id=checkpoint.checkpoint_id, responses={ids_of(checkpoint)["why"]: 7}, checkpoint_storage=run
    )

    assert (result.get_outputs(), result.get_final_state()) == ([{"why": 7}], WorkflowRunState.IDLE)
    summaries = [event.summary for event in await log(storage, Asker.NAME)]
    [pending] = summaries[1].pending_requests
    assert (pending.source_executor_id, pending.request_type) == ("asker", QUESTION[0])
    assert [len(summary.pending_requests) for summary in summaries] == [0, 1, 0, 0]
    assert [summary.answered_requests for summary in summaries] == [(), (), (pending.request_id,), ()]


async def test_a_restored_workflow_asks_again_and_takes_the_answer_later(engine: Engine) -> None:
    await Asker.workflow().run("why", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN))
    run = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    asker = Asker.workflow(run)
    restored = await asker.run(checkpoint_id=(await latest(run, Asker.NAME)).checkpoint_id)
    [request] = restored.get_request_info_events()
    result = await asker.run(responses={request.request_id: 7})

    assert request.data == Question("why")
    assert result.get_outputs() == [{"why": 7}]


async def test_each_of_several_questions_may_be_answered_by_a_process_of_its_own(engine: Engine) -> None:
    await Asker.workflow().run(
        "when where who", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    left = ["when", "where", "who"]
    outputs: list[Any] = []
    for answer, text in enumerate(["who", "when", "where"]):
        run = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
        checkpoint = await latest(run, Asker.NAME)
        assert sorted(ids_of(checkpoint)) == left
        result = await Asker.workflow().run(
            checkpoint_id=checkpoint.checkpoint_id, responses={ids_of(checkpoint)[text]: answer}, checkpoint_storage=run
        )
        outputs += result.get_outputs()
        left.remove(text)

    assert outputs == [{"who": 0, "when": 1, "where": 2}]
    witness = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    assert (await latest(witness, Asker.NAME)).pending_request_info_events == {}


# Shapes of graphs


class Source(Executor):
    @handler
    async def spread(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)


class Tag(Executor):
    @handler
    async def tag(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(f"{text}.{self.id}")


class Join(Executor):
    def __init__(self, *, crash: bool) -> None:
        super().__init__(id="join")
        self._crash = crash

    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, list[str]]) -> None:
        if self._crash:
            raise CrashError
        await ctx.yield_output(sorted(texts))


def diamond(*, crash: bool = False) -> Workflow:
    """A fan-out into a short and a long way, and a fan-in that waits for both."""
    source, short, long, longer, join = (
        Source(id="source"), Tag(id="short"), Tag(id="long"), Tag(id="longer"), Join(crash=crash)
    )  # fmt: skip
    return (
        WorkflowBuilder(start_executor=source, name="diamond")
        .add_fan_out_edges(source, [short, long])
        .add_edge(long, longer)
        .add_fan_in_edges([short, longer], join)
        .build()
    )


async def test_what_a_fan_in_has_already_collected_survives(engine: Engine) -> None:
    with pytest.raises(CrashError):
        await diamond(crash=True).run("x", checkpoint_storage=engine.storage().for_run(RUN))
    storage = engine.storage()
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "diamond")
    result = await diamond().run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert set(checkpoint.messages) == {"longer"}, "the short way's message waits in the fan-in, not in flight"
    assert result.get_outputs() == [["x.long.longer", "x.short"]]
    assert [set(event.summary.messages) for event in await log(storage, "diamond")] == [
        {"internal:source"},
        {"source"},
        {"short", "long"},
        {"longer"},
        set(),
    ]


def nested() -> Workflow:
    """A workflow whose only executor is another workflow, which asks."""
    inner = WorkflowExecutor(Asker.workflow(), id="inner", propagate_request=True)
    sink = Collector(id="sink")
    return WorkflowBuilder(start_executor=inner, name="nested", output_from=[sink]).add_edge(inner, sink).build()


class Collector(Executor):
    @handler
    async def collect(self, answers: dict[str, int], ctx: WorkflowContext[Never, int]) -> None:
        await ctx.yield_output(sum(answers.values()))


async def test_a_question_inside_a_sub_workflow_is_answered_by_another_process(engine: Engine) -> None:
    await nested().run("how often", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN))
    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "nested")
    ids = ids_of(checkpoint)
    result = await nested().run(
        checkpoint_id=checkpoint.checkpoint_id,
        responses={ids["how"]: 2, ids["often"]: 40},
        checkpoint_storage=run,
    )

    assert result.get_outputs() == [42]
    pending = [event.summary.pending_requests for event in await log(storage, "nested")]
    assert {(request.source_executor_id, request.request_type) for request in pending[1]} == {("inner", QUESTION[0])}
    assert [request.request_id for request in pending[-1]] == [ids["often"]] * KEEPS_AN_ANSWERED_QUESTION
