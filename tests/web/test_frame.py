"""What all pages have alike: what they are asked for, what they say when there is none, and where they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from eventckpt import CheckpointAudit
from eventckpt.errors import AmbiguousNameError, RunNotFoundError, StoreLockedError
from eventckpt.events import StreamId
from eventckpt.web import Operations, Standing, app, create_app, places
from eventckpt.web.addresses import PAGES, Shown
from eventckpt.web.page import Page
from eventckpt.web.query import Query
from eventckpt.web.viewer import Viewer

from ..cli.conftest import Cli
from ..engines import Engine
from ..projections.commands import PATIENCE
from ..storage.checkpoints import WORKFLOW, checkpoint
from ..storage.removed import audited
from .html import query_of, read


@asynccontextmanager
async def showing(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, page: Any, **options: Any
) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of a viewer with one more page, at /odd."""
    monkeypatch.setattr(
        app, "PAGES", {**PAGES, "/odd": Shown(page, ("run", "workflow", "event", "seq", "after", "tag"))}
    )
    made = create_app(CheckpointAudit(audited(engine)), **options)
    transport = httpx.ASGITransport(made, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def failing(error: Exception) -> Any:
    async def page(viewer: Viewer, asked: Query) -> Page:
        raise error

    return page


async def test_a_page_and_its_lines_say_what_the_command_prints(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())
    engine.settle()
    assert "r1" in (await viewer.get("/runs")).text
    lines = await viewer.get("/runs", params={"format": "jsonl"})
    assert lines.text == (await cli.json("runs")).out
    assert lines.headers["content-type"].startswith("application/x-ndjson")


# What is asked for


@pytest.mark.parametrize(
    "query",
    [
        "format=xml",
        "format=jsonl%00",
        "workflow=%ff",
        "workflow=%ED%A0%80",
        "limit=0",
        "limit=1e3",
        "limit=%D9%A3",
        "limit=" + "9" * 5000,
        "workflow=" + "x" * 5000,
        "after=more.",
        "after=%00",
        "after=" + "x" * 20000,
        "&".join(f"a{number}=1" for number in range(200)),
    ],
    ids=lambda query: str(query)[:20],
)
async def test_what_is_asked_for_in_no_form_is_refused(viewer: httpx.AsyncClient, query: str) -> None:
    answer = await viewer.get(f"/runs?{query}")
    assert answer.status_code == 400
    assert read(answer.text).by_id("main").one(role="alert").text


@pytest.mark.parametrize("query", ["workflow=%zz", "workflow=a%00b", "=", "&&;", "workflow=", "none=", "format=html"])
async def test_what_names_nothing_finds_nothing(viewer: httpx.AsyncClient, query: str) -> None:
    assert (await viewer.get(f"/runs?{query}")).status_code == 200


async def test_of_a_part_that_is_given_several_times_the_last_counts_as_of_an_option(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine
) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())
    engine.settle()
    lines = await viewer.get(f"/runs?workflow=other&workflow={WORKFLOW}&format=jsonl")
    assert lines.text == (await cli.json("runs", "--workflow", "other", "--workflow", WORKFLOW)).out != ""


async def test_a_query_of_a_megabyte_is_refused_before_it_is_read(viewer: httpx.AsyncClient) -> None:
    assert (await viewer.get("/runs", params={"workflow": "x" * 60_000})).status_code == 414


async def test_a_page_without_lines_says_so(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    async def page(viewer: Viewer, asked: Query) -> Page:
        return Page("problem.html", "Odd", {"said": "odd", "names": ()})

    async with showing(monkeypatch, engine, page) as client:
        assert (await client.get("/odd")).status_code == 200
        assert (await client.get("/odd?format=jsonl")).status_code == 400


async def test_lines_of_more_than_a_megabyte_are_refused_and_the_command_named(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    async def page(viewer: Viewer, asked: Query) -> Page:
        lines = [("odd", {"text": "x" * 900})] * 2_000
        command = ["eventckpt", "odd", "--json"]
        return Page("problem.html", "Odd", {"said": "", "names": ()}, lambda: lines, command)

    async with showing(monkeypatch, engine, page) as client:
        answer = await client.get("/odd?format=jsonl")
        page = read((await client.get("/odd")).text)
    assert (answer.status_code, answer.json()["kind"], answer.json()["code"]) == (400, "error", 2)
    assert "`eventckpt odd --json`" in answer.json()["message"]
    assert "JSON lines" not in page.links()
    assert "eventckpt odd --json prints them" in page.by_id("main").text


# What went wrong


@pytest.mark.parametrize("named", ["order-12", "ordr-1", "order-1\x1b[31m", "<b>"])
async def test_an_unknown_run_is_a_page_that_says_what_the_command_says(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, cli: Cli, named: str
) -> None:
    await engine.storage().for_run("order-1", workflow_name=WORKFLOW).save(checkpoint())

    async def page(viewer: Viewer, asked: Query) -> Page:
        await viewer.audit.run(asked.needed("run"), workflow_name=asked.text("workflow"))
        raise AssertionError("it was found")

    async with showing(monkeypatch, engine, page) as client:
        answer = await client.get("/odd", params={"run": named})
    assert answer.status_code == 404
    [said] = (await cli.json("info", named, code=3)).of("error")
    page_said = read(answer.text)
    text = page_said.one(role="alert").all("p")[0].text
    assert text.endswith(" or begins like that.")
    assert " ".join(said["message"].split()).startswith(text), "to what the command names, the page leads by links"
    links = {query_of(each.attributes["href"])["run"] for each in page_said.one(role="alert").all("a")}
    assert links == ({"order-1"} if named.startswith("ord") else set())


async def test_what_may_have_been_meant_is_a_link_to_the_same_page_of_it(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    odd = StreamId("work & <b>", "r?=&1")
    query = {"run": "r", "after": "x", "tag": ["a=1", "b=2"]}
    for error in (RunNotFoundError("none", near=[odd]), AmbiguousNameError("two", candidates=["…"], found=[odd])):
        async with showing(monkeypatch, engine, failing(error)) as client:
            answer = await client.get("/odd", params=query)
        assert answer.status_code == 404
        [link] = read(answer.text).one(role="alert").all("a")
        expected = {**query, "run": odd.run_id, "workflow": odd.workflow_name}
        assert link.attributes["href"] == f"/odd?{urlencode(expected, doseq=True)}"
        assert odd.run_id in link.text


async def test_checkpoints_that_may_have_been_meant_are_links_to_their_events(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    error = AmbiguousNameError("two", candidates=["'c&1'", "'c2'"], found=["c&1", "c2"])
    async with showing(monkeypatch, engine, failing(error)) as client:
        page = read((await client.get("/odd", params={"event": "c"})).text)
    assert page.links()["c&1"] == "/event?event=c%261"
    assert page.links()["c2"] == "/event?event=c2"


async def test_a_fault_of_the_viewer_is_logged_once_with_its_traceback_and_not_told(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with showing(monkeypatch, engine, failing(ZeroDivisionError("s3cret\x1b[31m"))) as client:
        answer = await client.get("/odd")
    assert answer.status_code == 500
    assert "s3cret" not in answer.text
    assert "Traceback" not in answer.text
    [record] = caplog.records
    assert record.exc_text is not None
    assert "s3cret" in record.exc_text
    assert "\x1b" not in record.exc_text


async def test_a_page_that_cannot_be_rendered_is_a_fault_of_the_viewer(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def page(viewer: Viewer, asked: Query) -> Page:
        return Page("problem.html", "Odd")

    async with showing(monkeypatch, engine, page) as client:
        answer = await client.get("/odd")
    assert answer.status_code == 500
    assert read(answer.text).title == "Something went wrong"
    assert len(caplog.records) == 1


async def test_what_may_pass_by_itself_is_asked_for_again_with_and_without_scripts(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    async with showing(monkeypatch, engine, failing(StoreLockedError("Somebody writes."))) as client:
        answer = await client.get("/odd", params={"run": "a&b"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    page = read(answer.text)
    [polled] = [each for each in page.all("p") if "hx-get" in each.attributes]
    assert polled.attributes["hx-get"] == "/odd?run=a%26b" == page.links()["now"]
    assert polled.attributes["hx-trigger"] == "every 5s"
    assert page.one("noscript").one("meta").attributes == {"http-equiv": "refresh", "content": "5"}
    assert "Somebody writes." in page.one(role="alert").text


@pytest.mark.parametrize("path", ["/runs", "/run", "/inbox", "/operations"])
async def test_a_page_that_is_looked_at_again_says_how_it_is_without_scripts(path: str, engine: Engine) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())
    made = create_app(CheckpointAudit(audited(engine)), operations=Projector())
    query = {"run": "r1", "workflow": WORKFLOW} if path == "/run" else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://127.0.0.1") as client:
        page = read((await client.get(path, params=query)).text)
        [seconds] = re.findall(r"again every (\d+) seconds", page.text)
        assert f"every {seconds}s" in {each.attributes.get("hx-trigger") for each in page.all()}
        if page.all("form"):  # what is typed would go
            assert page.one("noscript").one("a").attributes["href"] == path
        else:
            assert page.one("noscript").one("meta").attributes == {"http-equiv": "refresh", "content": seconds}
        stopped = read((await client.get(page.links()["Stop"])).text)
        assert not stopped.all("noscript")


async def test_so_many_pages_are_made_at_once_and_a_further_one_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(places, "_AT_ONCE", 3)
    gate, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def page(viewer: Viewer, asked: Query) -> Page:
        begun.release()
        await gate.wait()
        return Page("problem.html", "Odd", {"said": "odd", "names": ()})

    async with showing(monkeypatch, engine, page) as client, asyncio.TaskGroup() as group:
        first = [group.create_task(client.get("/odd")) for _ in range(3)]
        for _ in first:
            await begun.acquire()
        further = await client.get("/odd")
        assert (further.status_code, further.headers["retry-after"]) == (503, "5")
        gate.set()
        assert {(await each).status_code for each in first} == {200}
        assert (await client.get("/odd")).status_code == 200


async def test_a_page_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(app, "_PATIENCE", 0)
    ended = asyncio.Event()

    async def page(viewer: Viewer, asked: Query) -> Page:
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    async with showing(monkeypatch, engine, page) as client:
        answer = await client.get("/odd")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "A command has as long as it takes" in read(answer.text).one(role="alert").text
        assert "every" not in answer.text, "it would take as long again, and again"
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


# Where it is


class Projector(Operations):
    async def standing(self) -> Standing:
        return Standing("latest", None, [], [])


async def test_a_viewer_that_is_mounted_leads_to_its_own_pages(engine: Engine) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())

    async def own(_: object) -> PlainTextResponse:
        return PlainTextResponse("the shop")

    viewer = create_app(CheckpointAudit(audited(engine)), operations=Projector())
    shop = Starlette(routes=[Route("/runs", own), Mount("/ops/runs of all", viewer)])
    root = "/ops/runs%20of%20all"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop), base_url="http://127.0.0.1") as client:
        assert (await client.get("/runs")).text == "the shop"
        assert (await client.get(f"{root}/")).headers["location"] == f"{root}/runs"
        answer = await client.get(f"{root}/runs")
        page = read(answer.text)
        assert page.one("a", aria_current="page").attributes["href"] == f"{root}/runs"
        linked = [
            each.attributes.get("href", each.attributes.get("src", "")) for each in page.all("a", "link", "script")
        ]
        assert [each for each in linked if not each.startswith((root, "#"))] == []
        for each in page.all("link", "script"):
            found = await client.get(each.attributes.get("href") or each.attributes["src"])
            assert found.status_code == 200
        lines = await client.get(page.links()["JSON lines"])
        assert lines.text.startswith('{"kind": "run"')
        missing = await client.get(f"{root}/{quote('<b>')}")
        assert missing.status_code == 404
        assert "content-security-policy" in missing.headers
        assert (await client.get(f"{root}/runs", headers={"host": "evil.example"})).status_code == 421


async def test_every_page_but_to_sign_in_is_of_one_part_of_the_navigation(engine: Engine) -> None:
    viewer = create_app(CheckpointAudit(audited(engine)), operations=Projector())
    found: dict[str, list[str]] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(viewer), base_url="http://127.0.0.1") as client:
        for path in PAGES:
            parts = read((await client.get(path)).text).one("nav", aria_label="Pages").all("a")
            found[path] = [each.text for each in parts if "aria-current" in each.attributes]
    assert [path for path, names in found.items() if len(names) != 1] == ["/sign-in"]
    assert found["/event"] == found["/run/lineage"] == found["/runs"] == ["Runs"]
    assert found["/turn"] == found["/conversation/events"] == ["Conversations"]


def test_the_version_and_the_licence_of_htmx_are_named_beside_it() -> None:
    static = Path(app.__file__).parent / "static"
    script, about = ((static / name).read_text(encoding="utf-8") for name in ("htmx.min.js", "htmx.txt"))
    version = about.split()[3]
    assert f'version="{version}"' in script
    assert "Permission to use, copy, modify" in about
