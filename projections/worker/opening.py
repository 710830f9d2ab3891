"""The store that the commands work on: a file, or an endpoint with its settings."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec

from eventckpt import EventStore, SqliteEventStore
from eventckpt.errors import StoreReadOnlyError
from eventckpt.text import is_connection_string

from ..engines import Engine, open_engine
from .output import USAGE, Failure, well_formed

__all__ = ["engine_of"]

_P = ParamSpec("_P")


@asynccontextmanager
async def engine_of(store: str, *, create: bool = False) -> AsyncGenerator[Engine, None]:
    """The engine of a store; `create` for who is there before the first event."""
    async with _opened(store, create=create) as opened:
        yield open_engine(opened)


@asynccontextmanager
async def _opened(store: str, *, create: bool) -> AsyncGenerator[EventStore, None]:
    if is_connection_string(store):
        raise Failure(
            USAGE,
            "--store (or EVENTCKPT_STORE) is a connection string, or a URL with a password, and is not shown. Give the "
            "endpoint alone, and the key in AZURE_COSMOS_KEY.",
        )
    if not store.startswith(("http://", "https://")):
        if not create and not os.path.isfile(store):  # noqa: ASYNC240, PTH113 - nothing else runs yet
            raise StoreReadOnlyError(f"There is no store at {store}. Check the path, or EVENTCKPT_STORE.")
        async with _made(SqliteEventStore, store) as opened:
            yield opened
        return
    try:
        from azure.identity.aio import DefaultAzureCredential

        from eventckpt import CosmosEventStore
    except ModuleNotFoundError as error:
        raise Failure(
            USAGE, f"Cosmos DB needs the cosmos extra ({error}): pip install '.[projector,cosmos]' in a checkout."
        ) from error

    if os.environ.get("AZURE_COSMOS_KEY"):
        async with _made(CosmosEventStore, endpoint=store) as opened:
            yield opened
        return
    async with (
        DefaultAzureCredential() as credential,
        _made(CosmosEventStore, endpoint=store, credential=credential) as opened,
    ):
        yield opened


def _made(store: Callable[_P, EventStore], *args: _P.args, **kwargs: _P.kwargs) -> EventStore:
    return well_formed(lambda: store(*args, **kwargs))
