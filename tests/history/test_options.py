"""What the options of a provider and its further methods do, on every engine."""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Literal

import pytest
from agent_framework import AgentSession, ChatResponse, ChatResponseUpdate, Content, Message

from eventckpt import CosmosHistoryProvider, SessionConflictError, StoreUnavailableError
from eventckpt.history import EventHistoryProvider

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import Engine, where
from .histories import Histories, question_and_answer, stored
from .models import Model, agent_with, said, turn_of

ON_CONFLICT = ["branch", "append", "raise"]


async def ask(history: EventHistoryProvider, session: AgentSession, *questions: str, per_call: bool = False) -> None:
    agent = agent_with(history, Model(), per_call=per_call)
    for question in questions:
        await agent.run(question, session=session)


async def seen(history: EventHistoryProvider, session: AgentSession) -> list[str]:
    """What an agent would be shown that goes on with a session."""
    state = copy.deepcopy(session.state[history.source_id])
    return said(await history.get_messages(session.session_id, state=state))


# on_conflict


@pytest.mark.parametrize("on_conflict", ON_CONFLICT)
async def test_a_turn_whose_place_is_taken_goes_where_on_conflict_says(
    histories: Histories, on_conflict: Literal["branch", "append", "raise"]
) -> None:
    history = histories.open(on_conflict=on_conflict)
    session = AgentSession(session_id="s")
    await ask(history, session, "one")
    other = AgentSession.from_dict(session.to_dict())
    await ask(history, session, "two")
    if on_conflict == "raise":
        with pytest.raises(SessionConflictError, match=r"'s'.*seq 2 is taken"):
            await ask(history, other, "three")
    else:
        await ask(history, other, "three")
    histories.settle()

    main = [*turn_of("one"), *turn_of("two")]
    after = {
        "branch": (main, [*turn_of("one"), *turn_of("three")]),
        "append": ([*main, *turn_of("three")], [*main, *turn_of("three")]),
        "raise": (main, turn_of("one")),
    }
    assert (await stored(histories.open()), await seen(histories.open(), other)) == after[on_conflict]


@pytest.mark.parametrize("on_conflict", ON_CONFLICT)
@pytest.mark.parametrize("ids", [False, True])
async def test_a_turn_that_is_tried_again_is_no_conflict(histories: Histories, on_conflict: str, *, ids: bool) -> None:
    """By the ids that the first try gave its messages, or by their own."""
    messages = question_and_answer("two")
    if ids:
        for number, message in enumerate(messages):
            message.message_id = f"m{number}"
    state: dict[str, Any] = {"seq": 0}
    first = histories.open(on_conflict=on_conflict)
    await first.save_messages("s", question_and_answer("one"), state=state)
    again = dict(state)
    await first.save_messages("s", messages, state=state)
    histories.settle()
    await histories.open(on_conflict=on_conflict).save_messages("s", messages, state=again)
    histories.settle()
    assert again == state
    assert await stored(histories.open()) == [*turn_of("one"), *turn_of("two")]


@pytest.mark.parametrize("on_conflict", ON_CONFLICT)
async def test_without_a_seq_a_turn_goes_behind_whatever_came_meanwhile(histories: Histories, on_conflict: str) -> None:
    one, other = histories.open(on_conflict=on_conflict), histories.open(on_conflict=on_conflict)
    states: list[dict[str, Any]] = [{}, {}]
    for history, state in zip((one, other), states, strict=True):
        assert await history.get_messages("s", state=state) == []
    await one.save_messages("s", question_and_answer("one"), state=states[0])
    histories.settle()
    await other.save_messages("s", question_and_answer("two"), state=states[1])
    histories.settle()
    assert await stored(histories.open()) == [*turn_of("one"), *turn_of("two")]


async def test_a_session_that_says_it_has_seen_nothing_is_shown_nothing(histories: Histories) -> None:
    """What an application writes into a session that begins with its workflow; see docs/history.md."""
    history = histories.open()
    await ask(history, AgentSession(session_id="s"), "one", "two")
    histories.settle()
    session = AgentSession(session_id="s")
    session.state[history.source_id] = {"seq": 0}
    await ask(histories.open(), session, "three")
    histories.settle()
    assert await seen(history, session) == turn_of("three")
    assert await stored(history) == [*turn_of("one"), *turn_of("two")]


@pytest.mark.parametrize("state", [{"seq": "1"}, {"seq": -1}, {"seq": True}, {"seq": 1, "branch": 5}])
async def test_a_state_that_no_provider_wrote_is_refused(histories: Histories, state: dict[str, Any]) -> None:
    history = histories.open()
    await history.save_messages("s", question_and_answer("one"))
    with pytest.raises(ValueError, match="'s'"):
        await history.get_messages("s", state=dict(state))
    with pytest.raises(ValueError, match="'s'"):
        await history.save_messages("s", question_and_answer("two"), state=dict(state))
    assert await stored(history) == turn_of("one")


# dedupe


def transcript(*questions: str, ids: bool) -> list[Message]:
    """What a client has that sends all of it each time."""
    messages = [message for question in questions for message in question_and_answer(question)]
    for number, message in enumerate(messages):
        message.message_id = f"m{number}" if ids else None
    return messages


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("dedupe", ["ids", "replay", "off"])
async def test_a_transcript_that_is_sent_again_is_stored_once_where_dedupe_says_so(
    histories: Histories, dedupe: str, *, ids: bool
) -> None:
    for count in (1, 2, 3):
        messages = transcript(*["one", "two", "three"][:count], ids=ids)
        await histories.open(dedupe=dedupe).save_messages("s", messages)
        histories.settle()
    once = [*turn_of("one"), *turn_of("two"), *turn_of("three")]
    every = [*once[:2], *once[:4], *once]
    known = dedupe == "replay" or (dedupe == "ids" and ids)
    assert await stored(histories.open()) == (once if known else every)


# max_messages


@pytest.mark.parametrize("per_call", [False, True])
@pytest.mark.parametrize("most", range(1, 12))
async def test_a_load_gives_the_newest_messages_and_cuts_no_call_from_its_result(
    histories: Histories, most: int, *, per_call: bool
) -> None:
    session = AgentSession(session_id="s")
    await ask(histories.open(), session, "one", "look_up: tea coffee", "two", per_call=per_call)
    histories.settle()
    every = [*turn_of("one"), *turn_of("look_up: tea coffee"), *turn_of("two")]
    found = await stored(histories.open(max_messages=most))
    assert found == every[len(every) - len(found) :]
    expected = every[-most:]
    assert found == (expected[1:] if expected[0].startswith("result") else expected)


async def test_what_is_excluded_does_not_count_among_the_newest(histories: Histories) -> None:
    excluded = {"additional_properties": {"_excluded": True}}
    history = histories.open(max_messages=2, skip_excluded=True)
    await history.save_messages("s", question_and_answer("one"))
    await history.save_messages("s", question_and_answer("two", **excluded))
    assert await stored(history) == ["answer to one", "two"]


# actor, messages


async def test_each_turn_says_who_wrote_it(histories: Histories) -> None:
    await histories.open(actor="Ms Brandt").save_messages("s", question_and_answer("one"))
    histories.settle()
    await histories.open(actor="Mr Okafor").save_messages("s", question_and_answer("two"))
    histories.settle()
    found = await histories.open().messages("s")
    assert [(each.seq, each.actor) for each in found] == [(1, "Ms Brandt")] * 2 + [(2, "Mr Okafor")] * 2
    assert len({each.turn_id for each in found}) == 2
    assert {each.run_id for each in found} == {"s"}


@pytest.mark.parametrize("limit", range(1, 9))
async def test_pages_from_the_end_hold_each_message_once(histories: Histories, limit: int) -> None:
    history, session = histories.open(), AgentSession(session_id="s")
    await ask(history, session, "one", "look_up: tea", "two", "three", "look_up: tea coffee")
    every = await stored(history)
    pages: list[list[str]] = []
    before: int | None = None
    while page := await history.messages("s", before_seq=before, limit=limit):
        pages.insert(0, said(page))
        before = page[0].seq
    assert [text for page in pages for text in page] == every


# fork, clear, erase


async def test_a_fork_has_the_past_up_to_a_turn_and_a_future_of_its_own(histories: Histories) -> None:
    history, session = histories.open(), AgentSession(session_id="s")
    await ask(history, session, "one", "two", "three")
    for upto_seq, past in ((1, ["one"]), (3, ["one", "two", "three"]), (None, ["one", "two", "three"])):
        name = f"after {upto_seq}"
        await history.fork("s", name, upto_seq=upto_seq)
        histories.settle()
        await ask(histories.open(), AgentSession(session_id=name), "other")
        histories.settle()
        assert await stored(history, name) == [text for each in [*past, "other"] for text in turn_of(each)]
    await ask(history, session, "four")
    assert len(await stored(history)) == 8
    assert await history.list_sessions() == ["after 1", "after 3", "after None", "s"]
    with pytest.raises(SessionConflictError, match="after 1"):
        await history.fork("s", "after 1")


@pytest.mark.parametrize("operation", ["clear", "erase"])
async def test_what_is_cleared_or_erased_is_shown_to_no_branch(histories: Histories, operation: str) -> None:
    history, session = histories.open(), AgentSession(session_id="s")
    await ask(history, session, "one")
    other = AgentSession.from_dict(session.to_dict())
    await ask(history, session, "two")
    await ask(history, other, "three")
    await ask(history, AgentSession(session_id="another"), "four")
    histories.settle()
    await getattr(histories.open(), operation)("s")
    histories.settle()
    for each in (history, histories.open()):
        assert await stored(each) == []
        assert await seen(each, session) == []
        assert await seen(each, other) == []
        assert await stored(each, "another") == turn_of("four")


async def test_erasing_leaves_no_payload(histories: Histories, engine: Engine) -> None:
    history = histories.open(source_id="chat")
    for question in ("one", "two"):
        await history.save_messages("s", question_and_answer(question))
    assert await history.erase("s") == 2
    histories.settle()
    sessions = engine.open().sessions()
    left = [header async for header in sessions.workflow_headers("chat")]
    assert [(header.type, header.payload) for header in left] == [("tombstone", None)]


async def test_a_session_is_cleared_beside_its_writers(histories: Histories) -> None:
    """Whatever is shown afterwards was saved behind the clearing."""
    history, cleaner = histories.open(), histories.open()
    texts = [f"question {number}" for number in range(6)]
    await asyncio.gather(
        *(history.save_messages("s", [Message("user", [text])]) for text in texts[:3]),
        cleaner.clear("s"),
        *(history.save_messages("s", [Message("user", [text])]) for text in texts[3:]),
    )
    histories.settle()
    assert set(await stored(histories.open())) <= set(texts)
    await cleaner.clear("s")
    histories.settle()
    assert await stored(histories.open()) == []


# What is not there


@pytest.mark.parametrize("behind", ["nothing", "a turn"])
async def test_less_than_a_session_has_seen_is_never_given_for_all_of_it(histories: Histories, behind: str) -> None:
    """A replica that lags, another store, an older copy: the state says what there was."""
    history = histories.open()
    if behind == "a turn":
        await history.save_messages("s", question_and_answer("one"))
    histories.settle()
    for dedupe in ("ids", "replay", "off"):
        other = histories.open(dedupe=dedupe)
        with pytest.raises(StoreUnavailableError, match=r"seq 5 of 's'.*ends at seq [01]\."):
            await other.get_messages("s", state={"seq": 5})
        with pytest.raises(StoreUnavailableError, match=r"seq 5 of 's'"):
            await other.save_messages("s", question_and_answer("two"), state={"seq": 5})
    assert await stored(history) == (turn_of("one") if behind == "a turn" else [])


async def test_a_process_whose_replica_lags_hears_of_it_and_is_shown_all_a_moment_later() -> None:
    switches = Switches(lag=1, lag_seconds=3600, clients_wait=True)
    async with CosmosEmulator(switches=switches) as server:
        writer, reader = (CosmosHistoryProvider(**where(server)) for _ in range(2))
        async with writer, reader:
            session = AgentSession(session_id="s")
            await ask(writer, session, "one")
            server.catch_up()
            assert await seen(reader, session) == turn_of("one")
            await ask(writer, session, "two")
            with pytest.raises(StoreUnavailableError, match="seq 2 of 's'"):
                await ask(reader, AgentSession.from_dict(session.to_dict()), "three")
            server.catch_up()
            assert await seen(reader, session) == [*turn_of("one"), *turn_of("two")]
            await ask(reader, session, "three")
            assert len(await seen(reader, session)) == 6


# what is near a session and none of it


async def test_a_session_with_a_long_id_has_no_branches_of_another_one(histories: Histories) -> None:
    history, short = histories.open(), "a" * 242
    longer = f"{short}b"  # their branches' names begin alike
    state: dict[str, Any] = {"seq": 0}
    for session_id in (short, longer):
        await history.save_messages(session_id, question_and_answer("one"))
    await history.save_messages(short, question_and_answer("another one"), state=state)
    await history.erase(longer)
    assert said(await history.get_messages(short, state=state)) == ["another one", "answer to another one"]


async def test_a_state_leads_into_no_other_session(histories: Histories) -> None:
    history = histories.open()
    state: dict[str, Any] = {"seq": 0}
    await history.save_messages("s", question_and_answer("one"))
    await history.save_messages("s", question_and_answer("another one"), state=state)
    for foreign in (state, {"branch": "s"}):
        with pytest.raises(ValueError, match="which no history provider wrote"):
            await history.get_messages("other", state=dict(foreign))


@pytest.mark.parametrize("dedupe", ["ids", "replay"])
async def test_messages_that_are_saved_again_behind_others_are_stored_once(histories: Histories, dedupe: str) -> None:
    history, turn = histories.open(dedupe=dedupe), question_and_answer("one")
    await history.save_messages("s", turn)
    await history.save_messages("s", question_and_answer("two"))
    await history.save_messages("s", turn)
    assert await stored(history) == ["one", "answer to one", "two", "answer to two"]


@pytest.mark.parametrize("most", range(1, 9))
async def test_the_newest_messages_are_the_last_of_all_where_turns_overlap(histories: Histories, most: int) -> None:
    history = histories.open()
    state: dict[str, Any] = {}
    await history.save_messages("s", question_and_answer("one"))
    await history.get_messages("s", state=state)
    call, result = Content.from_function_call("c", "look_up"), Content.from_function_result("c", result="tea")
    await history.save_messages("s", [Message("user", ["two"]), Message("assistant", [call])], state=state)
    await history.save_messages("s", question_and_answer("three"))
    await history.save_messages("s", [Message("tool", [result]), Message("assistant", ["done"])], state=state)
    every = await stored(history)
    assert every[-2:] == ["three", "answer to three"]
    newest = await stored(histories.open(max_messages=most))
    assert newest == every[-len(newest) :]
    assert len(newest) == most or every[-most].startswith("result")
    pages: list[list[str]] = []
    before: int | None = None
    while page := await history.messages("s", before_seq=before, limit=most):
        pages.insert(0, said(page))
        before = page[0].seq
        if before == 1:
            break
    assert [text for page in pages for text in page] == every


async def test_what_one_stream_of_updates_became_is_kept_whole(histories: Histories) -> None:
    call, result = Content.from_function_call("c", "look_up"), Content.from_function_result("c", result="tea")
    contents = {"assistant": call, "tool": result}
    updates = [ChatResponseUpdate(role=role, contents=[of], message_id="r") for role, of in contents.items()]
    updates.append(ChatResponseUpdate(role="assistant", contents=[Content.from_text("done")], message_id="r"))
    answers = ChatResponse.from_updates(updates).messages
    history, turn = histories.open(), [Message("user", ["one"]), *answers]
    for _ in range(2):
        await history.save_messages("s", [*turn, answers[0]])
    assert await stored(history) == ["one", "call c", "result c: tea", "done"]
