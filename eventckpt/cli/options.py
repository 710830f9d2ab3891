"""Arguments and options that several commands have, and what is made of them."""

from __future__ import annotations

from typing import Annotated

import typer

from ..audit import CheckpointAudit
from ..events import StreamId

__all__ = ["Actor", "CheckpointName", "Full", "RunName", "RunNames", "Yes", "chosen_runs"]

RunName = Annotated[str, typer.Argument(help="A run's id, or the beginning of one.")]
RunNames = Annotated[list[str] | None, typer.Argument(help="Runs, by id or the beginning of one.")]
CheckpointName = Annotated[str, typer.Argument(help="A checkpoint's id, the beginning of one, or RUN@SEQ.")]
Full = Annotated[bool, typer.Option("--full", help="Do not shorten anything.")]
Actor = Annotated[str | None, typer.Option(help="Who does this, kept on what is written.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


async def chosen_runs(audit: CheckpointAudit, runs: list[str] | None, workflow: str | None) -> list[StreamId] | None:
    """The runs that were named, or all of a workflow; None: every run of the store.

    Raises:
        RunNotFoundError, AmbiguousNameError: a name is that of no run, or of several.
    """
    if runs:
        return [await audit.run(name, workflow_name=workflow) for name in runs]
    if workflow is not None:
        return [stream async for stream in audit.store.streams(workflow_name=workflow)]
    return None
