"""Migrate at the command line: what would be written, what is, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventckpt import CheckpointEvent
from eventckpt.audit import Draft
from eventckpt.events import SCHEMA_OF_MIGRATIONS

from ..engines import Engine
from .conftest import GRAPH, ORDER, Cli, Order, checkpoint, message, question, stream

EDITS = f"{__name__}:edits"


def edits(draft: Draft) -> None:
    draft.rename_executor("clerk", "pricing")
    draft.fields["state"]["step"] = 7


def breaks(draft: Draft) -> None:
    draft.remove_executor("clerk")


def leaves(draft: Draft) -> None:
    raise SystemExit(0)


async def later(draft: Draft) -> None: ...


not_callable = 7


async def waiting_run(engine: Engine, run_id: str = "order-1") -> None:
    run = engine.storage(allowed_checkpoint_types=[ORDER]).for_run(run_id)
    first = checkpoint(checkpoint_id=f"{run_id}-cp0", state=dict(GRAPH), messages=message("clerk", "go"))
    state = GRAPH | {"step": 1, "order": Order({1: "tea"}, 4.5)}
    asks = checkpoint(first, checkpoint_id=f"{run_id}-cp1", state=state, pending_request_info_events=question())
    for each in (first, asks):
        await run.save(each)


async def headers(engine: Engine, run_id: str = "order-1") -> list[CheckpointEvent]:
    return [header async for header in engine.open().headers(stream(run_id))]


async def test_without_execute_the_differences_are_shown_and_nothing_is_written(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    before = await headers(engine)
    printed = await cli("migrate", "order-1", "--with", EDITS, "--allow", ORDER)
    assert "run order-1 of orders, seq 2 → seq 3 of run order-1" in printed.out
    assert "~ state.step: 1 → 7" in printed.out
    assert "+ state._executor_state.pricing" in printed.out
    assert "state.order" not in printed.out
    assert "1 of 1 runs would be migrated; 0 need nothing, 0 are left alone. Add --execute to do it." in printed.out
    assert await headers(engine) == before


async def test_with_execute_it_is_written_once_and_shown_from_then_on(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    words = ("migrate", "order-1", "--with", EDITS, "--allow", ORDER, "--execute", "--actor", "the operator")
    printed = await cli(*words)
    [*_, made] = await headers(engine)
    assert f"written: seq 3 of run order-1; resume from checkpoint {made.checkpoint_id}" in printed.out
    assert "1 of 1 runs are migrated" in printed.out
    assert made.actor == "the operator"
    assert f"{EDITS} was applied already, at seq 3 of run 'order-1'" in (await cli(*words)).out
    assert len(await headers(engine)) == 3
    shown = (await cli("show", "order-1@3")).out
    assert f"made by the migration {EDITS}" in shown
    assert "written by the operator" in shown
    assert "migration" in (await cli("history", "order-1")).out
    assert f"superstep 0, waiting for 1, made by the migration {EDITS}" in (await cli("lineage", "order-1")).out
    assert "3 events" in (await cli("verify", "order-1", "--decode")).out
    *_, event = (await cli.json("history", "order-1")).of("event")
    assert event["migration"] == {"name": EDITS, "graph_before": "graph"}
    assert event["schema"] >= SCHEMA_OF_MIGRATIONS
    assert event["status"] == "waiting"


async def test_as_json_each_run_has_a_record_and_all_have_a_sum(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    await waiting_run(engine, "order-2")
    printed = await cli.json("migrate", "order-1", "order-2", "--with", EDITS, "--allow", ORDER)
    one, two = printed.of("migration")
    assert (one["run_id"], two["run_id"]) == ("order-1", "order-2")
    assert (one["name"], one["from"]["seq"], one["to"]["seq"]) == (EDITS, 2, 3)
    assert (one["graph_before"], one["graph_after"], one["refused"], one["done"]) == ("graph", "graph", None, None)
    assert {"change": "changed", "path": "state.step", "before": 1, "after": 7} in one["differences"]
    assert printed.of("summary") == [
        {
            "kind": "summary",
            "executed": False,
            "runs": 2,
            "planned": 2,
            "migrated": 0,
            "done": 0,
            "refused": 0,
        }
    ]


async def test_a_new_run_begins_beside_the_old_one(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    words = ("migrate", "order-1", "--with", EDITS, "--allow", ORDER, "--as", "order-1-v2", "--execute")
    assert "written: seq 1 of run order-1-v2" in (await cli(*words)).out
    assert "was applied already, as run 'order-1-v2'" in (await cli(*words)).out
    assert len(await headers(engine)) == 2
    assert "╲ run order-1-v2 begins here" in (await cli("lineage", "order-1")).out
    await waiting_run(engine, "taken")
    printed = await cli(*words[:-3], "--as", "taken", "--execute", code=1)
    assert "left alone: there is a run 'taken' of workflow 'orders' already" in printed.out


async def test_what_cannot_be_resumed_is_left_alone_and_the_others_are_migrated(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    run = engine.storage().for_run("plain")
    await run.save(checkpoint(checkpoint_id="plain-cp0", state={"_executor_state": {"clerk": {}, "other": {}}}))
    words = ("--with", f"{__name__}:breaks", "--allow", ORDER, "--execute")
    printed = await cli("migrate", "order-1", "plain", *words, code=1)
    assert "run order-1 of orders: left alone: the pending request 'q1' loses executor 'clerk'" in printed.out
    assert "1 of 2 runs are migrated; 0 need nothing, 1 are left alone." in printed.out
    assert (len(await headers(engine)), len(await headers(engine, "plain"))) == (2, 2)


async def test_a_function_that_ends_the_program_leaves_its_run_alone_and_is_named(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    printed = await cli("migrate", "order-1", "--with", f"{__name__}:leaves", "--allow", ORDER, "--execute", code=1)
    assert "run order-1 of orders: left alone: it raised SystemExit: '0'" in printed.out
    assert len(await headers(engine)) == 2


async def test_a_type_that_is_not_allowed_is_named(engine: Engine, cli: Cli) -> None:
    await waiting_run(engine)
    assert ORDER in (await cli("migrate", "order-1", "--with", EDITS, "--execute", code=1)).out
    assert len(await headers(engine)) == 2


BAD: dict[str, tuple[list[str], int, str]] = {
    "a module that is not there": (["order-1", "--with", "no.such:thing"], 4, "There is no module no"),
    "a function that is not there": (["order-1", "--with", f"{__name__}:gone"], 4, "has no gone"),
    "what cannot be called": (["order-1", "--with", f"{__name__}:not_callable"], 4, "cannot be called"),
    "a module that raises": (["order-1", "--with", "broken_app:v2"], 4, "broken_app"),
    "an async function": (["order-1", "--with", f"{__name__}:later"], 2, "is not awaited"),
    "a run that is not there": (["order-7", "--with", EDITS], 3, "No run is called 'order-7'"),
    "several runs into one": (["order-1", "order-1", "--as", "x", "--with", EDITS], 2, "give one run"),
    "all types": (["order-1", "--allow", "*", "--with", EDITS], 2, "--allow: "),
    "a new run without a name": (["order-1", "--as", "", "--with", EDITS], 2, "--as: "),
}


@pytest.mark.parametrize("bad", BAD)
async def test_bad_words_are_named_and_nothing_is_written(
    engine: Engine, cli: Cli, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    await waiting_run(engine)
    words, code, said = BAD[bad]
    assert said in (await cli("migrate", *words, "--execute", code=code)).err
    assert len(await headers(engine)) == 2
