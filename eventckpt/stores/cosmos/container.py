"""A container of ours: opened on first use, made where it is missing, and asked with what was seen of it before.

The events are in one, projections and leases in others beside it. All are opened, made, read and written here, over the
connections of one store: from their first use until the store is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError

from ...errors import (
    CheckpointStoreError,
    StoreFormatError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from ...text import safe
from . import requests
from .client import Connections
from .items import Item
from .layout import KEY_VERSION, Layout, Place, indexes, mapping, serves
from .query import PAGE, Cursor, check_documents
from .requests import ask, hear, is_late, is_missing_item, is_missing_owner, refusal_of, says_404, status_of
from .session import Session, enter

__all__ = ["Container"]

_T = TypeVar("_T")

GIVEN: Final = 2.0
"""Seconds for which a container that is given is waited for: who gives it may just have made it."""
LOOKED_AT: Final = 0.5
"""Seconds for which a container that is only read is waited for: mostly it is a name that is wrong."""
KNOWN: Final = 3.0
"""Seconds for which an item is asked for that was there a moment ago."""
SETTLING: Final = 10.0
"""Seconds after opening for which a missing container passes: just after one was made, another gateway may not know."""

_RID: Final = "x-ms-content-path"
"""The header with the service's id of the container that an answer is about."""
_WITH_A_BODY: Final = frozenset({200, 201})  # as long as no write has asked for none, which only an answer allows
_ANOTHER_CONTAINER: Final = (400, "1024")  # the SDK looks the container up again, and sends the request to the new one

_Removal: TypeAlias = Literal["removed", "missing", "changed"]
_Creation: TypeAlias = Callable[[], Awaitable[object]]


class Container:
    """One container.

    Args:
        layout: what it is made with, and must have been made with.
        connections: of the store that it belongs to.
        database_name, name: where it is.
        given: the container, made and kept by somebody else; None: it is found by its name, and made.
        beside: a container of the same database, through which that is found.
        read_only: whether nothing is made or written, neither the container nor anything in it.
    """

    def __init__(
        self,
        layout: Layout,
        connections: Connections,
        *,
        database_name: str,
        name: str,
        given: ContainerProxy | None = None,
        beside: Container | None = None,
        read_only: bool = False,
    ) -> None:
        self._connections = connections
        self._place = Place(layout, database_name, name)
        self._given = given
        self._first = beside
        self._read_only = read_only
        self._neighbours: dict[str, Container] = {}
        self._proxy: ContainerProxy | None = None
        self._rid = ""
        self._opened_at = 0.0
        self._has_composite = False
        self._policy: dict[str, Any] = {}
        self._opening: asyncio.Task[None] | None = None
        self._waiting = 0
        self._session = Session()
        self._answered = False
        self._may_be_another = False

    def beside(self, suffix: str, layout: Layout) -> Container:
        """The container of the same database whose name is this one's and `suffix`: always the same object, since what
        one user of a store has written is what another one must find."""
        found = self._neighbours.get(suffix)
        if found is None:
            found = self._neighbours[suffix] = Container(
                layout,
                self._connections,
                database_name=self._place.database_name,
                name=f"{self._place.name}{suffix}",
                beside=self,
                read_only=self._read_only,
            )
        return found

    @asynccontextmanager
    async def in_use(self) -> AsyncGenerator[None, None]:
        """The time of one operation, which may send several requests: the container is open, and `close` waits.

        Raises:
            CheckpointStoreError: the store was closed, belongs to another event loop, or cannot be opened.
        """
        async with self._connections.in_use():
            if self._proxy is None:
                await self._open_once()
            yield

    def check_writable(self) -> None:
        """Before anything that writes, also where it may find that there is nothing to write.

        Raises:
            StoreReadOnlyError: the store was made with `read_only`. Nothing was asked of the service.
        """
        if self._read_only:
            raise StoreReadOnlyError(
                f"The store on {self._place.where} was made with read_only=True, and writes nothing. Make one without."
            )

    @property
    def read_only(self) -> bool:
        """Whether nothing is made or written."""
        return self._read_only

    # Requests

    async def create(self, body: Item) -> Item | None:
        """Create an item. Where its id is taken, perhaps by an earlier attempt of ours, the item that has it."""
        self.check_writable()
        key = self._key_of(body)

        async def attempt() -> Item | None:
            try:
                await self.proxy.create_item(body, retry_write=3, **self._write(key))
            except CosmosResourceExistsError:
                return await self.proxy.read_item(body["id"], key, **self._read(key))  # a 404 is a replica lagging
            return None

        return await self._ask(attempt, body)

    async def create_only(self, body: Item) -> str | None:
        """Create an item; its etag, or None where its id is taken."""
        return await self._changed(self.proxy.create_item, body, self._write(self._key_of(body)))

    async def replace(self, body: Item, etag: str) -> str | None:
        """Write an item over the state with this etag; the new one, or None where there is another state or none."""
        options = _unless_changed(etag) | self._write(self._key_of(body))
        return await self._changed(partial(self.proxy.replace_item, str(body["id"])), body, options)

    async def put(self, body: Item) -> None:
        """Create an item or write it once more, which makes it young again."""
        self.check_writable()
        options = self._write(self._key_of(body))
        await self._ask(lambda: self.proxy.upsert_item(body, retry_write=3, **options), body)

    async def read(self, name: str, key: str, *, known: bool = False) -> Item | None:
        """The item with this id in a logical partition; None if there is none.

        Args:
            known: the item was there a moment ago. A replica that lags may not have heard of it, so it is asked for
                again, for some seconds, before it counts as removed meanwhile.
        """

        async def attempt() -> Item:
            item = await self.proxy.read_item(name, key, **self._read(key))
            if item["id"] != name:
                raise ValueError("another item than the one that was asked for")
            return item

        about = {"id": name, self._key_name: key}
        try:
            if known:
                return await self._ask(attempt, about, patience=min(KNOWN, requests.PATIENCE))
            return await self._ask(attempt, about, answers={404})
        except CosmosHttpResponseError:
            return None
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, AzureError) and is_missing_item(error.__cause__):
                return None
            raise

    async def remove(self, name: str, key: str, etag: str | None = None) -> _Removal:
        """Delete an item; with an etag only if it was not written again since that was read."""
        self.check_writable()
        options = self._heard(key) | ({} if etag is None else _unless_changed(etag))
        attempts: list[str] = []

        async def attempt() -> None:
            attempts.append(name)
            await self.proxy.delete_item(name, key, **options)

        try:
            await self._ask(attempt, {"id": name, self._key_name: key}, answers={404, 412})
        except CosmosHttpResponseError as error:
            if status_of(error) == 412:
                return "changed"
            return "missing" if len(attempts) == 1 else "removed"  # by an attempt of ours whose answer was lost
        return "removed"

    def query(self, text: str, values: Mapping[str, object], key: str | None = None) -> Cursor:
        """The rows of a query in pages; of one logical partition, or, if it sorts nothing, of all."""
        return Cursor(self._ask, lambda: self._pages(text, values, key, PAGE))

    def query_sorted(self, text: str, values: Mapping[str, object], *, page: int) -> Cursor:
        """The rows of a query that sorts over all partitions. A row may come more than once.

        The SDK merges the rows of the partitions, and what it holds for that is lost when one of its requests fails:
        such a query begins again.
        """
        return Cursor(self._ask, lambda: self._pages(text, values, None, page), resumes=False)

    async def ask(self, request: Callable[[ContainerProxy, dict[str, Any]], Awaitable[_T]]) -> _T:
        """Send a request of a form that this class has no method for.

        Args:
            request: gets the container, and the options that each read over several partition keys carries.
        """
        return await self._ask(lambda: request(self.proxy, self._read(None)))

    async def settings(self) -> dict[str, Any] | None:
        """What the service says of the container, which is neither opened nor made; None where it is not there."""
        async with self._connections.in_use():
            return await self._look(await self._found())

    async def consistency(self) -> str:
        """The default consistency of the account."""
        async with self._connections.in_use():
            connection: Any = (await self._found()).client_connection

            async def attempt() -> str:
                account = await connection.GetDatabaseAccount()
                return str(mapping(account.ConsistencyPolicy).get("defaultConsistencyLevel"))

            return await ask(attempt, self._place.where)

    async def service_time(self) -> float:
        """The present by the service's clock, which is the one that `_ts` is from."""

        async def attempt() -> float:
            properties: Any = await self.proxy.read()
            return parsedate_to_datetime(properties.get_response_headers()["Date"]).timestamp()

        return await self._ask(attempt)

    def newest_first(self, first: str, second: str) -> str:
        """How to sort by `second` what is filtered by `first`. With the filter's own property in front, the service
        uses the composite index; a container made by hand may lack it."""
        return f"c.{first} DESC, c.{second} DESC" if self._has_composite else f"c.{second} DESC"

    def sorts_by(self, name: str) -> bool:
        """Whether the service can sort by a property, which one that a container's policy leaves out refuses."""
        return indexes(self._policy, f"/{name}/?")

    @property
    def rid(self) -> str:
        """The service's id of the container; another one, if it is made anew under its name."""
        return self._rid

    @property
    def name(self) -> str:
        """The container's id."""
        return self._place.name

    @property
    def proxy(self) -> ContainerProxy:
        """The SDK's container; while it is in use."""
        if self._proxy is None:
            raise AssertionError("a request outside of in_use")
        return self._proxy

    # Inside a request

    @property
    def _key_name(self) -> str:
        return self._place.layout.partition_key.removeprefix("/")

    def _key_of(self, body: Item) -> str:
        return str(body[self._key_name])

    def _read(self, key: str | None) -> dict[str, Any]:
        """What every read carries: what was seen before."""
        token = self._session.token(key)
        return self._heard(key) | ({} if token is None else {"session_token": token})

    def _write(self, key: str) -> dict[str, Any]:
        """What every write carries. The first one asks for its body: from an answer without, the SDK does not learn
        which container its own session token is of, and gives it to other containers."""
        return self._heard(key) | {"no_response": self._answered}

    def _heard(self, key: str | None) -> dict[str, Any]:
        """The option by which the SDK shows each answer as it comes, those of its own attempts among them."""

        def heard(response: Any) -> None:
            status, headers = int(response.http_response.status_code), response.http_response.headers
            hear(status, headers)
            self._session.note(headers, key)
            self._answered |= status in _WITH_A_BODY
            refused = (status, headers.get("x-ms-substatus")) == _ANOTHER_CONTAINER
            self._may_be_another |= refused or headers.get(_RID, self._rid) != self._rid

        return {"raw_response_hook": heard}

    def _pages(self, text: str, values: Mapping[str, object], key: str | None, page: int) -> Any:
        parameters = [{"name": name, "value": value} for name, value in values.items()]
        scope: dict[str, Any] = {} if key is None else {"partition_key": key}
        options: dict[str, Any] = scope | self._read(key) | {"response_hook": check_documents}
        return self.proxy.query_items(text, parameters=parameters, max_item_count=page, **options).by_page()

    async def _changed(
        self, write: Callable[..., Awaitable[Any]], body: Item, options: Mapping[str, Any]
    ) -> str | None:
        """The etag that a write gives; None where its condition does not hold."""
        self.check_writable()
        attempts: list[Item] = []

        async def attempt() -> str:
            attempts.append(body)
            answer = await write(body, **options)
            return str(answer.get_response_headers()["etag"])

        try:
            return await self._ask(attempt, body, answers={404, 409, 412})
        except CosmosHttpResponseError:
            if len(attempts) == 1:
                return None
        # The answer to an earlier attempt may have been lost: then what is there is what was to be written.
        found = await self.read(str(body["id"]), self._key_of(body), known=True)
        same = found is not None and all(found.get(name) == value for name, value in body.items())
        return str(found["_etag"]) if found is not None and same else None

    async def _ask(
        self,
        request: Callable[[], Awaitable[_T]],
        about: Item | None = None,
        answers: set[int] | None = None,
        patience: float | None = None,
    ) -> _T:
        where = self._place.where
        if about is not None:
            where = f"{safe(about['id'])!r} of partition {safe(self._key_of(about))!r}, {where}"
        try:
            answer = await ask(request, where, answers=answers or set(), passes=self._passes, patience=patience)
        except CheckpointStoreError as error:
            cause = error.__cause__
            if isinstance(cause, AzureError) and is_missing_owner(cause):
                raise self._gone() from cause
            if self._may_be_another or (isinstance(cause, AzureError) and requests.is_session_ahead(cause)):
                await self._check_same()
            raise
        if self._may_be_another:
            await self._check_same()
        return answer

    def _passes(self, error: AzureError) -> bool:
        if is_missing_owner(error):
            return self._proxy is not None and time.monotonic() < self._opened_at + SETTLING
        return refusal_of(error).passes

    async def _check_same(self) -> None:
        """A container that was made anew begins to count anew: what was seen of the old one never comes, and what a
        save rests on is gone."""
        self._may_be_another = False
        try:
            patience = min(KNOWN, requests.PATIENCE)
            properties = await ask(lambda: _settings(self.proxy), self._place.where, patience=patience)
        except CheckpointStoreError:
            return  # what was on its way to the caller says more
        if properties["_rid"] != self._rid:
            self._may_be_another = True
            raise self._place.made_anew()

    # Opening

    async def _open_once(self) -> None:
        """Open it, together with whoever waits for that too: all hear of the same failure at the same time."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        self._waiting += 1
        try:
            await asyncio.shield(opening)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._opening = None
                if not opening.done():
                    opening.cancel()
                    await asyncio.wait([opening])

    async def _open(self) -> None:
        container = await self._found()
        properties = await self._look(container)
        if properties is None and not self._read_only and self._given is None:
            await self._make()
        if properties is None:
            properties = await self._look_again(container)
        if properties is None:
            raise await self._not_found(container) if self._read_only else self._place.missing()
        self._place.check(properties)
        self._policy = mapping(properties.get("indexingPolicy"))
        self._has_composite = serves(self._policy, self._place.layout.indexing_policy)
        self._rid, self._opened_at, self._proxy = properties["_rid"], time.monotonic(), container

    async def _found(self) -> ContainerProxy:
        """The container, whether it is there or not, of a client that was entered."""
        container = self._given or (await self._database()).get_container_client(self._place.name)
        await ask(lambda: enter(container.client_connection), self._place.where)
        return container

    async def _look(self, container: ContainerProxy, until: float = 0.0) -> dict[str, Any] | None:
        """Its settings; None where it, or its database, is not there, nor comes to be known for `until` seconds."""
        try:
            if until:
                return await ask(lambda: _settings(container), self._place.where, passes=is_late, patience=until)
            return await ask(lambda: _settings(container), self._place.where, answers={404})
        except (CosmosHttpResponseError, StoreFormatError, StoreUnavailableError) as error:
            if says_404(error):
                return None
            raise

    async def _look_again(self, container: ContainerProxy) -> dict[str, Any] | None:
        """It may have been made a moment ago, by us or by who gives it, and be known only there."""
        if not self._read_only:
            return await self._look(container, until=GIVEN if self._given else requests.PATIENCE)
        try:
            return await self._look(container, until=LOOKED_AT)
        except StoreUnavailableError:
            return None  # no answer within so short a time; the one before said that it is not there

    async def _database(self) -> DatabaseProxy:
        """Where it is found and made."""
        if self._first is not None:
            async with self._first.in_use():
                proxy = self._first.proxy
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
            await ask(database.read, self._place.where, answers={404}, patience=min(KNOWN, requests.PATIENCE))
        except (CosmosHttpResponseError, CheckpointStoreError) as error:
            if says_404(error):
                return self._place.unknown_database()
            # What is known already says enough.
        return self._place.unknown()

    async def _made(self, creation: _Creation) -> None:
        """Of two processes that create something at once, one finds it done."""
        try:
            await ask(creation, self._place.where, answers={409}, passes=is_late)
        except CosmosHttpResponseError:
            pass
        except StoreReadOnlyError as error:
            raise self._place.missing("; an identity cannot create it, whatever its role") from error

    def _gone(self) -> CheckpointStoreError:
        """What a container that was open is by now."""
        if self._read_only:
            return self._place.unknown()
        return self._place.missing()


async def _settings(container: ContainerProxy) -> dict[str, Any]:
    """What the service says of a container, its id among it."""
    properties = dict(await container.read())
    if not isinstance(properties["_rid"], str):
        raise TypeError("a container without an id")
    return properties


def _unless_changed(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}
