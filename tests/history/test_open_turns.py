"""A turn that is saved call by call is one turn: nobody's comes between its calls and their results, whoever saves
meanwhile."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agent_framework import Content, Message

from .histories import Histories, question_and_answer, stored
from .models import said


def called(*names: str) -> Message:
    return Message("assistant", [Content.from_function_call(name, "look_up", arguments={}) for name in names])


def answered(*names: str) -> Message:
    return Message("tool", [Content.from_function_result(name, result=f"result of {name}") for name in names])


PARTS = {
    "one call": [
        [Message("user", ["one"]), called("a")],
        [answered("a"), Message("assistant", ["done"])],
    ],
    "two calls, one behind the other": [
        [Message("user", ["one"]), called("a")],
        [answered("a"), called("b")],
        [answered("b"), Message("assistant", ["done"])],
    ],
    "two calls at once": [
        [Message("user", ["one"]), called("a", "b")],
        [answered("a", "b"), Message("assistant", ["done"])],
    ],
}


def flat(parts: list[list[Message]]) -> list[str]:
    return said([message for part in parts for message in part])


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("carries", [False, True], ids=["a request of its own", "a session that goes on"])
async def test_what_others_save_between_the_calls_of_a_turn_is_read_behind_it(
    histories: Histories, kind: str, *, carries: bool
) -> None:
    parts: list[list[Message]] = copy.deepcopy(PARTS[kind])
    history, other = histories.open(on_conflict="append"), histories.open()
    state: dict[str, Any] = {}
    before: list[Message] = []
    if carries:
        before = question_and_answer("zero")
        await history.save_messages("s", before, state=state)
    for number, part in enumerate(parts):
        own = said([*before, *(message for done in parts[:number] for message in done)])
        assert said(await history.get_messages("s", state=state))[: len(own)] == own
        await history.save_messages("s", part, state=state)
        histories.settle()
        await other.save_messages("s", question_and_answer(f"meanwhile {number}"))
        histories.settle()
    texts = await stored(other)
    whole = [*said(before), *flat(parts)]
    assert texts[: len(whole)] == whole
    assert texts[len(whole) :] == said(
        [message for number in range(len(parts)) for message in question_and_answer(f"meanwhile {number}")]
    )


async def test_a_turn_that_waits_for_its_tools_is_shown_nothing_that_came_since(histories: Histories) -> None:
    history = histories.open()
    first, second = copy.deepcopy(PARTS["one call"])
    state: dict[str, Any] = {}
    await history.get_messages("s", state=state)
    await history.save_messages("s", first, state=state)
    await histories.open().save_messages("s", question_and_answer("meanwhile"))
    histories.settle()
    assert said(await history.get_messages("s", state=state)) == said(first)
    await history.save_messages("s", second, state=state)
    histories.settle()
    assert await stored(history) == [*flat([first, second]), *said(question_and_answer("meanwhile"))]


async def test_a_lineage_that_branches_in_the_middle_of_a_turn_keeps_the_turn_whole(histories: Histories) -> None:
    history = histories.open()
    state: dict[str, Any] = {}
    await history.save_messages("s", question_and_answer("zero"), state=state)
    parts = copy.deepcopy(PARTS["two calls, one behind the other"])
    await history.save_messages("s", parts[0], state=state)
    await histories.open().save_messages("s", question_and_answer("meanwhile"))
    histories.settle()
    for part in parts[1:]:
        await history.save_messages("s", part, state=state)
        histories.settle()
    assert said(await history.get_messages("s", state=state)) == [*said(question_and_answer("zero")), *flat(parts)]
    assert state["branch"].startswith("s~")
    assert "open" not in state


@pytest.mark.parametrize("operation", ["clear", "erase"])
async def test_what_is_left_of_a_turn_whose_calls_are_gone_has_no_results_of_them(
    histories: Histories, operation: str
) -> None:
    history = histories.open()
    first, second = copy.deepcopy(PARTS["one call"])
    state: dict[str, Any] = {}
    await history.get_messages("s", state=state)
    await history.save_messages("s", first, state=state)
    await getattr(history, operation)("s")
    await history.save_messages("s", second, state=state)
    histories.settle()
    there = ["done"]
    assert said(await history.get_messages("s", state=state)) == there
    assert await stored(history) == (there if operation == "clear" else [])  # what was erased is gone on with aside
    await history.save_messages("s", question_and_answer("and then"), state=state)
    histories.settle()
    there += said(question_and_answer("and then"))
    assert said(await history.get_messages("s", state=state)) == there
    assert await stored(history) == (there if operation == "clear" else [])


async def test_a_turn_that_two_go_on_with_has_the_results_of_one(histories: Histories) -> None:
    """As where an approval is sent twice, each time with the session as it was kept."""
    history = histories.open()
    first, second = copy.deepcopy(PARTS["one call"])
    states: list[dict[str, Any]] = [{}]
    await history.get_messages("s", state=states[0])
    await history.save_messages("s", first, state=states[0])
    states.append(copy.deepcopy(states[0]))
    again = copy.deepcopy(second)
    for state, part in zip(states, (second, again), strict=True):
        await history.save_messages("s", part, state=state)
        histories.settle()
    assert await stored(history) == flat([first, second])
    assert said(await history.get_messages("s", state=states[1])) == flat([first, again])
    assert states[1]["branch"].startswith("s~")
