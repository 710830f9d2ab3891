"""The page of all runs, and the one that counts them: the same as the command lists, whatever the store holds."""

from __future__ import annotations

from typing import Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from eventckpt import CheckpointAudit, RunInfo, StreamId
from eventckpt.events import PendingRequest
from eventckpt.stores import AuditStore
from eventckpt.web import create_app
from eventckpt.web.page import MAX_BYTES

from ..cli.conftest import WORKFLOW, Cli, checkpoint, environment, message, question
from ..cli.programs import called
from ..engines import Engine
from ..memory_engine.engine import MemoryEngine
from ..storage.removed import audited, remove
from .conftest import viewing
from .html import read

FILTERS: Final[dict[str, tuple[list[tuple[str, str]], list[str]]]] = {
    "none": ([], []),
    "workflow": ([("workflow", "orders")], ["--workflow", "orders"]),
    "status": ([("status", "waiting")], ["--status", "waiting"]),
    "statuses": ([("status", "running,done")], ["--status", "running,done"]),
    "idle": ([("status", "idle")], ["--status", "idle"]),
    "tag": ([("tag", "customer=ann")], ["--tag", "customer=ann"]),
    "tags": ([("tag", "customer=ann"), ("tag", "a=b=c")], ["--tag", "customer=ann", "--tag", "a=b=c"]),
    "since": ([("since", "1h")], ["--since", "1h"]),
    "until": ([("until", "1h")], ["--until", "1h"]),
    "between": ([("since", "2020-01-01"), ("until", "2999-01-01")], ["--since", "2020-01-01", "--until", "2999-01-01"]),
    "pending": ([("pending", "1")], ["--pending"]),
    "request": ([("request", "q-2")], ["--request", "q-2"]),
    "actor": ([("actor", "ann")], ["--actor", "ann"]),
    "all": (
        [("workflow", "orders"), ("status", "waiting"), ("since", "1h"), ("request", "clerk"), ("actor", "shop")],
        ["--workflow", "orders", "--status", "waiting", "--since", "1h", "--request", "clerk", "--actor", "shop"],
    ),
    "nothing": ([("workflow", "no such")], ["--workflow", "no such"]),
    "limit": ([("limit", "2")], ["--limit", "2"]),
}
"""By name, what the page is asked for, and the options of the command that mean the same."""
HEADS: Final = ("Run", "Workflow", "Status", "Step", "Size", "Last written", "Actor", "Waits for")
WRONG: Final = {
    "status": "asleep",
    "tag": "no value",
    "since": "yesterday",
    "until": "\x1b[31m",
    "limit": "51",
    "after": "more.forged",
    "workflow": "w" * 5_000,
}
HOSTILE: Final = ("<script>alert(1)</script>", "a\u202eb", "\x00\x1b[2J", "'\"&<>", "\U0001f680" * 20, "../..?x=1#y")

each_latest = pytest.mark.parametrize("latest", ["log", "projection"])


async def filled(engine: Engine, latest: str) -> None:
    """Runs that stand in several ways, of two workflows, one of them tagged."""
    shop = engine.storage(actor="shop")
    for number in range(4):
        asks = question(f"q-{number}") if number else {}
        run = shop.for_run(f"order-{number}", workflow_name="orders")
        await run.save(
            checkpoint(pending_request_info_events=asks, messages=message("clerk", "go") if number == 3 else {})
        )
    await shop.for_run("order-1", workflow_name="orders").annotate(tags={"customer": "ann", "a": "b=c"})
    await engine.storage(actor="ann").for_run("order-0", workflow_name="orders").annotate(outcome="done")
    await shop.for_run("talk-1", workflow_name="talks").save(checkpoint(workflow_name="talks"))
    engine.settle()
    if latest == "projection":
        await rebuilt(engine)


async def begun(engine: Engine, run_id: str) -> None:
    """Another run, which the projection has heard of."""
    await engine.storage().for_run(run_id).save(checkpoint())
    engine.settle()
    store = audited(engine)
    info = await CheckpointAudit(store).info(StreamId(WORKFLOW, run_id))
    assert info is not None
    await store.run_store().put(info)
    engine.settle()


async def rebuilt(engine: Engine) -> None:
    assert (await called("eventckpt-projector", ["rebuild"], environment(engine))).code == 0
    engine.settle()


async def asked(client: httpx.AsyncClient, path: str, *parts: tuple[str, str]) -> httpx.Response:
    return await client.get(path, params=list(parts))


@each_latest
async def test_the_lines_are_those_of_the_command_for_the_same_filters(engine: Engine, cli: Cli, latest: str) -> None:
    await filled(engine, latest)
    async with viewing(engine, latest=latest) as client:
        for name, (parts, words) in FILTERS.items():
            printed = await cli.json("runs", "--latest", latest, *words)
            assert (await asked(client, "/runs", *parts, ("format", "jsonl"))).text == printed.out, name
            page = read((await asked(client, "/runs", *parts)).text)
            shown = [record["Run"] for record in page.table().records()] if page.all("table") else []
            assert shown == [line["run_id"] for line in printed.of("run")], name
            assert ("Older" in page.links()) == bool(printed.of("more")), name


@each_latest
async def test_counts_are_those_of_the_command(engine: Engine, cli: Cli, latest: str) -> None:
    await filled(engine, latest)
    async with viewing(engine, latest=latest) as client:
        for name in ("none", "workflow", "statuses", "tags", "until", "pending", "request", "actor", "nothing"):
            parts, words = FILTERS[name]
            lines = await asked(client, "/runs/counts", *parts, ("format", "jsonl"))
            assert lines.text == (await cli.json("runs", "--latest", latest, "--count", *words)).out, name


@each_latest
async def test_a_row_says_what_its_line_says(engine: Engine, latest: str) -> None:
    await filled(engine, latest)
    async with viewing(engine, latest=latest) as client:
        page = read((await client.get("/runs")).text)
        lines = (await client.get("/runs", params={"format": "jsonl"})).text.splitlines()
    table = page.table()
    assert tuple(table.heads) == HEADS
    assert len(table.rows) == len(lines) == 5
    by_run = {record["Run"]: record for record in table.records()}
    assert by_run["order-1"]["Status"] == "waiting (customer=ann, a=b=c)"
    assert by_run["order-2"]["Waits for"] == "clerk: builtins:str"
    assert by_run["order-3"]["Status"] == "running"
    assert by_run["order-0"]["Actor"] == "ann"
    assert by_run["talk-1"]["Workflow"] == "talks"
    assert page.links()["order-2"] == "/run?run=order-2&workflow=orders"


async def test_the_counts_over_a_list_are_of_every_status(engine: Engine, viewer: httpx.AsyncClient) -> None:
    await filled(engine, "log")
    page = read((await viewer.get("/runs", params={"workflow": "orders", "status": "waiting"})).text)
    assert page.by_id("counts").attributes["hx-get"] == "/runs/counts?workflow=orders"


@each_latest
async def test_the_count_of_each_status_leads_to_the_runs_that_it_counts(engine: Engine, latest: str) -> None:
    await filled(engine, latest)
    async with viewing(engine, latest=latest) as client:
        links = read((await client.get("/runs/counts", params={"workflow": "orders"})).text).links()
        assert {"4 in all", "waiting 2", "running 1", "done 1"} <= links.keys()
        page = read((await client.get(links["waiting 2"])).text)
    assert [record["Run"] for record in page.table().records()] == ["order-1", "order-2"]


@each_latest
async def test_where_no_index_counts_only_the_newest_are_counted_and_the_page_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, latest: str
) -> None:
    monkeypatch.setattr("eventckpt.web.pages.runs._COUNTED", 2)
    await filled(engine, latest)
    is_counted = latest == "projection" and audited(engine).run_store().counts_by_index
    async with viewing(engine, latest=latest) as client:
        page = read((await client.get("/runs/counts")).text)
    assert ("Of the 2 last written to alone" in page.text) != is_counted
    assert ("JSON lines" in page.links()) == is_counted
    assert ("5 in all" if is_counted else "2 in all") in page.links()


@each_latest
async def test_pages_give_each_run_once_while_others_are_written(engine: Engine, latest: str) -> None:
    await filled(engine, latest)
    seen: list[str] = []
    async with viewing(engine, latest=latest) as client:
        address = "/runs?limit=2"
        while address:
            page = read((await client.get(address)).text)
            seen += [record["Run"] for record in page.table().records()]
            await begun(engine, f"new-{len(seen)}")
            links = page.links()
            address = links.get("Older", "")
            assert ("Newest" in links) == (len(seen) > 2)
        assert sorted(seen) == ["order-0", "order-1", "order-2", "order-3", "talk-1"]
        first = read((await client.get(links["Newest"])).text)
        assert first.table().records()[0]["Run"].startswith("new-")


async def test_the_page_asks_for_itself_again_until_it_is_stopped(engine: Engine, viewer: httpx.AsyncClient) -> None:
    await filled(engine, "log")
    parts = [("tag", "customer=ann"), ("tag", "a=b=c"), ("limit", "2")]
    page = read((await asked(viewer, "/runs", *parts)).text)
    live = page.by_id("runs")
    assert live.has(hx_trigger="every 5s", hx_select="#runs")
    assert read((await viewer.get(live.attributes["hx-get"])).text).table() == page.table()
    stopped = read((await viewer.get(page.links()["Stop"])).text)
    assert "hx-get" not in stopped.by_id("runs").attributes
    assert stopped.table() == page.table()
    assert "Stop" in read((await viewer.get(stopped.links()["Follow"])).text).links()


async def test_the_form_holds_what_was_asked_for(engine: Engine, viewer: httpx.AsyncClient) -> None:
    parts = {
        "workflow": "orders",
        "status": "running,done",
        "since": "7d",
        "actor": "<ann>",
        "request": "q",
        "pending": "1",
    }
    form = read((await viewer.get("/runs", params={**parts, "tag": "a=b"})).text).form("/runs")
    assert {name: form.fields[name] for name in parts} == parts


@pytest.mark.parametrize("path", ["/runs", "/runs/counts"])
@pytest.mark.parametrize("name", WRONG)
async def test_what_is_not_of_its_form_is_refused_by_its_name(viewer: httpx.AsyncClient, name: str, path: str) -> None:
    answer = await viewer.get(path, params={name: WRONG[name]})
    assert answer.status_code == 400
    assert name in read(answer.text).one(role="alert").text


async def test_filters_that_are_too_long_together_are_refused(viewer: httpx.AsyncClient) -> None:
    answer = await asked(viewer, "/runs", *(("tag", f"t{number}={'v' * 1_000}") for number in range(20)))
    assert answer.status_code == 400
    assert "16,000 characters" in answer.text


async def test_an_empty_store_and_filters_that_nothing_fits_are_said(engine: Engine, viewer: httpx.AsyncClient) -> None:
    assert "There are no runs yet." in (await viewer.get("/runs")).text
    await filled(engine, "log")
    assert "No runs fit." in (await viewer.get("/runs", params={"workflow": "none"})).text


async def test_an_empty_projection_of_a_log_that_is_not_says_what_fills_it(engine: Engine) -> None:
    await filled(engine, "log")
    async with viewing(engine, latest="projection") as client:
        for path in ("/runs", "/runs/counts"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "eventckpt-projector run" in read(answer.text).one(role="alert").text


@each_latest
async def test_only_a_page_from_the_projection_says_that_it_may_be_late(engine: Engine, latest: str) -> None:
    await filled(engine, latest)
    async with viewing(engine, latest=latest) as client:
        assert ("may be late" in (await client.get("/runs")).text) == (latest == "projection")


async def test_a_run_that_is_removed_is_listed_no_more_and_the_next_page_goes_on(engine: Engine) -> None:
    await filled(engine, "log")
    async with viewing(engine) as client:
        page = read((await client.get("/runs", params={"limit": "2"})).text)
        gone = page.table().records()[-1]["Run"]
        await remove(audited(engine), gone, force=True)
        engine.settle()
        rest = read((await client.get(page.links()["Older"])).text).table().records()
        assert [record["Run"] for record in rest] == ["order-1", "order-3"]
        everything = read((await client.get("/runs")).text).table().records()
    assert gone not in [record["Run"] for record in everything]


# What a store may hold

_TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec="utf-8"), max_size=30))
_LONG = st.builds(lambda text, times: (text * times)[:255] or "x", _TEXT, st.integers(1, 255))


class Hostile(list[RunInfo]):
    """Runs that are too large to be shown in a failure."""

    def __repr__(self) -> str:
        return f"<{len(self)} runs, of {len(self[0].tags)} tags each, such as {self[0].run_id!r}>"


@st.composite
def hostile_runs(draw: st.DrawFn) -> Hostile:
    """Documents of which some are as large as they can be."""
    name, tag, asking = draw(_LONG), draw(_TEXT), draw(_LONG)
    many = draw(st.integers(0, 40))
    asked = PendingRequest(request_id=asking, source_executor_id=asking * 4, request_type=asking * 4)
    made = RunInfo(
        workflow_name=draw(_LONG),
        run_id=name,
        seq=1,
        digest="d",
        status="waiting",
        recorded_at=draw(st.one_of(_TEXT, st.just("2026-01-01T00:00:00+00:00"))),
        actor=draw(_LONG),
        reason=tag * 20,
        stored_size=draw(st.integers(0, 2**60)),
        iteration_count=draw(st.integers(0, 2**60)),
        tags={f"{number}{tag}": tag * 50 for number in range(many)},
        pending_requests=(asked,) * many,
    )
    return Hostile(replace(made, run_id=f"{number}{name}"[:255]) for number in range(50))


@settings(max_examples=25, deadline=None)
@given(hostile_runs())
async def test_a_page_is_bounded_and_is_html_whatever_the_store_holds(infos: Hostile) -> None:
    store = MemoryEngine().open()
    assert isinstance(store, AuditStore)
    assert await store.run_store().put(*infos) == len({info.stream for info in infos})
    app = create_app(CheckpointAudit(store, latest="projection"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.get("/runs", params={"actor": infos[0].actor or ""})
    assert answer.status_code == 200
    assert len(answer.content) < MAX_BYTES
    page = read(answer.text)
    scripts = [element.attributes["src"].rpartition("/")[2] for element in page.all("script")]
    assert scripts == ["htmx.min.js", "live.js"]
    assert "\x1b" not in answer.text
    assert "\u202e" not in answer.text
