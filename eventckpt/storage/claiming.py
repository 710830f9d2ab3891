"""Who has the claim on a run, and how it is taken.

Two things make a claim. A small document says who has it, and for how long: of two that write it one is refused, so
that nobody begins beside a holder. And an event at the head of the run, whose seq is the epoch, is the fence: whoever
had the claim before meets it with the next append. So it is the log that decides what is saved. A document may be late,
lost, or of somebody's making: then a claim begins too late or too early, and still the saves of one holder at a time
are acknowledged.

No wall clock decides anything. A document counts as left behind by its holder once this process has seen it unchanged
for the document's own `ttl`, by a clock that only grows; one that is held changes three times in that time.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple, Self

import msgspec

from ..clock import Clock
from ..errors import (
    CheckpointStoreError,
    ClaimLostError,
    RunClaimedError,
    RunNotFoundError,
)
from ..events import Annotation, CheckpointEvent, StreamId
from ..log import logger_of
from ..lru import Lru
from ..moments import moment_of
from ..stores import EventStore, head_of
from ..stores.documents import Document, DocumentStore
from ..text import safe, shortened
from .annotations import InForce, in_force
from .compose import claim_after
from .conflict import append_behind
from .memory import Head

__all__ = ["LONGEST_CLAIM", "Claims", "Hold", "Holder"]

logger: Final = logger_of("eventckpt")

LONGEST_CLAIM: Final = 86_400.0
"""Seconds: a day. What a document says that nobody can have meant counts as this much."""

_OWNER: Final = 255  # characters
_SEEN: Final = 10_000  # documents of others that are remembered
_TRIES: Final = 3  # for a claim that seems to be free, and is refused
_SOONEST, _LATEST = 0.05, 2.0  # seconds between two looks at a claim that is waited for


class Holder(NamedTuple):
    """What the document of a claim says, as far as it can be read."""

    owner: str
    """Empty: it does not say."""
    token: str
    """Tells one claim from another of the same owner."""
    ttl: float
    expires_at: str
    """Of the writer's wall clock; no decision rests on it. Empty: it does not say."""
    etag: str

    @classmethod
    def of(cls, document: Document) -> Self:
        """What somebody may have written, or changed."""
        owner, token = document.get("owner"), document.get("token")
        moment = moment_of(document.get("expires_at"))
        return cls(
            owner=shortened(owner, _OWNER) if isinstance(owner, str) else "",
            token=token if isinstance(token, str) else "",
            ttl=_ttl(document.get("lasts")),
            expires_at="" if moment is None else moment.isoformat(),
            etag=str(document.get("_etag", "")),
        )

    def named(self) -> str:
        """For a sentence about a run that is claimed."""
        until = f"until {self.expires_at}, unless it is renewed" if self.expires_at else "for a time that is not known"
        return f"claimed by {safe(self.owner) or 'somebody who is not named'} {until}"


class Hold(NamedTuple):
    """A document that was written, and who wrote it."""

    stream: StreamId
    owner: str
    token: str
    ttl: float
    etag: str
    until: float
    """By the local clock, counted from before the write was sent: from then on others may take the claim."""


class Claims:
    """The claims on the runs of one store, as one storage and its handles see them.

    Args:
        store: the engine.
        clock: where the time comes from.
    """

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self.clock: Clock = clock
        self._seen: Lru[str, tuple[str, float]] = Lru(_SEEN)
        """By the id of a document: the etag that it was seen with, and since when."""

    async def holder(self, stream: StreamId) -> Holder | None:
        """Who has the claim on a run; None: nobody, or whoever had it has left it.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        try:
            documents = self._store.document_store()
        except CheckpointStoreError:  # it keeps none; a log with claims in it was copied here
            return None
        holder = await self._look(documents, stream)
        return None if holder is None or self._has_expired(stream, holder) else holder

    async def head(self, stream: StreamId) -> Head:
        """Where a run ends.

        Raises:
            RunNotFoundError: it has no events.
        """
        head = await head_of(self._store, stream)
        if head is None:
            raise _no_run(stream)
        return Head.of(head)

    async def enter(self, stream: StreamId, *, owner: str, ttl: float, wait: float) -> Hold:
        """Write the document of a claim, where nobody has it: the first of two steps.

        Args:
            stream: the run.
            owner: who takes it, for people.
            ttl: seconds for which it is taken.
            wait: seconds to wait for one that is held.

        Raises:
            RunClaimedError: somebody else has it.
            CheckpointStoreError: the engine keeps no documents, or failed; what may have been written expires.
        """
        documents, token = self._store.document_store(), secrets.token_hex(16)
        deadline, tries = self.clock.monotonic() + wait, _TRIES
        holder: Holder | None = None  # as far as is known; if that is wrong, the write is refused
        while True:
            sent = self.clock.monotonic()
            document = _document(stream, owner, token, ttl)
            written: Document | None = None
            if holder is None:
                written = await documents.create(document)
            elif self._has_expired(stream, holder):
                written = await documents.replace(document, holder.etag)
            if written is not None:
                return Hold(stream, owner, token, ttl, str(written["_etag"]), sent + ttl)
            holder = await self._look(documents, stream)
            if holder is not None and holder.token == token:  # an answer was lost on its way
                return Hold(stream, owner, token, ttl, holder.etag, sent + ttl)
            if (holder is None or self._has_expired(stream, holder)) and tries > 0:
                tries -= 1
                continue
            left = deadline - self.clock.monotonic()
            if left <= 0:
                raise _claimed(stream, holder)
            await self.clock.sleep(min(left, _pause(holder)))
            holder, tries = await self._look(documents, stream), _TRIES

    async def append(self, hold: Hold, head: Head, actor: str | None) -> CheckpointEvent:
        """Append the event that takes the claim, behind whatever the head is: the second step.

        Args:
            hold: the first one.
            head: where the run ended before it.
            actor: who takes the claim.

        Raises:
            RunNotFoundError: the run has no events by now.
            ClaimLostError: it took longer than the claim lasts, or somebody else has it by now.
            CheckpointStoreError: the engine failed.
        """
        is_first = True

        async def after(seen: Head) -> CheckpointEvent:
            nonlocal is_first
            if not is_first:
                holder = await self._look(self._store.document_store(), hold.stream)
                if holder is None or holder.token != hold.token:
                    raise lost(hold.stream, 0, _by(holder))
            is_first = False
            self._check_time(hold)
            stands = await in_force(self._store, hold.stream, seen)
            return claim_after(hold.stream, stands.head, _carried(stands), stands.pruned, actor)

        event = await append_behind(self._store, head, after)
        if event is None:
            raise _no_run(hold.stream)
        self._check_time(hold)
        return event

    def _check_time(self, hold: Hold) -> None:
        if self.clock.monotonic() >= hold.until:
            raise lost(hold.stream, 0, "it could not be taken within its ttl")

    async def renew(self, hold: Hold) -> Hold | None:
        """Write the document anew; None: somebody else has the claim, or its document was removed.

        Raises:
            CheckpointStoreError: the engine failed, or does not tell yet.
        """
        sent = self.clock.monotonic()
        documents = self._store.document_store()
        written = await documents.replace(_document(hold.stream, hold.owner, hold.token, hold.ttl), hold.etag)
        if written is not None:
            return hold._replace(etag=str(written["_etag"]), until=sent + hold.ttl)
        holder = await self._look(documents, hold.stream)
        if holder is None or holder.token != hold.token:
            return None
        return hold._replace(etag=holder.etag)  # as an attempt left it whose answer was lost

    async def release(self, hold: Hold) -> bool:
        """Remove the document; whether the claim was ours until then.

        Raises:
            CheckpointStoreError: the engine failed; the claim expires.
        """
        documents, name = self._store.document_store(), _name(hold.stream)
        for _ in range(_TRIES):
            if await documents.delete(name, hold.etag):
                return True
            holder = await self._look(documents, hold.stream)
            if holder is None or holder.token != hold.token:
                return holder is None
            hold = hold._replace(etag=holder.etag)
        return True  # a replica that lags shows it as it was; it expires

    async def _look(self, documents: DocumentStore, stream: StreamId) -> Holder | None:
        name = _name(stream)
        document = await documents.read(name)
        if document is None:
            self._seen.pop(name)
            return None
        holder, known = Holder.of(document), self._seen.get(name)
        if known is None or known[0] != holder.etag:
            self._seen.put(name, (holder.etag, self.clock.monotonic()))
        return holder

    def _has_expired(self, stream: StreamId, holder: Holder) -> bool:
        """Whether it was seen as it is for as long as it lasts without being renewed."""
        known = self._seen.get(_name(stream))
        return known is not None and known[0] == holder.etag and self.clock.monotonic() - known[1] >= holder.ttl


def lost(
    stream: StreamId, epoch: int, why: str, *, expected_seq: int = 0, head: CheckpointEvent | None = None
) -> ClaimLostError:
    """The error of a claim that is another's by now, or may be."""
    return ClaimLostError(
        f"The claim on run {stream.run_id!r} of workflow {stream.workflow_name!r} (epoch {epoch}) is lost: {why}. What "
        "was saved before is there, and nothing is saved through it any more: get_latest tells how the run stands; "
        "claim it again to go on.",
        stream=stream,
        epoch=epoch,
        expected_seq=expected_seq,
        head=head,
    )


def _by(holder: Holder | None) -> str:
    return "its document was removed" if holder is None else f"the run is {holder.named()}"


def _carried(stands: InForce) -> Annotation | None:
    """What a claim repeats of what was said about its run."""
    said = stands.said if stands.knows_outcome else msgspec.structs.replace(stands.said, outcome=None, reason=None)
    if said.outcome is None and not said.tags and not said.hold:
        return None
    return msgspec.structs.replace(said, carried=True)


def _document(stream: StreamId, owner: str, token: str, ttl: float) -> Document:
    expires_at = datetime.now(UTC) + timedelta(seconds=ttl)
    return {
        "id": _name(stream),
        "owner": shortened(owner, _OWNER),
        "token": token,
        "lasts": ttl,  # Cosmos DB removes an item when its `ttl` is over, and takes whole numbers only
        "expires_at": expires_at.isoformat(),
    }


def _ttl(said: object) -> float:
    if not isinstance(said, (int, float)) or isinstance(said, bool) or not 0 < said <= LONGEST_CLAIM:
        return LONGEST_CLAIM
    return float(said)


def _name(stream: StreamId) -> str:
    """The id of the document: any name of a run fits into it, and none of a processor begins it."""
    return f"claim-{sha256(msgspec.json.encode([stream.workflow_name, stream.run_id])).hexdigest()}"


def _pause(holder: Holder | None) -> float:
    return _SOONEST if holder is None else min(max(holder.ttl / 10, _SOONEST), _LATEST)


def _claimed(stream: StreamId, holder: Holder | None) -> RunClaimedError:
    how = "being claimed by others at this moment" if holder is None else holder.named()
    return RunClaimedError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} is {how}. Nothing was done: wait for it (wait=…), "
        "or try again later; a claim whose holder died is free to whoever has seen it unchanged for its ttl "
        f"({LONGEST_CLAIM if holder is None else holder.ttl:g} s; its document is {_name(stream)}).",
        stream=stream,
        owner="" if holder is None else holder.owner,
        expires_at="" if holder is None else holder.expires_at,
    )


def _no_run(stream: StreamId) -> RunNotFoundError:
    return RunNotFoundError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} has no events: there is nothing to claim. Claim a "
        "run that has a checkpoint; `eventckpt runs` lists those there are."
    )
