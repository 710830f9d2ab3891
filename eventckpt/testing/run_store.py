"""The tests that every engine passes which keeps projections. Used like those of `event_store`."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from ..chain import sealed
from ..events import REMOVALS, RunStatus, StreamId
from ..stores import RunFilter, RunPage
from .events import MANY, STREAM, make_event
from .run_pages import RunPagesConformance, document_of, stored_document

__all__ = ["RunStoreConformance"]


class RunStoreConformance(RunPagesConformance):
    """The cases for `RunStore`, the documents beside an engine's events. Used like `EventStoreConformance`."""

    async def test_a_document_is_written_where_its_seq_grows(self) -> None:
        runs = (await self.open_store()).run_store()
        assert await runs.put(document_of(2)) == 1
        for stays in (document_of(1), document_of(2), document_of(2, status="done"), document_of(2, digest="other")):
            assert await runs.put(stays) == 0
        assert await stored_document(runs) == document_of(2)
        assert await runs.put(document_of(3, status="waiting")) == 1
        assert await stored_document(runs) == document_of(3, status="waiting")

    @pytest.mark.parametrize("status", ["done", "open"])
    async def test_one_that_says_idle_gives_way_to_one_of_the_same_events_that_says_more(
        self, status: RunStatus
    ) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(document_of(2, status="idle"))
        assert (await stored_document(runs)).status == "idle"
        for stays in (
            document_of(2, status="idle", messages={"a": 1}),
            document_of(2, status=status, digest="other"),
            document_of(1, status=status),
        ):
            assert await runs.put(stays) == 0
        assert await stored_document(runs) == document_of(2, status="idle")
        assert await runs.put(document_of(2, status=status)) == 1
        for stays in (document_of(2, status=status), document_of(2, status="waiting"), document_of(2, status="idle")):
            assert await runs.put(stays) == 0
        assert await stored_document(runs) == document_of(2, status=status)

    async def test_the_document_of_an_emptied_run_is_in_no_list_and_no_older_one_comes_back(self) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        assert await runs.is_empty()
        tags: dict[str, Any] = {"tags": {"customer": "c-17"}, "timestamp": "2026-01-01T00:00:00+00:00"}
        going = document_of(2, run="going", checkpoints=1, tombstones=1, **tags)
        counted = document_of(2, checkpoints=2, checkpoint_id="c", checkpoint_seq=2, **tags)
        emptied = document_of(3, status="done", tombstones=1, removed=2, tags={"customer": "c-17"})
        assert await runs.put(counted, going) == 2
        await self.settle()
        assert await other.put(emptied) == 1
        await self.settle()
        for reader in (runs, other):
            assert await reader.get(STREAM) == {STREAM: emptied}
            assert await reader.put(counted, msgspec.structs.replace(emptied, checkpoints=2, removed=0)) == 0
            assert [info async for info in reader.all()] == [info async for info in reader.all("workflow")] == [going]
            assert {info.run_id async for info in reader.all(emptied=True)} == {"run", "going"}
            assert {info.run_id async for info in reader.all("workflow", emptied=True)} == {"run", "going"}
            for which in (None, RunFilter("workflow"), RunFilter(tags={"customer": "c-17"})):
                assert (await reader.page(which)).runs == [going]
                assert await reader.counts(which) == {"open": 1}
            assert await reader.counts(RunFilter(statuses=["done"])) == {}
            assert await reader.newest("workflow") in (None, going)
            assert not await reader.is_empty()

    async def test_a_projection_of_emptied_runs_alone_was_filled_and_lists_none(self) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(*(document_of(3, run=f"run {number}", tombstones=1, removed=2) for number in range(MANY)))
        await self.settle()
        assert not await runs.is_empty()
        assert await runs.page() == RunPage([], None)
        assert [info async for info in runs.all()] == [info async for info in runs.idle()] == []
        assert len([info async for info in runs.all(emptied=True)]) == MANY

    async def test_what_a_worker_of_0_1_0_makes_of_a_stream_of_removals_is_in_no_list(self) -> None:
        runs = (await self.open_store()).run_store()
        await runs.put(document_of(2, run=REMOVALS, status="idle", tombstones=2), document_of(1, checkpoints=1))
        await self.settle()
        for emptied in (False, True):
            assert [info.run_id async for info in runs.all(emptied=emptied)] == [STREAM.run_id]
        assert [info async for info in runs.idle()] == []
        assert [info.run_id for info in (await runs.page()).runs] == [STREAM.run_id]
        assert await runs.counts() == {"open": 1}

    async def test_a_run_that_begins_again_behind_its_record_is_listed_again(self) -> None:
        runs = (await self.open_store()).run_store()
        assert await runs.put(document_of(3, tombstones=1, removed=2)) == 1
        again = document_of(4, checkpoints=1, tombstones=1, removed=2)
        assert await runs.put(again) == 1
        await self.settle()
        assert (await runs.page()).runs == [info async for info in runs.all()] == [again]
        assert await runs.counts() == {"open": 1}

    async def test_one_that_says_idle_never_gives_way_once_its_run_has_moved_on(self) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        await runs.put(document_of(2, status="idle"))
        await self.settle()
        await other.put(document_of(3, status="running"))
        assert await runs.put(document_of(2, status="done")) == 0
        await self.settle()
        assert await stored_document(runs) == document_of(3, status="running")

    async def test_of_stores_that_write_over_one_that_says_idle_at_once_one_does(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(document_of(2, status="idle"))
        await self.settle()
        assert sum(await asyncio.gather(*(runs.put(document_of(2, status="done")) for runs in stores * 2))) == 1
        await self.settle()
        assert await stored_document(stores[1]) == document_of(2, status="done")

    @pytest.mark.parametrize(
        "counts", [{"checkpoints": 2}, {"tombstones": 2}, {"removed": 2}, {"checkpoints": 1, "removed": 3}], ids=str
    )
    async def test_one_of_the_same_head_that_knows_of_more_is_written_over_one_that_knows_less_and_never_the_reverse(
        self, counts: dict[str, Any]
    ) -> None:
        runs, other = (await self.open_store()).run_store(), (await self.open_store()).run_store()
        less, more = document_of(4, checkpoints=1), document_of(4, status="waiting", **counts)
        await runs.put(less)
        await self.settle()
        assert await other.put(msgspec.structs.replace(more, digest="other"), document_of(3, checkpoints=3)) == 0
        assert await other.put(more) == 1
        await self.settle()
        for stays in (
            less,
            more,
            document_of(4, checkpoints=1, tombstones=1),
            document_of(4, checkpoints=4, status="idle"),
        ):
            assert await runs.put(stays) == 0
        await self.settle()
        assert await stored_document(runs) == more

    async def test_of_stores_that_know_of_more_and_more_and_write_at_once_the_one_that_knows_most_stays(self) -> None:
        stores = [(await self.open_store()).run_store() for _ in range(3)]
        await stores[0].put(document_of(9, checkpoints=1))
        await self.settle()
        documents = [document_of(9, checkpoints=known) for known in (4, 7, 2, 9, 5, 8)]
        await asyncio.gather(*(runs.put(info) for runs, info in zip(stores * 2, documents, strict=True)))
        await self.settle()
        assert await stored_document(stores[1]) == document_of(9, checkpoints=9)

    async def test_the_newest_run_without_some_is_the_newest_of_the_others(self) -> None:
        store = await self.open_store()
        runs, names = store.run_store(), ["a", "b", "c", "d", "e"]
        for run in names:
            event = make_event(StreamId("workflow", run), 1)
            if run in "ab":
                event = sealed(msgspec.structs.replace(event, timestamp="2026-01-01T00:00:00+00:00"))
            await store.append(event)
            await runs.put(
                document_of(1, run=run, checkpoint_id=event.checkpoint_id, checkpoint_seq=1, timestamp=event.timestamp)
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
        whole = [document_of(1, run=run, timestamp="2026", checkpoint_seq=1, checkpoint_id="x") for run in ("a", "run")]
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
        assert await stored_document(runs) == await runs.newest("workflow") == whole[1]

    async def test_the_documents_that_say_idle_are_found_in_each_projection_by_itself(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        found = [document_of(1, run=f"run {number}", status="idle") for number in range(MANY)]
        await runs.put(*found, document_of(1, run="done"), document_of(1, run="runs", status="running"))
        await other.put(document_of(1, run="elsewhere", status="idle"))
        assert sorted([info.stream async for info in runs.idle()]) == sorted(info.stream for info in found)
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        await runs.put(*(msgspec.structs.replace(info, status="done") for info in found))
        assert [info async for info in runs.idle()] == []
        assert [info.run_id async for info in other.idle()] == ["elsewhere"]
        assert len([info async for info in runs.all()]) == MANY + 2

    async def test_of_documents_that_are_put_together_each_is_written_or_not_by_itself(self) -> None:
        runs = (await self.open_store()).run_store()
        there = [document_of(2, run=f"run {number}") for number in range(4)]
        assert await runs.put(*there, document_of(2, run="idle", status="idle")) == 5
        given = [
            document_of(1, run="run 0"),
            there[1],
            document_of(3, run="run 2"),
            document_of(1, run="new"),
            document_of(2, run="idle", status="done"),
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
        await store.run_store("latest").put(document_of(1, run="first"))
        await store.run_store("latest-2").put(document_of(1, run="second"))
        await self.settle()
        assert [info.run_id async for info in store.run_store().all()] == ["first"]
        await store.run_store().activate("latest-2")
        await self.settle()
        runs, kept = store.run_store(), other.run_store()
        await other.run_store("latest-3").put(document_of(1, run="third"))
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
            await store.run_store(name).put(document_of(1, run=name), document_of(1, run="both"))
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

    async def test_a_projection_is_empty_until_it_has_adocument_of(self) -> None:
        store = await self.open_store()
        runs, other = store.run_store("one"), store.run_store("other")
        assert await runs.is_empty()
        await runs.put(document_of(1))
        assert not await runs.is_empty()
        assert await other.is_empty()
        await runs.clear()
        assert await runs.is_empty()
