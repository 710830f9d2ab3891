"""The projector as an Azure Function: the Cosmos DB trigger delivers, the same `LatestProjection.apply` applies.

Instead of workers of your own. The trigger keeps leases of its own, in a container that must exist, under a prefix that
no other function uses. It needs an infinite retry policy: without one, a failed invocation still moves the lease on,
and what it was given is never seen again. Repetition does no harm, and a gap repairs itself with the next event.

Deploy:    func azure functionapp publish NAME        (Python v2 programming model)
Settings:  COSMOS__accountEndpoint, COSMOS__credential=managedidentity (the trigger's connection; its roles are in
           docs/cosmos.md, and it creates no container),
           AZURE_COSMOS_ENDPOINT, AZURE_COSMOS_DATABASE_NAME, AZURE_COSMOS_CONTAINER_NAME, and AZURE_COSMOS_KEY where
           keys are allowed.
"""

from __future__ import annotations

import functools
import os

import azure.functions as func
from azure.identity.aio import DefaultAzureCredential

from eventckpt import CosmosEventStore
from eventckpt.stores.cosmos.items import header_of, is_event
from projections import LatestProjection

app = func.FunctionApp()


@functools.cache
def store() -> CosmosEventStore:
    """One for the life of the process, as is its client."""
    return CosmosEventStore(credential=None if os.environ.get("AZURE_COSMOS_KEY") else DefaultAzureCredential())


@functools.cache
def projection() -> LatestProjection:
    """One too: it remembers what it wrote last."""
    return LatestProjection(store())


@app.cosmos_db_trigger(
    arg_name="documents",
    connection="COSMOS",
    database_name="%AZURE_COSMOS_DATABASE_NAME%",
    container_name="%AZURE_COSMOS_CONTAINER_NAME%",
    lease_container_name="%AZURE_COSMOS_CONTAINER_NAME%-leases",
    lease_container_prefix="functions-latest-",
    start_from_beginning=True,
    max_items_per_invocation=500,
)
@app.retry(
    strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:01", maximum_interval="00:01:00"
)
async def project(documents: func.DocumentList) -> None:
    """Apply the events among `documents`."""
    items = [dict(document) for document in documents]
    await projection().apply([header_of(item) for item in items if is_event(item)])
