"""A conversation that goes back with its workflow.

Shows: a history provider beside a checkpoint storage, on one store. Three turns are taken; then the workflow is resumed
from its checkpoint after the first one, and another second turn is taken. The model is shown the past of the checkpoint
and not what came later, and both branches are kept.

Run it:   python samples/chat_with_history.py [--store PATH|ENDPOINT]
You see:  the turns, how much the model was shown in each, and both branches as they are stored. The exit code is 0
          only if the model saw its own past each time, and nothing of either branch is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_framework import Agent, AgentExecutor, Message, Workflow, WorkflowBuilder, WorkflowCheckpoint
from place import Place, is_taken, open_storage, place
from printing import indented, plain, verdict
from scripted_chat import ScriptedChatClient

from eventckpt import EventHistoryProvider, RunCheckpointStorage

NAME = "travel"
RUN_ID = SESSION_ID = "trip-7"
ANSWERS = {
    "A weekend by the sea, please.": "North or south?",
    "In the north.": "Then Husum. By train?",
    "Yes, book it.": "Booked: Husum, by train.",
    "In the south.": "Then Genoa. By train?",
}
FIRST, *THE_NORTH, THE_SOUTH = ANSWERS


class RecordingClient(ScriptedChatClient):
    """Answers from the script, and keeps what it was shown last."""

    def __init__(self) -> None:
        super().__init__(ANSWERS.__getitem__)
        self.shown: list[str] = []

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Any:
        self.shown = texts(messages)
        return super()._inner_get_response(messages=messages, stream=stream, options=options, **kwargs)


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def turns(questions: Sequence[str]) -> list[str]:
    """The texts of these turns."""
    return [text for question in questions for text in (question, ANSWERS[question])]


def build(client: RecordingClient, history: EventHistoryProvider) -> Workflow:
    agent = Agent(client, name="assistant", context_providers=[history])
    executor = AgentExecutor(agent, session=agent.create_session(session_id=SESSION_ID))
    return WorkflowBuilder(start_executor=executor, name=NAME, output_from=[executor]).build()


async def say(workflow: Workflow, question: str, run: RunCheckpointStorage, client: RecordingClient) -> list[str]:
    """Take a turn; what the model was shown in it."""
    await workflow.run(question, checkpoint_storage=run)
    print(f"  you: {question}\n  assistant: {ANSWERS[question]}   (the model was shown {len(client.shown)} messages)")
    return client.shown


async def latest(run: RunCheckpointStorage) -> WorkflowCheckpoint:
    found = await run.get_latest(workflow_name=NAME)
    assert found is not None
    return found


def state_in(checkpoint: WorkflowCheckpoint, history: EventHistoryProvider) -> dict[str, Any]:
    """What a checkpoint says of how far its agent's conversation had come."""
    session = checkpoint.state["_executor_state"]["assistant"]["agent_session"]
    return session["state"][history.source_id]


async def demonstrate(path: Place) -> bool:
    async with open_storage(path) as storage:
        history, client = EventHistoryProvider(storage.store), RecordingClient()
        run = storage.for_run(RUN_ID)
        workflow = build(client, history)
        print(f"THE CONVERSATION, session {SESSION_ID!r} in {plain(str(path))}")
        shown = [await say(workflow, FIRST, run, client)]
        first = await latest(run)
        shown += [await say(workflow, question, run, client) for question in THE_NORTH]
        north = await latest(run)

        print("\nBACK TO THE CHECKPOINT AFTER THE FIRST TURN")
        again, workflow = storage.for_run(RUN_ID), build(client, history)
        await workflow.run(checkpoint_id=first.checkpoint_id, checkpoint_storage=again)
        shown_then = await say(workflow, THE_SOUTH, again, client)
        south = await latest(again)

        kept = {
            name: texts(await history.get_messages(SESSION_ID, state=state_in(checkpoint, history)))
            for name, checkpoint in (("north", north), ("south", south))
        }
        sessions = list(await history.list_sessions())
    for name, branch in kept.items():
        print(f"\nTHE BRANCH TO THE {name.upper()}, as it is kept\n{indented(chr(10).join(branch))}")
    asked = [FIRST, *THE_NORTH]
    return verdict(
        {
            "the model saw the whole past in each of the three turns": shown
            == [[*turns(asked[:number]), question] for number, question in enumerate(asked)],
            "after going back it saw the first turn and nothing later": shown_then == [*turns([FIRST]), THE_SOUTH],
            "both branches are kept": kept == {"north": turns(asked), "south": turns([FIRST, THE_SOUTH])},
            "they are one session": sessions == [SESSION_ID],
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="A conversation goes back with its workflow.")
    parser.add_argument("--store", type=place, help="a path or a Cosmos DB endpoint; default: a temporary folder")
    args = parser.parse_args()
    if is_taken(args.store):
        parser.error(f"{plain(str(args.store))} exists already; this demonstration begins with an empty store")
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(demonstrate(args.store or Path(folder, "travel.db"))) else 1


if __name__ == "__main__":
    sys.exit(main())
