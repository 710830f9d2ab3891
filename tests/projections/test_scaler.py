"""What a scaler is told to look at: copies of the leases in use, under a name that no rebuild changes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from eventckpt.stores.change_feed import FeedRange
from projections import Lease, ProcessorOptions, open_engine
from projections.projector import Projector
from projections.worker.scaler import ScalerLeases

from .rig import Rig

NAME = "eventckpt-projector"


class Copied:
    """A projector, and its copies for a scaler."""

    def __init__(self, rig: Rig, worker: str = "one") -> None:
        engine = open_engine(rig.engine.open())
        self.rig = rig
        self.projector = Projector(engine, ProcessorOptions(worker=worker), clock=rig.clock)
        self.scaler = ScalerLeases(engine, self.projector, NAME, worker, rig.clock)

    async def positions(self, name: str = NAME) -> dict[str, Any]:
        return {lease.range.token: lease.continuation for lease in await self.rig.leases(name)}


async def applied(copied: Copied, documents: int) -> None:
    await copied.rig.clock.until(lambda: getattr(copied.projector.projection, "applied", 0) >= documents)


async def test_the_copies_follow_a_rebuild(rig: Rig) -> None:
    """Also where it puts another name in use while the worker runs, and after the last worker."""
    await rig.writer.write("a", "b")
    copied = Copied(rig)
    stop = asyncio.Event()
    working = asyncio.ensure_future(copied.scaler.copy_during(copied.projector.run(stop)))
    await applied(copied, 2)
    rebuilding = asyncio.ensure_future(
        Projector(open_engine(rig.engine.open()), ProcessorOptions(worker="two"), clock=rig.clock).rebuild(
            lambda handled, left: None
        )
    )
    await rig.clock.until(rebuilding.done)
    assert await rebuilding == "latest-2"

    async def moved_over(seq: int) -> bool:
        return getattr(await rig.info("a", "latest-2"), "seq", 0) == seq

    for seq in (2, 3):  # the second one by nobody who still fills the old projection
        await rig.writer.write("a")
        await rig.clock.until(partial(moved_over, seq))
    stop.set()
    await working
    copies = await rig.leases(NAME)
    assert {lease.range.token: lease.continuation for lease in copies} == await copied.positions("eventckpt-latest-2")
    assert await copied.positions() != await copied.positions("eventckpt-latest")
    assert {lease.owner for lease in copies} == {None}, "nobody takes them for leases"


async def test_a_copy_is_written_only_where_its_position_moved(rig: Rig) -> None:
    await rig.writer.write("a")
    copied = Copied(rig)
    async with copied.projector.processing("latest"):
        await applied(copied, 1)
    await copied.scaler.copy()
    before = await rig.leases(NAME)
    await copied.scaler.copy()
    assert await rig.leases(NAME) == before


async def test_ranges_that_are_no_more_go_and_those_of_others_are_left_to_them(rig: Rig) -> None:
    copied = Copied(rig)
    leases, copies = copied.projector.leases("latest"), open_engine(rig.writer.store).leases(NAME)
    halves = FeedRange("", "80"), FeedRange("80", "FF")
    whole = await leases.create(_lease(FeedRange("", "FF"), '"7"'))
    assert whole is not None
    await copied.scaler.copy()
    assert await copied.positions() == {"-FF": '"7"'}
    await leases.create(_lease(halves[0], '"8"'))
    await leases.create(_lease(halves[1], '"9"', owner="another"))
    await leases.delete(whole)
    await copied.scaler.copy()
    assert await copied.positions() == {"-80": '"8"'}
    await copies.create(_lease(halves[1], '"9"'))  # by the other one
    await copied.scaler.copy()
    assert await copied.positions() == {"-80": '"8"', "80-FF": '"9"'}


@pytest.mark.parametrize("name", ["eventckpt-latest", "eventckpt-latest-7", "", " ", "a/b", "a..b", "ä", "x" * 101])
def test_a_name_that_could_be_that_of_leases_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="scaler_name"):
        ScalerLeases.check_name(name)
    ScalerLeases.check_name(NAME)


def _lease(feed_range: FeedRange, position: str, *, owner: str | None = None) -> Any:

    return Lease(range=feed_range, continuation=position, owner=owner)
