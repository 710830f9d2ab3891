"""What the viewer takes: beside the commands that say the same, and beside what is to be asked of the store."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, EventCheckpointStorage, SqliteEventStore, StreamId
from eventckpt.rendering.fields import event_fields, held_fields, line_of
from eventckpt.stores import RunFilter
from eventckpt.web import __file__ as web
from eventckpt.web import create_app
from eventckpt.web.page import MAX_BYTES
from eventckpt.web.templates import address

from .inbox import fill, of_children, seconds
from .measure import Figure, Sample, at_most, compared, taking_turns
from .states import STATES

__all__ = ["first_page", "one_event", "one_run", "sent", "served", "start_up"]

_STATIC: Final = Path(web).parent / "static"
_ROWS: Final = 50
_BUNDLE: Final = 80_000
"""Bytes of the files that a browser loads once, at most."""


async def start_up(runs: int = 1_000, events: int = 5, rounds: int = 15) -> list[Figure]:
    """Processor time of the program, from its start to its end right after the first answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, runs, events)
        asked = ["runs", "--latest", "projection", "--store", str(path)]
        taken: tuple[list[float], list[float]] = ([], [])
        _first_answer(path)  # compiles what is not compiled yet
        seconds(asked)
        order = random.Random(rounds)
        for _ in range(rounds):
            for turn in order.sample(range(2), 2):
                taken[turn].append(seconds(asked) if turn else _first_answer(path))
    ours, theirs = (Sample(values, lambda number: f"{number * 1000:.0f} ms") for values in taken)
    what = f"eventckpt-web, {runs:,} runs, until its first answer, CPU"
    return [compared(what, ours, theirs, "eventckpt runs", at_most(2.0))]


def _first_answer(path: Path) -> float:
    before = of_children()
    words = [sys.executable, "-W", "ignore", "-m", "eventckpt.web", "--port", "0", "--store", str(path)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        with urlopen(f"{address}runs", timeout=60) as page:
            assert page.status == 200
        program.terminate()
    assert program.returncode == 0
    return of_children() - before


async def first_page(runs: int = 100_000, rounds: int = 101) -> list[Figure]:
    """The first page of all runs, and of those of a workflow and a status, from the projection."""
    filters = {
        "": RunFilter(),
        "?workflow=orders&status=waiting": RunFilter("orders", ["waiting", "idle"]),
    }
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, runs, 1)
        async with SqliteEventStore(path) as store:
            app, projection = create_app(CheckpointAudit(store, latest="projection")), store.run_store()
            for query, which in filters.items():

                async def bare(which: RunFilter = which) -> None:
                    assert len((await projection.page(which, limit=_ROWS)).runs) == min(runs, _ROWS)

                ours, theirs = await taking_turns(rounds, lambda query=query: served(app, f"/runs{query}"), bare)
                what = f"/runs{query} over {runs:,} runs"
                figures.append(compared(what, ours, theirs, "bare indexed query", at_most(3)))
            ours, theirs = await taking_turns(rounds, lambda: served(app, "/runs/counts"), lambda: served(app, "/runs"))
            figures.append(compared(f"/runs/counts over {runs:,} runs", ours, theirs, "/runs"))
    return figures


async def one_event(messages: int = 1_000, rounds: int = 41) -> list[Figure]:
    """The page of an event, and what `show --json` does for the same in this process."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteEventStore(Path(folder, "events.db")) as store:
            state = next(STATES["messages"](messages))
            await (
                EventCheckpointStorage(store)
                .for_run("r")
                .save(WorkflowCheckpoint(workflow_name="orders", graph_signature_hash="graph", state=state))
            )
            audit = CheckpointAudit(store)
            app = create_app(audit)

            async def show() -> None:
                event = await audit.event("r@1")
                assert line_of("checkpoint", held_fields(event, await audit.tree(event)))

            page = "/event?workflow=orders&run=r&seq=1"
            ours, theirs = await taking_turns(rounds, lambda: served(app, page), show)
    return [compared(f"/event of {messages:,} messages", ours, theirs, "show --json", at_most(2))]


async def one_run(events: int = 1_000, rounds: int = 21) -> list[Figure]:
    """The page of a run, and what `history --json` does for the same in this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, 1, events)
        async with SqliteEventStore(path) as store:
            audit = CheckpointAudit(store)
            app, [stream] = create_app(audit), [stream async for stream in store.streams()]

            async def history() -> None:
                lines = [line_of("event", event_fields(event)) async for event in audit.history(await named())]
                assert len(lines) == events

            async def named() -> StreamId:
                return await audit.run(stream.run_id, workflow_name=stream.workflow_name)

            page = address("/run", run=stream.run_id, workflow=stream.workflow_name)
            ours, theirs = await taking_turns(rounds, lambda: served(app, page), history)
    return [compared(f"/run of {events:,} events", ours, theirs, "history --json", at_most(2))]


async def sent(events: int = 1_000, messages: int = 20_000) -> list[Figure]:
    """The bytes of large answers, and of the files that all pages share."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        await fill(path, events, 1)
        async with SqliteEventStore(path) as store:
            run = EventCheckpointStorage(store).for_run("large")
            state = next(STATES["messages"](messages))
            for _ in range(events):
                await run.save(WorkflowCheckpoint(workflow_name="orders", graph_signature_hash="graph"))
            await run.save(WorkflowCheckpoint(workflow_name="orders", graph_signature_hash="graph", state=state))
            app, large = create_app(CheckpointAudit(store)), {"run": "large", "workflow": "orders"}
            asked = {
                f"/runs, {_ROWS} of {events:,}": address("/runs"),
                f"/run of {events:,} events": address("/run", **large),
                f"/run/history of {events:,} events": address("/run/history", **large, limit=events),
                f"/event of {messages:,} messages": address("/event", **large, seq=events + 1),
            }
            sizes = {what: len(await served(app, page)) for what, page in asked.items()}
    files = (_STATIC / "style.css", _STATIC / "htmx.min.js")
    return [
        *(_bytes(what, size, MAX_BYTES, "1 MB") for what, size in sizes.items()),
        _bytes("stylesheet and htmx", sum(file.stat().st_size for file in files), _BUNDLE, "80 KB"),
    ]


def _bytes(what: str, size: int, most: int, bound: str) -> Figure:
    return Figure(what, f"{size / 1_000:,.1f} KB", bound, size / most, f"≤ {bound}", size <= most)


async def served(app: Callable[..., Awaitable[None]], address: str) -> bytes:
    """A page as the application gives it to a server: without a socket, and without a client."""
    asked, sent = urlsplit(address), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": ""}
    scope |= {"path": asked.path, "raw_path": asked.path.encode(), "query_string": asked.query.encode()}
    scope |= {"headers": [(b"host", b"127.0.0.1")], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}
    await app(scope, receive, send)
    assert sent[0]["status"] == 200, b"".join(message.get("body", b"") for message in sent)
    return b"".join(message.get("body", b"") for message in sent)
