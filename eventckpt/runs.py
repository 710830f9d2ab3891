"""The fold from a run's events to its `RunInfo`: one definition for the projection, its comparison, and listings.

Works on headers; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from .events import CheckpointEvent, RunInfo, RunStatus, Summary

__all__ = ["Folding", "advance", "agree", "fold", "pointing", "status"]

_IDLE: Final[frozenset[RunStatus]] = frozenset({"idle", "done", "open"})


def status(of: CheckpointEvent | Summary) -> RunStatus:
    """How a run stands whose live checkpoint has this header.

    Only of a graph workflow do checkpoints tell that it ended: each lists its executors. A functional workflow saves
    the same after its last step as after any other, and lists none.
    """
    summary = of.summary if isinstance(of, CheckpointEvent) else of
    if any(summary.messages.values()):
        return "running"
    if summary.pending_requests:
        return "waiting"
    return "done" if summary.executor_ids else "open"


def agree(one: RunStatus, other: RunStatus) -> bool:
    """Whether one run can be both: 0.1.0 said `idle` of one that is done or open."""
    return one == other or ("idle" in (one, other) and {one, other} <= _IDLE)


def fold(headers: Sequence[CheckpointEvent]) -> RunInfo | None:
    """What a run amounts to after `headers`, all of its events in order of seq; None without events."""
    live: dict[str, CheckpointEvent] = {}
    for header in headers:
        _note(live, header)
    return pointing(_counted(None, headers), next(reversed(live.values()), None)) if headers else None


class Folding:
    """A fold that goes on: what a run amounts to after each of its events."""

    def __init__(self) -> None:
        self._live: dict[str, CheckpointEvent] = {}
        self._info: RunInfo | None = None

    def add(self, header: CheckpointEvent) -> RunInfo:
        """What the run amounts to after this event, as `fold` says it of all events up to it."""
        _note(self._live, header)
        self._info = pointing(_counted(self._info, [header]), next(reversed(self._live.values()), None))
        return self._info


def _note(live: dict[str, CheckpointEvent], header: CheckpointEvent) -> None:
    live.pop(header.checkpoint_id, None)
    if header.type == "checkpoint":
        live[header.checkpoint_id] = header


def advance(info: RunInfo | None, *headers: CheckpointEvent) -> RunInfo | None:
    """`info` after the next events of its run, at least one, or of a run that begins.

    None where `info` does not tell enough: the latest checkpoint was deleted, and what was the latest before it only
    the log knows; or `info` says `idle`, and what that stands for only the log knows. Fold the log again then.

    Raises:
        ValueError: an event is not the one right after `info`, or after the event before.
    """
    seq, stream = (info.seq, info.stream) if info else (0, headers[0].stream)
    latest: CheckpointEvent | None = None
    latest_id, deleted = info.checkpoint_id if info else None, False
    for header in headers:
        if header.seq != seq + 1 or header.stream != stream:
            raise ValueError(f"seq {header.seq} of {header.stream} does not follow seq {seq} of {stream}")
        seq = header.seq
        if header.type == "checkpoint":
            latest, latest_id, deleted = header, header.checkpoint_id, False
        elif header.checkpoint_id == latest_id:
            deleted = True
    counted = _counted(info, headers)
    if deleted or (latest is None and counted.status == "idle"):
        return None
    return pointing(counted, latest) if latest else counted


def _counted(info: RunInfo | None, headers: Sequence[CheckpointEvent]) -> RunInfo:
    """`info` with everything that adds up over the events, or that the head alone tells."""
    first, head = headers[0], headers[-1]
    before = info or RunInfo(
        workflow_name=first.workflow_name,
        run_id=first.run_id,
        seq=0,
        digest="",
        status="open",
        started_at=first.recorded_at,
        forked_from=first.forked_from,
    )
    checkpoints = sum(header.type == "checkpoint" for header in headers)
    return msgspec.structs.replace(
        before,
        seq=head.seq,
        digest=head.digest,
        checkpoints=before.checkpoints + checkpoints,
        tombstones=before.tombstones + len(headers) - checkpoints,
        stored_size=before.stored_size + sum(header.payload.stored_size for header in headers if header.payload),
        actor=head.actor,
        recorded_at=head.recorded_at,
    )


def pointing(info: RunInfo, latest: CheckpointEvent | None) -> RunInfo:
    """`info` with `latest` as its live checkpoint. Without one, nothing says that the run ended."""
    if latest is None:
        return msgspec.structs.replace(
            info,
            checkpoint_id=None,
            checkpoint_seq=0,
            base_seq=None,
            iteration_count=0,
            timestamp="",
            status="open",
            messages={},
            pending_requests=(),
            raw_size=0,
        )
    return msgspec.structs.replace(
        info,
        checkpoint_id=latest.checkpoint_id,
        checkpoint_seq=latest.seq,
        base_seq=latest.payload.base_seq if latest.payload else None,
        iteration_count=latest.iteration_count,
        timestamp=latest.timestamp,
        status=status(latest),
        messages=latest.summary.messages,
        pending_requests=latest.summary.pending_requests,
        raw_size=latest.payload.raw_size if latest.payload else 0,
    )
