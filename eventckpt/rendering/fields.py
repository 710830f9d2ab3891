"""What each thing of a store is as JSON: the same keys wherever it is told, always all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..audit.diff import Difference
from ..audit.glance import Fork
from ..audit.inbox import Question
from ..audit.lineage import Node
from ..audit.removed import Removed
from ..audit.runs import Counts
from ..audit.verify import Verdict
from ..codec.tree import Tree
from ..errors import AmbiguousNameError, RequestNotPendingError
from ..events import CheckpointEvent, Payload, RunInfo, StreamId
from ..runs import status as status_of
from ..storage.claiming import Holder
from ..text import safe_json
from ..traceparent import trace_id_in
from .trees import plain_tree
from .words import status_of_run

__all__ = [
    "claim_fields",
    "count_fields",
    "difference_fields",
    "error_fields",
    "event_fields",
    "fields_of",
    "fork_fields",
    "held_fields",
    "line_of",
    "node_fields",
    "question_fields",
    "removed_fields",
    "run_fields",
    "summary_fields",
    "verdict_fields",
]


def line_of(kind: str | None, fields: Mapping[str, Any]) -> str:
    """A JSON line: one object with its `kind`, where it has one, every character of it printable."""
    builtins = msgspec.to_builtins({**({} if kind is None else {"kind": kind}), **fields})
    return safe_json(json.dumps(builtins, ensure_ascii=True, allow_nan=False))


def error_fields(code: int, error: BaseException) -> dict[str, Any]:
    """What went wrong as JSON.

    Args:
        code: that a command ends with.
        error: why.
    """
    candidates = error.candidates if isinstance(error, AmbiguousNameError) else ()
    told: dict[str, Any] = {"candidates": candidates, "request_id": None, "state": None, "answer": None}
    if isinstance(error, RequestNotPendingError):
        first = error.answer
        answer = None if first is None else {"actor": first.actor, "recorded_at": first.recorded_at, "seq": first.seq}
        told |= {"request_id": error.request_id, "state": error.state, "answer": answer}
    return {"code": code, "message": str(error), **told}


def held_fields(event: CheckpointEvent, tree: Mapping[str, Tree]) -> dict[str, Any]:
    """An event with what it holds, as JSON."""
    return {**event_fields(event), "tree": {key: plain_tree(part) for key, part in tree.items()}}


def event_fields(event: CheckpointEvent) -> dict[str, Any]:
    """The header of an event as JSON, and in a word what it is. What is deleted says nothing of how the run stands."""
    return fields_of(event.header()) | {
        "what": event.what,
        "status": status_of(event) if event.type == "checkpoint" else None,
        "trace_id": trace_id_in(event.traceparent),
    }


def fields_of(value: Any) -> Any:
    """A record as JSON has it, and all in it: with each of its fields, also where it says nothing. The data of a
    payload is no part of it."""
    if isinstance(value, msgspec.Struct):
        without = "data" if isinstance(value, Payload) else ""
        return {name: fields_of(getattr(value, name)) for name in value.__struct_fields__ if name != without}
    if isinstance(value, tuple):
        return list(map(fields_of, cast("tuple[object, ...]", value)))
    return value


def run_fields(info: RunInfo) -> dict[str, Any]:
    """A run as JSON."""
    return fields_of(info) | {"status": status_of_run(info), "trace_id": trace_id_in(info.traceparent)}


def count_fields(counts: Counts) -> dict[str, Any]:
    """How many runs there are, and how they stand, as JSON."""
    return {"runs": counts.all, "statuses": dict(sorted(counts.runs.items()))}


def removed_fields(removed: Removed) -> dict[str, Any]:
    """The same as JSON, of a run that is named beside it."""
    return {name: value for name, value in removed._asdict().items() if name != "stream"}


def difference_fields(difference: Difference) -> dict[str, object]:
    """A difference as JSON."""
    return {
        "change": difference.kind,
        "path": difference.path,
        "before": None if difference.kind == "added" else plain_tree(difference.before),
        "after": None if difference.kind == "removed" else plain_tree(difference.after),
    }


def question_fields(question: Question) -> dict[str, Any]:
    """A question as JSON, with the run that asks it."""
    fields = question._asdict() | {"request": fields_of(question.request)}
    return {**fields_of(fields.pop("stream")), **fields}


def claim_fields(stream: StreamId, holder: Holder) -> dict[str, Any]:
    """A claim on a run as JSON."""
    return fields_of(stream) | {"owner": holder.owner, "expires_at": holder.expires_at, "ttl": holder.ttl}


def fork_fields(fork: Fork) -> dict[str, Any]:
    """A run that forked from another one as JSON."""
    return fields_of(fork.stream) | {"forked_from": fields_of(fork.origin)}


def node_fields(depth: int, branch: bool, node: Node) -> dict[str, Any]:
    """A checkpoint of a lineage as JSON, as `walk` gives it."""
    return {
        "checkpoint_id": node.checkpoint_id,
        "depth": depth,
        "branch": branch,
        "event": event_fields(node.event) if node.event else None,
        "children": [child.checkpoint_id for child in node.children],
        "forks": [
            {"workflow_name": fork.workflow_name, "run_id": fork.run_id, "checkpoint_id": fork.checkpoint_id}
            for fork in node.forks
        ],
    }


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What was found of a run as JSON."""
    return fields_of(verdict.stream) | {
        "ok": verdict.ok,
        "events": verdict.events,
        "pruned": verdict.pruned,
        "head_seq": verdict.head_seq,
        "head_digest": verdict.head_digest,
        "not_gone_yet": verdict.not_gone_yet,
        "removed": None if verdict.removed is None else removed_fields(verdict.removed),
        "problems": [{"seq": bad.seq, "why": bad.why, "detail": bad.detail} for bad in verdict.problems],
        "notes": list(verdict.notes),
    }


def summary_fields(runs: int, events: int, bad_runs: int) -> dict[str, Any]:
    """What was verified as JSON, and how many of the runs are not what was written."""
    return {"runs": runs, "events": events, "bad_runs": bad_runs}
