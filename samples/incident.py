"""The workflow of the quickstart: from an incident report to what will be done about it.

    reader -> analyst (an Agent) -> planner -> reviewer -> editor

Five executors, one per superstep. Nothing in here knows how it is checkpointed, or whether.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

from agent_framework import (
    Agent,
    AgentExecutorRequest,
    AgentExecutorResponse,
    Executor,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from scripted_chat import ScriptedChatClient

NAME = "incident-review"
EXECUTORS = ("reader", "analyst", "planner", "reviewer", "editor")
STATE_TYPES = ["incident:Timeline", "incident:Plan", "incident:Action"]
"""The application types that checkpoints of this workflow hold."""


@dataclass
class Timeline:
    """What happened, by the minute of the day."""

    title: str
    moments: dict[int, str]

    def outage(self) -> tuple[int, int]:
        """The minutes of the first refused payment and of the recovery."""
        refused = [minute for minute, what in self.moments.items() if "was refused" in what]
        recovered = [minute for minute, what in self.moments.items() if "succeeded again" in what]
        return refused[0], recovered[-1]


@dataclass
class Action:
    owner: str
    task: str


@dataclass
class Plan:
    findings: dict[int, str]
    actions: dict[int, Action]
    open_findings: set[int] = field(default_factory=set)


class Reader(Executor):
    """Reads the report, notes its timeline and proposals, and asks the analyst about it."""

    @handler
    async def read(self, path: str, ctx: WorkflowContext[AgentExecutorRequest]) -> None:
        report = await asyncio.to_thread(Path(path).read_text, encoding="utf-8")
        moments = re.findall(r"^(\d\d):(\d\d) (.+?)(?=\n\d\d:\d\d |\n\n)", report, flags=re.MULTILINE | re.DOTALL)
        ctx.set_state(
            "timeline",
            Timeline(
                title=report.partition("\n")[0],
                moments={int(hour) * 60 + int(minute): _unwrapped(what) for hour, minute, what in moments},
            ),
        )
        ctx.set_state("proposals", re.findall(r"^The (.+) will (.+)\.$", report, flags=re.MULTILINE))
        await ctx.send_message(AgentExecutorRequest(messages=[Message("user", [report])], should_respond=True))


class Planner(Executor):
    """Gives every finding of the analyst the proposal that has most words in common with it."""

    def __init__(self, on_start: Callable[[], None]) -> None:
        super().__init__(id="planner")
        self._on_start = on_start

    @handler
    async def plan(self, analysis: AgentExecutorResponse, ctx: WorkflowContext[Plan]) -> None:
        self._on_start()
        findings = dict(enumerate(analysis.agent_response.text.splitlines(), start=1))
        actions = [Action(owner, task) for owner, task in ctx.get_state("proposals")]

        def best(finding: str) -> Action:
            return max(actions, key=lambda action: len(_words(finding) & _words(f"{action.owner} {action.task}")))

        await ctx.send_message(Plan(findings, {number: best(finding) for number, finding in findings.items()}))


class Reviewer(Executor):
    """Strikes actions that have nothing to do with their finding."""

    @handler
    async def review(self, plan: Plan, ctx: WorkflowContext[Plan]) -> None:
        for number, action in list(plan.actions.items()):
            if not _words(plan.findings[number]) & _words(f"{action.owner} {action.task}"):
                plan.open_findings.add(number)
                del plan.actions[number]
        await ctx.send_message(plan)


class Editor(Executor):
    """Writes the brief, the workflow's result."""

    @handler
    async def write(self, plan: Plan, ctx: WorkflowContext[Never, str]) -> None:
        timeline: Timeline = ctx.get_state("timeline")
        begin, end = timeline.outage()
        lines = [timeline.title, f"{end - begin} minutes, from {_clock(begin)} to {_clock(end)}"]
        for number, finding in plan.findings.items():
            action = plan.actions.get(number)
            lines += [f"{number}. {finding}", f"   {action.owner}: {action.task}" if action else "   OPEN"]
        brief = "\n".join(lines)
        ctx.set_state("brief", brief)
        await ctx.yield_output(brief)


def build(*, on_planner_start: Callable[[], None] = lambda: None) -> Workflow:
    """A new instance of the workflow; its input is the path of a report."""
    reader, planner = Reader(id="reader"), Planner(on_planner_start)
    analyst = Agent(ScriptedChatClient(_analysis), name="analyst", instructions="Say why it happened. Be brief.")
    reviewer, editor = Reviewer(id="reviewer"), Editor(id="editor")
    return (
        WorkflowBuilder(start_executor=reader, name=NAME, output_from=[editor])
        .add_chain([reader, analyst, planner, reviewer, editor])
        .build()
    )


def _analysis(report: str) -> str:
    """What the scripted model answers: the report's sentences that give a reason."""
    paragraphs = [_unwrapped(paragraph) for paragraph in report.split("\n\n")]
    return "\n".join(sentence for text in paragraphs for sentence in re.findall(r"[A-Z][^.]* because [^.]*\.", text))


def _unwrapped(text: str) -> str:
    return " ".join(text.split())


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
