"""One run of an export on its way into a store: what follows what, and what of it the store may take.

An event is kept where it follows what was kept before it: directly, over a gap that a record explains, or over events
that the store has already. A record comes after the gap that it explains, so what stands behind a gap waits for it. At
the end of the run what still waits is left out: a log with a hole that nobody recorded is not whole, and what stands
behind the hole may be another run's. A record counts once it follows itself what is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from ..errors import StreamConflict
from ..events import MAX_SEQ, CheckpointEvent, StreamId
from ..removals import NOTHING, Removals
from ..storage.claiming import Holder, holder_at
from ..storage.removing import closing_of
from ..stores import AuditStore, gaps_behind
from ..threads import off_the_loop
from .archive import RunTotals, event_line, portable, read_event
from .import_report import Report, named
from .removed import by_whom
from .shared_ids import SharedIds
from .spool import Spool

__all__ = ["RunImport"]

_BATCH: Final = 64  # events that are put at once
_BATCH_BYTES: Final = 8 * 1024 * 1024
_KNOWN: Final = 31  # headers of a run that are kept
_GAPS: Final = 10_000  # that may wait for a record: `prune` leaves one for each event that stays, at most


class _Link(NamedTuple):
    """A place in the chain."""

    seq: int
    digest: str


class _Gap(NamedTuple):
    """A stretch of seqs that are not in the file, between an event and the one behind it."""

    before: _Link
    seq: int
    """Of the event behind it, with:"""
    previous_digest: str


class RunImport:
    """Takes the events of one run as they come in the file.

    Args:
        store: where to.
        stream: the run.
        report: what is counted and told.
        shared: is told of each checkpoint that was added.
    """

    def __init__(self, store: AuditStore, stream: StreamId, report: Report, shared: SharedIds) -> None:
        self.stream = stream
        self._store = store
        self._report = report
        self._shared = shared
        self._head: CheckpointEvent | None = None
        """The store's head when the run began."""
        self._holder: Holder | None = None
        """Who has the claim on the run then."""
        self._all: list[CheckpointEvent] | None = None
        """All headers that the store had then, if they are few: so that it is asked once for a short run."""
        self._gone = NOTHING
        """What the store's own record says was removed."""
        self._closing: CheckpointEvent | None = None
        """What closed the run, where it was removed as a whole, as far as that is among its newest events."""
        self._closed_there: CheckpointEvent | None = None
        """The newest record of the file that closes the run."""
        self._not_put_back = 0
        """Events that were not put back, since they were removed."""
        self._removals = Removals()
        """The same, and what the records say that were kept."""
        self._promised = Removals()
        """The same, and what the records say that wait."""
        self._events = 0
        self._last = _Link(0, "")
        """The latest event that was read."""
        self._tip = _Link(0, "")
        """The latest that follows what comes before it."""
        self._behind = Spool()
        """What stands behind a gap, each following the one before it or behind a gap itself."""
        self._gaps: deque[_Gap] = deque()
        """Those in front of it and in it, as far as nothing explains them."""
        self._end = _Link(0, "")
        """The latest of what stands behind a gap."""
        self._given = 0
        """The latest that the store was given."""
        self._batch: list[CheckpointEvent] = []
        self._size = 0
        self._early = Spool()
        """What would be put before events of the store, with a hole in between that the file may yet fill."""
        self._hole = (0, 0)
        self._refused = False

    async def begin(self) -> None:
        """Ask what the store has of the run."""
        latest: list[CheckpointEvent] = []
        async with aclosing(self._store.headers(self.stream, desc=True)) as headers:
            async for header in headers:
                latest.append(header)
                if len(latest) > _KNOWN:
                    break
        if not latest:
            return
        self._head = latest[0]
        self._closing = closing_of(latest[::-1])
        self._holder = await holder_at(self._store, self._head)
        if len(latest) <= _KNOWN:
            self._all = latest[::-1]
            record = next((header for header in latest if header.pruned), None)
        else:
            found = await self._store.find("", stream=self.stream)
            record = found.event if found else None
        if record is not None:
            self._gone = Removals([record])
            self._removals.add(record)
            self._promised.add(record)

    async def take(self, number: int, line: bytes, event: CheckpointEvent) -> None:
        """The next whole event of the run, and its line."""
        if event.seq == self._last.seq and event.digest == self._last.digest:
            self._repeated(number, event)
            return
        self._events += 1
        self._report.events += 1
        if event.seq > self._last.seq:
            self._last = _Link(event.seq, event.digest)
        if event.closes:
            self._closed_there = event
        if self._refused:
            return
        if self._behind and event.seq > self._tip.seq + 1:
            await self._wait(number, line, event)
        elif await self._is_kept(number, event):
            if self._behind:
                self._tell(number, event, f"stands behind seq {self._last.seq}, which follows it")
                await self._fill()
        elif not self._refused and event.seq > self._tip.seq + 1:
            await self._wait(number, line, event)

    def takes_at_once(self, event: CheckpointEvent) -> bool:
        """Take an event as nearly all are, for which nothing has to be waited: it follows the latest one directly, and
        there is room for it. Whether it was; if not, it is for `take`."""
        tip = self._tip
        if (
            event.previous_digest != tip.digest
            or event.seq != tip.seq + 1
            or event.run_id != self.stream.run_id
            or event.workflow_name != self.stream.workflow_name
            or self._last.seq != tip.seq
            or event.pruned
            or self._gone
            or self._refused
            or len(self._batch) >= _BATCH - 1
        ):
            return False
        size = self._size + (event.payload.stored_size if event.payload else 0)
        if size > _BATCH_BYTES:
            return False
        self._events += 1
        self._report.events += 1
        self._last = self._tip = _Link(event.seq, event.digest)
        self._batch.append(portable(event))
        self._size = size
        return True

    async def end(self, number: int, totals: RunTotals | None) -> None:
        """The run has no more events here.

        Args:
            number: of the line that says so.
            totals: the line of the run's totals; None where there is none.
        """
        await self.flush()
        await self._leave_out_early()
        await self._leave_out_behind()
        if self._not_put_back and self._closing is not None:
            self._report.note(
                f"{named(self.stream)} was removed here{by_whom(self._closing)}, and stays so: "
                f"{self._not_put_back} events were not put back."
            )
        if self._refused and self._closed_there is not None:
            self._report.note(
                f"{named(self.stream)} was removed where the export comes from{by_whom(self._closed_there)}, and stays "
                "as it is here: what tells of its removal is of that other history."
            )
        if totals is not None and (totals.events, totals.seq) != (self._events, self._last.seq):
            self._report.problem(
                f"line {number}: {named(self.stream)} had {totals.events} events up to seq {totals.seq} when it was "
                f"exported, and the file has {self._events} whole ones, up to seq {self._last.seq}. "
                "Import it again from a whole export."
            )
        elif totals is not None and totals.digest != self._last.digest:
            self._report.problem(
                f"line {number}: {named(self.stream)} had another event at seq {totals.seq} when it was exported than "
                "the file has, or its totals were changed."
            )

    async def flush(self) -> None:
        """Put what is ready."""
        batch, self._batch, self._size = self._batch, [], 0
        if not batch or self._refused:
            return
        try:
            hole = await self._hole_behind(batch)
            if hole is not None:
                self._hole = hole
                for event in batch:
                    size = event.payload.stored_size if event.payload else 0
                    await self._early.add(0, await off_the_loop(size, event_line, event))
                return
            if self._holder is not None and self._head is not None and batch[-1].seq > self._head.seq:
                self._refuse(
                    f"it is {self._holder.named()}, and goes on by its holder only. Import it when that is over."
                )
                return
            await self._put_early()
            await self._put(batch)
        except StreamConflict as conflict:
            self._refuse(
                f"the store has another event at seq {conflict.seq}. The two logs have diverged; import into another "
                "store, and compare."
            )

    def close(self) -> None:
        """Let go of the lines that wait."""
        self._behind.close()
        self._early.close()

    # What follows what

    async def _is_kept(self, number: int, event: CheckpointEvent) -> bool:
        """Keep an event that follows what was kept. One that never will is told; one behind a gap is neither."""
        if event.seq <= self._tip.seq:
            await self._tell_behind(number, event)
            return False
        if event.seq == self._tip.seq + 1:
            begins_fork = event.forked_from is not None and event.forked_from.seq > 0
            if event.previous_digest != self._tip.digest and not (event.seq == 1 and begins_fork):
                after = (
                    f"the event at seq {self._tip.seq} before it" if self._tip.seq else "nothing, as a first event does"
                )
                self._tell(number, event, f"does not follow {after}")
                return False
        else:
            self._promised.add(event)
            if not await self._is_explained(_Gap(self._tip, event.seq, event.previous_digest)):
                return False
        await self._keep(event)
        return True

    async def _wait(self, number: int, line: bytes, event: CheckpointEvent) -> None:
        """Put an event behind those that stand behind a gap."""
        end = self._end if self._behind else self._tip
        if event.seq <= end.seq:
            self._tell(number, event, f"stands behind seq {end.seq}")
            return
        if event.seq > end.seq + 1:
            self._gaps.append(_Gap(end, event.seq, event.previous_digest))
        elif event.previous_digest != end.digest:
            self._tell(number, event, f"does not follow the event at seq {end.seq} before it")
            return
        if len(self._gaps) > _GAPS:
            self._refuse(f"there are more than {_GAPS:,} gaps in it that no record explains.")
            return
        self._end = _Link(event.seq, event.digest)
        await self._behind.add(number, line)
        if event.pruned:
            self._promised.add(event)
            await self._go_on()

    async def _fill(self) -> None:
        """What was kept may close the first gap."""
        if self._gaps and self._gaps[0].before.seq < self._tip.seq:
            gap = self._gaps.popleft()
            if gap.seq != self._tip.seq + 1 or gap.previous_digest != self._tip.digest:
                self._gaps.appendleft(gap._replace(before=self._tip))
        await self._go_on()

    async def _go_on(self) -> None:
        """Keep what waits, if nothing in it stands behind a gap any more."""
        while self._gaps and await self._is_explained(self._gaps[0]):
            self._gaps.popleft()
        while not self._gaps and not self._refused and (waiting := await self._behind.front()) is not None:
            event = await off_the_loop(len(waiting[1]), read_event, waiting[1])
            self._behind.drop()
            await self._keep(event)

    async def _is_explained(self, gap: _Gap) -> bool:
        """Whether a gap is on record or filled by the store, and the chain closes over it."""
        before = gap.before
        seq = self._promised.before(gap.seq)
        if seq > before.seq:
            header = await self._stored(seq)
            if header is None:
                return False
            before = _Link(seq, header.digest)
            if seq == gap.seq - 1 and header.digest != gap.previous_digest:
                self._refuse_diverged(seq)
                return False
        if not self._closes(before, gap):
            return False
        if self._head is not None and before.seq < self._head.seq < gap.seq and not self._names(self._head):
            self._refuse(
                f"the store has events up to seq {self._head.seq}, the file says that those up to seq {gap.seq - 1} "
                "were removed, and nothing shows that they were the same. Import into another store, and compare."
            )
            return False
        return True

    def _closes(self, before: _Link, gap: _Gap) -> bool:
        """Whether the stretches on record begin and end with the digests of the events beside the gap."""
        first = self._promised.from_first.get(before.seq + 1)
        last = self._promised.to_last.get(gap.seq - 1)
        return not (first and before.seq and first.previous_digest != before.digest) and not (
            last and last.digest != gap.previous_digest
        )

    def _names(self, head: CheckpointEvent) -> bool:
        """Whether a record in the file has the digest of the store's head, on either side of a stretch's end."""
        last, first = self._promised.to_last.get(head.seq), self._promised.from_first.get(head.seq + 1)
        return bool((last and last.digest == head.digest) or (first and first.previous_digest == head.digest))

    async def _keep(self, event: CheckpointEvent) -> None:
        if event.seq > self._tip.seq + 1 and self._head is not None and self._head.seq > self._tip.seq:
            await self.flush()  # what is before the gap goes by itself: the store may have less of it than this follows
            await self._leave_out_early()
        if self._refused:
            return
        self._tip = _Link(event.seq, event.digest)
        if event.pruned:
            self._removals.add(event)
            self._promised.add(event)
        if self._gone.covers(event.seq):
            if self._gone.tells(event) is False:
                self._refuse_diverged(event.seq)
            else:
                self._report.removed += 1
                self._not_put_back += 1
            return
        self._batch.append(portable(event))
        self._size += event.payload.stored_size if event.payload else 0
        if len(self._batch) == _BATCH or self._size > _BATCH_BYTES:
            await self.flush()

    async def _stored(self, seq: int) -> CheckpointEvent | None:
        """The header that the store has at a seq."""
        if self._head is None or self._head.seq <= seq:
            return self._head if self._head is not None and self._head.seq == seq else None
        async with aclosing(self._headers(seq, seq)) as headers:
            return await anext(headers, None)

    async def _headers(self, first: int, last: int = MAX_SEQ) -> AsyncGenerator[CheckpointEvent, None]:
        """The headers that the store had when the run began, or has by now, from a seq up to another."""
        if self._all is not None:
            for header in self._all[bisect_left(self._all, first, key=lambda header: header.seq) :]:
                if header.seq > last:
                    return
                yield header
            return
        async with aclosing(self._store.headers(self.stream, gt=first - 1, lte=min(last, MAX_SEQ))) as headers:
            async for header in headers:
                yield header

    # What the store may take

    async def _hole_behind(self, batch: Sequence[CheckpointEvent]) -> tuple[int, int] | None:
        """The seqs that are missing between a batch and what the store has behind it, if any are.

        Raises:
            StreamConflict: a neighbour in the store is another one than that of this log.
        """
        first, last = batch[0], batch[-1]
        if self._head is None or self._head.seq < first.seq - 1:
            return None
        if self._given != first.seq - 1:  # else it is of this file, and was put as it is
            before = await self._stored(first.seq - 1)
            if before is not None and before.digest != first.previous_digest:
                raise StreamConflict(self.stream, before.seq, before)
        if self._head.seq <= last.seq:
            return None
        behind = await self._stored(last.seq + 1)
        if behind is not None:
            if behind.previous_digest != last.digest:
                raise StreamConflict(self.stream, behind.seq, behind)
            return None
        async with aclosing(self._headers(last.seq + 1)) as headers:
            behind = await anext(headers, None)
        removals = self._removals if self._gaps else self._promised  # without a gap, what waits is about to be kept
        missing = last.seq if behind is None else removals.before(behind.seq)
        return None if missing <= last.seq else (last.seq + 1, missing)

    async def _put_early(self) -> None:
        chunk: list[CheckpointEvent] = []
        size = 0
        while (waiting := await self._early.front()) is not None:
            chunk.append(await off_the_loop(len(waiting[1]), read_event, waiting[1]))
            size += len(waiting[1])
            self._early.drop()
            if len(chunk) == _BATCH or size > _BATCH_BYTES:
                await self._put(chunk)
                chunk, size = [], 0
        if chunk:
            await self._put(chunk)

    async def _put(self, batch: Sequence[CheckpointEvent]) -> None:
        after = max(self._given, self._head.seq if self._head else 0)
        if gaps_behind(after, batch):
            added = await self._store.put_over(self.stream, batch, after=after)
        else:
            added = await self._store.put(self.stream, batch)
        self._given = max(self._given, batch[-1].seq)
        self._report.added += added
        if added:
            await self._shared.add(self.stream, [event.checkpoint_id for event in batch if event.type != "tombstone"])

    # What is told

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._report.problem(f"{named(self.stream)}: {why}")
        self._batch, self._size = [], 0
        self._gaps.clear()
        self.close()

    def _refuse_diverged(self, seq: int) -> None:
        self._refuse(
            f"the store has another event at seq {seq}. The two logs have diverged; import into another store, and "
            "compare."
        )

    async def _leave_out_early(self) -> None:
        if self._early and not self._refused:
            first, last = self._hole
            self._report.problem(
                f"{named(self.stream)}: {_seqs(first, last)} missing between what the file has and what the store has, "
                f"and no removal was recorded: {len(self._early)} events before them were left out. "
                "Import it again from a whole export."
            )
            self._early.close()

    async def _leave_out_behind(self) -> None:
        waiting = await self._behind.front()
        if waiting is None or self._refused:
            return
        gap = self._gaps[0]
        have = gap.before.seq
        if self._head is not None and have < self._head.seq < gap.seq:
            have = self._head.seq
        missing = self._promised.before(gap.seq)
        why = "and no removal was recorded" if missing > have else "and the record of it does not fit beside it"
        what = _seqs(have + 1, missing if missing > have else gap.seq - 1)
        self._report.problem(
            f"{named(self.stream)}: {what} missing, {why}: {len(self._behind)} events from line {waiting[0]} on were "
            "left out. Import it again from a whole export."
        )

    async def _tell_behind(self, number: int, event: CheckpointEvent) -> None:
        """An event comes after one with a later seq: again, or another one, or moved."""
        found = next((each for each in self._batch if each.seq == event.seq), None)
        if found is None and not self._early:
            async with aclosing(self._store.headers(self.stream, gt=event.seq - 1, lte=event.seq)) as headers:
                found = await anext(headers, None)
        if found is not None and found.digest == event.digest:
            self._events -= 1
            self._report.events -= 1
            self._repeated(number, event)
        elif found is not None:
            self._tell(number, event, "is another event than the one that was kept there")
        else:
            self._tell(number, event, f"stands behind seq {self._tip.seq}")

    def _repeated(self, number: int, event: CheckpointEvent) -> None:
        self._report.problem(f"line {number}: seq {event.seq} of {named(self.stream)} is there a second time.")

    def _tell(self, number: int, event: CheckpointEvent, what: str) -> None:
        self._report.problem(f"line {number}: seq {event.seq} of {named(self.stream)} {what}.")


def _seqs(first: int, last: int) -> str:
    return f"seq {first} is" if first == last else f"seqs {first} to {last} are"
