"""The command that lists sessions, each with its branches."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ..audit import CheckpointAudit
from ..audit.listed_from import WHERE, Where
from ..audit.sessions import ListedSession, sessions_in
from ..errors import StoreNotFoundError
from ..history.listing import SessionInfo
from ..rendering.cursor import SESSIONS, place_in, token_of
from ..rendering.words import NO_PLACE_FOR_SESSIONS
from .cursor import After, say_more
from .output import Column, Listing, Output
from .session import USAGE, Failure, Session, command

__all__ = ["Looked", "commands", "latest_of", "list_sessions", "say_late", "sessions"]

commands: Final = typer.Typer()

_COLUMNS: Final = [
    Column("session", holds="id"),
    Column("source", holds="text", rank=1),
    Column("turns", right=True, rank=2),
    Column("branches", right=True, rank=3),
    Column("last activity", holds="time"),
]
_WHERE: Final[dict[str, Where]] = {where: where for where in WHERE}

Looked = Annotated[
    str,
    typer.Option(
        "--latest",
        help="Where to look: in the log; in the projection, quicker and maybe late; auto: in that where there is one.",
    ),
]


@command(commands, "sessions")
async def sessions(
    session: Session,
    source: Annotated[str | None, typer.Option("--source", "-s", help="Only sessions of this source_id.")] = None,
    prefix: Annotated[str, typer.Option(help="Only sessions whose id begins so.")] = "",
    limit: Annotated[int, typer.Option(help="How many to list; 0 for all.", min=0)] = 50,
    latest: Looked = "log",
    after: After = None,
) -> None:
    """List sessions, the last active first: their turns, and how often they branched."""
    session.turns = True
    await list_sessions(session, source, prefix, limit, latest, after)


async def list_sessions(
    session: Session, source: str | None, prefix: str, limit: int, latest: str, after: str | None
) -> None:
    """List sessions, of one source or of all that a history provider wrote."""
    place = place_in(after, SESSIONS, ListedSession)
    audit = await session.audit(latest=latest_of(latest))
    try:
        infos = await sessions_in(audit.store, latest=audit.latest, source=source, prefix=prefix, after=place)
    except StoreNotFoundError:
        await session.look_for_runs()
        session.out.nothing(NO_PLACE_FOR_SESSIONS)
        return
    listing = Listing(session.out, "session", _COLUMNS)
    for info in infos[: limit or None]:
        listing.add(info._asdict(), _row(info))
    listing.flush()
    say_late(session.out, audit)
    if limit and len(infos) > limit:
        say_more(session.out, token_of(SESSIONS, ListedSession.of(infos[limit - 1])))
    elif not infos:
        session.out.nothing("No sessions fit." if place is None else "No more sessions fit.")


def latest_of(name: str) -> Where:
    """Where to look, as `--latest` says it.

    Raises:
        Failure: it says nothing of the kind.
    """
    if name not in _WHERE:
        raise Failure(USAGE, f"--latest is {', '.join(_WHERE)}, not {name!r}.")
    return _WHERE[name]


def say_late(out: Output, audit: CheckpointAudit) -> None:
    """That what was listed may not be all that there is."""
    if audit.latest == "projection":
        out.note("Listed from the projection, which may be late.")


def _row(info: SessionInfo) -> list[str]:
    turns = "" if info.turns is None else str(info.turns)
    return [info.session_id, info.source_id, turns, str(info.branches), info.last_activity]
