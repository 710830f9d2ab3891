"""What can be called how is one rule for both engines, and a wrong name costs no request and no half minute."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from azure.cosmos._base import _validate_resource  # pyright: ignore[reportPrivateUsage] - it is what is compared with

from eventckpt import RunInfo, SqliteEventStore
from eventckpt.stores.names import can_be_id
from projections import open_engine

from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine

WRONG: list[tuple[Any, type[Exception]]] = [
    *((name, ValueError) for name in ("", " ", "a ", "team/projector", "a\\b", "a?b", "a#b", "a\n", "..", "x" * 211)),
    *((name, TypeError) for name in (None, 1, b"x")),
]


@pytest.mark.parametrize(("name", "error"), WRONG, ids=lambda value: ascii(value)[:20])
def test_a_processor_that_can_be_called_so_on_no_engine_is_refused_where_it_is_named(
    engine: Engine, name: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="the name of a processor"):
        open_engine(engine.open()).leases(name)


def test_what_the_sdk_refuses_as_an_id_is_none() -> None:
    """Where the SDK itself refuses an argument, that looks like an answer that makes no sense: an outage."""
    refused = list[str]()
    for text in (form.format(chr(code)) for code in range(0x3000) for form in ("{}", "a{}", "{}a", "a{}a")):
        try:
            _validate_resource({"id": text})
        except ValueError:
            refused.append(text)
    assert len(refused) > 20
    assert [text for text in refused if can_be_id(text)] == []


async def test_a_wrong_name_sends_nothing() -> None:
    async with CosmosEmulator() as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "names")
        store = engine.open()
        documents = store.document_store()
        await documents.create({"id": "opens the container"})
        before = len(emulator.requests)
        with pytest.raises(ValueError, match="the id of a document"):
            await documents.create({"id": "a/b"})
        with pytest.raises(ValueError, match="the name of a projection"):
            store.run_store("a/b")
        assert await documents.read("a/b") is None
        assert len(emulator.requests) == before
        await engine.close()


@pytest.mark.parametrize("name", ["team/projector", "", "x ", "..", "a\nb", "x" * 201, b"latest", "\u202e"], ids=ascii)
async def test_a_pointer_in_a_file_that_names_no_projection_is_said_and_the_first_one_is_in_use(
    tmp_path: Path, name: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A version before took any text."""
    path = tmp_path / "store.db"
    async with SqliteEventStore(path) as store:
        assert await store.run_store().activate("latest-2")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE projections SET active = ? WHERE kind = 'latest'", (name,))
    connection.close()
    async with SqliteEventStore(path) as store:
        runs = store.run_store()
        assert await runs.active() == "latest"
        assert "names no projection" in caplog.text
        assert (await runs.claim()).name == "latest"
        assert await runs.activate("latest-3")
        assert await runs.active() == "latest-3"


async def test_readers_of_the_projection_in_use_and_who_fills_it_agree_where_the_pointer_names_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    async with SqliteEventStore(path) as store:
        await store.run_store().activate("other")
        await store.run_store("latest").put(_info("latest"))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE projections SET active = 'team/projector' WHERE kind = 'latest'")
    connection.close()
    async with SqliteEventStore(path) as store:
        assert [info.run_id async for info in store.run_store().all()] == ["latest"]
        assert [info.run_id for info in (await store.run_store().page()).runs] == ["latest"]


def _info(run: str) -> RunInfo:
    return RunInfo(workflow_name="w", run_id=run, seq=1, status="open", digest="x")
