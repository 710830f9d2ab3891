"""What was asked for wrongly: the form comes back with what was given, and says which field is wrong, and how."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from eventckpt.web.addresses import PAGES

from ..answers.workflows import NAME, RUN, asked
from ..cli.test_inbox import ask, question
from ..engines import Engine
from .html import read

WRONG: list[tuple[str, dict[str, str], str | None]] = [
    ("/runs", {"since": "yesterday", "workflow": "orders", "pending": "1"}, "since"),
    ("/runs", {"until": "x", "actor": "ann"}, "until"),
    ("/runs", {"tag": "x", "workflow": "orders"}, "tag"),
    ("/runs", {"status": "asleep", "request": "q"}, "status"),
    ("/runs", {"workflow": "x" * 5_000, "actor": "ann"}, "workflow"),
    ("/runs", {"after": "more.x", "workflow": "orders"}, None),
    ("/runs", {"limit": "0", "workflow": "orders"}, None),
    ("/inbox", {"older-than": "soon", "workflow": "orders"}, "older-than"),
    ("/inbox", {"tag": "x", "type": "app:Approval"}, "tag"),
    ("/inbox", {"type": "x" * 5_000, "workflow": "orders"}, "type"),
    ("/inbox", {"after": "more.x", "workflow": "orders"}, None),
    ("/conversations", {"source": "x" * 5_000, "prefix": "s"}, "source"),
    ("/conversations", {"after": "more.x", "source": "s"}, None),
    ("/compare", {"before": "x" * 5_000, "after": "b"}, "before"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query", "field"), WRONG)
async def test_the_form_comes_back_with_what_was_given_and_what_is_wrong_of_it(
    viewer: httpx.AsyncClient, engine: Engine, path: str, query: dict[str, str], field: str | None
) -> None:
    await ask(engine, question(1, ago={"days": 1}))
    answer = await viewer.get(path, params=query)
    page = read(answer.text)
    assert answer.status_code == 400
    assert page.one(role="alert").attributes["id"] == "problem"
    fields = page.form(path).fields
    for name, value in query.items():
        if name in fields and len(value) < 1_000 and not (path == "/runs" and name == "tag"):
            assert fields[name] == value
    if path == "/runs" and "tag" in query:
        assert [each.attributes["value"] for each in page.all("input", name="tag")] == [query["tag"], ""]
    wrong = page.all(aria_invalid="true", aria_describedby="problem")
    assert [each.attributes["name"] for each in wrong] == ([field] if field else [])
    assert "hx-get" not in answer.text, "what is refused is not asked for again by itself"
    refused = await viewer.get(path, params={**query, "format": "jsonl"})
    assert refused.status_code == 400


async def test_what_may_have_been_meant_is_said_once_and_the_form_of_a_comparison_stays(
    viewer: httpx.AsyncClient, engine: Engine
) -> None:
    await asked(engine)
    await asked(engine, run_id=f"{RUN}-again")
    near, begins = RUN[:-1] + "x", RUN[:-1]
    for path, query in (("/run", {"run": near}), ("/run", {"run": begins}), ("/compare", {"before": begins})):
        answer = await viewer.get(path, params=query)
        assert answer.status_code == 404
        page = read(answer.text)
        said = page.one(role="alert").text
        assert said.count("Did you mean") == 1
        assert said.count(f"{RUN}-again") == 1
    assert page.form("/compare").fields["before"] == begins


async def test_a_page_that_is_refused_leads_back_to_its_list(viewer: httpx.AsyncClient, engine: Engine) -> None:
    await asked(engine)
    for path, back in (
        ("/run", "Back to Runs"),
        ("/event", "Back to Runs"),
        ("/inbox/question", "Back to Inbox"),
        ("/conversation", "Back to Conversations"),
        ("/runs/counts?since=x", "Back to Runs"),
    ):
        page = read((await viewer.get(path)).text)
        assert back in page.links(), path
        assert page.one("nav", aria_label="Pages").one(aria_current="true").text == back.removeprefix("Back to ")


@pytest.mark.parametrize("path", sorted(PAGES))
async def test_no_page_that_refuses_speaks_of_options_of_a_command(
    viewer: httpx.AsyncClient, engine: Engine, path: str
) -> None:
    await asked(engine)
    named: dict[str, Any] = {"run": RUN, "workflow": NAME, "session": "s", "source": "x", "event": f"{RUN}@1"}
    for wrong in ("after", "since", "until", "tag", "status", "limit", "older-than", "seq", "time", "upto", "before"):
        answer = await viewer.get(path, params={**named, wrong: "more.x"})
        for alert in read(answer.text).all(role="alert"):
            assert not re.search(r"(^|\W)--[a-z]|`eventckpt (runs|inbox|sessions)`", alert.text), alert.text
