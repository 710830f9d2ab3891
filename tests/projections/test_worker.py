"""`eventckpt-projector`, run as its users run it, and what it shows of itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from eventckpt.stores.change_feed import EVERYTHING
from projections import LatestProjection, Lease, ProcessorOptions, open_engine
from projections.projector import Projector
from projections.worker.metrics import health, registry

from ..engines import CosmosEngine
from .rig import Rig

PATIENCE = 120.0
"""Seconds in which another process does what it is asked, on a machine that does other things, too."""
COMMAND = [sys.executable, "-c", "from projections.worker import app; app()"]


def place(rig: Rig) -> tuple[str, dict[str, str]]:
    """What `--store` takes for this engine, and the environment that goes with it."""
    if isinstance(rig.engine, CosmosEngine):
        settings = rig.engine.settings
        names = {"key": "credential", "database_name": "database_name", "container_name": "container_name"}
        return settings["endpoint"], {f"AZURE_COSMOS_{name.upper()}": settings[key] for name, key in names.items()}
    return str(rig.engine.path), {}


async def started(rig: Rig, *arguments: str) -> asyncio.subprocess.Process:
    store, environment = place(rig)
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env={**os.environ, **environment, "EVENTCKPT_STORE": store, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(rig: Rig, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    process = await started(rig, *arguments)
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@contextlib.asynccontextmanager
async def running(rig: Rig, *options: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str], None]:
    """A worker, and the address that it serves."""
    process = await started(rig, "run", "--port", "0", *options)
    try:
        assert process.stderr is not None
        said = (await process.stderr.readline()).decode()
        address = re.search(r"http://[\d.]+:\d+", said)
        assert address, said + (await process.stderr.read()).decode()
        yield process, address[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def page(address: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def projected(rig: Rig, run: str, seq: int) -> None:
    """Wait until a worker in another process has brought a run so far."""
    async with asyncio.timeout(PATIENCE):
        while getattr(await rig.info(run), "seq", 0) < seq:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(0.02)


async def test_a_worker_projects_shows_itself_and_releases_everything_on_sigterm(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=3)
    async with running(rig, "--poll-interval", "0.1") as (process, address):
        await projected(rig, "b", 3)
        await rig.writer.write("a")
        await projected(rig, "a", 4)
        code, body = await page(f"{address}/healthz")
        assert (code, json.loads(body)["status"]) == (200, "ok")
        assert [each["range"] for each in json.loads(body)["ranges"]] == ["-FF"]
        _, body = await page(f"{address}/metrics")
        assert 'eventckpt_projector_events_total{range="-FF"} 7.0' in body
        assert (await page(f"{address}/elsewhere"))[0] == 404
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in (await process.stderr.read()).decode().splitlines()]
    assert any("Projecting into 'latest'" in line["message"] for line in lines)
    [lease] = await rig.leases("eventckpt-latest")
    assert lease.owner is None


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
    assert code == 2
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["status", "compare", "rebuild", "reset", "unpark"])
async def test_a_store_that_is_not_there_is_not_made_by_looking(sqlite_rig: Rig, tmp_path: Path, command: str) -> None:
    missing = tmp_path / "folder" / "missing.db"
    code, output, errors = await ended(sqlite_rig, command, "--store", str(missing))
    assert (code, output) == (2, "")
    assert f"There is no store at {missing}" in errors
    assert not missing.parent.exists()


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
    await store.runs().clear()
    await store.runs().put(msgspec.structs.replace(right, checkpoints=99))
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


def figures(projector: Projector) -> dict[str, float]:
    lines = generate_latest(registry(projector)).decode().splitlines()
    parsed = [re.fullmatch(r"eventckpt_projector_(\w+?)(?:_total)?(?:\{.*\})? (\S+)", line) for line in lines]
    return {match[1]: float(match[2]) for match in parsed if match}


async def test_every_metric_counts_something(cosmos_rig: Rig) -> None:
    rig = cosmos_rig
    faults = rig.emulator.faults
    _, container = rig.place
    await rig.writer.write("a", count=2)
    shown: dict[str, list[float]] = {}

    def look(projector: Projector) -> dict[str, float]:
        for name, value in figures(projector).items():
            shown.setdefault(name, []).append(value)
        return figures(projector)

    parking = ProcessorOptions(worker="one", start="now", on_error="park", max_attempts=1, page_size=1)
    projector = Projector(open_engine(rig.engine.open()), parking, clock=rig.clock)
    async with projector.processing("parking"):
        await rig.clock.until(lambda: look(projector).get("polls", 0) > 0)
        await rig.writer.write("a")
        await rig.clock.until(lambda: look(projector)["gaps"] > 0)
        with faults.respond(400, container=f"{container}-projections", times=2):
            await rig.writer.write("b")
            await rig.clock.until(lambda: look(projector)["parked"] > 0)
        with faults.respond(400, kind="change_feed", times=1):
            await rig.clock.until(lambda: look(projector)["read_failures"] > 0)
        with faults.delay(0.02, kind="change_feed"):
            await rig.writer.write("c", count=8)
            await rig.clock.until(lambda: look(projector)["lag"] > 0)
            await rig.clock.until(lambda: look(projector)["read_seconds"] > 0)
        with faults.delay(0.02, container=f"{container}-projections"):
            await rig.clock.until(lambda: look(projector)["handler_seconds"] > 0)
        await rig.clock.until(lambda: look(projector)["documents"] > 0)
    options = ProcessorOptions(worker="two", max_attempts=1)
    stopping = Projector(open_engine(rig.engine.open()), options, clock=rig.clock)
    with faults.respond(400, container=f"{container}-projections"):
        async with stopping.processing("stopping"):
            await rig.clock.until(lambda: look(stopping).get("stopped", 0) > 0)
    doubting = Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="three"), clock=rig.clock)
    stop = asyncio.Event()
    leases = open_engine(rig.engine.open()).leases("eventckpt-latest")
    await leases.create(Lease(range=EVERYTHING, continuation='"abc"'))
    await leases.mark_initialised()
    rig.engine.settle()
    running = asyncio.ensure_future(doubting.run(stop))
    await rig.clock.until(lambda: look(doubting).get("positions_refused", 0) > 0 and look(doubting)["doubts"] > 0)
    stop.set()
    await running
    assert [name for name, values in shown.items() if not any(values)] == []
    assert len(shown) == 18


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
    assert health(projector, 60.0)[0] is False
    async with projector.processing("latest"):
        await rig.clock.until(hangs_now.is_set)
        assert health(projector, 60.0)[0] is True
        await rig.clock.passes(61)
        well, said = health(projector, 60.0)
        assert (well, said["status"]) == (False, "stuck")
        assert said["ranges"][0]["lag"] == 1
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
