"""Questions and interventions: how a processor stands, what was put aside, and beginning anew. No worker is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from eventckpt.clock import SYSTEM_CLOCK, Clock
from eventckpt.errors import StoreUnavailableError
from eventckpt.log import logger_of
from eventckpt.stores.change_feed import EVERYTHING, ChangeFeed, FeedRange, Start
from eventckpt.text import safe

from .balance import Observer
from .batch import Batch, Handler
from .leases import Lease, LeaseLostError, LeaseStore, Parked
from .options import ProcessorOptions
from .range_watch import RangeStatus, status_of
from .retry import Verdict, named, raise_if_lasting, verdict_on
from .tasks import called

__all__ = ["Admin"]

logger: Final = logger_of("eventckpt.projections")

_ROUNDS: Final = 5
"""Attempts to write a lease that others write at the same time."""
_LOOKS: Final = 20
"""Looks at the leases within one term, while it is watched whether their owners live."""


class Admin:
    """What may be asked of a processor, and done to it, by whoever has its leases.

    Args:
        feed: what is read.
        leases: who reads what.
        handler: gets what was parked once more.
        options: of the workers; `expiry` is how long a lease that nobody writes still counts.
        clock: where the time comes from; for tests.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        leases: LeaseStore,
        handler: Handler,
        options: ProcessorOptions,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.options: ProcessorOptions = options
        self._feed = feed
        self._leases = leases
        self._handler = handler
        self._clock = clock

    async def status(self, *, ask_at_most: int | None = None) -> list[RangeStatus]:
        """Every range, whoever reads it. Asks the feed how far each lies behind, which costs one small read each.

        Args:
            ask_at_most: ranges that the feed is asked about, the first ones, since anybody who can write leases can
                write very many; None: all.

        Raises:
            CheckpointStoreError: the engine failed.
        """
        leases = await self._leases.all()
        asked = len(leases) if ask_at_most is None else ask_at_most
        told = [await status_of(self._feed, lease) for lease in leases[:asked]]
        return told + [RangeStatus(lease, None) for lease in leases[asked:]]

    async def doubted(self) -> str | None:
        """Why what was made of the events is not to be believed: a position was refused, so that another log was read
        than is there now, or all of it is gone. None: nothing speaks against it."""
        return await self._leases.doubted()

    async def parked(self) -> list[Parked]:
        """The events that were put aside."""
        return await self._leases.parked()

    async def unpark(self) -> int:
        """Give every parked event to the handler once more, and let stopped ranges go on; how many it took.

        An event is forgotten when the handler took it. Others may park, unpark and reset meanwhile.

        Raises:
            StoreUnavailableError, StoreLockedError, StoreFullError, StoreMissingError: the handler met an outage; what
                it did not take stays parked as it was, and stopped ranges stay stopped. Or others wrote a lease at
                each of several attempts.
            CheckpointStoreError: the engine failed.
        """
        await self._leases.check_rights()
        taken = 0
        for parked in await self._leases.parked():
            error = await self._applied(parked)
            if error is None:
                await self._leases.unpark(parked)
                taken += 1
            elif verdict_on(error) is Verdict.OUTAGE:
                raise error
            elif verdict_on(error) is not Verdict.UPGRADE:
                again = msgspec.structs.replace(parked, error=named(error), attempts=parked.attempts + 1)
                await self._leases.park(again)
        for lease in await self._leases.all():
            await self._rewritten(lease, _going_on)
        return taken

    async def reset(self, start: Start = "beginning") -> None:
        """Forget all positions, and begin anew from `start`. Stop all workers before. A document among the leases that
        is none is removed.

        A worker that was killed still has leases. Whether it lives is watched then, for one term (`expiry` seconds) at
        most: leases that nobody writes for so long are nobody's.

        Raises:
            RuntimeError: a worker is at it.
            CheckpointStoreError: the engine failed.
        """
        await self._leases.check_rights()
        leases = await self._without_owners()
        at = dict.fromkeys((lease.range for lease in leases), start)
        for lease in leases:

            def begun(now: Lease, etag: str = lease.etag) -> Lease | None:
                if now.owner is not None and now.etag != etag:
                    raise self._refusal({now.owner}, "has just written its lease")
                return Lease(range=now.range, start=start, etag=now.etag)

            await self._rewritten(lease, begun)
        if await self._leases.remove_unreadable():
            for gap in EVERYTHING.without(at):
                for piece in gap.cut(await self._feed.ranges()):
                    await self._leases.create(Lease(range=piece, start=start))

    async def _without_owners(self) -> list[Lease]:
        """All leases, once none of their owners can be alive."""
        term = self.options.expiry
        observer = Observer(term, reservation=term)
        first: dict[FeedRange, Lease] | None = None
        while True:
            self._raise_if_at_work()
            asked = self._clock.monotonic()
            leases = await self._leases.all()
            expired = {each.range for each in observer.expired(leases, asked=asked, answered=self._clock.monotonic())}
            held = [lease for lease in leases if lease.owner is not None]
            if all(lease.range in expired for lease in held):
                return leases
            if first is None:
                first = {lease.range: lease for lease in leases}
                logger.warning(
                    "%s have leases. Whether they live is watched for up to %g s",
                    ", ".join(sorted({safe(lease.owner) for lease in held})),
                    term,
                )
            writers = {lease.owner for lease in held if _was_written(lease, first.get(lease.range))}
            if writers:
                raise self._refusal({each for each in writers if each is not None}, "wrote its lease meanwhile")
            await self._clock.sleep(term / _LOOKS)

    def _raise_if_at_work(self) -> None:
        """Raises a `RuntimeError` where this very object has leases, so that there is nothing to watch."""

    def _refusal(self, owners: set[str], what: str) -> RuntimeError:
        return RuntimeError(
            f"Stop the workers first: {', '.join(map(safe, sorted(owners)))} {what}. One that was killed counts as "
            f"gone once nobody has written its leases for {self.options.expiry:g} s, which is watched: ask again."
        )

    async def _rewritten(self, lease: Lease, change: Callable[[Lease], Lease | None]) -> None:
        """Write a lease, changed, over whatever others have written into it; None: nothing is to be written."""
        current: Lease | None = lease
        for _ in range(_ROUNDS):
            if current is None or (new := change(current)) is None:
                return
            try:
                await self._leases.replace(new)
            except LeaseLostError:
                current = await self._leases.read(lease)
            else:
                return
        raise StoreUnavailableError(
            f"The lease {lease.range.token} was written by others at each of {_ROUNDS} attempts: stop the workers, and "
            "try again."
        )

    async def _applied(self, parked: Parked) -> Exception | None:
        """What the handler raised; None: it took the event."""
        low, _, high = parked.range.partition("-")
        try:
            await called(self._handler(Batch(FeedRange(low, high), [parked.event], lambda: False)))
        except Exception as error:  # noqa: BLE001 - it stays parked, with its last error
            raise_if_lasting(error)
            return error
        return None


def _going_on(lease: Lease) -> Lease | None:
    if lease.state != "stopped":
        return None  # or somebody else let it go on
    return msgspec.structs.replace(lease, stopped=False, attempts=0, error=None)


def _was_written(lease: Lease, before: Lease | None) -> bool:
    return before is None or before.etag != lease.etag
