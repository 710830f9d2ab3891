"""Every exception of eventckpt, in one place.

All but one are `agent_framework.WorkflowCheckpointException`s, so code that already handles the framework's own
checkpoint errors handles these too:

    WorkflowCheckpointException
        CheckpointEncodeError
            CheckpointTypeNotAllowedError
        CheckpointDecodeError
            CheckpointTypeNotAllowedError
        CheckpointNotFoundError
        RunNotFoundError
        RunNotRemovedError
        AmbiguousNameError
        CheckpointConflictError
            SessionConflictError
            ClaimLostError
        RunClaimedError
        RequestNotPendingError
        ResponseTypeError
        AnswerMissingError
        WorkflowExitError
        WorkflowRunningError
        UnsupportedFrameworkError
        RetentionPolicyError
        CheckpointStoreError
            StoreLockedError
            StoreUnavailableError
            StoreFullError
            StoreReadOnlyError
                StoreNotFoundError
            StoreCorruptError
            StoreFormatError
                StoreMissingError
            StoreReplacedError
    RuntimeError
        SessionConflictError
    TypeError
        ResponseTypeError
    ValueError
        RetentionPolicyError
    Exception
        StreamConflict

A type that is not allowed is refused at save and at load: whoever handles what cannot be encoded, or what cannot be
decoded, handles that too. `StreamConflict` is a fact that an engine reports to the layer above it, which turns it into
a fork or into a `CheckpointConflictError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent_framework import WorkflowCheckpointException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events import Answer, CheckpointEvent, StreamId

__all__ = [
    "AmbiguousNameError",
    "AnswerMissingError",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointNotFoundError",
    "CheckpointStoreError",
    "CheckpointTypeNotAllowedError",
    "ClaimLostError",
    "RequestNotPendingError",
    "ResponseTypeError",
    "RetentionPolicyError",
    "RunClaimedError",
    "RunNotFoundError",
    "RunNotRemovedError",
    "SessionConflictError",
    "StoreCorruptError",
    "StoreFormatError",
    "StoreFullError",
    "StoreLockedError",
    "StoreMissingError",
    "StoreNotFoundError",
    "StoreReadOnlyError",
    "StoreReplacedError",
    "StoreUnavailableError",
    "StreamConflict",
    "UnsupportedFrameworkError",
    "WorkflowExitError",
    "WorkflowRunningError",
]


class _Placed(Exception):  # noqa: N818 - shared by two errors, and none by itself
    """Is about a value somewhere in a checkpoint."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str] = []
        """Where in the checkpoint the value is, outermost step first, filled in while the error travels out."""

    def __str__(self) -> str:
        return f"{self.message} (at {''.join(self.path)})" if self.path else self.message


class CheckpointEncodeError(_Placed, WorkflowCheckpointException):
    """A value cannot be stored so that a load gives it back. Nothing was written."""


class CheckpointDecodeError(_Placed, WorkflowCheckpointException):
    """Stored bytes are not a checkpoint that this codec can rebuild: damaged, hostile, or of another version."""


class CheckpointTypeNotAllowedError(CheckpointEncodeError, CheckpointDecodeError):
    """A type is not on the allow-list, at save or at load.

    `type_key` is the exact `"module:qualname"` to add to `allowed_checkpoint_types`.
    """

    def __init__(self, message: str, *, type_key: str) -> None:
        super().__init__(message)
        self.type_key = type_key

    def about(self, where: str) -> CheckpointTypeNotAllowedError:
        """The same refusal, its message beginning with the event or file that it is about."""
        error = CheckpointTypeNotAllowedError(f"{where}{self.message}", type_key=self.type_key)
        error.path = [*self.path]
        return error


class CheckpointNotFoundError(WorkflowCheckpointException):
    """No live checkpoint has this id."""


class RunNotFoundError(WorkflowCheckpointException):
    """No run has this name, or begins with it; `near` are some whose names come close, where they were looked for.
    `said` is the message without `hint`, which names them."""

    def __init__(self, message: str, *, near: Sequence[StreamId] = (), hint: str = "") -> None:
        super().__init__(message + hint)
        self.said: str = message
        self.near: Sequence[StreamId] = near


class RunNotRemovedError(WorkflowCheckpointException):
    """A run was to be removed as a whole, and was left alone. Nothing of it was removed.

    `stream` is the run. `kind` says why: "held": it is on hold; "unfinished": it has not ended; "damaged": it cannot be
    read whole by this version; "moved": it was written to meanwhile.
    """

    def __init__(
        self, message: str, *, stream: StreamId, kind: Literal["held", "unfinished", "damaged", "moved"]
    ) -> None:
        super().__init__(message)
        self.stream = stream
        self.kind: Literal["held", "unfinished", "damaged", "moved"] = kind


class AmbiguousNameError(WorkflowCheckpointException):
    """Several runs or checkpoints begin with the name that was given; `candidates` are some of them, as people read
    them, and `found` what they stand for: runs, or ids of checkpoints. `said` is the same without naming them."""

    def __init__(
        self, message: str, *, candidates: list[str], found: Sequence[StreamId | str] = (), said: str = ""
    ) -> None:
        super().__init__(message)
        self.said: str = said or message
        self.candidates = candidates
        self.found: Sequence[StreamId | str] = found


class CheckpointConflictError(WorkflowCheckpointException):
    """Another writer advanced the run, and the storage was told to raise instead of to fork.

    `stream` is the run, `expected_seq` the position that this save wanted, `head` the event that the run ends
    with now.
    """

    def __init__(self, message: str, *, stream: StreamId, expected_seq: int, head: CheckpointEvent | None) -> None:
        super().__init__(message)
        self.stream = stream
        self.expected_seq = expected_seq
        self.head = head


class SessionConflictError(CheckpointConflictError, RuntimeError):
    """Another writer has written to a session, or to what else a host keeps by a name, since it was read. Nothing was
    written: read it again, then write. The framework's hosts know it as a `RuntimeError`.

    `stream` is the source and the key, the others are those of `CheckpointConflictError`.
    """


class ClaimLostError(CheckpointConflictError):
    """The claim through which something was to be written is another's by now, or may be. Nothing of it was written.
    What was acknowledged before is there; read the run to go on from it.

    `stream` is the run and `epoch` that of the claim that was lost; 0: it was lost before it was taken. `expected_seq`
    and `head` are those of `CheckpointConflictError`, and 0 and None where no save found it out.
    """

    def __init__(
        self,
        message: str,
        *,
        stream: StreamId,
        epoch: int,
        expected_seq: int = 0,
        head: CheckpointEvent | None = None,
    ) -> None:
        super().__init__(message, stream=stream, expected_seq=expected_seq, head=head)
        self.epoch = epoch


class RunClaimedError(WorkflowCheckpointException):
    """Somebody else has the claim on a run. Nothing was done.

    `stream` is the run, `owner` who has it, `expires_at` until when unless it is renewed, ISO 8601 by the wall clock of
    whoever wrote it: for people. Either is empty where the claim does not tell.
    """

    def __init__(self, message: str, *, stream: StreamId, owner: str, expires_at: str) -> None:
        super().__init__(message)
        self.stream = stream
        self.owner = owner
        self.expires_at = expires_at


class RequestNotPendingError(WorkflowCheckpointException):
    """A run does not wait for the answer to a request. Nothing was done.

    `state` is "unknown" of a request that the run has never asked; "answered", and `answer` says by whom and when; or
    "expired": the run went on, went back or was cancelled without an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str,
        state: Literal["unknown", "answered", "expired"],
        answer: Answer | None = None,
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.state: Literal["unknown", "answered", "expired"] = state
        self.answer = answer


class ResponseTypeError(WorkflowCheckpointException, TypeError):
    """A response is not of the type that its request asks for. Nothing was done."""

    def __init__(self, message: str, *, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class AnswerMissingError(WorkflowCheckpointException):
    """A functional workflow asks again what was answered before, so that the answer that was given did not reach it.
    Nothing was recorded: give the earlier answers beside the new one.

    `request_ids` are those that it asks again.
    """

    def __init__(self, message: str, *, request_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.request_ids = request_ids


class WorkflowExitError(WorkflowCheckpointException):
    """A workflow's code raised `SystemExit` while it went on with an answer: that is the run's failure, and not the end
    of the program that it runs in."""


class WorkflowRunningError(WorkflowCheckpointException):
    """The workflow object is in use, and cannot go on with another run meanwhile. Nothing was done."""


class UnsupportedFrameworkError(WorkflowCheckpointException):
    """The installed agent_framework lacks, or has changed, something that eventckpt needs."""


class RetentionPolicyError(WorkflowCheckpointException, ValueError):
    """A retention policy cannot be carried out as it is written. Nothing was removed."""


class CheckpointStoreError(WorkflowCheckpointException):
    """The engine could not do what it was asked. What was acknowledged before is still there."""


class StoreLockedError(CheckpointStoreError):
    """Another process held the write lock for longer than the store waits. Trying again is safe."""


class StoreUnavailableError(CheckpointStoreError):
    """The service throttled or could not be reached, for longer than the store tries; or the system refused what passes
    by itself, such as a read of the disk, a further open file, or memory. Trying again is safe."""


class StoreFullError(CheckpointStoreError):
    """There is no room left. Nothing of the failed write was kept."""


class StoreReadOnlyError(CheckpointStoreError):
    """The store, or the folder it lies in, cannot be written or opened."""


class StoreNotFoundError(StoreReadOnlyError):
    """There is no such store, and looking makes none."""


class StoreCorruptError(CheckpointStoreError):
    """The store's bytes are damaged."""


class StoreFormatError(CheckpointStoreError):
    """The file is something else, or was written by a version that this one does not know."""


class StoreMissingError(StoreFormatError):
    """A container that the store writes to is not there: it was deleted, or could not be made. The message says how it
    is made; then the same request may succeed. Whoever only looks gets a `StoreNotFoundError`."""


class StoreReplacedError(CheckpointStoreError):
    """The file, or a container, under an open store is gone, or is another one by now. Nothing was acknowledged since;
    only a new store object can go on, so that trying again is of no use."""


class StreamConflict(Exception):  # noqa: N818 - a fact an engine reports, not an error a user sees
    """An append did not commit because its seq is not the one after the head.

    `head` is the header of the stream's last event, or None for a stream without events.
    """

    def __init__(self, stream: StreamId, seq: int, head: CheckpointEvent | None) -> None:
        at = f"its head is seq {head.seq}" if head else "it has no events"
        super().__init__(f"seq {seq} cannot be appended to run {stream.run_id!r} of {stream.workflow_name!r}: {at}")
        self.stream = stream
        self.seq = seq
        self.head = head
