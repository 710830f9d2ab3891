"""The command that takes checkpoints over from the framework's own stores: import-from."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from ..allowlist import can_be_allowed
from ..audit import ANY_TYPE, CheckpointAudit
from ..audit.import_storage import Adopted, Documents, Folder, LeftOut, Outline
from ..location import from_settings, open_credential
from .options import Actor
from .output import Output
from .session import FOUND_WRONG, STORE, USAGE, Allow, Failure, Session, command

__all__ = ["commands", "import_from"]

commands: Final = typer.Typer()


@command(commands, "import-from")
async def import_from(
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
    actor: Actor = None,
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
            USAGE, f"import-from cosmos needs the cosmos extra ({error}): in a checkout, pip install '.[cosmos]'"
        ) from error
    async with AsyncExitStack() as resources:
        credential = await resources.enter_async_context(open_credential())
        checked = from_settings(
            lambda: target(endpoint=endpoint, database_name=database, container_name=container, credential=credential)
        )
        try:
            client = await resources.enter_async_context(cast("CosmosClient", checked.client))
            items = client.get_database_client(database).get_container_client(container)
            source = Documents(lambda text, values: items.query_items(query=text, parameters=values), allow)
            return await audit.adopt(source, _outlines(source, workflows))
        except AzureError as error:
            raise Failure(STORE, f"Container {container!r} of database {database!r} cannot be read: {error}") from error


async def _outlines(source: Documents, workflows: Sequence[str]) -> AsyncGenerator[Outline, None]:
    for workflow in workflows:
        async with aclosing(source.outlines(workflow)) as outlines:
            async for outline in outlines:
                yield outline


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
