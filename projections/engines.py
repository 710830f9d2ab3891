"""Which feed and which documents belong to an event store: the one place that knows the engines by name."""

from __future__ import annotations

from typing import NamedTuple

from eventckpt import EventStore, SqliteEventStore
from eventckpt.errors import CheckpointStoreError

from .feeds import ChangeFeed
from .feeds.sqlite import SqliteChangeFeed
from .leases import LeaseStore
from .leases.documents import Documents
from .leases.sqlite import SqliteDocuments

__all__ = ["Engine", "open_engine"]


class Engine(NamedTuple):
    """What a processor needs of an event store. It is closed with the store."""

    store: EventStore
    feed: ChangeFeed
    documents: Documents

    def leases(self, processor: str) -> LeaseStore:
        """The leases of the processor with this name."""
        return LeaseStore(self.documents, self.feed, processor)


def open_engine(store: EventStore) -> Engine:
    """The feed of `store`, and the place for leases beside it.

    Raises:
        CheckpointStoreError: the store is of an engine without a feed.
    """
    if isinstance(store, SqliteEventStore):
        return Engine(store, SqliteChangeFeed(store), SqliteDocuments(store))
    try:
        from eventckpt import CosmosEventStore

        from .feeds.cosmos import CosmosChangeFeed
        from .leases.cosmos import CosmosDocuments
    except ImportError:
        pass  # without the Azure SDK, the store cannot be one of Cosmos DB
    else:
        if isinstance(store, CosmosEventStore):
            return Engine(store, CosmosChangeFeed(store), CosmosDocuments(store))
    raise CheckpointStoreError(f"{type(store).__name__} has no change feed that this package knows.")
