"""A store of a viewer that is a program of its own: opened anew where its file, or container, is another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self

from ..audit import CheckpointAudit
from ..audit.listed_from import Where
from ..closing import close_after
from ..exit_codes import USAGE, Failure
from ..stores import AuditStore

__all__ = ["Opened"]


class Opened:
    """A store, as an async context manager, and audits of it.

    Args:
        opening: opens the store.
        where: what runs are listed from; see `CheckpointAudit`.
        allow: types that values are shown of.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractAsyncContextManager[AuditStore]],
        *,
        where: Where = "auto",
        allow: Sequence[str] = (),
    ) -> None:
        self._opening = opening
        self._where: Where = where
        self._allow = allow
        self._resources = AsyncExitStack()
        self._store: AuditStore | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await close_after(error, self._resources.aclose)

    @property
    def store(self) -> AuditStore:
        """The store that was opened last."""
        if self._store is None:
            raise RuntimeError("The store is open once its audit was asked for.")
        return self._store

    async def audit(self) -> CheckpointAudit:
        """The audit of the store as it is there now; the one that was open is closed.

        Raises:
            Failure: a type is not of the form that names one.
            LocationError, CheckpointStoreError: see `renewed`.
        """
        store = await self.renewed()
        try:
            return CheckpointAudit(store, allowed_checkpoint_types=self._allow, latest=self._where)
        except (TypeError, ValueError) as error:
            raise Failure(USAGE, f"--allow: {error}") from error

    async def renewed(self) -> AuditStore:
        """The store as it is there now; the one that was open is closed.

        Raises:
            LocationError: see `open_store`.
            CheckpointStoreError: the store is not there, or cannot be read; the one that was open stays so.
        """
        async with AsyncExitStack() as resources:
            store = await resources.enter_async_context(self._opening())
            await store.checkpoint_ids("", limit=1)  # that it can be read is said at once, as every command says it
            earlier, self._resources, self._store = self._resources, resources.pop_all(), store
        await earlier.aclose()
        return store
