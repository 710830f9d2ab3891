"""Archives of what retention removes, and passes that are cut off: nothing goes that is not archived and recorded."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    CheckpointStoreError,
    EventCheckpointStorage,
    SqliteEventStore,
    StreamId,
)
from eventckpt.audit import Retention, RetentionPlan, RetentionPolicy, RetentionReport, RetentionRule, export_file
from eventckpt.audit.archive import read_line
from eventckpt.events import REMOVALS
from eventckpt.stores import AuditStore, Space
from eventckpt.stores.conformance import make_event

from ..engines import Engine
from ..interleaving import Interrupted
from .retention_runs import DAY, Calendar, audited, made, save

WORKFLOW = "orders"
NAMES = ("first", "second", "kept")


class Killed(Exception):  # noqa: N818 - no error: an end
    """In place of the end of a process."""


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    return Calendar(monkeypatch)


def rule(archive: Path | None, *, keep: int | None = None) -> RetentionRule:
    limit = None if keep else 30 * DAY
    return RetentionRule(name="old orders", workflow=WORKFLOW, keep=keep, remove_after=limit, archive=archive)


def retaining(store: AuditStore, calendar: Calendar, archive: Path | None, *, keep: int | None = None) -> Retention:
    return Retention(store, RetentionPolicy([rule(archive, keep=keep)]), actor="janitor", clock=calendar)


async def three_runs(store: AuditStore, calendar: Calendar) -> dict[StreamId, list[CheckpointEvent]]:
    """Two old runs and a young one; the events of each."""
    storage = EventCheckpointStorage(store)
    for name in ("first", "second"):
        await save(storage, name, "done", checkpoints=2)
    calendar.now += 31 * DAY
    await save(storage, "kept", "done")
    return {stream: await whole(store, stream) for stream in map(_stream, NAMES)}


def _stream(name: str) -> StreamId:
    return StreamId(WORKFLOW, name)


async def whole(store: AuditStore, stream: StreamId) -> list[CheckpointEvent]:
    return [event async for event in store.events(stream)]


async def in_archives(folder: Path, tmp_path: Path) -> dict[StreamId, list[CheckpointEvent]]:
    """What the archives in a folder have, each of which a new store takes as whole."""
    found: dict[StreamId, dict[str, CheckpointEvent]] = {}
    for path in list(_archives(folder)):
        lines = path.read_bytes().splitlines()
        async with SqliteEventStore(tmp_path / f"copies-{os.urandom(4).hex()}.db", synchronous="OFF") as copies:
            assert (await CheckpointAudit(copies).import_lines(lines)).whole
        for event in map(read_line, lines):
            if isinstance(event, CheckpointEvent):
                found.setdefault(event.stream, {})[event.digest] = event
    return {stream: sorted(events.values(), key=lambda event: event.seq) for stream, events in found.items()}


def _archives(folder: Path) -> Iterator[Path]:
    return folder.glob("*.jsonl")


async def assert_nothing_is_lost(
    store: AuditStore, before: dict[StreamId, list[CheckpointEvent]], folder: Path | None, tmp_path: Path
) -> None:
    """Each event is in the store; or it is recorded as removed, and in an archive that is whole."""
    archived = await in_archives(folder, tmp_path) if folder is not None else {}
    for stream, events in before.items():
        there = await whole(store, stream)
        gone = [event.digest for event in events if event.digest not in {each.digest for each in there}]
        if gone and folder is not None:
            assert set(gone) <= {event.digest for event in archived[stream]}
        if gone:
            assert any(event.pruned for event in there)
    assert all([verdict.ok async for verdict in CheckpointAudit(store).verify_all(decode=True)])


async def test_what_goes_is_in_an_archive_of_its_own_that_the_record_names(
    engine: Engine, calendar: Calendar, tmp_path: Path
) -> None:
    store, folder = audited(engine), tmp_path / "archives"
    folder.mkdir()
    before = await three_runs(store, calendar)
    told: list[RetentionPlan] = []
    report = await retaining(store, calendar, folder).carry_out(told=told.append)
    [path] = folder.iterdir()
    assert (report.archives, report.total.removed, report.total.kept) == (1, 2, 1)
    assert path.name.startswith("orders-")
    assert path.stat().st_mode & 0o777 == 0o600
    assert {plan.archive for plan in told if plan.does == "remove"} == {path.name}
    assert await in_archives(folder, tmp_path) == {
        stream: events for stream, events in before.items() if stream.run_id != "kept"
    }
    [event] = await whole(store, StreamId(WORKFLOW, REMOVALS))
    removal = event.removal
    assert removal is not None
    assert {run.run_id for run in removal.runs} == {"first", "second"}
    assert (removal.archive, removal.archive_sha256) == (path.name, sha256(path.read_bytes()).hexdigest())
    assert (removal.reason, event.actor) == ("retention: old orders", "janitor")


async def test_what_is_only_shortened_is_archived_whole(engine: Engine, calendar: Calendar, tmp_path: Path) -> None:
    store = audited(engine)
    before = await three_runs(store, calendar)
    (tmp_path / "archives").mkdir()
    told: list[RetentionPlan] = []
    report = await retaining(store, calendar, tmp_path / "archives", keep=1).carry_out(told=told.append)
    assert (report.archives, report.total.pruned, report.total.kept) == (1, 2, 1)
    assert {len(ids) for ids in (await made(store, WORKFLOW, NAMES)).values()} == {1}
    archived = await in_archives(tmp_path / "archives", tmp_path)
    assert archived == {stream: events for stream, events in before.items() if stream.run_id != "kept"}
    assert {plan.archive is not None for plan in told if plan.does == "prune"} == {True}


OPERATIONS: dict[str, tuple[object, str]] = {
    "made": (export_file, "_made_for_its_owner"),
    "written": (export_file, "_write_all"),
    "flushed": (os, "fsync"),
    "read back": (Path, "open"),
    "named": (Path, "rename"),
}
FAILURES = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")]


def fails_at(monkeypatch: pytest.MonkeyPatch, operation: str, error: BaseException) -> None:
    owner, name = OPERATIONS[operation]

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("error", FAILURES, ids=str)
async def test_what_cannot_be_archived_stays_and_is_told_of_and_the_rest_goes(
    engine: Engine, calendar: Calendar, tmp_path: Path, operation: str, error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = audited(engine)
    before = await three_runs(store, calendar)
    await save(EventCheckpointStorage(store), "elsewhere", "done", workflow="others")
    calendar.now += 31 * DAY
    other = RetentionRule(name="others", workflow="others", remove_after=30 * DAY)
    told: dict[str, RetentionPlan] = {}

    def tell(plan: RetentionPlan) -> None:
        told[plan.stream.run_id] = plan

    (tmp_path / "archives").mkdir()
    with monkeypatch.context() as patched:
        fails_at(patched, operation, error)
        policy = RetentionPolicy([rule(tmp_path / "archives"), other])
        report = await Retention(store, policy, clock=calendar).carry_out(told=tell)
    assert report.fell_short
    assert report.rules["old orders"].refused == {"archive": 3}
    assert report.rules["others"].removed == 1
    assert {told[name].refused for name in NAMES} == {"archive"}
    assert error.strerror in told["first"].why
    assert {stream: await whole(store, stream) for stream in before} == before
    assert (report.archives, list((tmp_path / "archives").glob("*.part"))) == (0, [])


async def test_a_directory_that_is_not_there_keeps_everything(
    engine: Engine, calendar: Calendar, tmp_path: Path
) -> None:
    store = audited(engine)
    before = await three_runs(store, calendar)
    report = await retaining(store, calendar, tmp_path / "nowhere").carry_out()
    assert report.total.refused == {"archive": 2}
    assert {stream: await whole(store, stream) for stream in before} == before


@pytest.mark.parametrize("change", ["a line less", "no end", "another letter", "another order", "nothing"])
async def test_an_archive_that_does_not_read_back_as_it_was_written_is_none(
    engine: Engine, calendar: Calendar, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = audited(engine)
    before = await three_runs(store, calendar)
    real = os.fsync

    def changed_on_its_disk(number: int) -> None:
        real(number)
        for part in tmp_path.glob("*.part"):
            lines = part.read_bytes().splitlines(keepends=True)
            part.write_bytes(
                {
                    "a line less": b"".join([lines[0], *lines[2:]]),
                    "no end": b"".join(lines[:-1]),
                    "another letter": b"".join(lines).replace(b'"actor"', b'"actoR"'),
                    "another order": b"".join([*lines[1:], lines[0]]),
                    "nothing": b"",
                }[change]
            )

    monkeypatch.setattr(os, "fsync", changed_on_its_disk)
    storage = EventCheckpointStorage(store, actor="somebody")
    await save(storage, "written by somebody", "done")
    calendar.now += 31 * DAY
    report = await retaining(store, calendar, tmp_path).carry_out()
    assert (report.total.removed, report.fell_short) == (0 if change != "another letter" else 3, True)
    if change != "another letter":
        assert {stream: await whole(store, stream) for stream in before} == before


async def test_a_damaged_run_is_archived_as_it_is_and_stays(calendar: Calendar, tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "events.db") as store:
        before = await three_runs(store, calendar)
        drop = "DROP TRIGGER events_are_immutable"
        change = "UPDATE events SET data = zeroblob(9) WHERE run_id = 'first' AND seq = 1"
        await store.writing(lambda connection: (connection.execute(drop), connection.execute(change)))
        folder = tmp_path / "archives"
        folder.mkdir()
        report = await retaining(store, calendar, folder).carry_out()
        assert report.total.refused == {"damaged": 1}
        assert report.total.removed == 1
        assert [path.name for path in folder.iterdir()] == report.archive_names
        again = await retaining(store, calendar, folder).carry_out()
        assert (again.total.refused, again.archives, again.archive_names) == ({"damaged": 1}, 0, [])
        assert [path.name for path in folder.iterdir()] == report.archive_names, "nothing of a second one went"
        assert [event.seq for event in await whole(store, _stream("first"))] == [1, 2]
        assert (await whole(store, _stream("kept"))) == before[_stream("kept")]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_pass_that_is_killed_at_its_archive_has_removed_nothing_and_the_next_one_does_it(
    engine: Engine, calendar: Calendar, tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = audited(engine), tmp_path / "archives"
    folder.mkdir()
    before = await three_runs(store, calendar)
    with monkeypatch.context() as patched:
        fails_at(patched, operation, Killed())
        patched.setattr(Path, "unlink", _does_nothing)  # whoever is killed tidies nothing up
        with pytest.raises(Killed):
            await retaining(store, calendar, folder).carry_out()
    assert {stream: await whole(store, stream) for stream in before} == before
    report = await retaining(store, calendar, folder).carry_out()
    assert report.total.removed == 2
    await assert_nothing_is_lost(store, before, folder, tmp_path)


def _does_nothing(*_: Any, **__: Any) -> None:
    pass


async def every_step(
    tmp_path: Path, calendar: Calendar, act: Callable[[SqliteEventStore], Awaitable[object]], **how: Any
) -> None:
    """A pass beside which something happens, at each of its requests in turn; and then another pass."""
    for at in itertools.count():
        folder = tmp_path / f"archives-{at}"
        folder.mkdir()
        async with SqliteEventStore(tmp_path / f"{at}.db", synchronous="OFF") as store:
            before = await three_runs(store, calendar)
            meddled = Interrupted(store, at, lambda store=store: act(store))
            report = RetentionReport()
            with suppress(Killed):
                report = await retaining(meddled, calendar, folder, **how).carry_out()
            await assert_nothing_is_lost(store, before, folder, tmp_path)
            calendar.now += 31 * DAY
            await retaining(store, calendar, folder, **how).carry_out()
            await assert_nothing_is_lost(store, before, folder, tmp_path)
            left = await made(store, WORKFLOW, NAMES)
            assert left == ({} if not how else {name: ids[-1:] for name, ids in left.items()})
            for name in NAMES:
                assert len(await whole(store, _stream(name))) <= (1 if not how else 2)
        if meddled.steps <= at:
            assert report.total.removed + report.total.pruned == 2
            assert at > 20, "a pass has more requests than that"
            return


@pytest.mark.parametrize("how", [{}, {"keep": 1}], ids=["removes", "shortens"])
async def test_a_pass_that_is_killed_at_any_request_has_lost_nothing_and_the_next_one_finishes_it(
    calendar: Calendar, tmp_path: Path, how: dict[str, Any]
) -> None:
    async def killed(_: SqliteEventStore) -> None:
        raise Killed

    await every_step(tmp_path, calendar, killed, **how)


@pytest.mark.parametrize("how", [{}, {"keep": 1}], ids=["removes", "shortens"])
async def test_whoever_writes_to_a_run_at_any_request_of_a_pass_loses_nothing(
    calendar: Calendar, tmp_path: Path, how: dict[str, Any]
) -> None:
    async def writes(store: SqliteEventStore) -> None:
        storage = EventCheckpointStorage(store)
        await save(storage, "first", "done")
        streams = store.streams(workflow_name=WORKFLOW, prefix="first", emptied=False)
        written = [stream.run_id async for stream in streams]  # it forks, where the run was removed since it was read
        assert await made(store, WORKFLOW, written)

    await every_step(tmp_path, calendar, writes, **how)


DAMAGE: dict[str, tuple[Callable[[list[CheckpointEvent]], list[CheckpointEvent]], str]] = {
    "a gap": (lambda log: [log[0], *log[2:]], "what was between seqs 1 and 3 is gone"),
    "no beginning": (lambda log: log[1:], "what was before seq 2 is gone"),
    "a link": (lambda log: [log[0], _changed(log[1], previous_digest="0" * 64), *log[2:]], "seq 2 does not follow"),
    "another event": (lambda log: [_changed(log[0], digest="0" * 64), *log[1:]], "seq 2 does not follow"),
    "an event before it": (lambda log: [_changed(log[0], previous_digest="0" * 64), *log[1:]], "seq 1 follows another"),
    "what was said": (lambda log: [*log[:-1], _changed(log[-1], actor="somebody else")], "seq 4 is not the event"),
}


def _changed(event: CheckpointEvent, **fields: Any) -> CheckpointEvent:
    return msgspec.structs.replace(event, **fields)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("keep", [None, 1])
async def test_damage_that_headers_show_keeps_a_run_where_nothing_is_archived_too(
    engine: Engine, calendar: Calendar, tmp_path: Path, damage: str, keep: int | None
) -> None:
    store, stream, (harm, says) = audited(engine), _stream("damaged"), DAMAGE[damage]
    async with SqliteEventStore(tmp_path / "whole.db") as sound:
        await save(EventCheckpointStorage(sound), "damaged", "failed", checkpoints=3)
        log = harm(await whole(sound, stream))
    await store.put(stream, log)
    calendar.now += 31 * DAY
    told: list[RetentionPlan] = []
    report = await retaining(store, calendar, None, keep=keep).carry_out(told=told.append)
    assert (report.total.refused, report.fell_short) == ({"damaged": 1}, True)
    assert says in told[0].why
    assert not any([verdict.ok async for verdict in CheckpointAudit(store).verify_all()])
    audit = CheckpointAudit(store)
    [plan] = [plan async for plan in audit.plan_delete([stream])]
    assert says in plan.refused
    assert await whole(store, stream) == log
    forced = [plan async for plan in audit.plan_delete([stream], force=True)]
    assert [removal.state async for removal in audit.delete(forced)] == ["removed"], "who asks for it may have it gone"
    assert len(await whole(store, stream)) == 1


class Away(SqliteEventStore):
    """A store that takes no event."""

    async def append(self, event: CheckpointEvent) -> None:
        raise CheckpointStoreError("away")


@pytest.mark.parametrize("keep", [None, 1])
async def test_an_archive_of_which_nothing_went_is_none_and_others_are_left(
    calendar: Calendar, tmp_path: Path, keep: int | None
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "orders-of somebody.jsonl").touch()
    async with SqliteEventStore(tmp_path / "events.db") as store:
        before = await three_runs(store, calendar)
    async with Away(tmp_path / "events.db") as store:
        reports: list[RetentionReport] = []
        for _ in range(3):
            with pytest.raises(CheckpointStoreError, match="away"):
                await retaining(store, calendar, folder, keep=keep).carry_out(so_far=reports.append)
        assert [path.name for path in folder.iterdir()] == ["orders-of somebody.jsonl"]
        assert {report.archives for report in reports} == {0}
        assert {stream: await whole(store, stream) for stream in before} == before


class Unremoving(SqliteEventStore):
    """A store that fails once an event is removed."""

    async def remove(self, stream: StreamId, seqs: Sequence[int]) -> int:
        await super().remove(stream, seqs[:1])
        raise CheckpointStoreError("away")


@pytest.mark.parametrize("keep", [None, 1])
async def test_an_archive_of_which_something_went_stays_whatever_ended_the_pass(
    calendar: Calendar, tmp_path: Path, keep: int | None
) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    async with SqliteEventStore(tmp_path / "events.db") as store:
        storage = EventCheckpointStorage(store)
        await save(storage, "first", "done", checkpoints=6)
        before = {_stream("first"): await whole(store, _stream("first"))}
        calendar.now += 31 * DAY
    for _ in range(3):  # the second one goes on with what is on record already
        async with Unremoving(tmp_path / "events.db") as store:
            with pytest.raises(CheckpointStoreError, match="away"):
                await retaining(store, calendar, folder, keep=keep).carry_out()
        async with SqliteEventStore(tmp_path / "events.db") as store:
            await assert_nothing_is_lost(store, before, folder, tmp_path)
    assert len(list(_archives(folder))) == 3


@pytest.mark.parametrize("there", ["nothing", "a file", "a directory that takes nothing", "a directory"])
async def test_a_plan_has_looked_whether_an_archive_can_be_written(
    calendar: Calendar, tmp_path: Path, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "archives"
    if there == "a file":
        folder.touch()
    elif there != "nothing":
        folder.mkdir()
    if there == "a directory that takes nothing":
        monkeypatch.setattr(os, "access", lambda *_: False)  # whoever tests may be one who may do everything
    async with SqliteEventStore(tmp_path / "events.db") as store:
        await three_runs(store, calendar)
        planned = RetentionReport()
        retention = retaining(store, calendar, folder)
        plans = [plan async for plan in retention.plan(report=planned) if plan.does != "keep"]
        report = await retention.carry_out()
    assert planned.total.refused == report.total.refused == ({} if there == "a directory" else {"archive": 2})
    assert all(str(folder) in plan.why for plan in plans if plan.does == "refuse")


async def test_a_pass_that_removes_nothing_gives_back_what_one_before_has_not(
    calendar: Calendar, tmp_path: Path
) -> None:
    class Stopped(SqliteEventStore):
        async def give_back(self) -> Space:
            raise Killed

    path = tmp_path / "events.db"
    async with SqliteEventStore(path) as store:
        for number in range(10):
            chain = [make_event(_stream(f"large {number}"), 1, data=os.urandom(50_000))]
            await store.put(chain[0].stream, chain)
        await three_runs(store, calendar)
    calendar.now += 31 * DAY
    everything = RetentionRule(
        name="all", workflow="*", remove_after=0 * DAY, status=("open", "done", "running"), unfinished=True
    )
    async with Stopped(path) as store:
        with pytest.raises(Killed):
            await Retention(store, RetentionPolicy([everything]), clock=calendar).carry_out()
        assert await store.free_share() > 0.25
    async with SqliteEventStore(path) as store:
        retention = Retention(store, RetentionPolicy([everything]), clock=calendar)
        passes = [await retention.carry_out() for _ in range(2)]
        assert await store.free_share() < 0.25
    assert [each.total.removed for each in passes] == [0, 0]
    assert [each.given_back > 0 for each in passes] == [True, False]
