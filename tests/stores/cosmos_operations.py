"""Every operation of every port, as the Cosmos DB engine has them: for the tests that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from eventckpt import CosmosEventStore, StreamId
from eventckpt.events import Pruned
from eventckpt.removals import NOTHING, Removals
from eventckpt.runs import fold
from eventckpt.stores import Claim
from eventckpt.stores.change_feed import EVERYTHING
from eventckpt.stores.conformance import make_event
from projections.leases import Lease, LeaseStore, Parked

from ..cosmos_emulator import CosmosEmulator
from ..engines import where

STREAM = StreamId("workflow", "run")
EVENT = make_event(STREAM, 1)
_FOLDED = fold([EVENT])
assert _FOLDED is not None
INFO = _FOLDED
LEASE = {"id": "lease"}

Operation = Callable[[CosmosEventStore], Awaitable[Any]]


def every(listing: Callable[[CosmosEventStore], AsyncGenerator[Any, None]]) -> Operation:
    async def read(store: CosmosEventStore) -> list[Any]:
        return [each async for each in listing(store)]

    return read


def first(listing: Callable[[CosmosEventStore], AsyncGenerator[Any, None]]) -> Operation:
    async def read(store: CosmosEventStore) -> Any:
        listed = listing(store)
        try:
            return await anext(listed)
        finally:
            await listed.aclose()

    return read


WRITES: dict[str, Operation] = {
    "EventStore.append": lambda store: store.append(make_event(STREAM, 2, previous=EVENT)),
    "EventStore.remove_orphaned_parts": lambda store: store.remove_orphaned_parts(older_than=0),
    "AuditStore.put": lambda store: store.put(STREAM, []),
    "AuditStore.put_over": lambda store: store.put_over(STREAM, [], after=0),
    "AuditStore.remove": lambda store: store.remove(STREAM, []),
    "RunStore.put": lambda store: store.run_store().put(INFO),
    "RunStore.clear": lambda store: store.run_store("none").clear(),
    "RunStore.active, certain": lambda store: store.run_store().active(certain=True),
    "RunStore.claim": lambda store: store.run_store().claim(),
    "RunStore.activate": lambda store: store.run_store().activate("other"),
    "RunStore.activate, with a claim": lambda store: store.run_store().activate("other", claim=Claim("latest", "x")),
    "DocumentStore.create": lambda store: store.document_store().create({"id": "other"}),
    "DocumentStore.replace": lambda store: store.document_store().replace(LEASE, "etag"),
    "DocumentStore.delete": lambda store: store.document_store().delete("lease", "etag"),
}
LOOKS: dict[str, tuple[str, Operation]] = {
    "EventStore.read": ("events", lambda store: store.read(STREAM, 1)),
    "EventStore.find": ("events", lambda store: store.find(EVENT.checkpoint_id)),
    "EventStore.find_in": ("events", lambda store: store.find_in("workflow", EVENT.checkpoint_id)),
    "EventStore.headers": ("events", every(lambda store: store.headers(STREAM))),
    "EventStore.workflow_headers": ("events", every(lambda store: store.workflow_headers("workflow"))),
    "EventStore.last": ("events", lambda store: store.last(STREAM.workflow_name, STREAM.run_id)),
    "EventStore.keys": ("events", every(lambda store: store.keys(STREAM.workflow_name))),
    "EventStore.read_each": ("events", lambda store: store.read_each([(STREAM, 1)])),
    "EventStore.headers_of_runs": ("events", every(lambda store: store.headers_of_runs([STREAM]))),
    "AuditStore.events_of_runs": ("events", every(lambda store: store.events_of_runs([STREAM]))),
    "AuditStore.streams": ("events", every(lambda store: store.streams())),
    "AuditStore.removal_streams": ("events", every(lambda store: store.removal_streams())),
    "AuditStore.checkpoint_ids": ("events", lambda store: store.checkpoint_ids("", limit=9)),
    "AuditStore.runs_with": ("events", lambda store: store.runs_with("workflow", [EVENT.checkpoint_id])),
    "AuditStore.events": ("events", every(lambda store: store.events(STREAM))),
    "AuditStore.newest": ("events", every(lambda store: store.newest(STREAM))),
    "AuditStore.run_ids": ("events", every(lambda store: store.run_ids(STREAM.workflow_name))),
    "AuditStore.unmarked": ("events", lambda store: store.unmarked(STREAM, NOTHING)),
    "AuditStore.follow": ("events", first(lambda store: store.follow(last=1))),
    "AuditStore.checks": ("events", lambda store: store.checks()),
    "RunStore.get": ("events-projections", lambda store: store.run_store().get(STREAM)),
    "RunStore.newest": ("events-projections", lambda store: store.run_store().newest("workflow")),
    "RunStore.all": ("events-projections", every(lambda store: store.run_store().all())),
    "RunStore.idle": ("events-projections", every(lambda store: store.run_store().idle())),
    "RunStore.page": ("events-projections", lambda store: store.run_store().page()),
    "RunStore.counts": ("events-projections", lambda store: store.run_store().counts()),
    "RunStore.active": ("events-projections", lambda store: store.run_store().active()),
    "RunStore.is_empty": ("events-projections", lambda store: store.run_store().is_empty()),
    "DocumentStore.list_documents": ("events-leases", lambda store: store.document_store().list_documents("")),
    "DocumentStore.read": ("events-leases", lambda store: store.document_store().read("lease")),
    "ChangeFeed.identity": ("events", lambda store: store.change_feed().identity()),
    "ChangeFeed.ranges": ("events", lambda store: store.change_feed().ranges()),
    "ChangeFeed.read": (
        "events",
        lambda store: store.change_feed().read(EVERYTHING, None, start="beginning", limit=9),
    ),
    "ChangeFeed.lag": ("events", lambda store: store.change_feed().lag(EVERYTHING, None, start="beginning")),
}


SECOND = make_event(STREAM, 2, previous=EVENT)
RECORD = msgspec.structs.replace(
    make_event(STREAM, 3, previous=SECOND),
    pruned=(Pruned(first=1, last=1, previous_digest="", digest=EVENT.digest),),
)
RANGE_LEASE = Lease(range=EVERYTHING, etag='"0"')
PARKED = Parked(range="range", continuation=None, event=EVENT.header(), error="an error", attempts=3, parked_at="now")


def leases(store: CosmosEventStore) -> LeaseStore:
    return LeaseStore(store.document_store(), store.change_feed(), "processor")


LEASES: dict[str, Operation] = {
    "LeaseStore.all": lambda store: leases(store).all(),
    "LeaseStore.read": lambda store: leases(store).read(RANGE_LEASE),
    "LeaseStore.create": lambda store: leases(store).create(RANGE_LEASE),
    "LeaseStore.replace": lambda store: leases(store).replace(RANGE_LEASE),
    "LeaseStore.delete": lambda store: leases(store).delete(RANGE_LEASE),
    "LeaseStore.remove_unreadable": lambda store: leases(store).remove_unreadable(),
    "LeaseStore.initialised": lambda store: leases(store).initialised(),
    "LeaseStore.mark_initialised": lambda store: leases(store).mark_initialised(),
    "LeaseStore.doubt": lambda store: leases(store).doubt("why", "now"),
    "LeaseStore.doubted": lambda store: leases(store).doubted(),
    "LeaseStore.check_rights": lambda store: leases(store).check_rights(),
    "LeaseStore.park": lambda store: leases(store).park(PARKED),
    "LeaseStore.parked": lambda store: leases(store).parked(),
    "LeaseStore.unpark": lambda store: leases(store).unpark(PARKED),
    "LeaseStore.clear": lambda store: leases(store).clear(),
}
IN_EARNEST: dict[str, Operation] = {
    "AuditStore.put": lambda store: store.put(STREAM, [EVENT, SECOND]),
    "AuditStore.put_over": lambda store: store.put_over(STREAM, [make_event(STREAM, 7)], after=1),
    "AuditStore.remove": lambda store: store.remove(STREAM, [1]),
    "AuditStore.unmarked": lambda store: store.unmarked(STREAM, Removals([RECORD])),
    "DocumentStore.replace": lambda store: store.document_store().replace(LEASE, '"0"'),
    "DocumentStore.delete": lambda store: store.document_store().delete("lease", '"0"'),
}
"""Those that would otherwise find without a request that there is nothing to do."""
EVERYTHING_DONE: dict[str, Operation] = {
    **WRITES,
    **{name: operation for name, (_, operation) in LOOKS.items()},
    **LEASES,
    **IN_EARNEST,
}
"""Every operation of every port, and of the leases, which are kept in one."""


def container_of(name: str) -> str:
    """The container that an operation is about."""
    return {"RunStore": "events-projections", "DocumentStore": "events-leases", "LeaseStore": "events-leases"}.get(
        name.partition(".")[0], "events"
    )


async def fill(emulator: CosmosEmulator) -> None:
    """One of everything, in all three containers, known to every replica."""
    async with CosmosEventStore(**where(emulator)) as store:
        await store.append(EVENT)
        await store.run_store().put(INFO)
        await store.document_store().create(LEASE)
    emulator.catch_up()
    emulator.reset()


def hurry(store: CosmosEventStore, seconds: float) -> None:
    """Give the operations of a store that was opened with more another `timeout`: opening is not to be hurried."""
    store._connections.timeout = store._sessions._connections.timeout = seconds
