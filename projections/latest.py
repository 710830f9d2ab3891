"""The "latest" projection: what each run amounts to now, one small document per run.

Deliveries come at least once, and two workers may write at the same time for a moment. Neither does harm: the document
holds the seq it has read up to, and is written only where that grows. So each event takes effect exactly once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec

from eventckpt import CheckpointEvent, EventStore, RunInfo, StreamId
from eventckpt.chain import is_newer
from eventckpt.errors import StoreUnavailableError
from eventckpt.log import logger_of
from eventckpt.lru import Lru
from eventckpt.runs import advance, agree, fold
from eventckpt.stores import RunStore

from .batch import UpgradeNeededError
from .clock import SYSTEM_CLOCK, Clock
from .feeds import EVERYTHING, ChangeFeed, FeedRange, FeedRangeGoneError

__all__ = ["Difference", "LatestProjection", "compare"]

logger = logger_of("eventckpt.projections")

_MEMORY: Final = 10_000  # runs whose document is remembered, so that going on with them needs no read
_PAUSES: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.25)
"""Seconds between the looks at a run that differs. The service says of no replica how late it may be; within a region
it is mostly milliseconds."""


class LatestProjection:
    """Keeps the documents of `runs` up to date with the events of `store`.

    `apply` is a processor's handler; it may as well be called by anything else that delivers events at least once.
    """

    def __init__(self, store: EventStore, runs: RunStore | None = None) -> None:
        self.gaps = 0
        """Events that did not follow what was known of their run, even after looking; their runs were read anew."""
        self.applied = 0
        """Documents written."""
        self._store = store
        self._runs = runs or store.runs()
        self._known: Lru[StreamId, RunInfo] = Lru(_MEMORY)

    def forget(self) -> None:
        """Read the documents before going on with them: others may have written them, or the log is another one."""
        self._known = Lru(_MEMORY)

    async def apply(self, events: Sequence[CheckpointEvent]) -> int:
        """Bring the runs of these events up to date; how many documents were written.

        Takes events in any number, repeated or known already; those of one run have to be in order. A run is written
        once, however many of its events there are.

        Raises:
            CheckpointStoreError: the engine failed. Some runs may have been written; applying again is safe.
            UpgradeNeededError: a newer version of eventckpt wrote some of the events. What came before them in their
                runs, and the other runs, have been written.
        """
        by_stream: dict[StreamId, list[CheckpointEvent]] = {}
        for event in events:
            by_stream.setdefault(event.stream, []).append(event)
        infos = {stream: known for stream in by_stream if (known := self._known.get(stream))}
        stale = [stream for stream, new in by_stream.items() if not _follow(infos.get(stream), new)]
        infos.update(await self._runs.get(*stale) if stale else {})
        changed: list[RunInfo] = []
        beyond: list[CheckpointEvent] = []
        for stream, new in by_stream.items():
            before = infos.get(stream)
            after = await self._advanced(stream, before, new, beyond)
            if after is not None and after is not before:
                changed.append(after)
        written = await self._runs.put(*changed) if changed else 0
        for info in changed:
            self._known.put(info.stream, info)
        self.applied += written
        if beyond:
            raise _upgrade_needed(beyond)
        return written

    async def _advanced(
        self,
        stream: StreamId,
        info: RunInfo | None,
        events: Sequence[CheckpointEvent],
        beyond: list[CheckpointEvent],
    ) -> RunInfo | None:
        """`info` after those of `events` that it has not seen, up to the first that a newer version wrote: of that one
        this version may know next to nothing, and it goes to `beyond`."""
        seq = info.seq if info else 0
        unseen: list[CheckpointEvent] = []
        for event in sorted(events, key=lambda each: each.seq):
            if event.seq <= seq:
                continue
            if is_newer(event):
                beyond.append(event)
                break
            if event.seq != seq + 1:
                self.gaps += 1
                logger.warning(
                    "Run %r of workflow %r: seq %d came after seq %d; the run is read from the log",
                    stream.run_id,
                    stream.workflow_name,
                    event.seq,
                    seq,
                )
                return await self._folded(stream, events, beyond)
            seq = event.seq
            unseen.append(event)
        if not unseen:
            return info
        # Where the latest was deleted, only the log knows what was the latest before.
        return advance(info, *unseen) or await self._folded(stream, unseen, beyond)

    async def _folded(
        self, stream: StreamId, events: Sequence[CheckpointEvent], beyond: list[CheckpointEvent]
    ) -> RunInfo | None:
        """The run as the log tells it, likewise; `beyond` gets what keeps it from including all of `events`.

        Who delivers them may have heard of them before the replica did that shows the log here: so they count beside
        it, and what is between them is waited for.

        Raises:
            StoreUnavailableError: the log does not show yet what came before them.
        """
        known: list[CheckpointEvent] = []
        async with aclosing(self._store.headers(stream)) as headers:
            async for header in headers:
                if is_newer(header):
                    if header.seq <= max(event.seq for event in events):
                        beyond.append(header)
                    return fold(known)
                known.append(header)
        head = known[-1].seq if known else 0
        for event in sorted(events, key=lambda each: each.seq):
            if event.seq <= head:
                continue
            if event.seq > head + 1:
                raise _not_shown_yet(event, head)
            if is_newer(event):
                beyond.append(event)
                break
            head = event.seq
            known.append(event)
        return fold(known)


class Difference(NamedTuple):
    """A run of which log and projection say different things."""

    stream: StreamId
    what: str
    """`missing`, `behind`, `ahead`, `unknown`, `newer`, or the fields that are wrong."""


async def compare(
    store: EventStore, feed: ChangeFeed, runs: RunStore, *, clock: Clock = SYSTEM_CLOCK
) -> AsyncGenerator[Difference, None]:
    """Every run of which the projection says something else than the fold of the log.

    Reads every event's header. While events are being written, runs that were written last may be `behind`. A replica
    that lags shows the log or the projection as it was: where they differ, both are read again a few times, over about
    a second, before it is said.
    """
    doubtful: dict[StreamId, str] = {}
    seen: set[StreamId] = set()
    async with aclosing(_streams(feed)) as streams:
        async for stream in streams:
            seen.add(stream)
    async with aclosing(runs.all()) as infos:
        seen |= {info.stream async for info in infos}  # the feed may lag, too, and not show a run that the log has
    for stream in sorted(seen):
        if what := await _compared(store, runs, stream):
            doubtful[stream] = what
    for pause in _PAUSES:
        if doubtful:
            await clock.sleep(pause)
            again = {stream: await _compared(store, runs, stream) for stream in doubtful}
            doubtful = {stream: what for stream, what in again.items() if what}
    for stream, what in doubtful.items():
        yield Difference(stream, what)


async def _compared(store: EventStore, runs: RunStore, stream: StreamId) -> str | None:
    stored = (await runs.get(stream)).get(stream)
    async with aclosing(store.headers(stream)) as headers:
        return _difference([header async for header in headers], stored)


def _difference(headers: Sequence[CheckpointEvent], stored: RunInfo | None) -> str | None:
    if stored is None:
        return "missing" if headers else None
    if not headers:
        return "unknown: the log has no such run"
    known = [header for header in headers if header.seq <= stored.seq]
    if any(map(is_newer, known)):
        return "newer: a newer version of eventckpt wrote events of this run, and this one cannot judge them"
    upto = fold(known)
    if upto is None or upto.seq != stored.seq:
        return f"ahead: the projection is at seq {stored.seq}, the log at {headers[-1].seq}"
    if agree(upto.status, stored.status):
        upto = msgspec.structs.replace(upto, status=stored.status)
    wrong = [
        field.name
        for field in msgspec.structs.fields(RunInfo)
        if getattr(upto, field.name) != getattr(stored, field.name)
    ]
    if wrong:
        return f"wrong: {', '.join(wrong)}"
    if headers[-1].seq > stored.seq:
        return f"behind: the projection is at seq {stored.seq}, the log at {headers[-1].seq}"
    return None


def _not_shown_yet(event: CheckpointEvent, head: int) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The log of run {event.run_id!r} of workflow {event.workflow_name!r} ends at seq {head}, and seq {event.seq} "
        "was delivered. A replica that lags knows more in a moment: apply it again."
    )


def _upgrade_needed(beyond: Sequence[CheckpointEvent]) -> UpgradeNeededError:
    first, runs = beyond[0], len({event.stream for event in beyond})
    return UpgradeNeededError(
        f"a newer version of eventckpt wrote events of {runs} runs here, such as seq {first.seq} of run "
        f"{first.run_id!r}, workflow {first.workflow_name!r}: upgrade this worker"
    )


def _follow(info: RunInfo | None, events: Iterable[CheckpointEvent]) -> bool:
    """Whether what is known is enough to go on with."""
    return info is not None and min(event.seq for event in events) <= info.seq + 1


async def _streams(feed: ChangeFeed) -> AsyncGenerator[StreamId, None]:
    """The streams of a feed, each at least once, from the beginning to the end that it has when it is reached."""
    waiting: list[tuple[FeedRange, str | None]] = [(each, None) for each in EVERYTHING.cut(await feed.ranges())]
    while waiting:
        feed_range, continuation = waiting.pop()
        try:
            page = await feed.read(feed_range, continuation, start="beginning", limit=1000)
        except FeedRangeGoneError as gone:
            waiting += [(part, continuation) for part in feed_range.cut(gone.ranges)]
            continue
        for event in page.events:
            yield event.stream
        if page.behind or page.continuation != continuation:
            waiting.append((feed_range, page.continuation))
