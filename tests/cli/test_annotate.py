"""`eventckpt annotate`, and how the commands show and find what was said about runs."""

from __future__ import annotations

import pytest

from ..engines import Engine
from .conftest import GRAPH, ORDER, WORKFLOW, Cli, checkpoint, order_run, stream


async def graph_run(engine: Engine, run_id: str = "order-1") -> None:
    await engine.storage().for_run(run_id).save(checkpoint(checkpoint_id=f"{run_id}-one", state=GRAPH))


async def test_what_is_said_is_shown_by_every_command_that_shows_a_run(engine: Engine, cli: Cli) -> None:
    await graph_run(engine)
    words = ["--outcome", "failed", "--reason", "no paper", "--tag", "customer=c-17", "--tag", "a=b=c", "--hold"]
    printed = await cli("annotate", "order-1", *words, "--actor", "someone")
    assert printed.out == "run order-1 of orders, seq 2: failed (no paper, customer=c-17, a=b=c, on hold)\n"
    [event] = (await cli.json("annotate", "order-1", "--untag", "a", "--no-hold")).of("event")
    assert (event["seq"], event["what"], event["annotation"]["tags"]) == (3, "annotation", {"customer": "c-17"})
    for words in (
        ["history", "order-1"],
        ["history", "order-1", "-o", "wide"],
        ["tail", "--last", "2", "--limit", "2"],
    ):
        out = (await cli(*words)).out
        assert "annotation" in out, words
        assert "failed (no paper, customer=c-17, a=b=c, on hold)" in out, words
        assert "someone" in out
    for words in (["runs"], ["info", "order-1"]):
        assert "failed (no paper, customer=c-17)" in (await cli(*words)).out
    [run] = (await cli.json("runs")).of("run")
    assert (run["status"], run["outcome"], run["reason"], run["tags"]) == (
        *("failed", "failed", "no paper"),
        {"customer": "c-17"},
    )
    assert [event["what"] for event in (await cli.json("history", "order-1")).of("event")] == [
        *("checkpoint", "annotation", "annotation")
    ]


async def test_claims_and_records_of_removals_are_shown_as_what_they_are(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=4)
    run = engine.storage().for_run("order-1", workflow_name=WORKFLOW)
    await cli("annotate", "order-1", "--tag", "customer=c-17")
    await cli("prune", "order-1", "--keep", "1", "--execute", "--yes", "--force")
    async with run.claim():
        await run.annotate(outcome="cancelled")
    engine.settle()
    events = (await cli.json("history", "order-1")).of("event")
    assert [event["what"] for event in events][-3:] == ["prune record", "claim", "annotation"]
    lines = (await cli("history", "order-1")).out.splitlines()
    assert len([line for line in lines if "gone: " in line]) == 1, "what others repeat of a record is not shown again"


async def test_runs_are_found_by_tag_and_by_several_statuses(engine: Engine, cli: Cli) -> None:
    for name in ("order-1", "order-2", "order-3"):
        await graph_run(engine, name)
    await cli("annotate", "order-1", "--outcome", "failed", "--tag", "customer=c-17", "--tag", "shop=1")
    await cli("annotate", "order-2", "--outcome", "cancelled", "--tag", "customer=c-17")

    async def found(*words: str) -> set[str]:
        return {run["run_id"] for run in (await cli.json("runs", *words)).of("run")}

    assert await found("--tag", "customer=c-17") == {"order-1", "order-2"}
    assert await found("--tag", "customer=c-17", "--tag", "shop=1") == {"order-1"}
    assert await found("--tag", "customer=c-17", "--status", "failed") == {"order-1"}
    assert await found("--status", "failed,cancelled") == {"order-1", "order-2"}
    assert await found("--status", "done") == {"order-3"}
    assert await found("--tag", "customer=c-1") == set()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give an outcome, tags, or hold"),
        (["--outcome", "lost"], "'done', 'failed' or 'cancelled'"),
        (["--reason", "why"], "give an outcome with it"),
        (["--tag", "customer"], "--tag takes name=value"),
        (["--tag", "=c-17"], "--tag takes name=value"),
        (["--tag", f"customer={'x' * 257}"], "1 to 256 characters"),
        (["--tag", "a=b", "--untag", "a"], "give one of them"),
        (["--tag", "a=b", "--tag", "a=c"], "--tag gives 'a' twice"),
        (["--hold", "--no-hold"], "--hold and --no-hold: give one of them"),
        (["--outcome", "done", "--turns"], "nothing is said about a session"),
    ],
)
async def test_what_cannot_be_said_ends_with_2_and_a_sentence(
    engine: Engine, cli: Cli, words: list[str], says: str
) -> None:
    await graph_run(engine)
    printed = await cli("annotate", "order-1", *words, code=2)
    assert says in printed.err
    assert printed.err.count("\n") == 1
    assert len([event async for event in engine.open().headers(stream("order-1"))]) == 1


async def test_a_run_that_is_not_there_ends_with_3(engine: Engine, cli: Cli) -> None:
    await graph_run(engine)
    assert "No run is called 'order-9'" in (await cli("annotate", "order-9", "--outcome", "done", code=3)).err


async def test_a_bad_tag_in_a_listing_ends_with_2(engine: Engine, cli: Cli) -> None:
    await graph_run(engine)
    assert "--tag takes name=value" in (await cli("runs", "--tag", "customer", code=2)).err
    assert "--tag gives 'a' twice" in (await cli("runs", "--tag", "a=1", "--tag", "a=2", code=2)).err


async def test_what_is_said_is_hostile_on_its_way_out(engine: Engine, cli: Cli) -> None:
    await graph_run(engine)
    evil = "\x1b]0;owned\x07\u202e"
    run = engine.storage().for_run("order-1", workflow_name=WORKFLOW)
    await run.annotate(outcome="failed", reason=evil, tags={evil: evil}, hold=True)
    engine.settle()
    for words in (["runs"], ["info", "order-1"], ["history", "order-1"], ["tail", "--last", "1", "--limit", "1"]):
        for json in ([], ["--json"]):
            out = (await cli(*words, *json)).out
            assert "owned" in out
            assert not {"\x1b", "\x07", "\u202e"} & set(out), words


async def test_a_held_run_is_not_pruned_by_force(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=4)
    await cli("annotate", "order-1", "--hold")
    printed = await cli("prune", "order-1", "--keep", "1", "--execute", "--yes", "--force")
    assert "left alone: is on hold" in printed.out
    await cli("annotate", "order-1", "--no-hold", "--outcome", "cancelled")
    assert "Removed " in (await cli("prune", "order-1", "--keep", "1", "--finished", "--execute", "--yes")).out


async def test_who_was_cancelled_waits_for_nobody(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    assert (await cli("runs", "--count")).out == "1\n"
    waiting = int((await cli("runs", "--pending", "--count")).out)
    await cli("annotate", "order-1", "--outcome", "cancelled")
    assert int((await cli("runs", "--pending", "--count")).out) == 0 <= waiting


async def test_a_run_that_has_ended_is_looked_at_before_a_deployment_where_that_is_asked_for(
    engine: Engine, cli: Cli
) -> None:
    await order_run(engine, steps=2)
    words = ["preflight", "--app", "tests.cli.programs:build", "--allow", ORDER]
    [summary] = (await cli.json(*words)).of("summary")
    assert summary["runs"] == 1
    for outcome in ("failed", "cancelled", "done"):
        await cli("annotate", "order-1", "--outcome", outcome)
        assert "none is there" in (await cli(*words)).out
        [run] = (await cli.json(*words, "--status", f"{outcome},running")).of("preflight")
        assert (run["status"], run["resumes"]) == (outcome, True)
