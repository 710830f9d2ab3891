"""The connections of a store: from their first use until it is closed, in one event loop, and not a request longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from azure.cosmos.aio import CosmosClient

from ...errors import CheckpointStoreError
from .requests import operation

__all__ = ["Connections", "SharedConnections"]


class Connections:
    """A client's connections, for as long as its store may use them.

    Args:
        client: where containers are found and made; None where one is given.
        owned: whether `close` closes the client.
        name: of the container of events, for errors.
        timeout: seconds that one operation has.
    """

    def __init__(self, client: CosmosClient | None, *, owned: bool, name: str, timeout: float) -> None:
        self._client = client
        self._owned = owned
        self._name = name
        self.timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def client(self) -> CosmosClient | None:
        """The client, until it is closed."""
        return self._client

    @asynccontextmanager
    async def in_use(self, *, many: bool = False) -> AsyncGenerator[None, None]:
        """The time of one operation, which may send several requests; `close` waits for its end.

        Args:
            many: whether it sends as many requests as there is data; see `requests.operation`.

        Raises:
            CheckpointStoreError: the store was closed, or belongs to another event loop.
        """
        if self._closed:
            raise CheckpointStoreError(f"The store on container {self._name!r} was closed; make a new one.")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise CheckpointStoreError(
                f"The store on container {self._name!r} was opened in another event loop, and its connections belong "
                "to that one. Make a store for each asyncio.run, and close it there."
            )
        self._loop = loop
        self._users += 1
        self._unused.clear()
        try:
            with operation(self.timeout, many=many):
                yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Wait for what is under way, then close the client if it is ours."""
        self._closed = True
        if self._loop not in (None, asyncio.get_running_loop()):
            return  # the connections went with their loop
        await self._unused.wait()
        client, self._client = self._client, None
        if self._owned and client is not None:
            await client.close()


class SharedConnections(Connections):
    """The connections of a store in the hands of what is kept beside it: closed by itself, and with the store.

    Args:
        own: the store's.
        name: of the container that they are used for, for errors.
    """

    def __init__(self, own: Connections, *, name: str) -> None:
        super().__init__(own.client, owned=False, name=name, timeout=own.timeout)
        self._own = own

    @asynccontextmanager
    async def in_use(self, *, many: bool = False) -> AsyncGenerator[None, None]:
        """See `Connections.in_use`; the store that they are of waits for it too."""
        async with super().in_use(many=many), self._own.in_use(many=many):
            yield
