"""Where a sample keeps its store: a SQLite file, or the Cosmos DB container that the environment names."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from eventckpt import EventCheckpointStorage
from eventckpt.location import LocationError, locate, open_store

__all__ = ["Place", "is_taken", "open_storage", "place"]

Place: TypeAlias = Path | str
"""A file's path, or the endpoint of an account."""


def place(text: str) -> Place:
    """What `--store` names; for argparse, which would show the text of any other error."""
    try:
        return locate(text)
    except LocationError as error:
        raise ArgumentTypeError(str(error)) from error


def is_taken(store: Place | None) -> bool:
    return isinstance(store, Path) and store.exists()


@asynccontextmanager
async def open_storage(store: Place, **options: Any) -> AsyncGenerator[EventCheckpointStorage, None]:
    """A storage there. On Cosmos DB, database, container and key come from `AZURE_COSMOS_*`."""
    async with open_store(store) as opened, EventCheckpointStorage(opened, **options) as storage:
        yield storage
