"""The "latest" projection: what each run amounts to now, one small document per run.

Deliveries come at least once, and two workers may write at the same time for a moment. Neither does harm: the document
holds the seq it has read up to, and is written only where that grows, or where it knows of more events up to there. So
each event takes effect exactly once, also one that came to the log late, with a seq before others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Final

from eventckpt import CheckpointEvent, EventStore, RunInfo, StreamId, settings
from eventckpt.chain import is_newer
from eventckpt.errors import CheckpointStoreError, StoreCorruptError, StoreUnavailableError
from eventckpt.log import logger_of
from eventckpt.lru import Lru
from eventckpt.removals import Removals
from eventckpt.runs import advance, fold
from eventckpt.stores import RunStore, head_of

from .batch import UpgradeNeededError

__all__ = ["LatestProjection"]

logger: Final = logger_of("eventckpt.projections")

_MEMORY: Final = 10_000  # runs whose document is remembered, so that going on with them needs no read
_WAITS: Final = 5
"""Times that what came before an event is waited for, before it is taken for a hole in the log."""
_LOOKS: Final = 2
"""Times that what is ahead of the log is applied again, before it is taken for a log that was cut."""


class LatestProjection:
    """Keeps the documents of `runs` up to date with the events of `store`.

    `apply` is a processor's handler; it may as well be called by anything else that delivers events at least once.

    Raises:
        TypeError: `store` is no store, such as a storage, whose `store` is one; or `runs` is no run store.
    """

    def __init__(self, store: EventStore, runs: RunStore | None = None) -> None:
        settings.instance("store", store, EventStore, what="an EventStore")
        if runs is not None:
            settings.instance("runs", runs, RunStore, what="a RunStore")
        self.gaps: int = 0
        """Events that did not follow what was known of their run, even after looking, nor record that what lies between
        was removed; their runs were read anew."""
        self.applied: int = 0
        """Documents written."""
        self._store = store
        self._runs = runs or store.run_store()
        self._known: Lru[StreamId, RunInfo] = Lru(_MEMORY)
        self._lacking: Lru[StreamId, int] = Lru(_MEMORY)
        """How often the log did not show what came before a run's events."""
        self._in_doubt: Lru[StreamId, int] = Lru(_MEMORY)
        """How often a run's document was found ahead of the log."""

    def forget(self) -> None:
        """Read the documents before going on with them: others may have written them, or the log is another one."""
        self._known = Lru(_MEMORY)

    async def apply(self, events: Sequence[CheckpointEvent]) -> int:
        """Bring the runs of these events up to date; how many documents were written.

        Takes events in any number, repeated or known already, and those that come after later ones of their run, such
        as by an import. A run is written once, however many of its events there are. What tells of removals of whole
        runs is passed over: each of these says so itself.

        Raises:
            CheckpointStoreError: the engine failed, or does not show yet what the events say there is. Some runs may
                have been written; applying again is safe.
            UpgradeNeededError: a newer version of eventckpt wrote some of the events. What came before them in their
                runs, and the other runs, have been written.
        """
        by_stream: dict[StreamId, list[CheckpointEvent]] = {}
        for event in sorted(events, key=lambda each: each.seq):
            if event.seq < 1:
                logger.error(
                    "An event of the log is damaged so that it stands in no run, and is left out: it says that it is "
                    "of run %r of workflow %r. `eventckpt verify --all` finds every such event.",
                    event.run_id,
                    event.workflow_name,
                )
                continue
            if event.stream.is_run:
                by_stream.setdefault(event.stream, []).append(event)
        infos = {stream: known for stream in by_stream if (known := self._known.get(stream))}
        stale = [stream for stream, new in by_stream.items() if not _follow(infos.get(stream), new)]
        infos.update(await self._runs.get(*stale) if stale else {})
        changed: list[RunInfo] = []
        beyond: list[CheckpointEvent] = []
        for stream, new in by_stream.items():
            before = infos.get(stream)
            after = await self._advanced(stream, before, new, beyond)
            if after is not None and after != before:
                changed.append(after)
        written = await self._runs.put(*changed) if changed else 0
        for info in changed:
            self._known.put(info.stream, info)
        self.applied += written
        if written < len(changed):
            await self._look_at_what_stayed(changed)
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
        if info is not None and any(_may_be_unseen(event, info) for event in events):
            return await self._folded(stream, events, beyond)
        seq, digest = (info.seq, info.digest) if info else (0, None)
        unseen: list[CheckpointEvent] = []
        for event in events:
            if event.seq <= seq:
                continue
            if is_newer(event):
                beyond.append(event)
                break
            if event.seq != seq + 1 or (digest is not None and event.previous_digest != digest):
                if event.seq == seq + 1 or not Removals([event]).covers(seq + 1, event.seq - 1):
                    self._say_that_it_does_not_follow(event, seq)
                return await self._folded(stream, events, beyond)
            seq, digest = event.seq, event.digest
            unseen.append(event)
        if not unseen:
            return info
        # Where the latest was deleted, or something was removed, only the log knows what is left.
        return advance(info, *unseen) or await self._folded(stream, unseen, beyond)

    def _say_that_it_does_not_follow(self, event: CheckpointEvent, seq: int) -> None:
        self.gaps += 1
        logger.warning(
            "Run %r of workflow %r: seq %d came after seq %d%s; the run is read from the log",
            event.run_id,
            event.workflow_name,
            event.seq,
            seq,
            "" if event.seq != seq + 1 else ", and does not follow it",
        )

    async def _folded(
        self, stream: StreamId, events: Sequence[CheckpointEvent], beyond: list[CheckpointEvent]
    ) -> RunInfo | None:
        """The run as the log tells it, likewise; `beyond` gets what keeps it from including all of `events`.

        Who delivers them may have heard of them before the replica did that shows the log here: so they count beside
        it, and what is between its head and them is waited for. So the fold is never older than what was delivered.

        Raises:
            StoreUnavailableError: the log does not show yet what came before them.
            StoreCorruptError: nor does it after several attempts.
        """
        async with aclosing(self._store.headers(stream)) as headers:
            by_seq = {header.seq: header async for header in headers if header.seq > 0}
        head = max(by_seq, default=0)
        for event in events:
            if event.seq > head + 1:
                raise self._not_shown(event, head)
            head = max(head, event.seq)
            by_seq.setdefault(event.seq, event)
        self._lacking.pop(stream)
        known = [by_seq[seq] for seq in sorted(by_seq)]
        newer = next(filter(is_newer, known), None)
        if newer is None:
            return fold(known)
        if newer.seq <= events[-1].seq:
            beyond.append(newer)
        return fold([header for header in known if header.seq < newer.seq])

    def _not_shown(self, event: CheckpointEvent, head: int) -> CheckpointStoreError:
        """A replica that lags is waited for, which passes; that the log has a hole is damage, which does not."""
        looks = (self._lacking.get(event.stream) or 0) + 1
        self._lacking.put(event.stream, looks)
        if looks <= _WAITS:
            return _not_shown_yet(event, head)
        return StoreCorruptError(
            f"The log of run {event.run_id!r} of workflow {event.workflow_name!r} ends at seq {head}, and seq "
            f"{event.seq} was delivered, also after {_WAITS} further looks: what is between them is gone. `eventckpt "
            "verify` tells more. Restore the log from a backup or an archive, then unpark or start again."
        )

    async def _look_at_what_stayed(self, infos: Sequence[RunInfo]) -> None:
        """See why documents were not written: most have been by another worker, which was faster.

        Raises:
            StoreUnavailableError: one has not, and knows less than this worker. Applying again is the way, unless the
                log has lost what it tells of, which is said after a few times, once a run.
        """
        stored = await self._runs.get(*(info.stream for info in infos))
        troubles: list[StoreUnavailableError] = []
        for info in infos:
            there = stored.get(info.stream)
            if there is None or there.seq < info.seq or (there.seq, there.digest) == (info.seq, info.digest):
                continue  # it was written, or another worker wrote the same
            if (trouble := await self._trouble_with(there, info)) is not None:
                troubles.append(trouble)
                self._known.pop(info.stream)
        if troubles:
            raise troubles[0]

    async def _trouble_with(self, there: RunInfo, info: RunInfo) -> StoreUnavailableError | None:
        """Why a document that is further than `info`, or at another event, is to be looked at once more."""
        head = await head_of(self._store, there.stream)
        seq = head.seq if head is not None else 0
        if head is not None and (seq > there.seq or (seq, head.digest) == (there.seq, there.digest)):
            lacks_more = there.seq - there.seqs_known > info.seq - info.seqs_known
            return _overtaken(there) if lacks_more else None
        looks = self._in_doubt.get(there.stream) or 0
        self._in_doubt.put(there.stream, looks + 1)
        if looks < _LOOKS:
            return _behind_its_document(there, seq)
        if looks == _LOOKS:
            logger.error(
                "Run %r of workflow %r: %s The log was cut or restored, or somebody changed the document. It stays "
                "until the log is further. If the events are gone for good, remove the document and rebuild the "
                "projection; `eventckpt verify --all --projection` finds every such run.",
                there.run_id,
                there.workflow_name,
                _ahead(there, seq),
            )
        return None


def _not_shown_yet(event: CheckpointEvent, head: int) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The log of run {event.run_id!r} of workflow {event.workflow_name!r} ends at seq {head}, and seq {event.seq} "
        "was delivered. A replica that lags knows more in a moment: apply it again."
    )


def _overtaken(there: RunInfo) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The document of run {there.run_id!r} of workflow {there.workflow_name!r} was written by another worker, up "
        f"to seq {there.seq}, without events that came late: apply them again."
    )


def _behind_its_document(document: RunInfo, head: int) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Run {document.run_id!r} of workflow {document.workflow_name!r}: {_ahead(document, head)} A replica that lags "
        "knows more in a moment: apply it again."
    )


def _ahead(document: RunInfo, head: int) -> str:
    if head == document.seq:
        return f"its document is of another event at seq {head} than the log has there."
    return f"its document is at seq {document.seq}, and the log ends at seq {head}."


def _may_be_unseen(event: CheckpointEvent, info: RunInfo) -> bool:
    """Whether an event up to a document's seq may be one that it does not know, and no repeated one: the document lacks
    some, or ends with another one there."""
    if event.seq == info.seq:
        return event.digest != info.digest and not is_newer(event)
    return event.seq < info.seq != info.seqs_known


def _upgrade_needed(beyond: Sequence[CheckpointEvent]) -> UpgradeNeededError:
    first, runs = beyond[0], len({event.stream for event in beyond})
    return UpgradeNeededError(
        f"a newer version of eventckpt wrote events of {runs} runs here, such as seq {first.seq} of run "
        f"{first.run_id!r}, workflow {first.workflow_name!r}: upgrade this worker"
    )


def _follow(info: RunInfo | None, events: Iterable[CheckpointEvent]) -> bool:
    """Whether what is known is enough to go on with."""
    return info is not None and min(event.seq for event in events) <= info.seq + 1
