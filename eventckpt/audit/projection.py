"""Whether the "latest" documents say what the log says: each run has one, which may lag and must not lie, and no
document is of a run that the log does not have.

A document is also a witness. It names the seq that the log had reached when it was written: where the log ends before
that, its newest events are gone, which nothing in the log itself can tell.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from ..errors import StoreNotFoundError
from ..events import CheckpointEvent, RunInfo, StreamId
from ..stores import AuditStore
from ..stores.run_documents import Disagreement, difference
from .verify import Problem, Verdict

__all__ = ["LatestDocuments"]


class LatestDocuments:
    """The documents of the projection in use, as one verification looks at them."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._runs = store.run_store()
        self._said_that_there_are_none = False

    async def problem(self, stream: StreamId) -> Problem | None:
        """What is wrong with a run's document, or with there being none. That there is none of any run is said once."""
        document = await self._document(stream)
        headers = [header async for header in self._store.headers(stream)]  # after it: the log only goes on
        found = difference(headers, document)
        if found is None or found.kind in ("behind", "newer"):
            return None  # it lags, or this version cannot judge it, which the log's own verdict tells
        if document is not None:
            return Problem(stream, document.seq, "projection", _described(found, document, headers))
        if not await self._is_empty():
            return Problem(stream, headers[-1].seq, "projection", _NO_DOCUMENT)
        if self._said_that_there_are_none:
            return None
        self._said_that_there_are_none = True
        return Problem(stream, headers[-1].seq, "projection", _NO_PROJECTION)

    async def of_no_run(self, known: Collection[StreamId], workflow_name: str | None) -> AsyncGenerator[Verdict, None]:
        """A verdict for each document of a run that the log does not have.

        Args:
            known: the runs that the log has.
            workflow_name: whose documents; None for all.
        """
        if await self._is_empty():
            return
        async with aclosing(self._runs.all(workflow_name, emptied=True)) as infos:
            async for info in infos:
                if info.stream not in known and (problem := await self.problem(info.stream)) is not None:
                    yield Verdict(info.stream, 0, 0, 0, "", (problem,))

    # A store that is only looked at makes no place for documents: where there is none, no projector ever ran.

    async def _document(self, stream: StreamId) -> RunInfo | None:
        try:
            return (await self._runs.get(stream)).get(stream)
        except StoreNotFoundError:
            return None

    async def _is_empty(self) -> bool:
        try:
            return await self._runs.is_empty()
        except StoreNotFoundError:
            return True


_NO_PROJECTION = (
    "neither this run nor any other has a latest document: the projection is empty. Fill it with `eventckpt-projector "
    "run`, which also keeps it up to date"
)
_NO_DOCUMENT = (
    "the run has no latest document. If `eventckpt-projector run` does not make it within seconds, rebuild the "
    "projection"
)


def _described(found: Disagreement, document: RunInfo, headers: list[CheckpointEvent]) -> str:
    lost = "Restore them from an export or a backup; if they are gone for good, remove the document and rebuild"
    match found.kind:
        case "unknown":
            return (
                f"the log was at seq {document.seq} when the latest document was written, and has no such run. {lost}"
            )
        case "ahead":
            return (
                f"the log was at seq {document.seq} when the latest document was written, and ends at seq "
                f"{headers[-1].seq}: its newest events are gone. {lost}"
            )
        case "late":
            return (
                f"the latest document lacks events that the log has: {found.detail}. They came late, by an import; or "
                "version 0.1.0 wrote the document. If `eventckpt-projector run` does not add them, rebuild the "
                "projection"
            )
        case _:
            return f"the latest document disagrees with the log on {found.detail}; rebuild the projection"
