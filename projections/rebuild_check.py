"""What a rebuilt projection must have before it is put in use: every run that the one in use has, as far as that is.

A rebuild reads the feed to its end, but where a replica lags that is not the end. Nothing in the feed tells so; the
projection in use does, which was filled by others, at another time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

from eventckpt import EventStore, RunInfo, StreamId
from eventckpt.clock import Clock
from eventckpt.errors import StoreUnavailableError
from eventckpt.log import logger_of
from eventckpt.stores import RunStore, head_of
from eventckpt.text import safe

__all__ = ["PAUSE", "Wanted", "is_of"]

logger: Final = logger_of("eventckpt.projections")

_LOOKS: Final = 4
"""Looks at the projection in use once the rebuilt one has caught up: its listing may be a replica's, too."""
PAUSE: Final = 0.3
"""Seconds between two looks."""
_LONGEST_PAUSE: Final = 3.0
_PATIENCE: Final = 30.0
"""Seconds for which the rebuilt projection is waited for. A replica is behind by far less, and what the log never
shows, a longer wait does not bring."""


class Wanted:
    """The runs of a projection, and the seq that each has reached there.

    Args:
        store: whose projections they are.
        active: the name of the one in use.
        clock: where the time comes from.
        doubted: why what is in use is not to be believed; then the log is right where it has less. None: it is.
    """

    def __init__(self, store: EventStore, active: str, clock: Clock, *, doubted: str | None = None) -> None:
        self._doubted = doubted
        self._store = store
        self._active = active
        self._clock = clock
        self._runs = store.run_store(active)  # one object for all looks: it says once what it leaves out
        self._seqs: dict[StreamId, int] = {}
        self._digests: dict[StreamId, str] = {}

    async def look(self) -> bool:
        """Note what is there now; whether any of it was not known."""
        before = dict(self._seqs)
        async with aclosing(self._runs.all(emptied=True)) as infos:
            async for info in infos:
                if info.seq > self._seqs.get(info.stream, 0):
                    self._seqs[info.stream] = info.seq
                    if self._doubted is not None:
                        self._digests[info.stream] = info.digest
        return self._seqs != before

    async def reached_by(self, name: str) -> None:
        """Wait until the projection `name`, which something fills meanwhile, has everything that is wanted.

        Raises:
            StoreUnavailableError: it did not come to have it.
        """
        until, pause = self._clock.monotonic() + _PATIENCE, PAUSE
        rebuilt = self._store.run_store(name)
        missing = await self._missing_in(rebuilt)
        looks = 0
        while missing or looks < _LOOKS:
            if missing and self._clock.monotonic() >= until:
                if self._doubted is not None and await self._are_gone(missing):
                    return
                raise await self._refusal(name, missing)
            await self._clock.sleep(pause)
            news = looks < _LOOKS and await self.look()
            looks += 1
            if looks > _LOOKS:
                pause = min(2 * pause, _LONGEST_PAUSE)
            if missing or news:
                missing = await self._missing_in(rebuilt)

    async def _missing_in(self, rebuilt: RunStore) -> dict[StreamId, int]:
        """The runs that are not as far in a projection as is wanted, and how far they are."""
        found = await _seqs_of(rebuilt) if self._seqs else {}
        return {stream: found.get(stream, 0) for stream, seq in self._seqs.items() if found.get(stream, 0) < seq}

    async def _are_gone(self, missing: Mapping[StreamId, int]) -> bool:
        """Whether the log has nothing of what is missing; then that is said, for it may be all that tells of it."""
        for stream in missing:
            known = RunInfo(
                workflow_name=stream.workflow_name,
                run_id=stream.run_id,
                seq=self._seqs[stream],
                digest=self._digests.get(stream, ""),
            )
            if await is_of(self._store, known):
                return False
        first = min(missing)
        logger.error(
            "The log does not have what the projection %r knew of %d runs, such as seq %d of run %r of workflow %r. It "
            "goes by the log from now on (%s)",
            self._active, len(missing), self._seqs[first], first.run_id, first.workflow_name, self._doubted,
        )  # fmt: skip
        return True

    async def _refusal(self, name: str, missing: Mapping[StreamId, int]) -> StoreUnavailableError:
        stream = min(missing)
        head = await head_of(self._store, stream)
        wanted, logged, active = self._seqs[stream], head.seq if head else 0, safe(self._active)
        if logged >= wanted:
            advice = "The log has it, but its feed did not show it yet: rebuild again."
        else:
            advice = (
                f"The log ends at seq {logged}. A replica that lags knows more in a moment: rebuild again. If the log "
                f"has lost these events for good, or somebody changed the document, remove the document {active!r} of "
                "this run from the projection, and then rebuild."
            )
        return StoreUnavailableError(
            f"The rebuilt projection {safe(name)!r} was not put in use: run {stream.run_id!r} of workflow "
            f"{stream.workflow_name!r} is at seq {missing[stream]} in it, and at seq {wanted} in {active!r}, which "
            f"stays in use. So are {len(missing)} runs in all. {advice}"
        )


async def is_of(store: EventStore, info: RunInfo) -> bool:
    """Whether the log has the event that a document goes up to; where that was removed since, later ones of its run."""
    async with aclosing(store.headers(info.stream, gt=info.seq - 1, lte=info.seq)) as headers:
        header = await anext(headers, None)
    if header is not None:
        return header.digest == info.digest
    head = await head_of(store, info.stream)
    return head is not None and head.seq > info.seq


async def _seqs_of(runs: RunStore) -> dict[StreamId, int]:
    async with aclosing(runs.all(emptied=True)) as infos:
        return {info.stream: info.seq async for info in infos}
