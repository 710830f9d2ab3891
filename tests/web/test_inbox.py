"""The pages of questions: which wait, what one asks, and what became of it."""

from __future__ import annotations

import httpx

from eventckpt import answer

from ..answers.workflows import NAME, RUN, Paid, asked, refund, storage_on
from ..cli.conftest import Cli
from ..cli.test_inbox import HOSTILE, ask, question
from ..engines import Engine
from .html import Document, query_of, read


async def page(viewer: httpx.AsyncClient, path: str, **query: str) -> Document:
    said = await viewer.get(path, params=query or None)
    assert said.status_code == 200, said.text
    return read(said.text)


async def lines(viewer: httpx.AsyncClient, **query: str) -> str:
    return (await viewer.get("/inbox", params={**query, "format": "jsonl"})).text


async def test_each_listing_is_what_the_command_prints_and_its_pages_lead_through_all(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await ask(
        engine,
        question(1, ago={"hours": 5}, prompt="May it be 7?", response_type="builtins:bool"),
        question(2, ago={"days": 9}),
        question(3, ago={"seconds": 1}),
    )
    for options in ({}, {"workflow": "orders"}, {"workflow": "other"}, {"type": "app:Approval"}, {"tag": "number=1"}):
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        assert await lines(viewer, **options) == (await cli.json("inbox", *words)).out
    assert await lines(viewer, **{"older-than": "2d"}) == (await cli.json("inbox", "--older-than", "2d")).out

    first = await page(viewer, "/inbox", limit="2")
    rows = first.table().records()
    assert [(row["Question"], row["Run"], row["Asked"]) for row in rows] == [
        ("q2", "order-1", "9 d ago"),
        ("q1", "order-0", "5 h ago"),
    ]
    assert (rows[1]["Prompt"], rows[1]["Type"], rows[1]["Tags"]) == ("May it be 7?", "app:Approval", "number=0")
    further = await page(viewer, first.links()["Further"])
    assert [row["Question"] for row in further.table().records()] == ["q3"]
    assert (
        await lines(viewer, **query_of(first.links()["Further"]))
        == (await cli.json("inbox", "--after", query_of(first.links()["Further"])["after"], "--limit", "2")).out
    )
    assert await lines(viewer, limit="2") == (await cli.json("inbox", "--limit", "2")).out


async def test_it_looks_again_by_itself_until_it_is_told_to_stop(viewer: httpx.AsyncClient) -> None:
    live = await page(viewer, "/inbox", workflow="orders")
    section = live.by_id("questions")
    assert query_of(section.attributes["hx-get"]) == {"workflow": "orders"}
    stopped = await page(viewer, live.links()["Stop"])
    assert "hx-get" not in stopped.by_id("questions").attributes
    assert stopped.form("/inbox").fields["live"] == "off"
    assert "hx-get" in (await page(viewer, stopped.links()["Follow"])).by_id("questions").attributes


async def test_a_filter_that_is_none_is_refused_by_its_name(viewer: httpx.AsyncClient) -> None:
    for query in ({"tag": "number"}, {"older-than": "yesterday"}, {"limit": "0"}, {"after": "more.x"}):
        said = await viewer.get("/inbox", params=query or None)
        assert said.status_code == 400, said.text
        assert next(iter(query)) in read(said.text).one(role="alert").text


async def test_a_question_says_what_is_asked_and_how_to_answer_it_and_shows_no_form(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await asked(engine, "shoes")
    shown = await page(viewer, "/inbox/question", run=RUN, workflow=NAME, request="may-shoes")
    assert "tests.answers.workflows:Approval" in shown.one("pre", aria_label="What is asked").text
    assert shown.one("pre", aria_label="Command").text.startswith(f"eventckpt answer {RUN} may-shoes --json ANSWER")
    assert "Takes yes or no" in shown.one("dl").text
    assert shown.title == f"Question may-shoes of run {RUN}"
    assert shown.all("form") == []
    assert "Sign in" not in shown.links()


async def test_an_answered_question_says_by_whom_and_what_and_where_that_is_on_record(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await asked(engine, "shoes")
    await answer(storage_on(engine), RUN, {"may-shoes": False}, workflow=refund(Paid()), actor="ann <b>")
    engine.settle()
    shown = await page(viewer, "/inbox/question", run=RUN, workflow=NAME, request="may-shoes")
    assert "Answered by ann <b>" in shown.by_id("question").text
    assert shown.one("pre", aria_label="The answer").text == "False"
    assert query_of(shown.links()["seq 4"]) == {"run": RUN, "workflow": NAME, "seq": "4"}


async def test_a_question_of_a_cancelled_run_and_one_that_was_left_behind_say_so(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await asked(engine, "shoes")
    await storage_on(engine).for_run(RUN, workflow_name=NAME).annotate(outcome="cancelled")
    await asked(engine, "shoes", run_id="left")
    run = storage_on(engine).for_run("left")
    await run.get_latest(workflow_name=NAME)
    await refund(Paid()).run("hat", checkpoint_storage=run)
    engine.settle()
    cancelled = await page(viewer, "/inbox/question", run=RUN, workflow=NAME, request="may-shoes")
    assert "Nobody answered it: the run was cancelled." in cancelled.text
    left = await page(viewer, "/inbox/question", run="left", workflow=NAME, request="may-shoes")
    assert "the run went on, or went back, without an answer" in left.text


async def test_what_nobody_asked_is_not_found(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await asked(engine, "shoes")
    for query in ({"run": RUN, "request": "may-hat"}, {"run": "none", "request": "may-shoes"}):
        assert (await viewer.get("/inbox/question", params=query)).status_code == 404
    assert (await viewer.get("/inbox/question", params={"run": RUN})).status_code == 400


async def test_hostile_texts_are_shown_as_what_they_are(viewer: httpx.AsyncClient, engine: Engine) -> None:
    evil = f"<script>alert(1)</script>{HOSTILE}"
    await ask(engine, question(1, ago={"hours": 5}, prompt=evil, response_type=evil))
    for shown in (
        await page(viewer, "/inbox"),
        await page(viewer, "/inbox/question", run="order-0", workflow="orders", request="q1"),
    ):
        assert len(shown.all("script")) == 2
        assert "<script>alert(1)</script>\\x1b[31mred\\u202e\\r\\n" in shown.text
