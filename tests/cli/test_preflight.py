"""`eventckpt preflight`: what it prints, how it ends, and what it leaves alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler

from eventckpt import SqliteCheckpointStorage

from ..snapshots import in_folder
from .conftest import WORKFLOW, Printed
from .programs import called

HERE = __name__


class Clerk(Executor):
    """Asks whether a number is right."""

    @handler
    async def ask(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.request_info(number, bool)

    @response_handler
    async def answered(self, number: int, answer: bool, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)


class Till(Executor):
    """The end."""

    @handler
    async def take(self, number: int, ctx: WorkflowContext) -> None: ...


def build() -> Workflow:
    clerk = Clerk(id="clerk")
    return WorkflowBuilder(start_executor=clerk, name=WORKFLOW).add_edge(clerk, Till(id="till")).build()


async def build_later() -> Workflow:
    return build()


def build_with_another_till() -> Workflow:
    clerk = Clerk(id="clerk")
    return WorkflowBuilder(start_executor=clerk, name=WORKFLOW).add_edge(clerk, Till(id="desk")).build()


def build_another() -> Workflow:
    return WorkflowBuilder(start_executor=Clerk(id="clerk"), name="another").build()


def build_nothing() -> None: ...


def fail() -> None:
    raise RuntimeError("no \x1b[2J database")


def leave() -> None:
    sys.exit(0)


async def leave_later() -> None:
    sys.exit(0)


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """One run that waits, `waits`, and one that is done, `ended`."""
    path = tmp_path / "store" / "checkpoints.db"
    path.parent.mkdir()
    async with SqliteCheckpointStorage(path) as storage:
        await build().run(7, checkpoint_storage=storage.for_run("waits"))
        workflow, run = build(), storage.for_run("ended")
        [asked] = (await workflow.run(8, checkpoint_storage=run)).get_request_info_events()
        await workflow.run(responses={asked.request_id: True}, checkpoint_storage=run)
    return path


async def preflight(store: Path, app: str, *words: str) -> Printed:
    words = ("preflight", "--app", app if ":" in app else f"{HERE}:{app}", *words)
    return await called("eventckpt", words, {"EVENTCKPT_STORE": str(store)})


@pytest.mark.parametrize("app", ["build", "build_later"])
async def test_where_every_unfinished_run_would_go_on_the_code_is_0(store: Path, app: str) -> None:
    printed = await preflight(store, app)
    assert printed.code == 0
    assert printed.out.splitlines() == [
        f"run waits of {WORKFLOW}, seq 2, waiting: loads",
        f"1 unfinished runs of {WORKFLOW} looked at: 1 loads. All would resume.",
    ]


async def test_where_one_would_not_the_code_is_1_and_the_reason_is_said(store: Path) -> None:
    printed = await preflight(store, "build_with_another_till")
    assert printed.code == 1
    assert printed.out.splitlines() == [
        f"run waits of {WORKFLOW}, seq 2, waiting: GRAPH DIFFERS",
        "    The executor 'till' is called 'desk' now.",
        f"1 unfinished runs of {WORKFLOW} looked at: 1 graph differs. 1 would NOT resume.",
    ]


async def test_json_has_a_record_for_each_run(store: Path) -> None:
    printed = await preflight(store, "build_with_another_till", "--json")
    [run] = printed.of("preflight")
    assert run["graph"] == {
        "changes": [{"kind": "executor", "name": "till", "text": "The executor 'till' is called 'desk' now."}],
        "is_all": True,
    }
    assert {name: run[name] for name in ("run_id", "workflow_name", "seq", "status", "outcome", "resumes")} == {
        "run_id": "waits", "workflow_name": WORKFLOW, "seq": 2, "status": "waiting", "outcome": "graph differs",
        "resumes": False,
    }  # fmt: skip
    [summary] = printed.of("summary")
    assert (summary["runs"], summary["would_not_resume"], summary["outcomes"]["graph differs"]) == (1, 1, 1)


async def test_runs_are_chosen_by_status_and_workflow(store: Path) -> None:
    async def chosen(app: str, *words: str) -> set[str]:
        return {run["run_id"] for run in (await preflight(store, app, "--json", *words)).of("preflight")}

    assert await chosen("build", "--status", "waiting,done") == {"waits", "ended"}
    assert await chosen("build", "--status", "running") == set()
    assert await chosen("build_another") == set(), "those of the workflow that was built"
    assert await chosen("build_another", "--workflow", WORKFLOW) == {"waits"}
    none = await preflight(store, "build_another")
    assert none.out == "0 unfinished runs of another looked at: none is there.\n", "whose, since a name may be mistaken"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "asleep"], "--status is running, waiting, open, done"),
        (["--on-drift", "ignore"], "--on-drift is error or warn"),
        (["--allow", "*"], "no application allows all types"),
        (["--allow", "no key"], "--allow: "),
        (["--app", "no name of code"], "module:callable"),
    ],
)
async def test_a_command_line_that_is_wrong_is_2(store: Path, words: list[str], said: str) -> None:
    printed = await preflight(store, "build", *words)
    assert (printed.code, printed.out) == (2, "")
    assert said in printed.err


@pytest.fixture
def broken_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "broken_shop.py").write_text("raise RuntimeError('no database')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("broken_shop", None)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("broken_shop:build", "broken_shop cannot be imported: RuntimeError: no database"),
        ("no_such_shop:build", "There is no module no_such_shop"),
        ("no_such_build", "has no no_such_build"),
        ("fail", "fail builds no workflow: RuntimeError: no \\x1b[2J database"),
        ("leave", "leave builds no workflow: SystemExit: 0"),
        ("leave_later", "leave_later builds no workflow: SystemExit: 0"),
        ("build_nothing", "build_nothing gives no workflow: "),
    ],
)
async def test_an_application_that_does_not_import_or_build_is_4_and_nothing_is_written(
    store: Path, broken_application: None, app: str, said: str
) -> None:
    before: Any = in_folder(store.parent)
    printed = await preflight(store, app)
    assert (printed.code, printed.out) == (4, "")
    assert said in printed.err
    assert in_folder(store.parent) == before
