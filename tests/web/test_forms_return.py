"""What a form sends back is what the page was asked for, to the last character, whatever a store's names are made of;
and none of it is in the page as it is."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from eventckpt import StreamId

from ..answers.workflows import NAME, Paid, asked, functional
from ..conversations import asked as said
from ..conversations import turn_event
from ..engines import Engine
from ..storage.checkpoints import checkpoint
from ..storage.removed import audited
from .answering import answering_viewer
from .html import Document, Element, read

PIECES = (
    *("\n", "\r", "\r\n", "\t", "\x00", "\x1b[2J", "\x7f", "\x80", "\x85", "\xa0", "\xad"),
    *("\u202e", "\u2028", "\ufeff", "\\n", "\\x1b", "%", "%0A", "%25", "+", "&", "&#10;", "&amp;"),
    *("=", "#", '"', "'", "<", ">", " ", "é", "\U0001f600", "a", "B", "0"),
)


def names(seed: int) -> Iterator[str]:
    """Names of which a store may be full."""
    rng = random.Random(seed)
    while True:
        yield "".join(rng.choices(PIECES, k=12)) + f"{rng.random()}"


def sent(page: Document, action: str, **typed: str) -> list[tuple[str, str]]:
    """What a browser sends when somebody types into some fields of a form, and leaves the others."""
    [form] = [each for each in page.all("form") if urlsplit(each.attributes["action"]).path == action]
    found: list[tuple[str, str]] = []
    for field in form.all("input", "select", "textarea"):
        name = field.attributes.get("name", "")
        kind = field.attributes.get("type", "text" if field.name == "input" else field.name)
        if name and (kind not in ("checkbox", "radio") or "checked" in field.attributes):
            found.append((name, typed.get(name, _held(field, kind))))
    return [(name, re.sub("\r\n|\r|\n", "\r\n", value)) for name, value in found]


def _held(field: Element, kind: str) -> str:
    if kind == "select":
        chosen = [each for each in field.all("option") if "selected" in each.attributes]
        return chosen[0].attributes["value"] if chosen else ""
    value = field.attributes.get("value", "")
    return re.sub("[\r\n]", "", value) if kind == "text" else value


def as_a_browser_reads(html: str) -> Document:
    """The page, where nothing is but what is printed and the ends of its lines."""
    assert [each for each in html if not each.isprintable() and each != "\n"] == []
    return read(html)


def asked_for(page: Document) -> list[tuple[str, str]]:
    """What a page was asked for, as it understood that."""
    parts = parse_qsl(urlsplit(page.links()["JSON lines"]).query)
    return sorted(each for each in parts if each[0] not in ("format", "live"))


async def filled(engine: Engine, workflow: str, *runs: str) -> None:
    """Runs of a workflow, whose states have each other's names for keys; and a session of the first one's name."""
    for run in runs:
        stored = checkpoint(workflow_name=workflow, state={key: ["kept"] for key in runs})
        await engine.storage(actor=run).for_run(run).save(stored)
    store = audited(engine).sessions()
    await store.append(turn_event(StreamId(workflow, runs[0]), 1, said("one", "two")))
    engine.settle()


def queries(workflow: str, run: str, other: str) -> list[tuple[str, dict[str, Any]]]:
    """Each page that has a form, and what it is asked for."""
    stream = {"workflow": workflow, "run": run}
    return [
        ("/runs", {"workflow": workflow, "actor": run, "request": other, "tag": [f"{run}=x", f"y={other}"]}),
        ("/inbox", {"workflow": workflow, "type": run, "tag": f"{run}={other}"}),
        ("/conversations", {"source": workflow, "prefix": run[:5]}),
        ("/conversation", {"session": run, "source": workflow}),
        ("/event", {**stream, "seq": 1}),
        ("/event", {**stream, "seq": 1, "path": f"state[{other!r}]"}),
        ("/compare", {"before": f"{run}@1", "after": f"{other}@1", "workflow": workflow}),
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_a_form_that_is_sent_as_it_is_asks_for_what_its_page_was_asked_for(
    viewer: httpx.AsyncClient, engine: Engine, seed: int
) -> None:
    workflow, run, other = (name for name, _ in zip(names(seed), range(3), strict=False))
    await filled(engine, workflow, run, other)
    for path, query in queries(workflow, run, other):
        first = await viewer.get(path, params=query)
        assert first.status_code == 200, (path, first.text)
        page = as_a_browser_reads(first.text)
        answer = await viewer.get(f"{path}?{urlencode(sent(page, path))}")
        assert answer.status_code == 200, (path, answer.text)
        assert asked_for(as_a_browser_reads(answer.text)) == asked_for(page), path


@pytest.mark.parametrize("seed", range(6))
async def test_a_form_that_comes_back_with_what_is_wrong_of_it_asks_for_the_rest_as_it_was(
    viewer: httpx.AsyncClient, seed: int
) -> None:
    workflow, run, other = (name for name, _ in zip(names(seed), range(3), strict=False))
    for path, wrong, query in (
        ("/runs", "since", {"workflow": workflow, "actor": run, "tag": [f"{run}=x", f"y={other}"]}),
        ("/inbox", "older-than", {"workflow": workflow, "type": run, "tag": f"{run}={other}"}),
    ):
        refused = await viewer.get(path, params={**query, wrong: "yesterday"})
        assert refused.status_code == 400
        mended = sent(as_a_browser_reads(refused.text), path, **{wrong: "7d"})
        answer = await viewer.get(f"{path}?{urlencode(mended)}")
        assert answer.status_code == 200, answer.text
        parts = [
            (name, each) for name, value in query.items() for each in ([value] if isinstance(value, str) else value)
        ]
        assert asked_for(as_a_browser_reads(answer.text)) == sorted([*parts, (wrong, "7d")])


async def test_what_is_typed_in_place_of_what_was_there_counts(viewer: httpx.AsyncClient, engine: Engine) -> None:
    page = as_a_browser_reads((await viewer.get("/runs", params={"workflow": "a\x1b", "actor": "b\u202e"})).text)
    answer = await viewer.get(f"/runs?{urlencode(sent(page, '/runs', workflow='orders', actor=''))}")
    assert asked_for(read(answer.text)) == [("workflow", "orders")]


@pytest.mark.parametrize("item", ['a\x00\x1b\u202e%0A+&#10;"<é', "\\x1b%", "plain"], ids=ascii)
async def test_the_answers_of_before_are_given_to_the_questions_that_were_asked(engine: Engine, item: str) -> None:
    await asked(engine, f"{item} hat", build=functional)
    paid = Paid()
    async with answering_viewer(engine, paid, functional) as viewers, viewers.browser() as ann:
        for each, earlier in ((item, {}), ("hat", {"response-0": "true"})):
            page = await ann.client.get(
                "/inbox/question", params={"run": "order-1042", "workflow": NAME, "request": f"may-{each}"}
            )
            document = as_a_browser_reads(page.text)
            fields = dict(sent(document, "/inbox/question", **earlier))
            answer = await ann.post(document.form("/inbox/question").action, **fields, response="true")
            assert answer.status_code == 303, answer.text
            engine.settle()
    assert paid == [(item, True), ("hat", True)]
