"""A SQLite store's file, backed up beside its writers, and put back while nobody has it open."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["back_up", "restore"]


async def back_up(path: Path, target: Path) -> None:
    """Copy the store, with everything that was acknowledged before this began."""
    await asyncio.to_thread(_copy, path, target)


async def restore(path: Path, backup: Path) -> None:
    """Put the copy in the place of the store, which nobody has open."""
    await asyncio.to_thread(_put_back, path, backup)


def _copy(path: Path, target: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy, pages=64)
        copy.execute("PRAGMA journal_mode = DELETE")


def _put_back(path: Path, backup: Path) -> None:
    for beside in ("", "-wal", "-shm"):
        old = Path(f"{path}{beside}")
        if old.exists():
            os.replace(old, f"{path}{beside}.old")  # noqa: PTH105
    os.replace(backup, path)  # noqa: PTH105
