"""What a shell offers in place of the beginning of a name: runs, checkpoints and workflows of the store.

Looking changes nothing here either, and says nothing: where the store cannot be asked, or not in time, nothing is
offered. What is offered becomes a part of a command line, and most shells take it as it is: so only names of plain
letters are, which mean nothing to any shell.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, redirect_stderr
from typing import Any, Final, TypeAlias, cast

import typer

from ..location import open_store
from ..stores import AuditStore
from ..text import may_hold_a_key

__all__ = ["checkpoints", "runs", "workflows"]

_IN_TIME: Final = 2.0  # seconds that a shell is kept waiting
_OFFERED: Final = 50  # names: more are no choice
_LOOKED_AT: Final = 2_000  # runs that are looked through for the names of their workflows
_PLAIN: Final = r"[A-Za-z0-9_@/+=.,%][A-Za-z0-9_@/+=.,%-]*"

_Names: TypeAlias = Callable[[AuditStore, str, str | None], AsyncGenerator[str, None]]


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of runs, or of sessions, that begin so; the last written to first."""
    return _offered(ctx, incomplete, _runs)


def checkpoints(ctx: typer.Context, incomplete: str) -> list[str]:
    """The ids of checkpoints that begin so; and of runs, which a `@SEQ` makes a checkpoint's name of."""
    return _offered(ctx, incomplete, _checkpoints)


def workflows(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of workflows that begin so, of the runs last written to."""
    return _offered(ctx, incomplete, _workflows)


def _offered(ctx: typer.Context, incomplete: str, names: _Names) -> list[str]:
    found: dict[str, None] = {}
    try:
        with redirect_stderr(io.StringIO()):
            asyncio.run(_collect(found, ctx.params, incomplete, names))
    except Exception:  # noqa: S110 - the shell would print it into the line; the command itself will say it
        pass
    return list(found)


async def _collect(found: dict[str, None], given: dict[str, Any], incomplete: str, names: _Names) -> None:
    where, workflow = cast("str | None", given.get("store")), _only(given.get("workflow"))
    async with (
        asyncio.timeout(_IN_TIME),
        open_store(where, read_only=True, must_exist=True, patience=_IN_TIME) as store,
        aclosing(names(store.sessions() if given.get("turns") else store, incomplete, workflow)) as each,
    ):
        async for name in each:
            if name.startswith(incomplete) and re.fullmatch(_PLAIN, name) and not may_hold_a_key(name):
                found[name] = None
            if len(found) == _OFFERED:
                return


def _only(workflow: str | Sequence[str] | None) -> str | None:
    """The workflow that was given; None for none, and for several, as an option that may be repeated takes."""
    if workflow is None or isinstance(workflow, str):
        return workflow
    return workflow[0] if len(workflow) == 1 else None


async def _runs(store: AuditStore, prefix: str, workflow: str | None) -> AsyncGenerator[str, None]:
    async with aclosing(store.streams(workflow_name=workflow, prefix=prefix)) as streams:
        async for stream in streams:
            yield stream.run_id


async def _checkpoints(store: AuditStore, prefix: str, workflow: str | None) -> AsyncGenerator[str, None]:
    async with aclosing(_runs(store, prefix, workflow)) as ids:
        async for run_id in ids:
            yield run_id
    for checkpoint_id in await store.checkpoint_ids(prefix, limit=_OFFERED):
        yield checkpoint_id


async def _workflows(store: AuditStore, _prefix: str, _workflow: str | None) -> AsyncGenerator[str, None]:
    looked_at = 0
    async with aclosing(store.streams()) as streams:
        async for stream in streams:
            yield stream.workflow_name
            looked_at += 1
            if looked_at == _LOOKED_AT:
                return
