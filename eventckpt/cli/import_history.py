"""What import-from does with conversations: those of a `FileHistoryProvider` and of a `CosmosHistoryProvider`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from ..history import EventHistoryProvider
from ..history.import_history import ImportedHistory, LeftOutOfHistory, import_history
from ..history.other_stores import HistoryDocuments, HistoryFolder, HistorySource
from ..location import open_other_container
from ..text import described
from .output import Output
from .session import FOUND_WRONG, USAGE, Failure, Session

__all__ = ["COSMOS_HISTORY", "FILE_HISTORY", "import_conversations"]

COSMOS_HISTORY: Final = "cosmos-history"
FILE_HISTORY: Final = "file-history"


async def import_conversations(
    session: Session,
    kind: str,
    *,
    folder: Path | None,
    container: str | None,
    endpoint: str | None,
    database: str | None,
    source_ids: Sequence[str],
    actor: str | None,
) -> int:
    """Take the conversations in a folder or a container over; the exit code."""
    if kind == FILE_HISTORY:
        return await _import(session, _folder(folder, source_ids), actor)
    if container is None:
        raise Failure(USAGE, "import-from cosmos-history needs --container, that of the CosmosHistoryProvider.")
    async with open_other_container(container, endpoint=endpoint, database_name=database) as old:
        return await _import(session, HistoryDocuments(old.rows, source_ids), actor)


def _folder(folder: Path | None, source_ids: Sequence[str]) -> HistoryFolder:
    if folder is None or not folder.is_dir():
        raise Failure(USAGE, "import-from file-history needs the folder of a FileHistoryProvider.")
    if len(source_ids) > 1:
        raise Failure(
            USAGE, "import-from file-history takes one --source-id: all that is in a folder is of one source."
        )
    return HistoryFolder(folder, *source_ids)


async def _import(session: Session, source: HistorySource, actor: str | None) -> int:
    store = (await session.audit(create=True)).store

    @lru_cache(maxsize=64)
    def history(source_id: str) -> EventHistoryProvider:
        return EventHistoryProvider(store, source_id=source_id, on_conflict="raise", dedupe="off", actor=actor)

    imported = await import_history(source, history)
    _report(session.out, imported)
    return FOUND_WRONG if imported.left_out_count else 0


def _report(out: Output, imported: ImportedHistory) -> None:
    for left in imported.left_out:
        out.record("left_out", {"checkpoint_id": None, "type_key": None, **left._asdict()})
        out.line(f"left out {_named(left)}: {left.why}", style="red")
    if more := imported.left_out_count - len(imported.left_out):
        out.line(f"left out {more:,} more", style="red")
    sessions, messages, added, _, left_out = imported
    read = {"sessions": sessions, "messages": messages, "added": added, "left_out": left_out}
    out.record("summary", {"found": None, "saved": None, "runs": [], **read})
    out.line(f"{messages:,} messages of {sessions:,} sessions were read, and {added:,} were not here yet.")


def _named(left: LeftOutOfHistory) -> str:
    if not left.session_id:
        return left.name
    session = f"session {described(left.session_id)} of {described(left.source_id)}"
    return f"{left.name} of {session}" if left.name else session
