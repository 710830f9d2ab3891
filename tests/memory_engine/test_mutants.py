"""What would do harm passes no suite: engines with one fault each, and the case that is to find it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any, NamedTuple

import pytest

from eventckpt import CheckpointEvent, RunInfo, StreamId, testing
from eventckpt.errors import StreamConflict
from eventckpt.stores import Claim, ForeignPageError, RunFilter, RunPage, RunStore
from eventckpt.stores.change_feed import ChangeFeed
from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.testing import audit_store

from .change_feed import MemoryChangeFeed
from .data import Data, Door
from .documents import MemoryDocumentStore
from .event_store import MemoryEventStore
from .reading_mutants import OF_AUDITS, OF_EVENTS
from .run_store import MemoryRunStore
from .session_mutants import OF_SESSIONS


class ClearsAll(MemoryRunStore):
    async def clear(self) -> None:
        self._door.data.projections.clear()


class KnowsTheActiveOneFromItsMaking(MemoryRunStore):
    def __init__(self, door: Door, name: str | None) -> None:
        super().__init__(door, name or door.data.active)


class LeavesNothingOut(MemoryRunStore):
    async def newest(self, workflow_name: str, *, without: Collection[StreamId] = ()) -> RunInfo | None:
        return await super().newest(workflow_name)


class IgnoresClaims(MemoryRunStore):
    async def activate(self, name: str, *, claim: Claim | None = None) -> bool:
        return await super().activate(name)


class WritesAnythingOver(MemoryRunStore):
    async def put(self, *infos: RunInfo) -> int:
        self._documents.update((info.stream, info) for info in infos)
        return len(infos)


class ForgetsPartOfTheFilter(MemoryRunStore):
    """Each gives pages as if a part of what was asked for had been left out."""

    part: str
    nothing: object = None

    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        changed = RunFilter.of(which)._replace(**{self.part: self.nothing})
        return await super().page(changed, after=after, limit=limit)


class ForgetsTags(ForgetsPartOfTheFilter):
    part, nothing = "tags", {}


class ForgetsTypes(ForgetsPartOfTheFilter):
    part = "request_type"


class ForgetsHowLong(ForgetsPartOfTheFilter):
    part = "asked_before"


class ListsWhatIsCancelled(MemoryRunStore):
    """It goes by the questions alone."""

    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        which = RunFilter.of(which)
        if not which.waiting:
            return await super().page(which, after=after, limit=limit)
        infos = [info async for info in self.all() if info.pending_requests]
        return RunPage(sorted(infos, key=lambda info: info.waiting_since)[:limit], None)


class OrdersWhatWaitsByItsHead(MemoryRunStore):
    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        page = await super().page(which, after=after, limit=limit)
        return page._replace(runs=sorted(page.runs, key=lambda info: info.recorded_at, reverse=True))


class TakesAnyPlace(MemoryRunStore):
    async def page(self, which: RunFilter | None = None, *, after: str | None = None, limit: int = 100) -> RunPage:
        try:
            return await super().page(which, after=after, limit=limit)
        except ForeignPageError:
            return await super().page(which, limit=limit)


class ListsWhatIsEmptied(MemoryRunStore):
    async def all(self, workflow_name: str | None = None, *, emptied: bool = False) -> AsyncGenerator[RunInfo, None]:
        async for info in super().all(workflow_name, emptied=True):
            yield info


class ForgetsWhatIsEmptied(MemoryRunStore):
    async def put(self, *infos: RunInfo) -> int:
        written = await super().put(*infos)
        for info in infos:
            if info.is_emptied:
                self._documents.pop(info.stream, None)
        return written


class ListsRemovals(MemoryEventStore):
    def _of_runs(self) -> list[CheckpointEvent]:
        return self._listed()


class ListsWhatWasClosed(MemoryEventStore):
    async def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        async for stream in super().streams(workflow_name=workflow_name, prefix=prefix):
            yield stream


class HidesWhatWasEverClosed(MemoryEventStore):
    async def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        async for stream in super().streams(workflow_name=workflow_name, prefix=prefix):
            if emptied or not any(event.closes for event in self._door.data.of(stream)):
                yield stream


class HandsOutItsOwn(MemoryDocumentStore):
    async def read(self, name: str) -> Document | None:
        return self._door.data.documents.get(name)


class ListsItsOwn(MemoryDocumentStore):
    async def list_documents(self, prefix: str) -> list[Document]:
        return [each for name, each in self._door.data.documents.items() if name.startswith(prefix)]


class KeepsWhatItIsGiven(MemoryDocumentStore):
    async def create(self, document: Document) -> Document | None:
        written = await super().create(document)
        if written is not None:
            self._door.data.documents[written["id"]] |= document
        return written


class WritesOverAnyState(MemoryDocumentStore):
    async def replace(self, document: Document, etag: str) -> Document | None:
        there = await self.read(document["id"])
        return None if there is None else await super().replace(document, there["_etag"])


class BelievesAnyPosition(MemoryChangeFeed):
    async def read(self, *args: Any, witness: str | None = None, **options: Any) -> Any:
        return await super().read(*args, **options)


class FollowsNothing(MemoryEventStore):
    async def follow(self, *, last: int = 0, poll: float = 0.5) -> AsyncGenerator[CheckpointEvent, None]:
        await asyncio.Event().wait()
        yield self._listed()[0]


class Mutant(NamedTuple):
    """An engine with one fault, and the case of a suite that is to find it."""

    suite: type
    case: str
    runs: Callable[[Door, str | None], RunStore] = MemoryRunStore
    documents: Callable[[Door], DocumentStore] = MemoryDocumentStore
    feed: Callable[[Door], ChangeFeed] = MemoryChangeFeed
    store: type[MemoryEventStore] = MemoryEventStore
    arguments: tuple[Any, ...] = ()
    """What the case is given."""

    def engine(self, data: Data) -> MemoryEventStore:
        """Another store object over the same data."""
        made = self.store(data)
        made.run_store = lambda name=None: self.runs(made._door, name)  # pyright: ignore[reportPrivateUsage]
        made.document_store = lambda: self.documents(made._door)  # pyright: ignore[reportPrivateUsage]
        made.change_feed = lambda: self.feed(made._door)  # pyright: ignore[reportPrivateUsage]
        return made


_RUNS, _DOCUMENTS = testing.RunStoreConformance, testing.DocumentStoreConformance
_LISTED = "a_run_of_which_only_the_record_that_closed_it_is_left_can_be_left_out"
_CHANGED = "what_was_given_or_got_can_be_changed_without_changing_what_is_stored"
MUTANTS = {
    "clear wipes every projection": Mutant(
        _RUNS, "clearing_a_projection_leaves_all_others_and_the_pointer", runs=ClearsAll
    ),
    "the active name is fixed when a run store is made": Mutant(
        _RUNS,
        "a_store_of_no_name_goes_by_the_projection_that_is_in_use_by_now",
        runs=KnowsTheActiveOneFromItsMaking,
    ),
    "newest leaves nothing out": Mutant(
        _RUNS, "the_newest_run_without_some_is_the_newest_of_the_others", runs=LeavesNothingOut
    ),
    "claims are ignored": Mutant(_RUNS, "a_projection_is_put_in_use_by_the_last_claim_alone", runs=IgnoresClaims),
    "older documents are written over newer ones": Mutant(
        _RUNS, "a_document_is_written_where_its_seq_grows", runs=WritesAnythingOver
    ),
    "tags are left out of a filter": Mutant(
        _RUNS, "a_page_is_of_the_runs_with_all_the_tags_that_are_asked_for", runs=ForgetsTags
    ),
    "types are left out of a filter": Mutant(
        _RUNS, "a_page_of_waiting_runs_is_of_those_that_fit_alone", runs=ForgetsTypes
    ),
    "how long a question waits is left out of a filter": Mutant(
        _RUNS, "the_oldest_question_of_the_type_tells_how_long_it_was_asked_for", runs=ForgetsHowLong
    ),
    "what was cancelled waits": Mutant(
        _RUNS, "a_run_is_found_waiting_until_it_is_answered_or_cancelled", runs=ListsWhatIsCancelled
    ),
    "what waits is in the order of heads": Mutant(
        _RUNS,
        "of_runs_that_wait_those_that_have_waited_longest_come_first_whatever_their_status",
        runs=OrdersWhatWaitsByItsHead,
    ),
    "emptied documents are listed": Mutant(
        _RUNS, "the_document_of_an_emptied_run_is_in_no_list_and_no_older_one_comes_back", runs=ListsWhatIsEmptied
    ),
    "emptied documents are not kept": Mutant(
        _RUNS, "the_document_of_an_emptied_run_is_in_no_list_and_no_older_one_comes_back", runs=ForgetsWhatIsEmptied
    ),
    "removals are listed": Mutant(
        testing.AuditStoreConformance,
        "a_stream_of_removals_is_in_no_list_and_in_no_search",
        store=ListsRemovals,
        arguments=("workflow",),
    ),
    "closed runs are listed": Mutant(
        testing.AuditStoreConformance, _LISTED, store=ListsWhatWasClosed, arguments=({"prefix": "r"},)
    ),
    "what began again is not listed": Mutant(
        testing.AuditStoreConformance, _LISTED, store=HidesWhatWasEverClosed, arguments=({"prefix": "r"},)
    ),
    "any place is read on from": Mutant(_RUNS, "the_place_of_one_order_is_none_of_the_other", runs=TakesAnyPlace),
    "read hands out what is stored": Mutant(_DOCUMENTS, _CHANGED, documents=HandsOutItsOwn),
    "a list hands out what is stored": Mutant(_DOCUMENTS, _CHANGED, documents=ListsItsOwn),
    "what was given is what is stored": Mutant(_DOCUMENTS, _CHANGED, documents=KeepsWhatItIsGiven),
    "any state is written over": Mutant(
        _DOCUMENTS, "nothing_is_written_or_deleted_over_a_state_that_was_not_read", documents=WritesOverAnyState
    ),
    "a witness is not compared": Mutant(
        testing.ChangeFeedConformance,
        "a_position_behind_another_event_than_its_witness_is_refused",
        feed=BelievesAnyPosition,
    ),
    "nothing is followed": Mutant(
        testing.AuditStoreConformance, "a_follower_gets_the_last_events_and_then_each_new_one", store=FollowsNothing
    ),
}
MUTANTS |= {
    f"{store.__name__} {case}": Mutant(suite, case, store=store)
    for suite, cases in ((testing.EventStoreConformance, OF_EVENTS), (testing.AuditStoreConformance, OF_AUDITS))
    for case, stores in cases.items()
    for store in stores
}
MUTANTS |= {
    f"{store.__name__} {case} {arguments}": Mutant(
        testing.SessionsConformance, case, store=store, arguments=tuple(arguments)
    )
    for (case, *arguments), stores in OF_SESSIONS.items()
    for store in stores
}


async def run(mutant: Mutant) -> None:
    """The case, over any number of stores of the engine."""
    suite, data = mutant.suite(), Data()

    async def open_store() -> MemoryEventStore:
        return mutant.engine(data)

    suite.open_store = open_store
    await getattr(suite, f"test_{mutant.case}")(*mutant.arguments)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_store, "FOLLOWS_WITHIN", 0.5)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
async def test_a_suite_finds_the_fault(mutant: Mutant) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, StreamConflict)):
        await run(mutant)


@pytest.mark.parametrize(
    ("suite", "case", "arguments"),
    {str(where): where for each in MUTANTS.values() for where in [(each.suite, each.case, each.arguments)]}.values(),
)
async def test_and_nothing_where_there_is_none(suite: type, case: str, arguments: tuple[Any, ...]) -> None:
    """The control."""
    await run(Mutant(suite, case, arguments=arguments))
