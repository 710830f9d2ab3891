"""What agents ask in workflows is answered, too: whether a tool may be called, whether a text is good, what is next."""

from __future__ import annotations

from typing import Any

import pytest
from agent_framework import Workflow, WorkflowEvent

from eventckpt import SqliteCheckpointStorage, answer, answer_from_json

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
