"""`backup` and `restore`: a whole copy or none, beside writers; the old store or the new one, whenever it ends."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from eventckpt import CheckpointEvent, SqliteEventStore, StoreFullError, StoreReplacedError, StreamId
from eventckpt.chain import sealed
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.backup import copy_beside, copy_store

from ..engines import CosmosEngine, Engine, SqliteEngine
from ..stores.sqlite.helpers import HANG, STREAM, append_chain, beside, files, headers, plain, process, said
from .conftest import Cli, order_run


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[SqliteEngine, None]:
    """A store in a folder of its own."""
    folder = tmp_path / "live"
    folder.mkdir()
    made = SqliteEngine(folder / "events.db")
    yield made
    await made.close()


@pytest.fixture
def path(engine: SqliteEngine) -> Path:
    return engine.path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the backup goes."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.db"


async def written(path: Path, count: int, stream: StreamId = STREAM) -> list[CheckpointEvent]:
    """A closed store that has so many events."""
    async with SqliteEventStore(path) as store:
        events: list[CheckpointEvent] = []
        for seq in range(1, count + 1):
            events.append(whole(stream, seq, events[-1] if events else None))
            await store.append(events[-1])
        return events


def whole(stream: StreamId, seq: int, previous: CheckpointEvent | None) -> CheckpointEvent:
    """An event that verifies by itself: a snapshot."""
    event = make_event(stream, seq, previous=previous)
    assert event.payload is not None
    return sealed(msgspec.structs.replace(event, payload=msgspec.structs.replace(event.payload, base_seq=None)))


async def events_of(path: Path, stream: StreamId = STREAM) -> list[CheckpointEvent]:
    async with SqliteEventStore(path) as store:
        return [event async for event in store.events(stream)]


# Backup


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


AS_IT_IS = "import sys; from eventckpt.cli import app; app(sys.argv[1:])"
WITHOUT_ROOTS_RIGHTS = """
import ctypes, os, sys
if os.getuid() == 0:  # permissions are looked at for root, too
    for right in (1, 2):  # to write, and to read, whatever the permissions say
        ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "eventckpt.cli", *sys.argv[1:]])
"""
LITTLE_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from eventckpt.cli import app
app(sys.argv[1:])
"""


def cli_process(*words: str, store: Path, start: str = AS_IT_IS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", start, *words, "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


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


def spoil(path: Path, damage: str) -> None:
    if damage == "schema":
        with plain(path) as connection:
            connection.execute("DROP INDEX events_by_workflow")
    elif damage == "pages":
        with path.open("r+b") as opened:
            opened.seek(8192)
            opened.write(os.urandom(path.stat().st_size - 8192))
    elif damage == "text":
        path.write_text("hello\n" * 2000)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with plain(path) as connection:
            connection.execute("PRAGMA application_id = 7")


@pytest.mark.parametrize("command", ["backup", "restore"])
async def test_cosmos_is_refused_with_advice(cosmos: CosmosEngine, file: Path, command: str) -> None:
    printed = await Cli(cosmos)(command, str(file), code=2)
    assert "backed up by the service" in printed.err
    assert "export" in printed.err


@pytest.fixture
async def cosmos(cosmos_engine_of_its_own: Engine) -> CosmosEngine:
    assert isinstance(cosmos_engine_of_its_own, CosmosEngine)
    return cosmos_engine_of_its_own


@pytest.fixture
def cosmos_engine_of_its_own() -> CosmosEngine:
    return CosmosEngine("https://nowhere.example:443/", "a2V5", "events")


async def test_a_copying_that_is_ended_leaves_nothing(path: Path, file: Path) -> None:
    async with SqliteEventStore(path) as store:
        await append_chain(store, 60, data=os.urandom(500_000))
        steps: list[int] = []

        def step(left: int, pages: int) -> None:
            steps.append(left)
            raise InterruptedError

        with pytest.raises(Exception, match="Interrupted"), copy_beside(file) as copy:
            copy_store(path, copy, step, is_live=True)
        assert len(steps) == 1
        assert steps[0] > 0, "it was ended half way"
        assert files(file.parent) == {}
        assert len(await headers(store)) == 60


def test_an_interrupted_backup_leaves_nothing(path: Path, file: Path) -> None:
    asyncio.run(written(path, 2))
    script = """
        import _thread, sys, time
        from eventckpt.cli import app, backup
        begun = backup.copy_store
        def slow(source, copy, step, **how):
            print("copying", flush=True)
            sys.stdin.readline()
            while True:
                step(1, 1)
        backup.copy_store = slow
        app(sys.argv[1:])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "backup", str(file), "--store", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert said(child.stdout) == "copying"
            assert set(files(file.parent))
            child.stdin.write("go\n") if child.stdin else None
            child.stdin.flush() if child.stdin else None
            child.send_signal(signal.SIGINT)
            assert child.wait(HANG) == 130
        finally:
            child.kill()
    assert files(file.parent) == {}


INTERRUPTED = """
    import os, signal, sys, threading
    at, folder, count = int(sys.argv[1]), sys.argv[2], 0

    def hook(event, args):
        global count
        steps = ("os.rename", "os.link", "os.remove", "os.chmod", "open", "sqlite3.connect")
        if event in steps and folder in str(args):
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(0.05)  # what the main thread does now, it does in the middle of this step

    sys.addaudithook(hook)
    from eventckpt.cli import app
    app(sys.argv[3:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["backup", "restore"])
def test_one_that_is_interrupted_at_any_step_did_nothing_or_all_of_it_and_says_which(
    path: Path, file: Path, tmp_path: Path, name: str
) -> None:
    old = asyncio.run(written(path, 5))
    copy = tmp_path / "older.db"
    new = asyncio.run(written(copy, 3))
    before = files(path.parent)
    codes: list[int] = []
    for at in range(1, 100):
        words = ["backup", str(file)] if name == "backup" else ["restore", str(copy), "--yes"]
        place = file.parent if name == "backup" else path.parent
        command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(at), str(place), *words]
        done = subprocess.run(
            [*command, "--store", str(path)], capture_output=True, text=True, timeout=HANG, check=False
        )
        codes.append(done.returncode)
        if done.returncode:
            assert (done.returncode, done.stdout) == (130, ""), done.stderr
            assert (files(file.parent), files(path.parent)) == ({}, before)
            continue
        assert "copied to" in done.stdout or "restored to" in done.stdout
        assert asyncio.run(events_of(file if name == "backup" else path)) == (old if name == "backup" else new)
        break
    assert codes[0] == 130
    assert codes[-1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["backup", "restore"])
async def test_where_the_copy_has_no_room_its_place_is_named_and_nothing_is_left(
    path: Path, file: Path, tmp_path: Path, name: str
) -> None:
    await written(path, 2)
    large = tmp_path / "large.db"
    async with SqliteEventStore(large) as store:
        await append_chain(store, 4, data=os.urandom(500_000))
    before = files(path.parent)
    words, store_path = (["backup", str(file)], large) if name == "backup" else (["restore", str(large), "--yes"], path)
    done = cli_process(*words, "--quick", store=store_path, start=LITTLE_ROOM)
    assert done.returncode == 4
    assert f"copied into {file.parent if name == 'backup' else path.parent}" in done.stderr
    assert (files(path.parent), files(file.parent)) == (before, {})


def test_a_full_disk_is_said_to_be_that_of_the_copy(path: Path, file: Path) -> None:
    """Whichever file the work was on when it noticed."""
    with pytest.raises(StoreFullError, match="for a copy") as caught, copy_beside(file):
        raise StoreFullError(f"No room is left for the store {path}.")
    assert str(file.parent) in str(caught.value)
    assert files(file.parent) == {}


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


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root gives files to others")
class TestOwners:
    """The user 1234 owns the store; its files are for the group 1235 as well, which the user 1236 is of."""

    OTHER_USER = """
        import os, sys
        os.setgroups([1235] if sys.argv[1] == "in the group" else [])
        from eventckpt.cli import app
        os.setgid(1236)
        real, os.chown = os.chown, lambda *args: refused(*args)
        def refused(path, uid, gid):  # what the system answers to who is not root
            if uid not in (-1, os.stat(path).st_uid) or gid not in (-1, os.getgid(), *os.getgroups()):
                raise PermissionError(1, "Operation not permitted", str(path))
            real(path, uid, gid)
        app(sys.argv[2:])
    """

    def other(self, member: str, *words: str, store: Path) -> subprocess.CompletedProcess[str]:
        return cli_process(member, *words, store=store, start=textwrap.dedent(self.OTHER_USER))

    @pytest.fixture(autouse=True)
    async def owned(self, path: Path) -> None:
        await written(path, 2)
        os.chown(path, 1234, 1235)
        path.chmod(0o664)

    @pytest.mark.parametrize(("member", "group"), [("in the group", 1235), ("in none", 1236)])
    async def test_a_backup_by_another_user_is_theirs_alone(
        self, path: Path, file: Path, member: str, group: int
    ) -> None:
        done = self.other(member, "backup", str(file), store=path)
        assert done.returncode == 0, done.stderr
        state = file.stat()
        assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (0, group, 0o600)
        assert len(await events_of(file)) == 2

    @pytest.mark.parametrize("member", ["in the group", "in none"])
    async def test_a_store_is_not_replaced_by_a_file_that_its_owner_could_not_use(
        self, path: Path, file: Path, member: str
    ) -> None:
        await written(file, 1)
        before = files(path.parent)
        done = self.other(member, "restore", str(file), "--yes", store=path)
        assert done.returncode == 4
        assert "belongs to the user 1234" in done.stderr
        assert files(path.parent) == before

    async def test_root_gives_copies_the_owner_of_the_store(self, path: Path, file: Path) -> None:
        assert cli_process("backup", str(file), store=path).returncode == 0
        assert cli_process("restore", str(file), "--yes", store=path).returncode == 0
        modes = {path: 0o664, file: 0o600}  # who has opened a store to a group has not opened every copy
        for at, mode in modes.items():
            assert (at.stat().st_uid, at.stat().st_gid, at.stat().st_mode & 0o777) == (1234, 1235, mode)


@pytest.mark.slow
async def test_a_backup_that_can_only_be_read_is_read_and_verified(
    cli: Cli, path: Path, file: Path, tmp_path: Path
) -> None:
    events = await written(path, 3)
    await cli("backup", str(file))
    content = file.read_bytes()
    file.chmod(0o444)
    file.parent.chmod(0o555)
    for words in (["runs"], ["verify", "--all"], ["history", "run"]):
        done = cli_process(*words, store=file, start=WITHOUT_ROOTS_RIGHTS)
        assert done.returncode == 0, done.stderr
    done = cli_process("doctor", "--write", store=file, start=WITHOUT_ROOTS_RIGHTS)
    assert "schema: version 2, as it is made" in done.stdout
    assert "cannot be opened for writing" in done.stdout
    file.parent.chmod(0o755)
    assert file.read_bytes() == content
    restored = tmp_path / "restored.db"
    assert (await Cli(SqliteEngine(restored))("restore", str(file), "--yes")).code == 0
    assert await events_of(restored) == events
    assert restored.stat().st_mode & 0o600 == 0o600, "a store is written to"


def a_loop(place: Path) -> None:
    place.symlink_to(place)


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


@pytest.mark.skipif(os.name != "posix", reason="the kinds of files are those of POSIX")
@pytest.mark.parametrize(
    "make",
    [
        a_loop,  # Python versions differ in what they make of it
        pytest.param(a_pipe, marks=pytest.mark.slow),
        pytest.param(Path.mkdir, marks=pytest.mark.slow),
    ],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("words", [["backup", "FILE"], ["backup", "FILE", "--force"], ["restore", "FILE", "--yes"]])
@pytest.mark.parametrize("role", ["the file", "the store"])
async def test_what_is_no_file_is_neither_copied_nor_replaced_nor_waited_for(
    path: Path, file: Path, make: Callable[[Path], None], words: list[str], role: str
) -> None:
    odd, good = file.with_name("odd"), file
    await written(good, 1)
    await written(path, 2)
    make(odd)
    kind = odd.lstat()
    given = {"FILE": str(odd if role == "the file" else good)}
    done = cli_process(*(given.get(word, word) for word in words), store=odd if role == "the store" else path)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    assert (odd.lstat().st_mode, odd.lstat().st_ino) == (kind.st_mode, kind.st_ino)
    assert sorted(place.name for place in file.parent.iterdir()) == [good.name, "odd"]
    assert set(files(path.parent)) == {path.name}


# Restore


@pytest.fixture
async def backed_up(cli: Cli, path: Path, file: Path) -> list[CheckpointEvent]:
    """The events in the backup; by now the store has more."""
    events = await written(path, 3)
    await cli("backup", str(file))
    async with SqliteEventStore(path) as store:
        await store.append(whole(STREAM, 4, events[-1]))
    return events


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


def one_id(path: Path) -> str:
    with plain(path) as connection:
        return connection.execute("SELECT id FROM store").fetchone()[0]


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


def stale_log(path: Path) -> None:
    """What a killed process leaves beside the file: a log with an event of its own."""
    script = """
        async def main():
            store = SqliteEventStore(path)
            await store.append(make_event(StreamId("workflow", "in the log"), 1))
            os.kill(os.getpid(), 9)
        asyncio.run(main())
    """
    with process(script, path) as child:
        child.wait(HANG)
    assert beside(path, "-wal").stat().st_size > 0


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


KILLED = """
    import os, sys
    at, folder, count = int(sys.argv[1]), sys.argv[2], 0

    def hook(event, args):
        global count
        steps = ("os.rename", "os.link", "os.remove", "os.chmod", "open", "sqlite3.connect")
        if event in steps and folder in str(args):
            count += 1
            if count == at:
                os.kill(os.getpid(), 9)

    sys.addaudithook(hook)
    from eventckpt.cli import app
    app(sys.argv[3:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["healthy", "text", "missing"])
def test_a_restore_that_is_killed_at_any_step_leaves_the_old_store_or_the_new_one(
    path: Path, file: Path, tmp_path: Path, state: str
) -> None:
    old = asyncio.run(written(path, 5))
    new = asyncio.run(written(file, 3))
    origin = tmp_path / "origin"
    shutil.copytree(path.parent, origin)
    stale = b"hello\n" * 2000
    ended: set[str] = set()
    for at in range(1, 100):
        shutil.rmtree(path.parent)
        shutil.copytree(origin, path.parent)
        if state == "missing":
            path.unlink()
        elif state == "text":
            path.write_bytes(stale)
            beside(path, "-wal").write_bytes(b"the log of a damaged store")
        words = ["restore", str(file), "--yes", "--quick", "--store", str(path)]
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(at), str(path.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode in (0, -9), done.stderr
        if state == "text" and path.read_bytes() == stale:
            assert b"the log of a damaged store" in files(path.parent).values()
            ended.add("old")
        elif state == "missing" and not path.exists():
            ended.add("old")
        else:
            stored = asyncio.run(events_of(path))
            assert stored in (old, new)
            ended.add("old" if stored == old else "new")
            if stored == new and state != "missing":
                [aside] = list(path.parent.glob("*.before-restore-*Z"))
                assert (aside.read_bytes() == stale) if state == "text" else asyncio.run(events_of(aside)) == old
        if "before-restore" in str(list(path.parent.iterdir())):
            assert "before-restore" in done.stderr, "what to do was said before"
        if done.returncode == 0:
            break
        again = cli_process(*words[:-2], store=path)
        assert again.returncode == 0, again.stderr
        assert asyncio.run(events_of(path)) == new
    else:
        pytest.fail("it never came to its end")
    assert ended == {"old", "new"}


REFUSED = """
    import os, sys
    at, folder, count = int(sys.argv[1]), sys.argv[2], 0

    def hook(event, args):
        global count
        if event in ("os.rename", "os.link") and folder in str(args):
            count += 1
            if count == at:
                raise OSError(95, "Operation not supported")

    sys.addaudithook(hook)
    from eventckpt.cli import app
    app(sys.argv[3:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["healthy", "text"])
def test_a_restore_of_which_the_file_system_refuses_a_step_gives_everything_its_name_back(
    path: Path, file: Path, state: str
) -> None:
    asyncio.run(written(path, 5))
    new = asyncio.run(written(file, 3))
    if state == "text":
        path.write_bytes(b"hello\n" * 2000)
        for suffix in ("-wal", "-shm", "-journal"):
            beside(path, suffix).write_bytes(suffix.encode())
    before = {name: content for name, content in files(path.parent).items() if state == "text" or name == path.name}
    for at in range(1, 10):
        words = ["restore", str(file), "--yes", "--quick", "--store", str(path)]
        command = [sys.executable, "-c", textwrap.dedent(REFUSED), str(at), str(path.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 4, done.stderr
        assert "not supported" in done.stderr
        assert set(files(path.parent)) == set(before)
        assert state == "healthy" or files(path.parent) == before
        assert path.stat().st_nlink == 1
    assert at > 2, "there were steps to refuse"
    assert asyncio.run(events_of(path)) == new


@pytest.mark.slow
def test_threads_that_restore_at_once_leave_one_whole_store(path: Path, file: Path) -> None:
    asyncio.run(written(path, 5))
    new = asyncio.run(written(file, 3))
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(cli_process("restore", str(file), "--yes", store=path).returncode))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert set(codes) <= {0, 4}
    assert 0 in codes
    assert asyncio.run(events_of(path)) == new
