"""The pages of operations: how the projector stands, what the engine finds of the store, and the types in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final

from ...audit import TypeUse
from ...errors import StoreCorruptError
from ...events import MAX_RUN_ID
from ...rendering.checks import check_fields, settings_told, type_fields
from ..page import Line, Page
from ..query import Query
from ..room import Room
from ..standing import ASKED, Standing
from ..templates import address
from ..viewer import Viewer

__all__ = ["checks", "operations", "types"]

_ROWS: Final = ASKED
"""Of a table; anybody who can write leases can write very many."""
_RUNS: Final = 100
"""Runs whose types are looked for, as many as `eventckpt doctor` looks at."""
_TABLE: Final = 300_000  # bytes of HTML


async def operations(viewer: Viewer, asked: Query) -> Page:
    """How the projector stands: what `eventckpt-projector status` prints."""
    standing = await viewer.operations.standing() if viewer.operations is not None else None

    def lines() -> Iterator[Line]:
        if standing is not None:
            yield None, standing._asdict()

    values: dict[str, Any] = {"standing": standing, "live": asked.text("live")}
    if standing is not None:
        values |= {
            "ranges": _fitting(standing.ranges),
            "parked": _fitting(standing.parked),
            "states": Counter(str(each.get("state")) for each in standing.ranges),
            "owners": _owners(standing),
            "lag": sum(each.get("lag") or 0 for each in standing.ranges),
            "not_asked": sum(each.get("lag") is None for each in standing.ranges),
            "unread": sum(each.get("owner") is None for each in standing.ranges),
            "longest_name": MAX_RUN_ID,
        }
    return Page("operations.html", "Operations", values, lines if viewer.operations is not None else None)


async def checks(viewer: Viewer, asked: Query) -> Page:
    """Settings, and what the engine finds of them, of rights and of the layout: what `eventckpt doctor` prints of them.
    Nothing is written."""
    with suppress(StoreCorruptError):  # which the checks tell more of
        await viewer.audit.store.checkpoint_ids("", limit=1)
    found = await viewer.audit.checks(write=False)
    settings = list(settings_told())

    def lines() -> Iterator[Line]:
        yield from (("setting", setting) for setting in settings)
        yield from (("check", check_fields(check)) for check in found)

    return Page("checks.html", "Checks of the store", {"checks": found, "settings": settings}, lines)


async def types(viewer: Viewer, asked: Query) -> Page:
    """The types in the newest runs, and whether the allow-list admits them: what `eventckpt doctor` prints of them."""
    runs = asked.number("runs", _RUNS, most=10 * _RUNS)
    found = await viewer.audit.types(runs=runs)

    def lines() -> Iterator[Line]:
        yield from (("type", type_fields(use)) for use in found)

    room = Room()
    shown = list(takewhile(lambda use: room.takes(use.name[:300], use.name[:300], _run(use)), found))
    return Page("types.html", "Types in the store", {"types": shown, "count": len(found), "runs": runs}, lines)


def _run(use: TypeUse) -> str:
    return address("/run", run=use.example.run_id, workflow=use.example.workflow_name)


def _fitting(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first of some rows, as many as a page has room for."""
    room = Room(_TABLE)
    return list(takewhile(lambda row: room.takes(_event(row), *map(_start, row.values())), rows[:_ROWS]))


def _start(value: object) -> str:
    return str(value)[:300]


def _event(row: Mapping[str, Any]) -> str:
    """The address of the event that a row is about, where it is about one."""
    return address("/event", **{name: _start(row.get(name, "")) for name in ("run", "workflow")})


def _owners(standing: Standing) -> list[tuple[str, int]]:
    """Who has how many ranges, those with the most first."""
    owners = Counter(str(each["owner"]) for each in standing.ranges if each.get("owner") is not None)
    return owners.most_common(20)
