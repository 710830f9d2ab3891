"""What happened in a run, along one axis in the order of its events: who sent messages, who asked, what was answered,
what was said of the run, and what each step cost.

Made of headers as they come, and of bounded size whatever there is of them: once there are too many columns, each two
neighbours become one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..chain import is_newer
from ..events import CheckpointEvent
from ..removals import Removals
from ..text import cell, shortened

__all__ = ["LANES", "MARKS", "Column", "Gap", "Mark", "Timeline"]

LANES: Final = 8
"""Executors that have a lane of their own; what others did is in one lane together."""
_NAME: Final = 24  # characters of an executor's name
_REASON: Final = 100
"""Characters of why a run ended."""


class Mark(NamedTuple):
    """Something that is marked."""

    sign: str
    one: str
    """What one of it is, for a sentence."""
    many: str


MARKS: Final = {
    "missing": Mark("✕", "gap that no record explains", "gaps that no record explains"),
    "damaged": Mark("#", "damaged header", "damaged headers"),
    "newer": Mark("^", "event of a newer version", "events of a newer version"),
    "failure": Mark("×", "failure", "failures"),
    "cancelled": Mark("/", "cancellation", "cancellations"),
    "done": Mark("=", "end", "ends"),
    "question": Mark("?", "question", "questions"),
    "answer": Mark("!", "answer", "answers"),
    "fork": Mark("Y", "fork", "forks"),
    "branch": Mark("y", "branch", "branches"),
    "migration": Mark("M", "migration", "migrations"),
    "hold": Mark("H", "hold", "holds"),
    "release": Mark("h", "end of a hold", "ends of holds"),
    "tags": Mark("T", "change of tags", "changes of tags"),
    "claim": Mark("C", "claim", "claims"),
    "deletion": Mark("-", "deletion", "deletions"),
    "removal": Mark("~", "record of a removal", "records of removals"),
    "closing": Mark("]", "record that closes the run", "records that close the run"),
    "gone": Mark("…", "gap that is on record", "gaps that are on record"),
}
"""By what it is called, in the order in which marks matter: where there is room for few, the first are shown."""


class Gap(NamedTuple):
    """Seqs of which no event is there."""

    first: int
    last: int
    is_recorded: bool
    """Whether they were removed on record; else they are missing."""


@dataclass(slots=True)
class Column:
    """One event, or several that follow each other."""

    first: int
    """The seq of the first of them."""
    last: int
    events: int = 1
    stored: int = 0
    """Bytes, of all of them."""
    raw: int = 0
    steps: tuple[int, int] | None = None
    """The first and the last superstep that a checkpoint of them is of."""
    recorded_at: str = ""
    """When the first of them was."""
    ended_at: str = ""
    """When the last of them was."""
    reason: str = ""
    """Why the run failed, or was cancelled, as it was said at one of them; the last that was."""
    marks: Counter[str] = field(default_factory=Counter[str])
    """How many of each of `MARKS`."""
    sends: set[int] = field(default_factory=set[int])
    """The lanes whose executors have messages in flight."""
    asks: set[int] = field(default_factory=set[int])
    """The lanes whose executors wait for an answer."""

    def joined(self, other: Column) -> Column:
        """This one and the one behind it, as one."""
        each = [steps for steps in (self.steps, other.steps) if steps is not None]
        return Column(
            first=self.first,
            last=other.last,
            events=self.events + other.events,
            stored=self.stored + other.stored,
            raw=self.raw + other.raw,
            steps=(min(low for low, _ in each), max(high for _, high in each)) if each else None,
            recorded_at=self.recorded_at,
            ended_at=other.ended_at or self.ended_at,
            reason=other.reason or self.reason,
            marks=self.marks + other.marks,
            sends=self.sends | other.sends,
            asks=self.asks | other.asks,
        )


class Timeline:
    """The columns of a run.

    Args:
        most: columns at most, two or more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._columns: list[Column] = []
        self._lanes: dict[str, int] = {}
        self._gaps: list[tuple[int, int]] = []
        self._last = 0
        self._before: CheckpointEvent | None = None
        """The checkpoint before."""
        self._hold = False
        self.each: int = 1
        """Events that a column stands for; the last one may be of fewer."""
        self.removals: Removals = Removals()
        """What the records of the run say was removed."""
        self.has_others: bool = False
        """Whether there are executors without a lane of their own."""

    @property
    def columns(self) -> list[Column]:
        """In the order of their events."""
        return self._columns

    @property
    def lanes(self) -> list[str]:
        """The executors that sent messages or asked, as they came first."""
        return [*self._lanes, *(["others"] if self.has_others else [])]

    def add(self, header: CheckpointEvent) -> None:
        """The next event, in order of seq."""
        if header.seq > self._last + 1:
            self._gaps.append((self._last + 1, header.seq - 1))
        self._last = header.seq
        self.removals.add(header)
        column = self._column(header)
        if self._columns and self._columns[-1].events < self.each:
            self._columns[-1] = self._columns[-1].joined(column)
            return
        self._columns.append(column)
        if len(self._columns) > self._most:
            pairs = zip(self._columns[::2], self._columns[1::2], strict=False)
            odd = self._columns[-1:] if len(self._columns) % 2 else []
            self._columns = [*(one.joined(other) for one, other in pairs), *odd]
            self.each *= 2

    def gaps(self) -> Iterator[Gap]:
        """The gaps between the events, by all records that came."""
        for first, last in self._gaps:
            yield Gap(first, last, self.removals.covers(first, last))

    def mark_gaps(self) -> None:
        """Mark each gap at the column behind it. Once, after the last event."""
        ends = [column.last for column in self._columns]
        for gap in self.gaps():
            at = bisect_left(ends, gap.last)
            self._columns[at].marks["gone" if gap.is_recorded else "missing"] += 1

    def mark_forks(self, seqs: Iterable[int]) -> None:
        """Mark where other runs went off. After the last event.

        Args:
            seqs: of the events that they forked from.
        """
        ends = [column.last for column in self._columns]
        for seq in seqs:
            if (at := bisect_left(ends, seq)) < len(ends):
                self._columns[at].marks["fork"] += 1

    def _column(self, header: CheckpointEvent) -> Column:
        column = Column(header.seq, header.seq, recorded_at=header.recorded_at, ended_at=header.recorded_at)
        if header.annotation is not None and header.annotation.outcome is not None:
            column.reason = shortened(cell(header.annotation.reason or ""), _REASON)
        column.marks.update(self._marks_of(header))
        if header.payload is not None:
            column.stored, column.raw = header.payload.stored_size, header.payload.raw_size
        if header.type == "checkpoint":
            column.steps = (header.iteration_count, header.iteration_count)
            column.sends = {self._lane(name) for name, count in header.summary.messages.items() if count}
            column.asks = {self._lane(asked.source_executor_id) for asked in header.summary.pending_requests}
            self._before = header
        return column

    def _lane(self, name: str) -> int:
        known = self._lanes.get(name := shortened(cell(name), _NAME))
        if known is not None:
            return known
        if len(self._lanes) == LANES:
            self.has_others = True
            return LANES
        return self._lanes.setdefault(name, len(self._lanes))

    def _marks_of(self, header: CheckpointEvent) -> Iterator[str]:
        if is_newer(header):
            yield "newer"
        elif not header.recorded_at:  # all that is left of a header that cannot be read is its key
            yield "damaged"
        if header.forked_from is not None:
            yield "fork"
        if header.type == "checkpoint":
            yield from self._marks_of_checkpoint(header)
        elif header.checkpoint_id:
            yield "deletion"
        elif header.is_claim:
            yield "claim"
        elif header.is_annotation:
            yield from self._marks_of_annotation(header)
        elif header.is_removal:
            yield "closing" if header.closes else "removal"

    def _marks_of_checkpoint(self, header: CheckpointEvent) -> Iterator[str]:
        before = self._before
        asked = {asked.request_id for asked in before.summary.pending_requests} if before is not None else set[str]()
        for each in header.summary.pending_requests:
            if each.request_id not in asked:
                yield "question"
        known = before.summary.answered_requests if before is not None else ()
        yield from ("answer" for answered in header.summary.answered_requests if answered not in known)
        if header.migration is not None:
            yield "migration"
        if before is not None and header.previous_checkpoint_id not in (before.checkpoint_id, None):
            yield "branch"

    def _marks_of_annotation(self, header: CheckpointEvent) -> Iterator[str]:
        said = header.annotation
        if said is None:
            return
        if said.hold != self._hold:
            yield "hold" if said.hold else "release"
        elif said.outcome is None:
            yield "tags"
        if said.outcome is not None:
            yield "failure" if said.outcome == "failed" else said.outcome
        self._hold = said.hold
