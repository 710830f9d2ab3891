"""A preflight says of each unfinished run what a real resume of it, by the application as it is now, then does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from agent_framework import (
    Executor,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)

from eventckpt import CheckpointAudit, SqliteCheckpointStorage, Upcaster
from eventckpt.events import RunStatus

from . import deployments as d
from .deployments import Deployment, Found

_AN_ORDER = "number: int = 7"

DEPLOYMENTS: Final[dict[str, Deployment]] = {
    "nothing_changed": Deployment(d.APP, "loads"),
    "a_field_with_a_default_more": Deployment(
        d.APP.replace(_AN_ORDER, f"{_AN_ORDER}\n    notes: list = field(default_factory=list)"), "loads"
    ),
    "a_required_field_more": Deployment(
        d.APP.replace(_AN_ORDER, "number: int\n    customer: str"),
        "drifts",
        "'a_required_field_more:Order' has changed since the value was stored: 'customer'",
    ),
    "a_field_less": Deployment(
        d.APP.replace(_AN_ORDER, "customer: str = ''"), "drifts", "'number' has a stored value, and is no field"
    ),
    "a_member_of_another_name": Deployment(
        d.APP_WITH_LEVELS.replace("HIGH", "LOW"),
        "drifts",
        "has no member 'HIGH' any more; by its value it is 'LOW'",
        then=d.APP_WITH_LEVELS,
        allowed=("Order", "Level"),
    ),
    "a_class_that_is_gone": Deployment(d.APP.replace("Order", "Purchase"), "cannot load", "Order"),
    "a_class_of_another_name_with_an_upcaster": Deployment(
        d.APP.replace("Order", "Purchase") + d.UPCASTER, "loads", allowed=("Purchase",)
    ),
    "a_type_that_is_not_allowed": Deployment(d.APP, "cannot load", "allowed_checkpoint_types", allowed=()),
    "a_damaged_checkpoint": Deployment(d.APP, "cannot load", "seq"),
    "an_executor_more": Deployment(d.A_FORK, "graph differs", "The executor 'printer' is new."),
    "an_executor_in_between": Deployment(d.A_ROW, "graph differs", "The executor 'printer' is new."),
    "an_executor_less": Deployment(d.APP, "graph differs", "The executor 'printer' is gone", then=d.A_FORK),
    "an_executor_less_in_between": Deployment(d.APP, "graph differs", "The executor 'printer' is gone", then=d.A_ROW),
    "an_executor_of_another_name": Deployment(
        d.APP.replace('id="clerk"', 'id="desk"'), "graph differs", "The executor 'clerk' is called 'desk' now."
    ),
    "an_executor_of_another_class": Deployment(
        d.APP.replace("Clerk", "Cashier") + "\nclass Clerk(Cashier): pass\n",
        "graph differs",
        "The executor 'clerk' is of the class an_executor_of_another_class.Cashier; "
        "it was of an_executor_of_another_class.Clerk.",
    ),
    "an_executor_in_another_module": Deployment(
        d.ORDER + d.CLERK_ELSEWHERE + d.TILL + d.BUILD,
        "graph differs",
        "is of the class an_executor_in_another_module_desk.Clerk; it was of an_executor_in_another_module.Clerk.",
        more=d.CLERK,
    ),
    "an_edge_more": Deployment(d.A_TRIANGLE, "graph differs", "The edge 'clerk' → 'till' is new.", then=d.A_ROW),
    "an_edge_less": Deployment(d.A_ROW, "graph differs", "The edge 'clerk' → 'till' is gone.", then=d.A_TRIANGLE),
    "an_edge_to_another_executor": Deployment(
        d.A_TRIANGLE.replace("(printer, till)", "(printer, clerk)"),
        "graph differs",
        "The edge 'printer' → 'till' is gone.",
        then=d.A_TRIANGLE,
    ),
    "an_edge_with_a_condition": Deployment(
        d.APP.replace("(clerk, till)", "(clerk, till, condition=is_large)") + "\ndef is_large(it): return it > 3\n",
        "graph differs",
        "The edge 'clerk' → 'till' has the condition 'is_large'; it had none.",
    ),
    "more_than_can_be_told": Deployment(
        d.A_TRIANGLE.replace("printer", "desk").replace("clerk", "front").replace("till", "back"),
        "graph differs",
        "The executor 'front' is new.",
        is_all=False,
    ),
    "a_functional_workflow": Deployment(d.FUNCTIONAL, "loads", then=d.FUNCTIONAL, allowed=()),
    "a_functional_workflow_with_other_code": Deployment(
        d.FUNCTIONAL.replace("number * 2", "number * 3"),
        "graph differs",
        "of which code is compared",
        then=d.FUNCTIONAL,
        allowed=(),
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    folder = tmp_path_factory.mktemp("deployment")
    damage(d.begin(folder, DEPLOYMENTS), "a_damaged_checkpoint")
    return d.look_and_resume(folder, DEPLOYMENTS)


def damage(store: Path, run_id: str) -> None:
    """Change a byte in what each checkpoint of a run holds."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DROP TRIGGER events_are_immutable")
        connection.execute("UPDATE events SET data = zeroblob(length(data)) WHERE run_id = ?", (run_id,))
    connection.close()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_deployment_is_told_of_with_the_reason(found: dict[str, Found], name: str) -> None:
    wanted, told = DEPLOYMENTS[name], found[name].preflight
    assert told["outcome"] == wanted.outcome
    assert wanted.said in "\n".join(_reasons(told))
    if wanted.outcome == "graph differs":
        assert told["is_all"] == wanted.is_all


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_it_agrees_with_a_real_resume(found: dict[str, Found], name: str) -> None:
    one = found[name]
    resumes = {"error": one.preflight["resumes"], "warn": one.resumes_with_warn}
    assert resumes == {how: not said.startswith("!") for how, said in one.resumed.items()}, one.resumed


def test_what_drifts_goes_on_where_drift_is_only_warned_of(found: dict[str, Found]) -> None:
    drifting = {name for name, each in DEPLOYMENTS.items() if each.outcome == "drifts"}
    assert {found[name].outcome_with_warn for name in drifting} == {"drifts"}
    assert all(found[name].resumes_with_warn for name in drifting)
    assert [drift["name"] for drift in found["a_field_less"].preflight["drifts"]] == ["number"]


def _reasons(told: dict[str, Any]) -> list[str]:
    return [told["why"], *(each["text"] for each in (*told["drifts"], *(told["graph"] or ())))]


# In this process


class Clerk(Executor):
    """Asks, and is done with the answer."""

    @handler
    async def ask(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.request_info(number, bool)

    @response_handler
    async def answered(self, number: int, answer: bool, ctx: WorkflowContext[int]) -> None: ...


def orders(name: str = "orders") -> WorkflowBuilder:
    return WorkflowBuilder(start_executor=Clerk(id="clerk"), name=name)


async def begin(storage: SqliteCheckpointStorage, run_id: str, *, finish: bool = False, name: str = "orders") -> None:
    workflow, run = orders(name).build(), storage.for_run(run_id)
    [asked] = (await workflow.run(7, checkpoint_storage=run)).get_request_info_events()
    if finish:
        await workflow.run(responses={asked.request_id: True}, checkpoint_storage=run)


async def asked_about(audit: CheckpointAudit, workflow: object, **which: Any) -> dict[str, str]:
    return {each.info.run_id: each.outcome async for each in audit.preflight(workflow, **which)}


async def test_runs_that_are_done_or_of_another_workflow_or_without_a_checkpoint_are_left_out(tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(tmp_path / "checkpoints.db") as storage:
        await begin(storage, "waits")
        await begin(storage, "done", finish=True)
        await begin(storage, "other", name="refunds")
        await begin(storage, "deleted")
        run = storage.for_run("deleted")
        for checkpoint_id in await run.list_checkpoint_ids(workflow_name="orders"):
            await run.delete(checkpoint_id)
        audit, built = CheckpointAudit(storage.store), orders().build()
        assert await asked_about(audit, built) == {"waits": "loads"}
        done: Sequence[RunStatus] = ("done",)
        assert await asked_about(audit, built, statuses=done) == {"done": "loads"}
        assert await asked_about(audit, built, workflow_name="refunds") == {"other": "loads"}


async def test_a_workflow_may_be_given_as_its_builder_or_its_agent(tmp_path: Path) -> None:
    @executor(id="clerk")
    async def hear(messages: list[Any], ctx: WorkflowContext) -> None: ...

    async with SqliteCheckpointStorage(tmp_path / "checkpoints.db") as storage:
        await begin(storage, "waits")
        audit = CheckpointAudit(storage.store)
        assert await asked_about(audit, orders()) == {"waits": "loads"}
        agent = WorkflowBuilder(start_executor=hear, name="orders").build().as_agent()
        assert await asked_about(audit, agent, workflow_name="orders") == {"waits": "graph differs"}


@dataclass
class Order:
    number: int


@dataclass
class Purchase:
    number: int


async def test_an_audit_decodes_with_the_upcasters_that_it_was_given(tmp_path: Path) -> None:
    old, new = f"{__name__}:Order", f"{__name__}:Purchase"
    async with SqliteCheckpointStorage(tmp_path / "checkpoints.db", allowed_checkpoint_types=[old]) as storage:
        workflow = orders().build()
        saved = WorkflowCheckpoint("orders", workflow.graph_signature_hash, state={"order": Order(7)})
        await storage.for_run("waits").save(saved)
        without = CheckpointAudit(storage.store, allowed_checkpoint_types=[new])
        assert await asked_about(without, workflow) == {"waits": "cannot load"}
        audit = CheckpointAudit(storage.store, allowed_checkpoint_types=[new], upcasters=[Upcaster(old, to=new)])
        assert await asked_about(audit, workflow) == {"waits": "loads"}
        assert (await audit.checkpoint(await audit.event("waits@1"))).state == {"order": Purchase(7)}


@pytest.mark.parametrize("given", [None, "orders", orders, WorkflowBuilder, Clerk(id="clerk")])
async def test_what_is_no_workflow_is_refused(tmp_path: Path, given: object) -> None:
    async with SqliteCheckpointStorage(tmp_path / "checkpoints.db") as storage:
        with pytest.raises(TypeError, match="workflow is a workflow of agent_framework"):
            CheckpointAudit(storage.store).preflight(given)
