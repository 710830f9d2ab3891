"""Azure Cosmos DB: request units, requests and client time, on the emulator of the test suite.

Compared with `agent_framework_azure_cosmos.CosmosCheckpointStorage`. Request units are the emulator's, which computes
them by the service's published rules and its table, which the service calls illustrative
(tests/cosmos_emulator/charges.py): good for comparing two stores in one run, not for predicting a bill to the last
digit. No account of the service was asked.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import agent_framework_azure_cosmos as upstream
from agent_framework import CheckpointStorage, WorkflowCheckpoint
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from eventckpt import CheckpointCodec, CosmosCheckpointStorage
from eventckpt.delta import Base, encode
from eventckpt.stores.cosmos import INDEXING_POLICY, PARTITION_KEY

from ..cosmos_emulator import CosmosEmulator, RequestRecord
from .cosmos_server import emulator_process
from .measure import PRINTED, Bound, Figure, Sample, at_least, at_most, compared
from .states import message
from .turns import Turn

__all__ = ["charges", "client_time", "operations"]

WORKFLOW, RUN = "chat", "r"
DATABASE = "benchmarks"
TOO_LARGE = 413


def supersteps(count: int) -> Iterator[WorkflowCheckpoint]:
    """The conversation: each superstep adds one 80-word message and changes one other small value."""
    rng = random.Random(1)
    messages = [message(rng) for _ in range(count)]
    previous = None
    for step in range(1, count + 1):
        state = {"_executor_state": {"agent": {"cache": messages[:step]}}, "step": step}
        checkpoint = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        previous = checkpoint.checkpoint_id
        yield checkpoint


# Request units and requests: the emulator in this process, which keeps the books


class Cost(NamedTuple):
    """What one operation took."""

    requests: list[RequestRecord]

    @property
    def units(self) -> float:
        return sum(request.charge for request in self.requests)

    def __str__(self) -> str:
        count = len(self.requests)
        return f"{count} request{'' if count == 1 else 's'}, {self.units:,.1f} RU"


async def cost(emulator: CosmosEmulator, operation: Awaitable[object]) -> Cost:
    emulator.reset()
    await operation
    return Cost(list(emulator.requests))


async def charges(short: int = 300, long: int = 1000) -> list[Figure]:
    """What the saves of a conversation cost."""
    ours: list[Cost] = []
    theirs: list[Cost] = []
    async with CosmosEmulator() as emulator, opened_ours(emulator) as storage, opened_theirs(emulator) as other:
        for step, checkpoint in enumerate(supersteps(long), 1):
            ours.append(await cost(emulator, storage.for_run(RUN).save(checkpoint)))
            if len(theirs) < step - 1:
                continue
            try:
                theirs.append(await cost(emulator, other.save(checkpoint)))
            except CosmosHttpResponseError as error:
                if error.status_code != TOO_LARGE:
                    raise
                print(f"Superstep {step} exceeds 2 MB upstream and is refused; what is compared ends before it.")
            else:
                await other.delete(checkpoint.checkpoint_id)  # only its cost matters here, and it takes memory
    both = len(theirs)
    most = max(len(each.requests) for each in ours)
    return [
        units_a_superstep(f"the first {short}", ours[:short], theirs[:short], at_least(20)),
        units_a_superstep(f"{short - 49} to {short}", ours[short - 50 : short], theirs[short - 50 : short], PRINTED),
        units_a_superstep(f"the first {both}", ours[:both], theirs, at_least(75)),
        dearest(ours[:both], theirs),
        Figure(f"requests of a save, most of {long}", str(most), "1", most, "1", most == 1),
    ]


def units_a_superstep(which: str, ours: list[Cost], theirs: list[Cost], bound: Bound) -> Figure:
    mine, other = (statistics.fmean(each.units for each in costs) for costs in (ours, theirs))
    ratio = other / mine
    return Figure(
        f"RU a superstep, mean of {which}", f"{mine:,.2f} RU", f"{other:,.1f} RU", ratio, bound.text, bound.holds(ratio)
    )


def dearest(ours: list[Cost], theirs: list[Cost]) -> Figure:
    mine, other = (max(each.units for each in costs) for costs in (ours, theirs))
    return Figure(f"RU of the dearest of {len(ours)}", f"{mine:,.1f} RU", f"{other:,.1f} RU", other / mine, "printed",
                  True)  # fmt: skip


async def operations(count: int = 300) -> list[Figure]:
    """What one operation takes after a conversation of `count` supersteps, in a process that has cached nothing of it:
    requests are held to a bound, and the ratio is that of request units."""
    async with CosmosEmulator() as emulator:
        last = ""
        async with opened_ours(emulator) as storage, opened_theirs(emulator) as other:
            for checkpoint in supersteps(count):
                await storage.for_run(RUN).save(checkpoint)
                last = await other.save(checkpoint)

        async def figure(name: str, operation: Operation, bound: str, limit: Limit) -> Figure:
            async with opened_ours(emulator) as storage, opened_theirs(emulator) as other:
                asked = storage if "unbound" in name else storage.for_run(RUN, workflow_name=WORKFLOW)
                mine = await cost(emulator, operation(asked))
                theirs = await cost(emulator, operation(other))
            return Figure(name, str(mine), str(theirs), mine.units / theirs.units, bound, limit(mine))

        def load(storage: CheckpointStorage) -> Awaitable[object]:
            return storage.load(last)

        def get_latest(storage: CheckpointStorage) -> Awaitable[object]:
            return storage.get_latest(workflow_name=WORKFLOW)

        def list_ids(storage: CheckpointStorage) -> Awaitable[object]:
            return storage.list_checkpoint_ids(workflow_name=WORKFLOW)

        return [
            await figure("load, bound to the run", load, "≤ 2 requests, +1 base", requests_at_most(3)),
            await figure("load, unbound", load, "≤ 3 requests, +1 base", requests_at_most(4)),
            await figure("get_latest, bound to the run", get_latest, "≤ 2 requests, +1 base", requests_at_most(3)),
            await figure("get_latest, unbound", get_latest, "printed", anything),
            await figure(f"list_checkpoint_ids, {count}, bound", list_ids, "1 request a page", pages_only),
            await figure(f"list_checkpoint_ids, {count}, unbound", list_ids, "printed", anything),
            await figure("delete, bound to the run", lambda storage: storage.delete(last), "printed", anything),
        ]


Operation = Callable[[CheckpointStorage], Awaitable[object]]
Limit = Callable[[Cost], bool]


def requests_at_most(requests: int) -> Limit:
    return lambda cost: len(cost.requests) <= requests


def pages_only(cost: Cost) -> bool:
    return all((request.kind, request.status) == ("query", 200) for request in cost.requests)


def anything(_: Cost) -> bool:
    return True


@asynccontextmanager
async def opened_ours(emulator: CosmosEmulator) -> AsyncGenerator[CosmosCheckpointStorage, None]:
    """A storage that has found its container, which happens once, and knows nothing else."""
    async with CosmosCheckpointStorage(
        endpoint=emulator.endpoint, credential=emulator.key, database_name=DATABASE, container_name="ours"
    ) as storage:
        await storage.list_checkpoint_ids(workflow_name="another")
        yield storage


@asynccontextmanager
async def opened_theirs(emulator: CosmosEmulator) -> AsyncGenerator[upstream.CosmosCheckpointStorage, None]:
    async with upstream.CosmosCheckpointStorage(
        endpoint=emulator.endpoint, credential=emulator.key, database_name=DATABASE, container_name="theirs"
    ) as storage:
        await storage.list_checkpoint_ids(workflow_name="another")
        yield storage


# Client time: the emulator in a process of its own, so that its work is not counted


async def client_time(count: int = 300, last: int = 100, small: int = 300) -> list[Figure]:
    """A save against what any storage would have to do for it: encode the checkpoint, check that it can be decoded,
    and create one item of the same bytes by a client as the SDK makes it."""
    chat = await _client_turns(supersteps(count))
    figures: list[Figure] = []
    for what, chosen in ((f"first {last} of {count}", slice(last)), (f"last {last} of {count}", slice(-last, None))):
        of_all = chosen == slice(last)
        figures += _client_figures(what, [turns[chosen] for turns in chat], PRINTED if of_all else at_most(1.35))
    return figures + _client_figures("1 KB, all new", await _client_turns(_kilobytes(small)), at_most(1.0))


def _kilobytes(count: int) -> Iterator[WorkflowCheckpoint]:
    rng, previous = random.Random(2), None
    for _ in range(count):
        state = {"document": rng.randbytes(1_000)}
        checkpoint = WorkflowCheckpoint(WORKFLOW, "graph", previous_checkpoint_id=previous, state=state)
        previous = checkpoint.checkpoint_id
        yield checkpoint


async def _client_turns(checkpoints: Iterable[WorkflowCheckpoint]) -> list[list[Turn]]:
    """The turns of a save, of the bare work with the check, and of that without it; each save in random order."""
    turns: list[list[Turn]] = [[], [], []]
    order = random.Random(1)
    async with emulator_process() as (endpoint, key), CosmosClient(endpoint, key) as client:
        database = await client.create_database_if_not_exists(DATABASE)
        model, checked, unchecked = [
            await database.create_container(name, PartitionKey(PARTITION_KEY), indexing_policy=INDEXING_POLICY)
            for name in ("model", "checked", "unchecked")
        ]
        place = {"endpoint": endpoint, "credential": key, "database_name": DATABASE}
        async with (
            CosmosCheckpointStorage(container_client=model) as first,
            CosmosCheckpointStorage(**place, container_name="timed") as second,
        ):
            bare = BareSaves()
            for seq, checkpoint in enumerate(checkpoints, 1):
                await first.for_run(RUN).save(checkpoint)
                item = await model.read_item(f"{seq:012}", f"{WORKFLOW}|{RUN}")
                body = {name: value for name, value in item.items() if not name.startswith("_")}
                contenders = (
                    partial(second.for_run(RUN).save, checkpoint),
                    partial(bare.save, checkpoint, body, checked, check=True),
                    partial(bare.save, checkpoint, body, unchecked, check=False),
                )
                for turn in order.sample(range(3), 3):
                    wall, cpu = time.perf_counter(), time.process_time()
                    await contenders[turn]()
                    turns[turn].append(Turn(time.perf_counter() - wall, time.process_time() - cpu))
                bare.saved(seq, checkpoint, body)
    return turns


def _client_figures(what: str, turns: list[list[Turn]], bound: Bound) -> list[Figure]:
    walls = [Sample([turn.wall for turn in taken], _ms) for taken in turns]
    cpus = [Sample([turn.cpu for turn in taken], _ms) for taken in turns]
    figures: list[Figure] = []
    for clock, (ours, with_check, without) in (("", walls), (", CPU", cpus)):
        figures += [
            compared(f"save, {what}{clock}", ours, with_check, "encode, check, create_item"),
            compared(f"save, {what}{clock}", ours, without, "encode, create_item", bound if clock else PRINTED),
        ]
    return figures


class BareSaves:
    """The same work without a storage: no lineage, no conflict to look for, nothing remembered but the base."""

    def __init__(self) -> None:
        self._codec = CheckpointCodec()
        self._base: Base | None = None
        self._since_base = 0

    async def save(
        self, checkpoint: WorkflowCheckpoint, body: dict[str, Any], container: ContainerProxy, *, check: bool
    ) -> None:
        raw = self._codec.encode(checkpoint)
        if check:
            self._codec.decode(raw)
        payload = encode(raw, self._base, since_base=self._since_base)
        assert payload.stored_size == body["payload"]["stored_size"], "the bare save has to make the same bytes"
        await container.create_item(body, no_response=True, retry_write=3)

    def saved(self, seq: int, checkpoint: WorkflowCheckpoint, body: dict[str, Any]) -> None:
        payload = body["payload"]
        self._since_base = payload.get("since_base", 0)
        if "base_seq" not in payload:
            self._base = Base(seq, self._codec.encode(checkpoint), payload["stored_size"])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
