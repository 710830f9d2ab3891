"""What a document of the "latest" projection is worth: which ones count, and what one of 0.1.0 left open.

Anyone who can write to a store can change what is in it, and the log can make every document anew: so one that does not
count is as if there were none, and is written over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from ..chain import is_newer
from ..events import MAX_SEQ, RunInfo, StreamId
from ..log import logger_of
from ..lru import Lru
from ..runs import pointing
from ..text import safe
from . import EventStore

__all__ = ["LeftOut", "counting", "told"]

logger = logger_of("eventckpt")

_MEMORY: Final = 10_000  # documents of which it was said that they are left out


def counting(decode: Callable[[], RunInfo], belongs: Callable[[StreamId], bool]) -> RunInfo | None:
    """The document that `decode` reads; None where it does not count: it is not whole, or of another run than its key.

    Args:
        decode: raises what its decoder does of bytes or fields that are no document.
        belongs: whether the key, under which it is kept, is that of this run.
    """
    try:
        info = decode()
    except (msgspec.DecodeError, RecursionError, TypeError, UnicodeError):
        return None
    return info if 1 <= info.seq <= MAX_SEQ and belongs(info.stream) else None


class LeftOut:
    """Says of each document that does not count, once, that it is left out."""

    def __init__(self) -> None:
        self._said: Lru[tuple[str, str], bool] = Lru(_MEMORY)

    def say(self, projection: str, key: str) -> None:
        """Of the document that a projection keeps under the key of a run."""
        if not self._said.get((projection, key)):
            self._said.put((projection, key), True)
            logger.warning("The document %r of the run with key %s is damaged and left out.", projection, safe(key))


async def told(store: EventStore, info: RunInfo) -> RunInfo | None:
    """A document of 0.1.0 that says `idle`, with the status that the log has for it, as of the document's own seq.

    All else that it says is right, and may be more than the log tells once it was pruned. So only the newest live
    header is read. None where the log does not have the events that the document is of, or not any more, or where
    only a newer version understands them.
    """
    # Nothing before the checkpoint that the document names can be the newest live one.
    behind = info.seq - 1 if info.checkpoint_id is None else max(0, info.checkpoint_seq - 1)
    dead: set[str] = set()
    is_its_own = False
    async with aclosing(store.headers(info.stream, gt=behind, lte=info.seq, desc=True)) as headers:
        async for header in headers:
            is_its_own = is_its_own or (header.seq, header.digest) == (info.seq, info.digest)
            if not is_its_own or is_newer(header):
                return None
            if header.type == "checkpoint" and header.checkpoint_id not in dead:
                return pointing(info, header)
            dead.add(header.checkpoint_id)
    return pointing(info, None) if is_its_own else None
