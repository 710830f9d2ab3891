"""Applications before and after a deployment, as modules on disk, and what becomes of the runs that wait meanwhile.

Each case is a module of its own: what it was when its run began, and what it is now. One process begins all runs; one
asks the preflight about each, and then resumes it with the framework.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HEAD = """
from dataclasses import dataclass, field
from enum import Enum
from typing import Never
from agent_framework import (
    Executor, WorkflowBuilder, WorkflowContext, RunContext, handler, response_handler, step, workflow
)
"""
ORDER = """
@dataclass
class Order:
    number: int = 7
"""
CLERK = """
class Clerk(Executor):
    @handler
    async def take(self, number: int, ctx: WorkflowContext[int]) -> None:
        ctx.set_state("order", Order(number))
        await ctx.send_message(number)
"""
CLERK_ELSEWHERE = """
from {name}_desk import Clerk
"""
TILL = """
class Till(Executor):
    @handler
    async def ask(self, number: int, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info(number, bool)

    @response_handler
    async def answered(self, number: int, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{vars(ctx.get_state('order'))} {answer}")
"""
PRINTER = """
class Printer(Executor):
    @handler
    async def print(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)
"""
BUILD = """
def build():
    clerk, till = Clerk(id="clerk"), Till(id="till")
    return WorkflowBuilder(start_executor=clerk, name=__name__).add_edge(clerk, till).build()
"""
BUILD_THREE = """
def build():
    clerk, printer, till = Clerk(id="clerk"), Printer(id="printer"), Till(id="till")
    return (WorkflowBuilder(start_executor=clerk, name=__name__)
            .add_edge(clerk, till).add_edge(clerk, printer).add_edge(printer, till).build())
"""
FUNCTIONAL = """
@step
async def price(number: int) -> int:
    return number * 2

@workflow(name=__name__)
async def flow(number: int, ctx: RunContext) -> str:
    total = await price(number)
    answer = await ctx.request_info({"total": total}, bool, request_id="q1")
    return f"{total} {answer}"

build = flow.build if hasattr(flow, "build") else lambda: flow
"""
LEVELS = """
class Level(Enum):
    HIGH = 1

class Clerk(Executor):
    @handler
    async def take(self, number: int, ctx: WorkflowContext[int]) -> None:
        ctx.set_state("order", Order(number))
        ctx.set_state("level", next(iter(Level)))
        await ctx.send_message(number)
"""
UPCASTER = """
from eventckpt import Upcaster, register_upcaster
register_upcaster(Upcaster("{name}:Order", to="{name}:Purchase"))
"""
APP = ORDER + CLERK + TILL + BUILD
APP_WITH_LEVELS = ORDER + LEVELS + TILL + BUILD
A_TRIANGLE = ORDER + CLERK + TILL + PRINTER + BUILD_THREE
"""The clerk sends to the till and to the printer, and the printer to the till."""
A_ROW = A_TRIANGLE.replace(".add_edge(clerk, till)", "")
A_FORK = A_TRIANGLE.replace(".add_edge(printer, till)", "")


class Deployment(NamedTuple):
    """An application that changes while one of its runs waits."""

    now: str
    """The source of the module now; `HEAD` goes before it."""
    outcome: str
    """What the preflight is to say: `loads`, `drifts`, `cannot load`, `graph differs`."""
    said: str = ""
    """In the reasons."""
    then: str = APP
    is_all: bool = True
    """Whether what the preflight names of the graph is all that differs."""
    allowed: tuple[str, ...] = ("Order",)
    """Classes of the module that its storage allows now."""
    more: str = ""
    """The source of a second module, `…_desk`."""


class Found(NamedTuple):
    """What was found of a run."""

    preflight: dict[str, Any]
    outcome_with_warn: str
    resumes_with_warn: bool
    resumed: dict[str, str]
    """What a real resume gave, by `on_drift`: the output, or the error after "!"."""


_HARNESS = """
import asyncio, importlib, json, logging, sys
logging.disable(50)
from eventckpt import CheckpointAudit, SqliteCheckpointStorage

def storage(case, store, **options):
    allowed = [f"{case['name']}:{name}" for name in case["allowed"]]
    return SqliteCheckpointStorage(store, allowed_checkpoint_types=allowed, **options)

async def every(store, cases, work):
    for case in cases:
        done = await work(case, importlib.import_module(case["name"]), store) or {}
        print(json.dumps({"name": case["name"], **done}))

def main(work):
    asyncio.run(every(sys.argv[1], json.load(sys.stdin), work))
"""
_BEGIN = """
async def begin(case, module, store):
    async with storage(case, store) as checkpoints:
        await module.build().run(7, checkpoint_storage=checkpoints.for_run(case["name"]))

main(begin)
"""
_LOOK_AND_RESUME = """
async def asked(case, module, store, on_drift):
    async with storage(case, store) as checkpoints:
        allowed = [f"{case['name']}:{name}" for name in case["allowed"]]
        audit = CheckpointAudit(checkpoints.store, allowed_checkpoint_types=allowed, on_drift=on_drift)
        return [found async for found in audit.preflight(module.build())]

async def resumed(case, module, store, on_drift):
    async with storage(case, store, on_drift=on_drift) as checkpoints:
        audit = CheckpointAudit(checkpoints.store)
        info = await audit.info(await audit.run(case["name"]))
        asked = [request.request_id for request in info.pending_requests] or ["q1"]
        run = checkpoints.for_run(case["name"])
        try:
            result = await module.build().run(
                responses=dict.fromkeys(asked, True), checkpoint_id=info.checkpoint_id, checkpoint_storage=run
            )
        except Exception as error:
            return f"!{type(error).__name__}: {error}"
        return str(result.get_outputs())

async def look(case, module, store):
    [found] = await asked(case, module, store, "error")
    [warned] = await asked(case, module, store, "warn")
    graph = found.graph
    return {
        "preflight": {
            "outcome": found.outcome, "resumes": found.resumes, "why": found.why,
            "drifts": [drift._asdict() for drift in found.drifts],
            "graph": None if graph is None else [change._asdict() for change in graph.changes],
            "is_all": None if graph is None else graph.is_all,
        },
        "outcome_with_warn": warned.outcome,
        "resumes_with_warn": warned.resumes,
        # on a copy each, since a run that went on is finished
        "resumed": {how: await resumed(case, module, copied(store, how), how) for how in ("error", "warn")},
    }

def copied(store, how):
    import sqlite3
    path = f"{store}.{how}"
    with sqlite3.connect(store) as whole, sqlite3.connect(path) as copy:
        whole.backup(copy)
    return path

main(look)
"""


def begin(folder: Path, deployments: Mapping[str, Deployment]) -> Path:
    """Begin a run of each application as it was, in a process of its own. Gives the path of the store."""
    store = folder / "checkpoints.db"
    before = {name: each._replace(allowed=("Order", "Level")) for name, each in deployments.items()}
    _run(_write(folder / "then", {name: each.then for name, each in before.items()}), _BEGIN, store, before)
    return store


def look_and_resume(folder: Path, deployments: Mapping[str, Deployment]) -> dict[str, Found]:
    """Ask about each run in a process that has the applications as they are now, and resume it."""
    sources = {name: each.now for name, each in deployments.items()}
    sources |= {f"{name}_desk": each.more for name, each in deployments.items() if each.more}
    found = _run(_write(folder / "now", sources), _LOOK_AND_RESUME, folder / "checkpoints.db", deployments)
    return {each.pop("name"): Found(**each) for each in found}


def _write(folder: Path, sources: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(HEAD + source.replace("{name}", name.removesuffix("_desk")))
    return folder


def _run(app: Path, code: str, store: Path, deployments: Mapping[str, Deployment]) -> list[dict[str, Any]]:
    cases = [{"name": name, "allowed": each.allowed} for name, each in deployments.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _HARNESS + code, str(store)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(app), str(Path(__file__).parents[2])])},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
