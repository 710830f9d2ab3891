"""A full disk keeps what was acknowledged, and nothing half written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from eventckpt import CheckpointStoreError, SqliteEventStore, StreamId
from eventckpt.errors import StoreFullError
from eventckpt.stores.conformance import make_event

from ..chains import STREAM, append_chain, headers
from .helpers import outcomes, plain, run, runs, write_lock


class TestFullDisks:
    async def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_half_written(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(300_000))
        path = small_disk / "events.db"
        async with SqliteEventStore(path) as store:
            events = await append_chain(store, 1, data=os.urandom(20_000))

            async def fill() -> None:
                while True:
                    events.append(make_event(STREAM, len(events) + 1, previous=events[-1], data=os.urandom(20_000)))
                    await store.append(events[-1])

            with pytest.raises(StoreFullError, match="room"):
                await fill()
            following = events.pop()
            assert await headers(store) == [event.header() for event in events]
            other = make_event(StreamId("workflow", "other"), 1, data=os.urandom(200_000))
            with pytest.raises(StoreFullError):
                await store.append(other)
            assert await headers(store, other.stream) == []

            filler.unlink()
            await store.append(following)
            await store.append(other)
            assert await store.read(STREAM, *range(1, len(events) + 2)) == [*events, following]
            assert await store.read(other.stream, 1) == [other]
        async with SqliteEventStore(path) as store:
            assert await store.read(STREAM, *range(1, len(events) + 2)) == [*events, following]
        with plain(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    async def test_an_append_too_large_for_the_disk_fails_alone(self, small_disk: Path) -> None:
        path = small_disk / "events.db"
        async with SqliteEventStore(path) as store:
            await append_chain(store, 1)
            small = [make_event(stream, 1) for stream in runs(10)]
            large = make_event(StreamId("workflow", "large"), 1, data=os.urandom(4_000_000))
            with write_lock(path) as release:
                appends = outcomes(store.append(event) for event in (*small[:5], large, *small[5:]))
                await asyncio.sleep(0)
                release()
                found = await appends
            assert isinstance(found.pop(5), StoreFullError)
            assert found == [None] * 10
            for event in small:
                assert await store.read(event.stream, 1) == [event]
            assert await store.read(large.stream, 1) == []

    async def test_a_store_that_finds_no_room_to_begin_in_works_once_there_is_some(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert shutil.disk_usage(small_disk).free == 0
        async with SqliteEventStore(small_disk / "events.db") as store:
            for outcome in await outcomes(store.append(make_event(stream, 1)) for stream in runs(5)):
                assert isinstance(outcome, CheckpointStoreError)
            with pytest.raises(CheckpointStoreError):
                await store.read(STREAM, 1)
            filler.unlink()
            events = await append_chain(store, 3)
            assert await store.read(STREAM, 1, 2, 3) == events

    @pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
    def test_a_limit_on_the_size_of_files_keeps_what_was_acknowledged(self, path: Path) -> None:
        script = """
            import resource

            async def main():
                store, events = SqliteEventStore(path), []
                _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
                try:
                    while len(events) < 1000:
                        head = events[-1] if events else None
                        event = make_event(STREAM, len(events) + 1, previous=head, data=os.urandom(10_000))
                        await store.append(event)
                        events.append(event)
                except CheckpointStoreError:
                    print("refused")
                seqs = range(1, len(events) + 2)
                assert await store.read(STREAM, *seqs) == events
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                await store.append(event)
                assert await store.read(STREAM, *seqs) == [*events, event]
                await store.close()
                print(len(events) + 1)

            asyncio.run(main())
        """
        refused, count = run(script, path).split()
        assert refused == "refused"
        assert int(count) > 3
        with plain(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (int(count),)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 2 MB, for root on Linux."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
