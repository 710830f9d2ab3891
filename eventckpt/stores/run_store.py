"""The port between the "latest" projection and an engine: how each run stands, one small document a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from heapq import nsmallest
from typing import ClassVar, NamedTuple

from ..errors import CheckpointStoreError
from ..events import RunInfo, RunStatus, StreamId
from .released import adapt
from .run_pages import RunFilter, RunPage, check_limit, cut, place_in, place_of

__all__ = ["Claim", "RunStore", "gives_way", "is_listed"]


def gives_way(stored: RunInfo, info: RunInfo) -> bool:
    """Whether `RunStore.put` writes `info` over the document that is stored."""
    if stored.seq != info.seq:
        return stored.seq < info.seq
    if stored.digest != info.digest:
        return False
    if (stored.status == "idle") != (info.status == "idle"):
        return stored.status == "idle"
    return stored.seqs_known < info.seqs_known


def is_listed(info: RunInfo, *, emptied: bool = False) -> bool:
    """Whether a document stands in a listing: not that of an emptied run, unless these are asked for, too; nor one that
    a worker of 0.1.0 made of a stream of removals."""
    return info.stream.is_run and (emptied or not info.is_emptied)


class Claim(NamedTuple):
    """What `RunStore.claim` gives: the projection in use, and the right to put another one in its place."""

    name: str
    """Of the projection in use."""
    token: str
    """What tells whether anybody has claimed or activated since."""


class RunStore(ABC):
    """The `RunInfo` documents of one projection: what `projections` writes, and what listings of runs read.

    It shares the connections of the event store that it came from, and is closed with that.

    A document that is not whole, or of another run or seq than there can be under its key, is as if there were none: it
    is left out, which is said once in a warning, and written over. `run_documents` has the rule.

    The document of an emptied run (`RunInfo.is_emptied`) stays, so that no older one comes back: `get`, `put` and
    `is_empty` know it, and no listing has it, but for `all` where it is asked for.

    A subclass whose `all`, `newest`, `active` and `activate` take what those of 0.1.0 took is one, too.
    """

    counts_by_index: ClassVar[bool] = False
    """Whether `counts` reads no documents, so that it can be asked at each look at many runs."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        adapt(cls, "all", "emptied", _all_of_0_1_0)
        adapt(cls, "newest", "without", _newest_of_0_1_0)
        adapt(cls, "active", "certain", _active_of_0_1_0)
        adapt(cls, "activate", "claim", _activate_of_0_1_0)

    @abstractmethod
    async def get(self, *streams: StreamId) -> dict[StreamId, RunInfo]:
        """The documents of these runs; runs without one are left out."""

    @abstractmethod
    async def put(self, *infos: RunInfo) -> int:
        """Write each document whose seq is greater than the stored one's; how many were written.

        One of the same seq and digest is written, too, where it tells more of the same run (`gives_way`): the stored
        one says `idle`, as 0.1.0 did, and this one does not; or this one knows of more of the seqs before, which came
        to the log late.

        The comparison and the write are one step, whoever else writes: an older document never replaces a newer one.
        """

    @abstractmethod
    async def newest(self, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        """The run of this workflow with the newest live checkpoint; None without any. One query; on an engine
        that goes by times two more where the newest are of the same.

        Args:
            without: a few runs that are left out, because the log says something else of them.
        """

    @abstractmethod
    def all(self, workflow_name: str | None = None, *, emptied: bool = False) -> AsyncGenerator[RunInfo, None]:
        """The documents of a workflow, or of all workflows, in no particular order.

        Args:
            workflow_name: the workflow; None: all of them.
            emptied: those of emptied runs, too: for who compares them with the log.
        """

    async def idle(self) -> AsyncGenerator[RunInfo, None]:
        """The documents that say `idle`, as 0.1.0 wrote them.

        An engine that can find them without reading all documents should override this.
        """
        async with aclosing(self.all()) as infos:
            async for info in infos:
                if info.status == "idle":
                    yield info

    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        """Some of the runs that fit, the last written to first; of runs that wait, what has waited longest.

        A run that is written to meanwhile moves to the beginning, and is met by who begins anew. Every other is in one
        page, however many are written to.

        An engine should override this: here, all documents are read, and of those that fit a page is kept.

        Args:
            which: None: all of them.
            after: of the page before; None: begin.
            limit: runs of a page at most, from 1 to 1,000.

        Raises:
            ForeignPageError: no page of this order gave `after`.
            ValueError, TypeError: `limit` is no such number.
        """
        check_limit(limit)
        which = RunFilter.of(which)
        place = place_in(after, waiting=which.waiting)
        found: list[RunInfo] = []
        async with aclosing(self._fitting(which)) as infos:
            async for info in infos:
                if place is None or place_of(info, waiting=which.waiting).order > place.order:
                    found.append(info)
                if len(found) > 2 * limit:
                    found = nsmallest(limit + 1, found, key=lambda info: place_of(info, waiting=which.waiting).order)
        return cut(found, limit, waiting=which.waiting)

    async def counts(self, which: RunFilter | None = None) -> dict[RunStatus, int]:
        """How many of the runs that fit stand how; a status that none has is left out.

        An engine should override this: here, all documents are read.
        """
        async with aclosing(self._fitting(RunFilter.of(which))) as infos:
            return dict(Counter([info.status async for info in infos]))

    async def _fitting(self, which: RunFilter) -> AsyncGenerator[RunInfo, None]:
        """The documents that fit, in no particular order."""
        if which.can_fit:
            async with aclosing(self.all(which.workflow_name)) as infos:
                async for info in infos:
                    if which.fits(info):
                        yield info

    @abstractmethod
    async def clear(self) -> None:
        """Remove every document of this projection."""

    @abstractmethod
    async def active(self, *, certain: bool = False) -> str:
        """The name of the projection in use; `"latest"` until another one is activated.

        Args:
            certain: for who is going to change what is there. Not as a replica that lags knows it, which may be the
                one before; where there are replicas this costs a write.
        """

    async def claim(self) -> Claim:
        """Claim the right to put another projection in use. No earlier claim is worth anything from now on.

        Raises:
            CheckpointStoreError: the engine cannot tell whether somebody else has claimed since.
        """
        raise _no_claims(self)

    @abstractmethod
    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        """Make the projection called `name` the one in use, in one step; whether it was done.

        Args:
            claim: only if nobody has claimed or activated since this was given, which is one step with the rest. None:
                in any case, and no claim is worth anything from now on.

        Raises:
            TypeError, ValueError: no projection can be called so, on any engine; see `names`.
        """

    async def is_empty(self) -> bool:
        """Whether this projection has no document at all, not even of an emptied run: then nothing ever filled it.

        An engine that can tell without reading a page of them should override this.
        """
        async with aclosing(self.all(emptied=True)) as infos:
            return await anext(infos, None) is None


def _all_of_0_1_0(all_of: Callable[..., AsyncGenerator[RunInfo, None]]) -> Callable[..., object]:
    """It gives the documents of emptied runs with the others."""

    async def adapted(
        self: RunStore, workflow_name: str | None = None, *, emptied: bool = False
    ) -> AsyncGenerator[RunInfo, None]:
        async with aclosing(all_of(self, workflow_name)) as infos:
            async for info in infos:
                if is_listed(info, emptied=emptied):
                    yield info

    return adapted


def _newest_of_0_1_0(newest: Callable[[RunStore, str], Awaitable[RunInfo | None]]) -> Callable[..., object]:
    """It leaves nothing out: where the newest is not wanted, it has none to give, and the log is asked."""

    async def adapted(self: RunStore, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        found = await newest(self, workflow_name)
        return None if found is None or found.stream in without else found

    return adapted


def _active_of_0_1_0(active: Callable[[RunStore], Awaitable[str]]) -> Callable[..., object]:
    """It is as certain as it ever was."""

    async def adapted(self: RunStore, *, certain: bool = False) -> str:
        return await active(self)

    return adapted


def _activate_of_0_1_0(activate: Callable[[RunStore, str], Awaitable[object]]) -> Callable[..., object]:
    """It tells nothing, and does what it is asked for or raises."""

    async def adapted(self: RunStore, name: str, *, claim: Claim | None = None) -> bool:
        if claim is not None:
            raise _no_claims(self)
        await activate(self, name)
        return True

    return adapted


def _no_claims(runs: RunStore) -> CheckpointStoreError:
    return CheckpointStoreError(
        f"{type(runs).__name__} was made for eventckpt 0.1.0 and has no claims, without which no rebuild can tell "
        "whether another one has begun: give it RunStore.claim, and activate the argument claim."
    )
