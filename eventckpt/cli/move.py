"""Commands that change a store or move what is in it: fork, export, import, import-from, prune."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import typer

from ..allowlist import can_be_allowed
from ..audit import ANY_TYPE, CheckpointAudit, Imported, Plan
from ..audit.adopt import Adopted, LeftOut
from ..audit.import_storage import Documents, Folder
from ..errors import CheckpointConflictError
from ..events import StreamId, check_run_id
from ..text import described
from .look import event_fields
from .output import Output
from .session import FOUND_WRONG, STORE, USAGE, Allow, Failure, Session, Workflow, command, made

__all__ = ["register"]

_Actor = Annotated[str | None, typer.Option(help="Who does this, kept on what is written.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""

    @command(app, "fork")
    async def fork(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        checkpoint: Annotated[str, typer.Argument(help="A checkpoint's id, the beginning of one, or RUN@SEQ.")],
        run: Annotated[str, typer.Option("--as", help="The id of the new run.")],
        workflow: Workflow = None,
        actor: _Actor = None,
    ) -> None:
        """Begin a new run with a copy of a checkpoint; resume it with the framework, bound to the new run."""
        audit = await session.audit(actor=actor)
        origin = await audit.event(checkpoint, workflow_name=workflow)
        try:
            check_run_id(run)
        except ValueError as error:
            raise Failure(USAGE, f"--as: {error}") from error
        event = await audit.fork(origin, run)
        session.out.record("event", event_fields(event))
        session.out.line(
            f"run {event.run_id} of {event.workflow_name} begins at seq {origin.seq} of run {origin.run_id}; "
            f"resume it from checkpoint {event.checkpoint_id}"
        )

    @command(app, "export")
    async def export(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        runs: Annotated[list[str] | None, typer.Argument(help="Runs, by id or the beginning of one.")] = None,
        everything: Annotated[bool, typer.Option("--all", help="Every run.")] = False,
        output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file instead of the output.")] = None,
        workflow: Workflow = None,
    ) -> None:
        """Write runs as JSON lines, byte for byte, for import into any store."""
        if bool(runs) == everything:
            raise Failure(USAGE, "Export what? Give runs, or --all.")
        audit = await session.audit()
        streams = [await audit.run(name, workflow_name=workflow) for name in runs] if runs else None
        if streams is None and workflow is not None:
            streams = [stream async for stream in audit.store.streams(workflow_name=workflow)]
        lines = audit.export(streams)
        if output is None:
            async with aclosing(lines):
                async for line in lines:
                    session.out.bytes_lines([line])
            return
        count = await _write_file(session.out, output, lines)
        session.out.record("exported", {"file": str(output), "events": count})
        session.out.line(f"{count:,} events written to {output}")

    @command(app, "import")
    async def import_(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        file: Annotated[str, typer.Argument(help="What export wrote, or - for the input.")],
    ) -> int:
        """Keep the events of an export. Again changes nothing; of a cut file, what is whole is kept."""
        lines = sys.stdin.buffer if file == "-" else await _opened(file)
        audit = await session.audit(create=True)
        with lines, session.out.progress("lines read") as done:
            imported = await audit.import_lines(_counted(lines, done))
        _report_import(session.out, imported)
        return FOUND_WRONG if imported.problems or not imported.complete else 0

    @command(app, "import-from")
    async def import_from(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        kind: Annotated[str, typer.Argument(help="file: a FileCheckpointStorage. cosmos: upstream's Cosmos storage.")],
        folder: Annotated[Path | None, typer.Argument(help="With file: its folder.")] = None,
        workflows: Annotated[
            list[str] | None, typer.Option("--workflow", "-w", help="With cosmos: the workflows to take. Repeat it.")
        ] = None,
        endpoint: Annotated[str | None, typer.Option(help="With cosmos: else AZURE_COSMOS_ENDPOINT.")] = None,
        database: Annotated[str | None, typer.Option(help="With cosmos: else AZURE_COSMOS_DATABASE_NAME.")] = None,
        container: Annotated[str | None, typer.Option(help="With cosmos: the container of the old store.")] = None,
        trust: Annotated[
            bool, typer.Option("--trust-source", help="Read its pickles: nobody else can write to the old store.")
        ] = False,
        allow: Allow = None,
        actor: _Actor = None,
    ) -> int:
        """Take the checkpoints of one of the framework's stores over, into runs by their lineage."""
        if kind not in ("file", "cosmos"):
            raise Failure(USAGE, f"import-from takes file or cosmos, not {kind!r}.")
        if kind == "file" and (folder is None or not folder.is_dir()):
            raise Failure(USAGE, "import-from file needs the folder of a FileCheckpointStorage.")
        if not trust:
            raise Failure(
                USAGE,
                "The framework's stores hold pickles, which whoever can write to them can make run code here: "
                "give --trust-source if nobody but you can.",
            )
        audit = await session.audit(create=True, allow=allow, actor=actor)
        types = [name for name in allow or () if name != ANY_TYPE]
        if folder is not None and kind == "file":
            source = Folder(folder, types)
            adopted = await audit.adopt(source, await source.ids())
        else:
            adopted = await _adopt_cosmos(audit, workflows or [], endpoint, database, container, types)
        _report_adopted(session.out, adopted)
        return FOUND_WRONG if adopted.left_out else 0

    @command(app, "prune")
    async def prune(  # pyright: ignore[reportUnusedFunction] - a command
        session: Session,
        runs: Annotated[list[str] | None, typer.Argument(help="Runs, by id or the beginning of one.")] = None,
        everything: Annotated[bool, typer.Option("--all", help="Every run, or every run of a workflow.")] = False,
        keep: Annotated[int | None, typer.Option(help="How many live checkpoints of each run stay.", min=0)] = None,
        older_than: Annotated[
            str | None, typer.Option(help="Only events recorded before this time, or so long ago: 30d, 12h.")
        ] = None,
        finished: Annotated[bool, typer.Option("--finished", help="Only runs that are done.")] = False,
        force: Annotated[bool, typer.Option("--force", help="Also runs that wait for an answer.")] = False,
        execute: Annotated[bool, typer.Option("--execute", help="Remove; without it, only say what would go.")] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
        workflow: Workflow = None,
        actor: _Actor = None,
    ) -> int:
        """Remove old events of runs, and record what was removed. Without --execute, only say what would go."""
        if bool(runs) == everything:
            raise Failure(USAGE, "Prune what? Give runs, or --all.")
        if keep is None and older_than is None:
            raise Failure(USAGE, "Give --keep, --older-than, or both: what is to stay?")
        audit = await session.audit(actor=actor)
        streams = await _chosen(audit, runs, workflow)
        options: dict[str, Any] = {
            "keep": 1 if keep is None else keep,
            "before": _before(older_than),
            "only_finished": finished,
            "force": force,
        }
        plans = [plan async for plan in audit.plan_prune(streams, **options)]
        for plan in plans:
            _report_plan(session.out, plan)
        planned = [plan for plan in plans if plan.seqs or plan.unmarked]
        events, size = sum(len(plan.seqs) for plan in planned), sum(plan.stored_size for plan in planned)
        text = f"{events:,} events of {len(planned):,} runs, {size:,} bytes of payload"
        if not execute or not planned:
            session.out.record("summary", {"executed": False, "runs": len(planned), "events": events, "bytes": size})
            session.out.line(f"Would remove {text}." + (" Add --execute to do it." if planned else ""))
            return 0
        if not yes:
            _confirm(session.out, text)
        removed, failed = await _carry_out(session.out, audit, planned)
        session.out.record("summary", {"executed": True, "runs": len(planned), "events": removed, "bytes": size})
        session.out.line(f"Removed {removed:,} events of {len(planned) - failed:,} runs.")
        return FOUND_WRONG if failed else 0


# Export and import


async def _write_file(out: Output, path: Path, lines: AsyncGenerator[bytes, None]) -> int:
    count = -2  # the first line and the last are no events
    try:
        file = await asyncio.to_thread(path.open, "xb")
    except OSError as error:
        raise Failure(STORE, f"{path} cannot be made ({error}). An export never replaces a file.") from error
    with file, out.progress("lines written") as done:
        async with aclosing(lines):
            async for line in lines:
                file.write(line + b"\n")
                count += 1
                done(count)
    return count


async def _opened(file: str) -> BinaryIO:
    try:
        return await asyncio.to_thread(Path(file).open, "rb")
    except OSError as error:
        raise Failure(STORE, f"{file} cannot be read: {error}") from error


def _counted(lines: Iterable[bytes], done: Any) -> Iterable[bytes]:
    for number, line in enumerate(lines):
        done(number)
        yield line


def _report_import(out: Output, imported: Imported) -> None:
    out.record("imported", imported._asdict())
    for problem in imported.problems:
        out.line(problem, style="red")
    out.line(
        f"{imported.events:,} events of {imported.runs:,} runs read, {imported.added:,} of them new. "
        + ("The export was whole." if imported.complete else "The export ENDS EARLY: its last line is missing.")
    )


# Other stores


async def _adopt_cosmos(
    audit: CheckpointAudit,
    workflows: Sequence[str],
    endpoint: str | None,
    database: str | None,
    container: str | None,
    allow: Sequence[str],
) -> Adopted:
    if not workflows or container is None:
        raise Failure(
            USAGE, "import-from cosmos needs --container, the old store's, and a --workflow for each to take."
        )
    endpoint = endpoint or os.environ.get("AZURE_COSMOS_ENDPOINT")
    database = database or os.environ.get("AZURE_COSMOS_DATABASE_NAME")
    if not endpoint or not database:
        raise Failure(
            USAGE, "Which database? Give --endpoint and --database, or set AZURE_COSMOS_ENDPOINT and …_DATABASE_NAME."
        )
    try:
        from azure.core.exceptions import AzureError
        from azure.cosmos.aio import CosmosClient

        from ..stores.cosmos.connection import target
    except ModuleNotFoundError as error:
        raise Failure(
            USAGE, f"import-from cosmos needs the cosmos extra ({error}): pip install 'eventckpt[cosmos]'"
        ) from error
    async with AsyncExitStack() as resources:
        credential: Any = None
        if not os.environ.get("AZURE_COSMOS_KEY"):
            from azure.identity.aio import DefaultAzureCredential

            credential = await resources.enter_async_context(DefaultAzureCredential())
        checked = made(
            lambda: target(endpoint=endpoint, database_name=database, container_name=container, credential=credential)
        )
        try:
            client = await resources.enter_async_context(cast("CosmosClient", checked.client))
            items = client.get_database_client(database).get_container_client(container)
            source = Documents(lambda text, values: items.query_items(query=text, parameters=values), allow)
            return await audit.adopt(source, [each for name in workflows for each in await source.ids(name)])
        except AzureError as error:
            raise Failure(STORE, f"Container {container!r} of database {database!r} cannot be read: {error}") from error


def _report_adopted(out: Output, adopted: Adopted) -> None:
    for left in adopted.left_out:
        out.record("left_out", left._asdict())
        out.line(f"left out {left.checkpoint_id}: {_why_left_out(left)}", style="red")
    out.record("summary", {"found": adopted.found, "saved": adopted.saved, "runs": adopted.runs})
    out.line(f"{adopted.saved:,} of {adopted.found:,} checkpoints are in {len(adopted.runs):,} runs now:")
    for run in adopted.runs:
        out.line(f"  {run}")


def _why_left_out(left: LeftOut) -> str:
    if not left.type_key:
        return left.why
    if not can_be_allowed(left.type_key):
        return f"it names {left.type_key!r}, which is no type that could be allowed"
    return f"it holds the type {left.type_key!r}; if you trust it, --allow {left.type_key}"


# Prune


async def _chosen(audit: CheckpointAudit, runs: list[str] | None, workflow: str | None) -> list[StreamId] | None:
    if runs:
        return [await audit.run(name, workflow_name=workflow) for name in runs]
    if workflow is not None:
        return [stream async for stream in audit.store.streams(workflow_name=workflow)]
    return None


def _before(text: str | None) -> datetime | None:
    """A time, or how long ago it was."""
    if text is None:
        return None
    units = {"d": "days", "h": "hours", "m": "minutes"}
    try:
        if text[:-1].isdecimal() and text[-1:] in units:
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Failure(
            USAGE, f"--older-than takes 30d, 12h, 90m or a time such as 2026-05-31, not {described(text)}."
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _report_plan(out: Output, plan: Plan) -> None:
    if not plan.seqs and not plan.refused and not plan.unmarked:
        return
    out.record(
        "plan",
        {
            "workflow_name": plan.stream.workflow_name,
            "run_id": plan.stream.run_id,
            "seqs": plan.seqs,
            "bytes": plan.stored_size,
            "kept": plan.kept,
            "refused": plan.refused or None,
            "unmarked": plan.unmarked,
        },
    )
    name = f"run {plan.stream.run_id} of {plan.stream.workflow_name}"
    if plan.refused:
        out.line(f"{name}: left alone: {plan.refused}")
    if plan.seqs:
        out.line(f"{name}: {len(plan.seqs):,} events, {plan.stored_size:,} bytes; {plan.kept:,} stay")
    if plan.unmarked:
        out.line(f"{name}: {len(plan.unmarked):,} seqs of events removed earlier are to be closed to old writers")


def _confirm(out: Output, what: str) -> None:
    if not sys.stdin.isatty() or out.as_json:
        raise Failure(USAGE, f"This removes {what} for good. Add --yes to do it without being asked.")
    typer.confirm(f"Remove {what} for good?", abort=True)


async def _carry_out(out: Output, audit: CheckpointAudit, plans: list[Plan]) -> tuple[int, int]:
    removed = failed = 0
    with out.progress("events removed") as done:
        for plan in plans:
            try:
                removed += await audit.prune(plan)
            except CheckpointConflictError as error:
                failed += 1
                out.line(str(error), style="red")
            done(removed)
    return removed, failed
