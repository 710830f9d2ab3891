"""The disk gets back what was removed, and commands say how much that is."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore
from eventckpt.stores import Space
from eventckpt.stores.sqlite.space import room_of

from ..engines import CosmosEngine, Engine
from ..stores.chains import STREAM, append_chain, headers
from .conftest import WORKFLOW, Cli, Printed, order_run
from .programs import called

LARGE = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


def made_before(path: Path) -> None:
    """Make a file that does not get shorter, as versions before did."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("DROP TABLE t")


async def asked(path: Path, *words: str) -> Printed:
    return await called("eventckpt", words, {"EVENTCKPT_STORE": str(path)})


async def emptied(path: Path) -> None:
    async with SqliteEventStore(path) as store:
        await append_chain(store, 60, data=os.urandom(LARGE))
        await store.remove(STREAM, range(1, 50))


async def kept(path: Path) -> list[int]:
    async with SqliteEventStore(path) as store:
        assert (await store.reading(room_of)).free == 0
        return [header.seq for header in await headers(store)]


async def test_compact_gives_back_what_is_free_and_says_how_much(path: Path) -> None:
    await emptied(path)
    size = path.stat().st_size
    printed = await asked(path, "compact")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == f"On the disk: {size / 1e6:.1f} MB → {path.stat().st_size / 1e3:.1f} KB.\n"
    assert path.stat().st_size < size * 0.3
    assert await kept(path) == list(range(50, 61))


async def test_doctor_says_what_is_free_and_how_it_is_given_back(path: Path) -> None:
    await emptied(path)
    said = (await asked(path, "doctor")).out
    assert "bytes are free in the file: `eventckpt compact` gives them back to the disk." in said
    await asked(path, "compact")
    assert "ok       space: nothing is free in the file." in (await asked(path, "doctor")).out


async def test_a_file_of_a_version_before_is_written_anew_where_that_is_asked_for(path: Path) -> None:
    made_before(path)
    await emptied(path)
    size = path.stat().st_size
    assert "`eventckpt compact --rewrite` gives them back" in (await asked(path, "doctor")).out
    left = (await asked(path, "compact")).out
    assert "of which 1.0 MB are free." in left
    assert "`eventckpt compact --rewrite` writes it anew" in left
    assert path.stat().st_size == size
    printed = await asked(path, "compact", "--rewrite")
    assert printed.out == f"On the disk: {size / 1e6:.1f} MB → {path.stat().st_size / 1e3:.1f} KB.\n"
    assert path.stat().st_size < size * 0.3
    assert await kept(path) == list(range(50, 61))


async def test_a_file_that_a_process_has_open_is_not_written_anew(path: Path) -> None:
    made_before(path)
    async with SqliteEventStore(path) as store:
        await append_chain(store, 2)
        printed = await asked(path, "compact", "--rewrite")
        assert printed.code == 4
        assert f"The store {path} is open" in printed.err
        assert len(await headers(store)) == 2


@pytest.mark.parametrize("words", [["compact"], ["compact", "--rewrite"]])
async def test_where_there_is_no_store_none_is_made(path: Path, words: list[str]) -> None:
    printed = await asked(path, *words)
    assert printed.code == 4
    assert f"There is no store at {path}" in printed.err
    assert not path.exists()


@pytest.mark.parametrize("removing", [["prune", "--keep", "1"], ["delete"]], ids=" ".join)
async def test_what_is_removed_is_given_back_once_it_is_carried_out(
    engine: Engine, cli: Cli, removing: list[str]
) -> None:
    await order_run(engine, steps=12, text="x" * 3_000)
    await engine.close()
    words = [*removing, "--all", "--force", "-w", WORKFLOW]
    assert (await cli.json(*words)).of("space") == []
    printed = await cli.json(*words, "--execute", "--yes")
    assert [each["events"] > 5 for each in printed.of("summary")] == [True]
    found = printed.of("space")
    if isinstance(engine, CosmosEngine):
        assert found == []
        return
    [said] = found
    assert Space(**{name: said[name] for name in Space._fields}).after <= said["before"]
    assert (said["free"], said["advice"]) == (0, "")


async def test_cosmos_db_gives_back_by_itself(engine: Engine, cli: Cli) -> None:
    await order_run(engine)
    if not isinstance(engine, CosmosEngine):
        pytest.skip("of Cosmos DB")
    assert "Cosmos DB gives the room of what was removed back by itself" in (await cli("compact")).out
    [said] = (await cli.json("compact")).of("space")
    assert (said["before"], said["after"], said["free"]) == (None, None, None)
    assert (await cli("compact", "--rewrite")).out == (await cli("compact")).out
