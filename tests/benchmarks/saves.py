"""Processor time of a save, and saves a second, beside the peers: each contender a process of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from .before import base_folder
from .cosmos_server import emulator_process
from .measure import PRINTED, Bound, Figure, Line, Measured, Plot, Sample, at_least, at_most, compared, not_installed
from .peers import has_langgraph
from .turns import Contender, Turn, take_turns

__all__ = ["conversation", "documents", "parallel", "upstream"]

OURS, BEFORE, LANGGRAPH = "eventckpt", "before", "LangGraph"


class Peer(NamedTuple):
    """Who is compared, how it is called in a report, and what the ratio is held to."""

    name: str
    shown: str
    bound: Bound = PRINTED


FILE: Final = Peer("File", "FileCheckpointStorage")
MEMORY: Final = Peer("InMemory", "InMemoryCheckpointStorage")
DEEPCOPY: Final = Peer("deepcopy", "deepcopy, the framework's own before each save")
PICKLE: Final = Peer("pickle", "pickle")
SAVER: Final = Peer(LANGGRAPH, "LangGraph's AsyncSqliteSaver")
BARE: Final = Peer("bare sqlite3", "bare sqlite3, one INSERT")

BOUNDS: Final = {(300, FILE.name): at_most(0.5), (1000, DEEPCOPY.name): at_most(1.0)}
"""Of the processor time of a save of so many messages."""


async def conversation(sizes: tuple[int, ...] = (30, 100, 300, 1000), rounds: int = 30) -> Measured:
    """The processor time of a save of a conversation of so many messages, all threads included."""
    figures: list[Figure] = []
    medians: dict[str, list[float]] = {}
    for size in sizes:
        peers = [
            peer._replace(bound=BOUNDS.get((size, peer.name), PRINTED)) for peer in (FILE, MEMORY, DEEPCOPY, PICKLE)
        ]
        objects = await _turns(rounds, "save", "messages", size, peers)
        dicts = await _turns(rounds, "save", "dicts", size, [SAVER])
        figures += _rows(f"save at {size:,} messages, CPU", _cpu(objects), peers)
        figures += _rows(f"save at {size:,} messages in plain dicts, CPU", _cpu(dicts), [SAVER])
        for name, sample in (_cpu(dicts) | _cpu(objects)).items():
            medians.setdefault(name, []).append(sample.median * 1000)
    lines = [Line(name, sizes, values) for name, values in medians.items() if name != BEFORE]
    return Measured(figures, Plot("save-cpu", "messages in the conversation", "CPU of a save, ms", lines))


async def documents(sizes: tuple[int, ...] = (1_000, 10_000), rounds: int = 100) -> list[Figure]:
    """A save of so many bytes that are all new and do not compress: what a save costs beside its state."""
    figures: list[Figure] = []
    peers = [BARE, FILE, SAVER]
    for size in sizes:
        turns = await _turns(rounds, "save", "document", size, peers)
        figures += _rows(f"save of {size // 1000} KB, CPU", _cpu(turns), peers)
        figures += _rows(f"save of {size // 1000} KB, by the clock", _wall(turns), peers)
    return figures


async def parallel(runs: tuple[int, ...] = (64, 256), saves: int = 512, rounds: int = 9) -> list[Figure]:
    """So many runs at a time, each saving 10 KB that are all new."""
    figures: list[Figure] = []
    peers = [SAVER._replace(bound=at_least(3.0)), FILE, MEMORY]
    for count in runs:
        each = max(1, saves // count)
        turns = await _turns(rounds, "parallel", "document", 10_000, peers, count, each)
        total = count * each
        rates = {name: Sample([total / turn.wall for turn in taken], _per_s) for name, taken in turns.items()}
        by_cpu = {name: Sample([total / turn.cpu for turn in taken], _per_s) for name, taken in turns.items()}
        figures += _rows(f"{count} runs in parallel, saves a second", rates, peers)
        free = [peer._replace(bound=PRINTED) for peer in peers]
        figures += _rows(f"{count} runs in parallel, saves for a second of CPU", by_cpu, free)
    return figures


async def upstream(messages: tuple[int, ...] = (30, 300), rounds: int = 30) -> list[Figure]:
    """The client's processor time of a save to Cosmos DB, beside the framework's own store for it."""
    peer = Peer("CosmosCheckpointStorage", "upstream's CosmosCheckpointStorage")
    figures: list[Figure] = []
    async with emulator_process() as (endpoint, key):
        for size in messages:
            place = (endpoint, key)
            ours = "eventckpt on Cosmos DB"
            turns = await take_turns(rounds, list(_contenders(ours, "save", "messages", size, [peer], *place)))
            figures += _rows(f"save at {size:,} messages, client's CPU", _cpu(turns), [peer])
    return figures


async def _turns(rounds: int, job: str, state: str, size: int, peers: list[Peer], *more: int) -> dict[str, list[Turn]]:
    there = [peer for peer in peers if peer.name != LANGGRAPH or has_langgraph()]
    return await take_turns(rounds, list(_contenders(OURS, job, state, size, there, *more)))


def _contenders(ours: str, job: str, state: str, size: int, peers: list[Peer], *more: str | int) -> Iterable[Contender]:
    yield Contender(OURS, job, (ours, state, size, *more))
    for peer in peers:
        yield Contender(peer.name, job, (peer.name, state, size, *more))
    if folder := base_folder():
        yield Contender(BEFORE, job, (ours, state, size, *more), folder)


def _rows(what: str, samples: dict[str, Sample], peers: list[Peer]) -> list[Figure]:
    ours, before = samples[OURS], samples.get(BEFORE)
    return [
        compared(what, ours, samples[peer.name], peer.shown, peer.bound, before)
        if peer.name in samples
        else not_installed(what, ours, peer.shown, peer.bound)
        for peer in peers
    ]


def _cpu(turns: dict[str, list[Turn]]) -> dict[str, Sample]:
    return {name: Sample([turn.cpu for turn in taken], _ms) for name, taken in turns.items()}


def _wall(turns: dict[str, list[Turn]]) -> dict[str, Sample]:
    return {name: Sample([turn.wall for turn in taken], _ms) for name, taken in turns.items()}


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _per_s(rate: float) -> str:
    return f"{rate:,.0f} /s"
