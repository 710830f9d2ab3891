"""The page of an event: its header, its state as a tree, and what is known of one that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from eventckpt import CheckpointEvent, StreamId, delta
from eventckpt.chain import sealed
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event
from eventckpt.testing.events import of_every_kind
from eventckpt.web.page import MAX_BYTES

from ..audit.hostile import CASES, raw_of
from ..cli.conftest import Cli, checkpoint, order_run
from ..engines import Engine
from ..storage.checkpoints import WORKFLOW
from ..storage.removed import begun, remove
from .html import Document, Element, query_of, read

RUN = {"run": "order-1", "workflow": "orders"}
UNREADABLE = ("a set of one element", "too deep", "very deep")
HOSTILE = StreamId("orders", "hostile")


async def shown(viewer: httpx.AsyncClient, status: int = 200, **query: Any) -> Document:
    answer = await viewer.get("/event", params=query)
    assert answer.status_code == status, answer.text
    assert len(answer.content) < MAX_BYTES
    return read(answer.text)


def tree_of(page: Element) -> list[str]:
    """The lines of a tree, as `show` prints them: without the links and the counts that only a page has."""
    return list(_lines(page.one("ul", class_="tree"), 0))


def _lines(items: Element, depth: int) -> Iterator[str]:
    for item in _elements(items):
        folded = [part for part in _elements(item) if part.name == "details"]
        yield "  " * depth + _said(_elements(folded[0])[0] if folded else item)
        if folded:
            yield from _lines(_elements(folded[0])[1], depth + 1)


def _elements(element: Element) -> list[Element]:
    return [part for part in element.inside if isinstance(part, Element)]


def _said(element: Element) -> str:
    own = (part if isinstance(part, str) else _said(part) if part.has(class_="key") else "" for part in element.inside)
    return "".join(own).rstrip(" ") if not element.has(class_="key") else "".join(map(str, element.inside))


async def keep(engine: Engine, *events: CheckpointEvent) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(events[0].stream, events)
    engine.settle()


def holding(raw: bytes) -> CheckpointEvent:
    """An event that somebody has forged around these bytes."""
    return sealed(msgspec.structs.replace(make_event(HOSTILE, 1), payload=delta.encode(raw)))


async def test_the_tree_is_what_show_prints(viewer: httpx.AsyncClient, cli: Cli, engine: Engine) -> None:
    await order_run(engine, steps=30, text="x" * 200)
    for seq in ("1", "30"):
        printed = (await cli("show", f"order-1@{seq}")).out.splitlines()
        begins = next(index for index, line in enumerate(printed) if line.startswith("messages:"))
        assert tree_of(await shown(viewer, **RUN, seq=seq)) == [line for line in printed[begins:] if line]


@pytest.mark.parametrize("query", [{"event": "order-1-cp1"}, {"event": "order-1@2"}, {**RUN, "seq": 2}])
async def test_an_event_is_found_by_its_id_by_run_and_seq_and_exactly_and_its_lines_are_those_of_show(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, query: dict[str, Any]
) -> None:
    await order_run(engine, steps=3)
    engine.settle()
    page = await shown(viewer, **query)
    assert page.title == "Event 2 of order-1"
    assert {"Event 1", "Event 3", "The run"} <= page.links().keys()
    lines = await viewer.get("/event", params=query | {"format": "jsonl"})
    assert lines.text == (await cli.json("show", "order-1@2")).out
    header = json.loads(page.all("pre")[0].text)
    assert (header["seq"], header["what"], header["actor"]) == (2, "checkpoint", "shop")


async def test_what_the_tree_leaves_out_is_reached_by_its_path(viewer: httpx.AsyncClient, engine: Engine) -> None:
    """A long list in pages, a long text in pieces, until nothing is left."""
    text = "".join(f"{n:06}" for n in range(8_000))
    state = {"many": [f"item {n}" for n in range(250)], "text": text, "keys": {f"k{n}": n for n in range(450)}}
    await engine.storage().for_run("order-1").save(checkpoint(state=state))
    engine.settle()
    page = await shown(viewer, **RUN, seq=1)
    more = [link.attributes["href"] for link in page.all("a") if link.text == "show them"]
    seen: dict[str, list[str]] = {}
    for address in more:
        query = query_of(address)
        while query:
            part = await shown(viewer, **query)
            seen.setdefault(query["path"], []).extend(line for line in tree_of(part) if not line.startswith("…"))
            following = [link for link in part.all("a") if link.text == "show them"]
            query = query_of(following[0].attributes["href"]) if following else {}
    assert len(seen["state.many"]) == 250 - 20
    assert len(seen["state.keys"]) == 450 - 200
    query, whole = query_of(page.links()["all of it"]), ""
    while query:
        part = await shown(viewer, **query)
        whole += part.all("pre")[0].text
        query = query_of(part.links()["Go on"]) if "Go on" in part.links() else {}
    assert whole == text


async def test_a_path_where_nothing_is_names_those_that_come_close(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await order_run(engine, steps=2)
    engine.settle()
    page = await shown(viewer, 404, **RUN, seq=1, path="state.stepp")
    assert "Did you mean state.step or" in page.text


@pytest.mark.parametrize("case", CASES)
async def test_a_page_of_hostile_bytes_is_below_1_mb_and_of_sane_depth(
    viewer: httpx.AsyncClient, engine: Engine, case: str
) -> None:
    await keep(engine, holding(raw_of(case)))
    page = await shown(viewer, 422 if case in UNREADABLE else 200, run="hostile", workflow="orders", seq=1)
    assert bool(page.all(class_="problem")) == (case in UNREADABLE)
    if case not in UNREADABLE:
        assert max(len(line) - len(line.lstrip()) for line in tree_of(page)) <= 2 * 31


@pytest.mark.parametrize("case", range(9))
async def test_an_event_of_every_kind_has_a_page(
    viewer: httpx.AsyncClient, cli: Cli, engine: Engine, case: int
) -> None:
    events = of_every_kind(HOSTILE, make_event(StreamId("orders", "origin"), 1))
    await keep(engine, *events)
    event = events[case]
    query = {"run": "hostile", "workflow": "orders", "seq": event.seq}
    page = await shown(viewer, 200 if event.type == "tombstone" else 422, **query)
    assert json.loads(page.all("pre")[0].text)["digest"] == event.digest
    lines = await viewer.get("/event", params=query | {"format": "jsonl"})
    if event.type == "tombstone":
        assert "This event holds no checkpoint." in page.text
        history = (await cli.json("history", "hostile", "-w", "orders")).out.splitlines(keepends=True)
        assert lines.text == history[case]
    else:
        gone = case == 0  # as the record among them says
        await cli("show", f"hostile@{event.seq}", code=3 if gone else 5)
        assert lines.status_code == (404 if gone else 422)
        assert ("it counts no more" in page.text) == gone


async def test_of_a_seq_that_is_not_there_the_page_says_what_is_known(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await begun(engine, "r")
    whole = [make_event(HOSTILE, 1)]
    for seq in (2, 3):
        whole.append(make_event(HOSTILE, seq, previous=whole[-1]))
    await keep(engine, whole[0], whole[2])
    query = {"run": "hostile", "workflow": "orders"}
    gap = await shown(viewer, 404, **query, seq=2)
    assert "no record says that it was removed" in gap.text
    assert {"Event 1", "Event 3"} <= gap.links().keys()
    assert "There is no such event yet: the last one is 3." in (await shown(viewer, 404, **query, seq=4)).text
    store = engine.open()
    assert isinstance(store, AuditStore)
    await remove(store, "r")
    engine.settle()
    assert "removed, which is on record" in (await shown(viewer, 404, run="r", workflow=WORKFLOW, seq=1)).text
    assert "gone: r" in (await shown(viewer, workflow=WORKFLOW, seq=1)).text
    unknown = await shown(viewer, 404, run="hostil", workflow="orders2", seq=1)
    assert "No run" in unknown.text
