"""What a processor needs of an event store, whichever engine it is of."""

from __future__ import annotations

from typing import NamedTuple

from eventckpt import EventStore, settings
from eventckpt.stores.change_feed import ChangeFeed
from eventckpt.stores.documents import DocumentStore

from .leases import LeaseStore

__all__ = ["Engine", "open_engine"]


class Engine(NamedTuple):
    """An event store, its feed and the place for leases beside it. It is closed with the store."""

    store: EventStore
    feed: ChangeFeed
    documents: DocumentStore

    def leases(self, processor: str) -> LeaseStore:
        """The leases of the processor with this name."""
        return LeaseStore(self.documents, self.feed, processor)


def open_engine(store: EventStore) -> Engine:
    """The feed of `store`, and the place for leases beside it.

    Raises:
        TypeError: it is no store, such as a storage, whose `store` is one.
        CheckpointStoreError: the store is of an engine without a feed, or without a place for documents.
    """
    settings.instance("store", store, EventStore, what="an EventStore")
    return Engine(store, store.change_feed(), store.document_store())
