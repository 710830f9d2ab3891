"""Copies of the leases in use, under a name that stays: what a scaler is told to look at.

KEDA's scalers, as .NET's estimator, read the leases of one processor name. Each projection has a name of its own, so
that a rebuild changes it; a scaler that looks at the old one sees positions that nobody moves any more. These copies
follow. Nobody owns them and no worker reads them.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from eventckpt import settings
from eventckpt.clock import Clock
from eventckpt.errors import CheckpointStoreError
from eventckpt.log import logger_of

from ..engines import Engine
from ..leases import Lease, LeaseLostError
from ..options import RELEASING
from ..projector import Projector
from ..retry import Retry
from ..tasks import first

__all__ = ["ScalerLeases"]

logger: Final = logger_of("eventckpt.projections")

_INTERVAL: Final = 15.0  # seconds between two looks; KEDA looks every 30 by default
_PROJECTIONS: Final = "eventckpt-latest"  # the names of the leases that are copied begin with it
_LONGEST: Final = 100
_AGAIN: Final = Retry(backoff=_INTERVAL, max_backoff=4 * _INTERVAL)


class ScalerLeases:
    """Keeps the copies.

    Args:
        engine: where leases are.
        projector: whose leases are copied.
        name: the processor name of the copies.
        worker: who copies; of each lease its owner does, and anybody where it has none.
        clock: where the time comes from.
    """

    def __init__(self, engine: Engine, projector: Projector, name: str, worker: str, clock: Clock) -> None:
        self._runs = engine.store.run_store()
        self._projector = projector
        self._copies = engine.leases(name)
        self._worker = worker
        self._clock = clock
        self._loop = projector.loop("copying the leases for the scaler", _AGAIN)

    @staticmethod
    def check_name(name: str) -> None:
        """Whether copies can have this name.

        Raises:
            ValueError: it is blank, too long, or could be that of the leases themselves.
        """
        settings.text("scaler_name", name, longest=_LONGEST)
        if name.startswith(_PROJECTIONS) or not name.isascii() or not name.replace("-", "").isalnum():
            raise ValueError(
                f"scaler_name is letters, digits and hyphens, and does not begin with {_PROJECTIONS!r}, as the leases "
                f"themselves do; it is {name!r}."
            )

    async def copy_during(self, work: Coroutine[Any, Any, object]) -> None:
        """Copy now and then until `work` ends, and once more then: where no worker is left, the scaler goes by what
        the last one wrote.

        Raises:
            StoreReplacedError, StoreReadOnlyError: nothing can be copied any more; `work` was cancelled. And whatever
                `work` raises.
        """
        await first(work, self._loop.run(self.copy, every=_INTERVAL))
        if await first(self._copy_once_more(), self._clock.sleep(RELEASING)) == 1:
            logger.warning("The leases for the scaler were not copied once more within %g s", RELEASING)

    async def copy(self) -> None:
        """Bring the copies up to date: write those whose position moved, remove those of ranges that are no more."""
        leases = await self._projector.leases(await self._runs.active()).all()
        copies = {copy.range: copy for copy in await self._copies.all()}
        for lease in leases:
            copy = copies.pop(lease.range, None)
            if lease.owner in (self._worker, None):
                await self._write(lease, copy)
        for copy in copies.values():
            await self._copies.delete(copy)

    async def _write(self, lease: Lease, copy: Lease | None) -> None:
        current = Lease(range=lease.range, continuation=lease.continuation, timestamp=self._clock.timestamp())
        if copy is None:
            await self._copies.create(current)
        elif copy.continuation != lease.continuation:
            try:
                await self._copies.replace(msgspec.structs.replace(current, etag=copy.etag))
            except LeaseLostError:
                pass  # another worker wrote it meanwhile

    async def _copy_once_more(self) -> None:
        try:
            await self.copy()
        except CheckpointStoreError as error:
            logger.warning("The leases for the scaler were not copied once more: %s", error)
