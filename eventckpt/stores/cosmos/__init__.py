"""The distributed engine: one item per event in an Azure Cosmos DB for NoSQL container.

The stream is the partition key and the seq is the item's id, so the service itself refuses a second event at one
seq: an append is one `create_item`, whatever else happens at the same time. Everything that reads a run stays in
one logical partition, and is in the order of ids. `items` has the layout, `container` the requests, `markers` what
stays of an event that was removed.
"""

from .connection import CosmosCredential, Priority
from .event_store import CosmosEventStore
from .items import INDEXING_POLICY, PARTITION_KEY, partition_key_of

__all__ = ["INDEXING_POLICY", "PARTITION_KEY", "CosmosCredential", "CosmosEventStore", "Priority", "partition_key_of"]
