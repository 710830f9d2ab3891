"""Listings in pages: what is listed last says where the next page begins, whatever is written meanwhile."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from eventckpt.stores import AuditStore

from ..conversations import session, talked
from ..engines import Engine
from .conftest import Cli, Printed, checkpoint, order_run, question
from .programs import called

LISTINGS: dict[str, tuple[list[str], str, str]] = {
    "runs": (["runs"], "run", "run_id"),
    "projection": (["runs", "--latest", "projection"], "run", "run_id"),
    "inbox": (["inbox"], "question", "run_id"),
    "inbox of the log": (["inbox"], "question", "run_id"),
    "sessions": (["sessions"], "session", "session_id"),
    "history": (["history", "long"], "event", "seq"),
}
"""The words of each listing, the kind of its lines, and what tells them apart."""
COUNT = 7

each_listing = pytest.mark.parametrize("name", LISTINGS)


async def filled(engine: Engine, cli: Cli, name: str) -> None:
    """A store with something to list in each."""
    for number in range(COUNT):
        asks = question(f"q{number}")
        await engine.storage().for_run(f"run-{number}").save(checkpoint(pending_request_info_events=asks))
    if name == "history":
        await order_run(engine, "long", steps=COUNT)
    if name == "sessions":
        store = engine.open()
        assert isinstance(store, AuditStore)
        for number in range(COUNT):
            await talked(store.sessions(), session(f"s{number}"), "one")
    engine.settle()
    if name in ("projection", "inbox"):
        assert (await called("eventckpt-projector", ["rebuild"], cli.env)).code == 0


async def paged(cli: Cli, name: str, *, limit: int = 2, between: Any = None) -> list[str]:
    words, kind, key = LISTINGS[name]
    seen: list[str] = []
    after: list[str] = []
    while True:
        printed = await cli.json(*words, "--limit", str(limit), *after)
        seen += [line[key] for line in printed.of(kind)]
        if not printed.of("more"):
            return seen
        assert printed.records[-1]["kind"] == "more"
        after = ["--after", printed.of("more")[0]["after"]]
        if between is not None:
            await between(seen)


@each_listing
async def test_pages_give_what_the_whole_listing_gives(engine: Engine, cli: Cli, name: str) -> None:
    await filled(engine, cli, name)
    words, kind, key = LISTINGS[name]
    everything = [line[key] for line in (await cli.json(*words, "--limit", "0")).of(kind)]
    assert len(everything) == COUNT
    for limit in (1, 3, COUNT):
        assert await paged(cli, name, limit=limit) == everything


@each_listing
async def test_a_token_leads_on_where_what_was_listed_is_written_to(engine: Engine, cli: Cli, name: str) -> None:
    """What nobody writes to meanwhile is given once, though the last that was listed goes to the front."""
    await filled(engine, cli, name)
    words, kind, key = LISTINGS[name]
    everything = [line[key] for line in (await cli.json(*words, "--limit", "0")).of(kind)]

    async def write(seen: list[str]) -> None:
        if name == "sessions":
            return
        run = engine.storage().for_run(str(seen[-1]) if name != "history" else "new")
        await run.save(checkpoint())
        engine.settle()
        if name == "projection":
            assert (await called("eventckpt-projector", ["rebuild"], cli.env)).code == 0

    assert await paged(cli, name, limit=2, between=write) == everything


async def test_a_token_leads_on_behind_a_run_that_is_gone(engine: Engine, cli: Cli) -> None:
    await filled(engine, cli, "runs")
    first = await cli.json("runs", "--limit", "2")
    token, last = first.of("more")[0]["after"], first.of("run")[-1]["run_id"]
    await cli("prune", last, "--keep", "0", "--force", "--execute", "--yes")
    rest = [run["run_id"] for run in (await cli.json("runs", "--after", token)).of("run")]
    assert rest == [f"run-{number}" for number in range(COUNT - 3, -1, -1)]


@each_listing
async def test_a_text_listing_says_how_to_go_on(engine: Engine, cli: Cli, name: str) -> None:
    await filled(engine, cli, name)
    words, _, _ = LISTINGS[name]
    printed = await cli(*words, "--limit", "2")
    assert "There are more: --after more." in printed.err
    token = printed.err.partition("--after ")[2].partition(",")[0]
    assert "more" not in printed.out
    assert len((await cli(*words, "--limit", "2", "--after", token)).out.splitlines()) == 3


async def test_a_token_of_another_listing_is_refused_in_one_sentence(engine: Engine, cli: Cli) -> None:
    tokens: dict[str, str] = {}
    for name in LISTINGS:
        await filled(engine, cli, name)
        tokens[name] = (await cli.json(*LISTINGS[name][0], "--limit", "1")).of("more")[0]["after"]
    tokens.pop("inbox of the log")
    for name in tokens:
        for other, token in tokens.items():
            if other == name:
                continue
            said = await refused(cli, LISTINGS[name][0], token)
            assert "--after takes the token that `eventckpt" in said.err
            assert said.err.count("\n") == 1
    said = await refused(cli, ["history", "run-1"], tokens["history"])
    assert "that token is of the history of 'long' of 'orders', not of 'run-1' of 'orders'" in said.err


async def refused(cli: Cli, words: list[str], token: str) -> Printed:
    return await cli(*words, "--after", token, code=2)


def written(content: str) -> str:
    return "more." + base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def made(content: object) -> str:
    return written(json.dumps(content))


FORGED = [
    "more.",
    "more.x",
    "more.\x00",
    "more.ö",
    "more." + "A" * 50_000,
    made(5),
    made([]),
    made(["\x1b[2J", {}]),
    made(["eventckpt runs", {}]),
    made(["eventckpt runs", {"workflow_name": 1, "run_id": 2, "seq": "x", "recorded_at": None}]),
    made(["eventckpt inbox", [1]]),
    made(["eventckpt sessions", None]),
    made(["eventckpt history", {"seq": 10**30}]),
    made(["eventckpt runs", "[" * 5_000]),
    written('["eventckpt runs",' + "[" * 3_000 + "]" * 3_000 + "]"),
]


@each_listing
@pytest.mark.parametrize("token", FORGED)
async def test_what_is_no_token_is_refused(engine: Engine, cli: Cli, name: str, token: str) -> None:
    await order_run(engine, "long", steps=1)
    said = (await refused(cli, LISTINGS[name][0], token)).err
    assert said.startswith("eventckpt: --after takes the token")
    assert said.strip().isprintable()


async def test_runs_still_go_on_behind_a_run(engine: Engine, cli: Cli) -> None:
    await filled(engine, cli, "projection")
    for words in ([], ["--latest", "projection"]):
        rest = (await cli.json("runs", "--after", "run-2", *words)).of("run")
        assert [run["run_id"] for run in rest] == ["run-1", "run-0"]


async def test_a_history_goes_forwards_in_pages_or_shows_its_end(engine: Engine, cli: Cli) -> None:
    await filled(engine, cli, "history")
    token = (await cli.json("history", "long", "--limit", "1")).of("more")[0]["after"]
    for words in (["--limit", "2"], ["--after", token]):
        assert (
            "Give --last, or --limit and --after" in (await cli("history", "long", "--last", "1", *words, code=2)).err
        )
