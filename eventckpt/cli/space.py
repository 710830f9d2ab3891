"""The command that gives room back to the disk, compact, and what every command says of it that removes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..stores import AuditStore, Space
from ..stores.sqlite.space import rewrite as rewritten
from .backup import to_its_end
from .output import Output
from .session import Session, command

__all__ = ["commands", "compact", "say_given_back"]

commands: Final = typer.Typer()

_Rewrite = Annotated[
    bool, typer.Option("--rewrite", help="Write the file anew, which one of an earlier version needs once.")
]
_BY_ITSELF: Final = "Cosmos DB gives the room of what was removed back by itself: there is nothing to do."


@command(commands, "compact", of_runs="the file has both, sessions and runs.")
async def compact(session: Session, rewrite: _Rewrite = False) -> None:
    """Give the room of what was removed back to the disk, beside whoever reads and writes. With --rewrite, while no
    process has the store open."""
    if rewrite and isinstance(file := session.place(), Path):
        _say(session.out, await to_its_end(partial(rewritten, file)))
        return
    audit = await session.audit(writes=True)
    if not await say_given_back(session.out, audit.store):
        session.out.record("space", dict.fromkeys(Space._fields) | {"advice": _BY_ITSELF})
        session.out.line(_BY_ITSELF)


async def say_given_back(out: Output, store: AuditStore) -> bool:
    """Give the room of what was removed back to the disk, and say how much that is; False: the engine has none to
    give, and nothing was said.

    Raises:
        CheckpointStoreError: see `AuditStore.give_back`.
    """
    space = await store.give_back()
    if space is not None:
        _say(out, space)
    return space is not None


def _say(out: Output, space: Space) -> None:
    fields: dict[str, Any] = space._asdict()
    out.record("space", fields)
    free = f", of which {_size(space.free)} are free" if space.free else ""
    out.line(f"On the disk: {_size(space.before)} → {_size(space.after)}{free}.")
    if space.advice:
        out.line(space.advice)


def _size(count: int) -> str:
    """So many bytes as people say it: 512 bytes, 1.9 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = count / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        if size >= 999.95:  # else it would be told as 1000.0
            size, unit = size / 1000, larger
    return f"{size:.1f} {unit}"
