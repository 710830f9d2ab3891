"""A SQLite store's file, backed up beside its writers, and put back while nobody has it open: by the commands, each in
a process of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

__all__ = ["back_up", "restore"]


async def back_up(path: Path, target: Path) -> None:
    """Copy the store, with everything that was acknowledged before this began."""
    await _eventckpt("backup", str(target), "--store", str(path))


async def restore(path: Path, backup: Path) -> None:
    """Put the copy in the place of the store, which nobody has open."""
    await _eventckpt("restore", str(backup), "--store", str(path), "--yes")


async def _eventckpt(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eventckpt.cli", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, f"eventckpt {arguments[0]} ended with {process.returncode}: {said.decode()}"
