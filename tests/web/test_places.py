"""What is made for some keeps nobody else from looking: how much is made at once, and what ends when nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from eventckpt import CheckpointAudit
from eventckpt.threads import in_thread
from eventckpt.web import app, create_app, places
from eventckpt.web.addresses import PAGES, Shown
from eventckpt.web.page import Line, Page
from eventckpt.web.places import weighed
from eventckpt.web.query import Query
from eventckpt.web.viewer import Viewer

from ..engines import Engine
from ..projections.commands import PATIENCE
from ..storage.checkpoints import WORKFLOW, checkpoint
from ..storage.removed import audited

Handler = Callable[[Viewer, Query], Awaitable[Page]]

ODD = Page("problem.html", "Odd", {"said": "odd", "names": ()})


def made(monkeypatch: pytest.MonkeyPatch, engine: Engine, page: Handler) -> ASGIApp:
    """A viewer with one more page, at /odd."""
    monkeypatch.setattr(app, "PAGES", {**PAGES, "/odd": Shown(page, ("size", "thread"))})
    return create_app(CheckpointAudit(audited(engine)))


@asynccontextmanager
async def looking(viewer: ASGIApp) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(viewer, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=PATIENCE) as client:
        yield client


async def asked_until(gone: asyncio.Event, viewer: ASGIApp, path: str) -> None:
    """Ask for a page, and hang up."""
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "scheme": "http"}
    scope |= {"server": ("127.0.0.1", 80), "headers": [(b"host", b"127.0.0.1")]}
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        if (first := next(asked, None)) is not None:
            return first
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """There is nobody."""

    await viewer(scope, receive, send)


async def in_time(waiting: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await waiting


@pytest.mark.parametrize("where", ["on the loop", "in threads"])
async def test_pages_that_do_not_end_fill_their_places_and_threads_and_keep_nobody_from_the_lists(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, where: str
) -> None:
    await engine.storage().for_run("r1", workflow_name=WORKFLOW).save(checkpoint())
    gate, over, begun = asyncio.Event(), threading.Event(), asyncio.Semaphore(0)

    async def page(viewer: Viewer, asked: Query) -> Page:
        begun.release()
        await (gate.wait() if where == "on the loop" else in_thread(over.wait))
        return ODD

    async with looking(made(monkeypatch, engine, page)) as client, asyncio.TaskGroup() as group:
        endless = [group.create_task(client.get("/odd")) for _ in range(places._AT_ONCE)]
        for _ in endless:
            await in_time(begun.acquire())
        for path, status in {
            **{path: 200 for path, shown in PAGES.items() if shown.is_small and path != "/sign-in"},
            "/none": 404,
            "/static/style.css": 200,
            "/runs?limit=x": 400,
            "/odd": 503,
        }.items():
            assert (await in_time(client.get(path))).status_code == status, path
        gate.set()
        over.set()
        assert {(await each).status_code for each in endless} == {200}


@pytest.mark.parametrize("form", ["html", "jsonl"])
async def test_the_lines_of_a_page_are_made_in_the_threads_of_pages_and_never_on_the_loop(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, form: str
) -> None:
    made_by: list[str] = []

    async def page(viewer: Viewer, asked: Query) -> Page:
        def lines() -> Iterator[Line]:
            made_by.append(threading.current_thread().name)
            yield "odd", {"n": 1}

        return Page("types.html", "Odd", {"types": (), "count": 0, "runs": 1}, lines, ("eventckpt", "odd"))

    async with looking(made(monkeypatch, engine, page)) as client:
        answer = await in_time(client.get("/odd", params={"format": form}))
    assert answer.status_code == 200
    assert [name.rpartition("_")[0] for name in made_by] == ["eventckpt-large-pages"]


async def test_what_nobody_waits_for_any_more_ends_and_its_place_is_free_when_its_thread_has_ended(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(places, "_AT_ONCE", 1)
    gone, over = asyncio.Event(), threading.Event()
    begun, at_work, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
    endless, loop = True, asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(at_work.set)
        over.wait()

    async def page(viewer: Viewer, asked: Query) -> Page:
        begun.set()
        try:
            await (asyncio.Future[None]() if asked.text("thread") is None else in_thread(work))
        finally:
            cancelled.set()
        return ODD

    async def free(viewer: Viewer, asked: Query) -> Page:
        return await page(viewer, asked) if endless else ODD

    viewer = made(monkeypatch, engine, free)
    async with looking(viewer) as client, asyncio.TaskGroup() as group:
        hanging_up = group.create_task(asked_until(gone, viewer, "/odd"))
        await in_time(begun.wait())
        assert (await client.get("/odd")).status_code == 503
        gone.set()
        await in_time(hanging_up)
        await in_time(cancelled.wait())
        endless = False
        assert (await client.get("/odd")).status_code == 200

        gone.clear()
        cancelled.clear()
        endless = True
        waiting = group.create_task(client.get("/odd?thread=yes"))
        await in_time(at_work.wait())
        waiting.cancel()
        assert (await client.get("/odd")).status_code == 503, "its thread works still"
        assert not cancelled.is_set()
        over.set()
        await in_time(cancelled.wait())
        endless = False
        assert (await client.get("/odd")).status_code == 200


@pytest.mark.parametrize("sizes", [[60] * 7, [100, 10, 500, 30, 60, 1], [10] * 12, [1_000] * 3], ids=str)
async def test_pages_hold_so_many_bytes_of_states_at_once_and_one_that_holds_more_is_alone(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, sizes: Sequence[int]
) -> None:
    monkeypatch.setattr(places, "_UNDER_WAY", 100)
    monkeypatch.setattr(places, "_WAIT", PATIENCE)
    held: list[int] = []
    seen: list[list[int]] = []

    async def page(viewer: Viewer, asked: Query) -> Page:
        size = asked.number("size", 0, most=10_000)
        await weighed(size)
        held.append(size)
        seen.append(list(held))
        await in_thread(len, held)
        held.remove(size)
        return ODD

    async with looking(made(monkeypatch, engine, page)) as client:
        answers = await in_time(asyncio.gather(*(client.get(f"/odd?size={size}") for size in sizes)))
    assert {each.status_code for each in answers} == {200}
    assert len(seen) == len(sizes)
    assert [each for each in seen if sum(each) > 100 and len(each) > 1] == []
    assert held == []


async def test_who_waits_too_long_for_room_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(places, "_UNDER_WAY", 100)
    monkeypatch.setattr(places, "_WAIT", 0.0)
    gate, begun = asyncio.Event(), asyncio.Event()

    async def page(viewer: Viewer, asked: Query) -> Page:
        await weighed(60)
        begun.set()
        await gate.wait()
        return ODD

    async with looking(made(monkeypatch, engine, page)) as client, asyncio.TaskGroup() as group:
        first = group.create_task(client.get("/odd"))
        await in_time(begun.wait())
        further = await in_time(client.get("/odd"))
        assert (further.status_code, further.headers["retry-after"]) == (503, "5")
        gate.set()
        assert (await first).status_code == 200
        assert (await client.get("/odd")).status_code == 200


async def test_every_page_that_reads_a_state_waits_until_there_is_room_for_it(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    run = engine.storage().for_run("r1", workflow_name=WORKFLOW)
    first = checkpoint()
    one = await run.save(first)
    other = await run.save(checkpoint(first, state={"total": 1}))
    engine.settle()
    weights: list[int] = []

    async def weighing(self: places.Scales, size: int, held: list[int]) -> None:
        weights.append(size)

    monkeypatch.setattr(places.Scales, "add", weighing)
    named = f"run=r1&workflow={WORKFLOW}"
    async with looking(create_app(CheckpointAudit(audited(engine)))) as client:
        for path in (f"/event?event={one}", f"/compare?before={one}&after={other}", f"/run/lineage?{named}"):
            weights.clear()
            assert (await client.get(path)).status_code == 200, path
            assert sum(weights) > 0, path
