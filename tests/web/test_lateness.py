"""Where a page lists from, and how late that is: what comes from the projection says so, and how far it lies behind."""

from __future__ import annotations

from typing import Any

import pytest

from eventckpt import CheckpointAudit
from eventckpt.errors import StoreUnavailableError
from eventckpt.web import Answering, Standing, create_app
from eventckpt.web.lateness import Watch
from eventckpt.web.standing import ASKED
from projections import ProcessorOptions, open_engine
from projections.projector import Projector
from projections.standing import standing_of

from ..answers.workflows import Paid, asked, refund, storage_on
from ..cli.conftest import Cli
from ..cli.test_inbox import ask, question
from ..engines import Engine
from ..projections.driven_clock import DrivenClock
from ..projections.rig import Rig, event
from ..storage.removed import audited
from .answering import TOKEN, Viewers
from .conftest import viewing
from .html import Document, read
from .standing import Projector as Side

LISTS = ("/runs", "/runs/counts", "/inbox")


def told(document: Document) -> str | None:
    """What a page says of the projection."""
    return next((each.text for each in document.all("p", id="late")), None)


class Told:
    """A projector's side that stands as it is given, and counts how often it is asked."""

    def __init__(self, *ranges: dict[str, Any], doubted: str | None = None) -> None:
        self.standing_now = Standing("latest", doubted, ranges, [])
        self.asked = 0
        self.trouble: Exception | None = None

    async def standing(self) -> Standing:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self.standing_now


def of_range(lag: int | None, owner: str | None = None, written: str = "2026-05-01T10:00:00Z") -> dict[str, Any]:
    return {"lag": lag, "owner": owner, "written": written}


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_says_how_late_it_is_if_it_is_of_the_projection_and_only_then(engine: Engine, path: str) -> None:
    await ask(engine, question(1, ago={"days": 1}))
    for latest, said in (("projection", "7 commits behind the log; nobody reads on"), ("log", None)):
        async with viewing(engine, latest=latest, operations=Told(of_range(4), of_range(3))) as viewer:
            found = told(read((await viewer.get(path)).text))
        assert (said is None) is (found is None)
        assert found is None or found.startswith(f"Listed from the projection, {said}")


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (None, "Listed from the projection, which may be late."),
        (Told(), "Listed from the projection, and no worker ever kept it up to date."),
        (Told(of_range(1)), "Listed from the projection, 1 commit behind the log; nobody reads on."),
        (Told(of_range(0, "w"), of_range(2)), "Listed from the projection, 2 commits behind the log; nobody reads 1 "),
        (Told(of_range(None, "w")), "Listed from the projection, which may be late; a worker wrote of it "),
        (Told(of_range(0, "w"), doubted="x"), "Listed from the projection, which is not to be believed, 0 commits"),
    ],
)  # fmt: skip
async def test_it_says_what_is_known_of_who_reads(engine: Engine, side: Told | None, said: str) -> None:
    await ask(engine, question(1, ago={"days": 1}))
    async with viewing(engine, latest="projection", operations=side) as viewer:
        found = told(read((await viewer.get("/inbox")).text))
    assert found is not None
    assert found.startswith(said)


async def test_the_projector_s_side_is_asked_once_in_a_while_however_many_look(engine: Engine) -> None:
    side, clock = Told(of_range(1)), DrivenClock()
    watch = Watch(side, clock=clock)
    for _ in range(3):
        assert (await watch.lateness()).behind == 1
    assert side.asked == 1
    clock.now += 10
    side.trouble = StoreUnavailableError("it is away")
    assert (await watch.lateness()).behind is None, "a list stands all the same"
    assert side.asked == 2
    await ask(engine, question(1, ago={"days": 1}))
    side = Told(of_range(1))
    async with viewing(engine, latest="projection", operations=side) as viewer:
        for path in LISTS:
            await viewer.get(path)
    assert side.asked == 1


async def test_what_is_said_is_what_the_projector_s_command_says(engine: Engine, cli: Cli) -> None:
    rig = Rig(engine)
    await rig.writer.write("r1", "r2")
    engine.settle()
    await Projector(open_engine(engine.open()), ProcessorOptions(poll_interval=0.1)).rebuild(lambda *_: None)
    await rig.writer.write("r1", "r2", "r3")
    engine.settle()
    async with viewing(engine, latest="projection", operations=Side(engine.open())) as viewer:
        document = read((await viewer.get("/runs")).text)
        page = read((await viewer.get("/operations")).text)
    standing = await standing_of(open_engine(engine.open()))
    lag = sum(each["lag"] for each in standing.ranges)
    assert lag == 3
    assert told(document) == "Listed from the projection, 3 commits behind the log; nobody reads on."
    assert "Lag 3 commits Read by nobody" in page.text


@pytest.mark.parametrize("latest", ["log", "projection"])
async def test_each_list_is_the_command_s_for_the_same_latest_however_late_that_is(
    engine: Engine, cli: Cli, latest: Any
) -> None:
    await ask(engine, question(1, ago={"days": 1}))
    await engine.open().append(event("late", 1, workflow="orders"))
    engine.settle()
    async with viewing(engine, latest=latest) as viewer:
        for command in ("runs", "inbox"):
            lines = (await viewer.get(f"/{command}", params={"format": "jsonl"})).text
            assert lines == (await cli.json(command, "--latest", latest)).out
            assert ("late" in lines) is (command == "runs" and latest == "log")


async def test_of_very_many_ranges_no_more_are_asked_than_a_page_shows_and_the_page_says_so(engine: Engine) -> None:
    many = [{**of_range(1), "range": str(each), "state": "free", "position": "1", "attempts": 0, "error": None}
            for each in range(ASKED)]  # fmt: skip
    many += [{**each, "lag": None} for each in many[:20]]
    await ask(engine, question(1, ago={"days": 1}))
    async with viewing(engine, operations=Told(*many)) as viewer:
        page = read((await viewer.get("/operations")).text)
    assert f"Lag {ASKED} commits of {ASKED} ranges; how far 20 more lie behind was not asked" in page.text
    rig = Rig(engine)
    await rig.writer.write("r1")
    engine.settle()
    await Projector(open_engine(engine.open()), ProcessorOptions(poll_interval=0.1)).rebuild(lambda *_: None)
    engine.settle()
    standing = await standing_of(open_engine(engine.open()), ask_at_most=0)
    assert standing.ranges
    assert {each["lag"] for each in standing.ranges} == {None}


async def test_what_was_answered_here_does_not_wait_in_a_list_that_is_late(engine: Engine) -> None:
    await asked(engine, "shoes")
    engine.settle()
    await Projector(open_engine(engine.open()), ProcessorOptions(poll_interval=0.1)).rebuild(lambda *_: None)
    engine.settle()
    async with Answering(storage_on(engine), lambda: refund(Paid()), token=TOKEN, wait=0.0) as answering:
        late = create_app(CheckpointAudit(audited(engine), latest="projection"), answering=answering)
        async with Viewers(late, answering).browser("ann") as ann:
            [row] = (await ann.page("/inbox")).table().records()
            assert row["Question"] == "may-shoes"
            assert (await ann.answer()).status_code == 303
            engine.settle()
            [row] = (await ann.page("/inbox")).table().records()
            assert row["Question"] == "may-shoes ann answered it; the projection does not know that yet"
        never_late = create_app(CheckpointAudit(audited(engine)), answering=answering)
        async with Viewers(never_late, answering).browser("ann") as ann:
            assert (await ann.page("/inbox")).all("table") == []
