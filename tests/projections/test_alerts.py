"""The alerts that docs/projector.md gives: they fire where they should, for real workers, and not before."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .commands import PATIENCE, Worker, projected, running
from .promql import Scrape, documented_metrics, evaluated, metrics_in, scraped
from .rig import Rig

pytestmark = pytest.mark.slow  # workers, and the minutes that an alert waits

ROOT = Path(__file__).parent.parent.parent
PACE = ("--poll-interval", "0.05", "--acquire-interval", "0.1")


def alerts() -> dict[str, str]:
    """Each alert's expression, by its name."""
    text = (ROOT / "docs/projector.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(groups:.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    [group] = yaml.safe_load(block)["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


async def scrape(*workers: Worker) -> Scrape:
    return scraped([(await worker.page("/metrics"))[1] for worker in workers])


async def firing(*scrapes: Scrape) -> set[str]:
    return {name for name, expression in alerts().items() if evaluated(expression, scrapes)}


async def until_firing(alert: str, look: Callable[[], Awaitable[Scrape]], before: Scrape) -> set[str]:
    """The alerts that fire, once this one does."""
    async with asyncio.timeout(PATIENCE):
        while alert not in (found := await firing(before, await look())):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)
    return found


async def test_a_service_that_froze(cosmos_rig: Rig) -> None:
    rig, answers = cosmos_rig, asyncio.Event()
    await rig.writer.write("a")
    async with running(rig, *PACE, "--max-poll-age", "1") as worker:
        await projected(rig, "a", 1)
        before = await scrape(worker)
        assert await firing(before, before) == set()
        with rig.emulator.faults.delay(until=answers):
            assert await until_firing("ProjectorNotReady", lambda: scrape(worker), before) <= {
                "ProjectorNotReady",
                "ProjectorRangeUnread",
            }
            answers.set()
        await worker.until("/healthz", lambda code, body: code == 200)
        assert await firing(before, await scrape(worker)) == set()


async def test_an_owner_that_was_killed(sqlite_rig: Rig) -> None:
    """As long as nobody has taken its range over, the workers that are left tell of it."""
    rig = sqlite_rig
    await rig.writer.write("a")
    term = ("--renew-interval", "0.3", "--expiry", "60", "--max-poll-age", "1.5")
    async with running(rig, *PACE, *term) as first:
        await projected(rig, "a", 1)
        async with running(rig, *PACE, *term) as second:
            await second.until("/metrics", lambda code, body: 'projector_lag{range="-FF"}' in body)
            before = await scrape(first, second)
            assert await firing(before, before) == set()
            await first.killed()
            assert await until_firing("ProjectorRangeUnread", lambda: scrape(second), await scrape(second)) == {
                "ProjectorRangeUnread"
            }
            assert (await second.health())[0] == 200, "it does what it can"


async def test_a_range_that_was_stopped(cosmos_rig: Rig) -> None:
    """Also for a worker that came later, and stopped nothing itself."""
    rig = cosmos_rig
    _, container = rig.place
    await rig.writer.write("a")
    writes = {"create_item", "upsert_item", "replace_item", "batch"}
    with rig.emulator.faults.respond(400, container=f"{container}-projections", kind=writes):
        async with running(rig, *PACE, "--max-attempts", "1") as first:
            await first.until("/metrics", lambda code, body: 'stopped_total{range="-FF"} 1.0' in body)
            assert await first.terminated() == 0
    async with running(rig, *PACE) as second:
        assert await until_firing("ProjectorRangeStopped", lambda: scrape(second), {}) == {"ProjectorRangeStopped"}


def test_an_absent_worker_is_an_alert_and_a_counter_that_stands_is_none() -> None:
    page = 'a_total{range="1"} %s\n'
    assert evaluated("absent(a_total)", [scraped([])]) == {frozenset(): 1.0}
    assert evaluated("absent(a_total)", [scraped([page % 1])]) == {}
    assert evaluated("increase(a_total[5m]) > 0", [scraped([page % 1])] * 2) == {}
    assert list(evaluated("increase(a_total[5m]) > 0", [scraped([page % 1]), scraped([page % 3])]).values()) == [2.0]
    two = [scraped([page % 1, page % 5])]
    assert list(evaluated("min by (range) (a_total)", two).values()) == [1.0]
    assert evaluated("count(max by (range) (a_total) > 4)", two) == {frozenset(): 1.0}
    with pytest.raises(ValueError, match="No PromQL"):
        evaluated("rate(a_total[5m])", two)


@pytest.mark.parametrize("name", alerts())
def test_an_alert_names_metrics_that_the_page_documents(name: str) -> None:
    text = (ROOT / "docs/projector.md").read_text(encoding="utf-8")
    documented = documented_metrics(text)
    assert metrics_in(alerts()[name]) <= documented


def test_the_scaler_asks_for_metrics_that_there_are() -> None:
    [scaled] = yaml.safe_load_all((ROOT / "samples/kubernetes/keda-prometheus.yaml").read_text(encoding="utf-8"))
    metadata: dict[str, Any] = scaled["spec"]["triggers"][0]["metadata"]
    page = 'eventckpt_projector_lag{range="%s"} %s\n'
    seen = [page % ("-80", 3) + page % ("80-FF", 0), page % ("-80", 5)]
    assert evaluated(metadata["query"], [scraped(seen)]) == {frozenset(): 1.0}
