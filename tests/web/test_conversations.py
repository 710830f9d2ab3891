"""The pages of conversations: sessions, what was said in one, its events and its turns."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest
from agent_framework import AgentExecutor, AgentSession, Message, WorkflowBuilder

from eventckpt import (
    CheckpointAudit,
    CosmosEventStore,
    EventHistoryProvider,
    SqliteEventStore,
    StreamId,
)
from eventckpt.history import SESSIONS, Snapshots
from eventckpt.rendering.words import NO_PLACE_FOR_SESSIONS
from eventckpt.stores import AuditStore
from eventckpt.web.page import MAX_BYTES

from ..cli.conftest import Cli
from ..conversations import (
    SOURCE,
    asked,
    branched,
    clear_event,
    damaged,
    forked,
    looked_up,
    session,
    talked,
    turn_event,
)
from ..engines import CosmosEngine, Engine, SqliteEngine
from ..history.models import Model, agent_with
from ..storage.checkpoints import WORKFLOW, checkpoint
from ..storage.removed import audited
from .conftest import viewing_store
from .html import Document, Element, query_of, read

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\"'&"


@pytest.fixture
def store(engine: Engine) -> AuditStore:
    return audited(engine).sessions()


async def page(viewer: httpx.AsyncClient, path: str, code: int = 200, /, **query: Any) -> Document:
    answer = await viewer.get(path, params=query)
    assert answer.status_code == code, answer.text
    assert len(answer.content) < MAX_BYTES
    return read(answer.text)


async def lines(viewer: httpx.AsyncClient, path: str, /, **query: Any) -> str:
    answer = await viewer.get(path, params={**query, "format": "jsonl"})
    assert answer.status_code == 200, answer.text
    return answer.text


def said(document: Element) -> list[tuple[str, str]]:
    """Who says what on a page."""
    found: list[tuple[str, str]] = []
    for each in document.all("div", class_="message"):
        who = each.all(class_="who")
        found.append((who[0].text if who else "", each.one(class_="said").text))
    return found


async def test_the_page_of_conversations_lists_what_the_command_lists_and_goes_on_by_its_token(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    one, two = await talked(store, session("a"), "one", "two")
    await branched(store, one, "other")
    await forked(store, two, "b", "more")
    await talked(store, StreamId("else", HOSTILE), "three")
    engine.settle()
    printed = await cli.json("sessions")
    assert await lines(viewer, "/conversations") == printed.out
    table = (await page(viewer, "/conversations")).table("Sessions, the last active first").records()
    assert [(row["Source"], row["Turns"], row["Branches"]) for row in table] == [
        (each["source_id"], str(each["turns"]), str(each["branches"])) for each in printed.of("session")
    ]
    first = await cli.json("sessions", "--limit", "2")
    token = first.records[-1]["after"]
    assert await lines(viewer, "/conversations", limit=2) == first.out
    assert query_of((await page(viewer, "/conversations", limit=2)).links()["Older"])["after"] == token
    assert await lines(viewer, "/conversations", after=token) == (await cli.json("sessions", "--after", token)).out
    assert await lines(viewer, "/conversations", source="else") == (await cli.json("sessions", "-s", "else")).out
    assert await lines(viewer, "/conversations", prefix="b") == (await cli.json("sessions", "--prefix", "b")).out
    assert "No sessions fit" in (await page(viewer, "/conversations", prefix="nobody")).text


async def test_a_conversation_is_who_said_what_in_order_as_at_prints_it(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    messages = [*asked("where is it?\nsay!", HOSTILE), *looked_up("find"), Message("user", [])]
    first = turn_event(session(), 1, messages)
    await store.append(first)
    await store.append(turn_event(session(), 2, asked("and now", "there"), previous=first))
    engine.settle()
    assert await lines(viewer, "/conversation", session="s1") == (await cli.json("at", "s1", "--turns")).out
    document = await page(viewer, "/conversation", session="s1")
    assert said(document) == [
        ("user", "where is it? say!"),
        ("assistant", "<script>alert(1)</script>\\x1b[31m\\u202e\"'&"),
        ("assistant calls find", "number=7"),
        ("tool gives for call-1", "found \\x1b[2J it"),
        ("user", "(nothing)"),
        ("user", "and now"),
        ("assistant", "there"),
    ]
    assert len(document.all("article")) == 2
    assert not document.all("script", type="")
    earlier = {"session": "s1", "seq": 1}
    assert await lines(viewer, "/conversation", **earlier) == (await cli.json("at", "s1", "--turns", "--seq", "1")).out
    time = "2026-05-01T10:00:00"
    assert (
        await lines(viewer, "/conversation", session="s1", time=time)
        == (await cli.json("at", "s1", "--turns", "--time", time)).out
    )
    assert "Give one" in (await page(viewer, "/conversation", 400, session="s1", seq=1, time=time)).text
    assert "No session is called" in (await page(viewer, "/conversation", 404, session="s2")).text


async def test_branches_are_shown_where_they_go_off_and_what_was_cleared_is_a_link_away(
    viewer: httpx.AsyncClient, engine: Engine, store: AuditStore
) -> None:
    one, two, three = await talked(store, session(), "one", "two", "three")
    branch = await branched(store, one, "other")
    fork = await forked(store, two, "s2", "more")
    engine.settle()
    document = await page(viewer, "/conversation", session="s1", source=SOURCE)
    [at_one, at_two, _] = document.all("article")
    assert query_of(at_one.one("a", class_="id").attributes["href"])["session"] == branch.run_id
    assert not at_two.all("a", class_="id")
    on_branch = await page(viewer, "/conversation", session=branch.run_id)
    assert [each for who, each in said(on_branch) if who == "user"] == ["one", "other"]
    assert "a branch of s1" in on_branch.text
    assert "from seq 2 of s1" in (await page(viewer, "/conversation", session=fork.run_id)).text
    await store.append(clear_event(three, **{branch.run_id: 1}))
    engine.settle()
    cleared = await page(viewer, "/conversation", session="s1")
    assert "held no turn" in cleared.text
    before = query_of(cleared.links()["the conversation before"])
    assert [each for who, each in said(await page(viewer, "/conversation", **before)) if who == "user"] == [
        "one",
        "two",
        "three",
    ]


async def test_the_events_of_a_session_are_what_history_prints_page_by_page(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    *_, last = await talked(store, session(), "one", "two")
    await store.append(clear_event(last))
    engine.settle()
    printed = await cli.json("history", "s1", "--turns")
    assert await lines(viewer, "/conversation/events", session="s1") == printed.out
    table = (await page(viewer, "/conversation/events", session="s1")).table().records()
    assert [(row["Seq"], row["Turn"]) for row in table] == [
        (str(each["seq"]), each["checkpoint_id"]) for each in printed.of("event")
    ]
    assert [row["Type"] for row in table] == ["turn", "turn", "clear"]
    first = await cli.json("history", "s1", "--turns", "--limit", "2")
    assert await lines(viewer, "/conversation/events", session="s1", limit=2) == first.out
    more = query_of((await page(viewer, "/conversation/events", session="s1", limit=2)).links()["Later"])
    assert more["after"] == first.records[-1]["after"]
    assert [row["Seq"] for row in (await page(viewer, "/conversation/events", **more)).table().records()] == ["3"]


async def test_a_turn_is_shown_by_itself_and_so_is_an_event_that_holds_none(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    [one] = await talked(store, session(), "one")
    await store.append(clear_event(one))
    engine.settle()
    assert await lines(viewer, "/turn", session="s1", seq=1) == (await cli.json("show", "s1@1", "--turns")).out
    document = await page(viewer, "/turn", session="s1", seq=1)
    assert said(document) == [("user", "one"), ("assistant", "one!")]
    assert one.digest in document.text
    [stored] = [each for each in document.all("details") if "As it is stored" in each.text]
    assert 'role: "assistant"' in stored.text
    assert "all before is hidden" in (await page(viewer, "/turn", session="s1", seq=2)).text
    assert "seq=7" in (await page(viewer, "/turn", 404, session="s1", seq=7)).text
    assert (await viewer.get("/turn", params={"session": "s1", "seq": 2, "format": "jsonl"})).status_code == 422


async def test_what_a_host_keeps_of_a_session_is_shown_as_that(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    kept = AgentSession(session_id="customer-7")
    kept.state["language"] = HOSTILE
    await Snapshots(store, SESSIONS).set("customer-7", kept.to_dict())
    engine.settle()
    assert (await lines(viewer, "/conversations")) == ""
    listed = await cli.json("sessions", "-s", SESSIONS)
    assert await lines(viewer, "/conversations", source=SESSIONS) == listed.out
    assert len(listed.of("session")) == 1
    assert (
        await lines(viewer, "/conversation", session="customer-7")
        == (await cli.json("at", "customer-7", "--turns")).out
    )
    document = await page(viewer, "/conversation", session="customer-7")
    assert document.title == "What a host keeps of customer-7"
    assert "language" in document.text
    assert "alert(1)" in document.text


async def test_a_long_conversation_is_shown_from_its_end_and_a_page_stays_small(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    await talked(store, session(), *map(str, range(120)))
    engine.settle()
    printed = (await cli.json("at", "s1", "--turns")).out.splitlines(keepends=True)
    assert await lines(viewer, "/conversation", session="s1") == "".join(printed[70:])
    document = await page(viewer, "/conversation", session="s1")
    assert "Turns 71 to 120 of 120" in document.text
    assert "Later" not in document.links()
    seen: list[str] = []
    while True:
        seen = [each for who, each in said(document) if who == "user"] + seen
        if "Earlier" not in document.links():
            break
        document = await page(viewer, "/conversation", **query_of(document.links()["Earlier"]))
    assert seen == [str(number) for number in range(120)]
    assert "Turns 21 to 70" in (await page(viewer, "/conversation", **query_of(document.links()["Later"]))).text


@pytest.mark.parametrize("mark", ["x", "<", "\U000e0001", "\n"])
async def test_messages_of_a_megabyte_are_cut_and_the_page_says_how_much_is_left_out(
    viewer: httpx.AsyncClient, engine: Engine, store: AuditStore, mark: str
) -> None:
    await store.append(turn_event(session(), 1, asked("how?", mark * 1_000_000)))
    await store.append(turn_event(session("many"), 1, [Message("user", [mark * 3_000]) for _ in range(3_000)]))
    engine.settle()
    for path in ("/conversation", "/turn"):
        assert "more characters" in (await page(viewer, path, session="s1", seq=1)).text
        assert "for want of room" in (await page(viewer, path, session="many", seq=1)).text


async def test_a_turn_that_cannot_be_read_is_named_among_those_that_can(
    viewer: httpx.AsyncClient, engine: Engine, store: AuditStore
) -> None:
    good = turn_event(session("s2"), 1, asked("one", "one!"))
    await store.append(good)
    broken = damaged(turn_event(session("s2"), 2, asked("x", "y"), previous=good))
    await store.append(broken)
    engine.settle()
    document = await page(viewer, "/conversation", session="s2")
    [first, second] = document.all("article")
    assert said(first) == [("user", "one"), ("assistant", "one!")]
    assert "cannot be read" in second.text
    assert broken.checkpoint_id in second.text
    refused = await viewer.get("/conversation", params={"session": "s2", "format": "jsonl"})
    assert refused.status_code == 422


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_store_without_a_place_for_sessions_says_so_and_gets_none_by_being_looked_at(
    engine: Engine, cli: Cli, read_only: bool
) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())
    engine.settle()
    at: AuditStore
    if isinstance(engine, SqliteEngine):
        at = SqliteEventStore(engine.path, read_only=read_only)
    else:
        assert isinstance(engine, CosmosEngine)
        settings: dict[str, Any] = {**engine.settings, "read_only": read_only}
        at = CosmosEventStore(**settings)
    async with at, viewing_store(at) as viewer:
        document = await page(viewer, "/conversations")
        assert "There are no sessions yet." in document.text or NO_PLACE_FOR_SESSIONS in document.text
        printed = await cli("sessions")
        assert " ".join(printed.err.split()) in ("No sessions fit.", NO_PLACE_FOR_SESSIONS)
        assert (await cli.json("sessions")).of("session") == []
        await page(viewer, "/conversation", 503 if isinstance(engine, CosmosEngine) and read_only else 404, session="s")
    if isinstance(engine, SqliteEngine):
        with closing(sqlite3.connect(engine.path)) as connection, connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "session_events" not in names
    else:
        assert [check for check in await audited(engine).checks(write=False) if "sessions" in check.name] == []


async def test_names_of_sessions_and_sources_may_be_anything_that_is_text(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, store: AuditStore
) -> None:
    stream = StreamId(f"source {HOSTILE}", f"session {HOSTILE}")
    await talked(store, stream, "one")
    engine.settle()
    [link] = (await page(viewer, "/conversations")).table().rows
    address = next(iter((await page(viewer, "/conversations")).one("tbody").all("a"))).attributes["href"]
    assert query_of(address) == {"session": stream.run_id, "source": stream.workflow_name}
    assert link[0] == "session <script>alert(1)</script>\\x1b[31m\\u202e\"'&"
    for path in ("/conversation", "/conversation/events", "/turn"):
        seq = {"seq": 1} if path == "/turn" else {}
        document = await page(viewer, path, **query_of(address), **seq)
        assert not [each for each in document.all("script") if "src" not in each.attributes]
        assert {query_of(each.attributes["href"])["session"] for each in document.one("main").all("a")} == {
            stream.run_id
        }


async def test_the_runs_of_turns_are_found_by_what_their_checkpoints_have_seen_of_the_session(
    viewer: httpx.AsyncClient, engine: Engine, store: AuditStore
) -> None:
    history = EventHistoryProvider(audited(engine), SOURCE)
    for run_id in ("first", "second"):
        agent = agent_with(history, Model())
        executor = AgentExecutor(agent, session=agent.create_session(session_id="s"))
        workflow = WorkflowBuilder(start_executor=executor, name="talks").build()
        storage = engine.storage().for_run(run_id)
        for number in (1, 2):
            await workflow.run(f"question {number} of {run_id}", checkpoint_storage=storage)
    await history.save_messages("s", asked("and", "outside"))
    engine.settle()
    document = await page(viewer, "/conversation", session="s")
    assert "run first" not in document.text
    found = await page(viewer, "/conversation", **query_of(document.links()["Find the runs of these turns"]))
    runs = [each.all("a", class_="id") for each in found.all("article")]
    assert [[link.text for link in links] for links in runs] == [["first"], ["first"], ["second"], ["second"], []]
    assert query_of(runs[0][0].attributes["href"]) == {"run": "first", "workflow": "talks"}
    events = [query_of(link.attributes["href"]) for link in found.all("a") if "checkpoint at seq" in link.text]
    for turn, where in enumerate(events, 1):
        event = (await engine.open().read(StreamId("talks", where["run"]), int(where["seq"])))[0]
        tree = await CheckpointAudit(audited(engine)).tree(event)
        state: Any = tree["state"]
        assert state["_executor_state"]["assistant"]["agent_session"]["state"][SOURCE]["seq"] == turn
    assert "of none of the runs" in found.all("article")[-1].text
    assert "among the 2 last written to" in found.text
