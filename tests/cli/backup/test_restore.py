"""`restore`: what is in the place of the store then, what becomes of the old one, and who must not have it open."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from agent_framework import Message

from eventckpt import CheckpointEvent, EventHistoryProvider, SqliteEventStore, StoreReplacedError, StreamId
from eventckpt.stores.conformance import make_event

from ...engines import SqliteEngine
from ...stores.chains import STREAM, append_chain, headers
from ...stores.sqlite.helpers import files, plain, process, said
from ..conftest import Cli
from .backups import events_of, one_id, spoil, stale_log, written


async def test_a_link_to_a_store_that_is_restored_from_has_what_is_in_its_log(
    cli: Cli, path: Path, file: Path, tmp_path: Path
) -> None:
    await written(path, 1)
    async with SqliteEventStore(file) as open_yet:
        await append_chain(open_yet, 3)
        link = tmp_path / "latest.db"
        link.symlink_to(file)
        await cli("restore", str(link), "--yes", "--quick")
        assert len(await events_of(path)) == 3


async def test_a_restored_store_is_the_backup_with_an_id_of_its_own_and_the_old_one_is_kept(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent]
) -> None:
    old, copy = path.read_bytes(), file.read_bytes()
    [done] = (await cli.json("restore", str(file), "--yes")).of("restored")
    [aside] = map(Path, done["set_aside"])
    assert (done["events"], done["runs"], done["position"]) == (3, 1, 3)
    assert set(files(path.parent)) == {path.name, aside.name}
    assert await events_of(path) == backed_up
    assert len(await events_of(aside)) == 4
    assert file.read_bytes() == copy
    assert len(old) == len(aside.read_bytes())
    assert len({one_id(path), one_id(aside), one_id(file)}) == 2
    assert one_id(aside) == one_id(file) != one_id(path)


async def held(path: Path, *sessions: str) -> None:
    """Sessions as the framework's agents write them: each says something, and says it anew after it was cleared."""
    async with SqliteEventStore(path) as store:
        history = EventHistoryProvider(store, "source")
        for session in sessions:
            await history.save_messages(session, [Message("user", [session])], state={})
            await history.clear(session)
            await history.save_messages(session, [Message("user", [session])], state={})


async def turns_of(path: Path, *sessions: str) -> list[CheckpointEvent]:
    async with SqliteEventStore(path) as store:
        return [each for session in sessions async for each in store.sessions().events(StreamId("source", session))]


async def test_sessions_are_copied_counted_verified_and_come_back(cli: Cli, path: Path, file: Path) -> None:
    await written(path, 2)
    await held(path, "one", "two", "three")
    turns = await turns_of(path, "one", "two", "three")
    [done] = (await cli.json("backup", str(file))).of("backup")
    assert (done["events"], done["runs"], done["session_events"], done["sessions"]) == (2, 1, 9, 3)
    await held(path, "one", "four")
    said = (await cli("restore", str(file), "--yes")).out
    assert "2 events of 1 runs and 9 of 3 sessions, up to position 2, restored" in " ".join(said.split())
    assert await turns_of(path, "one", "two", "three", "four") == turns


async def test_a_turn_that_is_not_what_was_written_is_found_by_a_backup(cli: Cli, path: Path, file: Path) -> None:
    await held(path, "one")
    with plain(path) as connection:
        connection.execute("DROP TRIGGER session_events_are_immutable")
        [(sql,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'events_are_immutable'").fetchall()
        connection.execute("UPDATE session_events SET data = x'00' WHERE seq = 1")
        connection.execute(sql.replace("events", "session_events"))
    said = await cli("backup", str(file), code=1)
    assert "session one of source, seq 1: CHANGED" in said.out
    assert "1 runs or sessions" in " ".join(said.err.split())
    assert not file.exists()


@pytest.mark.parametrize("of_sessions", [False, True], ids=["a turn among runs", "a checkpoint among sessions"])
async def test_what_lies_in_the_other_log_is_found_by_a_backup(
    cli: Cli, path: Path, file: Path, of_sessions: bool
) -> None:
    await written(path, 1)
    await held(path, "one")
    async with SqliteEventStore(path) as store:
        [stray, *_] = [
            event
            async for event in (store if of_sessions else store.sessions()).events(
                STREAM if of_sessions else StreamId("source", "one")
            )
        ]
        await (store.sessions() if of_sessions else store).append(stray)
    assert "STRAY" in (await cli("backup", str(file), code=1)).out


async def test_projection_documents_and_leases_come_back_as_of_the_backup(cli: Cli, path: Path, file: Path) -> None:
    await written(path, 1)
    with plain(path) as connection:
        connection.execute("INSERT INTO leases VALUES ('position', 1, x'31')")
    await cli("backup", str(file))
    with plain(path) as connection:
        connection.execute("UPDATE leases SET version = 2, document = x'32'")
    await cli("restore", str(file), "--yes")
    with plain(path) as connection:
        assert connection.execute("SELECT version, document FROM leases").fetchall() == [(1, b"1")]


async def test_nothing_is_restored_while_this_process_has_the_store_open(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent]
) -> None:
    async with SqliteEventStore(path) as idle:
        assert len(await headers(idle)) == 4
        printed = await cli("restore", str(file), "--yes", code=4)
        assert "is open" in printed.err
        assert len(await headers(idle)) == 4
    assert not list(path.parent.glob("*.before-restore-*"))


@pytest.mark.parametrize("state", ["healthy", "text", "missing"])
async def test_nothing_is_restored_while_another_process_has_the_store_open_and_it_is_named(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent], state: str
) -> None:
    script = """
        async def main():
            store = SqliteEventStore(path)
            await store.read(STREAM, 1)
            print(os.getpid(), flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            os._exit(0)
        asyncio.run(main())
    """
    with process(script, path) as idle:
        pid = said(idle.stdout)
        if state == "text":
            path.write_text("hello\n" * 5000)
        elif state == "missing":
            path.unlink()
        before = files(path.parent)
        printed = await cli("restore", str(file), "--yes", code=4)
        assert "is open" in printed.err
        if sys.platform == "linux":
            assert f"process {pid} ('python" in printed.err
        assert files(path.parent) == before
    await cli("restore", str(file), "--yes")
    assert await events_of(path) == backed_up


async def test_who_comes_late_and_who_still_has_the_old_store_notice(
    path: Path, file: Path, cli: Cli, backed_up: list[CheckpointEvent]
) -> None:
    async with SqliteEventStore(path) as store:
        assert len(await headers(store)) == 4
        # As on a system that cannot tell who has the file open: the new store comes by another way.
        copy = path.with_name("restored.db")
        await Cli(SqliteEngine(copy))("restore", str(file), "--yes")
        copy.replace(path)
        with pytest.raises(StoreReplacedError):
            await store.append(make_event(StreamId("workflow", "late"), 1))


@pytest.mark.parametrize("state", ["missing", "text", "empty", "pages", "cut"])
@pytest.mark.parametrize("logs", [True, False])
async def test_a_store_that_is_missing_or_damaged_is_restored_and_whatever_was_there_is_kept(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent], state: str, logs: bool
) -> None:
    if logs:
        with process("os.kill(os.getpid(), 9)", path):
            pass
        stale_log(path)
    if state == "missing":
        path.unlink()
    elif state == "cut":
        os.truncate(path, 5000)
    else:
        spoil(path, state)
    before = files(path.parent)
    [done] = (await cli.json("restore", str(file), "--yes")).of("restored")
    kept = [Path(name).read_bytes() for name in done["set_aside"]]
    if state in ("text", "missing"):  # what SQLite could not open is kept as it is
        assert sorted(kept) == sorted(content for name, content in before.items() if not name.endswith("-shm") or logs)
    assert await events_of(path) == backed_up
    assert (await cli("verify", "--all")).code == 0


async def test_what_a_killed_process_left_in_the_log_is_in_the_store_that_is_set_aside(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent]
) -> None:
    stale_log(path)
    [done] = (await cli.json("restore", str(file), "--yes")).of("restored")
    [aside] = map(Path, done["set_aside"])
    assert len(await events_of(aside, StreamId("workflow", "in the log"))) == 1
    assert await events_of(path, StreamId("workflow", "in the log")) == []


@pytest.mark.parametrize("damage", ["schema", "pages", "text", "empty", "another application's"])
async def test_a_file_that_is_no_whole_store_is_not_restored(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent], damage: str
) -> None:
    async with SqliteEventStore(file) as copy:
        await append_chain(copy, 60, stream=StreamId("workflow", "more"))
    spoil(file, damage)
    before = files(path.parent)
    await cli("restore", str(file), "--yes", "--quick", code=4)
    assert files(path.parent) == before


async def test_a_database_of_another_application_in_the_place_of_the_store_is_left_as_it_is(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent]
) -> None:
    spoil(path, "another application's")
    before = files(path.parent)
    assert "another application" in (await cli("restore", str(file), "--yes", code=4)).err
    assert files(path.parent) == before


async def test_a_backup_of_0_1_0_which_has_no_id_is_restored(cli: Cli, path: Path, file: Path) -> None:
    events = await written(file, 2)
    with plain(file) as connection:
        connection.execute("DROP TABLE store")
    await cli("restore", str(file), "--yes")
    assert await events_of(path) == events
    assert one_id(path)


async def test_without_a_yes_nothing_is_restored_where_nobody_can_be_asked(
    cli: Cli, path: Path, file: Path, backed_up: list[CheckpointEvent]
) -> None:
    before = files(path.parent)
    assert "--yes" in (await cli("restore", str(file), code=2)).err
    assert files(path.parent) == before


async def test_a_file_that_is_not_there_or_is_the_store_is_not_restored_from(cli: Cli, path: Path, file: Path) -> None:
    await written(path, 2)
    assert "no file" in (await cli("restore", str(file), "--yes", code=4)).err
    assert "the store itself" in (await cli("restore", str(path), "--yes", code=2)).err
