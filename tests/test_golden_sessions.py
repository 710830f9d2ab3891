"""The conversations that released versions wrote are read today, and gone on with; `tests.golden_sessions` says what
they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_framework import Message

from eventckpt import CheckpointAudit, EventHistoryProvider, EventSessionStore, SqliteEventStore
from tests.golden_files import unpacked
from tests.golden_sessions import CONVERSATIONS, SESSIONS_FOLDER, SOURCE, STATE, said_in

FILES = sorted(SESSIONS_FOLDER.glob("*"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    file: Path = request.param
    is_export = file.suffix == ".jsonl"
    async with SqliteEventStore(tmp_path / "c.db" if is_export else unpacked(file, tmp_path)) as store:
        if is_export:
            lines = file.read_bytes().splitlines()  # noqa: ASYNC240 - small
            imported = await CheckpointAudit(store, turns=True).import_lines(lines)
            assert imported.complete
            assert imported.problems == ()
        yield store


async def place_of(store: SqliteEventStore, conversation: str) -> tuple[str, dict[str, object]]:
    """The session of a conversation, and what a lineage carries that stands at its end."""
    if not conversation.startswith("went"):
        return conversation, {}
    branches = [each.run_id async for each in store.sessions().streams(workflow_name=SOURCE, prefix="s~")]
    return "s", {"seq": 3} if conversation == "went-on" else {"seq": 2, "branch": branches[0]}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
async def test_each_conversation_is_read_as_it_was_said_and_goes_on(store: SqliteEventStore, conversation: str) -> None:
    history = EventHistoryProvider(store, SOURCE)
    session_id, state = await place_of(store, conversation)
    read = await history.get_messages(session_id, state=state)
    assert [message.to_dict() for message in read] == said_in(conversation)
    assert read[-1].additional_properties == {"at": (1, 2)}
    await history.save_messages(session_id, [Message("user", ["today"])], state=state)
    again = await history.get_messages(session_id, state=dict(state))
    assert [message.text for message in again] == [*(message.text for message in read), "today"]


async def test_their_records_are_whole(store: SqliteEventStore) -> None:
    verdicts = [verdict async for verdict in CheckpointAudit(store, turns=True).verify_all(decode=True)]
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    assert sum(verdict.events for verdict in verdicts) == 12
    assert await EventHistoryProvider(store, SOURCE).list_sessions() == ["cleared", "forked", "s"]


async def test_the_session_that_was_kept_comes_back(store: SqliteEventStore) -> None:
    session = await EventSessionStore(store).get("s")
    assert session is not None
    assert session.state == STATE
