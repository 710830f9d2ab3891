"""What agents ask in workflows is answered, too: whether a tool may be called, whether a text is good, what is next."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from agent_framework import (
    Content,
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    handler,
    response_handler,
)

from eventckpt import ResponseTypeError, SqliteCheckpointStorage, StreamId, answer, answer_from_json

from ..storage import orchestrations
from ..storage.orchestrations import APPROVAL, NAME, ORCHESTRATIONS, Orchestration, Team, sequential_with_tool_approval

RUN = "order-42"

asking = pytest.mark.parametrize(
    "orchestration", [each for each in ORCHESTRATIONS if each.asks], ids=lambda each: each.build.__name__
)


@pytest.fixture
async def storage(tmp_path: Any) -> Any:
    async with SqliteCheckpointStorage(tmp_path / "store.db") as opened:
        yield opened


async def begun(storage: SqliteCheckpointStorage, workflow: Workflow) -> list[WorkflowEvent[Any]]:
    result = await workflow.run("help me", checkpoint_storage=storage.for_run(RUN))
    return result.get_request_info_events()


@asking
async def test_each_question_of_an_orchestration_is_answered_by_a_process_of_its_own(
    storage: SqliteCheckpointStorage, orchestration: Orchestration
) -> None:
    questions = await begun(storage, orchestration.build(Team()))
    asked: list[str] = []
    while questions:
        question = questions[0]
        asked.append(type(question.data).__name__)
        response = orchestrations.answer(question)
        await answer(storage, RUN, {question.request_id: response}, workflow=orchestration.build(Team()))
        latest = await storage.for_run(RUN).get_latest(workflow_name=NAME)
        assert latest is not None
        assert question.request_id not in latest.pending_request_info_events
        questions = [*latest.pending_request_info_events.values()]
    assert asked == list(orchestration.asks)


@pytest.mark.parametrize("approved", [True, False])
async def test_true_and_false_in_json_approve_the_call_of_a_tool_or_refuse_it(
    storage: SqliteCheckpointStorage, approved: bool
) -> None:
    [question] = await begun(storage, sequential_with_tool_approval(Team()))
    assert type(question.data).__name__ == APPROVAL
    team = Team()
    await answer_from_json(storage, RUN, {question.request_id: approved}, workflow=sequential_with_tool_approval(team))
    shown = [content for messages, _ in team.calls["clerk"] for message in messages for content in message.contents]
    results = [content.result for content in shown if content.type == "function_result"]
    assert ("10 paid back" in str(results)) is approved
    assert results, "the model is told either way"


WRONG: list[Any] = [
    "yes",
    "true",
    1,
    None,
    {"type": "zz"},
    {"type": "text", "text": "approved"},
    {"type": "function_approval_response", "id": "another", "approved": True},
    {"type": "function_approval_response", "approved": True},
]


@pytest.mark.parametrize("answering", [answer, answer_from_json])
@pytest.mark.parametrize("response", WRONG, ids=str)
async def test_the_approval_of_a_call_takes_its_own_response_only(
    storage: SqliteCheckpointStorage, response: object, answering: Any
) -> None:
    [question] = await begun(storage, sequential_with_tool_approval(Team()))
    before = await storage.store.last(NAME, RUN)
    with pytest.raises(ResponseTypeError):
        await answering(storage, RUN, {question.request_id: response}, workflow=sequential_with_tool_approval(Team()))
    assert await storage.store.last(NAME, RUN) == before


def approves(question: WorkflowEvent[Any], **fields: Any) -> dict[str, Any]:
    return {**question.data.to_function_approval_response(True).to_dict(), **fields}


@pytest.mark.parametrize("answering", [answer, answer_from_json])
@pytest.mark.parametrize(
    "wrong",
    [
        {"approved": "yes"},
        {"approved": None},
        {"approved": 1},
        {"function_call": Content.from_function_call("c-1", "pay_back", arguments={"euros": 1_000}).to_dict()},
    ],
    ids=str,
)
async def test_an_approval_says_true_or_false_of_the_call_that_was_asked(
    storage: SqliteCheckpointStorage, answering: Any, wrong: dict[str, Any]
) -> None:
    """What `from_dict` would make a refusal of, in silence."""
    [question] = await begun(storage, sequential_with_tool_approval(Team()))
    build = partial(sequential_with_tool_approval, team := Team())
    with pytest.raises(ResponseTypeError, match=next(iter(wrong))):
        await answering(storage, RUN, {question.request_id: approves(question, **wrong)}, workflow=build())
    assert not any(team.calls.values())


@pytest.mark.parametrize("is_short", [True, False])
@pytest.mark.parametrize("answering", [answer, answer_from_json])
async def test_an_approval_as_a_dict_approves_the_call(
    storage: SqliteCheckpointStorage, answering: Any, is_short: bool
) -> None:
    [question] = await begun(storage, sequential_with_tool_approval(Team()))
    response = approves(question)
    if is_short:
        response = {name: response[name] for name in ("type", "id", "approved")}
    team = Team()
    await answering(storage, RUN, {question.request_id: response}, workflow=sequential_with_tool_approval(team))
    shown = [content for messages, _ in team.calls["clerk"] for message in messages for content in message.contents]
    assert "10 paid back" in str([content.result for content in shown if content.type == "function_result"])


CALL = Content("computer_tool_call", call_id="c-1", pending_safety_checks=[{"id": "s-1"}])
FUNCTION = Content.from_function_call("c-1", "pick")
FIXED: list[tuple[Content, Content, bool]] = [
    (CALL, Content("computer_tool_result", call_id="c-1", acknowledged_safety_checks=[{"id": "s-1"}]), True),
    (CALL, Content("computer_tool_result", call_id="c-1"), False),
    (CALL, Content("computer_tool_result", call_id="c-2", acknowledged_safety_checks=[{"id": "s-1"}]), False),
    (CALL, Content.from_text("done"), False),
    (FUNCTION, Content.from_function_result("c-1", result="red"), True),
    (FUNCTION, Content.from_function_result("c-2", result="red"), False),
    (FUNCTION, Content.from_text("red"), False),
    (Content.from_text("which?"), Content.from_text("red"), True),
]


class Asker(Executor):
    """Asks by a content, as an agent does."""

    def __init__(self, asks: Content, takes: Any = Content) -> None:
        super().__init__(id="asker")
        self._asks = asks
        self._takes = takes

    @handler
    async def ask(self, text: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(self._asks, self._takes, request_id="what")

    @response_handler
    async def answered(self, asked: Content, response: Content, ctx: WorkflowContext) -> None: ...

    @response_handler
    async def decided(self, asked: Content, response: bool, ctx: WorkflowContext) -> None: ...


def asks_by(content: Content, takes: Any = Content) -> Workflow:
    return WorkflowBuilder(start_executor=Asker(content, takes), name="asking").build()


@pytest.mark.parametrize(("asked", "response", "is_taken"), FIXED)
async def test_a_content_that_takes_one_type_of_response_takes_its_own(
    storage: SqliteCheckpointStorage, asked: Content, response: Content, is_taken: bool
) -> None:
    await asks_by(asked).run("go", checkpoint_storage=storage.for_run(RUN))
    if is_taken:
        await answer(storage, RUN, {"what": response}, workflow=asks_by(asked))
        return
    before = await storage.store.last("asking", RUN)
    with pytest.raises(ResponseTypeError, match=r"is answered by|safety checks"):
        await answer(storage, RUN, {"what": response}, workflow=asks_by(asked))
    assert await storage.store.last("asking", RUN) == before


async def test_where_an_application_asks_by_a_content_for_a_type_of_its_own_that_counts(
    storage: SqliteCheckpointStorage,
) -> None:
    approval = Content.from_function_approval_request("a-1", FUNCTION)
    await asks_by(approval, bool).run("go", checkpoint_storage=storage.for_run(RUN))
    await answer_from_json(storage, RUN, {"what": True}, workflow=asks_by(approval, bool))
    [told] = [each async for each in storage.store.headers(StreamId("asking", RUN)) if each.summary.answered_requests]
    [[message]] = (await storage.for_run(RUN).load(told.checkpoint_id)).messages.values()
    assert message.data is True
