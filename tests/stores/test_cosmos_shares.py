"""How a store's requests share what an account serves, with those of others: by a priority, and by a throughput bucket.

Both are headers. A request that lacked them would be served before all that have them, so every request is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from azure.cosmos.aio import CosmosClient
from typer.testing import CliRunner

from eventckpt import CosmosCheckpointStorage, CosmosEventStore, CosmosHistoryProvider, CosmosSessionStore, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.cli import app
from eventckpt.location import ENVIRONMENT, LocationError, open_store
from eventckpt.runs import fold
from eventckpt.stores.change_feed import EVERYTHING
from eventckpt.stores.conformance import make_event
from projections import open_engine
from projections.worker import app as projector

from ..cosmos_emulator import CosmosEmulator
from .chains import STREAM, append_chain
from .cosmos_stores import Settings, container_of, headers_of, saves

PRIORITY = "x-ms-cosmos-priority-level"
BUCKET = "x-ms-cosmos-throughput-bucket"
UNSET = dict.fromkeys(ENVIRONMENT, "")


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def environment(settings: Settings, **others: str) -> dict[str, str]:
    names = {"KEY": "credential", "DATABASE_NAME": "database_name", "CONTAINER_NAME": "container_name"}
    found = {f"AZURE_COSMOS_{name}": settings[key] for name, key in names.items()}
    return {"AZURE_COSMOS_ENDPOINT": settings["endpoint"], **found, **others}


def sent(emulator: CosmosEmulator) -> dict[str, set[tuple[str | None, str | None]]]:
    """What each kind of request said of priority and bucket."""
    found: dict[str, set[tuple[str | None, str | None]]] = {}
    for record in emulator.requests:
        headers = {name.lower(): value for name, value in record.headers.items()}
        found.setdefault(record.kind, set()).add((headers.get(PRIORITY), headers.get(BUCKET)))
    return found


def said(emulator: CosmosEmulator) -> set[tuple[str | None, str | None]]:
    return set[tuple[str | None, str | None]]().union(*sent(emulator).values())


async def everything(store: CosmosEventStore) -> None:
    """A request of every kind that a store sends: events, sessions, the feed, documents and leases."""
    events = await append_chain(store, 3)
    await store.sessions().append(make_event(STREAM, 1))
    assert await store.find("another") is None
    assert [each async for each in store.streams()] == [STREAM]
    assert [each.seq async for each in store.workflow_headers(STREAM.workflow_name, desc=True)] == [3, 2, 1]
    engine = open_engine(store)
    [only] = await engine.feed.ranges()
    assert only == EVERYTHING
    await engine.feed.read(only, None, start="beginning", limit=10)
    info = fold(headers_of(events))
    assert info is not None
    await store.run_store().put(info)
    assert await store.run_store().counts() != {}
    lease = await engine.documents.create({"id": "a-lease"})
    assert lease is not None
    written = await engine.documents.replace({"id": "a-lease", "Owner": "one"}, str(lease["_etag"]))
    assert written is not None
    assert await engine.documents.delete("a-lease", str(written["_etag"]))
    await store.remove(STREAM, [1])
    await store.remove_orphaned_parts(older_than=0)
    assert all(check.ok for check in await CheckpointAudit(store).checks())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (None, None)),
        ({"priority": "Low"}, ("Low", None)),
        ({"priority": "High"}, ("High", None)),
        ({"throughput_bucket": 1}, (None, "1")),
        ({"priority": "Low", "throughput_bucket": 5}, ("Low", "5")),
    ],
)
async def test_every_request_of_a_store_says_what_the_store_was_told(
    emulator: CosmosEmulator, settings: Settings, options: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    async with CosmosEventStore(**settings, **options) as store:
        await everything(store)
    found = sent(emulator)
    assert found == {kind: {expected} for kind in found}
    assert found.keys() >= {
        "account", "create_database", "create_container", "read_container", "read_ranges", "create_item", "read_item",
        "upsert_item", "replace_item", "delete_item", "query", "change_feed",
    }  # fmt: skip


@pytest.mark.parametrize("made", [CosmosEventStore, CosmosCheckpointStorage, CosmosHistoryProvider, CosmosSessionStore])
async def test_whatever_is_made_with_settings_takes_both(
    emulator: CosmosEmulator, settings: Settings, made: type[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "share.env"
    file.write_text("AZURE_COSMOS_THROUGHPUT_BUCKET=4\n")
    monkeypatch.setenv("AZURE_COSMOS_PRIORITY", "Low")
    monkeypatch.setenv("AZURE_COSMOS_THROUGHPUT_BUCKET", "3")
    ways: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({}, ("Low", "3")),
        ({"env_file_path": str(file)}, ("Low", "4")),
        ({"priority": "High", "throughput_bucket": 2}, ("High", "2")),
    ]
    for options, expected in ways:
        emulator.reset()
        async with made(**settings, **options) as opened:
            store: CosmosEventStore = opened if made is CosmosEventStore else opened.store
            await store.append(make_event(StreamId("orders", str(options)), 1))
        assert said(emulator) == {expected}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PRIORITY", "low", "'High' or 'Low', not 'low'"),
        ("THROUGHPUT_BUCKET", "9", "at least 1, and at most 5, not 9"),
        ("THROUGHPUT_BUCKET", "first", "THROUGHPUT_BUCKET"),
    ],
)
async def test_the_environment_is_checked_as_arguments_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    with pytest.raises(LocationError, match=words):
        async with open_store(environ=environment(settings, **{f"AZURE_COSMOS_{name}": value})):
            pytest.fail("it was opened")
    monkeypatch.setenv(f"AZURE_COSMOS_{name}", value)
    with pytest.raises((TypeError, ValueError), match=words):
        CosmosEventStore(**settings)


async def test_a_client_that_is_given_has_its_own(emulator: CosmosEmulator, settings: Settings) -> None:
    names = {name: settings[name] for name in ("database_name", "container_name")}
    async with CosmosClient(
        settings["endpoint"], settings["credential"], priority="Low", throughput_bucket=2
    ) as client:
        for given in ({"cosmos_client": client, **names}, {"container_client": container_of(client, settings)}):
            for option in ({"priority": "High"}, {"throughput_bucket": 1}):
                with pytest.raises(ValueError, match="make that with them, as CosmosClient"):
                    CosmosEventStore(**given, **option)
        async with CosmosEventStore(cosmos_client=client, **names) as store:
            await store.append(make_event(STREAM, 1))
    assert said(emulator) == {("Low", "2")}


def run(program: Any, *words: str, environ: Mapping[str, str]) -> None:
    result = CliRunner().invoke(program, words, env=dict(environ))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("Low", None)),
        ({"AZURE_COSMOS_PRIORITY": "High"}, ("High", None)),
        ({"AZURE_COSMOS_THROUGHPUT_BUCKET": "2"}, ("Low", "2")),
    ],
)
async def test_the_commands_wait_while_workflows_save_unless_the_environment_says_otherwise(
    emulator: CosmosEmulator, settings: Settings, environ: dict[str, str], expected: tuple[str, str | None]
) -> None:
    async with CosmosCheckpointStorage(**settings) as storage:
        await saves(storage, 2)
    for program, words in (
        (app, ["runs"]),
        (app, ["verify", "--all"]),
        (projector, ["rebuild"]),
        (projector, ["status"]),
    ):
        emulator.reset()
        await asyncio.to_thread(run, program, *words, environ=UNSET | environment(settings, **environ))
        assert said(emulator) == {expected}, words
