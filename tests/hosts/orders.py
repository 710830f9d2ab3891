"""A workflow with a question, for a host to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_framework import Executor, Message, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler

WORKFLOW = "orders"


@dataclass
class Question:
    text: str


QUESTION = "tests.hosts.orders:Question"


class Clerk(Executor):
    """Asks about an order, and books what it is told."""

    @handler
    async def order(self, text: str, ctx: WorkflowContext[Any, str]) -> None:
        ctx.set_state("seen", {f"{text} {number}" for number in range(20)})  # no two processes encode a set alike
        await ctx.request_info(Question(f"How many {text}?"), str)

    @handler
    async def chat(self, messages: list[Message], ctx: WorkflowContext[Any, str]) -> None:
        await self.order(messages[-1].text, ctx)

    @response_handler
    async def answer(self, question: Question, number: str, ctx: WorkflowContext[Any, str]) -> None:
        await ctx.yield_output(f"{question.text} {number}.")


def build(_: object = None) -> Workflow:
    return WorkflowBuilder(name=WORKFLOW, start_executor=Clerk(id="clerk")).build()
