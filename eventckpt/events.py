"""What a stored event is: the immutable records that every other module passes around.

An event is a header, readable by anyone without decoding, and a payload, the encoded state. `Payload.data` is
the only large field: listings leave it empty (`b""`) and carry everything else.

`gc=False`: records hold texts, numbers and each other, never anything that could hold them in turn. So the collector of
cycles need not look at them, which it otherwise does again and again while thousands are read.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

import msgspec

from .event_parts import (
    NO_SUMMARY,
    REMOVALS,
    Annotation,
    ForkPoint,
    Migration,
    Outcome,
    Payload,
    PendingRequest,
    Pruned,
    Removal,
    RemovedRun,
    StreamId,
    Summary,
    Turn,
)
from .moments import order_of
from .text import described, is_unicode, safe

__all__ = [
    "FIRST_SCHEMA",
    "MAX_REASON",
    "MAX_REMOVED",
    "MAX_RUN_ID",
    "MAX_SEQ",
    "MAX_TAG",
    "MAX_TAGS",
    "NO_SUMMARY",
    "REMOVALS",
    "SCHEMA",
    "SCHEMA_OF_MIGRATIONS",
    "SCHEMA_OF_SECOND_DELTAS",
    "SCHEMA_OF_SESSIONS",
    "Annotation",
    "Answer",
    "CheckpointEvent",
    "EventSchema",
    "EventType",
    "ForkPoint",
    "Migration",
    "Outcome",
    "Payload",
    "PendingRequest",
    "Pruned",
    "Removal",
    "RemovedRun",
    "RunInfo",
    "RunStatus",
    "StreamId",
    "Summary",
    "Turn",
    "check_run_id",
]

EventType: TypeAlias = Literal["checkpoint", "tombstone", "turn", "session"]
"""checkpoint: the state of a run; tombstone: what was there counts no more; turn: what one agent run added to a
session; session: what a host keeps of a session beside its turns. The last two lie in a store's `sessions()` only."""
RunStatus: TypeAlias = Literal["running", "waiting", "done", "open", "failed", "cancelled", "idle"]
"""running: messages are in flight; waiting: none, but requests are pending; done: a graph workflow with neither, or
annotated so; open: nothing says whether the run ended; failed, cancelled: annotated so. idle: what documents of 0.1.0
say of a run that is done or open; never written."""
MAX_RUN_ID: Final = 255
"""Characters in a run id."""

MAX_TAGS: Final = 20
"""Tags that a run has at a time."""

MAX_TAG: Final = 256
"""Characters in the name of a tag, and in its value."""

MAX_REASON: Final = 1_000
"""Characters in the reason of an outcome."""

MAX_REMOVED: Final = 256
"""Runs that one event tells of as removed."""

MAX_SEQ: Final = (1 << 63) - 1
"""No event has a later seq. What a header claims may be any number: beyond this one, there is no such event."""

FIRST_SCHEMA: Final = 1
"""The schema of an event without fields that 0.1 does not know, which 0.1 reads."""

SCHEMA_OF_MIGRATIONS: Final = 2
"""The schema of an event with a `migration`."""

SCHEMA_OF_SECOND_DELTAS: Final = 3
"""The schema of an event whose payload is a delta against a delta."""

SCHEMA_OF_SESSIONS: Final = 4
"""The schema of an event of a session: of type `turn` or `session`, or of a tombstone that clears one."""

SCHEMA: Final = SCHEMA_OF_SESSIONS
"""The latest schema that this version knows."""


_NAMED: Final[dict[EventType, tuple[str, str, str]]] = {
    "checkpoint": ("Checkpoint", "run", "workflow"),
    "tombstone": ("Checkpoint", "run", "workflow"),
    "turn": ("Turn", "session", "source"),
    "session": ("State", "session", "source"),
}
"""What the message of an error calls an event, and its stream by."""


class Answer(NamedTuple):
    """How a request was answered, as the first checkpoint saved after the answer tells it."""

    request_id: str
    actor: str | None
    """Who answered, where that was said."""
    recorded_at: str
    seq: int
    checkpoint_id: str
    has_response: bool
    """Whether the log still has the response."""
    response: object


class CheckpointEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One immutable record in the stream of a run, or of a session.

    Of a session, `workflow_name` is the provider's `source_id`, `run_id` the session's id, and `checkpoint_id` the id
    of the turn.
    """

    type: EventType
    workflow_name: str
    run_id: str
    seq: int
    """1, 2, 3, … in commit order, without gaps."""
    checkpoint_id: str
    """The checkpoint that this event holds or, for a tombstone, deletes."""
    previous_checkpoint_id: str | None = None
    timestamp: str
    """ISO 8601; the checkpoint's own, or for a tombstone the time of the deletion. Never used for order in a run."""
    iteration_count: int = 0
    graph_signature_hash: str = ""
    checkpoint_version: str = ""
    summary: Summary = NO_SUMMARY
    payload: Payload | None = None
    """None for a tombstone."""
    actor: str | None = None
    """Who wrote it, as the storage was told."""
    recorded_at: str
    """ISO 8601 in UTC: when the writer made the event."""
    forked_from: ForkPoint | None = None
    """Set on the first event of a fork."""
    pruned: tuple[Pruned, ...] = ()
    """Of a tombstone that records a removal: every stretch removed from this run so far. Its checkpoint id is empty."""
    migration: Migration | None = None
    """Of a checkpoint that a migration made: which. Such an event has the schema `SCHEMA_OF_MIGRATIONS`."""
    turn: Turn | None = None
    """Of a turn, and only of one."""
    cleared: dict[str, int] | None = None
    """Of a tombstone that clears a session: by the run id of each of its branches, up to which seq it is hidden. Of the
    stream itself all before is, and all that it was forked from. Its checkpoint id is empty. Of the event that begins a
    fork of a session: what was hidden by then, in each stream that it goes on from."""
    annotation: Annotation | None = None
    """Of a tombstone without checkpoint id: what somebody says about the run. Of a claim and of a record of a removal:
    what stays in force, `carried`; so that the newest event without checkpoint id tells all of it, and `pruned` too."""
    claim: int | None = None
    """The epoch of the claim that was in force when this was written; of a tombstone without checkpoint id at whose own
    seq it is: the event that took it. None: no claim was, or a version before 0.3 wrote it."""
    traceparent: str | None = None
    """W3C trace context of the span that wrote it, where one was recording."""
    closes: bool = False
    """Of a record of a removal: the whole run was removed on purpose. Whoever remembers the run meets a conflict, and
    whoever does not may use its id again, behind this."""
    removal: Removal | None = None
    """Of a tombstone of the stream `REMOVALS` of a workflow, and only there: which runs were removed."""
    digest: str = ""
    """SHA-256, hexadecimal; see `eventckpt.chain`."""
    previous_digest: str = ""
    """The digest of the event before; of a fork's first event, of the event it forked from; else empty."""
    schema: int = FIRST_SCHEMA
    """Higher for an event with a field that earlier versions do not know; see docs/event-format.md."""

    @property
    def stream(self) -> StreamId:
        """The key of the stream that this event belongs to."""
        return StreamId(self.workflow_name, self.run_id)

    @property
    def is_claim(self) -> bool:
        """Whether it took a claim: its seq is the epoch."""
        return self.type == "tombstone" and not self.checkpoint_id and self.claim == self.seq

    @property
    def is_annotation(self) -> bool:
        """Whether it says something new about the run."""
        return self.annotation is not None and not self.annotation.carried

    @property
    def is_removal(self) -> bool:
        """Whether it records a removal, and does not only repeat what was recorded before."""
        return bool(self.pruned) and not self.is_claim and not self.is_annotation

    @property
    def what(self) -> str:
        """What kind of event it is, in words."""
        if self.is_claim:
            return "claim"
        if self.is_annotation:
            return "annotation"
        if self.removal is not None:
            return "removal"
        if self.closes:
            return "closing record"
        return "prune record" if self.is_removal else "migration" if self.migration else self.type

    def named(self) -> str:
        """This event as the message of an error names it. What is stored is shown in it, and not obeyed."""
        what, stream, group = _NAMED[self.type]
        named = f"{what} {safe(self.checkpoint_id)}" if self.checkpoint_id else what
        return f"{named} (seq {self.seq} of {stream} {self.run_id!r}, {group} {self.workflow_name!r})"

    def without_state(self) -> str:
        """That it holds no state, in a sentence without its full stop: what else it is, and which."""
        _, stream, group = _NAMED[self.type]
        log = f"{stream} {self.run_id!r} of" if self.stream.is_run else "the removals of"
        article = "an" if self.what[0] in "aeiou" else "a"
        return f"Seq {self.seq} of {log} {group} {self.workflow_name!r} is {article} {self.what}, which holds no state"

    def header(self) -> CheckpointEvent:
        """This event without its payload's data, as listings give it."""
        if self.payload is None or not self.payload.data:
            return self
        return msgspec.structs.replace(self, payload=msgspec.structs.replace(self.payload, data=b""))

    @classmethod
    def unreadable(
        cls,
        *,
        kind: object,
        workflow_name: object,
        run_id: object,
        seq: object,
        checkpoint_id: object,
        digest: object,
        schema: object = FIRST_SCHEMA,
    ) -> CheckpointEvent:
        """What is left of a stored event whose header is damaged, or of a later schema: what its key says, and no
        payload."""
        return cls(
            type=cast(EventType, kind) if kind in get_args(EventType) else "checkpoint",
            workflow_name=str(workflow_name),
            run_id=str(run_id),
            seq=seq if isinstance(seq, int) else 0,
            checkpoint_id=str(checkpoint_id),
            digest=str(digest),
            timestamp="",
            recorded_at="",
            schema=schema if isinstance(schema, int) else FIRST_SCHEMA,
        )


class EventSchema(msgspec.Struct, frozen=True, gc=False):
    """All that can be read of an event whose other fields may be those of a later version."""

    schema: int = FIRST_SCHEMA


class RunInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a run amounts to: the "latest" document, folded from the headers of its events (`eventckpt.runs`).

    A pointer with a small header. All sizes are in bytes, all times ISO 8601.
    """

    workflow_name: str
    run_id: str
    seq: int
    """The seq of the head: how far this document has read."""
    digest: str
    """The digest of the head."""
    checkpoint_id: str | None = None
    """The live checkpoint that was committed last; None if all are deleted."""
    checkpoint_seq: int = 0
    base_seq: int | None = None
    """What this checkpoint's payload is a delta against, if it is one: the first of `Payload.bases`."""
    iteration_count: int = 0
    timestamp: str = ""
    """The checkpoint's own."""
    status: RunStatus = "idle"
    """0.1.0 left it out where it was `idle`, which is what a document without it says; no other is left out."""
    messages: dict[str, int] = {}
    """Of that checkpoint: messages in flight, counted by the executor that sent them."""
    pending_requests: tuple[PendingRequest, ...] = ()
    raw_size: int = 0
    """Of that checkpoint."""
    checkpoints: int = 0
    """Checkpoint events that count, superseded and deleted ones included. What was recorded as removed counts no more,
    here and below; documents of 0.1.0 counted it on."""
    tombstones: int = 0
    removed: int = 0
    """Seqs up to `seq` that the run has recorded as removed; documents of 0.1.0 lack it."""
    stored_size: int = 0
    """Of all payloads of the run."""
    actor: str | None = None
    """Who wrote the head."""
    started_at: str = ""
    """When the first event that counts was recorded."""
    recorded_at: str = ""
    """When the head was recorded."""
    forked_from: ForkPoint | None = None
    session: str | None = None
    """Of a branch: the session that it is a branch of."""
    outcome: Outcome | None = None
    """As it was annotated since its last checkpoint."""
    reason: str | None = None
    tags: dict[str, str] = {}
    hold: bool = False
    """Whether nothing of it may be removed."""
    traceparent: str | None = None
    """Of that checkpoint."""
    schema: int = FIRST_SCHEMA

    @property
    def stream(self) -> StreamId:
        """The key of the run's stream."""
        return StreamId(self.workflow_name, self.run_id)

    @property
    def waiting_since(self) -> str:
        """When the oldest of its questions was asked, ISO 8601; empty where it has none, or was cancelled."""
        if not self.pending_requests or self.status == "cancelled":
            return ""
        return min(map(self.asked_at, self.pending_requests), key=order_of)

    def asked_at(self, request: PendingRequest) -> str:
        """When one of its questions was asked, ISO 8601. Of an event of before 0.3, the time of the checkpoint that
        waits for it."""
        return request.asked_at or self.timestamp or self.recorded_at

    @property
    def is_emptied(self) -> bool:
        """Whether nothing of it is left but what records its removal: then no list of runs has it."""
        return self.removed > 0 and self.checkpoints == 0

    @property
    def seqs_known(self) -> int:
        """Of how many of the seqs up to `seq` this knows: as events that count, or as removed. As many as `seq` says,
        unless the log lacked some that may still come, such as by an import."""
        return self.checkpoints + self.tombstones + self.removed


def check_run_id(run_id: str) -> str:
    """`run_id`, if it can name a run.

    Raises:
        TypeError: it is not text.
        ValueError: it is empty, longer than 255 characters, or not valid Unicode.
    """
    if not isinstance(run_id, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"A run id is text, not {described(run_id)}.")
    if not 1 <= len(run_id) <= MAX_RUN_ID:
        raise ValueError(f"A run id has 1 to {MAX_RUN_ID} characters, this one has {len(run_id)}: {described(run_id)}.")
    if not is_unicode(run_id):
        raise ValueError(f"A run id must be valid Unicode: {described(run_id)}.")
    return run_id
