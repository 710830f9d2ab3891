"""The workflow: a clerk asks a person about a large refund, and a cashier pays what is granted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Never, TypeAlias

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler

from eventckpt import describe_request

__all__ = ["ALLOWED", "NAME", "Approval", "Pay", "Refund", "build", "pay_on_paper"]

NAME = "refund"
ALLOWED = ["web_service.workflows:Approval", "web_service.workflows:Refund"]
"""The types of ours that a checkpoint of this workflow holds."""
SMALL = 50
"""Euros up to which nobody is asked."""


@dataclass
class Refund:
    """What a customer asks for. The run's id is the refund's, too."""

    id: str
    customer: str
    euros: int


@dataclass
class Approval:
    """The question to a person."""

    refund: Refund


describe_request(Approval, lambda asked: f"May {asked.refund.customer} have {asked.refund.euros} euros back?")

Pay: TypeAlias = Callable[[Refund], Awaitable[None]]
"""Pays a refund, once for each id, however often it is called: a step that was interrupted is done again."""


async def pay_on_paper(refund: Refund, *, folder: Path = Path("refunds-paid")) -> None:
    """Stands in for a payment provider, whose idempotency key is `refund.id`: here it is a file's name."""

    def pay() -> None:
        folder.mkdir(exist_ok=True)
        with (folder / f"{refund.id}.txt").open("w", encoding="utf-8") as paper:
            paper.write(f"{refund.euros} euros to {refund.customer}\n")

    await asyncio.to_thread(pay)


class Clerk(Executor):
    """Grants small refunds, and asks before a large one."""

    @handler
    async def requested(self, refund: Refund, ctx: WorkflowContext[Refund, str]) -> None:
        if refund.euros > SMALL:
            await ctx.request_info(Approval(refund), bool)
        else:
            await ctx.send_message(refund)

    @response_handler
    async def decided(self, asked: Approval, granted: bool, ctx: WorkflowContext[Refund, str]) -> None:
        if granted:
            await ctx.send_message(asked.refund)
        else:
            ctx.set_state("result", "refused")


class Cashier(Executor):
    """Pays."""

    def __init__(self, pay: Pay) -> None:
        super().__init__(id="cashier")
        self._pay = pay

    @handler
    async def pay(self, refund: Refund, ctx: WorkflowContext[Never, str]) -> None:
        await self._pay(refund)
        ctx.set_state("result", "paid")


def build(pay: Pay = pay_on_paper) -> Workflow:
    """A workflow for one execution."""
    clerk, cashier = Clerk(id="clerk"), Cashier(pay)
    return WorkflowBuilder(start_executor=clerk, name=NAME).add_edge(clerk, cashier).build()
