"""The command that lists sessions, each with its branches."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Final

import typer

from ..audit import CheckpointAudit, Latest
from ..history.listing import SessionInfo, sessions_of
from ..history.snapshots import is_reserved
from ..moments import order_of
from .output import Column, Listing
from .session import USAGE, Failure, Session, command

__all__ = ["commands", "latest_of", "list_sessions", "sessions"]

commands: Final = typer.Typer()

_COLUMNS: Final = [
    Column("session", holds="id"),
    Column("source", holds="text", rank=1),
    Column("turns", right=True, rank=2),
    Column("branches", right=True, rank=3),
    Column("last activity", holds="time"),
]
_LATEST: Final[dict[str, Latest]] = {"log": "log", "projection": "projection"}


@command(commands, "sessions")
async def sessions(
    session: Session,
    source: Annotated[str | None, typer.Option("--source", "-s", help="Only sessions of this source_id.")] = None,
    prefix: Annotated[str, typer.Option(help="Only sessions whose id begins so.")] = "",
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    latest: Annotated[
        str, typer.Option(help="Where to look: in the log, or in the projection, quicker and maybe late.")
    ] = "log",
) -> None:
    """List sessions, the last active first: their turns, and how often they branched."""
    session.turns = True
    await list_sessions(session, source, prefix, limit, latest)


async def list_sessions(session: Session, source: str | None, prefix: str, limit: int, latest: str) -> None:
    """List sessions, of one source or of all that a history provider wrote."""
    where = latest_of(latest)
    audit = await session.audit()
    infos: list[SessionInfo] = []
    for name in [source] if source is not None else await _sources(audit, prefix):
        infos += await sessions_of(audit.store, name, latest=where, prefix=prefix, counted=where == "log")
    infos.sort(key=lambda info: order_of(info.last_activity), reverse=True)
    listing = Listing(session.out, "session", _COLUMNS)
    for info in infos[: limit or None]:
        listing.add(info._asdict(), _row(info))
    listing.flush()
    if limit and len(infos) > limit:
        session.out.note(f"There are {len(infos) - limit:,} more: --limit 0 for all.")
    elif not infos:
        session.out.nothing("No sessions fit.")


def latest_of(name: str) -> Latest:
    """Where to look, as `--latest` says it.

    Raises:
        Failure: it says nothing of the kind.
    """
    if name not in _LATEST:
        raise Failure(USAGE, f"--latest is {' or '.join(_LATEST)}, not {name!r}.")
    return _LATEST[name]


async def _sources(audit: CheckpointAudit, prefix: str) -> list[str]:
    """The sources of history providers that have a session of such a name."""
    async with aclosing(audit.store.streams(prefix=prefix)) as streams:
        found = {stream.workflow_name async for stream in streams}
    return sorted(name for name in found if not is_reserved(name))


def _row(info: SessionInfo) -> list[str]:
    turns = "" if info.turns is None else str(info.turns)
    return [info.session_id, info.source_id, turns, str(info.branches), info.last_activity]
