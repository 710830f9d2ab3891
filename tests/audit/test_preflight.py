"""A preflight says of each unfinished run what a real resume of it, by the application as it is now, then does."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final, Never

import pytest
from agent_framework import Executor, WorkflowBuilder, WorkflowContext, handler, response_handler

from eventckpt import CheckpointAudit, SqliteCheckpointStorage
from eventckpt.audit import Preflight

from . import deployments as d
from .deployments import APP, APP_OF_THREE, Deployment, Found

DEPLOYMENTS: Final[dict[str, Deployment]] = {
    "nothing_changed": Deployment(APP, "loads"),
    "a_field_with_a_default_more": Deployment(APP.replace("= 7", "= 7\n    notes: list = field(default_factory=list)"), "loads"),
    "a_required_field_more": Deployment(
        APP.replace("number: int = 7", "number: int\n    customer: str"), "drifts", "a_required_field_more:Order' has changed since the value was stored: 'customer'"
    ),
    "a_field_less": Deployment(APP.replace("number: int = 7", "customer: str = ''"), "drifts", "'number' has a stored value"),
    "a_renamed_member": Deployment(
        APP.replace("int = 7", "int = 7\n\nclass Level(Enum):\n    LOW = 1").replace("send_message(number)", "send_message(number)\n        ctx.set_state('level', Level.LOW)"),
        "drifts", "has no member 'HIGH' any more; by its value it is 'LOW'", allowed=("Order", "Level"),
        then=APP.replace("int = 7", "int = 7\n\nclass Level(Enum):\n    HIGH = 1").replace("send_message(number)", "send_message(number)\n        ctx.set_state('level', Level.HIGH)"),
    ),
    "a_class_that_is_gone": Deployment(APP.replace("class Order", "class Purchase"), "cannot load", "Order"),
    "a_class_that_moved_with_an_upcaster": Deployment(
        APP.replace("class Order", "class Purchase")
        + "\nfrom eventckpt import Upcaster, register_upcaster\n"
        + "register_upcaster(Upcaster(f'{__name__}:Order', to=f'{__name__}:Purchase'))\n",
        "loads", allowed=("Purchase",),
    ),
    "a_type_that_is_not_allowed": Deployment(APP, "cannot load", "allowed_checkpoint_types", allowed=()),
    "a_damaged_checkpoint": Deployment(APP, "cannot load", "seq"),
    "an_executor_more": Deployment(
        APP_OF_THREE.replace(".add_edge(printer, till)", ""), "graph differs", "The executor 'printer' is new."
    ),
    "an_executor_in_between": Deployment(
        APP_OF_THREE.replace(".add_edge(clerk, till)", ""), "graph differs", "The executor 'printer' is new."
    ),
    "an_executor_less": Deployment(
        APP, "graph differs", "The executor 'printer' is gone", then=APP_OF_THREE.replace(".add_edge(printer, till)", "")
    ),
    "an_executor_of_another_name": Deployment(
        APP.replace('id="clerk"', 'id="desk"'), "graph differs", "The executor 'clerk' is called 'desk' now."
    ),
    "an_executor_of_another_class": Deployment(
        APP.replace("Clerk", "Cashier") + "\nclass Clerk(Cashier): pass\n", "graph differs",
        "The executor 'clerk' is of the class an_executor_of_another_class.Cashier; "
        "it was of an_executor_of_another_class.Clerk.",
    ),
    "an_executor_in_another_module": Deployment(
        d.ORDER + d.CLERK_ELSEWHERE + d.TILL + d.BUILD, "graph differs",
        "is of the class an_executor_in_another_module_desk.Clerk; it was of an_executor_in_another_module.Clerk.",
        more=d.CLERK.replace("Order(number)", "number"),
    ),
    "an_edge_more": Deployment(
        APP_OF_THREE, "graph differs", "The edge 'clerk' → 'till' is new.", then=APP_OF_THREE.replace(".add_edge(clerk, till)", "")
    ),
    "an_edge_less": Deployment(
        APP_OF_THREE.replace(".add_edge(clerk, till)", ""), "graph differs", "The edge 'clerk' → 'till' is gone.", then=APP_OF_THREE
    ),
    "an_edge_to_another_executor": Deployment(
        APP_OF_THREE.replace("(printer, till)", "(printer, clerk)"), "graph differs", "The edge 'printer' → 'till' is gone.",
        then=APP_OF_THREE,
    ),
    "an_edge_with_a_condition": Deployment(
        APP.replace("(clerk, till)", "(clerk, till, condition=is_large)") + "\ndef is_large(number): return number > 3\n",
        "graph differs", "The edge 'clerk' → 'till' has the condition 'is_large'; it had none.",
    ),
    "more_than_can_be_told": Deployment(
        APP_OF_THREE.replace("printer", "desk").replace("clerk", "front").replace("till", "back"), "graph differs",
        "The executor 'front' is new.", is_all=False,
    ),
    "a_functional_workflow": Deployment(d.FUNCTIONAL, "loads", then=d.FUNCTIONAL, allowed=()),
    "a_functional_workflow_with_other_code": Deployment(
        d.FUNCTIONAL.replace("number * 2", "number * 3"), "graph differs", "of which code is compared", then=d.FUNCTIONAL, allowed=()
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    folder = tmp_path_factory.mktemp("deployment")
    damage(d.begin(folder, DEPLOYMENTS), "a_damaged_checkpoint")
    return d.look_and_resume(folder, DEPLOYMENTS)


def damage(store: Path, run_id: str) -> None:
    """Change a byte in what each checkpoint of a run holds."""
    with sqlite3.connect(store) as connection:
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
