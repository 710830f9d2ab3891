"""Who has the claim on a run, and how it is taken.

Two things make a claim. A small document says who has it, and for how long: of two that write it one is refused, so
that nobody begins beside a holder. And an event at the head of the run, whose seq is the epoch, is the fence: whoever
had the claim before meets it with the next append. So it is the log that decides what is saved. A document may be late,
lost, or of somebody's making: then a claim begins too late or too early, and still the saves of one holder at a time
are acknowledged.

No wall clock decides anything. A document counts as left behind by its holder once this process has seen it unchanged
for the document's own `ttl`, by a clock that only grows; one that is held changes three times in that time.

What was written is taken back by a task of its own, whatever becomes of the task that it was written for: a document
that stays behind keeps others waiting, so that a line in the log says so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple, Self

import msgspec

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import (
    CheckpointStoreError,
    ClaimLostError,
    RunClaimedError,
    RunNotFoundError,
)
from ..events import Annotation, CheckpointEvent, StreamId
from ..log import logger_of
from ..moments import moment_of
from ..stores import EventStore, head_of
from ..stores.documents import Document, DocumentStore
from ..text import safe, shortened
from .annotations import InForce, in_force
from .compose import claim_after
from .conflict import append_behind
from .memory import Head
from .sightings import Sightings

__all__ = ["LONGEST_CLAIM", "MOST_WATCHED", "Claims", "Hold", "Holder", "claimed", "holder_at", "lost"]

logger: Final = logger_of("eventckpt")

LONGEST_CLAIM: Final = 86_400.0
"""Seconds: a day. What a document says that nobody can have meant counts as this much."""

MOST_WATCHED: Final = 10_000
"""Claims of others of which it is remembered since when they are not renewed."""

_OWNER: Final = 255  # characters
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
    since: float
    """By the local clock: since when it is seen with this etag."""

    @classmethod
    def of(cls, document: Document, since: float) -> Self:
        """What somebody may have written, or changed."""
        owner, token = document.get("owner"), document.get("token")
        moment = moment_of(document.get("expires_at"))
        return cls(
            owner=shortened(owner, _OWNER) if isinstance(owner, str) else "",
            token=token if isinstance(token, str) else "",
            ttl=_ttl(document.get("lasts")),
            expires_at="" if moment is None else moment.isoformat(),
            etag=str(document.get("_etag", "")),
            since=since,
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
    """Empty: it may have been written, and no answer came."""
    until: float
    """By the local clock, counted from before the write was sent: from then on others may take the claim."""


class Claims:
    """The claims on the runs of one store, as one storage and its handles see them.

    Args:
        store: the engine.
        clock: where the time comes from.
        watched: how many claims of others are remembered.
    """

    def __init__(self, store: EventStore, clock: Clock, *, watched: int = MOST_WATCHED) -> None:
        self._store = store
        self.clock: Clock = clock
        self._seen = Sightings(watched, clock)
        self._given_back: set[asyncio.Task[bool]] = set()
        """What is under way."""

    async def close(self) -> None:
        """Wait until what is being given back was, or could not be."""
        await asyncio.gather(*self._given_back, return_exceptions=True)

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
        return None if holder is None or self._has_expired(holder) else holder

    async def head(self, stream: StreamId) -> Head:
        """Where a run ends.

        Raises:
            RunNotFoundError: it has no events, or was removed.
        """
        head = await head_of(self._store, stream)
        if head is None or head.closes:
            raise _no_run(stream)
        return Head.of(head)

    async def enter(self, stream: StreamId, *, owner: str, ttl: float, wait: float) -> Hold:
        """Write the document of a claim, where nobody has it: the first of two steps.

        Args:
            stream: the run.
            owner: who takes it, for people.
            ttl: seconds for which it is taken.
            wait: seconds to wait for one that is found to be held, from then on.

        Raises:
            RunClaimedError: somebody else has it.
            CheckpointStoreError: the engine keeps no documents, or failed; what may have been written expires.
        """
        documents, token = self._store.document_store(), secrets.token_hex(16)
        deadline: float | None = None
        tries = _TRIES
        holder: Holder | None = None  # as far as is known; if that is wrong, the write is refused
        while True:
            hold = Hold(stream, owner, token, ttl, "", self.clock.monotonic() + ttl)
            if holder is None or self._has_expired(holder):
                etag = await self._written(documents, hold, holder)
                if etag is not None:
                    return hold._replace(etag=etag)
            holder = await self._look(documents, stream, holder)
            if holder is not None and holder.token == token:  # an answer was lost on its way
                return hold._replace(etag=holder.etag)
            if (holder is None or self._has_expired(holder)) and tries > 0:
                tries -= 1
                continue
            deadline = self.clock.monotonic() + wait if deadline is None else deadline
            left = deadline - self.clock.monotonic()
            if left <= 0:
                raise claimed(stream, holder)
            await self.clock.sleep(min(left, _pause(holder)))
            holder, tries = await self._look(documents, stream, holder), _TRIES

    async def _written(self, documents: DocumentStore, hold: Hold, left: Holder | None) -> str | None:
        """Write the document, over one that was left behind; its etag, or None where that was refused. Who gives up
        meanwhile is not waited for, and what comes of it is taken back."""
        document = _document(hold)
        request = documents.create(document) if left is None else documents.replace(document, left.etag)
        writing = asyncio.ensure_future(request)
        try:
            written = await asyncio.shield(writing)
        except asyncio.CancelledError:
            self.give_back(hold, after=writing)
            raise
        if written is None:
            return None
        self._seen.gone(str(document["id"]))
        return str(written["_etag"])

    async def append(self, hold: Hold, head: Head, actor: str | None) -> CheckpointEvent:
        """Append the event that takes the claim, behind whatever the head is: the second step.

        Args:
            hold: the first one.
            head: where the run ended before it.
            actor: who takes the claim.

        Raises:
            RunNotFoundError: the run has no events by now, or was removed.
            ClaimLostError: it took longer than the claim lasts, or somebody else has it by now.
            CheckpointStoreError: the engine failed.
        """
        is_first = True

        async def after(seen: Head) -> CheckpointEvent:
            nonlocal is_first
            if not is_first:
                holder = await self._look(self._store.document_store(), hold.stream)
                if holder is None or holder.token != hold.token:
                    raise _not_taken(hold, _by(holder))
            is_first = False
            stands = await in_force(self._store, hold.stream, seen)
            if stands.is_closed:
                raise _no_run(hold.stream)
            self._check_time(hold)
            return claim_after(hold.stream, stands.head, _carried(stands), stands.pruned, actor)

        event = await append_behind(self._store, head, after)
        if event is None:
            raise _no_run(hold.stream)
        self._check_time(hold)
        return event

    def _check_time(self, hold: Hold) -> None:
        if self.clock.monotonic() >= hold.until:
            raise _not_taken(hold, f"it took longer than the {hold.ttl:g} s that it lasts, its ttl")

    async def renew(self, hold: Hold) -> Hold | None:
        """Write the document anew; None: somebody else has the claim, or its document was removed.

        Raises:
            CheckpointStoreError: the engine failed, or does not tell yet.
        """
        sent = self.clock.monotonic()
        documents = self._store.document_store()
        written = await documents.replace(_document(hold), hold.etag)
        if written is not None:
            return hold._replace(etag=str(written["_etag"]), until=sent + hold.ttl)
        holder = await self._look(documents, hold.stream)
        if holder is None or holder.token != hold.token:
            return None
        return hold._replace(etag=holder.etag)  # as an attempt left it whose answer was lost

    def give_back(self, hold: Hold, *, after: Awaitable[object] | None = None) -> asyncio.Task[bool]:
        """Begin to remove a document, which goes on whatever becomes of who waits for it. Where it cannot be removed it
        expires by itself, which is said in the log.

        Args:
            hold: what was written.
            after: what is to be over before that.

        Returns:
            Whether it was ours until then, as far as is known.
        """
        task = asyncio.create_task(self._give_back(hold, after))
        self._given_back.add(task)
        task.add_done_callback(self._given_back.discard)
        return task

    async def _give_back(self, hold: Hold, after: Awaitable[object] | None) -> bool:
        try:
            if after is not None:
                await asyncio.gather(after, return_exceptions=True)
            return await self._remove(hold)
        except asyncio.CancelledError:
            _warn_that_it_stays(hold, "its event loop has ended")
            raise
        except Exception as error:
            _warn_that_it_stays(hold, error)
            return True

    async def _remove(self, hold: Hold) -> bool:
        documents, name = self._store.document_store(), _name(hold.stream)
        for _ in range(_TRIES):
            if hold.etag and await documents.delete(name, hold.etag):
                return True
            holder = await self._look(documents, hold.stream)
            if holder is None or holder.token != hold.token:
                return holder is None
            hold = hold._replace(etag=holder.etag)
        _warn_that_it_stays(hold, "it is shown as it was before")  # by a replica that lags
        return True

    async def _look(self, documents: DocumentStore, stream: StreamId, before: Holder | None = None) -> Holder | None:
        """What the document says; `before`: what it said when the same caller looked last."""
        name = _name(stream)
        document = await documents.read(name)
        if document is None:
            self._seen.gone(name)
            return None
        holder = Holder.of(document, self._seen.saw(name, str(document.get("_etag", ""))))
        if before is not None and before.etag == holder.etag:
            return holder._replace(since=min(before.since, holder.since))
        return holder

    def _has_expired(self, holder: Holder) -> bool:
        """Whether it was seen as it is for as long as it lasts without being renewed."""
        return self.clock.monotonic() - holder.since >= holder.ttl


async def holder_at(store: EventStore, head: CheckpointEvent) -> Holder | None:
    """Who has the claim on the run that ends with `head`, for who has none and writes checkpoints into it; None:
    nobody, or whoever had it has left it. A run whose head is under no claim costs no look.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    return await Claims(store, SYSTEM_CLOCK).holder(head.stream) if head.claim else None


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


def _not_taken(hold: Hold, why: str) -> ClaimLostError:
    """The error of a claim that was lost before it was taken."""
    stream = hold.stream
    return ClaimLostError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} was not claimed: {why}. Nothing was saved: "
        "claim it again, with a longer ttl where the store is slow.",
        stream=stream,
        epoch=0,
    )


def _warn_that_it_stays(hold: Hold, why: object) -> None:
    logger.warning(
        "The claim on run %r of workflow %r could not be given back, and expires in %g s: %s",
        hold.stream.run_id,
        hold.stream.workflow_name,
        hold.ttl,
        why,
    )


def _by(holder: Holder | None) -> str:
    return "its document was removed" if holder is None else f"the run is {holder.named()}"


def _carried(stands: InForce) -> Annotation | None:
    """What a claim repeats of what was said about its run."""
    said = stands.said if stands.knows_outcome else msgspec.structs.replace(stands.said, outcome=None, reason=None)
    if said.outcome is None and not said.tags and not said.hold:
        return None
    return msgspec.structs.replace(said, carried=True)


def _document(hold: Hold) -> Document:
    expires_at = datetime.now(UTC) + timedelta(seconds=hold.ttl)
    return {
        "id": _name(hold.stream),
        "owner": shortened(hold.owner, _OWNER),
        "token": hold.token,
        "lasts": hold.ttl,  # Cosmos DB removes an item when its `ttl` is over, and takes whole numbers only
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


def claimed(stream: StreamId, holder: Holder | None) -> RunClaimedError:
    """The error of who finds that somebody else has the claim on a run; None: others are about to take it."""
    how = "being claimed by others at this moment" if holder is None else holder.named()
    ttl = LONGEST_CLAIM if holder is None else holder.ttl
    return RunClaimedError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} is {how}. Nothing was done: try again later, or "
        f"wait for it. Where its holder died, it is free to a process that has seen it unchanged for {ttl:g} s: one "
        f"that waits so long (wait={ttl:g}, --wait {ttl:g}), or that lives on and tries again then. Its document is "
        f"{_name(stream)}.",
        stream=stream,
        owner="" if holder is None else holder.owner,
        expires_at="" if holder is None else holder.expires_at,
    )


def _no_run(stream: StreamId) -> RunNotFoundError:
    return RunNotFoundError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} has no events: there is nothing to claim. Claim a "
        "run that has a checkpoint; `eventckpt runs` lists those there are."
    )
