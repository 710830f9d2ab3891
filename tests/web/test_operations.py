"""The pages of operations: how the projector stands, what is found of the store, and the types in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.cosmos.aio import CosmosClient

from eventckpt.errors import StoreUnavailableError
from eventckpt.location import open_store
from eventckpt.stores import AuditStore
from eventckpt.web import Standing
from eventckpt.web.page import MAX_BYTES
from projections import LeaseStore, Parked, ProcessorOptions, open_engine
from projections.projector import Projector
from projections.standing import standing_of

from ..cli.conftest import Cli, order_run
from ..engines import CosmosEngine, Engine, SqliteEngine
from ..projections.commands import invoked, place
from ..projections.rig import Rig, event
from ..stores.cosmos_stores import create_container
from .conftest import viewing
from .html import Document, query_of, read

HOSTILE = "<b onclick=x>\x1b[2J\u202e\"'&"


class Side:
    """The projector's side, as a program gives it to the viewer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.trouble: Exception | None = None

    async def standing(self) -> Standing:
        if self.trouble is not None:
            raise self.trouble
        return await standing_of(open_engine(self._engine.open()))


class Looking:
    """The projector's side of a store that is only looked at."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def standing(self) -> Standing:
        return await standing_of(open_engine(self._store))


@pytest.fixture
def side(engine: Engine) -> Side:
    return Side(engine)


@pytest.fixture
async def rig(engine: Engine) -> Rig:
    return Rig(engine)


def leases(rig: Rig, name: str) -> LeaseStore:
    return open_engine(rig.writer.store).leases(f"eventckpt-{name}")


def parked(run: str, error: str, workflow: str = "w") -> Parked:
    new = event(run, 1, workflow=workflow)
    return Parked(range="-FF", continuation=None, event=new, error=error, attempts=3, parked_at="")


async def got(viewer: httpx.AsyncClient, path: str, code: int = 200, /, **query: Any) -> Document:
    answer = await viewer.get(path, params=query)
    assert answer.status_code == code, answer.text
    assert len(answer.content) < MAX_BYTES
    return read(answer.text)


async def status(rig: Rig) -> str:
    """What the command prints of the projector."""
    store, settings = place(rig)
    code, output, errors = await asyncio.to_thread(invoked, "status", "--json", "--store", store, **settings)
    assert code == 0, errors
    return output


async def test_of_a_store_that_no_worker_ever_read_the_page_says_that_as_status_does(rig: Rig) -> None:
    await rig.writer.write("r1")
    rig.engine.settle()
    printed = await status(rig)
    assert json.loads(printed) == {"projection": "latest", "doubted": None, "ranges": [], "parked": []}
    store, settings = place(rig)
    opening = partial(open_store, store, read_only=True, environ=settings)
    async with opening() as looked, viewing(rig.engine, operations=Looking(looked)) as viewer:
        assert (await viewer.get("/operations", params={"format": "jsonl"})).text == printed
        assert "none: no worker has run yet" in (await got(viewer, "/operations")).text


async def test_of_a_store_that_is_not_there_status_says_that(rig: Rig, tmp_path: Path) -> None:
    store, settings = place(rig)
    gone = settings | {"AZURE_COSMOS_DATABASE_NAME": "none"} if settings else {}
    where = store if settings else str(tmp_path / "none.db")
    code, _, errors = await asyncio.to_thread(invoked, "status", "--store", where, **gone)
    assert (code, "none" in errors) == (4, True)


async def test_the_page_tells_of_the_projector_what_status_prints(rig: Rig, side: Side) -> None:
    await rig.writer.write("r1", "r2", count=3)
    await rig.writer.store.append(event(HOSTILE, 1, workflow=HOSTILE))
    rig.engine.settle()
    projector = Projector(open_engine(rig.engine.open()), ProcessorOptions(poll_interval=0.1))
    name = await projector.rebuild(lambda *_: None)
    await rig.writer.write("r1")
    rig.engine.settle()
    await leases(rig, name).park(parked(HOSTILE, f"KeyError: {HOSTILE}", HOSTILE))
    await leases(rig, name).doubt(f"because {HOSTILE}", "2026-05-01T10:00:00+00:00")
    rig.engine.settle()
    printed = await status(rig)
    async with viewing(rig.engine, operations=side) as viewer:
        lines = (await viewer.get("/operations", params={"format": "jsonl"})).text
        document = await got(viewer, "/operations")
    assert lines == printed
    standing = await side.standing()
    rows = document.table("Ranges").records()
    assert [(row["Range"], row["State"], row["Lag"]) for row in rows] == [
        (each["range"], each["state"], f"{each['lag']:,}") for each in standing.ranges
    ]
    [row] = document.table("Parked events").records()
    assert row["Error"] == "KeyError: <b onclick=x>\\x1b[2J\\u202e\"'&"
    [link] = [each for each in document.all("a") if "/event" in each.attributes["href"]]
    assert query_of(link.attributes["href"]) == {"run": HOSTILE, "seq": "1", "workflow": HOSTILE}
    assert sum(each["lag"] for each in standing.ranges) == 1
    assert "Lag 1 commit Read by" in document.text
    assert "because <b onclick=x>" in document.text
    assert not document.all("b")


async def test_a_page_that_follows_asks_again_for_the_projector_alone_until_it_is_stopped(rig: Rig, side: Side) -> None:
    await rig.writer.write("r1")
    async with viewing(rig.engine, operations=side) as viewer:
        live = await got(viewer, "/operations")
        assert live.by_id("projector").attributes["hx-trigger"] == "every 10s"
        stopped = await got(viewer, "/operations", **query_of(live.links()["Stop"]))
        assert "hx-trigger" not in stopped.by_id("projector").attributes
        assert query_of(stopped.links()["Follow"]) == {}


async def test_a_store_that_does_not_tell_how_the_projector_stands_is_away_and_comes_back_by_itself(
    rig: Rig, side: Side
) -> None:
    await rig.writer.write("r1")
    side.trouble = StoreUnavailableError(f"it is away {HOSTILE}")
    async with viewing(rig.engine, operations=side) as viewer:
        page = await got(viewer, "/operations", 503)
        assert "it is away" in page.one(role="alert").text
        assert page.all("p", hx_trigger="every 5s")
        lines = await viewer.get("/operations", params={"format": "jsonl"})
        assert (lines.status_code, lines.json()["code"]) == (503, 4)
        side.trouble = None
        assert "it is away" not in (await got(viewer, "/operations")).text


async def test_a_viewer_without_a_projector_says_how_to_get_one(rig: Rig) -> None:
    await rig.writer.write("r1")
    async with viewing(rig.engine) as viewer:
        document = await got(viewer, "/operations")
        assert "create_app(audit, operations=…)" in document.text
        assert "JSON lines" not in document.links()


async def test_very_many_leases_and_parked_events_are_counted_and_the_first_are_shown(rig: Rig, side: Side) -> None:
    await rig.writer.write("r1")
    many = 1_500
    ranges = [{**_range(), "range": f"{number:04}-{number + 1:04}"} for number in range(many)]
    rows = [{"workflow": HOSTILE * 100, "run": HOSTILE * 100, "seq": 1, "attempts": 1, "error": HOSTILE * 100}] * many

    class Many(Side):
        async def standing(self) -> Standing:
            return Standing("latest", None, ranges, rows)

    async with viewing(rig.engine, operations=Many(rig.engine)) as viewer:
        document = await got(viewer, "/operations")
    shown = len(document.table("Ranges").rows), len(document.table("Parked events").rows)
    assert min(shown) > 10
    assert f"{many - shown[0]:,} more ranges left out" in document.text
    assert f"{many - shown[1]:,} more parked events left out" in document.text
    assert "1,500 held" in document.text


def _range() -> dict[str, Any]:
    text = HOSTILE * 100
    return {
        "owner": text, "position": text, "lag": None, "written": text, "attempts": 1, "state": "held", "error": text,
    }  # fmt: skip


async def test_checks_and_settings_are_those_of_doctor_and_nothing_is_written_by_them(
    engine: Engine, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    await order_run(engine)
    engine.settle()
    for name, value in cli.env.items():
        monkeypatch.setenv(name, value)
    printed = [line for line in (await cli.json("doctor")).out.splitlines() if '"kind": "type"' not in line]
    before = engine.path.read_bytes() if isinstance(engine, SqliteEngine) else b""
    async with viewing(engine) as viewer:
        answer = await viewer.get("/operations/checks", params={"format": "jsonl"})
        document = await got(viewer, "/operations/checks")
    assert answer.text.splitlines() == printed
    assert isinstance(engine, SqliteEngine) == bool(before)
    if isinstance(engine, SqliteEngine):
        assert engine.path.read_bytes() == before
    assert {row["Result"] for row in document.table("Checks").records()} == {"ok"}
    told = document.table("Settings in the environment of this viewer").records()
    settings = {row["Name"]: row["Value"] for row in told}
    assert settings["AZURE_COSMOS_KEY"] == ("not set" if isinstance(engine, SqliteEngine) else "set")


async def test_a_check_that_fails_says_what_to_do(engine: Engine, cli: Cli) -> None:
    await order_run(engine)
    await spoiled(engine)
    wrong = [each for each in (await cli.json("doctor", code=1)).of("check") if not each["ok"]]
    async with viewing(engine) as viewer:
        rows = (await got(viewer, "/operations/checks")).table("Checks").records()
    shown = [(row["Found"], row["What to do"]) for row in rows if row["Result"] == "WRONG"]
    assert shown == [(each["detail"], each["advice"]) for each in wrong] != []


async def spoiled(engine: Engine) -> None:
    """Somebody has made in a store what does not belong there."""
    if isinstance(engine, SqliteEngine):
        with closing(sqlite3.connect(engine.path)) as connection, connection:
            connection.execute("CREATE TABLE mine (x)")
        return
    assert isinstance(engine, CosmosEngine)
    settings = engine.settings
    async with CosmosClient(settings["endpoint"], settings["credential"]) as client:
        await create_container(client, {**settings, "container_name": f"{settings['container_name']}-sessions"}, "/x")
    engine.settle()


async def test_types_are_those_of_doctor(engine: Engine, cli: Cli) -> None:
    await order_run(engine)
    engine.settle()
    printed = [line for line in (await cli.json("doctor")).out.splitlines() if '"kind": "type"' in line]
    async with viewing(engine) as viewer:
        answer = await viewer.get("/operations/types", params={"format": "jsonl"})
        document = await got(viewer, "/operations/types")
    assert printed
    assert answer.text.splitlines() == printed
    rows = document.table().records()
    assert len(rows) == len(printed)
    assert rows[0]["Allowed"].startswith("no: --allow")
