"""A container of ours: asked for items, and given them, with what was seen of it before.

The events are in one, projections and leases in its siblings. `opening` has how one is found and made. All requests for
items go through here, over the connections of one store: from their first use until the store is closed.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

from azure.core import MatchConditions
from azure.cosmos.aio import ContainerProxy

from ...errors import CheckpointStoreError, StoreReadOnlyError, StoreUnavailableError
from ...text import safe
from ..names import id_of
from .bodies import prepared
from .client import Connections
from .items import Item
from .layout import Layout, Place, mapping
from .opening import KNOWN, Opened, Opening, Together, settings_of
from .query import PAGE, Cursor, check_documents
from .requests import (
    MISSING_OWNER,
    SESSION_AHEAD,
    Answer,
    Refusal,
    ask,
    hear,
    is_missing_item,
    is_missing_owner,
    is_session_ahead,
    is_taken,
)
from .session import Session, forget

__all__ = ["Container"]

_T = TypeVar("_T")

SETTLING: Final = 10.0
"""Seconds after opening for which a missing container passes: just after one was made, another gateway may not know."""

_RID: Final = "x-ms-content-path"
"""The header with the service's id of the container that an answer is about."""
_WITH_A_BODY: Final = frozenset({200, 201})  # as long as no write has asked for none, which only an answer allows
_AHEAD: Final = 2
"""Attempts that find no replica which has come as far as this store, before it is looked whether one can."""
_ANOTHER_CONTAINER: Final = (400, "1024")  # the SDK looks the container up again, and sends the request to the new one

_Removal: TypeAlias = Literal["removed", "missing", "changed"]


class Container:
    """One container.

    Args:
        layout: what it is made with, and must have been made with.
        connections: of the store that it belongs to.
        database_name, name: where it is.
        given: the container, made and kept by somebody else; None: it is found by its name, and made.
        first: gives a container of the same database, through which that is found; None: by the client.
        read_only: whether nothing is made or written, neither the container nor anything in it.
        must_exist: whether it is not made, though what is in it may be written.
        only_saves_make_it: whether it is not made for who looks, who finds nothing in it as long as it is missing.
    """

    def __init__(
        self,
        layout: Layout,
        connections: Connections,
        *,
        database_name: str,
        name: str,
        given: ContainerProxy | None = None,
        first: Callable[[], Awaitable[ContainerProxy]] | None = None,
        read_only: bool = False,
        must_exist: bool = False,
        only_saves_make_it: bool = False,
    ) -> None:
        self._connections = connections
        self._place = Place(layout, database_name, name)
        self._read_only = read_only
        self._first = first
        self._only_saves_make_it = only_saves_make_it
        self._how = Opening(
            self._place,
            connections,
            given=given,
            first=first,
            may_make=given is None and not read_only and not must_exist,
            read_only=read_only,
        )
        self._look = Together(self._how.open_what_is_there if only_saves_make_it else self._how.open)
        self._make = Together(self._how.open) if only_saves_make_it else self._look
        self._siblings: dict[str, Container] = {}
        self._opened: Opened | None = None
        self._session = Session()
        self._answered = False
        self._may_be_another = False
        self._is_lost = False
        """Whether the container that was opened is there no more, and is to be opened anew."""

    def sibling(self, suffix: str, layout: Layout) -> Container:
        """The container of the same database whose name is this one's and `suffix`: always the same object, since what
        one user of a store has written is what another one must find."""
        found = self._siblings.get(suffix)
        if found is None:
            found = self._siblings[suffix] = Container(
                layout,
                self._connections,
                database_name=self._place.database_name,
                name=f"{self._place.name}{suffix}",
                first=self._first if self._only_saves_make_it else self.opened,
                read_only=self._read_only,
                only_saves_make_it=self._only_saves_make_it,
            )
        return found

    @asynccontextmanager
    async def in_use(self, *, many: bool = False) -> AsyncGenerator[None, None]:
        """The time of one operation, which may send several requests: the container is open if it is there, and
        `close` waits.

        Args:
            many: whether it sends as many requests as there is data; each has the time of an operation then.

        Raises:
            CheckpointStoreError: the store was closed, belongs to another event loop, or cannot be opened.
        """
        async with self._connections.in_use(many=many):
            if self._opened is None or self._is_lost:
                self._opens(await self._look())
            yield

    @asynccontextmanager
    async def in_use_and_there(self) -> AsyncGenerator[None, None]:
        """`in_use` of what needs the container itself, which is made where it is missing."""
        async with self.in_use():
            await self._be_there()
            yield

    async def opened(self) -> ContainerProxy:
        """The SDK's container, opened."""
        async with self.in_use_and_there():
            return self.proxy

    @property
    def is_there(self) -> bool:
        """Whether there is a container, while it is in use: one that only saves make may be missing."""
        return self._opened is not None

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
        key = self._place_of(body)
        await self._be_there()
        given, content = await prepared(body, self._key_name)

        async def attempt() -> Item | None:
            if await is_taken(self.proxy.create_item(given, retry_write=3, **content, **self._write(key))):
                return await self.proxy.read_item(body["id"], key, **self._read(key))  # a 404 is a replica lagging
            return None

        return await self._ask(attempt, body)

    async def create_only(self, body: Item) -> str | None:
        """Create an item; its etag, or None where its id is taken."""
        await self._be_there()
        return await self._changed(self.proxy.create_item, body, self._write(self._place_of(body)))

    async def replace(self, body: Item, etag: str) -> str | None:
        """Write an item over the state with this etag; the new one, or None where there is another state or none."""
        if not self.is_there:
            self.check_writable()
            return None
        options = _unless_changed(etag) | self._write(self._place_of(body))
        return await self._changed(partial(self.proxy.replace_item, str(body["id"])), body, options)

    async def upsert(self, body: Item) -> None:
        """Create an item or write it once more, which makes it young again."""
        self.check_writable()
        await self._be_there()
        options = self._write(self._place_of(body))
        given, content = await prepared(body, self._key_name)
        await self._ask(lambda: self.proxy.upsert_item(given, retry_write=3, **content, **options), body)

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

        if not self.is_there:
            return None
        about = {"id": name, self._key_name: key}
        try:
            if known:
                return await self._ask(attempt, about, patience=KNOWN)
            return await self._ask(attempt, about, answers={404})
        except Answer:
            return None
        except StoreUnavailableError as error:
            if is_missing_item(error):
                return None
            raise

    async def remove(self, name: str, key: str, etag: str | None = None) -> _Removal:
        """Delete an item; with an etag only if it was not written again since that was read."""
        self.check_writable()
        if not self.is_there:
            return "missing"
        options = self._heard(key) | ({} if etag is None else _unless_changed(etag))
        attempts: list[str] = []

        async def attempt() -> None:
            attempts.append(name)
            await self.proxy.delete_item(name, key, **options)

        try:
            await self._ask(attempt, {"id": name, self._key_name: key}, answers={404, 412})
        except Answer as answer:
            if answer.status == 412:
                return "changed"
            return "missing" if len(attempts) == 1 else "removed"  # by an attempt of ours whose answer was lost
        return "removed"

    def query(self, text: str, values: Mapping[str, object], key: str | None = None, *, page: int = 0) -> Cursor:
        """The rows of a query in pages; of one logical partition, or, if it sorts nothing, of all."""
        return Cursor(self._ask_if_there, lambda: self._pages(text, values, key, page or PAGE))

    async def rows_of(self, cursor: Cursor) -> AsyncGenerator[Item, None]:
        """The rows of a query. Each page is an operation of its own: `close` does not wait for whoever reads them."""
        while True:
            async with self.in_use():
                page = await cursor.page()
            if page is None:
                return
            for row in page:
                yield row

    def query_sorted(self, text: str, values: Mapping[str, object], *, page: int) -> Cursor:
        """The rows of a query that sorts over all partitions. A row may come more than once.

        The SDK merges the rows of the partitions, and what it holds for that is lost when one of its requests fails:
        such a query begins again.
        """
        return Cursor(self._ask_if_there, lambda: self._pages(text, values, None, page), resumes=False)

    async def ask(self, request: Callable[[ContainerProxy, dict[str, Any]], Awaitable[_T]]) -> _T:
        """Send a request of a form that this class has no method for.

        Args:
            request: gets the container, and the options that each read over several partition keys carries.
        """
        return await self._ask(lambda: request(self.proxy, self._read(None)))

    async def settings(self) -> dict[str, Any] | None:
        """What the service says of the container, which is neither opened nor made; None where it is not there."""
        async with self._connections.in_use():
            return await self._how.settings()

    async def consistency(self) -> str:
        """The default consistency of the account."""
        async with self._connections.in_use():
            connection: Any = (await self._how.found()).client_connection

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
        has_composite = self._opened is None or self._opened.has_composite
        return f"c.{first} DESC, c.{second} DESC" if has_composite else f"c.{second} DESC"

    @property
    def policy(self) -> Mapping[str, Any] | None:
        """What is indexed; None of a container that is missing."""
        return None if self._opened is None else self._opened.policy

    @property
    def rid(self) -> str:
        """The service's id of the container; another one, if it is made anew under its name."""
        return self._open.rid

    @property
    def name(self) -> str:
        """The container's id."""
        return self._place.name

    @property
    def proxy(self) -> ContainerProxy:
        """The SDK's container; while it is in use."""
        return self._open.proxy

    # Inside a request

    @property
    def _open(self) -> Opened:
        if self._opened is None:
            raise AssertionError("a request outside of in_use")
        return self._opened

    @property
    def _key_name(self) -> str:
        return self._place.layout.partition_key.removeprefix("/")

    def _key_of(self, body: Item) -> str:
        return str(body[self._key_name])

    def _place_of(self, body: Item) -> str:
        """The partition key of what is to be written. What the SDK would refuse of the id is refused here: there, it
        looks like an answer that makes no sense, which is asked for again."""
        id_of(body)
        return self._key_of(body)

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
            self._may_be_another |= refused or headers.get(_RID, self.rid) != self.rid

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
        except Answer:
            if len(attempts) == 1:
                return None
        # The answer to an earlier attempt may have been lost: then what is there is what was to be written.
        found = await self.read(str(body["id"]), self._key_of(body), known=True)
        same = found is not None and all(found.get(name) == value for name, value in body.items())
        return str(found["_etag"]) if found is not None and same else None

    async def _ask_if_there(self, request: Callable[[], Awaitable[list[Item] | None]]) -> list[Item] | None:
        """The next page of a query; none of a container that is missing."""
        return await self._ask(request) if self.is_there else None

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
        ahead = 0

        async def attempt() -> _T:
            nonlocal ahead
            if self._may_be_another or ahead == _AHEAD:  # then what is waited for never comes
                ahead += 1  # the look may fail, and is no reason not to ask on
                self._compare(await settings_of(self.proxy))
            return await request()

        def passes(refusal: Refusal) -> bool:
            nonlocal ahead
            ahead += refusal is SESSION_AHEAD
            return self._passes(refusal)

        try:
            answer = await ask(attempt, where, answers=answers or set(), passes=passes, patience=patience)
        except (Answer, CheckpointStoreError) as error:
            if is_missing_owner(error):
                raise self._gone() from error.__cause__
            if self._may_be_another or is_session_ahead(error):
                await self._check_same()
            raise
        if self._may_be_another:
            await self._check_same()
        return answer

    def _passes(self, refusal: Refusal) -> bool:
        if refusal is MISSING_OWNER:
            return self._opened is not None and time.monotonic() < self._opened.at + SETTLING
        return refusal.passes

    async def _check_same(self) -> None:
        """A container that was made anew begins to count anew: what was seen of the old one never comes, and what a
        save rests on is gone."""
        try:
            properties = await ask(lambda: settings_of(self.proxy), self._place.where, patience=KNOWN)
        except CheckpointStoreError:
            return  # what was on its way to the caller says more
        self._compare(properties)

    def _compare(self, properties: Mapping[str, Any]) -> None:
        self._may_be_another = properties["_rid"] != self.rid
        if not self._may_be_another:
            return
        if self._place.layout.is_made_again:
            self._is_lost = True
            raise self._place.lost()
        raise self._place.made_anew()

    async def _be_there(self) -> None:
        """Make the container where it was missing when it was looked for."""
        if not self.is_there:
            self._opens(await self._make())

    def _opens(self, opened: Opened | None) -> None:
        """It is open, or not there; what was seen of another one is forgotten."""
        if opened is None and not self._is_lost:
            return  # it is missing, or was made while this look was under way
        before = self._opened
        if before is not None and (opened is None or opened.rid != before.rid):
            self._session, self._answered, self._may_be_another = Session(), False, False
            forget(before.proxy)
        self._opened, self._is_lost = opened, False

    def _gone(self) -> CheckpointStoreError:
        """What a container that was open is by now."""
        if self._read_only:
            return self._place.unknown()
        self._is_lost = self._place.layout.is_made_again
        return self._place.missing()


def _unless_changed(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}
