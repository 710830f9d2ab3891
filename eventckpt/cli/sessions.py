"""The command that lists sessions, each with its branches."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Final, Self

import msgspec
import typer

from ..audit import CheckpointAudit, Latest
from ..history.listing import SessionInfo, sessions_of
from ..history.snapshots import is_reserved
from ..moments import NEVER, order_of
from .cursor import After, place_in, say_more, token_of
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
_NAME: Final = "eventckpt sessions"
_LATEST: Final[dict[str, Latest]] = {"log": "log", "projection": "projection"}


class _Place(msgspec.Struct, frozen=True):
    """A session as it was when it was listed."""

    source_id: str
    session_id: str
    last_activity: str

    @classmethod
    def of(cls, info: SessionInfo) -> Self:
        return cls(info.source_id, info.session_id, info.last_activity)


def _order(of: SessionInfo | _Place) -> tuple[timedelta, str, str]:
    """What sessions are listed by: the last active first."""
    return NEVER - order_of(of.last_activity), of.source_id, of.session_id


@command(commands, "sessions")
async def sessions(
    session: Session,
    source: Annotated[str | None, typer.Option("--source", "-s", help="Only sessions of this source_id.")] = None,
    prefix: Annotated[str, typer.Option(help="Only sessions whose id begins so.")] = "",
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    latest: Annotated[
        str, typer.Option(help="Where to look: in the log, or in the projection, quicker and maybe late.")
    ] = "log",
    after: After = None,
) -> None:
    """List sessions, the last active first: their turns, and how often they branched."""
    session.turns = True
    await list_sessions(session, source, prefix, limit, latest, after)


async def list_sessions(
    session: Session, source: str | None, prefix: str, limit: int, latest: str, after: str | None
) -> None:
    """List sessions, of one source or of all that a history provider wrote."""
    where, place = latest_of(latest), place_in(after, _NAME, _Place)
    audit = await session.audit()
    infos: list[SessionInfo] = []
    for name in [source] if source is not None else await _sources(audit, prefix):
        infos += await sessions_of(audit.store, name, latest=where, prefix=prefix, counted=where == "log")
    infos.sort(key=_order)
    if place is not None:
        infos = [info for info in infos if _order(info) > _order(place)]
    listing = Listing(session.out, "session", _COLUMNS)
    for info in infos[: limit or None]:
        listing.add(info._asdict(), _row(info))
    listing.flush()
    if limit and len(infos) > limit:
        say_more(session.out, token_of(_NAME, _Place.of(infos[limit - 1])))
    elif not infos:
        session.out.nothing("No sessions fit." if place is None else "No more sessions fit.")


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
