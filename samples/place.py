"""Where a sample keeps its store: a SQLite file, or the Cosmos DB container that the environment names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from eventckpt import CosmosCheckpointStorage, EventCheckpointStorage, SqliteCheckpointStorage

__all__ = ["Place", "is_taken", "open_storage", "place"]

Place: TypeAlias = Path | str
"""A file's path, or the endpoint of an account."""


def place(text: str) -> Place:
    """What `--store` names."""
    return text if text.startswith(("http://", "https://")) else Path(text)


def is_taken(store: Place | None) -> bool:
    return isinstance(store, Path) and store.exists()


def open_storage(store: Place, **options: Any) -> EventCheckpointStorage:
    """A storage there. On Cosmos DB the key, database and container come from `AZURE_COSMOS_*`."""
    if isinstance(store, Path):
        return SqliteCheckpointStorage(store, **options)
    return CosmosCheckpointStorage(endpoint=store, **options)
