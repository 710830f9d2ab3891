"""The store that the commands work on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from eventckpt.location import open_store

from ..engines import Engine, open_engine

__all__ = ["engine_of"]


@asynccontextmanager
async def engine_of(
    store: str | None,
    *,
    read_only: bool = False,
    create: bool = False,
    patience: float = 30.0,
    turns: bool = False,
) -> AsyncGenerator[Engine, None]:
    """The engine of a store, `--store` or that of the environment; `read_only` for who only looks, `create` for who is
    there before the first event. What it asks of the store has `patience` seconds, and waits for what workflows ask.
    `turns`: of its sessions."""
    opening = open_store(store, read_only=read_only, must_exist=not create, patience=patience, priority="Low")
    async with opening as opened:
        yield open_engine(opened.sessions() if turns else opened)
