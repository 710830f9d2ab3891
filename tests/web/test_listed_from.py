"""What runs and sessions are listed from, where that is left to the viewer: a projection once there is one, and the log
where there is none, or none any more."""

from __future__ import annotations

import httpx
import pytest
from agent_framework import Message
from azure.cosmos.aio import CosmosClient

from eventckpt import CheckpointAudit, CosmosEventStore, EventHistoryProvider
from eventckpt.audit.listed_from import ListedFrom
from eventckpt.errors import CheckpointStoreError, StoreNotFoundError, StoreReplacedError, StoreUnavailableError
from eventckpt.runs import fold
from eventckpt.stores import AuditStore, RunStore
from eventckpt.stores.walks import headers_of

from ..cli.conftest import Cli, order_run
from ..engines import CosmosEngine, Engine
from ..projections.driven_clock import DrivenClock
from ..storage.removed import audited
from .conftest import viewing_store
from .html import read


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


@pytest.mark.parametrize("error", [StoreNotFoundError, StoreUnavailableError, StoreReplacedError])
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
    if error is StoreReplacedError:
        with pytest.raises(StoreReplacedError):
            await listed.look(again=True)
        return
    is_gone = error is StoreNotFoundError
    assert (await listed.look(again=True), listed.latest) == (is_gone, "log" if is_gone else "projection")


@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_what_was_asked_for_stays(engine: Engine, latest: str) -> None:
    await order_run(engine)
    audit = CheckpointAudit(audited(engine), latest=latest)  # pyright: ignore[reportArgumentType]
    assert (await audit.listed_from.look(again=True), audit.latest) == (False, latest)
