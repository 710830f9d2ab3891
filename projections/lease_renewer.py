"""One lease that this worker holds: its position, its renewal, and the moment from which it may no longer be ours."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from eventckpt.clock import Clock
from eventckpt.log import logger_of
from eventckpt.text import safe

from .leases import Lease, LeaseLostError, LeaseStore
from .options import ProcessorOptions
from .range_stats import RangeStats
from .retry import named, raise_if_lasting
from .tasks import Troubles, called, first

__all__ = ["Holding"]

logger: Final = logger_of("eventckpt.projections")

_REWRITES = 5  # attempts to write a lease that somebody else wrote a request into, or that we wrote unknowingly


class Holding:
    """A lease with this worker's name in it.

    Args:
        lease: as it was written.
        sent: the local time before that write was sent; its term counts from there.
    """

    def __init__(
        self,
        lease: Lease,
        sent: float,
        *,
        leases: LeaseStore,
        options: ProcessorOptions,
        clock: Clock,
        stats: RangeStats,
        troubles: Troubles,
    ) -> None:
        self.lease: Lease = lease
        self.position = lease.continuation
        """Everything before it was handled; saved or not."""
        self.witness = lease.witness
        """What identifies the event right before the position, where the feed tells."""
        self.attempts: int = lease.attempts
        self.error = lease.error
        self._leases = leases
        self._options = options
        self._clock = clock
        self._stats = stats
        self._troubles = troubles
        self._what = f"writing the lease {lease.range.token}"
        self._lock = asyncio.Lock()
        self._written_at = sent

    @property
    def fenced(self) -> bool:
        """Whether another worker may think soon that this lease is free."""
        return self._clock.monotonic() >= self._fence_at

    @property
    def unsaved(self) -> bool:
        """Whether the lease says less than this worker knows."""
        return (self.position, self.attempts) != (self.lease.continuation, self.lease.attempts)

    @property
    def wanted(self) -> bool:
        """Whether another worker has asked for it."""
        return self.lease.wanted_by is not None

    def check(self) -> None:
        """Raises `LeaseLostError` if `fenced`."""
        if self.fenced:
            raise LeaseLostError(f"the lease {self.lease.range.token} could not be renewed in time")

    async def renew(self) -> None:
        """Renew the lease until this is cancelled.

        Raises:
            LeaseLostError: another worker has it, or might have it soon.
        """
        try:
            await self._renew()
        finally:
            self._troubles.over(self._what)

    async def _renew(self) -> None:
        pause = self._options.renew_interval / 10
        while True:
            due = self._written_at + self._options.renew_interval
            if self._clock.monotonic() < due:
                await self._sleep_until(min(due, self._fence_at))
            else:
                renewed = await first(self._try_to_write(), self._sleep_until(self._fence_at))
                if renewed == 0 and self._clock.monotonic() >= self._written_at + self._options.renew_interval:
                    await self._clock.sleep(pause)  # it failed, and may do better in a moment
            self.check()

    async def save(self, *, if_older_than: float = 0.0) -> None:
        """Save the position, unless the lease was written within so many seconds. A failure that passes is left to
        the next renewal, which saves the position too."""
        if self.unsaved and self._clock.monotonic() - self._written_at >= if_older_than:
            await self._try_to_write()

    async def release(self, *, stopped: bool = False) -> None:
        """Give the lease back, with its position; to whoever asked for it, if somebody did.

        Raises:
            LeaseLostError, CheckpointStoreError: see `write`.
        """
        await self._write(owner=None, stopped=stopped)

    async def delete(self) -> None:
        """Remove the lease, because others took its place; if somebody wrote it meanwhile, it stays."""
        async with self._lock:
            await self._leases.delete(self.lease)

    async def begin_anew(self) -> None:
        """Forget the position: the range is read from its beginning, also where it did not begin there."""
        self.position = self.witness = self.error = None
        self.attempts = 0
        self.lease = msgspec.structs.replace(self.lease, start="beginning")
        await self.save()

    async def note_failure(self, error: str) -> None:
        """Count a failed attempt, for this worker and those after it."""
        self.attempts += 1
        self.error = error
        await self._try_to_write()

    async def note_refusal(self, error: str) -> None:
        """Show why the range does not go on, without counting it against any worker."""
        if error != self.error:
            self.error = error
            await self._try_to_write()

    async def _try_to_write(self) -> None:
        """Where that fails, whatever the error is, the next renewal writes it, or the lease is lost at its fence."""
        began = self._clock.monotonic()
        try:
            await called(self._write())
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            raise_if_lasting(error)
            self._troubles.note(self._what, error, since=began)
            logger.warning("The lease %s could not be written: %s", self.lease.range.token, named(error))
        else:
            self._troubles.over(self._what)

    async def _write(self, **changes: object) -> None:
        """Write what this worker knows, also over what another one wrote without taking the lease."""
        async with self._lock:
            for _ in range(_REWRITES):
                self.check()
                sent = self._clock.monotonic()
                lease = msgspec.structs.replace(
                    self.lease,
                    continuation=self.position,
                    witness=self.witness,
                    attempts=self.attempts,
                    error=self.error,
                    timestamp=self._clock.timestamp(),
                )
                try:
                    self.lease = await self._leases.replace(msgspec.structs.replace(lease, **changes))
                except LeaseLostError:
                    await self._look_again()
                else:
                    self._written_at = sent
                    self._stats.lease_writes += 1
                    return
            raise LeaseLostError(f"the lease {self.lease.range.token} is written by others all the time")

    async def _look_again(self) -> None:
        """Find the lease still ours, with a request in it, or written by an attempt of ours whose answer was lost."""
        current = await self._leases.read(self.lease)
        if current is None or current.owner != self._options.worker:
            owner = None if current is None else current.owner
            what = "was given back or removed, and is nobody's" if owner is None else f"was taken by {safe(owner)}"
            raise LeaseLostError(f"the lease {self.lease.range.token} {what}")
        self.lease = msgspec.structs.replace(self.lease, etag=current.etag, wanted_by=current.wanted_by)

    @property
    def _fence_at(self) -> float:
        return self._written_at + self._options.expiry - self._options.fence_margin

    async def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
