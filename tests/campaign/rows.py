"""What is physically in a store, and what it amounts to: read and folded without any code of eventckpt.

Written from docs/event-format.md and docs/semantics.md alone, so that an error in the library's own fold, chain or rule
for what counts cannot hide in what checks it. Events are plain dicts with the stored names of their fields.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import msgspec

__all__ = ["Event", "Row", "Rows", "Run", "fold", "from_items", "from_sqlite", "live", "removed", "that_count"]

Event: TypeAlias = dict[str, Any]
Run: TypeAlias = tuple[str, str]
"""Workflow name and run id."""

_sorted = msgspec.msgpack.Encoder(order="sorted")

DOCUMENT: dict[str, Any] = {
    "workflow_name": None,
    "run_id": None,
    "seq": None,
    "digest": None,
    "checkpoint_id": None,
    "checkpoint_seq": 0,
    "base_seq": None,
    "iteration_count": 0,
    "timestamp": "",
    "status": "idle",
    "messages": {},
    "pending_requests": [],
    "raw_size": 0,
    "checkpoints": 0,
    "tombstones": 0,
    "stored_size": 0,
    "actor": None,
    "started_at": "",
    "recorded_at": "",
    "forked_from": None,
    "schema": 1,
}
"""The fields of a document, and what each is where it was left out."""


@dataclass
class Row:
    """One event as it is stored."""

    event: Event
    data: bytes
    position: int
    """The order of commits over all runs; 0 on an engine that has none."""

    @property
    def digest(self) -> str:
        """The digest that this event must carry."""
        fields = {name: value for name, value in self.event.items() if name != "digest"}
        if not fields.get("summary"):
            fields.pop("summary", None)
        if fields.get("payload"):
            fields["payload"] = {
                name: value for name, value in fields["payload"].items() if name not in ("data", "parts")
            }
        covered = [fields.get("previous_digest", ""), fields, hashlib.sha256(self.data).digest()]
        return hashlib.sha256(_sorted.encode(covered)).hexdigest()


@dataclass
class Rows:
    """All of a store: events by run and seq, the documents in use, and what a removal left behind."""

    events: dict[Run, dict[int, Row]] = field(default_factory=dict)
    documents: dict[Run, dict[str, Any]] = field(default_factory=dict)
    in_use: str = "latest"
    """The name of the projection."""
    markers: dict[Run, dict[int, str]] = field(default_factory=dict)
    """By seq, the digest that the marker of a removed event has; only on an engine that leaves markers."""
    wrong: list[str] = field(default_factory=list)
    """What is stored in another form than the documents say."""

    def of(self, run: Run) -> list[Event]:
        """A run's events in order of seq."""
        return [row.event for _, row in sorted(self.events.get(run, {}).items())]

    def problems(self) -> list[str]:
        """Where an event is not what its digest says, a link is broken, or a gap is on no record."""
        return [*self.wrong, *(f"{run}: {problem}" for run in self.events for problem in self._problems(run))]

    def _problems(self, run: Run) -> Iterator[str]:
        rows = self.events[run]
        events = self.of(run)
        gone = removed(events)
        ends = {(each["first"], each["last"]): each for event in events for each in event.get("pruned", ())}
        firsts = {first: each for (first, _), each in ends.items()}
        lasts = {last: each for (_, last), each in ends.items()}
        before: Event | None = None
        for event in events:
            seq = event["seq"]
            if rows[seq].digest != event["digest"]:
                yield f"seq {seq} has another digest than what it holds"
            at = before["seq"] if before else 0
            if seq == at + 1:
                if before and event.get("previous_digest", "") != before["digest"]:
                    yield f"seq {seq} does not follow seq {at}"
            elif not gone.issuperset(range(at + 1, seq)):
                yield f"seqs {at + 1} to {seq - 1} are gone, and on no record"
            else:
                first, last = firsts.get(at + 1), lasts.get(seq - 1)
                if before and first and first["previous_digest"] != before["digest"]:
                    yield f"the record says that seq {at + 1} did not follow seq {at}"
                if last and last["digest"] != event.get("previous_digest", ""):
                    yield f"seq {seq} does not follow what the record says of seq {seq - 1}"
            for base in _bases(event):
                if seq not in gone and (base not in rows or base in gone):
                    yield f"seq {seq} needs seq {base}, which is gone"
            before = event


def _bases(event: Mapping[str, Any]) -> Sequence[int]:
    """The seqs that an event needs."""
    needs = (event.get("payload") or {}).get("base_seq")
    return needs if isinstance(needs, list) else [] if needs is None else [needs]


def from_sqlite(path: Path) -> Rows:
    """What a SQLite file holds."""
    found = Rows()
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        columns = "position, workflow_name, run_id, seq, type, checkpoint_id, digest, header, data"
        for position, *key, header, data in database.execute(f"SELECT {columns} FROM events ORDER BY position"):
            event = msgspec.msgpack.decode(header)
            names = ("workflow_name", "run_id", "seq", "type", "checkpoint_id", "digest")
            if key != [event[name] for name in names]:
                found.wrong.append(f"the row at position {position} has other columns than its header says: {key}")
            found.events.setdefault((key[0], key[1]), {})[key[2]] = Row(event, data, position)
        for (name,) in database.execute("SELECT active FROM projections WHERE kind = 'latest'"):
            found.in_use = name
        documents = database.execute(
            "SELECT workflow_name, run_id, info FROM runs WHERE projection = ?", (found.in_use,)
        )
        for workflow, run, info in documents:
            found.documents[workflow, run] = DOCUMENT | msgspec.msgpack.decode(info)
    finally:
        database.close()
    return found


def from_items(events: Iterable[bytes], projections: Iterable[bytes]) -> Rows:
    """What the items of a container of events and of the one with its projections hold, each item as JSON."""
    found = Rows()
    items = [json.loads(raw) for raw in events]
    parts = {(item["stream"], item["id"]): item for item in items if item.get("type") == "part"}
    for item in items:
        if item.get("type") == "removed":
            key = _run_of(item["stream"])
            found.markers.setdefault(key, {})[int(item["id"])] = item.get("digest", "")
        elif item.get("type") != "part":
            event = {name: value for name, value in item.items() if name not in _BESIDE and not name.startswith("_")}
            pieces = [item, *(parts[item["stream"], name] for name in (item.get("payload") or {}).get("parts", ()))]
            data = b"".join(base64.b64decode(piece.get("data", "")) for piece in pieces)
            run = event["workflow_name"], event["run_id"]
            if int(item["id"]) != event["seq"] or _run_of(item["stream"]) != run:
                found.wrong.append(
                    f"the item {item['id']} of {item['stream']} says that it is seq {event['seq']}, {run}"
                )
            found.events.setdefault(run, {})[event["seq"]] = Row(event, data, 0)
    documents = [json.loads(raw) for raw in projections]
    found.in_use = next((each["projection"] for each in documents if each["id"] == "active"), "latest")
    for item in documents:
        if item["id"] == found.in_use:
            document = {name: item[name] for name in DOCUMENT if name in item}
            found.documents[item["workflow_name"], item["run_id"]] = DOCUMENT | document
    return found


_BESIDE = frozenset({"id", "stream", "data"})


def _run_of(key: str) -> Run:
    workflow, _, run = key.partition("|")
    return unquote(workflow), unquote(run)


def removed(events: Iterable[Event]) -> set[int]:
    """The seqs that a run's records say are removed: those of a record's stretches that lie before it."""
    gone: set[int] = set()
    for event in events:
        for stretch in event.get("pruned", ()):
            gone.update(range(stretch["first"], min(stretch["last"], event["seq"] - 1) + 1))
    return gone


def that_count(events: Iterable[Event]) -> list[Event]:
    """Those of a run's events that no record covers."""
    events = list(events)
    gone = removed(events)
    return [event for event in events if event["seq"] not in gone]


def live(events: Iterable[Event]) -> dict[str, Event]:
    """By checkpoint id, the newest event of each that is not deleted, of those that count; the last committed last."""
    newest: dict[str, Event] = {}
    for event in that_count(events):
        newest.pop(event["checkpoint_id"], None)
        newest[event["checkpoint_id"]] = event
    return {name: event for name, event in newest.items() if event["type"] == "checkpoint"}


def fold(events: Iterable[Event]) -> dict[str, Any] | None:
    """What a run amounts to, with all fields of a document."""
    events = that_count(events)
    if not events:
        return None
    first, head = events[0], events[-1]
    checkpoints = [event for event in events if event["type"] == "checkpoint"]
    document = DOCUMENT | {
        "workflow_name": head["workflow_name"],
        "run_id": head["run_id"],
        "seq": head["seq"],
        "digest": head["digest"],
        "status": "open",
        "checkpoints": len(checkpoints),
        "tombstones": len(events) - len(checkpoints),
        "stored_size": sum(event["payload"]["stored_size"] for event in events if event.get("payload")),
        "actor": head.get("actor"),
        "started_at": first["recorded_at"],
        "recorded_at": head["recorded_at"],
        "forked_from": first.get("forked_from"),
    }
    alive = list(live(events).values())
    if alive:
        last = alive[-1]
        summary: Mapping[str, Any] = last.get("summary") or {}
        document |= {
            "checkpoint_id": last["checkpoint_id"],
            "checkpoint_seq": last["seq"],
            "base_seq": next(iter(_bases(last)), None),
            "iteration_count": last.get("iteration_count", 0),
            "timestamp": last["timestamp"],
            "status": _status(summary),
            "messages": summary.get("messages", {}),
            "pending_requests": summary.get("pending_requests", []),
            "raw_size": last["payload"]["raw_size"],
        }
    return document


def _status(summary: Mapping[str, Any]) -> str:
    if any(summary.get("messages", {}).values()):
        return "running"
    if summary.get("pending_requests"):
        return "waiting"
    return "done" if summary.get("executor_ids") else "open"
