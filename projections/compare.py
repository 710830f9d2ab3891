"""Whether the projection says what the log says, run by run: each document is compared with the fold of its run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from eventckpt import EventStore, StreamId, settings
from eventckpt.clock import SYSTEM_CLOCK, Clock
from eventckpt.errors import StoreUnavailableError
from eventckpt.stores import RunStore
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed, FeedRange, FeedRangeGoneError
from eventckpt.stores.run_documents import difference
from eventckpt.stores.walks import RUNS_AT_ONCE, whole_runs

__all__ = ["Difference", "compare"]

_PAUSES: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.25)
"""Seconds between the looks at a run that differs. The service says of no replica how late it may be; within a region
it is mostly milliseconds."""
_SPLITS: Final = 1_000
"""Splits that are followed; a feed that splits its ranges further all the time never gets to an end."""


class Difference(NamedTuple):
    """A run of which log and projection say different things."""

    stream: StreamId
    what: str
    """The kind of `run_documents.Disagreement` (`missing`, `behind`, `late`, `ahead`, `unknown`, `newer`, `wrong`), and
    the seqs or fields that it is about."""


async def compare(
    store: EventStore, feed: ChangeFeed, runs: RunStore, *, clock: Clock = SYSTEM_CLOCK
) -> AsyncGenerator[Difference, None]:
    """Every run of which the projection says something else than the fold of the log.

    Reads every event's header. While events are being written, runs that were written last may be `missing` or
    `behind`, and those to which an import has just brought earlier events, `late`. A replica that lags shows the log or
    the projection as it was: where they differ, both are read again a few times, over about a second, before it is
    said.

    Raises:
        TypeError: `store`, `feed` or `runs` is none, such as a storage, whose `store` is one.
    """
    settings.instance("store", store, EventStore, what="an EventStore")
    settings.instance("feed", feed, ChangeFeed, what="a ChangeFeed")
    settings.instance("runs", runs, RunStore, what="a RunStore")
    seen: set[StreamId] = set()
    async with aclosing(_streams(feed)) as streams:
        async for stream in streams:
            seen.add(stream)
    async with aclosing(runs.all(emptied=True)) as infos:
        seen |= {info.stream async for info in infos}  # the feed may lag, too, and not show a run that the log has
    doubtful = await _compared(store, runs, sorted(seen))
    for pause in _PAUSES:
        if doubtful:
            await clock.sleep(pause)
            doubtful = await _compared(store, runs, list(doubtful))
    for stream, what in doubtful.items():
        yield Difference(stream, what)


async def _compared(store: EventStore, runs: RunStore, streams: Sequence[StreamId]) -> dict[StreamId, str]:
    """What is said differently of which of these runs, in their order."""
    differing: dict[StreamId, str] = {}
    for start in range(0, len(streams), RUNS_AT_ONCE):
        page = streams[start : start + RUNS_AT_ONCE]
        documents = await runs.get(*page)  # before the log, which only goes on
        async with aclosing(whole_runs(store, page)) as logged:
            async for stream, headers in logged:
                if (found := difference(headers, documents.get(stream))) is not None:
                    differing[stream] = str(found)
    return differing


async def _streams(feed: ChangeFeed) -> AsyncGenerator[StreamId, None]:
    """The runs of a feed, each at least once, from the beginning to the end that it has when it is reached."""
    waiting: list[tuple[FeedRange, str | None]] = [(each, None) for each in EVERYTHING.cut(await feed.ranges())]
    splits = 0
    while waiting:
        feed_range, continuation = waiting.pop()
        try:
            page = await feed.read(feed_range, continuation, start="beginning", limit=1000)
        except FeedRangeGoneError as gone:
            splits += 1
            if splits > _SPLITS:
                raise StoreUnavailableError(
                    f"The range {feed_range.token} is split all the time, so that not all is read. Compare again."
                ) from gone
            waiting += [(part, continuation) for part in feed_range.cut(gone.ranges)]
            continue
        for event in page.events:
            if event.stream.is_run:
                yield event.stream
        if page.behind or page.continuation != continuation:
            waiting.append((feed_range, page.continuation))
