"""The codec against the framework's, and saves and reads on SQLite against bare SQLite and `FileCheckpointStorage`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

from agent_framework import FileCheckpointStorage, WorkflowCheckpoint
from agent_framework._workflows._checkpoint_encoding import decode_checkpoint_value, encode_checkpoint_value

from eventckpt import CheckpointCodec, CheckpointDecodeError, SqliteCheckpointStorage, StreamId
from tests import checkpoint_types
from tests.hostile import CORPUS, RAW, raw_with

from .measure import Figure, alternately, alternately_async
from .states import message

__all__ = ["attacks", "codec", "conversation", "reads", "saves"]


def conversation(length: int) -> WorkflowCheckpoint:
    """A checkpoint whose agent has `length` messages in its memory."""
    rng = random.Random(length)
    messages = [message(rng) for _ in range(length)]
    return WorkflowCheckpoint("chat", "graph", state={"_executor_state": {"agent": {"cache": messages}}})


def codec(messages: int = 1000, rounds: int = 60) -> list[Figure]:
    """Encoding and decoding a checkpoint of so many messages."""
    checkpoint = conversation(messages)
    codec = CheckpointCodec()
    raw, theirs = codec.encode(checkpoint), encode_checkpoint_value(checkpoint.to_dict())
    ours_encode, theirs_encode, ours_decode, theirs_decode = alternately(
        rounds,
        lambda: codec.encode(checkpoint),
        lambda: json.dumps(encode_checkpoint_value(checkpoint.to_dict()), ensure_ascii=False),
        lambda: codec.decode(raw),
        lambda: decode_checkpoint_value(theirs, allowed_types=frozenset()),
    )
    encoding, decoding = ours_encode / theirs_encode, ours_decode / theirs_decode
    return [
        Figure(
            f"encode {messages:,} messages", _ms(ours_encode), _ms(theirs_encode), encoding, "≤ 1.0 ×", encoding <= 1.0
        ),
        Figure(
            f"decode {messages:,} messages",
            _ms(ours_decode),
            _ms(theirs_decode),
            decoding,
            "≤ 0.62 ×",
            decoding <= 0.62,
        ),
    ]


def attacks() -> list[Figure]:
    """What it costs to refuse each attack on the codec that was found, of at most 1 MB."""
    codec, slowest, name_of_slowest = CheckpointCodec(checkpoint_types.ALLOWED), 0.0, ""
    raws = {name: raw_with(node) for name, node in CORPUS.items()} | RAW
    for name, raw in raws.items():
        took = _refusal(codec, raw)
        if took > slowest:  # least of three: what else runs on the machine only ever adds
            took = min(took, _refusal(codec, raw), _refusal(codec, raw))
        if took > slowest:
            slowest, name_of_slowest = took, name
    what = f"refuse the worst of {len(raws)} attacks ({name_of_slowest})"
    return [Figure(what, _ms(slowest), "", slowest / 0.5, "≤ 500 ms of CPU", slowest <= 0.5)]


def _refusal(codec: CheckpointCodec, raw: bytes) -> float:
    started = time.process_time()
    with contextlib.suppress(CheckpointDecodeError):
        codec.decode(raw)
    return time.process_time() - started


async def saves(turns: int = 7) -> list[Figure]:
    """Saves of 10 KB payloads, one after the other and 64 runs at a time."""
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteCheckpointStorage(Path(folder, "ours.db"))
        checkpoint = _ten_kilobytes()
        await storage.for_run("sample").save(checkpoint)
        [event] = await storage.store.read(StreamId(checkpoint.workflow_name, "sample"), 1)
        assert event.payload is not None
        header = b"h" * 700  # about what an event's header takes
        bare = sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE events (stream TEXT, seq INTEGER, header BLOB, data BLOB, UNIQUE (stream, seq))")

        rates: dict[str, list[float]] = {"bare": [], "one": [], "many": []}
        for turn in range(turns):
            started = time.perf_counter()
            for seq in range(100):
                bare.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (str(turn), seq, header, event.payload.data))
            rates["bare"].append(100 / (time.perf_counter() - started))
            rates["one"].append(await _rate(storage, f"one-{turn}", runs=1, each=100))
            rates["many"].append(await _rate(storage, f"many-{turn}", runs=64, each=10))
        bare.close()
        await storage.close()
    inserts, one, many = (statistics.median(rates[name]) for name in ("bare", "one", "many"))
    return [
        Figure("sequential saves of 10 KB", _per_s(one), f"{_per_s(inserts)} bare SQLite", one / inserts, "≥ 0.5 ×",
               one / inserts >= 0.5),
        Figure("64 runs in parallel", _per_s(many), f"{_per_s(one)} sequential", many / one, "≥ 3 ×", many / one >= 3),
    ]  # fmt: skip


async def reads(supersteps: int = 300) -> list[Figure]:
    """`get_latest` after a conversation of `supersteps` supersteps."""
    with tempfile.TemporaryDirectory() as folder:
        ours = SqliteCheckpointStorage(Path(folder, "ours.db"), synchronous="NORMAL")
        theirs = FileCheckpointStorage(Path(folder, "theirs"))
        messages = conversation(supersteps).state["_executor_state"]["agent"]["cache"]
        previous = None
        for step in range(supersteps):
            state = {"_executor_state": {"agent": {"cache": messages[: step + 1]}}, "step": step}
            checkpoint = WorkflowCheckpoint("chat", "graph", previous_checkpoint_id=previous, state=state)
            previous = await ours.save(checkpoint)
            await theirs.save(checkpoint)
        contenders: list[Callable[[], Awaitable[object]]] = [
            lambda: ours.get_latest(workflow_name="chat"),
            lambda: theirs.get_latest(workflow_name="chat"),
        ]
        one, other = await alternately_async(3, *contenders)
        await ours.close()
    ratio = other / one
    what = f"get_latest after {supersteps} supersteps"
    return [Figure(what, _ms(one), f"{_ms(other)} File", ratio, "≥ 100 ×", ratio >= 100)]


async def _rate(storage: SqliteCheckpointStorage, name: str, *, runs: int, each: int) -> float:
    """Saves a second of `runs` lineages of `each` checkpoints, all at once."""

    lineages = [[_ten_kilobytes() for _ in range(each)] for _ in range(runs)]
    for checkpoints in lineages:
        for before, after in pairwise(checkpoints):
            after.previous_checkpoint_id = before.checkpoint_id

    async def lineage(number: int) -> None:
        run = storage.for_run(f"{name}-{number}")
        for checkpoint in lineages[number]:
            await run.save(checkpoint)

    started = time.perf_counter()
    await asyncio.gather(*(lineage(number) for number in range(runs)))
    return runs * each / (time.perf_counter() - started)


_noise = random.Random(10)


def _ten_kilobytes() -> WorkflowCheckpoint:
    """A checkpoint whose payload takes 10 KB even compressed."""
    return WorkflowCheckpoint("orders", "graph", state={"document": _noise.randbytes(10_000)})


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _per_s(rate: float) -> str:
    return f"{rate:,.0f}/s"
