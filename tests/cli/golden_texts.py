"""The store that the texts in `tests/cli/golden` show, and how both are made anew: `python -m tests.cli.golden_texts`
writes the texts, and with `--store` the store before them, from what this version saves.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from agent_framework import WorkflowCheckpoint, WorkflowEvent
from typer.testing import CliRunner, Result

from eventckpt import CheckpointAudit, CheckpointEvent, SqliteEventStore, describe_request
from eventckpt.chain import sealed
from eventckpt.cli import app
from eventckpt.cli.output import Screen
from eventckpt.events import PendingRequest
from eventckpt.storage import EventCheckpointStorage
from eventckpt.stores import AuditStore

from ..conversations import branched, session, talked
from .conftest import GRAPH, message

__all__ = ["FOLDER", "HOSTILE", "NOW", "TEXTS", "WIDTHS", "Asked", "filled", "in_one", "printed"]

FOLDER = Path(__file__).parent / "golden"
WIDTHS = (60, 80, 120, 200)
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)

HOSTILE = (
    "evil\x1b]0;owned\x07\x1b[2J\r\n[bold red]x[/] :smile:",
    "注文番号-一二三四五六七八九十-0001",
    "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301 combined",
    "🚀🚀🚀🚀🚀🚀🚀🚀❤️ launched",
    "הזמנה-\u202e\u2066-123456789",
    f"{'x' * 254}1",
    f"{'x' * 254}2",
    "shortened…already",
)
"""Ids of runs that whoever names runs may choose."""

TIMES = (3, 200, 8_000, 90_000, 700_000, 40_000_000)
"""Seconds before `NOW`: at one of them each run begins."""


class Asked(NamedTuple):
    """A command whose text is kept, by the name of its file."""

    name: str
    words: tuple[str, ...]
    code: int = 0
    is_table: bool = True


TEXTS = (
    Asked("runs", ("runs",)),
    Asked("runs_wide", ("runs", "-o", "wide")),
    Asked("runs_utc", ("runs", "--utc", "--limit", "3")),
    Asked("runs_none", ("runs", "--workflow", "nothing")),
    Asked("history", ("history", "order-2026-11-000123")),
    Asked("history_hostile", ("history", "evil")),
    Asked("history_turns", ("history", "customer-7", "--turns")),
    Asked("inbox", ("inbox",)),
    Asked("inbox_none", ("inbox", "--workflow", "nothing")),
    Asked("sessions", ("sessions",)),
    Asked("tail", ("tail", "--last", "12", "--limit", "12")),
    Asked("info", ("info", "order-2026-11-000123"), is_table=False),
    Asked("info_hostile", ("info", "evil"), is_table=False),
    Asked("show", ("show", "order-2026-11-000123@2"), is_table=False),
    Asked("show_turn", ("show", "customer-7@1", "--turns"), is_table=False),
    Asked("lineage", ("lineage", "order-2026-11-000123"), is_table=False),
    Asked("diff", ("diff", "order-2026-11-000123", "--seq", "1..2"), is_table=False),
    Asked("changes", ("changes", "order-2026-11-000123", "--path", "state.total"), is_table=False),
    Asked("changes_none", ("changes", "order-2026-11-000123", "--path", "state.nothing"), is_table=False),
    Asked("replay", ("replay", "order-2026-11-000123"), is_table=False),
    Asked("verify", ("verify", "order-2026-11-000123"), is_table=False),
    Asked("verify_all", ("verify", "--all"), is_table=False),
    Asked("prune", ("prune", "--all", "--keep", "1", "--force"), is_table=False),
)


def printed(asked: Asked, path: Path, width: int) -> Result:
    """What a command prints on a terminal of this width, without colours, at `NOW`."""
    environment = {"EVENTCKPT_STORE": str(path), "FORCE_COLOR": None, "NO_COLOR": None, "COLUMNS": None}
    screen = Screen(width=width, now=lambda: NOW)
    result = CliRunner().invoke(app, list(asked.words), env=environment, obj=screen)
    assert result.exit_code == asked.code, result.output
    return result


@asynccontextmanager
async def filled(path: Path) -> AsyncIterator[SqliteEventStore]:
    """The store, in a file of this name."""
    async with SqliteEventStore(path) as store:
        for turns, name in ((False, "runs.jsonl"), (True, "sessions.jsonl")):
            audit = CheckpointAudit(store, turns=turns)
            imported = await audit.import_lines((FOLDER / name).read_bytes().splitlines())
            assert imported.whole, imported
        yield store


async def _save(store: AuditStore) -> None:
    storage = EventCheckpointStorage(store, actor="shop")
    asks = WorkflowEvent.request_info(
        request_id="9f1c7a52-0c1b-4a7e-9d58-1f2f8c2a6b11",
        source_executor_id="clerk",
        request_data="may we?",
        response_type=bool,
    )
    states: list[dict[str, Any]] = [
        {"total": 10.0, "lines": ["a"]},
        {"total": -5.0, "lines": ["a", "b"], "note": "注文 🚀"},
        {"total": 7.5, "lines": ["a", "b"], "note": "paid"},
    ]
    for run_id in ("order-2026-11-000123", "order-2026-11-000124", "0f8fad5b-d9cb-469f-a165-70867728950e", "short"):
        previous: WorkflowCheckpoint | None = None
        for step, state in enumerate(states[: 1 if run_id == "short" else 3]):
            previous = WorkflowCheckpoint(
                workflow_name="orders",
                graph_signature_hash="graph",
                checkpoint_id=f"{run_id[-6:]}{step}-4a7e-9d58-1f2f8c2a6b11",
                previous_checkpoint_id=previous.checkpoint_id if previous else None,
                iteration_count=step,
                timestamp=NOW.isoformat(),
                state={**state, **GRAPH},
                messages=message("clerk", "go") if step == 0 else {},
                pending_request_info_events={asks.request_id: asks} if step == 2 and run_id.endswith("123") else {},
            )
            await storage.for_run(run_id).save(previous)
    await storage.for_run("order-2026-11-000124", workflow_name="orders").annotate(
        outcome="failed", reason="the price was wrong", tags={"customer": "c-17"}, hold=True
    )
    for run_id in HOSTILE:
        state = {"text": run_id, **GRAPH}
        hostile = WorkflowCheckpoint(run_id, "graph", checkpoint_id=run_id, timestamp=NOW.isoformat(), state=state)
        hostile.pending_request_info_events = {asks.request_id: asks} if run_id.startswith(("evil", "注")) else {}
        await EventCheckpointStorage(store, actor=run_id).for_run(run_id).save(hostile)


async def _made(source: AuditStore, target: AuditStore) -> None:
    """All of a store, in times that stay."""
    seconds = 0
    async for stream in source.streams():
        began = NOW - timedelta(seconds=TIMES[seconds % len(TIMES)])
        seconds += 1
        events: list[CheckpointEvent] = []
        async for event in source.events(stream):
            moment = (began + timedelta(seconds=len(events))).isoformat()
            asked: tuple[PendingRequest, ...] = tuple(
                msgspec.structs.replace(each, asked_at=moment) for each in event.summary.pending_requests
            )
            summary = msgspec.structs.replace(event.summary, pending_requests=asked)
            before = events[-1].digest if events else ""
            again = msgspec.structs.replace(event, recorded_at=moment, summary=summary, previous_digest=before)
            events.append(sealed(again))
        await target.put(stream, events)


async def _write_store() -> None:
    describe_request(
        str, lambda _: "May the order\x1b[2J be paid? 注文を確認してください。 " + "It is a long one. " * 5
    )
    with TemporaryDirectory() as folder:
        async with (
            SqliteEventStore(Path(folder) / "saved.db") as saved,
            SqliteEventStore(Path(folder) / "b.db") as made,
        ):
            await _save(saved)
            for run_id in ("customer-7", "注文-customer"):
                turns = await talked(saved.sessions(), session(run_id), "hello", "May I?\x1b[2J 注文")
                await branched(saved.sessions(), turns[0], "another way")
            await _made(saved, made)
            await _made(saved.sessions(), made.sessions())
            for turns, name in ((False, "runs.jsonl"), (True, "sessions.jsonl")):
                audit = CheckpointAudit(made, turns=turns)
                lines = [line async for line in audit.export(None)]
                (FOLDER / name).write_bytes(b"".join(line + b"\n" for line in lines))


async def _write_texts() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        async with filled(path):
            pass
        for asked in TEXTS:
            results = [await asyncio.to_thread(printed, asked, path, width) for width in WIDTHS]
            (FOLDER / f"{asked.name}.txt").write_text(in_one(asked, results), encoding="utf-8")


def in_one(asked: Asked, results: list[Result]) -> str:
    """What was printed at all widths, as it is in a file."""
    return "\n".join(
        f"$ eventckpt {' '.join(asked.words)}   # {width} columns\n{result.output}"
        for width, result in zip(WIDTHS, results, strict=True)
    )


if __name__ == "__main__":
    if "--store" in sys.argv:
        asyncio.run(_write_store())
    asyncio.run(_write_texts())
