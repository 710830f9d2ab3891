"""What the tests of SQLite stores have in common: events, other programs' connections, other processes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event

from ..chains import STREAM

HANG = 60
"""Seconds after which something that should have ended is taken to hang."""


def runs(count: int) -> list[StreamId]:
    return [StreamId("workflow", f"run {number}") for number in range(count)]


def outcomes(appends: Iterable[Coroutine[Any, Any, None]]) -> asyncio.Future[list[BaseException | None]]:
    """What becomes of each append, all of them made at once."""
    return asyncio.gather(*appends, return_exceptions=True)


@contextmanager
def plain(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """A connection that knows nothing of the store, as another program's."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


def noted(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that are opened from now on, by stores or by others."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_note(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_note)
    return opened


def pragma(path: Path, name: str) -> Any:
    with plain(path) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


PROLOGUE = """
import asyncio, os, sqlite3, sys
from pathlib import Path
from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.stores.conformance import make_event
STREAM = StreamId("workflow", "run")
path = Path(sys.argv[1])
"""


@contextmanager
def process(script: str, path: Path, *, runner: tuple[str, ...] = ()) -> Generator[subprocess.Popen[str], None, None]:
    """Another process that runs `script` on `path`. It is killed if it is still there at the end."""
    command = [*runner, sys.executable, "-c", PROLOGUE + textwrap.dedent(script), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def run(script: str, path: Path, *, runner: tuple[str, ...] = ()) -> str:
    """What `script`, run to its end in another process, prints."""
    with process(script, path, runner=runner) as child:
        printed, _ = child.communicate(timeout=HANG)
    assert child.returncode == 0, printed
    return printed


def said(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.readline().strip()


@contextmanager
def write_lock(path: Path) -> Generator[Callable[[], None], None, None]:
    """Another process holds the write lock until it is told to let go."""
    script = """
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
        sys.stdin.readline()
        connection.execute("ROLLBACK")
        connection.close()
        print("released", flush=True)
    """
    with process(script, path) as child:
        assert said(child.stdout) == "locked"

        def release() -> None:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            assert said(child.stdout) == "released"

        yield release


async def refuses(path: Path, error: type[CheckpointStoreError], match: str) -> None:
    """Neither a read nor appends can open `path`, and none of them hangs."""
    async with asyncio.timeout(HANG), SqliteEventStore(path, busy_timeout=0.2) as store:
        with pytest.raises(error, match=match):
            await store.read(STREAM, 1)
        for outcome in await outcomes(store.append(make_event(stream, 1)) for stream in runs(20)):
            assert isinstance(outcome, error), outcome
        with pytest.raises(error, match=match):
            await store.append(make_event(STREAM, 1))


def count_events(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM events").fetchone()[0]


def stored(path: Path) -> list[int]:
    with plain(path) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM events ORDER BY position")]


def traced(connections: list[sqlite3.Connection]) -> list[str]:
    """The statements that these connections run from now on."""
    asked: list[str] = []
    for connection in connections:
        connection.set_trace_callback(asked.append)
    return asked
