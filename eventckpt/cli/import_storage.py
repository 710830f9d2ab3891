"""The command that takes checkpoints over from the framework's own stores: import-from.

What it takes of conversations is in `eventckpt.cli.import_history`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final

import typer

from ..allowlist import can_be_allowed
from ..audit import ANY_TYPE
from ..audit.import_storage import Adopted, Documents, Folder, LeftOut, Outline, Query
from ..location import open_other_container
from .import_history import COSMOS_HISTORY, FILE_HISTORY, import_conversations
from .options import Actor
from .output import Output
from .session import FOUND_WRONG, USAGE, Allow, Failure, Session, command

__all__ = ["commands", "import_from"]

commands: Final = typer.Typer()

_Kind = Annotated[
    str,
    typer.Argument(
        help="file: a FileCheckpointStorage. cosmos: upstream's Cosmos storage. file-history: a FileHistoryProvider. "
        "cosmos-history: upstream's CosmosHistoryProvider."
    ),
]
_SourceIds = Annotated[
    list[str] | None,
    typer.Option(
        "--source-id",
        help="With cosmos-history: only sessions of this source; repeat it. With file-history: whose they are.",
    ),
]


@command(commands, "import-from", of_runs="what is taken over says itself where it goes.")
async def import_from(
    session: Session,
    kind: _Kind,
    folder: Annotated[Path | None, typer.Argument(help="With file, file-history: its folder.")] = None,
    workflows: Annotated[
        list[str] | None, typer.Option("--workflow", "-w", help="With cosmos: the workflows to take. Repeat it.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="Of the old store: else AZURE_COSMOS_ENDPOINT.")] = None,
    database: Annotated[str | None, typer.Option(help="Of the old store: else AZURE_COSMOS_DATABASE_NAME.")] = None,
    container: Annotated[str | None, typer.Option(help="The container of the old store.")] = None,
    source_ids: _SourceIds = None,
    trust: Annotated[
        bool, typer.Option("--trust-source", help="Read its pickles: nobody else can write to the old store.")
    ] = False,
    allow: Allow = None,
    actor: Actor = None,
) -> int:
    """Take over what the framework's stores hold: checkpoints into runs by lineage, conversations into sessions."""
    if kind in (COSMOS_HISTORY, FILE_HISTORY):
        return await import_conversations(
            session,
            kind,
            folder=folder,
            container=container,
            endpoint=endpoint,
            database=database,
            source_ids=source_ids or (),
            actor=actor,
        )
    if kind not in ("file", "cosmos"):
        raise Failure(USAGE, f"import-from takes file or cosmos, file-history or cosmos-history, not {kind!r}.")
    if kind == "file" and (folder is None or not folder.is_dir()):
        raise Failure(USAGE, "import-from file needs the folder of a FileCheckpointStorage.")
    if not trust:
        raise Failure(
            USAGE,
            "The framework's stores hold pickles, which whoever can write to them can make run code here: "
            "give --trust-source if nobody but you can.",
        )
    if kind == "file" and folder is not None:
        adopted = await _from_folder(session, folder, allow, actor)
    elif workflows and container is not None:
        async with open_other_container(container, endpoint=endpoint, database_name=database) as old:
            adopted = await _from_container(session, old.rows, workflows, allow, actor)
    else:
        raise Failure(
            USAGE, "import-from cosmos needs --container, the old store's, and a --workflow for each to take."
        )
    _report_adopted(session.out, adopted)
    return FOUND_WRONG if adopted.left_out else 0


async def _from_folder(session: Session, folder: Path, allow: list[str] | None, actor: str | None) -> Adopted:
    source = Folder(folder, _types(allow))
    found = await source.ids()
    audit = await session.audit(create=True, allow=allow, actor=actor)
    return await audit.adopt(source, found)


async def _from_container(
    session: Session, query: Query, workflows: Sequence[str], allow: list[str] | None, actor: str | None
) -> Adopted:
    source = Documents(query, _types(allow))
    audit = await session.audit(create=True, allow=allow, actor=actor)
    return await audit.adopt(source, _outlines(source, workflows))


def _types(allow: list[str] | None) -> list[str]:
    return [name for name in allow or () if name != ANY_TYPE]


async def _outlines(source: Documents, workflows: Sequence[str]) -> AsyncGenerator[Outline, None]:
    for workflow in workflows:
        async with aclosing(source.outlines(workflow)) as outlines:
            async for outline in outlines:
                yield outline


def _report_adopted(out: Output, adopted: Adopted) -> None:
    for left in adopted.left_out:
        out.record("left_out", {"source_id": None, "session_id": None, "name": None, **left._asdict()})
        out.line(f"left out {left.checkpoint_id}: {_why_left_out(left)}", style="red")
    of_runs = {"found": adopted.found, "saved": adopted.saved, "runs": adopted.runs}
    of_sessions = dict.fromkeys(("sessions", "messages", "added"))
    out.record("summary", {**of_runs, **of_sessions, "left_out": len(adopted.left_out)})
    out.line(f"{adopted.saved:,} of {adopted.found:,} checkpoints are in {len(adopted.runs):,} runs now:")
    for run in adopted.runs:
        out.line(f"  {run}")


def _why_left_out(left: LeftOut) -> str:
    if not left.type_key:
        return left.why
    if not can_be_allowed(left.type_key):
        return f"it names {left.type_key!r}, which is no type that could be allowed"
    return f"it holds the type {left.type_key!r}; if you trust it, --allow {left.type_key}"
