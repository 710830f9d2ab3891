"""Where a pipe, a folder, a socket or a device has the name of a store's file, or of one that SQLite takes for a part
of it, nobody waits for it: it is named, and left as it is."""
# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from eventckpt import SqliteEventStore
from eventckpt.errors import StoreReadOnlyError
from eventckpt.stores.conformance import make_event
from eventckpt.stores.sqlite.backup import copy_beside, copy_store, replace_store

from ..chains import STREAM
from .helpers import beside


def make_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()  # noqa: PTH109 - the name of a socket is short
        os.chdir(place.parent)
        try:
            made.bind(place.name)
        finally:
            os.chdir(here)


KINDS: Final[dict[str, Callable[[Path], None]]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": make_socket,
    "device": lambda place: place.symlink_to("/dev/zero"),
}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await store.append(make_event(STREAM, 1))
    return tmp_path / "events.db"


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_what_is_no_file_is_named_by_whoever_would_open_it(
    path: Path, suffix: str, kind: str, through_a_link: bool
) -> None:
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    wrong = beside(path, suffix)
    wrong.unlink(missing_ok=True)
    KINDS[kind](wrong)
    before = wrong.lstat()
    name = path
    if through_a_link:
        name = path.with_name("link.db")
        name.symlink_to(path)
    said = str(wrong) if suffix else str(name)

    for read_only in (True, False):
        async with SqliteEventStore(name, read_only=read_only) as store:
            with pytest.raises(StoreReadOnlyError, match="a folder or a device") as refused:
                await store.read(STREAM, 1)
            assert said in str(refused.value)
    for is_live in (True, False):
        with copy_beside(path) as made, pytest.raises(StoreReadOnlyError, match="a folder or a device"):
            copy_store(name, made, lambda *_: None, is_live=is_live)
    with pytest.raises(StoreReadOnlyError, match="a folder or a device"):
        replace_store(copy, name, lambda _: None)
    assert wrong.lstat() == before
