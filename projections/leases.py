"""Leases: who reads which range, and from where. One document per range, as .NET's processor writes them (version 1).

So the .NET estimator and KEDA's scaler can read them. What those do not know, this processor keeps in `properties`,
texts by name. Documents of other kinds lie beside the leases: they have no `LeaseToken`, which is how readers of
leases tell them apart.

What lies there may be anybody's. A document that does not say which range it is about is no lease: it is left out, and
written over where its place is needed. Of one that does, the rest is read as far as it goes.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeGuard, cast

import msgspec

from eventckpt import CheckpointEvent
from eventckpt.errors import StoreUnavailableError
from eventckpt.log import logger_of
from eventckpt.lru import Lru
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed, FeedRange, Start
from eventckpt.stores.documents import Document, DocumentStore
from eventckpt.stores.names import check_name
from eventckpt.text import described, safe

__all__ = ["Lease", "LeaseFormatError", "LeaseLostError", "LeaseState", "LeaseStore", "Parked"]

logger: Final = logger_of("eventckpt.projections")

_ATTEMPTS: Final = "attempts"
_ERROR: Final = "error"
_STOPPED: Final = "stopped"
_WANTED_BY: Final = "wantedBy"
_START: Final = "start"
_WITNESS: Final = "witness"
_DOUBTED: Final = "Doubted"
_REPORTED: Final = "Parked"
_BOUND: Final = re.compile(r"[0-9A-F]{0,200}")  # of a range; with hierarchical keys up to 96 digits
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_LONGEST: Final = 1_000  # characters of a continuation
_MEMORY: Final = 10_000  # documents that are remembered as left out
_ROUNDS: Final = 5  # attempts to remove documents that are being written


LeaseState: TypeAlias = Literal["free", "held", "requested", "stopped"]
"""`requested`: some worker asks for it, or it is kept for who asked. `stopped`: nobody reads it until `unpark`."""


class LeaseLostError(Exception):
    """The lease belongs to another worker by now, or may: nothing more may be done in its name."""


class LeaseFormatError(Exception):
    """A document does not say of which range it is the lease."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One lease document, read."""

    range: FeedRange
    owner: str | None = None
    continuation: str | None = None
    """Everything before it was handled; None: the range was never read."""
    witness: str | None = None
    """What identifies the event right before `continuation`, where the feed tells."""
    start: Start = "beginning"
    """Where reading begins as long as there is no continuation."""
    attempts: int = 0
    """How often the batch after `continuation` has failed."""
    error: str | None = None
    """What it failed with last."""
    stopped: bool = False
    """Whether the policy stopped this range; nobody reads it until `unpark`."""
    wanted_by: str | None = None
    """The worker that has less than its share and asks the owner to release this lease."""
    timestamp: str = ""
    """When it was written last, by the writer's wall clock; no decision rests on it."""
    etag: str = ""

    @property
    def state(self) -> LeaseState:
        """How it stands, by what it says; whether its owner lives, it does not say."""
        if self.stopped:
            return "stopped"
        if self.wanted_by is not None:
            return "requested"
        return "free" if self.owner is None else "held"

    def is_free_for(self, worker: str) -> bool:
        """Whether this worker may take it: nobody has it, and it is not kept for another one."""
        return self.state == "free" or (self.state == "requested" and self.owner is None and self.wanted_by == worker)

    def document(self, prefix: str) -> Document:
        """The document to write; `prefix` is that of the processor's leases."""
        properties = {
            _ATTEMPTS: str(self.attempts) if self.attempts else None,
            _ERROR: self.error,
            _STOPPED: "true" if self.stopped else None,
            _WANTED_BY: self.wanted_by,
            _WITNESS: self.witness,
            _START: self.start if self.start != "beginning" else None,
        }
        return {
            "id": f"{prefix}..{self.range.token}",
            "version": 1,
            "LeaseToken": self.range.token,
            "FeedRange": {"Range": {"min": self.range.min, "max": self.range.max}},
            "Owner": self.owner,
            "ContinuationToken": self.continuation,
            "properties": {name: value for name, value in properties.items() if value is not None},
            "timestamp": self.timestamp,
            "Mode": "Incremental Feed",
        }

    @classmethod
    def of(cls, document: Document) -> Lease:
        """The lease in a document; what else it says is read as far as it goes.

        Raises:
            LeaseFormatError: it does not say of which range it is the lease, or its id says another one.
        """
        given = _mapping(document.get("properties"))
        properties = {name: value for name, value in given.items() if isinstance(value, str)}
        saved = document.get("ContinuationToken")
        continuation = _continuation(saved)
        # From a position that is none, reading begins anew: what was handled may come again, and nothing is left out.
        lost = bool(saved) and continuation is None
        return cls(
            range=_range(document),
            owner=_text(document.get("Owner")),
            continuation=continuation,
            witness=properties.get(_WITNESS) if continuation else None,
            start="now" if properties.get(_START) == "now" and not lost else "beginning",
            attempts=int(properties[_ATTEMPTS]) if _COUNT.fullmatch(properties.get(_ATTEMPTS, "")) else 0,
            error=properties.get(_ERROR),
            stopped=properties.get(_STOPPED) == "true",
            wanted_by=properties.get(_WANTED_BY),
            timestamp=_text(document.get("timestamp")) or "",
            etag=str(document.get("_etag", "")),
        )


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """An event that its handler refused for good, kept for `unpark`."""

    range: str
    """The token of the range that it came from."""
    continuation: str | None
    """Before the batch that it came in."""
    event: CheckpointEvent
    """Its header."""
    error: str
    attempts: int
    parked_at: str
    """By the wall clock of the worker that parked it."""


class LeaseStore:
    """The leases of one processor, and what it parked.

    Every write rests on the state that was read; of two that rest on the same one, the second is refused.

    Args:
        documents: where they are kept.
        feed: what they are about.
        processor: the processor's name; processors with different names know nothing of each other.

    Raises:
        TypeError, ValueError: nothing can be called so, on any engine (`eventckpt.stores.names`).
    """

    def __init__(self, documents: DocumentStore, feed: ChangeFeed, processor: str) -> None:
        self.processor: str = check_name("the name of a processor", processor)
        self._documents = documents
        self._feed = feed
        self._prefix: str | None = None
        self._left_out: Lru[tuple[str, str], bool] = Lru(_MEMORY)

    async def all(self) -> list[Lease]:
        """Every lease of this processor, in the order of their ranges. A document that is no lease is left out, which
        is said once."""
        found = await self._documents.list_documents(f"{await self._name()}..")
        leases = [lease for each in found if (lease := self._lease(each)) is not None]
        return sorted(leases, key=lambda lease: lease.range)

    async def read(self, lease: Lease) -> Lease | None:
        """This lease as it is now; None if it is gone."""
        found = await self._documents.read(f"{await self._name()}..{lease.range.token}")
        return self._lease(found) if found else None

    async def create(self, lease: Lease) -> Lease | None:
        """Write a new lease, also over a document that has its place and is none; None, and nothing is changed, if
        there is one of this range."""
        document = lease.document(await self._name())
        made = await self._documents.create(document)
        if made is None:
            existing = await self._documents.read(document["id"])
            if existing is not None and self._lease(existing) is None:
                made = await self._documents.replace(document, existing["_etag"])
        return Lease.of(made) if made else None

    async def replace(self, lease: Lease) -> Lease:
        """Write `lease` over the state that its etag names.

        Raises:
            LeaseLostError: it was written by somebody else since, or deleted.
        """
        written = await self._documents.replace(lease.document(await self._name()), lease.etag)
        if written is None:
            raise LeaseLostError(f"the lease {lease.range.token} was written by somebody else")
        return Lease.of(written)

    async def delete(self, lease: Lease) -> bool:
        """Remove a lease unless it was written since; whether it is gone now."""
        return await self._documents.delete(f"{await self._name()}..{lease.range.token}", lease.etag)

    async def remove_unreadable(self) -> int:
        """Remove the documents among the leases that are none; how many there were."""
        found = await self._documents.list_documents(f"{await self._name()}..")
        unreadable = [each for each in found if self._lease(each) is None]
        for document in unreadable:
            await self._documents.delete(document["id"], document["_etag"])
        return len(unreadable)

    async def initialised(self) -> bool:
        """Whether the first leases were all made: a range without one has lost it then, and is not new."""
        return await self._documents.read(f"{await self._name()}.info") is not None

    async def mark_initialised(self) -> None:
        """Note that the first leases were all made."""
        await self._documents.create({"id": f"{await self._name()}.info"})

    async def doubt(self, why: str, at: str) -> bool:
        """Keep it that what these leases led to is not to be believed, because another log was read than is there now,
        or because it is gone; whether this is the first doubt. It stays until `clear`.

        Args:
            why: for people.
            at: when it was noticed, by the wall clock.
        """
        document: Document = {"id": f"{await self._name()}.doubted", _DOUBTED: {"why": why, "at": at}}
        return await self._documents.create(document) is not None

    async def doubted(self) -> str | None:
        """Why what these leases led to is not to be believed; None: nothing speaks against it."""
        found = await self._documents.read(f"{await self._name()}.doubted")
        return None if found is None else _text(_mapping(found.get(_DOUBTED)).get("why")) or "no reason was kept"

    async def check_rights(self) -> None:
        """Find out now, and not at the first split, whether this identity may create and delete.

        What is read afterwards is no older than this: the answer to a write says how far the place is, while a process
        that has seen nothing of it may be answered by a replica that lags.

        Raises:
            StoreReadOnlyError: it may not.
        """
        probe = await self._documents.create({"id": f"{await self._name()}.probe.{uuid.uuid4()}"})
        if probe is not None:
            await self._documents.delete(probe["id"], probe["_etag"])

    async def park(self, parked: Parked) -> None:
        """Keep an event; once more, only its error and attempts change."""
        document: Document = {"id": await self._parked_id(parked.event), _REPORTED: msgspec.to_builtins(parked)}
        for _ in range(_ROUNDS):
            if await self._documents.create(document) is not None:
                return
            existing = await self._documents.read(document["id"])
            if existing is not None and await self._documents.replace(document, existing["_etag"]) is not None:
                return
        raise StoreUnavailableError(
            f"Seq {parked.event.seq} of run {parked.event.run_id!r} of workflow {parked.event.workflow_name!r} could "
            f"not be parked: its document was written by something else at each of {_ROUNDS} attempts. Try again."
        )

    async def parked(self) -> list[Parked]:
        """Everything parked, by run and seq: replayed in this order, each run is in its own."""
        found = await self._documents.list_documents(f"{await self._name()}.parked.")
        parked = [event for each in found if (event := self._parked(each)) is not None]
        return sorted(parked, key=lambda each: (each.event.workflow_name, each.event.run_id, each.event.seq))

    async def unpark(self, parked: Parked) -> None:
        """Forget a parked event."""
        name = await self._parked_id(parked.event)
        existing = await self._documents.read(name)
        if existing is not None:
            await self._documents.delete(name, existing["_etag"])

    async def clear(self) -> None:
        """Remove all leases and everything parked: the processor begins anew.

        Raises:
            StoreUnavailableError: a worker goes on writing them.
        """
        await self.check_rights()  # a lease that stays would keep its position
        for _ in range(_ROUNDS):
            found = await self._documents.list_documents(f"{await self._name()}.")
            gone = [await self._documents.delete(document["id"], document["_etag"]) for document in found]
            if all(gone):
                return
        raise StoreUnavailableError(
            f"The leases of {safe(self.processor)!r} were written by something else at each of {_ROUNDS} attempts to "
            "remove them. Stop the workers that have them, and try again."
        )

    def _lease(self, document: Document) -> Lease | None:
        try:
            lease = Lease.of(document)
        except LeaseFormatError as error:
            self._warn(document, f"is no lease, and is left out: {error}")
            return None
        if lease.continuation is None and document.get("ContinuationToken"):
            self._warn(document, "has a position that can be none; its range is read from the beginning")
        return lease

    def _parked(self, document: Document) -> Parked | None:
        try:
            parked = msgspec.convert(document.get(_REPORTED), Parked)
            of_its_id = str(document["id"]).endswith(_parked_key(parked.event))
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            self._warn(document, f"is no parked event, and is left out: {error}")
            return None
        if not of_its_id:
            self._warn(document, "is about another event than its id says, and is left out")
            return None
        return parked

    def _warn(self, document: Document, what: str) -> None:
        """Once for each state that a document is in: workers look again and again."""
        state = (str(document["id"]), str(document.get("_etag")))
        if not self._left_out.get(state):
            self._left_out.put(state, True)
            logger.warning("The document %s %s", safe(state[0]), safe(what))

    async def _name(self) -> str:
        if self._prefix is None:
            self._prefix = f"{self.processor}{await self._feed.identity()}"
        return self._prefix

    async def _parked_id(self, event: CheckpointEvent) -> str:
        return f"{await self._name()}.parked.{_parked_key(event)}"


def _parked_key(event: CheckpointEvent) -> str:
    key = msgspec.json.encode([event.workflow_name, event.run_id, event.seq])
    return hashlib.sha256(key).hexdigest()[:32]


def _range(document: Document) -> FeedRange:
    bounds = _mapping(_mapping(document.get("FeedRange")).get("Range"))
    low, high = bounds.get("min"), bounds.get("max")
    found = FeedRange(low, high) if _is_bound(low) and _is_bound(high) else None
    if found is None or not found.min < found.max or not EVERYTHING.contains(found):
        raise LeaseFormatError(f"its range is {described(document.get('FeedRange'))}")
    if not str(document.get("id")).endswith(f"..{found.token}"):
        raise LeaseFormatError(f"its range is {found.token}, which is not that of its id")
    return found


def _is_bound(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _BOUND.fullmatch(value) is not None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _continuation(value: object) -> str | None:
    """A continuation that can be one: it is the feed's, and opaque, but it goes into a header of a request."""
    text = _text(value)
    return text if text and len(text) <= _LONGEST and text.isascii() and text.isprintable() else None
