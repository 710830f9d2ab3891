"""Who is compared, by name: each gives a function that makes the `save` of a run.

What a peer needs is imported when it is opened, so that a contender's process holds nothing of the others.
"""

from __future__ import annotations

import copy
import pickle
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from agent_framework import WorkflowCheckpoint

__all__ = ["PEERS", "Save", "has_langgraph"]

Save = Callable[[WorkflowCheckpoint], Awaitable[object]]
Saves = Callable[[str], Save]
"""The save of a run, by the run's name."""

HEADER = b"h" * 700  # about what an event's header takes


def has_langgraph() -> bool:
    """Only `make bench` installs it."""
    return find_spec("langgraph") is not None and find_spec("aiosqlite") is not None


@asynccontextmanager
async def _eventckpt(folder: Path) -> AsyncGenerator[Saves, None]:
    from eventckpt import SqliteCheckpointStorage

    async with SqliteCheckpointStorage(folder / "events.db") as storage:
        yield lambda run: storage.for_run(run).save


def _on_cosmos(endpoint: str, key: str, container: str) -> dict[str, Any]:
    return {"endpoint": endpoint, "credential": key, "database_name": "bench", "container_name": container}


@asynccontextmanager
async def _cosmos(folder: Path, endpoint: str, key: str) -> AsyncGenerator[Saves, None]:
    from eventckpt import CosmosCheckpointStorage

    async with CosmosCheckpointStorage(**_on_cosmos(endpoint, key, "ours")) as storage:
        yield lambda run: storage.for_run(run).save


@asynccontextmanager
async def _cosmos_upstream(folder: Path, endpoint: str, key: str) -> AsyncGenerator[Saves, None]:
    from agent_framework_azure_cosmos import CosmosCheckpointStorage

    async with CosmosCheckpointStorage(**_on_cosmos(endpoint, key, "theirs")) as storage:
        yield lambda run: storage.save


@asynccontextmanager
async def _file(folder: Path) -> AsyncGenerator[Saves, None]:
    from agent_framework import FileCheckpointStorage

    storage = FileCheckpointStorage(folder / "files")
    yield lambda run: storage.save


@asynccontextmanager
async def _memory(folder: Path) -> AsyncGenerator[Saves, None]:
    from agent_framework import InMemoryCheckpointStorage

    storage = InMemoryCheckpointStorage()
    yield lambda run: storage.save


@asynccontextmanager
async def _langgraph(folder: Path) -> AsyncGenerator[Saves, None]:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:

        def saves(run: str) -> Save:
            config: Any = {"configurable": {"thread_id": run, "checkpoint_ns": ""}}

            async def save(checkpoint: WorkflowCheckpoint) -> None:
                nonlocal config
                content = empty_checkpoint()
                content["channel_values"] = checkpoint.state
                config = await saver.aput(config, content, {"source": "loop", "step": 1}, {})

            return save

        yield saves


@asynccontextmanager
async def _bare_sqlite(folder: Path) -> AsyncGenerator[Saves, None]:
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE events (run TEXT, id TEXT, header BLOB, data BLOB, UNIQUE (run, id))")

        def saves(run: str) -> Save:
            async def save(checkpoint: WorkflowCheckpoint) -> None:
                row = run, checkpoint.checkpoint_id, HEADER, checkpoint.state["document"]
                connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)

            return save

        yield saves


def _only(work: Callable[[dict[str, Any]], object]) -> Callable[..., AbstractAsyncContextManager[Saves]]:
    """Something that is done with the state, and nothing stored."""

    @asynccontextmanager
    async def opened(folder: Path) -> AsyncGenerator[Saves, None]:
        async def save(checkpoint: WorkflowCheckpoint) -> None:
            work(checkpoint.state)

        yield lambda run: save

    return opened


PEERS: Final[dict[str, Callable[..., AbstractAsyncContextManager[Saves]]]] = {
    "eventckpt": _eventckpt,
    "eventckpt on Cosmos DB": _cosmos,
    "CosmosCheckpointStorage": _cosmos_upstream,
    "File": _file,
    "InMemory": _memory,
    "LangGraph": _langgraph,
    "bare sqlite3": _bare_sqlite,
    "deepcopy": _only(copy.deepcopy),
    "pickle": _only(pickle.dumps),
}
