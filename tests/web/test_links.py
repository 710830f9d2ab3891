"""Where links lead, and what lines answer: over runs of which something is gone, was forked or is damaged."""

from __future__ import annotations

import shlex

import httpx
import pytest
from agent_framework import Message, WorkflowCheckpoint

from eventckpt import CheckpointAudit, EventHistoryProvider
from eventckpt.web.addresses import PAGES
from eventckpt.web.page import MAX_BYTES

from ..cli.conftest import Cli, checkpoint, order_run
from ..conversations import asked, damaged, session, turn_event
from ..engines import Engine
from ..shell import ODD_NAMES, needs_a_shell, words_of
from ..storage.removed import audited
from .html import query_of, read


async def a_store(engine: Engine) -> None:
    """Runs with a fork, a deletion and a checkpoint that follows none that is there, and a session."""
    await order_run(engine, steps=6)
    run, last = engine.storage().for_run("order-2", workflow_name="orders"), None
    for number in range(4):
        last = checkpoint(last, checkpoint_id=f"second-{number}", state={"number": number})
        await run.save(last)
    await run.delete("second-1")
    audit = CheckpointAudit(audited(engine))
    await audit.fork(await audit.event("order-1@4"), "order-3")
    made = WorkflowCheckpoint("orders", "g", checkpoint_id="fourth", previous_checkpoint_id="gone", state={})
    await engine.storage().for_run("order-4", workflow_name="orders").save(made)
    history = EventHistoryProvider(engine.open(), "chat")
    for text in ("one", "two"):
        await history.save_messages("customer-7", [Message("user", [text])], state={})
    engine.settle()


async def test_no_link_leads_to_what_is_not_there(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await a_store(engine)
    seen: dict[str, str] = {}
    rest = [("/runs", ""), ("/conversations", ""), ("/inbox", ""), ("/operations", "")]
    answered: list[tuple[str, str, int]] = []
    while rest:
        path, since = rest.pop()
        if path in seen:
            continue
        seen[path] = since
        answer = await viewer.get(path)
        if answer.status_code != 200:
            answered.append((path, since, answer.status_code))
        elif answer.headers["content-type"].startswith("text/html"):
            links = [link.attributes["href"] for link in read(answer.text).all("a")]
            rest += [(link, path) for link in links if link.startswith("/") and "live=" not in link]
    assert answered == []
    assert len([path for path in seen if path.startswith("/event?")]) > 5
    assert [path for path in seen if path.startswith("/compare?")]


async def test_the_first_of_a_lineage_says_so_and_one_that_follows_what_is_gone_says_that(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await a_store(engine)
    for query, said in (
        ({"event": "order-2@1"}, "is the first of its lineage"),
        ({"event": "fourth"}, "which was removed, or deleted"),
    ):
        page = read((await viewer.get("/event", params=query)).text)
        assert said in page.text
        assert "What changed since the checkpoint that it follows" not in page.links()


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/event", {"event": "order-1@99"}, ["show", "order-1@99"]),
        ("/event", {"event": "none"}, ["show", "none"]),
        ("/event", {"event": "order-2@1", "path": "nowhere"}, None),
        ("/compare", {"before": "order-2@1", "after": "none"}, ["diff", "order-2@1", "none"]),
        ("/run", {"run": "order"}, ["info", "order"]),
        ("/run/history", {"run": "none"}, ["history", "none"]),
        ("/run/lineage", {"run": "none"}, ["lineage", "none"]),
        ("/run/verify", {"run": "none"}, ["verify", "none"]),
        ("/conversation", {"session": "none"}, ["at", "none", "--turns"]),
        ("/conversation/events", {"session": "none"}, ["history", "none", "--turns"]),
        ("/turn", {"session": "customer-7", "seq": "99"}, None),
        ("/runs", {"limit": "0"}, None),
        ("/inbox/question", {"run": "none", "workflow": "w", "request": "q"}, None),
    ],
)
async def test_what_is_refused_is_refused_in_lines_as_the_command_does_with_the_status_of_the_page(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, path: str, query: dict[str, str], words: list[str] | None
) -> None:
    await a_store(engine)
    page = await viewer.get(path, params=query)
    lines = await viewer.get(path, params=query | {"format": "jsonl"})
    assert page.status_code == lines.status_code >= 400
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert (lines.json()["kind"], bool(lines.json()["message"])) == ("error", True)
    if words is not None:
        assert lines.text == (await cli.json(*words, code=lines.json()["code"])).out


async def test_a_turn_that_is_damaged_is_an_alert_with_its_status(engine: Engine, viewer: httpx.AsyncClient) -> None:
    await audited(engine).sessions().append(damaged(turn_event(session(), 1, asked("one", "two"))))
    engine.settle()
    for format_ in ("html", "jsonl"):
        answer = await viewer.get("/turn", params={"session": "s1", "seq": 1, "format": format_})
        assert answer.status_code == 422
        if format_ == "html":
            assert "It cannot be read" in read(answer.text).one(role="alert").text


async def test_where_lines_are_longer_than_an_answer_may_be_the_command_stands_in_place_of_the_link(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    run, before = engine.storage().for_run("large", workflow_name="orders"), None
    for number in range(2):
        state = {f"key {n}": f"{number}" * 1_000 for n in range(1_500)}
        made = WorkflowCheckpoint("orders", "g", previous_checkpoint_id=before, iteration_count=number, state=state)
        before = await run.save(made)
    engine.settle()
    for path, query, words in (
        ("/event", {"event": "large@1"}, ["show", "large@1"]),
        ("/compare", {"before": "large@1", "after": "large@2"}, ["diff", "large@1", "large@2"]),
    ):
        page = read((await viewer.get(path, params=query)).text)
        assert not [link for link in page.all("a") if query_of(link.attributes["href"]).get("format") == "jsonl"]
        assert f"eventckpt {' '.join(words)}" in page.by_id("main").text
        lines = await viewer.get(path, params=query | {"format": "jsonl"})
        assert (lines.status_code, f"eventckpt {' '.join(words)}" in lines.json()["message"]) == (400, True)
        assert len((await cli.json(*words)).out) > MAX_BYTES


RUN = {"run": "order-1", "workflow": "orders"}
SESSION = {"session": "customer-7", "source": "chat"}
EACH: dict[str, list[tuple[dict[str, str], list[str]]]] = {
    "/compare": [({"before": "order-1@2", "after": "order-1@4"}, ["diff", "order-1@2", "order-1@4"])],
    "/event": [({"event": "order-1@2"}, ["show", "order-1@2"]), ({**RUN, "seq": "3"}, ["show", "order-1@3"])],
    "/runs": [({}, ["runs"]), ({"status": "waiting"}, ["runs", "--status", "waiting"])],
    "/run": [(RUN, ["info", "order-1"]), ({"run": "order-3"}, ["info", "order-3"])],
    "/run/history": [(RUN, ["history", "order-1"]), ({**RUN, "last": "2"}, ["history", "order-1", "--last", "2"])],
    "/run/lineage": [(RUN, ["lineage", "order-1"]), ({"run": "order-3"}, ["lineage", "order-3"])],
    "/run/verify": [(RUN, ["verify", "order-1"]), ({**RUN, "decode": "yes"}, ["verify", "order-1", "--decode"])],
    "/runs/counts": [({}, ["runs", "--count"])],
    "/inbox": [({}, ["inbox"])],
    "/conversations": [({}, ["sessions"]), ({"source": "chat"}, ["sessions", "--source", "chat"])],
    "/conversation": [
        (SESSION, ["at", "customer-7", "--turns"]),
        (SESSION | {"seq": "1"}, ["at", "customer-7", "--turns", "--seq", "1"]),
    ],
    "/conversation/events": [(SESSION, ["history", "customer-7", "--turns"])],
    "/turn": [(SESSION | {"seq": "2"}, ["show", "customer-7@2", "--turns"])],
}
"""By its path, what a page is asked for, and the command that is asked for the same."""
OF_OTHERS = {
    "/operations": "of `eventckpt-projector status`, in test_operations.py",
    "/operations/checks": "a part of `doctor`, in test_operations.py",
    "/operations/types": "a part of `doctor`, in test_operations.py",
    "/inbox/question": "one of `inbox`, in test_inbox.py",
    "/sign-in": "says nothing of a store",
}


def test_each_page_has_its_command() -> None:
    assert EACH.keys() | OF_OTHERS.keys() == PAGES.keys()
    assert not EACH.keys() & OF_OTHERS.keys()


@pytest.mark.parametrize("path", EACH)
async def test_the_lines_of_a_page_are_what_its_command_prints(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, path: str
) -> None:
    await a_store(engine)
    for query, words in EACH[path]:
        lines = await viewer.get(path, params=query | {"format": "jsonl"})
        assert lines.status_code == 200
        assert lines.text == (await cli.json(*words)).out
        assert lines.text


@pytest.mark.parametrize("path", EACH)
async def test_the_command_that_stands_in_place_of_lines_that_are_too_long_prints_these_lines(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await a_store(engine)
    for query, asked_by in EACH[path]:
        lines = (await viewer.get(path, params=query | {"format": "jsonl"})).text
        with monkeypatch.context() as small:
            small.setattr("eventckpt.web.page.MAX_BYTES", len(lines) - 1)
            page = read((await viewer.get(path, params=query)).text)
        if path in WITHOUT_COMMAND:
            assert "JSON lines" in page.links()
            continue
        [shown] = [each for each in page.by_id("main").all("code") if each.text.startswith(f"eventckpt {asked_by[0]} ")]
        words = shlex.split(shown.text)[1:]
        assert (await cli(*words)).out == lines


@needs_a_shell
@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_shell_gives_back_the_names_in_such_a_command(
    viewer: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await engine.storage().for_run(name, workflow_name=name).save(WorkflowCheckpoint(name, "g"))
    engine.settle()
    monkeypatch.setattr("eventckpt.web.page.MAX_BYTES", 10)
    for path, query, words in (
        ("/run/history", {}, ["history", name]),
        ("/event", {"seq": "1"}, ["show", f"{name}@1"]),
    ):
        page = read((await viewer.get(path, params={"run": name, "workflow": name, **query})).text)
        said = [each.text for each in page.by_id("main").all("code")]
        [shown] = [each for each in said if each.startswith(f"eventckpt {words[0]}")]
        given = await words_of(shown)
        assert given[given.index("--workflow") + 1] == name
        assert words == [given[0], given[-1] if "--" in given else given[1]]


WITHOUT_COMMAND = {"/runs", "/runs/counts", "/inbox", "/conversations"}
"""Lists, a page of which is never that long."""
