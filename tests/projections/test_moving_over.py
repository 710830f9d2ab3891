"""A worker looks which projection is in use, and moves over; where it cannot look, it goes on with the one it knows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventckpt import StoreUnavailableError
from projections import ProcessorOptions, open_engine
from projections.projector import Projector

from .rig import Rig


@pytest.mark.parametrize("error", [StoreUnavailableError("not now\n"), OSError("not now\n")])
async def test_a_look_that_fails_does_not_end_the_worker_and_is_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    await rig.writer.write("a")
    store = rig.engine.open()
    kind: Any = type(store.runs())
    active, is_reachable, failed = kind.active, True, 0

    async def looked_at(self: Any, **how: Any) -> str:
        nonlocal failed
        if is_reachable:
            return await active(self, **how)
        failed += 1
        raise error

    async def has_moved() -> bool:
        return bool([info async for info in rig.engine.open().runs("latest-2").all()])

    monkeypatch.setattr(kind, "active", looked_at)
    projector = Projector(open_engine(store), ProcessorOptions(worker="one"), clock=rig.clock)
    stop = asyncio.Event()
    running = asyncio.ensure_future(projector.run(stop))
    await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 1)
    is_reachable = False
    await rig.clock.until(lambda: failed == 6 or running.done())
    assert not running.done()
    await rig.writer.write("a", count=2)
    await rig.clock.until(lambda: projector.projection is not None and projector.projection.applied == 2)
    is_reachable = True
    await store.runs().activate("latest-2")
    rig.engine.settle()
    await rig.clock.until(has_moved)
    stop.set()
    await rig.clock.until(running.done)
    await running
    said = [record.getMessage() for record in caplog.records if "projection is in use" in record.getMessage()]
    looking = "looking at which projection is in use"
    named = f"{type(error).__name__}: not now\\n"
    assert said[:6] == [f"{looking} failed, and goes on in {pause} s: {named}" for pause in (10, 20, 40, 60, 60, 60)]
