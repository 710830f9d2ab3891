"""The command that says something about a run: how it ended, its tags, a hold."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ..rendering.fields import event_fields
from ..rendering.filters import tags_in
from ..rendering.words import about_text
from .options import Actor, RunName
from .session import USAGE, Failure, Session, Workflow, command

__all__ = ["annotate", "commands"]

commands: Final = typer.Typer()


@command(commands, "annotate", of_runs="annotations are of runs, and nothing is said about a session.")
async def annotate(
    session: Session,
    run: RunName,
    outcome: Annotated[
        str | None, typer.Option(help="How it ended, until its next checkpoint: done, failed or cancelled.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, with --outcome only.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Set this tag, name=value. Repeat it.")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="Take the tag of this name away. Repeat it.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Nothing of it may be removed from here on.")] = False,
    no_hold: Annotated[bool, typer.Option("--no-hold", help="Lift that.")] = False,
    workflow: Workflow = None,
    actor: Actor = None,
) -> None:
    """Say something about a run: how it ended, tags, a hold. Whoever writes to the run goes on behind it."""
    tags: dict[str, Any] = tags_in(tag)
    if both := sorted(tags.keys() & set(untag or ())):
        raise Failure(USAGE, f"--tag and --untag of {both[0]!r}: give one of them.")
    if hold and no_hold:
        raise Failure(USAGE, "--hold and --no-hold: give one of them.")
    audit = await session.audit(actor=actor, writes=True)
    stream = await audit.run(run, workflow_name=workflow)
    said: dict[str, Any] = {
        "outcome": outcome,
        "reason": reason,
        "tags": tags | dict.fromkeys(untag or ()),
        "hold": hold if hold or no_hold else None,
    }
    try:
        event = await audit.annotate(stream, **said)
    except (TypeError, ValueError) as error:
        raise Failure(USAGE, str(error)) from error
    session.out.record("event", event_fields(event))
    session.out.line(f"run {stream.run_id} of {stream.workflow_name}, seq {event.seq}: {about_text(event)}")
