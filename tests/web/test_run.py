"""The pages of one run: what it amounts to, what happened in it, and its events."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from eventckpt import CheckpointAudit, CheckpointEvent, StreamId
from eventckpt.chain import sealed
from eventckpt.events import PendingRequest, Summary
from eventckpt.storage.compose import claim_after
from eventckpt.storage.memory import Head
from eventckpt.stores import AuditStore
from eventckpt.testing.events import make_event, of_every_kind, record_of
from eventckpt.web.pages import whole_run

from ..cli.conftest import WORKFLOW, Cli, order_run
from ..engines import Engine
from ..storage.removed import audited
from .html import Document, query_of, read

RUN = StreamId(WORKFLOW, "order-1")
NAME = {"run": RUN.run_id, "workflow": RUN.workflow_name}


async def page_of(viewer: httpx.AsyncClient, path: str, *, status: int = 200, **query: Any) -> Document:
    """A page, which is one of no more bytes than a page may have."""
    answer = await viewer.get(path, params={**NAME, **query})
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) < 1_000_000
    return read(answer.text)


async def lines_of(viewer: httpx.AsyncClient, path: str, **query: Any) -> str:
    answer = await viewer.get(path, params={**NAME, **query, "format": "jsonl"})
    assert answer.status_code == 200, answer.text
    return answer.text


async def kept(engine: Engine, stream: StreamId, *events: CheckpointEvent) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(stream, events)
    engine.settle()


def marked(page: Document) -> dict[str, str]:
    """Of each column of the timeline that leads somewhere the text alternative, by where it leads."""
    return {link.attributes["href"]: link.attributes["aria-label"] for link in page.one("svg").all("a")}


async def an_annotated_run(engine: Engine) -> None:
    """A run with steps, a question, a claim, a hold, a failure, and another run that forked from it."""
    await order_run(engine, steps=4)
    store = audited(engine)
    made = CheckpointAudit(store, actor="Ada")
    head = [header async for header in store.headers(RUN)][-1]
    await store.append(claim_after(RUN, Head.of(head), None, (), "Ada"))
    await made.annotate(RUN, tags={"customer": "c-17"}, hold=True)
    await made.annotate(RUN, outcome="failed", reason="broken <b>")
    await made.fork(await made.event("order-1@2"), "order-1~again")
    engine.settle()


@pytest.mark.parametrize(
    ("path", "query", "words", "code"),
    [
        ("/run", {}, ["info"], 0),
        ("/run/history", {"limit": "2"}, ["history", "--limit", "2"], 0),
        ("/run/history", {"last": "2"}, ["history", "--last", "2"], 0),
        ("/run/lineage", {}, ["lineage"], 0),
        ("/run/lineage", {"forks": "no"}, ["lineage", "--no-forks"], 0),
        ("/run/verify", {}, ["verify"], 0),
        ("/run/verify", {"decode": "yes", "projection": "yes"}, ["verify", "--decode", "--projection"], 1),
    ],
    ids=str,
)
async def test_a_page_has_the_lines_of_its_command_for_the_same_query(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, path: str, query: dict[str, str], words: list[str], code: int
) -> None:
    await an_annotated_run(engine)
    printed = await cli.json(words[0], RUN.run_id, *words[1:], code=code)
    assert printed.out
    assert await lines_of(viewer, path, **query) == printed.out


async def test_the_end_of_a_run_and_a_part_of_it_are_not_asked_for_at_once(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await an_annotated_run(engine)
    answer = await viewer.get("/run/history", params={**NAME, "last": "2", "limit": "1"})
    assert answer.status_code == 400
    printed = await cli("history", RUN.run_id, "--last", "2", "--limit", "1", code=2)
    for said in (read(answer.text).one(role="alert").text, " ".join(printed.err.split())):
        assert "the one begins at the end, the others lead to it." in said


async def test_the_page_of_a_run_shows_what_its_lines_say(viewer: httpx.AsyncClient, cli: Cli, engine: Engine) -> None:
    await an_annotated_run(engine)
    page = await page_of(viewer, "/run")
    said = {term.text: text.text for term, text in zip(page.all("dt"), page.all("dd"), strict=True)}
    assert (said["run"], said["workflow"]) == (RUN.run_id, WORKFLOW)
    assert said["annotations"] == "failed (broken <b>, customer=c-17, on hold)"
    assert said["checkpoint"] == "order-1-cp3, seq 4, superstep 3"
    assert page.one("span", class_="status").text == "failed, waits for 1"
    [question] = page.table("Questions").records()
    assert (question["Request"], question["From"]) == ("q1", "clerk")
    assert question["Answer with"].startswith("eventckpt answer order-1 q1")
    assert query_of(page.links()["q1"]) == {"request": "q1", **NAME}
    assert query_of(page.links()["order-1~again"]) == {"run": "order-1~again", "workflow": WORKFLOW}
    fork = read((await viewer.get("/run", params={"run": "order-1~again"})).text)
    assert query_of(fork.links()["seq 2 of run order-1"]) == NAME


async def test_the_table_of_events_has_each_event_of_the_lines(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await an_annotated_run(engine)
    events = (await cli.json("history", RUN.run_id)).of("event")
    for path in ("/run", "/run/history"):
        page = await page_of(viewer, path)
        rows = [row for table in page.all("table", id="events") for row in table.all("tbody")[0].all("tr")]
        shown = [[each.text for each in row.all("td")] for row in rows]
        assert [(row[0], row[2], row[4]) for row in shown] == [
            (str(event["seq"]), event["what"], event["checkpoint_id"]) for event in events
        ]
        assert [row[9].replace(",", "") for row in shown] == [
            str(event["payload"]["stored_size"]) if event["payload"] else "" for event in events
        ]


async def test_each_mark_of_the_timeline_leads_to_its_event_and_says_what_it_is(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await an_annotated_run(engine)
    page = await page_of(viewer, "/run")
    by_seq = {int(query_of(link)["seq"]): text for link, text in marked(page).items()}
    assert sorted(by_seq) == [1, 2, 3, 4, 5, 6, 7]
    for seq, what in [(2, "1 fork"), (4, "1 question"), (5, "1 claim"), (6, "1 hold"), (7, "1 failure")]:
        assert what in by_seq[seq]
    assert "stored of" in by_seq[1]
    legend = page.one("ul", class_="legend")
    assert {item.text.split(" ", 1)[1] for item in legend.all("li")} == {
        "fork (1)",
        "question (1)",
        "claim (1)",
        "hold (1)",
        "failure (1)",
    }
    assert [text.text for text in page.one("svg").all("text", class_="lane")] == ["clerk", "bytes"]


async def test_events_are_paged_by_the_tokens_of_the_command(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await order_run(engine, steps=5)
    engine.settle()
    met: list[str] = []
    page = await page_of(viewer, "/run/history", limit=2)
    while True:
        met += [row[0] for row in page.table("Events, in the order of their commits").rows]
        if (more := page.links().get("Next")) is None:
            break
        token = query_of(more)["after"]
        assert (
            await lines_of(viewer, "/run/history", limit=2, after=token)
            == (await cli.json("history", RUN.run_id, "--limit", "2", "--after", token)).out
        )
        page = read((await viewer.get(more)).text)
    assert met == ["1", "2", "3", "4", "5"]
    end = await page_of(viewer, "/run/history", last=2)
    assert [row[0] for row in end.table("Events, in the order of their commits").rows] == ["4", "5"]
    await page_of(viewer, "/run/history", after="more.x", status=400)


async def test_gaps_are_named_by_their_seqs_missing_ones_and_those_on_record(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    events = chain(RUN, 6)
    await kept(engine, RUN, *events[4:], record_of(events[-1], events[:4]))
    torn = [make_event(StreamId(WORKFLOW, "torn"), seq) for seq in (2, 3, 7)]
    await kept(engine, StreamId(WORKFLOW, "torn"), *torn)
    pruned = await page_of(viewer, "/run")
    assert [item.text for item in pruned.one("ul", aria_label="Gaps").all("li")] == [
        "Seq 1 to 4 are gone: removed on record"
    ]
    for path in ("/run", "/run/history"):
        page = read((await viewer.get(path, params={"run": "torn"})).text)
        assert [row.text for row in page.all("tr", class_="gap")] == [
            "Seq 1 is missing: no record explains it",
            "Seq 4 to 6 are missing: no record explains it",
        ]


async def test_a_run_of_very_many_events_is_summed_and_each_column_leads_to_those_that_it_stands_for(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    stream = StreamId(WORKFLOW, "order-1")
    await kept(engine, stream, *(make_event(stream, seq) for seq in range(1, 221)))
    answer = await viewer.get("/run", params=NAME)
    page = read(answer.text)
    links = marked(page)
    assert len(answer.content) < 250_000
    assert 50 <= len(links) <= 100
    first, said = next(iter(links.items()))
    assert said.startswith("4 events, seq 1 to 4, supersteps 1 to 4")
    listed = read((await viewer.get(first)).text).table("Events, in the order of their commits")
    assert [row[0] for row in listed.rows] == [str(seq) for seq in range(1, 5)]
    assert "Each column stands for 4 events" in page.one("figcaption").text
    assert len(page.table("Its last events").rows) == 100


WORST = ['"' * 200, "🂡" * 200, "<script>alert(1)</script>\x1b[2J\u202e", "x" * 255]


@pytest.mark.parametrize("worst", WORST, ids=["quotes", "wide", "markup", "long"])
async def test_a_run_of_the_worst_names_stays_a_page_and_is_never_markup(
    viewer: httpx.AsyncClient, engine: Engine, worst: str
) -> None:
    stream = StreamId(f"{worst}~w", worst)
    asked = tuple(
        PendingRequest(request_id=f"{worst}{n}", source_executor_id=f"{worst}{n}", request_type=worst * 4, prompt=worst)
        for n in range(40)
    )
    summary = Summary(
        messages={f"{worst}{n}": 1 for n in range(40)}, pending_requests=asked, answered_requests=(worst,)
    )
    events = [
        sealed(
            msgspec.structs.replace(
                make_event(stream, seq, checkpoint_id=f"{seq}{worst * 3}"), summary=summary, actor=worst
            )
        )
        for seq in range(1, 221)
    ]
    await kept(engine, stream, *events)
    for path in ("/run", "/run/history", "/run/lineage", "/run/verify"):
        answer = await viewer.get(path, params={"run": stream.run_id, "workflow": stream.workflow_name})
        assert (answer.status_code, len(answer.content) < 1_000_000) == (200, True), (path, len(answer.content))
        page = read(answer.text)
        assert not [script for script in page.all("script") if "src" not in script.attributes]
        assert "\x1b" not in answer.text
        assert "\u202e" not in answer.text


async def test_events_of_every_kind_are_shown(viewer: httpx.AsyncClient, engine: Engine) -> None:
    origin = make_event(StreamId(WORKFLOW, "origin"), 1)
    await kept(engine, origin.stream, origin)
    await kept(engine, RUN, *of_every_kind(RUN, origin))
    for path in ("/run", "/run/history", "/run/lineage", "/run/verify"):
        assert read((await viewer.get(path, params=NAME)).text).all("h1")


async def test_lineage_draws_branches_runs_and_of_long_lines_the_ends(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await an_annotated_run(engine)
    await kept(engine, StreamId(WORKFLOW, "long"), *chain(StreamId(WORKFLOW, "long"), 60))
    page = await page_of(viewer, "/run/lineage")
    links = page.one("svg").all("a")
    assert [link.text.split(" ")[0] for link in links] == [
        "order-1-cp0",
        "order-1-cp1",
        "run",
        *(f"order-1-cp{n}" for n in (2, 3)),
    ]
    assert query_of(links[2].attributes["href"])["run"] == "order-1~again"
    assert query_of(links[0].attributes["href"]) == {**NAME, "seq": "1"}
    fork = read((await viewer.get("/run/lineage", params={"run": "order-1~again"})).text)
    assert query_of(fork.links()["order-1"]) == NAME
    long = read((await viewer.get("/run/lineage", params={"run": "long"})).text)
    assert [each.text for each in long.one("svg").all("text")][1:3] == [
        "⋮",
        "58 checkpoints in a line, seq 2 to 59",
    ]


async def test_lineage_says_how_many_checkpoints_it_leaves_out(viewer: httpx.AsyncClient, engine: Engine) -> None:
    stream = StreamId(WORKFLOW, "order-1")
    first = make_event(stream, 1)
    await kept(engine, stream, first, *(make_event(stream, seq, previous=first) for seq in range(2, 261)))
    page = await page_of(viewer, "/run/lineage")
    shown = len(page.one("svg").all("a"))
    assert shown <= 200
    assert f"No room here for {260 - shown:,} checkpoints" in page.text


async def test_the_lineage_of_a_run_whose_headers_are_too_many_to_hold_is_left_to_the_command(
    viewer: httpx.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(engine, RUN, *chain(RUN, 12))
    monkeypatch.setattr(whole_run, "_MOST", 12)
    assert len((await page_of(viewer, "/run/lineage")).one("svg").all("a")) > 0
    monkeypatch.setattr(whole_run, "_MOST", 11)
    for form in ("html", "jsonl"):
        answer = await viewer.get("/run/lineage", params={**NAME, "format": form})
        assert answer.status_code == 400
        assert "has 12 events: a lineage is drawn here of up to 11." in answer.text
        assert "eventckpt lineage order-1 --workflow orders" in answer.text


async def test_checkpoints_that_follow_each_other_in_a_circle_are_drawn_once(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    one = msgspec.structs.replace(make_event(RUN, 1, checkpoint_id="a"), previous_checkpoint_id="b")
    other = msgspec.structs.replace(make_event(RUN, 2, checkpoint_id="b"), previous_checkpoint_id="a")
    await kept(engine, RUN, sealed(one), sealed(other))
    page = await page_of(viewer, "/run/lineage")
    assert sorted(link.text.split(" ")[0] for link in page.one("svg").all("a")) == ["a", "b"]


async def test_verification_names_what_is_wrong_and_says_what_was_checked(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await order_run(engine, steps=2)
    forged = msgspec.structs.replace(make_event(StreamId(WORKFLOW, "forged"), 1), actor="somebody else")
    await kept(engine, forged.stream, forged)
    whole = (await page_of(viewer, "/run/verify")).by_id("verdict").text
    assert "All is as it was written." in whole
    assert "Checked of 2 events: the digest of each" in whole
    page = read((await viewer.get("/run/verify", params={"run": "forged"})).text)
    assert "The run is NOT what was written." in page.by_id("verdict").text
    [problem] = page.table("Problems").rows
    assert problem[:2] == ["1", "changed"]
    run = await page_of(viewer, "/run")
    link = run.by_id("verification").one("a")
    assert link.attributes["hx-get"] == link.attributes["href"]
    assert query_of(link.attributes["href"]) == NAME


async def test_a_run_that_has_not_ended_is_followed_until_that_is_stopped(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await order_run(engine, steps=1)
    engine.settle()
    page = await page_of(viewer, "/run")
    assert "hx-get" in page.by_id("run").attributes
    stopped = read((await viewer.get(page.links()["Stop"])).text)
    assert "hx-get" not in stopped.by_id("run").attributes
    assert "hx-get" in read((await viewer.get(stopped.links()["Follow"])).text).by_id("run").attributes
    await CheckpointAudit(audited(engine)).annotate(RUN, outcome="done")
    engine.settle()
    assert "hx-get" not in (await page_of(viewer, "/run")).by_id("run").attributes


async def test_a_run_that_was_removed_says_so_on_its_pages(viewer: httpx.AsyncClient, cli: Cli, engine: Engine) -> None:
    await order_run(engine, steps=2)
    await cli("delete", RUN.run_id, "--reason", "no longer needed", "--force", "--execute", "--yes")
    for path in ("/run", "/run/history", "/run/lineage", "/run/verify"):
        assert "no longer needed" in (await page_of(viewer, path)).text
    for path, command in [("/run", "info"), ("/run/history", "history"), ("/run/verify", "verify")]:
        assert await lines_of(viewer, path) == (await cli.json(command, RUN.run_id)).out


async def test_a_run_that_is_not_there_is_none_on_any_page(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await order_run(engine, steps=1)
    for path in ("/run", "/run/history", "/run/lineage", "/run/verify"):
        assert (await viewer.get(path, params={"run": "elsewhere"})).status_code == 404
        assert (await viewer.get(path)).status_code == 400


def chain(stream: StreamId, count: int) -> list[CheckpointEvent]:
    events: list[CheckpointEvent] = []
    for seq in range(1, count + 1):
        events.append(make_event(stream, seq, previous=events[-1] if events else None))
    return events
