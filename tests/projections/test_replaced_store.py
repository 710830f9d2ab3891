"""Nothing that runs in the background tries for ever where the file under the store is another one: it ends, loudly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventckpt.errors import StoreReplacedError
from projections import LatestProjection, ProcessorOptions, open_engine
from projections.projector import Projector
from projections.worker.health import Health, Terms

from .rig import Recorder, Rig

GONE = "the file is another one: make a new store"


def replace(store: Any, monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """From now on the file under a store is another one, as far as these kinds of access tell."""

    async def refused(*_: object, **__: object) -> Any:
        raise StoreReplacedError(GONE)

    for kind in kinds:
        monkeypatch.setattr(store._connections, kind, refused)


@pytest.mark.parametrize("kinds", [("reading",), ("writing",), ("reading", "writing")])
async def test_a_projector_ends_with_the_error(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kinds: tuple[str, ...]
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    store = rig.engine.open()
    projector = Projector(open_engine(store), ProcessorOptions(worker="one"), clock=rig.clock)
    running = asyncio.ensure_future(projector.run(asyncio.Event()))
    await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 1)
    replace(store, monkeypatch, *kinds)
    await rig.writer.write("a")
    await rig.clock.until(running.done, at_most=200)
    with pytest.raises(StoreReplacedError, match=GONE):
        await running


@pytest.mark.parametrize("kinds", [("reading",), ("writing",)])
async def test_a_processor_of_ones_own_holds_nothing_and_is_not_well(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kinds: tuple[str, ...]
) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    seen = Recorder()
    worker = rig.worker(seen)
    await worker.start()
    await rig.clock.until(lambda: len(seen.handled) == 1)
    replace(rig.engine._stores[-1], monkeypatch, *kinds)  # the worker's own
    await rig.writer.write("a")
    failed = asyncio.ensure_future(worker.until_failed())
    await rig.clock.until(failed.done, at_most=200)
    assert isinstance(failed.exception(), StoreReplacedError)
    await rig.clock.until(lambda: not worker.owned)
    assert isinstance(worker.failure, StoreReplacedError)
    assert not worker.is_running
    projector = Projector(open_engine(rig.writer.store), ProcessorOptions(worker="one"), clock=rig.clock)
    projector.processor, projector.projection = worker, LatestProjection(rig.writer.store)
    assert Health(projector, Terms(), rig.clock).ready()[0] is False
    with pytest.raises(StoreReplacedError):
        await worker.stop()
    rig.workers.remove(worker)
    assert any(GONE in each.getMessage() for each in caplog.records if each.levelname == "ERROR")


async def test_a_handler_that_finds_its_store_replaced_has_no_second_attempt(sqlite_rig: Rig) -> None:
    rig = sqlite_rig
    await rig.writer.write("a")
    calls = 0

    async def fails(batch: object) -> None:
        nonlocal calls
        calls += 1
        raise StoreReplacedError(GONE)

    worker = rig.worker(fails)
    await worker.start()
    failed = asyncio.ensure_future(worker.until_failed())
    await rig.clock.until(failed.done, at_most=200)
    assert isinstance(failed.exception(), StoreReplacedError)
    await rig.clock.passes(200)
    assert calls == 1
    with pytest.raises(StoreReplacedError):
        await worker.stop()
    rig.workers.remove(worker)
