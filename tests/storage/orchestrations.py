"""The framework's orchestrations, played by scripted agents: every builder, with everything that it can ask people.

A model's answer follows from the messages that it gets and from nothing else, so that a process which resumes in the
middle plays on as the first one would have. A message that was lost or changed on the way changes what comes after it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agent_framework import (
    Agent,
    AgentExecutorResponse,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    CheckpointStorage,
    Content,
    FunctionInvocationLayer,
    FunctionTool,
    Message,
    ResponseStream,
    Workflow,
    WorkflowEvent,
    tool,
)
from agent_framework_orchestrations import (
    AgentRequestInfoResponse,
    ConcurrentBuilder,
    GroupChatBuilder,
    GroupChatState,
    HandoffAgentUserRequest,
    HandoffBuilder,
    MagenticBuilder,
    MagenticPlanReviewRequest,
    SequentialBuilder,
)

NAME = "orchestrated"

Script = Callable[[Sequence[Message]], Content]
"""What a model answers to the messages that it gets."""


class ScriptedModel(FunctionInvocationLayer, BaseChatClient):
    """A chat client that answers by a script, and keeps a copy of each call."""

    def __init__(self, script: Script, calls: list[Any]) -> None:
        super().__init__()
        self._script, self._calls = script, calls

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        tools = [each.name for each in options.get("tools") or ()]
        self._calls.append(copy.deepcopy((list(messages), tools)))
        content = self._script(messages)
        return self._build_response_stream(_updates(content)) if stream else _response(content)


async def _response(content: Content) -> ChatResponse:
    return ChatResponse(messages=[Message("assistant", [content])])


async def _updates(content: Content) -> AsyncIterable[ChatResponseUpdate]:
    parts = [content]
    if content.type == "text" and content.text:
        parts = [Content.from_text(content.text[:3]), Content.from_text(content.text[3:])]
    for part in parts:
        yield ChatResponseUpdate(role="assistant", contents=[part])


class Team:
    """The agents of one process, new objects all of them, and what their models were asked."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Any]] = {}

    def agent(
        self, name: str, script: Script | None = None, tools: Sequence[FunctionTool] = (), **options: Any
    ) -> Agent:
        model = ScriptedModel(script or says(name), self.calls.setdefault(name, []))
        return Agent(model, name=name, description=f"The {name}", tools=list(tools), **options)


# What models say


def says(name: str) -> Script:
    """A text that shows how much of the conversation the model was given."""

    def script(messages: Sequence[Message]) -> Content:
        return Content.from_text(f"{name} to {messages[-1].text!r}, of {len(messages)}")

    return script


def uses(name: str, tool_name: str, **arguments: Any) -> Script:
    """A call of a tool, then a text with its result."""

    def script(messages: Sequence[Message]) -> Content:
        results = [content.result for content in messages[-1].contents if content.type == "function_result"]
        if results:
            return Content.from_text(f"{name} got {results!r}, of {len(messages)}")
        return Content.from_function_call(f"{tool_name}-{len(messages)}", tool_name, arguments=json.dumps(arguments))

    return script


def hands_off(name: str, target: str) -> Script:
    """A handoff of all but thanks."""

    def script(messages: Sequence[Message]) -> Content:
        if messages[-1].text == "thanks":
            return says(name)(messages)
        return Content.from_function_call(f"to-{target}-{len(messages)}", f"handoff_to_{target}")

    return script


@tool(approval_mode="always_require")
async def refund(amount: int) -> str:
    """Pay money back."""
    return f"{amount} paid back"


@tool
async def look_up(number: int) -> str:
    """Read an order."""
    return f"order {number} is late"


locate = FunctionTool(name="locate", description="Where the customer is, which only the customer's device knows.")


# What people answer


def answer(question: WorkflowEvent[Any]) -> Any:
    """The answer to a question, by nothing but the question."""
    match question.data:
        case Content(type="function_approval_request"):
            call = question.data.function_call
            return question.data.to_function_approval_response(approved=call.parse_arguments()["amount"] < 50)
        case Content(type="function_call"):
            return Content.from_function_result(call_id=question.data.call_id, result="at home")
        case AgentExecutorResponse():
            is_good = "help me" not in question.data.agent_response.text or question.data.executor_id == "chemist"
            return AgentRequestInfoResponse.from_strings([] if is_good else ["shorter, please"])
        case HandoffAgentUserRequest():
            is_enough = "thanks" in question.data.agent_response.text
            return (
                HandoffAgentUserRequest.terminate() if is_enough else HandoffAgentUserRequest.create_response("thanks")
            )
        case MagenticPlanReviewRequest():
            is_good = question.data.is_stalled or "UPDATED" in question.data.plan.text
            return question.data.approve() if is_good else question.data.revise("fewer steps")
    raise AssertionError(f"Nobody knows what to answer to {question!r}.")


# The orchestrations


def sequential(team: Team) -> Workflow:
    return SequentialBuilder(
        name=NAME,
        participants=[team.agent("writer", uses("writer", "look_up", number=7), [look_up]), team.agent("editor")],
    ).build()


def sequential_with_tool_approval(team: Team) -> Workflow:
    return SequentialBuilder(
        name=NAME,
        participants=[team.agent("clerk", uses("clerk", "refund", amount=10), [refund]), team.agent("editor")],
    ).build()


def sequential_with_request_info(team: Team) -> Workflow:
    return (
        SequentialBuilder(name=NAME, participants=[team.agent("writer"), team.agent("editor")])
        .with_request_info()
        .build()
    )


def sequential_with_a_tool_of_the_caller(team: Team) -> Workflow:
    return SequentialBuilder(
        name=NAME, participants=[team.agent("guide", uses("guide", "locate"), [locate]), team.agent("editor")]
    ).build()


def sequential_with_both(team: Team) -> Workflow:
    clerk = team.agent("clerk", uses("clerk", "refund", amount=10), [refund])
    return (
        SequentialBuilder(name=NAME, participants=[team.agent("writer"), clerk])
        .with_request_info(agents=["clerk"])
        .build()
    )


def concurrent(team: Team) -> Workflow:
    return ConcurrentBuilder(name=NAME, participants=[team.agent("physicist"), team.agent("chemist")]).build()


def concurrent_with_tool_approval(team: Team) -> Workflow:
    return ConcurrentBuilder(
        name=NAME,
        participants=[
            team.agent("clerk", uses("clerk", "refund", amount=10), [refund]),
            team.agent("manager", uses("manager", "refund", amount=100), [refund]),
        ],
    ).build()


def concurrent_with_request_info(team: Team) -> Workflow:
    return (
        ConcurrentBuilder(name=NAME, participants=[team.agent("physicist"), team.agent("chemist")])
        .with_request_info()
        .build()
    )


def _handoff(
    team: Team, target: str, script: Script, tools: Sequence[FunctionTool] = (), **options: Any
) -> HandoffBuilder:
    needed = {"require_per_service_call_history_persistence": True}
    triage = team.agent("triage", hands_off("triage", target), **needed)
    return HandoffBuilder(
        name=NAME, participants=[triage, team.agent(target, script, tools, **needed)], **options
    ).with_start_agent(triage)


def handoff(team: Team) -> Workflow:
    """Asks the customer after each answer, until it is thanked."""
    return _handoff(team, "support", says("support")).build()


def handoff_with_tool_approval(team: Team) -> Workflow:
    return _handoff(
        team,
        "clerk",
        uses("clerk", "refund", amount=10),
        [refund],
        termination_condition=lambda messages: "paid back" in messages[-1].text,
    ).build()


def handoff_on_its_own(team: Team) -> Workflow:
    """The support goes on by itself for a turn before it asks, and the answer goes to the start agent."""
    return (
        _handoff(team, "support", says("support"))
        .with_autonomous_mode(agents=["support"], turn_limits={"support": 1})
        .enable_return_to_previous(False)
        .build()
    )


def _in_turn(state: GroupChatState) -> str:
    names = list(state.participants)
    return names[state.current_round % len(names)]


def group_chat(team: Team) -> Workflow:
    return GroupChatBuilder(
        name=NAME,
        participants=[team.agent("optimist"), team.agent("pessimist")],
        selection_func=_in_turn,
        max_rounds=3,
    ).build()


def group_chat_led_by_an_agent(team: Team) -> Workflow:
    def leads(messages: Sequence[Message]) -> Content:
        rounds = sum("Decide what to do next" in message.text for message in messages)
        decision = {"terminate": rounds > 2, "reason": f"round {rounds}", "next_speaker": None, "final_message": None}
        decision |= (
            {"final_message": "agreed"} if rounds > 2 else {"next_speaker": ["optimist", "pessimist"][rounds % 2]}
        )
        return Content.from_text(json.dumps(decision))

    return GroupChatBuilder(
        name=NAME,
        participants=[team.agent("optimist"), team.agent("pessimist")],
        orchestrator_agent=team.agent("leader", leads),
    ).build()


def group_chat_with_tool_approval(team: Team) -> Workflow:
    return GroupChatBuilder(
        name=NAME,
        participants=[
            team.agent("clerk", uses("clerk", "refund", amount=10), [refund]),
            team.agent("manager", uses("manager", "refund", amount=100), [refund]),
        ],
        selection_func=_in_turn,
        max_rounds=2,
    ).build()


def group_chat_with_request_info(team: Team) -> Workflow:
    return (
        GroupChatBuilder(
            name=NAME,
            participants=[team.agent("optimist"), team.agent("pessimist")],
            selection_func=_in_turn,
            max_rounds=2,
        )
        .with_request_info()
        .build()
    )


_PROMPTS = {
    "task_ledger_facts_prompt": "FACTS {task}",
    "task_ledger_plan_prompt": "PLAN {team}",
    "task_ledger_full_prompt": "LEDGER {task} {team} {facts} {plan}",
    "task_ledger_facts_update_prompt": "UPDATED FACTS {task} {old_facts}",
    "task_ledger_plan_update_prompt": "UPDATED PLAN {team}",
    "progress_ledger_prompt": "PROGRESS {task} {team} {names}",
    "final_answer_prompt": "ANSWER {task}",
}


def _manages(*, stalls: bool = False) -> Script:
    """A Magentic manager: each participant speaks once; or nothing moves, until the plan was made anew."""

    def script(messages: Sequence[Message]) -> Content:
        prompt = messages[-1].text
        if not prompt.startswith("PROGRESS"):
            return Content.from_text(f"{prompt} of {len(messages)}")
        history = " ".join(message.text for message in messages[:-1])
        spoken = [name for name in ("searcher", "clerk") if f"{name} " in history and f"do it, {name}" in history]
        is_stalled = stalls and "UPDATED FACTS help me UPDATED FACTS" not in history
        ledger = {
            "is_request_satisfied": len(spoken) == 2,
            "is_in_loop": False,
            "is_progress_being_made": not is_stalled,
            "next_speaker": "clerk" if spoken else "searcher",
            "instruction_or_question": f"do it, {'clerk' if spoken else 'searcher'}",
        }
        return Content.from_text(json.dumps({key: {"reason": "so", "answer": value} for key, value in ledger.items()}))

    return script


def _magentic(team: Team, *, clerk: Agent | None = None, stalls: bool = False, **options: Any) -> Workflow:
    return MagenticBuilder(
        name=NAME,
        participants=[team.agent("searcher"), clerk or team.agent("clerk")],
        manager_agent=team.agent("manager", _manages(stalls=stalls)),
        max_stall_count=0,
        **_PROMPTS,
        **options,
    ).build()


def magentic(team: Team) -> Workflow:
    return _magentic(team)


def magentic_with_plan_review(team: Team) -> Workflow:
    return _magentic(team, enable_plan_review=True)


def magentic_that_stalls(team: Team) -> Workflow:
    """The plan is made anew, everyone is reset, and the second plan is reviewed with the progress so far."""
    return _magentic(team, stalls=True, enable_plan_review=True)


def magentic_with_tool_approval(team: Team) -> Workflow:
    return _magentic(team, clerk=team.agent("clerk", uses("clerk", "refund", amount=10), [refund]))


class Orchestration(NamedTuple):
    build: Callable[[Team], Workflow]
    asks: tuple[str, ...] = ()
    """The types of all questions, in the order in which they are asked."""


APPROVAL, REVIEW, TURN, PLAN = (
    "Content",
    "AgentExecutorResponse",
    "HandoffAgentUserRequest",
    "MagenticPlanReviewRequest",
)

ORCHESTRATIONS = [
    Orchestration(sequential),
    Orchestration(sequential_with_tool_approval, (APPROVAL,)),
    Orchestration(sequential_with_request_info, (REVIEW, REVIEW, REVIEW)),
    Orchestration(sequential_with_a_tool_of_the_caller, ("Content",)),
    Orchestration(sequential_with_both, (APPROVAL, REVIEW)),
    Orchestration(concurrent),
    Orchestration(concurrent_with_tool_approval, (APPROVAL, APPROVAL)),
    Orchestration(concurrent_with_request_info, (REVIEW, REVIEW, REVIEW)),
    Orchestration(handoff, (TURN, TURN)),
    Orchestration(handoff_with_tool_approval, (APPROVAL,)),
    Orchestration(handoff_on_its_own, (TURN, TURN)),
    Orchestration(group_chat),
    Orchestration(group_chat_led_by_an_agent),
    Orchestration(group_chat_with_tool_approval, (APPROVAL, APPROVAL)),
    Orchestration(group_chat_with_request_info, (REVIEW, REVIEW, REVIEW)),
    Orchestration(magentic),
    Orchestration(magentic_with_plan_review, (PLAN, PLAN)),
    Orchestration(magentic_that_stalls, (PLAN, PLAN, PLAN)),
    Orchestration(magentic_with_tool_approval, (APPROVAL,)),
]


# Playing them


async def play(
    workflow: Workflow, storage: CheckpointStorage, *, stream: bool, **start: Any
) -> list[WorkflowEvent[Any]]:
    """All events from the task, or from another start, to the end. Questions are answered one at a time."""
    events = await run(workflow, storage, stream=stream, **start or {"message": "help me"})
    asked = questions(events)
    while asked:
        [request_id, *_] = asked
        more = await run(workflow, storage, stream=stream, responses={request_id: answer(asked.pop(request_id))})
        asked |= questions(more)
        events += more
    return events


async def run(
    workflow: Workflow, storage: CheckpointStorage, *, stream: bool, **start: Any
) -> list[WorkflowEvent[Any]]:
    """All events until the workflow ends, or waits for an answer."""
    if stream:
        return [event async for event in workflow.run(**start, checkpoint_storage=storage, stream=True)]
    return list(await workflow.run(**start, checkpoint_storage=storage))


def questions(events: list[WorkflowEvent[Any]]) -> dict[str, WorkflowEvent[Any]]:
    return {event.request_id: event for event in events if event.type == "request_info"}
