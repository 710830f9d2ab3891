"""The tests that every engine passes which keeps projections. Used like those of `event_store`."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, cast

import msgspec
import pytest

from ..chain import sealed
from ..events import RunInfo, RunStatus, StreamId
from ..stores import EventStore, ForeignPageError, RunFilter, RunPage, RunStore
from .events import MANY, STREAM, make_event

__all__ = ["RunStoreConformance"]


class RunStoreConformance:
    """The cases for `RunStore`, the documents beside an engine's events. Used like `EventStoreConformance`."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    async def test_a_document_is_written_where_its_seq_grows(self) -> None:
        runs = (await self.open_store()).run_store()
        assert await runs.put(_document(2)) == 1
        for stays in (_document(1), _document(2), _document(2, status="done"), _document(2, digest="other")):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2)
        assert await runs.put(_document(3, status="waiting")) == 1
        assert await _stored(runs) == _document(3, status="waiting")

    @pytest.mark.parametrize("status", ["done", "open"])
    async def test_one_that_says_idle_gives_way_to_one_of_the_same_events_that_says_more(
        self, status: RunStatus
    ) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(_document(2, status="idle"))
        assert (await _stored(runs)).status == "idle"
        for stays in (
            _document(2, status="idle", messages={"a": 1}),
            _document(2, status=status, digest="other"),
            _document(1, status=status),
        ):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2, status="idle")
        assert await runs.put(_document(2, status=status)) == 1
        for stays in (_document(2, status=status), _document(2, status="waiting"), _document(2, status="idle")):
            assert await runs.put(stays) == 0
        assert await _stored(runs) == _document(2, status=status)

    async def test_one_that_says_idle_never_gives_way_once_its_run_has_moved_on(self) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        await runs.put(_document(2, status="idle"))
        await self.settle()
        await other.put(_document(3, status="running"))
        assert await runs.put(_document(2, status="done")) == 0
        await self.settle()
        assert await _stored(runs) == _document(3, status="running")

    async def test_of_stores_that_write_over_one_that_says_idle_at_once_one_does(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(_document(2, status="idle"))
        await self.settle()
        assert sum(await asyncio.gather(*(runs.put(_document(2, status="done")) for runs in stores * 2))) == 1
        await self.settle()
        assert await _stored(stores[1]) == _document(2, status="done")

    @pytest.mark.parametrize(
        "counts", [{"checkpoints": 2}, {"tombstones": 2}, {"removed": 2}, {"checkpoints": 1, "removed": 3}], ids=str
    )
    async def test_one_of_the_same_head_that_knows_of_more_is_written_over_one_that_knows_less_and_never_the_reverse(
        self, counts: dict[str, Any]
    ) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        less, more = _document(4, checkpoints=1), _document(4, status="waiting", **counts)
        await runs.put(less)
        await self.settle()
        assert await other.put(msgspec.structs.replace(more, digest="other"), _document(3, checkpoints=3)) == 0
        assert await other.put(more) == 1
        await self.settle()
        for stays in (
            less,
            more,
            _document(4, checkpoints=1, tombstones=1),
            _document(4, checkpoints=4, status="idle"),
        ):
            assert await runs.put(stays) == 0
        await self.settle()
        assert await _stored(runs) == more

    async def test_of_stores_that_know_of_more_and_more_and_write_at_once_the_one_that_knows_most_stays(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(_document(9, checkpoints=1))
        await self.settle()
        documents = [_document(9, checkpoints=known) for known in (4, 7, 2, 9, 5, 8)]
        await asyncio.gather(*(runs.put(info) for runs, info in zip(stores * 2, documents, strict=True)))
        await self.settle()
        assert await _stored(stores[1]) == _document(9, checkpoints=9)

    async def test_the_newest_run_without_some_is_the_newest_of_the_others(self) -> None:
        store = await self.open_store()
        runs, names = store.run_store(), ["a", "b", "c", "d", "e"]
        for run in names:
            event = make_event(StreamId("workflow", run), 1)
            if run in "ab":
                event = sealed(msgspec.structs.replace(event, timestamp="2026-01-01T00:00:00+00:00"))
            await store.append(event)
            await runs.put(
                _document(1, run=run, checkpoint_id=event.checkpoint_id, checkpoint_seq=1, timestamp=event.timestamp)
            )
        await self.settle()
        for count in range(len(names)):
            without = [StreamId("workflow", run) for run in names[len(names) - count :]]
            found = await runs.newest("workflow", without=without)
            assert found is not None
            assert found.run_id == names[-1 - count]
        assert await runs.newest("workflow", without=[StreamId("workflow", run) for run in names]) is None
        assert await runs.newest("other", without=[]) is None

    @pytest.mark.parametrize(
        "damage",
        [
            {"seq": 0},
            {"seq": -1},
            {"status": "asleep\x1b[31m"},
            {"digest": 5},
            {"messages": ["a"]},
            {"checkpoints": "x"},
        ],
        ids=str,
    )
    async def test_a_document_that_is_damaged_is_as_if_there_were_none_and_is_written_over(
        self, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        writer, store = await self.open_store(), await self.open_store()
        whole = [_document(1, run=run, timestamp="2026", checkpoint_seq=1, checkpoint_id="x") for run in ("a", "run")]
        for info in whole:
            await writer.append(make_event(info.stream, 1))
        assert await writer.run_store().put(whole[0], msgspec.structs.replace(whole[1], **damage)) == 2
        await self.settle()
        runs = store.run_store()
        with caplog.at_level("WARNING", "eventckpt"):
            for _ in range(2):
                assert await runs.get(STREAM, whole[0].stream) == {whole[0].stream: whole[0]}
                assert [info async for info in runs.all()] == whole[:1]
                assert [info async for info in runs.all("workflow")] == whole[:1]
                assert [info async for info in runs.idle()] == []
                assert await runs.newest("workflow") == whole[0]
        [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
        assert "workflow|run" in said
        assert await runs.put(whole[1]) == 1
        assert await _stored(runs) == await runs.newest("workflow") == whole[1]

    async def test_the_documents_that_say_idle_are_found_in_each_projection_by_itself(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        found = [_document(1, run=f"run {number}", status="idle") for number in range(MANY)]
        await runs.put(*found, _document(1, run="done"), _document(1, run="runs", status="running"))
        await other.put(_document(1, run="elsewhere", status="idle"))
        assert sorted([info.stream async for info in runs.idle()]) == sorted(info.stream for info in found)
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        await runs.put(*(msgspec.structs.replace(info, status="done") for info in found))
        assert [info async for info in runs.idle()] == []
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        assert len([info async for info in runs.all()]) == MANY + 2

    async def test_of_documents_that_are_put_together_each_is_written_or_not_by_itself(self) -> None:
        runs = (await self.open_store()).run_store()
        there = [_document(2, run=f"run {number}") for number in range(4)]
        assert await runs.put(*there, _document(2, run="idle", status="idle")) == 5
        given = [
            _document(1, run="run 0"),
            there[1],
            _document(3, run="run 2"),
            _document(1, run="new"),
            _document(2, run="idle", status="done"),
        ]
        assert await runs.put(*given) == 3
        found = await runs.get(*(info.stream for info in [*given, *there]))
        assert list(found.values()) == [there[0], *given[1:], there[3]]
        assert await runs.put(*given) == 0

    async def test_a_projection_is_put_in_use_by_the_last_claim_alone(self) -> None:
        first, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        claim = await first.claim()
        assert claim.name == "latest"
        await self.settle()
        later = await other.claim()
        assert not await first.activate("latest-2", claim=claim)
        assert await other.activate("latest-3", claim=later)
        assert not await other.activate("latest-4", claim=later)
        await self.settle()
        third = await first.claim()
        assert third.name == "latest-3"
        assert await other.activate("latest-5")  # without a claim, in any case
        assert not await first.activate("latest-6", claim=third)
        await self.settle()
        assert await (await self.open_store()).run_store().active() == "latest-5"

    @pytest.mark.parametrize(
        ("name", "error"),
        [(name, ValueError) for name in ("", " ", "a ", "a/b", "a\\b", "a?", "#", "a\nb", "\udcff", "..", "x" * 201)]
        + [(name, TypeError) for name in (5, b"latest", ["latest"])],
        ids=lambda value: ascii(value)[:20],
    )
    async def test_what_can_be_no_name_of_a_projection_is_refused_where_it_is_given(
        self, name: Any, error: type[Exception]
    ) -> None:
        store = await self.open_store()
        with pytest.raises(error, match="the name of a projection"):
            store.run_store(name)
        with pytest.raises(error, match="the name of a projection"):
            await store.run_store().activate(name)
        assert await store.run_store().active() == "latest"

    async def test_a_store_of_no_name_goes_by_the_projection_that_is_in_use_by_now(self) -> None:
        store, other = await self.open_store(), await self.open_store()
        await store.run_store("latest").put(_document(1, run="first"))
        await store.run_store("latest-2").put(_document(1, run="second"))
        await self.settle()
        assert [info.run_id async for info in store.run_store().all()] == ["first"]
        await store.run_store().activate("latest-2")
        await self.settle()
        runs, kept = store.run_store(), other.run_store()
        await other.run_store("latest-3").put(_document(1, run="third"))
        await other.run_store().activate("latest-3")
        await self.settle()
        assert [info.run_id async for info in kept.all()] == ["third"], "it was made before the last was activated"
        assert [info.run_id async for info in (await self.open_store()).run_store().all()] == ["third"]
        await store.run_store().activate("latest-2")
        assert [info.run_id async for info in runs.all()] == ["second"]
        assert [info.run_id for info in (await runs.page()).runs] == ["second"]

    async def test_clearing_a_projection_leaves_all_others_and_the_pointer(self) -> None:
        store = await self.open_store()
        for name in ("latest", "one", "other"):
            await store.run_store(name).put(_document(1, run=name), _document(1, run="both"))
        await store.run_store().activate("other")
        await self.settle()
        await store.run_store("one").clear()
        await self.settle()
        for reader in (store, await self.open_store()):
            assert [info async for info in reader.run_store("one").all()] == []
            assert await reader.run_store("one").get(StreamId("workflow", "both")) == {}
            for name in ("latest", "other"):
                found = [info.run_id async for info in reader.run_store(name).all()]
                assert sorted(found) == sorted([name, "both"])
            assert await reader.run_store().active() == "other"

    async def test_of_stores_that_claim_at_once_one_puts_its_projection_in_use(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(4)]
        claims = await asyncio.gather(*(runs.claim() for runs in stores))
        assert len({claim.token for claim in claims}) == len(claims)
        done = await asyncio.gather(
            *(
                runs.activate(f"of {number}", claim=claim)
                for number, (runs, claim) in enumerate(zip(stores, claims, strict=True))
            )
        )
        assert sum(done) == 1
        await self.settle()
        assert await (await self.open_store()).run_store().active() == f"of {done.index(True)}"

    async def test_a_projection_is_empty_until_it_has_a_document(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        assert await runs.is_empty()
        await runs.put(_document(1))
        assert not await runs.is_empty()
        assert await other.is_empty()
        await runs.clear()
        assert await runs.is_empty()

    # Pages and counts

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
        await store.run_store("one").put(_document(1))
        await self.settle()
        assert await store.run_store("other").page() == RunPage([], None)
        assert await store.run_store("other").counts() == {}
        assert (await store.run_store("one").page()).runs == [_document(1)]
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
                await writer.put(_document(1, run=f"new {len(moved)}", recorded_at=later))
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
        infos = [_document(1, run=f"run {number:02}", recorded_at=_moment(0)) for number in range(25)]
        await runs.put(*infos[::-1], _document(1, run="older", recorded_at=_moment(-1)), _document(1, run="undated"))
        await self.settle()
        for limit in (1, 4, 25, 26, 100):
            paged = await _paged(runs, RunFilter(), limit=limit)
            assert [info.run_id for info in paged] == [*(info.run_id for info in infos), "older", "undated"]

    async def test_a_page_follows_what_was_written_last(self) -> None:
        runs = (await self.open_store()).run_store()
        for seq, status in enumerate(("running", "waiting", "done"), 1):
            await runs.put(_document(seq, status=cast("RunStatus", status), recorded_at=_moment(seq)))
            await self.settle()
            assert await runs.page() == RunPage([await _stored(runs)], None)
            assert await runs.counts() == {status: 1}
            assert (await runs.page(RunFilter(statuses=("running",)))).runs == (
                [] if seq > 1 else [_document(1, status="running", recorded_at=_moment(1))]
            )

    async def test_a_damaged_document_is_in_no_page_and_no_count(self) -> None:
        runs = (await self.open_store()).run_store()
        wrong = msgspec.structs.replace(_document(1, run="wrong"), messages=cast("Any", ["a"]))
        await runs.put(_document(1), wrong)
        await self.settle()
        assert await _paged(runs, RunFilter(), limit=1) == [_document(1)]
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
        await runs.put(_document(1))
        with pytest.raises(ForeignPageError, match="no place that a page of runs gave"):
            await runs.page(after=token)
        for limit in (0, -1, 1001):
            with pytest.raises(ValueError, match="limit"):
                await runs.page(limit=limit)

    async def _many(self, store: EventStore) -> tuple[RunStore, list[RunInfo]]:
        """Runs of two workflows, of all kinds, and in the order of pages."""
        runs = store.run_store()
        infos = [
            _document(
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


def _document(seq: int, *, run: str = "run", status: RunStatus = "open", **fields: Any) -> RunInfo:
    info = RunInfo(workflow_name="workflow", run_id=run, seq=seq, status=status, digest=f"of {seq}")
    return msgspec.structs.replace(info, **fields)


async def _stored(runs: RunStore) -> RunInfo:
    return (await runs.get(STREAM))[STREAM]
