"""The lines of a file or of the input, whatever is in there: no line grows without bound, and nothing waits for it.

A pipe may give nothing for hours. It is read by a thread of its own, which ends with the program, so that an interrupt
ends a command at once.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from ..audit.archive import MAX_LINE, TOO_LONG

__all__ = ["lines_in", "lines_of"]

_CHUNK: Final = 256 * 1024  # bytes read at once
_AHEAD: Final = 4  # chunks that are read before they are asked for


async def lines_of(name: str) -> AsyncGenerator[bytes, None]:
    """The lines of the file with this name, or of the input where it is `-`, without their ends.

    Raises:
        OSError: it cannot be opened, or read to its end.
    """
    reader = _Reader(name)
    reader.start()
    try:
        while (lines := await reader.next()) is not None:
            for line in lines:
                yield line
    finally:
        reader.stop()


def lines_in(file: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a file, those of each chunk together; one that is too long for an event is `TOO_LONG`."""
    held: list[bytes] = []  # of the line whose end was not read yet
    size = 0
    while chunk := file.read(_CHUNK):
        first, *others = chunk.split(b"\n")
        held, size = _longer(held, size, first)
        if not others:
            continue
        yield [_joined(held, size), *others[:-1]]
        held, size = _longer([], 0, others[-1])
    if size:
        yield [_joined(held, size)]


def _longer(held: list[bytes], size: int, more: bytes) -> tuple[list[bytes], int]:
    """A line with what comes after it. Of one that is no event, whatever follows, only the size is kept."""
    size += len(more)
    held.append(more)
    if size > MAX_LINE or (size >= _CHUNK and not held[0].lstrip().startswith(b"{")):
        return [b""], MAX_LINE + 1
    return held, size


def _joined(held: list[bytes], size: int) -> bytes:
    return TOO_LONG if size > MAX_LINE else b"".join(held)


class _Reader(threading.Thread):
    def __init__(self, name: str) -> None:
        super().__init__(name="eventckpt-import", daemon=True)
        self._file = name
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[list[bytes] | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = False

    async def next(self) -> list[bytes] | None:
        """Some lines; None at the end."""
        found = await self._read.get()
        self._room.release()
        if isinstance(found, Exception):
            raise found
        return found

    def stop(self) -> None:
        """Read no further than what is being read."""
        self._stopped = True
        self._room.release()

    def run(self) -> None:
        try:
            if self._file == "-":
                self._give_all(cast(BinaryIO, getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)))
            else:
                with Path(self._file).open("rb", buffering=0) as file:
                    self._give_all(cast(BinaryIO, file))
        except Exception as error:  # whatever it is, who asks for the lines gets it
            self._give(error)

    def _give_all(self, file: BinaryIO) -> None:
        for lines in lines_in(file):
            if not self._give(lines):
                return
        self._give(None)

    def _give(self, found: list[bytes] | Exception | None) -> bool:
        self._room.acquire()
        if self._stopped or self._loop.is_closed():
            return False
        self._loop.call_soon_threadsafe(self._read.put_nowait, found)
        return True
