"""What every store of `RunInfo` documents does when runs are listed: pages, in both orders, and counts. Part of
`RunStoreConformance`.
"""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, cast

import msgspec
import pytest

from ..events import PendingRequest, RunInfo, RunStatus, StreamId
from ..stores import EventStore, ForeignPageError, RunFilter, RunPage, RunStore
from .events import MANY, STREAM

__all__ = ["RunPagesConformance", "document_of", "stored_document"]


class RunPagesConformance:
    """The cases of `RunStoreConformance` that list runs."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    async def test_pages_give_each_run_once_the_last_written_to_first(self) -> None:
        store = await self.open_store()
        runs, expected = await self._many(store)
        for reader in (runs, (await self.open_store()).run_store()):
            for limit in (1, 7, MANY):
                some = expected if limit > 1 else expected[:5]
                assert await _paged(reader, RunFilter(), limit=limit, most=len(some)) == some

    async def test_a_page_is_of_the_runs_that_fit_alone(self) -> None:
        store = await self.open_store()
        runs, expected = await self._many(store)
        moments = [datetime.fromisoformat(info.recorded_at) for info in expected]
        filters = [
            RunFilter(workflow_name="workflow"),
            RunFilter(workflow_name="w"),
            RunFilter(workflow_name="none"),
            RunFilter(workflow_name="\udcff"),
            RunFilter(statuses=("waiting",)),
            RunFilter(statuses=("done", "open")),
            RunFilter(statuses=("idle",), workflow_name="w"),
            *(RunFilter(prefix=prefix) for prefix in ("run 1", "x%", "x_", "R", "\udcff", "' OR ''='", "🚀", "zzz")),
            RunFilter(since=moments[9]),
            RunFilter(until=moments[9]),
            RunFilter(since=moments[30], until=moments[9]),
            RunFilter(since=moments[9], until=moments[9]),
            RunFilter(since=moments[30].astimezone(timezone(timedelta(hours=-9)))),
            RunFilter(until=moments[30].replace(tzinfo=None)),
            RunFilter("workflow", ("running", "waiting"), "run 1", moments[60], moments[3]),
        ]
        for which in filters:
            fitting = [info for info in expected if which.fits(info)]
            assert await _paged(runs, which, limit=10) == fitting, which
            assert await runs.counts(which) == Counter(info.status for info in fitting), which
        assert await runs.counts() == Counter(info.status for info in expected)

    async def test_an_empty_projection_has_one_empty_page(self) -> None:
        store = await self.open_store()
        assert await store.run_store().page() == RunPage([], None)
        assert await store.run_store().counts() == {}
        await store.run_store("one").put(document_of(1))
        await self.settle()
        assert await store.run_store("other").page() == RunPage([], None)
        assert await store.run_store("other").counts() == {}
        assert (await store.run_store("one").page()).runs == [document_of(1)]
        await store.run_store("one").clear()
        assert await store.run_store("one").page() == RunPage([], None)
        assert await store.run_store("one").counts() == {}

    async def test_runs_that_are_written_to_while_pages_are_read_hide_no_others(self) -> None:
        store, writer = await self.open_store(), (await self.open_store()).run_store()
        runs, expected = await self._many(store)
        moved, later = expected[40:80:2], _moment(10_000)
        seen: list[RunInfo] = []
        page = await runs.page(limit=9)
        while True:
            seen += page.runs
            if moved:
                info = moved.pop()
                await writer.put(msgspec.structs.replace(info, seq=info.seq + 1, recorded_at=later, status="done"))
                await writer.put(document_of(1, run=f"new {len(moved)}", recorded_at=later))
                await self.settle()
            if page.after is None:
                break
            page = await runs.page(after=page.after, limit=9)
        stays = [info for info in expected if info not in expected[40:80:2]]
        assert [info for info in seen if info in stays] == stays
        assert len({info.stream for info in seen}) == len(seen)
        assert {info.recorded_at for info in (await runs.page(limit=15)).runs} == {later}

    async def test_runs_of_one_moment_are_in_order_of_their_names_in_pages_of_any_size(self) -> None:
        runs = (await self.open_store()).run_store()
        infos = [document_of(1, run=f"run {number:02}", recorded_at=_moment(0)) for number in range(25)]
        await runs.put(
            *infos[::-1], document_of(1, run="older", recorded_at=_moment(-1)), document_of(1, run="undated")
        )
        await self.settle()
        for limit in (1, 4, 25, 26, 100):
            paged = await _paged(runs, RunFilter(), limit=limit)
            assert [info.run_id for info in paged] == [*(info.run_id for info in infos), "older", "undated"]

    async def test_a_page_follows_what_was_written_last(self) -> None:
        runs = (await self.open_store()).run_store()
        for seq, status in enumerate(("running", "waiting", "done"), 1):
            await runs.put(document_of(seq, status=cast("RunStatus", status), recorded_at=_moment(seq)))
            await self.settle()
            assert await runs.page() == RunPage([await stored_document(runs)], None)
            assert await runs.counts() == {status: 1}
            assert (await runs.page(RunFilter(statuses=("running",)))).runs == (
                [] if seq > 1 else [document_of(1, status="running", recorded_at=_moment(1))]
            )

    async def test_a_damaged_document_is_in_no_page_and_no_count(self) -> None:
        runs = (await self.open_store()).run_store()
        wrong = msgspec.structs.replace(document_of(1, run="wrong"), messages=cast("Any", ["a"]))
        await runs.put(document_of(1), wrong)
        await self.settle()
        assert await _paged(runs, RunFilter(), limit=1) == [document_of(1)]
        assert await runs.counts() == {"open": 1}

    @pytest.mark.parametrize(
        "token",
        [
            "",
            "x",
            "x" * 100_000,
            "\udcff",
            "é",
            "%00",
            "W10=",
            "bnVsbA==",
            "WyJhIl0=",
            "WyJhIiwiYiIsImMiXQ",
            "' OR ''='",
        ],
        ids=lambda token: ascii(token)[:20],
    )
    async def test_a_place_that_no_page_gave_is_refused_by_name(self, token: str) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(document_of(1))
        with pytest.raises(ForeignPageError, match="no place that a page of runs gave"):
            await runs.page(after=token)
        for limit in (0, -1, 1001):
            with pytest.raises(ValueError, match="limit"):
                await runs.page(limit=limit)

    # Tags and questions

    async def test_a_page_is_of_the_runs_with_all_the_tags_that_are_asked_for(self) -> None:
        runs, infos = (await self.open_store()).run_store(), _tagged()
        await runs.put(*infos)
        await self.settle()
        names = [*_HOSTILE, "customer", "no tag", "\udcff"]
        asked = [{}, *({name: value} for name in names for value in ("1", "2", *_HOSTILE))]
        asked += [{"customer": "1", name: "2"} for name in names] + [{name: "1", "no tag": "1"} for name in names]
        for tags in asked:
            which = RunFilter(tags=tags)
            fitting = [info for info in infos[::-1] if tags.items() <= info.tags.items()]
            assert await _paged(runs, which, limit=5) == fitting, tags
            assert await runs.counts(which) == Counter(info.status for info in fitting), tags

    async def test_a_page_of_a_tag_follows_what_was_written_last(self) -> None:
        runs = (await self.open_store()).run_store()
        for seq, tags in enumerate(({"a": "1"}, {"a": "2", "b": "1"}, {}), 1):
            await runs.put(document_of(seq, tags=tags), document_of(seq, run="other", tags={"a": "1"}))
            await self.settle()
            ones = (await runs.page(RunFilter(tags={"a": "1"}))).runs
            assert [info.run_id for info in ones] == (["other", "run"] if seq == 1 else ["other"])
            assert bool((await runs.page(RunFilter(tags={"b": "1"}))).runs) is (seq == 2)

    async def test_of_runs_that_wait_those_that_have_waited_longest_come_first_whatever_their_status(self) -> None:
        store = await self.open_store()
        runs, waiting = await self._waiting(store)
        for reader in (runs, (await self.open_store()).run_store()):
            for limit in (1, 7, MANY):
                some = waiting if limit > 1 else waiting[:5]
                assert await _paged(reader, RunFilter(waiting=True), limit=limit, most=len(some)) == some
        assert {info.status for info in waiting} == {"running", "waiting", "done", "failed"}
        assert await runs.counts(RunFilter(waiting=True)) == Counter(info.status for info in waiting)

    async def test_a_page_of_waiting_runs_is_of_those_that_fit_alone(self) -> None:
        store = await self.open_store()
        runs, waiting = await self._waiting(store)
        everything = [info async for info in runs.all()]
        times = [datetime.fromisoformat(info.waiting_since) for info in waiting]
        for limits in (
            {"request_type": "app:Approval"},
            {"request_type": "app"},
            {"request_type": "\udcff"},
            {"request_type": "' OR ''='"},
            {"asked_before": times[20]},
            {"asked_before": times[20].astimezone(timezone(timedelta(hours=-9)))},
            {"asked_before": times[20].replace(tzinfo=None), "request_type": "app:Approval"},
            {"asked_before": datetime(1, 1, 1, tzinfo=UTC)},
            {"workflow_name": "w", "statuses": ("running", "failed"), "asked_before": times[40]},
            {"prefix": "run 1", "tags": {"customer": "1"}},
            {"since": datetime(2026, 1, 1, 0, 0, 20, tzinfo=UTC), "until": datetime(2026, 1, 1, 0, 0, 40, tzinfo=UTC)},
        ):
            which = RunFilter(**cast("dict[str, Any]", limits), waiting=True)
            fitting = [info for info in waiting if which.fits(info)]
            assert await _paged(runs, which, limit=6) == fitting, limits
            assert await runs.counts(which) == Counter(info.status for info in fitting), limits
            anyhow = which._replace(waiting=False)
            found = await _paged(runs, anyhow, limit=6)
            assert sorted(found, key=_by_name) == sorted(filter(anyhow.fits, everything), key=_by_name), limits

    async def test_the_oldest_question_of_the_type_tells_how_long_it_was_asked_for(self) -> None:
        runs = (await self.open_store()).run_store()
        asked = (_question("a", "app:Approval", 5), _question("b", "app:Choice", 9), _question("c", "app:Choice", 7))
        await runs.put(document_of(1, pending_requests=asked))
        await self.settle()

        async def fits(request_type: str | None, before: int) -> bool:
            moment = datetime.fromisoformat(_moment(before))
            page = await runs.page(RunFilter(waiting=True, request_type=request_type, asked_before=moment))
            return bool(page.runs)

        assert [before for before in range(12) if await fits(None, before)] == list(range(6, 12))
        assert [before for before in range(12) if await fits("app:Approval", before)] == list(range(6, 12))
        assert [before for before in range(12) if await fits("app:Choice", before)] == list(range(8, 12))

    async def test_runs_that_wait_since_one_moment_are_in_order_of_their_names_in_pages_of_any_size(self) -> None:
        runs = (await self.open_store()).run_store()
        infos = [_asking(f"run {number:02}", 0) for number in range(25)]
        later = [_asking("a later", 1), _asking("b later", 1)]
        await runs.put(*infos[::-1], *later, _asking("older", -1), document_of(1, run="asks nothing"))
        await self.settle()
        for limit in (1, 4, 23, 24, 25, 26, 100):
            paged = await _paged(runs, RunFilter(waiting=True), limit=limit)
            assert [info.run_id for info in paged] == ["older", *(info.run_id for info in [*infos, *later])], limit

    async def test_a_run_is_found_waiting_until_it_is_answered_or_cancelled(self) -> None:
        runs = (await self.open_store()).run_store()
        questions = (_question("a", "app:Approval", 1),)
        for seq, (status, asked) in enumerate(
            [
                ("waiting", questions),
                ("done", questions),
                ("cancelled", questions),
                ("running", ()),
                ("waiting", questions),
            ],
            1,
        ):
            info = document_of(seq, status=cast("RunStatus", status), pending_requests=asked)
            await runs.put(info)
            await self.settle()
            found = (await runs.page(RunFilter(waiting=True))).runs
            assert found == ([info] if asked and status != "cancelled" else [])

    async def test_a_time_that_is_none_counts_as_the_oldest_and_hides_no_other_run(self) -> None:
        runs = (await self.open_store()).run_store()
        untimed = [_asking(f"run {number}", asked_at=at) for number, at in enumerate(_NO_TIMES)]
        infos = [*untimed, _asking("z", 1), _asking("z later", 2)]
        await runs.put(*infos[::-1])
        await self.settle()
        for limit in (1, 2, 100):
            assert await _paged(runs, RunFilter(waiting=True), limit=limit) == infos

    async def test_a_question_of_an_event_that_tells_no_time_counts_from_its_checkpoint(self) -> None:
        runs = (await self.open_store()).run_store()
        old = _asking("old", asked_at="", timestamp=_moment(5))
        await runs.put(_asking("before", 4), old, _asking("after", 6))
        await self.settle()
        assert [info.run_id for info in (await runs.page(RunFilter(waiting=True))).runs] == ["before", "old", "after"]
        assert old.waiting_since == _moment(5)

    async def test_a_question_or_a_tag_that_is_none_makes_no_page_fail(self) -> None:
        runs = (await self.open_store()).run_store()
        whole = _asking("run", 1, tags={"a": "1"})
        wrong = [
            msgspec.structs.replace(whole, run_id="tags", tags=cast("Any", {"a": 1})),
            msgspec.structs.replace(whole, run_id="listed", tags=cast("Any", ["a"])),
            msgspec.structs.replace(whole, run_id="asked", pending_requests=cast("Any", (_wrong_question(),))),
        ]
        await runs.put(whole, *wrong)
        await self.settle()
        for which in (RunFilter(waiting=True), RunFilter(tags={"a": "1"}), RunFilter(waiting=True, tags={"a": "1"})):
            assert await _paged(runs, which, limit=1) == [whole]
            assert await runs.counts(which) == {"waiting": 1}

    async def test_the_place_of_one_order_is_none_of_the_other(self) -> None:
        runs, _ = await self._waiting(await self.open_store())
        waiting, written = RunFilter(waiting=True), RunFilter()
        for which, other in ((waiting, written), (written, waiting)):
            token = (await runs.page(which, limit=1)).after
            assert token is not None
            with pytest.raises(ForeignPageError, match="no place that a page of"):
                await runs.page(other, after=token)

    async def _waiting(self, store: EventStore) -> tuple[RunStore, list[RunInfo]]:
        """Many runs of which some wait; and those, in the order of pages."""
        runs = store.run_store()
        stand: tuple[RunStatus, ...] = ("running", "waiting", "done", "failed", "cancelled")
        infos = [
            document_of(
                1,
                run=f"run {number}",
                workflow_name=("workflow", "w")[number % 3 == 0],
                status=stand[number % len(stand)],
                recorded_at=_moment(number * 37 % 100),
                tags={"customer": str(number % 2)},
                pending_requests=_questions(number) if number % 4 else (),
            )
            for number in range(100)
        ]
        await runs.put(*infos)
        await self.settle()
        waiting = [info for info in infos if info.pending_requests and info.status != "cancelled"]
        return runs, sorted(waiting, key=lambda info: info.waiting_since)

    async def _many(self, store: EventStore) -> tuple[RunStore, list[RunInfo]]:
        """Runs of two workflows, of all kinds, and in the order of pages."""
        runs = store.run_store()
        infos = [
            document_of(
                1,
                run=f"{('run', 'x%', 'x_', 'Run', '🚀')[number % 5]} {number}",
                workflow_name=("workflow", "w")[number % 3 == 0],
                status=_STATUSES[number % len(_STATUSES)],
                recorded_at=_moment(number * 37 % 100),
            )
            for number in range(100)
        ]
        await runs.put(*infos)
        await self.settle()
        return runs, sorted(infos, key=lambda info: info.recorded_at, reverse=True)


_STATUSES: Final[tuple[RunStatus, ...]] = ("running", "waiting", "done", "open", "idle")


def _moment(number: int) -> str:
    """A moment as the library writes it: some have no fraction of a second."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=500 * number)).isoformat()


async def _paged(runs: RunStore, which: RunFilter, *, limit: int, most: int | None = None) -> list[RunInfo]:
    """What the pages give, up to the end or to `most`."""
    found: list[RunInfo] = []
    after: str | None = None
    while True:
        page = await runs.page(which, after=after, limit=limit)
        assert len(page.runs) <= limit
        found += page.runs
        assert page.after is None or page.after != after, "each page comes further"
        after = page.after
        if after is None or (most is not None and len(found) >= most):
            return found


_HOSTILE: Final = ("' OR ''='", '"', "\\", "a\nb", "a.b", "a]", "", "🚀", "\x00", '["customer","1"]', "@tag0")
_NO_TIMES: Final = ("0001-01-01", "yesterday", "\x1b[31m", "~", "9" * 40)
"""Texts that are none, or the first."""


def _by_name(info: RunInfo) -> StreamId:
    return info.stream


def _question(request_id: str, request_type: str, number: int) -> PendingRequest:
    return PendingRequest(
        request_id=request_id, source_executor_id="asks", request_type=request_type, asked_at=_moment(number)
    )


def _wrong_question() -> PendingRequest:
    return PendingRequest(request_id="a", source_executor_id="b", request_type="c", asked_at=cast("Any", 5))


def _questions(number: int) -> tuple[PendingRequest, ...]:
    asked = [_question("older", ("app:Approval", "app:Choice")[number % 2], number * 61 % 200)]
    return (*asked, _question("newer", "app:Approval", 300)) if number % 5 == 2 else tuple(asked)


def _asking(run: str, number: int = 0, *, asked_at: str | None = None, **fields: Any) -> RunInfo:
    """A run that waits since a moment, or since what is none."""
    question = _question("a", "app:Approval", number)
    if asked_at is not None:
        question = msgspec.structs.replace(question, asked_at=asked_at)
    return document_of(1, run=run, status="waiting", pending_requests=(question,), **fields)


def _tagged() -> list[RunInfo]:
    """Runs with tags of all kinds, the first written to first."""
    of_names = [{name: value} for name in _HOSTILE for value in ("1", *_HOSTILE[:3])]
    tags = [{}, *of_names, *({"customer": "1", name: "2"} for name in _HOSTILE), {"customer": "2"}]
    return [document_of(1, run=f"run {at}", tags=some, recorded_at=_moment(at)) for at, some in enumerate(tags)]


def document_of(seq: int, *, run: str = "run", status: RunStatus = "open", **fields: Any) -> RunInfo:
    """A document as a projection puts it."""
    info = RunInfo(workflow_name="workflow", run_id=run, seq=seq, status=status, digest=f"of {seq}")
    return msgspec.structs.replace(info, **fields)


async def stored_document(runs: RunStore) -> RunInfo:
    """The one of `STREAM`."""
    return (await runs.get(STREAM))[STREAM]
