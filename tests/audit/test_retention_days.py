"""Ninety days in which runs begin, go on, wait, end, are annotated, put on hold and let go again, while a policy is
carried out each day beside all that: what is left is what the policy says, and nothing else went."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from eventckpt import CheckpointAudit, EventCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.audit import Retention, RetentionPolicy, RetentionRule
from eventckpt.events import REMOVALS, RunStatus
from eventckpt.runs import ENDED
from eventckpt.stores import AuditStore

from ..engines import Engine
from .retention_runs import DAY, STATUSES, Calendar, audited, made, save

DAYS: Final = 90
LIMIT, KEPT, WAITING_KEPT = 14, 2, 3
RULES: Final = (
    RetentionRule(name="ended", workflow="orders", keep=KEPT, remove_after=LIMIT * DAY, optional=True),
    RetentionRule(
        name="waiting", workflow="orders", status=("waiting",), unfinished=True, keep=WAITING_KEPT, optional=True
    ),
)


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    return Calendar(monkeypatch)


@dataclass
class Known:
    """What the model knows of a run."""

    status: RunStatus
    written: datetime
    checkpoints: int
    held: bool = False
    gone: bool = False

    def passes(self, now: datetime) -> None:
        """The policy's pass of a day, said by itself."""
        if self.gone or self.held:
            return
        if self.status in ENDED:
            self.gone = now - self.written >= LIMIT * DAY
            self.checkpoints = min(self.checkpoints, KEPT)
        elif self.status == "waiting":
            self.checkpoints = min(self.checkpoints, WAITING_KEPT)


class Shop:
    """Who writes, and the model of it. A run is written to by one of them at a time."""

    def __init__(self, storage: EventCheckpointStorage, calendar: Calendar, seed: int) -> None:
        self._storage = storage
        self._calendar = calendar
        self._rng = random.Random(seed)
        self.runs: dict[str, Known] = {}

    async def before_the_pass(self) -> None:
        """Most of a day's work."""
        await self._write(f"run-{len(self.runs):04}")
        for name in self._rng.sample(sorted(self.runs), min(2, len(self.runs))):
            if self._rng.random() < 0.6:
                await self._write(name)
            elif not self.runs[name].gone:
                await self._hold(name)

    async def beside_the_pass(self) -> None:
        """A new run, while the policy is carried out: it may see it, and it is too young to go."""
        await asyncio.sleep(0)
        await self._write(f"run-{len(self.runs):04}")

    async def _write(self, name: str) -> None:
        status, count = self._rng.choice(STATUSES), self._rng.randint(1, 2)
        known = self.runs.get(name)
        self.runs[name] = known = known if known and not known.gone else Known(status, self._calendar.now, 0)
        known.status, known.written, known.checkpoints = status, self._calendar.now, known.checkpoints + count
        await save(self._storage, name, status, checkpoints=count, noise=100)

    async def _hold(self, name: str) -> None:
        known = self.runs[name]
        known.held, known.written = not known.held, self._calendar.now
        await self._storage.for_run(name, workflow_name="orders").annotate(hold=known.held)


async def has_last(store: AuditStore, name: str, count: int) -> bool:
    """Whether of a run the last so many checkpoints are there, and else only what one that is there rests on."""
    headers = [header async for header in store.headers(StreamId("orders", name)) if header.payload]
    bases = {base for header in headers if header.payload for base in header.payload.bases}
    return len(headers) >= count and all(header.seq in bases for header in headers[:-count])


async def explained(store: AuditStore) -> set[str]:
    """The runs that the record of removals names."""
    async with aclosing(store.events(StreamId("orders", REMOVALS))) as events:
        return {run.run_id async for event in events if event.removal for run in event.removal.runs}


async def archived(folder: Path, tmp_path: Path) -> set[str]:
    """The runs that are in archives, each of which is whole."""
    async with SqliteEventStore(tmp_path / "copies.db", synchronous="OFF") as copies:
        audit = CheckpointAudit(copies)
        paths = await asyncio.to_thread(lambda: sorted(folder.iterdir()))
        for path in paths:
            imported = await audit.import_lines(path.read_bytes().splitlines())
            assert imported.complete
        return {stream.run_id async for stream in copies.streams()}


async def test_ninety_days_leave_what_the_policy_says(engine: Engine, calendar: Calendar, tmp_path: Path) -> None:
    store, folder = audited(engine), tmp_path / "archives"
    folder.mkdir()
    rules = [dataclasses.replace(RULES[0], archive=folder), RULES[1]]
    shop = Shop(EventCheckpointStorage(audited(engine)), calendar, seed=20)
    retention = Retention(store, RetentionPolicy(rules), clock=calendar)
    removed: set[str] = set()
    for _ in range(DAYS):
        await shop.before_the_pass()
        engine.settle()
        known = dict(shop.runs)
        report, _ = await asyncio.gather(retention.carry_out(), shop.beside_the_pass())
        assert not report.fell_short
        for run in known.values():
            run.passes(calendar.now)
        removed |= {name for name, run in known.items() if run.gone}
        calendar.now += DAY
        engine.settle()
    await retention.carry_out()
    for run in shop.runs.values():
        run.passes(calendar.now)
    removed |= {name for name, run in shop.runs.items() if run.gone}
    left = {name: run.checkpoints for name, run in shop.runs.items() if not run.gone}
    assert (await made(store, "orders", sorted(shop.runs))).keys() == left.keys()
    assert [name for name, count in left.items() if not await has_last(store, name, count)] == []
    assert {info.run_id async for info in CheckpointAudit(store).runs()} == set(left)
    assert len(removed) > 50, "ninety days are to remove many"
    assert await explained(store) == removed
    assert removed <= await archived(folder, tmp_path)
    assert all([verdict.ok async for verdict in CheckpointAudit(store).verify_all(decode=True)])
