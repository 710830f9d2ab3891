"""A workflow asks a person, and no process waits for the answer.

Shows: `ctx.request_info(...)`, a process that ends with the question open, another that finds the question in the
checkpoint and resumes with `responses=`; and what the event headers alone say of questions and answers, for
whoever watches many runs and must not decode their state.

Run it:   python samples/human_in_the_loop.py [--store PATH|ENDPOINT] [--refuse]
You see:  the question, the answer, and the log with the question pending, then answered, then gone. The exit code is
          0 only if the workflow decided as the person said.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler
from place import Place, is_taken, open_storage, place
from printing import plain, print_in_turns, table, verdict

from eventckpt import CheckpointEvent, EventCheckpointStorage, StreamId

NAME = "refund"
RUN_ID = "order-1042"


@dataclass
class Approval:
    """The question to a person."""

    customer: str
    euros: int


class Clerk(Executor):
    """Pays small refunds, and asks before a large one."""

    @handler
    async def request(self, euros: int, ctx: WorkflowContext[str, str]) -> None:
        if euros < 50:
            await ctx.send_message(f"paid {euros} euros")
        else:
            await ctx.request_info(Approval("Ms Brandt", euros), bool)

    @response_handler
    async def decided(self, question: Approval, approved: bool, ctx: WorkflowContext[str, str]) -> None:
        await ctx.send_message(f"{'paid' if approved else 'refused'} {question.euros} euros to {question.customer}")


class Bookkeeper(Executor):
    @handler
    async def book(self, decision: str, ctx: WorkflowContext[Never, str]) -> None:
        ctx.set_state("booked", decision)
        await ctx.yield_output(decision)


def build() -> Workflow:
    clerk, bookkeeper = Clerk(id="clerk"), Bookkeeper(id="bookkeeper")
    return (
        WorkflowBuilder(start_executor=clerk, name=NAME, output_from=[bookkeeper]).add_edge(clerk, bookkeeper).build()
    )


def storage_at(path: Place, *, actor: str | None = None) -> AbstractAsyncContextManager[EventCheckpointStorage]:
    return open_storage(path, allowed_checkpoint_types=["human_in_the_loop:Approval"], actor=actor)


async def ask(path: Place) -> None:
    async with storage_at(path, actor="the shop") as storage:
        result = await build().run(180, checkpoint_storage=storage.for_run(RUN_ID))
        print(f"  the workflow is {result.get_final_state().value}; this process ends")


async def answer(path: Place, *, approved: bool) -> None:
    async with storage_at(path, actor="Mr Okafor") as storage:
        run = storage.for_run(RUN_ID)
        latest = await run.get_latest(workflow_name=NAME)
        assert latest is not None
        responses: dict[str, bool] = {}
        for request_id, request in latest.pending_request_info_events.items():
            question: Approval = request.data
            asker = plain(request.source_executor_id or "")
            print(f"  {asker} asks: may {plain(question.customer)} get {question.euros} euros?")
            print(f"  the answer is {'yes' if approved else 'no'}")
            responses[request_id] = approved
        result = await build().run(checkpoint_id=latest.checkpoint_id, responses=responses, checkpoint_storage=run)
        print(f"  the workflow is {result.get_final_state().value}: {plain(result.get_outputs()[0])}")


async def look(path: Place) -> tuple[list[CheckpointEvent], str]:
    """The run's events, without their payloads, and what the last checkpoint says was booked."""
    async with storage_at(path) as storage:
        latest = await storage.for_run(RUN_ID).get_latest(workflow_name=NAME)
        headers = [header async for header in storage.store.headers(StreamId(NAME, RUN_ID))]
        return headers, latest.state.get("booked", "") if latest else ""


def demonstrate(path: Place, *, approved: bool) -> bool:
    def start(step: str) -> int:
        answers = [] if approved else ["--refuse"]
        return subprocess.run(
            [sys.executable, __file__, "--store", path, "--step", step, *answers], check=False
        ).returncode

    print(f"A refund of 180 euros needs a person's word; run {RUN_ID!r}.\n\nTHE FIRST PROCESS")
    exit_codes = [start("ask")]
    asked, _ = asyncio.run(look(path))
    print("\nNO PROCESS RUNS; what the header of the last event says")
    for request in asked[-1].summary.pending_requests:
        print(f"  {plain(request.source_executor_id)} waits for an answer to a {plain(request.request_type)}")
    print("\nTHE SECOND PROCESS")
    exit_codes.append(start("answer"))
    log, booked = asyncio.run(look(path))
    print(f"\nTHE LOG OF THE RUN, read without decoding any state\n{render(log)}")

    pending = [request.request_id for request in asked[-1].summary.pending_requests]
    checks = {
        "both processes ended well": exit_codes == [0, 0],
        "the question was pending in the log, then answered": len(pending) == 1
        and pending in [list(event.summary.answered_requests) for event in log],
        "what was booked is what the person said": booked
        == f"{'paid' if approved else 'refused'} 180 euros to Ms Brandt",
    }
    return verdict(checks)


def render(log: list[CheckpointEvent]) -> str:
    return table(
        ["seq", "superstep", "in flight from", "pending", "answered", "written by"],
        [
            [
                event.seq,
                event.iteration_count,
                ", ".join(event.summary.messages) or "none",
                ", ".join(request.request_id[:8] for request in event.summary.pending_requests),
                ", ".join(request_id[:8] for request_id in event.summary.answered_requests),
                event.actor,
            ]
            for event in log
        ],
        right="seq superstep",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A workflow asks a person, and no process waits for the answer.")
    parser.add_argument("--store", type=place, help="a path or a Cosmos DB endpoint; default: a temporary folder")
    parser.add_argument("--refuse", action="store_true", help="answer no")
    parser.add_argument("--step", choices=["ask", "answer"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    print_in_turns()
    if args.step:
        asyncio.run(ask(args.store) if args.step == "ask" else answer(args.store, approved=not args.refuse))
        return 0
    if is_taken(args.store):
        parser.error(f"{plain(str(args.store))} exists already; this demonstration begins with an empty store")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if demonstrate(args.store or Path(folder, "refund.db"), approved=not args.refuse) else 1


if __name__ == "__main__":
    # Through the module's own name, since the checkpoints name the type as "human_in_the_loop:Approval".
    from human_in_the_loop import main

    sys.exit(main())
