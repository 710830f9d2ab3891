"""The end of a campaign: what is physically there, what was sent and acknowledged, what the documents say and what the
library answers, held against each other. Each check gives what is wrong, in words; nothing at all is what must come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from agent_framework import WorkflowCheckpointException

from eventckpt import CheckpointAudit, CheckpointNotFoundError, EventCheckpointStorage
from eventckpt.stores import AuditStore
from projections import compare, open_engine

from .book import Book, Sent
from .checkpoints import is_steady, what_is_wrong_with
from .rows import Event, Row, Rows, Run, fold, live, removed, that_count

__all__ = ["what_is_wrong"]


async def what_is_wrong(rows: Rows, book: Book, store: AuditStore, *, by_commit: bool) -> list[str]:
    """All that does not fit.

    Args:
        rows: what is physically there.
        book: what was sent and acknowledged.
        store: answers as the library does.
        by_commit: whether the engine has an order of commits over all runs. The one that has none leaves markers.
    """
    histories = Histories(rows, book)
    found = [
        *rows.problems(),
        *histories.problems,
        *_unseen(rows, histories, leaves_markers=not by_commit),
        *_lost(book, histories),
    ]
    found += [*_mixed(book, histories), *_documents(rows)]
    found += [each async for each in _answers(rows, store, by_commit)]
    return found


class Histories:
    """All events that each run ever had, those that are gone included: back from its head, by what was sent."""

    def __init__(self, rows: Rows, book: Book) -> None:
        self.problems: list[str] = []
        self.of: dict[Run, list[Sent]] = {}
        self.digests: set[str] = set()
        for run in rows.events:
            history = self._back(rows, book, run)
            self.of[run] = history[::-1]
            self.digests.update(each.digest for each in history)

    def _back(self, rows: Rows, book: Book, run: Run) -> list[Sent]:
        there = {row.event["digest"] for row in rows.events[run].values()}
        at: Event = rows.of(run)[-1]
        digest, seq = at["digest"], at["seq"]
        found: list[Sent] = []
        while seq:
            sent = book.sent.get(digest)
            if sent is None or (sent.run, sent.seq) != (run, seq):
                self.problems.append(f"{run}: seq {seq} has the digest {digest}, which nobody sent there")
                break
            found.append(sent)
            there.discard(digest)
            digest, seq = sent.previous_digest, seq - 1
        strays = [row.event["seq"] for row in rows.events[run].values() if row.event["digest"] in there]
        if strays:
            self.problems.append(f"{run}: seqs {strays} are there, and its head does not follow them")
        return found


def _unseen(rows: Rows, histories: Histories, *, leaves_markers: bool) -> Iterator[str]:
    """Events of a history that are not there, and on no record; or without a marker, or whose marker says another
    thing."""
    for run, history in histories.of.items():
        there, gone, markers = rows.events[run], removed(rows.of(run)), rows.markers.get(run, {})
        for sent in history:
            if sent.seq not in there and sent.seq not in gone:
                yield f"{run}: seq {sent.seq} ({sent.checkpoint_id}) is gone, and on no record"
            if leaves_markers and sent.seq not in there and sent.seq not in markers:
                yield f"{run}: seq {sent.seq} is gone, and left no marker: it is free again"
            if markers.get(sent.seq, "") not in ("", sent.digest):
                yield f"{run}: the marker at seq {sent.seq} has another digest than the event had"
        for seq in markers.keys() & there.keys():
            yield f"{run}: seq {seq} has a marker and an event"
        for seq in markers.keys() - gone:
            yield f"{run}: seq {seq} has a marker, and is on no record"


def _lost(book: Book, histories: Histories) -> Iterator[str]:
    """What was acknowledged, and is in no run's history."""
    for place, digest in enumerate(book.answered):
        if digest not in histories.digests and not book.may_be_rolled_back(answered=place):
            sent = book.sent[digest]
            name = f"seq {sent.seq} ({sent.type} {sent.checkpoint_id})"
            yield f"{sent.run}: {name} was acknowledged, and is not in its history"
    for place, saved in enumerate(book.saved):
        sent = book.versions(saved.workflow, saved.checkpoint_id, saved.version)
        if not any(each.digest in histories.digests for each in sent) and not book.may_be_rolled_back(saved=place):
            yield f"{saved} returned, and its event is nowhere"


def _mixed(book: Book, histories: Histories) -> Iterator[str]:
    """Where an execution goes on behind what it has not seen, or behind a parent that its run never had."""
    for run, history in histories.of.items():
        before: dict[str, int] = {}
        places: dict[str, int] = {}
        for place, sent in enumerate(history):
            if sent.type == "checkpoint" and sent.execution:
                begun = book.executions.get(sent.execution)
                since = before.get(sent.execution)
                if since is None and begun is not None and begun.run == run and begun.checkpoint_id in places:
                    since = places[begun.checkpoint_id]
                if since is not None:
                    yield from _between(book, run, history[since + 1 : place], sent)
                before[sent.execution] = place
                parent = sent.parent
                if (
                    parent is not None
                    and parent not in places
                    and not sent.forked
                    and not _elsewhere(book, run, parent)
                ):
                    yield f"{run}: seq {sent.seq} ({sent.checkpoint_id}) follows {parent}, which nobody ever sent"
            places[sent.checkpoint_id] = place


def _between(book: Book, run: Run, between: list[Sent], sent: Sent) -> Iterator[str]:
    deleted = {each.checkpoint_id for each in between if each.type == "tombstone"}
    removed = [stretch for each in between for stretch in each.removes]
    answered = book.answered_digests()
    for each in between:
        is_its_own = each.execution == sent.execution or (each.storage == sent.storage and each.digest not in answered)
        # What was read last may be older than what was removed before the read; and nobody can see what is gone.
        is_gone = any(first <= each.seq <= last for first, last in removed)
        if each.type == "checkpoint" and not is_its_own and not is_gone and each.checkpoint_id not in deleted:
            yield (
                f"{run}: seq {sent.seq} ({sent.checkpoint_id}, {sent.execution}) went behind seq {each.seq} "
                f"({each.checkpoint_id}, {each.execution}), which it had not seen"
            )


def _elsewhere(book: Book, run: Run, checkpoint_id: str) -> bool:
    return any(each.checkpoint_id == checkpoint_id and each.run[0] == run[0] for each in book.sent.values())


def _documents(rows: Rows) -> Iterator[str]:
    """Where a document of the projection in use is not the fold of what is there."""
    for run in sorted(rows.documents.keys() | rows.events.keys()):
        document, expected = rows.documents.get(run), fold(rows.of(run))
        if document is None or expected is None:
            yield f"{run}: {'no document' if document is None else 'a document, and no event'}"
            continue
        wrong = {name: (document[name], expected[name]) for name in expected if document[name] != expected[name]}
        if wrong:
            yield f"{run}: the document and the rows say of {wrong}"


async def _answers(rows: Rows, store: AuditStore, by_commit: bool) -> AsyncIterator[str]:
    """Where the library says another thing than the rows do."""
    async with aclosing(compare(store, open_engine(store).feed, store.runs())) as differences:
        async for difference in differences:
            yield f"compare: {difference}"
    async with aclosing(CheckpointAudit(store).verify_all(decode=True, projection=True)) as verdicts:
        async for verdict in verdicts:
            if not verdict.ok:
                yield f"verify: {verdict.problems}"
    storage = EventCheckpointStorage(store)
    homes: dict[str, list[tuple[Any, Row]]] = {}
    leaving: dict[str, list[Event]] = {}
    """Recorded as removed and still there, because a prune was cut off: a load by the id may still give it."""
    for run in rows.events:
        counting = {event["seq"] for event in that_count(rows.of(run))}
        for event in rows.of(run):
            homes.setdefault(event["checkpoint_id"], [])
            if event["seq"] not in counting and event["type"] == "checkpoint":
                leaving.setdefault(event["checkpoint_id"], []).append(event)
        for name, event in live(rows.of(run)).items():
            row = rows.events[run][event["seq"]]
            order = row.position if by_commit else (event["recorded_at"], run[1], run[0])
            homes[name].append((order, row))
        try:
            async for wrong in _answers_of(storage, run, rows.of(run)):
                yield wrong
        except WorkflowCheckpointException as error:
            yield f"{run}: {type(error).__name__}: {error}"
    for name, places in sorted(homes.items()):
        last_written = [row.event for _, row in sorted(places, key=lambda each: each[0])]
        wrong = await _loaded(storage, name, last_written, leaving.get(name, []))
        if wrong:
            yield wrong


async def _answers_of(storage: EventCheckpointStorage, run: Run, events: list[Event]) -> AsyncIterator[str]:
    """What a storage says of one run, and should not."""
    alive = live(events)
    through = storage.for_run(run[1], workflow_name=run[0])
    latest = await through.get_latest(workflow_name=run[0])
    expected = next(reversed(alive.values()), None)
    if (latest and latest.checkpoint_id) != (expected and expected["checkpoint_id"]):
        yield f"{run}: the latest is {latest and latest.checkpoint_id}, by the rows {expected and expected['seq']}"
    listed = await through.list_checkpoint_ids(workflow_name=run[0])
    if listed != list(alive):
        yield f"{run}: the live ones are {listed}, by the rows {list(alive)}"
    if [each.checkpoint_id for each in await through.list_checkpoints(workflow_name=run[0])] != list(alive):
        yield f"{run}: not all of {list(alive)} can be decoded"
    if expected is None and is_steady(run[1]):
        yield f"{run}: nobody took its latest checkpoint away, and it has none"


async def _loaded(storage: EventCheckpointStorage, name: str, homes: list[Event], leaving: list[Event]) -> str:
    """What is wrong with the answer to a load, where the checkpoint is live in these events, the last written last."""
    try:
        loaded = await storage.load(name) if name else None
    except CheckpointNotFoundError:
        loaded = None
    except WorkflowCheckpointException as error:
        return f"load of {name}: {type(error).__name__}: {error}"
    if loaded is None:
        return f"{name} is live in {[event['run_id'] for event in homes]}, and not found" if homes else ""
    right = [(event["workflow_name"], event.get("iteration_count", 0)) for event in (*homes[-1:], *leaving)]
    if (loaded.workflow_name, loaded.iteration_count) not in right:
        return f"{name} is loaded as version {loaded.iteration_count} of {loaded.workflow_name}, and right is {right}"
    return what_is_wrong_with(loaded)
