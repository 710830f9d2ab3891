"""A store in which every text that a store can hold was chosen by somebody who wants a page to do something.

`TEXTS` are the attacks. Runs and sessions named and filled by them were written as an application writes them; beside
these stand events, leases and latest documents whose every text is forged, and events that are damaged or gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle
from typing import Any, Final

import msgspec
from agent_framework import Content, Message, WorkflowEvent
from agent_framework._workflows._runner_context import WorkflowMessage

from eventckpt import CheckpointEvent, RunInfo, StreamId
from eventckpt.chain import sealed
from eventckpt.events import MAX_REASON, MAX_RUN_ID, MAX_TAG, SCHEMA, PendingRequest
from eventckpt.history import SESSIONS, Snapshots
from eventckpt.stores import AuditStore
from eventckpt.testing.events import make_event, of_every_kind, record_of
from projections import ProcessorOptions, open_engine
from projections.leases import Lease, Parked
from projections.projector import Projector

from ..conversations import branched, looked_up, turn_event
from ..engines import Engine
from ..storage.checkpoints import checkpoint

__all__ = ["CANARY", "ELSEWHERE", "TEXTS", "hostile_runs", "hostile_sessions", "hostile_store"]

CANARY: Final = "pwned"
"""What a script that runs sets in its window."""
ELSEWHERE: Final = "http://elsewhere.invalid"
"""Where a page that obeys sends its browser."""

_RUNS: Final = f"window.{CANARY}=1"
TEXTS: Final = (
    f"<script>{_RUNS}</script>",
    f'"><img src={ELSEWHERE}/x.png onerror={_RUNS}>',
    f"' autofocus onfocus='{_RUNS}' x='",
    f"javascript:{_RUNS}//",
    f"</title></textarea></script></style></svg><svg onload={_RUNS}>",
    f"]]><foreignObject><body onload={_RUNS}></foreignObject><a xlink:href='javascript:{_RUNS}'>",
    f'<a href="{ELSEWHERE}"><base href="{ELSEWHERE}/"><link rel=stylesheet href={ELSEWHERE}/x.css>',
    f'<meta http-equiv="refresh" content="0;url={ELSEWHERE}"><iframe srcdoc="<script>top.{CANARY}=1</script>">',
    f'<div hx-get="{ELSEWHERE}" hx-trigger="load" hx-on:load="{_RUNS}" hx-config=\'{{"a":1}}\'>',
    f"<form action={ELSEWHERE}><button autofocus>x</button><input name=csrf>",
    f"{{{{ 7*7 }}}}{{% for x in ().__class__.__mro__ %}}{{# #}}${{{_RUNS}}}<%= 1 %>",
    "\u202egnp.exe\u202c \u2066left\u2069 \u200fשלום\u200e \u061cمرحبا",
    "line\r\nbreak\u2028and\u2029\t\x1b[2J\x1b]8;;http://elsewhere.invalid\x07\x7f\x85",
    "\ufeff\u200b\u200d\ufffe\U000e0001\U000e007f zero\u00adwidth \U0001f3f4\u0301\u0301\u0301\u0301",
    f"//elsewhere.invalid/%2e%2e/?workflow=a&run=b#{'../' * 9}%00%ff&amp;&lt;",
    "; default-src * 'unsafe-inline'\r\nset-cookie: a=b; url('x') </style><style>*{display:none}",
    "W" * 4_000,
    "",
)
"""Of each kind one; the empty one where a text may be empty."""
_SOME: Final = tuple(text for text in TEXTS if text)
_AS_IT_IS: Final = frozenset({"type", "outcome", "encoding", "raw_sha256", "schema"})
"""What says how the rest is read: where it lies, there is nothing to show."""
_TIMES: Final = frozenset({"timestamp", "recorded_at", "asked_at", "started_at"})
_MOMENT: Final = "2026-05-01T10:00:00+00:00"


def forged(record: Any, texts: Iterator[str]) -> Any:
    """The same record with another text wherever it has one, times and digests too."""
    return msgspec.convert(_forged(msgspec.to_builtins(record), "", texts), type(record))


def _forged(value: Any, name: str, texts: Iterator[str]) -> Any:
    if isinstance(value, dict):
        keys = {key: key if key.isidentifier() and name not in ("messages", "tags", "roles") else "" for key in value}
        return {kept or next(texts): _forged(value[key], key, texts) for key, kept in keys.items()}
    if isinstance(value, list | tuple):
        return [_forged(item, name, texts) for item in value]
    return next(texts) if isinstance(value, str) and name not in _AS_IT_IS | {"data"} else value


async def hostile_store(engine: Engine) -> None:
    """Fill the store of an engine."""
    store = engine.open()
    assert isinstance(store, AuditStore)
    await hostile_runs(engine)
    engine.settle()
    await _projected(store)
    await _forged_runs(store)
    await _damaged_runs(store)
    await hostile_sessions(store.sessions())
    await _projections(store)
    engine.settle()


async def hostile_runs(engine: Engine) -> None:
    """A run for each text, which is all that it knows: as an application's that repeats what it is told."""
    for number, text in enumerate(_SOME):
        storage = engine.storage(actor=text)
        workflow, run = text[:100], storage.for_run(text[:MAX_RUN_ID])
        asked = WorkflowEvent.request_info(
            request_id=text[:200], source_executor_id=text, request_data={text: text}, response_type=bool
        )
        first = checkpoint(
            workflow_name=workflow,
            checkpoint_id=f"{text[:150]}{number}",
            state={text: {text: [text, {"__proto__": text}]}, "_executor_state": {text: {text: text}}},
            messages={text: [WorkflowMessage(data=text, source_id=text)]},
        )
        second = checkpoint(
            first,
            workflow_name=workflow,
            checkpoint_id=f"{text[:150]}{number}.",
            iteration_count=1,
            state={text: {text: [text[::-1]], f"{text}2": text.encode()}, "_executor_state": {text: {}}},
            pending_request_info_events={text[:200]: asked},
        )
        await run.save(first)
        await run.save(second)
        tags = {f"{text[: MAX_TAG - 3].replace('=', ':')}{n}": text[:MAX_TAG] for n in range(3)}
        outcome = (None, "failed", "cancelled", "done")[number % 4]
        reason = text[:MAX_REASON] if outcome else None
        await run.annotate(outcome=outcome, reason=reason, tags=tags, hold=number % 2 == 0)  # pyright: ignore[reportArgumentType]


async def _projected(store: AuditStore) -> None:
    """The projector has caught up with what can be projected, and has gone."""
    projector = Projector(open_engine(store), ProcessorOptions())
    name = await store.run_store().active()
    async with projector.processor_of(name) as processor:
        await processor.caught_up()
    await projector.leases(name).clear()


async def _forged_runs(store: AuditStore) -> None:
    """Events of every kind of which every text is a lie; of the second run the times are true."""
    for name, keep_times in (("forged", False), ("forged at times", True)):
        texts, stream = cycle(TEXTS), StreamId(_SOME[0], f"{name} {_SOME[1]}")
        events = of_every_kind(stream, make_event(StreamId(_SOME[2], _SOME[3]), 1))
        lies: list[CheckpointEvent] = []
        for event in events:
            lie = forged(event, texts)
            kept = {field: getattr(event, field) for field in _TIMES & set(event.__struct_fields__) if keep_times}
            lie = msgspec.structs.replace(lie, workflow_name=stream.workflow_name, run_id=stream.run_id, **kept)
            lies.append(sealed(msgspec.structs.replace(lie, payload=event.payload)))
        await store.put(stream, [each for each in lies if each.type in ("checkpoint", "tombstone")])


async def _damaged_runs(store: AuditStore) -> None:
    """Runs of which something is not as it was written, is gone, or cannot be read."""
    workflow = _SOME[4]

    def chain(run: str, length: int) -> list[CheckpointEvent]:
        events: list[CheckpointEvent] = []
        for seq in range(1, length + 1):
            events.append(make_event(StreamId(workflow, run), seq, previous=events[-1] if events else None))
        return events

    pulled = chain(f"gap {_SOME[5]}", 6)
    await store.put(pulled[0].stream, [each for each in pulled if each.seq not in (3, 4)])
    other = chain(f"changed {_SOME[6]}", 3)
    await store.put(other[0].stream, [*other[:2], msgspec.structs.replace(other[2], actor=_SOME[7])])
    newer = chain(f"newer {_SOME[8]}", 3)
    await store.put(newer[0].stream, [*newer[:2], sealed(msgspec.structs.replace(newer[2], schema=SCHEMA + 1))])
    pruned = chain(f"pruned {_SOME[9]}", 4)
    await store.put(pruned[0].stream, [*pruned[2:], record_of(pruned[3], pruned[:2])])
    asks = tuple(
        PendingRequest(
            request_id=f"{text[:150]}{n}",
            source_executor_id=text,
            request_type=text,
            response_type=text,
            prompt=text[:200],
            asked_at=_MOMENT,
        )
        for n, text in zip(range(40), cycle(TEXTS))
    )
    [asking] = chain(f"asks {_SOME[10]}", 1)
    summary = msgspec.structs.replace(asking.summary, pending_requests=asks)
    await store.put(asking.stream, [sealed(msgspec.structs.replace(asking, summary=summary))])


async def hostile_sessions(store: AuditStore) -> None:
    """Sessions of which all is hostile: names, ids, roles, messages, calls of tools, branches, what a host keeps."""
    ids = (f"{text[:200]}{number}" for number, text in zip(count(), cycle(TEXTS)))
    for number, text in enumerate(_SOME):
        stream = StreamId(_SOME[number % 3][:100], text[:MAX_RUN_ID])
        said = [
            Message("user", [text], message_id=next(ids), author_name=text),
            Message("assistant", [Content.from_text_reasoning(text=text), text], message_id=next(ids)),
            *looked_up(text),
            Message("tool", [Content.from_function_result(text, result=text)]),
            Message(text[:50], [Content.from_uri(f"javascript:{_RUNS}", media_type="text/html")]),
        ]
        first = turn_event(stream, 1, said, turn_id=next(ids))
        second = turn_event(stream, 2, said[:2], previous=first, turn_id=next(ids), continues=text[:200])
        await store.append(first)
        await store.append(second)
        if number % 4 == 0:
            await branched(store, first, text)
        await Snapshots(store, SESSIONS, actor=text).set(text, {text: {text: [text]}})


async def _projections(store: AuditStore) -> None:
    """Leases, parked events and latest documents as somebody writes them who may write nothing else."""
    texts, engine = cycle(_SOME), open_engine(store)
    leases = Projector(engine, ProcessorOptions()).leases(await store.run_store().active())
    for feed_range in await engine.feed.ranges():
        lie = Lease(range=feed_range, owner=next(texts), error=next(texts), wanted_by=next(texts), attempts=7)
        await leases.create(lie)
    for number in range(5):
        event = make_event(StreamId(next(texts), next(texts)[:MAX_RUN_ID]), number + 1)
        report = Parked(
            range=next(texts), continuation=None, event=event.header(), error=next(texts), attempts=3, parked_at=_MOMENT
        )
        await leases.park(report)
    await leases.doubt(next(texts), _MOMENT)
    runs = store.runs()
    for number in range(5):
        info = RunInfo(
            workflow_name="w",
            run_id="r",
            seq=9,
            digest="d",
            reason="r",
            actor="a",
            session="s",
            tags={"a": "b"},
            messages={"m": 2},
        )
        await runs.put(
            msgspec.structs.replace(
                forged(info, texts), run_id=f"{number} is not in the log {next(texts)}"[:MAX_RUN_ID]
            )
        )
