"""Lineages in places where they are easily lost: on one session object at once, on branches of branches, in pages."""

from __future__ import annotations

import asyncio
import copy
import tracemalloc
from typing import Any

import pytest
from agent_framework import Content, Message

from eventckpt import CheckpointEncodeError
from eventckpt.history import EventHistoryProvider, StoredMessage

from .histories import Histories, question_and_answer, stored
from .models import said


@pytest.mark.parametrize("runs", [2, 5])
async def test_runs_that_share_a_session_object_are_one_lineage(histories: Histories, runs: int) -> None:
    history = histories.open()
    state: dict[str, Any] = {}
    await history.save_messages("s", question_and_answer("first"), state=state)

    async def run(number: int) -> None:
        await history.get_messages("s", state=state)
        await history.save_messages("s", question_and_answer(f"run {number}"), state=state)

    await asyncio.gather(*map(run, range(runs)))
    histories.settle()
    texts = said(await history.get_messages("s", state=state))
    assert set(texts) == set(
        said([m for q in ("first", *(f"run {n}" for n in range(runs))) for m in question_and_answer(q)])
    )
    assert len(texts) == 2 * (1 + runs)
    assert await stored(history) == texts
    assert "branch" not in state


async def branch_of_a_branch(history: EventHistoryProvider) -> str:
    """Of the session "s"; by the id of its branch, which is also one to ask for."""
    state: dict[str, Any] = {"seq": 0}
    await history.save_messages("s", question_and_answer("main"))
    await history.save_messages("s", question_and_answer("branch"), state=state)
    beyond: dict[str, Any] = {"seq": 0}
    await history.save_messages(state["branch"], question_and_answer("beyond"), state=beyond)
    assert beyond["branch"] != state["branch"]
    return beyond["branch"]


@pytest.mark.parametrize("operation", ["clear", "erase"])
async def test_a_branch_of_a_branch_is_one_of_the_session(histories: Histories, operation: str) -> None:
    history = histories.open()
    branch = await branch_of_a_branch(history)
    histories.settle()
    assert await stored(history, branch) == said(question_and_answer("beyond"))
    assert await history.list_sessions() == ["s"]
    await getattr(history, operation)("s")
    histories.settle()
    assert await stored(history, branch) == []
    assert await history.list_sessions() == []


async def pages(history: EventHistoryProvider, session_id: str, limit: int) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    before: int | None = None
    while page := await history.messages(session_id, before_seq=before, limit=limit):
        found[:0] = page
        before = page[0].seq
        assert len(found) < 100
    return found


@pytest.mark.parametrize("limit", [1, 2, 4, 100])
async def test_pages_go_on_into_what_a_session_was_forked_from(histories: Histories, limit: int) -> None:
    history = histories.open()
    for number in range(5):
        await history.save_messages("s", question_and_answer(f"s {number}"))
    await history.fork("s", "f", upto_seq=4)
    for number in range(3):
        await history.save_messages("f", question_and_answer(f"f {number}"))
    await history.fork("f", "g", upto_seq=3)
    await history.save_messages("g", question_and_answer("g"))
    histories.settle()
    for session_id in ("f", "g"):
        found = await pages(history, session_id, limit)
        assert said(found) == await stored(history, session_id)
        assert [each.seq for each in found] == sorted(each.seq for each in found)
        assert all(each.seq == each.stream_seq for each in found if each.run_id == session_id)
    assert [(each.seq, each.run_id, each.stream_seq) for each in (await pages(history, "g", limit))[::2]] == [
        *[(seq - 7, "s", seq) for seq in range(1, 5)],
        *[(seq - 3, "f", seq) for seq in range(2, 4)],
        (2, "g", 2),
    ]


async def test_a_page_before_what_is_not_there_yet_ends_with_the_newest(histories: Histories) -> None:
    history = histories.open()
    await history.save_messages("s", question_and_answer("one"))
    histories.settle()
    assert said(await history.messages("s", before_seq=9)) == said(question_and_answer("one"))


async def test_what_is_remembered_of_ids_is_bounded_whatever_their_length(histories: Histories) -> None:
    history = histories.open(dedupe="ids")
    tracemalloc.start()
    try:
        for number in range(60):
            await history.save_messages(f"s{number}", [Message("user", ["x"], message_id=str(number) * 1_000_000)])
        assert tracemalloc.get_traced_memory()[0] < 80_000_000
    finally:
        tracemalloc.stop()


async def test_properties_are_kept_as_they_are_wherever_contents_lie_in_contents(histories: Histories) -> None:
    history = histories.open()
    call = Content.from_function_call("c", "look_up", arguments={}, additional_properties={"raw": b"\x00\xff"})
    asked = Content.from_function_approval_request("a", call)
    await history.save_messages("s", [Message("assistant", [asked])])
    histories.settle()
    [message] = await history.get_messages("s")
    kept = message.contents[0].function_call
    assert kept is not None
    assert kept.additional_properties == {"raw": b"\x00\xff"}


def in_itself() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    properties["self"] = properties
    return properties


def deep() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for _ in range(5_000):
        properties = {"in": properties}
    return properties


@pytest.mark.parametrize("make", [in_itself, deep])
async def test_a_message_that_cannot_be_written_is_refused_by_name(histories: Histories, make: Any) -> None:
    history = histories.open()
    with pytest.raises(CheckpointEncodeError, match=r"[Mm]essage"):
        await history.save_messages("s", [Message("user", ["x"], additional_properties=make())])
    assert await stored(history) == []


@pytest.mark.parametrize(
    ("messages", "state"), [(["text"], None), ([Message("user", ["x"])], []), ([Message("user", ["x"])], "state")]
)
async def test_what_is_no_message_and_no_state_is_a_type_error(histories: Histories, messages: Any, state: Any) -> None:
    history = histories.open()
    with pytest.raises(TypeError):
        await history.save_messages("s", messages, state=copy.deepcopy(state))
    assert await stored(history) == []


@pytest.mark.parametrize(
    ("upto_seq", "error"), [(True, TypeError), ("1", TypeError), (1.0, TypeError), (0, ValueError)]
)
async def test_a_fork_begins_at_a_seq(histories: Histories, upto_seq: Any, error: type[Exception]) -> None:
    history = histories.open()
    await history.save_messages("s", question_and_answer("one"))
    histories.settle()
    with pytest.raises(error, match="upto_seq"):
        await history.fork("s", "f", upto_seq=upto_seq)
