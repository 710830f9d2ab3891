"""The file of an export: made new, for its owner alone, and written off the event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from ..threads import in_thread

__all__ = ["new_file", "write_lines"]

_BUFFER: Final = 1024 * 1024  # bytes that are written at once


async def new_file(path: Path) -> BinaryIO:
    """A new file that nobody else can read: what runs know is in it.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    return await in_thread(_made_for_its_owner, path)


async def write_lines(
    file: BinaryIO, lines: AsyncIterable[bytes], *, written: Callable[[], None] | None = None
) -> None:
    """Write lines, each with its end.

    Args:
        file: unbuffered.
        lines: without their ends.
        written: called now and then.

    Raises:
        OSError: they cannot be written.
    """
    buffer = bytearray()
    async for line in lines:
        buffer += line
        buffer += b"\n"
        if len(buffer) >= _BUFFER:
            await in_thread(_write_all, file.write, bytes(buffer))
            buffer.clear()
            if written is not None:
                written()
    await in_thread(_write_all, file.write, bytes(buffer))


def _made_for_its_owner(path: Path) -> BinaryIO:
    return open(path, "xb", buffering=0, opener=partial(os.open, mode=0o600))


def _write_all(write: Callable[[bytes], int | None], data: bytes) -> None:
    while data:
        data = data[write(data) or 0 :]
