"""What runs and sessions are listed from, where that is left to the viewer: a projection once there is one, and the log
where there is none, or none any more."""

from __future__ import annotations

import httpx
import pytest
from agent_framework import Message
from azure.cosmos.aio import CosmosClient

from eventckpt import CheckpointAudit, CosmosEventStore, EventHistoryProvider
from eventckpt.audit.listed_from import ListedFrom
from eventckpt.errors import (
    CheckpointStoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReplacedError,
    StoreUnavailableError,
)
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, RunStore
from eventckpt.stores.walks import headers_of
from eventckpt.web.addresses import PAGES

from ..cli.conftest import Cli, order_run
from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine
from ..projections.driven_clock import DrivenClock
from ..storage.removed import audited
from .conftest import viewing_store
from .html import read
from .standing import Projector


async def listed_from(viewer: httpx.AsyncClient) -> str:
    answer = await viewer.get("/runs")
    assert answer.status_code == 200, answer.text
    page = read(answer.text)
    assert "order-1" in page.text
    return page.one("footer").text.rpartition("from the ")[2]


async def project(engine: Engine) -> None:
    """What a projector makes of the runs."""
    store = engine.open()
    assert isinstance(store, AuditStore)
    async for stream in store.streams():
        info = fold(await headers_of(store, stream))
        assert info is not None
        await store.run_store().put(info)
    engine.settle()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DrivenClock:
    """The time that passes between two looks."""
    clock = DrivenClock()
    monkeypatch.setitem(ListedFrom.__init__.__kwdefaults__, "clock", clock)
    return clock


async def test_a_projection_that_is_made_while_somebody_looks_is_used_ten_seconds_later(
    engine: Engine, clock: DrivenClock
) -> None:
    await order_run(engine)
    engine.settle()
    async with viewing_store(audited(engine), latest="auto") as viewer:
        assert await listed_from(viewer) == "log."
        await project(engine)
        assert await listed_from(viewer) == "log."
        clock.advance(10.5)
        assert await listed_from(viewer) == "projection."


async def test_a_projection_whose_documents_are_gone_is_used_no_more_at_once(
    engine: Engine, clock: DrivenClock
) -> None:
    await order_run(engine)
    await project(engine)
    async with viewing_store(audited(engine), latest="auto") as viewer:
        assert await listed_from(viewer) == "projection."
        await engine.open().run_store().clear()
        engine.settle()
        assert await listed_from(viewer) == "log."


@pytest.mark.parametrize("engine", ["cosmos"], indirect=True)
async def test_a_projection_whose_container_is_gone_is_used_no_more_at_once(engine: Engine) -> None:
    await order_run(engine)
    await project(engine)
    assert isinstance(engine, CosmosEngine)
    settings, container = engine.settings, f"{engine.settings['container_name']}-projections"
    async with (
        CosmosEventStore(**settings, read_only=True) as store,
        viewing_store(store, latest="auto") as viewer,
        CosmosClient(settings["endpoint"], settings["credential"]) as client,
    ):
        assert await listed_from(viewer) == "projection."
        await client.get_database_client(settings["database_name"]).delete_container(container)
        assert await listed_from(viewer) == "log."


async def test_of_sessions_it_is_their_own_projection_that_counts(engine: Engine, cli: Cli) -> None:
    await order_run(engine)
    await project(engine)
    history = EventHistoryProvider(engine.open(), "chat")
    await history.save_messages("customer-7", [Message("user", ["hello"])], state={})
    engine.settle()
    async with viewing_store(audited(engine), latest="auto") as viewer:
        assert await listed_from(viewer) == "projection."
        lines = (await viewer.get("/conversations", params={"format": "jsonl"})).text
    assert lines == (await cli.json("sessions")).out
    assert '"turns": 1' in lines


QUERIES = {
    "/compare": {"before": "order-1@1", "after": "order-1@2"},
    "/event": {"run": "order-1", "seq": "1", "workflow": "orders"},
    "/run": {"run": "order-1"},
    "/run/history": {"run": "order-1"},
    "/run/lineage": {"run": "order-1"},
    "/run/verify": {"run": "order-1", "projection": "yes"},
    "/inbox/question": {"run": "order-1", "request": "asked"},
    "/conversation": {"session": "customer-7"},
    "/conversation/events": {"session": "customer-7"},
    "/turn": {"session": "customer-7", "seq": "1"},
}
"""Of each page that is about something, what that is."""
ASKS_NOTHING = {"/sign-in"}


@pytest.mark.parametrize("engine", ["cosmos"], indirect=True)
@pytest.mark.parametrize("is_projected", [False, True], ids=["from the log", "from the projection"])
@pytest.mark.parametrize("path", PAGES)
async def test_nobody_waits_twice_for_a_store_that_does_not_serve(
    engine: Engine, is_projected: bool, path: str, clock: DrivenClock
) -> None:
    await order_run(engine)
    await EventHistoryProvider(engine.open(), "chat").save_messages("customer-7", [Message("user", ["hi"])], state={})
    if is_projected:
        await project(engine)
    engine.settle()
    assert isinstance(engine, CosmosEngine)
    emulator = CosmosEmulator.at(engine.settings["endpoint"])
    assert emulator is not None
    async with (
        CosmosEventStore(**engine.settings, read_only=True) as store,
        viewing_store(store, latest="auto", operations=Projector(store)) as viewer,
    ):
        well = (await viewer.get(path, params=QUERIES.get(path))).status_code
        # Whoever is told to come back later than there is time for sends one request for an operation, and no more.
        with emulator.faults.respond(449, retry_after_ms=10**6) as away:
            for _ in range(2):
                clock.advance(10.5)
                before = away.hits
                answer = await viewer.get(path, params=QUERIES.get(path))
                assert (answer.status_code, away.hits - before) == ((well, 0) if path in ASKS_NOTHING else (503, 1))
                assert "449" in answer.text or path in ASKS_NOTHING
        clock.advance(10.5)
        assert (await viewer.get(path, params=QUERIES.get(path))).status_code == well


async def test_only_pages_that_list_say_what_they_are_listed_from(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await order_run(engine)
    await EventHistoryProvider(engine.open(), "chat").save_messages("customer-7", [Message("user", ["hi"])], state={})
    engine.settle()
    said: dict[str, str] = {}
    for path in PAGES:
        answer = await viewer.get(path, params=QUERIES.get(path))
        said[path] = read(answer.text).one("footer").text
    assert {path: text for path, text in said.items() if "listed" in text} == {
        "/runs": "Read only. Runs and questions are listed from the log.",
        "/runs/counts": "Read only. Runs and questions are listed from the log.",
        "/inbox": "Read only. Runs and questions are listed from the log.",
        "/conversations": "Read only. Sessions are listed from the log.",
    }


@pytest.mark.parametrize("error", [StoreNotFoundError, StoreUnavailableError, StoreLockedError, StoreReplacedError])
async def test_a_look_that_fails_decides_only_what_it_tells(
    engine: Engine, error: type[CheckpointStoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    await order_run(engine)
    await project(engine)
    store = audited(engine)
    listed = ListedFrom(store, "auto")
    assert (await listed.look(), listed.latest) == (True, "projection")
    runs = listed.projection
    assert runs is not None

    async def fails(self: RunStore) -> bool:
        raise error("it is away")

    monkeypatch.setattr(type(runs), "is_empty", fails)
    if error is StoreNotFoundError:
        assert (await listed.look(again=True), listed.latest) == (True, "log")
        return
    for _ in range(2):
        with pytest.raises(error):
            await listed.look(again=True)
        assert listed.latest == "projection"
    with pytest.raises(error):
        await listed.look()


@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_what_was_asked_for_stays(engine: Engine, latest: str) -> None:
    await order_run(engine)
    audit = CheckpointAudit(audited(engine), latest=latest)  # pyright: ignore[reportArgumentType]
    assert (await audit.listed_from.look(again=True), audit.latest) == (False, latest)
