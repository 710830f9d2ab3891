"""A store that goes away while it is looked at: the pages say so, and show it once it is back, by themselves."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from eventckpt import CheckpointAudit, SqliteEventStore, StreamId
from eventckpt.location import open_store
from eventckpt.stores.conformance import make_event
from eventckpt.web import create_app
from eventckpt.web.addresses import PAGES
from eventckpt.web.answering import answering_at
from eventckpt.web.opened import Opened

from ..answers.workflows import asked
from ..cli import test_answer
from ..cli.programs import called
from ..cosmos_emulator import CosmosEmulator
from ..engines import SqliteEngine
from ..engines import where as settings_of
from .answering import TOKEN, Viewers, answering_viewer
from .conftest import viewing_store
from .html import read


async def made(path: Path, *run_ids: str) -> None:
    """A file with these runs."""
    async with SqliteEventStore(path) as store:
        for run_id in run_ids:
            await store.append(make_event(StreamId("orders", run_id), 1))


@asynccontextmanager
async def looking(opened: Opened) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of the viewer, as its program opens and serves it."""
    async with opened:
        app = create_app(await opened.audit(), renew=opened.audit)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


def over(path: Path) -> Opened:
    return Opened(partial(open_store, path, read_only=True, patience=0.1))


async def shown(client: httpx.AsyncClient) -> list[str]:
    """The runs on the page of runs."""
    answer = await client.get("/runs")
    assert answer.status_code == 200, answer.text
    [table] = read(answer.text).all("table")
    return sorted(link.text for link in table.all("a") if "/run?" in link.attributes["href"])


async def is_gone(client: httpx.AsyncClient, path: str = "/runs") -> str:
    """What a page says of a store that is not there, or cannot be read now."""
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    page = read(answer.text)
    assert [each for each in page.all("p") if each.attributes.get("hx-trigger") == "every 5s"]
    said = page.one(role="alert").text
    assert "Traceback" not in answer.text
    return said


class Case(NamedTuple):
    """What becomes of a file, and how it is there again."""

    breaks: Callable[[Path], object]
    mends: Callable[[Path], object]
    shows: list[str]


def aside(path: Path) -> Path:
    return path.with_name("aside.db")


def move(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        if (each := Path(f"{path}{suffix}")).exists():
            each.rename(f"{aside(path)}{suffix}")


def put_back(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        if (each := Path(f"{aside(path)}{suffix}")).exists():
            each.rename(f"{path}{suffix}")


def put_another(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copy(path.with_name("another.db"), path)


def scrawl(path: Path) -> None:
    move(path)
    path.write_bytes(b"no store" * 1_000)


def raise_version(path: Path, by: int = 100) -> None:
    with closing(sqlite3.connect(path)) as file:
        version = file.execute("PRAGMA user_version").fetchone()[0]
        file.execute(f"PRAGMA user_version = {version + by}")


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def put_folder_back(path: Path) -> None:
    path.parent.with_name("elsewhere").rename(path.parent)


CASES = {
    "moved away": Case(move, put_back, ["r1", "r2"]),
    "moved away, and another put there": Case(move, put_another, ["a1"]),
    "overwritten": Case(scrawl, put_back, ["r1", "r2"]),
    "its folder moved": Case(move_folder, put_folder_back, ["r1", "r2"]),
    "of a later version": Case(raise_version, partial(raise_version, by=-100), ["r1", "r2"]),
    "a link that leads nowhere": Case(lambda path: (move(path), path.symlink_to("none")), put_back, ["r1", "r2"]),
    "a folder": Case(
        lambda path: (move(path), path.mkdir()), lambda path: (path.rmdir(), put_back(path)), ["r1", "r2"]
    ),
    "emptied": Case(lambda path: (move(path), path.touch()), put_back, ["r1", "r2"]),
}


@pytest.mark.parametrize("is_written", [False, True], ids=["at rest", "while it is written"])
@pytest.mark.parametrize("name", CASES)
async def test_a_file_is_missed_while_it_is_gone_and_shown_once_it_is_there(
    tmp_path: Path, name: str, is_written: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case, path = CASES[name], tmp_path / "folder" / "events.db"
    if is_written and name == "of a later version":
        pytest.skip("whoever has a file open reads it on while another process brings it up to date")
    await made(path, "r1", "r2")
    await made(path.with_name("another.db"), "a1")
    writer = SqliteEventStore(path)
    if is_written:
        await writer.read(StreamId("orders", "r1"), 1)
    async with looking(over(path)) as client:
        assert await shown(client) == ["r1", "r2"]
        case.breaks(path)
        for _ in range(2):
            assert str(path) in await is_gone(client)
        case.mends(path)
        for _ in range(2):
            assert await shown(client) == case.shows
    await writer.close()
    assert [record for record in caplog.records if record.exc_info] == []


PLACES = {
    "/compare": {"before": "r1@1", "after": "r2@1"},
    "/conversation": {"session": "s"},
    "/conversation/events": {"session": "s"},
    "/event": {"event": "r1@1"},
    "/inbox/question": {"run": "r1", "request": "q"},
    "/turn": {"session": "s", "seq": 1},
    **{where: {"run": "r1"} for where in ("/run", "/run/history", "/run/lineage", "/run/verify")},
}
"""What else is said in the address of a page."""
WITHOUT_STORE = {"/sign-in", "/operations"}
"""What shows nothing of a store, where there is no projector's side."""


@pytest.mark.parametrize("where", sorted(PAGES.keys() - WITHOUT_STORE))
@pytest.mark.parametrize("is_mounted", [False, True], ids=["program", "mounted"])
async def test_no_page_shows_a_file_that_is_gone(tmp_path: Path, is_mounted: bool, where: str) -> None:
    path = tmp_path / "folder" / "events.db"
    await made(path, "r1", "r2")
    asked = str(httpx.URL(where, params=PLACES.get(where, {})))
    if is_mounted:
        async with SqliteEventStore(path, read_only=True) as store, viewing_store(store) as client:
            await shown(client)
            move(path)
            assert f"The store {path} is gone" in await is_gone(client, asked)
    else:
        async with looking(over(path)) as client:
            before = (await client.get(asked)).status_code
            move(path)
            for _ in range(2):
                assert f"There is no store at {path}" in await is_gone(client, asked)
            put_back(path)
            assert (await client.get(asked)).status_code == before != 503


async def test_a_file_that_is_replaced_is_shown_as_it_is_now(tmp_path: Path) -> None:
    path, another = tmp_path / "events.db", tmp_path / "another.db"
    await made(path, "r1")
    await made(another, "a1")
    async with looking(over(path)) as client:
        assert await shown(client) == ["r1"]
        os.replace(another, path)  # noqa: PTH105 - as other programs do
        assert await shown(client) == ["a1"]
        await made(path, "a2")
        assert await shown(client) == ["a1", "a2"]


async def test_a_restore_waits_until_nobody_looks(tmp_path: Path) -> None:
    path, copy = tmp_path / "events.db", tmp_path / "copy.db"
    settings = {"EVENTCKPT_STORE": str(path)}
    await made(path, "r1")
    assert (await called("eventckpt", ["backup", str(copy)], settings)).code == 0
    await made(path, "r2")
    async with looking(over(path)) as client:
        assert await shown(client) == ["r1", "r2"]
        refused = await called("eventckpt", ["restore", str(copy), "--yes"], settings)
        assert (refused.code, "is open by process" in refused.err) == (4, True)
        assert await shown(client) == ["r1", "r2"]
    assert (await called("eventckpt", ["restore", str(copy), "--yes"], settings)).code == 0
    async with looking(over(path)) as client:
        assert await shown(client) == ["r1"]


async def test_a_store_that_is_mounted_without_a_way_to_renew_it_says_that_it_was_replaced(tmp_path: Path) -> None:
    path, another = tmp_path / "events.db", tmp_path / "another.db"
    await made(path, "r1")
    await made(another, "a1")
    async with SqliteEventStore(path, read_only=True) as store:
        transport = httpx.ASGITransport(create_app(CheckpointAudit(store)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert await shown(client) == ["r1"]
            os.replace(another, path)  # noqa: PTH105 - as other programs do
            assert "another file by now" in await is_gone(client)


async def test_answers_are_given_again_once_the_file_is_back_and_what_was_typed_while_it_was_gone_is_kept(
    tmp_path: Path,
) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    for run_id in ("order-1", "order-2"):
        await test_answer.asked(engine, "shoes", run_id)
    await engine.close()
    at = partial(answering_at, app="tests.cli.test_answer:build", allow=[], token=TOKEN)
    async with over(engine.path) as opened, at(str(engine.path)) as answering:
        viewers = Viewers(create_app(await opened.audit(), renew=opened.audit, answering=answering), answering)
        async with viewers.browser("ann") as ann, viewers.browser("bob") as bob:
            action, fields = await ann.form(run_id="order-1")
            assert (await ann.post(action, response="true", **fields)).status_code == 303
            (action, fields), (elsewhere, of_bob) = await ann.form(run_id="order-2"), await bob.form(run_id="order-2")
            assert (await bob.post("/sign-out", form_token=of_bob["form_token"])).status_code == 303
            move(engine.path)
            refused = await ann.post(action, response="true", **fields)
            page = read(refused.text)
            assert (refused.status_code, "every" in refused.text) == (503, False)
            assert page.one(role="alert").text.endswith("Nothing was done.")
            assert page.form("/inbox/question").fields == {**fields, "response": "true"}
            page = read((await bob.post(elsewhere, response="what bob typed", **of_bob)).text)
            assert "what bob typed" in page.by_id("main").text
            assert not page.by_id("main").all("form"), "he is not signed in any more"
            put_back(engine.path)
            form = read(refused.text).form("/inbox/question")
            assert (await ann.post(form.action, **form.fields)).status_code == 303
            assert "Answered by ann" in (await ann.question(run_id="order-2")).text
            again = await ann.post(form.action, **form.fields)
            assert (again.status_code, "was answered by" in again.text) == (409, True)


async def test_an_application_that_cannot_renew_its_storage_says_so_of_each_answer(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await asked(engine)
    async with answering_viewer(engine, print) as viewers, viewers.browser() as ann:
        action, fields = await ann.form()
        move(engine.path)
        await ann.post(action, response="true", **fields)
        put_back(engine.path)
        refused = await ann.post(action, response="true", **fields)
        assert refused.status_code == 503
        assert "Make a new one" in read(refused.text).one(role="alert").text


@asynccontextmanager
async def account() -> AsyncGenerator[tuple[CosmosEmulator, Opened], None]:
    """An account with a run, and the viewer's store of it."""
    async with CosmosEmulator() as emulator:
        settings = settings_of(emulator)
        names = {"KEY": "credential", "DATABASE_NAME": "database_name", "CONTAINER_NAME": "container_name"}
        environ = {f"AZURE_COSMOS_{name}": settings[key] for name, key in names.items()}
        async with open_store(emulator.endpoint, environ=environ) as store:
            await store.append(make_event(StreamId("orders", "r1"), 1))
        emulator.catch_up()
        yield emulator, Opened(partial(open_store, emulator.endpoint, read_only=True, patience=0.1, environ=environ))


async def test_no_page_shows_an_account_that_cannot_be_reached() -> None:
    async with account() as (emulator, opened), looking(opened) as client:
        await shown(client)
        emulator.faults.respond(503)
        for where in sorted(PAGES.keys() - WITHOUT_STORE):
            await is_gone(client, str(httpx.URL(where, params=PLACES.get(where, {}))))


async def test_an_account_that_cannot_be_reached_is_missed_and_shown_once_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with account() as (emulator, opened), looking(opened) as client:
        assert await shown(client) == ["r1"]
        emulator.faults.respond(503)
        for _ in range(2):
            assert emulator.key not in await is_gone(client)
        emulator.faults.clear()
        assert await shown(client) == ["r1"]
        emulator.faults.drop()
        assert emulator.key not in await is_gone(client)
        emulator.faults.clear()
        assert await shown(client) == ["r1"]
    assert [record for record in caplog.records if record.exc_info] == []
