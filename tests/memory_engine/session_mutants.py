"""Engines whose sessions are wrong, each in one way, by the case that is to find it, and what that is given."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from typing import Any, Final

from eventckpt import CheckpointEvent, StreamId
from eventckpt.stores import AuditStore

from .data import Data
from .event_store import MemoryEventStore

__all__ = ["OF_SESSIONS"]


class SessionsAreRuns(MemoryEventStore):
    def sessions(self) -> AuditStore:
        return self


class SessionsAreOthersEachTime(MemoryEventStore):
    def sessions(self) -> AuditStore:
        return MemoryEventStore(self._door.data.sessions)


class SessionsOfOneProcess(MemoryEventStore):
    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._sessions = MemoryEventStore(Data())


class SessionsThatMeetTheRuns(MemoryEventStore):
    """In the ports of these names."""

    shared: tuple[str, ...]

    def sessions(self) -> AuditStore:
        made = super().sessions()
        for name in self.shared:
            setattr(made, name, getattr(self, name))
        return made


class OneProjection(SessionsThatMeetTheRuns):
    shared = ("run_store",)


class OnePlaceForDocuments(SessionsThatMeetTheRuns):
    shared = ("document_store",)


class OneFeed(SessionsThatMeetTheRuns):
    shared = ("change_feed",)


class OneFollower(SessionsThatMeetTheRuns):
    shared = ("follow",)


class OneIndexOfIds(SessionsThatMeetTheRuns):
    shared = ("find", "checkpoint_ids")


class OneOfRemovals(SessionsThatMeetTheRuns):
    shared = ("remove",)


class OneOrderOfAppends(SessionsThatMeetTheRuns):
    shared = ("append",)


class SessionsStayOpen(MemoryEventStore):
    async def close(self) -> None:
        self._door.is_closed = True


class SessionsCloseTheirStore(MemoryEventStore):
    def sessions(self) -> AuditStore:
        made = super().sessions()
        made.close = self._close
        return made

    async def _close(self) -> None:
        self._door.is_closed = True


class SessionsForgetWhatClears(MemoryEventStore):
    async def append(self, event: CheckpointEvent) -> None:
        await super().append(event)
        if event.cleared:
            self._door.data.remove(event.stream, event.seq)


class Newest(MemoryEventStore):
    """`newest` of what `_newest` makes of the right answer."""

    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._newest([event async for event in super().newest(stream, lte=lte)], lte):
            yield event

    def _newest(self, events: list[CheckpointEvent], lte: int | None) -> list[CheckpointEvent]:
        return events


class OldestFirst(Newest):
    def _newest(self, events: list[CheckpointEvent], lte: int | None) -> list[CheckpointEvent]:
        return events[::-1]


class NothingBehindTheBound(Newest):
    def _newest(self, events: list[CheckpointEvent], lte: int | None) -> list[CheckpointEvent]:
        return [event for event in events if lte is None or event.seq <= lte]


class BoundsAsWithout(MemoryEventStore):
    def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        return super().newest(stream)


class TheNewest600(Newest):
    def _newest(self, events: list[CheckpointEvent], lte: int | None) -> list[CheckpointEvent]:
        return events[:600]


class NewestHeaders(Newest):
    def _newest(self, events: list[CheckpointEvent], lte: int | None) -> list[CheckpointEvent]:
        return [event.header() for event in events]


class NewestByCountingOff(MemoryEventStore):
    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        for place in count():
            events = self._door.data.of(stream)[::-1]
            if place >= len(events):
                return
            yield events[place]


class NewestOfTheRunIdAlone(MemoryEventStore):
    async def newest(self, stream: StreamId, *, lte: int | None = None) -> AsyncGenerator[CheckpointEvent, None]:
        for event in self._listed()[::-1]:
            if event.run_id == stream.run_id:
                yield event


class RunIdsOfEachEvent(MemoryEventStore):
    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        for event in self._listed():
            if event.workflow_name == workflow_name:
                yield event.run_id


class RunIdsOfAnyWorkflow(MemoryEventStore):
    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        for run_id in {event.run_id for event in self._listed() if event.workflow_name.startswith(workflow_name)}:
            yield run_id


class TheFirst256RunIds(MemoryEventStore):
    async def run_ids(self, workflow_name: str) -> AsyncGenerator[str, None]:
        found = [run_id async for run_id in super().run_ids(workflow_name)]
        for run_id in found[:256]:
            yield run_id


OF_SESSIONS: Final[dict[tuple[str, *tuple[Any, ...]], list[type[MemoryEventStore]]]] = {
    ("a_store_has_the_same_sessions_each_time",): [SessionsAreOthersEachTime],
    ("a_store_without_sessions_has_nothing_in_them",): [SessionsAreRuns, OneFeed, OneIndexOfIds],
    ("what_was_acknowledged_of_a_session_another_store_reads",): [SessionsOfOneProcess],
    ("nothing_of_one_log_is_found_in_the_other_by_the_same_names", "run"): [OneIndexOfIds],
    ("a_stream_that_one_log_has_the_other_has_not",): [OneFeed, OneFollower],
    ("what_is_removed_from_one_log_stays_in_the_other",): [OneOfRemovals],
    ("the_head_of_one_log_is_no_conflict_in_the_other",): [OneOrderOfAppends],
    ("projections_and_documents_of_the_two_do_not_meet",): [OneProjection, OnePlaceForDocuments],
    ("writers_of_both_logs_at_once_are_in_nobodys_way",): [OneOrderOfAppends],
    ("turns_what_a_host_keeps_and_what_clears_a_session_survive_with_every_field",): [SessionsForgetWhatClears],
    ("the_newest_events_come_first_and_behind_a_bound_tombstones_alone", None): [
        OldestFirst,
        TheNewest600,
        NewestHeaders,
        NewestOfTheRunIdAlone,
    ],
    ("the_newest_events_come_first_and_behind_a_bound_tombstones_alone", 100): [NothingBehindTheBound, BoundsAsWithout],
    ("what_is_appended_while_the_newest_are_read_is_not_among_them",): [NewestByCountingOff],
    ("of_a_stream_that_there_is_not_nothing_is_newest", "none", "run"): [NewestOfTheRunIdAlone],
    ("each_run_id_of_a_workflow_is_given_once",): [RunIdsOfEachEvent, RunIdsOfAnyWorkflow, TheFirst256RunIds],
    ("the_sessions_of_a_closed_store_are_closed",): [SessionsStayOpen],
    ("to_close_the_sessions_leaves_their_store_open",): [SessionsCloseTheirStore],
}
