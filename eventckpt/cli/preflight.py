"""The command that is asked before a deployment: which unfinished runs the application, as it is now, goes on with."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import Annotated, Final

import typer

from ..answers.programs import built
from ..audit import ANY_TYPE, Preflight
from ..audit.preflight import UNFINISHED, Outcome
from ..codec import OnDrift
from ..events import RunStatus
from ..rendering.filters import statuses_in
from ..runs import ENDED
from ..text import cell
from .options import App
from .session import FOUND_WRONG, USAGE, Failure, Session, command

__all__ = ["commands", "preflight"]

commands: Final = typer.Typer()

_STATUSES: Final[tuple[RunStatus, ...]] = (*UNFINISHED, *ENDED)
_ON_DRIFT: Final[dict[str, OnDrift]] = {"error": "error", "warn": "warn"}
_SAID: Final[dict[Outcome, str]] = {
    "loads": "loads",
    "drifts": "DRIFTS",
    "cannot load": "CANNOT LOAD",
    "graph differs": "GRAPH DIFFERS",
}


@command(commands, "preflight", of_runs="a session has no graph that a workflow could differ from.")
async def preflight(
    session: Session,
    app: App,
    workflow: Annotated[
        str | None, typer.Option("--workflow", "-w", help="Runs of this workflow, instead of the one that was built.")
    ] = None,
    status: Annotated[str, typer.Option(help="Runs that stand so; several with commas.")] = ",".join(UNFINISHED),
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A type that the application's storages allow, module:qualname. Repeat it."),
    ] = None,
    on_drift: Annotated[str, typer.Option(help="As the application's storages have it: error or warn.")] = "error",
) -> int:
    """Say which unfinished runs the application, as it is here, would go on with: made for before a deployment.

    Imports the application and builds its workflow, which is not run; the store is only read. Exits with 1 where a run
    would not resume.
    """
    statuses = statuses_in(status, _STATUSES)
    if ANY_TYPE in (allow or ()):
        raise Failure(USAGE, "--allow: no application allows all types; name those that its storages allow.")
    if on_drift not in _ON_DRIFT:
        raise Failure(USAGE, f"--on-drift is {' or '.join(_ON_DRIFT)}, not {on_drift!r}.")
    workflow_now = await built(app)
    audit = await session.audit(allow=allow, on_drift=_ON_DRIFT[on_drift])
    outcomes: Counter[str] = Counter()
    stuck = 0
    found = audit.preflight(workflow_now, workflow_name=workflow, statuses=statuses)
    async with aclosing(found) as runs:
        with session.out.progress("runs looked at") as done:
            async for run in runs:
                outcomes[run.outcome] += 1
                stuck += not run.resumes
                done(outcomes.total())
                _report(session, run)
    counts = {outcome: outcomes[outcome] for outcome in _SAID}
    name = workflow_now.name if workflow is None else workflow
    session.out.record(
        "summary",
        {"workflow_name": name, "runs": outcomes.total(), "would_not_resume": stuck, "outcomes": counts},
    )
    session.out.line(
        f"{outcomes.total():,} unfinished runs of {cell(name)} looked at: "
        + (", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count) or "none is there")
        + (f". {stuck:,} would NOT resume." if stuck else ". All would resume." if outcomes else ".")
    )
    return FOUND_WRONG if stuck else 0


def _report(session: Session, run: Preflight) -> None:
    info, graph = run.info, run.graph
    changes = graph.changes if graph is not None else ()
    session.out.record(
        "preflight",
        {
            "workflow_name": info.workflow_name,
            "run_id": info.run_id,
            "seq": info.checkpoint_seq,
            "status": info.status,
            "outcome": run.outcome,
            "resumes": run.resumes,
            "why": run.why or None,
            "drifts": [drift._asdict() for drift in run.drifts],
            "graph": None
            if graph is None
            else {"changes": [each._asdict() for each in changes], "is_all": graph.is_all},
        },
    )
    style = "" if run.outcome == "loads" else "yellow" if run.resumes else "red"
    head = f"run {cell(info.run_id)} of {cell(info.workflow_name)}, seq {info.checkpoint_seq}, {info.status}"
    session.out.line(f"{head}: {_SAID[run.outcome]}", style=style)
    for text in _reasons(run):
        session.out.line(f"    {text}", style=style)


def _reasons(run: Preflight) -> list[str]:
    texts = [drift.text for drift in run.drifts]
    if run.why and run.outcome == "cannot load":
        texts.append(run.why)
    if run.drifts and run.why and run.outcome != "cannot load":
        texts.append('With on_drift="warn" the storage would go on, and warn; as it is, a load is refused.')
    if run.graph is not None:
        texts += [change.text for change in run.graph.changes]
        if not run.graph.is_all:
            more = (
                "Whether that is all cannot be told."
                if run.graph.changes
                else "Its graph differs; in what cannot be told."
            )
            texts.append(more)
    return texts
