"""The ready-made session store on Azure Cosmos DB. Apart, so that nothing else imports the Azure SDK."""

from __future__ import annotations

from azure.cosmos.aio import ContainerProxy, CosmosClient

from ..stores.cosmos import CosmosCredential, CosmosEventStore, Priority
from .session_store import EventSessionStore

__all__ = ["CosmosSessionStore"]


class CosmosSessionStore(EventSessionStore):
    """Sessions in Azure Cosmos DB, in the container `<container_name>-sessions` beside that of the checkpoints.

    The connection arguments are those of `CosmosEventStore`. The attributes `database_name` and `container_name` say
    where the checkpoints are, whichever way that was set.

    Args:
        actor: who writes, for the events.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        database_name: str | None = None,
        container_name: str | None = None,
        credential: CosmosCredential | None = None,
        cosmos_client: CosmosClient | None = None,
        container_client: ContainerProxy | None = None,
        env_file_path: str | None = None,
        env_file_encoding: str | None = None,
        timeout: float = 30.0,
        actor: str | None = None,
        priority: Priority | None = None,
        throughput_bucket: int | None = None,
    ) -> None:
        self._engine = CosmosEventStore(
            endpoint=endpoint,
            database_name=database_name,
            container_name=container_name,
            credential=credential,
            cosmos_client=cosmos_client,
            container_client=container_client,
            env_file_path=env_file_path,
            env_file_encoding=env_file_encoding,
            timeout=timeout,
            priority=priority,
            throughput_bucket=throughput_bucket,
        )
        self.database_name: str = self._engine.database_name
        self.container_name: str = self._engine.container_name
        super().__init__(self._engine, actor=actor)

    @property
    def store(self) -> CosmosEventStore:
        """See `EventSessionStore.store`."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the client, unless it was passed in."""
        await self._engine.close()
