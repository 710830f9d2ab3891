"""The fold from a run's events to its `RunInfo`: one definition for the projection, its comparison, and listings.

Works on headers; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .events import CheckpointEvent, RunInfo, RunStatus

__all__ = ["advance", "fold"]


def fold(headers: Iterable[CheckpointEvent]) -> RunInfo | None:
    """What a run amounts to after `headers`, all of its events in order of seq; None without events."""
    info: RunInfo | None = None
    live: dict[str, CheckpointEvent] = {}
    for header in headers:
        live.pop(header.checkpoint_id, None)
        if header.type == "checkpoint":
            live[header.checkpoint_id] = header
        info = _counted(info, header)
    return _pointing(info, next(reversed(live.values()), None)) if info else None


def advance(info: RunInfo | None, header: CheckpointEvent) -> RunInfo | None:
    """`info` after one more event of its run, or of a run that begins.

    None where `info` does not tell enough: the event deletes the latest checkpoint, and what was the latest before
    it only the log knows. Fold the log again then.

    Raises:
        ValueError: `header` is not the event right after `info`.
    """
    expected = info.seq + 1 if info else 1
    if header.seq != expected or (info and info.stream != header.stream):
        raise ValueError(f"seq {header.seq} of {header.stream} does not follow seq {expected - 1}")
    counted = _counted(info, header)
    if header.type == "checkpoint":
        return _pointing(counted, header)
    return None if counted.checkpoint_id == header.checkpoint_id else counted


def _counted(info: RunInfo | None, header: CheckpointEvent) -> RunInfo:
    """`info` with everything that adds up over the events, or that the head alone tells."""
    before = info or RunInfo(
        workflow_name=header.workflow_name,
        run_id=header.run_id,
        seq=0,
        digest="",
        started_at=header.recorded_at,
        forked_from=header.forked_from,
    )
    is_checkpoint = header.type == "checkpoint"
    return msgspec.structs.replace(
        before,
        seq=header.seq,
        digest=header.digest,
        checkpoints=before.checkpoints + is_checkpoint,
        tombstones=before.tombstones + (not is_checkpoint),
        stored_size=before.stored_size + (header.payload.stored_size if header.payload else 0),
        actor=header.actor,
        recorded_at=header.recorded_at,
    )


def _pointing(info: RunInfo, latest: CheckpointEvent | None) -> RunInfo:
    """`info` with `latest` as its live checkpoint."""
    if latest is None:
        return msgspec.structs.replace(
            info,
            checkpoint_id=None,
            checkpoint_seq=0,
            base_seq=None,
            iteration_count=0,
            timestamp="",
            status="idle",
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
        status=_status(latest),
        messages=latest.summary.messages,
        pending_requests=latest.summary.pending_requests,
        raw_size=latest.payload.raw_size if latest.payload else 0,
    )


def _status(event: CheckpointEvent) -> RunStatus:
    if any(event.summary.messages.values()):
        return "running"
    return "waiting" if event.summary.pending_requests else "idle"
