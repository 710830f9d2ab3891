"""What a page of waiting runs costs on Cosmos DB, and where the container's policy is not that of today."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from eventckpt import CosmosEventStore, RunInfo
from eventckpt.events import PendingRequest
from eventckpt.stores import RunFilter, RunStore
from eventckpt.stores.cosmos.runs import PROJECTION_INDEXING

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .cosmos_stores import asked

WAITING = RunFilter(waiting=True)
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def waiting(run: str, second: int, **fields: Any) -> RunInfo:
    question = PendingRequest(
        request_id="q",
        source_executor_id="clerk",
        request_type="app:Approval",
        asked_at=(BEGUN + timedelta(seconds=second)).isoformat(),
    )
    return RunInfo(
        workflow_name="w", run_id=run, seq=1, digest="x", status="waiting", pending_requests=(question,), **fields
    )


def one_query(pages: int) -> dict[str, int]:
    """The requests of one query for each page. Of what is sorted over partitions the SDK asks the service first, which
    refuses it; then for a plan; only then the partition gives rows."""
    return {"query": 2 * pages, "query_plan": pages}


async def paged(runs: RunStore, which: RunFilter, limit: int) -> tuple[list[str], int]:
    """The runs that the pages give, and how many pages there were."""
    found: list[str] = []
    pages, after = 0, None
    while True:
        page = await runs.page(which, after=after, limit=limit)
        pages += 1
        found += [info.run_id for info in page.runs]
        if (after := page.after) is None:
            return found, pages


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 400])
async def test_each_page_is_one_query_however_many_wait(count: int) -> None:
    async with CosmosEmulator() as emulator, CosmosEventStore(**where(emulator)) as store:
        runs = store.run_store("latest")  # by its name: which one is in use is asked again after seconds
        await runs.put(*(waiting(f"run {each:03}", each * 7919 % 1_009, tags={"n": "1"}) for each in range(count)))
        await runs.put(RunInfo(workflow_name="w", run_id="x", seq=1, digest="x"))
        await runs.page(WAITING)  # opens
        everything = sorted(range(count), key=lambda each: each * 7919 % 1_009)
        for which in (
            WAITING,
            RunFilter("w", waiting=True, tags={"n": "1"}, request_type="app:Approval", asked_before=datetime.now(UTC)),
        ):
            emulator.reset()
            found, pages = await paged(runs, which, 10)
            assert found == [f"run {each:03}" for each in everything]
            assert asked(emulator) == one_query(pages)
            assert pages <= count // 10 + 1


async def test_a_filter_that_few_fit_takes_no_more_queries() -> None:
    async with CosmosEmulator() as emulator, CosmosEventStore(**where(emulator)) as store:
        runs = store.run_store()
        await runs.put(*(waiting(f"run {each:03}", each, tags={"rare": str(each == 150)}) for each in range(200)))
        await runs.page(WAITING)
        emulator.reset()
        found, pages = await paged(runs, RunFilter(waiting=True, tags={"rare": "True"}), 10)
        assert (found, pages) == (["run 150"], 1)
        assert asked(emulator) == one_query(1)


@pytest.mark.parametrize(
    "paths",
    [
        [path for path in PROJECTION_INDEXING["includedPaths"] if path["path"] != "/waiting_since/?"],
        [{"path": "/*"}],
    ],
    ids=["of the version before", "the service's own"],
)
async def test_where_documents_may_lack_it_all_are_read_and_none_is_missed(paths: list[dict[str, str]]) -> None:
    """A version before has written some of them."""
    excluded = [] if paths == [{"path": "/*"}] else [{"path": "/*"}]
    policy = {**PROJECTION_INDEXING, "includedPaths": paths, "excludedPaths": excluded}
    async with CosmosEmulator() as emulator, CosmosClient(emulator.endpoint, emulator.key) as client:
        database = await client.create_database("db")
        container = await database.create_container(
            "events-projections", PartitionKey("/stream", version=2), indexing_policy=policy
        )
        async with CosmosEventStore(**where(emulator)) as store:
            runs = store.run_store()
            await runs.put(*(waiting(name, second) for name, second in zip("abcde", (3, 1, 5, 2, 4), strict=True)))
            async for item in container.query_items("SELECT * FROM c WHERE c.run_id = 'd'"):
                del item["waiting_since"]
                await container.replace_item(item["id"], item)
            for limit in (1, 2, 5):
                assert (await paged(runs, WAITING, limit))[0] == ["b", "d", "a", "e", "c"]


@pytest.mark.parametrize(
    "value", [5, None, ["x"], "", "~", "z" * 40_000, "2026", "z" * 32], ids=lambda value: str(value)[:9]
)
async def test_a_time_that_somebody_wrote_beside_a_document_hides_no_other(value: object) -> None:
    async with CosmosEmulator() as emulator, CosmosEventStore(**where(emulator)) as store:
        runs = store.run_store()
        await runs.put(*(waiting(name, second) for second, name in enumerate("abcdefgh")))
        async with CosmosClient(emulator.endpoint, emulator.key) as client:
            database = client.get_database_client("db")
            container = database.get_container_client("events-projections")
            async for item in container.query_items(
                "SELECT * FROM c WHERE ARRAY_CONTAINS(['b', 'c', 'd', 'e'], c.run_id)"
            ):
                await container.replace_item(item["id"], {**item, "waiting_since": value})
        for limit in (1, 2, 100):
            assert (await paged(runs, WAITING, limit))[0] == ["a", "f", "g", "h"]
