"""`eventckpt-projector`, run as its users run it, and what it shows of itself."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from eventckpt.errors import StoreUnavailableError
from eventckpt.stores import AuditStore
from eventckpt.stores.change_feed import EVERYTHING
from projections import LatestProjection, Lease, ProcessorOptions, open_engine
from projections.projector import Projector
from projections.worker.health import Health, Terms
from projections.worker.metrics import registry

from ..conversations import branched, clear_event, session, talked
from .commands import ended, projected, running
from .promql import documented_metrics
from .rig import Rig


async def test_a_worker_projects_shows_itself_and_releases_everything_on_sigterm(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=3)
    async with running(rig, "--poll-interval", "0.1") as worker:
        await projected(rig, "b", 3)
        await rig.writer.write("a")
        await projected(rig, "a", 4)
        code, said = await worker.health()
        assert (code, said["status"]) == (200, "ok")
        assert [each["range"] for each in said["ranges"]] == ["-FF"]
        assert (await worker.page("/livez"))[0] == 200
        _, body = await worker.page("/metrics")
        assert 'eventckpt_projector_events_total{range="-FF"} 7.0' in body
        assert (await worker.page("/elsewhere"))[0] == 404
        assert await worker.terminated() == 0
        lines = [json.loads(line) for line in worker.lines[1:]]
    assert any("Projecting into 'latest'" in line["message"] for line in lines)
    [lease] = await rig.leases("eventckpt-latest")
    assert lease.owner is None


async def test_a_worker_projects_the_sessions_beside_the_runs(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    store = rig.writer.store
    assert isinstance(store, AuditStore)
    sessions = store.sessions()
    one, two = await talked(sessions, session(), "one", "two")
    branch = await branched(sessions, one, "other")
    async with running(rig, "--turns", "--poll-interval", "0.1") as worker:
        await worker.until("/metrics", lambda _, body: 'eventckpt_projector_events_total{range="-FF"} 3.0' in body)
        await sessions.append(clear_event(two, **{branch.run_id: 1}))
        await worker.until("/metrics", lambda _, body: 'eventckpt_projector_events_total{range="-FF"} 4.0' in body)
        assert (await worker.health())[1]["status"] == "ok"
        assert await worker.terminated() == 0
    documents = await sessions.run_store().get(session(), branch)
    assert documents[branch].session == "s1"
    assert (documents[session()].checkpoints, documents[session()].checkpoint_id) == (2, None)
    code, _, errors = await ended(rig, "compare", "--turns")
    assert (code, errors) == (0, "log and projection agree\n")
    assert (await ended(rig, "compare"))[0] == 1  # the runs have a projection of their own, and no worker
    for command in ("rebuild", "status", "unpark", "reset"):
        assert (await ended(rig, command, "--turns"))[0] == 0
    assert [info.run_id async for info in store.run_store().all()] == []


async def test_the_tools_around_a_worker(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a", "b", count=3)
    code, output, _ = await ended(rig, "compare", "--json")
    assert code == 1
    assert {each["what"] for each in json.loads(output)} == {"missing"}
    code, _, errors = await ended(rig, "rebuild")
    assert (code, "latest-2 is in use" in errors) == (0, True)
    code, output, errors = await ended(rig, "compare")
    assert (code, errors) == (0, "log and projection agree\n")
    code, output, _ = await ended(rig, "status", "--json")
    status = json.loads(output)
    assert status["projection"] == "latest-2"
    [row] = status["ranges"]
    assert (row["range"], row["owner"], row["lag"], row["state"], row["position"]) == ("-FF", None, 0, "free", '"6"')
    code, _, errors = await ended(rig, "reset")
    assert (code, errors) == (0, "latest-2 begins anew from beginning\n")
    code, output, _ = await ended(rig, "status")
    assert code == 0
    assert "Projection latest-2" in output


async def test_what_cannot_work_is_said_in_one_line(sqlite_rig: Rig) -> None:
    code, _, errors = await ended(sqlite_rig, "run", "--on-error", "ignore")
    assert code == 2
    assert "on_error is 'stop' or 'park'" in errors
    code, _, errors = await ended(sqlite_rig, "status", "--store", "/proc/nowhere/events.db")
    assert code == 4
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["status", "compare", "rebuild", "reset", "unpark"])
async def test_a_store_that_is_not_there_is_not_made_by_looking(sqlite_rig: Rig, tmp_path: Path, command: str) -> None:
    missing = tmp_path / "folder" / "missing.db"
    code, output, errors = await ended(sqlite_rig, command, "--store", str(missing))
    assert (code, output) == (4, "")
    assert f"There is no store at {missing}" in errors
    assert not missing.parent.exists()


@pytest.mark.parametrize("command", ["status", "compare", "rebuild", "reset", "unpark"])
async def test_an_empty_file_is_no_store_and_stays_empty(sqlite_rig: Rig, tmp_path: Path, command: str) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    code, output, errors = await ended(sqlite_rig, command, "--store", str(empty))
    assert (code, output) == (4, "")
    assert f"There is no store in {empty}" in errors
    assert empty.stat().st_size == 0


async def test_a_position_that_was_refused_is_in_the_status(sqlite_rig: Rig) -> None:
    await sqlite_rig.writer.write("a")
    leases = open_engine(sqlite_rig.writer.store).leases("eventckpt-latest")
    await leases.create(Lease(range=EVERYTHING, continuation='"9"'))
    await leases.doubt("a reason", "now")
    code, output, _ = await ended(sqlite_rig, "status", "--json")
    status = json.loads(output)
    assert (code, status["doubted"]) == (0, "a reason")
    assert "beyond the end" in status["ranges"][0]["error"]


async def test_a_connection_string_as_store_is_refused_and_not_shown(sqlite_rig: Rig) -> None:
    key = "C2y6yDjf5R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
    for store in (f"AccountEndpoint=https://x/;AccountKey={key}", f"https://me:{key[:30]}@x.documents.azure.com/"):
        code, output, errors = await ended(sqlite_rig, "status", "--store", store)
        assert code == 2
        assert "connection string" in errors
        assert key[:6] not in output + errors
        assert "Traceback" not in errors


# Rebuilding


async def test_a_rebuild_repairs_what_is_wrong_and_workers_move_over(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=3)
    store = rig.engine.open()
    projector = Projector(open_engine(store), ProcessorOptions(worker="one"), clock=rig.clock)
    stop = asyncio.Event()
    working = asyncio.ensure_future(projector.run(stop))
    await rig.clock.until(lambda: getattr(projector.projection, "applied", 0) == 2)
    right = await rig.info("a")
    await store.run_store().clear()
    await store.run_store().put(msgspec.structs.replace(right, checkpoints=99))
    seen: list[tuple[int, int]] = []
    rebuilding = asyncio.ensure_future(
        Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="two"), clock=rig.clock).rebuild(
            lambda handled, left: seen.append((handled, left))
        )
    )
    await rig.clock.until(rebuilding.done)
    assert await rebuilding == "latest-2"
    assert seen[-1] == (6, 0)
    assert (await rig.info("a", "latest-2")) == right
    await rig.writer.write("a")

    async def moved_over() -> bool:
        return getattr(await rig.info("a", "latest-2"), "seq", 0) == 4

    await rig.clock.until(moved_over)
    stop.set()
    await working
    assert [lease.owner for lease in await rig.leases("eventckpt-latest-2")] == [None]


# Metrics


class Shown:
    """A projector over an engine of its own, and what its worker shows."""

    def __init__(self, rig: Rig, options: ProcessorOptions, seen: dict[str, list[float]]) -> None:
        self.projector = Projector(open_engine(rig.engine.open()), options, clock=rig.clock)
        self._registry = registry(self.projector, Health(self.projector, Terms(), rig.clock))
        self._seen = seen

    def figures(self) -> dict[str, float]:
        lines = generate_latest(self._registry).decode().splitlines()
        parsed = [re.fullmatch(r"eventckpt_projector_(\w+?)(?:_total)?(?:\{.*\})? (\S+)", line) for line in lines]
        found: dict[str, float] = {}
        for match in filter(None, parsed):
            found[match[1]] = max(float(match[2]), found.get(match[1], 0.0))
        for name, value in found.items():
            self._seen.setdefault(name, []).append(value)
        return found


async def unavailable(*_: object) -> None:
    raise StoreUnavailableError("no answer")


async def test_every_metric_counts_something(cosmos_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = cosmos_rig
    faults = rig.emulator.faults
    _, container = rig.place
    await rig.writer.write("a", count=2)
    shown: dict[str, list[float]] = {}
    parking = ProcessorOptions(worker="one", start="now", on_error="park", max_attempts=1, page_size=1)
    parks = Shown(rig, parking, shown)
    async with parks.projector.processing("parking"):
        await rig.clock.until(lambda: parks.figures().get("polls", 0) > 0)
        await rig.writer.write("a")
        await rig.clock.until(lambda: parks.figures()["gaps"] > 0)
        with faults.respond(400, container=f"{container}-projections", times=2):
            await rig.writer.write("b")
            await rig.clock.until(lambda: parks.figures()["parked"] > 0)
        with faults.respond(400, kind="change_feed"):
            for name in ("late", "read_failures", "trouble_seconds"):
                await rig.clock.until(lambda name=name: parks.figures()[name] > 0)
        with faults.respond(400, container=f"{container}-leases"):
            await rig.clock.until(lambda: parks.figures()["restarts"] > 0)
        with faults.delay(0.02, kind="change_feed"):
            await rig.writer.write("c", count=8)
            await rig.clock.until(lambda: parks.figures()["lag"] > 0)
            await rig.clock.until(lambda: parks.figures()["read_seconds"] > 0)
        with faults.delay(0.02, container=f"{container}-projections"):
            await rig.clock.until(lambda: parks.figures()["handler_seconds"] > 0)
        await rig.clock.until(lambda: parks.figures()["documents"] > 0)
    options = ProcessorOptions(worker="two", max_attempts=1)
    stops = Shown(rig, options, shown)
    with faults.respond(400, container=f"{container}-projections"):
        async with stops.projector.processing("stopping"):
            await rig.clock.until(lambda: stops.figures().get("stopped", 0) > 0)
            await rig.clock.until(lambda: stops.figures()["range_stopped"] > 0)
    down = Shown(rig, ProcessorOptions(worker="down"), shown)
    with monkeypatch.context() as patched:
        patched.setattr(LatestProjection, "apply", unavailable)
        async with down.projector.processing("down"):
            await rig.clock.until(lambda: down.figures().get("outages", 0) > 0)
    doubts = Shown(rig, ProcessorOptions(worker="three"), shown)
    stop = asyncio.Event()
    leases = open_engine(rig.engine.open()).leases("eventckpt-latest")
    await leases.create(Lease(range=EVERYTHING, continuation='"abc"'))
    await leases.mark_initialised()
    rig.engine.settle()
    running = asyncio.ensure_future(doubts.projector.run(stop))
    await rig.clock.until(lambda: doubts.figures().get("positions_refused", 0) > 0 and doubts.figures()["doubts"] > 0)
    stop.set()
    await running
    assert [name for name, values in shown.items() if not any(values)] == []
    text = (Path(__file__).parent.parent.parent / "docs/projector.md").read_text(encoding="utf-8")
    documented = {re.sub("^eventckpt_projector_|_total$", "", name) for name in documented_metrics(text)}
    assert set(shown) == {name for name in documented if not name.startswith("retention_")}


async def test_a_worker_that_reads_no_more_is_not_well(rig: Rig) -> None:
    hang, hangs_now = asyncio.Event(), asyncio.Event()

    class Hanging(Projector):
        def processor_of(self, name: str) -> Any:
            self.projection = LatestProjection(rig.writer.store)

            async def hangs(batch: object) -> None:
                hangs_now.set()
                await hang.wait()

            return rig.worker(hangs, "one", processor="hanging", read_ahead=0)

    await rig.writer.write("a")
    projector = Hanging(open_engine(rig.writer.store), ProcessorOptions(worker="one"), clock=rig.clock)
    health = Health(projector, Terms(poll_age=60.0, stall=300.0), rig.clock)
    assert health.ready()[0] is False
    async with projector.processing("latest"):
        await rig.clock.until(hangs_now.is_set)
        assert health.ready()[0] is True
        assert health.alive()[0] is True
        await rig.clock.until(lambda: health.ready()[1]["status"] == "stuck")
        well, said = health.ready()
        assert (well, said["status"]) == (False, "stuck")
        assert said["ranges"][0]["lag"] == 1
        assert health.alive()[0] is True, "a batch may take long"
        await rig.clock.passes(300)
        well, said = health.alive()
        assert (well, said["status"]) == (False, "hanging")
        hang.set()


def test_the_package_needs_no_azure_sdk_for_sqlite(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['azure'] = None\n"
        "from eventckpt import SqliteEventStore\n"
        "from projections import open_engine\n"
        f"open_engine(SqliteEventStore({str(tmp_path / 'x.db')!r}))\n"
        "assert not [name for name in sys.modules if name.startswith('azure.')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
