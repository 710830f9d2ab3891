"""What the conversations in `tests/golden/sessions` are, and how the files of a version are made: with those of
`tests.golden_files`."""

from __future__ import annotations

import gzip
from pathlib import Path

from agent_framework import AgentSession, Content, Message

from eventckpt import CheckpointAudit, EventHistoryProvider, EventSessionStore, SqliteEventStore
from tests.golden_files import FOLDER

__all__ = ["CONVERSATIONS", "SESSIONS_FOLDER", "SOURCE", "STATE", "said_in", "write_sessions"]

SESSIONS_FOLDER = FOLDER / "sessions"
SOURCE = "golden"

CONVERSATIONS = {
    "went-on": ["one", "two", "three"],
    "went-back": ["one", "two instead", "three instead"],
    "forked": ["one", "two", "of the fork"],
    "cleared": ["after the clear"],
}
"""The questions of each conversation, as a lineage reads them that stands at its end. The first two are one session."""

STATE = {"seen": 3, "by": ["somebody"], "nested": {"ok": True}}
"""Of the stored session."""


def turn(question: str) -> list[Message]:
    """A turn with a call of a tool in it, and of the second question a picture."""
    name = question.replace(" ", "-")
    asked: list[str | Content] = [question]
    if question == "two":
        asked.append(Content.from_data(bytes(range(256)) * 20, "image/png"))
    return [
        Message("user", asked, message_id=f"{name}-1", author_name="somebody"),
        Message(
            "assistant",
            [Content.from_function_call(f"call-{name}", "look_up", arguments={"what": question})],
            message_id=f"{name}-2",
        ),
        Message("tool", [Content.from_function_result(f"call-{name}", result="found")], message_id=f"{name}-3"),
        Message("assistant", ["answer to " + question], message_id=f"{name}-4", additional_properties={"at": (1, 2)}),
    ]


def said_in(conversation: str) -> list[dict[str, object]]:
    """The messages of a conversation, as the framework writes them."""
    return [message.to_dict() for question in CONVERSATIONS[conversation] for message in turn(question)]


async def write_sessions(version: str, path: Path) -> None:
    """The files of this version."""
    async with SqliteEventStore(path / "sessions.db") as store:
        history = EventHistoryProvider(store, SOURCE, actor="golden")
        state: dict[str, object] = {}
        await history.save_messages("s", turn("one"), state=state)
        back = dict(state)
        for question in ("two", "three"):
            await history.save_messages("s", turn(question), state=state)
        for question in ("two instead", "three instead"):
            await history.save_messages("s", turn(question), state=back)
        await history.fork("s", "forked", upto_seq=2)
        await history.save_messages("forked", turn("of the fork"))
        await history.save_messages("cleared", turn("before the clear"))
        await history.clear("cleared")
        begun = turn("after the clear")
        parts: dict[str, object] = {}
        await history.save_messages("cleared", begun[:2], state=parts)
        await history.save_messages("cleared", begun[2:], state=parts)
        session = AgentSession(session_id="s")
        session.state.update(STATE)
        await EventSessionStore(store).set("s", session)
        lines = [line async for line in CheckpointAudit(store, turns=True).export()]
    (SESSIONS_FOLDER / f"{version}.db.gz").write_bytes(gzip.compress((path / "sessions.db").read_bytes(), mtime=0))
    (SESSIONS_FOLDER / f"{version}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
