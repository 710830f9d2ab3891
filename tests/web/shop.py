"""The store that the pictures of the viewer show: what a shop's workflows, those of the samples, did in an afternoon.

The workflows really run, one after the other in a moment; then their events are dated as if people and machines had
taken their time.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, redirect_stdout, suppress
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Final

import msgspec

from eventckpt import CheckpointEvent, EventCheckpointStorage, EventHistoryProvider, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.chain import sealed
from eventckpt.location import open_store
from eventckpt.stores import AuditStore
from projections import ProcessorOptions, open_engine
from projections.leases import Parked
from projections.projector import Projector

from ..test_samples import SAMPLES

if str(SAMPLES) not in sys.path:
    sys.path.append(str(SAMPLES))

import chat_with_history
import incident
from web_service import workflows as refunds

__all__ = ["SHOWN", "refunds", "shop_store"]

SHOWN: Final = "refund-1044"
"""The run that the pictures show: it asked, was answered, failed, and was gone on with."""
_PAUSES: Final = (2, 9, 47, 3, 240, 1, 12, 5, 95, 7)
"""Seconds between an event and the next, in turns."""


class RefusedError(Exception):
    """What the payment provider says at times."""


async def shop_store(path: Path, now: datetime) -> None:
    """Make it.

    Args:
        path: of the file, which is not there yet.
        now: when the afternoon ends.
    """
    lived = path.with_name(f"lived-{path.name}")
    types = [*incident.STATE_TYPES, *refunds.ALLOWED]
    async with open_store(lived) as store:
        audit = CheckpointAudit(store, allowed_checkpoint_types=types, actor="Ms Ito")
        async with EventCheckpointStorage(store, actor="worker-1", allowed_checkpoint_types=types) as storage:
            await _refunds(storage)
            await _tried_again(storage, audit)
            await _incidents(storage)
            with redirect_stdout(StringIO()):
                await _trip(storage)
    async with open_store(lived) as before, open_store(path) as store:
        await _as_if(before, store, now)
        await _as_if(before.sessions(), store.sessions(), now)
        await _projected(store, now)


async def _refunds(storage: EventCheckpointStorage) -> None:
    for number, customer, euros in (
        (1041, "Ms Lind", 35),
        (1042, "Mr Sato", 410),
        (1043, "Mr Adeyemi", 20),
        (1044, "Ms Brandt", 180),
        (1045, "Ms Okoye", 95),
        (1046, "Mr Novak", 260),
    ):
        run = storage.for_run(f"refund-{number}")
        asked = refunds.Refund(f"refund-{number}", customer, euros)
        await refunds.build(_paid).run(asked, checkpoint_storage=run)
        await run.annotate(
            tags={"customer": customer, "euros": str(euros), "channel": "web" if number % 2 else "phone"}
        )
    await _answered(storage, SHOWN, pay=_refused)
    await storage.for_run(SHOWN, workflow_name=refunds.NAME).annotate(
        outcome="failed", reason="The payment provider refused: the card has expired.", hold=True
    )
    called_off = storage.for_run("refund-1045", workflow_name=refunds.NAME)
    await called_off.annotate(outcome="cancelled", reason="The customer called it off.")


async def _answered(storage: EventCheckpointStorage, run_id: str, *, pay: refunds.Pay) -> None:
    run = storage.for_run(run_id)
    latest = await run.get_latest(workflow_name=refunds.NAME)
    assert latest is not None
    said = dict.fromkeys(latest.pending_request_info_events, True)
    with suppress(RefusedError):
        await refunds.build(pay).run(checkpoint_id=latest.checkpoint_id, responses=said, checkpoint_storage=run)


async def _tried_again(storage: EventCheckpointStorage, audit: CheckpointAudit) -> None:
    """Somebody forks the run before it failed, with the answer in it, and lets it go on."""
    [answered] = await audit.store.read(StreamId(refunds.NAME, SHOWN), 4)
    forked = await audit.fork(answered, f"{SHOWN}-again")
    run = storage.for_run(forked.run_id)
    await run.get_latest(workflow_name=refunds.NAME)
    await refunds.build(_paid).run(checkpoint_id=forked.checkpoint_id, checkpoint_storage=run)


async def _paid(refund: refunds.Refund) -> None:
    """As it is done on a good day."""


async def _refused(refund: refunds.Refund) -> None:
    raise RefusedError(refund.id)


async def _incidents(storage: EventCheckpointStorage) -> None:
    report = str(SAMPLES / "data" / "incident-report.txt")
    await incident.build().run(report, checkpoint_storage=storage.for_run("incident-4471"))

    def stops() -> None:
        raise RefusedError

    with suppress(RefusedError):
        stopped = incident.build(on_planner_start=stops)
        await stopped.run(report, checkpoint_storage=storage.for_run("incident-4472"))


async def _trip(storage: EventCheckpointStorage) -> None:
    """A conversation that went back to its first turn, and on from there another way."""
    history, client = EventHistoryProvider(storage.store, actor="assistant"), chat_with_history.RecordingClient()
    workflow = chat_with_history.build(client, history)
    run, say = storage.for_run(chat_with_history.RUN_ID), chat_with_history.say
    await say(workflow, chat_with_history.FIRST, run, client)
    first = await chat_with_history.latest(run)
    for question in chat_with_history.THE_NORTH:
        await say(workflow, question, run, client)
    again, workflow = storage.for_run(chat_with_history.RUN_ID), chat_with_history.build(client, history)
    await workflow.run(checkpoint_id=first.checkpoint_id, checkpoint_storage=again)
    await say(workflow, chat_with_history.THE_SOUTH, again, client)


async def _as_if(lived: AuditStore, store: AuditStore, now: datetime) -> None:
    """The same events, dated back from `now` on, each as long after the one before as it is by `_PAUSES`."""
    async with aclosing(lived.streams()) as streams:
        found = [event async for stream in streams async for event in _events(lived, stream)]
    found.sort(key=lambda event: event.recorded_at)
    pauses = [_PAUSES[number % len(_PAUSES)] for number in range(len(found))]
    moment, digests = now - timedelta(seconds=sum(pauses)), {"": ""}
    asked: dict[str, str] = {}
    for event, pause in zip(found, pauses, strict=True):
        moment += timedelta(seconds=pause)
        told = moment.isoformat()
        questions = tuple(
            msgspec.structs.replace(each, asked_at=asked.setdefault(each.request_id, told))
            for each in event.summary.pending_requests
        )
        summary = msgspec.structs.replace(event.summary, pending_requests=questions)
        before = digests[event.previous_digest]
        dated = msgspec.structs.replace(
            event, timestamp=told, recorded_at=told, summary=summary, previous_digest=before
        )
        digests[event.digest] = sealed(dated).digest
        await store.append(sealed(dated))


async def _events(store: AuditStore, stream: StreamId) -> AsyncGenerator[CheckpointEvent]:
    async for header in store.headers(stream):
        [event] = await store.read(stream, header.seq)
        yield event


async def _projected(store: AuditStore, now: datetime) -> None:
    """The projector has caught up, and parked one event."""
    engine, name = open_engine(store), await store.run_store().active()
    projector = Projector(engine, ProcessorOptions(worker="worker-1"))
    async with projector.processor_of(name) as processor:
        await processor.caught_up()
    event = [each async for each in store.headers(StreamId(incident.NAME, "incident-4472"))][-1]
    [feed_range] = await engine.feed.ranges()
    await projector.leases(name).park(
        Parked(
            range=feed_range.token,
            continuation=None,
            event=event,
            error="StoreUnavailableError: The search index did not answer in 30 seconds.",
            attempts=5,
            parked_at=(now - timedelta(minutes=6)).isoformat(),
        )
    )
