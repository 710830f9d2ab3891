"""Fixtures shared by all tests: an engine to run them on, and storages over it."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import CosmosResourceNotFoundError
from hypothesis import HealthCheck, settings
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import Decision

from .cosmos_emulator import EMULATOR_KEY, CosmosEmulator, Switches
from .cosmos_emulator.clock import Clock
from .cosmos_emulator.switches import ENVIRONMENT
from .engines import COSMOS_DATABASE, CosmosEngine, Engine, SqliteEngine
from .memory_engine.engine import MemoryEngine
from .round_trips import watch_this_project
from .spans import Spans

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # on a busy one an example takes longer than Hypothesis waits by itself


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--round-trips", action="store_true", help="see whether each checkpoint that is saved would come back equal"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--round-trips"):
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        config.pluginmanager.register(watch_this_project(Path(folder.name)))


def pytest_collection_finish() -> None:
    """Take all that was imported, and twenty thousand tests, out of what each garbage collection goes through: it was a
    sixth of the time of the suite."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> list[str]:
    names = ("agent-framework-core", "agent-framework-orchestrations")
    return [", ".join(f"{name} {version(name)}" for name in names), *switched_on()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure, what the test server was told to be, so that the same draws can be made again."""
    report = yield
    if report.failed:
        report.sections += [("Test server", said) for said in switched_on()]
    return report


def switched_on() -> list[str]:
    """The variable that says what the test server is, if it says anything."""
    return [f"{ENVIRONMENT}={Switches.from_environment().text()}"] if os.environ.get(ENVIRONMENT) else []


@pytest.fixture(scope="session")
def metric_reader() -> InMemoryMetricReader:
    """What was counted. A process takes one provider, and none after it."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    return reader


@pytest.fixture(scope="session")
def _every_span() -> Spans:
    """As of the metrics, a process takes one provider."""
    return Spans()


@pytest.fixture
def spans(_every_span: Spans) -> Generator[Spans, None, None]:
    """What this test records: of every other test nothing is."""
    with _every_span.recorded(Decision.RECORD_AND_SAMPLE):
        yield _every_span


@pytest.fixture
def clock() -> Clock:
    """The time of an emulator, moved by hand."""
    return Clock()


@pytest.fixture
def sdk_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of an emulator, and that by which the SDK takes a token to have ended."""
    clock.now = 1_800_000_000.0
    monkeypatch.setattr("azure.core.pipeline.policies._authentication.time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
def hurried_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks again at once: half a second and more before each attempt tells nothing of what comes of them."""

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("azure.cosmos.aio._retry_utility_async.asyncio", SimpleNamespace(sleep=at_once))


@pytest.fixture(params=["sqlite", "cosmos"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine, None]:
    """An empty event store that any number of store objects, like so many processes, can open."""
    async with engine_for(request, tmp_path) as made:
        yield made


@asynccontextmanager
async def engine_for(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Engine, None]:
    """The engine that the parameter of a fixture names."""
    if request.param != "cosmos":
        made = MemoryEngine() if request.param == "memory" else SqliteEngine(tmp_path / "checkpoints.db")
        yield made
        await made.close()
        return
    async with cosmos_account(switches_for(request)) as (endpoint, key):
        made = CosmosEngine(endpoint, key, f"test-{uuid.uuid4()}")
        yield made
        await made.close()


def switches_for(request: pytest.FixtureRequest) -> Switches | None:
    """Those of the environment, unless the test is marked `calm`: it counts what a server with a will of its own would
    not let it count."""
    return Switches() if request.node.get_closest_marker("calm") else None


@asynccontextmanager
async def cosmos_account(switches: Switches | None = None) -> AsyncGenerator[tuple[str, str], None]:
    """Endpoint and key of the account to test on: the one in the environment, else an emulator of our own.

    On an account, the containers of a test go when it ends: each has its own throughput, and its price.
    """
    endpoint = os.environ.get("EVENTCKPT_TEST_COSMOS_ENDPOINT")
    if endpoint:
        key = os.environ.get("EVENTCKPT_TEST_COSMOS_KEY", EMULATOR_KEY)
        try:
            yield endpoint, key
        finally:
            async with CosmosClient(endpoint, key) as client:
                with suppress(CosmosResourceNotFoundError):
                    await client.delete_database(COSMOS_DATABASE)
        return
    async with CosmosEmulator(switches=switches) as emulator:
        yield emulator.endpoint, emulator.key
