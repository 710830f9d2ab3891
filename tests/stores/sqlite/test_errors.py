"""What each of SQLite's result codes, and each refusal of the system, is to who uses a store: what passes by itself may
be tried again, and a worker waits it out; everything else is for a person."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from eventckpt import (
    CheckpointStoreError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from eventckpt.stores.sqlite.errors import store_errors

from .helpers import run

PRIMARY = {
    "BUSY": StoreLockedError,
    "LOCKED": StoreLockedError,
    "PROTOCOL": StoreLockedError,
    "FULL": StoreFullError,
    "IOERR": StoreUnavailableError,
    "NOMEM": StoreUnavailableError,
    "SCHEMA": StoreUnavailableError,
    "READONLY": StoreReadOnlyError,
    "CANTOPEN": StoreReadOnlyError,
    "PERM": StoreReadOnlyError,
    "CORRUPT": StoreCorruptError,
    "NOTADB": StoreFormatError,
    "INTERRUPT": StoreFormatError,  # by this library, which stops what runs on and on
    **dict.fromkeys(
        ("ERROR", "INTERNAL", "ABORT", "NOTFOUND", "EMPTY", "TOOBIG", "CONSTRAINT", "MISMATCH", "MISUSE", "NOLFS"),
        CheckpointStoreError,
    ),
    **dict.fromkeys(("AUTH", "FORMAT", "RANGE"), CheckpointStoreError),
}
"""The codes of https://www.sqlite.org/rescode.html. Those that say more are what these are, but for a few."""
SAYS_MORE = {"IOERR_DATA": StoreCorruptError, "IOERR_CORRUPTFS": StoreCorruptError}


def extended() -> list[str]:
    """Every result code that this Python knows by name."""
    found: list[str] = []
    for primary in PRIMARY:
        number = getattr(sqlite3, f"SQLITE_{primary}")
        names = [name.removeprefix("SQLITE_") for name in dir(sqlite3) if name.startswith(f"SQLITE_{primary}_")]
        found += [primary, *(name for name in names if getattr(sqlite3, f"SQLITE_{name}") & 0xFF == number)]
    return found


@pytest.mark.parametrize("name", extended())
def test_each_result_code_is_an_error_that_says_whether_it_passes(name: str) -> None:
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, f"SQLITE_{name}"), f"SQLITE_{name}"
    with pytest.raises(CheckpointStoreError, match=r"events\.db") as told, store_errors(Path("events.db")):
        raise error
    assert type(told.value) is SAYS_MORE.get(name, PRIMARY[name.partition("_")[0]])


def test_the_table_has_every_primary_code() -> None:
    numbers = {getattr(sqlite3, f"SQLITE_{primary}") for primary in PRIMARY}
    assert numbers == set(range(1, 27))  # 27, 28, 100 and 101 are no errors


SYSTEM = {
    "ENOSPC": StoreFullError,
    "EDQUOT": StoreFullError,
    **dict.fromkeys(("EIO", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ETIMEDOUT", "EAGAIN"), StoreUnavailableError),
    **dict.fromkeys(("EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP"), CheckpointStoreError),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_each_refusal_of_the_system_likewise(name: str) -> None:
    number = getattr(errno, name)
    with pytest.raises(CheckpointStoreError, match=r"events\.db") as told, store_errors(Path("events.db")):
        raise OSError(number, os.strerror(number))
    assert type(told.value) is SYSTEM[name]


def test_memory_that_does_not_suffice_passes() -> None:
    with pytest.raises(StoreUnavailableError), store_errors(Path("events.db")):
        raise MemoryError


LIMITED = """
    import resource

    async def main():
        async with SqliteEventStore(path) as store:
            first = make_event(STREAM, 1)
            await store.append(first)
            limit = resource.getrlimit(resource.{what})
            resource.setrlimit(resource.{what}, ({to}, limit[1]))
            second = make_event(STREAM, 2, previous=first, data=os.urandom(3_000_000))
            other = SqliteEventStore(path)
            for attempt in (store.append(second), other.read(STREAM, 1)):
                try:
                    await attempt
                except CheckpointStoreError as error:
                    print(type(error).__name__)
                else:
                    print("served")
            resource.setrlimit(resource.{what}, limit)
            await store.append(second)
            print(len(await other.read(STREAM, 1, 2)))
            await other.close()

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("what", "to", "said"),
    [
        ("RLIMIT_FSIZE", "1_000_000", ["StoreUnavailableError", "served", "2"]),
        ("RLIMIT_NOFILE", "len(os.listdir('/proc/self/fd'))", ["served", "StoreUnavailableError", "2"]),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_a_limit_of_the_process_is_named_and_passes_once_it_is_raised(
    tmp_path: Path, what: str, to: str, said: list[str]
) -> None:
    printed = run(LIMITED.format(what=what, to=to), tmp_path / "events.db").split()
    assert printed == said
