"""A container that another program made and keeps: queried, and nothing else.

The framework's own Cosmos storage keeps its checkpoints in one. Nothing that makes a container ours holds there, so
nothing is made, checked or remembered; its requests are those of every other container.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from azure.cosmos.aio import ContainerProxy

from ...errors import CheckpointStoreError, StoreNotFoundError
from .client import Connections
from .connection import CosmosCredential, Priority, target
from .items import Item
from .query import Cursor, check_documents
from .requests import PATIENCE, ask, is_missing_owner
from .session import enter

__all__ = ["OtherContainer", "open_other_container"]


class OtherContainer:
    """A container, while it is open."""

    def __init__(self, proxy: ContainerProxy, connections: Connections, where: str) -> None:
        self._proxy = proxy
        self._connections = connections
        self._where = where

    async def rows(
        self, text: str, parameters: Sequence[Mapping[str, object]], *, partition_key: str | None = None
    ) -> AsyncGenerator[Item, None]:
        """The rows of a query, as its pages come.

        Args:
            text: the query; over all partitions it sorts nothing.
            parameters: a `name` and a `value` for each that is in it.
            partition_key: the partition to ask; None: all.

        Raises:
            StoreNotFoundError: there is no such container, or database.
            CheckpointStoreError: it cannot be read, translated as for containers of ours.
        """

        scope: dict[str, Any] = {} if partition_key is None else {"partition_key": partition_key}

        def begin() -> Any:
            given: list[dict[str, Any]] = [dict(each) for each in parameters]
            return self._proxy.query_items(text, parameters=given, response_hook=check_documents, **scope).by_page()

        cursor = Cursor(lambda request: ask(request, self._where), begin)
        while True:
            try:
                async with self._connections.in_use():
                    page = await cursor.page()
            except CheckpointStoreError as error:
                if is_missing_owner(error):
                    raise StoreNotFoundError(
                        f"There is no {self._where}, which was to be read. Check the names and the endpoint."
                    ) from error.__cause__
                raise
            if page is None:
                return
            for row in page:
                yield row


@asynccontextmanager
async def open_other_container(
    *,
    endpoint: str,
    database_name: str,
    container_name: str,
    credential: CosmosCredential,
    priority: Priority | None = None,
    throughput_bucket: int | None = None,
) -> AsyncGenerator[OtherContainer, None]:
    """A container of another program, open until the block ends.

    Args:
        endpoint, database_name, container_name, credential, priority, throughput_bucket: as `CosmosEventStore` has
            them.

    Raises:
        TypeError, ValueError, SettingNotFoundError: a setting is missing, or of the wrong form. Nothing was sent.
        CheckpointStoreError: the account cannot be reached.
    """
    client, database, name = target(
        endpoint=endpoint,
        database_name=database_name,
        container_name=container_name,
        credential=credential,
        priority=priority,
        throughput_bucket=throughput_bucket,
    )
    if client is None:
        raise AssertionError("a container that nobody gave")
    connections = Connections(client, owned=True, name=name, timeout=PATIENCE)
    where = f"container {name!r} of database {database!r}"
    try:
        proxy = client.get_database_client(database).get_container_client(name)
        async with connections.in_use():
            await ask(lambda: enter(proxy.client_connection), where)
        yield OtherContainer(proxy, connections, where)
    finally:
        await connections.close()
