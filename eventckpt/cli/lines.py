"""The JSON lines of each command: which kinds there are, and which keys each of them has, always all of them.

The suite reads what the commands print by these types, and `eventckpt schema` prints them as a JSON Schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, reduce
from types import UnionType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from ..audit.diff import Kind
from ..audit.graph_changes import GraphChange
from ..audit.import_report import Imported
from ..audit.inbox import Question
from ..audit.removed import Removed
from ..audit.retention_report import Does, Left, RuleReport
from ..codec.drift import Drift
from ..events import CheckpointEvent, ForkPoint, Payload, PendingRequest, RunInfo, RunStatus, StreamId
from ..history.listing import SessionInfo
from ..stores import Check

__all__ = ["LINES", "schema", "type_of"]

_Line: TypeAlias = type[msgspec.Struct]

_REF: Final = "#/$defs/{name}"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def type_of(command: str) -> Any:
    """What each line that a command prints with `--json` is, as a type that msgspec reads it by."""
    return _any_of((*LINES[command], _ERROR))


def schema(commands: Iterable[str]) -> dict[str, Any]:
    """What these commands print with `--json`, as a JSON Schema: in `$defs` a definition for each, by its name."""
    asked = {command: (*LINES[command], _ERROR) for command in commands}
    lines = dict.fromkeys(line for each in asked.values() for line in each)
    _, definitions = msgspec.json.schema_components(lines, ref_template=_REF)
    for command, each in asked.items():
        definitions[command] = {"anyOf": [{"$ref": _REF.format(name=line.__name__)} for line in each]}
    any_of = [{"$ref": _REF.format(name=command)} for command in asked]
    return {"$schema": _DIALECT, "$defs": definitions, "anyOf": any_of}


@cache
def _whole(kind: Any) -> Any:
    """The same type, but that a record in it has all of its fields and no other."""
    is_struct = hasattr(kind, "__struct_config__")
    if is_struct and kind.__struct_config__.forbid_unknown_fields:
        return kind
    if is_struct or hasattr(kind, "_fields"):
        return msgspec.defstruct(kind.__name__, _fields(kind), forbid_unknown_fields=True)
    origin: Any = get_origin(kind)
    if origin in (None, Literal):
        return kind
    parts = tuple(part if part is ... else _whole(part) for part in get_args(kind))
    return _any_of(parts) if origin in (UnionType, Union) else origin[parts]


def _any_of(kinds: Iterable[Any]) -> Any:
    return reduce(lambda one, other: one | other, kinds)


def _fields(kind: type) -> list[tuple[str, Any]]:
    """The fields of a record, by their names; of a payload all but its data."""
    hints = get_type_hints(kind).items()
    return [(name, _whole(hint)) for name, hint in hints if (kind, name) != (Payload, "data")]


def _line(name: str, kind: str, fields: Iterable[tuple[str, Any]] = (), /, **more: Any) -> _Line:
    """The type of a line of this kind, by a name that no part of a line has."""
    own = [(field, _whole(hint)) for field, hint in more.items()]
    return msgspec.defstruct(f"{name}Line", [*fields, *own], tag_field="kind", tag=kind, forbid_unknown_fields=True)


_STREAM: Final = _fields(StreamId)
_CONTENT: Final = [(name, int) for name in ("events", "runs", "position", "session_events", "sessions")]
_EVENT: Final = [
    *_fields(CheckpointEvent),
    ("what", str),
    ("status", RunStatus | None),
    ("trace_id", str | None),
]
_RUN: Final = [
    *((name, str if name == "status" else hint) for name, hint in _fields(RunInfo)),  # or that nothing of it counts
    ("trace_id", str | None),
]
_REMOVAL: Final = [(name, hint) for name, hint in _fields(Removed) if name != "stream"]
_Removal: Final[Any] = msgspec.defstruct("RemovalFields", _REMOVAL, forbid_unknown_fields=True)
_Event: Final[Any] = msgspec.defstruct("EventFields", _EVENT, forbid_unknown_fields=True)
_Run: Final[Any] = msgspec.defstruct("RunFields", _RUN, forbid_unknown_fields=True)


class _Place(NamedTuple):
    seq: int
    checkpoint_id: str


class _PlaceInRun(NamedTuple):
    run_id: str
    seq: int
    checkpoint_id: str


class _Fork(NamedTuple):
    workflow_name: str
    run_id: str
    checkpoint_id: str


class _Found(NamedTuple):
    seq: int
    why: str
    detail: str


class _Graph(NamedTuple):
    changes: tuple[GraphChange, ...]
    is_all: bool


class _First(NamedTuple):
    actor: str | None
    recorded_at: str
    seq: int


class _Difference(NamedTuple):
    change: Kind
    path: str
    before: Any
    after: Any


_ERROR: Final = _line(
    "Error",
    "error",
    code=int,
    message=str,
    candidates=list[str],
    request_id=str | None,
    state=str | None,
    answer=_First | None,
)
_EVENT_LINE: Final = _line("Event", "event", _EVENT)
_RUN_LINE: Final = _line("Run", "run", _RUN)
_HELD: Final = tuple(
    _line(name, kind, _EVENT, tree=dict[str, Any])
    for name, kind in (("Checkpoint", "checkpoint"), ("Turn", "turn"), ("State", "state"))
)
_DIFFERENCE: Final = _line("Difference", "difference", _fields(_Difference))
_SPACE: Final = _line("Space", "space", before=int | None, after=int | None, free=int | None, advice=str)
_SESSION: Final = _line("Session", "session", _fields(SessionInfo))
_MORE: Final = _line("More", "more", after=str)
_LEFT_OUT: Final = _line(
    "NotTaken",
    "left_out",
    why=str,
    checkpoint_id=str | None,
    type_key=str | None,
    source_id=str | None,
    session_id=str | None,
    name=str | None,
)

LINES: Final[Mapping[str, Sequence[_Line]]] = {
    "annotate": (_EVENT_LINE,),
    "answer": (
        _line(
            "Answered",
            "answered",
            _STREAM,
            requests=list[str],
            status=RunStatus,
            pending_requests=tuple[PendingRequest, ...],
        ),
    ),
    "at": _HELD,
    "backup": (_line("Backup", "backup", _CONTENT, file=str, seconds=float),),
    "changes": (_line("Change", "change", event=_Event, path=str, existed=bool, before=Any, exists=bool, after=Any),),
    "compact": (_SPACE,),
    "delete": (
        _line("Deletion", "deletion", _STREAM, state=str, events=int, bytes=int, why=str | None),
        _line("DeleteSummary", "summary", executed=bool, runs=int, events=int, bytes=int, left=int),
        _SPACE,
    ),
    "diff": (
        _DIFFERENCE,
        _line(
            "DiffSummary",
            "summary",
            before=_Event | None,
            after=_Event | None,
            added=int,
            removed=int,
            changed=int,
        ),
    ),
    "doctor": (
        _line("Setting", "setting", name=str, value=str),
        _line("Check", "check", _fields(Check)),
        _line("Type", "type", name=str, allowed=bool, runs=int, example=StreamId),
    ),
    "export": (_line("Exported", "exported", file=str, events=int, damaged=int),),
    "fork": (_EVENT_LINE,),
    "history": (_EVENT_LINE, _MORE),
    "import": (_line("Imported", "imported", _fields(Imported)),),
    "import-from": (
        _LEFT_OUT,
        _line(
            "ImportSummary",
            "summary",
            found=int | None,
            saved=int | None,
            runs=list[str],
            sessions=int | None,
            messages=int | None,
            added=int | None,
            left_out=int,
        ),
    ),
    "inbox": (_line("Question", "question", [*_STREAM, *_fields(Question)[1:]]), _MORE),
    "info": (
        _RUN_LINE,
        _SESSION,
        _EVENT_LINE,
        _line("Claim", "claim", _STREAM, owner=str, expires_at=str, ttl=float),
        _line("ForkedRun", "fork", _STREAM, forked_from=ForkPoint),
        _line("Removed", "removed", _STREAM, **dict(_REMOVAL)),
    ),
    "lineage": (
        _line(
            "Node",
            "node",
            checkpoint_id=str,
            depth=int,
            branch=bool,
            event=_Event | None,
            children=list[str],
            forks=list[_Fork],
        ),
    ),
    "migrate": (
        _line(
            "Migrated",
            "migration",
            [*_STREAM, ("from", _whole(_Place | None)), ("to", _whole(_PlaceInRun | None))],
            name=str,
            graph_before=str | None,
            graph_after=str | None,
            refused=str | None,
            done=str | None,
            differences=list[_Difference],
        ),
        _line("NotMigrated", "left_out", _STREAM, reason=str),
        _line("MigrationSummary", "summary", executed=bool, runs=int, planned=int, migrated=int, done=int, refused=int),
    ),
    "preflight": (
        _line(
            "Preflight",
            "preflight",
            _STREAM,
            seq=int,
            status=RunStatus,
            outcome=str,
            resumes=bool,
            why=str | None,
            drifts=list[Drift],
            graph=_Graph | None,
        ),
        _line(
            "PreflightSummary",
            "summary",
            workflow_name=str,
            runs=int,
            would_not_resume=int,
            outcomes=dict[str, int],
        ),
    ),
    "prune": (
        _line(
            "Plan",
            "plan",
            _STREAM,
            seqs=list[int],
            bytes=int,
            kept=int,
            refused=str | None,
            unmarked=list[int],
        ),
        _line("PruneSummary", "summary", executed=bool, runs=int, events=int, bytes=int),
        _SPACE,
    ),
    "replay": (
        _line("Step", "step", event=_Event, run=_Run, problem=str | None, newer=bool),
        _line("ReplaySummary", "summary", steps=int, wrong=int, newer=int),
    ),
    "restore": (
        _line(
            "Restored",
            "restored",
            _CONTENT,
            file=str,
            store=str,
            set_aside=list[str],
            seconds=float,
        ),
    ),
    "retain": (
        _line(
            "Retention",
            "retention",
            _STREAM,
            turns=bool,
            rule=str,
            does=Does,
            events=int,
            bytes=int,
            head_seq=int,
            refused=Left | None,
            why=str | None,
            archive=str | None,
        ),
        _line("Rule", "rule", _fields(RuleReport), rule=str, workflow_name=str),
        _line(
            "RetentionSummary",
            "summary",
            _fields(RuleReport),
            executed=bool,
            looked_at=int,
            archives=int,
            given_back=int,
            advice=str,
            seconds=float,
        ),
    ),
    "runs": (
        _RUN_LINE,
        _SESSION,
        _line("Count", "count", runs=int, statuses=dict[str, int]),
        _MORE,
    ),
    "schema": (),
    "sessions": (_SESSION, _MORE),
    "show": _HELD,
    "tail": (_EVENT_LINE,),
    "verify": (
        _line(
            "Verdict",
            "verdict",
            _STREAM,
            ok=bool,
            events=int,
            pruned=int,
            head_seq=int,
            head_digest=str,
            not_gone_yet=int,
            removed=_Removal | None,
            problems=list[_Found],
            notes=list[str],
        ),
        _line("VerifySummary", "summary", runs=int, events=int, bad_runs=int),
    ),
}
"""By the name of a command, the types of its lines; an error is one of each."""
