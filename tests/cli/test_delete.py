"""`delete`: runs go as a whole, what stays says why, and whoever looks for a removed run is told of it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from agent_framework import AgentSession, Message

from eventckpt import CheckpointAudit, EventHistoryProvider, StreamId
from eventckpt.errors import CheckpointStoreError

from ..audit.deleting import CutOff, delete, opened, problems, saved
from ..engines import Engine
from .conftest import WORKFLOW, Cli, checkpoint, message, order_run, stream


async def there(engine: Engine, *run_ids: str) -> dict[str, list[int]]:
    """The seqs of each run."""
    store = opened(engine)
    return {each: [header.seq async for header in store.headers(stream(each))] for each in run_ids}


async def test_without_execute_it_only_says_what_would_go(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a", "b")
    printed = await cli("delete", "a", "b")
    assert re.search(r"run a of orders: 3 events, \d+ bytes", printed.out)
    assert re.search(r"Would remove 2 runs, 6 events, \d+ bytes of payload. Add --execute to do it.", printed.out)
    lines = (await cli.json("delete", "a", "b")).records
    assert [(line["kind"], line.get("run_id"), line.get("state")) for line in lines] == [
        ("deletion", "a", "would go"),
        ("deletion", "b", "would go"),
        ("summary", None, None),
    ]
    assert (lines[-1]["executed"], lines[-1]["runs"], lines[-1]["events"], lines[-1]["left"]) == (False, 2, 6, 0)
    assert await there(engine, "a", "b") == {"a": [1, 2, 3], "b": [1, 2, 3]}


async def test_what_is_executed_is_removed_and_told_of_by_everything_that_looks_for_it(
    engine: Engine, cli: Cli
) -> None:
    await saved(engine, "a", "b")
    words = ("--execute", "--yes", "--actor", "Ada", "--reason", "asked for in ticket 7")
    printed = await cli.json("delete", "a", *words)
    [deletion], [summary] = printed.of("deletion"), printed.of("summary")
    assert (deletion["state"], deletion["events"], deletion["why"]) == ("removed", 3, None)
    assert deletion["bytes"] == summary["bytes"] > 0
    assert (summary["executed"], summary["runs"], summary["events"], summary["left"]) == (True, 1, 3, 0)
    engine.settle()
    assert await there(engine, "a", "b") == {"a": [4], "b": [1, 2, 3]}
    said = re.compile(r"run a of orders was removed 20\S+ \S+ by Ada, asked for in ticket 7")
    for command in ("verify", "info"):
        assert said.search((await cli(command, "a")).out), command
    for command in ("history", "lineage"):
        printed = await cli(command, "a")
        assert said.search(printed.err), command
    assert "closing record" in (await cli("history", "a")).out
    [verdict] = (await cli.json("verify", "a")).of("verdict")
    assert (verdict["ok"], verdict["removed"]["actor"], verdict["removed"]["told_at"]) == (True, "Ada", 1)
    [removed] = (await cli.json("info", "a")).of("removed")
    assert (removed["run_id"], removed["reason"], removed["left"]) == ("a", "asked for in ticket 7", 0)
    summary = (await cli.json("verify", "--all")).of("summary")
    assert summary == [{"kind": "summary", "runs": 2, "events": 5, "bad_runs": 0}]
    assert [run["run_id"] for run in (await cli.json("runs")).of("run")] == ["b"]
    tailed = (await cli("tail", "--last", "1", "--limit", "1")).out
    assert "the removals of orders  seq 1  removal  gone: a, asked for in ticket 7  by Ada" in tailed


async def test_a_removed_run_is_found_by_its_whole_id_and_not_by_the_beginning_of_one(engine: Engine, cli: Cli) -> None:
    await saved(engine, "order-1", "order-2")
    await delete(opened(engine), "order-1")
    engine.settle()
    assert "run order-2 of orders" in (await cli("info", "order")).out
    assert "was removed" in (await cli("info", "order-1")).out
    assert "No run is called 'order-', or" not in (await cli("info", "order-2")).out
    error = (await cli("info", "order-11", code=3)).err
    assert "order-2" in error
    assert "'order-1'" not in error


async def test_where_another_workflow_has_the_id_a_removed_run_is_not_meant(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    await delete(opened(engine), "a")
    await engine.storage().for_run("a").save(checkpoint(workflow_name="others"))
    engine.settle()
    assert "run a of others" in (await cli("info", "a")).out
    assert "was removed" in (await cli("info", "a", "--workflow", WORKFLOW)).out


async def test_what_has_not_ended_stays_unless_it_is_forced_and_what_is_held_stays_in_any_case(
    engine: Engine, cli: Cli
) -> None:
    await order_run(engine, "waits", steps=2)
    storage = engine.storage()
    await storage.for_run("runs").save(checkpoint(messages=message("clerk", 1)))
    await storage.for_run("open").save(checkpoint())
    await saved(engine, "held")
    await storage.for_run("held", workflow_name=WORKFLOW).annotate(hold=True)
    engine.settle()
    printed = await cli("delete", "--all")
    for run_id, why in (
        ("waits", "waits for 1 answers; force removes it all the same"),
        ("runs", "is running; force removes it all the same"),
        ("open", "is open, and nothing says that it ended; force removes it all the same"),
        ("held", "is on hold, which nothing overrides: annotate it with hold=False first"),
    ):
        assert f"run {run_id} of orders: left alone: {why}" in printed.out
    assert "Would remove 0 runs, 0 events, 0 bytes of payload.\n" in printed.out
    await cli("delete", "--all", "--execute", "--yes")
    await cli("delete", "waits", "--execute", "--yes", code=1)
    await cli("delete", "waits", "runs", "open", "--force", "--execute", "--yes")
    [deletion] = (await cli.json("delete", "held", "--force", "--execute", "--yes", code=1)).of("deletion")
    assert (deletion["state"], deletion["events"]) == ("refused", 0)
    engine.settle()
    assert await there(engine, "waits", "runs", "open", "held") == {
        "waits": [3],
        "runs": [2],
        "open": [2],
        "held": [1, 2, 3, 4],
    }
    assert await problems(opened(engine)) == []


async def test_a_run_that_somebody_has_claimed_stays(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    run = engine.storage(actor="worker").for_run("a", workflow_name=WORKFLOW)
    async with run.claim():
        engine.settle()
        printed = await cli("delete", "a", "--force", "--execute", "--yes", code=1)
        assert "run a of orders: left alone: is claimed" in printed.out
    assert await there(engine, "a") == {"a": [1, 2, 3, 4]}


async def test_only_what_is_old_enough(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a", "b")
    assert "Would remove 0 runs" in (await cli("delete", "--all", "--older-than", "30d")).out
    assert "Would remove 2 runs" in (await cli("delete", "--all", "--older-than", "0m")).out
    assert "Would remove 0 runs" in (await cli("delete", "a", "--older-than", "2020-01-01")).out
    assert "takes a time such as" in (await cli("delete", "--all", "--older-than", "soon", code=2)).err


async def test_all_of_a_workflow(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a", "b")
    await engine.storage().for_run("c").save(checkpoint(workflow_name="others"))
    await cli("delete", "--all", "--workflow", WORKFLOW, "--execute", "--yes")
    engine.settle()
    assert await there(engine, "a", "b") == {"a": [4], "b": [4]}
    assert [header.seq async for header in opened(engine).headers(StreamId("others", "c"))] == [1]
    again = await cli("delete", "--all", "--workflow", WORKFLOW)
    assert again.out == "Would remove 0 runs, 0 events, 0 bytes of payload.\n", "of those that are gone nothing is said"


async def test_again_changes_nothing_and_says_so(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    await cli("delete", "a", "--execute", "--yes")
    engine.settle()
    printed = await cli("delete", "a", "--execute", "--yes")
    assert "run a of orders: was removed before" in printed.out
    assert [each["state"] for each in (await cli.json("delete", "a")).of("deletion")] == ["removed before"]
    assert await there(engine, "a") == {"a": [4]}


@pytest.mark.parametrize("before_telling", [True, False])
async def test_what_was_cut_off_is_said_and_finished(engine: Engine, cli: Cli, before_telling: bool) -> None:
    await saved(engine, "a", "b")
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=before_telling), "a")
    engine.settle()
    half = "3 events of it are still there: delete the run again to finish that"
    assert half in (await cli("verify", "a")).out
    assert half in (await cli("verify", "--all")).out
    assert half in (await cli("history", "a")).err
    [verdict] = (await cli.json("verify", "--all")).of("verdict")
    assert (verdict["run_id"], verdict["not_gone_yet"], verdict["removed"]["left"]) == ("a", 3, 3)
    printed = await cli("delete", "a", "--execute", "--yes")
    assert "3 events, " in printed.out
    assert "bytes, what an earlier removal has left" in printed.out
    engine.settle()
    assert half not in (await cli("verify", "--all")).out
    assert await there(engine, "a") == {"a": [4]}


NAMES = ("a-1", "a@2")


@pytest.mark.parametrize("is_gone", [True, False])
async def test_what_a_removed_run_held_is_shown_and_forked_by_nobody(engine: Engine, cli: Cli, is_gone: bool) -> None:
    """Also while its events are still there, since the removal was cut off; and where the run was begun again."""
    await saved(engine, "a")
    await cli("fork", "a@2", "--as", "before")
    if is_gone:
        await delete(opened(engine), "a")
    else:
        with pytest.raises(CheckpointStoreError, match="cut off"):
            await delete(CutOff(opened(engine), before_telling=False), "a")
    engine.settle()

    async def refused() -> None:
        words = [word for name in NAMES for word in (("show", name), ("fork", name, "--as", "new"), ("diff", name))]
        for asked in words:
            error = (await cli(*asked, code=3)).err
            if asked[1] == "a@2" or not is_gone:
                assert "removed" in error, asked
                assert " by 'Ada' (20" in error, asked

    await refused()
    for asked in (("at", "a"), ("at", "a", "--seq", "2"), ("diff", "a"), ("diff", "a", "--seq", "1..2")):
        error = (await cli(*asked, code=3)).err
        assert re.search(r"had no checkpoint at that point: up to seq 4 all of it was removed by 'Ada' \(20", error)
    assert "up to seq 4 all of it was removed" in (await cli("changes", "a", "--path", "state.step")).err
    [run] = (await cli.json("info", "a")).of("run")
    assert run["status"] == "removed"
    assert "open" not in (await cli("info", "a")).out
    await saved(engine, "a", first=3, steps=1)
    engine.settle()
    await refused()
    half = "3 events of it are still there: delete the run again to finish that. It was begun again at seq 5"
    assert (half in (await cli("info", "a")).out) is not is_gone
    [shown] = (await cli.json("show", "a-")).of("checkpoint")
    assert shown["checkpoint_id"] == "a-3", "the only one that begins so and was not removed"
    assert "state" in (await cli("show", "before@1")).out
    assert "which was removed" in (await cli("diff", "before@1", code=3)).err


async def test_what_a_prune_records_is_shown_as_long_as_it_is_there(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    audit = CheckpointAudit(opened(engine))
    [plan] = [plan async for plan in audit.plan_prune([stream("a")], keep=1)]
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await CheckpointAudit(CutOff(opened(engine), before_telling=False)).prune(plan)
    engine.settle()
    assert "step: 1" in (await cli("show", "a@2")).out


async def test_a_removal_that_nothing_tells_of_is_wrong_until_the_run_is_deleted_again(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    """As after an import of that run alone."""
    await saved(engine, "a", "b")
    await delete(opened(engine), "a")
    engine.settle()
    other, file = str(tmp_path / "alone.db"), tmp_path / "alone.jsonl"
    await cli("export", "a", "-o", str(file))
    await cli("import", str(file), store=other)
    for words in (["a"], ["--all"]):
        printed = await cli("verify", *words, code=1, store=other)
        assert "run a of orders, seq 4: REMOVAL: the run was removed, and nothing among the removals" in printed.out
    told = "run a of orders: was removed before, and nothing tells of it: that is made up for"
    assert told in (await cli("delete", "a", store=other)).out
    [deletion] = (await cli.json("delete", "a", "--execute", "--yes", store=other)).of("deletion")
    assert deletion["state"] == "removed before"
    await cli("verify", "--all", store=other)
    await cli("verify", "a", store=other)
    assert told not in (await cli("delete", "a", store=other)).out


async def test_a_run_with_another_history_than_a_removal_tells_is_a_note(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await saved(engine, "a")
    other, file = str(tmp_path / "other.db"), tmp_path / "a.jsonl"
    await cli("export", "--all", "-o", str(file))
    await cli("import", str(file), store=other)
    await delete(opened(engine), "a")
    await saved(engine, "b")
    engine.settle()
    await cli("annotate", "a", "--tag", "team=blue", store=other)
    file = tmp_path / "later.jsonl"
    await cli("export", "--all", "-o", str(file))
    imported = await cli("import", str(file), code=1, store=other)
    assert "run 'a' of workflow 'orders' was removed where the export comes from by 'Ada'" in imported.out
    printed = await cli("verify", "--all", store=other)
    assert "the removals of orders, seq 1: it tells that run 'a' was closed at seq 4" in printed.out
    [verdict] = (await cli.json("verify", "--all", store=other)).of("verdict")
    assert (verdict["ok"], len(verdict["notes"])) == (True, 1)


async def test_what_was_cut_off_goes_also_where_the_run_was_begun_again_and_is_left_alone(
    engine: Engine, cli: Cli
) -> None:
    await saved(engine, "a")
    with pytest.raises(CheckpointStoreError, match="cut off"):
        await delete(CutOff(opened(engine), before_telling=True), "a")
    engine.settle()
    await saved(engine, "a", first=3)
    await engine.storage().for_run("a", workflow_name=WORKFLOW).annotate(hold=True)
    engine.settle()
    printed = await cli("delete", "a", "--execute", "--yes", code=1)
    assert "left alone: is on hold" in printed.out
    assert "bytes, what an earlier removal has left" in printed.out
    assert "Removed 3 events of 1 runs." in printed.out
    engine.settle()
    assert await there(engine, "a") == {"a": [4, 5, 6, 7, 8]}


async def test_what_is_written_to_meanwhile_stays_and_is_told(
    engine: Engine, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved(engine, "a", "b")
    planned, loop = CheckpointAudit.delete, asyncio.get_running_loop()

    async def written_to(self: CheckpointAudit, *plans: object, **said: object) -> object:
        meanwhile = asyncio.run_coroutine_threadsafe(saved(engine, "a", first=3, steps=1), loop)
        await asyncio.wrap_future(meanwhile)
        async for removal in planned(self, *plans, **said):  # pyright: ignore[reportArgumentType]
            yield removal

    monkeypatch.setattr(CheckpointAudit, "delete", written_to)
    printed = await cli("delete", "a", "b", "--execute", "--yes", code=1)
    assert "run a was left alone: it was written to since it was looked at" in printed.out
    assert "Removed 3 events of 1 runs." in printed.out
    engine.settle()
    assert await there(engine, "a", "b") == {"a": [1, 2, 3, 4], "b": [4]}


async def test_removing_is_asked_for(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    assert "Add --yes" in (await cli("delete", "a", "--execute", code=2)).err
    assert "Give runs, or --all" in (await cli("delete", code=2)).err
    assert "Give runs, or --all" in (await cli("delete", "a", "--all", code=2)).err
    assert "--reason has 1 to 1000 characters" in (await cli("delete", "a", "--reason", "x" * 1001, code=2)).err
    assert "--reason is blank" in (await cli("delete", "a", "--reason", " ", code=2)).err
    assert "No run is called 'nobody'" in (await cli("delete", "nobody", code=3)).err
    assert await there(engine, "a") == {"a": [1, 2, 3]}


async def test_an_export_of_a_workflow_tells_of_its_removals(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await saved(engine, "a", "b")
    await delete(opened(engine), "a")
    engine.settle()
    other = str(tmp_path / "new.db")
    for words in (["--all"], ["--all", "--workflow", WORKFLOW]):
        file = tmp_path / f"{len(words)}.jsonl"
        await cli("export", *words, "-o", str(file))
        await cli("import", str(file), store=other)
        [verdict] = (await cli.json("verify", "a", store=other)).of("verdict")
        assert verdict["removed"]["told_at"] == 1


async def test_a_fork_says_that_what_it_came_from_was_removed(engine: Engine, cli: Cli) -> None:
    await saved(engine, "a")
    await cli("fork", "a@2", "--as", "fork")
    await cli("delete", "a", "--execute", "--yes", "--actor", "Ada")
    engine.settle()
    assert re.search(
        r"forked from seq 2 of run a, .*\n  which was removed 20.* by Ada", (await cli("lineage", "fork")).out
    )


async def conversation(engine: Engine, session_id: str) -> EventHistoryProvider:
    history = EventHistoryProvider(store=opened(engine), source_id="chat")
    session = AgentSession(session_id=session_id)
    for text in ("one", "two"):
        await history.save_messages(session_id, [Message("user", [text])], state=session.state)
    return history


async def test_a_session_that_a_fork_rests_on_stays_unless_it_is_forced(engine: Engine, cli: Cli) -> None:
    history = await conversation(engine, "trip")
    await history.fork("trip", "copy")
    engine.settle()
    printed = await cli("delete", "trip", "--turns", "--execute", "--yes", code=1)
    assert (
        "session trip of chat: left alone: is what 'copy' went off from; force removes it all the same" in printed.out
    )
    both = await cli("delete", "trip", "copy", "--turns")
    assert "Would remove 2 sessions, 3 events" in both.out
    await cli("delete", "trip", "--turns", "--force", "--execute", "--yes")
    engine.settle()
    assert await problems(opened(engine), turns=True) == []
    assert "session trip of chat was removed" in (await cli("verify", "trip", "--turns")).out
    assert "closing record" in (await cli("history", "trip", "--turns")).out
    tailed = (await cli("tail", "--turns", "--last", "1", "--limit", "1")).out
    assert "the removals of chat  seq 1  removal  gone: trip" in tailed
