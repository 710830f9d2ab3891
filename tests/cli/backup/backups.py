"""What the tests of `backup` and `restore` share: stores with events, what spoils them, commands in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from eventckpt import CheckpointEvent, SqliteEventStore, StreamId
from eventckpt.chain import sealed
from eventckpt.stores.conformance import make_event

from ...stores.chains import STREAM
from ...stores.sqlite.helpers import HANG, beside, plain, process

AS_IT_IS = "import sys; from eventckpt.cli import app; app(sys.argv[1:])"


def cli_process(*words: str, store: Path, start: str = AS_IT_IS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", start, *words, "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


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


def one_id(path: Path) -> str:
    with plain(path) as connection:
        return connection.execute("SELECT id FROM store").fetchone()[0]


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
