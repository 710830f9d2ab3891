"""The pages of a query, each asked for until it comes, and requests that go side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from azure.core.exceptions import AzureError

from .items import Item
from .layout import mapping

__all__ = ["PAGE", "Cursor", "check_documents", "together"]

_T = TypeVar("_T")

AT_ONCE: Final = 8
"""Requests that one operation sends in parallel."""
PAGE: Final = 1000
"""Rows of a page. The service ends one earlier at 4 MB."""


class Cursor:
    """The pages of one query."""

    def __init__(
        self,
        ask: Callable[[Callable[[], Awaitable[list[Item] | None]]], Awaitable[list[Item] | None]],
        begin: Callable[[], Any],
        *,
        resumes: bool = True,
    ) -> None:
        self._ask = ask
        self._begin = begin
        self._resumes = resumes
        self._pages: Any = None

    async def page(self) -> list[Item] | None:
        """The next page; None after the last."""
        return await self._ask(self._next)

    async def rows(self) -> list[Item]:
        """All rows that are left."""
        rows: list[Item] = []
        while (page := await self.page()) is not None:
            rows += page
        return rows

    async def _next(self) -> list[Item] | None:
        if self._pages is None:
            self._pages = self._begin()
        try:
            return [row async for row in await anext(self._pages)]
        except StopAsyncIteration:
            return None
        except AzureError:
            if not self._resumes:
                self._pages = None
            raise


async def together(*requests: Callable[[], Awaitable[_T]]) -> list[_T]:
    """What the requests give, a few under way at a time. If one fails, none goes on behind the caller's back."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(request: Callable[[], Awaitable[_T]]) -> _T:
        async with limit:
            return await request()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(request)) for request in requests]
    except ExceptionGroup as failures:
        raise failures.exceptions[0]  # noqa: B904 - it has its own cause
    return [task.result() for task in tasks]


def check_documents(_: object, body: object) -> None:
    """What has no list of objects is no page: the SDK would take some of it for an empty one."""
    documents = mapping(body).get("Documents")
    if not isinstance(documents, list) or not all(isinstance(row, dict) for row in cast("list[object]", documents)):
        raise TypeError("a page without a list of objects")
