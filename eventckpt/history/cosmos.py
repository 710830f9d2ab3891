"""The ready-made history provider on Azure Cosmos DB. Apart, so that nothing else imports the Azure SDK."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from azure.cosmos.aio import ContainerProxy, CosmosClient

from ..stores.cosmos import CosmosCredential, CosmosEventStore, Priority
from .provider import Dedupe, EventHistoryProvider, OnConflict, OnUnreadable

__all__ = ["CosmosHistoryProvider"]


class CosmosHistoryProvider(EventHistoryProvider):
    """Chat history in Azure Cosmos DB. Takes the keywords of `agent_framework_azure_cosmos.CosmosHistoryProvider`: to
    move, change the import.

    The history lies in the container `<container_name>-sessions`, which is made on first use: so the container may be
    that of a `CosmosCheckpointStorage`, or the one that the framework's own provider keeps its messages in
    (`eventckpt import-from cosmos-history` brings them over).

    The connection arguments are those of `CosmosEventStore`, the others those of `EventHistoryProvider`. The attributes
    `database_name` and `container_name` say what was set, whichever way.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "azure_cosmos_history"

    def __init__(
        self,
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        load_messages: bool = True,
        store_outputs: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        endpoint: str | None = None,
        database_name: str | None = None,
        container_name: str | None = None,
        credential: CosmosCredential | None = None,
        cosmos_client: CosmosClient | None = None,
        container_client: ContainerProxy | None = None,
        env_file_path: str | None = None,
        env_file_encoding: str | None = None,
        timeout: float = 30.0,
        skip_excluded: bool = False,
        max_messages: int | None = None,
        actor: str | None = None,
        on_conflict: OnConflict = "branch",
        dedupe: Dedupe = "ids",
        on_unreadable: OnUnreadable = "raise",
        allowed_checkpoint_types: Iterable[str] | None = None,
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
            source_id,
            load_messages=load_messages,
            store_outputs=store_outputs,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            skip_excluded=skip_excluded,
            max_messages=max_messages,
            actor=actor,
            on_conflict=on_conflict,
            dedupe=dedupe,
            on_unreadable=on_unreadable,
            allowed_checkpoint_types=allowed_checkpoint_types,
        )

    @property
    def store(self) -> CosmosEventStore:
        """The engine; its `sessions()` has the history."""
        return self._engine

    async def close(self) -> None:
        """Finish what is under way and close the client, unless it was passed in."""
        await self._engine.close()
