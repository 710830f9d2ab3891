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
from .import_report import Report

__all__ = ["SharedIds"]

_AT_ONCE: Final = 400  # ids; with those of a batch, what an engine is asked for together
_HELD: Final = 10_000  # ids, of all workflows, until they are looked for
_FORKS: Final = 100  # that are followed back; no lineage has as many


class SharedIds:
    """Looks for the ids of what is added, and notes those that other runs have."""

    def __init__(self, store: AuditStore, report: Report) -> None:
        self._store = store
        self._report = report
        self._added: dict[str, dict[str, str]] = {}
        """By workflow and checkpoint id, the run that it was added to."""
        self._count = 0

    async def add(self, stream: StreamId, checkpoint_ids: Iterable[str]) -> None:
        """Checkpoints were added to a run, not many at once."""
        added = self._added.setdefault(stream.workflow_name, {})
        for checkpoint_id in checkpoint_ids:
            added[checkpoint_id] = stream.run_id
            self._count += 1
        if len(added) >= _AT_ONCE:
            await self._look(stream.workflow_name)
        elif self._count >= _HELD:
            await self.look()

    async def look(self) -> None:
        """Look for all that were added since the last look."""
        for workflow_name in list(self._added):
            await self._look(workflow_name)

    async def _look(self, workflow_name: str) -> None:
        added = self._added.pop(workflow_name)
        self._count -= len(added)
        others: dict[str, list[str]] = {}
        for checkpoint_id, run_id in await self._store.runs_with(workflow_name, list(added)):
            if run_id != added.get(checkpoint_id, run_id):
                others.setdefault(checkpoint_id, []).append(run_id)
        for checkpoint_id, run_ids in others.items():
            await self._note(checkpoint_id, StreamId(workflow_name, added[checkpoint_id]), run_ids)

    async def _note(self, checkpoint_id: str, stream: StreamId, others: list[str]) -> None:
        own = await self._ancestors(stream)
        strangers = [
            described(other)
            for other in others
            if other not in own and stream.run_id not in await self._ancestors(StreamId(stream.workflow_name, other))
        ]
        if strangers:
            self._report.note(
                f"checkpoint {described(checkpoint_id)} of workflow {described(stream.workflow_name)} is in run "
                f"{described(stream.run_id)} and in {', '.join(strangers[:5])}{' …' if len(strangers) > 5 else ''}: "
                "load it through its run; by its id alone, the one that was written last is meant."
            )

    async def _ancestors(self, stream: StreamId) -> set[str]:
        """The runs of its workflow that a run came from by forks."""
        found: set[str] = set()
        while len(found) < _FORKS:
            origin = await self._origin(stream)
            if origin is None or origin.workflow_name != stream.workflow_name or origin.run_id in found:
                break
            stream = StreamId(origin.workflow_name, origin.run_id)
            found.add(origin.run_id)
        return found

    async def _origin(self, stream: StreamId) -> ForkPoint | None:
        async with aclosing(self._store.headers(stream, lte=1)) as headers:
            first = await anext(headers, None)
        return first.forked_from if first else None
