"""Commands that check: verify, doctor."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Final

import typer

from ..audit import Verdict
from ..rendering.checks import check_fields, settings_told, type_fields
from ..rendering.fields import summary_fields, verdict_fields
from ..rendering.words import is_only_newer, not_gone_yet, problem_text, removed_text, stream_text
from .options import MaybeRunName
from .output import Output
from .session import FOUND_WRONG, USAGE, Allow, Failure, Session, Workflow, command

__all__ = ["commands", "doctor", "verify"]

commands: Final = typer.Typer()


@command(commands, "verify")
async def verify(
    session: Session,
    run: MaybeRunName = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run of the store, or of a workflow.")] = False,
    workflow: Workflow = None,
    decode: Annotated[bool, typer.Option("--decode", help="Also read every state.")] = False,
    projection: Annotated[bool, typer.Option("--projection", help="Also compare the latest documents.")] = False,
) -> int:
    """Check that runs are what was written: digests, their chain, gaps, parts. Names the first bad event.

    Exits with 1 where something is wrong. Events that are recorded as removed and not gone yet are none.
    """
    if (run is None) != everything:
        raise Failure(USAGE, "Verify what? Give a run, or --all.")
    audit = await session.audit()
    what = audit.kind.stream
    runs = events = bad = newer = 0
    if run is not None:
        stream = await audit.run(run, workflow_name=workflow)
        verdict = await audit.verify(stream, decode=decode, projection=projection)
        runs, events, bad, newer = 1, verdict.events, int(not verdict.ok), int(is_only_newer(verdict))
        _report(session.out, verdict, what, each=True)
    else:
        with session.out.progress("events verified") as done:
            verdicts = audit.verify_all(workflow_name=workflow, decode=decode, projection=projection)
            async with aclosing(verdicts):
                async for verdict in verdicts:
                    runs, events, bad = (
                        runs + verdict.stream.is_run,
                        events + verdict.events,
                        bad + (not verdict.ok),
                    )
                    newer += is_only_newer(verdict)
                    _report(session.out, verdict, what, each=False)
                    done(events)
    session.out.record("summary", summary_fields(runs, events, bad))
    session.out.line(
        f"{events:,} events of {runs:,} {what}s verified: "
        + (f"{bad - newer:,} {what}s are NOT what was written." if bad > newer else "")
        + (" " if bad > newer > 0 else "")
        + (f"{newer:,} {what}s have events of a newer version, which this one cannot judge." if newer else "")
        + ("" if bad else "all is as it was written.")
    )
    return FOUND_WRONG if bad else 0


@command(commands, "doctor")
async def doctor(
    session: Session,
    allow: Allow = None,
    runs: Annotated[int, typer.Option(help="Look for types in so many of the newest runs; 0 for all.", min=0)] = 100,
    write: Annotated[bool, typer.Option("--write", help="Also try whether the store can be written.")] = False,
) -> int:
    """Check settings, rights and layout, and which types in the store the given allow-list would refuse."""
    audit = await session.audit(allow=allow, writes=write)
    for setting in settings_told():
        session.out.record("setting", setting)
        session.out.line(f"setting  {setting['name']}: {setting['value']}")
    wrong, what = 0, audit.kind.stream
    for check in await audit.checks():
        wrong += not check.ok
        session.out.record("check", check_fields(check))
        advice = "" if check.ok or not check.advice else f" {check.advice}"
        session.out.line(f"{'ok     ' if check.ok else 'WRONG  '}  {check.name}: {check.detail}.{advice}")
    for use in await audit.types(runs=runs or None):
        session.out.record("type", type_fields(use))
        if not use.allowed:
            session.out.line(
                f"refused  {use.name}, in the latest {audit.kind.entry} of {use.runs} {what}s, such as "
                f"{use.example.run_id}. "
                f"If you trust it: allowed_checkpoint_types=[{use.name!r}], here --allow {use.name}"
            )
    return FOUND_WRONG if wrong else 0


def _report(out: Output, verdict: Verdict, what: str, *, each: bool) -> None:
    stream = verdict.stream
    removed = verdict.removed
    is_closed = removed is not None and removed.seq == verdict.head_seq
    if out.as_json and (each or verdict.not_gone_yet or verdict.notes or not verdict.ok):
        out.record("verdict", verdict_fields(verdict))
    for note in verdict.notes:
        out.line(f"{stream_text(stream, what)}, {note}", style="yellow")
    for problem in verdict.problems:
        out.line(problem_text(stream, problem, what), style="red")
    if removed is not None and (each or (is_closed and removed.left)):
        out.line(removed_text(removed, what, head_seq=verdict.head_seq, time=out.time))
    if verdict.not_gone_yet and not is_closed:
        out.line(not_gone_yet(stream, verdict.not_gone_yet, what))
    if each and verdict.ok:
        pruned = f", {verdict.pruned:,} removed on record" if verdict.pruned else ""
        out.line(f"{stream_text(stream, what)}: {verdict.events:,} events{pruned}")
        out.line(f"head: seq {verdict.head_seq}, {verdict.head_digest}")
