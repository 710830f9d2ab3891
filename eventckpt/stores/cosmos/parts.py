"""Parts that no event refers to: of a save that failed, or of events that were removed."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Final

from ...log import logger_of
from . import listings
from .container import Container
from .items import PART, Item, key_of
from .query import together

__all__ = ["remove_orphaned"]

logger: Final = logger_of("eventckpt")


async def remove_orphaned(container: Container, older_than: float) -> int:
    """See `EventStore.remove_orphaned_parts`."""
    async with container.in_use(many=True):
        if not container.is_there:
            return 0
        parts = await container.query(
            "SELECT c.id, c.stream, c._etag FROM c WHERE STARTSWITH(c.id, @part) AND c._ts <= @before",
            {"@part": f"{PART}-", "@before": await container.service_time() - older_than},
        ).rows()
        candidates: dict[str, dict[str, Item]] = {}
        for part in parts:
            if (key := key_of(part)) is not None:
                candidates.setdefault(key, {})[str(part["id"])] = part
        removed = 0
        for key, by_name in candidates.items():
            used = await _in_use(container, key)
            # Only as it was before its run was read: a save that puts the part again meanwhile keeps it.
            orphans = [
                (name, key, str(part["_etag"]))
                for name, part in by_name.items()
                if used is not None and name not in used
            ]
            removed += (await together(*(partial(container.remove, *part) for part in orphans))).count("removed")
    return removed


async def _in_use(container: Container, key: str) -> set[str] | None:
    """The parts that a run's events need; None if one of the events does not tell."""
    used: set[str] = set()
    async with aclosing(listings.run_headers(container, key)) as headers:
        async for header in headers:
            if header.payload is not None:
                used.update(header.payload.parts)
            elif header.type != "tombstone":
                logger.warning(
                    "Parts in run %r of workflow %r are kept: the header of seq %d is damaged.",
                    header.run_id,
                    header.workflow_name,
                    header.seq,
                )
                return None
    return used
