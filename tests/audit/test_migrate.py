"""A run that waits is migrated, and ends as a run that never changed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest
from agent_framework import (
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowCheckpointException,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowMessage,
    handler,
    response_handler,
)

from eventckpt import CheckpointAudit, CheckpointConflictError, CheckpointEvent, EventCheckpointStorage, StreamId
from eventckpt.audit import Draft
from eventckpt.chain import flaw_of
from eventckpt.events import SCHEMA_OF_MIGRATIONS, Migration
from eventckpt.stores import AuditStore

from .. import checkpoint_types as app
from ..codec.values import VALUES
from ..engines import Engine, SqliteEngine
from ..fidelity import assert_same

ORDERS = "orders"
RUN = StreamId(ORDERS, "order-1")


@dataclass
class Approval:
    """What a person is asked."""

    total: int


TYPES = [f"{__name__}:Approval"]


class Clerk(Executor):
    """Prices an order, asks a person, and passes on the price with what they said."""

    def __init__(self, id: str) -> None:  # noqa: A002 - the framework's word
        super().__init__(id=id)
        self.seen = 0

    @handler
    async def price(self, number: int, ctx: WorkflowContext[int]) -> None:
        self.seen += 1
        ctx.set_state("number", number)
        await ctx.request_info(Approval(number * 10), bool)

    @response_handler
    async def answered(self, asked: Approval, said: bool, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(asked.total + self.seen + said)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"seen": self.seen}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class MovedClerk(Clerk):
    """The same, as it stands in another module by now."""


class Step(Executor):
    """Passes a number on, one higher."""

    @handler
    async def add(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number + 1)


class Report(Executor):
    """Puts out what comes in, one by one or together."""

    @handler
    async def one(self, number: int, ctx: WorkflowContext[Never, int]) -> None:
        await ctx.yield_output(number)

    @handler
    async def all(self, numbers: list[int], ctx: WorkflowContext[Never, list[int]]) -> None:
        await ctx.yield_output(sorted(numbers))


def straight(clerk: str = "clerk", report: str = "report", kind: type[Clerk] = Clerk) -> Workflow:
    first = kind(clerk)
    return WorkflowBuilder(start_executor=first, name=ORDERS).add_edge(first, Report(report)).build()


class Quiet(Executor):
    """Takes what comes."""

    @handler
    async def take(self, number: int, ctx: WorkflowContext) -> None: ...


def gathering(clerk: str = "clerk", step: str = "step", *, more: bool = False) -> Workflow:
    """The clerk and a step both feed the report, which waits for both: the step's message waits for the answer, too."""
    start, asks, adds, last = Step("start"), Clerk(clerk), Step(step), Report("report")
    builder = WorkflowBuilder(start_executor=start, name=ORDERS).add_fan_out_edges(start, [asks, adds])
    builder = builder.add_fan_in_edges([asks, adds], last)
    return builder.add_edge(asks, Quiet(id="extra")).build() if more else builder.build()


def nested(clerk: str = "clerk", kind: type[Clerk] = Clerk, outer: str = "inside") -> Workflow:
    inside = WorkflowExecutor(straight(clerk, kind=kind), id=outer, propagate_request=True)
    return WorkflowBuilder(start_executor=inside, name="outer").add_edge(inside, Report("out")).build()


Built = Callable[[], Workflow]


async def asked(engine: Engine, build: Built, run_id: str) -> str:
    """A run that waits for a person; the id of the request."""
    storage = engine.storage(allowed_checkpoint_types=TYPES)
    result = await build().run(4, checkpoint_storage=storage.for_run(run_id))
    [event] = result.get_request_info_events()
    return event.request_id


@pytest.fixture
async def sqlite_engine(tmp_path: Path) -> AsyncGenerator[Engine, None]:
    """Where one engine is enough, and another store than that of `engine`."""
    opened = SqliteEngine(tmp_path / "another.db")
    yield opened
    await opened.close()


async def ended(engine: Engine, build: Built, run_id: str, request: str) -> list[Any]:
    """What a run puts out once the question is answered, in a process of its own."""
    run = engine.storage(allowed_checkpoint_types=TYPES).for_run(run_id)
    workflow = build()
    latest = await run.get_latest(workflow_name=workflow.name)
    assert latest is not None
    result = await workflow.run(responses={request: True}, checkpoint_id=latest.checkpoint_id, checkpoint_storage=run)
    return result.get_outputs()


def audited(engine: Engine, **options: Any) -> CheckpointAudit:
    store = engine.open()
    assert isinstance(store, AuditStore)
    return CheckpointAudit(store, allowed_checkpoint_types=TYPES, actor="the operator", **options)


async def headers(engine: Engine, stream: StreamId = RUN) -> list[CheckpointEvent]:
    return [header async for header in engine.open().headers(stream)]


def renamed_clerk(checkpoint: Draft) -> None:
    checkpoint.rename_executor("clerk", "pricing")
    checkpoint.set_graph(straight("pricing"))


def moved_class(checkpoint: Draft) -> None:
    checkpoint.set_graph(straight(kind=MovedClerk))


def renamed_both(checkpoint: Draft) -> None:
    checkpoint.rename_executor("clerk", "pricing")
    checkpoint.rename_executor("step", "adding")
    checkpoint.set_graph(gathering("pricing", "adding"))


def added_node(checkpoint: Draft) -> None:
    checkpoint.set_graph(gathering(more=True))


def inside_sub_workflow(checkpoint: Draft) -> None:
    checkpoint.sub_workflow("inside").rename_executor("clerk", "pricing")
    checkpoint.rename_executor("inside", "pricing-flow")
    checkpoint.set_graph(nested("pricing", MovedClerk, "pricing-flow"))


CHANGES: dict[str, tuple[Built, Built, Callable[[Draft], None]]] = {
    "an executor has another id": (straight, lambda: straight("pricing"), renamed_clerk),
    "an executor's class is in another place": (straight, lambda: straight(kind=MovedClerk), moved_class),
    "executors around a fan-in have other ids": (gathering, lambda: gathering("pricing", "adding"), renamed_both),
    "the workflow has a node more": (gathering, lambda: gathering(more=True), added_node),
    "all of it inside a sub-workflow": (
        nested,
        lambda: nested("pricing", MovedClerk, "pricing-flow"),
        inside_sub_workflow,
    ),
}

each_change = pytest.mark.parametrize("change", CHANGES)


@each_change
async def test_a_migrated_run_ends_with_the_outputs_of_a_run_that_never_changed(engine: Engine, change: str) -> None:
    then, now, migration = CHANGES[change]
    stream = StreamId(then().name, "order-1")
    request, unchanged = await asked(engine, then, "order-1"), await asked(engine, then, "unchanged")
    with pytest.raises(WorkflowCheckpointException, match="graph has changed"):
        await ended(engine, now, "order-1", request)
    audit = audited(engine)
    await audit.migrate(await audit.plan_migration(stream, migration))
    outputs = await ended(engine, now, "order-1", request)
    wanted = await ended(engine, then, "unchanged", unchanged)
    assert outputs == wanted != []
    # And the log is whole: no fork, each state as its header says, the migration in the lineage.
    assert [found.run_id async for found in audit.store.streams() if found.run_id == "order-1"] == ["order-1"]
    assert (await audit.verify(stream, decode=True)).ok
    assert [step.problem async for step in audit.replay(stream) if step.problem] == []
    [root] = await audit.lineage(stream)
    made = [header.migration for header in await headers(engine, stream)]
    name = f"{__name__}:{migration.__name__}"
    assert [each for each in made if each] == [Migration(name=name, graph_before=then().graph_signature_hash)]
    names: list[str] = []
    while root.children:
        assert len(root.children) == 1
        names.append(root.checkpoint_id)
        [root] = root.children
    assert len(names) + 1 == len(made)


async def test_an_event_of_a_migration_says_what_it_was_and_no_other_event_changes(engine: Engine) -> None:
    await asked(engine, straight, "order-1")
    before = await headers(engine)
    audit = audited(engine)
    plan = await audit.plan_migration(RUN, renamed_clerk, name="v2")
    assert await headers(engine) == before
    header = await audit.migrate(plan)
    *rest, found = await headers(engine)
    assert rest == before
    assert SCHEMA_OF_MIGRATIONS not in {each.schema for each in rest}
    assert found == header
    last = before[-1]
    assert (found.seq, found.previous_checkpoint_id) == (last.seq + 1, last.checkpoint_id)
    assert (found.iteration_count, found.actor) == (last.iteration_count, "the operator")
    assert found.migration == Migration(name="v2", graph_before=straight().graph_signature_hash)
    assert found.graph_signature_hash == straight("pricing").graph_signature_hash
    assert found.schema >= SCHEMA_OF_MIGRATIONS
    assert found.summary.executor_ids == ("pricing", "report")
    assert [each.source_executor_id for each in found.summary.pending_requests] == ["pricing"]
    [info] = [info async for info in audit.runs()]
    assert (info.status, info.checkpoint_id, info.seq) == ("waiting", found.checkpoint_id, found.seq)
    [event] = await engine.open().read(RUN, found.seq)
    assert flaw_of(event) == ""
    assert "changed" in flaw_of(msgspec.structs.replace(event, migration=None))
    paths = {difference.path for difference in plan.differences}
    assert {"graph_signature_hash", "state._executor_state.pricing", "state._executor_state.clerk"} <= paths


async def test_the_same_migration_again_is_done_already(engine: Engine) -> None:
    request = await asked(engine, straight, "order-1")
    audit = audited(engine)
    first = await audit.plan_migration(RUN, renamed_clerk)
    retried = await audit.plan_migration(RUN, renamed_clerk)
    assert first.event is not None
    assert retried.event is not None
    assert first.event.checkpoint_id == retried.event.checkpoint_id
    made = await audit.migrate(first)
    assert await audit.migrate(first) == made
    with pytest.raises(CheckpointConflictError):
        await audit.migrate(retried)
    plan = await audit.plan_migration(RUN, renamed_clerk)
    assert (plan.event, plan.refused) == (None, "")
    assert plan.done.endswith(":renamed_clerk was applied already, at seq 3 of run 'order-1'")
    await ended(engine, lambda: straight("pricing"), "order-1", request)
    assert "was applied already" in (await audit.plan_migration(RUN, renamed_clerk)).done
    fork = await audit.fork(await audit.at(RUN, seq=3), "copy")
    assert (fork.migration, fork.schema) == (None, 1)
    assert "was applied already" in (await audit.plan_migration(fork.stream, renamed_clerk)).done
    with pytest.raises(ValueError, match="applied already"):
        await audit.migrate(plan)


async def test_a_prune_does_not_forget_a_migration(engine: Engine) -> None:
    request = await asked(engine, straight, "order-1")
    audit = audited(engine)
    await audit.migrate(await audit.plan_migration(RUN, renamed_clerk))
    await ended(engine, lambda: straight("pricing"), "order-1", request)
    async for plan in audit.plan_prune([RUN], keep=0):
        assert await audit.prune(plan) > 0
    assert "was applied already" in (await audit.plan_migration(RUN, renamed_clerk)).done
    assert (await audit.verify(RUN, decode=True)).ok


async def test_a_migration_that_was_deleted_is_due_again(engine: Engine) -> None:
    await asked(engine, straight, "order-1")
    audit = audited(engine)
    made = await audit.migrate(await audit.plan_migration(RUN, renamed_clerk))
    assert await engine.storage().delete(made.checkpoint_id)
    plan = await audit.plan_migration(RUN, renamed_clerk)
    assert plan.event is not None
    assert (plan.event.seq, plan.event.checkpoint_id) == (5, made.checkpoint_id)


async def test_a_new_run_begins_with_the_result_and_the_old_one_stays(engine: Engine) -> None:
    request = await asked(engine, straight, "order-1")
    before = await headers(engine)
    audit = audited(engine)
    first = await audit.migrate(await audit.plan_migration(RUN, renamed_clerk, run_id="order-1-v2"))
    assert (first.run_id, first.seq, first.schema) == ("order-1-v2", 1, SCHEMA_OF_MIGRATIONS)
    assert first.forked_from is not None
    assert (first.forked_from.run_id, first.forked_from.seq) == ("order-1", 2)
    assert await headers(engine) == before
    assert await ended(engine, lambda: straight("pricing"), "order-1-v2", request) == [42]
    assert await ended(engine, straight, "order-1", request) == [42]
    assert all([verdict.ok async for verdict in audit.verify_all(decode=True)])
    other = await audit.plan_migration(RUN, moved_class, run_id="order-1-v2")
    assert other.refused == "there is a run 'order-1-v2' of workflow 'orders' already"


async def test_a_run_that_is_there_is_not_begun_again(engine: Engine) -> None:
    await asked(engine, straight, "order-1")
    await asked(engine, straight, "taken")
    audit = audited(engine)
    late = await audit.plan_migration(RUN, renamed_clerk, run_id="later")
    assert "there is a run 'taken'" in (await audit.plan_migration(RUN, renamed_clerk, run_id="taken")).refused
    await asked(engine, straight, "later")
    with pytest.raises(CheckpointConflictError, match="Run 'later' of workflow 'orders' is there by now"):
        await audit.migrate(late)
    assert len(await headers(engine, StreamId(ORDERS, "later"))) == 2


async def test_a_run_that_has_moved_on_since_the_plan_is_left_as_it_is(engine: Engine) -> None:
    request = await asked(engine, straight, "order-1")
    audit = audited(engine)
    plan = await audit.plan_migration(RUN, renamed_clerk)
    await ended(engine, straight, "order-1", request)
    before = await headers(engine)
    with pytest.raises(CheckpointConflictError, match=r"was written to meanwhile.*wrote nothing at seq 3\. Plan again"):
        await audit.migrate(plan)
    assert await headers(engine) == before


# What is refused


def loses_its_executor(checkpoint: Draft) -> None:
    checkpoint.remove_executor("clerk")


def built_without_the_executor(checkpoint: Draft) -> None:
    checkpoint.set_graph(straight("pricing"))


def raises(checkpoint: Draft) -> None:
    raise KeyError("who knows")


def returns(checkpoint: Draft) -> Draft:
    return checkpoint


def changes_the_workflow(checkpoint: Draft) -> None:
    checkpoint.fields["workflow_name"] = "another"


def leaves_no_checkpoint(checkpoint: Draft) -> None:
    del checkpoint.fields["graph_signature_hash"]


def leaves_an_unknown_class(checkpoint: Draft) -> None:
    checkpoint.fields["state"]["more"] = {"$": "shop.gone:Order", "s": {}}


def leaves_a_live_object(checkpoint: Draft) -> None:
    checkpoint.fields["state"]["more"] = object()


def leaves_messages_of_another_kind(checkpoint: Draft) -> None:
    checkpoint.fields["messages"] = [1]


def leaves_no_fields(checkpoint: Draft) -> None:
    checkpoint.fields = None  # type: ignore[assignment] - what an application may do


def leaves_a_circle(checkpoint: Draft) -> None:
    checkpoint.fields["state"]["more"] = checkpoint.fields


def leaves_no_executor(checkpoint: Draft) -> None:
    checkpoint.fields["state"] = {}


def leaves_an_odd_graph(checkpoint: Draft) -> None:
    checkpoint.fields["graph_signature_hash"] = 7


def renames_what_is_not_there(checkpoint: Draft) -> None:
    checkpoint.rename_executor("cleric", "pricing")


def renames_onto_another(checkpoint: Draft) -> None:
    checkpoint.rename_executor("clerk", "report")


def sets_no_graph(checkpoint: Draft) -> None:
    checkpoint.set_graph("graph")  # type: ignore[arg-type] - what an application may pass


REFUSED: dict[Callable[[Draft], Any], str] = {
    loses_its_executor: "loses executor 'clerk', which asked it",
    built_without_the_executor: "loses executor 'clerk', which asked it; executor 'clerk' has a state and is gone",
    raises: "it raised KeyError",
    returns: "it returned 'Draft': a migration edits what it is given",
    changes_the_workflow: "it changed workflow_name",
    leaves_no_checkpoint: "what it leaves could not be loaded",
    leaves_an_unknown_class: "shop.gone:Order",
    leaves_a_live_object: "what it leaves is not as it is stored",
    leaves_messages_of_another_kind: "what it leaves could not be loaded: A stored checkpoint's messages is a list",
    leaves_no_fields: "what it leaves",
    leaves_a_circle: "what it leaves is not as it is stored",
    leaves_no_executor: "no executor is left",
    leaves_an_odd_graph: "graph_signature_hash is a int",
    renames_what_is_not_there: "there is none; there are 'clerk', 'report'",
    renames_onto_another: "there is one of that name already",
    sets_no_graph: "set_graph takes a built workflow, not str",
}


@pytest.mark.parametrize("migration", REFUSED, ids=lambda migration: migration.__name__)
async def test_what_could_not_be_resumed_is_refused_and_nothing_is_written(
    sqlite_engine: Engine, migration: Callable[[Draft], Any]
) -> None:
    await asked(sqlite_engine, straight, "order-1")
    before = await headers(sqlite_engine)
    plan = await audited(sqlite_engine).plan_migration(RUN, migration)
    assert plan.event is None
    assert REFUSED[migration] in plan.refused
    with pytest.raises(ValueError, match="is not to be migrated"):
        await audited(sqlite_engine).migrate(plan)
    assert await headers(sqlite_engine) == before


async def test_a_type_that_is_not_allowed_is_refused_with_its_key(sqlite_engine: Engine) -> None:
    await asked(sqlite_engine, straight, "order-1")
    store = sqlite_engine.open()
    assert isinstance(store, AuditStore)
    plan = await CheckpointAudit(store).plan_migration(RUN, renamed_clerk)
    assert TYPES[0] in plan.refused


async def test_messages_that_wait_at_edges_that_are_gone_are_a_reason_to_refuse(sqlite_engine: Engine) -> None:
    await asked(sqlite_engine, gathering, "order-1")

    def straightened(checkpoint: Draft) -> None:
        checkpoint.remove_executor("step")
        checkpoint.remove_executor("start")
        checkpoint.set_graph(straight())

    plan = await audited(sqlite_engine).plan_migration(RUN, straightened)
    assert 'messages wait at edges that are gone, FanInEdgeGroup:[["clerk","report"],["step","report"]]' in plan.refused


async def test_a_migration_that_changes_nothing_writes_nothing(sqlite_engine: Engine) -> None:
    await asked(sqlite_engine, straight, "order-1")
    plan = await audited(sqlite_engine).plan_migration(RUN, lambda checkpoint: None, name="nothing")
    assert (plan.event, plan.done, plan.refused) == (None, "it changes nothing", "")


async def test_what_is_no_plain_function_or_has_no_fit_name_is_told_at_once(sqlite_engine: Engine) -> None:
    await asked(sqlite_engine, straight, "order-1")
    audit = audited(sqlite_engine)

    async def later(checkpoint: Draft) -> None: ...

    for function, name, error in (
        (later, None, TypeError),
        (7, None, TypeError),
        (renamed_clerk, "", ValueError),
        (renamed_clerk, "x" * 256, ValueError),
    ):
        given: Any = function
        with pytest.raises(error):
            await audit.plan_migration(RUN, given, name=name)
    with pytest.raises(ValueError, match="run id"):
        await audit.plan_migration(RUN, renamed_clerk, run_id="")


# Drafts


def test_the_key_of_edges_is_the_frameworks() -> None:
    """The control: a draft computes it from public attributes."""
    for workflow in (straight(), gathering(), gathering(more=True)):
        draft = Draft({"state": {}}, None)
        draft.set_graph(workflow)
        graph: Any = draft._graph  # pyright: ignore[reportPrivateUsage]
        runner: Any = workflow._runner  # pyright: ignore[reportPrivateUsage]
        assert graph.edges == set(runner._edge_runner_state_keys)


async def test_a_running_run_takes_its_messages_along(sqlite_engine: Engine) -> None:
    """Those from outside, too, and one that stands in two places, which is stored once."""
    run = sqlite_engine.storage().for_run("order-1")
    twice = WorkflowMessage(data=1, source_id="clerk", target_id="report")
    await run.save(
        WorkflowCheckpoint(
            ORDERS,
            "graph",
            messages={
                "clerk": [twice],
                "internal:clerk": [WorkflowMessage(data=2, source_id="internal:clerk", target_id="clerk")],
            },
            state={
                "_executor_state": {"clerk": {"kept": twice}, "report": {}},
                "_edge_state": {'FanInEdgeGroup:[["clerk","report"],["x","report"]]': {"buffer": {"clerk": [twice]}}},
                "_workflow_run_kwargs": {
                    "client_kwargs": {"clerk": {"a": 1}},
                    "_raw_client_kwargs": {"clerk": {"a": 1}},
                },
                "_resolved_workflow_run_kwargs": {"client_kwargs": {"executor_kwargs": {"clerk": {"a": 1}}}},
                "_routed_workflow_run_kwargs": {"client_kwargs": ["clerk"]},
                "clerk": "the application's own",
            },
        )
    )
    audit = audited(sqlite_engine)
    await audit.migrate(await audit.plan_migration(RUN, lambda draft: draft.rename_executor("clerk", "a"), name="v2"))
    latest = await run.get_latest(workflow_name=ORDERS)
    assert latest is not None
    [message], [internal] = latest.messages["a"], latest.messages["internal:a"]
    assert (message.source_id, message.target_id) == ("a", "report")
    assert (internal.source_id, internal.target_id) == ("internal:a", "a")
    state = latest.state
    assert state["_executor_state"]["a"]["kept"] is message
    assert state["_edge_state"] == {'FanInEdgeGroup:[["a","report"],["x","report"]]': {"buffer": {"a": [message]}}}
    assert state["_workflow_run_kwargs"] == {"client_kwargs": {"a": {"a": 1}}, "_raw_client_kwargs": {"a": {"a": 1}}}
    assert state["_resolved_workflow_run_kwargs"] == {"client_kwargs": {"executor_kwargs": {"a": {"a": 1}}}}
    assert state["_routed_workflow_run_kwargs"] == {"client_kwargs": ["a"]}
    assert state["clerk"] == "the application's own"


# Elsewhere


async def test_an_export_brings_it_to_another_store(engine: Engine, sqlite_engine: Engine) -> None:
    request = await asked(engine, straight, "order-1")
    audit = audited(engine)
    await audit.migrate(await audit.plan_migration(RUN, renamed_clerk))
    lines = [line async for line in audit.export([RUN])]
    assert json.loads(lines[3])["migration"]["name"].endswith(":renamed_clerk")
    other = audited(sqlite_engine)
    assert (await other.import_lines(lines)).whole
    assert [each.digest for each in await headers(sqlite_engine)] == [each.digest for each in await headers(engine)]
    assert (await other.verify(RUN, decode=True)).ok
    assert await ended(sqlite_engine, lambda: straight("pricing"), "order-1", request) == [42]


async def test_a_run_of_0_1_0_is_migrated_and_what_is_not_edited_stays_as_it_was_saved(sqlite_engine: Engine) -> None:
    store = sqlite_engine.open()
    assert isinstance(store, AuditStore)
    audit = CheckpointAudit(store, allowed_checkpoint_types=app.ALLOWED)
    lines = (Path(__file__).parent.parent / "golden/0.1.0.jsonl").read_bytes().splitlines()
    assert (await audit.import_lines(lines)).whole

    def marked(checkpoint: Draft) -> None:
        assert checkpoint.shapes is None
        checkpoint.fields["state"]["mark"] = [1]

    storage = EventCheckpointStorage(store, allowed_checkpoint_types=app.ALLOWED)
    runs = [stream async for stream in store.streams()]
    assert len(runs) > 100
    for stream in runs:
        plan = await audit.plan_migration(stream, marked, name="v2")
        assert (plan.refused, [found.path for found in plan.differences]) == ("", ["state.mark"]), stream
        made = await audit.migrate(plan)
        restored, make = await storage.load(made.checkpoint_id), VALUES[stream.run_id]
        assert_same(restored.state, {"value": [make(), (make(),), app.Holder(make())], "mark": [1]})
    assert all([verdict.ok async for verdict in audit.verify_all(decode=True)])
