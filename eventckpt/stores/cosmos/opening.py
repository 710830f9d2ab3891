"""How a container of ours comes to be open: found by its name, made where it is missing, and checked.

The same for all of them. One that is only read is never made, nor is one that somebody gave.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeAlias, cast

from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, DatabaseProxy

from ...errors import (
    CheckpointStoreError,
    StoreMissingError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from .client import Connections
from .layout import KEY_VERSION, Place, mapping, serves
from .requests import Answer, ask, is_late, says_404
from .session import enter

__all__ = ["KNOWN", "Opened", "Opening", "Together", "settings_of"]

GIVEN: Final = 2.0
"""Seconds for which a container that is given is waited for: who gives it may just have made it."""
LOOKED_AT: Final = 0.5
"""Seconds for which a container that is only read is waited for: mostly it is a name that is wrong."""
KNOWN: Final = 3.0
"""Seconds for which something is asked for that was there a moment ago."""

_Creation: TypeAlias = Callable[[], Awaitable[object]]


class Opened(NamedTuple):
    """A container that is open."""

    proxy: ContainerProxy
    rid: str
    """The service's id of it; another one, if it is made anew under its name."""
    policy: dict[str, Any]
    """What it indexes."""
    has_composite: bool
    """Whether it has the composite index of its layout."""
    at: float
    """When it was opened, by the monotonic clock."""


class Together:
    """An opening for whoever waits for it at a time: all hear of the same failure at the same time.

    Args:
        begin: does it once.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, Opened | None]]) -> None:
        self._begin = begin
        self._task: asyncio.Task[Opened | None] | None = None
        self._waiting = 0

    async def __call__(self) -> Opened | None:
        """What it gives."""
        if self._task is None:
            self._task = asyncio.create_task(self._begin())
        task = self._task
        self._waiting += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._task = None
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])


class Opening:
    """What opens one container.

    Args:
        place: where it is, and what it is made with.
        connections: of the store that it belongs to.
        given: the container, made and kept by somebody else; None: it is found by its name.
        first: gives a container of the same database, through which that is found.
        may_make: whether it is made where it is missing.
        read_only: whether it is only looked at, so that one that is missing is not worth waiting for.
    """

    def __init__(
        self,
        place: Place,
        connections: Connections,
        *,
        given: ContainerProxy | None,
        first: Callable[[], Awaitable[ContainerProxy]] | None,
        may_make: bool,
        read_only: bool,
    ) -> None:
        self._place = place
        self._connections = connections
        self._given = given
        self._first = first
        self._may_make = may_make
        self._read_only = read_only

    async def open(self) -> Opened:
        """Find the container, and make it where that is missing and may be made.

        Raises:
            StoreNotFoundError, StoreMissingError: it is missing, and was not made.
            StoreFormatError: it is none of ours.
        """
        container = await self.found()
        properties = await self._look(container)
        if properties is None and self._may_make:
            await self._make()
        if properties is None:
            properties = await self._look_again(container)
        if properties is None:
            raise await self._not_found(container) if self._read_only else self._place.missing()
        return self._checked(container, properties)

    async def open_what_is_there(self) -> Opened | None:
        """As `open`, but one that is missing and may be made stays missing: None."""
        if not self._may_make:
            return await self.open()
        container = await self.found()
        properties = await self._look(container)
        return None if properties is None else self._checked(container, properties)

    def _checked(self, container: ContainerProxy, properties: dict[str, Any]) -> Opened:
        self._place.check(properties)
        policy = mapping(properties.get("indexingPolicy"))
        has_composite = serves(policy, self._place.layout.indexing_policy)
        return Opened(container, properties["_rid"], policy, has_composite, time.monotonic())

    async def settings(self) -> dict[str, Any] | None:
        """What the service says of the container, which is neither opened nor made; None where it is not there."""
        return await self._look(await self.found())

    async def found(self) -> ContainerProxy:
        """The container, whether it is there or not, of a client that was entered."""
        container = self._given or (await self._database()).get_container_client(self._place.name)
        await ask(lambda: enter(container.client_connection), self._place.where)
        return container

    async def _look(self, container: ContainerProxy) -> dict[str, Any] | None:
        """Its settings; None where it, or its database, is not there."""
        try:
            return await ask(lambda: settings_of(container), self._place.where, answers={404})
        except (Answer, StoreMissingError, StoreUnavailableError) as error:
            if says_404(error):
                return None
            raise

    async def _wait_for(self, container: ContainerProxy, seconds: float | None) -> dict[str, Any] | None:
        """Its settings, as soon as it is known; None where it is not for so many seconds, or all that there are."""
        try:
            return await ask(lambda: settings_of(container), self._place.where, passes=is_late, patience=seconds)
        except (StoreMissingError, StoreUnavailableError) as error:
            if says_404(error):
                return None
            raise

    async def _look_again(self, container: ContainerProxy) -> dict[str, Any] | None:
        """It may have been made a moment ago, by us or by who gives it, and be known only there."""
        if not self._read_only:
            return await self._wait_for(container, None if self._may_make else GIVEN)
        try:
            return await self._wait_for(container, LOOKED_AT)
        except StoreUnavailableError:
            return None  # no answer within so short a time; the one before said that it is not there

    async def _database(self) -> DatabaseProxy:
        """Where it is found and made."""
        if self._first is not None:
            proxy = await self._first()
            link = str(cast(Any, proxy).database_link)
            return DatabaseProxy(proxy.client_connection, link.partition("/")[2])
        if self._connections.client is None:
            raise AssertionError("neither a client nor a container")
        return self._connections.client.get_database_client(self._place.database_name)

    async def _make(self) -> None:
        """Create the container, and its database where that is missing too."""
        database, client = await self._database(), self._connections.client
        if self._first is None and client is not None:
            await self._made(lambda: client.create_database(self._place.database_name))
        key = PartitionKey(self._place.layout.partition_key, version=KEY_VERSION)
        policy = self._place.layout.indexing_policy
        await self._made(lambda: database.create_container(self._place.name, key, indexing_policy=policy))

    async def _not_found(self, container: ContainerProxy) -> StoreNotFoundError:
        """Which of the two names is wrong. Whoever may not ask for a database still hears of the container."""
        database = DatabaseProxy(container.client_connection, self._place.database_name)
        try:
            await ask(database.read, self._place.where, answers={404}, patience=KNOWN)
        except (Answer, CheckpointStoreError) as error:
            if says_404(error):
                return self._place.unknown_database()
            # What is known already says enough.
        return self._place.unknown()

    async def _made(self, creation: _Creation) -> None:
        """Of two processes that create something at once, one finds it done."""
        try:
            await ask(creation, self._place.where, answers={409}, passes=is_late)
        except Answer:
            pass
        except StoreReadOnlyError as error:
            raise self._place.missing("; an identity cannot create it, whatever its role") from error


async def settings_of(container: ContainerProxy) -> dict[str, Any]:
    """What the service says of a container, its id among it; a request for `ask` to send."""
    properties = dict(await container.read())
    if not isinstance(properties["_rid"], str):
        raise TypeError("a container without an id")
    return properties
