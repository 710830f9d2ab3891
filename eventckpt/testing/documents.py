"""The tests that every engine passes which keeps documents, such as leases. Used like those of `event_store`."""
# ruff: noqa: S101 - asserting is what this module is for

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

import pytest

from ..errors import CheckpointStoreError
from ..stores import EventStore
from ..stores.documents import Document, DocumentStore
from .events import MANY, STREAM, make_event

__all__ = ["DocumentStoreConformance"]

_IDS: Final = (
    "%",
    "_",
    "a%",
    "a_",
    "a",
    "A",
    "a b",
    "a' OR ''='",
    'a"b',
    "a;--",
    "a|b",
    "a:b",
    "a+b",
    "[a]",
    "*",
    "caf\u00e9",
    "cafe\u0301",
    "工作流",
    "🚀",
    "🚀🛰",
    "x" * 200,
    "0",
    "null",
    "@prefix",
)
"""Ids of all kinds."""

_NO_IDS: Final = (
    "",
    " ",
    "a ",
    "a/b",
    "a\\b",
    "a?b",
    "a#b",
    "a\n",
    "a\tb",
    "a\x00b",
    "\u202ea",
    "\udcff",
    ".",
    "..",
    "x" * 1024,
    "🚀" * 256,
)
"""What Cosmos DB takes as no id, or not for sure; so no engine does."""

_CONTENTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"text": "a\x00b\n'\"\\ \u202e 🚀", "empty": ""},
    {"none": None, "true": True, "false": False},
    {"numbers": [0, -1, 2**53 - 1, 0.5, -1e300]},
    {"deep": [[[{"a": [{"b": {}}]}]]]},
    {"": "a key without characters", "a b": 1, "größe": 2, "id2": "x", "etag": "mine", "type": "event"},
    {"large": "x" * 100_000},
    {"many": {f"key {number}": number for number in range(500)}},
)


class DocumentStoreConformance:
    """The cases for `DocumentStore`. Used like `EventStoreConformance`."""

    async def open_store(self) -> EventStore:
        """See `EventStoreConformance.open_store`."""
        raise NotImplementedError

    async def settle(self) -> None:
        """See `EventStoreConformance.settle`."""

    async def open_documents(self) -> DocumentStore:
        """The documents of another store object."""
        return (await self.open_store()).document_store()

    # Writing and reading back

    async def test_what_is_not_there_is_none_and_in_no_list(self) -> None:
        documents = await self.open_documents()
        assert await documents.read("a") is None
        assert await documents.list_documents("") == []
        assert await documents.replace({"id": "a"}, "1") is None
        assert await documents.read("a") is None

    @pytest.mark.parametrize("content", _CONTENTS, ids=lambda content: ascii(tuple(content))[:30])
    async def test_a_document_of_any_content_is_read_back_by_every_store(self, content: dict[str, Any]) -> None:
        documents = await self.open_documents()
        document = {"id": "a", **content}
        created = await documents.create(document)
        assert created is not None
        assert _body(created) == document
        await self.settle()
        for reader in (documents, await self.open_documents()):
            read = await reader.read("a")
            assert read is not None
            assert (_body(read), read["_etag"]) == (document, created["_etag"])
            assert [_body(each) for each in await reader.list_documents("a")] == [document]

    async def test_writing_over_a_document_leaves_nothing_of_the_one_before(self) -> None:
        documents = await self.open_documents()
        created = await documents.create({"id": "a", "one": 1, "both": 1})
        assert created is not None
        written = await documents.replace({"id": "a", "two": 2, "both": 2}, created["_etag"])
        assert written is not None
        assert _body(written) == {"id": "a", "two": 2, "both": 2}
        await self.settle()
        read = await (await self.open_documents()).read("a")
        assert read == await documents.read("a")
        assert read is not None
        assert (_body(read), read["_etag"]) == (_body(written), written["_etag"])

    async def test_what_was_read_can_be_written_back_with_what_it_was_read_with(self) -> None:
        documents = await self.open_documents()
        await documents.create({"id": "a", "n": 0})
        for number in range(1, 4):
            read = await documents.read("a")
            assert read is not None
            assert await documents.replace({**read, "n": number}, read["_etag"]) is not None
        read = await documents.read("a")
        assert read is not None
        assert _body(read) == {"id": "a", "n": 3}

    async def test_what_was_given_or_got_can_be_changed_without_changing_what_is_stored(self) -> None:
        documents = await self.open_documents()
        given: Document = {"id": "a", "in": {"it": [1]}}
        created = await documents.create(given)
        assert created is not None
        read = await documents.read("a")
        (listed,) = await documents.list_documents("")
        assert read is not None
        for each in (given, created, read, listed):
            each["in"]["it"].append("changed")
            each["more"] = "changed"
        again: Document = {"id": "a", "in": {"it": [1]}}
        assert [_body(each) for each in await documents.list_documents("")] == [again]
        written = await documents.replace(again, created["_etag"])
        assert written is not None
        for each in (again, written):
            each["in"]["it"].append("changed")
        stored = await documents.read("a")
        assert stored is not None
        assert _body(stored) == {"id": "a", "in": {"it": [1]}}

    async def test_a_document_that_is_deleted_is_gone_for_every_store(self) -> None:
        documents = await self.open_documents()
        created, other = await documents.create({"id": "a"}), await documents.create({"id": "b"})
        assert created is not None
        assert other is not None
        assert await documents.delete("a", created["_etag"])
        assert await documents.delete("a", created["_etag"]), "there is no other state"
        await self.settle()
        for reader in (documents, await self.open_documents()):
            assert await reader.read("a") is None
            assert [each["id"] for each in await reader.list_documents("")] == ["b"]

    # Only over the state that was read

    async def test_an_id_that_is_taken_is_not_created_again(self) -> None:
        documents, other = await self.open_documents(), await self.open_documents()
        created = await documents.create({"id": "a", "n": 1})
        await self.settle()
        for writer in (documents, other):
            assert await writer.create({"id": "a", "n": 2}) is None
            assert await writer.read("a") == await documents.read("a")
        assert created is not None
        assert await documents.replace({"id": "a", "n": 3}, created["_etag"]) is not None

    async def test_each_write_changes_the_etag_and_none_comes_back(self) -> None:
        documents = await self.open_documents()
        created = await documents.create({"id": "a"})
        assert created is not None
        etags = [created["_etag"]]
        for _ in range(4):  # the same content each time
            written = await documents.replace({"id": "a"}, etags[-1])
            assert written is not None
            etags.append(written["_etag"])
        for _ in range(4):
            assert await documents.delete("a", etags[-1])
            again = await documents.create({"id": "a"})
            assert again is not None
            etags.append(again["_etag"])
        assert len(set(etags)) == len(etags)
        assert all(isinstance(etag, str) for etag in etags)

    async def test_nothing_is_written_or_deleted_over_a_state_that_was_not_read(self) -> None:
        documents, other = await self.open_documents(), await self.open_documents()
        created = await documents.create({"id": "a", "n": 1})
        assert created is not None
        await self.settle()
        written = await other.replace({"id": "a", "n": 2}, created["_etag"])
        assert written is not None
        await self.settle()
        for etag in (created["_etag"], "", "0", "*", "' OR ''='", '"', "x" * 1000, "-1"):
            assert await documents.replace({"id": "a", "n": 9}, etag) is None, etag
            assert not await documents.delete("a", etag), etag
        read = await documents.read("a")
        assert read is not None
        assert (_body(read), read["_etag"]) == ({"id": "a", "n": 2}, written["_etag"])

    async def test_the_etag_of_a_document_that_was_deleted_and_made_anew_is_worth_nothing(self) -> None:
        documents = await self.open_documents()
        created = await documents.create({"id": "a", "of": "the first"})
        assert created is not None
        assert await documents.delete("a", created["_etag"])
        assert await documents.create({"id": "a", "of": "the second"}) is not None
        assert await documents.replace({"id": "a", "of": "the first"}, created["_etag"]) is None
        assert not await documents.delete("a", created["_etag"])
        read = await documents.read("a")
        assert read is not None
        assert read["of"] == "the second"

    # At once

    async def test_of_those_who_create_one_id_at_once_one_does(self) -> None:
        stores = [await self.open_documents() for _ in range(3)]
        made = await asyncio.gather(
            *(store.create({"id": "a", "by": number}) for number, store in enumerate(stores * 3))
        )
        winners = [each for each in made if each is not None]
        assert len(winners) == 1
        await self.settle()
        for store in (*stores, await self.open_documents()):
            read = await store.read("a")
            assert read is not None
            assert (read["by"], read["_etag"]) == (winners[0]["by"], winners[0]["_etag"])

    async def test_of_those_who_write_over_one_state_at_once_one_does(self) -> None:
        stores = [await self.open_documents() for _ in range(3)]
        state = await stores[0].create({"id": "a"})
        await self.settle()
        for _ in range(5):
            assert state is not None
            etag = state["_etag"]
            written = await asyncio.gather(
                *(store.replace({"id": "a", "by": number}, etag) for number, store in enumerate(stores * 2))
            )
            winners = [each for each in written if each is not None]
            assert len(winners) == 1
            (state,) = winners
            await self.settle()
            read = await stores[0].read("a")
            assert read is not None
            assert read["by"] == state["by"]

    async def test_of_a_deletion_and_a_write_over_one_state_at_once_one_is_done(self) -> None:
        one, other = await self.open_documents(), await self.open_documents()
        for number in range(6):
            name = f"document {number}"
            created = await one.create({"id": name, "n": 1})
            assert created is not None
            await self.settle()
            written, deleted = await asyncio.gather(
                other.replace({"id": name, "n": 2}, created["_etag"]), one.delete(name, created["_etag"])
            )
            await self.settle()
            read = await one.read(name)
            assert (written is None) == deleted == (read is None)

    async def test_a_number_that_many_raise_at_once_misses_none(self) -> None:
        stores = [await self.open_documents() for _ in range(3)]
        assert await stores[0].create({"id": "n", "value": 0}) is not None
        await self.settle()

        async def raise_it(documents: DocumentStore) -> None:
            for _ in range(60):  # each that fails is the success of another, or was read from a copy that lags
                await self.settle()
                read = await documents.read("n")
                assert read is not None
                if await documents.replace({"id": "n", "value": read["value"] + 1}, read["_etag"]) is not None:
                    return
            pytest.fail("no write came through")

        await asyncio.gather(*map(raise_it, stores * 4))
        await self.settle()
        read = await stores[0].read("n")
        assert read is not None
        assert read["value"] == 12

    # Ids and listings

    async def test_ids_of_any_characters_name_one_document_each(self) -> None:
        documents = await self.open_documents()
        for number, name in enumerate(_IDS):
            assert await documents.create({"id": name, "n": number}) is not None, name
        await self.settle()
        other = await self.open_documents()
        for number, name in enumerate(_IDS):
            read = await other.read(name)
            assert read is not None, name
            assert (read["id"], read["n"]) == (name, number)
            assert await other.create({"id": name}) is None, name
        for name in _IDS[::2]:
            read = await documents.read(name)
            assert read is not None
            assert await documents.delete(name, read["_etag"]), name
        await self.settle()
        assert sorted(each["id"] for each in await other.list_documents("")) == sorted(_IDS[1::2])

    @pytest.mark.parametrize("name", _NO_IDS, ids=lambda name: ascii(name)[:20])
    async def test_what_can_be_no_id_is_refused_where_it_is_written_and_is_not_there(self, name: str) -> None:
        documents = await self.open_documents()
        for write in (documents.create({"id": name}), documents.replace({"id": name}, "1")):
            with pytest.raises(ValueError, match="the id of a document"):
                await write
        assert await documents.read(name) is None
        assert await documents.delete(name, "1"), "there is no other state"

    @pytest.mark.parametrize("name", [None, 5, b"a", ["a"]], ids=str)
    async def test_an_id_that_is_no_text_is_refused_by_every_verb(self, name: Any) -> None:
        documents = await self.open_documents()
        uses: Iterable[Coroutine[Any, Any, object]] = (
            documents.create({"id": name}),
            documents.create({}),
            documents.create(name),
            documents.replace({"id": name}, "1"),
            documents.read(name),
            documents.delete(name, "1"),
            documents.list_documents(name),
        )
        for use in uses:
            with pytest.raises(TypeError, match="document"):
                await use

    async def test_a_list_has_the_documents_whose_ids_begin_so_and_no_others(self) -> None:
        documents = await self.open_documents()
        for name in _IDS:
            await documents.create({"id": name})
        await self.settle()
        for prefix in ("", *_IDS, "caf", "cafe", "🚀", "工", "x" * 100, "x" * 201, "%%", "__", "a.", "ab", "' OR ''='"):
            found = [each["id"] for each in await documents.list_documents(prefix)]
            assert sorted(found) == sorted(name for name in _IDS if name.startswith(prefix)), prefix

    async def test_many_documents_are_all_listed_and_each_once(self) -> None:
        documents = await self.open_documents()
        names = [f"some {number}" for number in range(MANY)]
        for start in range(0, MANY, 62):
            await asyncio.gather(*(documents.create({"id": name}) for name in names[start : start + 62]))
        await documents.create({"id": "other"})
        await self.settle()
        listed = await (await self.open_documents()).list_documents("some ")
        assert sorted(each["id"] for each in listed) == sorted(names)
        assert all(each["_etag"] for each in listed)

    async def test_documents_and_events_are_in_nobodys_way(self) -> None:
        store = await self.open_store()
        documents = store.document_store()
        event = make_event(STREAM, 1)
        await documents.create({"id": event.checkpoint_id, "stream": "workflow|run", "seq": 1})
        await store.append(event)
        await self.settle()
        assert await store.read(STREAM, 1) == [event]
        assert [each["id"] for each in await documents.list_documents("")] == [event.checkpoint_id]

    # Ends

    async def test_a_cancelled_write_is_done_or_not_at_all(self) -> None:
        documents = await self.open_documents()
        await documents.create({"id": "opens the store"})
        tasks = [asyncio.create_task(documents.create({"id": f"some {number}"})) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in range(20):
            await documents.create({"id": f"some {number}"})
            assert await documents.read(f"some {number}") is not None
        assert len(await documents.list_documents("some ")) == 20

    async def test_the_documents_of_a_closed_store_refuse_further_work(self) -> None:
        store = await self.open_store()
        documents = store.document_store()
        created = await documents.create({"id": "a"})
        assert created is not None
        await store.close()
        uses: Iterable[Coroutine[Any, Any, object]] = (
            documents.read("a"),
            documents.list_documents(""),
            documents.create({"id": "b"}),
            documents.replace({"id": "a"}, created["_etag"]),
            documents.delete("a", created["_etag"]),
        )
        for use in uses:
            with pytest.raises(CheckpointStoreError):
                await use


def _body(document: Document) -> Document:
    """A document without what an engine adds to it, whose names begin with an underscore."""
    return {name: value for name, value in document.items() if not name.startswith("_")}
