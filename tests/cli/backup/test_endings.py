"""Where `backup` and `restore` may end: a whole copy or none, the old store or the new one, at whatever step it is
interrupted, killed, refused, or out of room."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from eventckpt import SqliteEventStore, StoreFullError
from eventckpt.stores.sqlite.backup import copy_beside, copy_store

from ...stores.chains import append_chain, headers
from ...stores.sqlite.helpers import HANG, beside, files, said
from .backups import cli_process, events_of, written

LITTLE_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from eventckpt.cli import app
app(sys.argv[1:])
"""


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
