"""Events as Cosmos DB items: keys, the indexing policy, parts of large payloads, markers, and back again.

What is read back may have been changed by anyone who can write to the container. The partition key and the id are
what the service itself keeps unique and unchangeable, so they say which event an item is; the rest is believed only
where it agrees with them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote, unquote

import msgspec

from ...events import MAX_SEQ, REMOVALS, CheckpointEvent, StreamId
from ...moments import order_of

__all__ = [
    "AFTER_EVENTS",
    "EVENTS_ONLY",
    "HEADER",
    "INDEXING_POLICY",
    "KIND",
    "PART",
    "PARTITION_KEY",
    "REMOVALS_KEY",
    "Item",
    "as_text",
    "damaged",
    "data_of",
    "gap_of",
    "header_of",
    "is_cut",
    "is_event",
    "is_in",
    "is_marker",
    "is_part",
    "is_run_event",
    "item_id",
    "items_of",
    "key_of",
    "key_prefix_of",
    "marker_of",
    "moment_of",
    "name_of",
    "order_of_key",
    "partition_key_of",
    "recorded_of",
    "seq_of",
    "size_of",
    "stream_of",
]

Item: TypeAlias = dict[str, Any]

PARTITION_KEY: Final = "/stream"

INDEXING_POLICY: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    # Each indexed term costs 0.2 RU a write: only what something filters or sorts by is indexed. The service indexes
    # the id by itself, and the id is the seq; the partition key it does not, by which a run is found whose workflow is
    # not given: without that index, each such search would read every item.
    "includedPaths": [{"path": f"/{name}/?"} for name in ("stream", "checkpoint_id", "workflow_name", "timestamp")],
    "excludedPaths": [{"path": "/*"}],
    "compositeIndexes": [
        [{"path": "/workflow_name", "order": "ascending"}, {"path": "/timestamp", "order": "ascending"}]
    ],
}

HEADER: Final = ", ".join(
    f"c.{name}" for name in ("id", "stream", *(field.encode_name for field in msgspec.structs.fields(CheckpointEvent)))
)
"""What a listing selects: everything but `data`, which lies beside the header in the item."""

PART: Final = "part"
"""The `type` of an item that holds a part of a payload."""

_REMOVED: Final = "removed"
"""The `type` of a marker: the item that stays under the id of a removed event. An append is one create, so that an id
without an item would be free to any writer whose view of the run is older than the removal."""

EVENTS_ONLY: Final = f"(NOT IS_STRING(c.type) OR c.type != '{_REMOVED}')"
"""Has the service leave markers out, which then are not sent. What has no `type`, or a damaged one, is still given."""

KIND: Final = "LEFT(c.type, 16) AS type"
"""What `is_event` needs of the `type`, where little is to be asked for of each item: what was changed may be of any
size."""

AFTER_EVENTS: Final = ":"
"""Sorts after the id of every event, and before the id of every part."""

REMOVALS_KEY: Final = f"|{REMOVALS}"
"""What the key of a stream of removals ends with, also where it was cut, and that of no run: a run's ends with its id,
in which `quote` leaves no such character, or with a hash."""

_MAX_INLINE: Final = 512 * 1024
"""Bytes of an item above which its data goes into parts. The service takes 2 MB, but above 512 KB a write costs more
for each KB: 185 RU for 512 KB, 625 RU for 1 MB (https://learn.microsoft.com/azure/cosmos-db/key-value-store-cost)."""
_PART_BYTES: Final = 384_000  # of data; 512,000 in base64
_MAX_KEY: Final = 2_000  # characters of a partition key, all of them ASCII; the service takes 2,048 bytes
_HASHED: Final = "*"
"""Marks a key that was cut; `quote` never leaves it in a name, so no other key looks like one."""
_CUT: Final = len(_HASHED) + 64  # characters at the end of a key that was cut
_EVENT_ID: Final = re.compile(rf"[0-9]{{12}}|[1-9][0-9]{{12,{len(str(MAX_SEQ)) - 1}}}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PART_ID: Final = re.compile(rf"{PART}-[0-9a-f]{{64}}")


@lru_cache(maxsize=10_000)  # asked for every item that is read
def partition_key_of(stream: StreamId) -> str:
    """The partition key of a stream: readable, and cut with a hash of the whole where the service takes no more."""
    key = f"{quote(stream.workflow_name, safe='')}|{quote(stream.run_id, safe='')}"
    if len(key) <= _MAX_KEY:
        return key
    end = "" if stream.is_run else REMOVALS_KEY
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key[: _MAX_KEY - _CUT - len(end)]}{_HASHED}{digest}{end}"


def key_prefix_of(workflow_name: str) -> str | None:
    """What the partition keys of a workflow's runs begin with, and those of no other; None where they may be cut before
    the name ends."""
    prefix = f"{quote(workflow_name, safe='')}|"
    return prefix if len(prefix) <= _MAX_KEY - _CUT else None


def order_of_key(key: str) -> tuple[str, str, str]:
    """What runs are in order by where nothing else tells: the run's id, then the workflow's name. A key that was cut
    has not both, and stands for itself."""
    if is_cut(key):
        return key, "", key
    workflow_name, run_id = map(unquote, key.split("|", 1))
    return run_id, workflow_name, key


def is_cut(key: str) -> bool:
    """Whether a key holds not all of its stream's two names."""
    return _HASHED in key or "|" not in key


def item_id(seq: int) -> str:
    """The id of an event: sorts as its seq does."""
    return f"{seq:012d}"


def seq_of(name: object) -> int | None:
    """The seq of the event with this id; None where it is the id of no event, as one with other digits or more of them
    than any seq has."""
    if not isinstance(name, str) or _EVENT_ID.fullmatch(name) is None:
        return None
    seq = int(name)
    return seq if 1 <= seq <= MAX_SEQ else None


def key_of(item: Mapping[str, Any]) -> str | None:
    """The partition key of an item; None where it has none, or one that is no text: then it belongs to no run."""
    key = item.get("stream")
    return key if isinstance(key, str) else None


def is_event(item: Mapping[str, Any]) -> bool:
    """Whether an item, whole or a row that has its id, its partition key and its `type`, lies where an event does, and
    is no marker. What it holds may be damaged; what lies elsewhere is not ours."""
    return _is_placed(item) and item.get("type") != _REMOVED


def is_run_event(item: Mapping[str, Any]) -> bool:
    """Whether it lies where an event of a run does, and not among those that tell of removals: these are few, one for
    very many runs, so that no query is made dearer to leave them out."""
    return is_event(item) and not (key_of(item) or "").endswith(REMOVALS_KEY)


def is_marker(item: Mapping[str, Any]) -> bool:
    """Whether an item stands for an event that was removed."""
    return _is_placed(item) and item.get("type") == _REMOVED


def _is_placed(item: Mapping[str, Any]) -> bool:
    return key_of(item) is not None and seq_of(item.get("id")) is not None


def gap_of(key: str, seq: int) -> Item:
    """A marker for a seq that the log never had here: copies with a gap were put, and nobody may append in it. A copy
    that comes after all takes its place, unless a record covers it."""
    return {**marker_of(key, seq), "gap": True}


def marker_of(key: str, seq: int, digest: object = "") -> Item:
    """What is kept in place of a removed event: enough to refuse its seq, and to know the event if it comes again.

    Args:
        key: the partition key.
        seq: of the event.
        digest: what its item gave as its digest; where it is none, and where nothing is known of the event, empty.
    """
    known = digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else ""
    return {"id": item_id(seq), "stream": key, "type": _REMOVED, "seq": seq, "digest": known}


def is_part(name: str) -> bool:
    """Whether `name` is the id of a part."""
    return _PART_ID.fullmatch(name) is not None


def items_of(event: CheckpointEvent) -> tuple[Item, list[Item]]:
    """The item of an event, and its parts if it is too large for one. Their data is bytes, and not copied."""
    header = event.header()
    data = event.payload.data if event.payload else b""
    key = partition_key_of(event.stream)
    parts: list[Item] = []
    if header.payload is not None and len(msgspec.json.encode(header)) + len(data) * 4 // 3 > _MAX_INLINE:
        whole = memoryview(data)
        chunks = [whole[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        parts = [
            {"id": f"{PART}-{hashlib.sha256(chunk).hexdigest()}", "stream": key, "type": PART, "data": chunk}
            for chunk in chunks
        ]
        names = tuple(str(part["id"]) for part in parts)
        header = msgspec.structs.replace(header, payload=msgspec.structs.replace(header.payload, parts=names))
        data = b""
    body = cast("Item", msgspec.to_builtins(header))
    return {**body, "id": item_id(event.seq), "stream": key, "data": data}, parts


def as_text(item: Item) -> Item:
    """An item as the service has it, its data in base64."""
    data = _data_in(item)
    return item if data is None or isinstance(data, str) else {**item, "data": base64.b64encode(data).decode()}


def size_of(item: Mapping[str, Any] | None) -> int:
    """Bytes or characters of an item's data."""
    return len(_data_in(item) or "")


def _data_in(item: Mapping[str, Any] | None) -> bytes | memoryview[int] | str | None:
    """Text where it comes from the service; nothing where it is damaged."""
    data = cast("bytes | memoryview[int] | str | None", item.get("data") if item else None)
    return data if isinstance(data, (bytes, memoryview, str)) else None


def header_of(item: Mapping[str, Any]) -> CheckpointEvent:
    """The header in an item; where it is damaged, what the item's key says."""
    try:
        event = msgspec.convert(item, CheckpointEvent).header()
    except msgspec.ValidationError:
        pass
    else:
        if seq_of(item.get("id")) == event.seq and is_in(event.stream, item):
            return event
    return damaged(item)


def is_in(stream: StreamId, item: Mapping[str, Any]) -> bool:
    """Whether an item, whatever it claims, is kept under the partition key of `stream`."""
    try:
        return partition_key_of(stream) == item.get("stream")
    except UnicodeEncodeError:  # half of a surrogate pair: no key is made of it
        return False


def stream_of(item: Mapping[str, Any]) -> StreamId:
    """The stream that an item's partition key says it is in; what the item says, where the key was cut."""
    key = str(item.get("stream"))
    if is_cut(key):
        return StreamId(str(item.get("workflow_name")), str(item.get("run_id")))
    workflow_name, run_id = map(unquote, key.split("|", 1))
    return StreamId(workflow_name, run_id)


def damaged(item: Mapping[str, Any]) -> CheckpointEvent:
    """What the key of an item says, and its schema, where the rest cannot be read or believed. What is no event has
    seq 0, which no event has."""
    stream = stream_of(item)
    return CheckpointEvent.unreadable(
        kind=item.get("type"),
        workflow_name=stream.workflow_name,
        run_id=stream.run_id,
        seq=(seq_of(item.get("id")) or 0) if key_of(item) is not None else 0,
        checkpoint_id=item.get("checkpoint_id"),
        digest=item.get("digest"),
        schema=item.get("schema"),
    )


def data_of(*items: Mapping[str, Any] | None) -> bytes:
    """The data in the item of an event, or in all its parts; nothing for one that is damaged or missing, which the
    event's digest tells."""
    return b"".join(_decoded(_data_in(item)) for item in items)


def _decoded(text: object) -> bytes:
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
    # The last character has bits that count for nothing: of the texts that differ in them, one is right.
    last = base64.b64encode(data[(len(data) - 1) // 3 * 3 :]).decode()
    return data if data and cast("str", text).endswith(last) else b""


def name_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """A row's partition key and id, which no other one has."""
    return key_of(row) or "", str(row["id"])


def moment_of(row: Mapping[str, Any]) -> int:
    """The second of the service's clock at which a row was written last."""
    return int(row["_ts"])


def recorded_of(row: Mapping[str, Any]) -> datetime:
    """When the event in a row was recorded, by its writer's clock."""
    return order_of(row.get("recorded_at"))
