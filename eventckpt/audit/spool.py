"""Lines that have to wait, in the order in which they came: the first megabytes in memory, the rest in a file.

What an import cannot place yet may be any part of a run of any size, and memory is bounded.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from typing import IO, Final

from ..threads import in_thread

__all__ = ["Spool"]

_MEMORY: Final = 4 * 1024 * 1024  # bytes, at the front and at the back each
_HEAD: Final = struct.Struct("<QQ")  # the line's number, and its size


class Spool:
    """First in, first out. `front` gives the first, `drop` takes it out."""

    def __init__(self) -> None:
        self._front: deque[tuple[int, bytes]] = deque()
        self._front_size = 0
        self._back: list[tuple[int, bytes]] = []
        self._back_size = 0
        self._file: IO[bytes] | None = None
        self._read = self._written = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def add(self, number: int, line: bytes) -> None:
        """Append a line and its number in the file."""
        self._count += 1
        if not self._back and self._read == self._written and self._front_size < _MEMORY:
            self._front.append((number, line))
            self._front_size += len(line)
            return
        self._back.append((number, line))
        self._back_size += len(line)
        if self._back_size >= _MEMORY:
            await in_thread(self._write)

    async def front(self) -> tuple[int, bytes] | None:
        """The first line and its number; None when there is none."""
        if not self._front and self._count:
            await in_thread(self._refill)
        return self._front[0] if self._front else None

    def drop(self) -> None:
        """Take out the line that `front` gave."""
        self._front_size -= len(self._front.popleft()[1])
        self._count -= 1

    def close(self) -> None:
        """Forget all that is left. The file has no name any more, and goes with this."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._front.clear()
        self._back.clear()
        self._front_size = self._back_size = self._read = self._written = self._count = 0

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="eventckpt-import-")  # noqa: SIM115 - as long as the spool
        self._file.seek(self._written)
        for number, line in self._back:
            self._file.write(_HEAD.pack(number, len(line)))
            self._file.write(line)
        self._written = self._file.tell()
        self._back, self._back_size = [], 0

    def _refill(self) -> None:
        if self._file is None or self._read == self._written:
            self._front.extend(self._back)
            self._front_size += self._back_size
            self._back, self._back_size = [], 0
            return
        self._file.seek(self._read)
        while self._read < self._written and self._front_size < _MEMORY:
            number, size = _HEAD.unpack(self._file.read(_HEAD.size))
            self._front.append((number, self._file.read(size)))
            self._front_size += size
            self._read = self._file.tell()
        if self._read == self._written:  # all of it is read: begin anew, so that the file does not grow for ever
            self._file.truncate(0)
            self._read = self._written = 0
