"""Leases: who reads which range, and from where. One document per range, as .NET's processor writes them (version 1).

So the .NET estimator and KEDA's scaler can read them. What those do not know, this processor keeps in `properties`,
texts by name. Documents of other kinds lie beside the leases: they have no `LeaseToken`, which is how readers of
leases tell them apart.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

import msgspec

from eventckpt import CheckpointEvent

from ..feeds import ChangeFeed, FeedRange, Start
from .documents import Document, Documents

__all__ = ["Document", "Documents", "Lease", "LeaseLostError", "LeaseStore", "Parked"]

_ATTEMPTS: Final = "attempts"
_ERROR: Final = "error"
_STOPPED: Final = "stopped"
_WANTED_BY: Final = "wantedBy"
_START: Final = "start"
_REPORTED: Final = "Parked"


class LeaseLostError(Exception):
    """The lease belongs to another worker by now, or may: nothing more may be done in its name."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One lease document, read."""

    range: FeedRange
    owner: str | None = None
    continuation: str | None = None
    """Everything before it was handled; None: the range was never read."""
    start: Start = "beginning"
    """Where reading begins as long as there is no continuation."""
    attempts: int = 0
    """How often the batch after `continuation` has failed."""
    error: str | None = None
    """What it failed with last."""
    stopped: bool = False
    """Whether the policy stopped this range; nobody reads it until `resume`."""
    wanted_by: str | None = None
    """The worker that has less than its share and asks the owner to release this lease."""
    timestamp: str = ""
    """When it was written last, by the writer's wall clock; no decision rests on it."""
    etag: str = ""

    def document(self, prefix: str) -> Document:
        """The document to write; `prefix` is that of the processor's leases."""
        properties = {
            _ATTEMPTS: str(self.attempts) if self.attempts else None,
            _ERROR: self.error,
            _STOPPED: "true" if self.stopped else None,
            _WANTED_BY: self.wanted_by,
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
        """The lease in a document."""
        bounds = document["FeedRange"]["Range"]
        properties: dict[str, str] = document.get("properties") or {}
        return cls(
            range=FeedRange(bounds["min"], bounds["max"]),
            owner=document.get("Owner") or None,
            continuation=document.get("ContinuationToken") or None,
            start="now" if properties.get(_START) == "now" else "beginning",
            attempts=int(properties.get(_ATTEMPTS, 0)),
            error=properties.get(_ERROR),
            stopped=properties.get(_STOPPED) == "true",
            wanted_by=properties.get(_WANTED_BY),
            timestamp=document.get("timestamp", ""),
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
    """

    def __init__(self, documents: Documents, feed: ChangeFeed, processor: str) -> None:
        self.processor = processor
        self._documents = documents
        self._feed = feed
        self._prefix: str | None = None

    async def all(self) -> list[Lease]:
        """Every lease of this processor, in the order of their ranges."""
        found = await self._documents.starting_with(f"{await self._name()}..")
        return sorted((Lease.of(each) for each in found), key=lambda lease: lease.range)

    async def read(self, lease: Lease) -> Lease | None:
        """This lease as it is now; None if it is gone."""
        found = await self._documents.read(f"{await self._name()}..{lease.range.token}")
        return Lease.of(found) if found else None

    async def create(self, lease: Lease) -> Lease | None:
        """Write a new lease; None, and nothing is changed, if there is one of this range."""
        made = await self._documents.create(lease.document(await self._name()))
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

    async def initialised(self) -> bool:
        """Whether the first leases were all made: a range without one has lost it then, and is not new."""
        return await self._documents.read(f"{await self._name()}.info") is not None

    async def mark_initialised(self) -> None:
        """Note that the first leases were all made."""
        await self._documents.create({"id": f"{await self._name()}.info"})

    async def check_rights(self) -> None:
        """Find out now, and not at the first split, whether this identity may create and delete.

        Raises:
            StoreReadOnlyError: it may not.
        """
        probe = await self._documents.create({"id": f"{await self._name()}.probe.{uuid.uuid4()}"})
        if probe is not None:
            await self._documents.delete(probe["id"], probe["_etag"])

    async def park(self, parked: Parked) -> None:
        """Keep an event; once more, only its error and attempts change."""
        document: Document = {"id": await self._parked_id(parked.event), _REPORTED: msgspec.to_builtins(parked)}
        while await self._documents.create(document) is None:
            existing = await self._documents.read(document["id"])
            if existing is not None and await self._documents.replace(document, existing["_etag"]) is not None:
                return

    async def parked(self) -> list[Parked]:
        """Everything parked, by run and seq: replayed in this order, each run is in its own."""
        found = await self._documents.starting_with(f"{await self._name()}.parked.")
        parked = [msgspec.convert(each[_REPORTED], Parked) for each in found]
        return sorted(parked, key=lambda each: (each.event.workflow_name, each.event.run_id, each.event.seq))

    async def unpark(self, parked: Parked) -> None:
        """Forget a parked event."""
        name = await self._parked_id(parked.event)
        existing = await self._documents.read(name)
        if existing is not None:
            await self._documents.delete(name, existing["_etag"])

    async def clear(self) -> None:
        """Remove all leases and everything parked: the processor begins anew."""
        for document in await self._documents.starting_with(f"{await self._name()}."):
            await self._documents.delete(document["id"], document["_etag"])

    async def _name(self) -> str:
        if self._prefix is None:
            self._prefix = f"{self.processor}{await self._feed.identity()}"
        return self._prefix

    async def _parked_id(self, event: CheckpointEvent) -> str:
        key = msgspec.json.encode([event.workflow_name, event.run_id, event.seq])
        return f"{await self._name()}.parked.{hashlib.sha256(key).hexdigest()[:32]}"
