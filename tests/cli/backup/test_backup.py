"""`backup`: a whole copy or none, beside writers, and where it may go."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore

from ...engines import CosmosEngine, SqliteEngine
from ...stores.sqlite.helpers import beside, files, plain, process, said
from ..conftest import Cli, order_run
from .backups import cli_process, events_of, spoil, written


async def test_a_backup_of_an_open_store_is_one_closed_file_with_all_that_was_acknowledged(
    engine: SqliteEngine, cli: Cli, path: Path, file: Path
) -> None:
    await order_run(engine, steps=4)
    assert beside(path, "-wal").stat().st_size > 0
    [done] = (await cli.json("backup", str(file))).of("backup")
    assert (done["events"], done["runs"], done["position"], done["file"]) == (4, 1, 4, str(file))
    assert set(files(file.parent)) == {file.name}
    assert file.stat().st_mode & 0o777 == 0o600
    file.parent.chmod(0o500)
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (4,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    file.parent.chmod(0o700)
    assert "all is as it was written" in (await cli("verify", "--all", "--decode", store=str(file))).out
    assert (await cli("doctor", store=str(file))).code == 0


@pytest.mark.slow
async def test_what_is_written_beside_a_backup_neither_waits_for_it_nor_breaks_it(path: Path, file: Path) -> None:
    """Every event that was acknowledged before it began is in it, and the log of each run is whole."""
    script = """
        async def main():
            store = SqliteEventStore(path)
            for number in range(1, 100_000):
                await store.append(make_event(StreamId("workflow", f"run {number}"), 1, data=os.urandom(20_000)))
                print(number, flush=True)
        asyncio.run(main())
    """
    with process(script, path) as writer:
        for round_ in range(3):
            acknowledged = 0
            while acknowledged < 40 * (round_ + 1):
                acknowledged = int(said(writer.stdout))
            copy = file.with_name(f"{round_}.db")
            done = await asyncio.to_thread(cli_process, "backup", str(copy), store=path)
            assert done.returncode == 0, done.stderr
            during = int(said(writer.stdout))
            async with SqliteEventStore(copy) as store:
                stored = [header.run_id async for header in store.workflow_headers("workflow")]
            assert stored == [f"run {number}" for number in range(1, len(stored) + 1)]
            assert acknowledged <= len(stored)
            assert during > acknowledged


async def test_a_file_that_is_there_is_replaced_with_force_only(cli: Cli, path: Path, file: Path) -> None:
    await written(path, 2)
    file.write_text("precious")
    assert "is there already" in (await cli("backup", str(file), code=4)).err
    assert files(file.parent) == {file.name: b"precious"}
    await cli("backup", str(file), "--force")
    assert len(await events_of(file)) == 2


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_the_store_itself_and_what_belongs_to_it_are_no_place_for_a_backup(
    cli: Cli, path: Path, suffix: str
) -> None:
    await written(path, 2)
    before = files(path.parent)
    assert "the store itself" in (await cli("backup", f"{path}{suffix}", "--force", code=2)).err
    assert files(path.parent) == before


async def test_another_name_of_the_store_is_no_place_for_a_backup_either(cli: Cli, path: Path, file: Path) -> None:
    await written(path, 2)
    os.link(path, file)
    assert "the store itself" in (await cli("backup", str(file), "--force", code=2)).err
    file.unlink()
    file.symlink_to(path)
    assert "the store itself" in (await cli("backup", str(file), "--force", code=2)).err


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
async def test_a_log_beside_the_file_would_become_a_part_of_the_copy_and_is_refused(
    cli: Cli, path: Path, file: Path, suffix: str
) -> None:
    await written(path, 2)
    beside(file, suffix).write_bytes(b"of another file")
    assert f"{file.name}{suffix} is there" in (await cli("backup", str(file), "--force", code=4)).err
    assert set(files(file.parent)) == {file.name + suffix}


def no_folder(path: Path, file: Path) -> Path:
    return file.parent / "missing" / "copy.db"


def a_folder(path: Path, file: Path) -> Path:
    return file.parent


@pytest.mark.parametrize("where", [no_folder, a_folder], ids=lambda where: where.__name__)
async def test_a_place_that_can_hold_no_file_is_named(cli: Cli, path: Path, file: Path, where: object) -> None:
    await written(path, 2)
    place = no_folder(path, file) if where is no_folder else a_folder(path, file)
    assert str(place.parent if where is no_folder else place) in (await cli("backup", str(place), code=4)).err


async def test_a_store_that_is_not_what_was_written_is_not_backed_up_unless_quickly(
    cli: Cli, path: Path, file: Path
) -> None:
    await written(path, 3)
    with plain(path) as connection:
        trigger = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchone()[0]
        connection.execute("DROP TRIGGER events_are_immutable")
        connection.execute("UPDATE events SET data = x'00' WHERE seq = 2")
        connection.execute(trigger)
    printed = await cli("backup", str(file), code=1)
    assert "seq 2: CHANGED" in printed.out
    assert files(file.parent) == {}
    await cli("backup", str(file), "--quick")
    assert len(await events_of(file)) == 3


@pytest.mark.parametrize("damage", ["schema", "pages", "text", "empty", "another application's"])
async def test_what_is_no_whole_store_is_not_backed_up_and_nothing_is_left(
    cli: Cli, path: Path, file: Path, damage: str
) -> None:
    await written(path, 60)
    spoil(path, damage)
    await cli("backup", str(file), "--quick", code=4)
    assert files(file.parent) == {}


@pytest.mark.parametrize("command", ["backup", "restore"])
async def test_cosmos_is_refused_with_advice(cosmos: CosmosEngine, file: Path, command: str) -> None:
    printed = await Cli(cosmos)(command, str(file), code=2)
    assert "backed up by the service" in printed.err
    assert "export" in printed.err
