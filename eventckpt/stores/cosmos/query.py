"""The pages of a query, each asked for until it comes, and requests that go side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Final, TypeVar, cast

from ...side_by_side import side_by_side
from .items import Item
from .layout import mapping
from .requests import AT_ONCE, each_by_itself

__all__ = ["PAGE", "Cursor", "check_documents", "together"]

_T = TypeVar("_T")

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
        """The next page; None after the last. As many as there are: each has an operation's time."""
        if self._pages is None:
            return await self._ask(self._next)
        with each_by_itself():
            return await self._ask(self._next)

    async def rows(self) -> list[Item]:
        """All rows that are left."""
        rows: list[Item] = []
        while (page := await self.page()) is not None:
            rows += page
        return rows

    async def _next(self) -> list[Item] | None:
        pages = self._begin() if self._pages is None else self._pages
        self._pages = pages if self._resumes else None  # until the page has come
        try:
            page = [row async for row in await anext(pages)]
        except StopAsyncIteration:
            page = None
        self._pages = pages
        return page


async def together(*requests: Callable[[], Awaitable[_T]]) -> list[_T]:
    """What the requests give, a few under way at a time; of more than those, each has an operation's time. If one
    fails, none goes on behind the caller's back."""
    if not requests:  # as of most saves, whose event has no parts
        return []
    each_has_its_time = len(requests) > AT_ONCE

    async def one(request: Callable[[], Awaitable[_T]]) -> _T:
        with each_by_itself() if each_has_its_time else nullcontext():
            return await request()

    return await side_by_side(one, requests, at_once=AT_ONCE)


def check_documents(_: object, body: object) -> None:
    """What has no list of objects is no page: the SDK would take some of it for an empty one."""
    documents = mapping(body).get("Documents")
    if not isinstance(documents, list) or not all(isinstance(row, dict) for row in cast("list[object]", documents)):
        raise TypeError("a page without a list of objects")
