"""The parts of an event's header, and its payload: the records that `events.CheckpointEvent` is made of.

`gc=False` as there.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

__all__ = [
    "NO_SUMMARY",
    "REMOVALS",
    "Annotation",
    "ForkPoint",
    "Migration",
    "Outcome",
    "Payload",
    "PendingRequest",
    "Pruned",
    "Removal",
    "RemovedRun",
    "StreamId",
    "Summary",
    "Turn",
]

Outcome: TypeAlias = Literal["done", "failed", "cancelled"]
"""How a run ended, as somebody has annotated it."""

REMOVALS: Final = ""
"""The run id of the stream in which the removals of whole runs of a workflow are recorded. No run has this id, and no
listing of runs has this stream."""


class StreamId(msgspec.Struct, frozen=True, gc=False, order=True):
    """The key of a stream: one run of one workflow."""

    workflow_name: str
    """`WorkflowCheckpoint.workflow_name`, any text."""
    run_id: str
    """An opaque text of 1 to 255 characters; `REMOVALS`: of the stream of a workflow's removals."""

    @property
    def is_run(self) -> bool:
        """Whether it is the stream of a run, and not that of removals."""
        return self.run_id != REMOVALS


class PendingRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A question that a workflow waits for an answer to."""

    request_id: str
    source_executor_id: str
    request_type: str
    """`"module:qualname"` of the request's data; a name only, nothing is imported from it."""
    asked_at: str = ""
    """ISO 8601 in UTC: when the first checkpoint of its lineage that waits for it was made; empty: of an event of
    before 0.3."""
    response_type: str = ""
    """What an answer must be, as the text of a type such as `builtins:bool`; a name only."""
    prompt: str | None = None
    """What is asked, for people, where a describer is registered for the type of the request; up to 200 characters."""


class Summary(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a checkpoint holds, readable without decoding its state."""

    executor_ids: tuple[str, ...] = ()
    """Executors with saved state, sorted."""
    messages: dict[str, int] = {}
    """Messages in flight, counted by the executor that sent them."""
    pending_requests: tuple[PendingRequest, ...] = ()
    answered_requests: tuple[str, ...] = ()
    """Ids of the requests whose responses are in flight."""
    state_keys: tuple[str, ...] = ()
    """The workflow's own state keys, sorted; the framework's reserved ones (leading underscore) are left out."""
    more_state_keys: int = 0
    """How many state keys were left out of `state_keys` to keep the header small."""


NO_SUMMARY: Final = Summary()
"""Of a checkpoint that holds nothing, and of a tombstone."""


class Payload(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The encoded state of one checkpoint. All sizes are in bytes."""

    encoding: str
    """How `data` was made from the raw MessagePack bytes."""
    base_seq: int | tuple[int, int] | None = None
    """What a delta is against, in the same stream: the seq of a snapshot, or that of a delta with the seq of its own
    snapshot behind it. None: `data` stands alone. See `bases`."""
    raw_size: int
    raw_sha256: str
    """SHA-256 of the raw bytes, hexadecimal: tells whether two events hold the same checkpoint, whatever the
    encoding, and whether a payload was rebuilt right."""
    stored_size: int
    """The size of `data`, also where a listing left `data` out."""
    data: bytes = b""
    since_base: int = 0
    """Of a delta: the stored bytes of all deltas that its lineage wrote against the same base, this one included."""
    parts: tuple[str, ...] = ()
    """Ids of the items that hold `data` where it is too large for one item; empty: `data` is here."""

    @property
    def bases(self) -> tuple[int, ...]:
        """The seqs of all events that `data` needs: what it is a delta against, and what that one rests on."""
        if self.base_seq is None:
            return ()
        return self.base_seq if isinstance(self.base_seq, tuple) else (self.base_seq,)


class ForkPoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a forked run began: the event that its lineage last saw."""

    workflow_name: str
    run_id: str
    seq: int
    """0: the lineage had seen no event, two writers began the same run at once."""
    checkpoint_id: str | None


class Pruned(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A stretch of events that were removed from a run, and what the chain of digests needs to close over it."""

    first: int
    """The seq of the first event that is gone."""
    last: int
    previous_digest: str
    """What the first of them followed: its `previous_digest`."""
    digest: str
    """The digest of the last of them, which the event after it follows."""


class RemovedRun(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A run that was removed as a whole, as its workflow's `Removal` has it."""

    run_id: str
    seq: int
    """Of the run's last event, the record that closes it. Whoever uses the run's id again goes on behind it."""
    digest: str
    """Of that event, which vouches for all before it."""


class Removal(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """That whole runs of a workflow were removed at once."""

    runs: tuple[RemovedRun, ...]
    """1 to 256."""
    reason: str | None = None
    """Why, such as by which rule of a retention policy; up to 1,000 characters."""
    archive: str | None = None
    """The name of the file that has what was removed; None: nothing was kept."""
    archive_sha256: str | None = None
    """Of that file, hexadecimal."""


class Migration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What made a checkpoint out of the one that it follows, where that was not the workflow itself. Who migrated is
    the event's `actor`, and the graph afterwards its `graph_signature_hash`."""

    name: str
    """What it is called, as a rule `module:function`. A lineage has it once."""
    graph_before: str
    """The `graph_signature_hash` of the checkpoint that it was given."""


class Turn(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a turn of a session is, readable without decoding its messages."""

    roles: dict[str, int] = {}
    """Its messages, counted by their role; empty: of the event that begins a fork of a session."""
    continues: str | None = None
    """The turn that this is a later part of, where a turn is saved after each call of the model."""
    session: str | None = None
    """Of the first event of a branch: the session that it is a branch of."""

    @property
    def messages(self) -> int:
        """How many it has."""
        return sum(self.roles.values())


class Annotation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What somebody says about a run. Tags and hold are all that are in force from here on, not what has changed."""

    outcome: Outcome | None = None
    """How the run ended, until its next checkpoint; None: this says nothing of it, and what was said before stays."""
    reason: str | None = None
    """Why, where there is an outcome."""
    tags: dict[str, str] = {}
    hold: bool = False
    """Whether nothing of the run may be removed."""
    carried: bool = False
    """Whether it only repeats what was said before, in an event that says something else."""
