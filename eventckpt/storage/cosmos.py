"""The ready-made storage on Azure Cosmos DB. Apart, so that nothing else imports the Azure SDK."""

from __future__ import annotations

from collections.abc import Iterable

from azure.cosmos.aio import ContainerProxy, CosmosClient

from ..codec import OnDrift, Upcaster
from ..stores.cosmos import CosmosCredential, CosmosEventStore, Priority
from .checkpoint_storage import DEFAULT_CACHE_BYTES, EventCheckpointStorage, Latest, OnConflict, OnSaveError

__all__ = ["CosmosCheckpointStorage"]


class CosmosCheckpointStorage(EventCheckpointStorage):
    """Checkpoints in Azure Cosmos DB. Takes the keywords of `agent_framework_azure_cosmos.CosmosCheckpointStorage`:
    to move, change the import, and give it a container of its own.

    The connection arguments are those of `CosmosEventStore`, the others those of `EventCheckpointStorage`. The
    attributes `database_name` and `container_name` say where the events are, whichever way that was set.
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
        allowed_checkpoint_types: list[str] | None = None,
        on_conflict: OnConflict = "fork",
        on_save_error: OnSaveError | None = None,
        actor: str | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        latest: Latest = "log",
        on_drift: OnDrift = "error",
        upcasters: Iterable[Upcaster] = (),
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
        super().__init__(
            self._engine,
            allowed_checkpoint_types=allowed_checkpoint_types,
            on_conflict=on_conflict,
            on_save_error=on_save_error,
            actor=actor,
            cache_bytes=cache_bytes,
            latest=latest,
            on_drift=on_drift,
            upcasters=upcasters,
        )

    @property
    def store(self) -> CosmosEventStore:
        """See `EventCheckpointStorage.store`."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the client, unless it was passed in."""
        try:
            await super().close()
        finally:
            await self._engine.close()
