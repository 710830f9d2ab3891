"""A rebuilt projection is put in use only when it has what the one in use has."""

from __future__ import annotations

import asyncio

import pytest

from eventckpt import RunInfo
from eventckpt.errors import StoreUnavailableError
from eventckpt.runs import fold
from projections import ProcessorOptions, open_engine
from projections.projector import Projector
from projections.rebuilt import PAUSE

from ..cosmos_emulator import CosmosEmulator, Switches
from ..engines import CosmosEngine
from .driven_clock import DrivenClock
from .rig import WORKFLOW, Rig, event


def rebuild_of(rig: Rig) -> asyncio.Future[str]:
    """A rebuild in another process."""
    projector = Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="other"), clock=rig.clock)
    return asyncio.ensure_future(projector.rebuild(lambda *_: None))


def info(run: str, seq: int) -> RunInfo:
    return RunInfo(workflow_name=WORKFLOW, run_id=run, seq=seq, digest="x")


class Watched(DrivenClock):
    """Counts the pauses of a rebuild that has caught up and waits."""

    waits = 0

    async def sleep(self, seconds: float) -> None:
        self.waits += seconds == PAUSE
        await super().sleep(seconds)


async def test_a_rebuild_waits_for_the_runs_that_a_feed_which_lags_does_not_show() -> None:
    clock, replicas = Watched(), DrivenClock()
    lagging = Switches(lag=1.0, lag_seconds=8.0)
    async with CosmosEmulator(switches=lagging, monotonic=replicas.monotonic) as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        store, written = engine.open(), event("a", 1)
        known = fold([written])
        assert known is not None
        await store.runs().put(known)
        replicas.advance(100)
        await store.append(written)
        projector = Projector(open_engine(engine.open()), ProcessorOptions(worker="other"), clock=clock)
        rebuilding = asyncio.ensure_future(projector.rebuild(lambda *_: None))
        await clock.until(lambda: clock.waits >= 3 or rebuilding.done(), at_most=10_000)
        assert not rebuilding.done()
        assert await store.runs().active() == "latest"
        replicas.advance(100)
        await clock.until(rebuilding.done, at_most=10_000)
        assert await rebuilding == "latest-2"
        replicas.advance(100)
        assert [each async for each in store.runs("latest-2").all()] == [known]
        await engine.close()


async def test_what_is_ahead_of_the_log_ends_a_rebuild_with_what_to_do(rig: Rig) -> None:
    await rig.writer.write("a", "b", count=2)
    runs = rig.writer.store.runs()
    await runs.put(info("b", 2), info("c", 7), info("d", 1))
    rig.engine.settle()
    rebuilding = rebuild_of(rig)
    await rig.clock.until(rebuilding.done, at_most=10_000)
    with pytest.raises(StoreUnavailableError) as raised:
        await rebuilding
    said = str(raised.value)
    assert "run 'c' of workflow 'w' is at seq 0 in it, and at seq 7 in 'latest'" in said
    assert "2 runs in all" in said
    assert "remove the document 'latest' of this run" in said
    assert await runs.active() == "latest"


async def test_a_rebuild_goes_on_where_the_last_one_was_refused(rig: Rig) -> None:
    await rig.writer.write("a", count=2)
    runs = rig.writer.store.runs()
    await runs.put(info("c", 7))
    rig.engine.settle()
    refused = rebuild_of(rig)
    await rig.clock.until(refused.done, at_most=10_000)
    assert isinstance(refused.exception(), StoreUnavailableError)
    await runs.clear()
    rig.engine.settle()
    rebuilding = rebuild_of(rig)
    await rig.clock.until(rebuilding.done, at_most=10_000)
    assert await rebuilding == "latest-2"
    rig.engine.settle()
    assert [(each.run_id, each.seq) async for each in rig.writer.store.runs("latest-2").all()] == [("a", 2)]
