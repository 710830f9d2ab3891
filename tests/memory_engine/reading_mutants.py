"""Engines that read wrongly, each in one way, by the case that is to find it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from eventckpt import CheckpointEvent, StreamId
from eventckpt.event_keys import EventKey, EventKeys
from eventckpt.stores import Stretch

from .event_store import MemoryEventStore

__all__ = ["OF_AUDITS", "OF_EVENTS"]


class LastOfAnyWorkflow(MemoryEventStore):
    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        return await super().last(workflow_name, run_id) if run_id is not None else self._listed()[-1]


class LastOfTheRunIdAlone(MemoryEventStore):
    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        mine = [event for event in self._listed() if event.run_id == run_id]
        return mine[-1] if mine else await super().last(workflow_name, run_id)


class ByTheClock(MemoryEventStore):
    def _dated(self, workflow_name: str, run_id: str | None) -> list[CheckpointEvent]:
        events = sorted(self._listed(), key=lambda event: event.recorded_at)
        return [each for each in events if each.workflow_name == workflow_name and run_id in (None, each.run_id)]


class LastByTheClock(ByTheClock):
    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        mine = self._dated(workflow_name, run_id)
        return mine[-1] if mine else None


class LastWhenClosed(MemoryEventStore):
    async def last(self, workflow_name: str, run_id: str | None = None) -> CheckpointEvent | None:
        self._door.is_closed = False
        return await super().last(workflow_name, run_id)


class KeysByTheClock(ByTheClock):
    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        mine = self._dated(workflow_name, run_id)
        yield EventKeys.of([EventKey.of(event, place) for place, event in enumerate(mine)])


class KeysOfTheFirst4096(MemoryEventStore):
    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        async for page in super().keys(workflow_name, run_id):
            yield EventKeys.of([*page.each()][:4096])


class KeysWhenClosed(MemoryEventStore):
    async def keys(self, workflow_name: str, run_id: str | None = None) -> AsyncGenerator[EventKeys, None]:
        self._door.is_closed = False
        async for page in super().keys(workflow_name, run_id):
            yield page


class ReadsOfTheRunIdAlone(MemoryEventStore):
    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        by_run_id = {(event.run_id, event.seq): event for event in self._listed()}
        return [by_run_id[place] for stream, seq in places if (place := (stream.run_id, seq)) in by_run_id]


class ReadsTheFirst100(MemoryEventStore):
    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        return await super().read_each(places[:100])


class ReadsWhenClosed(MemoryEventStore):
    async def read_each(self, places: Sequence[tuple[StreamId, int]]) -> list[CheckpointEvent]:
        self._door.is_closed = False
        return await super().read_each(places)


class OfRuns(MemoryEventStore):
    """`headers_of_runs` and `events_of_runs` of what `_of` gives of each."""

    def _of(self, stream: StreamId) -> Iterable[CheckpointEvent]:
        return self._door.data.of(stream)

    async def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        for stream in streams:
            yield Stretch(stream, [event.header() for event in self._of(stream)], ends=True)

    async def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        for stream in streams:
            yield Stretch(stream, [*self._of(stream)], ends=True)


class HeadersWithData(OfRuns):
    async def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        async for stretch in self.events_of_runs(streams):
            yield stretch


class OfTheRunIdAlone(OfRuns):
    def _of(self, stream: StreamId) -> Iterable[CheckpointEvent]:
        return [event for event in self._listed() if event.run_id == stream.run_id]


class HeadersInTheOrderOfCommits(OfRuns):
    async def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        for stream in streams:
            yield Stretch(stream, [event.header() for event in self._listed() if event.stream == stream], ends=True)


class EventsInTheOrderOfCommits(OfRuns):
    async def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        for stream in streams:
            yield Stretch(stream, [event for event in self._listed() if event.stream == stream], ends=True)


class HeadersOfTheFirst1000(OfRuns):
    async def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        async for stretch in super().headers_of_runs(streams):
            yield stretch._replace(events=stretch.events[:1000])


class EventsOfTheFirst1000(OfRuns):
    async def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        async for stretch in super().events_of_runs(streams):
            yield stretch._replace(events=stretch.events[:1000])


class OfTheFirst100Runs(OfRuns):
    def headers_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        return super().headers_of_runs(streams[:100])

    def events_of_runs(self, streams: Sequence[StreamId]) -> AsyncGenerator[Stretch, None]:
        return super().events_of_runs(streams[:100])


class OfRunsWhenClosed(OfRuns):
    def _of(self, stream: StreamId) -> Iterable[CheckpointEvent]:
        self._door.is_closed = False
        return super()._of(stream)


OF_EVENTS: Final[dict[str, list[type[MemoryEventStore]]]] = {
    "the_last_event_is_of_the_workflow_and_of_the_run_that_were_asked_for": [LastOfAnyWorkflow, LastOfTheRunIdAlone],
    "the_last_event_is_where_a_walk_backwards_begins_whatever_the_clocks_said": [LastByTheClock],
    "keys_are_in_the_order_of_the_listing_whatever_the_clocks_said": [KeysByTheClock],
    "a_listing_never_gives_data_but_its_size": [HeadersWithData],
    "runs_of_one_name_in_several_workflows_do_not_mix_when_read_at_once": [ReadsOfTheRunIdAlone, OfTheRunIdAlone],
    "of_very_many_runs_that_are_read_at_once_none_is_left_out": [ReadsTheFirst100, OfTheFirst100Runs],
    "a_closed_store_refuses_further_work": [LastWhenClosed, KeysWhenClosed, ReadsWhenClosed, OfRunsWhenClosed],
}
OF_AUDITS: Final[dict[str, list[type[MemoryEventStore]]]] = {
    "the_events_of_runs_of_one_name_in_several_workflows_do_not_mix": [OfTheRunIdAlone],
    "of_very_many_runs_whose_events_are_read_at_once_none_is_left_out": [OfTheFirst100Runs],
    "copies_that_are_put_late_are_read_in_the_order_of_their_seqs": [
        HeadersInTheOrderOfCommits,
        EventsInTheOrderOfCommits,
    ],
    "what_reads_thousands_of_events_of_a_run_leaves_none_out": [
        KeysOfTheFirst4096,
        HeadersOfTheFirst1000,
        EventsOfTheFirst1000,
    ],
    "a_closed_store_cannot_be_audited": [OfRunsWhenClosed],
}
