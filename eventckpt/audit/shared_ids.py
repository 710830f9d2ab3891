"""Which of the checkpoints that were imported have their id in another run, too.

That is legal, and a `load` by the id alone takes the one that was written last: whoever imports should know. Of runs
that forked one from the other it is no news. Asked for hundreds of ids at a time, whichever runs they are in.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Final

from ..events import ForkPoint, StreamId
from ..stores import AuditStore
from ..text import described
from .report import Report

__all__ = ["SharedIds"]

_AT_ONCE: Final = 400  # ids; with those of a batch, what an engine is asked for together
_FORKS: Final = 100  # that are followed back; no lineage has as many


class SharedIds:
    """Looks for the ids of what is added, and notes those that other runs have."""

    def __init__(self, store: AuditStore, report: Report) -> None:
        self._store = store
        self._report = report
        self._workflow = ""
        self._runs: dict[str, str] = {}
        """By checkpoint id, the run that it was added to."""

    async def add(self, stream: StreamId, checkpoint_ids: Iterable[str]) -> None:
        """Checkpoints were added to a run, not many at once."""
        if stream.workflow_name != self._workflow or len(self._runs) >= _AT_ONCE:
            await self.look()
            self._workflow = stream.workflow_name
        for checkpoint_id in checkpoint_ids:
            self._runs[checkpoint_id] = stream.run_id

    async def look(self) -> None:
        """Look for those that were added since the last look."""
        added, self._runs = self._runs, {}
        if not added:
            return
        others: dict[str, list[str]] = {}
        for checkpoint_id, run_id in await self._store.runs_with(self._workflow, list(added)):
            if run_id != added.get(checkpoint_id, run_id):
                others.setdefault(checkpoint_id, []).append(run_id)
        for checkpoint_id, run_ids in others.items():
            await self._note(checkpoint_id, added[checkpoint_id], run_ids)

    async def _note(self, checkpoint_id: str, run_id: str, others: list[str]) -> None:
        own = await self._ancestors(run_id)
        strangers = [
            described(other) for other in others if other not in own and run_id not in await self._ancestors(other)
        ]
        if strangers:
            self._report.note(
                f"checkpoint {described(checkpoint_id)} of workflow {described(self._workflow)} is in run "
                f"{described(run_id)} and in {', '.join(strangers[:5])}{' …' if len(strangers) > 5 else ''}: "
                "load it through its run; by its id alone, the one that was written last is meant."
            )

    async def _ancestors(self, run_id: str) -> set[str]:
        """The runs of this workflow that a run came from by forks."""
        found: set[str] = set()
        while len(found) < _FORKS:
            origin = await self._origin(StreamId(self._workflow, run_id))
            if origin is None or origin.workflow_name != self._workflow or origin.run_id in found:
                break
            run_id = origin.run_id
            found.add(run_id)
        return found

    async def _origin(self, stream: StreamId) -> ForkPoint | None:
        async with aclosing(self._store.headers(stream, lte=1)) as headers:
            first = await anext(headers, None)
        return first.forked_from if first else None
