"""Sessions and their turns, asked for by the same commands as runs."""

from __future__ import annotations

import pytest
from agent_framework import Message

from eventckpt import CheckpointAudit, StreamId
from eventckpt.audit import Point
from eventckpt.stores import AuditStore

from ..conversations import SOURCE, asked, branched, clear_event, forked, looked_up, session, talked, turn_event
from ..engines import Engine
from .conftest import Cli, order_run


def sessions(engine: Engine) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return store.sessions()


@pytest.fixture
async def store(engine: Engine) -> AuditStore:
    """The sessions of a store that has runs, too."""
    await order_run(engine, "order-1")
    return sessions(engine)


async def test_runs_and_sessions_are_in_lists_of_their_own(cli: Cli, store: AuditStore) -> None:
    await talked(store, session(), "one")
    assert [found["run_id"] for found in (await cli.json("runs")).of("run")] == ["order-1"]
    assert [found["session_id"] for found in (await cli.json("sessions")).of("session")] == ["s1"]
    assert await cli.json("runs", "--turns") == await cli.json("sessions")
    assert "No run" in (await cli("history", "s1", code=3)).err
    assert "No session" in (await cli("history", "order-1", "--turns", code=3)).err
    assert [event["workflow_name"] for event in (await cli.json("tail", "--turns", "--limit", "1")).records] == [SOURCE]


async def test_the_history_of_a_session_names_turns_branches_forks_clears_and_prune_records(
    cli: Cli, store: AuditStore
) -> None:
    one, two, three = await talked(store, session(), "one", "two", "three")
    branch = await branched(store, one, "other")
    fork = await forked(store, two, "s2", "more")
    await store.append(clear_event(three, **{branch.run_id: 1}))
    lines = (await cli("history", "s1", "--turns")).out.splitlines()
    assert lines[0].split() == ["seq", "recorded", "type", "turn", "messages", "stored", "about", "actor"]
    assert "turn" in lines[1]
    assert "s1-t1" in lines[1]
    assert "user 1, assistant 1" in lines[1]
    assert "clear" in lines[4]
    assert f"all before is hidden, {branch.run_id} is hidden up to 1" in lines[4]
    assert "branch" in (told := (await cli("history", branch.run_id, "--turns")).out)
    assert "from seq 1 of s1" in told
    assert "fork" in (told := (await cli("history", fork.run_id, "--turns")).out)
    assert "from seq 2 of s1" in told
    assert [event["type"] for event in (await cli.json("history", "s1", "--turns")).of("event")][-1] == "tombstone"
    tail = (await cli("tail", "--turns", "--last", "20", "--limit", "7")).out
    assert {"turn", "branch", "fork", "clear"} <= set(tail.split())


async def test_a_turn_is_shown_by_its_messages_and_nothing_in_it_is_obeyed(cli: Cli, store: AuditStore) -> None:
    messages = [*asked("where is \x1b[31mit\u202e?", "I look"), *looked_up("find\x07"), Message("user", [])]
    await store.append(turn_event(session(), 1, messages, turn_id="t\x1b1", continues="t0"))
    shown = (await cli("show", "s1@1", "--turns")).out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert 'user: "where is ' in shown
    assert 'assistant: "I look"' in shown
    assert "assistant calls find" in shown
    assert "number=7" in shown
    assert "tool gives for call-1: " in shown
    assert "found" in shown
    assert "user: (nothing)" in shown
    assert "continues t0" in shown
    assert "seq 1 of session s1, source chat" in shown
    [turn] = (await cli.json("show", "s1@1", "--turns")).of("turn")
    assert [message["role"] for message in turn["tree"]["messages"]] == [m.role for m in messages]
    assert turn["turn"] == {"roles": {"user": 2, "assistant": 2, "tool": 1}, "continues": "t0", "session": None}
    long = turn_event(session("s2"), 1, asked("x" * 1000, "y"))
    await store.append(long)
    assert "x" * 1000 not in (await cli("show", long.checkpoint_id, "--turns")).out
    assert "x" * 1000 in (await cli("show", long.checkpoint_id, "--turns", "--full")).out


async def test_at_shows_the_conversation_as_it_was_with_what_it_rests_on(cli: Cli, store: AuditStore) -> None:
    one, two, three = await talked(store, session(), "one", "two", "three")
    branch = await branched(store, one, "other")
    fork = await forked(store, two, "s2", "more")
    await store.append(clear_event(three, **{branch.run_id: 1}))
    await store.append(turn_event(session(), 5, asked("five", "5"), previous=clear_event(three, **{branch.run_id: 1})))

    async def questions(name: str, *how: str) -> list[str]:
        turns = (await cli.json("at", name, "--turns", *how)).of("turn")
        return [m["contents"][0]["text"] for turn in turns for m in turn["tree"]["messages"] if m["role"] == "user"]

    assert await questions("s1", "--seq", "2") == ["one", "two"]
    assert await questions("s1", "--seq", "4") == []
    assert await questions("s1") == ["five"]
    assert await questions("s1", "--time", "2026-05-01T10:02:30") == ["one", "two"]
    assert await questions(branch.run_id) == []  # the clear names it
    assert await questions(branch.run_id, "--seq", "1") == ["one", "other"]
    assert await questions(fork.run_id) == ["one", "two", "more"]
    assert 'user: "more"' in (await cli("at", "s2", "--turns")).out
    assert "held no turn" in (await cli("at", "s1", "--turns", "--seq", "4")).err


async def test_a_diff_of_turns_is_the_messages_between_them(cli: Cli, store: AuditStore) -> None:
    one, *_ = await talked(store, session(), "one", "two", "three")
    branch = await branched(store, one, "other")

    async def difference(*words: str) -> list[tuple[str, str, str]]:
        found = (await cli.json("diff", *words, "--turns")).of("difference")
        sides = [(each["change"], each["path"], each["after"] or each["before"]) for each in found]
        return [(change, path, message["contents"][0]["text"]) for change, path, message in sides]

    assert await difference("s1", "--seq", "1..2") == [
        ("added", "messages[2]", "two"),
        ("added", "messages[3]", "two!"),
    ]
    assert await difference("s1", "--seq", "2..2") == []
    assert [each[0] for each in await difference("s1-t2", f"{branch.run_id}@1")] == ["removed"] * 2 + ["added"] * 2
    printed = (await cli("diff", "s1", "--seq", "2..1", "--turns")).out
    assert '- user: "two"' in printed
    assert "0 added, 2 removed" in printed


async def test_a_diff_reads_no_turn_that_both_have(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.open()
    assert isinstance(whole, AuditStore)
    store = whole.sessions()
    await talked(store, session(), *map(str, range(20)))
    asked_for: list[tuple[StreamId, int]] = []
    read_each = type(store).read_each

    async def counted(self: AuditStore, places: list[tuple[StreamId, int]]) -> object:
        asked_for.extend(places)
        return await read_each(self, places)

    monkeypatch.setattr(type(store), "read_each", counted)
    audit = CheckpointAudit(whole, turns=True)
    found = [each async for each in audit.diff_turns(Point(session(), 18), Point(session(), 20))]
    assert len(found) == 4
    assert asked_for == [(session(), 19), (session(), 20)]


async def test_lineage_draws_turns_in_a_line_and_says_what_goes_off_from_them(cli: Cli, store: AuditStore) -> None:
    one, *_ = await talked(store, session(), "one", "two")
    branch = await branched(store, one, "other")
    lines = (await cli("lineage", "s1", "--turns")).out.splitlines()
    assert [line.split()[0] for line in lines] == ["s1-t1", "╲", "s1-t2"]
    assert branch.run_id in lines[1]
    assert "user 1, assistant 1" in lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preflight", "--app", "my_app:build"], "no graph"),
        (["migrate", "s1", "--with", "my_app:change"], "only runs"),
        (["fork", "s1@1", "--as", "s2"], "EventHistoryProvider.fork"),
        (["import-from", "file", "there"], "says itself where it goes"),
        (["backup", "there"], "sessions and runs"),
        (["restore", "there"], "sessions and runs"),
        (["runs", "--pending"], "--pending"),
        (["runs", "--status", "done"], "--status"),
        (["at", "s1", "--iteration", "1"], "--iteration"),
        (["prune", "--all", "--keep", "1", "--finished"], "--finished"),
        (["prune", "--all", "--keep", "1", "--force"], "--force"),
        (["diff", "s1", "--seq", "1..1", "--upcast", "my_app:UP"], "--upcast"),
    ],
)
async def test_what_only_runs_have_is_refused_by_a_sentence(
    cli: Cli, store: AuditStore, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await talked(store, session(), "one")
    monkeypatch.setattr("eventckpt.cli.compare.upcasters_in", lambda names: [])
    refused = await cli(*words, "--turns", code=2)
    assert said in refused.err
    assert "--turns" in refused.err


async def test_the_options_and_words_of_each_command_that_asks_about_turns(cli: Cli, store: AuditStore) -> None:
    await talked(store, session(), "one", "two")
    assert "2 events of 1 sessions verified: all is as it was written." in (await cli("verify", "--all", "--turns")).out
    assert "session s1 of chat: 2 events" in (await cli("verify", "s1", "--turns", "--decode")).out
    assert "2 events replayed; none" in (await cli("replay", "s1", "--turns")).out
    changed = (await cli("changes", "s1", "--turns", "--path", "messages[0].role")).out
    assert changed == 'seq 1: "user"\n'
    assert (await cli("doctor", "--turns", "--allow", "my_app:Order")).code == 0
    planned = (await cli("prune", "s1", "--keep", "1", "--turns")).out
    assert "session s1 of chat: 1 events" in planned


@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_sessions_are_listed_with_their_branches_folded_into_them(
    cli: Cli, store: AuditStore, latest: str
) -> None:
    one, two = await talked(store, session("a"), "one", "two")
    await branched(store, one, "other", "another")
    await forked(store, two, "b", "more")
    [gone] = await talked(store, session("c"), "gone")
    await store.append(clear_event(gone))
    await talked(store, StreamId("eventckpt:sessions", "of a host"), "kept")
    await talked(store, StreamId("other", "d"), "elsewhere")
    found = (await cli.json("sessions", "--latest", latest)).of("session")
    told = {each["session_id"]: (each["source_id"], each["turns"], each["branches"]) for each in found}
    counted = latest == "log"
    assert told == {
        "a": (SOURCE, 4 if counted else None, 1),
        "b": (SOURCE, 2 if counted else None, 0),
        "d": ("other", 1 if counted else None, 0),
    }
    only = (await cli.json("sessions", "--source", "other")).of("session")
    assert [each["session_id"] for each in only] == ["d"]
    assert "There are more" in (await cli("sessions", "--limit", "1")).err
    assert [each["session_id"] for each in (await cli.json("sessions", "--prefix", "a")).of("session")] == ["a"]
    assert "No sessions fit" in (await cli("sessions", "--prefix", "z")).err
    assert "--latest is" in (await cli("sessions", "--latest", "never", code=2)).err
