"""Comparing states: diff, changes, replay, and the summary of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import (
    CheckpointAudit,
    CheckpointEvent,
    EventCheckpointStorage,
    SqliteEventStore,
    StreamId,
    get_checkpoint_summary,
)
from eventckpt.chain import sealed

from ..engines import Engine
from .conftest import ORDER, WORKFLOW, Cli, checkpoint, continued, message, order_run, question, stream

UNCOMPARABLE: dict[str, Any] = {"messages": 0, "pending_request_info_events": 0}
"""Fields whose values the framework compares by identity."""


async def test_diff_says_by_path_what_was_added_removed_and_changed(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=4)
    printed = await cli("diff", "order-1", "--seq", "1..4", "--allow", ORDER)
    lines = printed.out.splitlines()
    assert lines[0] == "seq 1 of run order-1 (order-1-cp0) → seq 4 of run order-1 (order-1-cp3)"
    assert "~ state.step: 0 → 3" in lines
    assert "~ state.order.total: 0.0 → 4.5" in lines
    assert '+ state.order.lines[1]: "line 1 "' in lines
    assert "- messages.clerk: 1 item" in lines
    assert any(line.startswith("+ pending_request_info_events.q1: ") for line in lines)
    assert '+ state.notes[0]: "note 0"' in lines
    records = await cli.json("diff", "order-1@1", "order-1-cp3", "--allow", ORDER)
    by_path = {difference["path"]: difference for difference in records.of("difference")}
    assert (by_path["state.step"]["before"], by_path["state.step"]["after"]) == (0, 3)
    assert by_path["state.order.lines[2]"]["change"] == "added"
    [summary] = records.of("summary")
    assert summary["before"]["seq"] == 1
    assert summary["removed"] == 1


async def test_diff_tells_that_a_type_that_is_not_allowed_changed_without_looking_inside(
    engine: Engine, cli: Cli
) -> None:
    await order_run(engine, steps=3)
    printed = await cli("diff", "order-1", "--seq", "1..3")
    assert f"~ state.order: {ORDER}, " in printed.out
    assert "line 1" not in printed.out
    [same] = (await cli.json("diff", "order-1", "--seq", "2..2")).of("summary")
    assert (same["added"], same["removed"], same["changed"]) == (0, 0, 0)


async def test_diff_wants_one_or_two_checkpoints_or_a_run(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    assert "diff takes one or two checkpoints" in (await cli("diff", "a", "b", "c", code=2)).err
    for words in (["order-1", "--seq", "1"], ["a", "b", "--seq", "1..2"], ["order-1", "--seq", "x..y"]):
        assert "--seq takes FIRST..LAST" in (await cli("diff", *words, code=2)).err


async def compared_seqs(cli: Cli, *words: str) -> tuple[int, int]:
    [found] = (await cli.json("diff", *words)).of("summary")
    return found["before"]["seq"], found["after"]["seq"]


@pytest.mark.parametrize(
    ("name", "seqs"), [("order-1", (3, 4)), ("ord", (3, 4)), ("order-1@3", (2, 3)), ("order-1-cp1", (1, 2))]
)
async def test_diff_of_one_name_compares_with_the_checkpoint_before(
    engine: Engine, cli: Cli, name: str, seqs: tuple[int, int]
) -> None:
    await order_run(engine, steps=4)
    assert await compared_seqs(cli, name) == seqs


async def test_the_checkpoint_before_is_the_one_that_it_follows_and_not_its_neighbour(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3)
    storage: EventCheckpointStorage = engine.storage(allowed_checkpoint_types=[ORDER])
    await storage.for_run("order-1", workflow_name=WORKFLOW).load(made[0].checkpoint_id)
    await storage.for_run("order-1").save(checkpoint(made[0], checkpoint_id="branch"))
    engine.settle()
    assert await compared_seqs(cli, "order-1") == (1, 4)
    assert await compared_seqs(cli, "order-1@3") == (2, 3)


async def test_the_checkpoint_before_the_first_of_a_fork_is_the_one_that_it_began_from(
    engine: Engine, cli: Cli
) -> None:
    await order_run(engine, steps=3)
    await cli("fork", "order-1@2", "--as", "again")
    [found] = (await cli.json("diff", "again")).of("summary")
    assert (found["before"]["run_id"], found["before"]["seq"]) == ("order-1", 2)
    assert found["added"] + found["removed"] + found["changed"] == 0


async def test_where_there_is_no_checkpoint_before_it_is_said_why(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3)
    assert "follows no other checkpoint" in (await cli("diff", "order-1@1", code=3)).err
    await cli("prune", "order-1", "--keep", "1", "--force", "--execute", "--yes")
    said = (await cli("diff", "order-1", code=3)).err
    assert f"follows checkpoint {made[1].checkpoint_id}, which was removed, or deleted" in said
    assert "Did you mean 'order-1'" in (await cli("diff", "oder-1", code=3)).err
    assert "has no event at seq 9" in (await cli("diff", "order-1@9", code=3)).err


async def test_changes_says_at_which_superstep_a_value_changed_and_to_what(engine: Engine, cli: Cli) -> None:
    storage = engine.storage()
    run = storage.for_run("order-1")
    previous = None
    for step, total in enumerate([None, 1, 1, True, 2.5, None]):
        state = {} if total is None else {"total": total}
        previous = checkpoint(previous, iteration_count=step, state=state)
        await run.save(previous)
    printed = await cli("changes", "order-1", "--path", "state.total")
    assert printed.out.splitlines() == [
        "seq 2, superstep 1: 1",
        "seq 4, superstep 3: True",
        "seq 5, superstep 4: 2.5",
        "seq 6, superstep 5: (gone)",
    ]
    changes = (await cli.json("changes", "order-1", "--path", "state.total")).of("change")
    assert [(change["existed"], change["exists"]) for change in changes] == [
        (False, True),
        (True, True),
        (True, True),
        (True, False),
    ]
    assert "Nothing is ever at 'state.nowhere'" in (await cli("changes", "order-1", "--path", "state.nowhere")).err


WRITTEN = [
    "state.order.lines",
    "$.state.order.lines",
    '$["state"]["order"]["lines"]',
    "state['order'].lines",
    'state["order"]["lines"]',
    ".state.order.lines",
    "/state/order/lines",
    "state/order/lines",
    '"state.order.lines"',
    'state."order".lines',
    "state[order][lines]",
    " state.order.lines ",
]


@pytest.mark.parametrize("path", WRITTEN)
async def test_a_path_may_be_written_in_any_of_the_usual_ways(engine: Engine, cli: Cli, path: str) -> None:
    await order_run(engine, steps=3)
    found = (await cli.json("changes", "order-1", "--allow", ORDER, "--path", path)).of("change")
    assert [change["event"]["seq"] for change in found] == [1, 2, 3]


@pytest.mark.parametrize("path", ["state.notes[0]", "state.notes.0", "/state/notes/0", "$.state.notes[ 0 ]"])
async def test_an_item_of_a_list_may_be_named_in_any_of_the_usual_ways(engine: Engine, cli: Cli, path: str) -> None:
    await order_run(engine, steps=3)
    assert (await cli("changes", "order-1", "--path", path)).out == 'seq 2, superstep 1: "note 0"\n'


KEYS = ["a b", "a.b", "a/b", "a~b", 'a"b', "a'b", "a[0]", "0", "$", "", "\\", "a]b"]


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_of_any_letters_is_found_where_it_is_written_as_python_or_json_or_a_pointer_would(
    engine: Engine, cli: Cli, key: str
) -> None:
    await engine.storage().for_run("order-1").save(checkpoint(state={key: "here", "another": "there"}))
    pointer = key.replace("~", "~0").replace("/", "~1")
    for path in (f"state[{key!r}]", f"state[{json.dumps(key)}]", f"/state/{pointer}"):
        assert '"here"' in (await cli("changes", "order-1", "--path", path)).out, path


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("state.totl", "state.total"),
        ("/state/totol", "state.total"),
        ("total", "state.total"),
        ("state.x.total", "state.total"),
    ],
)
async def test_a_path_that_nothing_has_is_said_with_those_that_are_near(
    engine: Engine, cli: Cli, path: str, near: str
) -> None:
    await engine.storage().for_run("order-1").save(checkpoint(state={"total": 1, "x": {"y": 2}}))
    printed = await cli("changes", "order-1", "--path", path)
    assert printed.out == ""
    assert f"Nothing is ever at '{path}'." in printed.err
    assert f"Did you mean {near}" in printed.err


@pytest.mark.parametrize("path", ["$", "/", " $ "])
async def test_the_root_of_a_path_is_the_whole(engine: Engine, cli: Cli, path: str) -> None:
    await order_run(engine, steps=2)
    whole = (await cli.json("changes", "order-1", "--path", "")).of("change")
    found = (await cli.json("changes", "order-1", "--path", path)).of("change")
    assert len(found) == 2
    assert [each | {"path": ""} for each in found] == whole


@pytest.mark.parametrize("path", ["", "$", "[", "state[", "///", "." * 5000, "[" * 5000, "state" + "['x']" * 2000])
async def test_what_is_no_path_is_at_nothing(engine: Engine, cli: Cli, path: str) -> None:
    await order_run(engine, steps=1)
    printed = await cli("changes", "order-1", "--path", path)
    assert path in ("", "$") or "Nothing is ever at" in printed.err
    assert len(printed.err) < 1_000


async def test_replay_folds_the_log_and_finds_it_equal_to_what_is_stored(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=3)
    await engine.storage().for_run("order-1", workflow_name=WORKFLOW).delete("order-1-cp1")
    printed = await cli("replay", "order-1")
    assert printed.out.splitlines()[-1] == "4 events replayed; none of them disagree with what is stored."
    steps = (await cli.json("replay", "order-1", "--until", "2")).of("step")
    assert [(step["run"]["seq"], step["run"]["status"]) for step in steps] == [(1, "running"), (2, "open")]


async def test_replay_names_a_header_that_says_another_thing_than_its_state(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    store = engine.open()
    [event] = await store.read(stream(), 2)
    lie = sealed(
        msgspec.structs.replace(event, seq=3, iteration_count=99, previous_digest=event.digest, checkpoint_id="lie")
    )
    await store.append(lie)
    printed = await cli("replay", "order-1", code=1)
    assert "seq 3: superstep 99, waiting for 1  WRONG" in printed.out
    assert "disagree on checkpoint_id, iteration_count" in printed.out
    await cli("verify", "order-1")  # whoever can write can lie: the chain is whole


# In Python


async def test_states_streams_every_checkpoint_in_order(engine: Engine) -> None:
    made = await order_run(engine, steps=6)
    audit = CheckpointAudit(engine.open(), allowed_checkpoint_types=[ORDER])
    states = [(header.seq, state) async for header, state in audit.states(stream())]
    assert [seq for seq, _ in states] == [1, 2, 3, 4, 5, 6]
    assert [state.to_dict() | UNCOMPARABLE for _, state in states] == [each.to_dict() | UNCOMPARABLE for each in made]
    assert [header.seq async for header, _ in audit.states(stream(), gt=1, lte=3)] == [2, 3]


class CountingStore(SqliteEventStore):
    """Counts what is read beside the stream of whole events."""

    reads = 0

    async def read(self, stream: StreamId, *seqs: int) -> list[CheckpointEvent]:
        self.reads += 1
        return await super().read(stream, *seqs)


async def test_states_takes_each_snapshot_from_the_stream_itself(tmp_path: Path) -> None:
    async with CountingStore(tmp_path / "events.db") as store:
        storage = EventCheckpointStorage(store, allowed_checkpoint_types=[ORDER])
        await continued(storage, "order-1", steps=30, text="x" * 200)
        headers = [header async for header in store.headers(stream())]
        snapshots = [header for header in headers if header.payload and header.payload.base_seq is None]
        assert 1 < len(snapshots) < 20
        store.reads = 0
        audit = CheckpointAudit(store, allowed_checkpoint_types=[ORDER])
        assert len([header async for header, _ in audit.states(stream())]) == 30
        assert store.reads == 0


async def test_a_checkpoint_is_summed_up_as_the_tutorial_does(engine: Engine) -> None:
    waiting = checkpoint(
        iteration_count=2,
        pending_request_info_events=question("q7"),
        state={"_executor_state": {"writer": {}, "editor": {}}, "draft": "…"},
    )
    summary = get_checkpoint_summary(waiting)
    assert (summary.checkpoint_id, summary.workflow_name, summary.timestamp, summary.iteration_count) == (
        waiting.checkpoint_id,
        WORKFLOW,
        waiting.timestamp,
        2,
    )
    assert (summary.executor_ids, summary.targets, summary.messages) == (["editor", "writer"], [], {})
    assert [asked.request_id for asked in summary.pending_requests] == ["q7"]
    assert [event.request_id for event in summary.pending_request_info_events] == ["q7"]
    assert summary.status == "awaiting request response"
    running = get_checkpoint_summary(checkpoint(messages=message("writer", "text")))
    assert (running.status, running.targets) == ("awaiting next superstep", ["writer"])
    assert get_checkpoint_summary(checkpoint()).status == "idle"
